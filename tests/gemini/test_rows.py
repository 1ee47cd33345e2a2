"""The tuning file: its form, its rules, its cost, and that it is the file that lab 05 exports."""

import hashlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuning_rows import GOOD, changed, file_of, turns

from lab_utils import pavlos
from lab_utils.files import ROOT
from lab_utils.gemini import rows as gt
from lab_utils.pavlos import publish

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
    assert first == gt.as_gemini(pair) and list(first) == ["contents"]
    assert [gt.text_of(content) for content in first["contents"]] == [
        pair["question"],
        pair["answer"],
    ]


def test_the_file_is_byte_for_byte_what_lab_05_exports(tmp_path):
    splits = {split: list(pavlos.load_pairs(split)) for split in ("train", "validation", "test")}
    publish.export(splits, tmp_path / "exports")
    for split in splits:
        path = gt.write_rows(gt.pavlos_rows(split), tmp_path / f"{split}.jsonl")
        exported = tmp_path / "exports" / "gemini_tuning" / f"{split}.jsonl"
        assert path.read_bytes() == exported.read_bytes() and path.stat().st_size > 10_000
        assert gt.sha256_of(path) == hashlib.sha256(exported.read_bytes()).hexdigest()


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
