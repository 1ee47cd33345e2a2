"""Which solutions stand elsewhere in what students get, by their syntax trees.

A line can be copied under other names and over other line breaks, and then no search for text finds
it. So expressions are compared by shape: the tree, in which variables are numbered as they appear,
while called names, attributes and constants stay.
"""

from __future__ import annotations

import ast
import builtins
import copy
import json
from collections.abc import Iterator
from typing import Any

LEAST = 7  # nodes of an expression that says enough to be looked for


class _Numbered(ast.NodeTransformer):
    """Variables become their number in the order of appearance."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """A function that is called by its name keeps it."""
        func = node.func if isinstance(node.func, ast.Name) else self.visit(node.func)
        arguments = [self.visit(argument) for argument in node.args]
        keywords = [self.visit(keyword) for keyword in node.keywords]
        return ast.Call(func, arguments, keywords)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """A variable, but not one of Python's own names."""
        if hasattr(builtins, node.id):
            return node
        number = self.numbers.setdefault(node.id, len(self.numbers))
        return ast.Name(f"_{number}", ast.Load())

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """A parameter of a lambda."""
        return ast.arg(f"_{self.numbers.setdefault(node.arg, len(self.numbers))}")


def shape(node: ast.expr) -> str:
    """The tree of an expression without the names of its variables."""
    return ast.dump(_Numbered().visit(copy.deepcopy(node)))


def size(node: ast.AST) -> int:
    """How many expressions and operators a tree has."""
    return sum(isinstance(part, ast.expr | ast.operator | ast.cmpop) for part in ast.walk(node))


def answers_of(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """The expressions of a solution that say enough: what it returns and what it assigns."""
    for node in ast.walk(function):
        value = getattr(node, "value", None)
        if isinstance(node, ast.Return | ast.Assign | ast.AugAssign) and value is not None:
            yield from [value] if size(value) >= LEAST else []


def code_of(file: str, data: bytes) -> Iterator[tuple[str, ast.Module]]:
    """(place, tree) of a Python file, or of each cell of a notebook that is plain Python."""
    sources = [(file, data.decode(errors="replace"))] if file.endswith(".py") else []
    if file.endswith(".ipynb"):
        cells: list[dict[str, Any]] = json.loads(data)["cells"]
        sources = [
            (f"{file} cell {number}", "".join(cell["source"]))
            for number, cell in enumerate(cells)
            if cell["cell_type"] == "code"
        ]
    for place, source in sources:
        try:
            yield place, ast.parse(source)
        except (SyntaxError, ValueError):
            continue


def find_answers(
    files: dict[str, bytes], functions: dict[str, ast.FunctionDef]
) -> dict[str, dict[str, set[str]]]:
    """{function: {expression: places}} for the solutions' expressions that stand in the files."""
    wanted: dict[str, list[tuple[str, str]]] = {}
    for name, function in functions.items():
        for answer in answers_of(function):
            wanted.setdefault(shape(answer), []).append((name, ast.unparse(answer)))
    sizes = {
        size(ast.parse(text, mode="eval").body) for rows in wanted.values() for _, text in rows
    }
    found: dict[str, dict[str, set[str]]] = {}
    for file, data in files.items():
        for place, tree in code_of(file, data):
            for node in ast.walk(tree):
                if isinstance(node, ast.expr) and size(node) in sizes:
                    for name, text in wanted.get(shape(node), ()):
                        found.setdefault(name, {}).setdefault(text, set()).add(place)
    return found
