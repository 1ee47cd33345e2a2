"""Lab 08 against the fake server: the tutorial's five commands, one after the other, and the cells
that cost money.
"""

import argparse
import functools
import json
import math
import re

import pytest
from fake_gemini import GOOD_KEY, TOKEN, FakeGemini, answer
from google.oauth2.credentials import Credentials

from lab_utils import pavlos
from lab_utils.files import ROOT, LabKitError, read_jsonl
from lab_utils.gemini import client, command, keys, tuning
from lab_utils.gemini.rows import check_file
from lab_utils.pavlos.ask import TemplateAsker

LAB = json.loads((ROOT / "labs" / "08_gemini_tuning.ipynb").read_text(encoding="utf-8"))
CELLS = {cell["id"]: "".join(cell["source"]) for cell in LAB["cells"]}


@pytest.fixture
def fake(monkeypatch):
    """The server; a key, a project, a bucket, and somebody at the keyboard who types the amount."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("GEMINI_API_KEY", GOOD_KEY)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("GEMINI_TUNING_BUCKET", "bucket")
    monkeypatch.delenv("GOOGLE_CLOUD_LOCATION", raising=False)
    credentials = Credentials(token=TOKEN)
    monkeypatch.setattr(tuning, "find_credentials", lambda given: credentials)
    monkeypatch.setattr(tuning.watch, "__defaults__", (60.0, lambda seconds: None))
    amount = lambda text: re.search(r"spend \d+\.\d\d", text)[0]  # noqa: E731
    monkeypatch.setattr(tuning.confirm_spending, "__defaults__", (amount,))
    with FakeGemini() as server:
        yield server


def run(module, *words):
    """The exit code of a command."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.main(parser.parse_args(list(map(str, words))))


def answering_as_the_templates_do(fake):
    """The server answers a prompt of lab 05 with one pair for each of its cards."""
    asker, reply_to = TemplateAsker(0), fake.reply_to

    def reply(method, path, query, body):
        if not path.endswith(":generateContent") or "endpoints" in path:
            return reply_to(method, path, query, body)
        prompt = json.loads(body)["contents"][0]["parts"][0]["text"]
        return answer(asker.ask(prompt).text)

    fake.reply_to = reply


@pytest.mark.parametrize("way", [*client.SDKS, "a project"])
def test_pairs_are_generated_as_the_options_say(fake, tmp_path, monkeypatch, way):
    answering_as_the_templates_do(fake)
    monkeypatch.setattr(keys, "find_credentials", lambda given: Credentials(token=TOKEN))
    words = ("--project", "p") if way == "a project" else ("--sdk", way)
    model = ("--model", "gemini-99", "--calls", 3, "--out", tmp_path)
    with pytest.raises(LabKitError, match="no reply yet|no price"):  # nobody knows what it costs
        run(pavlos, *model, "--base-url", fake.url, *words)
    assert fake.asked == []
    run(pavlos, *model, "--base-url", fake.url, *words, "--price", "0.30/2.50")
    run(pavlos, *model, "--base-url", fake.url, *words, "--free")
    assert len(fake.asked) == 6
    costs = [entry["cost"] for entry in read_jsonl(tmp_path / "raw" / "ledger.jsonl")]
    assert sum(cost > 0 for cost in costs) == 6 and costs.count(0) == 6  # sent, then paid
    paths = {request["path"] for request in fake.asked}
    cloud = "/v1beta1/projects/p/locations/global/publishers/google"
    folder = cloud if way == "a project" else "/v1beta"
    assert paths == {f"{folder}/models/gemini-99:generateContent"}


