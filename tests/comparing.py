"""How a fresh run of a lab is compared with the outputs stored in it: word by word, and exactly,
but for what a cell's metadata allows. CONTRIBUTING.md says what an author of a cell does.

    {"lab_kit": {"within": 0.05}}   scores may differ by 0.05, above 1 by 5 %
    {"lab_kit": {"counts": 2}}      whole numbers may differ by 2
    {"lab_kit": {"words": 0.2}}     a fifth of the words may be others: a trained model wrote them
    {"lab_kit": {"machine": true}}  times, speeds and the set-up line are of one machine
    {"lab_kit": {"ignored": "the reason"}}  nothing is compared; with the tag nbval-ignore-output
"""

import copy
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from html.parser import HTMLParser

from nbformat.notebooknode import from_dict
from nbformat.v4.rwbase import rejoin_lines
from nbval.plugin import coalesce_streams

from lab_utils.drawing.live import VIEW

# What is of one machine, in cells that say so, and what stands for it.
MACHINE = [
    (r"device [^|]+\| dtype [^|]+\| tier [^|]+\| [^|]+\| seed", "MACHINE | seed"),
    (r"\d+%\|.*?\]", "PROGRESS"),  # a bar: its counts, its time left, its speed
    (r"(?m)^(seconds|minutes)( [\d.]+)+$", r"\1 TIMES"),  # a row of a table
    (r"the process grew by .*", "MEMORY"),
    (r"peak [\d.]+ GB", "MEMORY"),
    (r"[\d.,]+ ?(tokens|rows|pairs) ?(/ ?s|a second|per second)\b", "SPEED"),
    (r"[\d.,]+ ?(s|ms|seconds?|minutes?|min)\b", "TIME"),
]
MACHINE_COLUMN = re.compile(r"second|minute|tokens / s")  # a table's column under such a heading
WIDGET_TEXT = 110  # characters of its text that ipywidgets keeps
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?%?")


@dataclass(frozen=True)
class Allowed:
    """What may differ between two runs of a cell: the fields are the keys of its `lab_kit`."""

    within: float = 0.0
    counts: int = 0
    words: float = 0.0
    machine: bool = False
    ignored: str = ""

    @classmethod
    def of(cls, cell) -> "Allowed":
        """What the cell's metadata allow. TypeError for a key that is none of the fields."""
        return cls(**cell.metadata.get("lab_kit", {}))


def differences(cell, outputs) -> list[str]:
    """What a reader would see differently: a line for each, empty where the run shows what the
    stored `cell` does. `outputs` are those of the fresh run.
    """
    allowed = Allowed.of(cell)
    if allowed.ignored:
        return []
    stored, now = (pieces(shown, allowed.machine) for shown in (cell.outputs, outputs))
    kinds, kinds_now = ([kind for kind, _ in shown] for shown in (stored, now))
    if len(kinds) != len(kinds_now) or not all(map(same_kind, kinds, kinds_now)):
        return [f"stored: {kinds}, now: {kinds_now}"]
    return [
        line
        for (_, before), (_, after) in zip(stored, now)
        for line in text_differences(before, after, allowed)
    ]


def same_kind(stored: str, now: str) -> bool:
    """Whether two outputs hold the same, but for a widget that only an open notebook shows: the
    field of a guess.
    """
    return now in (stored, f"{VIEW} {stored}")


def pieces(outputs, machine: bool = False) -> list[tuple[str, str]]:
    """(kind, text) of each output, streams joined and in front: when they come is chance."""
    cell = from_dict({"cell_type": "code", "outputs": copy.deepcopy(outputs)})
    outputs = coalesce_streams(rejoin_lines(from_dict({"cells": [cell]})).cells[0].outputs)
    streams = [(out.name, out.text) for out in outputs if out.output_type == "stream"]
    shown = [
        (" ".join(sorted(out.data)), reading(out.data, machine)) for out in outputs if "data" in out
    ]
    errors = [("error", out.ename) for out in outputs if out.output_type == "error"]
    found = sorted(streams) + shown + errors
    return [(kind, without_machine(text) if machine else text) for kind, text in found]


