"""The `test` command: the browser that some tests need, then pytest over labs and tests."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab_utils.environment import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_REMEDY = "apt-get install chromium (Debian, as root), or: python -m playwright install chromium"


def find_chromium() -> str | None:
    """The path of a Chromium for the browser tests: the system's, else the one that playwright installed."""
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


def can_apt_install() -> bool:
    """Whether apt-get is here and may be used without asking for a password."""
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_chromium() -> None:
    """Installs Debian's chromium, showing apt-get's warnings. A failure is not raised: other tests can still run."""
    print("Installing chromium for the browser tests (apt-get, a minute or two) ...", flush=True)
    environ = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        if subprocess.call(["apt-get", "-q", "-o=Dpkg::Use-Pty=0", *command], env=environ):
            return


def pytest_arguments(passed_on: list[str], root: Path = ROOT) -> list[str]:
    """pytest's arguments: notebooks are compared with their stored outputs; paths given replace `labs tests`."""
    folders = [name for name in ("labs", "tests") if any((root / name).glob("*.ipynb" if name == "labs" else "*.py"))]
    given = any((root / argument.split("::")[0]).exists() for argument in passed_on if not argument.startswith("-"))
    return ["-m", "not gpu", "--nbval", "--nbval-current-env", *([] if given else folders), *passed_on]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is pytest's."""
    parser.set_defaults(passed_on=[])


def main(args: argparse.Namespace) -> int:
    """Installs Chromium where it can, and runs pytest. Returns pytest's exit code."""
    if not find_chromium() and can_apt_install():
        install_chromium()
    if not find_chromium():
        print(f"NO CHROMIUM: THE BROWSER TESTS ARE LEFT OUT. To have them: {CHROMIUM_REMEDY}", flush=True)
    return subprocess.call([sys.executable, "-m", "pytest", *pytest_arguments(args.passed_on)], cwd=ROOT)
