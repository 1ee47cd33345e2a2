"""What of a submission must be parsed, in a process of its own: archives, notebooks, Gradescope's
metadata.

A student chooses every byte that is read here, so a parser may hang or grow. This process has a
limit of memory, its caller (`exports.Reader`) one of time; where either is reached, it is killed
and the student has a row that says so. Nothing is unpacked to the disk, no link is followed, and no
code of a notebook is run. Standard library and PyYAML only: it must start at once.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import io
import json
import re
import resource
import signal
import socket
import stat
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from lab_utils.course.grading.own_code import read_code

FILE_BYTES = 50 * 10**6  # of one notebook or inner archive
STUDENT_BYTES = 200 * 10**6  # of all that is unpacked of one student
STUDENT_FILES = 2_000
CODE_BYTES = 4 * 10**6  # of the code of one student's notebooks: what the grader keeps in memory
METADATA_BYTES = 4 * 10**6  # of Gradescope's submission_metadata.yml
MAX_DEPTH = 4  # archives in archives
MEMORY_BYTES = 10**9  # of this process
NAME_LENGTH = 255  # of a file's name, longer ones are cut
PDEATHSIG = 1  # linux/prctl.h
ZIPS, TARS = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
EMPTY_FOLDER = "the folder is empty"
METADATA = "submission_metadata.yml"
START_LAB = re.compile(r"""start_lab\(\s{0,80}["']([^"'\n]{0,200})["']""")


# ---------------------------------------------------------------------------------------- names
def writable(text: str) -> str:
    """The text with a question mark for what UTF-8 cannot write: half a surrogate pair, an
    undecodable byte of a file name.
    """
    return text.encode("utf-8", errors="replace").decode()


def tidy(name: str) -> str:
    """One part of a path in composed Unicode (NFC), so that a name from a Mac and one from Windows
    are one. A name that is too long is cut and gets a digest, so that two stay two.
    """
    name = unicodedata.normalize("NFC", writable(name[: 4 * 65536]))
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[:80]}...{hashlib.sha256(name.encode()).hexdigest()[:12]}{name[-20:]}"


def split_path(name: str) -> tuple[str, ...]:
    """The parts of a path in an archive, whichever slash it has; without "." and "..", which are
    told apart by `leads_out`.
    """
    parts = writable(name).replace("\\", "/").split("/")
    return tuple(tidy(part) for part in parts if part not in ("", ".", ".."))


def leads_out(name: str) -> bool:
    """Whether a path in an archive is absolute or leads above the archive's folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or name[1:3] in (":\\", ":/")


def is_ignored(parts: tuple[str, ...]) -> bool:
    """Whether a file is what systems leave behind: hidden, of macOS, of Windows, of an editor."""
    return any(
        part in ("__MACOSX", "Thumbs.db", "desktop.ini")
        or (part.startswith(".") and part != ".")
        or part.startswith("~$")
        for part in parts
    )


def ending_of(name: str) -> str:
    """The ending in lower case, without a browser's " (1)" after it: ".tar.gz", ".ipynb", ""."""
    name = name.lower().rstrip()
    head, bracket, number = name.rpartition("(")
    if bracket and number.endswith(")") and number[:-1].isdigit() and "." in head[-8:]:
        name = head.rstrip()
    for ending in (".tar.gz", ".tar.bz2", ".tar.xz", ".ipynb.txt", ".ipynb.json"):
        if name.endswith(ending):
            return ending
    return PurePosixPath(name).suffix


def is_archive(name: str) -> bool:
    """Whether a file is a zip or a tar by its name."""
    return ending_of(name) in ZIPS + TARS


def is_notebook(name: str) -> bool:
    """Whether a file is a notebook by its name; some browsers add an ending."""
    return ending_of(name) in (".ipynb", ".ipynb.txt", ".ipynb.json")


def is_candidate(name: str) -> bool:
    """Whether the content of such a file is wanted."""
    return is_notebook(name) or ending_of(name) in (".py", ".json")


def zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a zip's member. Without the flag for UTF-8 it is tried as UTF-8 first, then as
    GBK where that gives Chinese characters alone, and is cp437 else, as the format says.
    """
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "gbk"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or all("\u4e00" <= c <= "\u9fff" for c in text if ord(c) > 127):
            return text
    return info.filename


# ---------------------------------------------------------------------------------------- archives
@dataclass(frozen=True)
class Member:
    """One file in an archive, and how it is opened."""

    name: str
    size: int  # as the archive declares it
    modified: str
    modified_from: str
    open: Any  # () -> BinaryIO
    problem: str = ""


def open_archive(name: str, source: Any) -> list[Member]:
    """The files of a zip or tar (a path or bytes). ValueError for what is none."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return zip_members(file) if ending_of(name) in ZIPS else tar_members(file)
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, OSError, EOFError) as error:
        kind = "zip" if ending_of(name) in ZIPS else "tar"
        raise ValueError(f"not a readable {kind}: {error}"[:300]) from None


