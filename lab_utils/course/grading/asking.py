"""One submission in its sandbox: each of its functions is asked, and gets a verdict.

A hidden test is a question, not code: held-out inputs go into a sandbox as arrays, answers come out
as arrays, and they are judged here, where no student's code ever runs. Expected values, tolerances
and points stay outside. Each question gets a sandbox of its own, so that a crash costs one question
and nothing can be kept for the next one.

A function is asked twice if need be: first with the statements that it needs, which is fast, and
where that gives no point, in a room of its own after the whole notebook has run. The better verdict
counts, and says which it was.

Inputs are drawn from a seed that comes from `--seed`, the notebook's content and the question: the
same notebook is always asked the same, and a table of answers typed into it would change the
questions.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab_utils.checking.checks import Exercise
    from lab_utils.course.grading.judge import Verdict
    from lab_utils.course.grading.sandbox import Limits, Reply, Sandbox
    from lab_utils.course.grading.submissions import Submission

UNSEALED = "NONE: --unsafe-no-sandbox"
# running all of it changes nothing
FINAL = {"right", "stub", "absent", "unreadable", "not asked", "kit call"}
EMPTY_ROW = {
    "question": "",
    "points": 0,
    "out_of": 0,
    "seed": "",
    "kind": "",
    "message": "",
    "mistake": "",
    "ran": "",
}


@dataclass(frozen=True)
class Settings:
    """How a batch is graded; the same for every submission."""

    limits: Limits
    sealed: bool = True
    seed: int = 0
    preload: tuple[str, ...] | None = None  # None: the sandbox's own list
    notebook_seconds: float = 300  # after them no whole notebook is run again
    regrade: frozenset[str] = frozenset()  # students and questions that are asked again
    lacking: frozenset[str] = frozenset()  # modules that notebooks import and the room has not

    @property
    def sandbox_name(self) -> str:
        return "bubblewrap" if self.sealed else UNSEALED


# ------------------------------------------------------------------------------------- one question
def question_seed(seed: int, digest: str, name: str) -> int:
    """The seed of one question: `check(function, seed=...)` draws the same inputs from it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{digest}/{name}".encode()).digest()[:4], "big")


def grade_question(
    exercise: Exercise, submission: Submission, seed: int, sandbox: Sandbox, whole: bool = False
) -> Verdict:
    """Ask the student's function, with the statements that it needs or the whole notebook run
    before, and judge.
    """
    from lab_utils.course.grading.judge import Verdict, draw_cases
    from lab_utils.course.grading.worker.values import encode

    cases = draw_cases(exercise, seed)
    try:
        question = encode(cases)
    except TypeError as error:
        return Verdict(0, "not asked", f"a defect of the exercise, tell its author: {error}")
    if not any(exercise.name in cell for cell in submission.cells):
        return Verdict(0, "absent", f"there is no function {exercise.name} in the notebook")
    cells = list(submission.cells)
    reply = sandbox.ask(cells, exercise.name, question, whole, exercise.kit)
    return to_verdict(exercise, cases, submission, reply)


def to_verdict(
    exercise: Exercise, cases: list[tuple], submission: Submission, reply: Reply
) -> Verdict:
    """The verdict on a reply, with the place in the notebook where something went wrong."""
    from lab_utils.course.grading.judge import SAID, Verdict, judge

    name, cells = exercise.name, submission.cells
    if reply.fault:
        return Verdict(0, "not asked", reply.ended)
    failures = [row for row in reply.report.get("failures", ()) if 0 < row["cell"] <= len(cells)]
    lacks = any(row["kind"] == "ModuleNotFoundError" for row in failures)
    if reply.report.get("stub"):
        return Verdict(0, "stub", SAID["not started"])
    if reply.answers is not None:
        verdict = judge(exercise, cases, reply.answers)
        if verdict.points:
            return verdict
        where = place(cells, verdict.cell, verdict.line)
        return replace(
            verdict,
            message=verdict.message + where + hint_on_cuda(verdict, cells),
            mistake=verdict.mistake or named_rebinding(name, reply.report["rebound"]),
            lacks_module=verdict.lacks_module or lacks,
        )
    if not reply.report:
        return Verdict(0, "stopped", f"while the cells that {name} needs were run, {reply.ended}")
    if reply.ended:
        return Verdict(0, "stopped", f"while {name} was computing, {reply.ended}")
    if reply.report["found"]:
        return Verdict(0, "missing", f"{name} is no function")
    found = reason(name, cells, failures)
    newer = newer_syntax(submission, failures)
    if newer and "SyntaxError" in found:
        return Verdict(0, "not asked", f"{name} was not defined{found}; {newer}")
    return Verdict(0, "missing", f"{name} was not defined{found}", lacks_module=lacks)


def newer_syntax(submission: Submission, failures: list[dict]) -> str:
    """What to say where a cell is no Python for us, and a newer one wrote the notebook."""
    version, ours = submission.python, sys.version_info[:2]
    if not version or tuple(map(int, version.split("."))) <= ours:
        return ""
    return (
        f"the notebook was written with Python {version} and the grader has "
        f"{ours[0]}.{ours[1]}: not graded, no fault of the student's"
    )


def named_rebinding(name: str, rebound: list[str]) -> str:
    """A constant that is bound again below the function is the likely reason for a wrong answer."""
    if not rebound:
        return ""
    return (
        f"`{rebound[0]}` gets another value below {name}, and {name} then uses that one: run all "
        "cells from the top, then check again"
    )


