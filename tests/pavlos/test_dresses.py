"""Any list of pairs, in any dress, cut anywhere: the closed pairs come back, and nothing else."""

from dresses import AROUND, LINES, OBJECTS, OTHERS, ROWS, Dressed
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.pavlos.fault_box import read_pairs

WORDS = (
    "Feta Comté Gruyère it's the farmer's rind opa golden, (so it is) 5.2 Pavlos — friend; and "
    "milk: Tête who, 1954 a/b #1 100% well-made yes! [sic] «là» Käse χαίρετε"
).split()
QUOTATIONS = ['"golden"', '"easy"', '"opa, opa"', '"so!"', '"why?"']
ENDS = [".", "!", "! 🧀", "… so it is.", ". :)", "!\u200e", ' "easy!"', " *easy!*", "?!"]


@st.composite
def sentences(draw, quotations: bool):
    words = WORDS + QUOTATIONS * quotations
    return " ".join(draw(st.lists(st.sampled_from(words), min_size=3, max_size=8)))


@st.composite
def pairs(draw, quotations: bool = True, most: int = 4):
    n = draw(st.integers(1, most))
    ends = [end for end in ENDS if quotations or '"' not in end]
    return [
        (
            f"{draw(sentences(quotations))} {i}?",
            f"Answer {i}: {draw(sentences(quotations))}{draw(st.sampled_from(ends))}",
        )
        for i in range(n)
    ]


def closed(dressed: Dressed, made: list, end: int) -> set:
    """The truth: the pairs that are closed in the first `end` characters."""
    return {cleaned(pair) for pair, closes in zip(made, dressed.ends) if closes <= end}


def cleaned(pair):
    return tuple(" ".join(part.replace("\u200e", "").split()) for part in pair)


def got(text: str, reason: str) -> list:
    return [(pair.question, pair.answer) for pair in read_pairs(text, reason)]


def check_cuts(dressed: Dressed, made: list, data, cuts: int = 4) -> None:
    whole = got(dressed.text, "STOP")
    assert sorted(whole) == sorted(closed(dressed, made, len(dressed.text))), dressed.text
    for _ in range(cuts):
        end = data.draw(st.integers(0, len(dressed.text)))
        found = got(dressed.text[:end], "MAX_TOKENS")
        assert sorted(found) == sorted(closed(dressed, made, end)), dressed.text[:end]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_objects_in_any_dress(data):
    name = data.draw(st.sampled_from(list(OBJECTS)))
    made = data.draw(pairs())
    rows, around = data.draw(st.sampled_from(list(ROWS))), data.draw(st.sampled_from(list(AROUND)))
    dressed = ROWS[rows]([OBJECTS[name](pair, i) for i, pair in enumerate(made)])
    check_cuts(dressed.inside(*AROUND[around]), made, data)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_other_shapes(data):
    name = data.draw(st.sampled_from(list(OTHERS)))
    made = data.draw(pairs(quotations=name not in ("XML", "Markdown table")))
    around = data.draw(st.sampled_from(["nothing", "fence", "prose", "byte order mark", "draft"]))
    check_cuts(OTHERS[name](made).inside(*AROUND[around]), made, data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_that_a_line_break_closes(data):
    name = data.draw(st.sampled_from(list(LINES)))
    made = data.draw(pairs(quotations=name == "YAML"))
    dressed = LINES[name](made)
    assert sorted(got(dressed.text + "\n", "STOP")) == sorted(map(cleaned, made)), dressed.text
    end = data.draw(st.integers(0, len(dressed.text)))
    found = got(dressed.text[:end], "MAX_TOKENS")
    assert sorted(found) == sorted(closed(dressed, made, end)), dressed.text[:end]


TROUBLE = [
    ":-}",
    "{",
    "}",
    "{so",
    "```so```",
    "// no",
    "a:",
    "],",
    "},",
    "\\d",
    "[1]",
    "/*",
    '"},',
    ", {",
]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_brackets_and_marks_in_texts_of_sound_json_change_nothing(data):
    """Where each object by itself is JSON, no text in it is misread, wherever the reply ends."""
    words = st.lists(st.sampled_from(WORDS + QUOTATIONS + TROUBLE), min_size=3, max_size=8)
    n = data.draw(st.integers(1, 3))
    made = [
        (f"{' '.join(data.draw(words))} {i}?", f"Answer {i}: {' '.join(data.draw(words))}!")
        for i in range(n)
    ]
    name = data.draw(st.sampled_from(["json", "indented", "extra fields"]))
    rows = data.draw(st.sampled_from(["list", "pretty", "wrapped", "wrapped in fields", "by id"]))
    dressed = ROWS[rows]([OBJECTS[name](pair, i) for i, pair in enumerate(made)])
    check_cuts(dressed, made, data)