def test_the_five_commands_of_the_tutorial(fake, tmp_path, capsys):
    answering_as_the_templates_do(fake)
    out, record = tmp_path / "pavlos", tmp_path / "jobs.jsonl"
    there = ("--record", record, "--base-url", fake.url)
    # generate, prepare
    model = ("--model", "gemini-3.5-flash-lite", "--base-url", fake.url)
    run(pavlos, *model, "--out", out, "--calls", 30)
    assert len(fake.asked) == 30
    train = out / "exports" / "gemini_tuning" / "train.jsonl"
    assert check_file(train).ok and check_file(train).rows >= 100
    # upload
    assert run(command, "upload", "--folder", out / "exports", *there) == 0
    files = {address.rpartition("/")[2] for address in fake.uploads}
    assert files == {f"{s}.{k}" for s in ("train", "validation", "test") for k in ("csv", "jsonl")}
    # train: the file that was uploaded is the one that is tuned on
    options = ("--file", train, "--validation", train.with_name("validation.jsonl"))
    assert run(command, "start", *options, "--tuning-price", 8, *there) == 0
    spec = json.loads(fake.started[0]["body"])["supervisedTuningSpec"]
    assert fake.uploads[spec["trainingDatasetUri"]] == train.read_bytes() and len(fake.uploads) == 6
    assert run(command, "watch", *there) == 0
    # chat
    capsys.readouterr()
    assert run(command, "chat", "--question", "How is cheese made?", *there) == 0
    assert capsys.readouterr().out == "Feta is made in Greece.\n"
    assert "/endpoints/22:" in fake.asked[-1]["path"]
    # another job, cancelled
    assert run(command, "start", *options, "--epochs", 1, "--tuning-price", 8, *there) == 0
    assert run(command, "cancel", *there) == 0 and "CANCELLING" in capsys.readouterr().out


def test_the_lab_names_all_five_and_links_the_tutorial():
    table = CELLS["cell-36"]
    for name in ("--generate", "--prepare", "--upload", "--train", "--chat"):
        assert re.search(rf"\| `[a-z-]+/cli\.py {name}` \| ", table), name
    for action in re.findall(r"lab_utils gemini (\w+)", table):
        assert action in command.ACTIONS
    for cell in ("cell-00", "cell-36", "cell-53"):
        assert "https://github.com/dlops-io/llm-finetuning" in CELLS[cell]


def test_six_paid_questions_fit_their_budget_whatever_is_thought(fake, capsys, monkeypatch):
    connect = functools.partial(client.connect, base_url=fake.url)
    monkeypatch.setattr(client, "connect", connect)
    fake.script = [answer("Welcome!", thoughts=1500, output_tokens=500, prompt_tokens=400)] * 6
    names = {"math": math, "estimate_tokens": len, "questions": ["Why?", "Who?", "Where?"]}
    exec("from lab_utils.pavlos import load_pairs\n" + CELLS["cell-41"], names)
    exec("from lab_utils.gemini.ledger import Ledger, load_prices\nprices = load_prices()", names)
    exec("from lab_utils.gemini.tuning import confirm_spending", names)
    exec("from lab_utils.gemini.errors import GeminiError", names)
    exec("from lab_utils.pavlos.corpus import speaks_pavlos", names)
    exec(CELLS["cell-43"], names)
    with pytest.warns(FutureWarning, match="end of support"):
        exec(CELLS["cell-43a"], names)
    said = capsys.readouterr().out
    assert "Skipped" not in said and len(fake.asked) == 6 and "6 calls" in said
    assert names["client"].ledger.spent <= names["budget"] <= 0.05


def test_the_cells_of_the_real_job_tune_and_ask(fake, tmp_path, capsys, monkeypatch):
    """The cells as they stand in the lab: both files go up, and the tuned model answers."""
    monkeypatch.setattr(command.tuning_price, "__defaults__", (lambda text: "8",))
    service_of = functools.partial(command.service_of, base_url=fake.url)
    monkeypatch.setattr(command, "service_of", service_of)
    info = argparse.Namespace(runs=tmp_path)
    names = {"json": json, "info": info, "__builtins__": __builtins__}
    for cell in ("cell-04", "cell-08"):
        exec(CELLS[cell], names)
    exec("from lab_utils.gemini.rows import sha256_of, tuning_cost, row_tokens", names)
    exec("from lab_utils.gemini.tuning import *\nfrom lab_utils.gemini.ledger import *", names)
    exec("prices = load_prices(); cheapest = default_model(prices)", names)
    exec("tokens = [row_tokens(row) for row in rows]", names)
    for cell in ("cell-37", "cell-37a", "cell-39"):
        exec(CELLS[cell], names)
    said = capsys.readouterr().out
    assert "SUCCEEDED" in said and "speaks Pavlos: False" in said and "Skipped" not in said
    assert len(fake.uploads) == 2 and len(fake.started) == 1 and len(fake.asked) == 3
    assert json.loads(fake.started[0]["body"])["supervisedTuningSpec"]["validationDatasetUri"]