def reading(data, machine: bool) -> str:
    """What a reader gets of an output: its HTML, or else its text, which a widget cuts off."""
    if "text/html" in data:
        return page_text(data["text/html"], machine)
    return data["text/plain"][:WIDGET_TEXT] if VIEW in data else data["text/plain"]


def without_machine(text: str) -> str:
    """The text with words in place of times, speeds and the machine's name."""
    for pattern, word in MACHINE:
        text = re.sub(pattern, word, text)
    return text


# ------------------------------------------------------------------------------------------- HTML
class PageText(HTMLParser):
    """The text of some HTML: a line for each row of a table, and for a picture its kind and its
    alt text.
    """

    def __init__(self, machine: bool):
        super().__init__()
        self.machine, self.lines, self.rows, self.hidden = machine, [], [], 0

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag in ("img", "svg") and not self.hidden:
            self.handle_data(f"[{tag}: {attributes.get('alt') or attributes.get('aria-label')}]")
        self.hidden += tag in ("svg", "style", "script")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("svg", "style", "script")
        if tag == "table":
            rows = without_machine_columns(self.rows) if self.machine else self.rows
            self.lines += [" ".join(cell.strip() for cell in row).strip() for row in rows]
            self.rows = []

    def handle_data(self, data):
        if self.hidden:
            return
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data
        else:
            self.lines.append(data)


def page_text(html: str, machine: bool = False) -> str:
    """The text that a page of this HTML shows, without how it looks."""
    parser = PageText(machine)
    parser.feed(html)
    parser.close()
    return "\n".join(parser.lines)


def without_machine_columns(rows: list[list[str]]) -> list[list[str]]:
    """A table's rows with TIME in the columns whose heading speaks of times or speeds."""
    timed = {i for i, heading in enumerate(rows[0]) if MACHINE_COLUMN.search(heading)}
    body = [["TIME" if i in timed else cell for i, cell in enumerate(row)] for row in rows[1:]]
    return [rows[0], *body]


# ------------------------------------------------------------------------------------------ words
def text_differences(before: str, after: str, allowed: Allowed) -> list[str]:
    """Where two texts differ by more than is allowed, a line for each place."""
    stored, now = before.split(), after.split()
    shapes = [[NUMBER.sub("#", word) for word in words] for words in (stored, now)]
    numbers, others, n_others = [], [], 0
    for what, i, i_end, j, j_end in SequenceMatcher(None, *shapes, autojunk=False).get_opcodes():
        if what == "equal":
            pairs = zip(range(i, i_end), range(j, j_end))
            wrong = [(a, b) for a, b in pairs if not same_numbers(stored[a], now[b], allowed)]
            numbers += [told(stored, a, a + 1, now[b : b + 1]) for a, b in wrong]
        else:
            others.append(told(stored, i, i_end, now[j:j_end]))
            n_others += max(i_end - i, j_end - j)
    return numbers + (others if n_others > allowed.words * len(stored) else [])


def told(stored: list[str], start: int, end: int, now: list[str]) -> str:
    """The stored words with those before them, and what stands there now."""
    return f"stored: {' '.join(stored[max(0, start - 4) : end])!r}, now: {' '.join(now)!r}"


def same_numbers(old: str, new: str, allowed: Allowed) -> bool:
    """Whether the numbers in two words of one shape are as near as allowed."""
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new))
    return all(first == second or near(first, second, allowed) for first, second in pairs)


def near(old: str, new: str, allowed: Allowed) -> bool:
    """Whether two numbers, printed differently, are as near as allowed. One without a decimal
    point, an exponent or a per cent sign is a whole number.
    """
    first, second = value(old), value(new)
    if not re.search(r"[.e%]", old + new):
        return abs(first - second) <= allowed.counts
    return 0 < allowed.within >= abs(first - second) / max(1.0, abs(first)) - 1e-9


def value(printed: str) -> float:
    """A printed number: `1,024`, `−3`, `1e-05`; `12%` is 0.12."""
    number = float(printed.rstrip("%").replace(",", "").replace("−", "-"))
    return number / 100 if printed.endswith("%") else number
