"""The `run` command: executes labs without a screen, and keeps the executed notebooks and their
HTML.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab_utils.files import (
    GIGABYTE,
    ROOT,
    RUNS,
    SMOLLM2,
    LabKitError,
    write_json,
    write_text,
)
from lab_utils.start.lab import (
    MINUTES,
    Measured,
    can_write,
    hardware_for,
    measured,
    results_folder,
)

LABS = ROOT / "labs"
NEEDS_SMOLLM2 = "09"  # how that lab's name begins
CELL_TIMEOUT_SECONDS = 3600  # a hung cell must not hold a machine overnight

OnCell = Callable[[int, int], Any]
"""Called with the cell's index and the kernel's process id."""


@dataclass(frozen=True)
class Result:
    """How a lab went; `error` holds the failing cell and its traceback, or is empty."""

    lab: str
    n_cells: int
    seconds: float
    error: str = ""
    gigabytes: float = 0.0  # the most that its kernel held

    def __str__(self) -> str:
        return (
            f"{self.lab:<28} {self.n_cells:>3} cells {self.seconds:>6.0f} s  "
            f"{'FAILED' if self.error else 'ok'}"
        )


# ------------------------------------------------------------------------------------- which labs
def find_labs(folder: Path = LABS) -> list[Path]:
    """The lab notebooks, in order."""
    # a zip from macOS brings `._01_...ipynb` beside each
    return sorted(lab for lab in folder.glob("*.ipynb") if not lab.name.startswith("."))


def choose_labs(prefixes: list[str], labs: list[Path]) -> list[Path]:
    """The labs that the prefixes (or paths) name, each exactly one; all labs for no prefix.
    LabKitError lists what there is.
    """
    names = [lab.stem for lab in labs]
    chosen = []
    for prefix in prefixes:
        wanted = Path(prefix).name.removesuffix(".ipynb")
        found = [name for name in names if name.startswith(wanted)]
        if len(found) != 1:
            wrong = "More than one lab begins" if found else "No lab begins"
            listed = "\n  ".join(found or names or ["(none yet)"])
            raise LabKitError(f"{wrong} with {wanted!r}. The labs are:\n  {listed}")
        chosen.append(labs[names.index(found[0])])
    return chosen or labs


def without_model(labs: list[Path], model: Path = SMOLLM2) -> list[Path]:
    """The labs that can run here: the one of the real model only where a copy of it is."""
    there = (model / "README.md").is_file()
    return [lab for lab in labs if there or not lab.stem.startswith(NEEDS_SMOLLM2)]


def read_lab(lab: Path) -> Any:
    """The notebook, as nbformat's NotebookNode, without what widgets looked like in another run:
    Colab saves them without their state, and nbconvert then gives up. ValueError where it is none.
    """
    import nbformat

    text = lab.read_text(encoding="utf-8-sig")  # some editors put a byte-order mark in front
    try:
        notebook = nbformat.reads(text, as_version=4)
        notebook.metadata.pop("widgets", None)
        return notebook
    except (ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError):
        raise ValueError(
            f"{lab.name} is no whole notebook: it was cut off, or something else was saved under "
            "its name. Copy it anew from the lab kit."
        ) from None


def count_cells(notebook: dict) -> int:
    """The number of code cells with something to run."""
    return sum(
        cell["cell_type"] == "code" and bool(cell["source"].strip()) for cell in notebook["cells"]
    )


# --------------------------------------------------------------------------------------- one lab
def run_lab(
    lab: Path,
    folder: Path,
    on_start: OnCell = lambda index, pid: None,
    on_end: OnCell = lambda index, pid: None,
) -> Result:
    """Executes a notebook in a fresh kernel; `folder` gets it and its HTML, also when a cell
    failed.
    """
    from nbclient.exceptions import CellControlSignal, DeadKernelError
    from nbconvert.filters import strip_ansi

    notebook, start, error = read_lab(lab), time.monotonic(), ""
    peaks = [0.0]

    def ended(cell_index: int, **_: Any) -> None:
        pid = client.km.provisioner.pid
        peaks.append(peak_gigabytes(pid))
        on_end(cell_index, pid)

    client = _client(notebook, lab.parent)
    client.on_cell_execute = lambda cell_index, **_: on_start(cell_index, client.km.provisioner.pid)
    client.on_cell_executed = ended
    try:
        client.execute(cleanup_kc=True)
    except (CellControlSignal, DeadKernelError) as problem:
        error = strip_ansi(str(problem))  # for a failing cell: its source and its traceback
    seconds = time.monotonic() - start
    _write_results(notebook, lab.stem, folder)
    return Result(lab.stem, count_cells(notebook), seconds, error, max(peaks))


def _client(notebook: Any, folder: Path) -> Any:
    """An nbclient.NotebookClient on this very interpreter: a kernel called python3 may be installed
    for the person, and belong to a Python that is gone.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient

    own = KernelSpecManager(kernel_dirs=[])  # it then finds ipykernel's own, and nothing else
    return NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=own),
        timeout=CELL_TIMEOUT_SECONDS,
        extra_arguments=["--log-level=ERROR"],  # it warns that loopback is not encrypted
        resources={"metadata": {"path": str(folder)}},
    )


