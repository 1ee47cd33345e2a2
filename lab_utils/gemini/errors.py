"""What can go wrong with a call to Gemini: one error with a kind, read from what the service said.

Sources: the Gemini API reference (error codes), google.rpc's ErrorInfo, QuotaFailure and RetryInfo,
RFC 9110 (Retry-After), and the installed code of both SDKs.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a command imports this module before anything is installed
    from pydantic import SecretStr

REPEATABLE = {"rate limit", "server", "network"}  # the service did not do it: nothing is paid twice
UNSURE = {"timeout", "cut off", "bad reply", "unexpected"}  # it may have been done, and billed
# neither is over in a minute, whatever delay the service names beside it
NO_MONEY = re.compile(
    r"spend(?:ing)?[ -](?:cap|limit)|monthly spend"
    r"|credits?\b.{0,40}\b(?:depleted|exhausted|used up)"
    r"|(?:depleted|exhausted|out of)\b.{0,40}\bcredits?\b",
    re.IGNORECASE,
)


class GeminiError(Exception):
    """A call without an answer. `kind` says why, `wait` the seconds that the service asked for.

    Kinds: rate limit, server, network (repeated); timeout, cut off, bad reply, unexpected (perhaps
    billed, not repeated); refused, not found, no model, no price; and those of the subclasses.
    """

    def __init__(self, kind: str, message: str, wait: float | None = None):
        super().__init__(kind, message, wait)
        self.kind, self.message, self.wait = kind, message, wait

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: one line. `%xmode Verbose` prints the values
        in every frame, that of the reader's own cell too, and a key that is pasted there would stay
        in the saved notebook.
        """
        return [f"{type(self).__name__}: {self}"]


class KeyProblem(GeminiError):
    """No key, one that no service should see ("dirty key") or that the service refused ("bad key",
    "leaked key"); no project, or no usable credentials of Google Cloud.
    """


class QuotaExhausted(GeminiError):
    """The day's quota or the money is used up ("quota per day", "no money"): a minute's wait does
    not help. What there is should be saved, and the run go on another day.
    """


class BudgetSpent(GeminiError):
    """The next call could cost more than what is left of the budget. It was not made."""


class WrongUse(GeminiError, ValueError):
    """An argument that this kit does not know. A ValueError that shows no frame in a notebook."""

    def __init__(self, message: str):
        super().__init__("wrong use", message)

    def __reduce__(self) -> tuple:
        return WrongUse, (self.message,)


