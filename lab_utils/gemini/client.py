"""Asking Gemini: one interface over two SDKs, with retries, a ledger and a hard budget.

    client = connect(ledger=Ledger(budget=0.50))
    reply = client.ask("Tell me about Feta.", system="You are Pavlos.", json_mode=False)
    print(reply.text, client.ledger)

google-generativeai is the default; it is past its end of support, and google-genai is its
successor. Both give the same replies and the same errors, with a key and with a project of Google
Cloud. What neither does, and this module adds: a bound on the whole time of a call (a server that
sends one byte a second renews every socket timeout), the server's own word on how long to wait, and
a key that can be printed by no error. A call is repeated only if it was surely not answered, so
that nothing is paid twice.

Sources: the Gemini API reference (generateContent, models.list) and the installed code of both
SDKs.
"""

from __future__ import annotations

import random
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab_utils.gemini.errors import (
    REPEATABLE,
    UNSURE,
    BudgetSpent,
    GeminiError,
    KeyProblem,
    QuotaExhausted,
    WrongUse,
    error_of_exception,
    error_of_response,
    no_reply,
    timed_out,
)
from lab_utils.gemini.keys import Access, access, as_secret
from lab_utils.gemini.ledger import Ledger, Price, plain_name

if TYPE_CHECKING:  # a command imports this module before anything is installed
    import tenacity
    from pydantic import SecretStr

__all__ = [  # all that a caller needs, the errors too
    "BudgetSpent",
    "Gemini",
    "GeminiError",
    "KeyProblem",
    "Ledger",
    "Patience",
    "Price",
    "QuotaExhausted",
    "Reply",
    "WrongUse",
    "choose_model",
    "connect",
]

# in the order of their numbers in the API: the older SDK asks for numbers
FINISH_REASONS = (
    "UNSPECIFIED",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
)
FILTERS = {"MODEL_ARMOR", "JAILBREAK"}  # Google Cloud's names for a filter that stopped an answer


# ------------------------------------------------------------------------------------------ replies
@dataclass(frozen=True)
class Reply:
    """What the service answered. Read `finish_reason` before `text`: only "STOP" means that the
    answer is whole.
    """

    text: str  # "" for SAFETY and BLOCKED; never what the model thought
    # "STOP", "MAX_TOKENS" (cut off in mid-sentence), "SAFETY", "BLOCKED" (the prompt), ..., "OTHER"
    finish_reason: str
    model: str  # the version that the service says it used, else the name that was asked
    prompt_tokens: int
    output_tokens: int  # with what the model thought: that is billed as output, too


def reason_name(value: Any) -> str:
    """The name of a finish reason, given as a name or as a number; "OTHER" for one not known."""
    if isinstance(value, int):
        value = FINISH_REASONS[value] if 0 < value < len(FINISH_REASONS) else "OTHER"
    if value in FILTERS:
        return "SAFETY"
    return value if value in FINISH_REASONS[1:] else "OTHER"


def read_reply(body: Any, model: str) -> Reply:
    """A Reply from the JSON that the service sent. GeminiError "bad reply" if there is none in it.

    Output tokens are total - prompt, or answer and thinking where the total is missing, as it is on
    some routes.
    """
    body = body if isinstance(body, dict) else {}
    usage = body.get("usageMetadata") or {}
    prompt, answer, thought, total = (
        int(usage.get(f"{part}TokenCount") or 0)
        for part in ("prompt", "candidates", "thoughts", "total")
    )
    facts = body.get("modelVersion") or model, prompt, max(total - prompt, answer + thought)
    candidates = body.get("candidates") or []
    if not candidates:
        reason = (body.get("promptFeedback") or {}).get("blockReason")
        if reason and not str(reason).endswith("UNSPECIFIED"):
            return Reply("", "BLOCKED", *facts)
        raise no_reply("the service answered without a candidate")
    parts = (candidates[0].get("content") or {}).get("parts") or []
    text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
    return Reply(text, reason_name(candidates[0].get("finishReason")), *facts)


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


