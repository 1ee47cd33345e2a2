"""From verdicts to marks: what being late costs, what a person has decided, who handed in nothing.

A person decides in grades.csv itself: what stands in its columns `override` and `note` is taken
over by the next run, whatever that run finds.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_utils.course.grading.asking import EMPTY_ROW
from lab_utils.course.grading.late import Policy
from lab_utils.course.grading.roster import Person, find_people
from lab_utils.files import write_json

DECISIONS = Path("results", "decisions.json")
ABSENT = "not handed in"
Key = tuple[str, str, str]  # student, lab, question, as grades.csv has them


@dataclass(frozen=True)
class Earlier:
    """What the grades.csv of the run before says."""

    final: dict[Key, str]
    decided: dict[Key, tuple[str, str]]  # (override, note) where one of them is there


def read_earlier(path: Path) -> Earlier:
    """The earlier grades; nothing where there are none, or where they are no grades."""
    final: dict[Key, str] = {}
    decided: dict[Key, tuple[str, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                key = (row["student"], row["lab"], row["question"])
                final[key] = row.get("final") or row["points"]
                told = ((row.get("override") or "").strip(), (row.get("note") or "").strip())
                if any(told):
                    decided[key] = told
    except (OSError, KeyError, ValueError, csv.Error):
        return Earlier({}, {})
    return Earlier(final, decided)


def read_decisions(out: Path, earlier: Earlier) -> dict[Key, tuple[str, str]]:
    """All decisions of persons, also about students and labs that the run before did not grade.
    What was taken out of grades.csv is gone.
    """
    try:
        rows = json.loads((out / DECISIONS).read_text(encoding="utf-8"))
        kept = {tuple(row[:3]): tuple(row[3:5]) for row in rows}
    except (OSError, ValueError, TypeError):
        kept = {}
    kept = {key: told for key, told in kept.items() if key not in earlier.final}
    return {**kept, **earlier.decided}


def write_decisions(out: Path, decided: dict[Key, tuple[str, str]]) -> None:
    """Keep the decisions beside the results. OSError if they cannot be written."""
    if decided:
        write_json(out / DECISIONS, [[*key, *told] for key, told in sorted(decided.items())])


def finish(
    records: list[dict[str, Any]],
    policy: Policy,
    people: list[Person],
    decided: dict[Key, tuple[str, str]],
) -> list[dict[str, Any]]:
    """The records with `id`, `section`, `days_late`, `free_days` and `factor`, and each of their
    rows with `override`, `note` and `final` points. A person's decision counts before the penalty.
    """
    from lab_utils.course.grading.reports import plain_cell

    by_student = students_of(records)
    persons = find_people(by_student, people)
    for student, theirs in by_student.items():
        person = persons[student]
        times = {record["lab"]: record["submitted"] for record in theirs if record["lab"]}
        penalties = policy.penalties(times, person.extra_days if person else 0)
        for record in theirs:
            record["id"], record["section"] = (person.id, person.section) if person else ("", "")
            none = {"days_late": 0, "free_days": 0, "factor": 1.0}
            record.update(penalties.get(record["lab"], none))
            for row in record["questions"]:
                key = (plain_cell(student), record["lab"], row["question"])
                row["override"], row["note"] = decided.get(key, ("", ""))
                row["final"] = final_points(row, record["factor"])
    return records


def students_of(records: list[dict]) -> dict[str, list[dict]]:
    """The records of each student."""
    found: dict[str, list[dict]] = {}
    for record in records:
        found.setdefault(record["student"], []).append(record)
    return found


def final_points(row: dict[str, Any], factor: float) -> float | None:
    """A person's points where there are some, else those that were earned, less the penalty. None
    for a row that is left blank, and for one that nobody could ask.
    """
    try:
        return float(row["override"].replace(",", "."))
    except ValueError:
        pass
    if row["points"] is None or row["kind"] == "not asked":
        return None
    return round(row["points"] * factor, 4)


def absent_records(
    records: list[dict[str, Any]],
    people: list[Person],
    questions: dict[str, list[tuple[str, float]]],
    zeros: bool,
) -> list[dict[str, Any]]:
    """A record for each student of the course and lab without a hand-in, with zeros or blanks.
    `questions` maps each lab of the batch to (question, points).
    """
    persons = find_people({record["student"] for record in records}, people)
    present = {(persons[record["student"]], record["lab"]) for record in records}
    return [
        absent_record(person, lab, questions[lab], zeros)
        for person in people
        for lab in questions
        if (person, lab) not in present
    ]


def absent_record(
    person: Person, lab: str, questions: list[tuple[str, float]], zeros: bool
) -> dict[str, Any]:
    """The record of somebody who handed in nothing."""
    label = f"{person.name} ({person.id})" if person.id else person.name
    rows = [
        {
            **EMPTY_ROW,
            "question": name,
            "points": 0 if zeros else None,
            "out_of": points,
            "kind": ABSENT,
            "message": "nothing was handed in",
        }
        for name, points in questions
    ]
    return {
        "student": label,
        "lab": lab,
        "file": "",
        "others": [],
        "submitted": "",
        "submitted_from": "",
        "system_says_late": False,
        "sandbox": "",
        "questions": rows,
    }


def changes(earlier: dict[Key, str], now: dict[Key, str]) -> list[str]:
    """A line for each row whose points are not those of the run before, that went, or that came."""
    if not earlier:
        return []
    return [
        f"{student}: {lab}: {question}: {earlier.get(key, 'no row')} -> {now.get(key, 'no row')}"
        for key in sorted({*earlier, *now})
        if earlier.get(key) != now.get(key)
        for student, lab, question in [key]
    ]


def totals(records: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """{student: {lab: final points, None where every row is blank}}."""
    found: dict[str, dict[str, float | None]] = {}
    for record in records:
        points = [row["final"] for row in record["questions"] if row["final"] is not None]
        if record["lab"]:
            lab_points = round(sum(points), 4) if points else None
            found.setdefault(record["student"], {})[record["lab"]] = lab_points
        else:
            found.setdefault(record["student"], {})
    return found


def lab_points(records: list[dict[str, Any]]) -> dict[str, float]:
    """{lab: how many points there are}, in order."""
    labs = {
        record["lab"]: sum(row["out_of"] for row in record["questions"])
        for record in records
        if record["lab"]
    }
    return dict(sorted(labs.items()))
