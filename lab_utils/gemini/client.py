"""Asking Gemini: one interface over two SDKs, with keys, retries, a ledger and a hard budget.

    client = connect(ledger=Ledger(budget=0.50))
    reply = client.ask("Tell me about Feta.", system="You are Pavlos.", json_mode=False)
    print(reply.text, client.ledger)

google-generativeai is the default; it is past its end of support, and google-genai is its
successor. Both give the same replies and the same errors. What neither does, and this module adds:
a bound on the whole time of a call (a server that sends one byte a second renews every socket
timeout), the server's own word on how long to wait, and a key that can be printed by no error. A
call is repeated only if it was surely not answered, so that nothing is paid twice.

Sources: the Gemini API reference (generateContent, models.list, error codes) and the installed code
of both SDKs.
"""

from __future__ import annotations

import contextlib
import email.utils
import getpass
import json
import os
import random
import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab_utils.files import DATA

if TYPE_CHECKING:  # a command imports this module before anything is installed
    import tenacity
    from pydantic import SecretStr

PRICES = DATA / "reference" / "gemini_prices.json"
KEY_NAMES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
# the service did not do it: asking again costs nothing twice
REPEATABLE = {
    "rate limit",
    "server",
    "network",
}
UNSURE = {"timeout", "cut off", "bad reply", "unexpected"}  # it may have been done, and billed
FINISH_REASONS = {
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
}


# ------------------------------------------------------------------------------- replies and errors
@dataclass(frozen=True)
class Reply:
    """What the service answered. Read `finish_reason` before `text`: only "STOP" means that the
    answer is whole.
    """

    text: str  # "" for SAFETY and BLOCKED
    # "STOP", "MAX_TOKENS" (cut off in mid-sentence), "SAFETY", "BLOCKED" (the prompt), ..., "OTHER"
    finish_reason: str
    model: str
    prompt_tokens: int
    output_tokens: int  # with what the model thought: that is billed as output, too


class GeminiError(Exception):
    """A call without an answer. `kind` says why, `wait` the seconds that the service asked us to
    wait.

    Kinds: rate limit, server, network (repeated); timeout, cut off, bad reply, unexpected (perhaps
    billed, not repeated); refused, not found, no model, no price; and those of the subclasses.
    """

    def __init__(self, kind: str, message: str, wait: float | None = None):
        super().__init__(kind, message, wait)
        self.kind, self.message, self.wait = kind, message, wait

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class KeyProblem(GeminiError):
    """No key, a key that no service should see ("dirty key"), or one that the service refused
    ("bad", "leaked key").
    """


class QuotaExhausted(GeminiError):
    """The day's quota is used up: waiting a minute does not help. Save, and go on tomorrow."""


class BudgetSpent(GeminiError):
    """The next call could cost more than what is left of the budget. It was not made."""


# ---------------------------------------------------------------------------------------- keys
def clean_key(text: str, source: str) -> SecretStr:
    """The key without white space around it. KeyProblem if it cannot be one; the message shows
    nothing of it.

    Both SDKs print a key with a line break or a typographic quote in full, in their errors: they
    must never see it.
    """
    key = text.strip()
    if not key:
        raise KeyProblem("no key", f"{source} is empty")
    bad = re.search(r"[^A-Za-z0-9._-]", key)
    if bad:
        raise KeyProblem(
            "dirty key",
            f"{source} holds the character U+{ord(bad[0]):04X} at place {bad.start() + 1} of "
            f"{len(key)}; a key has only letters, digits, '-', '_' and '.'. Copy it again, "
            "without quotes",
        )
    if not key.startswith(("AIza", "AQ.")) or len(key) < 20:
        raise KeyProblem(
            "dirty key",
            f"{source} holds {len(key)} characters that are no key: keys start with AIza or AQ., "
            "and are longer than 20 characters. Copy the whole key, and only the key",
        )
    from pydantic import SecretStr

    return SecretStr(key)


def colab_secret(name: str) -> str | None:
    """A secret of Colab's key panel, or None outside Colab and where this notebook may not read it."""
    try:
        from google.colab import userdata

        return userdata.get(name)
    # not Colab, no such secret, no access, timeout: all mean that there is none to be had
    except Exception:
        return None