def zip_members(file: Any) -> list[Member]:
    """The files of a zip. Its times have no zone."""
    archive = zipfile.ZipFile(file)
    return [
        Member(
            zip_name(info),
            info.file_size,
            zip_time(info),
            "zip entry (no time zone)",
            functools.partial(archive.open, info),
        )
        for info in archive.infolist()
        if not info.is_dir()
    ]


def tar_members(file: Any) -> list[Member]:
    """The files of a tar, packed or not. Links and devices are named, never followed."""
    given = {"fileobj": file} if isinstance(file, io.BytesIO) else {"name": file}
    archive = tarfile.open(**given)
    return [
        Member(
            info.name,
            info.size,
            iso(info.mtime),
            "tar entry",
            functools.partial(archive.extractfile, info),
            "" if info.isreg() else "a link or a special file, not read",
        )
        for info in archive
        if not info.isdir()
    ]


def zip_time(info: zipfile.ZipInfo) -> str:
    """The time of a zip's member, or "" where it has none."""
    try:
        return datetime(*info.date_time).isoformat()
    except ValueError:
        return ""


def iso(seconds: float) -> str:
    """Seconds since 1970 as a time in UTC, or "" for what is none."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def read_all(file: BinaryIO | None) -> bytes:
    """The content of a member. ValueError where it is longer than FILE_BYTES."""
    if file is None:
        raise ValueError("it has no content")
    with file:
        data = file.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise ValueError(f"larger than {FILE_BYTES // 10**6} MB")
    return data


# ------------------------------------------------------------------------------ one student's files
@dataclass
class Budget:
    """How much may still be unpacked of one student: a zip bomb ends here."""

    bytes: int = field(default_factory=lambda: STUDENT_BYTES)
    files: int = field(default_factory=lambda: STUDENT_FILES)
    code: int = field(default_factory=lambda: CODE_BYTES)

    def take(self, size: int) -> None:
        """Take a file of `size` bytes. OverflowError where nothing is left."""
        self.bytes -= size
        self.files -= 1
        if self.bytes < 0 or self.files < 0:
            raise OverflowError(
                f"more than {STUDENT_BYTES // 10**6} MB or {STUDENT_FILES:,} files of one student; "
                "the rest was not read"
            )


@functools.lru_cache(maxsize=1)
def outer_archive(path: str) -> list[Member]:
    """The members of an export that is an archive, kept open from one student to the next."""
    return open_archive(path, path)


def list_export(path: str) -> dict[str, Any]:
    """{"members": [(name, time, where it comes from), ...]} of an export that is an archive."""
    members = outer_archive(path)
    return {"members": [(m.name[:65536], m.modified, m.modified_from) for m in members]}


def read_student(
    files: list[dict[str, Any]], labs: dict[str, list[str]], lab: str | None
) -> dict[str, Any]:
    """{"found": [...]} for one student's files. Each file says `parts` and where it lies: `place`
    on the disk, or `export` and `index` for a member of an archive.
    """
    budget, found = Budget(), []
    try:
        for file in files:
            for entry in read_file(tuple(file["parts"]), file, budget):
                found.append(understood(entry, labs, lab, budget))
    except OverflowError as error:
        found.append({"parts": [], "kind": "file", "problem": str(error)})
    return {"found": found}


def read_file(
    parts: tuple[str, ...], file: dict[str, Any], budget: Budget
) -> Iterator[dict[str, Any]]:
    """{"parts", "data" or "problem"} for a file, and for each in it where it is an archive."""
    name, wanted = parts[-1], is_archive(parts[-1]) or is_candidate(parts[-1])
    try:
        if leads_out(file.get("name", "")):
            raise ValueError("its path in the archive leads out of the folder; not read")
        if "place" in file:
            mode = Path(file["place"]).lstat().st_mode
            if stat.S_ISDIR(mode):
                raise NotADirectoryError(0, EMPTY_FOLDER)
            if not stat.S_ISREG(mode):
                raise ValueError("a link or a special file, not read")
            opened = functools.partial(open, file["place"], "rb")
        else:
            member = outer_archive(file["export"])[file["index"]]
            if member.problem:
                raise ValueError(member.problem)
            opened = member.open
        data = read_all(opened()) if wanted else b""
    except NotADirectoryError as error:
        yield {"parts": parts, "problem": error.strerror}
    except OSError as error:
        yield {"parts": parts, "problem": f"cannot be read: {error.strerror or error}"}
    except Exception as error:  # zipfile and tarfile raise many kinds
        yield {"parts": parts, "problem": f"cannot be read: {error}"[:300]}
    else:
        budget.take(len(data))
        yield from (
            unpack(parts, data, budget, 0) if is_archive(name) else [{"parts": parts, "data": data}]
        )


def unpack(
    parts: tuple[str, ...], data: bytes, budget: Budget, depth: int
) -> Iterator[dict[str, Any]]:
    """The files in an archive that a student packed, and in those in it."""
    try:
        if depth >= MAX_DEPTH:
            raise ValueError(f"archives are nested deeper than {MAX_DEPTH}")
        members = open_archive(parts[-1], data)
    except (ValueError, MemoryError, RecursionError) as error:
        yield {"parts": parts, "problem": str(error) or "it needs too much memory"}
        return
    inner = [(member, split_path(member.name)) for member in members]
    inner = [(member, path) for member, path in inner if path and not is_ignored(path)]
    if not inner:
        yield {"parts": parts, "problem": f"the {parts[-1][-4:].strip('.')} is empty"}
    for member, path in inner:
        place = (*parts, *path)
        if leads_out(member.name):
            yield {
                "parts": place,
                "problem": "its path in the archive leads out of the folder; not read",
            }
            continue
        wanted = is_archive(path[-1]) or is_candidate(path[-1])
        try:
            if member.problem:
                raise ValueError(member.problem)
            content = read_all(member.open()) if wanted else b""
        except Exception as error:  # zipfile raises many kinds for broken and encrypted members
            yield {"parts": place, "problem": f"cannot be read from the archive: {error}"[:300]}
            budget.take(0)
            continue
        budget.take(len(content))
        yield from (
            unpack(place, content, budget, depth + 1)
            if is_archive(path[-1])
            else [{"parts": place, "data": content}]
        )


def understood(
    entry: dict[str, Any], labs: dict[str, list[str]], lab: str | None, budget: Budget
) -> dict[str, Any]:
    """The entry with what is in it instead of its bytes: `kind`, `cells`, `labs`, `imports`, and
    the `python` that wrote it.
    """
    data, name = entry.pop("data", b""), entry["parts"][-1]
    entry["kind"] = "notebook" if is_notebook(name) else "file"
    if ending_of(name) == ".py":
        entry["kind"] = "script"
    if entry.get("problem") or not is_candidate(name):
        return entry
    try:
        return {**entry, **content_of(entry["kind"], name, data, labs, lab, budget)}
    except RecursionError:
        problem = "not a notebook: nested too deeply"
    except MemoryError:
        problem = "it needs too much memory to be read"
    except ValueError as error:
        problem = str(error)
    if ending_of(name) == ".json":
        return entry  # any data file
    which, _ = ([lab], "") if lab else labs_of((), name, labs)
    return {**entry, "problem": problem, "labs": which}


def content_of(
    kind: str,
    name: str,
    data: bytes,
    labs: dict[str, list[str]],
    lab: str | None,
    budget: Budget,
) -> dict[str, Any]:
    """What is in a notebook or script. ValueError says why it cannot be graded."""
    if kind == "script":
        cells, python = (writable(to_text(data)),), ""
    else:
        cells, python = read_notebook(data)
    budget.code -= sum(map(len, cells))
    if budget.code < 0:
        raise ValueError(f"more than {CODE_BYTES // 10**6} MB of code")
    which, problem = ([lab], "") if lab and kind != "script" else labs_of(cells, name, labs)
    if kind == "script" and not which:
        return {"kind": "file"}
    return {
        "kind": "notebook" if kind == "file" else kind,
        "cells": cells,
        "labs": which,
        "problem": problem,
        "imports": imports_of(cells),
        "python": python,
        "digest": hashlib.sha256("\0".join(cells).encode()).hexdigest(),
    }


# ---------------------------------------------------------------------------------------- notebooks
def read_notebook(data: bytes) -> tuple[tuple[str, ...], str]:
    """(code cells, version of Python as the notebook says) of a notebook of any version and
    encoding. ValueError says what is wrong.
    """
    text = to_text(data)
    if not text.strip():
        raise ValueError("the file is empty")
    try:
        notebook = json.loads(text)
    except RecursionError:
        raise ValueError("not a notebook: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not a notebook: broken JSON ({error})") from None
    if not isinstance(notebook, dict):
        raise ValueError("not a notebook: it holds no cells")
    cells = notebook.get("cells")
    if cells is None:  # nbformat 3 and older
        sheets = notebook.get("worksheets")
        cells = [
            cell
            for sheet in sheets or []
            if isinstance(sheet, dict)
            for cell in sheet.get("cells") or []
        ]
    if not isinstance(cells, list):
        raise ValueError("not a notebook: its cells are no list")
    return tuple(filter(str.strip, map(source_of, cells))), python_of(notebook)


def read_cells(data: bytes) -> tuple[str, ...]:
    """The code cells of a notebook. ValueError says what is wrong."""
    return read_notebook(data)[0]


def python_of(notebook: dict[str, Any]) -> str:
    """The version of Python in a notebook's metadata, such as "3.13", or ""."""
    metadata = notebook.get("metadata")
    language = metadata.get("language_info") if isinstance(metadata, dict) else None
    version = language.get("version") if isinstance(language, dict) else None
    found = re.match(r"3\.\d{1,2}", version) if isinstance(version, str) else None
    return found[0] if found else ""


