"""`check(function)`: try a student's function on fresh inputs and say input, expected, received and
the likely mistake.

An exercise knows a right answer, all the inputs that its text allows, when two answers are the
same, and the wrong answers students are likely to give. The likely mistake is found by looking
which wrong answer gives what the student's function gave.
"""

import contextlib
import copy
import difflib
import html
import importlib
import inspect
import io
import numbers
import pkgutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lab_utils.checking.kit_calls import KitCall, refused
from lab_utils.drawing.style import GREEN, GREY, VERMILLION

Same = Callable[[Any, Any], bool]
N_DRAWN = 4  # inputs from anywhere in the domain, beside those at its corners


# ------------------------------------------------------------------------------ what an exercise is
@dataclass(frozen=True)
class Exercise:
    """One exercise. `wrong` maps a likely mistake, in the words a student should read, to a
    function that makes it.

    `domain` draws the arguments of one call from all that the text of the exercise allows.
    `corners` names where wrong answers hide in it (a tie, a short last block, a zero): for each
    the question whether arguments lie there. `cases` are made so that each corner is met.
    """

    name: str  # of the student's function
    lab: str  # such as "01_quantization_buckets"
    reference: Callable
    # several cases, fresh each time, a readable one first
    cases: Callable[[np.random.Generator], list[tuple]]
    domain: Callable[[np.random.Generator], tuple]
    corners: dict[str, Callable[..., bool]]
    same: Same  # (expected, received) of equal type and shape -> are they the same answer?
    wrong: dict[str, Callable]
    hints: tuple[str, ...] = ()
    points: float = 1
    yes_or_no: bool = False  # True and False are answers, as 1 and 0 are
    kit: str = ""  # the function of lab_utils that is the answer, which an answer may not call

    def make_inputs(self, rng: np.random.Generator) -> list[tuple]:
        """Fresh inputs: one or more for each corner, and some from anywhere in the domain."""
        return self.cases(rng) + [self.domain(rng) for _ in range(N_DRAWN)]


