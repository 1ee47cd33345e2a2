"""`python3 -m lab_utils bench NAME`: measure on this machine, in one run, and print the ratio.

A benchmark is a function of the parsed arguments that prints a table and returns an exit code; BENCHES lists them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

N_SUBMISSIONS = 20  # that `bench grading` makes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` understands."""
    parser.add_argument("name", choices=sorted(BENCHES), help="what to measure")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the tensor (default 4096)")
    parser.add_argument("--repeats", type=int, default=5, help="timed repetitions (default 5)")


def main(args: argparse.Namespace) -> int:
    """Run one benchmark and return its exit code."""
    return BENCHES[args.name](args)


def seconds_alternating(calls: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Median seconds of each call. They take turns, so that a busy moment of the machine hits all alike."""
    for call in calls.values():
        call()  # warm up
    times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def bench_quantization(args: argparse.Namespace) -> int:
    """Block-wise NF4, ours against bitsandbytes: seconds, ratio, and the largest difference, which must be 0."""
    import bitsandbytes.functional as bnb
    import torch

    from lab_utils import quantization

    torch.manual_seed(0)
    x = torch.randn(args.size, args.size)
    packed, absmax = quantization.quantize_nf4(x)
    their_packed, state = bnb.quantize_4bit(x, blocksize=64, quant_type="nf4")
    seconds = seconds_alternating(
        {
            "quantize ours": lambda: quantization.quantize_nf4(x),
            "quantize bitsandbytes": lambda: bnb.quantize_4bit(x, blocksize=64, quant_type="nf4"),
            "dequantize ours": lambda: quantization.dequantize_nf4(packed, absmax, tuple(x.shape)),
            "dequantize bitsandbytes": lambda: bnb.dequantize_4bit(their_packed, state),
        },
        args.repeats,
    )
    ours, theirs = quantization.dequantize_nf4(packed, absmax, tuple(x.shape)), bnb.dequantize_4bit(their_packed, state)
    different_codes = (packed != their_packed.reshape(-1)).sum().item()
    difference = (ours - theirs).abs().max().item()
    print_ratios(seconds, f"NF4, {args.size} x {args.size} float32, blocks of 64, {torch.get_num_threads()} threads")
    print(f"different bytes of codes: {different_codes}    largest difference of a weight: {difference:g}")
    return 0 if difference == 0 and different_codes == 0 else 1


def print_ratios(seconds: dict[str, float], title: str) -> None:
    """A row for each step and one for all of them together: ours, bitsandbytes', ratio."""
    steps = sorted({name.split()[0] for name in seconds}, reverse=True)
    rows = [(step, seconds[f"{step} ours"], seconds[f"{step} bitsandbytes"]) for step in steps]
    rows.append(("together", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    print(title)
    print(f"{'':<12}{'ours':>10}{'bitsandbytes':>15}{'ratio':>8}")
    for step, ours, theirs in rows:
        print(f"{step:<12}{ours:>8.4f} s{theirs:>13.4f} s{ours / theirs:>7.2f}x")


def bench_grading(args: argparse.Namespace) -> int:
    """Seconds for each of N_SUBMISSIONS graded one after the other, start of the grader included, against the seconds of
    `jupyter execute` on the same notebook, once before and once after. Fails where a right answer got no point."""
    import tempfile

    from lab_utils.grading import grader, sandbox
    from lab_utils.grading.submissions import read_submissions

    grader.check_sandbox(False, sandbox.problem)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab, labs = write_submissions(folder)
        before = seconds_of_execute(folder / "student_0" / lab)
        start = time.perf_counter()
        (folder / "out" / "results").mkdir(parents=True)
        settings = grader.Settings(sandbox.Limits())
        submissions, _ = read_submissions(sorted(folder.glob("student_*")), labs)
        records, _ = grader.grade_all(submissions, settings, folder / "out", jobs=1, backend="loky")
        each = (time.perf_counter() - start) / N_SUBMISSIONS
        execute = (before + seconds_of_execute(folder / "student_0" / lab)) / 2
    points = [row["points"] == row["out_of"] for record in records for row in record["questions"]]
    print(f"{lab}: {N_SUBMISSIONS} submissions, {len(points) // N_SUBMISSIONS} questions each, one at a time\n"
          f"graded             {each:8.2f} s for each\njupyter execute    {execute:8.2f} s\n"
          f"ratio              {each / execute:8.2f}\n"
          f"right answers with their points: {sum(points)} of {len(points)}")
    return 0 if all(points) and len(records) == N_SUBMISSIONS else 1


def write_submissions(folder: Path) -> tuple[str, dict[str, set[str]]]:
    """N_SUBMISSIONS notebooks that differ by a comment: a lab's set-up and imports, its exercises, solved, and what they need."""
    import nbformat

    from lab_utils.grading import all_exercises
    from lab_utils.grading.worker.cells import needed, read_cells
    from lab_utils.running import find_labs

    labs = {path.stem: {exercise.name for exercise in all_exercises(path.stem)} for path in find_labs()}
    path = next(path for path in find_labs() if labs[path.stem])
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    statements, _ = read_cells([cell.source for cell in code])
    kept = {1, 2} | {statement.cell for name in labs[path.stem] for statement in needed(statements, name)}
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
    subprocess.run([sys.executable, "-m", "jupyter", "execute", str(notebook)], check=True, capture_output=True)
    return time.perf_counter() - start


BENCHES: dict[str, Callable[[argparse.Namespace], int]] = {"grading": bench_grading, "quantization": bench_quantization}
