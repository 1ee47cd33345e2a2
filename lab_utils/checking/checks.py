"""`check(function)`: try a student's function on fresh inputs and say input, expected, received and
the likely mistake.

An exercise knows a right answer, a way to make inputs, when two answers are the same, and the wrong
answers students are likely to give. The likely mistake is found by looking which wrong answer gives
what the student's function gave.
"""

import copy
import difflib
import html
import importlib
import inspect
import numbers
import pkgutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Same = Callable[[Any, Any], bool]


# ------------------------------------------------------------------------------ what an exercise is
@dataclass(frozen=True)
class Exercise:
    """One exercise. `wrong` maps a likely mistake, in the words a student should read, to a
    function that makes it.
    """

    name: str  # of the student's function
    lab: str  # such as "01_quantization_buckets"
    reference: Callable
    # several cases, fresh each time, a readable one first
    make_inputs: Callable[[np.random.Generator], list[tuple]]
    same: Same  # (expected, received) of equal type and shape -> are they the same answer?
    wrong: dict[str, Callable]
    variants: tuple[Callable, ...] = ()  # other right solutions
    hints: tuple[str, ...] = ()
    points: float = 1


def close(rtol: float = 1e-5, atol: float = 1e-6) -> Same:
    """Make a `same` that allows |expected - received| <= atol + rtol * |expected| and no NaN or
    infinity instead.
    """

    def same(expected: Any, received: Any) -> bool:
        expected, received = as_array(expected), as_array(received)
        return bool(np.allclose(received, expected, rtol=rtol, atol=atol, equal_nan=True))

    same.__doc__ = f"equal to {rtol:g} of the value plus {atol:g}"
    return same


def exact(expected: Any, received: Any) -> bool:
    """Every value equal."""
    return bool(np.array_equal(as_array(expected), as_array(received)))


def as_array(value: Any) -> np.ndarray:
    """A number, an array or a tensor as a float64 array. Lists and tuples are compared item by
    item, never here.
    """
    if is_tensor(value):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


# -------------------------------------------------------------------------------- finding exercises
def all_exercises(lab: str | None = None) -> list[Exercise]:
    """All exercises, or those of one lab."""
    package = importlib.import_module("lab_utils.checking.exercises")
    found = []
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        found += importlib.import_module(f"{package.__name__}.{module.name}").EXERCISES
    return [exercise for exercise in found if lab in (None, exercise.lab)]


def find_exercise(name: str) -> Exercise:
    """The exercise of that name, or an error that names the nearest."""
    exercises = {exercise.name: exercise for exercise in all_exercises()}
    if name in exercises:
        return exercises[name]
    near = difflib.get_close_matches(name, exercises, n=1)
    advice = f"did you mean {near[0]}?" if near else "the names are " + ", ".join(exercises) + "."
    raise ValueError(
        f"no exercise is called {name!r}: keep the name of the function as the lab gives it; "
        f"{advice}"
    )


# -------------------------------------------------------------------------------- what can be wrong
@dataclass(frozen=True)
class Problem:
    """One failed case. `kind` is a short name, `message` what happened, `mistake` the likely reason
    where known.
    """

    kind: str
    message: str
    inputs: str = ""
    expected: str = ""
    received: str = ""
    mistake: str = ""


def show(value: Any, limit: int = 300) -> str:
    """A short text for a value of a student, whatever its own `repr` does."""
    if is_tensor(value):
        dtype = str(value.dtype).removeprefix("torch.")
        text = f"{show_numbers(value)}  ({dtype}, shape {tuple(value.shape)})"
    elif type(value) in (tuple, list) and len(value) <= 4:
        text = "(" + ", ".join(show(item, limit) for item in value) + ")"
    elif type(value) is float:
        text = f"{value:.7g}"
    else:
        try:
            text = repr(value)
        except Exception as error:
            text = f"<{type(value).__name__}, its repr raises {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 30] + " ... " + text[-25:]


def show_numbers(tensor: Any) -> str:
    """The numbers of a tensor on one line, long ones shortened to their beginning and end."""
    if not tensor.dtype.is_floating_point:
        array = tensor.detach().cpu().numpy()
    else:
        array = as_array(tensor)
    text = np.array2string(
        array, precision=5, separator=", ", threshold=30, edgeitems=4, suppress_small=True
    )
    return " ".join(text.split()).replace("[ ", "[")


def is_tensor(value: Any) -> bool:
    """A torch tensor, seen without importing torch: some labs need none."""
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "numel")


def show_call(exercise: Exercise, arguments: tuple) -> str:
    """The arguments by name, as in `x=[1.5, 2.3], bits=8`."""
    names = list(inspect.signature(exercise.reference).parameters)
    return ", ".join(f"{name}={show(value)}" for name, value in zip(names, arguments, strict=False))


def is_number(value: Any) -> bool:
    """A plain or NumPy number, or a tensor of no dimensions; True and False are none."""
    if is_tensor(value):
        return value.dim() == 0 and not value.dtype.is_complex
    return isinstance(value, numbers.Real | np.floating | np.integer) and not isinstance(
        value, bool
    )


