"""Reading what students handed in, as Canvas, Gradescope and Moodle export it: folders and zips,
zips in zips, any names.

Nothing is unpacked to the disk, no link is followed and no notebook is run: files are read into
memory up to a limit. So a zip's paths are only labels. A file that cannot be read costs its student
a line with the reason, and nobody else anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

FILE_BYTES = 50 * 10**6  # of one notebook or inner zip
ARCHIVE_BYTES = 2 * 10**9  # of all that is read from one path given
MAX_FILES = 20_000
MAX_DEPTH = 4  # zips in zips
IGNORED = re.compile(r"(^|/)(__MACOSX|\.[^./]|~\$|Thumbs\.db|desktop\.ini)")
NOTEBOOK = re.compile(r"\.ipynb(\.(txt|json))?$", re.IGNORECASE)  # some browsers add an ending
MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_")
CANVAS = re.compile(
    r"(?P<name>[^_/]+)_(?:(?P<late>LATE)_)?(?P<id>\d{2,})_(?P<submission>\d{2,})_(?P<file>.+)$"
)
GRADESCOPE = re.compile(r"submission_(?P<id>\d+)$")
NUMBERED = re.compile(r"[ (_-]+(\d+)\)?$")  # "lab (1)", "lab-2"
START_LAB = re.compile(r"""start_lab\(\s*["']([^"']*)["']""")


@dataclass(frozen=True)
class File:
    """One file of an export: where it was, its content or the reason why there is none, and when it
    came.
    """

    parts: tuple[str, ...]  # folders and zips, from the path given
    root: str
    data: bytes = b""
    problem: str = ""
    modified: str = ""
    modified_from: str = ""


@dataclass(frozen=True)
class Submission:
    """One student's notebook for one lab. `problem` says why it cannot be graded, if so."""

    student: str
    lab: str
    file: str
    cells: tuple[str, ...] = ()
    problem: str = ""
    submitted: str = ""
    submitted_from: str = ""
    digest: str = ""
    root: str = ""
    others: tuple[str, ...] = field(default=())  # older files of the same student for the same lab


# ---------------------------------------------------------------------------------------- files
class Budget:
    """How much may still be read from one path given: a zip bomb ends here."""

    def __init__(self) -> None:
        self.bytes, self.files = ARCHIVE_BYTES, MAX_FILES

    def take(self, size: int) -> None:
        self.bytes -= size
        self.files -= 1
        if self.bytes < 0 or self.files < 0:
            raise ValueError(
                f"more than {ARCHIVE_BYTES // 10**6} MB or {MAX_FILES} files in all; the rest was "
                "not read"
            )


def find_files(path: Path) -> Iterator[File]:
    """The files below a folder, in a zip, or the one file, with those in inner zips. Never raises
    for what it finds.
    """
    budget, root = Budget(), writable(str(path))
    try:
        for place in sorted(walk(path)) if path.is_dir() else [path]:
            parts = tuple(
                map(writable, place.relative_to(path).parts if path.is_dir() else (place.name,))
            )
            if not IGNORED.search("/".join(parts)):
                yield from read_place(place, parts, root, budget)
    except ValueError as error:
        yield File((), root, problem=str(error))


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder. Links to folders are not entered."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def read_place(place: Path, parts: tuple[str, ...], root: str, budget: Budget) -> Iterator[File]:
    """The file at a place, or what is in it if it is a zip."""
    try:
        found = place.lstat()
        if not stat.S_ISREG(found.st_mode):
            yield File(parts, root, problem="a link or a special file, not read")
            return
        modified = datetime.fromtimestamp(found.st_mtime, timezone.utc).isoformat(
            timespec="seconds"
        )
        file = File(parts, root, modified=modified, modified_from="file time")
        is_zip = place.suffix.lower() == ".zip"
        if not is_zip and not is_candidate(place.name):
            yield file
        elif found.st_size > (ARCHIVE_BYTES if is_zip else FILE_BYTES):
            yield replace(file, problem=f"{found.st_size / 1e6:,.0f} MB is too large")
        else:
            budget.take(found.st_size)
            yield from unpack(replace(file, data=place.read_bytes()), budget, 0)
    except OSError as error:
        yield File(parts, root, problem=f"cannot be read: {error.strerror}")


def is_candidate(name: str) -> bool:
    """Whether the content of such a file is wanted."""
    return (
        bool(NOTEBOOK.search(name))
        or name.lower().endswith(".py")
        or name == "submission_metadata.yml"
    )


def unpack(file: File, budget: Budget, depth: int) -> Iterator[File]:
    """The file itself, or those in it if it is a zip. The time is the outermost one: the export's,
    not the student's clock.
    """
    if not file.parts[-1].lower().endswith(".zip"):
        yield file
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(file.data))
        if depth >= MAX_DEPTH:
            raise ValueError(f"zips are nested deeper than {MAX_DEPTH}")
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        yield replace(file, data=b"", problem=f"not a readable zip: {error}")
        return
    members = [
        info
        for info in archive.infolist()
        if not info.is_dir() and not IGNORED.search(info.filename)
    ]
    if not members:
        yield replace(file, data=b"", problem="the zip is empty")
    # the path given itself: its name is no student's
    given = depth == 0 and Path(file.root).is_file()
    for info in members:
        inner = read_member(
            archive, info, replace(file, data=b"", parts=() if given else file.parts), budget, depth
        )
        if given:
            inner = replace(
                inner, modified=zip_time(info), modified_from="zip entry (no time zone)"
            )
        yield from unpack(inner, budget, depth + 1) if not inner.problem else [inner]


