"""For a person: one question for each student and lab about their own code, and what to look at.

A question is drawn from the batch's seed and the notebook, so it stays the same from run to run. A
flag is no mark and takes no point: it says that an answer uses `lab_utils`, or that much of a
student's unusual code stands in a neighbour's notebook too. Both are for the instructor's eyes.
"""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lab_utils.course.grading.exports import Reader
from lab_utils.course.grading.reports import PAGE, escape, plain_cell

if TYPE_CHECKING:
    from lab_utils.checking.checks import Exercise
    from lab_utils.course.grading.submissions import Submission

CODE_SECONDS = 5  # to parse one notebook
FEW = 3  # so many students may share what is still unusual; in large classes a twentieth of them
MOST = 30  # ... up to so many: the cost of a comparison grows with its square
SHARED_PIECES, SHARED_PART = 20, 0.6  # of the unusual pieces of the smaller one


@dataclass(frozen=True)
class Talk:
    """What a person may talk about with one student, for one lab."""

    student: str
    lab: str
    function: str = ""
    question: str = ""
    flags: tuple[str, ...] = ()


def talks_of(
    submissions: list[Submission], exercises: dict[str, list[Exercise]], seed: int
) -> list[Talk]:
    """A talk for each submission of a lab. `exercises` are those of each lab."""
    facts: dict[str, dict[Submission, dict]] = {}
    with Reader() as reader:
        for entry in submissions:
            if entry.lab and entry.cells and not entry.problem:
                names = [exercise.name for exercise in exercises[entry.lab]]
                answer = reader.ask(CODE_SECONDS, do="code", cells=list(entry.cells), names=names)
                facts.setdefault(entry.lab, {})[entry] = answer
    talks = []
    for lab, answers in sorted(facts.items()):
        functions = {entry: answer.get("functions", {}) for entry, answer in answers.items()}
        near = neighbours({entry.student: pieces_of(found) for entry, found in functions.items()})
        for entry, answer in answers.items():
            flags = [f"not looked at: {answer['problem']}"] if "problem" in answer else []
            flags += kit_flags(functions[entry]) + near.get(entry.student, [])
            draw = f"{seed}/{entry.student}/{entry.digest}"
            asked = draw_question(functions[entry], exercises[lab], draw)
            talks.append(Talk(entry.student, lab, *asked, tuple(flags)))
    return sorted(talks, key=lambda talk: (talk.lab, talk.student))


# ---------------------------------------------------------------------------------------- questions
def draw_question(functions: dict[str, dict], exercises: list[Exercise], seed: str) -> tuple:
    """(function, question) about one of the functions, rather one that has something of its own;
    ("", "") where there is none.
    """
    found = {
        exercise.name: questions(functions[exercise.name], list(exercise.corners))
        for exercise in exercises
        if exercise.name in functions
    }
    if not found:
        return "", ""
    draw, own = random.Random(seed), [name for name in found if "steps" not in found[name]]
    name = draw.choice(sorted(own or found))
    kind = draw.choice(sorted(found[name]))
    return name, f"`{name}`: {draw.choice(found[name][kind])}"


def questions(facts: dict[str, Any], corners: list[str]) -> dict[str, list[str]]:
    """{kind: questions} about a function, from its own variables, branches, loops and numbers, and
    from the corners of the exercise's inputs.
    """
    found = {
        "variable": [
            f"what does your `{variable}` become for this kind of input: {corner}? (`{code}`)"
            for variable, code in facts["assigned"]
            for corner in corners
        ],
        "branch": [
            f"when is `{code}` true? Give an input for each way, and say what comes out."
            for code in facts["tests"]
        ],
        "loop": [
            f"how often does the loop over `{code}` go round for this kind of input: {corner}?"
            for code in facts["loops"]
            for corner in corners
        ],
        "number": [
            f"why `{number}` in `{code}`? What would change with another number?"
            for number, code in facts["numbers"]
        ],
    }
    steps = [
        f"what is each step of `{code}`, from the inside out, for this kind of input: {corner}?"
        for code in facts["returned"] or ["your answer"]
        for corner in corners or ["one of your choice"]
    ]
    return {kind: asked for kind, asked in found.items() if asked} or {"steps": steps}


# ---------------------------------------------------------------------------------------- flags
def kit_flags(functions: dict[str, dict]) -> list[str]:
    """What the answers use of lab_utils."""
    return [
        f"`{name}` uses " + ", ".join(f"`{path}`" for path in facts["kit"])
        for name, facts in sorted(functions.items())
        if facts["kit"]
    ]


def pieces_of(functions: dict[str, dict]) -> set[tuple[str, int]]:
    """All pieces of a student's answers: (function, number of the piece)."""
    return {(name, gram) for name, facts in functions.items() for gram in facts["grams"]}


def neighbours(pieces: dict[str, set]) -> dict[str, list[str]]:
    """{student: flags} where much of what is unusual in two students' answers is the same.

    What more than a few students wrote is how the exercise is solved, and counts for nothing. So
    only pieces with few holders are compared: the cost grows with the students, not their square.
    """
    few = min(MOST, max(FEW, len(pieces) // 20))
    holders: dict[tuple, list[str]] = {}
    for student, theirs in pieces.items():
        for piece in theirs:
            holders.setdefault(piece, []).append(student)
    unusual = [sorted(who) for who in holders.values() if len(who) <= few]
    own = Counter(student for who in unusual for student in who)
    shared = Counter(pair for who in unusual for pair in combinations(who, 2))
    flags: dict[str, list[str]] = {}
    for pair, n in sorted(shared.items()):
        smaller = min(own[student] for student in pair)
        if n >= SHARED_PIECES and n >= SHARED_PART * smaller:
            for student, other in (pair, pair[::-1]):
                said = f"written as {other}'s, but for names: {n} of {own[student]} unusual pieces"
                flags.setdefault(student, []).append(said)
    return flags


# ---------------------------------------------------------------------------------------- reports
def oral_csv(talks: list[Talk]) -> str:
    """A row for each student and lab."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "lab", "function", "question", "flags"])
    for talk in talks:
        cells = [talk.student, talk.lab, talk.function, talk.question, "; ".join(talk.flags)]
        writer.writerow(map(plain_cell, cells))
    return text.getvalue()


def oral_page(talks: list[Talk]) -> str:
    """The same to read, a table for each lab."""
    body = [
        "<h1>For a talk</h1>",
        "<p>One question for each student about their own code. What stands in the last column is "
        "for you to look at: it took no point, and may be harmless. Not for students.</p>",
    ]
    for lab in sorted({talk.lab for talk in talks}):
        rows = "".join(talk_row(talk) for talk in talks if talk.lab == lab)
        head = '<th>student</th><th>question</th><th style="width:35%">to look at</th>'
        body += [f"<h2>{escape(lab)}</h2>", f'<table><tr class="head">{head}</tr>{rows}</table>']
    return PAGE.format(title="For a talk", body="\n".join(body))


def talk_row(talk: Talk) -> str:
    """A line of the table; what stands between backticks is code."""
    question, *flags = [with_code(text) for text in (talk.question or "no answer", *talk.flags)]
    return (
        f'<tr><th scope="row">{escape(talk.student)}</th><td>{question}</td>'
        f"<td>{'<br>'.join(flags)}</td></tr>"
    )


def with_code(text: str) -> str:
    """The text as HTML, every second part between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
