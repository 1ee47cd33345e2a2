"""The `test` command: the browser and the sandbox that some tests need, then pytest over labs and
tests.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from lab_utils.files import ROOT
from lab_utils.start.doctor import CHROMIUM_REMEDY, find_chromium

REAL_MODEL_LAB = "labs/09_*"  # it takes minutes and a model that `get` brings: `run 09` runs it
NBVAL = ["--nbval", "--nbval-current-env"]
QUICK = "not gpu and not browser and not sandbox and not slow"  # for every edit


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


def pytest_arguments(passed_on: list[str], quick: bool = False, browser: bool = True) -> list[str]:
    """pytest's arguments. Paths given replace all tests.

    All tests together go to several processes, a file to one of them. Each lab runs once: in the
    browser, where its outputs are compared too, or by nbval where there is no browser. `quick`
    leaves out browsers, training and all that takes more than a moment.
    """
    options = ["-m", QUICK if quick else "not gpu"]
    words = [word for word in passed_on if not word.startswith("-")]
    if any((ROOT / word.split("::")[0]).exists() for word in words):
        return [*options, *NBVAL, *passed_on]
    shared_out = ["-n", str(n_workers()), "--dist", "loadfile", "--no-loadscope-reorder"]
    if browser or quick:  # nbval takes seconds to load, for no notebook
        folders = ["-p", "no:nbval", "tests"]
    else:
        folders = [*NBVAL, "labs", "tests", f"--ignore-glob={REAL_MODEL_LAB}"]
    return [*options, *shared_out, *folders, *passed_on]


def n_workers() -> int:
    """Processes that test side by side: one for each core, at most 4, since each may hold a model
    and a browser.
    """
    return min(os.cpu_count() or 1, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything else is pytest's."""
    parser.set_defaults(passed_on=[])
    parser.add_argument("--quick", action="store_true", help="without browsers and training")
    parser.add_argument(
        "--newest",
        action="store_true",
        help="with the newest versions in requirements.txt's ranges",
    )


def main(args: argparse.Namespace) -> int:
    """Installs Chromium and bubblewrap where it can, runs pytest, and returns its exit code."""
    if not args.quick:
        install_what_is_missing()
    arguments = pytest_arguments(args.passed_on, args.quick, browser=find_chromium() is not None)
    environ = {"OMP_NUM_THREADS": str((os.cpu_count() or 1) // n_workers()), **os.environ}
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environ)


def install_what_is_missing() -> None:
    """Chromium and bubblewrap, where apt-get may be used; else says which tests are left out."""
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
