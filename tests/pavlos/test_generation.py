"""Raw replies: kept through every kill, asked for once, and labelled as what they are."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from lab_utils.files import ROOT
from lab_utils.pavlos.ask import (
    RULES,
    ColabAsker,
    Job,
    LocalReply,
    RawReplies,
    TemplateAsker,
    colab_asker,
    generate,
    human_record,
    make_record,
    prompt_key,
    shortfall,
    system_prompt,
    template_jobs,
    user_prompt,
)
from lab_utils.pavlos.build import facts_by_id
from lab_utils.pavlos.corpus import build_pairs

JOBS = [Job(f"prompt {i}", (f"card-{i}",)) for i in range(6)]


class Fake:
    """Answers each prompt with its own text, counts the calls, and raises what it is told to."""

    def __init__(self, errors=None):
        self.asked, self.errors = [], errors or {}

    def ask(self, prompt, *, system=None):
        self.asked.append(prompt)
        if prompt in self.errors:
            raise self.errors[prompt]
        return LocalReply(f"reply to {prompt}", "fake-1", "STOP", 3, 4)


class Quota(Exception):
    pass


class Trouble(Exception):
    pass


def run(asker, path, jobs=JOBS, **options):
    return generate(jobs, asker, RawReplies(path), "fake", progress=False, **options)


# ---------------------------------------------------------------------------------------- asking
def test_each_job_is_asked_once_and_kept(tmp_path):
    path, asker = tmp_path / "new" / "raw.jsonl", Fake()
    assert run(asker, path) == (6, 0, (), "", 0)
    assert run(asker, path) == (0, 6, (), "", 0)
    assert asker.asked == [job.prompt for job in JOBS]
    records = list(RawReplies(path).records.values())
    assert [record["text"] for record in records] == [f"reply to {job.prompt}" for job in JOBS]
    assert records[2] == {
        "key": prompt_key(JOBS[2], "fake", None),
        "source": "fake",
        "model": "fake-1",
        "sample": 0,
        "cards": ["card-2"],
        "prompt": "prompt 2",
        "finish_reason": "STOP",
        "prompt_tokens": 3,
        "output_tokens": 4,
        "text": "reply to prompt 2",
    }


def test_the_key_depends_on_all_that_decides_the_reply():
    job = JOBS[0]
    keys = [
        prompt_key(job, "a", None),
        prompt_key(job, "b", None),
        prompt_key(job, "a", "system"),
        prompt_key(Job(job.prompt, job.cards, sample=1), "a", None),
        prompt_key(JOBS[1], "a", None),
    ]
    assert len(set(keys)) == 5 and all(len(key) == 32 for key in keys)
    assert prompt_key(Job(job.prompt, ("other cards",)), "a", None) == keys[0]


def test_a_limit_is_kept_and_said(tmp_path):
    asker = Fake()
    assert run(asker, tmp_path / "raw", limit=2) == (2, 0, (), "", 4)
    assert run(asker, tmp_path / "raw", limit=4) == (4, 2, (), "", 0)
    assert len(asker.asked) == 6


def test_quota_ends_it_in_order_and_the_same_command_goes_on(tmp_path):
    tally = run(
        Fake({"prompt 3": Quota("per day")}),
        tmp_path / "raw",
        stop_on=(Quota,),
        skip_on=(Exception,),
    )
    assert tally == (3, 0, (), "Quota: per day", 0)
    again = Fake()
    assert run(again, tmp_path / "raw") == (3, 3, (), "", 0)
    assert again.asked == ["prompt 3", "prompt 4", "prompt 5"]


def test_a_failed_call_costs_itself_and_three_in_a_row_end_it(tmp_path):
    bad = {f"prompt {i}": Trouble("server") for i in (1, 2, 4)}
    asker = Fake(bad)
    assert run(asker, tmp_path / "raw", skip_on=(Trouble,)) == (
        3,
        0,
        ("Trouble: server",) * 3,
        "",
        0,
    )
    assert len(RawReplies(tmp_path / "raw").records) == 3
    down = Fake({job.prompt: Trouble("down") for job in JOBS})
    tally = run(down, tmp_path / "other", skip_on=(Trouble,))
    assert (
        len(down.asked) == 3
        and tally.stopped == "three calls failed in a row, the last by Trouble: down"
    )


def test_other_errors_are_raised_and_what_was_kept_stays(tmp_path):
    with pytest.raises(KeyError):
        run(
            Fake({"prompt 2": KeyError("bug")}),
            tmp_path / "raw",
            stop_on=(Quota,),
            skip_on=(Trouble,),
        )
    assert len(RawReplies(tmp_path / "raw").records) == 2


def test_progress_is_shown(tmp_path, capsys):
    generate(JOBS, Fake(), RawReplies(tmp_path / "raw"), "fake")
    assert "replies (fake): 100%" in capsys.readouterr().err


def test_a_date_is_kept_only_where_it_is_given():
    reply = LocalReply("x", "m")
    assert "when" not in make_record(JOBS[0], reply, "s", None)
    assert make_record(JOBS[0], reply, "s", None, "2026-11-05")["when"] == "2026-11-05"


# ---------------------------------------------------------------------------------------- the file
def test_any_reply_survives_the_file(tmp_path):
    texts = ["half \ud83e", "line\u2028break\x85\r\n", "\x00\x1f", "é🧀", '"quotes" \\', ""]
    raw = RawReplies(tmp_path / "raw")
    for i, text in enumerate(texts):
        raw.append({"key": str(i), "text": text})
    assert [record["text"] for record in RawReplies(tmp_path / "raw").records.values()] == texts
    assert (tmp_path / "raw").read_bytes().isascii()


def test_what_is_kept_is_not_kept_twice(tmp_path):
    raw = RawReplies(tmp_path / "raw")
    raw.append({"key": "a", "text": "first"})
    raw.append({"key": "a", "text": "second"})
    assert raw.records["a"]["text"] == "first" and len(raw.path.read_bytes().splitlines()) == 1


def test_a_file_torn_at_any_byte_loses_only_the_torn_line(tmp_path):
    raw = RawReplies(tmp_path / "whole")
    for i in range(4):
        raw.append({"key": str(i), "text": "é" * i})
    whole = raw.path.read_bytes()
    for end in range(len(whole) + 1):
        path = tmp_path / str(end)
        path.write_bytes(whole[:end])
        again, kept = RawReplies(path), [str(i) for i in range(whole[:end].count(b"\n"))]
        assert list(again.records) == kept
        again.append({"key": "new", "text": "after"})
        assert list(RawReplies(path).records) == [*kept, "new"], (
            "the next line is not glued to the torn one"
        )


def test_a_strange_line_is_named_and_nothing_is_cut(tmp_path):
    path = tmp_path / "raw.jsonl"
    for line in (b"not json", b"[1]", b'{"no": "key"}', b"7"):
        path.write_bytes(b'{"key": "a"}\n' + line + b"\n")
        with pytest.raises(ValueError, match=r"raw\.jsonl, line 2 is no raw reply"):
            RawReplies(path)
        assert path.read_bytes().endswith(line + b"\n")


CHILD = """
import os, sys, time
from lab_utils.pavlos.ask import Job, RawReplies, generate
from types import SimpleNamespace