def whole(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high (1 or more), small ones as likely as large ones."""
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def decimal(rng: np.random.Generator, low: float, high: float) -> float:
    """A number of three digits from low to high (above 0), small ones as likely as large ones."""
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.3g}")


def one_of(rng: np.random.Generator, *values: Any) -> Any:
    """One of the values, as it is."""
    return values[rng.integers(len(values))]


def draw_until(right: Callable[..., bool], make: Callable[[], tuple]) -> tuple:
    """Draw arguments until they are as they should be."""
    while not right(*(arguments := make())):
        pass
    return arguments


def close(rtol: float = 1e-5, atol: float = 1e-6) -> Same:
    """Make a `same` that allows |expected - received| <= atol + rtol * |expected| and no NaN or
    infinity instead.
    """

    def same(expected: Any, received: Any) -> bool:
        expected, received = as_array(expected), as_array(received)
        with np.errstate(invalid="ignore"):
            near = np.abs(received - expected) <= atol + rtol * np.abs(expected)
        return bool(np.where(np.isfinite(expected), near, received == expected).all())

    same.__doc__ = f"equal to {rtol:g} of the value plus {atol:g}"
    return same


def exact(expected: Any, received: Any) -> bool:
    """Every value equal."""
    return bool(np.array_equal(as_array(expected), as_array(received)))


def as_array(value: Any) -> np.ndarray:
    """A number, or numbers in an array, a tensor or nested lists, as a float64 array."""
    if is_tensor(value):
        value = value.detach().cpu().double().numpy()
    if type(value) in (tuple, list):
        value = [as_array(item) for item in value]
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
NOT_STARTED = "not started"


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
    printed: str = ""  # by the student's function, in this case


def show(value: Any, limit: int = 300, digits: int = 7) -> str:
    """A short text for a value of a student, whatever its own `repr` does."""
    if is_tensor(value):
        dtype = str(value.dtype).removeprefix("torch.")
        text = f"{show_numbers(value, digits - 2)}  ({dtype}, shape {tuple(value.shape)})"
    elif type(value) in (tuple, list) and len(value) <= 4:
        text = "(" + ", ".join(show(item, limit, digits) for item in value) + ")"
    elif type(value) is float:
        text = f"{value:.{digits}g}"
    else:
        try:
            text = repr(value)
        except Exception as error:
            text = f"<{type(value).__name__}, its repr raises {type(error).__name__}>"
    return shortened(text, limit)


def shortened(text: str, limit: int = 300) -> str:
    """The beginning and the end of a long text."""
    return text if len(text) <= limit else text[: limit - 30] + " ... " + text[-25:]


def show_numbers(tensor: Any, digits: int = 5) -> str:
    """The numbers of a tensor on one line, long ones shortened to their beginning and end."""
    if not tensor.dtype.is_floating_point:
        array = tensor.detach().cpu().numpy()
    else:
        array = as_array(tensor)
    text = np.array2string(
        array, precision=digits, separator=", ", threshold=30, edgeitems=4, suppress_small=True
    )
    return " ".join(text.split()).replace("[ ", "[")


def show_apart(expected: Any, received: Any, text: Callable = show) -> tuple[str, str]:
    """Both values with as many digits as it takes to see that they differ, 7 at least."""
    for digits in (7, 9, 12, 17):
        shown = text(expected, digits=digits), text(received, digits=digits)
        if shown[0] != shown[1]:
            break
    return shown


def show_number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}"


def is_tensor(value: Any) -> bool:
    """A torch tensor, seen without importing torch: some labs need none."""
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "numel")


def show_call(exercise: Exercise, arguments: tuple) -> str:
    """The arguments by name, as in `x=[1.5, 2.3], bits=8`."""
    names = list(inspect.signature(exercise.reference).parameters)
    return ", ".join(f"{name}={show(value)}" for name, value in zip(names, arguments, strict=False))


def is_number(value: Any, yes_or_no: bool = False) -> bool:
    """A plain or NumPy number, or a tensor of no dimensions. True and False are none, unless the
    question is one of yes or no.
    """
    if isinstance(value, bool | np.bool_):
        return yes_or_no
    if is_tensor(value) or type(value) is np.ndarray:
        kinds = ("float", "int", "bool") if yes_or_no else ("float", "int")
        return len(value.shape) == 0 and kind_of_numbers(value) in kinds
    return isinstance(value, numbers.Real | np.floating | np.integer)


def kind_of_numbers(values: Any) -> str:
    """What a tensor or an array holds: "bool", "int", "float" or "other"."""
    if is_tensor(values):
        name = str(values.dtype).removeprefix("torch.")
    else:
        name = values.dtype.name
    return next((kind for kind in ("bool", "float", "int") if kind in name), "other")


def compare_form(
    expected: Any, received: Any, where: str = "the result", yes_or_no: bool = False
) -> tuple[str, str] | None:
    """Compare kind by kind: None, then type, length, shape, dtype. Return (kind, message), or None
    if all agree.

    Tensors may come as parameters or NumPy arrays, with one axis as a list, floats in any
    precision, integers in any width; only 8-bit tensors must be what they are, since there the
    text asks for them. The values are not looked at, and no method of another type is trusted.
    """
    if received is None:
        return "none", f"{where} is None: did you forget `return`?"
    if isinstance(expected, tuple | list):
        return compare_items(expected, received, where, yes_or_no)
    if is_tensor(expected):
        return compare_tensor(expected, received, where)
    if is_number(received, yes_or_no):
        return None
    return "type", f"{where} should be one number and is a {type(received).__name__}"


def compare_items(
    expected: tuple | list, received: Any, where: str, yes_or_no: bool
) -> tuple[str, str] | None:
    """`compare_form` for a tuple or list: its type and length, then item by item."""
    received = as_list(received)
    if type(received) not in (tuple, list):
        return (
            "type",
            f"{where} should be {len(expected)} values and is a {type(received).__name__}",
        )
    if len(received) != len(expected):
        return "shape", f"{where} should be {len(expected)} values and is {len(received)}"
    for i, (ours, theirs) in enumerate(zip(expected, received, strict=True)):
        problem = compare_form(ours, theirs, f"{where}[{i}]", yes_or_no)
        if problem:
            return problem
    return None


def as_list(value: Any) -> Any:
    """An array or tensor as the list of its rows or numbers; anything else as it is."""
    if type(value) is np.ndarray and value.ndim:
        return value.tolist()
    if is_tensor(value) and value.dim():
        return list(value.detach())
    return value


def compare_tensor(expected: Any, received: Any, where: str) -> tuple[str, str] | None:
    """`compare_form` where a tensor is expected."""
    small = expected.element_size() == 1  # int8, uint8: asked for by name
    wanted = kind_of_numbers(expected)
    if type(received) is list and expected.dim() == 1 and not small:
        received = array_of_list(received)
    if not is_real_tensor(received) and (small or type(received) is not np.ndarray):
        return "type", f"{where} should be a Tensor and is a {type(received).__name__}"
    if tuple(received.shape) != tuple(expected.shape):
        return (
            "shape",
            f"{where} should have the shape {tuple(expected.shape)} and has "
            f"{tuple(received.shape)}",
        )
    if received.dtype != expected.dtype if small else kind_of_numbers(received) != wanted:
        asked = expected.dtype if small else f"numbers of the kind {wanted}"
        return "dtype", f"{where} should have the dtype {asked} and has {received.dtype}"
    return None


def is_real_tensor(value: Any) -> bool:
    """Exactly torch's own Tensor or Parameter: a subclass of the student's may say anything."""
    return is_tensor(value) and type(value).__name__ in ("Tensor", "Parameter")


def array_of_list(values: list) -> Any:
    """A list of numbers as an array; anything else as it is."""
    return np.array(values) if all(map(is_number, values)) else values


def same_answer(exercise: Exercise, expected: Any, received: Any) -> bool:
    """Right form and right value. A tuple's items go to `exercise.same` one by one."""
    if compare_form(expected, received, yes_or_no=exercise.yes_or_no):
        return False
    if isinstance(expected, tuple | list):
        return all(
            exercise.same(ours, theirs)
            for ours, theirs in zip(expected, as_list(received), strict=True)
        )
    return exercise.same(expected, received)


# ------------------------------------------------------------------------------ trying the function
def explain_exception(function: Callable, error: BaseException) -> tuple[str, str]:
    """(kind, message) for what a student's function raised, with the line of the function where it
    happened.
    """
    if isinstance(error, NotImplementedError):
        return (
            NOT_STARTED,
            "nothing here yet: replace `raise NotImplementedError` by your solution",
        )
    if isinstance(error, KitCall):
        return "kit call", f"{error}: write its steps yourself"
    code = getattr(function, "__code__", None)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if code and frame.filename == code.co_filename
    ]
    line = f", at `{frames[-1].line}`" if frames and frames[-1].line else ""
    return "exception", f"your function raised {type(error).__name__}: {show(str(error))}{line}"


