"""What only a GPU can tell, in one call of under ten minutes: memory beside the ledger, the paged
optimizer, speed, gpu tests.

Every piece of work has its own try, and with --json the record is written after each: a kill loses
the piece in hand. `--dry-run` does all of it on a CPU, with shapes so small that it takes seconds.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench import Measure, Outcome, record_of
from lab_utils.files import ROOT, LabKitError, write_text
from lab_utils.memory.sizes import GB, GIB

SHAPES = {
    "1B": "TinyLlama-1.1B",
    "7B": "Llama-2-7B",
    "13B": "Llama-2-13B",
    "33B": "LLaMA-33B",
    "65B": "LLaMA-65B",
}
ROOM_65B = 48 * GB  # the paper's single card; 48 GiB would be 7 % more
WITHIN = 0.05  # of the prediction, the goal for measured bytes
PARTS = ("memory", "paged", "speed", "tests")
Details = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Setting:
    """Where and how large. The defaults are the GPU's; `tiny` has the dry run's."""

    device: str = "cuda"
    scale: int = 1  # widths are divided by it, depths by a quarter of it
    rank: int = 64
    sequences: tuple[int, ...] = (512, 2048)
    paged_rank: int = 256
    matmul: int = 8192
    batch_size: int = 16
    steps: int = 10


class Job(NamedTuple):
    """A piece of work with its own try: the part it belongs to, its name there, and what finds its
    row.
    """

    part: str
    name: str
    run: Callable[[], dict[str, Any]]


def tiny() -> Setting:
    """The dry run: the same work on a CPU in seconds."""
    return Setting("cpu", 64, 4, (16, 64), 8, 128, 2, 3)


# -------------------------------------------------------------------------------------- the command
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which parts, on what, and for how long at most."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="on a CPU, with tiny shapes: seconds, and numbers of no interest",
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="only these (default: all)"
    )
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=SHAPES,
        default=list(SHAPES),
        help="models to measure (default: all)",
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="turns of each recipe in the part speed (default 2)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=9.0,
        help="no new piece of work begins after these (default 9)",
    )


def measure(args: argparse.Namespace) -> Outcome:
    """Do the jobs of the chosen parts. LabKitError where there is no GPU and no dry run was asked
    for.
    """
    import torch

    from bench.gpu_memory import warm_up

    until = time.monotonic() + 60 * args.minutes
    setting = tiny() if args.dry_run else Setting()
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise LabKitError(
            "torch sees no CUDA GPU here. Try it out with --dry-run, or run it where there is a "
            "GPU."
        )
    warm_up(setting.device)
    details: Details = {}
    with warnings.catch_warnings():
        # of libraries about each other; a failure is told all the same
        warnings.simplefilter("ignore")
        for job, problem in done(
            jobs_of(setting, args.parts, args.shapes, args.rounds, until), details, until
        ):
            print(f"{job.part}, {job.name}: {problem or said(details[job.part][-1])}", flush=True)
            if args.json:
                write_text(
                    args.json,
                    json.dumps(record_of("gpu", outcome_of(setting, details)), indent=2) + "\n",
                )
    return outcome_of(setting, details)


def done(jobs: Iterable[Job], details: Details, until: float) -> Iterator[tuple[Job, str]]:
    """Run the jobs, each in its own try; put their rows into `details`; yield (job, what went wrong
    or "").
    """
    for job in jobs:
        began, problem = time.monotonic(), ""
        try:
            if began > until:
                raise TimeoutError("left out, the minutes are over")
            row = job.run()
        except Exception as error:  # one piece must not cost the others
            problem = f"{type(error).__name__}: " + (str(error).strip().splitlines() or [""])[0]
            row = {"error": problem}
        details.setdefault(job.part, []).append(
            {"name": job.name, **row, "took": round(time.monotonic() - began, 1)}
        )
        yield job, problem


def jobs_of(
    setting: Setting, parts: Iterable[str], shapes: Iterable[str], rounds: int, until: float
) -> list[Job]:
    """All pieces of work, the most wanted first; recipes take turns.

    Not the 1B in float32: torch has no fused attention on a GPU for float32 where queries share
    keys.
    """
    from bench.gpu_memory import TYPES, memory_row, paged_row
    from bench.gpu_speed import RECIPES, matmul_row, speed_row

    fields, device = {shape: fields_of(shape, setting.scale) for shape in SHAPES}, setting.device
    jobs = [
        Job(
            "memory",
            f"{shape} {types}",
            partial(memory_row, fields[shape], device, setting.rank, types, setting.sequences),
        )
        for types in TYPES
        for shape in shapes
        if (shape, types) != ("1B", "fp32")
    ]
    jobs += [
        Job(
            "paged",
            "1B",
            partial(paged_row, fields["1B"], device, setting.paged_rank, setting.sequences[0]),
        ),
        Job("speed", "matmul", partial(matmul_row, setting.matmul, device)),
    ]
    jobs += [
        Job(
            "speed",
            name,
            partial(
                speed_row,
                name,
                fields["7B"],
                device,
                setting.rank,
                setting.batch_size,
                setting.steps,
            ),
        )
        for _ in range(rounds)
        for name in RECIPES
    ]
    jobs.append(Job("tests", "marked gpu", partial(tests_row, ROOT / "tests", until)))
    return [job for job in jobs if job.part in parts]


def fields_of(shape: str, scale: int) -> dict[str, Any]:
    """A model's configuration; with a scale above 1 a small one of like proportions, for the dry
    run.
    """
    from lab_utils.memory.report import known_models

    fields = known_models()[SHAPES[shape]]
    if scale == 1:
        return fields
    narrow = {name: fields[name] // scale for name in ("hidden_size", "intermediate_size")}
    return {
        **fields,
        **narrow,
        "num_hidden_layers": 4 * fields["num_hidden_layers"] // scale,
        "vocab_size": 2048,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }


def tests_row(folder: Path, until: float) -> dict[str, Any]:
    """pytest's counts for the tests marked gpu below a folder. Raises TimeoutExpired when the time
    is over.

    Only files that speak of the marker are collected: the others' imports are not needed here.
    """
    files = [
        str(path)
        for path in sorted(folder.rglob("test_*.py"))
        if "mark.gpu" in path.read_text(encoding="utf-8")
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "--tb=line",
        *files,
    ]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=max(until - time.monotonic(), 1)
    )
    last = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ran.stderr.strip()[-200:]
    counts = {
        word: int(number)
        for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)
    }
    return {
        "passed": counts.get("passed", 0),
        "failed": counts.get("failed", 0) + counts.get("error", 0),
        "skipped": counts.get("skipped", 0),
        "said": last.strip("= "),
        "which failed": re.findall(r"^(?:FAILED|ERROR) (.*)", ran.stdout, re.MULTILINE),
    }


# ----------------------------------------------------------------------------------- what was found
def said(row: dict[str, Any]) -> str:
    """A row in a line, for a person who waits."""
    if "steps" in row:
        ratios = ", ".join(
            f"{step['sequence']} tokens {step['measured'] / GB:.3g} GB, {step['ratio']:.3f} of "
            "what was predicted"
            for step in row["steps"]
        )
        return f"{ratios}; {row['took']:.0f} s"
    short = {
        name: f"{value:.4g}" if isinstance(value, float) else value
        for name, value in row.items()
        if not isinstance(value, (dict, list)) and name != "name"
    }
    return ", ".join(f"{name} {value}" for name, value in short.items())


def outcome_of(setting: Setting, details: Details) -> Outcome:
    """Numbers, a table for each part and the goals missed, of what is there so far."""
    parts = [
        summary(rows)
        for summary, rows in (
            (memory_outcome, details.get("memory")),
            (paged_outcome, details.get("paged")),
            (speed_outcome, details.get("speed")),
            (tests_outcome, details.get("tests")),
        )
        if rows
    ]
    errors = [
        f"{part}, {row['name']}: {row['error']}"
        for part, rows in details.items()
        for row in rows
        if "error" in row
    ]
    goals = (
        [problem for part in parts for problem in part.problems] if setting.device == "cuda" else []
    )
    head = (
        "A dry run on a CPU with tiny shapes: it shows that the script works, and nothing else.\n"
        * (setting.device == "cpu")
    )
    extra = {"dry run": setting.device == "cpu", "room for 65B": ROOM_65B, **details}
    return Outcome(
        [m for part in parts for m in part.measures],
        head + "\n\n".join(part.text for part in parts),
        errors + goals,
        extra,
    )


def memory_outcome(rows: list[dict[str, Any]]) -> Outcome:
    """Peak bytes of loading and of a step, measured and predicted; a problem beyond the goals."""
    lines = [f"{'peak memory, GB (GiB)':<24}{'measured':>17}{'predicted':>11}{'ratio':>8}"]
    measures, problems = [], []
    for row in rows:
        if "error" in row:
            continue
        for when, found in [
            ("load", row["load"]),
            *((f"{step['sequence']} tokens", step) for step in row["steps"]),
        ]:
            name, size = f"{row['name']}, {when}", found["measured"]
            measured = f"{size / GB:.3f} ({size / GIB:.3f})"
            predicted = f"{found['predicted'] / GB:>11.3f}{found['ratio']:>8.3f}"
            lines.append(f"{name:<24}{measured:>17}{predicted}")
            measures += [
                Measure(f"{name}, peak", size / GB, "GB", "lower"),
                Measure(f"{name}, ratio", found["ratio"], "ratio"),
            ]
            if abs(found["ratio"] - 1) > WITHIN:
                problems.append(
                    f"{name}: measured is {found['ratio']:.3f} of what the ledger predicts"
                )
            if row["name"] == "65B bf16" and size > ROOM_65B:
                problems.append(f"{name}: {size / GB:.1f} GB, above {ROOM_65B / GB:.0f}")
    return Outcome(measures, "\n".join(lines), problems)


def paged_outcome(rows: list[dict[str, Any]]) -> Outcome:
    """What fits under the cap, and the cost of managed memory."""
    row = rows[0]
    if "error" in row:
        return Outcome([], "")
    fits = {name: result["fits"] for name, result in row["under cap"].items()}
    lines = [f"torch's memory capped at {row['cap'] / GB:.3f} GB, rank {row['rank']}"]
    lines += [
        f"{name:<16}{result['seconds']:.3f} s a step without the cap; under it: "
        + ("runs" if fits[name] else "out of memory")
        for name, result in row["without cap"].items()
    ]
    wanted = {"AdamW32bit": False, "PagedAdamW32bit": True}
    problems = (
        [] if fits == wanted else [f"paged: under the cap {fits} fit, and {wanted} was expected"]
    )
    return Outcome(
        [Measure("paged, seconds more a step", row["seconds more"], "s")],
        "\n".join(lines),
        problems,
    )


def speed_outcome(rows: list[dict[str, Any]]) -> Outcome:
    """Medians over the turns, and the share of the matrix peak measured in the same run."""
    best = next((row["flops"] for row in rows if row["name"] == "matmul" and "flops" in row), None)
    lines = [
        f"peak of a bfloat16 product: {best / 1e12:.3g} TFLOP/s"
        if best
        else "the peak of a product is not known"
    ]
    measures = [Measure("matmul", best / 1e12, "TFLOP/s", "higher")] if best else []
    turns: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        turns.setdefault(row["name"], []).append(row)
    for name in [name for name in turns if name != "matmul"]:
        speeds = [(row["tokens per second"], row["flops"]) for row in turns[name] if "flops" in row]
        if not speeds:
            lines.append(f"{name}: {turns[name][0].get('left out', 'failed')}")
            continue
        tokens, flops = (statistics.median(values) for values in zip(*speeds))
        share = f", {flops / best:.1%} of the peak" if best else ""
        lines.append(f"{name:<18}{tokens:>8.0f} tokens/s{share}, {len(speeds)} turns")
        measures.append(Measure(f"7B {name}", tokens, "tokens/s", "higher"))
    return Outcome(measures, "\n".join(lines))


def tests_outcome(rows: list[dict[str, Any]]) -> Outcome:
    """Counts of the tests marked gpu; a problem where one failed."""
    row = rows[0]
    if "error" in row:
        return Outcome([], "")
    measures = [
        Measure(f"gpu tests {name}", row[name], "tests", better)
        for name, better in (("passed", "higher"), ("failed", "lower"), ("skipped", ""))
    ]
    wrong = row["failed"] or not row["passed"]
    return Outcome(
        measures,
        f"tests marked gpu: {row['said']}",
        [f"tests marked gpu: {row['said']}"] * bool(wrong),
    )