class Paid:
    def ask(self, prompt, *, system=None):
        bill = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(bill, prompt.encode() + b"\\n")  # from here on the call is paid
        os.close(bill)
        time.sleep(0.004)
        return SimpleNamespace(text="reply to " + prompt + " x" * 3000, finish_reason="STOP",
                               model="m", prompt_tokens=1, output_tokens=1)

jobs = [Job(f"prompt {i}", ()) for i in range(60)]
generate(jobs, Paid(), RawReplies(sys.argv[1]), "paid", progress=False)
"""


def kept_prompts(path) -> list[str]:
    """The prompts of all whole lines, read by nothing of ours."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["prompt"] for line in lines]


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing_and_pays_for_nothing_twice(tmp_path):
    raw, bill, kills, rng = tmp_path / "raw.jsonl", tmp_path / "bill.txt", 0, random.Random(7)
    bill.touch()
    while True:
        before = len(bill.read_bytes().splitlines())
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(raw), str(bill)], cwd=ROOT)
        paid_until = before + rng.randint(1, 14)
        while child.poll() is None and len(bill.read_bytes().splitlines()) < paid_until:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.006)  # anywhere in the next call, its writing included
        done = child.poll() is not None
        os.kill(child.pid, signal.SIGKILL) if not done else None
        child.wait()
        kept, paid = kept_prompts(raw), bill.read_text().split("\n")[:-1]
        assert len(kept) == len(set(kept)), "no reply is kept twice"
        kills += not done
        assert len(set(paid) - set(kept)) <= 1, "at most the call in flight is lost"
        assert len(paid) - len(set(paid)) <= kills, (
            "a call is repeated only if a kill lost its reply"
        )
        if done:
            break
    assert child.returncode == 0 and kills >= 4
    assert kept == [f"prompt {i}" for i in range(60)]
    assert all(
        record["text"].startswith("reply to " + record["prompt"])
        for record in RawReplies(raw).records.values()
    )


