"""What the student edition shows while nothing is solved: each picture and number of the master, or
which exercise it waits for. Read from the cells, so that no lab is run for it; one short lab is.
"""

import ast
import re

import nbformat
import numpy as np
import pytest
from comparing import differences
from exercise_tests import label
from nbformat.v4 import new_code_cell

from lab_utils.checking import all_exercises
from lab_utils.checking.checks import same_answer
from lab_utils.course.release import REGION, student_notebook
from lab_utils.course.run import find_labs, run_lab
from lab_utils.files import ROOT

LABS = {path.stem: path for path in find_labs()}
WAITS = "This waits for"
OWN_NAMES = ast.FunctionDef, ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp


def code_of(name):
    """The lab's code cells that define no exercise."""
    cells = nbformat.read(LABS[name], as_version=4).cells
    return [c for c in cells if c.cell_type == "code" and not REGION.search(c.source)]


# ------------------------------------------------------------------------------- reading the cells
def waits_for(test, gates):
    """The exercises that a condition waits for: in `ready(f)`, a name that holds it, or in both
    parts of `and`.
    """
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return frozenset().union(*(waits_for(value, gates) for value in test.values))
    if isinstance(test, ast.Call) and getattr(test.func, "id", "") == "ready":
        return frozenset({test.args[0].id})
    return gates.get(getattr(test, "id", ""), frozenset())


def parts_of(node, gates):
    """[(part, exercises that it waits for)] of a node."""
    if isinstance(node, (ast.If, ast.IfExp)) and (waits := waits_for(node.test, gates)):
        body = node.body if isinstance(node.body, list) else [node.body]
        other = node.orelse if isinstance(node.orelse, list) else [node.orelse]
        return [(part, waits) for part in body] + [(part, frozenset()) for part in other]
    return [(part, frozenset()) for part in ast.iter_child_nodes(node)]


def names_bound_in(node):
    """The arguments of a function and what it assigns, or the variables of a comprehension."""
    stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and type(n.ctx) is ast.Store}
    return stored | {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}


def names_of(source):
    """(name, whether it is bound, exercises waited for, the function or class that it stands in or
    "") of each name of a cell, but for those that a function or a comprehension has for itself.
    `ready(f)`, `check(f)` and `g is f` call nothing.
    """
    gates, tree, found = {}, ast.parse(source), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and (waits := waits_for(node.value, {})):
            gates |= {target.id: waits for target in node.targets}

    def visit(node, waits, inside, own):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ready", "check"):
            return
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is):
            return
        if isinstance(node, ast.Name) and node.id not in own:
            found.append((node.id, isinstance(node.ctx, ast.Store), waits, inside))
        elif isinstance(node, ast.alias):
            found.append(((node.asname or node.name).split(".")[0], True, waits, inside))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append((node.name, True, waits, inside))
            inside = inside or node.name
        if isinstance(node, OWN_NAMES):
            own = own | names_bound_in(node)
        for part, more in parts_of(node, gates):
            visit(part, waits | more, inside, own)

    visit(tree, frozenset(), "", frozenset())
    return found


def troubles(cells, exercises):
    """What an unsolved edition would miss without saying so: a use of an unwritten function, or of
    what is made with one, outside of `if ready(...)`.
    """
    needs, found = {name: frozenset({name}) for name in exercises}, []
    for cell in cells:
        names = names_of(cell.source)
        for name, binds, waits, inside in names:
            if binds and not inside and not waits:
                needs.pop(name, None)
        for name, binds, waits, inside in names:
            if binds and waits and not inside and (name, True, frozenset(), "") not in names:
                needs[name] = waits
            elif inside and not binds and name in needs and inside not in exercises:
                needs[inside] = needs.get(inside, frozenset()) | needs[name]
        for name, binds, waits, inside in names:
            if not binds and not inside and not needs.get(name, frozenset()) <= waits:
                found.append(f"{name} needs {', '.join(sorted(needs[name]))}")
    return found


@pytest.mark.parametrize("name", LABS)
def test_nothing_unsolved_is_missed_without_a_word(name):
    assert not troubles(code_of(name), {exercise.name for exercise in all_exercises(name)})


