"""Says whether this machine is ready for the labs: one line for each finding, with what to do about
it.

Each check is a pure function of what was found, so that it is tested without the fault it looks
for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab_utils import PYTHON_REQUIRED
from lab_utils.files import GIGABYTE, KEY_NAMES, ROOT, SMOLLM2
from lab_utils.start import requirements
from lab_utils.start.hardware import Hardware, detect
from lab_utils.start.installing import DISK_NEEDED_GB
from lab_utils.start.lab import measured

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_REMEDY = (
    "apt-get install chromium (Debian, as root), or: python -m playwright install chromium"
)
SET_UP = "`python3 -m lab_utils run` (or test) sets it up in .venv"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `level`: OK, WARN (the labs run, with less) or FAIL (they do not)."""

    level: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{f'[{self.level}]':<6} {self.what}" + (
            f"\n         -> {self.remedy}" if self.remedy else ""
        )


def check_python(version: tuple[int, ...]) -> Finding:
    """Whether this Python is new enough."""
    what, needed = "Python " + ".".join(map(str, version[:3])), ".".join(map(str, PYTHON_REQUIRED))
    if tuple(version[:2]) >= PYTHON_REQUIRED:
        return Finding("OK", what)
    return Finding(
        "FAIL",
        f"{what}: the kit needs {needed} or newer",
        "install it from https://www.python.org/downloads/",
    )


def check_package(tested: str, loose: str, version: str | None) -> Finding:
    """Whether a package is there (FAIL if not), at least as new as `loose` (FAIL) and in the
    `tested` range (WARN).
    """
    name, bounds = requirements.parse_requirement(tested)
    if version is None:
        return Finding("FAIL", f"{name} is not installed (tested: {tested})", SET_UP)
    if requirements.satisfies(version, bounds):
        return Finding("OK", f"{name} {version}")
    usable = requirements.satisfies(version, requirements.parse_requirement(loose)[1])
    level = "WARN" if usable else "FAIL"
    return Finding(level, f"{name} {version} is outside the tested range {tested}", SET_UP)


def check_tool(tested: str, version: str | None) -> Finding:
    """Whether a package that only the tests need is there: no lab misses it."""
    finding = check_package(tested, tested, version)
    if finding.level == "OK":
        return finding
    return Finding("WARN", finding.what, "`python3 -m lab_utils test` installs it")


def check_hardware(hardware: Hardware | None) -> list[Finding]:
    """Device, number format and why, and what lab 06 took where it was measured; None if the
    packages that look at the machine are absent.
    """
    if hardware is None:
        return [Finding("WARN", "device unknown: psutil, and torch for a GPU, look at it", SET_UP)]
    took, tier = measured("06", hardware.runs), f"tier {hardware.tier}: lab 06"
    return [
        Finding("OK", f"device {hardware.device}: {hardware.name}, {hardware.n_threads} threads"),
        Finding("OK", f"compute dtype {hardware.compute_dtype}: {hardware.dtype_reason}"),
        Finding("OK", f"{tier} takes about {took.minutes} min and {took.gigabytes:g} GB")
        if took
        else Finding("OK", f"{tier} has not been timed there yet"),
        check_memory(hardware.memory_bytes, took.gigabytes if took else 0),
    ]


def check_memory(total_bytes: int, needed_gb: float) -> Finding:
    """Whether the device's memory holds lab 06, with half as much again for everything else."""
    total = total_bytes / GIGABYTE
    if total >= 1.5 * needed_gb:
        return Finding("OK", f"memory {total:.1f} GB")
    return Finding(
        "WARN",
        f"memory {total:.1f} GB; {1.5 * needed_gb:.1f} GB would be comfortable",
        "close other programs",
    )


def check_disk(free_bytes: int) -> Finding:
    """Room on the disk: under 1 GB nothing works, under DISK_NEEDED_GB the set-up does not."""
    free = free_bytes / GIGABYTE
    if free >= DISK_NEEDED_GB:
        return Finding("OK", f"disk {free:.0f} GB free")
    return Finding(
        "FAIL" if free < 1 else "WARN",
        f"disk {free:.1f} GB free; a set-up needs {DISK_NEEDED_GB} GB",
        "free some space, or copy the kit to a larger disk",
    )


