"""`python3 -m lab_utils bench NAME`: measure on this machine, in one run; `bench --compare OLD
NEW`: against an earlier one.

Each benchmark is a module of this folder, listed in BENCHES, with `add_arguments(parser)` and
`measure(args)` -> `Outcome`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab_utils.files import LabKitError, write_text

BENCHES = {  # name: one line of help; the module has the same name
    "finetune": "fine-tuning on a CPU: our recipe against others', tokens per second and loss",
    "forgetting": "what a real model learns and forgets, over methods, rates, rehearsal, seeds",
    "gpu": "on a GPU: peak memory beside the ledger, a step's speed, the paged optimizer, the gpu "
    "tests",
    "grading": "seconds to grade a submission, against executing its notebook",
    "quantization": "block-wise NF4, ours against bitsandbytes'",
    "starts": "LoftQ's and PiSSA's starts against the usual one, at step 0 and after some steps",
    "widgets": "milliseconds from a key to the new picture, for every demo in JupyterLab",
}
TOLERANCE = 0.15  # medians of one machine, measured twice, were seen to differ by about 0.1
# whose versions a record names
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
)


@dataclass(frozen=True)
class Measure:
    """One number. `better` says in which direction: "lower", "higher", or "" for one that is only
    told.
    """

    name: str
    value: float
    unit: str
    better: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found: its numbers, the table that a person reads, and what went wrong
    (nothing: all is well).
    """

    measures: list[Measure]
    text: str
    problems: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


# -------------------------------------------------------------------------------------- the command
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` understands: a benchmark with its own options, or two records to compare."""
    parser.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("OLD", "NEW"),
        help="two records written with --json",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="SHARE",
        help="how much worse than OLD is still as good (default %(default)s)",
    )
    names = parser.add_subparsers(dest="name", metavar="NAME")
    for name, summary in BENCHES.items():
        bench = names.add_parser(name, help=summary, description=summary)
        importlib.import_module(f"bench.{name}").add_arguments(bench)
        bench.add_argument(
            "--json", type=Path, metavar="FILE", help="write the numbers and the machine there"
        )


def main(args: argparse.Namespace) -> int:
    """Run one benchmark, or compare two records. Returns 1 where something is wrong or worse."""
    if args.compare:
        text, worse = compare(*map(read_record, args.compare), args.tolerance)
        print(text)
        return int(bool(worse))
    if not args.name:
        raise LabKitError(
            "What should be measured? One of: " + ", ".join(BENCHES) + "; or --compare OLD NEW."
        )
    outcome = importlib.import_module(f"bench.{args.name}").measure(args)
    print(outcome.text)
    for problem in outcome.problems:
        print(f"PROBLEM: {problem}")
    if args.json:
        write_text(args.json, json.dumps(record_of(args.name, outcome), indent=2) + "\n")
    return int(bool(outcome.problems))


# ---------------------------------------------------------------------------------------- records
def record_of(name: str, outcome: Outcome) -> dict[str, Any]:
    """What --json writes: numbers and problems with the command, the date, the machine and the
    versions.
    """
    return {
        "bench": name,
        "command": shlex.join(["python3", "-m", "lab_utils", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "measures": [asdict(measure) for measure in outcome.measures],
        "problems": outcome.problems,
        **({"details": outcome.details} if outcome.details else {}),
    }


def machine() -> dict[str, Any]:
    """The hardware and the versions of what computes on it."""
    from importlib.metadata import version

    from lab_utils.start.hardware import detect

    found = detect()
    return {
        "device": found.device,
        "name": found.name,
        "cpu": cpu_name(),
        "n_cpus": os.cpu_count(),
        "n_threads": found.n_threads,
        "memory_bytes": found.memory_bytes,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def cpu_name() -> str:
    """The processor's name as Linux tells it, or what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def read_record(path: Path) -> dict[str, Any]:
    """A record as --json wrote it. LabKitError for a file that is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {
            **record,
            "measures": {row["name"]: Measure(**row) for row in record["measures"]},
            "bench": record["bench"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabKitError(
            f"{path} is no record of a benchmark ({error}): make one with bench NAME --json FILE."
        ) from None


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float
) -> tuple[str, list[str]]:
    """(a table, the measures that are worse than before by more than the tolerance or are missing).

    LabKitError for records of different benchmarks. Another machine is named: ratios can still be
    compared, seconds not.
    """
    if old["bench"] != new["bench"]:
        raise LabKitError(
            f"{old['bench']} and {new['bench']} are different benchmarks: compare two records of "
            "one."
        )
    lines, worse = [f"{'':<40}{'old':>12}{'new':>12}{'new/old':>10}"], []
    for name, before in old["measures"].items():
        after = new["measures"].get(name)
        if after is None:
            worse.append(name)
            lines.append(f"{name:<40}{before.value:>12.4g}{'missing':>12}")
            continue
        verdict = "worse" if is_worse(before, after, tolerance) else ""
        worse += [name] * bool(verdict)
        ratio = f"{after.value / before.value:>10.2f}" if before.value else f"{'-':>10}"
        values = f"{before.value:>12.4g}{after.value:>12.4g}{ratio}"
        lines.append(f"{name:<40}{values}  {before.unit} {verdict}".rstrip())
    differs = [
        key
        for key in old.get("machine", {})
        if old["machine"][key] != new.get("machine", {}).get(key)
    ]
    if differs:
        lines.append(
            "Not the same machine or versions ("
            + ", ".join(differs)
            + "): compare ratios, not seconds."
        )
    return "\n".join(lines), worse


def is_worse(before: Measure, after: Measure, tolerance: float) -> bool:
    """Whether a number went in its bad direction by more than the tolerance, a share of what it
    was.
    """
    change = (after.value - before.value) * {"lower": 1, "higher": -1}.get(before.better, 0)
    return change > tolerance * abs(before.value)
