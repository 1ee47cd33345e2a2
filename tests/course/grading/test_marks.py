"""Marks: late days, persons' decisions, the roster, and the files that gradebooks import."""

import csv
import io
import re
from datetime import datetime, timedelta, timezone

import pytest

from lab_utils.course.grading import gradebooks, marks, reports
from lab_utils.course.grading.gradebooks import gradebook_text
from lab_utils.course.grading.late import Policy, parse_time, read_policy
from lab_utils.course.grading.roster import (
    Person,
    find_people,
    people_of,
    read_roster,
    read_table,
)
from lab_utils.files import LabKitError

LABS = ["01_quantization_buckets", "02_double_quantization"]
DUE = datetime(2026, 11, 20, 23, 59, tzinfo=timezone(timedelta(hours=2)))


# ---------------------------------------------------------------------------------------- late
@pytest.mark.parametrize(
    "text, utc",
    [
        ("2026-03-05T10:00:00+02:00", "2026-03-05T08:00:00+00:00"),
        ("2026-03-05T10:00:00Z", "2026-03-05T10:00:00+00:00"),
        ("2026-03-05 10:00:00 -0500", "2026-03-05T15:00:00+00:00"),
        ("2026-03-05T10:00:00", "2026-03-05T10:00:00+00:00"),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_as_exports_write_them(text, utc):
    time = parse_time(text)
    assert (time and time.astimezone(timezone.utc).isoformat()) == utc


@pytest.mark.parametrize(
    "after, days", [(-1, 0), (0, 0), (10, 0), (11, 1), (1440, 1), (1451, 2), (10 * 1440, 10)]
)
def test_days_late_begin_after_the_grace(after, days):
    policy = Policy({LABS[0]: DUE}, grace_minutes=10)
    came = (DUE + timedelta(minutes=after)).astimezone(timezone.utc).isoformat()
    assert policy.days_late(LABS[0], came) == days
    assert policy.days_late(LABS[1], came) == policy.days_late(LABS[0], "unknown") == 0


def test_free_days_are_spent_in_the_order_of_the_due_times():
    policy = Policy(
        {LABS[1]: DUE, LABS[0]: DUE + timedelta(days=7)}, late_days=2, per_day=0.1, at_most=0.25
    )
    came = {lab: (policy.due[lab] + timedelta(days=d)).isoformat() for lab, d in zip(LABS, (4, 1))}
    found = policy.penalties(came)
    assert found[LABS[1]] == {"days_late": 1, "free_days": 1, "factor": 1.0}
    assert found[LABS[0]] == {"days_late": 4, "free_days": 1, "factor": 0.75}  # 3 days, at most .25
    assert policy.penalties(came, extra_days=2)[LABS[0]]["factor"] == pytest.approx(0.9)


def test_a_policy_is_a_toml_file(tmp_path):
    (tmp_path / "late.toml").write_text(
        'zone = "Europe/Berlin"\nper_day = 0.2\nlate_days = 3\n[due]\n"02" = 2026-11-20T23:59:00\n'
    )
    policy = read_policy(tmp_path / "late.toml", ["01=2026-11-06T12:00+00:00"], LABS)
    assert policy.due[LABS[1]].isoformat() == "2026-11-20T23:59:00+01:00"
    assert policy.due[LABS[0]].isoformat() == "2026-11-06T12:00:00+00:00"
    assert (policy.per_day, policy.late_days, policy.factor(2)) == (0.2, 3, 0.6)


@pytest.mark.parametrize(
    "text, due, said",
    [
        ("per_dya = 1", [], "per_dya is no part of a late policy"),
        ("per_day = -1", [], "per_day wants a number of 0 or more, got -1"),
        ("per_day = ", [], "is no late policy"),
        ('zone = "Nowhere"', [], "there is no zone 'Nowhere'"),
        ("", ["02"], "--due wants LAB=TIME"),
        ("", ["07=2026-11-20"], "a due time for '07': the labs are 01_"),
        ("", ["02=soon"], "soon is no time"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said(text, due, said, tmp_path):
    (tmp_path / "late.toml").write_text(text)
    with pytest.raises(LabKitError, match=said):
        read_policy(tmp_path / "late.toml", due, LABS)


# ---------------------------------------------------------------------------------------- roster
JANE = Person("Doe, Jane", "111", "jd7", "jane@school.edu", "A", 2)
ZOE = Person("Zo\u00eb O'Neil-Smith", "333", "", "zoe@school.edu", "B")
TWIN = Person("Doe, Jane", "112", "jd8", "jd8@school.edu", "B")


@pytest.mark.parametrize(
    "student, person",
    [
        ("Jane Doe (111)", JANE),
        ("Somebody (jane@school.edu)", JANE),
        ("jd7", JANE),
        ("Jane Doe (99)", None),  # two of that name
        ("ZOE O\u2019Neil-Smith", ZOE),
        ("Zoe\u0308 O'Neil Smith (17)", ZOE),
        ("zo\u00eboneilsmith (4711)", ZOE),
        ("nobody (1)", None),
    ],
)
def test_who_a_student_of_an_export_is(student, person):
    assert find_people([student], [JANE, TWIN, ZOE]) == {student: person}


@pytest.mark.parametrize(
    "delimiter, encoding", [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16")]
)
def test_a_roster_in_any_csv(delimiter, encoding, tmp_path):
    rows = [["Last name", "First name", "ID number", "Email address", "extra_days"]]
    rows.append(["Doe", "Jane", "111", "jane@school.edu", "2"])
    text = "\n".join(delimiter.join(row) for row in rows)
    (tmp_path / "roster.csv").write_bytes(text.encode(encoding))
    [person] = read_roster(tmp_path / "roster.csv")
    assert (person.name, person.id, person.email, person.extra_days) == (
        "Doe, Jane",
        "111",
        "jane@school.edu",
        2,
    )
    assert person.first_and_last == ("Jane", "Doe")


@pytest.mark.parametrize("text, said", [("", "is empty"), ("a,b\n1,2\n", "names nobody")])
def test_a_roster_that_is_none_is_said(text, said, tmp_path):
    (tmp_path / "roster.csv").write_text(text)
    with pytest.raises(LabKitError, match=said):
        read_roster(tmp_path / "roster.csv")


# --------------------------------------------------------------------------------------- gradebooks
PEOPLE = [JANE, ZOE]
POINTS = {"Jane Doe (111)": {LABS[0]: 4.5, LABS[1]: 0.0}, "zoe@school.edu": {LABS[0]: None}}
OUT_OF = {LABS[0]: 5.0, LABS[1]: 3.0}
CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Lab 1 (881),Lab 2 (882),Essay (883),Final Score\n"
    "    Points Possible,,,,,5,3,10,(read only)\n"
    '"Doe, Jane",9001,111,jd7,A,,2,7,50\n'
    '"O\'Neil-Smith, Zo\u00eb",9002,333,zoe@school.edu,B,1,,8,\n'
)
BLACKBOARD = (
    '"Last Name","First Name","Username","Lab 01 [Total Pts: 5 Score] |123","Essay |124"\n'
    '"Doe","Jane","jd7","",""\n'
)


def read(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def test_canvas_from_a_roster_has_what_its_importer_asks_for():
    """The rules of lib/gradebook_importer.rb: "Student" and "ID" first, then the SIS's columns, the
    last of a student's columns is "Section", and "Points Possible" begins the second row.
    """
    text, lost = gradebook_text("canvas", POINTS, OUT_OF, PEOPLE)
    rows = list(csv.reader(io.StringIO(text)))
    header = rows[0]
    assert "Student" in header[0] and "ID" in header[1]
    assert re.match(r"SIS\s+User\s+ID", header[2]) and re.match(r"SIS\s+Login\s+ID", header[3])
    assert header[4] == "Section" and header[5:] == LABS and lost == []
    assert "Points Possible" in rows[1][0] and rows[1][5:] == ["5", "3"]
    assert rows[2] == ["Doe, Jane", "", "111", "jd7", "A", "4.5", "0"]
    assert rows[3][5:] == ["", ""], "no points is not 0"


def test_a_downloaded_gradebook_comes_back_with_the_points_alone(tmp_path):
    (tmp_path / "canvas.csv").write_text(CANVAS, encoding="utf-8")
    table = read_table(tmp_path / "canvas.csv")
    text, lost = gradebook_text("canvas", {**POINTS, "x (5)": {}}, OUT_OF, people_of(table), table)
    before, after = read(CANVAS), read(text)
    assert lost == ["x (5): nobody in the gradebook has this name"]
    assert list(after[0]) == list(before[0]), "no column more, none less"
    changed = {
        (i, title): (before[i][title], after[i][title])
        for i in range(3)
        for title in before[0]
        if before[i][title] != after[i][title]
    }
    assert changed == {(1, "Lab 1 (881)"): ("", "4.5"), (1, "Lab 2 (882)"): ("2", "0")}


def test_blackboard_keeps_its_numbers_of_columns(tmp_path):
    (tmp_path / "bb.csv").write_text(BLACKBOARD, encoding="utf-8")
    table = read_table(tmp_path / "bb.csv")
    text, _ = gradebook_text(
        "blackboard", {"jd7": {LABS[0]: 3}}, {LABS[0]: 5}, people_of(table), table
    )
    assert text.splitlines() == [BLACKBOARD.splitlines()[0], '"Doe","Jane","jd7","3",""']


@pytest.mark.parametrize(
    "system, expected",
    [
        ("moodle", {"Email address": "jane@school.edu", "ID number": "111", LABS[0]: "4.5"}),
        ("gradescope", {"SID": "111", LABS[0]: "4.5", f"{LABS[1]} - Max Points": "3"}),
        ("blackboard", {"Username": "jd7", f"{LABS[0]} [Total Pts: 5 Score]": "4.5"}),
    ],
)
def test_the_other_systems_name_their_students_their_own_way(system, expected):
    text, _ = gradebook_text(system, POINTS, OUT_OF, PEOPLE)
    row = read(text)[0]
    assert {name: row[name] for name in expected} == expected and len(read(text)) == 2


def test_what_cannot_be_exported_is_said():
    with pytest.raises(LabKitError, match="give --roster or --gradebook"):
        gradebook_text("canvas", POINTS, OUT_OF, [])
    with pytest.raises(LabKitError, match="several columns of the gradebook may be 01_"):
        gradebooks.column_of(LABS[0], ["Lab 1 (1)", "Lab 01 (2)"])


# ------------------------------------------------------------------------------ persons and absence
def record(student: str, points: float = 1, submitted: str = "", lab: str = LABS[0]) -> dict:
    row = {
        "question": "f",
        "points": points,
        "out_of": 2,
        "seed": 1,
        "kind": "right",
        "message": "",
        "mistake": "",
        "ran": "",
    }
    return {
        "student": student,
        "lab": lab,
        "file": "x",
        "others": [],
        "submitted": submitted,
        "submitted_from": "file time",
        "system_says_late": False,
        "sandbox": "s",
        "questions": [row],
    }


def graded(out, records, policy=None, people=()):
    """One run's reports, as the command makes them."""
    earlier = marks.read_earlier(out / "grades.csv")
    decided = marks.read_decisions(out, earlier)
    records = marks.finish(records, policy or Policy(), list(people), decided)
    assert reports.write_reports(records, out) == []
    marks.write_decisions(out, decided)
    now = marks.read_earlier(out / "grades.csv")
    rows = read((out / "grades.csv").read_text(encoding="utf-8"))
    return rows, marks.changes(earlier.final, now.final)


@pytest.fixture
def out(tmp_path):
    for name in ("results", "feedback"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_person_s_decision_survives_the_next_run_and_others(out):
    graded(out, [record("=a"), record("b")])
    text = (out / "grades.csv").read_text(encoding="utf-8")
    table = list(csv.reader(io.StringIO(text)))
    place = {name: i for i, name in enumerate(table[0])}
    table[1][place["override"]], table[1][place["note"]] = "1,5", "talked to her"
    with (out / "grades.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    rows, changed = graded(out, [record("=a", 0), record("b", 2)])
    assert [(row["final"], row["points"], row["note"]) for row in rows] == [
        ("1.5", "0", "talked to her"),
        ("2", "2", ""),
    ]
    assert changed == [f"'=a: {LABS[0]}: f: 1 -> 1.5", f"b: {LABS[0]}: f: 1 -> 2"]
    graded(out, [record("c", lab=LABS[1])])
    rows, _ = graded(out, [record("=a", 0)])
    assert rows[0]["note"] == "talked to her", "also after a run about others"
    page = next((out / "feedback").glob("a-*.html")).read_text(encoding="utf-8")
    assert "talked to her" in page and "1.5 of 2 points" in page


def test_late_days_cost_points_and_are_said(out):
    policy = Policy({LABS[0]: DUE}, per_day=0.25)
    came = (DUE + timedelta(days=1, hours=1)).isoformat()
    rows, _ = graded(out, [record("a", 2, came)], policy)
    assert (rows[0]["points"], rows[0]["final"], rows[0]["days_late"]) == ("2", "1", "2")
    [page] = (out / "feedback").glob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "2 days late, 50% of the points taken off" in text and "1 of 2 points" in text
    assert "a: " + f"{LABS[0]}: 2 days late" in (out / "summary.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("zeros, total", [(True, "0"), (False, "")])
def test_everybody_of_the_roster_has_a_row(zeros, total, out):
    records = [record("Jane Doe (111)")]
    absent = marks.absent_records(records, PEOPLE, {LABS[0]: [("f", 2)]}, zeros)
    assert [entry["student"] for entry in absent] == [f"{ZOE.name} (333)"]
    rows, _ = graded(out, records + absent, people=PEOPLE)
    assert rows[1]["outcome"] == "not handed in" and rows[1]["points"] == total
    [jane, zoe] = read((out / "totals.csv").read_text(encoding="utf-8"))
    assert (jane["id"], jane["section"], jane["total"], jane["out_of"]) == ("111", "A", "1", "2")
    assert zoe["total"] == total and "not handed in" in zoe["remarks"]


def test_pages_of_an_earlier_batch_go(out):
    graded(out, [record("a"), record("b")])
    assert len(list((out / "feedback").glob("*.html"))) == 2
    graded(out, [record("b")])
    [page] = (out / "feedback").glob("*.html")
    assert page.name.startswith("b-")
