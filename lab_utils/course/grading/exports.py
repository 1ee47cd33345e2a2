"""Whose file is whose: exports of Canvas, Moodle and Gradescope, folders, zips and tars, any names.

Only the outermost level says who handed in and when: that is what the system wrote. What lies in a
student's own archive is never asked, so that nobody can speak for somebody else. A system's pattern
is believed only where it fits the whole export. Canvas: lib/content_zipper.rb of canvas-lms
(NAME_[LATE_]USER_ATTACHMENT_FILE, or [LATE_]anon_ID_ATTACHMENT_FILE). Moodle: NAME_NUMBER_
assignsubmission_KIND. Gradescope: submission_NUMBER beside submission_metadata.yml.

What must be parsed is parsed by `reading` in a process that can be killed; here only names are cut
at fixed marks, in a time that grows with their length.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab_utils.course.grading import reading
from lab_utils.course.grading.reading import is_archive, is_ignored, leads_out, tidy
from lab_utils.course.grading.sandbox import Channel, Ended, package_folders
from lab_utils.files import ROOT

STUDENT_SECONDS = 60  # to read one student's files
LIST_SECONDS = 300  # to list an export
REPLY_BYTES = 100 * 10**6
BOOT = (
    "import sys; sys.path += {paths}; from lab_utils.course.grading import reading; "
    "reading.serve({fd})"
)


@dataclass(frozen=True)
class Outer:
    """One file at the outermost level: where it lies, and the time that the export gives it."""

    parts: tuple[str, ...]  # folders and name, tidied
    locator: dict[str, Any]  # for `reading`: place, or export and index
    modified: str = ""
    modified_from: str = ""


@dataclass(frozen=True)
class Handed:
    """All files of one student in one export."""

    student: str
    files: tuple[Outer, ...]
    submitted: str = ""  # by the system, else each file's own time counts
    submitted_from: str = ""
    late: bool = False


# ------------------------------------------------------------------------------ the reading process
class Reader:
    """The process that parses. `with Reader() as reader: reader.ask(...)`; killed at a deadline, it
    comes back for the next student.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the process, if it does not run."""
        if self.process is not None and self.process.poll() is None:
            return
        self.close()
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        paths = [str(ROOT), *map(str, package_folders())]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", BOOT.format(paths=paths, fd=theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def close(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.connection.close()
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        """The answer, or {"problem": why there is none}. Never raises for what is read."""
        try:
            self.start()
            channel = Channel(self.connection, time.monotonic() + seconds)
            channel.send(json.dumps(request).encode())
            return json.loads(channel.receive(REPLY_BYTES))
        except Ended as error:
            self.close()
            gone = str(error) == Channel.GONE
            memory = f"it needs more than {reading.MEMORY_BYTES // 10**9} GB of memory"
            return {"problem": memory if gone else f"reading it took more than {seconds:.0f} s"}


# -------------------------------------------------------------------------------- what there is
def list_files(path: Path, reader: Reader) -> tuple[list[Outer], str]:
    """(files at the outermost level of a folder, an archive or one file; "" or why some are not
    there). A folder that holds one archive alone is that archive.
    """
    if path.is_dir():
        found = sorted(without_hidden(walk(path)), key=lambda outer: outer.parts)
        if len(found) == 1 and is_archive(found[0].parts[-1]) and len(found[0].parts) == 1:
            return list_archive(path / found[0].locator["place"], reader)
        return without_top(found), ""
    if is_archive(path.name):
        return list_archive(path, reader)
    return [on_disk(path, (tidy(path.name),))], ""


def walk(folder: Path) -> Iterator[Outer]:
    """All files below a folder. Links to folders are files that cannot be read, and so is an empty
    folder: somebody whose name it has handed in nothing.
    """
    for place, folders, names in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        if not folders and not names and Path(place) != folder:
            parts = tuple(map(tidy, Path(place).relative_to(folder).parts))
            yield on_disk(Path(place), (*parts, "(empty)"))
        for name in (*names, *linked):
            path = Path(place, name)
            parts = tuple(map(tidy, path.relative_to(folder).parts))
            yield on_disk(path, parts)


def on_disk(path: Path, parts: tuple[str, ...]) -> Outer:
    """A file on the disk, with its time."""
    try:
        modified = reading.iso(path.lstat().st_mtime)
    except OSError:
        modified = ""
    return Outer(parts, {"place": str(path)}, modified, "file time")


def list_archive(path: Path, reader: Reader) -> tuple[list[Outer], str]:
    """The files of an export that is an archive."""
    answer = reader.ask(LIST_SECONDS, do="list", path=str(path))
    if "problem" in answer:
        return [], answer["problem"]
    found = []
    for index, (name, modified, source) in enumerate(answer["members"]):
        parts = reading.split_path(name)
        if parts:
            locator = {"export": str(path), "index": index, "name": name if leads_out(name) else ""}
            found.append(Outer(parts, locator, modified, source))
    return without_top(without_hidden(found)), ""


def without_hidden(files: Iterable[Outer]) -> list[Outer]:
    """The files without hidden ones and a system's own. Where a folder holds no other, its name
    stays, as that of a folder which is empty: it may be somebody's.
    """
    shown, hidden = [], {}
    for file in files:
        if not is_ignored(file.parts):
            shown.append(file)
            continue
        depth = next(n for n in range(len(file.parts)) if is_ignored(file.parts[n : n + 1]))
        hidden[file.parts[:depth]] = file
    filled = {file.parts[:n] for file in shown for n in range(1, len(file.parts))}
    return shown + [
        replace(file, parts=(*folder, "(empty)"))
        for folder, file in hidden.items()
        if folder and folder not in filled
    ]


def without_top(files: list[Outer]) -> list[Outer]:
    """The files without the folders that all of them share, where students' folders or a system's
    names are below: `submissions/alice/...` and `submissions/bob/...` are two students.
    """
    places = [file.parts for file in files]
    shared = os.path.commonprefix([parts[:-1] for parts in places])
    for cut in range(len(shared) + 1):
        inner = [parts[cut:] for parts in places]
        folders = {parts[0] for parts in inner if len(parts) > 1}
        if system_of(inner) or (cut and len(folders) > 1):
            return [replace(file, parts=file.parts[cut:]) for file in files]
    return files


# -------------------------------------------------------------------------------------- whose it is
def moodle_owner(name: str) -> str:
    """The student of `NAME_NUMBER_assignsubmission_...`, or ""."""
    head, mark, _ = name.partition("_assignsubmission_")
    person, bar, number = head.rpartition("_")
    return f"{person} ({number})" if mark and bar and person and number.isdecimal() else ""


def canvas_owner(name: str) -> tuple[str, str, bool] | None:
    """(student, attachment's number, late?) of one name in Canvas's export, or None."""
    words = name.split("_", 60)
    late = words[0] == "LATE"
    if words[late : late + 1] == ["anon"] and len(words) > late + 3:
        who, number = words[late + 1], words[late + 2]
        return (f"anon ({who})", number, late) if who.isalnum() and is_number(number, 4) else None
    for i in range(1, len(words) - 1):
        if not is_number(words[i], 2):
            continue
        late = i > 1 and words[i - 1] == "LATE"
        person = "_".join(words[: i - late])
        if is_number(words[i + 1], 4) and len(words) > i + 2:
            return f"{person} ({words[i]})", words[i + 1], late
        if words[i + 1 :] in (["text.html"], ["link.html"]):
            return f"{person} ({words[i]})", "", late
    return None


def is_number(word: str, digits: int) -> bool:
    """Whether a word is a number of at least so many digits."""
    return word.isascii() and word.isdecimal() and len(word) >= digits


def gradescope_owner(name: str) -> str:
    """`submission_NUMBER` itself, or ""."""
    return name if name.startswith("submission_") and name[11:].isdecimal() else ""


def system_of(places: Iterable[tuple[str, ...]]) -> str:
    """The system whose pattern fits every file that may be somebody's: canvas, moodle, gradescope
    or "". Canvas numbers every file once, and one student alone is no class.
    """
    places = [parts for parts in places if parts != (reading.METADATA,)]
    tops = {parts[0] for parts in places}
    if tops and all(map(gradescope_owner, tops)):
        return "gradescope"
    wanted = [p for p in places if len(p) > 1 or is_archive(p[0]) or reading.is_candidate(p[0])]
    named = {parts[0] for parts in wanted or places}
    if named and all(map(moodle_owner, named)):
        return "moodle"
    owners = [canvas_owner(name) for name in named]
    if not named or not all(owners) or any(len(parts) > 1 for parts in places):
        return ""
    numbers = [number for _, number, _ in owners if number]
    several = len(owners) == 1 or len({who for who, _, _ in owners}) > 1
    return "canvas" if several and len(set(numbers)) == len(numbers) else ""


def group_by_student(path: Path, files: list[Outer], people: dict[str, list[str]]) -> list[Handed]:
    """One entry for everybody who has a file, or a folder, at the outermost level."""
    system = system_of([file.parts for file in files])
    groups: dict[str, list[Outer]] = {}
    facts: dict[str, tuple[str, str, bool]] = {}
    for file in files:
        if file.parts == (reading.METADATA,):
            continue
        student, time_, late = owner(file.parts, system, people)
        groups.setdefault(student, []).append(file)
        source = "Gradescope" if time_ else ""
        facts[student] = (time_, source, late or facts.get(student, ("", "", False))[2])
    return [Handed(who, tuple(theirs), *facts[who]) for who, theirs in groups.items()]


def owner(
    parts: tuple[str, ...], system: str, people: dict[str, list[str]]
) -> tuple[str, str, bool]:
    """(student, time that the system tells or "", late?) of a file, by its outermost name."""
    top = parts[0]
    if system == "gradescope" and top in people:
        return people[top][0], people[top][1], False
    if system == "moodle" and moodle_owner(top):
        return moodle_owner(top), "", False
    if system == "canvas" and (found := canvas_owner(top)):
        return found[0], "", found[2]
    return (plain_name(top) if len(parts) == 1 else top), "", False


def plain_name(name: str) -> str:
    """A file's name without the ending of a notebook or archive."""
    ending = reading.ending_of(name)
    place = name.lower().rfind(ending) if ending else -1
    wanted = is_archive(name) or reading.is_notebook(name) or ending in (".py", ".json")
    return name[:place] if wanted and place > 0 else name


def read_export(path: Path, reader: Reader) -> tuple[list[Handed], str]:
    """(what everybody handed in, "" or why it could not be listed) of one path given."""
    files, problem = list_files(path, reader)
    top = next((file for file in files if file.parts == (reading.METADATA,)), None)
    people = {}
    if top is not None:
        people = reader.ask(STUDENT_SECONDS, do="metadata", file=top.locator).get("people", {})
    return group_by_student(path, files, people), problem
