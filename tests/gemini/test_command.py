"""The command against the fake server: all that the tutorial's two programs do."""

import argparse
import io
import json
import re

import pytest
from fake_gemini import TOKEN, FakeGemini, answer
from google.oauth2.credentials import Credentials
from tuning_rows import GOOD, changed, file_of

from lab_utils.files import LabKitError
from lab_utils.gemini import command, keys, tuning
from lab_utils.gemini.errors import GeminiError
from lab_utils.gemini.ledger import Price, load_prices
from lab_utils.gemini.rows import pavlos_rows, sha256_of, write_rows

ENDPOINT = "projects/123/locations/us-central1/endpoints/5921"


@pytest.fixture(scope="module")
def server():
    with FakeGemini() as server:
        yield server


@pytest.fixture
def fake(server, monkeypatch):
    """The server, and a project, a bucket and credentials in the environment."""
    server.forget()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GOOGLE_CLOUD_LOCATION", raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("GEMINI_TUNING_BUCKET", "bucket")
    credentials = Credentials(token=TOKEN)
    monkeypatch.setattr(tuning, "find_credentials", lambda given: credentials)
    monkeypatch.setattr(tuning.watch, "__defaults__", (60.0, lambda seconds: None))
    return server


@pytest.fixture
def run(fake, tmp_path, capsys):
    """run("start", "--epochs", "4") -> (exit code, what it printed)."""

    def run(*words):
        record = str(tmp_path / "jobs.jsonl")
        given = [*words, "--record", record, "--base-url", fake.url]
        code = command.main(arguments(*given))
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def types_the_amount(monkeypatch):
    """Somebody at the keyboard who types what is asked for."""
    asked = []

    def type_it(text):
        asked.append(text)
        return re.search(r"spend \d+\.\d\d", text)[0]

    monkeypatch.setattr(tuning.confirm_spending, "__defaults__", (type_it,))
    return asked


