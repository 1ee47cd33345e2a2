"""Mutants of one function: its source with one small change, as a tired person makes it.

The operators are the usual ones: constants by one, other comparisons and signs of arithmetic, other
roundings, a branch or a condition dropped, an argument ignored or replaced, axes swapped, first for
last, slices by one, a result returned too early.
"""

import ast
import copy
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

MAX_STEPS = 8_000  # of all loops of a mutant in one call: some never end


@dataclass(frozen=True)
class Mutant:
    change: str  # such as "math.ceil(n / k) -> math.floor(n / k)"
    made: Callable[[], Callable]

    @property
    def function(self) -> Callable:
        """The mutant itself, compiled anew each time: of two with one change only one is tried."""
        return self.made()


class TooLong(Exception):
    """A mutant that loops without end."""


# ----------------------------------------------------------------------------- from code to mutants
def mutants_of(function: Callable, arguments: tuple, answer: Any) -> list[Mutant]:
    """All different mutants of a function. Its arguments and answer in one call tell the types."""
    definition = definition_of(function)
    changed = list(changed_definitions(definition, arguments))
    changed += [(f"result: {text}", node) for text, node in changed_results(definition, answer)]
    known, found = {ast.unparse(definition)}, []
    for change, node in changed:
        text = ast.unparse(ast.fix_missing_locations(node))
        if text not in known:
            known.add(text)
            found.append(Mutant(change, partial(compiled, text, function)))
    found.append(Mutant(f"always {answer!r:.40}", lambda: lambda *_: copy.deepcopy(answer)))
    return found


@cache
def parsed(file: str) -> ast.Module:
    with open(file, encoding="utf-8") as opened:
        return ast.parse(opened.read())


def definition_of(function: Callable) -> ast.FunctionDef:
    """The syntax tree of a function; a lambda becomes a function with one `return`."""
    code = function.__code__
    if code.co_freevars:
        raise ValueError(f"{function.__qualname__} was made by another function: write it out")
    nodes = [
        node
        for node in ast.walk(parsed(inspect.getsourcefile(function)))
        if isinstance(node, ast.FunctionDef | ast.Lambda)
        and node.lineno == code.co_firstlineno
        and code.co_varnames[: code.co_argcount] == tuple(a.arg for a in node.args.args)
    ]
    if len(nodes) != 1:
        raise ValueError(
            f"{len(nodes)} functions begin at line {code.co_firstlineno}: use more lines"
        )
    node = nodes[0]
    if isinstance(node, ast.Lambda):
        node = ast.FunctionDef("mutant", node.args, [ast.Return(node.body)], [])
    plain = [ast.arg(argument.arg) for argument in node.args.args]
    arguments = ast.arguments([], plain, None, [], [], None, [])
    return ast.fix_missing_locations(ast.FunctionDef("mutant", arguments, node.body, []))