def source_of(cell: object) -> str:
    """The code of a cell, "" for one that has none."""
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return ""
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return writable(source) if isinstance(source, str) else ""


def to_text(data: bytes) -> str:
    """Text in UTF-8 or UTF-16, with or without a mark, else in Latin-1, which reads anything."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def imports_of(cells: tuple[str, ...]) -> list[str]:
    """The modules that the lines of the cells import, at most 200: what the room must have."""
    found: dict[str, None] = {}
    for line in (line.strip() for cell in cells for line in cell.splitlines()):
        words = line[:300].split()
        if words[:1] == ["from"] and len(words) > 1:
            found[words[1]] = None
        elif words[:1] == ["import"]:
            found.update(
                dict.fromkeys(part.split()[0] for part in line[7:300].split(",") if part.strip())
            )
    proper = [name for name in found if all(part.isidentifier() for part in name.split("."))]
    return [name for name in proper if len(name) <= 80][:200]


def labs_of(cells: tuple[str, ...], name: str, labs: dict[str, list[str]]) -> tuple[list[str], str]:
    """(labs, "") or ([], why none): what the notebook calls itself, else its file's name, else the
    functions it defines. A notebook that starts two labs is of both.
    """
    text = "\n".join(cells)
    named = START_LAB.findall(text)
    if called := [lab for lab in dict.fromkeys(named) if lab in labs]:
        return called, ""
    plain = "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    for lab in labs:
        if lab.lower() in plain:
            return [lab], ""
    defined = defined_names(text)
    counts = {lab: len(defined & set(functions)) for lab, functions in labs.items()}
    best = max(counts, key=counts.get, default="")
    if best and counts[best]:
        return [best], ""
    strange = (
        f"it calls itself {named[-1][:60]!r}, and there is no such lab"
        if named
        else "no lab's functions are in it"
    )
    return [], f"{strange}; the labs are {', '.join(labs)}"


def defined_names(text: str) -> set[str]:
    """The names that lines define (`def f`, `async def f`) or bind at their beginning (`f = `)."""
    found = set()
    for line in text.splitlines():
        stripped = line.strip().removeprefix("async ").lstrip()
        if stripped.startswith("def "):
            found.add(stripped[4:].partition("(")[0].strip())
        elif "=" in line and line[:1].isidentifier():
            found.add(line.partition("=")[0].strip())
    return found


# --------------------------------------------------------------------------------------- Gradescope
def read_metadata(file: dict[str, Any]) -> dict[str, Any]:
    """{"people": {folder: [student, time]}} from Gradescope's metadata at the top of an export;
    none from a file that cannot be read, is too large or holds YAML's aliases, which can grow
    without end.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        opened = (
            open(file["place"], "rb")
            if "place" in file
            else outer_archive(file["export"])[file["index"]].open()
        )
        with opened:
            data = opened.read(METADATA_BYTES + 1)
        if len(data) > METADATA_BYTES:
            raise ValueError("too large")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, Loader=loader)):
            raise ValueError("aliases")
        entries = yaml.load(data, Loader=loader)
    except Exception:
        return {"people": {}}
    people = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        try:
            people[str(name)[:NAME_LENGTH]] = [who_handed_in(entry), when_handed_in(entry)]
        except Exception:
            continue
    return {"people": people}


