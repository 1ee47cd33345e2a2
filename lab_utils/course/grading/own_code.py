"""What a student's functions look like, read from their syntax trees: names, branches, numbers, and
what they use of lab_utils. `oral` makes questions and flags of it.

Runs in the process of `reading`, which has limits of time and memory, after the grading: what is
too much for it costs nobody a point. No code is run.
"""

from __future__ import annotations

import ast
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from lab_utils.checking.cells import defined, is_stub, to_python

SHOWN = 100  # characters of a piece of code that a person sees
AT_MOST = 12  # pieces of one kind in one function
GRAM = 6  # nodes of a syntax tree that are compared together
MAX_GRAMS = 5_000  # of one function


def read_code(cells: list[str], names: list[str]) -> dict[str, Any]:
    """{"functions": {name: facts}} for those of the names that the cells define and solve."""
    found: dict[str, ast.stmt] = {}
    kit: dict[str, str] = {}
    for source in cells:
        kit.update(kit_names(source))
        for name, node in defined(source).items():
            if name not in found or is_stub(found[name]) or not is_stub(node):
                found[name] = node
    helpers = {n: node for n, node in found.items() if n not in names and is_function(node)}
    return {
        "functions": {
            name: facts_of(with_helpers(found[name], helpers), kit)
            for name in names
            if name in found and not is_stub(found[name])
        }
    }


def kit_names(source: str) -> dict[str, str]:
    """{name in the notebook: its path in lab_utils} for what a cell imports."""
    if "lab_utils" not in source:
        return {}
    try:
        nodes = list(ast.walk(ast.parse(to_python(source))))
    except (SyntaxError, ValueError):
        return {}
    found = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "lab_utils":
            found.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
        for alias in node.names if isinstance(node, ast.Import) else ():
            if alias.name.split(".")[0] == "lab_utils":
                found[alias.asname or "lab_utils"] = alias.name if alias.asname else "lab_utils"
    return found


def is_function(node: ast.stmt) -> bool:
    """Whether a definition is a function, or another name for one."""
    named = (ast.Lambda, ast.Name, ast.Attribute)
    return isinstance(node, ast.FunctionDef) or isinstance(getattr(node, "value", None), named)


def with_helpers(node: ast.stmt, helpers: dict[str, ast.stmt]) -> list[ast.stmt]:
    """The definition, and those of the notebook's own functions that it uses, however far down."""
    chosen, waiting = [node], [node]
    while waiting:
        function = waiting.pop()
        used = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
        wanted = sorted((used - bound(function)) & set(helpers))
        more = [helpers[name] for name in wanted if helpers[name] not in chosen]
        chosen += more
        waiting += more
    return chosen


def bound(function: ast.stmt) -> set[str]:
    """The names of a function's arguments and variables."""
    nodes = list(ast.walk(function))
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return stored | {n.arg for n in nodes if isinstance(n, ast.arg)}


# ------------------------------------------------------------------------------------ one function
def facts_of(nodes: list[ast.stmt], kit: dict[str, str]) -> dict[str, Any]:
    """What can be asked about a function (its own code alone) and compared (with its helpers)."""
    return {
        "returned": first_of(
            shown(n.value) for n in ast.walk(nodes[0]) if isinstance(n, ast.Return) and n.value
        ),
        "assigned": assigned(nodes[0]),
        "tests": pieces(nodes[0], "test"),
        "loops": pieces(nodes[0], "iter"),
        "numbers": numbers(nodes[0]),
        "kit": sorted({path for node in nodes for path in kit_paths(node, kit)})[:AT_MOST],
        "grams": sorted({gram for node in nodes for gram in grams(node)})[:MAX_GRAMS],
    }


def shown(node: ast.AST) -> str:
    """A piece of code on one line."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 4] + " ..."


def assigned(function: ast.stmt) -> list[list[str]]:
    """[variable, statement] for the function's own variables."""
    return first_of(
        [target.id[:40], shown(node)]
        for node in ast.walk(function)
        if isinstance(node, ast.Assign | ast.AugAssign) and node is not function
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and not isinstance(node.value, ast.Constant)
    )


def pieces(function: ast.stmt, field: str) -> list[str]:
    """The code in a field of the function's nodes: "test" of if, while and a choice, "iter" of for
    and comprehensions.
    """
    found = [getattr(node, field, None) for node in ast.walk(function)]
    return first_of(shown(node) for node in found if isinstance(node, ast.AST))


def numbers(function: ast.stmt) -> list[list[str]]:
    """[number, statement] for the numbers in the function that are not plain ones."""
    return first_of(
        [f"{part.value:g}"[:20], shown(statement)]
        for statement in ast.walk(function)
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.Return | ast.Expr)
        for part in ast.walk(statement)
        if isinstance(part, ast.Constant) and type(part.value) in (int, float)
        if abs(part.value) < 1e300 and abs(part.value) not in (0, 1, 2)  # nobody asks why
    )


def first_of(found: Iterable[Any]) -> list[Any]:
    """The first AT_MOST of them, each once."""
    once = []
    for piece in found:
        if piece not in once and len(once) < AT_MOST:
            once.append(piece)
    return once


def kit_paths(function: ast.stmt, kit: dict[str, str]) -> list[str]:
    """The paths of what a function uses of lab_utils, such as "lab_utils.lora.lora.add_lora"."""
    own = bound(function) if isinstance(function, ast.FunctionDef) else set()
    seen = {name: path for name, path in kit.items() if name not in own}
    paths = {kit_path(node, seen) for node in ast.walk(function)}
    return [p for p in paths if p and not any(q.startswith(f"{p}.") for q in paths)]


def kit_path(node: ast.AST, kit: dict[str, str]) -> str:
    """The path of a name, or of a name with attributes, or ""."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in kit:
        return ""
    return ".".join([kit[node.id], *reversed(names)])[:SHOWN]


# --------------------------------------------------------------------------------- what is compared
def grams(node: ast.stmt) -> Iterator[int]:
    """A number for every GRAM neighbouring nodes of the tree, in which all names are one and what
    changes nothing (annotations, texts alone in a line) is left out.

    Fingerprints of neighbouring tokens are how MOSS finds copies: Schleimer, Wilkerson, Aiken,
    "Winnowing", SIGMOD 2003.
    """
    words = list(tree_words(node))
    for i in range(max(1, len(words) - GRAM + 1)):
        yield zlib.crc32(" ".join(words[i : i + GRAM]).encode())


def tree_words(node: ast.AST) -> Iterator[str]:
    """A word for every node, parents first."""
    if isinstance(node, ast.expr_context | ast.arguments):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Constant):
        yield repr(node.value) if isinstance(node.value, int | float) else "constant"
    elif isinstance(node, ast.Attribute):
        yield "." + node.attr
    elif isinstance(node, ast.keyword):
        yield f"{node.arg}="
    else:
        yield type(node).__name__
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from tree_words(child)
