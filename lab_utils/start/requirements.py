"""The lists of packages: what a command needs, and what of it is missing here. Standard library
only.

`requirements.txt` has the ranges that the kit is meant for, in sections that build on each other.
`requirements.lock` has the versions that were tested. `pyproject.toml` has loose lower bounds, so
that a notebook in Colab keeps what is installed there.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import operator
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from lab_utils.files import ROOT, LabKitError

REQUIREMENTS = ROOT / "requirements.txt"
LOCK = ROOT / "requirements.lock"
PYPROJECT = ROOT / "pyproject.toml"

LABS = "the labs"
RUNNING = "running them"
OPENING = "opening and showing them"
TESTING = "testing them"
SECTIONS = (LABS, RUNNING, OPENING, TESTING)  # each needs those before it

COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "~=": lambda version, limit: version >= limit,  # and the same series, see `satisfies`
}
PLAIN_VERSION = (
    r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?(\+[a-z0-9]+(\.[a-z0-9]+)*)?"
)
MODULES = {  # what is imported under another name than it is installed under
    "google-generativeai": "google.generativeai",
    "google-genai": "google.genai",
    "pytest-xdist": "xdist",
}


def parse_requirement(line: str) -> tuple[str, list[tuple[str, str]]]:
    """`"torch>=2.6,<2.14"` -> `("torch", [(">=", "2.6"), ("<", "2.14")])`. ValueError on what is
    not of that form.
    """
    bound = r"\s*(>=|<=|==|!=|~=|>|<)\s*([0-9.]+)\s*"
    found = re.fullmatch(rf"\s*([A-Za-z0-9][\w.-]*)((?:{bound},?)*)", line)
    bounds = re.findall(bound, found[2]) if found else []
    if not found or any(sign == "~=" and "." not in limit for sign, limit in bounds):
        raise ValueError(f"expected a name and bounds such as torch>=2.6,<2.14, got {line!r}")
    return found[1], bounds


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

    def in_series(limit: str) -> bool:  # "~=1.16" stays below 2, "~=1.16.1" below 1.17
        fixed = [int(part) for part in limit.split(".")][:-1]
        padded = [*release(version), *[0] * len(fixed)]
        return padded[: len(fixed)] == fixed

    return all(
        COMPARISONS[sign](release(version), release(limit)) and (sign != "~=" or in_series(limit))
        for sign, limit in bounds
    )


def requirement_lines(path: Path | None = None, up_to: str = "") -> list[str]:
    """The lines of a requirements file (by default requirements.txt) without comments: all, or
    those up to the end of the section with the heading `# up_to`. LabKitError if there is no such
    file.
    """
    path = path or REQUIREMENTS
    if not path.exists():
        raise LabKitError(
            f"{path} is missing. Run the command in a complete copy (git clone) of the lab kit."
        )
    text = path.read_text(encoding="utf-8")
    if up_to:
        before, _, section = text.partition(f"# {up_to}\n")
        text = before + section.split("\n# ")[0]
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def loose_requirements(path: Path = PYPROJECT) -> list[str]:
    """The run-time packages of pyproject.toml with their lower bounds, read without tomllib (new in
    Python 3.11).
    """
    array = re.search(
        r"^dependencies = (\[.*?^\])", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return ast.literal_eval(array[1])  # a TOML array of plain strings is a Python list


def colab_requirements(section: str) -> list[str]:
    """What a command of this section needs in Colab: loose bounds for the labs, tested ranges for
    the rest.
    """
    beyond = requirement_lines(up_to=section)[len(requirement_lines(up_to=LABS)) :]
    return loose_requirements() + beyond


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


def pins() -> list[str]:
    """`name==version` for all that this interpreter finds. Left out: what has no version that pip
    can read.
    """
    versions = {}
    for found in importlib.metadata.distributions():
        if found.name and re.fullmatch(PLAIN_VERSION, found.version or ""):
            versions.setdefault(found.name, found.version)  # the first one is what an import takes
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def check_imports(lines: Iterable[str]) -> None:
    """Imports every package of the lines. SystemExit names those that are absent, and a failing
    import raises its own error: an installer's success says nothing about either.
    """
    lines = list(lines)
    if missing := unmet(lines):
        raise SystemExit(f"error: not importable after the set-up: {', '.join(missing)}")
    for line in lines:
        name = parse_requirement(line)[0]
        importlib.import_module(MODULES.get(name, name.replace("-", "_")))
