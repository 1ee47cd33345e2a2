"""Who is in the course: a CSV of the instructor's, with a row for each student.

Columns are known by their names, in any order: `name` (or first and last name), `id`, `login`,
`email`, `section`, `extra_days`, and the names that the gradebooks of Canvas, Moodle, Gradescope
and Blackboard give them. So a downloaded gradebook is a roster too.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab_utils.files import LabKitError

ALIASES = {
    "name": ("name", "student", "student name", "full name"),
    "first": ("first name", "firstname", "given name"),
    "last": ("last name", "lastname", "surname", "family name"),
    "id": ("id", "id number", "sis user id", "sid", "student id", "number"),
    "login": ("login", "username", "sis login id", "user name"),
    "email": ("email", "email address", "e-mail"),
    "section": ("section", "group"),
    "extra_days": ("extra_days", "extra days", "late days"),
}


@dataclass(frozen=True)
class Person:
    """One student of the course."""

    name: str
    id: str = ""
    login: str = ""
    email: str = ""
    section: str = ""
    extra_days: float = 0
    others: tuple[str, ...] = field(default=())  # further numbers, as Canvas's ID beside the SIS's

    @property
    def numbers(self) -> set[str]:
        """What may stand in brackets behind the name in an export, in lower case."""
        return {x.lower() for x in (self.id, self.login, self.email, *self.others) if x}

    @property
    def first_and_last(self) -> tuple[str, str]:
        """("Jane", "Doe") of "Doe, Jane" and of "Jane Doe"."""
        last, comma, first = self.name.partition(",")
        if comma:
            return first.strip(), last.strip()
        first, _, last = self.name.rpartition(" ")
        return first.strip(), last.strip()


# ---------------------------------------------------------------------------------------- reading
@dataclass
class Table:
    """A CSV as it is: its header, its rows, and what parts its cells."""

    header: list[str]
    rows: list[list[str]]
    delimiter: str = ","

    def column(self, kind: str) -> int | None:
        """The place of a column that ALIASES knows, or None."""
        names = [name.strip().strip("\ufeff").lower() for name in self.header]
        return next((names.index(alias) for alias in ALIASES[kind] if alias in names), None)


def read_table(path: Path) -> Table:
    """A CSV with commas, semicolons or tabs, in UTF-8, UTF-16 or Latin-1. LabKitError if it is
    none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabKitError(f"{path} cannot be read: {error.strerror}") from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    if not rows:
        raise LabKitError(f"{path} is empty; a roster has a header and a row for each student.")
    return Table(rows[0], rows[1:], delimiter)


def read_roster(path: Path) -> list[Person]:
    """The students of a roster or of a downloaded gradebook. LabKitError says what is missing."""
    people = people_of(read_table(path))
    if not people:
        raise LabKitError(
            f"{path} names nobody: it needs a column name (or first name and last name), and best "
            "also id, email, section, extra_days."
        )
    return people


def people_of(table: Table) -> list[Person]:
    """The students in a table's rows; a row without a name or number is none."""
    return [person for row in table.rows if (person := person_of(table, row))]


def person_of(table: Table, row: list[str]) -> Person | None:
    """The student of one row, or None: Canvas's second row says "Points Possible"."""

    def cell(kind: str) -> str:
        place = table.column(kind)
        return row[place].strip() if place is not None and place < len(row) else ""

    name = cell("name") or f"{cell('last')}, {cell('first')}".strip(", ")
    if not name or "points possible" in name.lower():
        return None
    names = [heading.strip().lower() for heading in table.header]
    others = [row[i].strip() for i, n in enumerate(names) if n in ALIASES["id"] and i < len(row)]
    try:
        extra = float(cell("extra_days") or 0)
    except ValueError:
        raise LabKitError(f"the extra days of {name} are no number: {cell('extra_days')}") from None
    ids = (cell("id"), cell("login"), cell("email"), cell("section"))
    return Person(unicodedata.normalize("NFC", name), *ids, extra, tuple(others))


# ---------------------------------------------------------------------------------------- matching
def words_of(name: str) -> tuple[str, ...]:
    """The words of a name without case, accents and order: "Doé, Jane" is "jane doe"."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return tuple(sorted("".join(c if c.isalnum() else " " for c in plain).split()))


def squeezed(name: str) -> str:
    """A name as Canvas writes it into file names: "Doe, Jane" is "doejane"."""
    return "".join(c for c in name.casefold() if c.isalnum() or c == "_")


def find_people(students: Iterable[str], people: Iterable[Person]) -> dict[str, Person | None]:
    """{student as an export says it: the one student of the course}: by the number in brackets,
    else by the name. None where nobody or several fit. In a time that grows with the class.
    """
    known: dict[tuple, set[Person]] = {}
    for person in people:
        keys = [("number", number) for number in person.numbers]
        keys += [("words", words_of(person.name)), ("squeezed", squeezed(person.name))]
        for key in keys:
            known.setdefault(key, set()).add(person)
    return {student: the_one(student, known) for student in students}


def the_one(student: str, known: dict[tuple, set[Person]]) -> Person | None:
    """The only one who fits by number, else by name."""
    name, bracket, number = student.rpartition(" (")
    name, number = (name, number.rstrip(")").lower()) if bracket else (student, "")
    by_number = [("number", number), ("number", student.lower())]
    by_name = [("words", words_of(name)), ("squeezed", squeezed(name))]
    for keys in (by_number, by_name):
        found = set().union(*(known.get(key, set()) for key in keys))
        if len(found) == 1:
            return found.pop()
    return None