def find_key(ask: Callable[[str], str] | None = getpass.getpass) -> SecretStr:
    """The key: from Colab's secrets, then the environment, then asked for. `ask=None` never asks.

    KeyProblem "no key" if there is none, "dirty key" if the first one found cannot be a key.
    """
    for place, read in (
        ("Colab's secret", colab_secret),
        ("the environment variable", os.environ.get),
    ):
        for name in KEY_NAMES:
            if text := read(name):
                return clean_key(text, f"{place} {name}")
    typed = ""
    with contextlib.suppress(Exception):  # a notebook that is run by a program has nobody to ask
        typed = ask("Gemini API key (not shown): ") if ask else ""
    if typed:
        return clean_key(typed, "what was typed")
    raise KeyProblem(
        "no key",
        f"set {KEY_NAMES[0]} in Colab's secrets or in the environment; "
        "keys are made at https://aistudio.google.com/apikey",
    )


# ----------------------------------------------------------------------- prices, and what was spent
class Price(NamedTuple):
    """Dollars per million tokens of one model, as somebody read them on a day. An input: prices
    change.
    """

    input: float
    output: float
    tuning: float | None  # per million training tokens
    date: str
    source: str


def load_prices(path: Path = PRICES) -> dict[str, Price]:
    """Model name -> Price. The table that ships is an example with its date and source: replace it
    by your own.
    """
    table = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Price(row["input"], row["output"], row.get("tuning"), table["date"], table["source"])
        for name, row in table["models"].items()
    }


def price_of(model: str, prices: Mapping[str, Price]) -> Price:
    """The price of a model, "models/" and a version such as -001 left off. GeminiError "no price"
    if it is not there.
    """
    name = re.sub(r"-\d{3}$", "", model.rpartition("/")[2])
    if model in prices or name in prices:
        return prices.get(model) or prices[name]
    raise GeminiError(
        "no price",
        f"{model} is not in the price table ({', '.join(prices) or 'empty'}), so no budget can be "
        "kept. Give its price: Ledger(budget, prices={model: Price(...)})",
    )