def peak_gigabytes(pid: int) -> float:
    """The most memory that a process held so far; on macOS, what it holds now. 0 if it is gone."""
    import psutil

    status = Path(f"/proc/{pid}/status")
    try:
        if status.exists():
            found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
            return int(found[1]) * 1024 / GIGABYTE if found else 0.0
        memory = psutil.Process(pid).memory_info()
        return getattr(memory, "peak_wset", memory.rss) / GIGABYTE
    except (OSError, psutil.Error):
        return 0.0


def _write_results(notebook: dict, name: str, folder: Path) -> None:
    import nbformat
    from nbconvert import HTMLExporter

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.ipynb", nbformat.writes(notebook))
    write_text(folder / f"{name}.html", HTMLExporter().from_notebook_node(notebook)[0])


# --------------------------------------------------------------------------------------- all labs
def run_with_progress(lab: Path, folder: Path, later: list[Path] | None = None) -> Result:
    """Runs a lab behind a progress bar (on a terminal only) that names the cell and what comes
    later, then prints its one line and, if it failed, the cell. Whatever is wrong with one lab, the
    others can still run.
    """
    from tqdm import tqdm

    start = time.monotonic()
    try:
        cells = read_lab(lab)["cells"]
        with tqdm(
            total=count_cells({"cells": cells}),
            desc=lab.stem,
            unit="cell",
            leave=False,
            disable=None,
            dynamic_ncols=True,
        ) as bar:
            result = run_lab(
                lab,
                folder,
                lambda index, _: bar.set_postfix_str(
                    f"{heading_above(cells, index)}{what_is_left(later or [])}"
                ),
                lambda *_: bar.update(),
            )
    except Exception as problem:  # a broken file, a full disk, a kernel that does not start
        told = str(problem) if isinstance(problem, ValueError) else repr(problem)
        result = Result(lab.stem, 0, time.monotonic() - start, told)
    print(result, flush=True)
    if result.error:
        print(textwrap.indent(result.error, "    "), flush=True)
    return result


def heading_above(cells: list[dict], index: int, width: int = 40) -> str:
    """The last heading above a cell, cut to a width."""
    for cell in reversed(cells[:index]):
        if cell["cell_type"] == "markdown":
            if headings := re.findall(r"^#+ (.*)", cell["source"], re.MULTILINE):
                return textwrap.shorten(headings[-1], width, placeholder=" ...")
    return f"cell {index + 1}"


def what_is_left(later: list[Path]) -> str:
    """How many labs come later, and about how long they take where that was measured."""
    if not later:
        return ""
    known = [measured(lab.stem, hardware_for(lab.stem).runs) for lab in later]
    minutes = f", about {sum(took.minutes for took in known)} min" if all(known) else ""
    return f"; then {len(later)} more lab{'s' * (len(later) > 1)}{minutes}"


def record_minutes(result: Result, path: Path = MINUTES) -> None:
    """Writes what a lab took, for what ran here, with the machine and the versions. One that
    failed keeps what was recorded, as do the others.
    """
    if result.error:
        return
    from lab_utils.start.requirements import installed_version

    machine = hardware_for(result.lab)
    records = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    labs = records.get(machine.runs, {}).get("labs", {})
    took = Measured(round(result.seconds, 1), round(result.gigabytes, 2))
    labs[result.lab[:2]] = asdict(took)
    records[machine.runs] = {
        "command": "python3 -m lab_utils run --record",
        "date": datetime.date.today().isoformat(),
        "hardware": f"{machine.device}, {machine.name}, {os.cpu_count()} cores, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}",
        "versions": {
            "python": platform.python_version(),
            **{name: installed_version(name) for name in ("torch", "transformers", "peft")},
        },
        "labs": dict(sorted(labs.items())),
    }
    write_json(path, records)


# ------------------------------------------------------------------------------------- the ending
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


# ------------------------------------------------------------------------------------- the command
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which labs, and where their results go."""
    parser.add_argument(
        "labs", nargs="*", metavar="LAB", help="how a lab's name begins, such as 06 (default: all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="results go to DIR/<number>/ (default: runs)",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep the minutes in data/reference, for the labs to announce",
    )


def folder_for_results(asked: Path | None) -> Path:
    """Where this run's results go; a line is printed where that is not the kit's `runs`.
    LabKitError for a folder that was asked for and cannot be written.
    """
    folder = asked.resolve() if asked else results_folder().resolve()
    if not can_write(folder):
        raise LabKitError(f"{folder} cannot be written. Give another folder: --out DIR")
    if not asked and folder != RUNS.resolve():
        print(f"Results go to {folder}.", flush=True)
    return folder


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
    runs = folder_for_results(args.out)
    os.environ["LAB_RUNS_DIR"] = str(runs)  # the notebooks write where this run's results are
    metrics = runs / "06" / "metrics.json"
    written = modified(metrics)
    results = []
    for number, lab in enumerate(labs, start=1):
        results.append(run_with_progress(lab, runs / lab.stem[:2], labs[number:]))
        if args.record:
            record_minutes(results[-1])
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
