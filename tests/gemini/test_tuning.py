"""The tuning file and its rules, its cost, and jobs: through google-genai against the fake server,
and simulated.
"""

import argparse
import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from fake_gemini import Answer, FakeGemini, answer, error
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.files import ROOT, LabKitError
from lab_utils.gemini import tuning as gt
from lab_utils.gemini.client import GeminiError, KeyProblem, Patience, Price
from lab_utils.gemini.tuning import Job, SimulatedJob, SimulatedTuning, TuningSpec, VertexTuning

GOOD = {
    "contents": [
        {"role": "user", "parts": [{"text": "Where is Feta made?"}]},
        {"role": "model", "parts": [{"text": "Feta is made in Greece."}]},
    ]
}
SPEC = TuningSpec(
    "gemini-2.5-flash",
    "gs://bucket/train.jsonl",
    epochs=2,
    adapter_size=8,
    learning_rate_multiplier=0.5,
)


def changed(**fields):
    return {**GOOD, **fields}


def turns(*roles):
    return changed(contents=[{"role": role, "parts": [{"text": "text"}]} for role in roles])


# ---------------------------------------------------------------------------------------- rows
GOOD_ROWS = {
    "one turn": GOOD,
    "two turns": turns("user", "model", "user", "model"),
    "with a system instruction": changed(
        systemInstruction={"role": "system", "parts": [{"text": "You are Pavlos."}]}
    ),
    "without the system's role": changed(
        systemInstruction={"parts": [{"text": "You are Pavlos."}]}
    ),
    "two parts": changed(
        contents=[
            {"role": "user", "parts": [{"text": "Where"}, {"text": "?"}]},
            GOOD["contents"][1],
        ]
    ),
}
BAD_ROWS = {  # row: what the problem must say
    "a list": ([GOOD], "one object, this is a list"),
    "a text": ("Where?", "one object, this is a str"),
    "nothing": ({}, "contents should be a list"),
    "no messages": (changed(contents=[]), "contents should be a list"),
    "contents is an object": (changed(contents=GOOD["contents"][0]), "contents should be a list"),
    "another trainer's format": (
        {"messages": [{"role": "user", "content": "Where?"}]},
        "the field is called contents",
    ),
    "snake case": (changed(system_instruction={"parts": []}), "write systemInstruction"),
    "prompt and completion": ({"prompt": "a", "completion": "b"}, "'completion' is not known"),
    "assistant": (turns("user", "assistant"), "what others call assistant is model"),
    "system as a turn": (turns("system", "user", "model"), "contents[0] has the role 'system'"),
    "no role": (
        changed(contents=[{"parts": [{"text": "a"}]}, GOOD["contents"][1]]),
        "contents[0] has the role None",
    ),
    "question last": (turns("user"), "the model has the last word"),
    "model first": (turns("model", "user"), "take turns"),
    "twice the user": (turns("user", "user", "model"), "take turns"),
    "no parts": (
        changed(contents=[{"role": "user"}, GOOD["contents"][1]]),
        "contents[0] has no parts",
    ),
    "empty parts": (
        changed(contents=[GOOD["contents"][0], {"role": "model", "parts": []}]),
        "contents[1] has no parts",
    ),
    "parts is text": (
        changed(contents=[{"role": "user", "parts": "Where?"}, GOOD["contents"][1]]),
        "contents[0] has no parts",
    ),
    "an image": (
        changed(contents=[{"role": "user", "parts": [{"fileData": {}}]}, GOOD["contents"][1]]),
        "part without text",
    ),
    "a number": (
        changed(contents=[{"role": "user", "parts": [{"text": 7}]}, GOOD["contents"][1]]),
        "part without text",
    ),
    "only spaces": (
        changed(contents=[GOOD["contents"][0], {"role": "model", "parts": [{"text": " \n"}]}]),
        "[1] is empty",
    ),
    "message is a text": (
        changed(contents=["Where?", "Greece."]),
        "contents[0] should be an object",
    ),
    "system is a text": (
        changed(systemInstruction="You are Pavlos."),
        "systemInstruction should be an object",
    ),
    "system with a user's role": (
        changed(systemInstruction=GOOD["contents"][0]),
        "systemInstruction has the role 'user'",
    ),
    "too long": (
        changed(
            contents=[
                GOOD["contents"][0],
                {"role": "model", "parts": [{"text": "x" * 4 * 131_072}]},
            ]
        ),
        "131,072",
    ),
}


