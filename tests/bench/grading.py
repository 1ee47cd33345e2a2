"""Seconds to grade a submission, start of the grader included, against `jupyter execute` on the
same notebook.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench import Measure, Outcome

N_SUBMISSIONS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def measure(args: argparse.Namespace) -> Outcome:
    """Grade N_SUBMISSIONS one after the other; execute the notebook once before and once after.

    A problem where a right answer got no point.
    """
    import tempfile

    from lab_utils.course.grading import asking, batch, grader, sandbox
    from lab_utils.course.grading.submissions import read_submissions

    grader.check_sandbox(False, sandbox.problem)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab, labs = write_submissions(folder)
        before = seconds_of_execute(folder / "student_0" / lab)
        start = time.perf_counter()
        (folder / "out" / "results").mkdir(parents=True)
        settings = asking.Settings(sandbox.Limits())
        submissions, _ = read_submissions(sorted(folder.glob("student_*")), labs)
        records, _ = batch.grade_all(submissions, settings, folder / "out", jobs=1, backend="loky")
        each = (time.perf_counter() - start) / N_SUBMISSIONS
        execute = (before + seconds_of_execute(folder / "student_0" / lab)) / 2
    return outcome_of(lab, records, each, execute)


def outcome_of(lab: str, records: list[dict], each: float, execute: float) -> Outcome:
    """The table and the numbers of a graded batch: seconds for each submission, and for executing
    the notebook.
    """
    points = [row["points"] == row["out_of"] for record in records for row in record["questions"]]
    text = (
        f"{lab}: {N_SUBMISSIONS} submissions, {len(points) // N_SUBMISSIONS} questions each, one "
        f"at a time\ngraded             {each:8.2f} s for each\njupyter execute    {execute:8.2f} "
        f"s\nratio              {each / execute:8.2f}\nright answers with their points: "
        f"{sum(points)} of {len(points)}"
    )
    measures = [
        Measure("graded, each", each, "s"),
        Measure("jupyter execute", execute, "s"),
        Measure("graded / executed", each / execute, "ratio", "lower"),
    ]
    wrong = (
        []
        if all(points) and len(records) == N_SUBMISSIONS
        else ["right answers without their points"]
    )
    return Outcome(measures, text, wrong)


def write_submissions(folder: Path) -> tuple[str, dict[str, set[str]]]:
    """N_SUBMISSIONS notebooks that differ by a comment: a lab's set-up and imports, its exercises,
    solved, and what they need.
    """
    import nbformat

    from lab_utils.checking import all_exercises
    from lab_utils.course.grading.worker.cells import needed, read_cells
    from lab_utils.course.run import find_labs

    labs = {
        path.stem: {exercise.name for exercise in all_exercises(path.stem)} for path in find_labs()
    }
    path = next(path for path in find_labs() if labs[path.stem])
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    statements, _ = read_cells([cell.source for cell in code])
    kept = {1, 2} | {
        statement.cell for name in labs[path.stem] for statement in needed(statements, name)
    }
    notebook.cells = [cell for number, cell in enumerate(code, 1) if number in kept]
    for i in range(N_SUBMISSIONS):
        notebook.cells.append(nbformat.v4.new_code_cell(f"# student {i}"))
        (folder / f"student_{i}").mkdir()
        nbformat.write(notebook, folder / f"student_{i}" / path.name)
    return path.name, labs


def seconds_of_execute(notebook: Path) -> float:
    """Wall seconds of a plain `jupyter execute`. CalledProcessError if it fails."""
    import subprocess
    import sys

    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", str(notebook)], check=True, capture_output=True
    )
    return time.perf_counter() - start
