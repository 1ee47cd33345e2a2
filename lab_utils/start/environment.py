"""Sets up the environment that the labs run in. Standard library only: nothing else is there yet.

An interpreter that already satisfies requirements.txt (conda, a container) is used as it is, and
Colab's gets what it lacks. Otherwise a `.venv` is made beside requirements.txt and filled by pip
with the versions of requirements.lock, and the command goes on in it. A stamp file in `.venv`,
written last, says for which lists the install was finished, so that a killed one is noticed and
done again.

Children also get a few variables, which must be there before torch loads. OMP_WAIT_POLICY matters
most: by default OpenMP's idle threads spin, and when another process holds a core that made a QLoRA
step ten times slower.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import NoReturn, TextIO

from lab_utils import PYTHON_REQUIRED
from lab_utils.files import GIGABYTE, ROOT, LabKitError, write_text
from lab_utils.start import requirements
from lab_utils.start.installing import DISK_NEEDED_GB, install, progress, run_logged
from lab_utils.start.requirements import (
    OPENING,
    SECTIONS,
    TESTING,
    colab_requirements,
    installed_version,
    loose_requirements,
    parse_requirement,
    pins,
    requirement_lines,
    unmet,
)

VENV = ROOT / ".venv"
VENV_NEWEST = ROOT / ".venv-newest"
STAMP, UNFINISHED = "lab-kit-stamp.txt", "unfinished"  # a file in .venv, and its text meanwhile
VARIABLES = {
    "OMP_WAIT_POLICY": "PASSIVE",
    # oneDNN, which multiplies bfloat16 matrices, and torch's own layer above it keep a program for
    # each of the last 1024 shapes. With batches of ever other lengths that made 0.6 GB more within
    # 25 of lab 09's steps (torch 2.13; one limit alone hardly helped), and no step was faster.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "30",
    "LRU_CACHE_CAPACITY": "16",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUTF8": "1",
}
CHECK = "import sys; from lab_utils.start.requirements import *; check_imports(sys.argv[1:])"


def set_variables(environ: MutableMapping[str, str] = os.environ) -> None:
    """Sets what children, and torch if not yet loaded, must find; keeps values set by hand. ROOT
    joins PYTHONPATH.
    """
    for name, value in VARIABLES.items():
        environ.setdefault(name, value)
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(ROOT) not in paths:  # notebooks run in labs/ and import lab_utils
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *paths])


# ------------------------------------------------------------------------ a notebook's interpreter
def missing_requirements() -> list[str]:
    """What a notebook has to `pip install` here: judged by pyproject's loose bounds, so Colab's own
    packages stay.
    """
    return unmet(loose_requirements())


def install_missing() -> None:
    """Installs with pip what a notebook's interpreter lacks. LabKitError says what to do where that
    fails.

    Where packages are absent, what is installed is pinned: a new package must not replace the numpy
    that a kernel has loaded. Where one is too old, nothing is pinned, since what it needs may be
    too old as well.
    """
    add_here(missing_requirements())


def add_here(missing: list[str]) -> None:
    """Installs these requirements into the running interpreter's own environment."""
    if not missing:
        return
    # it stays: a failure's message names the log in it
    folder = Path(tempfile.mkdtemp(prefix="lab-kit-"))
    too_old = any(installed_version(parse_requirement(line)[0]) for line in missing)
    (folder / "installed.txt").write_text("" if too_old else "\n".join(pins()), encoding="utf-8")
    arguments = ["--constraint", str(folder / "installed.txt"), *missing]
    log = folder / "install.log"
    install(arguments, sys.executable, log, progress(sys.stdout), own=False)
    importlib.invalidate_caches()
    if absent := unmet(missing):
        raise LabKitError(
            f"pip ended well, yet this Python does not find {', '.join(absent)}.\n"
            f"Restart the kernel and run the cell again. The whole log: {log}"
        )


