"""`python3 -m lab_utils grade`: grades a folder of submissions, and writes grades, feedback and a
summary.

`asking` puts the questions of one submission, `batch` goes through all of them; here is what the
command reads and writes around that.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab_utils.course.grading.asking import Settings
from lab_utils.course.grading.batch import grade_all, register_backend
from lab_utils.files import LabKitError

if TYPE_CHECKING:
    from lab_utils.course.grading import marks
    from lab_utils.course.grading.late import Policy
    from lab_utils.course.grading.roster import Person, Table
    from lab_utils.course.grading.submissions import Submission


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
    from lab_utils.course.grading import late, reports, sandbox
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
    troubles += write_talks(submissions, settings.seed, out)
    unread = any(row["kind"] in reports.UNDECIDED for r in records for row in r["questions"])
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


def write_talks(submissions: list[Submission], seed: int, out: Path) -> list[str]:
    """Write what a person may talk about with each student, and return lines about what could not
    be written.
    """
    from lab_utils.checking.checks import all_exercises
    from lab_utils.course.grading import oral, reports

    exercises = {lab: all_exercises(lab) for lab in {entry.lab for entry in submissions}}
    talks = oral.talks_of(submissions, exercises, seed)
    page, flagged = out / "oral.html", sum(bool(talk.flags) for talk in talks)
    say([f"For a talk with each student: {page} ({flagged} with something to look at, no marks)"])
    files = {page: oral.oral_page(talks), out / "oral.csv": oral.oral_csv(talks)}
    return list(filter(None, (reports.write_or_say(*file) for file in files.items())))


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
