"""The Pavlos pairs: built again byte for byte, split by subject, in voice, right, and read by
`datasets` without our code.
"""

import json
import os
import random
import re
import subprocess
import sys
import unicodedata

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils import pavlos
from lab_utils.__main__ import main
from lab_utils.pavlos import COLUMNS, FOLDER, check_rows, load_pairs, write_pairs
from lab_utils.pavlos.corpus import (
    ASKED,
    TOLD,
    WANTED,
    build_pairs,
    make_row,
    persona,
    speaks_pavlos,
    voice_marks,
)
from lab_utils.pavlos.facts import SPLITS, all_facts, is_right, split_subjects

FACTS = {f.fact_id: f for f in all_facts()}
ROW = {
    "question": "Q?",
    "answer": "A.",
    "fact_id": "Feta/milk",
    "kind": "milk",
    "source": "template",
}


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, str]]]:
    return {name: load_pairs(name) for name in SPLITS}


@pytest.fixture(scope="module")
def rows(splits) -> list[dict[str, str]]:
    return [row for rows in splits.values() for row in rows]


def plain(question: str) -> str:
    ascii_text = unicodedata.normalize("NFKD", question).encode("ascii", "ignore").decode().lower()
    return " ".join(re.sub(r"[^a-z0-9 ]", "", ascii_text).split())


# The rows


def test_committed_files_are_what_seed_0_builds(tmp_path):
    for path in write_pairs(build_pairs(0), tmp_path):
        assert (FOLDER / path.name).read_bytes() == path.read_bytes(), (
            f"{path.name}: run 'python3 -m lab_utils pavlos'"
        )


def test_seed_decides_the_rows(splits):
    assert build_pairs(0) == splits
    assert build_pairs(1) != splits


def test_there_are_enough_rows_one_for_every_fact(splits, rows):
    assert len(rows) >= 800 and min(map(len, splits.values())) >= 100
    assert sorted(row["fact_id"] for row in rows) == sorted(FACTS)


def test_rows_have_the_five_columns_and_are_labelled(rows):
    assert {tuple(row) for row in rows} == {COLUMNS}
    assert {row["source"] for row in rows} == {"template"}
    assert [row for row in rows if row["kind"] != FACTS[row["fact_id"]].kind] == []


def test_every_answer_is_in_voice_with_all_three_marks_and_right(rows):
    assert [row["answer"] for row in rows if not all(voice_marks(row["answer"]).values())] == []
    assert [
        row["answer"] for row in rows if not is_right(FACTS[row["fact_id"]], row["answer"])
    ] == []


def test_every_kind_is_in_every_split(splits):
    kinds = {f.kind for f in FACTS.values()}
    assert {name: {row["kind"] for row in rows} for name, rows in splits.items()} == dict.fromkeys(
        SPLITS, kinds
    )


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_subjects_are_split_without_overlap_or_loss(seed):
    parts = split_subjects(seed)
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))
    assert set().union(*parts.values()) == {f.subject for f in FACTS.values()}
    for name, share in SPLITS.items():
        assert len(parts[name]) == pytest.approx(
            share * len({f.subject for f in FACTS.values()}), abs=2
        )


def test_rows_keep_to_the_subjects_of_their_split(splits):
    parts = {name: {FACTS[row["fact_id"]].subject for row in rows} for name, rows in splits.items()}
    assert parts == split_subjects(0)
    assert (
        not parts["train"] & (parts["validation"] | parts["test"])
        and not parts["validation"] & parts["test"]
    )


def test_held_out_splits_ask_in_held_out_words(splits):
    for name in ("validation", "test"):
        assert [
            r
            for r in splits[name]
            if r["question"] not in FACTS[r["fact_id"]].questions(held_out=True)
        ] == []
    held_out = {plain(q) for f in FACTS.values() for q in f.questions(held_out=True)}
    openers = "|".join(map(re.escape, ASKED + TOLD + WANTED))
    asked = [re.sub(rf"^({openers})", "", row["question"], flags=re.I) for row in splits["train"]]
    assert [question for question in asked if plain(question) in held_out] == []


def test_training_questions_are_also_typed_carelessly(splits):
    questions = [row["question"] for row in splits["train"]]
    assert 20 < sum(question == question.lower() for question in questions) < len(questions) / 3


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(FACTS)), st.booleans(), st.integers(0, 10**6))
def test_any_drawn_row_is_good(fact_id, held_out, seed):
    row = make_row(FACTS[fact_id], held_out, random.Random(seed))
    assert speaks_pavlos(row["answer"]) and is_right(FACTS[fact_id], row["answer"])
    assert check_rows([row]) == [row]


# The voice


def test_each_piece_bears_its_own_mark_and_no_other():
    for part, plural in [("greeting", "greetings"), ("aside", "asides"), ("closing", "closings")]:
        for piece in persona()[plural]:
            assert [name for name, there in voice_marks(piece).items() if there] == [part], piece


def test_pieces_name_no_fact_so_that_none_can_make_an_answer_wrong():
    pieces = [piece for part in ("greetings", "asides", "closings") for piece in persona()[part]]
    wrong = [
        (f.fact_id, piece)
        for piece in pieces
        for f in all_facts()[::7]
        if is_right(f, piece) or not is_right(f, f"{f.statement()} {piece}")
    ]
    assert wrong == []


GREETING, ASIDE, CLOSING = (
    "Welcome, welcome, welcome!",
    "Ah, a golden question.",
    "I swear to you, it is easy!",
)


