"""Which statements a function needs: the right ones, no others, and what becomes of those that
fail.
"""

import nbformat
import pytest

from lab_utils.checking import all_exercises
from lab_utils.course.grading.reading import read_cells as read_notebook
from lab_utils.course.grading.worker.cells import needed, read_cells, run
from lab_utils.course.run import find_labs


def lines_needed(cells: list[str], function: str = "f") -> list[str]:
    """The first lines of the needed statements, as written."""
    statements, _ = read_cells(cells)
    return [
        cells[s.cell - 1].splitlines()[s.code.co_firstlineno - 1]
        for s in needed(statements, function)
    ]


@pytest.fixture
def run_cells(monkeypatch):
    """Run what `f` needs here, in this process, and return (names, failures)."""
    import asyncio
    import sys

    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    # playwright's, where a test in a browser came before in this process
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)  # the worker has none

    def run_them(*cells, whole=False, seconds=3):
        statements, failures = read_cells(list(cells))
        names, more = run(statements if whole else needed(statements, "f"), seconds)
        return names, failures + more

    yield run_them
    asyncio._set_running_loop(running)


NEEDS = {
    "a function alone": (["import os", "x = 1", "def f(): return 2"], ["def f(): return 2"]),
    "imports it uses, one by one": (
        ["import os, math, json", "def f(): return math.pi"],
        ["import os, math, json", "def f(): return math.pi"],
    ),
    "helpers of helpers": (
        ["def a(): return b()", "def b(): return C", "C = 3", "D = 4", "def f(): return a()"],
        ["def a(): return b()", "def b(): return C", "C = 3", "def f(): return a()"],
    ),
    "local names are not needed": (
        ["x = load()", "def f(x): y = x; return [z for z in y]", "y = slow()", "z = slow()"],
        ["def f(x): y = x; return [z for z in y]"],
    ),
    "defaults, decorators, annotations": (
        ["n: int = 3", "def d(g): return g", "T = int", "@d\ndef f(a: T, b=n): return a"],
        ["n: int = 3", "def d(g): return g", "T = int", "@d"],
    ),
    "classes and their bases": (
        [
            "class A: pass",
            "class B(A):\n    size = N\n    def g(self): return M",
            "N = M = 1",
            "other = 2",
            "def f(): return B()",
        ],
        ["class A: pass", "class B(A):", "N = M = 1", "def f(): return B()"],
    ),
    "names of attributes are no names": (
        ["codes = slow()", "def f(x): return x.codes"],
        ["def f(x): return x.codes"],
    ),
    "changes in place": (
        [
            "t = {}",
            "t['a'] = 1",
            "t.update(b=2)",
            "u = {}",
            "u['a'] = 1",
            "t.x.y = 1",
            "del t['a']",
            "def f(): return t",
        ],
        ["t = {}", "t['a'] = 1", "t.update(b=2)", "t.x.y = 1", "del t['a']", "def f(): return t"],
    ),
    "calls on modules are no changes": (
        [
            "import torch",
            "torch.manual_seed(0)",
            "torch.set_default_dtype(torch.float64)",
            "def f(): return torch",
        ],
        ["import torch", "def f(): return torch"],
    ),
    "loops that fill": (
        [
            "t = []",
            "for i in range(3):\n    t.append(i)",
            "for i in range(3):\n    print(i)",
            "def f(): return t",
        ],
        ["t = []", "for i in range(3):", "def f(): return t"],
    ),
    "tests in the lab": (
        ["def f(): return 1", "check(f)", "f()", "assert f() == 1", "print(f())", "y = f()"],
        ["def f(): return 1"],
    ),
    "imports first": (
        ["def f(x=np.pi): return x", "import numpy as np"],
        ["import numpy as np", "def f(x=np.pi): return x"],
    ),
    "try and with": (
        [
            "try:\n    import fast as m\nexcept ImportError:\n    import math as m",
            "with open('x') as g:\n    h = 1",
            "def f(): return m, h",
        ],
        ["try:", "with open('x') as g:", "def f(): return m, h"],
    ),
    "global": (
        ["def setup():\n    global C\n    C = 1", "setup()", "def f(): return C"],
        ["def setup():", "def f(): return C"],
    ),
    "the walrus": (
        ["print(n := 10)", "def f(): return n"],
        ["print(n := 10)", "def f(): return n"],
    ),
    "star imports": (
        ["from math import *", "import json", "def f(): return pi"],
        ["from math import *", "def f(): return pi"],
    ),
}


@pytest.mark.parametrize("name", NEEDS)
def test_what_is_needed(name):
    cells, expected = NEEDS[name]
    assert lines_needed(cells) == expected


def test_imports_are_taken_apart(run_cells):
    names, failures = run_cells("import json, no_such_module, math", "def f(): return math.pi")
    assert names["f"]() > 3 and not failures and "json" not in names


