"""Jobs through google-genai against the fake server, and simulated: started, watched, asked."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from fake_gemini import TOKEN, Answer, FakeGemini, answer, error
from hypothesis import given
from hypothesis import strategies as st
from tuning_rows import GOOD, file_of

from lab_utils.files import ROOT
from lab_utils.gemini import simulated
from lab_utils.gemini import tuning as gt
from lab_utils.gemini.client import GeminiError, KeyProblem, Patience, Price, WrongUse
from lab_utils.gemini.command import service_of
from lab_utils.gemini.ledger import load_prices
from lab_utils.gemini.simulated import SimulatedJob, SimulatedTuning
from lab_utils.gemini.tuning import TuningSpec, VertexTuning

SPEC = TuningSpec(
    "gemini-3.1-flash-lite",
    "gs://bucket/train.jsonl",
    epochs=2,
    adapter_size=8,
    learning_rate_multiplier=0.5,
)


# ---------------------------------------------------------------------------------------- the model
def test_the_cheapest_model_that_can_be_tuned_today():
    prices = {
        "a": Price(1, 1, tunable=True),
        "b": Price(1, 9, 5.0, tunable=True),
        "c": Price(9, 8, 2.0, tunable=True, retired_on="2026-10-20", replacements=("b",)),
        "d": Price(1, 1, 1.0),
    }
    assert gt.tunable_models(prices, "2026-10-19") == ["c", "b", "a"]
    assert gt.tunable_models(prices, "2026-10-20") == ["b", "a"]
    assert gt.default_model(prices, "2026-11-26") == "b"
    with pytest.raises(GeminiError, match="retired c on 2026-10-20. Take b"):
        gt.default_model({"c": prices["c"]}, "2026-11-26")
    with pytest.raises(GeminiError, match="no model"):
        gt.default_model({"d": prices["d"]})


def test_the_table_that_ships_has_a_default_that_is_not_retired():
    prices = load_prices()
    assert prices[gt.default_model(prices)].retired_on == ""
    assert gt.default_model(prices, "2026-11-26") == "gemini-3.1-flash-lite"


@pytest.mark.parametrize(
    "change", [{"adapter_size": 3}, {"epochs": 0}, {"learning_rate_multiplier": 0.0}]
)
def test_a_wrong_spec_is_refused(change):
    with pytest.raises(ValueError):
        dataclasses.replace(SPEC, **change)


# ----------------------------------------------------------------------------------- the simulation
def states(jobs):
    return [job.state for job in jobs]


def test_a_simulated_job_runs_and_bills_what_it_read():
    jobs = simulated.simulate(2, 1000, steps=5)
    assert states(jobs) == ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
    assert [job.billed_tokens for job in jobs] == [0, 0, 1000, 2000, 2000, 2000]


@pytest.mark.parametrize(
    ("events", "expected", "billed"),
    [
        ({1: "cancel"}, ["PENDING", "CANCELLED", "CANCELLED", "CANCELLED", "CANCELLED"], 0),
        ({3: "cancel"}, ["PENDING", "RUNNING", "RUNNING", "CANCELLING", "CANCELLED"], 1000),
        ({3: "bad row"}, ["PENDING", "RUNNING", "RUNNING", "FAILED", "FAILED"], 1000),
        ({1: "bad row", 2: "bad row"}, ["PENDING", "RUNNING", "FAILED", "FAILED", "FAILED"], 0),
        ({4: "cancel"}, ["PENDING", "RUNNING", "RUNNING", "RUNNING", "CANCELLING"], 2000),
    ],
)
def test_a_simulated_job_is_cancelled_or_fails(events, expected, billed):
    jobs = simulated.simulate(3, 1000, events, steps=4)
    assert states(jobs) == expected and jobs[-1].billed_tokens == billed


@given(st.lists(st.sampled_from(["wait", "cancel", "bad row"]), max_size=12), st.integers(1, 5))
def test_a_finished_job_stays_so_and_the_bill_never_falls(events, epochs):
    job = SimulatedJob(epochs, 10)
    for event in events:
        after = job.step(event)
        assert after == job or job.state not in gt.FINISHED
        assert (
            0 <= after.billed_tokens - job.billed_tokens <= 10
            and after.billed_tokens <= 10 * epochs
        )
        job = after
    with pytest.raises(ValueError, match="bad row"):
        job.step("explode")


def test_all_that_a_simulation_says_is_labelled():
    service = SimulatedTuning(tokens=1000)
    job = service.start(SPEC, "label")
    looks = [
        job,
        *gt.watch(service, job, sleep=lambda seconds: None),
        service.get(job.name),
        service.find("label"),
    ]
    assert all(look.simulated and str(look).startswith("SIMULATED") for look in looks)
    assert (
        looks[-1].state == "SUCCEEDED"
        and looks[-1].billable_tokens == 2000
        and looks[-1].endpoint == ""
    )
    assert service.upload(ROOT / "README.md", "bucket").startswith("simulated://")
    assert service.find("other") is None
    with pytest.raises(GeminiError, match="no model behind"):
        service.client(looks[-1], 1.0, Price(1, 1, 1, "", ""))
    with pytest.raises(GeminiError, match="kernel"):
        SimulatedTuning(tokens=1).get(job.name)


# ------------------------------------------------------------------------------------- confirmation
def test_only_the_amount_typed_starts_anything():
    asked = []
    gt.confirm_spending(1.236, "The job", lambda text: asked.append(text) or " spend 1.24\n")
    assert "real money" in asked[0] and "spend 1.24" in asked[0]
    for typed in ("", "y", "yes", "spend", "spend 1.23", "1.24", "SPEND 1.24"):
        with pytest.raises(GeminiError, match="not confirmed"):
            gt.confirm_spending(1.236, "The job", lambda text, typed=typed: typed)
    with pytest.raises(GeminiError, match="not confirmed"):  # nobody there
        gt.confirm_spending(1.236, "The job", lambda text: 1 / 0)


# -------------------------------------------------------------------------------------- the service
@pytest.fixture(scope="module")
def server():
    with FakeGemini() as server:
        yield server


@pytest.fixture
def fake(server, monkeypatch):
    for name in (
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_CLOUD_LOCATION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.forget()
    return server


def credentials():
    from google.oauth2.credentials import Credentials

    return Credentials(token=TOKEN)


@pytest.fixture
def vertex(fake):
    patience = Patience(timeout=20, sleep=lambda seconds: None)
    return VertexTuning("project", "us-central1", credentials(), fake.url, fake.url, patience)


def at_once(service, job):
    return [look.state for look in gt.watch(service, job, sleep=lambda seconds: None)]


def test_upload_start_watch_and_ask(fake, vertex, tmp_path):
    path = file_of(tmp_path, GOOD)
    assert vertex.upload(path, "bucket") == "gs://bucket/train.jsonl"
    assert vertex.upload(path, "bucket", "a b/c/") == "gs://bucket/a b/c/train.jsonl"
    assert set(fake.uploads.values()) == {path.read_bytes()} and len(fake.uploads) == 2
    job = vertex.start(SPEC, "my label")
    body = json.loads(fake.started[0]["body"])
    assert (
        body["baseModel"] == "gemini-3.1-flash-lite" and body["tunedModelDisplayName"] == "my label"
    )
    assert body["supervisedTuningSpec"] == {
        "trainingDatasetUri": "gs://bucket/train.jsonl",
        "hyperParameters": {
            "epochCount": 2,
            "learningRateMultiplier": 0.5,
            "adapterSize": "ADAPTER_SIZE_EIGHT",
        },
    }
    assert fake.started[0]["headers"]["Authorization"] == f"Bearer {TOKEN}"
    assert at_once(vertex, job) == ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    job = vertex.get(job.name)
    assert (
        job.endpoint.endswith("/endpoints/22") and job.billable_tokens == 1234 and not job.simulated
    )
    fake.script = [answer("Welcome, welcome, welcome!")]
    client = vertex.client(job, 0.5, Price(1.0, 10.0, None, "", ""))
    assert client.ask("Where is Feta made?", json_mode=False).text == "Welcome, welcome, welcome!"
    assert fake.asked[0]["path"] == f"/v1beta1/{job.endpoint}:generateContent"
    assert client.ledger.spent == pytest.approx(57e-6)


PRICE = Price(1.0, 10.0)


@pytest.mark.parametrize(
    ("tuned_in", "price", "serving", "asked_in"),
    [
        ("us-central1", PRICE, "", "us-central1"),
        ("us-central1", load_prices()["gemini-3.1-flash-lite"], "", "us"),
        ("europe-west4", load_prices()["gemini-3.1-flash-lite"], "", "eu"),
        ("us", load_prices()["gemini-3.1-flash-lite"], "", "us"),
        ("us-central1", load_prices()["gemini-3.1-flash-lite"], "global", "global"),
        ("us-central1", PRICE, "eu", "eu"),
    ],
)
def test_a_tuned_model_is_asked_where_it_is_served(
    fake, vertex, tuned_in, price, serving, asked_in
):
    endpoint = f"projects/123/locations/{tuned_in}/endpoints/22"  # not started by this kit
    client = vertex.endpoint_client(endpoint, 0.5, price, serving)
    assert client.ask("Hello?", json_mode=False).text
    path = f"/v1beta1/projects/123/locations/{asked_in}/endpoints/22:generateContent"
    assert fake.asked[0]["path"] == path
    assert client.service.client._api_client.location == asked_in


@pytest.mark.parametrize(
    ("lowest", "sent"),
    [
        ("MINIMAL", {"thinking_level": "MINIMAL"}),
        (0, {"thinking_budget": 0}),
        (128, {"thinking_budget": 128}),
        ("", None),
    ],
)
def test_a_tuned_model_is_asked_with_the_lowest_thinking(fake, vertex, lowest, sent):
    price = PRICE._replace(lowest_thinking=lowest)
    client = vertex.endpoint_client("projects/1/locations/us-central1/endpoints/2", 0.5, price)
    client.ask("Hello?", json_mode=False)
    settings = json.loads(fake.asked[0]["body"])["generationConfig"]
    assert settings.get("thinkingConfig") == sent


def test_a_wrong_region_says_what_to_try_and_a_wrong_name_what_is_expected(fake, vertex):
    fake.script = [error(404, "Endpoint not found.", "NOT_FOUND")]
    client = vertex.endpoint_client("projects/1/locations/us-central1/endpoints/2", 0.5, PRICE)
    with pytest.raises(GeminiError, match="--serving-location"):
        client.ask("Hello?")
    for name in ("22", "projects/1/endpoints/2", "gemini-3.5-flash"):
        with pytest.raises(WrongUse, match="projects/PROJECT/locations/REGION"):
            vertex.endpoint_client(name, 0.5, PRICE)


def test_a_job_that_fails_says_why_and_cannot_be_asked(fake, vertex):
    fake.job_path = ["PENDING", "RUNNING", "FAILED"]
    job = vertex.start(SPEC, "label")
    assert at_once(vertex, job)[-1] == "FAILED"
    job = vertex.get(job.name)
    assert job.error == "Row: 5. Invalid role in contents." and job.error in str(job)
    with pytest.raises(GeminiError, match="not ready"):
        vertex.client(job, 1.0, Price(1, 1, 1, "", ""))


def test_a_job_is_cancelled(fake, vertex):
    job = vertex.start(SPEC, "label")
    assert vertex.cancel(job.name).state == "CANCELLING"
    assert at_once(vertex, vertex.get(job.name))[-1] == "CANCELLED"
    assert [r["path"] for r in fake.requests if r["path"].endswith(":cancel")] == [
        f"/v1beta1/{job.name}:cancel"
    ]


def test_a_validation_file_goes_along(fake, vertex):
    vertex.start(dataclasses.replace(SPEC, validation="gs://bucket/val.jsonl"), "label")
    assert (
        json.loads(fake.started[0]["body"])["supervisedTuningSpec"]["validationDatasetUri"]
        == "gs://bucket/val.jsonl"
    )


@pytest.mark.parametrize(
    "lost",
    [
        Answer(then="reset"),
        Answer(then="close"),
        Answer(b"{"),
        Answer(b"<html>"),
        error(503, "busy"),
    ],
)
def test_a_start_whose_answer_is_lost_is_found_and_not_repeated(fake, vertex, lost):
    fake.on_start = lost  # the job was made, and nobody heard of it
    job = vertex.start(SPEC, "label")
    assert len(fake.started) == 1 and job.name == next(iter(fake.jobs))


def test_a_start_that_was_refused_says_why(fake, vertex):
    fake.tuning = lambda method, path, body: (
        error(403, "billing is off") if method == "POST" else Answer(b"{}")
    )
    try:
        with pytest.raises(GeminiError, match="billing is off"):
            vertex.start(SPEC, "label")
        assert len(fake.started) == 1
    finally:
        del fake.tuning


def test_looking_survives_a_bad_network(fake, vertex, monkeypatch):
    job = vertex.start(SPEC, "label")
    real, faults = fake.tuning, [Answer(then="reset"), error(503, "busy"), Answer(b"<html>")]
    monkeypatch.setattr(fake, "tuning", lambda *request: faults.pop() if faults else real(*request))
    assert at_once(vertex, job)[-1] == "SUCCEEDED" and not faults


def test_silence_ends_in_time_and_shows_no_token(fake):
    service = VertexTuning(
        "project",
        "us-central1",
        credentials(),
        fake.url,
        fake.url,
        Patience(timeout=0.3, attempts=2, sleep=lambda seconds: None),
    )
    fake.tuning = lambda *request: Answer(then="hang")
    problems = []

    def look():
        try:
            service.get("projects/p/locations/l/tuningJobs/1")
        except GeminiError as problem:
            problems.append(problem)

    thread = threading.Thread(target=look, daemon=True)
    try:
        thread.start()
        thread.join(15)
        assert not thread.is_alive() and problems[0].kind == "timeout"
        assert problems[0].__context__ is None and "FAKE-TOKEN" not in repr(problems[0])
    finally:
        del fake.tuning


def test_upload_that_is_refused(fake, vertex, tmp_path, monkeypatch):
    monkeypatch.setattr(
        fake, "reply_to", lambda *_: error(403, "no access to this bucket", "PERMISSION_DENIED")
    )
    with pytest.raises(GeminiError, match="no access to this bucket"):
        vertex.upload(file_of(tmp_path, GOOD), "bucket")


def test_without_a_project_or_credentials_it_says_so(fake, monkeypatch, tmp_path):
    with pytest.raises(KeyProblem, match="GOOGLE_CLOUD_PROJECT"):
        service_of()
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(KeyProblem, match="gcloud auth application-default login") as caught:
        service_of()
    assert caught.value.__context__ is None


# ------------------------------------------------------------------------------------- started once
def never():
    raise AssertionError("it asked for money again")


def test_a_job_is_started_once_and_found_again(fake, vertex, tmp_path):
    record, asked = tmp_path / "runs" / "job.json", []
    job = gt.start_once(vertex, SPEC, record, lambda: asked.append(1))
    again = gt.start_once(vertex, SPEC, record, never)
    assert again.name == job.name and len(fake.started) == 1 and asked == [1]
    assert [r["path"] for r in fake.requests if r["method"] == "GET"] == [f"/v1beta1/{job.name}"], (
        "found by name, not by search"
    )


@pytest.mark.parametrize(
    "change", [{"epochs": 3}, {"sha256": "of other data"}, {"validation": "gs://b/v.jsonl"}]
)
def test_another_spec_or_other_data_are_another_job(fake, vertex, tmp_path, change):
    record, asked, other = tmp_path / "jobs.jsonl", [], dataclasses.replace(SPEC, **change)
    first = gt.start_once(vertex, SPEC, record, lambda: asked.append(1))
    second = gt.start_once(vertex, other, record, lambda: asked.append(2))
    assert asked == [1, 2] and first.name != second.name
    # and each is found again
    assert gt.start_once(vertex, SPEC, record, never).name == first.name
    assert gt.start_once(vertex, other, record, never).name == second.name
    assert [entry["job"] for entry in gt.recorded(record)] == [first.name, second.name]


@pytest.mark.parametrize("ended", ["FAILED", "CANCELLED", "EXPIRED"])
def test_a_job_that_ended_without_a_model_is_started_again(fake, vertex, tmp_path, ended):
    record, asked = tmp_path / "jobs.jsonl", []
    fake.job_path = ["PENDING", ended]
    job = gt.start_once(vertex, SPEC, record, lambda: asked.append(1))
    assert at_once(vertex, job)[-1] == ended
    fake.job_path = ["PENDING", "RUNNING", "SUCCEEDED"]
    again = gt.start_once(vertex, SPEC, record, lambda: asked.append(2))
    assert again.name != job.name and asked == [1, 2]
    assert at_once(vertex, again)[-1] == "SUCCEEDED"
    assert gt.start_once(vertex, SPEC, record, never).name == again.name
    assert len(fake.started) == 2


def test_a_job_that_is_being_cancelled_is_not_started_twice(fake, vertex, tmp_path):
    record = tmp_path / "jobs.jsonl"
    job = gt.start_once(vertex, SPEC, record, lambda: None)
    assert vertex.cancel(job.name).state == "CANCELLING"
    fake.jobs[job.name].path[:] = ["CANCELLING"]
    assert gt.start_once(vertex, SPEC, record, never).name == job.name


def test_without_confirmation_nothing_is_sent_or_recorded(fake, vertex, tmp_path):
    record = tmp_path / "job.json"
    with pytest.raises(GeminiError, match="not confirmed"):
        gt.start_once(
            vertex, SPEC, record, lambda: gt.confirm_spending(1.0, "The job", lambda text: "no")
        )
    assert fake.requests == [] and not record.exists()


def test_a_start_that_never_arrived_asks_again(fake, vertex, tmp_path):
    record = tmp_path / "job.json"
    entry = {"label": "lost", "spec": dataclasses.asdict(SPEC), "job": ""}
    record.write_text(json.dumps(entry) + "\n")
    asked = []
    gt.start_once(vertex, SPEC, record, lambda: asked.append(1))
    assert asked == [1] and len(fake.started) == 1


KILLED = """
import pathlib, sys
sys.path[:0] = [{root!r}]
from google.oauth2.credentials import Credentials
from lab_utils.gemini.tuning import *
service = VertexTuning("project", "us-central1", Credentials(token="t"), {url!r}, {url!r})
spec = TuningSpec("gemini-3.1-flash-lite", "gs://bucket/train.jsonl")
job = start_once(service, spec, pathlib.Path({record!r}), lambda: None)
for look in watch(service, job, every=0.05):
    print(look.state, flush=True)
"""


@pytest.mark.parametrize("moment", ["while the start is not answered", "while watching"])
def test_a_killed_program_goes_on_watching_the_same_job(fake, tmp_path, moment):
    record = tmp_path / "job.json"
    fake.job_path = ["PENDING"] + ["RUNNING"] * 10_000
    fake.on_start = Answer(then="hang") if moment.endswith("answered") else None
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(root=str(ROOT), url=fake.url, record=str(record))],
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if fake.on_start:
        for _ in range(3000):
            if fake.started:
                break
            threading.Event().wait(0.02)
    else:
        assert [process.stdout.readline().strip() for _ in range(3)][-1] == "RUNNING"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    fake.on_start, (job,) = None, fake.jobs.values()
    job.path[:] = ["RUNNING", "SUCCEEDED"]
    service = VertexTuning("project", "us-central1", credentials(), fake.url, fake.url)
    spec = TuningSpec("gemini-3.1-flash-lite", "gs://bucket/train.jsonl")
    assert at_once(service, gt.start_once(service, spec, record, never))[-1] == "SUCCEEDED"
    assert len(fake.started) == 1