UNCHANGEABLE = (int, float, str, bool)


def fresh(value: Any) -> Any:
    """A copy of arguments, as deepcopy makes it, but several times as fast for what they are."""
    if type(value) in UNCHANGEABLE:
        return value
    if type(value) in (list, tuple):
        return type(value)(fresh(item) for item in value)
    if is_tensor(value) and not value.requires_grad:
        return value.clone()
    return copy.deepcopy(value)


def try_case(
    exercise: Exercise, function: Callable, arguments: tuple
) -> tuple[Problem | None, Any]:
    """Call the function on copies of the arguments. Return (problem or None, what was received).

    What the function prints is kept with the problem: a page of prints from cases that are right
    would hide it.
    """
    given, printed = fresh(arguments), io.StringIO()
    expected = exercise.reference(*fresh(arguments))
    try:
        with contextlib.redirect_stdout(printed), refused(exercise.kit):
            received = function(*given)
    except (Exception, SystemExit) as error:
        problem, received = explain_exception(function, error), RAISED
        facts = {"expected": show(expected)}
    else:
        problem = find_difference(exercise, arguments, given, expected, received)
        if problem is None:
            return None, received
        facts = dict(zip(("expected", "received"), show_apart(expected, received)))
    facts["inputs"] = show_call(exercise, arguments)
    return Problem(*problem, **facts, printed=shortened(printed.getvalue().strip())), received


def find_difference(
    exercise: Exercise, arguments: tuple, given: tuple, expected: Any, received: Any
) -> tuple[str, str] | None:
    """(kind, message) for what is wrong with an answer, or None. `given` are the arguments after
    the call.
    """
    form = compare_form(expected, received, yes_or_no=exercise.yes_or_no)
    if form:
        return form
    for before, after in zip(arguments, given, strict=True):
        if not unchanged(before, after):
            thing = type(before).__name__.lower()
            return "input changed", (
                f"your function changes its input: the caller's {thing} would be different "
                "afterwards; make a new one"
            )
    if not same_answer(exercise, expected, received):
        return "wrong value", largest_difference(expected, received)
    return None


