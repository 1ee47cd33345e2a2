"""`python3 -m lab_utils grade`: asks the functions in a folder of submissions, and writes grades,
feedback and a summary.

A hidden test is a question, not code: held-out inputs go into a sandbox as arrays, answers come out
as arrays, and they are judged here, where no student's code ever runs. Expected values, tolerances
and points stay outside. Each question gets a sandbox of its own, so that a crash costs one question
and nothing can be kept for the next one.

Inputs are drawn from a seed that comes from `--seed`, the notebook's content and the question: the
same notebook is always asked the same, and a table of answers typed into it would change the
questions.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab_utils.files import ROOT, LabKitError

if TYPE_CHECKING:
    from lab_utils.checking.checks import Exercise
    from lab_utils.course.grading.judge import Verdict
    from lab_utils.course.grading.sandbox import Limits, Reply, Sandbox
    from lab_utils.course.grading.submissions import Submission

# ways to make names that the source does not show
DYNAMIC = re.compile(
    r"\b(exec|eval|globals|locals|vars|setattr|__dict__|__builtins__|builtins|run_line_magic)\b|^\s*%run\b",
    re.MULTILINE,
)
UNSEALED = "NONE: --unsafe-no-sandbox"


@dataclass(frozen=True)
class Settings:
    """How a batch is graded; the same for every submission."""

    limits: Limits
    sealed: bool = True
    seed: int = 0
    preload: tuple[str, ...] | None = None  # None: the sandbox's own list

    @property
    def sandbox_name(self) -> str:
        return "bubblewrap" if self.sealed else UNSEALED


# ------------------------------------------------------------------------------------- one question
def question_seed(seed: int, digest: str, name: str) -> int:
    """The seed of one question: `check(function, seed=...)` draws the same inputs from it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{digest}/{name}".encode()).digest()[:4], "big")


def grade_question(
    exercise: Exercise, cells: tuple[str, ...], seed: int, sandbox: Sandbox
) -> Verdict:
    """Ask the student's function, and judge. First with the statements that it needs; with the
    whole notebook if names are missing that the notebook may make while it runs.
    """
    from lab_utils.course.grading.judge import Verdict, draw_cases
    from lab_utils.course.grading.worker.values import encode

    cases = draw_cases(exercise, seed)
    try:
        question = encode(cases)
    except TypeError as error:
        return Verdict(0, "not asked", f"a defect of the exercise, tell its author: {error}")
    text = "\n".join(cells)
    if exercise.name not in text and not DYNAMIC.search(text):
        return Verdict(0, "missing", f"there is no function {exercise.name} in the notebook")
    verdict = to_verdict(exercise, cases, cells, sandbox.ask(list(cells), exercise.name, question))
    if verdict.points or not names_missing(verdict) or not DYNAMIC.search(text):
        return verdict
    again = to_verdict(
        exercise, cases, cells, sandbox.ask(list(cells), exercise.name, question, whole=True)
    )
    return again if again.points or not names_missing(again) else verdict


def names_missing(verdict: Verdict) -> bool:
    return verdict.kind == "missing" or "NameError" in verdict.message


def to_verdict(
    exercise: Exercise, cases: list[tuple], cells: tuple[str, ...], reply: Reply
) -> Verdict:
    """The verdict on a reply, with the place in the notebook where something went wrong."""
    from lab_utils.course.grading.judge import Verdict, judge

    if reply.answers is not None:
        verdict = judge(exercise, cases, reply.answers)
        where = place(cells, verdict.cell, verdict.line)
        return (
            Verdict(verdict.points, verdict.kind, verdict.message + where, verdict.mistake)
            if where
            else verdict
        )
    if not reply.report:
        return Verdict(
            0, "stopped", f"while the cells that {exercise.name} needs were run, {reply.ended}"
        )
    if reply.ended:
        return Verdict(0, "stopped", f"while {exercise.name} was computing, {reply.ended}")
    if reply.report["found"]:
        return Verdict(0, "missing", f"{exercise.name} is no function")
    return Verdict(
        0,
        "missing",
        f"{exercise.name} was not defined{reason(exercise.name, cells, reply.report['failures'])}",
    )