# ------------------------------------------------------------------------------------- who is asked
def test_the_template_answers_each_card_of_the_prompt_and_says_what_it_is():
    facts = facts_by_id()
    job = template_jobs(facts)[3]
    reply = TemplateAsker().ask(job.prompt, system=system_prompt())
    items = json.loads(reply.text)
    assert [item["fact_id"] for item in items] == list(job.cards) and len(items) == 20
    assert (
        reply.model == "none: filled templates" and reply.prompt_tokens == reply.output_tokens == 0
    )
    rows = {row["fact_id"]: row for part in build_pairs(0).values() for row in part}
    assert all(rows[item["fact_id"]]["answer"] == item["answer"] for item in items)


def test_template_jobs_ask_for_every_row_once():
    facts = facts_by_id()
    asked = [fact_id for job in template_jobs(facts, seed=3) for fact_id in job.cards]
    assert sorted(asked) == sorted(facts)
    assert asked == [row["fact_id"] for part in build_pairs(3).values() for row in part]
    assert {job.sample for job in template_jobs(facts, seed=3)} == {3}


def test_pairs_of_people_are_labelled_and_keyed_by_their_text():
    row = {"fact_id": "Feta/country", "question": "Where?", "answer": "Greece.", "kind": "ignored"}
    record = human_record([row])
    assert record["source"] == "human" and record["cards"] == ["Feta/country"]
    assert json.loads(record["text"]) == [
        {"fact_id": "Feta/country", "question": "Where?", "answer": "Greece."}
    ]
    assert (
        human_record([row])["key"]
        == record["key"]
        != human_record([{**row, "answer": "From Greece."}])["key"]
    )


def test_colab_is_asked_through_its_own_module(monkeypatch):
    said = []
    module = SimpleNamespace(
        generate_text=lambda prompt, **options: said.append((prompt, options)) or "[]"
    )
    assert ColabAsker(module, "some-model").ask("Hello", system="Be kind.") == (
        "[]",
        "some-model",
        "STOP",
        0,
        0,
    )
    assert said == [("Be kind.\n\nHello", {"model_name": "some-model"})]
    assert ColabAsker(SimpleNamespace(generate_text=lambda prompt: None)).ask("Hello").text == ""
    with pytest.raises(RuntimeError, match="in Colab only"):
        colab_asker()
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(ai=module))
    monkeypatch.setitem(sys.modules, "google.colab.ai", module)
    assert colab_asker().module is module


# --------------------------------------------------------------------------------------- the prompt
def test_the_prompt_has_persona_and_numbered_rules_and_each_rule_buys_something():
    prompt = system_prompt()
    assert "exuberant Greek professor" in prompt and f"{len(RULES)}. {RULES[-1].text}" in prompt
    assert (
        all(len(rule.buys) > 20 for rule in RULES)
        and len({rule.buys for rule in RULES}) == len(RULES) >= 10
    )
    for word in ("JSON", "fact_id", "double quotes", "full stop", "English"):
        assert word in prompt


def test_the_marks_that_the_prompt_asks_for_are_those_that_are_looked_for():
    from lab_utils.pavlos.corpus import speaks_pavlos, voice_marks

    rule = next(rule.text for rule in RULES if "Welcome" in rule.text)
    assert all(voice_marks(rule.replace("...", "that it is")).values()) and speaks_pavlos(rule)


def test_the_user_prompt_lists_the_cards():
    facts = facts_by_id()
    prompt = user_prompt([facts["Feta/milk"], facts["Brie de Meaux/country"]], "shortly", "a guest")
    assert prompt.splitlines() == [
        "How to ask: shortly",
        "Who asks: a guest",
        "Write 2 items, one for each of these fact cards:",
        "[Feta/milk] Feta is made from sheep and goat milk.",
        "[Brie de Meaux/country] Brie de Meaux comes from France.",
    ]
    assert not user_prompt([facts["Feta/milk"]]).startswith("How")


