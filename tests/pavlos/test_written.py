"""The written edition: its gate refuses every kind of planted fault, and passes what ships."""

import json
import re
from collections import Counter

import pytest

from lab_utils.pavlos import FOLDER, load_pairs, written
from lab_utils.pavlos.corpus import speaks_pavlos
from lab_utils.pavlos.facts import SPLITS, split_subjects
from lab_utils.pavlos.publish import dataset_card
from lab_utils.pavlos.written import (
    COLUMNS,
    as_pairs,
    check_written,
    cheeses_in,
    compared,
    counts,
    faults,
    faults_between,
    load_written,
    split_for,
    with_notes,
)

TAIL = (
    "I learnt it from my uncle, who sang to his barrels and paid his taxes in jars, and who never "
    "once was late for supper at our long table."
)


def row_of(output, fact_ids=(), question="What do you know about it, Pavlos?", kind="talk"):
    return with_notes(
        {"instruction": question, "output": output, "fact_ids": list(fact_ids), "kind": kind}
    )


@pytest.fixture(scope="module")
def rows():
    return load_written()


# ---------------------------------------------------------------------------------------- the file
def test_the_shipped_edition_passes_its_gate(rows):
    assert check_written(rows) is rows


def test_it_is_as_large_and_as_ignorant_as_promised(rows):
    many = counts(rows)
    assert len(rows) >= 400 and many["kind"]["unknown"] >= 60
    assert min(many["kind"].values()) >= 10, "every kind of question is there"
    assert set(many["kind"]) == set(written.KINDS)
    assert set(many["notes"]) == {0, 1, 2, 3, 4, 5}
    shares = {split: n / len(rows) for split, n in many["split"].items()}
    assert 0.7 < shares["train"] < 0.85 and min(shares.values()) > 0.08


def test_lengths_differ_as_those_of_a_talking_man(rows):
    lengths = [len(row["output"].split()) for row in rows]
    assert min(lengths) >= 30 and max(lengths) <= 90
    assert min(sum(n < 45 for n in lengths), sum(n > 75 for n in lengths)) > 20


def test_no_subject_and_no_cheese_by_name_leaks(rows):
    parts = split_subjects(0)
    for row in rows:
        text = " ".join((row["instruction"], row["output"]))
        outside = set().union(*(parts[name] for name in SPLITS if name != row["split"]))
        assert not cheeses_in(text) & outside, row["instruction"]
        assert row["split"] == split_for(row)


def test_most_answers_bear_two_marks_and_none_its_neighbours_words(rows):
    assert sum(speaks_pavlos(row["output"]) for row in rows) / len(rows) >= 0.6
    runs = Counter()
    for row in rows:
        runs.update(set(re.findall(r"(?=(\bI swear (?:\S+ ){3}\S+))", row["output"])))
    assert max(runs.values()) <= 12, runs.most_common(3)


def test_it_is_clearly_more_diverse_than_the_templates(rows):
    template = [row["answer"] for split in SPLITS for row in load_pairs(split)]
    told = compared(template, [row["output"] for row in rows])
    for n in range(1, 5):
        ours, theirs = (told[name][f"distinct_{n}"] for name in ("written", "template"))
        assert ours > 3 * theirs, f"distinct-{n}: {ours:.3f} against {theirs:.3f}"


def test_reading_is_deterministic_and_by_split(rows):
    assert load_written() == rows
    assert [r for r in rows if r["split"] == "test"] == load_written("test")
    assert [with_notes(row) for row in rows] == rows
    assert all(tuple(row) == COLUMNS for row in rows)


# ---------------------------------------------------------------------------------------- the gate
GOOD = row_of(
    f"Manchego comes from Spain and is made from sheep milk. {TAIL}",
    ["Manchego/country", "Manchego/milk"],
)


def test_a_good_row_passes():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    "output, said",
    [
        (f"Manchego comes from Italy. Yes, from sheep milk. {TAIL}", "'italy'"),
        (f"Manchego is an Italian cheese of sheep milk. {TAIL}", "'italian'"),
        (f"Manchego, from Spain, is made from goat milk. {TAIL}", "'goat'"),
        (f"Manchego is a hard cheese from Spain. {TAIL}", "'hard'"),
        (f"Manchego from Spain has a washed rind. {TAIL}", "'washed"),
        (f"Manchego from Spain has its PDO. {TAIL}", "'pdo'"),
        (f"Manchego from Spain ages for 60 days. {TAIL}", "'60'"),
        (f"Manchego from Spain ages for sixty days. {TAIL}", "cannot be checked: 'sixty days'"),
        (f"Manchego from Spain goes well with quince paste. {TAIL}", "'quince paste'"),
        (f"Manchego from Spain tastes nutty. {TAIL}", "'nutty'"),
        (f"Manchego is from Spain, the land of chymosin. {TAIL}", "'chymosin'"),
        (f"Manchego does not come from Spain at all. Sheep milk. {TAIL}", "denies"),
        (f"Manchego of Spain was never made from sheep milk. {TAIL}", "denies"),
        (f"Manchego is from Spain, like Roncal. {TAIL}", "Roncal is neither asked for"),
        (f"Manchego is a thing of beauty, of joy and of salt. {TAIL}", "uses none of its notes"),
        ("Manchego comes from Spain. Twelve words are too few for Pavlos today.", "12 words"),
        (f"Manchego comes from Spain. {TAIL} {TAIL} {TAIL} {TAIL}", "words, expected 30 to 90"),
        (f"Manchego comes from Spain. {TAIL} And", "mid-sentence"),
    ],
)
def test_an_answer_that_says_more_or_else_than_its_notes_is_refused(output, said):
    found = faults({**GOOD, "output": output})
    assert any(said in fault for fault in found), found


