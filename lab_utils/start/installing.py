"""Runs pip so that only this kit decides where packages go, and explains what went wrong. Standard
library only.

A person's own pip settings (`user = true`, PIP_TARGET, PIP_PREFIX, PIP_DRY_RUN and the like) would
send packages elsewhere or nowhere. Kept are the settings that say how packages are reached: index,
proxy, certificates.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TextIO

from lab_utils.files import GIGABYTE, LabKitError

DISK_NEEDED_GB = 10 if sys.platform == "linux" else 4
"""With torch's CUDA libraries, which Linux gets, the environment has 6.5 GB and their wheels, kept
until all is installed, 3; with the CPU build it has 2.5.
"""

REACH = frozenset(  # pip's settings that say how packages are reached
    "index-url pypi-url extra-index-url no-index find-links trusted-host proxy cert client-cert "
    "keyring-provider use-feature use-deprecated timeout default-timeout retries "
    "cache-dir no-cache-dir".split()
)
IN_PLACE = REACH | {"constraint", "break-system-packages"}
"""Kept where packages are added to somebody else's environment: a container's own constraints."""

OWN_SETTINGS = {
    "PIP_CONFIG_FILE": os.devnull,  # pip then reads no file
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_UPGRADE_STRATEGY": "eager",  # for `--upgrade`, which is asked for with --newest alone
}
TELL_ALL = {  # stronger than a file with `quiet` or `user`, which `pip config list` would obey
    **dict.fromkeys(("PIP_QUIET", "PIP_VERBOSE", "PIP_USER", "PIP_GLOBAL", "PIP_SITE"), "0"),
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_LOG": os.devnull,
}
NO_SPACE = r"No space left on device|Errno 28\b|WinError 112|Disk quota exceeded|Errno 122\b"
FAILURES = (  # what the log of a failed install says, and what that means to a person
    (
        r"ensurepip is not available|No module named '?(ensurepip|venv|pip)\b",
        "This Python cannot make environments. On Debian and Ubuntu: sudo apt-get install "
        "python3-venv\nElsewhere, have uv on the PATH. Then give the same command again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "The network (of a school, of a company) answers with a certificate of its own. Have its "
        "file from whoever runs it,\nthen: pip config set global.cert FILE, and give the same "
        "command again.",
    ),
    (
        r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|name "
        r"resolution|getaddrinfo|Connection refused",
        "The package index could not be reached, and not everything is installed yet. Connect to "
        "the network (or set\npip's proxy or index: `pip config`), then give the same command "
        "again. Once set up, the kit needs no network.",
    ),
    (
        r"externally-managed-environment",
        "This Python belongs to the operating system, which lets nothing be added to it. Start "
        "the labs with\n    python3 -m lab_utils lab\nwhich makes an environment of its own.",
    ),
    (
        r"DLL load failed|WinError (126|1114)",
        "A library of Windows is missing: install the Microsoft Visual C++ Redistributable (x64), "
        "then give the same command again.",
    ),
    (
        r"Permission denied|Errno 13\b|WinError 5\b",
        "A file could not be written. Check who owns .venv, or delete it, then try again.",
    ),
)


# ---------------------------------------------------------------------------------- pip's settings
def read_settings(listing: str, kept: frozenset[str]) -> dict[str, str]:
    """Name -> value of pip's settings, from the words of `pip config list`: those in `kept`, and of
    two the one that pip would take (`[install]` before `[global]`, a variable before both).
    """
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(['\"].*)", line.strip())
        if match and match[2] in kept:
            found[match[1]][match[2]] = ast.literal_eval(match[3])
    return found["global"] | found["install"] | found[":env:"]


def isolated(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The environment for pip: no setting but these and OWN_SETTINGS, no configuration file."""
    others = {name: value for name, value in environ.items() if not name.startswith("PIP_")}
    kept = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in settings.items()}
    return {**others, **kept, **OWN_SETTINGS}


def settings_of(pip: list[str], kept: frozenset[str]) -> dict[str, str]:
    """What a person set for pip, in variables or files, of the `kept` kinds."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PIP_")
        or name == "PIP_CONFIG_FILE"
        or name[4:].lower().replace("_", "-") in kept
    }
    done = subprocess.run(
        [*pip, "config", "list"],
        env={**environ, **TELL_ALL},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise LabKitError(
            "pip cannot read its own settings:\n"
            + "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        )
    return read_settings(done.stdout, kept)


# -------------------------------------------------------------------------------------- installing
def find_installer(python: str, *options: str) -> list[str]:
    """The command before `install`: pip's, which ensurepip brings where it is missing (uv makes
    environments without it), else uv's own. LabKitError where there is neither.
    """
    pip = [python, *options, "-m", "pip"]
    tried = []
    for command in ([*pip, "--version"], [python, *options, "-m", "ensurepip", "--default-pip"]):
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode == 0:
            return pip
        tried.append(done.stdout + done.stderr)
    if uv := shutil.which("uv"):
        return [uv, "pip", "--python", python]
    raise LabKitError(f"The set-up failed.\n{meaning_of(tried[-1]) or tried[-1]}")


def install(
    arguments: Iterable[str],
    python: str,
    log: Path,
    show: Callable[[str], None],
    own: bool,
) -> None:
    """Runs `pip install` for an interpreter, with the log's folder for its temporary files.

    `own` says that the environment is the kit's: then the interpreter looks at nothing outside it.
    LabKitError explains a failure.
    """
    installer = find_installer(python, *["-I"] * own)
    environ = dict(os.environ)
    if "uv" not in Path(installer[0]).stem:
        environ = isolated(os.environ, settings_of(installer, REACH if own else IN_PLACE))
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=log.parent) as folder:
        # beside the log: a full disk elsewhere does not stop the set-up
        environ |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)
        run_logged([*installer, "install", *arguments], log, show, environ)


def run_logged(
    command: list[str],
    log: Path,
    show: Callable[[str], None],
    environ: Mapping[str, str] | None = None,
) -> None:
    """Runs a command, adding all it says to the log. Raises LabKitError that explains a failure."""
    said = []
    with (
        open(log, "a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=environ,
        ) as process,
    ):
        for line in process.stdout:
            file.write(line)
            said.append(line)
            show(line)
    if process.returncode:
        raise LabKitError(explain_failure("".join(said), log))


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


# ---------------------------------------------------------------------------------- what went wrong
def meaning_of(said: str) -> str:
    """What the words of a failed install mean and what to do, or ""."""
    return next((meaning for pattern, meaning in FAILURES if re.search(pattern, said)), "")


def explain_failure(said: str, log: Path, usage=shutil.disk_usage) -> str:
    """What a failed install means and what to do, from the words it left."""
    full = re.search(NO_SPACE, said)
    meaning = space_left([log.parent, Path(tempfile.gettempdir())], usage) if full else ""
    meaning = meaning or meaning_of(said)
    lines = said.splitlines()
    errors = [line for line in lines if "error" in line.lower()] or lines
    return "\n".join(
        ["The set-up failed.", *([meaning] if meaning else errors[-3:]), f"The whole log: {log}"]
    )


def space_left(folders: list[Path], usage=shutil.disk_usage) -> str:
    """Which of the folders has how much room: the full disk need not be the one that one thinks."""
    rooms = [f"    {folder}: {usage(folder).free / GIGABYTE:.1f} GB free" for folder in folders]
    return "\n".join(
        [
            "A disk is full, or your share of it (quota) is used up:",
            *rooms,
            f"About {DISK_NEEDED_GB} GB are needed in the first of them. Free some space, then "
            "give the same command again.",
        ]
    )