def read_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, outer: File, budget: Budget, depth: int
) -> File:
    """One file of a zip, read up to the limit, whatever size it declares."""
    path = PurePosixPath(writable(info.filename).replace("\\", "/"))
    inner = replace(
        outer, parts=(*outer.parts, *(part for part in path.parts if part not in ("..", "/")))
    )
    if path.is_absolute() or ".." in path.parts:
        return replace(inner, problem="its path in the zip leads out of the folder; not read")
    if not is_candidate(path.name) and path.suffix.lower() != ".zip":
        return inner
    try:
        with archive.open(info) as member:
            data = member.read(FILE_BYTES + 1)
    except Exception as error:  # zipfile raises many kinds for broken and encrypted members
        return replace(inner, problem=f"cannot be read from the zip: {error}"[:300])
    budget.take(len(data))
    return (
        replace(inner, data=data)
        if len(data) <= FILE_BYTES
        else replace(inner, problem="too large")
    )


def zip_time(info: zipfile.ZipInfo) -> str:
    try:
        return datetime(*info.date_time).isoformat()
    except ValueError:
        return ""


# -------------------------------------------------------------------------------------- whose it is
def student_of(file: File, people: dict[tuple, tuple[str, str]]) -> tuple[str, str, str]:
    """(student, time if the export tells one, where that comes from), from the names of folders and
    files.

    An export's number stays part of the name: two students may be called alike.
    """
    for i, part in enumerate(file.parts):
        known = people.get((*file.parts[:i], part))
        found = MOODLE.match(part) or CANVAS.match(part)
        if known:
            return known[0], known[1], "Gradescope" if known[1] else ""
        if found:
            late = "; Canvas says LATE" if found.groupdict().get("late") else ""
            return f"{found['name']} ({found['id']})", "", late
        if GRADESCOPE.match(part):
            return part, "", ""
    first = file.parts[0] if file.parts else Path(file.root).name
    return (NOTEBOOK.sub("", first.removesuffix(".zip")) or first), "", ""


def read_gradescope(files: Iterable[File]) -> dict[tuple, tuple[str, str]]:
    """{folder: (student, time)} from Gradescope's submission_metadata.yml files. Nothing from one
    that cannot be read.
    """
    import yaml

    people = {}
    for file in files:
        if not file.parts or file.parts[-1] != "submission_metadata.yml":
            continue
        try:
            for name, entry in yaml.safe_load(file.data).items():
                who = [
                    f"{person.get(':name')} ({person.get(':sid') or person.get(':email')})"
                    for person in entry[":submitters"]
                ]
                time = entry.get(":created_at") or ""
                time = time.isoformat() if isinstance(time, datetime) else str(time)
                people[(*file.parts[:-1], name)] = (" + ".join(who), time)
        except Exception:
            continue
    return people


# ---------------------------------------------------------------------------------------- notebooks
def read_cells(data: bytes) -> tuple[str, ...]:
    """The code cells of a notebook of any version and encoding; metadata is not needed. ValueError
    says what is wrong.
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
    return tuple(filter(str.strip, map(source_of, cells)))


def source_of(cell: object) -> str:
    """The code of a cell, "" for one that has none."""
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return ""
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return writable(source) if isinstance(source, str) else ""


def writable(text: str) -> str:
    """The text with a question mark for what UTF-8 cannot write: half a surrogate pair, an
    undecodable byte of a file name.
    """
    return text.encode("utf-8", errors="replace").decode()


def to_text(data: bytes) -> str:
    """Text in UTF-8 or UTF-16, with or without a mark, else in Latin-1, which reads anything."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def lab_of(cells: tuple[str, ...], name: str, labs: dict[str, set[str]]) -> tuple[str, str]:
    """(lab, "") or ("", why none): what the notebook calls itself, else its file's name, else the
    functions it defines.
    """
    text = "\n".join(cells)
    called = [lab for lab in START_LAB.findall(text) if lab in labs]
    if called:
        return called[-1], ""
    plain = re.sub(r"[\W_]+", "_", name.lower())
    for lab in labs:
        if lab.lower() in plain:
            return lab, ""
    defined = {
        lab: sum(
            bool(
                re.search(
                    rf"^[ \t]*(async )?def {re.escape(function)}\b|^{re.escape(function)}\s*=",
                    text,
                    re.M,
                )
            )
            for function in functions
        )
        for lab, functions in labs.items()
    }
    best = max(defined, key=defined.get, default="")
    if best and defined[best]:
        return best, ""
    strange = START_LAB.findall(text)
    named = (
        f"it calls itself {strange[-1][:60]!r}, and there is no such lab"
        if strange
        else "no lab's functions are in it"
    )
    return "", f"{named}; the labs are {', '.join(labs)}"


