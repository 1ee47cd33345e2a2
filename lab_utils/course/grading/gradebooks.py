"""Points as gradebooks import them: `--export canvas | moodle | gradescope | blackboard`.

Built from a gradebook that was downloaded (`--gradebook FILE`): its columns for students and for
the labs stay as the system wrote them, and only points are filled in. Or from a roster: then with
the columns that each system names its students by.

- Canvas: lib/gradebook_importer.rb of canvas-lms. The header is Student, ID, SIS User ID, SIS Login
  ID, Section, then assignments, an existing one as "Title (number)"; a row "Points Possible".
- Moodle: docs.moodle.org, "Grade import". Any columns; one, here the email address or the ID
  number, is mapped to the student, the others to grade items.
- Blackboard: "Work offline with grade data" of its help. Last Name, First Name, Username, then
  columns "Title [Total Pts: n Score] |number"; one without a number makes a new column.
- Gradescope imports no grades. Its file has the columns of its own "Download Grades" (name, SID,
  email, and for each assignment the score and "- Max Points"), which tools for it read.

None of the four was tried on a real server; the tests hold the files to the rules above.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from lab_utils.course.grading.roster import Person, Table, find_people, person_of
from lab_utils.files import LabKitError

SYSTEMS = ("canvas", "moodle", "gradescope", "blackboard")
Points = dict[str, dict[str, float | None]]  # student as the grades name them: lab: final points


def gradebook_text(
    system: str,
    points: Points,
    out_of: dict[str, float],
    people: list[Person],
    gradebook: Table | None = None,
) -> tuple[str, list[str]]:
    """(the file's text, lines about students that nobody in the course is). `out_of` maps each lab
    to its points. LabKitError where there is neither gradebook nor roster.
    """
    if not people:
        raise LabKitError("--export wants to know the students: give --roster or --gradebook.")
    owners = find_people(points, people)
    theirs = {person: points[student] for student, person in owners.items() if person}
    table = (
        filled(gradebook, theirs, out_of) if gradebook else LAYOUTS[system](people, theirs, out_of)
    )
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if system == "blackboard" else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=table.delimiter, quoting=quoting, lineterminator="\n")
    writer.writerows([table.header, *table.rows])
    lost = [f"{who}: nobody in the gradebook has this name" for who, p in owners.items() if not p]
    return text.getvalue(), lost


def shown(value: float | None) -> str:
    """Points as gradebooks read them: two digits at most, "" for none."""
    return "" if value is None else f"{round(value, 2):g}"


# --------------------------------------------------------------------------- a downloaded gradebook
def filled(table: Table, theirs: dict[Person, dict], out_of: dict[str, float]) -> Table:
    """The gradebook with points in the labs' columns; a lab without a column gets a last one."""
    header, rows = list(table.header), [list(row) for row in table.rows]
    for lab in out_of:
        place = column_of(lab, header)
        if place is None:
            header.append(lab)
            place = len(header) - 1
        for row in rows:
            row += [""] * (len(header) - len(row))
            person = person_of(table, row)
            if person in theirs and theirs[person].get(lab) is not None:
                row[place] = shown(theirs[person][lab])
            elif person is None and not row[place]:
                row[place] = shown(out_of[lab])  # Canvas's row of points possible
    return Table(header, [row + [""] * (len(header) - len(row)) for row in rows], table.delimiter)


def column_of(lab: str, header: list[str]) -> int | None:
    """The one column of a lab: its title holds the lab's name, or "lab" and its number. None where
    there is none. LabKitError where there are several.
    """
    number, _, _ = lab.partition("_")
    wanted = [words(lab), ["lab", number], ["lab", number.lstrip("0") or "0"]]
    found = [
        i
        for i, title in enumerate(header)
        if any(holds(words(title.split(" [")[0].split(" (")[0]), some) for some in wanted)
    ]
    if len(found) > 1:
        titles = ", ".join(header[i] for i in found)
        raise LabKitError(f"several columns of the gradebook may be {lab}: {titles}.")
    return found[0] if found else None


def words(text: str) -> list[str]:
    """The words of a title in lower case."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def holds(title: list[str], some: list[str]) -> bool:
    """Whether some words stand in a title one after the other."""
    return any(title[i : i + len(some)] == some for i in range(len(title)))


# ------------------------------------------------------------------------------------ from a roster
def canvas_table(people: list[Person], theirs: dict, out_of: dict[str, float]) -> Table:
    """As Canvas's importer wants it."""
    header = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *out_of]
    possible = ["    Points Possible", "", "", "", "", *map(shown, out_of.values())]
    rows = [
        [p.name, "", p.id, p.login or p.email, p.section, *points_of(p, theirs, out_of)]
        for p in people
    ]
    return Table(header, [possible, *rows])


def moodle_table(people: list[Person], theirs: dict, out_of: dict[str, float]) -> Table:
    """As Moodle's import maps it."""
    header = ["First name", "Last name", "ID number", "Email address", *out_of]
    rows = [[*p.first_and_last, p.id, p.email, *points_of(p, theirs, out_of)] for p in people]
    return Table(header, rows)


def gradescope_table(people: list[Person], theirs: dict, out_of: dict[str, float]) -> Table:
    """As Gradescope's own download has it."""
    pairs = [title for lab in out_of for title in (lab, f"{lab} - Max Points")]
    rows = []
    for p in people:
        points = points_of(p, theirs, out_of)
        cells = [c for pair in zip(points, map(shown, out_of.values()), strict=True) for c in pair]
        rows.append([*p.first_and_last, p.id, p.email, *cells])
    return Table(["First Name", "Last Name", "SID", "Email", *pairs], rows)


def blackboard_table(people: list[Person], theirs: dict, out_of: dict[str, float]) -> Table:
    """As Blackboard's upload wants it."""
    titles = [f"{lab} [Total Pts: {shown(points)} Score]" for lab, points in out_of.items()]
    rows = []
    for p in people:
        first, last = p.first_and_last
        rows.append([last, first, p.login or p.id, *points_of(p, theirs, out_of)])
    return Table(["Last Name", "First Name", "Username", *titles], rows)


def points_of(person: Person, theirs: dict, out_of: dict[str, float]) -> list[str]:
    """A student's points for each lab, "" where there are none."""
    return [shown(theirs.get(person, {}).get(lab)) for lab in out_of]


LAYOUTS: dict[str, Callable] = {
    "canvas": canvas_table,
    "moodle": moodle_table,
    "gradescope": gradescope_table,
    "blackboard": blackboard_table,
}