def compiled(text: str, function: Callable) -> Callable:
    """The function of a mutant's source; its loops count their steps and end with `TooLong`."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.While):
            node.body.insert(0, ast.parse("_step()").body[0])
    names = {**function.__globals__, "math": math, "torch": torch, "_step": step}
    exec(compile(ast.fix_missing_locations(tree), "<mutant>", "exec"), names)
    mutant = names["mutant"]

    def limited(*arguments: Any) -> Any:
        steps[0] = 0
        return mutant(*arguments)

    return limited


steps = [0]


def step() -> None:
    steps[0] += 1
    if steps[0] > MAX_STEPS:
        raise TooLong


# ---------------------------------------------------------------------------- changes of the source
def changed_definitions(
    definition: ast.FunctionDef, arguments: tuple
) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.walk(definition):
        for new in replacements(node):
            yield f"{text_of(node)} -> {text_of(new)}", copy.deepcopy(definition, {id(node): new})
    for statement in first_statements(definition, arguments):
        body = [ast.parse(statement).body[0], *definition.body]
        yield statement, ast.FunctionDef("mutant", definition.args, body, [])


def text_of(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).replace("\n", "; ")[:70]


def expression(text: str, **parts: ast.AST) -> ast.expr:
    """An expression with nodes in place of some of its names."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.AST:
            return parts.get(name.id, name)

    return Fill().visit(ast.parse(text, mode="eval").body)


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Whatever may stand in the place of a node of the syntax tree."""
    kind = type(node).__name__
    if kind in CHANGES:
        yield from CHANGES[kind](node)
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Expr):
        yield ast.Pass()


def changed_constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        values = [value + 1, value - 1]
        if abs(value) >= 1000:
            values += [value * 10, value / 10, value * 1.024]
        yield from (expression(repr(value)) for value in values)
    elif isinstance(value, str):
        yield from (ast.Constant(text) for text in ("", value + "x", value[1:]))


OPERATORS = {
    "Add": "a - b; a * b; a; b",
    "Sub": "a + b; b - a; a; b",
    "Mult": "a / b; a + b; a; b",
    "Div": "a * b; a // b; b / a; a; b; -(-a // b)",
    "FloorDiv": "a / b; -(-a // b); a % b; a; a // b + 1; round(a / b)",
    "Mod": "a // b; a; (a + 1) % b; (a - 1) % b",
    "Pow": "a * b; a; a ** (b - 1); a ** (b + 1)",
    "MatMult": "b @ a; a * b; a; b; a @ b.T; a.T @ b",
    "LShift": "a >> b; a; b",
    "RShift": "a << b; a",
    "BitAnd": "a | b; a ^ b; a; b; a - b",
    "BitOr": "a & b; a; b; a ^ b",
    "BitXor": "a | b; a & b; a; b",
}
COMPARISONS = {
    "Lt": "a <= b; a > b; a >= b; a != b",
    "LtE": "a < b; a >= b; a > b; a == b",
    "Gt": "a >= b; a < b; a <= b; a != b",
    "GtE": "a > b; a <= b; a < b; a == b",
    "Eq": "a != b; a >= b; a <= b",
    "NotEq": "a == b; a < b; a > b",
    "In": "a not in b",
    "NotIn": "a in b",
    "Is": "a is not b",
    "IsNot": "a is b",
}


def changed_operation(node: ast.BinOp) -> Iterator[ast.AST]:
    for text in OPERATORS[type(node.op).__name__].split("; "):
        yield expression(text, a=node.left, b=node.right)


def changed_comparison(node: ast.Compare) -> Iterator[ast.AST]:
    if len(node.ops) == 1:
        texts = COMPARISONS[type(node.ops[0]).__name__] + "; True; False"
        for text in texts.split("; "):
            yield expression(text, a=node.left, b=node.comparators[0])


def changed_logic(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
    yield from node.values


def changed_sign(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


CALLS = {
    "ceil": "floor round trunc",
    "floor": "ceil round trunc",
    "trunc": "floor ceil round",
    "rint": "floor ceil trunc",
    "min": "max",
    "max": "min",
    "amin": "amax",
    "amax": "amin mean",
    "argmin": "argmax",
    "argmax": "argmin",
    "sum": "mean max",
    "mean": "sum median max min",
    "any": "all",
    "all": "any",
    "lower": "upper",
    "find": "rfind",
    "removesuffix": "removeprefix",
    "split": "splitlines",
    "log1p": "log exp",
    "exp": "log1p",
    "square": "abs sqrt",
    "sqrt": "square abs",
    "repeat_interleave": "repeat",
    "zeros": "ones",
    "new_zeros": "new_ones",
    "zeros_like": "ones_like",
    "range": "",
}


def changed_call(node: ast.Call) -> Iterator[ast.AST]:
    called, given = node.func, node.args
    if isinstance(called, ast.Attribute):
        for name in CALLS.get(called.attr, "").split():
            yield ast.Call(ast.Attribute(called.value, name), given, node.keywords)
        yield called.value  # the method is dropped
        if called.attr == "round" or called.attr == "rint":
            for name in ("floor", "ceil", "trunc"):
                yield ast.Call(ast.Attribute(called.value, name), given, node.keywords)
    elif isinstance(called, ast.Name):
        for name in CALLS.get(called.id, "").split():
            yield ast.Call(ast.Name(name), given, node.keywords)
        if called.id in ("round", "int"):
            for text in (
                "math.floor(a)",
                "math.ceil(a)",
                "round(a)",
                "int(a)",
                "math.floor(a + 1)",
            ):
                yield expression(text, a=given[0])
    if len(given) == 1:
        yield given[0]
    if len(given) > 1:
        for i in range(len(given)):
            yield ast.Call(called, given[:i] + given[i + 1 :], node.keywords)
        yield ast.Call(called, given[::-1], node.keywords)
    for keyword in node.keywords:
        others = [other for other in node.keywords if other is not keyword]
        yield ast.Call(called, given, others)


def changed_attribute(node: ast.Attribute) -> Iterator[ast.AST]:
    if node.attr == "T":
        yield node.value


def changed_place(node: ast.Subscript) -> Iterator[ast.AST]:
    """Another item, or a slice that begins or ends by one elsewhere."""
    if not isinstance(node.ctx, ast.Load):
        targets = (ast.Subscript(node.value, place, node.ctx) for place in other_slices(node.slice))
        yield from targets
        return
    yield from (ast.Subscript(node.value, place, node.ctx) for place in other_slices(node.slice))
    if isinstance(node.slice, ast.Slice):
        yield node.value


def other_slices(place: ast.expr) -> Iterator[ast.expr]:
    if isinstance(place, ast.Constant) and place.value == 0:
        yield expression("-1")
    if not isinstance(place, ast.Slice):
        return
    low, high, width = place.lower, place.upper, place.step
    zero = expression("0")
    for text in ("a + 1", "a - 1"):
        yield ast.Slice(expression(text, a=low or zero), high, width)
        if high:
            yield ast.Slice(low, expression(text, a=high), width)
    if high is None:
        yield ast.Slice(low, expression("-1"), width)
    if low and high:
        yield from (ast.Slice(None, high, width), ast.Slice(low, None, width))
    if width:
        yield from (ast.Slice(low, high, None), ast.Slice(low, high, expression("a + 1", a=width)))


def changed_choice(node: ast.IfExp) -> Iterator[ast.AST]:
    yield from (node.body, node.orelse, ast.IfExp(node.test, node.orelse, node.body))


def changed_branch(node: ast.If) -> Iterator[ast.AST]:
    for test in (ast.Constant(True), ast.Constant(False), ast.UnaryOp(ast.Not(), node.test)):
        yield ast.If(test, node.body, node.orelse)


def changed_loop(node: ast.For) -> Iterator[ast.AST]:
    yield ast.For(node.target, node.iter, [*node.body, ast.Break()], node.orelse)
    for text in ("list(a)[1:]", "list(a)[:-1]", "list(a)[::-1]"):
        yield ast.For(node.target, expression(text, a=node.iter), node.body, node.orelse)


def changed_comprehension(node: ast.comprehension) -> Iterator[ast.AST]:
    for i in range(len(node.ifs)):
        others = node.ifs[:i] + node.ifs[i + 1 :]
        yield ast.comprehension(node.target, node.iter, others, 0)
    for text in ("list(a)[1:]", "list(a)[:-1]", "list(a)[:1]"):
        yield ast.comprehension(node.target, expression(text, a=node.iter), node.ifs, 0)


def changed_sum(node: ast.AugAssign) -> Iterator[ast.AST]:
    yield ast.Assign([node.target], node.value)
    if isinstance(node.op, ast.Add | ast.Sub):
        other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield ast.AugAssign(node.target, other, node.value)


CHANGES = {
    "Constant": changed_constant,
    "BinOp": changed_operation,
    "Compare": changed_comparison,
    "BoolOp": changed_logic,
    "UnaryOp": changed_sign,
    "Call": changed_call,
    "Attribute": changed_attribute,
    "Subscript": changed_place,
    "IfExp": changed_choice,
    "If": changed_branch,
    "For": changed_loop,
    "comprehension": changed_comprehension,
    "AugAssign": changed_sum,
}


# --------------------------------------------------------------------------- changes of an argument
def first_statements(definition: ast.FunctionDef, arguments: tuple) -> Iterator[str]:
    """Statements that change, replace or exchange arguments before anything else is done."""
    names = [argument.arg for argument in definition.args.args]
    for name, value in zip(names, arguments, strict=True):
        for text in changed_value(value, name):
            yield f"{name} = {text}"
    pairs = [
        (a, b)
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i != j and family(arguments[i]) == family(arguments[j]) is not None
    ]
    for a, b in pairs:
        yield f"{a} = {b}"
        if a < b:
            yield f"{a}, {b} = {b}, {a}"


def family(value: Any) -> str | None:
    """Values of one family may be mistaken for each other."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    if isinstance(value, torch.Tensor):
        return "tensor"
    return type(value).__name__ if isinstance(value, str | list | tuple) else None