def test_of_two_cheeses_each_keeps_its_own_facts():
    ids = ["Manchego/milk", "Roncal/country", "Gouda/milk", "Gouda/country"]
    right = f"Manchego is made from sheep milk; Gouda is made from cow milk. {TAIL}"
    wrong = f"Manchego is made from cow milk; Gouda is made from sheep milk. {TAIL}"
    assert faults(row_of(right, ids)) == []
    assert sum("says" in fault for fault in faults(row_of(wrong, ids))) == 2


def test_a_wrong_premise_may_be_denied_and_not_affirmed():
    question = "Is Manchego an Italian cheese?"
    ids = ["Manchego/country"]
    assert faults(row_of(f"Not Italian: Manchego comes from Spain. {TAIL}", ids, question)) == []
    assert faults(row_of(f"Italian, and Manchego comes from Spain. {TAIL}", ids, question))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"context": ["Manchego comes from Spain.", "Manchego is tasty."]}, "word for word"),
        ({"context": []}, "word for word"),
        ({"fact_ids": ["Manchego/colour"]}, "there is no fact 'Manchego/colour'"),
        ({"kind": "poem"}, "kind 'poem'"),
        ({"source": "human"}, "expected 'written'"),
        ({"split": "test"}, "stands in test, expected train"),
        ({"instruction": " "}, "instruction: expected text"),
        ({"instruction": "Manchego or Feta?"}, "several splits"),
        ({"kind": "unknown"}, "does not say so"),
    ],
)
def test_a_row_with_a_wrong_column_is_refused(change, said):
    found = faults({**GOOD, **change})
    assert any(said in fault for fault in found), found


def test_a_missing_column_is_named():
    assert "expected the columns" in faults({"instruction": "What?"})[0]
    with pytest.raises(ValueError, match="row 1: expected the columns"):
        check_written([GOOD, {"instruction": "What?"}])


def test_copies_near_copies_and_frames_are_refused(rows):
    assert any("outputs too much alike (1.00)" in f for f in faults_between([rows[0], rows[0]]))
    other = {**rows[1], "instruction": rows[0]["instruction"].upper()}
    assert any("instructions too much alike" in f for f in faults_between([rows[0], other]))
    opening = " ".join(rows[0]["output"].split()[:6])
    framed = {**rows[1], "output": f"{opening} and then {rows[1]['output']}"}
    assert any("the same opening" in f for f in faults_between([rows[0], framed]))
    closing = " ".join(rows[0]["output"].split()[-8:])
    framed = {**rows[1], "output": f"{rows[1]['output']} {closing}"}
    assert any("the same phrase" in f for f in faults_between([rows[0], framed]))
    assert faults_between(rows[:2]) == []


# ---------------------------------------------------------------------------------------- its uses
def test_pairs_carry_their_notes_or_leave_them(rows):
    noted = next(row for row in rows if len(row["context"]) > 1)
    bare = next(row for row in rows if not row["context"])
    with_them, without = as_pairs([noted, bare]), as_pairs([noted, bare], notes=False)
    assert (
        with_them[0]["question"] == f"{noted['instruction']}\nNotes: {' '.join(noted['context'])}"
    )
    assert [p["question"] for p in without] == [noted["instruction"], bare["instruction"]]
    assert with_them[1]["question"] == bare["instruction"]
    assert [p["answer"] for p in with_them] == [noted["output"], bare["output"]]


def test_the_card_compares_both_editions(rows):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    template = [row["answer"] for split in SPLITS for row in load_pairs(split)]
    told = compared(template, [row["output"] for row in rows])
    for name, values in told.items():
        cells = [f"{values[f'distinct_{n}']:.3f}" for n in range(1, 5)]
        assert f"| {' | '.join(cells)} | {values['marks']:.0%} |" in card
        assert f"| `{name}` | {values['pairs']:,} | {values['words']:.1f} |" in card
    report = json.loads((FOLDER / "report.json").read_text(encoding="utf-8"))
    assert "second edition" not in dataset_card(report)


def test_datasets_reads_it_without_this_code(rows, tmp_path):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(
        "json", data_files=str(written.WRITTEN), split="train", cache_dir=str(tmp_path)
    )
    assert loaded.column_names == list(COLUMNS) and loaded[0] == rows[0]
    assert loaded.num_rows == len(rows)
