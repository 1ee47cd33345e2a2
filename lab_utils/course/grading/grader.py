"""`python3 -m lab_utils grade`: asks the functions in a folder of submissions, and writes grades,
feedback and a summary.

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

import argparse
import functools
import hashlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab_utils.files import ROOT, LabKitError

if TYPE_CHECKING:
    from lab_utils.checking.checks import Exercise
    from lab_utils.course.grading import marks
    from lab_utils.course.grading.judge import Verdict
    from lab_utils.course.grading.late import Policy
    from lab_utils.course.grading.roster import Person, Table
    from lab_utils.course.grading.sandbox import Limits, Reply, Sandbox
    from lab_utils.course.grading.submissions import Submission

UNSEALED = "NONE: --unsafe-no-sandbox"
UNDECIDED = {"unreadable", "not asked"}  # a person must look at it
FINAL = {"right", "stub", "absent", "unreadable", "not asked"}  # running all of it changes nothing
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
    reply = sandbox.ask(list(submission.cells), exercise.name, question, whole)
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


# ---------------------------------------------------------------------------------------- the batch
def environment_digest() -> str:
    """A hash of all that a result depends on but the notebook: the kit's code, Python, and the
    packages. Zeros of a set-up that was broken are asked again in one that is not.
    """
    from importlib.metadata import distributions

    packages = sorted({f"{found.name}=={found.version}" for found in distributions()})
    files = sorted((ROOT / "lab_utils").rglob("*.py"))
    parts = [sys.version.encode(), *map(str.encode, packages), *(f.read_bytes() for f in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


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


def kept_result(
    path: Path, mark: str, submission: Submission, regrade: frozenset[str] = frozenset()
) -> dict[str, Any] | None:
    """The result of an earlier run, if it is of the very same notebook, seed and grader, and nobody
    wants it asked again.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        names = {submission.student, *(row["question"] for row in record["questions"])}
        if names & regrade:
            return None
        if record["fingerprint"] != mark or any(
            row["kind"] == "not asked" for row in record["questions"]
        ):
            return None
        return {**record, **told_by_export(submission)}
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

    code, troubles = environment_digest(), []
    places = {result_file(out, submission): submission for submission in submissions}
    marks = {path: fingerprint(submission, settings, code) for path, submission in places.items()}
    records = {
        path: kept_result(path, marks[path], submission, settings.regrade)
        for path, submission in places.items()
    }
    waiting = [(path, submission) for path, submission in places.items() if records[path] is None]
    if waiting:
        settings = check_room([submission for _, submission in waiting], settings)
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


PROBE = """
import importlib.util
def probe(values, names):
    lacking = [name for name in names if importlib.util.find_spec(name) is None]
    return [2 * value for value in values], lacking
"""
BY_DESIGN = {"google", "lab_utils", "kaggle_secrets"}  # Colab's, and the checks, are in no room


def check_room(submissions: list[Submission], settings: Settings) -> Settings:
    """The settings with the modules that the room lacks, after a right answer came out of it
    rightly. LabKitError where none did: then nothing is graded.
    """
    from lab_utils.course.grading.worker.values import decode, encode

    imported = {name.split(".")[0] for entry in submissions for name in entry.imports}
    names = sorted(imported - BY_DESIGN)[:5000]
    box = sandbox_of(threading.get_ident(), replace(settings, lacking=frozenset()))
    reply = box.ask([PROBE], "probe", encode([([0.5, -1.25], names)]))
    try:
        [(kind, (doubled, lacking), _)] = decode(reply.answers or b"")
        if (kind, doubled) != ("answer", [1.0, -2.5]):
            raise ValueError("a right answer came out wrong")
    except (ValueError, TypeError) as error:
        close_sandboxes()
        raise LabKitError(
            "Nothing was graded: a function that is known to be right got no answer out of the "
            f"sandbox ({reply.ended or error}). The sandbox does not work on this machine."
        ) from None
    return replace(settings, lacking=frozenset(lacking))