def arguments(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def exported(tmp_path):
    """A folder as lab 05 exports it."""
    for split in ("train", "validation", "test"):
        write_rows(pavlos_rows(split)[:120], tmp_path / "gemini_tuning" / f"{split}.jsonl")
        (tmp_path / "csv").mkdir(exist_ok=True)
        (tmp_path / "csv" / f"{split}.csv").write_text("question,answer\n", encoding="utf-8")
    return tmp_path


# ------------------------------------------------------------------------------------------- upload
def test_all_files_go_under_one_prefix(fake, run, tmp_path):
    folder = exported(tmp_path / "exports")
    code, said = run("upload", "--folder", str(folder))
    prefix = f"gs://bucket/pavlos-{sha256_of(folder / 'gemini_tuning' / 'train.jsonl')[:12]}"
    names = [
        f"{split}.{kind}" for kind in ("csv", "jsonl") for split in ("train", "validation", "test")
    ]
    assert code == 0 and set(fake.uploads) == {f"{prefix}/{name}" for name in names}
    assert sorted(said.split()) == sorted(fake.uploads)
    path = folder / "gemini_tuning" / "test.jsonl"
    assert fake.uploads[f"{prefix}/test.jsonl"] == path.read_bytes()
    kinds = {r["headers"]["Content-Type"] for r in fake.requests}
    assert kinds == {"text/csv", "application/jsonl"}
    run("upload", "--folder", str(folder), "--prefix", "mine", "--bucket", "other")
    assert "gs://other/mine/train.csv" in fake.uploads


def test_without_files_it_says_how_they_are_made(run, tmp_path):
    with pytest.raises(LabKitError, match="lab_utils pavlos --offline"):
        run("upload", "--folder", str(tmp_path / "nothing"))


# ------------------------------------------------------------------------------------ check, prices
def test_a_file_is_checked_and_its_cost_said(fake, run, tmp_path):
    rows = [
        changed(contents=[{"role": "user", "parts": [{"text": f"{i:04}"}]}, GOOD["contents"][1]])
        for i in range(200)
    ]
    path = str(write_rows(rows, tmp_path / "mine.jsonl"))
    code, said = run("check", "--file", path, "--epochs", "4", "--tuning-price", "8")
    assert code == 0 and "200 rows, about 1,400 tokens, good" in said
    assert "gemini-3.1-flash-lite at $8.00" in said and said.rstrip().endswith("about $0.04")
    wrong = str(file_of(tmp_path, {}))
    assert run("check", "--file", wrong, "--tuning-price", "8")[0] == 1
    code, said = run("check", "--file", path, "--validation", wrong, "--tuning-price", "8")
    assert code == 1 and "NOT GOOD" in said
    assert fake.requests == []
    with pytest.raises(LabKitError, match="none"):
        run("check", "--file", str(tmp_path / "none"))


def test_a_retired_model_is_refused_with_what_to_take(run):
    for action in ("check", "start"):
        with pytest.raises(LabKitError, match="retired.*2026-10-20. Take gemini-3.5-flash-lite or"):
            run(action, "--model", "gemini-2.5-flash", "--tuning-price", "5")


def test_a_price_of_tuning_comes_from_the_option_the_table_or_the_keyboard(monkeypatch):
    prices = {"known": Price(1, 2, 3.0), "unknown": Price(1, 2)}

    def never(text):
        raise AssertionError("it asked")

    assert command.tuning_price(8.0, "known", prices, never) == 8.0
    assert command.tuning_price(0.0, "known", prices, never) == 0.0
    assert command.tuning_price(None, "models/known-001", prices, never) == 3.0
    asked = []
    for model in ("unknown", "not in the table"):
        price = command.tuning_price(None, model, prices, lambda text: asked.append(text) or "4.5")
        assert price == 4.5 and model in asked[-1] and "https://" in asked[-1]
    for nobody in (lambda text: 1 / 0, lambda text: "", lambda text: "dear"):
        with pytest.raises(GeminiError, match="no price.*--tuning-price"):
            command.tuning_price(None, "unknown", prices, nobody)


# -------------------------------------------------------------------------------------------- train
def test_a_job_is_started_watched_and_asked(fake, run, types_the_amount):
    options = ("--tuning-price", "8", "--epochs", "2", "--learning-rate-multiplier", "0.5")
    code, said = run("start", *options)
    assert code == 0 and "validation.jsonl" in said and said.rstrip().endswith("PENDING")
    tokens = int(re.search(r"train.jsonl: 1,218 rows, about ([\d,]+)", said)[1].replace(",", ""))
    assert f"spend {tokens * 2 * 8 / 1e6:.2f}" in types_the_amount[0]
    spec = json.loads(fake.started[0]["body"])["supervisedTuningSpec"]
    assert spec["hyperParameters"] == {
        "epochCount": 2,
        "learningRateMultiplier": 0.5,
        "adapterSize": "ADAPTER_SIZE_FOUR",
    }
    assert {spec["trainingDatasetUri"], spec["validationDatasetUri"]} == set(fake.uploads)
    assert len(fake.uploads[spec["trainingDatasetUri"]].splitlines()) == 1218
    assert run("start", *options)[0] == 0 and len(fake.started) == 1, "it is found, not paid again"
    code, said = run("watch")
    assert code == 0 and "SUCCEEDED, 1,234 billable tokens" in said
    code, said = run("chat", "--question", "Where is Feta made?", "--question", "And Brie?")
    assert code == 0 and said == "Feta is made in Greece.\n" * 2
    # 3.1 Flash-Lite is served from "us" alone, and asked to think as little as it can
    path = "/v1beta1/projects/p/locations/us/endpoints/22:generateContent"
    assert [request["path"] for request in fake.asked] == [path] * 2
    settings = json.loads(fake.asked[0]["body"])["generationConfig"]
    assert settings["thinkingConfig"] == {"thinking_level": "MINIMAL"}


def test_a_file_of_ones_own_goes_without_validation_unless_it_is_given(
    fake, run, tmp_path, types_the_amount
):
    path = str(write_rows(pavlos_rows()[:120], tmp_path / "mine.jsonl"))
    run("start", "--file", path, "--tuning-price", "8")
    assert "validationDatasetUri" not in json.loads(fake.started[0]["body"])["supervisedTuningSpec"]
    # new data are a new job, and do not overwrite the old ones in the bucket
    write_rows(pavlos_rows()[:121], tmp_path / "mine.jsonl")
    run("start", "--file", path, "--tuning-price", "8", "--validation", path)
    assert len(fake.started) == 2 and len(fake.uploads) == 2
    specs = [json.loads(request["body"])["supervisedTuningSpec"] for request in fake.started]
    assert specs[0]["trainingDatasetUri"] != specs[1]["trainingDatasetUri"]


def test_new_data_at_the_same_address_are_a_new_job(fake, run, tmp_path, types_the_amount):
    path = tmp_path / "mine.jsonl"
    for rows, jobs in ((120, 1), (120, 1), (121, 2)):
        write_rows(pavlos_rows()[:rows], path)
        run("start", "--file", str(path), "--prefix", "mine", "--tuning-price", "8")
        assert len(fake.started) == jobs and list(fake.uploads) == ["gs://bucket/mine/mine.jsonl"]


def test_a_failed_or_cancelled_job_is_started_again(fake, run, types_the_amount):
    fake.job_path = ["PENDING", "FAILED"]
    run("start", "--tuning-price", "8")
    assert run("watch")[0] == 1
    fake.job_path = ["PENDING", "RUNNING", "RUNNING", "RUNNING"]
    run("start", "--tuning-price", "8")
    code, said = run("cancel")
    assert code == 0 and "CANCELLING" in said and run("watch")[1].rstrip().endswith("CANCELLED")
    run("start", "--tuning-price", "8")
    assert len(fake.started) == 3 == len(types_the_amount)


def test_nothing_is_sent_before_the_amount_is_typed(fake, run, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda text: "no")
    with pytest.raises(LabKitError, match="not confirmed"):
        run("start", "--tuning-price", "8")
    assert fake.requests == []


def test_what_is_missing_is_named(fake, run, monkeypatch):
    for action in ("watch", "cancel", "chat"):
        with pytest.raises(LabKitError, match="start a job first"):
            run(action)
    monkeypatch.delenv("GEMINI_TUNING_BUCKET")
    with pytest.raises(LabKitError, match="no bucket: set GEMINI_TUNING_BUCKET"):
        run("start", "--tuning-price", "8")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    with pytest.raises(LabKitError, match="no project: set GOOGLE_CLOUD_PROJECT"):
        run("start", "--tuning-price", "8")


def test_the_options_name_the_project_the_region_and_the_credentials(fake, run, monkeypatch):
    given = []
    monkeypatch.setattr(
        tuning, "find_credentials", lambda path: given.append(path) or Credentials(token=TOKEN)
    )
    monkeypatch.setattr(
        tuning.confirm_spending, "__defaults__", (lambda text: text.split(": ")[-1].strip(),)
    )
    where = ("--project", "q", "--location", "europe-west4", "--credentials", "sa.json")
    run("start", "--tuning-price", "8", *where)
    assert given == ["sa.json"] and keys.find_credentials is not tuning.find_credentials
    assert fake.started[0]["path"] == "/v1beta1/projects/q/locations/europe-west4/tuningJobs"


# --------------------------------------------------------------------------------------------- chat
def test_chat_with_an_endpoint_that_this_kit_did_not_start(fake, run, monkeypatch):
    fake.script = [answer("Welcome, welcome, welcome!"), answer("Opa!")]
    monkeypatch.setattr("sys.stdin", io.StringIO("How is cheese made?\nAnd Feta?\n\nnot asked\n"))
    code, said = run("chat", "--endpoint", ENDPOINT, "--model", "gemini-3.5-flash")
    assert code == 0 and said == "Welcome, welcome, welcome!\nOpa!\n" and len(fake.asked) == 2
    assert fake.asked[0]["path"] == f"/v1beta1/{ENDPOINT}:generateContent"
    words = ("--endpoint", ENDPOINT, "--question", "Hello?")
    run("chat", *words, "--price", "0.30/2.50", "--serving-location", "eu")
    assert "/locations/eu/" in fake.asked[-1]["path"]
    with pytest.raises(LabKitError, match="no price.*--model"):
        run("chat", *words)
    with pytest.raises(LabKitError, match="projects/PROJECT/locations"):
        run("chat", "--endpoint", "5921", "--price", "0.30/2.50")
    with pytest.raises(LabKitError, match="budget"):
        run("chat", *words, "--price", "0.30/2.50", "--budget", "0.000001")


def test_chat_waits_for_the_model(fake, run, types_the_amount):
    fake.job_path = ["PENDING", "RUNNING"]
    run("start", "--tuning-price", "8")
    with pytest.raises(LabKitError, match="not ready: the job is RUNNING"):
        run("chat", "--question", "Hello?")


def test_the_price_of_a_chat_is_that_of_the_base_model_unless_it_is_given():
    row = load_prices()["gemini-3.5-flash"]
    assert command.chat_price(None, "gemini-3.5-flash") == row
    mine = Price(7, 8)
    priced = command.chat_price(mine, "gemini-3.5-flash")
    assert priced[:2] == (7, 8) and priced.lowest_thinking == row.lowest_thinking
    assert command.chat_price(mine, "") is mine
