"""Questions about a student's own code, and flags for a person. Neither is a mark, and neither is
for students.
"""

import ast
import csv
import inspect
import io
import random
import textwrap

import nbformat
import pytest
from variants import VARIANTS

from lab_utils.checking import all_exercises
from lab_utils.course.grading import oral
from lab_utils.course.grading.own_code import read_code
from lab_utils.course.grading.submissions import Submission
from lab_utils.files import ROOT

LAB = "01_quantization_buckets"
ABSMAX = """
def absmax_int8(x):
    scale = 127 / x.abs().max()
    if scale == float("inf"):
        return x
    return torch.round(scale * x).to(torch.int8), scale.item()
"""
RENAMED = '''
def absmax_int8(values: Tensor) -> tuple:
    """My own."""
    c = 127 / values.abs().max()  # the constant
    if c == float("nan"):
        return values
    return torch.round(c * values).to(torch.int8), c.item()
'''
OTHER = """
def absmax_int8(x):
    largest = max(abs(float(value)) for value in x.flatten())
    codes = [round(float(value) * 127 / largest) for value in x.flatten()]
    return torch.tensor(codes, dtype=torch.int8).view(x.shape), 127 / largest
"""


def facts(*cells: str, name: str = "absmax_int8") -> dict:
    return read_code(list(cells), [name])["functions"].get(name, {})


def test_names_texts_and_annotations_make_no_difference():
    assert facts(ABSMAX)["grams"] == facts(RENAMED)["grams"]
    common = set(facts(ABSMAX)["grams"]) & set(facts(OTHER)["grams"])
    assert len(common) < 0.2 * len(facts(OTHER)["grams"])


def test_what_can_be_asked_is_read_from_the_function():
    found = facts("%matplotlib inline\n1 +", ABSMAX, "def absmax_int8(x):\n    ...")
    assert found["assigned"] == [["scale", "scale = 127 / x.abs().max()"]]
    assert found["tests"] == ["scale == float('inf')"]
    assert found["numbers"] == [["127", "scale = 127 / x.abs().max()"]]
    assert facts("def absmax_int8(x):\n    raise NotImplementedError") == {}


BODY = "def absmax_int8(x):\n    return "


@pytest.mark.parametrize(
    "cells, paths",
    [
        (["from lab_utils.memory.sizes import bits as b", BODY + "b(x)"], ["memory.sizes.bits"]),
        (["from lab_utils.memory import sizes", BODY + "sizes.bits(x)"], ["memory.sizes.bits"]),
        (["import lab_utils.memory.sizes as s", BODY + "s.bits(x)"], ["memory.sizes.bits"]),
        (["import lab_utils.memory", BODY + "lab_utils.memory.bits(x)"], ["memory.bits"]),
        (
            ["from lab_utils.a import f", "def mine(x):\n    return f(x)", BODY + "mine(x)"],
            ["a.f"],
        ),
        (["from lab_utils.a import f", "mine = f", BODY + "mine(x)"], ["a.f"]),
        (["from lab_utils.a import f", "x = f(1)", "mine = f(2)", BODY + "x + mine"], []),
        (["from lab_utils.a import f", "def mine(x):\n    return f(x)", BODY + "x"], []),
        (["from lab_utils.a import f as x", BODY + "x"], []),
    ],
)
def test_what_an_answer_uses_of_the_kit(cells, paths):
    assert facts(*cells)["kit"] == [f"lab_utils.{path}" for path in paths]


