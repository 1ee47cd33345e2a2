"""Where things lie, and how they are written: the one module that every room may import. Standard
library only.

A file is written under a temporary name and moved into place, so that a reader or a crash sees the
old or the new one, never half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
RUNS = ROOT / "runs"  # results of the labs, below it a folder for each lab's number
SMOLLM2 = RUNS / "models" / "smollm2"  # where `python3 -m lab_utils get smollm2` puts it
GIGABYTE = 10**9
KEY_NAMES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")  # of a Gemini key; the first that is set counts


class LabKitError(Exception):
    """Something the person at the terminal can put right; the text says what was wrong, expected,
    and what to do.
    """


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """`value`, if it is a whole number from `least` to `most`; else ValueError, which names it.

    True and 1.0 are refused too: Python takes them for numbers, and they are mistakes here.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        if most is None or value <= most:
            return value
    wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name} must be a whole number {wanted}, got {value!r}.")


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8 and in one step, with the same bytes on Windows."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def write_json(path: str | Path, obj: Any) -> None:
    """Writes obj as JSON in one step: a crash, or what JSON cannot hold (TypeError), leaves the old
    file whole.
    """
    write_text(Path(path), json.dumps(obj, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Writes rows as JSON lines, in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[Any]:
    """The rows of a JSON lines file. ValueError names the first line that is not JSON."""
    # Not splitlines(): it also breaks at U+2028 and the like, which may stand inside a JSON string.
    text = path.read_text(encoding="utf-8").removesuffix("\n")
    rows = []
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number} is not JSON ({error})") from error
    return rows


def append_jsonl(path: Path, row: Any) -> None:
    """Adds one row to a JSON lines file, and sees it onto the disk: a crash loses at most the row
    in hand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_appended(path: Path) -> list[Any]:
    """The rows of a file that `append_jsonl` wrote, [] if there is none. A line that a kill cut off
    is taken out of the file.
    """
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        write_text(path, whole.decode())
    return [json.loads(line) for line in whole.split(b"\n")[:-1]]
