"""From raw replies to the dataset: every step by hand-made rows, the whole by its bytes, the
measures by independent truth.
"""

import contextlib
import dataclasses
import io
import json
import math
import os
import random
import re
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter

import datasets
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.__main__ import main
from lab_utils.files import LabKitError
from lab_utils.gemini import client as gemini
from lab_utils.pavlos import FOLDER, add_arguments, load_pairs, publish, write_pairs
from lab_utils.pavlos.ask import (
    LEVEL_OF_KIND,
    LEVELS,
    QUESTION_TYPES,
    Job,
    LocalReply,
    RawReplies,
    coverage,
    grid,
    grid_jobs,
    human_record,
    make_record,
    question_type_of,
    topic_of,
)
from lab_utils.pavlos.build import (
    build,
    content_words,
    copycat,
    distinct_n,
    diversity,
    drop_copies,
    facts_by_id,
    jaccard,
    jaccard_matrix,
    leak,
    matches,
    measured,
    near_duplicates,
    read_reply,
    rouge_l,
    split_by,
    split_by_row,
)
from lab_utils.pavlos.corpus import build_pairs, speaks_pavlos, voice_marks
from lab_utils.pavlos.facts import SPLITS, all_facts, is_right, objections, split_subjects
from lab_utils.pavlos.fault_box import faults
from lab_utils.pavlos.judge import (
    CRITERIA,
    agreement,
    cohens_kappa,
    load_rubric,
    rubric_shares,
    with_controls,
)
from lab_utils.pavlos.parse import Item, guess_language
from lab_utils.pavlos.publish import (
    FORMATS,
    as_completion,
    as_gemini,
    as_messages,
    csv_text,
    dataset_card,
    export,
    size_category,
    write,
)

FACTS = facts_by_id()
VOICED = "Welcome, welcome, welcome! A golden question. {} I swear to you, it is easy!"


def item(fact_id, question="", answer=""):
    fact = FACTS[fact_id]
    return {
        "fact_id": fact_id,
        "question": question or fact.questions()[0],
        "answer": answer or VOICED.format(fact.statement()),
    }


def record(items, cards=None, source="fake", text=None, finish_reason="STOP", number=0):
    cards = tuple(cards or [entry["fact_id"] for entry in items])
    reply = LocalReply(
        text if text is not None else json.dumps(items), "fake-1", finish_reason, 100, 50
    )
    return make_record(Job(f"prompt {number}", cards), reply, source, None, "2026-11-03T10:00")


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A folder built from nothing by the command; `said.txt` beside it is what the command said."""
    folder, said = tmp_path_factory.mktemp("offline"), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        assert main(["pavlos", "--offline", "--out", str(folder)]) == 0
    folder.with_suffix(".txt").write_text(said.getvalue(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def rows():
    return [row for split in SPLITS for row in load_pairs(split)]


# ---------------------------------------------------------------------------------------- the whole
def test_the_offline_build_is_what_ships_byte_for_byte(offline):
    shipped = [
        "train.jsonl",
        "validation.jsonl",
        "test.jsonl",
        "README.md",
        "report.json",
        "raw/template.jsonl",
    ]
    for name in shipped:
        assert (offline / name).read_bytes() == (FOLDER / name).read_bytes(), (
            f"{name}: build it again and copy it here"
        )
    assert (offline / "quarantine.jsonl").read_bytes() == b""


def test_the_same_seed_gives_the_same_bytes_from_kept_replies_too(offline):
    files = {
        path.relative_to(offline): path.read_bytes()
        for path in offline.rglob("*")
        if path.is_file()
    }
    assert len(files) == 3 + 3 + 1 + 4 * 3
    records, tally = publish.template_replies(offline, 0, progress=False)
    assert (tally.asked, tally.reused) == (0, 88)
    publish.build_folder(records, offline, 0)
    assert {
        path.relative_to(offline): path.read_bytes()
        for path in offline.rglob("*")
        if path.is_file()
    } == files


def test_another_seed_has_other_replies_in_the_same_file(tmp_path):
    first, _ = publish.template_replies(tmp_path, 0, progress=False)
    second, tally = publish.template_replies(tmp_path, 5, progress=False)
    assert (tally.asked, tally.reused) == (88, 0) and len(second) == len(first) == 88
    assert not {record["key"] for record in first} & {record["key"] for record in second}
    built = build(second[:10], 5)
    expected = [row for part in build_pairs(5).values() for row in part][:200]
    assert [row for part in built.splits.values() for row in part] == expected
    assert publish.judged_rows(built) == [], "those rows were not read by anybody"
    assert "## Read by people" not in dataset_card(built.report)


def test_the_command_shows_progress_and_says_what_came_of_it(offline):
    said = offline.with_suffix(".txt").read_text(encoding="utf-8")
    assert "replies (template): 100%" in said
    for line in (
        "template: 88 calls made, 0 replies were there",
        "88 replies -> 1750 pairs; 0 refused, 0 copies dropped",
        f"train 1218, validation 281, test 251 pairs in {offline}",
    ):
        assert line in said.splitlines(), line


LOAD = """
import json, socket, sys