def reason(name: str, cells: tuple[str, ...], failures: list[dict]) -> str:
    """Why a function was not defined: what failed in a cell that speaks of it, or what failed
    first.
    """
    failures = [row for row in failures if 0 < row["cell"] <= len(cells)]
    of_it = [row for row in failures if name in cells[row["cell"] - 1]] or failures
    if not of_it:
        return ""
    row = of_it[0]
    return f": {row['kind']}: {row['text']}{place(cells, row['cell'], row['line'])}"


def place(cells: tuple[str, ...], cell: int, line: int) -> str:
    """ ", in code cell 3, line 2: `...`", or "" for a place that is not in the notebook."""
    lines = cells[cell - 1].splitlines() if 0 < cell <= len(cells) else []
    return (
        f", in code cell {cell}, line {line}: `{lines[line - 1].strip()[:120]}`"
        if 0 < line <= len(lines)
        else ""
    )


# ----------------------------------------------------------------------------------- one submission
@functools.lru_cache
def sandbox_of(worker: int, settings: Settings) -> Sandbox:
    """The one sandbox of a worker, which is a process or, with dask, a thread: its imports serve
    all submissions there.
    """
    from lab_utils.course.grading.sandbox import PRELOADED, Sandbox

    return Sandbox(settings.limits, settings.sealed, settings.preload or PRELOADED)


def grade_submission(submission: Submission, settings: Settings) -> dict[str, Any]:
    """All questions of one submission, as a record of plain values. Does not raise: a defect of
    ours becomes a reason.
    """
    from lab_utils.checking.checks import all_exercises

    record = {
        "student": submission.student,
        "lab": submission.lab,
        "file": submission.file,
        "others": list(submission.others),
        "submitted": submission.submitted,
        "submitted_from": submission.submitted_from,
        "digest": submission.digest,
        "sandbox": settings.sandbox_name,
        "questions": [],
    }
    start = time.monotonic()
    for exercise in all_exercises(submission.lab) if submission.lab else []:
        seed = question_seed(settings.seed, submission.digest, exercise.name)
        record["questions"].append(grade_safely(exercise, submission, seed, settings))
    if not submission.lab:
        record["questions"].append(
            {
                "question": "",
                "points": 0,
                "out_of": 0,
                "kind": "unreadable",
                "seed": "",
                "mistake": "",
                "message": submission.problem,
            }
        )
    return {**record, "seconds": round(time.monotonic() - start, 3)}


def grade_safely(
    exercise: Exercise, submission: Submission, seed: int, settings: Settings
) -> dict[str, Any]:
    """The row of one question. Whatever goes wrong on our side is said in it, with kind "not
    asked".
    """
    row = {
        "question": exercise.name,
        "points": 0,
        "out_of": exercise.points,
        "seed": seed,
        "mistake": "",
    }
    if submission.problem:
        return {**row, "kind": "unreadable", "message": submission.problem}
    try:
        verdict = grade_question(
            exercise, submission.cells, seed, sandbox_of(threading.get_ident(), settings)
        )
    except Exception as error:
        return {
            **row,
            "kind": "not asked",
            "message": f"the grader failed here, please tell its author: {error!r}"[:500],
        }
    return {
        **row,
        "points": verdict.points,
        "kind": verdict.kind,
        "message": verdict.message,
        "mistake": verdict.mistake,
    }


# ---------------------------------------------------------------------------------------- the batch
def code_digest() -> str:
    """A hash of the exercises and of what asks and judges: results of an older grader are not taken
    over.
    """
    here, checking = Path(__file__).parent, ROOT / "lab_utils" / "checking"
    files = [
        checking / "checks.py",
        here / "judge.py",
        *sorted(checking.glob("exercises/*.py")),
        *sorted(here.glob("worker/*.py")),
    ]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def result_file(out: Path, submission: Submission) -> Path:
    """Where a submission's result is kept."""
    from lab_utils.course.grading.reports import file_name

    return out / "results" / file_name(f"{submission.student} {submission.lab}", ".json")