def hint_on_cuda(verdict: Verdict, cells: tuple[str, ...]) -> str:
    """What to say where a function failed in a cell that asks for a GPU."""
    cell = cells[verdict.cell - 1] if 0 < verdict.cell <= len(cells) else ""
    if ".cuda(" not in cell and '"cuda' not in cell and "'cuda" not in cell:
        return ""
    return "; the cell asks for a GPU, and the grader has none: use x.device"


def reason(name: str, cells: tuple[str, ...], failures: list[dict]) -> str:
    """Why a function was not defined: what failed in a cell that speaks of it, or what failed
    first.
    """
    of_it = [row for row in failures if name in cells[row["cell"] - 1]] or failures
    if not of_it:
        return ""
    row = of_it[0]
    return f": {row['kind']}{place(cells, row['cell'], row['line'])}"


def place(cells: tuple[str, ...], cell: int, line: int) -> str:
    """ ", in line 2 of the cell that begins with `...`", or "" for a place that is not in the
    notebook. A cell is named by its first line: a number matches nothing on the screen.
    """
    lines = cells[cell - 1].splitlines() if 0 < cell <= len(cells) else []
    first = next((text.strip() for text in lines if text.strip()), "")
    if not 0 < line <= len(lines):
        return ""
    return f", in line {line} of the cell that begins with `{first[:80]}`"


# ----------------------------------------------------------------------------------- one submission
SANDBOXES: dict[tuple, Sandbox] = {}  # of this process


def sandbox_of(worker: int, settings: Settings) -> Sandbox:
    """The one sandbox of a worker, which is a process or, with dask, a thread: its imports serve
    all submissions there.
    """
    from lab_utils.course.grading.sandbox import PRELOADED, Sandbox

    key = (worker, settings.limits, settings.sealed, settings.preload)
    if key not in SANDBOXES:
        SANDBOXES[key] = Sandbox(settings.limits, settings.sealed, settings.preload or PRELOADED)
    return SANDBOXES[key]


def close_sandboxes() -> None:
    """End the fork servers of this process."""
    while SANDBOXES:
        SANDBOXES.popitem()[1].close()


def grade_submission(submission: Submission, settings: Settings) -> dict[str, Any]:
    """All questions of one submission, as a record of plain values. Does not raise: a defect of
    ours becomes a reason.
    """
    from lab_utils.checking.checks import all_exercises

    record = {
        "student": submission.student,
        "lab": submission.lab,
        **told_by_export(submission),
        "digest": submission.digest,
        "sandbox": settings.sandbox_name,
        "questions": [],
    }
    start = time.monotonic()
    exercises = all_exercises(submission.lab) if submission.lab else []
    rows = [grade_safely(exercise, submission, settings) for exercise in exercises]
    for i, exercise in enumerate(exercises):  # second, so that no right answer waits for a slow one
        if rows[i]["kind"] not in FINAL:
            left = settings.notebook_seconds - (time.monotonic() - start)
            rows[i] = second_try(exercise, submission, settings, rows[i], left)
        rows[i] = blame_fairly(rows[i], submission, settings)
    if not submission.lab:
        rows.append({**EMPTY_ROW, "kind": "unreadable", "message": submission.problem})
    return {**record, "questions": rows, "seconds": round(time.monotonic() - start, 3)}


def told_by_export(submission: Submission) -> dict[str, Any]:
    """What may change without the notebook: its file's name, the other files, when it came."""
    return {
        "file": submission.file,
        "others": list(submission.others),
        "submitted": submission.submitted,
        "submitted_from": submission.submitted_from,
        "system_says_late": submission.late,
    }


def second_try(
    exercise: Exercise, submission: Submission, settings: Settings, first: dict, left: float
) -> dict[str, Any]:
    """The better of the first row and one that is asked after the whole notebook has run."""
    if left <= 0:
        said = f"; no time was left of the {settings.notebook_seconds:.0f} s for one notebook to "
        return {**first, "message": first["message"] + said + "run all of it"}
    second = grade_safely(exercise, submission, settings, whole=True)
    better = second["points"] or (first["kind"] == "missing") > (second["kind"] == "missing")
    return second if better else first


def blame_fairly(row: dict, submission: Submission, settings: Settings) -> dict[str, Any]:
    """The row without points as "not asked" where the room lacks a module that the notebook
    imports: a person decides.
    """
    lacking = sorted({name.split(".")[0] for name in submission.imports} & settings.lacking)
    lacks = row.pop("lacks_module", False)
    if row["points"] or not lacks or not lacking:
        return row
    said = (
        f"the grading machine lacks {', '.join(lacking[:5])}: not graded, no fault of the "
        "student's; a person decides"
    )
    return {**row, "kind": "not asked", "message": said}


def grade_safely(
    exercise: Exercise, submission: Submission, settings: Settings, whole: bool = False
) -> dict[str, Any]:
    """The row of one question. Whatever goes wrong on our side is said in it, with kind "not
    asked".
    """
    seed = question_seed(settings.seed, submission.digest, exercise.name)
    row = {**EMPTY_ROW, "question": exercise.name, "out_of": exercise.points, "seed": seed}
    if submission.problem:
        return {**row, "kind": "unreadable", "message": submission.problem}
    try:
        sandbox = sandbox_of(threading.get_ident(), settings)
        verdict = grade_question(exercise, submission, seed, sandbox, whole)
    except Exception as error:
        message = f"the grader failed here, please tell its author: {error!r}"[:500]
        return {**row, "kind": "not asked", "message": message}
    return {
        **row,
        "points": verdict.points,
        "kind": verdict.kind,
        "message": verdict.message + (" (the whole notebook was run)" if whole else ""),
        "mistake": verdict.mistake,
        "ran": "whole notebook" if whole else "what it needs",
        "lacks_module": verdict.lacks_module,
    }