def compare_form(expected: Any, received: Any, where: str = "the result") -> tuple[str, str] | None:
    """Compare kind by kind: None, then type, length, shape, dtype. Return (kind, message), or None
    if all agree.

    The values are not looked at, and no method of the received object is trusted: a result must be
    of the very type.
    """
    if received is None:
        return "none", f"{where} is None: did you forget `return`?"
    if isinstance(expected, tuple | list):
        return compare_items(expected, received, where)
    if is_number(expected) and not is_tensor(expected):
        if is_number(received):
            return None
        return "type", f"{where} should be one number and is a {type(received).__name__}"
    if type(received) is not type(expected):
        return (
            "type",
            f"{where} should be a {type(expected).__name__} and is a {type(received).__name__}",
        )
    if not hasattr(expected, "dtype"):
        return None
    if tuple(received.shape) != tuple(expected.shape):
        return (
            "shape",
            f"{where} should have the shape {tuple(expected.shape)} and has "
            f"{tuple(received.shape)}",
        )
    if received.dtype != expected.dtype:
        return "dtype", f"{where} should have the dtype {expected.dtype} and has {received.dtype}"
    return None


def compare_items(expected: tuple | list, received: Any, where: str) -> tuple[str, str] | None:
    """`compare_form` for a tuple or list: its type and length, then item by item."""
    if type(received) not in (tuple, list):
        return (
            "type",
            f"{where} should be {len(expected)} values and is a {type(received).__name__}",
        )
    if len(received) != len(expected):
        return "shape", f"{where} should be {len(expected)} values and is {len(received)}"
    for i, (ours, theirs) in enumerate(zip(expected, received, strict=True)):
        problem = compare_form(ours, theirs, f"{where}[{i}]")
        if problem:
            return problem
    return None


def same_answer(exercise: Exercise, expected: Any, received: Any) -> bool:
    """Right form and right value. A tuple's items go to `exercise.same` one by one."""
    if compare_form(expected, received):
        return False
    if isinstance(expected, tuple | list):
        return all(
            exercise.same(ours, theirs) for ours, theirs in zip(expected, received, strict=True)
        )
    return exercise.same(expected, received)


# ------------------------------------------------------------------------------ trying the function
def explain_exception(function: Callable, error: BaseException) -> tuple[str, str]:
    """(kind, message) for what a student's function raised, with the line of the function where it
    happened.
    """
    if isinstance(error, NotImplementedError):
        return (
            "not started",
            "nothing here yet: replace `raise NotImplementedError` by your solution",
        )
    code = getattr(function, "__code__", None)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if code and frame.filename == code.co_filename
    ]
    line = f", at `{frames[-1].line}`" if frames and frames[-1].line else ""
    return "exception", f"your function raised {type(error).__name__}: {show(str(error))}{line}"


def try_case(
    exercise: Exercise, function: Callable, arguments: tuple
) -> tuple[Problem | None, Any]:
    """Call the function on copies of the arguments. Return (problem or None, what was received)."""
    given, kept = copy.deepcopy(arguments), copy.deepcopy(arguments)
    expected = exercise.reference(*copy.deepcopy(arguments))
    facts = {"inputs": show_call(exercise, arguments), "expected": show(expected)}
    try:
        received = function(*given)
    except (Exception, SystemExit) as error:
        return Problem(*explain_exception(function, error), **facts), None
    facts["received"] = show(received)
    form = compare_form(expected, received)
    if form:
        return Problem(*form, **facts), received
    if not all(unchanged(before, after) for before, after in zip(kept, given, strict=True)):
        message = (
            "your function changes its input: the caller's tensor would be different afterwards; "
            "make a new one"
        )
        return Problem("input changed", message, **facts), received
    if not same_answer(exercise, expected, received):
        return Problem("wrong value", largest_difference(expected, received), **facts), received
    return None, received


def largest_difference(expected: Any, received: Any) -> str:
    """Where the values differ most: "the value is 2 where 4 is expected", with the index in a
    tensor.
    """
    if type(expected) in (tuple, list):
        pairs = [pair for pair in zip(expected, received, strict=True) if not exact(*pair)]
        return largest_difference(*pairs[0]) if pairs else "the value is not right"
    ours, theirs = as_array(expected), as_array(received)
    place = np.unravel_index(
        np.argmax(np.nan_to_num(np.abs(ours - theirs), nan=np.inf)), ours.shape
    )
    index = f" at [{', '.join(map(str, place))}]" if place else ""
    return f"the value{index} is {theirs[place]:.7g} where {ours[place]:.7g} is expected"


def unchanged(before: Any, after: Any) -> bool:
    """Is an argument what it was before the call?"""
    if isinstance(before, tuple | list):
        return len(before) == len(after) and all(map(unchanged, before, after))
    if hasattr(before, "dtype"):
        same_form = before.shape == after.shape and before.dtype == after.dtype
        return same_form and bool(np.array_equal(as_array(before), as_array(after), equal_nan=True))
    return bool(before == after)