# -------------------------------------------------------------------- reading what the service says
def read_delay(body: Any, headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the service asks us to wait: RetryInfo in the body, else the Retry-After header,
    else None.

    RetryInfo.retryDelay is text such as "37s" or "1.5s" (google.rpc.RetryInfo); Retry-After is
    seconds or a date (RFC 9110).
    """
    for detail in error_details(body):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail.get("retryDelay", "")))
        if found:
            return float(found[1])
    after = str(headers.get("Retry-After") or headers.get("retry-after") or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", after):
        return float(after)
    with contextlib.suppress(ValueError, TypeError, OverflowError):  # no date either
        date = email.utils.parsedate_to_datetime(after)
        return max(0.0, date.timestamp() - (time.time() if now is None else now))
    return None


def error_object(body: Any) -> dict[str, Any]:
    """The error in a JSON body, {} if there is none. Some of Google's front ends put it into a list
    of one.
    """
    body = body[0] if isinstance(body, list) and body else body
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def error_details(body: Any) -> list[dict[str, Any]]:
    """The `details` of an error body, those that are objects; [] for a body of any other form."""
    details = error_object(body).get("details")
    found = details if isinstance(details, list) else []
    return [detail for detail in found if isinstance(detail, dict)]


def is_per_day(body: Any) -> bool:
    """Whether a 429 is about the day's quota: google.rpc.QuotaFailure names it in quotaId
    ("...PerDay...").
    """
    return any("perday" in str(detail.get("violations")).lower() for detail in error_details(body))


def error_of_status(status: int, body: Any, headers: Mapping[str, str]) -> GeminiError:
    """The error for an HTTP status other than 200, its JSON body (None if it has none) and its
    headers.
    """
    if status < 300:
        return no_reply(f"the service answered with status {status} and no content")
    message = str(error_object(body).get("message") or "")[:300]
    text = f"the service answered with status {status}"
    text = f"the service says ({status}) {message!r}" if message else text
    if status < 500 and NO_MONEY.search(message):
        return QuotaExhausted(
            "no money",
            f"{text}. Waiting does not help: raise the cap or add credits in the project's billing "
            "page, then run this again",
        )
    # it names a delay as well, and after that says the same again
    if status == 429 and is_per_day(body):
        return QuotaExhausted(
            "quota per day", f"{text}. Go on tomorrow: it starts again at midnight Pacific time"
        )
    if status == 429 or status >= 500:
        wait = read_delay(body, headers)
        text += f", and asks to wait {wait:.0f} s" if wait else ""
        return GeminiError("rate limit" if status == 429 else "server", text, wait)
    return error_of_refusal(status, body, message, text)


def error_of_refusal(status: int, body: Any, message: str, text: str) -> GeminiError:
    """The error for a status of 400 to 499 but 429: asking again changes nothing."""
    reasons = {str(detail.get("reason")) for detail in error_details(body)}
    if "leaked" in message.lower():
        return KeyProblem(
            "leaked key",
            "the service has locked this key since it was found in public. Delete it, make "
            "another, and keep that one out of notebooks and repositories",
        )
    bad = reasons & {"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED"}
    if bad or status == 401 or "api key" in message.lower():
        return KeyProblem("bad key", f"{text}. Make a key at https://aistudio.google.com/apikey")
    if status == 404:
        return GeminiError(
            "not found",
            f"{text}. Models are retired (client.models() lists what there is), and a tuned model "
            "answers only in the region that serves it (--serving-location)",
        )
    return GeminiError("refused", text)


def error_of_response(response: Any) -> GeminiError:
    """`error_of_status` for a response of requests, httpx or httpx2."""
    try:
        body = response.json()
    except ValueError:
        body = None
    return error_of_status(response.status_code, body, response.headers)


def error_of_exception(error: BaseException, key: SecretStr | None = None) -> GeminiError:
    """A new error for whatever was raised. Nothing of the original is kept: its request and its
    frames hold the key.
    """
    if not isinstance(error, GeminiError):
        response = getattr(error, "response", None)
        error = error_of_transport(error) if response is None else error_of_response(response)
    message = error.message.replace(key.get_secret_value(), "[key]") if key else error.message
    if isinstance(error, WrongUse):
        return WrongUse(message)
    return type(error)(error.kind, message, error.wait)


UNREACHED = {"ConnectTimeout", "ConnectError", "PoolTimeout", "ProxyError", "SSLError"}
BROKEN = {"ConnectionError", "ChunkedEncodingError", "TransportError"}
NO_JSON = {
    "ParseError",
    "JSONDecodeError",
    "UnknownApiResponseError",
    "DecodingError",
    "ContentDecodingError",
}


def error_of_transport(error: BaseException) -> GeminiError:
    """The error for what requests, httpx and httpx2 raise, told by class names: which of them is
    installed varies.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    # urllib3's, below requests' ConnectionError
    cause = type(getattr(error.args[0] if error.args else None, "reason", None)).__name__
    if names & UNREACHED or cause in ("NewConnectionError", "NameResolutionError"):
        return GeminiError(
            "network",
            "the service could not be reached. Is there a network, and does it allow this address?",
        )
    if "RefreshError" in names:
        return KeyProblem(
            "bad credentials", "Google Cloud did not accept the credentials: log in again"
        )
    if names & {"Timeout", "TimeoutException"}:
        return timed_out()
    if names & BROKEN:
        return GeminiError(
            "cut off",
            "the connection broke before the answer was whole; the call may have been billed",
        )
    if names & NO_JSON:
        return no_reply("the answer is not the JSON that the service sends")
    return GeminiError("unexpected", f"{type(error).__name__} in the SDK: {str(error)[:200]}")


def no_reply(what: str) -> GeminiError:
    """The error for an answer in which there is no reply."""
    return GeminiError("bad reply", f"{what}; the call may have been billed")


def timed_out() -> GeminiError:
    """The error for a call that took longer than it was allowed."""
    return GeminiError(
        "timeout", "no whole answer in the time allowed; the call may have been billed"
    )
