"""A notebook's cell as Python: one reading for `submit()`, before a hand-in, and for the grader
after it.
"""

from __future__ import annotations

import ast

NOT_PYTHON = set(
    """
    bash sh script shell system sx cmd perl ruby html HTML javascript js latex markdown svg SVG
    bigquery sql R
    """.split()
)
CAPTURED, WRITE_FILE = "__captured__", "__write_file__"  # what %%capture and %%writefile become


def to_python(source: str) -> str:
    """A cell without what only IPython understands: `%%time` is taken off, `%%bash` empties the
    cell, `%%writefile` and `%magic` are calls, `%%capture name` binds the name.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    lines = source.lstrip("\ufeff").splitlines()
    for i, line in enumerate(lines):
        if line.strip() and not line.startswith("%%"):
            break
        magic, *words = line[2:].split() or [""]
        if magic in NOT_PYTHON:
            return ""
        if magic in ("writefile", "file") and words:
            return f"{WRITE_FILE}({words[-1]!r}, {chr(10).join(lines[i + 1 :])!r}, {'-a' in words})"
        names = [word for word in words if magic == "capture" and word.isidentifier()]
        lines[i] = f"{names[0]} = {CAPTURED}" if names else ""  # the numbers of the others stay
    source = "\n".join(lines)
    try:
        ast.parse(source)
        return source
    except SyntaxError:
        return TransformerManager().transform_cell(source)


def defined(source: str) -> dict[str, ast.stmt]:
    """{name: what binds it last} for the functions of a cell, and for names that are assigned, as
    with `f = lambda x: 2 * x`. Empty for a cell that is no Python.
    """
    try:
        tree = ast.parse(to_python(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assigned = {
        target.id: node
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {**functions, **assigned}


def is_stub(function: ast.stmt) -> bool:
    """Whether a function was left as the lab gives it: nothing but `raise NotImplementedError`,
    `pass` or `...`.
    """
    if not isinstance(function, ast.FunctionDef):
        return False  # a lambda, or what another function made
    body = [
        node
        for node in function.body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    if all(isinstance(node, ast.Pass) for node in body):
        return True
    return isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.dump(body[0])
