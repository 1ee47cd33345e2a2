"""Points for answers that came out of a sandbox. Runs where no code of a student ever ran.

The verdict's words name no input and no number of the hidden cases: what a student reads must not
help the next one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab_utils.checking.checks import RAISED, Exercise, compare_form, likely_mistake, same_answer
from lab_utils.course.grading.worker.server import BUILTIN_ERRORS
from lab_utils.course.grading.worker.values import decode

SAID = {
    "right": "right on all {n} hidden inputs",
    "none": "it returns None: is the `return` missing?",
    "shape": "the result has not the shape, or not as many values, as expected",
    "wrong value": "a value is not right",
    "input changed": "it changes its input: make a new tensor or list instead",
    "arguments": "it cannot be called with the arguments that the lab names",
    "not started": "still the stub: `raise NotImplementedError`",
    "no answer": "the answer was no answer file",
    "exception": "it raised {error}",
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
    problem = next(filter(None, problems), None)
    if problem is None:
        return Verdict(exercise.points, "right", SAID["right"].format(n=len(cases)))
    kind, message = problem
    first = problems.index(problem)
    answers = [outcome[1] if outcome[0] == "answer" else RAISED for outcome in outcomes]
    answered = kind != "none" and any(answer is not RAISED for answer in answers)
    mistake = find_mistake(exercise, cases, answers) if answered else ""
    place = outcomes[first][2:] if outcomes[first][0] == "error" else (0, 0)
    return Verdict(0, kind, message, mistake, *place)


def read_outcome(outcome: Any) -> tuple:
    """("answer", value, unchanged) or ("error", kind, cell, line), of these very types. ValueError
    otherwise.
    """
    if (
        type(outcome) is tuple
        and len(outcome) == 3
        and outcome[0] == "answer"
        and type(outcome[2]) is bool
    ):
        return outcome
    if (
        type(outcome) is tuple
        and list(map(type, outcome)) == [str, str, int, int]
        and outcome[0] == "error"
    ):
        known = outcome[1] in BUILTIN_ERRORS or outcome[1] == "arguments"
        return ("error", outcome[1] if known else "Exception", *outcome[2:])
    raise ValueError("no outcome")


def judge_case(exercise: Exercise, arguments: tuple, outcome: tuple) -> tuple[str, str] | None:
    """(kind, message) for what is wrong with one outcome, or None."""
    if outcome[0] == "error":
        return judge_error(outcome[1])
    _, received, unchanged = outcome
    expected = exercise.reference(*copy.deepcopy(arguments))
    try:
        form = compare_form(expected, received, yes_or_no=exercise.yes_or_no)
        if form:
            kind, message = form
            return kind, SAID.get(kind, message.replace("a Foreign", "an object of another kind"))
        if not unchanged:
            return "input changed", SAID["input changed"]
        same = same_answer(exercise, expected, received)
    # a value of the right type that cannot be compared, such as a number too large for a float
    except Exception:
        same = False
    return None if same else ("wrong value", SAID["wrong value"])


def judge_error(error: str) -> tuple[str, str]:
    kind = {"NotImplementedError": "not started", "arguments": "arguments"}.get(error, "exception")
    return kind, SAID[kind].format(error=error)


def find_mistake(exercise: Exercise, cases: list[tuple], answers: list) -> str:
    """The named mistake that gives these answers, or ""."""
    try:
        return likely_mistake(exercise, cases, answers)
    except Exception:  # as in judge_case
        return ""