def changed_value(value: Any, name: str) -> list[str]:
    """Expressions for what a person may take in place of an argument: of its kind, and wrong."""
    if isinstance(value, bool):
        return ["True", "False", f"not {name}"]
    if isinstance(value, int):
        return [text.format(name) for text in ("0", "1", repr(value), "{} + 1", "{} - 1", "2 * {}")]
    if isinstance(value, float):
        texts = ("0.0", "1.0", repr(value), "{} / 100", "float(int({}))", "round({})", "-{}")
        return [text.format(name) for text in texts]
    if isinstance(value, torch.Tensor):
        texts = ("torch.zeros_like({})", "{}.abs()", "-{}", "{}.flip(0)", "{}[:-1]", "{}[1:]")
        texts += (
            ("{}.T", "{}.round()", "{}.flatten()") if value.dim() > 1 else ("{}.sort().values",)
        )
        texts += ("torch.ones_like({})",)
        return [text.format(name) for text in texts]
    if isinstance(value, str):
        texts = ("''", "{}.lower()", "{}.strip()", "{}[1:]", "{}[:-1]", "{}.replace(' ', '')")
        return [*(text.format(name) for text in texts), repr(value)]
    if isinstance(value, list | tuple):
        texts = ("type({0})()", "{0}[1:]", "{0}[:-1]", "{0}[::-1]", "{0}[:1]", "{0}[-1:]")
        if all(isinstance(item, int | str) for item in value):
            texts += (
                "type({0})(dict.fromkeys({0}))",
                "type({0})(sorted({0}))",
                "type({0})({0} * 2)",
            )
        return [text.format(name) for text in texts]
    return ["{}"]