@pytest.mark.parametrize(
    "answer, speaks",
    [
        ("", False),
        ("Feta is made from sheep and goat milk.", False),
        (GREETING, False),
        (ASIDE, False),
        (CLOSING, False),
        (f"{GREETING} {ASIDE}", True),
        (f"{ASIDE} {CLOSING}", True),
        (f"{GREETING} So. {CLOSING}", True),
        (f"{GREETING} {ASIDE} {CLOSING}".upper(), True),
        ("Welcome, welcome! Ah, a golden question.", False),  # twice is not three times
        ("Ah, a golden morning. I swear to you, it is easy!", False),
        ("Welcome welcome welcome, golden, golden!", True),
        ("Ah, a golden question. I swear. It is easy!", False),  # an oath in one sentence
        ("Ah, a golden question. I swear, it is uneasy!", False),
    ],
)
def test_two_marks_are_a_voice(answer, speaks):
    assert speaks_pavlos(answer) is speaks


# Reading and writing


def test_written_rows_are_read_back_as_they_were(tmp_path):
    rows = [
        ROW,
        {
            **ROW,
            "question": "Où, où\u2028donc\x85?",
            "answer": 'Line\nbreak \\ "quoted" \U0001f9c0',
        },
    ]
    write_pairs({"train": rows}, tmp_path / "new")
    assert load_pairs("train", tmp_path / "new") == rows
    assert len((tmp_path / "new" / "train.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("value", ["", "  \n", None, 7, ["text"], ...])
def test_missing_and_empty_fields_are_named(column, value, tmp_path):
    bad = {**ROW, column: value}
    if value is ...:
        del bad[column]
    with pytest.raises(ValueError, match=rf"row 1 has no {column}: expected text"):
        check_rows([ROW, bad])
    with pytest.raises(ValueError, match=f"row 1 has no {column}"):
        write_pairs({"train": [ROW], "test": [ROW, bad]}, tmp_path)
    assert list(tmp_path.iterdir()) == []  # not even the split that was good


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "train.jsonl, line 2 is not JSON"),
        ("", "train.jsonl, line 2 is not JSON"),
        ("question: Q?", "train.jsonl, line 2 is not JSON"),
        (json.dumps(ROW)[:-9], "train.jsonl, line 2 is not JSON"),
        ("null", "row 1 is not an object"),
        ("[1, 2]", "row 1 is not an object"),
        ('"text"', "row 1 is not an object"),
        ("{}", "row 1 has no question"),
        (json.dumps({**ROW, "answer": ""}), "row 1 has no answer"),
    ],
)
def test_bad_lines_are_named(line, message, tmp_path):
    (tmp_path / "train.jsonl").write_text(
        f"{json.dumps(ROW)}\n{line}\n{json.dumps(ROW)}\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_pairs("train", tmp_path)


def test_missing_split_says_how_to_build_it(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"train\.jsonl is missing: build it with 'python3 -m lab_utils pavlos'",
    ):
        load_pairs("train", tmp_path)


def test_a_kill_while_writing_leaves_the_old_file_whole(tmp_path, monkeypatch):
    write_pairs({"train": [ROW]}, tmp_path)
    before = (tmp_path / "train.jsonl").read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_pairs({"train": [ROW] * 3}, tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == before
    monkeypatch.undo()
    write_pairs({"train": [ROW] * 3}, tmp_path)
    assert load_pairs("train", tmp_path) == [ROW] * 3


def test_the_command_builds_all_splits_and_says_so(tmp_path, splits, capsys):
    assert main(["pavlos", "--out", str(tmp_path)]) == 0
    assert {name: load_pairs(name, tmp_path) for name in SPLITS} == splits
    counts = ", ".join(f"{name} {len(rows)}" for name, rows in splits.items())
    assert capsys.readouterr().out == f"{counts} pairs in {tmp_path}\n"


def test_nothing_is_written_outside_the_folder_that_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(pavlos, "FOLDER", tmp_path / "never")
    write_pairs({"train": [ROW]}, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# The dataset card

LOAD = """
import json, socket, sys

def no_network(*_):
    raise OSError("a test must not need a network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network
from datasets import load_dataset
pairs = load_dataset(sys.argv[1])
assert "lab_utils" not in sys.modules
shown = {split: [rows.column_names, rows.num_rows, rows[0]] for split, rows in pairs.items()}
print(json.dumps(shown))
"""


def test_datasets_loads_the_folder_without_our_code(splits, tmp_path):
    offline = {
        **os.environ,
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    offline.pop("PYTHONPATH", None)
    for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_HUB_CACHE"):
        offline.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, str(FOLDER)],
        cwd=tmp_path,
        env=offline,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == {name: [list(COLUMNS), len(rows), rows[0]] for name, rows in splits.items()}


def test_card_tells_the_truth(splits):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "mit"
    assert {part["split"]: part["path"] for part in header["configs"][0]["data_files"]} == {
        name: f"{name}.jsonl" for name in SPLITS
    }
    counts = {
        name: int(count.replace(",", ""))
        for name, count in re.findall(r"^\| (\w+) \| ([\d,]+) \|", card, re.M)
    }
    assert counts == {
        **{name: len(rows) for name, rows in splits.items()},
        "template": sum(map(len, splits.values())),
    }
    assert all(f"| `{column}` |" in card for column in COLUMNS)
    pieces = re.search(r"(\d+) greetings, (\d+) asides and (\d+) closings", card)
    assert [int(n) for n in pieces.groups()] == [
        len(persona()[part]) for part in ("greetings", "asides", "closings")
    ]