def raised(outcome: Any) -> Any:
    """What `bounded` returned; raises it if it is an error."""
    if isinstance(outcome, GeminiError):
        raise outcome
    return outcome


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
        """Whether asking again can help, and costs nothing twice."""
        kind = getattr(error, "kind", None)
        return kind in REPEATABLE or (self.repeat_unsure and kind in UNSURE)


def wait_as_told(state: tenacity.RetryCallState) -> float:
    """Seconds: the service's own word if that is a second or more, else 1, 2, 4, ... up to 30 with
    up to a second more, so that a whole class does not ask again at the same moment. (Some say
    "0s": six attempts without a wait would be gone in a blink.)
    """
    told = getattr(state.outcome.exception(), "wait", None) or 0.0
    return told if told >= 1 else min(2.0 ** (state.attempt_number - 1), 30) + random.random()


# ---------------------------------------------------------------------------------------- a request
@dataclass(frozen=True)
class Request:
    """What is asked, in the words of no SDK."""

    model: str
    prompt: str
    system: str | None
    temperature: float
    max_output_tokens: int
    json_mode: bool
    response_schema: Mapping[str, Any] | None = None
    thinking: str | int = ""  # a level, or a budget in tokens; "" leaves it to the service

    def settings(self) -> dict[str, Any]:
        """The settings that both SDKs call by the same names."""
        settings = {"temperature": self.temperature, "max_output_tokens": self.max_output_tokens}
        if self.json_mode or self.response_schema:
            settings["response_mime_type"] = "application/json"
        if self.response_schema:
            settings["response_schema"] = dict(self.response_schema)
        return settings


def schema_of(model: Any) -> dict[str, Any]:
    """The service's schema (the part of OpenAPI 3.0 that it knows) of a pydantic model, or of a
    list of one: `schema_of(list[Pair])`. A dict is taken for such a schema.

    Constraints that the service does not know are left out: what comes back is checked anyway.
    """
    if isinstance(model, dict):
        return model
    from pydantic import TypeAdapter

    schema = TypeAdapter(model).json_schema()
    return plain_schema(schema, schema.get("$defs", {}))


