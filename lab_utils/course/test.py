"""The `test` command: the browser and the sandbox that some tests need, then pytest over labs and
tests.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab_utils.files import ROOT
from lab_utils.start.doctor import CHROMIUM_REMEDY, find_chromium


def can_apt_install() -> bool:
    """Whether apt-get is here and may be used without asking for a password."""
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def sandbox_problem() -> str:
    """What is missing for the grader's sandbox, or ""."""
    from lab_utils.course.grading.sandbox import problem

    return problem()


def install_chromium() -> None:
    """Installs Debian's chromium."""
    apt_install(["chromium"], "the browser tests (a minute or two)")


def install_bubblewrap() -> None:
    """Installs Debian's bubblewrap, and libseccomp, which nearly every Debian has."""
    apt_install(["bubblewrap", "libseccomp2"], "the grader's tests")


def apt_install(packages: list[str], what_for: str) -> None:
    """Installs packages, showing apt-get's warnings. A failure is not raised: other tests can still
    run.
    """
    print(f"Installing {', '.join(packages)} with apt-get for {what_for} ...", flush=True)
    environ = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        if subprocess.call(["apt-get", "-q", "-o=Dpkg::Use-Pty=0", *command], env=environ):
            return


def pytest_arguments(passed_on: list[str], root: Path = ROOT) -> list[str]:
    """pytest's arguments: notebooks are compared with their stored outputs; paths given replace
    `labs tests`.

    All tests together go to several processes, a file or a notebook to one of them.
    """
    folders = [
        name
        for name in ("labs", "tests")
        if any((root / name).glob("*.ipynb" if name == "labs" else "*.py"))
    ]
    given = any(
        (root / argument.split("::")[0]).exists()
        for argument in passed_on
        if not argument.startswith("-")
    )
    everything = ["-n", str(n_workers()), "--dist", "loadfile", *folders]
    return [
        "-m",
        "not gpu",
        "--nbval",
        "--nbval-current-env",
        *([] if given else everything),
        *passed_on,
    ]


def n_workers() -> int:
    """Processes that test side by side: one for each core, at most 4, since each may hold a model
    and a browser.
    """
    return min(os.cpu_count() or 1, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is pytest's."""
    parser.set_defaults(passed_on=[])


def main(args: argparse.Namespace) -> int:
    """Installs Chromium and bubblewrap where it can, and runs pytest. Returns pytest's exit code."""
    if not find_chromium() and can_apt_install():
        install_chromium()
    if not find_chromium():
        print(
            f"NO CHROMIUM: THE BROWSER TESTS ARE LEFT OUT. To have them: {CHROMIUM_REMEDY}",
            flush=True,
        )
    if sandbox_problem() and can_apt_install():
        install_bubblewrap()
    if problem := sandbox_problem():
        print(f"NO SANDBOX: THE TESTS OF HOSTILE SUBMISSIONS ARE LEFT OUT. {problem}", flush=True)
    environ = {"OMP_NUM_THREADS": str((os.cpu_count() or 1) // n_workers()), **os.environ}
    return subprocess.call(
        [sys.executable, "-m", "pytest", *pytest_arguments(args.passed_on)], cwd=ROOT, env=environ
    )