def who_handed_in(entry: dict[str, Any]) -> str:
    """The submitters of one entry of the metadata, by name and number."""
    return " + ".join(
        tidy(f"{person.get(':name')} ({person.get(':sid') or person.get(':email')})")
        for person in entry[":submitters"][:20]
    )


def when_handed_in(entry: dict[str, Any]) -> str:
    """The time of one entry of the metadata, with its zone."""
    time = entry.get(":created_at") or ""
    return time.isoformat() if isinstance(time, datetime) else str(time)[:60]


# -------------------------------------------------------------------------------------- the process
def serve(descriptor: int) -> None:
    """Answer requests, each a JSON message after its length, until the other side is gone."""
    ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    connection = socket.socket(fileno=descriptor).makefile("rwb")
    while len(head := connection.read(8)) == 8:
        request = json.loads(connection.read(struct.unpack("<Q", head)[0]))
        try:
            answer = ANSWERS[request.pop("do")](**request)
        except (MemoryError, RecursionError):
            answer = {"problem": "it needs too much memory to be read"}
        except (ValueError, OSError) as error:
            answer = {"problem": str(error)[:300]}
        data = json.dumps(answer).encode()
        connection.write(struct.pack("<Q", len(data)) + data)
        connection.flush()


ANSWERS = {
    "list": list_export,
    "student": read_student,
    "metadata": read_metadata,
    "code": read_code,
}