def no_network(*_):
    raise OSError("a test must not need a network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network
from datasets import load_dataset
folder, told = sys.argv[1], {}
told["folder"] = load_dataset(folder)
for name in ("messages", "prompt_completion", "gemini_tuning"):
    told[name] = load_dataset("json", data_files={"test": f"{folder}/exports/{name}/test.jsonl"})
told["csv"] = load_dataset("csv", data_files={"test": f"{folder}/exports/csv/test.csv"})
assert "lab_utils" not in sys.modules
print(json.dumps({name: [data["test"].num_rows, data["test"][0]] for name, data in told.items()}))
"""


def test_datasets_does_not_give_an_older_builds_rows(tmp_path):
    """Two builds in folders of one name, one cache: each gets its own rows."""
    told = []
    for place, word in (("first", "golden"), ("second", "silver")):
        rows = [{**row, "question": f"{word} {row['question']}"} for row in load_pairs("test")[:9]]
        splits = {"train": rows[:3], "validation": rows[3:6], "test": rows[6:]}
        write_pairs(splits, tmp_path / place / "pavlos")
        yaml = publish.front_matter(9, measured(splits, FACTS)["digest"])
        (tmp_path / place / "pavlos" / "README.md").write_text(yaml, encoding="utf-8")
        loaded = datasets.load_dataset(str(tmp_path / place / "pavlos"), cache_dir=str(tmp_path))
        told.append(loaded["test"][0]["question"].split()[0])
    assert told == ["golden", "silver"]


def test_datasets_loads_the_build_and_its_exports_without_our_code(offline, tmp_path):
    environ = {
        **os.environ,
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    environ.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, str(offline)],
        cwd=tmp_path,
        env=environ,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    loaded, first = json.loads(done.stdout.splitlines()[-1]), load_pairs("test", offline)[0]
    assert {name: n for name, (n, _) in loaded.items()} == dict.fromkeys(loaded, 251)
    assert loaded["folder"][1] == loaded["csv"][1] == first
    assert loaded["messages"][1] == as_messages(first) and loaded["prompt_completion"][
        1
    ] == as_completion(first)
    assert loaded["gemini_tuning"][1] == as_gemini(first)


# ---------------------------------------------------------------------------------------- one reply
def test_a_reply_with_everything_wrong_keeps_its_good_pair():
    good, other = item("Feta/milk"), item("Feta/country")
    wrong = [
        {**other, "answer": VOICED.format("Feta comes from France.")},
        {**other, "answer": "Feta comes from Greece."},
        {**other, "fact_id": "Brie/country"},
        {**other, "answer": VOICED.format("Feta comes from Greece, as Halloumi does.")},
        {**other, "answer": "Welcome, welcome, welcome! A golden question. Feta comes from"},
    ]
    kept, refused, rung = read_reply(
        record([good, *wrong], cards=["Feta/milk", "Feta/country"]), FACTS
    )
    assert kept == [{**good, "kind": "milk", "source": "fake"}]
    reasons = [entry["reason"] for entry in refused]
    assert len(reasons) == 5 and rung == "json"
    for part in (
        "does not give the card's fact",
        "fewer than two",
        "'Brie/country' is none of the 2 cards",
        "in mid-sentence",
    ):
        assert any(part in reason for reason in reasons), part
    assert all(entry["key"] and entry["source"] == "fake" and entry["text"] for entry in refused)


def test_a_card_that_was_not_asked_for_is_refused_and_one_alone_needs_no_id():
    assert read_reply(record([item("Feta/milk")], cards=["Feta/country"]), FACTS)[0] == []
    nameless = {name: value for name, value in item("Feta/milk").items() if name != "fact_id"}
    assert [
        row["fact_id"] for row in read_reply(record([nameless], cards=["Feta/milk"]), FACTS)[0]
    ] == ["Feta/milk"]
    two = ["Feta/milk", "Feta/country"]  # of several cards, the only one that the pair fits
    for row in (nameless, {**nameless, "fact_id": None}, {**nameless, "fact_id": 1}):
        kept, _, _ = read_reply(record([row], cards=two), FACTS)
        assert [row["fact_id"] for row in kept] == ["Feta/milk"]
    for cards in (["Feta/country", "Brie de Meaux/milk"], ["Feta/milk", "Feta/milk/again"]):
        facts = FACTS | {"Feta/milk/again": FACTS["Feta/milk"]}
        kept, refused, _ = read_reply(record([nameless], cards=cards), facts)
        assert kept == [] and "fact_id: missing" in refused[0]["reason"]


@pytest.mark.parametrize("given", ["[Feta/milk]", "FETA / milk", "feta_milk", "card Feta/milk"])
@pytest.mark.parametrize("name", ["fact_id", "id", "card_id", "factId", "Fact ID", "card"])
def test_a_card_is_found_under_any_name_and_in_any_dress(name, given):
    row = item("Feta/milk")
    row[name] = row.pop("fact_id").replace("Feta/milk", given)
    kept, _, _ = read_reply(record([row], cards=["Feta/milk", "Feta/country"]), FACTS)
    assert [row["fact_id"] for row in kept] == ["Feta/milk"]


def test_the_cards_of_the_fault_box_are_found():
    """Whatever its dress, a pair that a reply gives under a card goes to that card."""
    found = 0
    for fault in faults():
        if not fault.cards or any(card not in FACTS for card in fault.cards):
            continue
        told = {"key": fault.name, "source": "fake", "cards": list(fault.cards)}
        told |= {"text": fault.reply, "finish_reason": fault.finish_reason}
        for row in read_reply(told, FACTS)[0]:
            assert objections(FACTS[row["fact_id"]], row["question"], row["answer"]) == []
            assert (row["question"], row["answer"]) in fault.whole
            found += 1
    assert found > 250


def test_a_cut_off_reply_keeps_its_whole_pairs_and_says_so():
    text = json.dumps([item("Feta/milk"), item("Feta/country")])[:-30]
    cut = record([], cards=["Feta/milk", "Feta/country"], text=text, finish_reason="MAX_TOKENS")
    kept, refused, rung = read_reply(cut, FACTS)
    assert [row["fact_id"] for row in kept] == ["Feta/milk"] and rung == "scan"
    assert len(refused) == 1 and refused[0]["reason"].startswith(
        "cut off (finish reason MAX_TOKENS)"
    )


def test_a_build_of_several_sources_counts_copies_refusals_and_provenance(tmp_path):
    copy = {**item("Feta/milk"), "question": "what milk is FETA made from"}
    human = human_record(
        [item("Roquefort/milk", "Pavlos, which milk is in my Roquefort?")], "a student"
    )
    bad = record([{"question": 3}], ["Feta/milk"], number=1)
    built = build([record([item("Feta/milk"), copy, item("Feta/country")]), bad, human])
    report = built.report
    assert (report["rows"], report["copies"], report["refused"], report["replies"]) == (3, 1, 1, 3)
    assert report["sources"] == {
        "fake": {
            "models": ["fake-1"],
            "calls": 2,
            "days": ["2026-11-03"],
            "tokens": 300,
            "rows": 2,
        },
        "human": {"models": ["a student"], "calls": 1, "days": [], "tokens": 0, "rows": 1},
    }
    assert Counter(row["source"] for part in built.splits.values() for row in part) == {
        "fake": 2,
        "human": 1,
    }
    write(
        built, tmp_path, dataset_card({**report, "sources": {"human": report["sources"]["human"]}})
    )
    (entry,) = [
        json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()
    ]
    assert "question: expected text, got int" in entry["reason"] and json.loads(entry["text"]) == {
        "question": 3
    }


def test_half_an_emoji_reaches_the_disk_harmless(tmp_path):
    broken = {**item("Feta/milk"), "note": "\ud83e", "answer": 5}
    built = build([record([item("Feta/country"), broken], cards=["Feta/country", "Feta/milk"])])
    write(built, tmp_path, "card")
    assert len((tmp_path / "quarantine.jsonl").read_bytes().splitlines()) == 1


def test_nothing_left_is_said():
    with pytest.raises(ValueError, match="no pair is left of 1 replies"):
        build([record([], cards=["Feta/milk"], text="Sorry.")])


# -------------------------------------------------------------------------- duplicates and language
def test_copies_are_dropped_and_the_first_stays():
    one, two = (
        {"question": "Où est Feta?", "answer": "Here."},
        {"question": "ou est FETA", "answer": "here!"},
    )
    other = {"question": "Où est Feta?", "answer": "There."}
    assert drop_copies([one, two, other, one]) == ([one, other], [two, one])


def test_rouge_merges_different_cheeses_and_content_words_do_not():
    a, b = "Which country does Feta come from?", "Which country does Brie come from?"
    assert rouge_l(a, b) == pytest.approx(5 / 6)
    assert jaccard(content_words(a), content_words(b)) == 2 / 4  # country, come | feta, brie
    same = "Tell me: the country Feta does come from, which is it?"
    assert jaccard(content_words(a), content_words(same)) == 1.0 > 0.7 > rouge_l(a, same)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abc defé", max_size=12), min_size=1, max_size=8))
def test_the_matrix_is_jaccard_pair_by_pair(texts):
    table = jaccard_matrix(texts, texts[:3])
    for i, text in enumerate(texts):
        for j, other in enumerate(texts[:3]):
            assert table[i, j] == pytest.approx(
                jaccard(content_words(text), content_words(other)), abs=1e-6
            )


def test_near_duplicates_are_those_of_the_slow_way(rows):
    questions = [row["question"] for row in rows[:150]]
    for threshold in (0.4, 0.5, 0.7):
        slow = matches(
            questions, lambda a, b: jaccard(content_words(a), content_words(b)), threshold
        )
        assert [(i, j) for i, j, _ in near_duplicates(questions, threshold)] == [
            (i, j) for i, j, _ in slow
        ]
    assert len(near_duplicates(questions, 0.4)) > 0


def test_of_the_shipped_questions_rouge_would_merge_many_facts(rows):
    sample = random.Random(0).sample(rows, 150)
    questions = [row["question"] for row in sample]
    merged = [
        (i, j)
        for i, j, _ in matches(questions, rouge_l)
        if sample[i]["fact_id"] != sample[j]["fact_id"]
    ]
    assert len(merged) > 20 > 2 >= len(near_duplicates(questions))


@pytest.mark.parametrize(
    "text, language",
    [
        ("Where does Feta come from?", "en"),
        ("Aus welchem Land kommt der Käse und wie schmeckt er?", "de"),
        ("Quel est le goût du fromage dans votre région ?", "fr"),
        ("¿De qué leche se hace el queso y cómo es?", "es"),
        ("Di quale latte è fatto il formaggio con la crosta?", "it"),
        ("Από ποιο γάλα είναι το τυρί;", "el"),
        ("Käse 42", "?"),
        ("", "?"),
    ],
)
def test_languages(text, language):
    assert guess_language(text) == language


def test_every_shipped_row_is_told_as_english(rows):
    assert {guess_language(row["question"] + " " + row["answer"]) for row in rows} == {"en"}


def test_foreign_rows_and_near_duplicates_are_flagged_and_kept():
    german = {
        **item("Feta/milk"),
        "question": "Aus welcher Milch ist der Feta und wie wird er aus der Milch gemacht?",
        "answer": "Welcome, welcome, welcome! Golden, golden! Der Feta ist aus der Milch von sheep "
        "und goat, und das.",
    }
    twice = [
        item("Brie de Meaux/milk", "What milk is Brie de Meaux made from?"),
        item("Brie de Meaux/milk", "From which milk is Brie de Meaux made?"),
    ]
    report = build([record([german, *twice])]).report
    assert report["rows"] == 3
    assert report["flagged"] == {
        "near_duplicates": [[twice[0]["question"], twice[1]["question"], 1.0]],
        "language": [german["question"]],
        "unchecked": [
            [german["question"], "the question may ask for something else than the milk"]
        ],
    }


# ---------------------------------------------------------------------------------------- splitting
def many_rows(n=200):
    return [
        {"question": question, "answer": fact.statement(), "fact_id": fact.fact_id}
        for fact in all_facts()[:n]
        for question in fact.questions()
    ]


def test_a_split_by_row_leaks_and_a_split_by_fact_does_not():
    rows = many_rows()
    by_row, parts = split_by_row(rows, 0), split_subjects(0)
    by_subject = split_by(rows, lambda row: FACTS[row["fact_id"]].subject, parts)
    assert leak(by_row["train"], by_row["test"]) > 0.99
    assert leak(by_subject["train"], by_subject["test"]) == 0.0
    assert sum(map(len, by_row.values())) == sum(map(len, by_subject.values())) == len(rows)
    right = {}
    for name, splits in (("row", by_row), ("subject", by_subject)):
        answers = copycat(splits["train"], splits["test"])
        right[name] = sum(
            is_right(FACTS[row["fact_id"]], said) for row, said in zip(splits["test"], answers)
        ) / len(answers)
    assert right["row"] > 0.65 and right["subject"] < 0.1


def test_splits_keep_every_row_once_and_in_order():
    rows = [{"fact_id": str(i % 7), "n": i} for i in range(50)]
    parts = {"train": {"0", "1", "2", "3", "4"}, "validation": {"5"}, "test": {"6"}}
    splits = split_by(rows, lambda row: row["fact_id"], parts)
    assert [row["n"] for row in splits["test"]] == [6, 13, 20, 27, 34, 41, 48]
    assert sorted(row["n"] for part in splits.values() for row in part) == list(range(50))
    with pytest.raises(KeyError):
        split_by(rows, lambda row: "unknown", parts)


def test_leak_by_hand():
    train, held_out = (
        [{"fact_id": "a"}, {"fact_id": "a"}, {"fact_id": "b"}],
        [{"fact_id": x} for x in "aacd"],
    )
    assert leak(train, held_out) == 0.5
    assert leak(train, held_out, lambda row: "same") == 1.0
    with pytest.raises(ValueError, match="no held-out rows"):
        leak(train, [])


def test_the_shipped_splits_share_no_fact_and_no_subject(rows):
    report = json.loads((FOLDER / "report.json").read_text(encoding="utf-8"))
    assert report["leak"] == {"facts": 0.0, "subjects": 0.0}
    splits = {split: load_pairs(split) for split in SPLITS}
    for one in ("validation", "test"):
        assert leak(splits["train"], splits[one], lambda row: FACTS[row["fact_id"]].subject) == 0.0


# --------------------------------------------------------------------------- diversity and coverage
def test_distinct_n_by_hand():
    assert distinct_n(["golden golden cheese", "golden cheese"], 2) == 2 / 3
    assert distinct_n(["Golden, GOLDEN!"], 1) == 1 / 2
    with pytest.raises(ValueError, match="no text has 3 words"):
        distinct_n(["two words"], 3)


def test_distinct_n_is_nltks_count(rows):
    sets, total = set(), 0
    for row in rows[:60]:
        words = re.sub(r"[^\w\s]", " ", row["answer"].lower()).split()
        sets |= set(zip(words, words[1:]))
        total += len(words) - 1
    assert distinct_n(
        [re.sub(r"[^\w\s]", " ", row["answer"]) for row in rows[:60]], 2
    ) == pytest.approx(len(sets) / total)


def test_diversity_of_the_shipped_rows_is_as_the_card_says(rows):
    told = diversity(rows)
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert (
        f"| question | {told['question']['distinct_1']:.3f} | "
        f"{told['question']['distinct_2']:.3f} | 100.0% |" in card
    )
    assert told["question"]["distinct_2"] > 2 * told["answer"]["distinct_2"], (
        "the voice repeats itself, the questions less"
    )
    lengths = [len(row["question"].split()) for row in rows]
    assert told["question"]["words"] == pytest.approx(sum(lengths) / len(lengths))


@pytest.mark.parametrize(
    "question, kind",
    [
        ("Which country makes Feta?", "open"),
        ("To which group of cheeses does Feta belong?", "open"),
        ("Tell me what it is.", "request"),
        ("I forgot the pH at which casein curdles.", "request"),
        ("Is Feta soft or hard?", "yes or no"),
        ("do you know rennet", "yes or no"),
        ("Feta is made in which country?", "turned"),
        ("The enzyme that splits fat: what is it?", "turned"),
        ("Please, What is whey?", "open"),
        ("quick question: tell me the milk of feta", "request"),
        ("Professor, what is whey?", "open"),
        ("Describe Feta.", "request"),
        ("For my homework: Does Feta have a rind?", "yes or no"),
        ("For how long does Feta age?", "open"),
        ("Name the tool.", "request"),
    ],
)
def test_question_types(question, kind):
    assert question_type_of(question) == kind


def test_every_question_form_of_a_kind_has_a_type_and_all_types_occur():
    facts = FACTS["Feta/milk"], FACTS["milk-sugar"]
    forms = [form for fact in facts for held in (False, True) for form in fact.questions(held)]
    assert {question_type_of(form) for form in forms} == set(QUESTION_TYPES)


def test_coverage_counts_every_row_once_and_knows_the_empty_cells(rows):
    counts = coverage(rows)
    assert sum(counts.values()) == len(rows) and set(counts) == set(grid(all_facts()))
    assert (sum(n > 0 for n in counts.values()), len(counts)) == (165, 208)
    assert coverage([]) == dict.fromkeys(counts, 0)
    assert {level for _, _, level in counts} == set(LEVELS) and set(LEVEL_OF_KIND) == {
        fact.kind for fact in all_facts()
    }
    assert (
        topic_of(FACTS["Roquefort/milk"]) == "blue"
        and topic_of(FACTS["milk-sugar"]) == "science: milk"
    )


def test_calls_for_the_grid_ask_each_fact_once_in_its_own_cell():
    jobs = grid_jobs(all_facts(), seed=1)
    assert sorted(card for job in jobs for card in job.cards) == sorted(FACTS)
    for job in jobs:
        assert 1 <= len(job.cards) <= 20
        assert (
            len({(topic_of(FACTS[card]), LEVEL_OF_KIND[FACTS[card].kind]) for card in job.cards})
            == 1
        )
    assert grid_jobs(all_facts(), 1) == jobs != grid_jobs(all_facts(), 2)
    asked = Counter(job.prompt.splitlines()[0] for job in jobs)
    assert (
        set(asked) == {f"How to ask: {words}" for words in QUESTION_TYPES.values()}
        and min(asked.values()) >= len(jobs) // 4
    )


# ---------------------------------------------------------------------------------- export and card
ROW = {
    "question": "Où, “là”?",
    "answer": 'He said: "easy",\nand so.',
    "fact_id": "Feta/milk",
    "kind": "milk",
    "source": "human",
}


def test_each_format_by_hand():
    assert as_messages(ROW, "Be Pavlos.") == {
        "messages": [
            {"role": "system", "content": "Be Pavlos."},
            {"role": "user", "content": ROW["question"]},
            {"role": "assistant", "content": ROW["answer"]},
        ]
    }
    assert as_completion(ROW, "Be Pavlos.") == {
        "prompt": "Be Pavlos.\n\nOù, “là”?",
        "completion": ROW["answer"],
    }
    assert as_gemini(ROW, "Be Pavlos.") == {
        "systemInstruction": {"role": "system", "parts": [{"text": "Be Pavlos."}]},
        "contents": [
            {"role": "user", "parts": [{"text": ROW["question"]}]},
            {"role": "model", "parts": [{"text": ROW["answer"]}]},
        ],
    }
    assert all("ystem" not in json.dumps(frame(ROW, None)) for frame in FORMATS.values())


def test_exports_are_read_back_by_other_libraries(tmp_path):
    paths = export(
        {"train": [ROW, {**ROW, "question": "Which?"}], "test": []}, tmp_path, "Be Pavlos."
    )
    assert pd.read_csv(tmp_path / "csv" / "train.csv").to_dict("records")[0] == ROW
    assert len(pd.read_json(tmp_path / "gemini_tuning" / "train.jsonl", lines=True)) == 2
    assert (tmp_path / "messages" / "test.jsonl").read_bytes() == b"" and not (
        tmp_path / "csv" / "test.csv"
    ).exists()
    assert all(path.exists() for path in paths) and len(paths) == 7
    assert csv_text([ROW]).startswith("question,answer,fact_id,kind,source\n")


def test_the_card_names_the_model_and_never_calls_a_template_one(offline):
    card = (offline / "README.md").read_text(encoding="utf-8")
    assert (
        "no language model took part" in card
        and "| template | 1,750 | 88 | none: filled templates |" in card
    )
    assert "written by Gemini" not in card
    built = build(
        [{**record([item("Feta/milk")]), "source": "gemini/gemini-x", "model": "gemini-x-001"}]
    )
    card = dataset_card(built.report)
    assert (
        "| gemini/gemini-x | 1 | 1 | gemini-x-001 | 2026-11-03 | 150 |" in card
        and "written by Gemini from fact cards" in card
    )
    assert "no language model took part" not in card and "| 1 | none |" in card
    assert [size_category(n) for n in (10, 1_750, 20_000, 10**6)] == [
        "n<1K",
        "1K<n<10K",
        "10K<n<100K",
        "100K<n<1M",
    ]


# ---------------------------------------------------------------------------------------- people
def test_the_rubric_judges_a_hundred_shipped_rows_and_says_by_whom(rows):
    header, judged = load_rubric()
    assert any("rated by: the authors, by reading" in line for line in header)
    own = {(row["fact_id"], row["question"], row["answer"]) for row in rows}
    assert (
        len(judged) == 100
        and {(row["fact_id"], row["question"], row["answer"]) for row in judged} <= own
    )
    assert [row["question"] for row in judged] == [
        row["question"] for row in random.Random(0).sample(rows, 100)
    ]
    assert all(row[name] in ("0", "1") for row in judged for name in CRITERIA)
    assert all(row["note"] for row in judged if "0" in [row[name] for name in CRITERIA]), (
        "each 0 has its reason"
    )
    shares = rubric_shares(judged)
    assert shares == {name: sum(int(row[name]) for row in judged) / 100 for name in CRITERIA}
    assert min(shares.values()) >= 0.9


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=30))
def test_kappa_is_the_contingency_tables(votes):
    """Independent truth: from the table of both raters' labels, by pandas."""
    a, b = zip(*votes)
    table = pd.crosstab(pd.Series(a), pd.Series(b)).reindex(
        index=range(3), columns=range(3), fill_value=0
    ) / len(votes)
    observed = sum(table.loc[i, i] for i in range(3))
    expected = float((table.sum(axis=1) * table.sum(axis=0)).sum())
    if expected > 1 - 1e-12:
        assert math.isnan(cohens_kappa(a, b))
    else:
        assert cohens_kappa(a, b) == pytest.approx((observed - expected) / (1 - expected), abs=1e-9)


def test_kappa_of_known_tables():
    # the textbook's 20, 5, 10, 15
    a, b = (
        ["y"] * 25 + ["n"] * 25,
        ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15,
    )
    assert cohens_kappa(a, b) == pytest.approx(0.4)
    assert cohens_kappa([1, 0, 1, 0], [1, 0, 1, 0]) == 1.0 and cohens_kappa([1, 0], [0, 1]) == -1.0
    for one, other in [([], []), ([1], [1, 0])]:
        with pytest.raises(ValueError, match="two equally long lists"):
            cohens_kappa(one, other)
    assert agreement({"x": "yes", "y": "no", "z": "yes"}, {"x": "yes", "y": "yes", "q": "no"}) == (
        2,
        0.5,
        0.0,
    )
    assert agreement({"x": "yes"}, {"y": "yes"}) == (0, 0.0, 0.0)


def test_controls_are_what_they_are_called(rows):
    controls = with_controls(rows[:90], FACTS, seed=0)
    assert Counter(row["control"] for row in controls) == {
        "as it is": 30,
        "no voice": 30,
        "wrong fact": 30,
    }
    for row in controls:
        told = is_right(FACTS[row["fact_id"]], row["answer"]), speaks_pavlos(row["answer"])
        assert (
            told
            == {"as it is": (True, True), "no voice": (True, False), "wrong fact": (False, True)}[
                row["control"]
            ]
        ), row
    assert with_controls(rows[:90], FACTS, 0) == controls != with_controls(rows[:90], FACTS, 1)
    assert all(
        sum(voice_marks(row["answer"]).values()) == 0
        for row in controls
        if row["control"] == "no voice"
    )


# ------------------------------------------------------------------------------------- with a model
class Client:
    """Stands in for a Gemini client: good pairs for each card, an error where told."""

    def __init__(self, error_at=None, error=None):
        self.calls, self.error_at, self.error = 0, error_at, error

    def ask(self, prompt, *, system=None, response_schema=None):
        assert response_schema == list[Item], "the form is asked of the service"
        self.calls += 1
        if self.calls == self.error_at:
            raise self.error
        cards = re.findall(r"^\[(.+?)\] ", prompt, re.M)
        return gemini.Reply(
            json.dumps([item(card) for card in cards]), "STOP", "gemini-x-001", 500, 900
        )


def options(folder, **changed):
    return Namespace(
        **{
            "out": folder,
            "seed": 0,
            "offline": False,
            "model": "gemini-x",
            "calls": 3,
            "budget": 0.5,
            "retry_failed": True,
            **dict.fromkeys(("free", "price", "base_url", "project", "location", "credentials")),
            "sdk": "google-genai",
            **changed,
        }
    )


def test_a_model_fills_the_same_pipeline_and_goes_on(tmp_path, monkeypatch, capsys):
    clients = [
        Client(),
        Client(3, gemini.QuotaExhausted("quota per day", "come back tomorrow")),
        Client(),
    ]
    monkeypatch.setattr(gemini, "connect", lambda **_: clients.pop(0))
    assert publish.run(options(tmp_path)) == 0, "the limit was the user's wish"
    said = capsys.readouterr().out
    assert "limit of calls reached: 110 are left" in said and "not asked for yet" in said
    assert publish.run(options(tmp_path, calls=10)) == 1
    said = capsys.readouterr().out
    assert (
        "2 calls made, 3 replies were there" in said
        and "come back tomorrow" in said
        and "the same command goes on" in said
    )
    assert publish.run(options(tmp_path, calls=None)) == 0
    assert f"{113 - 5} calls made, 5 replies were there" in capsys.readouterr().out
    rows = [row for split in SPLITS for row in load_pairs(split, tmp_path)]
    assert {row["source"] for row in rows} == {"gemini/gemini-x"} and len(rows) == len(FACTS)
    assert len(RawReplies(tmp_path / "raw" / "gemini.jsonl").records) == 113
    assert "written by Gemini" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_no_key_is_said_with_the_way_without_one(tmp_path, monkeypatch):
    def no_key(**_):
        raise gemini.KeyProblem("no key", "set GEMINI_API_KEY")

    monkeypatch.setattr(gemini, "connect", no_key)
    with pytest.raises(LabKitError, match="(?s)set GEMINI_API_KEY.*--offline"):
        publish.run(options(tmp_path))


def test_no_reply_at_all_and_no_good_pair_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(
        gemini, "connect", lambda **_: Client(1, gemini.BudgetSpent("budget", "nothing left"))
    )
    with pytest.raises(LabKitError, match="no reply yet"):
        publish.run(options(tmp_path))
    monkeypatch.setattr(
        gemini,
        "connect",
        lambda **_: type(
            "Mute",
            (Client,),
            {"ask": lambda self, prompt, **_: gemini.Reply("", "SAFETY", "m", 1, 0)},
        )(),
    )
    with pytest.raises(LabKitError, match="no pair is left of 3 replies"):
        publish.run(options(tmp_path))


@pytest.mark.slow
def test_a_run_with_bad_replies_says_what_is_missing_and_finishes_the_next_time(
    tmp_path, monkeypatch, capsys
):
    class Moody(Client):
        """Its first replies: cut off, blocked, empty, a refusal; then all is well."""

        def ask(self, prompt, **options):
            good = super().ask(prompt, **options)
            changes = {
                1: {"text": good.text[: len(good.text) // 2], "finish_reason": "MAX_TOKENS"},
                2: {"text": "", "finish_reason": "SAFETY"},
                3: {"text": ""},
                4: {"text": "Sorry, I can't do that."},
            }.get(self.calls, {})
            return dataclasses.replace(good, **changes)

    clients = [Moody(), Client(), Client()]
    monkeypatch.setattr(gemini, "connect", lambda **_: clients.pop(0))
    assert publish.run(options(tmp_path, calls=None)) == 1
    said = capsys.readouterr().out
    assert "pairs are missing: " in said
    for reason in ("cut off", "blocked (SAFETY)", "in empty replies", "in replies without a pair"):
        assert reason in said
    first = sum(len(load_pairs(split, tmp_path)) for split in SPLITS)
    assert first < len(FACTS)
    assert publish.run(options(tmp_path, calls=None)) == 0
    said = capsys.readouterr().out
    assert "4 calls made" in said and "missing" not in said
    assert sum(len(load_pairs(split, tmp_path)) for split in SPLITS) == len(FACTS)
    assert publish.run(options(tmp_path, calls=None)) == 0
    assert "0 calls made, 113 replies were there" in capsys.readouterr().out


def test_without_retry_bad_replies_stay_as_they_are(tmp_path, monkeypatch, capsys):
    class Blocked(Client):
        def ask(self, prompt, **options):
            good = super().ask(prompt, **options)
            return gemini.Reply("", "SAFETY", "m", 1, 0) if self.calls == 1 else good

    clients = [Blocked(), Client()]
    monkeypatch.setattr(gemini, "connect", lambda **_: clients.pop(0))
    for asked in (3, 0):
        assert publish.run(options(tmp_path, calls=asked, retry_failed=False)) == 1
        said = capsys.readouterr().out
        assert f"{asked} calls made" in said and "blocked (SAFETY)" in said


@pytest.mark.parametrize("kind", ["no price", "retired", "not found"])
def test_a_model_that_cannot_be_asked_says_so_at_once(kind, tmp_path, monkeypatch, capsys):
    client = Client(2, gemini.GeminiError(kind, "take another model"))
    monkeypatch.setattr(gemini, "connect", lambda **_: client)
    assert publish.run(options(tmp_path, calls=5)) == 1
    said = capsys.readouterr().out
    assert client.calls == 2 and f"{kind}: take another model" in said and "limit" not in said


def test_the_command_retries_by_default():
    parser = ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args([]).retry_failed
    assert not parser.parse_args(["--no-retry-failed"]).retry_failed