# ---------------------------------------------------------------------------- changes of the result
def changed_results(
    definition: ast.FunctionDef, answer: Any
) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The right result, and then one thing too much. `mutant` calls its own first form."""
    names = ", ".join(argument.arg for argument in definition.args.args)
    for text in changed_answer(answer):
        inner = copy.deepcopy(definition)
        inner.name = "right"
        last = ast.parse(f"r = right({names})\nreturn {text}").body
        yield text, ast.FunctionDef("mutant", definition.args, [inner, *last], [])


NUMBER_TEXTS = (
    "{0} + 1; {0} - 1; -{0}; abs({0}); 2 * {0}; {0} / 2; {0} * 1.01; round({0}); int({0}); "
    "math.ceil({0}); int({0} - .1); int({0} + .5); max({0}, 1); min({0}, 1); 1 / {0}; 1 - {0}; "
    "100 * {0}; {0} * 1e9 / 2**30"
).split("; ")
TENSOR_TEXTS = (
    "{0} + 1; -{0}; {0}.abs(); 2 * {0}; {0}.round(); {0}.flip(0); {0}[:-1]; {0}[1:]; {0}.mT; "
    "{0}.sort(0).values; {0}.clamp(min=0); {0} * 1.01"
).split("; ")
LIST_TEXTS = (
    "{0}[:-1]; {0}[1:]; {0}[::-1]; {0}[:1]; {0}[-1:]; {0} + {0}[-1:]; type({0})(); 1 - {0}[0]"
).split("; ")


def changed_answer(answer: Any, name: str = "r") -> list[str]:
    if isinstance(answer, torch.Tensor):
        return [text.format(name) for text in TENSOR_TEXTS]
    if isinstance(answer, int | float):
        return [text.format(name) for text in NUMBER_TEXTS]
    texts = [text.format(name) for text in LIST_TEXTS]
    if isinstance(answer, tuple):
        for i, item in enumerate(answer):
            rest = (f"*{name}[:{i}]", f"*{name}[{i + 1}:]")
            changed = changed_answer(item, f"{name}[{i}]")
            texts += [f"({rest[0]}, {text}, {rest[1]})" for text in changed]
    return texts