def largest_difference(expected: Any, received: Any) -> str:
    """Where the values differ most: "the value is 2 where 4 is expected", with the index in a
    tensor.
    """
    if type(expected) in (tuple, list):
        pairs = zip(expected, as_list(received), strict=True)
        different = [pair for pair in pairs if not exact(*pair)]
        return largest_difference(*different[0]) if different else "the value is not right"
    ours, theirs = as_array(expected), as_array(received)
    place = np.unravel_index(
        np.argmax(np.nan_to_num(np.abs(ours - theirs), nan=np.inf)), ours.shape
    )
    index = f" at [{', '.join(map(str, place))}]" if place else ""
    wanted, found = show_apart(float(ours[place]), float(theirs[place]), show_number)
    return f"the value{index} is {found} where {wanted} is expected"


def unchanged(before: Any, after: Any) -> bool:
    """Is an argument what it was before the call?"""
    if isinstance(before, tuple | list):
        return len(before) == len(after) and all(map(unchanged, before, after))
    if is_tensor(before):
        return before.dtype == after.dtype and before.equal(after)
    return bool(before == after)


RAISED = object()  # in place of an answer where the function raised an exception


def likely_mistake(exercise: Exercise, cases: list[tuple], answers: list) -> str:
    """The first named mistake that gives the student's answer in every case, or "" if none does."""
    for mistake, function in exercise.wrong.items():
        outcomes = (answer_or_raised(function, arguments) for arguments in cases)
        if all(
            (wrong is RAISED) == (answer is RAISED)
            and (wrong is RAISED or same_answer(exercise, wrong, answer))
            for wrong, answer in zip(outcomes, answers, strict=True)
        ):
            return mistake
    return ""


def answer_or_raised(function: Callable, arguments: tuple) -> Any:
    """The function's answer, or RAISED: not every mistake can be made on every input."""
    try:
        return function(*fresh(arguments))
    except Exception:
        return RAISED


def find_problem(
    exercise: Exercise, function: Callable, rng: np.random.Generator
) -> Problem | None:
    """Try the function on fresh cases and return one problem, with its likely mistake, or None: the
    example's, if the example fails, else that of the shortest input.
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
    problems = [problem for problem, _ in tried if problem]
    problem = tried[0][0] or min(problems, key=lambda one: len(one.inputs), default=None)
    answers = [received for _, received in tried]
    if problem is None or problem.kind == "none" or all(answer is RAISED for answer in answers):
        return problem
    return replace(problem, mistake=likely_mistake(exercise, cases, answers))


# --------------------------------------------------------------------------------------- the report
@dataclass(frozen=True)
class CheckReport:
    """What `check` found. A notebook shows it as a card, `print` as text; programs ask `passed`."""

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
            "Printed": problem.printed,
            "Likely mistake": problem.mistake,
        }
        return [(label, text) for label, text in labels.items() if text]

    def __str__(self) -> str:
        name, hints = self.exercise.name, self.exercise.hints
        if self.passed:
            return f"PASSED  {name}: right on {self.n_cases} fresh inputs."
        lines = [f"NOT YET  {name}: {self.problem.kind}"]
        lines += [
            f"  {label + ':':<16}" + text.replace("\n", "\n" + 18 * " ")
            for label, text in self.rows()
        ]
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
                GREEN,
                f"<b>✓ Passed</b> <code>{name}</code>: right on {self.n_cases} fresh inputs.",
            )
        cell = "padding:2px 12px 2px 0;text-align:left;vertical-align:top;white-space:pre-wrap"
        rows = "".join(
            f'<tr><th scope="row" style="{cell};white-space:nowrap">{label}</th>'
            f'<td style="{cell};overflow-wrap:anywhere">{html.escape(text)}</td></tr>'
            for label, text in self.rows()
        )
        untouched = self.problem.kind == NOT_STARTED  # no fault, so no cross
        color, sign = (GREY, "○") if untouched else (VERMILLION, "<b>✗ Not yet</b>")
        title = f"{sign} <code>{name}</code>: {html.escape(self.problem.kind)}"
        return card(color, f"{title}<table>{rows}</table>{self.hints_html()}")

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