def in_colab() -> bool:
    """Whether this interpreter is Colab's."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # there is no `google` at all
        return False


# ---------------------------------------------------------------------------------- the kit's .venv
def venv_python(venv: Path, windows: bool = os.name == "nt") -> Path:
    """The interpreter of a virtual environment."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def works(python: Path) -> bool:
    """Whether an interpreter starts and is new enough: the Python that an environment was made from
    may be gone.
    """
    code = f"import sys; sys.exit(sys.version_info < {PYTHON_REQUIRED})"
    try:
        return subprocess.run([python, "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def digest(venv: Path, section: str) -> str:
    """What a finished install leaves in its stamp: a hash of the lists and of the interpreter's
    name, which changes where another Python has taken its place (python3.11, python3.12).
    """
    lines = requirement_lines(up_to=section)
    lock = requirements.LOCK.read_text(encoding="utf-8") if requirements.LOCK.exists() else ""
    parts = [*lines, lock, venv_python(venv).resolve().name]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def state(venv: Path) -> str:
    """The stamp's text: a digest, UNFINISHED, or "" where the kit never installed."""
    stamp = venv / STAMP
    return stamp.read_text(encoding="utf-8") if stamp.exists() else ""


def is_ready(venv: Path, section: str) -> bool:
    """Whether the environment was completely installed for this section of requirements.txt, or a
    later one.
    """
    if not venv_python(venv).exists() or not requirements.REQUIREMENTS.exists():
        return False
    return state(venv) in [digest(venv, each) for each in SECTIONS[SECTIONS.index(section) :]]


def is_inside(venv: Path) -> bool:
    """Whether this interpreter is the environment's own."""
    return Path(sys.prefix).resolve() == venv.resolve()


def check_place(folder: Path, usage=shutil.disk_usage, probe=tempfile.TemporaryFile) -> None:
    """Raises LabKitError if files cannot be made in the folder or its disk has too little room."""
    try:
        probe(dir=folder).close()
    except OSError as error:
        raise LabKitError(
            f"{folder} cannot be written ({error.strerror}), and the environment belongs there.\n"
            "Copy the lab kit into a folder of your own, and give the command there."
        ) from None
    free = usage(folder).free / GIGABYTE
    if free < DISK_NEEDED_GB:
        raise LabKitError(
            f"{folder} has {free:.1f} GB free, and the set-up needs {DISK_NEEDED_GB} GB.\n"
            "Free some space, or copy the lab kit to a larger disk."
        )


def make_venv(venv: Path, terminal: TextIO) -> None:
    """Makes the environment, without packages, unless a working one is there. One of ours that a
    killed install left, or whose Python is gone, is made anew; anybody else's is kept.
    """
    working = works(venv_python(venv))
    if state(venv) and (not working or state(venv) == UNFINISHED):
        shutil.rmtree(venv)  # a killed pip may leave packages that only look installed
        working = False
    if working:
        return
    if venv_python(venv).is_symlink():
        raise LabKitError(
            f"The Python of {venv} is gone or too old, and this kit did not make it.\n"
            "Delete it or move it away, then give the same command again."
        )
    check_place(venv.parent)
    venv.mkdir(exist_ok=True)
    # this process may run in the very environment that was removed
    base = getattr(sys, "_base_executable", sys.executable)
    command = [base, "-m", "venv", "--without-pip", str(venv)]
    run_logged(command, venv / "install.log", progress(terminal))


def build(venv: Path, section: str, terminal: TextIO, newest: bool = False) -> None:
    """Makes or completes the environment with the packages of a section: in the versions of
    requirements.lock, or the newest ones in their ranges. Raises LabKitError.
    """
    log, lines = venv / "install.log", requirement_lines(up_to=section)
    terminal.write(f"Setting up {venv} (once, some minutes). Log: {log}\n")
    make_venv(venv, terminal)
    write_text(venv / STAMP, UNFINISHED)
    python, show = str(venv_python(venv)), progress(terminal)
    locked = ["--constraint", str(requirements.LOCK)] if requirements.LOCK.exists() else []
    install([*(["--upgrade"] if newest else locked), *lines], python, log, show, own=True)
    terminal.write("\nTrying every package (once) ...\n")
    terminal.flush()
    run_logged([python, "-c", CHECK, *lines], log, lambda line: None)
    write_text(venv / STAMP, digest(venv, section))


# ------------------------------------------------------------------------------------- the commands
def restart(python: Path, argv: list[str]) -> NoReturn:
    """Goes on with the same command in another interpreter."""
    command = [str(python), "-m", "lab_utils", *argv]
    sys.stdout.flush()
    if os.name == "nt":  # there execv returns to the shell at once
        raise SystemExit(subprocess.call(command))
    os.execv(command[0], command)


def ensure(argv: list[str], section: str = TESTING, newest: bool = False) -> None:
    """Returns if this interpreter has what the section needs; otherwise sets up .venv and restarts
    the command there.

    `newest` takes an environment of its own, with the newest versions in the ranges instead of the
    tested ones.
    """
    set_variables()
    if newest:
        if is_inside(VENV_NEWEST):
            return
        venv, ready = VENV_NEWEST, False
    elif not unmet(requirement_lines(up_to=section)):
        return
    elif in_colab():
        return add_here(unmet(colab_requirements(section)))
    else:  # inside .venv something is missing, whatever its stamp says
        venv, ready = VENV, is_ready(VENV, section) and not is_inside(VENV)
    if not ready:
        _build_or_explain(venv, section, newest)
    restart(venv_python(venv), argv)


def _build_or_explain(venv: Path, section: str, newest: bool) -> None:
    # what a student may want next, offline, is installed with it
    section = max(section, OPENING, key=SECTIONS.index)
    try:
        build(venv, section, sys.stdout, newest)
    except OSError as error:
        raise LabKitError(
            f"The set-up stopped at {error.filename or venv}: {error.strerror}.\n"
            f"Close what uses {venv.name}, or delete it, then give the same command again."
        ) from None


def enter_if_ready(argv: list[str]) -> None:
    """Restarts the command in a finished .venv where this interpreter lacks something; installs
    nothing.
    """
    set_variables()
    if not is_inside(VENV) and any(is_ready(VENV, section) for section in SECTIONS[2:]):
        if unmet(requirement_lines(up_to=OPENING)):
            restart(venv_python(VENV), argv)