def fingerprint(submission: Submission, settings: Settings, code: str) -> str:
    """What a result depends on."""
    parts = [
        code,
        submission.digest,
        submission.lab,
        submission.problem,
        settings.seed,
        settings.sealed,
        repr(settings.limits),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def kept_result(path: Path, mark: str, submission: Submission) -> dict[str, Any] | None:
    """The result of an earlier run, if it is of the very same notebook, seed and grader."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["fingerprint"] != mark or any(
            row["kind"] == "not asked" for row in record["questions"]
        ):
            return None
        return {
            **record,
            "file": submission.file,
            "others": list(submission.others),
            "submitted": submission.submitted,
            "submitted_from": submission.submitted_from,
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def grade_all(
    submissions: list[Submission], settings: Settings, out: Path, jobs: int, backend: str
) -> tuple[list[dict], list[str]]:
    """(records, lines about what could not be written). Results of an earlier run are taken over,
    new ones kept as they come.
    """
    from tqdm.auto import tqdm

    from lab_utils.files import write_json

    code, troubles = code_digest(), []
    places = {result_file(out, submission): submission for submission in submissions}
    marks = {path: fingerprint(submission, settings, code) for path, submission in places.items()}
    records = {
        path: kept_result(path, marks[path], submission) for path, submission in places.items()
    }
    waiting = [(path, submission) for path, submission in places.items() if records[path] is None]
    with tqdm(
        total=len(submissions),
        initial=len(submissions) - len(waiting),
        desc="grading",
        unit="notebook",
    ) as bar:
        for path, record in run_jobs(waiting, settings, jobs, backend):
            records[path] = {**record, "fingerprint": marks[path]}
            try:
                write_json(path, records[path])
            except OSError as error:
                troubles.append(f"{path}: {error.strerror}")
            bar.update()
    return list(records.values()), troubles


def grade_one(path: Path, submission: Submission, settings: Settings) -> tuple[Path, dict]:
    return path, grade_submission(submission, settings)


def run_jobs(
    waiting: list[tuple[Path, Submission]], settings: Settings, jobs: int, backend: str
) -> Iterator[tuple[Path, dict]]:
    """Grade through joblib. If a worker is killed from outside, the rest is done one after the
    other in this process.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    done, jobs = set(), min(jobs, len(waiting)) or 1
    try:
        if jobs > 1 or backend != "loky":
            with parallel_config(backend=backend, n_jobs=jobs):
                parallel = Parallel(return_as="generator_unordered", batch_size=1)
            for path, record in parallel(
                delayed(grade_one)(path, submission, settings) for path, submission in waiting
            ):
                done.add(path)
                yield path, record
    except TerminatedWorkerError:
        pass
    finally:
        if backend == "loky" and jobs > 1:
            get_reusable_executor().shutdown(wait=True, kill_workers=True)
    try:
        for path, submission in waiting:
            if path not in done:
                yield grade_one(path, submission, settings)
    finally:
        sandbox_of(threading.get_ident(), settings).close()
        sandbox_of.cache_clear()


def register_backend(name: str) -> None:
    """Make joblib know a cluster's backend. LabKitError if its package is not here or there is no
    such backend.
    """
    from joblib.parallel import BACKENDS

    try:
        if name == "ray":
            from ray.util.joblib import register_ray

            register_ray()
        elif name == "dask":
            from dask.distributed import Client

            Client()  # the scheduler of DASK_SCHEDULER_ADDRESS, else one on this machine
    except ImportError:
        raise LabKitError(
            f"--backend {name} needs the package {name} here and on the cluster: "
            f"pip install {'dask[distributed]' if name == 'dask' else name}"
        ) from None
    if name not in BACKENDS and name not in ("dask", "ray"):
        raise LabKitError(
            f"--backend {name}: joblib knows {', '.join(sorted(BACKENDS))}, and with their "
            "packages dask and ray."
        )


# -------------------------------------------------------------------------------------- the command
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is graded, where the grades go, and how."""
    parser.add_argument(
        "submissions",
        nargs="+",
        type=Path,
        metavar="SUBMISSIONS",
        help="folders, zips or notebooks",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("grades"),
        metavar="DIR",
        help="for the grades (default: grades)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="at a time (default: all cores)",
    )
    parser.add_argument(
        "--backend",
        default="loky",
        help="joblib's backend: loky (default), or dask or ray for a cluster",
    )
    parser.add_argument(
        "--lab", metavar="LAB", help="all notebooks are of this lab, whatever they call themselves"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="hidden inputs are drawn from it; keep it to yourself (default 0)",
    )
    parser.add_argument(
        "--seconds", type=float, default=20, help="for one question to answer (default 20)"
    )
    parser.add_argument(
        "--unsafe-no-sandbox", action="store_true", help="without bubblewrap; the CSV says so"
    )


def chosen_lab(name: str | None, labs: dict[str, Any]) -> str | None:
    """The lab whose name begins so. LabKitError lists what there is."""
    found = [lab for lab in labs if name and lab.startswith(name)]
    if name and len(found) != 1:
        raise LabKitError(
            f"--lab {name}: {'several labs begin so' if found else 'there is no such lab'}. The "
            "labs with exercises are:\n  " + "\n  ".join(labs)
        )
    return found[0] if found else None


def check_sandbox(unsafe: bool, problem: Callable[[], str]) -> None:
    """LabKitError where there is no sandbox, unless the person said that none is wanted."""
    if unsafe and sys.platform != "linux":
        raise LabKitError(
            "Nothing was graded: the grader needs Linux, also without a sandbox (or WSL 2, or "
            "Docker)."
        )
    trouble = "" if unsafe else problem()
    if trouble:
        raise LabKitError(
            f"Nothing was graded: {trouble}.\nStudents' code must not run outside of a sandbox: "
            "it could read the answers, the other submissions and your files.\nIf this machine "
            "holds nothing of worth (a container for one submission), say --unsafe-no-sandbox."
        )


def main(args: argparse.Namespace) -> int:
    """Grades, and writes the reports. Returns 1 if something could not be read, asked or written;
    all the rest was graded.
    """
    from lab_utils.checking.checks import all_exercises
    from lab_utils.course.grading import reports, sandbox
    from lab_utils.course.grading.submissions import read_submissions

    check_sandbox(args.unsafe_no_sandbox, sandbox.problem)
    register_backend(args.backend)
    labs: dict[str, set[str]] = {}
    for exercise in all_exercises():
        labs.setdefault(exercise.lab, set()).add(exercise.name)
    submissions, notes = read_submissions(args.submissions, labs, chosen_lab(args.lab, labs))
    print("\n".join(notes), end="\n" if notes else "", flush=True)
    if not submissions:
        raise LabKitError(
            "Nothing to grade: give the folder or zip that Canvas, Gradescope or Moodle made, or "
            "a notebook."
        )
    out = make_folder(args.out)
    settings = Settings(
        sandbox.Limits(answer_seconds=args.seconds), not args.unsafe_no_sandbox, args.seed
    )
    records, troubles = grade_all(submissions, settings, out, max(1, args.jobs), args.backend)
    troubles += reports.write_reports(records, out)
    print(reports.summary_text(records, out, troubles))
    unread = any(
        row["kind"] in ("unreadable", "not asked")
        for record in records
        for row in record["questions"]
    )
    return int(bool(troubles or unread or any("UNREAD" in note for note in notes)))


def make_folder(out: Path) -> Path:
    """The folder for the grades. LabKitError if it cannot be made."""
    try:
        (out / "results").mkdir(parents=True, exist_ok=True)
        (out / "feedback").mkdir(exist_ok=True)
    except OSError as error:
        raise LabKitError(
            f"{out} cannot be written ({error.strerror}). Give --out a folder of your own with "
            "room."
        ) from None
    return out.resolve()
