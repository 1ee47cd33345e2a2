"""What a batch leaves: grades.csv with a row for each question, totals.csv with a row for each
student, a page of feedback for each, and a summary with a histogram for each question.

Names, files and reasons come from students: all of it is escaped, in HTML against markup, in CSV
against formulas.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

from lab_utils.course.grading.marks import ABSENT, lab_points, students_of, totals
from lab_utils.files import write_text

COLUMNS = tuple(
    """
    student lab question points out_of final override note days_late submitted submitted_from
    seed sandbox outcome reason likely_mistake ran file
    """.split()
)
UNDECIDED = ("unreadable", "not asked")  # what a person must look at
BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {{ font: 17px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; color: #222 }}
body {{ padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0 }}
th, td {{ border-bottom: 1px solid #ccc }}
td {{ overflow-wrap: anywhere }}
th[scope=row] {{ white-space: nowrap }}
.points {{ white-space: nowrap }}
.bar {{ display: inline-block; height: .9em; margin-right: .5em; vertical-align: middle }}
@media (max-width: 40rem) {{
  tr {{ display: block; padding: .5rem 0; border-bottom: 1px solid #ccc }}
  th, td {{ display: inline-block; border: 0; padding: 0 .8rem 0 0 }}
  tr.head {{ display: none }}
}}
</style></head><body>
{body}
</body></html>
"""


# ---------------------------------------------------------------------------------------- files
def write_reports(records: list[dict], out: Path) -> list[str]:
    """Write all reports. Return a line for each that could not be written; the others are."""
    records = sorted(records, key=lambda record: (record["student"], record["lab"]))
    by_student = students_of(records)
    files = {
        out / "grades.csv": grades_csv(records),
        out / "totals.csv": totals_csv(records),
        out / "summary.html": summary_page(records),
    }
    for student, theirs in by_student.items():
        files[out / "feedback" / file_name(student, ".html")] = feedback_page(student, theirs)
    troubles = [trouble for path, text in files.items() if (trouble := write_or_say(path, text))]
    for page in (out / "feedback").glob("*-????????.html"):
        if page not in files:  # of a student of an earlier batch
            page.unlink(missing_ok=True)
    return troubles


def write_or_say(path: Path, text: str) -> str:
    """Write a file; "" or why it could not be."""
    try:
        write_text(path, text)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def file_name(name: str, ending: str) -> str:
    """A readable file name that no other name gets, whatever the file system does to case."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}{ending}"


# --------------------------------------------------------------------------------------- grades.csv
def grades_csv(records: list[dict]) -> str:
    """A row for each student and question."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        for row in record["questions"]:
            cells = [
                record["student"],
                record["lab"],
                row["question"],
                blank_or(row["points"]),
                row["out_of"],
                blank_or(row["final"]),
                row["override"],
                row["note"],
                record["days_late"] or ("late" if record["system_says_late"] else ""),
                record["submitted"],
                record["submitted_from"],
                row["seed"],
                record["sandbox"],
                row["kind"],
                row["message"],
                row["mistake"],
                row["ran"],
                record["file"],
            ]
            writer.writerow(map(plain_cell, cells))
    return text.getvalue()


def blank_or(value: float | None) -> str:
    """A number as short as it is, "" for a row that is left blank."""
    return "" if value is None else f"{value:.10g}"


def totals_csv(records: list[dict]) -> str:
    """A row for each student: final points of each lab, their sum, and what a person must know."""
    labs, points, by_student = lab_points(records), totals(records), students_of(records)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "id", "section", *labs, "total", "out_of", "remarks"])
    for student in sorted(points):
        theirs = by_student[student]
        row = [points[student].get(lab) for lab in labs]
        known = [value for value in row if value is not None]
        total = blank_or(round(sum(known), 4) if known else None)
        who = [student, theirs[0]["id"], theirs[0]["section"]]
        cells = [*who, *map(blank_or, row), total, blank_or(sum(labs.values())), remarks(theirs)]
        writer.writerow(map(plain_cell, cells))
    return text.getvalue()