@pytest.mark.parametrize("case", GOOD_ROWS)
def test_good_rows_pass(case):
    assert gt.check_row(GOOD_ROWS[case]) == []


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_told_why(case):
    row, said = BAD_ROWS[case]
    assert any(said in problem for problem in gt.check_row(row)), gt.check_row(row)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["contents", "systemInstruction", "role", "parts", "text", "x"]), inner
        )
    ),
)


@settings(max_examples=50)
@given(JSON)
def test_any_json_is_judged_without_a_crash(row):
    problems = gt.check_row(row)
    assert all(isinstance(problem, str) for problem in problems)
    assert problems or {"user", "model"} == {content["role"] for content in row["contents"]}


def test_tokens_of_a_row_are_a_quarter_of_its_letters():
    # 3 + ceil(19 / 4) + ceil(23 / 4)
    row = changed(systemInstruction={"parts": [{"text": "x" * 9}]})
    assert gt.row_tokens(row) == 3 + 5 + 6


# ---------------------------------------------------------------------------------------- files
def file_of(tmp_path, *lines):
    path = tmp_path / "train.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        + b"\n"
    )
    return path


def test_a_file_is_judged_line_by_line(tmp_path):
    half = (
        b'{"contents": [{"role": "user", "parts": [{"text": "\\ud83e"}]}, {"role": "model", '
        b'"parts": [{"text": "a"}]}]}'
    )
    path = file_of(
        tmp_path,
        GOOD,
        b"",
        b'{"contents": [',
        half,
        b"\xff\xfe{}",
        turns("user", "assistant"),
        turns("user", "model"),
        GOOD,
    )
    report = gt.check_file(path)
    assert [(p.line, p.message.split(":")[0]) for p in report.problems] == [
        (0, "8 rows"),
        (2, "an empty line"),
        (3, "not JSON"),
        (4, "not UTF-8"),
        (5, "not UTF-8"),
        (6, "contents[1] has the role 'assistant', expected 'user' or 'model'"),
        (8, "the same as line 1"),
    ]
    assert report.rows == 8 and report.tokens == 2 * (5 + 6) + 2 and not report.ok
    assert (
        "NOT GOOD" in str(report)
        and "wrong, line 6" in str(report)
        and "warning, line 8" in str(report)
    )


def test_a_byte_order_mark_and_a_json_array_are_named(tmp_path):
    assert "byte order mark" in str(
        gt.check_file(file_of(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode()))
    )
    assert "this is a list" in str(gt.check_file(file_of(tmp_path, [GOOD, GOOD])))