def likely_mistake(exercise: Exercise, cases: list[tuple], answers: list) -> str:
    """The first named mistake that gives the student's answer in every case, or "" if none does."""
    for mistake, function in exercise.wrong.items():
        try:
            outcomes = [function(*copy.deepcopy(arguments)) for arguments in cases]
        except Exception:
            continue  # this mistake can't be made on these inputs
        if all(
            same_answer(exercise, wrong, answer)
            for wrong, answer in zip(outcomes, answers, strict=True)
        ):
            return mistake
    return ""


def find_problem(
    exercise: Exercise, function: Callable, rng: np.random.Generator
) -> Problem | None:
    """Try the function on fresh cases and return the first problem, with its likely mistake, or
    None.
    """
    cases = exercise.make_inputs(rng)
    try:
        inspect.signature(function).bind(*cases[0])
    except TypeError as error:
        names = ", ".join(inspect.signature(exercise.reference).parameters)
        return Problem(
            "arguments",
            f"it is called as {exercise.name}({names}), and your function can't be: {error}",
        )
    except ValueError:
        pass  # a function without a signature, as some built-in ones: calling it will tell
    tried = [try_case(exercise, function, arguments) for arguments in cases]
    problem = next((problem for problem, _ in tried if problem), None)
    if problem is None or problem.kind in ("none", "exception", "not started"):
        return problem
    mistake = likely_mistake(exercise, cases, [received for _, received in tried])
    return replace(problem, mistake=mistake)


# --------------------------------------------------------------------------------------- the report
@dataclass(frozen=True)
class CheckReport:
    """What `check` found. A notebook shows it as a card, `print` as text; `passed` is for programs."""

    exercise: Exercise
    problem: Problem | None
    n_cases: int
    shown_hints: int = 0

    @property
    def passed(self) -> bool:
        return self.problem is None

    def rows(self) -> list[tuple[str, str]]:
        """(label, text) for each thing to say about a problem."""
        problem = self.problem
        labels = {
            "What happened": problem.message,
            "Input": problem.inputs,
            "Expected": problem.expected,
            "Received": problem.received,
            "Likely mistake": problem.mistake,
        }
        return [(label, text) for label, text in labels.items() if text]

    def __str__(self) -> str:
        name, hints = self.exercise.name, self.exercise.hints
        if self.passed:
            return f"PASSED  {name}: right on {self.n_cases} fresh inputs."
        lines = [f"NOT YET  {name}: {self.problem.kind}"]
        lines += [f"  {label + ':':<16}{text}" for label, text in self.rows()]
        lines += [
            f"  Hint {i} of {len(hints)}:     {hint}"
            for i, hint in enumerate(hints[: self.shown_hints], 1)
        ]
        if self.shown_hints < len(hints):
            lines.append(f"  For a hint: check({name}, hint={self.shown_hints + 1})")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        name = html.escape(self.exercise.name)
        if self.passed:
            return card(
                "#009E73",
                f"<b>✓ Passed</b> <code>{name}</code>: right on {self.n_cases} fresh inputs.",
            )
        cell = "padding:2px 12px 2px 0;text-align:left;vertical-align:top"
        rows = "".join(
            f'<tr><th scope="row" style="{cell};white-space:nowrap">{label}</th>'
            f'<td style="{cell};overflow-wrap:anywhere">{html.escape(text)}</td></tr>'
            for label, text in self.rows()
        )
        title = f"<b>✗ Not yet</b> <code>{name}</code>: {html.escape(self.problem.kind)}"
        return card("#D55E00", f"{title}<table>{rows}</table>{self.hints_html()}")

    def hints_html(self) -> str:
        """Hints as folded boxes, each inside the one before: the second can be opened once the
        first was.
        """
        inner = ""
        for i, hint in reversed(list(enumerate(self.exercise.hints, 1))):
            opened = " open" if i <= self.shown_hints else ""
            inner = (
                f"<details{opened}><summary>Hint "
                f"{i}</summary><p>{html.escape(hint)}</p>{inner}</details>"
            )
        return inner


def card(color: str, body: str) -> str:
    """A box with a colored edge; the colors are Okabe and Ito's, and the words say the same."""
    return (
        f'<div role="status" style="border-left:8px solid {color};padding:6px '
        f'14px;font-size:110%">{body}</div>'
    )


def check(function: Callable, hint: int = 0, seed: int | None = None) -> CheckReport:
    """Check a student's function, found by its name. `hint=2` opens the first two hints; `seed`
    repeats the inputs.
    """
    if not callable(function) or not hasattr(function, "__name__"):
        raise TypeError(
            f"check wants the function itself, got {type(function).__name__}: write "
            "check(absmax_int8), without calling it."
        )
    exercise = find_exercise(function.__name__)
    n_cases = len(exercise.make_inputs(np.random.default_rng(seed)))
    problem = find_problem(exercise, function, np.random.default_rng(seed))
    return CheckReport(exercise, problem, n_cases, min(max(hint, 0), len(exercise.hints)))


def ready(function: Callable[..., Any]) -> bool:
    """Whether the exercise is solved, for a cell that builds on it: `if ready(my_function): ...`.

    Where it is not, the cell says which exercise it waits for.
    """
    passed = check(function).passed
    if not passed:
        print(f"This waits for {function.__name__}: run it again when its check has passed.")
    return passed