def grade_one(
    path: Path, submission: Submission, settings: Settings, grader: int = 0
) -> tuple[Path, dict]:
    """(path, record); in a process that ends with the grader, if its number is given."""
    if grader and grader != os.getpid():
        end_with(grader)
    return path, grade_submission(submission, settings)


@functools.lru_cache
def end_with(grader: int) -> None:
    """Let this process end within a second after its parent has, however that ended. Its fork
    server and room end with it: the kernel closes their pipes.
    """

    def watch() -> None:
        while os.getppid() == grader:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
    watched = os.getpid() if backend == "loky" else 0
    try:
        if jobs > 1 or backend != "loky":
            with parallel_config(backend=backend, n_jobs=jobs):
                parallel = Parallel(return_as="generator_unordered", batch_size=1)
            for path, record in parallel(
                delayed(grade_one)(path, submission, settings, watched)
                for path, submission in waiting
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
        close_sandboxes()


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
        help="hidden inputs are drawn from it; default: drawn once, kept in DIR/results",
    )
    parser.add_argument(
        "--seconds", type=float, default=20, help="for one question to answer (default 20)"
    )
    add_marking_arguments(parser)
    parser.add_argument(
        "--unsafe-no-sandbox", action="store_true", help="without bubblewrap; the CSV says so"
    )


