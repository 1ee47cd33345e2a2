"""The `run` command: executes labs without a screen, and keeps the executed notebooks and their
HTML.
"""

from __future__ import annotations

import argparse
import json
import os
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_utils.files import ROOT, RUNS, SMOLLM2, LabKitError, write_text

LABS = ROOT / "labs"
NEEDS_SMOLLM2 = "09"  # how that lab's name begins
CELL_TIMEOUT_SECONDS = 3600  # a hung cell must not hold a machine overnight


@dataclass(frozen=True)
class Result:
    """How a lab went; `error` holds the failing cell and its traceback, or is empty."""

    lab: str
    n_cells: int
    seconds: float
    error: str = ""

    def __str__(self) -> str:
        return (
            f"{self.lab:<28} {self.n_cells:>3} cells {self.seconds:>6.0f} s  "
            f"{'FAILED' if self.error else 'ok'}"
        )


def find_labs(folder: Path = LABS) -> list[Path]:
    """The lab notebooks, in order."""
    return sorted(folder.glob("*.ipynb"))


def choose_labs(prefixes: list[str], labs: list[Path]) -> list[Path]:
    """The labs that the prefixes name, each exactly one; all labs for no prefix. LabKitError lists
    what there is.
    """
    names = [lab.stem for lab in labs]
    for prefix in prefixes:
        found = [name for name in names if name.startswith(prefix)]
        if len(found) != 1:
            wrong = (
                f"More than one lab begins with {prefix!r}"
                if found
                else f"No lab begins with {prefix!r}"
            )
            raise LabKitError(
                f"{wrong}. The labs are:\n  " + "\n  ".join(found or names or ["(none yet)"])
            )
    return [next(lab for lab in labs if lab.stem.startswith(prefix)) for prefix in prefixes] or labs


def without_model(labs: list[Path], model: Path = SMOLLM2) -> list[Path]:
    """The labs that can run here: the one of the real model only where a copy of it is."""
    there = (model / "README.md").is_file()
    return [lab for lab in labs if there or not lab.stem.startswith(NEEDS_SMOLLM2)]


def run_lab(lab: Path, folder: Path, on_cell: Callable[[], Any] = lambda: None) -> Result:
    """Executes a notebook in a fresh kernel; `folder` gets it and its HTML, also when a cell
    failed.
    """
    import nbformat
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, DeadKernelError
    from nbconvert.filters import strip_ansi

    notebook, start, error = nbformat.read(lab, as_version=4), time.monotonic(), ""
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_SECONDS,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # it warns that loopback is not encrypted
        resources={"metadata": {"path": str(lab.parent)}},
        on_cell_executed=lambda **_: on_cell(),
    )
    try:
        client.execute()
    except (CellControlSignal, DeadKernelError, NoSuchKernel) as problem:
        error = strip_ansi(str(problem))  # for a failing cell: its source and its traceback
    _write_results(notebook, lab.stem, folder)
    return Result(lab.stem, count_cells(notebook), time.monotonic() - start, error)


def count_cells(notebook: dict) -> int:
    """The number of code cells with something to run."""
    return sum(
        cell["cell_type"] == "code" and bool(cell["source"].strip()) for cell in notebook["cells"]
    )


def _write_results(notebook: dict, name: str, folder: Path) -> None:
    import nbformat
    from nbconvert import HTMLExporter

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.ipynb", nbformat.writes(notebook))
    write_text(folder / f"{name}.html", HTMLExporter().from_notebook_node(notebook)[0])


def run_with_progress(lab: Path, folder: Path) -> Result:
    """Runs a lab behind a progress bar (on a terminal only), then prints its one line and, if it
    failed, the cell.
    """
    import nbformat
    from tqdm import tqdm

    total = count_cells(nbformat.read(lab, as_version=4))
    with tqdm(total=total, desc=lab.stem, unit="cell", leave=False, disable=None) as bar:
        result = run_lab(lab, folder, bar.update)
    print(result, flush=True)
    if result.error:
        print(textwrap.indent(result.error, "    "), flush=True)
    return result


def format_scores(metrics: dict[str, Any]) -> str:
    """A table with a row for each score and a column for each model (base, full, ...)."""
    models = {name: scores for name, scores in metrics.items() if isinstance(scores, dict)}
    names = list(dict.fromkeys(name for scores in models.values() for name in scores))
    table = [
        ["", *models],
        *([name, *(_short(scores.get(name, "")) for scores in models.values())] for name in names),
    ]
    return "\n".join(f"{row[0]:<18}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in table)


def _short(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def format_answers(answers: list[dict[str, str]]) -> str:
    """Each question with the model's answer before and after fine-tuning, wrapped to a terminal's
    width.
    """

    def paragraph(label: str, text: str) -> str:
        return textwrap.fill(
            text, width=100, initial_indent=f"{label:<8}", subsequent_indent=" " * 8
        )

    return "\n\n".join(
        "\n".join(
            [
                paragraph("asked", row["question"]),
                paragraph("before", row["before"]),
                paragraph("after", row["after"]),
            ]
        )
        for row in answers
    )


def modified(path: Path) -> int | None:
    """When a file was last written, in nanoseconds; None if there is none."""
    return path.stat().st_mtime_ns if path.exists() else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which labs, and where their results go."""
    parser.add_argument(
        "labs", nargs="*", metavar="LAB", help="how a lab's name begins, such as 06 (default: all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RUNS,
        metavar="DIR",
        help="results go to DIR/<number>/ (default: runs)",
    )


def main(args: argparse.Namespace) -> int:
    """Runs the labs and ends with Pavlos before and after. Returns 1 if a lab failed; the others
    were still run.
    """
    labs = choose_labs(args.labs, find_labs())
    if not labs:
        raise LabKitError(
            f"There are no notebooks in {LABS}. Run the command in a complete copy of the lab kit."
        )
    if left_out := set(labs) - set(labs := without_model(labs)):
        print(
            f"Left out: {left_out.pop().stem}, which needs a real model. To have it: python3 -m "
            "lab_utils get smollm2",
            flush=True,
        )
    runs = args.out.resolve()
    os.environ["LAB_RUNS_DIR"] = str(runs)  # the notebooks write where this run's results are
    metrics = runs / "06" / "metrics.json"
    written = modified(metrics)
    results = [run_with_progress(lab, runs / lab.stem[:2]) for lab in labs]
    if modified(metrics) != written:  # not the scores of an earlier run
        found = json.loads(metrics.read_text(encoding="utf-8"))
        print(
            f"\nPavlos, before and after\n\n{format_answers(found.get('answers', []))}\n\n"
            f"{format_scores(found)}"
        )
    failed = [result.lab for result in results if result.error]
    print(f"\n{len(results) - len(failed)} of {len(results)} labs ran. Results: {runs}")
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return int(bool(failed))