def remarks(records: list[dict]) -> str:
    """What a person must know of one student: what was unreadable or not asked, what was late."""
    found = []
    for record in records:
        kinds = {row["kind"] for row in record["questions"]} & {*UNDECIDED, ABSENT}
        found += [f"{record['lab'] or record['file']}: {kind}" for kind in sorted(kinds)]
        if late := late_text(record):
            found.append(f"{record['lab']}: {late}")
    return "; ".join(found)


def late_text(record: dict) -> str:
    """How late a hand-in was and what it costs, or ""."""
    days, free = record["days_late"], record["free_days"]
    if not days:
        return "late, says the system" if record["system_says_late"] else ""
    text = f"{days} day{'s' if days > 1 else ''} late"
    text += f", {free:g} of them free" if free else ""
    cost = 1 - record["factor"]
    return text + (f", {cost:.0%} of the points taken off" if cost else "")


def plain_cell(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula, on one line and in Unicode that can be
    written.
    """
    if not isinstance(value, str):
        return value
    value = " ".join(clean(value).split())
    return "'" + value if value.startswith(("=", "+", "-", "@")) else value


def clean(text: str) -> str:
    """Without what is no character: file names may hold any bytes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


# ---------------------------------------------------------------------------------------- pages
def escape(value: Any) -> str:
    return html.escape(clean(str(value)))


def feedback_page(student: str, records: list[dict]) -> str:
    """What one student gets, all labs on a page. It names no hidden input, no other student."""
    body = [f"<h1>{escape(student)}</h1>"]
    for record in records:
        heading = f"{record['lab'] or 'no lab'}: {points_text(record['questions'])}"
        body.append(f"<h2>{escape(heading)}</h2>")
        late = f" {late_text(record).capitalize()}." if late_text(record) else ""
        zone = record["submitted_from"].partition(";")[0]
        came = f"{record['submitted'] or 'unknown'}" + (f", {zone}" if zone else "")
        body.append(
            f"<p>File: {escape(record['file'] or 'none')}. Handed in: {escape(came)}."
            f"{escape(late)}</p>"
        )
        if record["others"]:
            body.append(f"<p>Not graded: {escape(', '.join(record['others']))}.</p>")
        rows = "".join(feedback_row(row) for row in record["questions"])
        body.append(
            '<table><tr class="head"><th>question</th><th>points</th><th>what was seen</th></tr>'
            f"{rows}</table>"
        )
    body.append(
        "<p>Inputs were drawn anew for you. To see an answer fail, run "
        "<code>check(your_function, seed=1)</code> in the lab, and other seeds.</p>"
    )
    return PAGE.format(title=f"Feedback: {escape(student)}", body="\n".join(body))


def feedback_row(row: dict) -> str:
    """A line of the table: the question, its points, what was seen, and what a person wrote."""
    sign = "✓" if row["points"] and row["points"] == row["out_of"] else "✗"
    said = [escape(row["message"])]
    said += [f"<b>Likely mistake:</b> {escape(row['mistake'])}"] if row["mistake"] else []
    said += [f"<b>Set by your instructor:</b> {escape(row['override'])}"] if row["override"] else []
    said += [f"<b>Note:</b> {escape(row['note'])}"] if row["note"] else []
    graded = row["points"] is not None and row["kind"] != "not asked"
    points = f"{sign} {row['points']:g} of {row['out_of']:g}" if graded else "not graded"
    return (
        f'<tr><th scope="row"><code>{escape(row["question"] or "the file")}</code></th>'
        f'<td class="points">{points}</td>'
        f"<td>{'<br>'.join(said)}</td></tr>"
    )


def points_text(rows: list[dict]) -> str:
    """ "3 of 5 points", as a person and the late policy have left them."""
    points = sum(row["final"] or 0 for row in rows)
    return f"{round(points, 2):g} of {sum(row['out_of'] for row in rows):g} points"


def histograms(records: list[dict]) -> dict[tuple[str, str], Counter]:
    """{(lab, question): how many submissions came to each outcome}, "right" first."""
    found: dict[tuple[str, str], Counter] = {}
    for record in records:
        for row in record["questions"]:
            found.setdefault((record["lab"], row["question"]), Counter())[row["kind"]] += 1
    return found


def summary_page(records: list[dict]) -> str:
    """The batch in one page: points, and for each question a bar for every outcome."""
    students = len({record["student"] for record in records})
    body = [
        "<h1>Summary</h1>",
        f"<p>{students} students, {len(records)} notebooks. Sandbox: "
        f"{escape(', '.join(sorted({r['sandbox'] for r in records if r['sandbox']})))}.</p>",
    ]
    body += to_look_at(records)
    for lab in sorted({record["lab"] for record in records}):
        counts_of = Counter(
            sum(row["final"] or 0 for row in record["questions"])
            for record in records
            if record["lab"] == lab
        )
        body += [
            f"<h2>{escape(lab or 'not recognised')}</h2>",
            bars("points", {f"{p:g}": counts_of[p] for p in sorted(counts_of)}),
        ]
        for (of, question), counts in histograms(records).items():
            if of == lab and question:
                ordered = {
                    kind: counts[kind]
                    for kind in sorted(counts, key=lambda kind: (kind != "right", -counts[kind]))
                }
                body += [
                    f"<h3><code>{escape(question)}</code></h3>",
                    bars("outcome", ordered),
                    mistakes(records, lab, question),
                ]
    return PAGE.format(title="Summary of grades", body="\n".join(body))


def to_look_at(records: list[dict]) -> list[str]:
    """What a person must look at, by name: unreadable, not asked, late."""
    lines = [
        f"<li>{escape(record['student'])}: {escape(remarks([record]))}</li>"
        for record in records
        if remarks([record])
    ]
    return ["<h2>To look at</h2><ul>", *lines, "</ul>"] if lines else []


def bars(label: str, counts: dict[str, int]) -> str:
    """A histogram as a table: the bar is a picture of the number beside it."""
    largest = max(counts.values(), default=1)
    colors = {name: ORANGE if label == "outcome" and name != "right" else BLUE for name in counts}
    rows = "".join(
        f'<tr><th scope="row" style="width:12rem">{escape(name)}</th><td><span class="bar" '
        f'style="background:{colors[name]};width:{24 * n / largest:.2f}rem"></span>{n}</td></tr>'
        for name, n in counts.items()
    )
    return f"<table><tr><th>{label}</th><th>notebooks</th></tr>{rows}</table>"


def mistakes(records: list[dict], lab: str, question: str) -> str:
    """The likely mistakes of a question, the most frequent first: for the next lecture."""
    found = Counter(
        row["mistake"]
        for record in records
        if record["lab"] == lab
        for row in record["questions"]
        if row["question"] == question and row["mistake"]
    )
    items = "".join(f"<li>{n} x {escape(mistake)}</li>" for mistake, n in found.most_common(5))
    return f"<p>Likely mistakes:</p><ul>{items}</ul>" if items else ""


def summary_text(records: list[dict], out: Path, troubles: list[str]) -> str:
    """The batch on a terminal: how many were right at each question, and where everything is."""
    lines = []
    for (lab, question), counts in sorted(histograms(records).items()):
        if question:
            others = ", ".join(f"{kind} {n}" for kind, n in counts.most_common() if kind != "right")
            line = f"{lab:<26} {question:<28} {counts['right']:>4} of {counts.total()} right"
            lines.append(f"{line}   {others}" if others else line)
    lines += [
        f"{clean(record['student'])}: {clean(remarks([record]))}"
        for record in records
        if {row["kind"] for row in record["questions"]} & {*UNDECIDED}
    ]
    lines += [
        f"COULD NOT BE WRITTEN: {trouble}. Make room and give the same command again: what is "
        "graded is kept."
        for trouble in troubles
    ]
    places = {
        "Grades": out / "grades.csv",
        "Totals": out / "totals.csv",
        "Summary": out / "summary.html",
        "Feedback": out / "feedback",
    }
    return "\n".join([*lines, *(f"{name}: {place}" for name, place in places.items())])