def check_writable(folder: Path) -> Finding:
    """Whether results can be written below the folder."""
    if os.access(folder, os.W_OK):
        return Finding("OK", f"{folder} is writable")
    return Finding("FAIL", f"{folder} cannot be written", "copy the kit into a folder of your own")


def check_numpy(loaded: str | None, installed: str | None) -> Finding:
    """Whether the numpy in this process is the one on disk; in Colab pip can replace it under a
    running kernel.
    """
    if loaded in (None, installed):
        return Finding("OK", "no stale numpy in this process")
    return Finding(
        "FAIL",
        f"numpy {loaded} is loaded, but {installed} is installed",
        "restart the runtime (kernel)",
    )


def check_real_model(folder: Path) -> Finding:
    """Whether the real model of lab 09 is there, and what the lab will take."""
    took = measured("09", "smollm2 on cpu")
    takes = (
        f"lab 09 takes about {took.minutes} min and {took.gigabytes:g} GB on a CPU"
        if took
        else "lab 09 has not been timed yet"
    )
    if (folder / "README.md").is_file():  # its card, written last
        return Finding("OK", f"SmolLM2 is there: {takes}")
    return Finding(
        "WARN",
        f"SmolLM2 is not there, which lab 09 alone needs; {takes}",
        "python3 -m lab_utils get smollm2 (loads 92 MB, once)",
    )


def check_key(environ: Mapping[str, str]) -> Finding:
    """Whether a Gemini key is set; neither its value nor its length is ever shown."""
    present = [name for name in KEY_NAMES if environ.get(name, "").strip()]
    if present:
        return Finding("OK", f"a Gemini key is set ({present[0]})")
    return Finding(
        "WARN",
        "no Gemini key: the labs show recorded replies, and skip what asks Gemini itself",
        f"set {KEY_NAMES[0]} for live ones",
    )


def check_chromium(path: str | None) -> Finding:
    """Whether the browser tests can run; no lab needs the browser."""
    if path:
        return Finding("OK", f"browser {path}")
    return Finding("WARN", "no Chromium for the browser tests", CHROMIUM_REMEDY)


def check_packages() -> list[Finding]:
    """A finding for each package of requirements.txt."""
    loose = {
        requirements.parse_requirement(line)[0]: line for line in requirements.loose_requirements()
    }
    for_labs = requirements.requirement_lines(up_to=requirements.OPENING)
    findings = []
    for line in requirements.requirement_lines():
        name = requirements.parse_requirement(line)[0]
        version = requirements.installed_version(name)
        known = check_package(line, loose.get(name, line), version)
        findings.append(known if line in for_labs else check_tool(line, version))
    return findings


def examine() -> list[Finding]:
    """All findings about this process, its interpreter and its machine."""
    loaded = getattr(sys.modules.get("numpy"), "__version__", None)
    return [
        check_python(sys.version_info),
        *check_packages(),
        *check_hardware(_hardware()),
        check_disk(shutil.disk_usage(ROOT).free),
        check_writable(ROOT),
        check_numpy(loaded, requirements.installed_version("numpy")),
        check_real_model(SMOLLM2),
        check_key(os.environ),
        check_chromium(find_chromium()),
    ]


def _hardware() -> Hardware | None:
    try:
        return detect()
    except ImportError:
        return None


def find_chromium() -> str | None:
    """The path of a Chromium for the browser tests: the system's, else the one that playwright
    installed.
    """
    system = next(filter(None, map(shutil.which, BROWSERS)), None)
    return system or _playwright_chromium()


def _playwright_chromium() -> str | None:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None
    try:
        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Error:  # inside a notebook, whose event loop this interface of playwright does not share
        return None
    return path if Path(path).exists() else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes no arguments."""


def main(args: argparse.Namespace | None = None) -> int:
    """Prints the findings. Returns 1 if one of them is a FAIL."""
    findings = examine()
    print(*findings, sep="\n")
    failed = sum(finding.level == "FAIL" for finding in findings)
    print(f"\n{failed} to repair." if failed else "\nReady.")
    return int(failed > 0)
