"""Points for answers that came out of a sandbox. Runs where no code of a student ever ran.

The verdict's words are fixed. They name no input and no number of the hidden cases, and nothing
that the student's code could choose while it saw them, such as the kind of an error: what one
student reads must not help the next.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab_utils.checking.checks import RAISED, Exercise, compare_form, likely_mistake, same_answer
from lab_utils.course.grading.worker.cells import BUILTIN_ERRORS
from lab_utils.course.grading.worker.values import decode, encode

SAID = {
    "right": "right on all {n} hidden inputs",
    "none": "it returns None: is the `return` missing?",
    "shape": "the result has not the shape, or not as many values, as expected",
    "wrong value": "a value is not right",
    "input changed": "it changes its input: make a new tensor or list instead",
    "arguments": "it cannot be called with the arguments that the lab names",
    "kit call": "it calls what the exercise asks for in lab_utils: write its steps yourself",
    "not started": "still the stub: `raise NotImplementedError`",
    "no answer": "the answer was no answer file",
    "exception": "it raised an error",
}


@dataclass(frozen=True)
class Verdict:
    """The outcome of one question. `kind` is a short word for the histogram, `message` and
    `mistake` are for people.
    """

    points: float
    kind: str
    message: str
    mistake: str = ""
    cell: int = 0  # where the function raised, if it did
    line: int = 0
    lacks_module: bool = False  # it raised ModuleNotFoundError


def draw_cases(exercise: Exercise, seed: int) -> list[tuple]:
    """The hidden inputs of an exercise for a seed."""
    return exercise.make_inputs(np.random.default_rng(seed))


def judge(exercise: Exercise, cases: list[tuple], sent: bytes) -> Verdict:
    """All points if every case is answered rightly, else none and the first reason."""
    try:
        outcomes = [read_outcome(outcome) for outcome in decode(sent)]
        if len(outcomes) != len(cases):
            raise ValueError("not one answer for each case")
    except (ValueError, TypeError):
        return Verdict(0, "no answer", SAID["no answer"])
    problems = [
        judge_case(exercise, case, outcome) for case, outcome in zip(cases, outcomes, strict=True)
    ]
    first = next((i for i, problem in enumerate(problems) if problem), None)
    if first is None:
        return Verdict(exercise.points, "right", SAID["right"].format(n=len(cases)))
    kind, message = problems[first]
    answers = [outcome[1] if outcome[0] == "answer" else RAISED for outcome in outcomes]
    answered = kind != "none" and any(answer is not RAISED for answer in answers)
    mistake = find_mistake(exercise, cases, answers) if answered else ""
    if outcomes[first][0] == "error":
        lacks = outcomes[first][1] == "ModuleNotFoundError"
        return Verdict(0, kind, message, mistake, *outcomes[first][2:], lacks)
    return Verdict(
        0, kind, f"{message}; it was asked with {kinds_of(exercise, cases[first])}", mistake
    )


def kinds_of(exercise: Exercise, case: tuple) -> str:
    """Of what kind the inputs of a case are, without their values: "x, a tensor of float32 with 2
    dimensions, and n, a number".
    """
    names = list(inspect.signature(exercise.reference).parameters)
    parts = [f"{name}, {kind_of(value)}" for name, value in zip(names, case, strict=False)]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "no inputs"


def kind_of(value: Any) -> str:
    """Of what kind a value is, in words."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "ndim"):
        dtype = str(value.dtype).removeprefix("torch.")
        form = "tensor" if type(value).__module__.startswith("torch") else "array"
        n = value.ndim
        return f"a {form} of {dtype} with {n} dimension{'' if n == 1 else 's'}"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
    return words.get(type(value), f"a {type(value).__name__}")


def read_outcome(outcome: Any) -> tuple:
    """("answer", value, arguments after the call) or ("error", kind, cell, line), of these very
    types. ValueError otherwise.
    """
    if (
        type(outcome) is tuple
        and len(outcome) == 3
        and outcome[0] == "answer"
        and type(outcome[2]) is tuple
    ):
        return outcome
    if (
        type(outcome) is tuple
        and list(map(type, outcome)) == [str, str, int, int]
        and outcome[0] == "error"
    ):
        known = outcome[1] in {*BUILTIN_ERRORS, "arguments", "kit call"}
        return ("error", outcome[1] if known else "Exception", *outcome[2:])
    raise ValueError("no outcome")


def judge_case(exercise: Exercise, arguments: tuple, outcome: tuple) -> tuple[str, str] | None:
    """(kind, message) for what is wrong with one outcome, or None."""
    if outcome[0] == "error":
        return judge_error(outcome[1])
    _, received, afterwards = outcome
    expected = exercise.reference(*copy.deepcopy(arguments))
    try:
        form = compare_form(expected, received, yes_or_no=exercise.yes_or_no)
        if form:
            kind, message = form
            # what was received instead is the student's choice, and not told
            return kind, SAID.get(kind, message.split(" and ")[0])
        if not unchanged(arguments, afterwards):
            return "input changed", SAID["input changed"]
        same = same_answer(exercise, expected, received)
    # a value of the right type that cannot be compared, such as a number too large for a float
    except Exception:
        same = False
    return None if same else ("wrong value", SAID["wrong value"])


def unchanged(before: tuple, after: tuple) -> bool:
    """Whether the arguments that came back are those that were sent, to the last bit. Decided here,
    where no student's code runs.
    """
    try:
        return encode(after) == encode(before)
    except TypeError:
        return False


def judge_error(error: str) -> tuple[str, str]:
    said = {"NotImplementedError": "not started", "arguments": "arguments", "kit call": "kit call"}
    kind = said.get(error, "exception")
    return kind, SAID[kind]


def find_mistake(exercise: Exercise, cases: list[tuple], answers: list) -> str:
    """The named mistake that gives these answers, or ""."""
    try:
        return likely_mistake(exercise, cases, answers)
    except Exception:  # as in judge_case
        return ""