# ------------------------------------------------------------------------------------- all together
def read_submissions(
    paths: list[Path], labs: dict[str, set[str]], lab: str | None = None
) -> tuple[list[Submission], list[str]]:
    """(one submission for each student and lab, lines for the terminal). `labs` maps a lab to its
    functions' names.

    `lab` says which one all notebooks are. Of several files of a student for a lab the newest that
    can be read counts.
    """
    found, notes = [], []
    for path in paths:
        if not path.exists():
            notes.append(f"{path}: there is no such file or folder")
            continue
        files = list(find_files(path))
        people = read_gradescope(files)
        entries = [entry for file in files for entry in to_submission(file, people, labs, lab)]
        if not entries:
            notes.append(f"{path}: no notebook in it")
        notes += [f"{path}: {file.problem}" for file in files if not file.parts]
        found += entries + without_notebook(files, people, entries)
    found = tell_apart(found, notes)
    groups: dict[tuple, list[Submission]] = {}
    for entry in found:
        groups.setdefault((entry.student, entry.lab), []).append(entry)
    chosen = [choose(group) for group in groups.values()]
    notes += [
        f"{entry.student}: {entry.file}: {entry.problem}" for entry in chosen if entry.problem
    ]
    notes += [
        f"{entry.student}: {entry.lab}: {entry.file} counts, not {', '.join(entry.others)}"
        for entry in chosen
        if entry.others
    ]
    return drop_hopeless(chosen), notes


def to_submission(
    file: File, people: dict, labs: dict[str, set[str]], lab: str | None
) -> Iterator[Submission]:
    """The submission in a file, if it is a notebook, a zip that cannot be read, or a script with a
    lab's functions.
    """
    name = file.parts[-1] if file.parts else ""
    is_script = name.lower().endswith(".py")
    if not file.parts or not (NOTEBOOK.search(name) or is_script or file.problem):
        return
    student, time, source = student_of(file, people)
    entry = Submission(
        student,
        "",
        "/".join(file.parts),
        problem=file.problem,
        root=file.root,
        submitted=time or file.modified,
        submitted_from=source if time else file.modified_from + source,
    )
    if file.problem:
        yield entry
        return
    try:
        cells = (writable(to_text(file.data)),) if is_script else read_cells(file.data)
        which, problem = (lab, "") if lab and not is_script else lab_of(cells, name, labs)
    except ValueError as error:
        yield replace(entry, problem=str(error), lab=lab or lab_of((), name, labs)[0])
        return
    if is_script and not which:
        return
    yield replace(
        entry,
        cells=cells,
        lab=which,
        problem=problem,
        digest=hashlib.sha256("\0".join(cells).encode()).hexdigest(),
    )


def without_notebook(
    files: list[File], people: dict, entries: list[Submission]
) -> list[Submission]:
    """A submission without a lab for each student who handed in something, but no notebook."""
    present = {entry.student for entry in entries}
    absent: dict[str, File] = {}
    for file in files:
        if file.parts and file.parts[-1] != "submission_metadata.yml":
            student = student_of(file, people)[0]
            if student not in present:
                absent.setdefault(student, file)
    return [
        Submission(
            student,
            "",
            "/".join(file.parts),
            problem="no notebook was handed in",
            root=file.root,
            submitted=file.modified,
            submitted_from=file.modified_from,
        )
        for student, file in absent.items()
    ]


def tell_apart(found: list[Submission], notes: list[str]) -> list[Submission]:
    """Students of one name below two of the paths given are two students: the path is added to
    their names.
    """
    roots: dict[str, set[str]] = {}
    for entry in found:
        roots.setdefault(entry.student, set()).add(entry.root)
    shared = {student for student, places in roots.items() if len(places) > 1}
    notes += [
        f"{student}: the name of {len(roots[student])} students, told apart by where they handed in"
        for student in sorted(shared)
    ]
    return [
        replace(entry, student=f"{entry.student} [{entry.root}]")
        if entry.student in shared
        else entry
        for entry in found
    ]


def choose(group: list[Submission]) -> Submission:
    """The newest readable file, of equally old ones the highest number in its name; a notebook
    before a script.
    """

    def rank(entry: Submission) -> tuple:
        number = NUMBERED.search(NOTEBOOK.sub("", entry.file))
        is_notebook = not entry.file.lower().endswith(".py")
        return (
            not entry.problem,
            is_notebook,
            entry.submitted,
            int(number[1][:9]) if number else 0,
            entry.file,
        )

    best = max(group, key=rank)
    return replace(best, others=tuple(sorted(entry.file for entry in group if entry is not best)))


def drop_hopeless(chosen: list[Submission]) -> list[Submission]:
    """Without unreadable extras of students who have a notebook for a lab; what is unreadable alone
    stays, with its reason.
    """
    graded = {entry.student for entry in chosen if entry.lab and not entry.problem}
    return sorted(
        (entry for entry in chosen if entry.lab or entry.student not in graded),
        key=lambda e: (e.student, e.lab),
    )
