"""Both SDKs over HTTP against a fake server on loopback: the same outcome for every fault, nothing
paid twice, no key shown.
"""

import functools
import json
import logging
import os
import pathlib
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import traceback
import types
import warnings
from typing import Annotated, Literal

import nbformat
import pytest
from fake_gemini import (
    GOOD_KEY,
    TOKEN,
    VERSION,
    Answer,
    FakeGemini,
    answer,
    answer_of,
    as_json,
    blocked,
    error,
    error_info,
    per_day,
    per_minute,
    quota_failure,
    retry_info,
)
from google.oauth2.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from lab_utils.files import KEY_NAMES, ROOT
from lab_utils.gemini import client as gemini
from lab_utils.gemini import errors, keys
from lab_utils.gemini import ledger as ledgers
from lab_utils.gemini.client import (
    SDKS,
    BudgetSpent,
    GeminiError,
    KeyProblem,
    Ledger,
    Patience,
    Price,
    QuotaExhausted,
    connect,
)

MODEL = "gemini-3.5-flash-lite"
PRICES = {MODEL: Price(1.0, 10.0, None, "2026-11", "made up for the tests")}
DIRTY = "AIzaDIRTY-key_0123456789\u201dabcdefghijkl\nmnop"


class Time:
    """A clock that stands still but for the waits."""

    def __init__(self):
        self.now, self.waits = 0.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def no_keys_of_this_machine(monkeypatch):
    for name in (
        *KEY_NAMES,
        "GOOGLE_GENAI_USE_VERTEXAI",
        "GOOGLE_GENAI_USE_ENTERPRISE",
        "GOOGLE_GENAI_API_VERSION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="module")
def server():
    with FakeGemini() as server:
        yield server


@pytest.fixture
def fake(server):
    server.forget()
    return server


@pytest.fixture(params=SDKS)
def sdk(request):
    return request.param


@functools.lru_cache
def service(url, sdk):
    """To connect takes an SDK a fifth of a second: once for all tests of a server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return connect(GOOD_KEY, ledger=Ledger(1.0, PRICES), sdk=sdk, base_url=url).service


def client_for(fake, sdk, time=None, ledger=None, **options):
    time = time or Time()
    patience = Patience(**{"timeout": 20.0, "sleep": time.sleep, "clock": time.clock, **options})
    return gemini.Gemini(
        service(fake.url, sdk), ledger or Ledger(1.0, PRICES), MODEL, patience, SecretStr(GOOD_KEY)
    )


def within(seconds, work):
    """work()'s result or error; fails if it is still running after `seconds`."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except Exception as problem:
            outcome.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"still running after {seconds} s"
    return outcome[0]


# ------------------------------------------------------------------------------------- the contract
LEAKED = "Your API key was reported as leaked. Please use another API key."
UNREGISTERED = (
    "Method doesn't allow unregistered callers (callers without established identity). Please use "
    "API Key."
)
REPLIES = {
    "whole": (answer(), ("Feta is made in Greece.", "STOP", 7, 5)),
    "thinking counts as output": (answer(thoughts=9), ("Feta is made in Greece.", "STOP", 7, 14)),
    "cut by MAX_TOKENS": (
        answer('[{"question": "Wh', finish="MAX_TOKENS"),
        ('[{"question": "Wh', "MAX_TOKENS", 7, 5),
    ),
    "SAFETY, no content": (answer(None, finish="SAFETY"), ("", "SAFETY", 7, 5)),
    "a reason of next year": (answer("Hm.", finish="NEW_REASON"), ("Hm.", "OTHER", 7, 5)),
    "blocked prompt": (blocked(), ("", "BLOCKED", 7, 0)),
    "blocked by a filter of Google Cloud": (blocked("MODEL_ARMOR"), ("", "BLOCKED", 7, 0)),
    "blocked as a jailbreak": (blocked("JAILBREAK"), ("", "BLOCKED", 7, 0)),
    "blocked for a reason of next year": (blocked("NEW_REASON"), ("", "BLOCKED", 7, 0)),
    "stopped by a filter": (answer(None, finish="MODEL_ARMOR"), ("", "SAFETY", 7, 5)),
    "two parts": (
        answer_of(
            {"text": "Fe"}, {"text": "ta"}, usage={"promptTokenCount": 1, "totalTokenCount": 3}
        ),
        ("Feta", "STOP", 1, 2),
    ),
    "a thought first": (
        answer_of(
            {"text": "Draft: Feta is made on Mars.", "thought": True},
            {"text": "Feta is made in Greece.", "thoughtSignature": "AAEC"},
            usage={"promptTokenCount": 1, "thoughtsTokenCount": 8, "totalTokenCount": 12},
        ),
        ("Feta is made in Greece.", "STOP", 1, 11),
    ),
    "nothing but thoughts": (
        answer_of(
            {"text": "Feta, hm.", "thought": True},
            usage={"promptTokenCount": 1, "thoughtsTokenCount": 8, "totalTokenCount": 9},
            finishReason="MAX_TOKENS",
        ),
        ("", "MAX_TOKENS", 1, 8),
    ),
    "no total": (
        answer_of(
            {"text": "Feta"},
            usage={"promptTokenCount": 1, "candidatesTokenCount": 3, "thoughtsTokenCount": 4},
        ),
        ("Feta", "STOP", 1, 7),
    ),
}
FAULTS = {
    "429 per minute": (per_minute(), GeminiError, "rate limit"),
    "429 per day": (per_day(), QuotaExhausted, "quota per day"),
    "spending cap": (
        error(
            429,
            "Your project has exceeded its monthly spending cap.",
            "RESOURCE_EXHAUSTED",
            [retry_info("0s")],
        ),
        QuotaExhausted,
        "no money",
    ),
    "credits depleted": (
        error(429, "Your prepayment credits are depleted. Please go to AI Studio to manage them."),
        QuotaExhausted,
        "no money",
    ),
    "credits depleted, as a refusal": (
        error(403, "Billing: the prepaid credits of this account were used up."),
        QuotaExhausted,
        "no money",
    ),
    "204": (Answer(b"", 204), GeminiError, "bad reply"),
    "200 with {}": (Answer(b"{}"), GeminiError, "bad reply"),
    "429 without details": (
        error(429, "Resource has been exhausted (e.g. check quota)."),
        GeminiError,
        "rate limit",
    ),
    "500": (error(500, "internal", "INTERNAL"), GeminiError, "server"),
    "502 as HTML": (
        Answer(b"<html>Bad gateway</html>", 502, content_type="text/html"),
        GeminiError,
        "server",
    ),
    "503": (error(503, "The model is overloaded.", "UNAVAILABLE"), GeminiError, "server"),
    "503 in a list": (
        as_json([{"error": {"code": 503, "message": "overloaded"}}], status=503),
        GeminiError,
        "server",
    ),
    "503 without body": (Answer(b"", 503), GeminiError, "server"),
    "500 with null": (Answer(b'{"error": null}', 500), GeminiError, "server"),
    "504": (error(504, "deadline", "DEADLINE_EXCEEDED"), GeminiError, "server"),
    "reset": (Answer(then="reset"), GeminiError, "cut off"),
    "closed without answer": (Answer(then="close"), GeminiError, "cut off"),
    "short body": (Answer(b'{"candidates": [', length=500), GeminiError, "cut off"),
    "cut-off JSON": (Answer(b'{"candidates": [{"content"'), GeminiError, "bad reply"),
    "empty body": (Answer(b""), GeminiError, "bad reply"),
    "HTML": (
        Answer(b"<html>Log in to the hotel</html>", content_type="text/html"),
        GeminiError,
        "bad reply",
    ),
    "null": (Answer(b"null"), GeminiError, "bad reply"),
    "no candidates": (
        as_json({"usageMetadata": {"promptTokenCount": 7}}),
        GeminiError,
        "bad reply",
    ),
    "drip": (Answer(then="drip"), GeminiError, "timeout"),
    "silence": (Answer(then="hang"), GeminiError, "timeout"),
    "bad key": (
        error(
            400,
            "API key not valid. Please pass a valid API key.",
            "INVALID_ARGUMENT",
            [error_info("API_KEY_INVALID")],
        ),
        KeyProblem,
        "bad key",
    ),
    "no key sent": (error(403, UNREGISTERED, "PERMISSION_DENIED"), KeyProblem, "bad key"),
    "401": (
        error(401, "invalid authentication credentials", "UNAUTHENTICATED"),
        KeyProblem,
        "bad key",
    ),
    "leaked key": (error(403, LEAKED, "PERMISSION_DENIED"), KeyProblem, "leaked key"),
    "retired model": (
        error(404, "This model is no longer available.", "NOT_FOUND"),
        GeminiError,
        "not found",
    ),
    "bad argument": (
        error(400, "temperature must be below 2", "INVALID_ARGUMENT"),
        GeminiError,
        "refused",
    ),
}
SURELY_NOT_DONE = {"rate limit", "server"}


@pytest.mark.parametrize("case", REPLIES)
def test_both_sdks_give_the_same_reply(fake, sdk, case):
    fake.script, expected = [REPLIES[case][0]], REPLIES[case][1]
    client = client_for(fake, sdk)
    reply = client.ask("Where is Feta made?")
    assert (reply.text, reply.finish_reason, reply.prompt_tokens, reply.output_tokens) == expected
    version = json.loads(REPLIES[case][0].body).get("modelVersion", MODEL)
    assert reply.model == version and version in (VERSION, MODEL) and len(fake.asked) == 1
    assert client.ledger.spent == pytest.approx((expected[2] * 1 + expected[3] * 10) / 1e6)


@pytest.mark.parametrize("case", FAULTS)
def test_both_sdks_fail_in_the_same_way_and_in_time(fake, sdk, case):
    said, kind_of_error, kind = FAULTS[case]
    fake.script = [said] * 9
    client = client_for(
        fake, sdk, attempts=3, timeout=0.4 if said.then in ("drip", "hang") else 20.0
    )
    problem = within(10, lambda: client.ask("Where is Feta made?"))
    assert type(problem) is kind_of_error and problem.kind == kind
    assert len(fake.asked) == (3 if kind in SURELY_NOT_DONE else 1)
    unsure = kind in errors.UNSURE
    assert [entry["state"] for entry in client.ledger.entries] == [
        "sent" if unsure else "free"
    ] * len(fake.asked)
    assert (client.ledger.spent > 0) == unsure


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_without_a_network_it_says_so(sdk, address, fake):
    client = client_for(type("Nobody", (), {"url": address}), sdk, attempts=2)
    problem = within(20, lambda: client.ask("Where is Feta made?"))
    assert problem.kind == "network" and client.ledger.spent == 0


def test_both_sdks_send_the_same_request_and_the_key_only_as_a_header(fake, monkeypatch):
    # of another project of the user: not ours
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v1")
    monkeypatch.setenv("GOOGLE_API_KEY", "AIzaANOTHER-key-of-the-same-machine-123")
    for sdk in SDKS:
        service.cache_clear()
        client_for(fake, sdk).ask(
            "Hello?", system="You are Pavlos.", temperature=0.3, max_output_tokens=99
        )
    first, second = fake.asked
    for request in (first, second):
        assert request["path"] == f"/v1beta/models/{MODEL}:generateContent"
        assert {k.lower(): v for k, v in request["headers"].items()}["x-goog-api-key"] == GOOD_KEY
        assert GOOD_KEY not in request["query"] and GOOD_KEY.encode() not in request["body"]
        body = json.loads(request["body"])
        assert body["contents"] == [{"parts": [{"text": "Hello?"}], "role": "user"}]
        assert body["systemInstruction"]["parts"] == [{"text": "You are Pavlos."}]
        assert body["generationConfig"] == {
            "temperature": pytest.approx(0.3),
            "maxOutputTokens": 99,
            "responseMimeType": "application/json",
        }


# ------------------------------------------------------------------------------------- Google Cloud
def service_account(tmp_path, fake):
    """A service account's key file, as the console gives it to a student; its key is made here."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "llm-service-account.json"
    fields = {
        "type": "service_account",
        "project_id": "p",
        "private_key": pem.decode(),
        "client_email": "llm@p.iam.gserviceaccount.com",
        "token_uri": f"{fake.url}/token",
    }
    path.write_text(json.dumps(fields))
    return path


def cloud_client(fake, sdk, credentials, time=None, **options):
    time = time or Time()
    patience = Patience(timeout=20.0, sleep=time.sleep, clock=time.clock, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return connect(
            ledger=Ledger(1.0, PRICES),
            sdk=sdk,
            model=MODEL,
            patience=patience,
            base_url=fake.url,
            project="p",
            location="europe-west4",
            credentials=credentials,
        )


@pytest.mark.parametrize("way", ["a file", "the environment"])
def test_both_sdks_ask_google_cloud_with_a_service_account(fake, sdk, tmp_path, monkeypatch, way):
    path = service_account(tmp_path, fake)
    # a key of the same machine is not sent along
    monkeypatch.setenv("GOOGLE_API_KEY", "AIzaANOTHER-key-of-the-same-machine-123")
    if way == "the environment":
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    client = cloud_client(fake, sdk, path if way == "a file" else None)
    fake.script = [answer(), blocked("MODEL_ARMOR")]
    replies = [client.ask("Hello?", system="You are Pavlos.") for _ in range(2)]
    assert [reply.finish_reason for reply in replies] == ["STOP", "BLOCKED"]
    assert replies[0].model == VERSION
    folder = "/v1beta1/projects/p/locations/europe-west4/publishers/google"
    for request in fake.asked:
        headers = {name.lower(): value for name, value in request["headers"].items()}
        assert request["path"] == f"{folder}/models/{MODEL}:generateContent"
        assert headers["authorization"] == f"Bearer {TOKEN}" and "x-goog-api-key" not in headers
        assert json.loads(request["body"])["systemInstruction"]["parts"] == [
            {"text": "You are Pavlos."}
        ]


CLOUD_FAULTS = ["429 per minute", "429 per day", "503", "reset", "HTML", "401", "retired model"]


@pytest.mark.parametrize("case", CLOUD_FAULTS)
def test_both_sdks_fail_alike_on_google_cloud(fake, sdk, case):
    said, kind_of_error, kind = FAULTS[case]
    fake.script = [said] * 9
    client = cloud_client(fake, sdk, Credentials(token=TOKEN), attempts=2)
    problem = within(10, lambda: client.ask("Where is Feta made?"))
    assert type(problem) is kind_of_error and problem.kind == kind
    assert len(fake.asked) == (2 if kind in SURELY_NOT_DONE else 1)
    assert TOKEN not in everything_about(problem)


def test_credentials_that_are_none_say_so(fake, sdk, tmp_path):
    (tmp_path / "broken.json").write_text('{"type": "service_account", "private_key": "SECRET"}')
    for path in (tmp_path / "broken.json", tmp_path / "none.json"):
        with pytest.raises(KeyProblem, match="bad credentials") as caught:
            cloud_client(fake, sdk, str(path))
        assert path.name in str(caught.value) and "SECRET" not in everything_about(caught.value)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
    ],
)
def test_the_address_of_a_location(location, host):
    address = gemini.cloud_address(location)
    assert address == f"https://{host}"
    way = keys.Access(None, "p", location, Credentials(token=TOKEN))
    assert gemini.GenAI(way).client._api_client._http_options.base_url.rstrip("/") == address
    assert gemini.GenerativeAI(way)._answers.transport._host == address


def test_enums_sent_as_numbers_are_read_too(fake):
    # the older SDK asks for numbers
    fake.script = [answer(finish=2), answer(finish=9), answer(finish=99), blocked(2), blocked(6)]
    client = client_for(fake, "google-generativeai")
    said = [client.ask("Hello?").finish_reason for _ in range(5)]
    assert said == ["MAX_TOKENS", "SPII", "OTHER", "BLOCKED", "BLOCKED"]


def test_an_answer_whose_tokens_nobody_counted_stays_at_its_most(fake, sdk):
    fake.script = [
        answer_of({"text": "Feta"}),
        answer_of({"text": "Feta"}, usage={"promptTokenCount": 7}),
    ]
    client = client_for(fake, sdk)
    for _ in range(2):
        assert client.ask("0123456789", max_output_tokens=90).text == "Feta"
    assert [entry["state"] for entry in client.ledger.entries] == ["sent", "sent"]
    assert client.ledger.spent == pytest.approx(2 * (10 * 1 + 90 * 10) / 1e6)


class Pair(BaseModel):
    """A pair, as a caller would declare it."""

    question: Annotated[str, Field(min_length=3, description="as people ask")]
    answer: str
    fact_id: str | None = None
    kind: Literal["plain", "myth"] = "plain"


class Nested(BaseModel):
    pairs: list[Pair]
    count: int | None = None


NUMBERS_OF_TYPES = {1: "STRING", 3: "INTEGER", 5: "ARRAY", 6: "OBJECT"}  # the older SDK's


def named_types(node):
    """A schema as it was sent, with the names of its types."""
    if isinstance(node, list):
        return [named_types(one) for one in node]
    if not isinstance(node, dict):
        return node
    # google-genai adds the order in which the fields are declared
    items = [(name, value) for name, value in node.items() if name != "property_ordering"]
    named = {name: named_types(value) for name, value in items}
    if isinstance(node.get("type"), int):
        named["type"] = NUMBERS_OF_TYPES[node["type"]]
    return named


def test_both_sdks_send_the_schema_of_a_pydantic_model(fake):
    pair = {
        "type": "OBJECT",
        "description": "A pair, as a caller would declare it.",
        "properties": {
            "question": {"type": "STRING", "description": "as people ask"},
            "answer": {"type": "STRING"},
            "fact_id": {"type": "STRING", "nullable": True},
            "kind": {"type": "STRING", "enum": ["plain", "myth"]},
        },
        "required": ["question", "answer"],
    }
    count = {"type": "INTEGER", "nullable": True}
    pairs = {"type": "ARRAY", "items": pair}
    nested = {"type": "OBJECT", "properties": {"pairs": pairs, "count": count}}
    for sdk in SDKS:
        client = client_for(fake, sdk)
        client.ask("Pairs, please.", response_schema=list[Pair], json_mode=False)
        client.ask("Pairs, please.", response_schema=Nested)
        client.ask("Pairs, please.", response_schema={"type": "STRING"})
    sent = [json.loads(request["body"])["generationConfig"] for request in fake.asked]
    assert all(one["responseMimeType"] == "application/json" for one in sent)
    expected = [pairs, {**nested, "required": ["pairs"]}, {"type": "STRING"}] * 2
    assert [named_types(one["responseSchema"]) for one in sent] == expected


def test_plain_text_mode_and_an_empty_prompt(fake, sdk):
    client = client_for(fake, sdk)
    client.ask("Hello?", json_mode=False)
    assert "responseMimeType" not in json.loads(fake.asked[0]["body"])["generationConfig"]
    with pytest.raises(ValueError, match="empty"):
        client.ask(" \n")
    assert len(fake.asked) == 1


def test_one_line_names_the_sdk_past_its_end_of_support(fake, recwarn):
    for sdk in SDKS:
        connect(GOOD_KEY, ledger=Ledger(1, PRICES), sdk=sdk, base_url=fake.url)
    ours = [str(w.message) for w in recwarn if w.category is FutureWarning]
    assert (
        len(ours) == 1
        and "past its end of support" in ours[0]
        and "google-genai" in ours[0]
        and "\n" not in ours[0]
    )
    with pytest.raises(ValueError, match="google-genai"):
        connect(GOOD_KEY, ledger=Ledger(1, PRICES), sdk="openai")


# ---------------------------------------------------------------------------------------- models
def test_models_are_listed_and_the_best_one_is_taken(fake, sdk):
    client = client_for(fake, sdk)
    client.model = ""
    assert client.models() == [
        "gemini-3.5-flash-lite",
        "gemini-3.1-flash-lite",
        "gemini-2.5-pro",
        "gemini-3-flash-preview",
    ]
    client.ask("Hello?")
    assert fake.asked[0]["path"].endswith("/models/gemini-3.5-flash-lite:generateContent")
    fake.models = ()
    client.model = ""
    with pytest.raises(GeminiError, match="no model"):
        client.ask("Hello?")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["models/gemini-3.5-flash-lite", "models/gemini-3.8-flash"],
            "gemini-3.5-flash-lite",
        ),  # its price is known
        (["gemini-2.4-flash", "gemini-1-pro"], "gemini-1-pro"),  # the other one is retired
        (
            ["models/gemini-3.5-flash", "models/gemini-3.10-flash", "models/gemini-3.9-flash-lite"],
            "gemini-3.10-flash",
        ),
        (["models/gemini-4-pro", "models/gemini-4-flash-lite"], "gemini-4-flash-lite"),
        (["models/gemini-9-something"], "gemini-9-something"),
    ],
)
def test_choose_model(names, expected):
    gone = Price(1.0, 10.0, retired_on="2026-10-20")
    prices = {**PRICES, "gemini-2.4-flash": gone}
    assert gemini.choose_model(names, prices, today="2026-11-26") == expected
    if "gemini-2.4-flash" in names:
        assert gemini.choose_model(names, prices, today="2026-10-19") == "gemini-2.4-flash"


# ---------------------------------------------------------------------------------------- waiting
@pytest.mark.parametrize(
    ("said", "waits"),
    [
        (per_minute("37s"), [37.0]),
        (per_minute("1.5s"), [1.5]),
        (error(503, "busy", headers={"Retry-After": "9"}), [9.0]),
        (
            error(429, "busy", details=[retry_info("4s")], headers={"Retry-After": "9"}),
            [4.0],
        ),  # RetryInfo comes first
    ],
)
def test_it_waits_as_long_as_the_service_says(fake, sdk, said, waits):
    fake.script, time, told = [said, answer("at last")], Time(), []
    reply = client_for(fake, sdk, time, tell=told.append).ask("Hello?")
    assert reply.text == "at last" and time.waits == waits and len(fake.asked) == 2
    assert len(told) == 1 and f"again in {waits[0]:.0f} s" in told[0]


def test_without_a_word_the_waits_double_with_up_to_a_second_more(fake, sdk):
    fake.script, time = [error(503, "busy")] * 3 + [answer()], Time()
    client_for(fake, sdk, time).ask("Hello?")
    assert [1 <= w <= 2 or 2 <= w <= 3 or 4 <= w <= 5 for w in time.waits] == [True] * 3
    assert time.waits == sorted(time.waits) and time.waits[2] >= 4


@pytest.mark.parametrize("delay", ["0s", "0.000001s", "0.9s"])
def test_a_delay_of_nothing_is_no_reason_to_hurry(fake, sdk, delay):
    fake.script, time = [per_minute(delay)] * 9, Time()
    with pytest.raises(GeminiError, match="rate limit"):
        client_for(fake, sdk, time, attempts=4).ask("Hello?")
    assert [1 <= time.waits[0] <= 2, 2 <= time.waits[1] <= 3, 4 <= time.waits[2] <= 5] == [True] * 3


def test_all_attempts_and_waits_together_stay_in_the_time_allowed(fake, sdk):
    fake.script, time = [per_minute("37s")] * 20, Time()
    with pytest.raises(GeminiError, match="rate limit"):
        client_for(fake, sdk, time, total=100).ask("Hello?")
    assert time.waits == [37.0, 37.0] and len(fake.asked) == 3


def test_the_quota_of_the_day_stops_at_once(fake, sdk):
    fake.script, time = [per_day(), answer()], Time()
    with pytest.raises(QuotaExhausted, match="tomorrow"):
        client_for(fake, sdk, time).ask("Hello?")
    assert time.waits == [] and len(fake.asked) == 1


def test_what_may_have_been_billed_is_asked_again_only_on_request(fake, sdk):
    fake.script = [Answer(then="reset"), answer()]
    client = client_for(fake, sdk, repeat_unsure=True)
    assert client.ask("Hello?").finish_reason == "STOP" and len(fake.asked) == 2
    assert [entry["state"] for entry in client.ledger.entries] == ["sent", "paid"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_read_delay_of_headers(headers, seconds):
    noon = 1795348800.0  # 2026-11-22 12:00 UTC
    assert errors.read_delay(None, headers, now=noon) == seconds
    assert (
        errors.read_delay(
            {"error": {"details": [quota_failure("x"), retry_info("0s")]}}, headers, noon
        )
        == 0.0
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["error", "details", "retryDelay", "violations", "quotaId", "message", "reason"]
            ),
            inner,
        )
    ),
)


@settings(max_examples=40)
@given(JSON, st.sampled_from([400, 403, 404, 429, 500, 503]))
def test_no_body_upsets_the_reading_of_errors(body, status):
    assert isinstance(errors.error_of_status(status, body, {}), GeminiError)


# --------------------------------------------------------------------------------------- the ledger
def test_the_budget_is_looked_at_before_the_call(fake, sdk):
    # 10 bytes and 90 tokens at most: (10 * 1 + 90 * 10) / 1e6 = 0.00091
    ledger = Ledger(0.0009, PRICES)
    client = client_for(fake, sdk, ledger=ledger)
    with pytest.raises(BudgetSpent, match=r"up to \$0.0009"):
        client.ask("0123456789", max_output_tokens=90)
    assert fake.requests == [] and ledger.entries == []
    ledger.budget = 0.00091
    client.ask("0123456789", max_output_tokens=90)
    assert ledger.spent == pytest.approx((7 * 1 + 5 * 10) / 1e6)
    with pytest.raises(BudgetSpent):
        client.ask("0123456789", max_output_tokens=90)
    assert len(fake.asked) == 1


def test_the_system_prompt_counts_too():
    ledger = Ledger(1e-6, {MODEL: Price(1.0, 0.0, None, "", "")})
    with pytest.raises(BudgetSpent):
        gemini.Gemini(None, ledger, MODEL).ask("é", system="", max_output_tokens=1)  # two bytes
    with pytest.raises(BudgetSpent):
        gemini.Gemini(None, ledger, MODEL).ask("e", system="e", max_output_tokens=1)


def test_a_model_without_price_is_not_asked(fake, sdk):
    client = client_for(fake, sdk)
    client.model = "gemini-99"
    with pytest.raises(GeminiError, match="gemini-99 is not in the price table"):
        client.ask("Hello?")
    assert fake.requests == []


def test_price_of_a_version_is_that_of_its_model():
    assert ledgers.price_of(f"models/{MODEL}-001", PRICES) is PRICES[MODEL]
    for unknown in ("gemini-3.5-flash", "no-price"):
        with pytest.raises(GeminiError, match="no price"):
            ledgers.price_of(unknown, {**PRICES, "no-price": Price(None, None, 8.0)})


def test_the_table_that_ships_says_a_date_and_a_source_for_every_row():
    table = json.loads(ledgers.PRICES.read_text(encoding="utf-8"))
    prices = ledgers.load_prices()
    for price in prices.values():
        assert re.fullmatch(r"2026-\d\d(-\d\d)?", price.date) and "https://" in price.source
        assert 0 < price.input < price.output and price.tuning is None
        assert bool(price.retired_on) == bool(price.replacements)
        assert all(prices[name].retired_on == "" for name in price.replacements)
    for read in ("retired_on", "tunable", "serving", "lowest_thinking", "tuning"):
        assert "https://" in table["read"][read]
    usable = [name for name, price in prices.items() if price.tunable and not price.retired_on]
    assert len(usable) >= 3 and all(prices[name].lowest_thinking for name in usable)


def test_a_retired_model_is_refused_from_its_day_on_with_what_to_take():
    prices = {"old": Price(1, 2, retired_on="2026-10-20", replacements=("new", "newer"))}
    for today in ("2026-10-20", "2026-11-26"):
        with pytest.raises(GeminiError, match="models/old-001 on 2026-10-20. Take new or newer"):
            ledgers.refuse_retired("models/old-001", prices, today)
    ledgers.refuse_retired("old", prices, "2026-10-19")
    ledgers.refuse_retired("unknown", prices)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.30/2.50", (0.3, 2.5, None)), ("$0/0", (0, 0, None))],
)
def test_a_price_given_by_hand(text, expected):
    price = ledgers.given_price(text)
    assert price[:3] == expected and price.date and "by hand" in price.source


@pytest.mark.parametrize("text", ["", "1", "1/2/3", "cheap/dear", "-1/2"])
def test_what_is_no_price_is_refused(text):
    with pytest.raises(ValueError):
        ledgers.given_price(text)


def test_nothing_is_paid_twice_whatever_happens(sdk, fake):
    rng, faults = (
        random.Random(0),
        [said for said, *_ in FAULTS.values() if said.then not in ("drip", "hang")],
    )
    client = client_for(fake, sdk, ledger=Ledger(100.0, PRICES))
    replies = 0
    for _ in range(25):
        fake.script = rng.sample(faults, rng.randint(0, 3)) + [answer()]
        try:
            client.ask("Hello?")
            replies += 1
        except GeminiError:
            pass
    states = [entry["state"] for entry in client.ledger.entries]
    assert fake.billed == replies == states.count("paid") and 5 < replies < 25
    assert len(fake.asked) == len(states)


def test_the_ledger_outlives_the_program(tmp_path, fake, sdk):
    path = tmp_path / "runs" / "ledger.jsonl"
    client_for(fake, sdk, ledger=Ledger(1.0, PRICES, path)).ask("Hello?")
    again = Ledger(1.0, PRICES, path)
    assert again.spent == pytest.approx(57e-6) and [entry["state"] for entry in again.entries] == [
        "paid"
    ]
    assert str(again) == "1 calls, 12 tokens, $0.0001 of $1.00"
    other = Ledger(1.0, PRICES, path)  # a second kernel on the same file
    other.reserve(MODEL, "x" * 1000, 0)
    assert again.reserve(MODEL, "", 0) and again.spent == pytest.approx(57e-6 + 0.001)


def test_a_killed_call_stays_at_the_most_it_can_have_cost(tmp_path, fake):
    fake.script, path = [Answer(then="hang", billed=True)], tmp_path / "ledger.jsonl"
    code = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
from lab_utils.gemini.client import *
ledger = Ledger(1.0, {{{MODEL!r}: Price(1.0, 10.0, None, "", "")}}, pathlib.Path({str(path)!r}))
where = dict(sdk="google-genai", model={MODEL!r}, base_url={fake.url!r})
client = connect({GOOD_KEY!r}, ledger=ledger, **where)
client.ask("Hello?", max_output_tokens=100)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "NO_PROXY": "127.0.0.1"}
    )
    within(60, lambda: wait_for(lambda: fake.asked))
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    ledger = Ledger(1.0, PRICES, path)
    assert ledger.spent == pytest.approx(
        (6 * 1 + 100 * 10) / 1e6
    ) and "1 more may have been billed" in str(ledger)


def wait_for(condition):
    while not condition():
        threading.Event().wait(0.02)


def test_a_line_that_a_kill_cut_off_costs_no_other_line(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(1.0, PRICES, path)
    first = ledger.reserve(MODEL, "x" * 100, 0)
    with path.open("ab") as file:
        file.write(b'{"id": "half", "co')
    again = Ledger(1.0, PRICES, path)
    second = again.reserve(MODEL, "x" * 100, 0)
    again.settle(second, 50, 0)
    for ledger in (again, Ledger(1.0, PRICES, path)):
        assert [entry["id"] for entry in ledger.entries] == [
            first,
            second,
        ] and ledger.spent == pytest.approx(150e-6)


# ---------------------------------------------------------------------------------------- keys
def test_the_key_is_stripped_and_the_order_is_colab_environment_question(monkeypatch):
    monkeypatch.setattr(keys, "colab_secret", lambda name: None)
    asked = []
    assert (
        keys.find_key(lambda text: asked.append(text) or f" {GOOD_KEY}\n").get_secret_value()
        == GOOD_KEY
    )
    monkeypatch.setenv("GOOGLE_API_KEY", "AIzaGOOGLE" + "x" * 20)
    assert keys.find_key().get_secret_value().startswith("AIzaGOOGLE")
    monkeypatch.setenv("GEMINI_API_KEY", "AQ.GEMINI" + "x" * 20)
    assert keys.find_key().get_secret_value().startswith("AQ.GEMINI")
    monkeypatch.setattr(keys, "colab_secret", {"GOOGLE_API_KEY": "AIzaCOLAB" + "x" * 20}.get)
    assert keys.find_key().get_secret_value().startswith("AIzaCOLAB")
    assert len(asked) == 1


def test_a_secret_of_colab_is_read_and_a_refusal_means_none(monkeypatch):
    colab, secrets = types.ModuleType("google.colab"), {"GEMINI_API_KEY": GOOD_KEY}
    # KeyError stands for SecretNotFoundError
    colab.userdata = types.SimpleNamespace(get=lambda name: secrets[name])
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert keys.find_key(None).get_secret_value() == GOOD_KEY
    assert keys.colab_secret("GOOGLE_API_KEY") is None


@pytest.mark.parametrize("ask", [None, lambda text: "", lambda text: 1 / 0])
def test_no_key_is_one_kind_of_error_and_asks_nobody_who_is_not_there(ask):
    with pytest.raises(KeyProblem) as caught:
        keys.find_key(ask)
    assert caught.value.kind == "no key" and "GEMINI_API_KEY" in str(caught.value)


DIRTY_KEYS = {
    "line break inside": "AIzaSECRETSECRET\nSECRETSECRETSECRET",
    "typographic quote": "\u201cAIzaSECRETSECRETSECRETSECRETSECRET\u201d",
    "straight quotes": '"AIzaSECRETSECRETSECRETSECRETSECRET"',
    "no-break space": "AIzaSECRETSECRET\u00a0SECRETSECRETSECRET",
    "zero width space": "AIzaSECRETSECRET\u200bSECRETSECRETSECRET",
    "assignment": "GEMINI_API_KEY=AIzaSECRETSECRETSECRETSECRET",
    "another company's": "sk-SECRETSECRETSECRETSECRETSECRETSECRET",
    "half a key": "AIzaSECRET",
    "null byte": "AIzaSECRETSECRET\x00SECRETSECRETSECRET",
}


@pytest.mark.parametrize("case", DIRTY_KEYS)
def test_a_dirty_key_is_refused_before_any_sdk_and_not_shown(case, fake, sdk, monkeypatch):
    monkeypatch.setattr(
        gemini, "SDKS", {name: lambda *_: pytest.fail("an SDK saw it") for name in SDKS}
    )
    for key in (DIRTY_KEYS[case], SecretStr(DIRTY_KEYS[case])):
        with pytest.raises(KeyProblem) as caught:
            connect(key, ledger=Ledger(1, PRICES), sdk=sdk, base_url=fake.url)
        assert caught.value.kind == "dirty key" and "SECRET" not in everything_about(caught.value)
    if "\x00" not in DIRTY_KEYS[case]:
        monkeypatch.setenv("GEMINI_API_KEY", DIRTY_KEYS[case])
        with pytest.raises(KeyProblem, match="environment variable GEMINI_API_KEY"):
            keys.find_key()
    with pytest.raises(KeyProblem, match="dirty key: what was typed"):
        monkeypatch.delenv("GEMINI_API_KEY", raising=False)
        keys.find_key(lambda text: DIRTY_KEYS[case])


def everything_about(problem: BaseException) -> str:
    """All that an error can say of itself: texts, attributes, the chain behind it, pickled, and as
    a traceback.
    """
    said = [
        str(problem),
        repr(problem),
        repr(vars(problem)),
        "".join(traceback.format_exception(problem)),
    ]
    said.append(pickle.dumps(problem).decode("latin-1"))
    for inner in (problem.__cause__, problem.__context__):
        if inner is not None:
            said.append(everything_about(inner))
    return "\n".join(said)


def frames_of(problem: BaseException) -> list:
    frames, at = [], problem.__traceback__
    while at:
        frames.append(at.tb_frame)
        at = at.tb_next
    return frames


class Listener(logging.Handler):
    """Keeps all that any library logs, with everything attached to a record."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.said = []

    def emit(self, record):
        self.said.append(f"{record.getMessage()} {vars(record)!r}")


@pytest.fixture
def logs():
    listener = Listener()
    # google's do not propagate
    levels = {logger: logger.level for logger in [logging.getLogger(), logging.getLogger("google")]}
    for logger in levels:
        logger.addHandler(listener)
        logger.setLevel(logging.DEBUG)
    yield listener.said
    for logger, level in levels.items():
        logger.removeHandler(listener)
        logger.setLevel(level)


ONE_OF_EACH_KIND = [
    "429 per day",
    "502 as HTML",
    "reset",
    "short body",
    "HTML",
    "silence",
    "bad key",
    "401",
    "503 in a list",
]


@pytest.mark.parametrize("case", [*ONE_OF_EACH_KIND, "the message holds the key", "nobody listens"])
def test_the_key_is_in_no_error_no_log_and_no_frame(fake, sdk, case, logs, capfd):
    echo = error(400, f"API key {GOOD_KEY} is wrong", "INVALID_ARGUMENT")
    said = FAULTS[case][0] if case in FAULTS else echo
    fake.script = [said] * 3
    client = client_for(
        fake if case != "nobody listens" else type("Nobody", (), {"url": "http://127.0.0.1:9"}),
        sdk,
        attempts=1,
        timeout=0.3 if said.then in ("drip", "hang") else 20.0,
    )
    with pytest.raises(GeminiError) as caught:
        client.ask("Hello?")
    problem = caught.value
    assert GOOD_KEY not in everything_about(problem)
    assert problem.__cause__ is None and problem.__context__ is None
    assert pickle.loads(pickle.dumps(problem)).kind == problem.kind
    for frame in frames_of(problem):  # what a debugger or a verbose traceback would show
        if frame.f_code.co_filename != __file__:
            assert "/google/" not in frame.f_code.co_filename and GOOD_KEY not in repr(
                frame.f_locals
            )
    assert logs and not [line for line in logs if GOOD_KEY in line]
    assert GOOD_KEY not in repr(client) + repr(vars(client)) + "".join(capfd.readouterr())


def test_a_client_is_never_pickled(fake, sdk):
    with pytest.raises(TypeError, match="holds a key"):
        pickle.dumps(client_for(fake, sdk))


def test_an_error_inside_an_sdk_shows_its_kind_and_no_key(fake, sdk, monkeypatch):
    client = client_for(fake, sdk)
    monkeypatch.setattr(client.service, "generate", lambda *_: {}[GOOD_KEY])
    with pytest.raises(GeminiError) as caught:
        client.ask("Hello?")
    assert caught.value.kind == "unexpected" and "KeyError" in str(caught.value)
    assert GOOD_KEY not in everything_about(caught.value)


WAYS = {  # how a key comes in: the cells that bring it
    "as an argument": ["text = pathlib.Path(FILE).read_text()", "connect(text, ledger=ledger)"],
    "through a function of the reader's": [
        "def go(text):\n    return connect(text, ledger=ledger)",
        "go(pathlib.Path(FILE).read_text())",
    ],
    "as a secret": [
        "from pydantic import SecretStr",
        "connect(SecretStr(pathlib.Path(FILE).read_text()), ledger=ledger)",
    ],
    "checked alone": ["keys.clean_key(pathlib.Path(FILE).read_text(), 'my key')"],
    "with a project": [
        "text = pathlib.Path(FILE).read_text()",
        "connect(text, ledger=ledger, project='p')",
    ],
    "for an unknown SDK": [
        "text = pathlib.Path(FILE).read_text()",
        "connect(text, ledger=ledger, sdk='openai')",
    ],
    "from the environment": [
        "os.environ['GEMINI_API_KEY'] = pathlib.Path(FILE).read_text()",
        "connect(ledger=ledger)",
    ],
    "from its other variable": [
        "os.environ['GOOGLE_API_KEY'] = pathlib.Path(FILE).read_text()",
        "keys.find_key()",
    ],
    "from Colab": [
        "colab = types.ModuleType('google.colab')",
        "colab.userdata = types.SimpleNamespace(get=lambda name: pathlib.Path(FILE).read_text())",
        "sys.modules['google.colab'] = colab",
        "connect(ledger=ledger)",
    ],
    "typed": [
        "import getpass",
        "keys.find_key(lambda prompt: pathlib.Path(FILE).read_text())",
    ],
    "as a service account": ["connect(ledger=ledger, project='p', credentials=FILE)"],
    "as application default credentials": [
        "os.environ['GOOGLE_APPLICATION_CREDENTIALS'] = FILE",
        "connect(ledger=ledger, project='p')",
    ],
}
START = f"""
%xmode Verbose
import logging, os, pathlib, sys, types
sys.path.insert(0, {str(ROOT)!r})
from lab_utils.gemini import keys
from lab_utils.gemini.client import *
logging.basicConfig(level=logging.DEBUG)
ledger = Ledger(1.0, {{{MODEL!r}: Price(1.0, 10.0)}})
def clean():
    for name in ('GEMINI_API_KEY', 'GOOGLE_API_KEY', 'GOOGLE_APPLICATION_CREDENTIALS'):
        os.environ.pop(name, None)
    sys.modules.pop('google.colab', None)
"""


def executed(cells, tmp_path, **environment):
    """(the saved notebook as text, the names of its errors) of cells that a kernel ran, all."""
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    env = {**os.environ, "NO_PROXY": "127.0.0.1", **environment}
    NotebookClient(notebook, timeout=60, allow_errors=True, kernel_name="python3").execute(env=env)
    nbformat.write(notebook, tmp_path / "executed.ipynb")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    names = [output.ename for output in outputs if output.output_type == "error"]
    return (tmp_path / "executed.ipynb").read_text(), names


def test_a_dirty_key_reaches_no_saved_notebook_whichever_way_it_came(tmp_path):
    (tmp_path / "dirty.txt").write_text(DIRTY)
    cells = [START + f"FILE = {str(tmp_path / 'dirty.txt')!r}"]
    for way in WAYS.values():
        cells += ["clean()", *way]
    cells += ["def divide(text):\n    return 1 / 0", "divide('DIRTY-' + 'control')"]
    text, names = executed(cells, tmp_path)
    expected = ["WrongUse" if way.startswith(("with", "for")) else "KeyProblem" for way in WAYS]
    assert names == [*expected, "ZeroDivisionError"]
    # as the error's value and as its traceback; four ways never come to look at the key
    assert text.count("U+201D") == 2 * (len(WAYS) - 4)
    assert "DIRTY-control" in text, "this notebook shows the values in a traceback"
    assert "DIRTY-key" not in text and "mnop" not in text


def bring(way: str, file, monkeypatch):
    """Runs the cells of a way here; returns the error."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, "")  # so that what the cells set is taken back
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "google.colab", None)
    names = {"os": os, "sys": sys, "types": types, "pathlib": pathlib, "keys": keys}
    names |= {"FILE": str(file), "connect": connect, "ledger": Ledger(1.0, PRICES)}
    with pytest.raises(GeminiError) as caught:
        exec("\n".join(WAYS[way]), names)
    return caught.value


@pytest.mark.parametrize("way", WAYS)
def test_no_frame_of_the_kit_holds_a_dirty_key_as_plain_text(way, tmp_path, monkeypatch):
    (tmp_path / "dirty.txt").write_text(DIRTY)
    problem = bring(way, tmp_path / "dirty.txt", monkeypatch)
    assert "DIRTY-key" not in everything_about(problem)
    assert problem.__cause__ is None and problem.__context__ is None
    ours = [f for f in frames_of(problem) if "lab_utils" in f.f_code.co_filename]
    assert ours
    for frame in ours:
        assert "DIRTY-key" not in repr(frame.f_locals), frame.f_code.co_name


def test_a_good_key_reaches_no_saved_notebook(tmp_path, fake):
    """Not by what the service says, nor by an error that passes through our frames."""
    (tmp_path / "good.txt").write_text(GOOD_KEY)
    fake.script = [error(400, f"API key not valid: {GOOD_KEY}"), Answer(then="reset")] * 2
    fake.script += [error(503, "busy")] * 2
    where = f"model={MODEL!r}, base_url={fake.url!r}"
    cells = [START, f"os.environ['GEMINI_API_KEY'] = open({str(tmp_path / 'good.txt')!r}).read()"]
    cells += ["key = keys.find_key(); print(key); key"]
    for sdk in SDKS:
        cells += [f"client = connect(key, ledger=ledger, sdk={sdk!r}, {where}); client"]
        cells += ["client.ask('Hello?')", "client.ask('Hello?')", "vars(client)"]
        cells += ["client.patience = Patience(tell=lambda text: 1 / 0)"]
    cells += ["client.ask('Hello?')", "client.ledger = None\nclient.ask('Hello?')"]
    text, names = executed(cells, tmp_path)
    passing = ["ZeroDivisionError", "AttributeError"]
    assert names == ["KeyProblem", "GeminiError"] * 2 + passing
    assert "before_sleep" in text and GOOD_KEY not in text
