"""Both SDKs over HTTP against a fake server on loopback: the same outcome for every fault, nothing
paid twice, no key shown.
"""

import functools
import json
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import traceback
import types
import warnings

import nbformat
import pytest
from fake_gemini import (
    GOOD_KEY,
    Answer,
    FakeGemini,
    answer,
    as_json,
    blocked,
    error,
    error_info,
    per_day,
    per_minute,
    quota_failure,
    retry_info,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from lab_utils.files import ROOT
from lab_utils.gemini import client as gemini
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

MODEL = "gemini-2.5-flash"
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
        *gemini.KEY_NAMES,
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
    "two parts": (
        as_json(
            {
                "candidates": [
                    {"content": {"parts": [{"text": "Fe"}, {"text": "ta"}]}, "finishReason": "STOP"}
                ],
                "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 3},
            }
        ),
        ("Feta", "STOP", 1, 2),
    ),
}
FAULTS = {
    "429 per minute": (per_minute(), GeminiError, "rate limit"),
    "429 per day": (per_day(), QuotaExhausted, "quota per day"),
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
    assert reply.model == MODEL and len(fake.asked) == 1
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
    unsure = kind in gemini.UNSURE
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


def test_enums_sent_as_numbers_are_read_too(fake):
    fake.script = [answer(finish=2), answer(finish=99)]  # the older SDK asks for numbers
    client = client_for(fake, "google-generativeai")
    assert [client.ask("Hello?").finish_reason for _ in range(2)] == ["MAX_TOKENS", "OTHER"]


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
        "gemini-2.5-flash",
        "gemini-2.5-flash-lite",
        "gemini-2.5-pro",
        "gemini-3-flash-preview",
    ]
    assert client.ask("Hello?").model == "gemini-2.5-flash"
    fake.models = ()
    client.model = ""
    with pytest.raises(GeminiError, match="no model"):
        client.ask("Hello?")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["models/gemini-2.5-flash", "models/gemini-3.8-flash"],
            "gemini-2.5-flash",
        ),  # its price is known
        (
            ["models/gemini-3.5-flash", "models/gemini-3.10-flash", "models/gemini-3.9-flash-lite"],
            "gemini-3.10-flash",
        ),
        (["models/gemini-4-pro", "models/gemini-4-flash-lite"], "gemini-4-flash-lite"),
        (["models/gemini-9-something"], "gemini-9-something"),
    ],
)
def test_choose_model(names, expected):
    assert gemini.choose_model(names, PRICES) == expected


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
    assert gemini.read_delay(None, headers, now=noon) == seconds
    assert (
        gemini.read_delay(
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
    assert isinstance(gemini.error_of_status(status, body, {}), GeminiError)


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
    assert gemini.price_of("models/gemini-2.5-flash-001", PRICES) is PRICES[MODEL]
    with pytest.raises(GeminiError):
        gemini.price_of("gemini-2.5-flash-lite", PRICES)


def test_the_table_that_ships_says_its_date_and_source():
    prices = gemini.load_prices()
    assert len(prices) >= 2 and any(price.tuning for price in prices.values())
    assert all(
        price.date == "2026-11" and "example" in price.source.lower() for price in prices.values()
    )
    assert all(0 < price.input < price.output for price in prices.values())


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
client = connect({GOOD_KEY!r}, ledger=ledger, sdk="google-genai", model={MODEL!r}, base_url={fake.url!r})
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
    monkeypatch.setattr(gemini, "colab_secret", lambda name: None)
    asked = []
    assert (
        gemini.find_key(lambda text: asked.append(text) or f" {GOOD_KEY}\n").get_secret_value()
        == GOOD_KEY
    )
    monkeypatch.setenv("GOOGLE_API_KEY", "AIzaGOOGLE" + "x" * 20)
    assert gemini.find_key().get_secret_value().startswith("AIzaGOOGLE")
    monkeypatch.setenv("GEMINI_API_KEY", "AQ.GEMINI" + "x" * 20)
    assert gemini.find_key().get_secret_value().startswith("AQ.GEMINI")
    monkeypatch.setattr(gemini, "colab_secret", {"GOOGLE_API_KEY": "AIzaCOLAB" + "x" * 20}.get)
    assert gemini.find_key().get_secret_value().startswith("AIzaCOLAB")
    assert len(asked) == 1


def test_a_secret_of_colab_is_read_and_a_refusal_means_none(monkeypatch):
    colab, secrets = types.ModuleType("google.colab"), {"GEMINI_API_KEY": GOOD_KEY}
    # KeyError stands for SecretNotFoundError
    colab.userdata = types.SimpleNamespace(get=lambda name: secrets[name])
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert gemini.find_key(None).get_secret_value() == GOOD_KEY
    assert gemini.colab_secret("GOOGLE_API_KEY") is None


@pytest.mark.parametrize("ask", [None, lambda text: "", lambda text: 1 / 0])
def test_no_key_is_one_kind_of_error_and_asks_nobody_who_is_not_there(ask):
    with pytest.raises(KeyProblem) as caught:
        gemini.find_key(ask)
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
            gemini.find_key()
    with pytest.raises(KeyProblem, match="dirty key: what was typed"):
        monkeypatch.delenv("GEMINI_API_KEY", raising=False)
        gemini.find_key(lambda text: DIRTY_KEYS[case])


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


def test_an_error_inside_an_sdk_shows_its_kind_and_no_key(fake, sdk):
    client = client_for(fake, sdk)
    client.service.generate = lambda *_: {}[GOOD_KEY]
    with pytest.raises(GeminiError) as caught:
        client.ask("Hello?")
    assert caught.value.kind == "unexpected" and "KeyError" in str(caught.value)
    assert GOOD_KEY not in everything_about(caught.value)


def test_an_executed_notebook_holds_no_key(tmp_path, fake):
    from nbclient import NotebookClient

    fake.script = [error(400, f"API key not valid: {GOOD_KEY}"), Answer(then="reset")] * 2
    start = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport os, logging; "
        "logging.basicConfig(level=logging.DEBUG)\nfrom lab_utils.gemini.client import *"
    )
    cells = [
        start,
        "connect(ledger=Ledger(1.0))",
        f"os.environ['GEMINI_API_KEY'] = open({str(tmp_path / 'good.txt')!r}).read(); key = "
        "find_key(); print(key); key",
    ]
    for sdk in SDKS:
        cells += [
            f"client = connect(key, ledger=Ledger(1.0), sdk={sdk!r}, model={MODEL!r}, "
            f"base_url={fake.url!r}); client",
            "client.ask('Hello?')",
            "client.ask('Hello?')",
            "vars(client)",
        ]
    (tmp_path / "good.txt").write_text(GOOD_KEY)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    env = {**os.environ, "GEMINI_API_KEY": DIRTY, "NO_PROXY": "127.0.0.1"}
    NotebookClient(notebook, timeout=60, allow_errors=True, kernel_name="python3").execute(env=env)
    nbformat.write(notebook, tmp_path / "executed.ipynb")
    text = (tmp_path / "executed.ipynb").read_text()
    errors = [
        output.ename
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    assert errors == ["KeyProblem"] + ["KeyProblem", "GeminiError"] * 2 and "U+201D" in text
    assert GOOD_KEY not in text and "DIRTY-key" not in text and "mnop" not in text
