"""What a batch leaves: grades.csv, a page of feedback for each student, and a summary with a
histogram for each question.

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

from lab_utils.files import write_text

COLUMNS = (
    "student",
    "lab",
    "question",
    "points",
    "out_of",
    "submitted",
    "submitted_from",
    "seed",
    "sandbox",
    "outcome",
    "reason",
    "likely_mistake",
    "file",
)
BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {{ font: 17px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #ccc }}
td {{ overflow-wrap: anywhere }}
.bar {{ display: inline-block; height: .9em; margin-right: .5em; vertical-align: middle }}
</style></head><body>
{body}
</body></html>
"""


# ---------------------------------------------------------------------------------------- files
def write_reports(records: list[dict], out: Path) -> list[str]:
    """Write all reports. Return a line for each that could not be written; the others are."""
    records = sorted(records, key=lambda record: (record["student"], record["lab"]))
    by_student: dict[str, list[dict]] = {}
    for record in records:
        by_student.setdefault(record["student"], []).append(record)
    files = {out / "grades.csv": grades_csv(records), out / "summary.html": summary_page(records)}
    for student, theirs in by_student.items():
        files[out / "feedback" / file_name(student, ".html")] = feedback_page(student, theirs)
    return [trouble for path, text in files.items() if (trouble := write_or_say(path, text))]


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
                row["points"],
                row["out_of"],
                record["submitted"],
                record["submitted_from"],
                row["seed"],
                record["sandbox"],
                row["kind"],
                row["message"],
                row["mistake"],
                record["file"],
            ]
            writer.writerow(map(plain_cell, cells))
    return text.getvalue()


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
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


# ---------------------------------------------------------------------------------------- pages
def escape(value: Any) -> str:
    return html.escape(clean(str(value)))


def feedback_page(student: str, records: list[dict]) -> str:
    """What one student gets, all labs on a page. It names no hidden input, no other student."""
    body = [f"<h1>{escape(student)}</h1>"]
    for record in records:
        body.append(
            f"<h2>{escape(record['lab'] or 'no lab')}: {points_text(record['questions'])}</h2>"
        )
        body.append(
            f"<p>File: {escape(record['file'])}. Handed in: "
            f"{escape(record['submitted'] or 'unknown')}.</p>"
        )
        if record["others"]:
            body.append(
                "<p>Not graded, since there is a newer one: "
                f"{escape(', '.join(record['others']))}.</p>"
            )
        rows = "".join(feedback_row(row) for row in record["questions"])
        body.append(
            f"<table><tr><th>question</th><th>points</th><th>what was seen</th></tr>{rows}</table>"
        )
    return PAGE.format(title=f"Feedback: {escape(student)}", body="\n".join(body))


def feedback_row(row: dict) -> str:
    sign = "✓" if row["points"] and row["points"] == row["out_of"] else "✗"
    mistake = f"<br><b>Likely mistake:</b> {escape(row['mistake'])}" if row["mistake"] else ""
    return (
        f'<tr><th scope="row"><code>{escape(row["question"])}</code></th>'
        f"<td>{sign} {row['points']:g} of "
        f"{row['out_of']:g}</td><td>{escape(row['message'])}{mistake}</td></tr>"
    )


def points_text(rows: list[dict]) -> str:
    return (
        f"{sum(row['points'] for row in rows):g} of {sum(row['out_of'] for row in rows):g} points"
    )


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
        f"{escape(', '.join(sorted({record['sandbox'] for record in records})))}.</p>",
    ]
    for lab in sorted({record["lab"] for record in records}):
        totals = Counter(
            sum(row["points"] for row in record["questions"])
            for record in records
            if record["lab"] == lab
        )
        body += [
            f"<h2>{escape(lab or 'not recognised')}</h2>",
            bars("points", {f"{p:g}": totals[p] for p in sorted(totals)}),
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
        f"COULD NOT BE WRITTEN: {trouble}. Make room and give the same command again: what is "
        "graded is kept."
        for trouble in troubles
    ]
    places = {
        "Grades": out / "grades.csv",
        "Summary": out / "summary.html",
        "Feedback": out / "feedback",
    }
    return "\n".join([*lines, *(f"{name}: {place}" for name, place in places.items())])