def test_an_empty_file_is_not_good(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")
    assert not gt.check_file(path).ok
    with pytest.raises(FileNotFoundError):
        gt.check_file(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("rows", "validation", "said", "warning"),
    [
        (99, False, "at least 100", True),
        (100, False, "", None),
        (1_000_000, False, "", None),
        (1_000_001, False, "1,000,000", False),
        (1, True, "", None),
        (5_000, True, "", None),
        (5_001, True, "5,000", False),
    ],
)
def test_the_number_of_rows(rows, validation, said, warning):
    problems = gt.check_size(rows, validation)
    assert (
        (said in problems[0].message and problems[0].warning is warning) if said else problems == []
    )


def test_a_file_over_a_gigabyte_is_not_even_read(tmp_path):
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.truncate(10**9 + 1)  # sparse: takes no room
    assert "the limit is 1,000,000,000" in str(gt.check_file(path))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_pavlos_pairs_make_a_good_file(tmp_path, split):
    path = gt.write_rows(gt.pavlos_rows(split), tmp_path / "new" / f"{split}.jsonl")
    report = gt.check_file(path, validation=split != "train")
    assert report.ok and not report.problems and report.rows > 200
    first = json.loads(path.read_text(encoding="utf-8").split("\n")[0])
    pair = json.loads(
        (ROOT / "data" / "pavlos" / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")[0]
    )
    assert [gt.text_of(content) for content in first["contents"]] == [
        pair["question"],
        pair["answer"],
    ]
    assert "professor" in gt.text_of(first["systemInstruction"])


# ---------------------------------------------------------------------------------------- cost
def test_cost_and_break_even():
    assert gt.tuning_cost(1_000_000, 3, 5.0) == 15.0
    assert gt.tuning_cost(122_873, 3, 1.5) == pytest.approx(0.5529285)
    # 0.60 dollars against 400 tokens a question at 0.30 per million: 0.00012 dollars a question,
    # 5,000 questions
    assert gt.break_even_questions(0.60, 400, 0.30) == 5000
    assert gt.break_even_questions(0.600001, 400, 0.30) == 5001
    assert gt.break_even_questions(1.0, 0, 0.30) == math.inf


@given(st.floats(0.01, 100), st.integers(1, 10_000), st.floats(0.01, 10))
def test_break_even_is_the_first_question_that_pays(tuning, extra, price):
    n = gt.break_even_questions(tuning, extra, price)
    in_prompts = extra * price / 1e6
    assert n * in_prompts >= tuning * (1 - 1e-9) and (n - 1) * in_prompts < tuning * (1 + 1e-9)


def test_the_cheapest_model_is_one_with_a_tuning_price():
    prices = {
        "a": Price(1, 1, None, "", ""),
        "b": Price(1, 1, 5.0, "", ""),
        "c": Price(9, 9, 2.0, "", ""),
    }
    assert gt.cheapest_model(prices) == "c"
    with pytest.raises(GeminiError, match="no price"):
        gt.cheapest_model({"a": prices["a"]})


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
    jobs = gt.simulate(2, 1000, steps=5)
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
    jobs = gt.simulate(3, 1000, events, steps=4)
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

    return Credentials(token="FAKE-TOKEN-of-the-tests")


@pytest.fixture
def vertex(fake):
    patience = Patience(timeout=20, sleep=lambda seconds: None)
    return VertexTuning("project", "us-central1", credentials(), fake.url, fake.url, patience)


def at_once(service, job):
    return [look.state for look in gt.watch(service, job, sleep=lambda seconds: None)]


def test_upload_start_watch_and_ask(fake, vertex, tmp_path):
    path = file_of(tmp_path, GOOD)
    assert vertex.upload(path, "bucket") == "gs://bucket/train.jsonl"
    assert fake.uploads == {"gs://bucket/train.jsonl": path.read_bytes()}
    job = vertex.start(SPEC, "my label")
    body = json.loads(fake.started[0]["body"])
    assert body["baseModel"] == "gemini-2.5-flash" and body["tunedModelDisplayName"] == "my label"
    assert body["supervisedTuningSpec"] == {
        "trainingDatasetUri": "gs://bucket/train.jsonl",
        "hyperParameters": {
            "epochCount": 2,
            "learningRateMultiplier": 0.5,
            "adapterSize": "ADAPTER_SIZE_EIGHT",
        },
    }
    assert fake.started[0]["headers"]["Authorization"] == "Bearer FAKE-TOKEN-of-the-tests"
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
        gt.vertex_from_environment()
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(KeyProblem, match="gcloud auth application-default login") as caught:
        gt.vertex_from_environment()
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
    with pytest.raises(GeminiError, match="other job"):
        gt.start_once(vertex, dataclasses.replace(SPEC, epochs=3), record, never)


def test_without_confirmation_nothing_is_sent_or_recorded(fake, vertex, tmp_path):
    record = tmp_path / "job.json"
    with pytest.raises(GeminiError, match="not confirmed"):
        gt.start_once(
            vertex, SPEC, record, lambda: gt.confirm_spending(1.0, "The job", lambda text: "no")
        )
    assert fake.requests == [] and not record.exists()


def test_a_start_that_never_arrived_asks_again(fake, vertex, tmp_path):
    record = tmp_path / "job.json"
    record.write_text(json.dumps({"label": "lost", "spec": dataclasses.asdict(SPEC), "job": ""}))
    asked = []
    gt.start_once(vertex, SPEC, record, lambda: asked.append(1))
    assert asked == [1] and len(fake.started) == 1


KILLED = """
import pathlib, sys
sys.path[:0] = [{root!r}]
from google.oauth2.credentials import Credentials
from lab_utils.gemini.tuning import *
service = VertexTuning("project", "us-central1", Credentials(token="t"), {url!r}, {url!r})
spec = TuningSpec("gemini-2.5-flash", "gs://bucket/train.jsonl")
for look in watch(service, start_once(service, spec, pathlib.Path({record!r}), lambda: None), every=0.05):
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
    spec = TuningSpec("gemini-2.5-flash", "gs://bucket/train.jsonl")
    assert at_once(service, gt.start_once(service, spec, record, never))[-1] == "SUCCEEDED"
    assert len(fake.started) == 1


# -------------------------------------------------------------------------------------- the command
def arguments(*words):
    parser = argparse.ArgumentParser()
    gt.add_arguments(parser)
    return parser.parse_args(list(words))


def test_the_command_checks_a_file_and_says_its_cost(tmp_path, capsys):
    rows = [
        changed(contents=[{"role": "user", "parts": [{"text": f"{i:04}"}]}, GOOD["contents"][1]])
        for i in range(200)
    ]
    path = gt.write_rows(rows, tmp_path / "mine.jsonl")
    price = gt.load_prices()["gemini-2.5-flash"]
    assert (
        gt.main(
            arguments("check", "--file", str(path), "--model", "gemini-2.5-flash", "--epochs", "4")
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "200 rows, about 1,400 tokens, good" in said and price.date in said
    assert said.rstrip().endswith(f"about ${1400 * 4 * price.tuning / 1e6:.2f}")
    assert gt.main(arguments("check", "--file", str(file_of(tmp_path, {})))) == 1
    for words in (
        ["--file", str(tmp_path / "none")],
        ["--file", str(path), "--model", "gemini-3.5-flash"],
    ):
        with pytest.raises(LabKitError):
            gt.main(arguments("check", *words))


def test_the_command_starts_watches_cancels_and_asks(fake, vertex, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gt, "vertex_from_environment", lambda: vertex)
    monkeypatch.setattr(gt.watch, "__defaults__", (60.0, lambda seconds: None))
    record = str(tmp_path / "job.json")
    for words in (["watch"], ["start"]):
        with pytest.raises(LabKitError, match="start a job first|GEMINI_TUNING_BUCKET"):
            gt.main(arguments(*words, "--record", record))
    monkeypatch.setenv("GEMINI_TUNING_BUCKET", "bucket")
    monkeypatch.setattr("builtins.input", lambda text: "no")
    with pytest.raises(LabKitError, match="not confirmed"):
        gt.main(arguments("start", "--record", record))
    assert fake.requests == []
    monkeypatch.setattr(
        gt.confirm_spending, "__defaults__", (lambda text: re.search(r"spend \d+\.\d\d", text)[0],)
    )
    assert gt.main(arguments("start", "--record", record)) == 0
    assert (
        len(fake.started) == 1 and len(fake.uploads["gs://bucket/train.jsonl"].splitlines()) == 1218
    )
    assert gt.main(arguments("watch", "--record", record)) == 0
    assert gt.main(arguments("ask", "--record", record)) == 0
    said = capsys.readouterr().out
    assert "SUCCEEDED, 1,234 billable tokens" in said and "Feta is made in Greece." in said
    assert gt.main(arguments("cancel", "--record", record)) == 0
    assert "CANCELLING" in capsys.readouterr().out


def test_the_command_says_that_a_job_failed(fake, vertex, tmp_path, monkeypatch):
    monkeypatch.setattr(gt, "vertex_from_environment", lambda: vertex)
    monkeypatch.setattr(gt.watch, "__defaults__", (60.0, lambda seconds: None))
    fake.job_path = ["PENDING", "FAILED"]
    gt.start_once(vertex, SPEC, tmp_path / "job.json", lambda: None)
    assert gt.main(arguments("watch", "--record", str(tmp_path / "job.json"))) == 1


def test_a_job_shows_itself_in_one_line():
    assert str(Job("n", "RUNNING")) == "RUNNING"
    assert str(Job("n", "FAILED", error="row 5", billable_tokens=1000, simulated=True)) == (
        "SIMULATED FAILED (row 5), 1,000 billable tokens"
    )