# ---------------------------------------------------------------------------------------- questions
def lab_cells(lab: str) -> list[str]:
    notebook = nbformat.read(ROOT / "labs" / f"{lab}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("lab", sorted({exercise.lab for exercise in all_exercises()}))
def test_every_lab_has_questions_of_several_kinds_and_keeps_them(lab):
    exercises = all_exercises(lab)
    functions = read_code(lab_cells(lab), [e.name for e in exercises])["functions"]
    assert set(functions) == {exercise.name for exercise in exercises}
    assert not oral.kit_flags(functions), "the lab's own solutions need nothing of the kit"
    asked = [oral.draw_question(functions, exercises, f"{seed}/oral") for seed in range(40)]
    assert asked[7] == oral.draw_question(functions, exercises, "7/oral")
    assert len(set(asked)) > 10 and len({name for name, _ in asked}) > 2
    assert all(question.startswith(f"`{name}`: ") for name, question in asked)


def test_a_question_speaks_of_their_own_names_and_of_the_exercise_s_corners():
    corners = list(next(e for e in all_exercises(LAB) if e.name == "absmax_int8").corners)
    found = oral.questions(facts(RENAMED), corners)
    assert set(found) == {"variable", "branch", "number"}
    assert (
        "what does your `c` become for this kind of input: one value? "
        "(`c = 127 / values.abs().max()`)"
    ) in found["variable"]
    assert oral.questions(facts(BODY + "x"), []) == {
        "steps": [
            "what is each step of `x`, from the inside out, for this kind of input: one of your "
            "choice?"
        ]
    }
    assert oral.draw_question({}, all_exercises(LAB), "0") == ("", "")


# ---------------------------------------------------------------------------------------- flags
class Renamed(ast.NodeTransformer):
    """All arguments and variables of a function get other names."""

    def visit_arg(self, node):
        return ast.arg("my_" + node.arg)

    def visit_Name(self, node):
        return ast.Name("my_" + node.id, node.ctx)


def styles(exercise) -> list[str]:
    """The code of right answers to an exercise, each in its own style."""
    found = [exercise.reference, *VARIANTS[exercise.name]]
    sources = [textwrap.dedent(inspect.getsource(f)) for f in found if f.__name__ != "<lambda>"]
    return [source for source in sources if source.startswith("def ")]


def a_class(n: int, seed: int) -> dict[str, dict]:
    """{student: functions} of students who solve each exercise in one of several styles."""
    draw, names = random.Random(seed), [exercise.name for exercise in all_exercises(LAB)]
    cells = {
        exercise.name: [
            source.replace(f"def {source[4:].partition('(')[0]}(", f"def {exercise.name}(", 1)
            for source in styles(exercise)
        ]
        for exercise in all_exercises(LAB)
    }
    return {
        f"student {i}": read_code([draw.choice(cells[name]) for name in names], names)["functions"]
        for i in range(n)
    }


OWN_WAY = """
def absmax_int8(x):
    best = 0.0
    for row in x.reshape(-1).tolist():
        best = row if row > best else (-row if -row > best else best)
    factor = 127.0 / best
    moved = [min(127, max(-127, int(factor * row + (0.5 if row > 0 else -0.5)))) for row in x]
    return torch.as_tensor(moved).char(), float(factor)
"""


def test_a_copy_with_other_names_is_found_and_honest_neighbours_are_not():
    honest = a_class(60, seed=1)
    assert oral.neighbours({who: oral.pieces_of(found) for who, found in honest.items()}) == {}
    tree = Renamed().visit(ast.parse(OWN_WAY))
    added = ast.unparse(ast.fix_missing_locations(tree)).replace(
        "    my_best", "    y = 1\n    my_best", 1
    )
    honest["student 3"]["absmax_int8"] = facts(OWN_WAY)
    honest["student 8"]["absmax_int8"] = facts(added)
    found = oral.neighbours({who: oral.pieces_of(them) for who, them in honest.items()})
    assert set(found) == {"student 3", "student 8"}
    assert found["student 3"][0].startswith("written as student 8's, but for names: ")


def test_what_everybody_wrote_is_compared_with_nobody():
    """A quadratic comparison of so many would not end."""
    same = {f"student {i}": {("f", gram) for gram in range(50)} for i in range(5_000)}
    assert oral.neighbours(same) == {}


def hand_in(student: str, *cells: str) -> Submission:
    return Submission(student, LAB, f"{student}.ipynb", cells, digest=student)


def test_what_cannot_be_parsed_costs_its_student_a_question_alone():
    hostile = {
        "deep": "x = " + "(" * 5000 + ")" * 5000,
        "signs": BODY + "-" * 200_000 + "1",
        "chain": BODY + "x" + "+ x" * 100_000,
        "empty": "",
    }
    handed = [hand_in(name, cell) for name, cell in hostile.items()]
    talks = oral.talks_of([*handed, hand_in("ann", ABSMAX)], {LAB: all_exercises(LAB)}, 1)
    asked = {talk.student: talk.question for talk in talks}
    assert set(asked) == {*hostile, "ann"} and "absmax_int8" in asked["ann"]


def test_reports_are_escaped_and_hold_no_formula():
    code = "def absmax_int8(x):\n    y = '<script>' + x\n    return y"
    talks = oral.talks_of([hand_in("=cmd|<b>", code)], {LAB: all_exercises(LAB)}, 3)
    talks = [oral.Talk("=cmd|<b>", LAB, "f", "`f`: why `<script>`?", ("uses <i>",)), *talks]
    page = oral.oral_page(talks)
    assert "<script" not in page and "<b>" not in page and "<code>&lt;script&gt;</code>" in page
    rows = list(csv.DictReader(io.StringIO(oral.oral_csv(talks))))
    assert rows[0]["student"] == "'=cmd|<b>" and rows[0]["flags"] == "uses <i>"
