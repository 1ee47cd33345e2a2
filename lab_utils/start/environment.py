"""Sets up the environment that the labs run in. Standard library only: nothing else is there yet.

An interpreter that already satisfies requirements.txt (Colab, conda, a container) is used as it is.
Otherwise a `.venv` is made beside requirements.txt and filled by pip, and the command goes on in
it. A stamp file in `.venv`, written last, says for which requirements.txt the install was finished,
so that a killed one is noticed and done again.

Children also get a few variables, which must be there before torch loads. OMP_WAIT_POLICY matters
most: by default OpenMP's idle threads spin, and when another process holds a core that made a QLoRA
step ten times slower.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import operator
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import NoReturn, TextIO

from lab_utils.files import GIGABYTE, ROOT, LabKitError, write_text

REQUIREMENTS = ROOT / "requirements.txt"
PYPROJECT = ROOT / "pyproject.toml"
VENV = ROOT / ".venv"
DISK_NEEDED_GB = (
    6  # torch with its CUDA libraries takes most of it; the CPU build is content with half
)
# a file in .venv, and what it says until the install is done
STAMP, UNFINISHED = (
    "lab-kit-stamp.txt",
    "unfinished",
)
VARIABLES = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUTF8": "1",
}
COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
PLAIN_VERSION = (
    r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?(\+[a-z0-9]+(\.[a-z0-9]+)*)?"
)
FAILURES = (  # what the log of a failed install says, and what that means to a person
    (
        r"No space left on device|Errno 28",
        f"The disk is full; about {DISK_NEEDED_GB} GB are needed. Free some space, then give the "
        "same command again.",
    ),
    (
        r"ensurepip is not available|No module named '?(ensurepip|venv|pip)\b",
        "This Python cannot make environments. On Debian and Ubuntu: sudo apt-get install "
        "python3-venv\nThen give the same command again.",
    ),
    (
        r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|name "
        r"resolution|getaddrinfo|Connection refused",
        "The package index could not be reached, and not everything is installed yet. Connect to "
        "the network (or set\npip's proxy or index: `pip config`), then give the same command "
        "again. Once set up, the kit needs no network.",
    ),
    (
        r"Permission denied|Errno 13",
        "A file could not be written. Check who owns .venv, or delete it, then try again.",
    ),
)


def set_variables(environ: MutableMapping[str, str] = os.environ) -> None:
    """Sets what children, and torch if not yet loaded, must find; keeps values set by hand. ROOT
    joins PYTHONPATH.
    """
    for name, value in VARIABLES.items():
        environ.setdefault(name, value)
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(ROOT) not in paths:  # notebooks run in labs/ and import lab_utils
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *paths])


def parse_requirement(line: str) -> tuple[str, list[tuple[str, str]]]:
    """`"torch>=2.6,<2.14"` -> `("torch", [(">=", "2.6"), ("<", "2.14")])`. ValueError on what is
    not of that form.
    """
    bound = r"\s*(>=|<=|==|!=|>|<)\s*([0-9.]+)\s*"
    found = re.fullmatch(rf"\s*([A-Za-z0-9][\w.-]*)((?:{bound},?)*)", line)
    if not found:
        raise ValueError(f"expected a name and bounds such as torch>=2.6,<2.14, got {line!r}")
    return found[1], re.findall(bound, found[2])


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version without trailing zeros: "2.13.0+cpu" -> (2, 13). Pre-releases count
    as their release.
    """
    numbers = [int(part) for part in re.match(r"[0-9.]*", version)[0].split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def satisfies(version: str, bounds: Iterable[tuple[str, str]]) -> bool:
    """Whether a version lies in all bounds, comparing numbers only: "2.10" is newer than "2.9"."""
    return all(COMPARISONS[sign](release(version), release(limit)) for sign, limit in bounds)


def requirement_lines(path: Path = REQUIREMENTS) -> list[str]:
    """The lines of a requirements file, without comments. LabKitError if there is no such file."""
    if not path.exists():
        raise LabKitError(
            f"{path} is missing. Run the command in a complete copy (git clone) of the lab kit."
        )
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def loose_requirements(path: Path = PYPROJECT) -> list[str]:
    """The run-time packages of pyproject.toml with their lower bounds, read without tomllib (new in
    Python 3.11).
    """
    array = re.search(
        r"^dependencies = (\[.*?^\])", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return ast.literal_eval(array[1])  # a TOML array of plain strings is a Python list


def installed_version(name: str) -> str | None:
    """The version installed for this interpreter, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def unmet(
    lines: Iterable[str], installed: Callable[[str], str | None] = installed_version
) -> list[str]:
    """Those requirement lines whose package is absent or out of its range."""

    def met(line: str) -> bool:
        name, bounds = parse_requirement(line)
        version = installed(name)
        return version is not None and satisfies(version, bounds)

    return [line for line in lines if not met(line)]


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
    missing = missing_requirements()
    if not missing:
        return
    # it stays: a failure's message names the log in it
    folder = Path(tempfile.mkdtemp(prefix="lab-kit-"))
    too_old = any(installed_version(parse_requirement(line)[0]) for line in missing)
    (folder / "installed.txt").write_text("" if too_old else "\n".join(pins()), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "--constraint",
        str(folder / "installed.txt"),
        *missing,
    ]
    run_logged(command, folder / "install.log", progress(sys.stdout))


def pins() -> list[str]:
    """`name==version` for all that this interpreter finds. Left out: what has no version that pip
    can read.
    """
    versions = {}
    for found in importlib.metadata.distributions():
        if found.name and re.fullmatch(PLAIN_VERSION, found.version or ""):
            versions.setdefault(found.name, found.version)  # the first one is what an import takes
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def venv_python(venv: Path, windows: bool = os.name == "nt") -> Path:
    """The interpreter of a virtual environment."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def digest(requirements: Path) -> str:
    """The hash of a requirements file that a finished install leaves in its stamp."""
    return hashlib.sha256(requirements.read_bytes()).hexdigest()


def state(venv: Path) -> str:
    """The stamp's text: a requirements file's digest, UNFINISHED, or "" where the kit never
    installed.
    """
    stamp = venv / STAMP
    return stamp.read_text(encoding="utf-8") if stamp.exists() else ""


def is_ready(venv: Path, requirements: Path) -> bool:
    """Whether the environment was completely installed for this very requirements file."""
    return (
        venv_python(venv).exists() and requirements.exists() and state(venv) == digest(requirements)
    )


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


def progress(terminal: TextIO) -> Callable[[str], None]:
    """A function that shows a line of pip's output: on one line of a terminal, else a line for each
    package.
    """

    def show(line: str) -> None:
        words = line.strip()
        if terminal.isatty():
            width = shutil.get_terminal_size().columns - 1
            terminal.write("\r" + words[:width].ljust(width))
        elif words.startswith(("Collecting ", "Downloading ", "Installing ", "Successfully ")):
            terminal.write(words[:110] + "\n")
        terminal.flush()

    return show


def run_logged(command: list[str], log: Path, show: Callable[[str], None]) -> None:
    """Runs a command, adding all it says to the log. Raises LabKitError that explains a failure."""
    said = []
    with (
        open(log, "a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        for line in process.stdout:
            file.write(line)
            said.append(line)
            show(line)
    if process.returncode:
        raise LabKitError(explain_failure("".join(said), log))


def explain_failure(said: str, log: Path) -> str:
    """What a failed install means and what to do, from the words it left."""
    meaning = next((meaning for pattern, meaning in FAILURES if re.search(pattern, said)), "")
    lines = said.splitlines()
    errors = [line for line in lines if "error" in line.lower()] or lines
    return "\n".join(
        ["The set-up failed.", *([meaning] if meaning else errors[-3:]), f"The whole log: {log}"]
    )


def build(venv: Path, requirements: Path, terminal: TextIO) -> None:
    """Makes or completes the environment and installs the requirements in it. Raises LabKitError."""
    check_place(venv.parent)
    log = venv / "install.log"
    if state(venv) == UNFINISHED:  # a killed pip may leave packages that only look installed
        shutil.rmtree(venv)
    venv.mkdir(exist_ok=True)
    write_text(venv / STAMP, UNFINISHED)
    terminal.write(f"Setting up {venv} (once, some minutes). Log: {log}\n")
    show = progress(terminal)
    # this may be the very environment that was removed
    base = getattr(sys, "_base_executable", sys.executable)
    run_logged([base, "-m", "venv", str(venv)], log, show)
    run_logged(
        [
            str(venv_python(venv)),
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
            "-r",
            str(requirements),
        ],
        log,
        show,
    )
    terminal.write("\n")
    write_text(venv / STAMP, digest(requirements))


def restart(python: Path, argv: list[str]) -> NoReturn:
    """Goes on with the same command in another interpreter."""
    command = [str(python), "-m", "lab_utils", *argv]
    sys.stdout.flush()
    if os.name == "nt":  # there execv returns to the shell at once
        raise SystemExit(subprocess.call(command))
    os.execv(command[0], command)


def ensure(argv: list[str]) -> None:
    """Returns if this interpreter can do the job; otherwise sets up .venv and restarts the command
    there.
    """
    set_variables()
    ready = is_ready(VENV, REQUIREMENTS)
    if (ready and is_inside(VENV)) or not unmet(requirement_lines(REQUIREMENTS)):
        return
    if not ready:
        try:
            build(VENV, REQUIREMENTS, sys.stdout)
        except OSError as error:
            raise LabKitError(
                f"The set-up stopped at {error.filename or VENV}: {error.strerror}.\n"
                "Close what uses .venv, or delete it, then give the same command again."
            ) from None
    restart(venv_python(VENV), argv)


def enter_if_ready(argv: list[str]) -> None:
    """Restarts the command in a finished .venv where this interpreter lacks something; installs
    nothing.
    """
    set_variables()
    if (
        is_ready(VENV, REQUIREMENTS)
        and not is_inside(VENV)
        and unmet(requirement_lines(REQUIREMENTS))
    ):
        restart(venv_python(VENV), argv)
