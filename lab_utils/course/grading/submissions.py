"""From files to what is graded: one submission for each student and lab, and a line for everything
that was not taken.

Everybody in an export has a row. A file that cannot be read costs its student a line with the
reason, and nobody else anything.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lab_utils.course.grading.exports import STUDENT_SECONDS, Handed, Outer, Reader, read_export
from lab_utils.course.grading.reading import EMPTY_FOLDER, ending_of, writable


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
    late: bool = False  # the system says so
    digest: str = ""
    root: str = ""
    imports: tuple[str, ...] = ()
    python: str = ""  # the version that the notebook was written with, if it says so
    others: tuple[str, ...] = field(default=())  # older files of the same student for the same lab


def read_submissions(
    paths: list[Path], labs: dict[str, set[str]], lab: str | None = None
) -> tuple[list[Submission], list[str]]:
    """(one submission for each student and lab, lines for the terminal). `labs` maps a lab to its
    functions' names.

    `lab` says which one all notebooks are. Of several files of a student for a lab the newest that
    can be read counts.
    """
    found, notes = [], []
    known = {name: sorted(functions) for name, functions in labs.items()}
    with Reader() as reader:
        for path in paths:
            if not path.exists():
                notes.append(f"{path}: there is no such file or folder")
                continue
            handed, problem = read_export(path, reader)
            if problem:
                notes.append(f"{path}: UNREAD: {problem}")
            entries = [
                entry for one in handed for entry in read_handed(one, path, reader, known, lab)
            ]
            if not any(entry.cells for entry in entries):
                notes.append(f"{path}: no notebook in it")
            found += entries
    found = tell_apart(found, notes)
    chosen = [submission for group in grouped(found) for submission in [choose(group)]]
    return drop_hopeless(chosen), notes + told(chosen)


def told(chosen: list[Submission]) -> list[str]:
    """A line for each file that cannot be graded, and for each choice that was made."""
    lines = [
        f"{entry.student}: {entry.file}: UNREAD: {entry.problem}"
        for entry in chosen
        if entry.problem
    ]
    return lines + [
        f"{entry.student}: {entry.lab}: {entry.file} counts, not {', '.join(entry.others)}"
        for entry in chosen
        if entry.others and not entry.problem
    ]


# ------------------------------------------------------------------------------ one student's files
def read_handed(
    handed: Handed, path: Path, reader: Reader, labs: dict[str, list[str]], lab: str | None
) -> list[Submission]:
    """What one student handed in; an entry without a lab where there is no notebook in it."""
    files = [{"parts": list(file.parts), **file.locator} for file in handed.files]
    answer = reader.ask(STUDENT_SECONDS, do="student", files=files, labs=labs, lab=lab)
    if "problem" in answer:
        answer = {"found": [{"parts": [], "kind": "file", "problem": answer["problem"]}]}
    entries = [
        entry
        for row in answer["found"]
        for entry in to_submissions(row, handed, writable(str(path)))
    ]
    if any(entry.cells for entry in entries):
        return [entry for entry in entries if entry.problem != EMPTY_FOLDER]
    if not entries:
        rejected = [row for row in answer["found"] if not row.get("problem") and row["parts"]]
        if rejected:
            entries.append(without_notebook(rejected, handed, writable(str(path))))
    return entries


def to_submissions(row: dict[str, Any], handed: Handed, root: str) -> list[Submission]:
    """A submission for each lab of one file, if it is a notebook, a script with a lab's functions,
    or cannot be read.
    """
    problem = row.get("problem", "")
    if not problem and "cells" not in row:
        return []
    entry = replace(
        at(row["parts"], handed, root),
        problem=problem,
        cells=tuple(row.get("cells", ())),
        digest=row.get("digest", ""),
        imports=tuple(row.get("imports", ())),
        python=row.get("python", ""),
    )
    return [replace(entry, lab=lab) for lab in row.get("labs") or [""]]


def at(parts: list[str], handed: Handed, root: str) -> Submission:
    """An empty submission of a file, with the time of the outermost file around it."""
    outer = outermost(handed.files, tuple(parts))
    source = outer.modified_from + ("; Canvas says LATE" if handed.late else "")
    return Submission(
        handed.student,
        "",
        "/".join(parts) or "/".join(outer.parts[:1]),
        root=root,
        submitted=handed.submitted or outer.modified,
        submitted_from=handed.submitted_from if handed.submitted else source,
        late=handed.late,
    )


def outermost(files: tuple[Outer, ...], parts: tuple[str, ...]) -> Outer:
    """The file of the export that `parts` is, or lies in."""
    around = [file for file in files if parts[: len(file.parts)] == file.parts]
    return max(around, key=lambda file: len(file.parts), default=files[0])


def without_notebook(rows: list[dict[str, Any]], handed: Handed, root: str) -> Submission:
    """A submission without a lab for a student who handed in something, but no notebook."""
    names = [row["parts"][-1] for row in rows]
    endings = sorted({ending_of(name) for name in names if ending_of(name)})[:5]
    problem = "no notebook was handed in"
    if endings:
        problem += f": this is a {', '.join(endings)}; ask for .ipynb or .zip"
    return replace(at(rows[0]["parts"], handed, root), problem=problem)


# ------------------------------------------------------------------------------------- all together
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


def grouped(found: list[Submission]) -> list[list[Submission]]:
    """The files of each student for each lab."""
    groups: dict[tuple, list[Submission]] = {}
    for entry in found:
        groups.setdefault((entry.student, entry.lab), []).append(entry)
    return list(groups.values())


def choose(group: list[Submission]) -> Submission:
    """The newest readable file, of equally old ones the highest number in its name; a notebook
    before a script. Different notebooks in different folders are refused: a person must say which
    counts.
    """
    best = max(group, key=rank)
    others = tuple(sorted(entry.file for entry in group if entry is not best))
    notebooks = [e for e in group if e.lab and not e.problem and not e.file.endswith(".py")]
    folders = {entry.file.rpartition("/")[0] for entry in notebooks}
    if len(folders) > 1 and len({entry.digest for entry in notebooks}) > 1:
        names = ", ".join(sorted(entry.file for entry in notebooks)[:4])
        problem = f"different notebooks of one lab in different folders ({names}): which counts?"
        return replace(best, problem=problem, cells=(), others=others)
    return replace(best, others=others)


def rank(entry: Submission) -> tuple:
    """What makes one file count before another."""
    is_script = entry.file.lower().endswith(".py")
    return not entry.problem, not is_script, entry.submitted, copy_number(entry.file), entry.file


def copy_number(file: str) -> int:
    """The number of a copy: 2 for "lab (2).ipynb" and "lab-2.ipynb"; 0 for "Lab 2.ipynb", whose
    number is its name.
    """
    tail = file[-40:].lower()
    for ending in (".txt", ".json", ".ipynb"):
        tail = tail.removesuffix(ending)
    if tail.endswith(")"):
        head, bracket, number = tail[:-1].rpartition("(")
    else:
        number = tail[len(tail.rstrip(string.digits)) :]
        head = tail.removesuffix(number)
        bracket = head.endswith("-")
    return int(number[-9:]) if bracket and number.isascii() and number.isdecimal() else 0


def drop_hopeless(chosen: list[Submission]) -> list[Submission]:
    """Without unreadable extras of students who have a notebook for a lab; what is unreadable alone
    stays, with its reason.
    """
    graded = {entry.student for entry in chosen if entry.lab and not entry.problem}
    return sorted(
        (entry for entry in chosen if entry.lab or entry.student not in graded),
        key=lambda e: (e.student, e.lab),
    )