# ------------------------------------------------------------------------------- what is still owed
CARDS = ("Feta/milk", "Feta/country", "Gouda/country", "Manchego/milk")
FOUR = Job(user_prompt([facts_by_id()[card] for card in CARDS]), CARDS)


class Scripted:
    """Answers with one (text, finish reason) after the other, and keeps the prompts."""

    def __init__(self, *replies):
        self.replies, self.prompts = list(replies), []

    def ask(self, prompt, *, system=None):
        self.prompts.append(prompt)
        text, reason = self.replies.pop(0)
        return LocalReply(text, "scripted-1", reason, 3, 4)


def named_cards(record):
    """The cards whose ids stand in the reply: a gate that is easy to see through."""
    return {card for card in record["cards"] if card in record["text"]}


def asked_again(tmp_path, *replies, job=FOUR):
    """Runs until nothing is asked: (prompts of each run, what is missing at the end)."""
    raw, asker, runs = RawReplies(tmp_path / "raw.jsonl"), Scripted(*replies), []
    for _ in range(len(replies) + 1):
        before = len(asker.prompts)
        generate([job], asker, raw, "fake", given=named_cards, progress=False)
        runs.append(asker.prompts[before:])
    return runs, shortfall([job], raw, "fake", None, named_cards)


@pytest.mark.parametrize(
    "text, reason, why",
    [
        ("", "STOP", "in empty replies"),
        ("Sorry, no.", "STOP", "in replies without a pair"),
        ("", "SAFETY", "blocked (SAFETY)"),
        ("", "PROHIBITED_CONTENT", "blocked (PROHIBITED_CONTENT)"),
        ("[", "MAX_TOKENS", "cut off"),
    ],
)
def test_a_reply_that_gave_nothing_is_asked_for_once_a_run(tmp_path, text, reason, why):
    raw = RawReplies(tmp_path / "raw.jsonl")
    for run in range(3):
        tally = generate(
            [FOUR], Scripted((text, reason)), raw, "fake", given=named_cards, progress=False
        )
        assert tally.asked == 1 and len(raw.records) == run + 1
    assert shortfall([FOUR], raw, "fake", None, named_cards) == {why: 4}
    generate([FOUR], Scripted(), raw, "fake", progress=False)  # without `given` nothing is asked


def test_a_cut_reply_is_asked_for_what_it_owes_and_no_more(tmp_path):
    runs, missing = asked_again(
        tmp_path, ("Feta/milk Feta/country", "MAX_TOKENS"), (" ".join(CARDS), "STOP")
    )
    assert [len(prompts) for prompts in runs] == [1, 1, 0]
    first, second = runs[0][0], runs[1][0]
    assert all(f"[{card}]" in first for card in CARDS) and "Write 4 items" in first
    assert "Write 2 items" in second and "[Feta/" not in second
    assert "[Gouda/country]" in second and "[Manchego/milk]" in second
    assert missing == {}


def test_a_reply_that_gave_its_pairs_is_never_asked_for_again(tmp_path):
    runs, missing = asked_again(tmp_path, ("Feta/milk", "STOP"))
    assert [len(prompts) for prompts in runs] == [1, 0]
    assert missing == {"refused or left out": 3}
    other = tmp_path / "other"
    runs, missing = asked_again(other, (" ".join(CARDS), "MAX_TOKENS"))
    assert [len(prompts) for prompts in runs] == [1, 0] and missing == {}, "cut behind the last"


def test_what_was_not_asked_for_is_told(tmp_path):
    raw = RawReplies(tmp_path / "raw.jsonl")
    assert shortfall(JOBS, raw, "fake", None, named_cards) == {"not asked for yet": len(JOBS)}


def test_a_hopeless_error_ends_it_at_once(tmp_path):
    asker = Fake({job.prompt: Trouble("no price") for job in JOBS})
    tally = run(
        asker, tmp_path / "raw", limit=2, skip_on=(Trouble,), hopeless=lambda e: "price" in str(e)
    )
    assert len(asker.asked) == 1 and tally.stopped == "Trouble: no price" and tally.left == 0


def test_an_attempt_has_a_key_of_its_own_and_the_first_keeps_the_old_one():
    second = Job(FOUR.prompt, FOUR.cards, attempt=1)
    assert prompt_key(FOUR, "a", None) != prompt_key(second, "a", None)
    assert prompt_key(Job("p", ()), "template", None) == "16c46123ec7429a4096070274b992e02"