def add_marking_arguments(parser: argparse.ArgumentParser) -> None:
    """What marks are made of, and where they go."""
    from lab_utils.course.grading.gradebooks import SYSTEMS

    parser.add_argument("--roster", type=Path, metavar="CSV", help="the students of the course")
    parser.add_argument(
        "--absent",
        choices=("blanks", "zeros"),
        default="blanks",
        help="what those of the roster get who handed in nothing (default: blanks)",
    )
    parser.add_argument(
        "--due",
        action="append",
        default=[],
        metavar="LAB=TIME",
        help="when a lab is due, as in 02=2026-11-20T23:59+02:00; may be repeated",
    )
    parser.add_argument("--late", type=Path, metavar="TOML", help="the late policy")
    parser.add_argument("--export", choices=SYSTEMS, help="also write this gradebook's import file")
    parser.add_argument(
        "--gradebook", type=Path, metavar="CSV", help="a downloaded gradebook, to be filled in"
    )
    parser.add_argument(
        "--regrade",
        action="append",
        default=[],
        metavar="WHO",
        help="ask a student or a question again, as grades.csv names it; may be repeated",
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
    from lab_utils.course.grading import late, sandbox
    from lab_utils.course.grading.submissions import read_submissions

    check_sandbox(args.unsafe_no_sandbox, sandbox.problem)
    if args.unsafe_no_sandbox and os.geteuid() == 0 and sandbox.closed_folders():
        closed = ", ".join(map(str, sandbox.closed_folders()))
        say([f"WARNING: students' code runs as root, since nobody cannot read {closed}."])
    register_backend(args.backend)
    check_out(args.out, args.submissions)
    labs: dict[str, set[str]] = {}
    for exercise in all_exercises():
        labs.setdefault(exercise.lab, set()).add(exercise.name)
    lab = chosen_lab(args.lab, labs)
    policy = late.read_policy(args.late, args.due, list(labs))
    course = read_course(args)
    submissions, notes = read_submissions(args.submissions, labs, lab)
    say(notes)
    if not submissions:
        raise LabKitError(
            "Nothing to grade: give the folder or zip that Canvas, Gradescope or Moodle made, or "
            "a notebook."
        )
    out = make_folder(args.out)
    settings = Settings(
        sandbox.Limits(answer_seconds=args.seconds),
        not args.unsafe_no_sandbox,
        seed_of(out, args.seed),
        regrade=frozenset(args.regrade),
    )
    records, troubles = grade_all(submissions, settings, out, max(1, args.jobs), args.backend)
    troubles += finish_batch(records, out, policy, course, args)
    unread = any(row["kind"] in UNDECIDED for r in records for row in r["questions"])
    return int(bool(troubles or unread or any("UNREAD" in note for note in notes)))


def finish_batch(
    records: list[dict], out: Path, policy: Policy, course: Course, args: argparse.Namespace
) -> list[str]:
    """Write all reports and say what is in them. Return lines about what could not be written."""
    from lab_utils.checking.checks import all_exercises
    from lab_utils.course.grading import marks, reports

    earlier = marks.read_earlier(out / "grades.csv")
    batch = sorted({record["lab"] for record in records if record["lab"]})
    questions = {lab: [(e.name, e.points) for e in all_exercises(lab)] for lab in batch}
    zeros = args.absent == "zeros"
    everybody = records + marks.absent_records(records, course.people, questions, zeros)
    decided = marks.read_decisions(out, earlier)
    everybody = marks.finish(everybody, policy, course.people, decided)
    troubles = reports.write_reports(everybody, out)
    try:
        marks.write_decisions(out, decided)
    except OSError as error:
        troubles.append(f"{out / marks.DECISIONS}: {error.strerror}")
    if args.export:
        troubles += write_gradebook(everybody, out, course, args.export)
    say([reports.summary_text(everybody, out, troubles)])
    say(changed_lines(earlier, out))
    if policy.due:
        say([f"Times without a zone were read as {policy.zone}."])
    return troubles


def changed_lines(earlier: marks.Earlier, out: Path) -> list[str]:
    """What is not as in the run before, at most 50 lines."""
    from lab_utils.course.grading import marks

    lines = marks.changes(earlier.final, marks.read_earlier(out / "grades.csv").final)
    if not lines:
        return []
    more = [f"... and {len(lines) - 50} more"] if len(lines) > 50 else []
    return ["Not as in the run before:", *(f"  {line}" for line in lines[:50]), *more]


@dataclass(frozen=True)
class Course:
    """Who is in the course, and the gradebook that was downloaded, if there is one."""

    people: list[Person]
    gradebook: Table | None = None


def read_course(args: argparse.Namespace) -> Course:
    """The students of `--roster`, else of `--gradebook`. LabKitError says what is wrong with it."""
    from lab_utils.course.grading import roster

    gradebook = roster.read_table(args.gradebook) if args.gradebook else None
    if gradebook:
        return Course(roster.people_of(gradebook), gradebook)
    return Course(roster.read_roster(args.roster) if args.roster else [])


def write_gradebook(records: list[dict], out: Path, course: Course, system: str) -> list[str]:
    """Write `gradebook-SYSTEM.csv`, and return lines about what is not in it."""
    from lab_utils.course.grading import gradebooks, marks, reports

    points, out_of = marks.totals(records), marks.lab_points(records)
    text, lost = gradebooks.gradebook_text(system, points, out_of, course.people, course.gradebook)
    say([f"NOT IN THE GRADEBOOK: {line}" for line in lost])
    trouble = reports.write_or_say(out / f"gradebook-{system}.csv", text)
    return [trouble] if trouble else []


def say(lines: list[str]) -> None:
    """Print lines in which names of students and files stand, without what steers a terminal."""
    from lab_utils.course.grading.reports import clean

    print("\n".join(map(clean, lines)), end="\n" if lines else "", flush=True)


def check_out(out: Path, paths: list[Path]) -> None:
    """LabKitError where the grades would lie among the submissions, which the next run reads."""
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise LabKitError(
                f"--out {out} lies in {path}, which is graded. Give --out a folder elsewhere."
            )


def seed_of(out: Path, given: int | None) -> int:
    """The seed of this folder of grades: the one given, else the one kept in it, else a new one, at
    random. It is kept in results/seed.json, for the next run.
    """
    from lab_utils.files import write_json

    place = out / "results" / "seed.json"
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))["seed"]
        seed = kept if given is None and type(kept) is int else given
    except (OSError, ValueError, KeyError, TypeError):
        seed = given
    seed = secrets.randbelow(2**31) if seed is None else seed
    with suppress(OSError):  # then the next run draws another
        write_json(place, {"seed": seed})
    return seed


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