def plain_schema(node: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """One node of a JSON schema with its references followed, in the service's words."""
    if "$ref" in node:
        node = {**named[node["$ref"].rpartition("/")[2]], **node}
    variants = [one for one in node.get("anyOf", ()) if one.get("type") != "null"]
    if variants:  # `X | None`; of several types the first, since the older SDK knows no choice
        maybe = len(variants) < len(node["anyOf"])
        return {**plain_schema(variants[0], named), **({"nullable": True} if maybe else {})}
    plain = {name: node[name] for name in ("description", "enum", "required") if name in node}
    plain["type"] = node.get("type", "string").upper()
    if "items" in node:
        plain["items"] = plain_schema(node["items"], named)
    if "properties" in node:
        fields = node["properties"].items()
        plain["properties"] = {name: plain_schema(field, named) for name, field in fields}
    return plain


# ------------------------------------------------------------------------------------- the two SDKs
def cloud_address(location: str) -> str:
    """The address of Google Cloud's service in a region, in "us" or "eu", or "global"."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


class GenerativeAI:
    """google-generativeai. Over REST and with its own retries off: its gRPC hangs for 600 s without
    a network.

    It knows keys only: with a project its requests are sent on to Google Cloud's address, in the
    same words (tried against a server on loopback, not against Google's).

    It drops what it does not know of an answer (thoughts, new block reasons, the model's version),
    so that the JSON is read as it came.
    """

    def __init__(self, access: Access):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ten lines; `connect` says it in one
            import google.generativeai as sdk
        from google.ai import generativelanguage as glm

        self._sdk, self._heard, self._cloud = sdk, threading.local(), bool(access.project)
        # Clients of our own in place of sdk.configure(), which keeps one key for the whole process.
        self._answers = self._client(glm.GenerativeServiceClient, access)
        self._models = self._client(glm.ModelServiceClient, access)

    def _client(self, kind: Any, access: Access) -> Any:
        from google.auth.credentials import AnonymousCredentials

        address = access.base_url or (access.project and cloud_address(access.location))
        options = {"api_endpoint": address} if address else {}
        if access.key:
            options["api_key"] = access.key.get_secret_value()
            client = kind(transport="rest", client_options=options)
        else:
            nobody = AnonymousCredentials()  # given its own, it would sign for the key's service
            client = kind(transport="rest", client_options=options, credentials=nobody)
            client.transport._session.credentials = access.credentials
            for scheme in ("https://", "http://"):
                client.transport._session.mount(scheme, on_to_cloud(access))
        client.transport._session.hooks["response"].append(self.hear)
        return client

    def hear(self, response: Any, **_: Any) -> None:
        """Keep the response as it came. Raise for an error status before the SDK looks: it sends
        again after a 401, and cannot read a list of errors.
        """
        if response.status_code >= 400:
            raise error_of_response(response)
        self._heard.response = response

    def generate(self, request: Request, seconds: float) -> Any:
        """The JSON of the answer."""
        model = self._sdk.GenerativeModel(request.model, system_instruction=request.system)
        model._client = self._answers
        model.generate_content(
            request.prompt,
            generation_config=request.settings(),
            request_options={"timeout": seconds, "retry": None},
        )
        return self._heard.response.json()

    def model_names(self, seconds: float) -> list[str]:
        """The models that answer prompts; none on Google Cloud, which has another way to ask."""
        if self._cloud:
            return []
        listed = self._models.list_models(timeout=seconds, retry=None)
        wanted = "generateContent"
        return [model.name for model in listed if wanted in model.supported_generation_methods]


def on_to_cloud(access: Access) -> Any:
    """An adapter for requests that sends the Gemini API's address on to that of a project."""
    from requests.adapters import HTTPAdapter

    folder = f"/v1beta1/projects/{access.project}/locations/{access.location}/publishers/google"

    class OnToCloud(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            address = request.url.partition("?")[0]  # it asks for numbers that differ there
            request.url = address.replace("/v1beta/models/", f"{folder}/models/", 1)
            return super().send(request, *args, **options)

    return OnToCloud()


class GenAI:
    """google-genai, for a key or for a project of Google Cloud. `timeout` in seconds bounds calls
    that name no other.
    """

    def __init__(self, access: Access, timeout: float | None = None):
        from google import genai

        version = "v1beta1" if access.project else "v1beta"
        address = access.base_url or (cloud_address(access.location) if access.project else None)
        options = genai.types.HttpOptions(
            api_version=version, base_url=address, timeout=timeout and int(timeout * 1000)
        )
        way = (
            {
                "vertexai": True,
                "project": access.project,
                "location": access.location,
                "credentials": access.credentials,
            }
            if access.project
            else {"vertexai": False, "api_key": access.key.get_secret_value()}
        )
        # keep it: a client that nobody holds closes its connections
        self.client = genai.Client(**way, http_options=options)

    def generate(self, request: Request, seconds: float) -> Any:
        """The JSON of the answer."""
        from google.genai import types

        thinking = request.thinking
        name = "thinking_budget" if isinstance(thinking, int) else "thinking_level"
        config = types.GenerateContentConfig(
            system_instruction=request.system,
            **request.settings(),
            thinking_config=None if thinking == "" else types.ThinkingConfig(**{name: thinking}),
            http_options=types.HttpOptions(timeout=int(seconds * 1000)),
        )
        response = self.client.models.generate_content(
            model=request.model, contents=request.prompt, config=config
        )
        return response.model_dump(mode="json", by_alias=True, exclude_none=True)

    def model_names(self, seconds: float) -> list[str]:
        """The models that answer prompts; Google Cloud does not say which do, so there all."""
        listed = self.client.models.list(config={"http_options": {"timeout": int(seconds * 1000)}})
        return [
            model.name
            for model in listed
            if self.client.vertexai or "generateContent" in (model.supported_actions or [])
        ]


SDKS: dict[str, Callable[[Access], Any]] = {
    "google-generativeai": GenerativeAI,
    "google-genai": GenAI,
}


# --------------------------------------------------------------------------------------- the client
def choose_model(names: Iterable[str], prices: Mapping[str, Price], today: str = "") -> str:
    """The newest plain "flash" model among those listed, one that is not retired and has a known
    price first. GeminiError "no model" if none is listed.
    """
    today = today or time.strftime("%Y-%m-%d")

    def rank(name: str) -> tuple:
        found = re.fullmatch(r"gemini-(\d+(?:\.\d+)?)-flash(-lite)?(?:-\d{3})?", name)
        version = tuple(map(int, found[1].split("."))) if found else ()
        row = prices.get(plain_name(name))
        gone = bool(row and row.retired_on and row.retired_on <= today)
        return not gone, bool(row), bool(found), bool(found) and not found[2], version

    usable = [name.rpartition("/")[2] for name in names]
    if not usable:
        raise GeminiError(
            "no model", "the service lists no model that answers prompts here: name one (model=...)"
        )
    return max(usable, key=rank)


@dataclass(repr=False)
class Gemini:
    """A client. `service` is an SDK behind two methods; `model` "" takes the best that the service
    lists, at first use; `thinking` is a level or a budget in tokens, "" leaves it to the service
    (the older SDK has no word for it, and leaves it there always).
    """

    service: Any
    ledger: Ledger
    model: str = ""
    patience: Patience = field(default_factory=Patience)
    _key: SecretStr | None = None  # only to blot it out of messages
    thinking: str | int = ""

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
        response_schema: Any = None,
    ) -> Reply:
        """Ask once, again only where the service surely did not answer. Raises GeminiError, or a
        kind of it; ValueError for an empty prompt. The budget is looked at before every attempt.

        `response_schema` is a pydantic model or a list of one (`list[Pair]`): the service then
        keeps to its form, not to its limits. Gemini 3.5 Flash-Lite ignores `temperature`.
        """
        if not prompt.strip():
            raise ValueError("the prompt is empty: give the text that the model should answer")
        self.model = self.model or choose_model(self.models(), self.ledger.prices)
        schema = schema_of(response_schema) if response_schema else None
        request = Request(
            self.model,
            prompt,
            system,
            temperature,
            max_output_tokens,
            json_mode,
            schema,
            self.thinking,
        )
        return self.patience.repeat(lambda seconds: self._attempt(request, seconds))

    def models(self) -> list[str]:
        """The names of the models that answer prompts here; it costs nothing."""

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
        if isinstance(outcome, GeminiError):
            if outcome.kind not in UNSURE:
                self.ledger.release(entry)
        # an answer whose tokens nobody counted stays at the most it can have cost
        elif outcome.prompt_tokens and (outcome.output_tokens or not outcome.text):
            self.ledger.settle(entry, outcome.prompt_tokens, outcome.output_tokens)
        return raised(outcome)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Gemini client holds a key and cannot be pickled or copied: connect again where you "
            "need one"
        )


def connect(
    key: SecretStr | str | None = None,
    *,
    ledger: Ledger,
    sdk: str = "google-generativeai",
    model: str = "",
    patience: Patience | None = None,
    base_url: str | None = None,
    project: str = "",
    location: str = "global",
    credentials: Any = None,
) -> Gemini:
    """A client of Gemini. Without `key` and `project` a key is looked for, and asked for.

    With `project` it asks Google Cloud (Vertex AI, now Agent Platform) in `location`; `credentials`
    are a service account's key file, an object of google.auth, or None for the user's own.
    KeyProblem for no key or a dirty one, before any SDK sees it. WrongUse, a ValueError, for an
    unknown `sdk`, or for a key and a project together.
    """
    key = as_secret(key)
    if sdk not in SDKS:
        raise WrongUse(f"sdk is one of {', '.join(SDKS)}; got {sdk!r}")
    way = access(key, project, location, credentials, base_url)
    if sdk == "google-generativeai":
        warnings.warn(
            "google-generativeai is past its end of support; its successor: "
            "connect(sdk='google-genai')",
            FutureWarning,
            stacklevel=2,
        )
    service = raised(bounded(lambda: SDKS[sdk](way), 60, way.key))
    return Gemini(service, ledger, model, patience or Patience(), way.key)