class Ledger:
    """Every call with its tokens and cost, against a hard budget in dollars.

    Before a call the most that it can cost is written down as spent; afterwards the true cost takes
    its place, or nothing if the service refused. A call that was killed or broke off stays at its
    most. With `path` each line is kept (JSON lines, appended), so that the budget outlives a
    kernel; two programs at once may overrun it by a call.
    """

    def __init__(
        self, budget: float, prices: Mapping[str, Price] | None = None, path: Path | None = None
    ):
        self.budget, self.path = budget, path
        self.prices = load_prices() if prices is None else prices
        self._entries: dict[str, dict[str, Any]] = {}
        self._read, self._lock = 0, threading.Lock()
        self._catch_up()

    def _catch_up(self) -> None:
        """Read what was appended since, by us or by another program. A last line cut off by a kill
        is left for later.
        """
        if not self.path or not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    # the rest of a line that a kill cut off
                    with contextlib.suppress(ValueError, KeyError):
                        entry = json.loads(line)
                        self._entries.setdefault(entry["id"], {}).update(entry)

    def _write(self, **entry: Any) -> None:
        if not self.path:
            self._entries.setdefault(entry["id"], {}).update(entry)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            # a kill left half a line: close it, so that ours is read
            cut_off = self._read != file.tell()
            file.write((b"\n" if cut_off else b"") + json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._catch_up()

    def reserve(self, model: str, prompt: str, max_output_tokens: int) -> str:
        """Write down the most a call can cost; returns its id. BudgetSpent, and nothing written, if
        that is too much.

        A token is at least one byte, so the prompt's bytes bound its tokens.
        """
        price = price_of(model, self.prices)
        most = (len(prompt.encode()) * price.input + max_output_tokens * price.output) / 1e6
        with self._lock:
            self._catch_up()
            left = self.budget - self.spent
            if most > left:
                raise BudgetSpent(
                    "budget",
                    f"the next call can cost up to ${most:.6f}, and ${max(left, 0):.6f} of "
                    f"${self.budget:.2f} is left. Raise the budget, or ask for fewer "
                    "max_output_tokens",
                )
            entry_id = secrets.token_hex(6)
            self._write(
                id=entry_id,
                state="sent",
                model=model,
                cost=most,
                time=time.strftime("%Y-%m-%dT%H:%M:%S"),
            )
        return entry_id

    def settle(self, entry_id: str, prompt_tokens: int, output_tokens: int) -> None:
        """The call was answered, and this is what it cost."""
        price = price_of(self._entries[entry_id]["model"], self.prices)
        cost = (prompt_tokens * price.input + output_tokens * price.output) / 1e6
        with self._lock:
            self._write(
                id=entry_id,
                state="paid",
                cost=cost,
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
            )

    def release(self, entry_id: str) -> None:
        """The service did not answer the call, and bills nothing."""
        with self._lock:
            self._write(id=entry_id, state="free", cost=0.0)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """A copy of all calls, oldest first: state "paid", "free" or "sent" (it may have been
        billed; at its most).
        """
        return [dict(entry) for entry in self._entries.values()]

    @property
    def spent(self) -> float:
        """Dollars; where it is not known whether a call was billed, the most that it can have cost."""
        return sum(entry["cost"] for entry in self._entries.values())

    def __str__(self) -> str:
        paid = [entry for entry in self._entries.values() if entry["state"] == "paid"]
        unsure = sum(entry["state"] == "sent" for entry in self._entries.values())
        tokens = sum(entry["prompt_tokens"] + entry["output_tokens"] for entry in paid)
        text = f"{len(paid)} calls, {tokens:,} tokens, ${self.spent:.4f} of ${self.budget:.2f}"
        return text + (f" ({unsure} more may have been billed)" if unsure else "")


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
    return (
        [detail for detail in details if isinstance(detail, dict)]
        if isinstance(details, list)
        else []
    )


def is_per_day(body: Any) -> bool:
    """Whether a 429 is about the day's quota: google.rpc.QuotaFailure names it in quotaId
    ("...PerDay...").
    """
    return any("perday" in str(detail.get("violations")).lower() for detail in error_details(body))


def error_of_status(status: int, body: Any, headers: Mapping[str, str]) -> GeminiError:
    """The error for an HTTP status other than 200, its JSON body (None if it has none) and headers."""
    said, wait = str(error_object(body).get("message") or "")[:300], read_delay(body, headers)
    text = (
        f"the service says ({status}) {said!r}"
        if said
        else f"the service answered with status {status}"
    )
    reasons = {str(detail.get("reason")) for detail in error_details(body)}
    # it names a delay as well, and after that says the same again
    if status == 429 and is_per_day(body):
        return QuotaExhausted(
            "quota per day", f"{text}. Go on tomorrow: it starts again at midnight Pacific time"
        )
    text += f", and asks to wait {wait:.0f} s" if wait else ""
    if status == 429:
        return GeminiError("rate limit", text, wait)
    if status >= 500:
        return GeminiError("server", text, wait)
    if "leaked" in said.lower():
        return KeyProblem(
            "leaked key",
            "the service has locked this key since it was found in public. Delete it, make "
            "another, and keep that one out of notebooks and repositories",
        )
    if (
        reasons & {"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED"}
        or status == 401
        or "api key" in said.lower()
    ):
        return KeyProblem("bad key", f"{text}. Make a key at https://aistudio.google.com/apikey")
    if status == 404:
        return GeminiError(
            "not found",
            f"{text}. Models are retired: see what this key may use with client.models()",
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
    return type(error)(error.kind, message, error.wait)


def error_of_transport(error: BaseException) -> GeminiError:
    """The error for what requests, httpx and httpx2 raise, told by class names: which of them is
    installed varies.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    # urllib3's, below requests' ConnectionError
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    if names & {"ConnectTimeout", "ConnectError", "PoolTimeout", "ProxyError", "SSLError"} or type(
        cause
    ).__name__ in ("NewConnectionError", "NameResolutionError"):
        return GeminiError(
            "network",
            "the service could not be reached. Is there a network, and does it allow this address?",
        )
    if names & {"Timeout", "TimeoutException"}:
        return timed_out()
    if names & {"ConnectionError", "ChunkedEncodingError", "TransportError"}:
        return GeminiError(
            "cut off",
            "the connection broke before the answer was whole; the call may have been billed",
        )
    if names & {
        "ParseError",
        "JSONDecodeError",
        "UnknownApiResponseError",
        "DecodingError",
        "ContentDecodingError",
    }:
        return GeminiError(
            "bad reply",
            "the answer is not the JSON that the service sends; the call may have been billed",
        )
    return GeminiError("unexpected", f"{type(error).__name__} in the SDK: {str(error)[:200]}")


def timed_out() -> GeminiError:
    return GeminiError(
        "timeout", "no whole answer in the time allowed; the call may have been billed"
    )


def name_of(value: Any) -> str:
    """The name of an enum's value in either SDK; "" for none and for UNSPECIFIED."""
    name = getattr(value, "name", None) or ""
    return "" if name.endswith("UNSPECIFIED") else name


def read_reply(response: Any, model: str) -> Reply:
    """A Reply from the response of either SDK: they name the fields alike. GeminiError "bad reply"
    if there is none in it.

    Output tokens are total - prompt: so thinking is counted, which google-generativeai has no field
    for.
    """
    usage = getattr(response, "usage_metadata", None)
    prompt_tokens, total = (
        int(getattr(usage, f"{part}_token_count", 0) or 0) for part in ("prompt", "total")
    )
    counts = model, prompt_tokens, max(total - prompt_tokens, 0)
    candidates = getattr(response, "candidates", None) or []
    if not candidates:
        if name_of(getattr(getattr(response, "prompt_feedback", None), "block_reason", None)):
            return Reply("", "BLOCKED", *counts)
        raise GeminiError(
            "bad reply", "the service answered without a candidate; the call may have been billed"
        )
    parts = getattr(candidates[0].content, "parts", None) or []
    text = "".join(part.text or "" for part in parts if not getattr(part, "thought", False))
    reason = name_of(candidates[0].finish_reason)
    return Reply(text, reason if reason in FINISH_REASONS else "OTHER", *counts)


# ---------------------------------------------------------------------------------------- patience
def bounded(work: Callable[[], Any], seconds: float, key: SecretStr | None = None) -> Any:
    """work()'s result, or the GeminiError that explains why there is none, after at most `seconds`.

    It runs in a thread that is left behind when it takes longer: socket timeouts do not bound a
    whole call. The error is returned and not raised, so that no traceback leads to the SDK's
    frames, where the key is.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error_of_exception(error, key))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(seconds, 0))
    return outcome[0] if outcome else timed_out()


@dataclass(frozen=True)
class Patience:
    """How long to wait, and when to ask again. `sleep` and `clock` can be replaced, so that tests
    need not wait.
    """

    timeout: float = 60.0  # seconds for one attempt
    total: float = 180.0  # seconds for all attempts and the waits between them
    attempts: int = 6
    repeat_unsure: bool = False  # also ask again where the first may have been billed
    tell: Callable[[str], None] = lambda text: None  # hears about every wait
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def repeat(self, attempt: Callable[[float], Any]) -> Any:
        """attempt(seconds allowed) until it returns. Raises its last GeminiError when it is no use
        to go on.
        """
        import tenacity

        end = self.clock() + self.total
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self.may_repeat),
            wait=wait_as_told,
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self.attempts),
                lambda state: self.clock() + state.upcoming_sleep >= end,
            ),
            before_sleep=lambda state: self.tell(
                f"{state.outcome.exception()}; asking again in {state.upcoming_sleep:.0f} s"
            ),
            sleep=self.sleep,
            reraise=True,
        )
        return retrying(lambda: attempt(min(self.timeout, end - self.clock())))

    def may_repeat(self, error: BaseException) -> bool:
        kind = getattr(error, "kind", None)
        return kind in REPEATABLE or (self.repeat_unsure and kind in UNSURE)


def wait_as_told(state: tenacity.RetryCallState) -> float:
    """The service's own word, or 1, 2, 4, ... seconds with up to a second more, so that a class
    does not knock in step.
    """
    told = getattr(state.outcome.exception(), "wait", None)
    return (
        told if told is not None else min(2.0 ** (state.attempt_number - 1), 30) + random.random()
    )


# ------------------------------------------------------------------------------------- the two SDKs
@dataclass(frozen=True)
class Request:
    """What is asked, in the words of no SDK."""

    model: str
    prompt: str
    system: str | None
    temperature: float
    max_output_tokens: int
    json_mode: bool

    def settings(self) -> dict[str, Any]:
        mime = {"response_mime_type": "application/json"} if self.json_mode else {}
        return {
            "temperature": self.temperature,
            "max_output_tokens": self.max_output_tokens,
            **mime,
        }


class GenerativeAI:
    """google-generativeai. Over REST and with its own retries off: its gRPC hangs for 600 s without
    a network.
    """

    def __init__(self, key: SecretStr, base_url: str | None = None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ten lines; `connect` says it in one
            import google.generativeai as sdk
        from google.ai import generativelanguage as glm

        options = {
            "api_key": key.get_secret_value(),
            **({"api_endpoint": base_url} if base_url else {}),
        }
        self._sdk = sdk
        # Clients of our own in place of sdk.configure(), which keeps one key for the whole process.
        self._answers = glm.GenerativeServiceClient(transport="rest", client_options=dict(options))
        self._models = glm.ModelServiceClient(transport="rest", client_options=dict(options))
        for client in (self._answers, self._models):
            client.transport._session.hooks["response"].append(self.refuse)

    @staticmethod
    def refuse(response: Any, **_: Any) -> None:
        """Raise for an error status before the SDK looks: it sends again after a 401, and cannot
        read a list of errors.
        """
        if response.status_code >= 400:
            raise error_of_response(response)

    def generate(self, request: Request, seconds: float) -> Any:
        model = self._sdk.GenerativeModel(request.model, system_instruction=request.system)
        model._client = self._answers
        return model.generate_content(
            request.prompt,
            generation_config=request.settings(),
            request_options={"timeout": seconds, "retry": None},
        )

    def model_names(self, seconds: float) -> list[str]:
        listed = self._models.list_models(timeout=seconds, retry=None)
        return [
            model.name
            for model in listed
            if "generateContent" in model.supported_generation_methods
        ]


class GenAI:
    """google-genai, for a Gemini API key (`GenAI.for_key`) or around a client of one's own (Vertex
    AI).
    """

    def __init__(self, client: Any):
        self.client = client  # keep it: a client that nobody holds closes its connections

    @classmethod
    def for_key(cls, key: SecretStr, base_url: str | None = None) -> GenAI:
        from google import genai

        options = genai.types.HttpOptions(api_version="v1beta", base_url=base_url)
        return cls(
            genai.Client(vertexai=False, api_key=key.get_secret_value(), http_options=options)
        )

    def generate(self, request: Request, seconds: float) -> Any:
        from google.genai import types

        config = types.GenerateContentConfig(
            system_instruction=request.system,
            **request.settings(),
            http_options=types.HttpOptions(timeout=int(seconds * 1000)),
        )
        return self.client.models.generate_content(
            model=request.model, contents=request.prompt, config=config
        )

    def model_names(self, seconds: float) -> list[str]:
        listed = self.client.models.list(config={"http_options": {"timeout": int(seconds * 1000)}})
        return [
            model.name for model in listed if "generateContent" in (model.supported_actions or [])
        ]


SDKS: dict[str, Callable[[SecretStr, str | None], Any]] = {
    "google-generativeai": GenerativeAI,
    "google-genai": GenAI.for_key,
}


# --------------------------------------------------------------------------------------- the client
def choose_model(names: Iterable[str], prices: Mapping[str, Price]) -> str:
    """The newest plain "flash" model among those listed, one with a known price first. GeminiError
    "no model" if none is.
    """

    def rank(name: str) -> tuple:
        found = re.fullmatch(r"gemini-(\d+(?:\.\d+)?)-flash(-lite)?(?:-\d{3})?", name)
        version = tuple(map(int, found[1].split("."))) if found else ()
        return (
            re.sub(r"-\d{3}$", "", name) in prices,
            bool(found),
            bool(found) and not found[2],
            version,
        )

    usable = [name.rpartition("/")[2] for name in names]
    if not usable:
        raise GeminiError(
            "no model", "the service lists no model that answers prompts for this key"
        )
    return max(usable, key=rank)


@dataclass(repr=False)
class Gemini:
    """A client. `service` is an SDK behind two methods; `model` "" takes the best that the service
    lists, at first use.
    """

    service: Any
    ledger: Ledger
    model: str = ""
    patience: Patience = field(default_factory=Patience)
    _key: SecretStr | None = None  # only to blot it out of messages

    def __repr__(self) -> str:
        return f"Gemini({self.model or 'the best model listed'}, {self.ledger})"

    def ask(
        self,
        prompt: str,
        *,
        system: str | None = None,
        temperature: float = 1.0,
        max_output_tokens: int = 8192,
        json_mode: bool = True,
    ) -> Reply:
        """Ask once, again only where the service surely did not answer. Raises GeminiError, or a
        kind of it.

        ValueError for an empty prompt. The budget is looked at before every attempt.
        """
        if not prompt.strip():
            raise ValueError("the prompt is empty: give the text that the model should answer")
        self.model = self.model or choose_model(self.models(), self.ledger.prices)
        request = Request(self.model, prompt, system, temperature, max_output_tokens, json_mode)
        return self.patience.repeat(lambda seconds: self._attempt(request, seconds))

    def models(self) -> list[str]:
        """The names of the models that answer prompts for this key; it costs nothing."""

        def attempt(seconds: float) -> list[str]:
            return raised(bounded(lambda: self.service.model_names(seconds), seconds, self._key))

        return [name.removeprefix("models/") for name in self.patience.repeat(attempt)]

    def _attempt(self, request: Request, seconds: float) -> Reply:
        entry = self.ledger.reserve(
            request.model, (request.system or "") + request.prompt, request.max_output_tokens
        )
        outcome = bounded(
            lambda: read_reply(self.service.generate(request, seconds), request.model),
            seconds,
            self._key,
        )
        if isinstance(outcome, Reply) and outcome.prompt_tokens:
            self.ledger.settle(entry, outcome.prompt_tokens, outcome.output_tokens)
        elif isinstance(outcome, GeminiError) and outcome.kind not in UNSURE:
            self.ledger.release(entry)
        return raised(outcome)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Gemini client holds a key and cannot be pickled or copied: connect again where you "
            "need one"
        )


def raised(outcome: Any) -> Any:
    """What `bounded` returned; raises it if it is an error."""
    if isinstance(outcome, GeminiError):
        raise outcome
    return outcome


def connect(
    key: SecretStr | str | None = None,
    *,
    ledger: Ledger,
    sdk: str = "google-generativeai",
    model: str = "",
    patience: Patience | None = None,
    base_url: str | None = None,
) -> Gemini:
    """A client of the Gemini API. Without `key` it is looked for, and asked for (`find_key`).

    KeyProblem for no key or a dirty one, before any SDK sees it. ValueError for an unknown `sdk`.
    """
    if sdk not in SDKS:
        raise ValueError(f"sdk is one of {', '.join(SDKS)}; got {sdk!r}")
    secret = (
        find_key()
        if key is None
        else clean_key(key if isinstance(key, str) else key.get_secret_value(), "the key given")
    )
    if sdk == "google-generativeai":
        warnings.warn(
            "google-generativeai is past its end of support; its successor: "
            "connect(sdk='google-genai')",
            FutureWarning,
            stacklevel=2,
        )
    made = bounded(lambda: SDKS[sdk](secret, base_url), 60, secret)
    return Gemini(raised(made), ledger, model, patience or Patience(), secret)