@pytest.mark.parametrize(
    "cells, trouble",
    [
        (["if ready(f):\n    print(f(1))"], ""),
        (["print(f(1))"], "f needs f"),
        (["if ready(g):\n    print(f(1))"], "f needs f"),
        (["if ready(g) and ready(f):\n    print(f(1))"], ""),
        (["it = ready(f)\nif it:\n    f(x)"], ""),
        (["h = f if ready(f) else right\nh(1)\nprint(h is f)"], ""),
        (["if ready(f):\n    y = f(1)", "print(y)"], "y needs f"),
        (["if ready(f):\n    y = f(1)", "if ready(f):\n    print(y)"], ""),
        (["y = 2", "if ready(f):\n    y = f(1)", "y = 3", "print(y)"], ""),
        (["if ready(f):\n    y = f(1)\nelse:\n    y = 2", "print(y)"], ""),
        (["def a():\n    return f(1)", "if ready(f):\n    a()"], ""),
        (["def a():\n    return f(1)", "def b():\n    a()", "b()"], "b needs f"),
        (["if ready(f):\n    x = f(1)", "[x for x in y]", "def a(x):\n    return x"], ""),
        (["from lab_utils.a import f", "print(f(1))"], ""),
    ],
)
def test_what_would_be_missed_is_found(cells, trouble):
    cells = [new_code_cell(source) for source in cells]
    assert troubles(cells, {"f"}) == ([trouble] if trouble else [])


# -------------------------------------------------------------------------------- what stands in
def stand_ins():
    """(exercise, the cell's imports, what stands in for it) of each `f if ready(f) else other`."""
    found = []
    for lab in LABS:
        exercises = {exercise.name: exercise for exercise in all_exercises(lab)}
        imports = [
            node
            for cell in code_of(lab)
            for node in ast.parse(cell.source).body
            if isinstance(node, ast.ImportFrom) and node.module.startswith("lab_utils.")
        ]
        for cell in code_of(lab):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.IfExp) and (waits := waits_for(node.test, {})):
                    (name,) = waits
                    found.append((exercises[name], imports, node.orelse))
    return found


@pytest.mark.parametrize("exercise, imports, other", stand_ins(), ids=label)
def test_what_stands_in_for_an_exercise_answers_as_it_would(exercise, imports, other):
    """On the exercise's own inputs; a generator counts as the list of what it yields."""
    space, root = {}, ast.unparse(other).split(".")[0]
    for node in imports:
        if root in {alias.asname or alias.name for alias in node.names}:
            exec(ast.unparse(node), space)
    function = eval(ast.unparse(other), space)
    for case in exercise.make_inputs(np.random.default_rng(0)):
        answer = function(*case)
        answer = list(answer) if hasattr(answer, "__next__") else answer
        assert same_answer(exercise, exercise.reference(*case), answer), (case, answer)


def test_there_are_such():
    assert {exercise.name for exercise, _, _ in stand_ins()} >= {"complete_objects", "needs_head"}


# --------------------------------------------------------------------------------- one lab, really
def test_an_unsolved_lab_shows_the_masters_pictures_and_numbers(tmp_path):
    """Lab 05, a short one whose pictures come from a stand-in: each cell shows what the master
    stores, or says what it waits for, or that what is measured is not yours yet.
    """
    name = "05_pavlos_dataset"
    master = nbformat.read(LABS[name], as_version=4)
    (tmp_path / "labs").mkdir()
    for kept in ("lab_utils", "data"):
        (tmp_path / kept).symlink_to(ROOT / kept, target_is_directory=True)
    nbformat.write(student_notebook(master, None, "main"), tmp_path / "labs" / f"{name}.ipynb")
    result = run_lab(tmp_path / "labs" / f"{name}.ipynb", tmp_path / "ran")
    assert not result.error, result.error
    ran = {
        c.id: c.outputs
        for c in nbformat.read(tmp_path / "ran" / f"{name}.ipynb", 4).cells[:-2]
        if c.cell_type == "code"
    }
    said, others = 0, []
    for cell in code_of(name):
        for out in (out for out in ran[cell.id] if "text" in out):
            said += out.text.count(WAITS)
            out.text = re.sub(rf"{WAITS}.*\n", "", out.text)
        shown = [out for out in ran[cell.id] if out.get("text", "x")]
        if differences(cell, shown):
            others.append(str(shown))
    assert said == sum("ready(" in cell.source for cell in code_of(name)) == 1
    assert len(others) == 2, others
    assert all("our objects" in text and "your objects" not in text for text in others)