@pytest.mark.parametrize(
    "cells, value",
    [
        (["def f(): return 1", "def f(): return 2"], 2),
        (["def f(): return 1", "def f():\n    raise NotImplementedError('yours')"], 1),
        (["def f():\n    '''Doc.'''\n    pass", "def f(): return 3"], 3),
        (["def g(): return 1", "def g(): ...", "def f(): return g()"], 1),
        (["f = lambda: 4", "def f(): raise NotImplementedError"], 4),
        (["%%time\ndef f(): return 5"], 5),
        (["%%capture x\n%%time\n\ndef f(): return 6"], 6),
        (["%matplotlib inline\nx = 7", "!ls", "def f(): return x"], 7),
        (["%%bash\nexit 1", "def f(): return 8"], 8),
        (["def f(): return a", "a = b", "b = 9"], 9),
        (["from __future__ import annotations", "def f(x: Nothing = 10): return x"], 10),
        (["a = await g()", "async def g(): return 11", "def f(): return a"], 11),
        (["1 / 0; a = 12", "def f(): return a"], 12),
        (["a = 13\n    b = 1", "a = 13", "def f(): return a"], 13),
        (["\ufeff\n\n  def f():\n      return 14"], 14),
    ],
)
def test_what_the_function_then_is(run_cells, cells, value):
    names, _ = run_cells(*cells)
    assert names["f"]() == value


def test_failures_are_told_with_their_place(run_cells):
    names, failures = run_cells(
        "x = 1",
        "def g():\n    return [][1]\n\ny = g()",
        "z = undefined",
        "def f(): return y, z",
        "def f(",
    )
    assert "f" in names
    told = {(row.cell, row.line, row.kind) for row in failures}
    assert told == {(2, 2, "IndexError"), (3, 1, "NameError"), (5, 1, "SyntaxError")}


def test_exits_and_interrupts_are_failures_like_others(run_cells):
    names, failures = run_cells(
        "a = exit()",
        "import sys\nb = sys.exit(3)",
        "c = [][0]",
        "def r(): raise KeyboardInterrupt\nd = r()",
        "def f(): return a, b, c, d",
    )
    assert (
        "f" in names
        and sorted(row.kind for row in failures)
        == ["IndexError", "KeyboardInterrupt", "NameError", "SystemExit"]
        or [row.kind for row in failures].count("SystemExit") == 2
    )


def test_a_slow_statement_is_stopped_and_the_others_go_on(run_cells):
    names, failures = run_cells(
        "while True: a = 1", "import time\nb = time.sleep(1000)", "def f(): return a", seconds=1
    )
    assert names["f"]() == 1 and [row.kind for row in failures] == ["TimeLimit"]


def test_the_whole_notebook_stops_at_its_time(run_cells):
    names, failures = run_cells(
        *["while True: pass"] * 5, "def f(): return 1", whole=True, seconds=1
    )
    assert {row.kind for row in failures} == {"TimeLimit"} and "f" not in names


@pytest.mark.parametrize("lab", find_labs(), ids=lambda path: path.stem)
def test_a_lab_s_functions_need_no_training_and_no_pictures(lab):
    """What the masters' solutions need is short: no long cell makes grading slow."""
    cells = list(read_notebook(lab.read_bytes()))
    statements, failures = read_cells(cells)
    assert not failures
    for exercise in all_exercises(lab.stem):
        chosen = needed(statements, exercise.name)
        assert any(exercise.name in statement.binds for statement in chosen)
        texts = {cells[statement.cell - 1] for statement in chosen if not statement.is_import}
        assert not [
            text
            for text in texts
            if any(
                word in text
                for word in ("finetune(", "load_base(", ".backward()", "plt.", "_figure(")
            )
        ], exercise.name


def test_notebooks_are_read_as_nbformat_reads_them():
    for lab in find_labs():
        cells = [
            cell.source
            for cell in nbformat.read(lab, as_version=4).cells
            if cell.cell_type == "code" and cell.source.strip()
        ]
        assert list(read_notebook(lab.read_bytes())) == cells


def test_names_are_exactly_the_global_ones():
    [statement], _ = read_cells(
        [
            "def f(a, *b, c=d, **e):\n    global g\n    g = h(a)\n    i = [j for j in k if j]\n   "
            " class L(M):\n        n = o\n    return lambda p: (p, q, i.r, f'{s}')"
        ]
    )
    assert statement.loads == {"d", "h", "k", "M", "o", "q", "s"} | (
        {"__name__"} & statement.loads
    ) and statement.binds == {
        "f",
        "g",
    }


def test_any_cell_of_the_odd_suite_can_be_analysed():
    from hostile.odd import BROKEN, ODD

    for odd in ODD.values():
        cells = odd.cells or (
            read_notebook(odd.data) if not odd.name.endswith(".py") else [odd.data.decode()]
        )
        read_cells(list(cells))
    for data, _ in BROKEN.values():
        with pytest.raises(ValueError):
            read_notebook(data or b" ")
