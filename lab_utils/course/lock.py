"""`python3 -m lab_utils lock`: writes the versions that were tested here to requirements.lock.

Other versions of Python, and other systems, cannot always have them (numpy 2.4 is not for Python
3.10). For each of them uv resolves requirements.txt anew, keeps the version from here where it can,
and takes only what has a wheel. A version that holds for some of them alone gets a marker.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab_utils.files import LabKitError, write_text
from lab_utils.start.requirements import LOCK, REQUIREMENTS, pins

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = {  # uv's name: the marker that tells it from the others
    "x86_64-manylinux_2_28": 'sys_platform == "linux" and platform_machine == "x86_64"',
    "aarch64-manylinux_2_28": 'sys_platform == "linux" and platform_machine == "aarch64"',
    "x86_64-pc-windows-msvc": 'sys_platform == "win32"',
    "aarch64-apple-darwin": 'sys_platform == "darwin"',
}
NO_WHEEL = ("rouge-score",)  # pure Python, and published as source alone
OLDEST_MACOS = "14.0"  # bitsandbytes has wheels from here on

Target = tuple[str, str]  # (Python's version, uv's name of the system)


def resolve(target: Target, tested: str, uv: str) -> dict[str, str]:
    """Name -> version for one Python on one system; `tested` are the lines to keep where possible.
    LabKitError says why there is no solution.
    """
    python, system = target
    only_wheels = ["--only-binary", ":all:", *(f"--no-binary={name}" for name in NO_WHEEL)]
    quiet = ["--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.txt")
        found.write_text(tested, encoding="utf-8")  # uv keeps what stands in its output file
        done = subprocess.run(
            [uv, "pip", "compile", str(REQUIREMENTS), f"--output-file={found}", *only_wheels]
            + [*quiet, f"--python-version={python}", f"--python-platform={system}"],
            env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS},
            capture_output=True,
            encoding="utf-8",
        )
        if done.returncode:
            raise LabKitError(f"Python {python} on {system}:\n{done.stderr}")
        lines = found.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines)


def merge(found: dict[Target, dict[str, str]]) -> list[str]:
    """The lines of the lock: `name==version` where one version is taken wherever the package is
    needed, else a line for each version with the marker of its targets.
    """
    lines = []
    for name in sorted({name for versions in found.values() for name in versions}):
        targets: dict[str, list[Target]] = {}
        for target, versions in found.items():
            if name in versions:
                targets.setdefault(versions[name], []).append(target)
        for version, where in sorted(targets.items()):
            others = [target for rest in targets.values() if rest is not where for target in rest]
            condition = marker(where, others)
            lines.append(f"{name}=={version}" + (condition and f" ; {condition}"))
    return lines


def marker(where: list[Target], others: list[Target]) -> str:
    """A condition that holds for the targets in `where` and for none of the `others`: by Python
    alone if it can be, else by system, else by both. "" where there are no others.
    """
    if not others:
        return ""
    pythons, systems = ({target[i] for target in where} for i in (0, 1))
    if not pythons & {python for python, _ in others}:
        return by_python(pythons, {python for python, _ in others})
    if not systems & {system for _, system in others}:
        return " or ".join(SYSTEMS[system] for system in sorted(systems))
    return " or ".join(
        f'python_version == "{python}" and {SYSTEMS[system]}' for python, system in where
    )


def by_python(pythons: set[str], others: set[str]) -> str:
    """Bounds of Python's version where they tell these from the others, else a list."""
    order = PYTHONS.index
    low, high = min(pythons, key=order), max(pythons, key=order)
    if all(order(other) > order(high) for other in others):
        return f'python_version <= "{high}"'
    if all(order(other) < order(low) for other in others):
        return f'python_version >= "{low}"'
    return " or ".join(f'python_version == "{each}"' for each in sorted(pythons, key=order))


def header() -> str:
    """What the file is, and where it comes from."""
    return (
        f"# The versions that the tests passed with, on {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}; "
        f"{datetime.date.today().isoformat()}.\n"
        f"# For Python {', '.join(PYTHONS)} on Linux (x86-64, ARM), Windows (x86-64) and macOS "
        f"{OLDEST_MACOS.split('.')[0]} (ARM) they\n"
        "# were resolved, not tried: all have wheels there, but for rouge-score, which pip builds."
        "\n# Written by `python3 -m lab_utils lock`; pip takes it as constraints (-c).\n"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes no arguments."""


def main(args: argparse.Namespace | None = None) -> int:
    """Writes the lock. LabKitError where uv is missing or a target has no solution."""
    if not (uv := shutil.which("uv")):
        raise LabKitError("uv resolves for other systems, and there is none: pip install uv")
    # what says which build it is (+cpu) has no meaning elsewhere
    tested = "".join(line.split("+")[0] + "\n" for line in pins())
    found = {}
    for target in [(python, system) for python in PYTHONS for system in SYSTEMS]:
        found[target] = resolve(target, tested, uv)
        print("Python {} on {}: {} packages".format(*target, len(found[target])), flush=True)
    write_text(LOCK, header() + "\n".join(merge(found)) + "\n")
    return 0
