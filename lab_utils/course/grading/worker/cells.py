"""Which statements of a notebook a function needs, and running them.

Grading a function does not need the trainings, plots and checks around it. So a notebook is cut
into its top-level statements, and the ones that the function needs are run, in the notebook's
order, imports first:
- statements that bind a name the function (or something it needs) loads: imports, functions,
  classes, constants;
- statements that change such an object in place, such as `table["a"] = 1` or `table.update(...)`,
  but not calls on modules;
- star imports, since nobody can tell what they bind.

Only the code of names is looked at. Names made by `exec`, `globals()` or magics stay unseen, and so
do changes made through a call. Where this way gives no right answer, the grader runs the whole
notebook, top to bottom. In both ways a statement that fails is noted and left behind, and one that
failed for a missing name is tried again after the others: order does not matter.

Weighed, and not used: imports, definitions and all assignments in place of the names. Assignments
hold the trainings, so an honest long lab would take as long as a whole run.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import builtins
import dis
import inspect
import linecache
import re
import signal
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lab_utils.checking.cells import CAPTURED, WRITE_FILE, is_stub, to_python

BUILTIN_ERRORS = {
    name
    for name, thing in vars(builtins).items()
    if isinstance(thing, type) and issubclass(thing, BaseException)
}
CELL_NAME = re.compile(r"<cell (\d+)>")
FUTURE = {name: getattr(__future__, name).compiler_flag for name in __future__.all_feature_names}


class TimeLimit(BaseException):
    """A statement took too long. No Exception, so that `except Exception` cannot swallow it."""


@dataclass
class Statement:
    """One top-level statement: the names that it binds, loads, and whose objects it may change."""

    cell: int
    code: types.CodeType
    binds: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    is_import: bool = False
    is_star: bool = False
    is_stub: bool = False


@dataclass(frozen=True)
class Failure:
    """What went wrong in a cell; the line counts within the cell, from 1."""

    cell: int
    line: int
    kind: str  # a built-in name: a student's own could say anything


# ------------------------------------------------------------------------------ cells -> statements
def read_cells(cells: list[str]) -> tuple[list[Statement], list[Failure]]:
    """All statements of the cells, numbered from 1, and the cells that are no Python."""
    statements, failures, flags = [], [], ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for number, source in enumerate(cells, 1):
        try:
            source = to_python(source)
            nodes = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            failures.append(Failure(number, getattr(error, "lineno", 0) or 0, kind_of(error)))
            continue
        name = f"<cell {number}>"
        # for inspect.getsource
        linecache.cache[name] = (
            len(source),
            None,
            source.splitlines(True),
            name,
        )
        for node in [part for whole in nodes for part in split_import(whole)]:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                flags |= sum(FUTURE.get(alias.name, 0) for alias in node.names)
            statements.append(analyse(node, number, name, flags))
    return without_stubs(statements), failures


def split_import(node: ast.stmt) -> Iterator[ast.stmt]:
    """`import a, b` as two statements: one of them may be missing here, or slow, and not needed."""
    if isinstance(node, ast.Import) and len(node.names) > 1:
        for alias in node.names:
            yield ast.copy_location(ast.Import([alias]), node)
    else:
        yield node


def analyse(node: ast.stmt, cell: int, name: str, flags: int) -> Statement:
    """The statement with its names, read from its byte code: exactly the global ones."""
    code = compile(ast.Module([node], []), name, "exec", flags=flags, dont_inherit=True)
    statement = Statement(cell, code, changes=set(changed_names(node)))
    collect_names(code, statement, top=True)
    statement.loads -= set(loop_names(node))
    statement.is_import = isinstance(node, ast.Import | ast.ImportFrom)
    statement.is_star = statement.is_import and any(alias.name == "*" for alias in node.names)
    if WRITE_FILE in statement.loads:  # what is imported may lie in it
        statement.is_import = statement.is_star = True
    statement.is_stub = isinstance(node, ast.FunctionDef) and is_stub(node)
    return statement


def collect_names(code: types.CodeType, statement: Statement, top: bool) -> None:
    """Add the global names of the code and of the functions and classes in it."""
    for instruction in dis.get_instructions(code):
        operation = instruction.opname
        if operation in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"):
            statement.loads.add(instruction.argval)
        elif operation == "STORE_GLOBAL" or (operation == "STORE_NAME" and top):
            statement.binds.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            collect_names(constant, statement, top=False)


def changed_names(node: ast.stmt) -> Iterator[str]:
    """`a` for `a[0] = 1`, `a.b = 1`, `a.b(1)` anywhere in the statement, but not inside functions
    and classes.
    """
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return
    target = node.func if isinstance(node, ast.Call) else node
    stored = isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load)
    if stored or (isinstance(node, ast.Call) and isinstance(target, ast.Attribute)):
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
        if isinstance(target, ast.Name):
            yield target.id
    for child in ast.iter_child_nodes(node):
        yield from changed_names(child)


def loop_names(node: ast.stmt) -> Iterator[str]:
    """The names that a statement's own loops and `with ... as` bind: it needs no other statement
    for them.
    """
    for part in (
        ast.walk(node)
        if isinstance(node, ast.For | ast.While | ast.With | ast.If | ast.Try)
        else ()
    ):
        targets = [part.target] if isinstance(part, ast.For) else []
        targets += (
            [item.optional_vars for item in part.items if item.optional_vars]
            if isinstance(part, ast.With)
            else []
        )
        yield from (
            name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
        )


def is_left_as_stub(statements: list[Statement], function: str) -> bool:
    """Whether nothing but a stub defines the function."""
    defining = [statement for statement in statements if function in statement.binds]
    return bool(defining) and all(statement.is_stub for statement in defining)


def rebound(statements: list[Statement], function: str) -> list[str]:
    """The names that the function uses and that a statement below it binds again: when the notebook
    has run to its end, the function sees the last one, not the one its check saw.
    """
    places = [i for i, statement in enumerate(statements) if function in statement.binds]
    if not places:
        return []
    used = statements[places[-1]].loads
    above = {name for statement in statements[: places[-1]] for name in statement.binds}
    below = {name for statement in statements[places[-1] + 1 :] for name in statement.binds}
    return sorted(used & above & below)


def without_stubs(statements: list[Statement]) -> list[Statement]:
    """A stub is left out where the same name has a solution, in whatever cell: the stub is not the
    student's answer.
    """
    solved = {name for statement in statements if not statement.is_stub for name in statement.binds}
    return [
        statement
        for statement in statements
        if not (statement.is_stub and statement.binds <= solved)
    ]


# ----------------------------------------------------------------------------------- what is needed
def needed(statements: list[Statement], function: str) -> list[Statement]:
    """The statements that the function needs: imports first, then the others in the notebook's
    order.
    """
    names, chosen, grown = {function}, set(), True
    imported = {name for statement in statements if statement.is_import for name in statement.binds}
    while grown:
        before = len(chosen)
        for i, statement in enumerate(statements):
            wanted = statement.binds | (statement.changes - imported)
            if i not in chosen and (statement.is_star or wanted & names):
                chosen.add(i)
                names |= statement.loads
        grown = len(chosen) > before
    return [statements[i] for i in sorted(chosen, key=lambda i: (not statements[i].is_import, i))]


# ------------------------------------------------------------------------------------- running them
def run(statements: list[Statement], seconds: float) -> tuple[dict[str, Any], list[Failure]]:
    """Run the statements as `__main__`, each for a third of the seconds at most, and return its
    names and what failed.
    """
    share = seconds / 3
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    namespace = vars(module)
    namespace.update(get_ipython=_shell, display=_display)
    namespace.update({CAPTURED: Captured(), WRITE_FILE: _write_file})
    deadline = time.monotonic() + seconds
    waiting, failures = run_once(statements, namespace, share, deadline)
    while waiting:  # for a name that comes later in the notebook
        again, more = run_once(waiting, namespace, share, deadline)
        if len(again) == len(waiting):
            return namespace, failures + more
        waiting, failures = (
            again,
            failures + [failure for failure in more if failure.kind != "NameError"],
        )
    return namespace, failures


def run_once(
    statements: list[Statement], namespace: dict, seconds: float, deadline: float
) -> tuple[list, list[Failure]]:
    """Run each statement once. Return those that miss a name, and what else failed (with them, if
    nothing can help).
    """
    missing, failures = [], []
    for statement in statements:
        problem = run_statement(statement, namespace, min(seconds, deadline - time.monotonic()))
        if problem is not None and problem.kind == "NameError":
            missing.append((statement, problem))
        elif problem is not None:
            failures.append(problem)
    if len(missing) == len(statements):
        failures += [problem for _, problem in missing]
    return [statement for statement, _ in missing], failures


def run_statement(statement: Statement, namespace: dict, seconds: float) -> Failure | None:
    """Run one statement; whatever it raises is a Failure, also SystemExit and KeyboardInterrupt."""
    if seconds <= 0:
        return Failure(statement.cell, statement.code.co_firstlineno, "TimeLimit")
    try:
        signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        result = eval(statement.code, namespace)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except BaseException as error:
        return describe_failure(error, statement)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def describe_failure(error: BaseException, statement: Statement) -> Failure:
    cell, line = last_line(error) or (statement.cell, statement.code.co_firstlineno)
    return Failure(cell, line, kind_of(error))


def kind_of(error: BaseException) -> str:
    """The nearest built-in name of an error, or "TimeLimit": a name of the student's own could
    carry anything out.
    """
    if type(error) is TimeLimit:
        return "TimeLimit"
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in BUILTIN_ERRORS)


def last_line(error: BaseException) -> tuple[int, int] | None:
    """(cell, line) of the innermost frame of the notebook in a traceback."""
    place, frame = None, error.__traceback__
    while frame is not None:
        found = CELL_NAME.fullmatch(frame.tb_frame.f_code.co_filename)
        place = (int(found[1]), frame.tb_lineno) if found else place
        frame = frame.tb_next
    return place


def _stop(signum: int, frame: Any) -> None:
    raise TimeLimit("it took too long")


def _shell() -> Any:
    """IPython's shell, made when a magic first asks for it. Shell commands do nothing: there is
    nothing to install from.
    """
    from IPython.core.interactiveshell import InteractiveShell

    if not InteractiveShell.initialized():
        shell = InteractiveShell.instance(user_module=sys.modules["__main__"])
        shell.history_manager.enabled = False
        shell.enable_gui = lambda *words, **options: None  # for %pylab and %matplotlib
        shell.system = lambda *words, **options: None
        shell.getoutput = lambda *words, **options: []
    return InteractiveShell.instance()


class Captured(str):
    """What `%%capture name` binds to the name: nothing was printed here."""

    stdout = stderr = ""
    outputs: tuple = ()

    def show(self) -> None:
        """Nothing to show."""


def _write_file(name: str, text: str, append: bool = False) -> None:
    """What `%%writefile name` does."""
    with open(name, "a" if append else "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _display(*things: Any, **options: Any) -> None:
    """Pictures and tables are for people; nobody looks here."""
