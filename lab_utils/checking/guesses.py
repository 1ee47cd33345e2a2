"""Guesses before a measurement, kept and held beside it: `guess("loss at step 0", 10)` in a cell,
`reveal("loss at step 0", losses[0])` where the value is known, `your_guesses()` at the end.

`guess("loss at step 0", None)` asks for the number: by a field where the notebook is open in
JupyterLab, VS Code or Colab. Where it is executed without anybody there, and in what a lab stores,
it is a sentence.

Guesses are kept in the lab's results folder (`guesses.jsonl`) and go nowhere else. What counts is
the last guess before its value was told; delete the file to guess anew.
"""

from __future__ import annotations

import html
import math
import numbers
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lab_utils.checking.checks import card
from lab_utils.checking.packing import is_open, lab_info, session
from lab_utils.drawing.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    Picture,
    as_image,
    circle,
    line,
    picture,
    placed,
    rect,
    svg,
    text,
)
from lab_utils.files import append_jsonl, read_appended

WITHIN = 2  # a guess within this factor counts as near
PALE = "#E3F1EC"  # behind the near ones
STEP = 56  # from one guess to the next
NO_GUESS = "write your number in the place of None, and run this cell"


@dataclass(frozen=True)
class Guess:
    """What was guessed and, once it was told, measured. A notebook shows it as a card."""

    what: str
    guessed: float | None = None
    measured: float | None = None
    asking: bool = field(default=False, compare=False)  # for the number, by a field

    @property
    def ratio(self) -> float | None:
        """measured / guessed, or None unless both are above 0."""
        if self.guessed is None or self.measured is None or min(self.guessed, self.measured) <= 0:
            return None
        return self.measured / self.guessed

    @property
    def near(self) -> bool:
        """Whether it was right, or within the factor WITHIN."""
        if self.ratio is None:
            return self.guessed is not None and self.guessed == self.measured
        return 1 / WITHIN <= self.ratio <= WITHIN

    def verdict(self) -> str:
        """How far off the guess was, in words."""
        if shown(self.guessed) == shown(self.measured):
            return "right!"
        side = "low" if self.guessed < self.measured else "high"
        if self.ratio is None:
            return f"{shown(abs(self.measured - self.guessed))} too {side}"
        off = max(self.ratio, 1 / self.ratio) - 1
        return f"{off:.0%} too {side}" if off < 1 else f"{off + 1:.3g} times too {side}"

    def __str__(self) -> str:
        if self.measured is None:
            told = NO_GUESS if self.guessed is None else f"your guess is {shown(self.guessed)}"
        elif self.guessed is None:
            told = f"measured {shown(self.measured)} (not guessed)"
        else:
            told = (
                f"measured {shown(self.measured)}, you guessed {shown(self.guessed)}: "
                f"{self.verdict()}"
            )
        return f"{self.what}: {told}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        color = GREY if self.guessed is None else GREEN if self.near else BLUE
        return card(color, html.escape(str(self)))

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        if not (self.asking and is_open(session())):
            return {}
        from lab_utils.checking.guess_form import GuessForm
        from lab_utils.drawing.live import VIEW

        form = GuessForm(self, lambda value: guess(self.what, value))
        return {VIEW: form._repr_mimebundle_(**options)[VIEW]}


def shown(value: float) -> str:
    """A number for a sentence: whole ones in full, others with three digits."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.3g}"


# ------------------------------------------------------------------------- guessing, and the answer
def guess(what: str, value: float | None = None) -> Guess:
    """Keep a guess of `what`, a number; None asks for it. Once the value was told, the guess stays
    as it was. TypeError or ValueError for what is no finite number.
    """
    file = kept_in()
    before = standing(read_appended(file)).get(what, Guess(what))
    if value is None or before.measured is not None:
        return replace(before, asking=before.measured is None)
    row = {"what": what, "guess": as_number(what, value)}
    if row["guess"] != before.guessed:
        append_jsonl(file, row)
    return Guess(what, row["guess"])


def reveal(what: str, value: Any) -> Guess:
    """Tell the measured value, a number, beside the guess of it."""
    file, measured = kept_in(), as_number(what, value)
    before = standing(read_appended(file)).get(what, Guess(what))
    if before.guessed is not None and before.measured != measured:
        append_jsonl(file, {"what": what, "measured": measured})
    return Guess(what, before.guessed, measured)


def standing(rows: Iterable[dict[str, Any]]) -> dict[str, Guess]:
    """{what: its guess} from the rows of a file: the last guess before its value was told, and the
    value as it was told last.
    """
    kept: dict[str, Guess] = {}
    for row in rows:
        before = kept.get(row["what"], Guess(row["what"]))
        if "guess" in row and before.measured is None:
            kept[row["what"]] = Guess(row["what"], row["guess"])
        elif "measured" in row and before.guessed is not None:
            kept[row["what"]] = Guess(row["what"], before.guessed, row["measured"])
    return kept


def as_number(what: str, value: Any) -> float:
    """A finite number as a float; TypeError or ValueError names what it was to be."""
    if isinstance(value, bool) or not (isinstance(value, numbers.Real) or hasattr(value, "item")):
        raise TypeError(f"{what!r} is a number, such as 2.5: got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"{what!r} is a finite number: got {value!r}.")
    return float(value)


def kept_in() -> Path:
    """The file of this lab's guesses. ValueError before the set-up cell was run."""
    info = lab_info(session())
    if info is None:
        raise ValueError("run the set-up cell first: it says where this lab keeps what you guess.")
    return info.runs / "guesses.jsonl"


# ------------------------------------------------------------------------------ the end of the lab
def your_guesses() -> Picture:
    """This lab's guesses whose value was told, as a picture; a guess of 0 has no place on it."""
    return guesses_picture(
        [each for each in standing(read_appended(kept_in())).values() if each.ratio]
    )


def guesses_picture(told: list[Guess]) -> Picture:
    """measured / guessed of each guess on a log scale around 1; below it how good they were."""
    if not told:
        words = "No guesses yet: write numbers in the place of None above, and run those cells."
        return picture(card(GREY, words), words)
    reach = max(10.0, *(max(each.ratio, 1 / each.ratio) for each in told))
    bottom = 64 + STEP * len(told)

    def across(ratio: float) -> float:
        return placed(math.log(ratio), -math.log(reach), math.log(reach), 590, 970)

    near = across(WITHIN) - across(1 / WITHIN)
    parts = [
        rect(across(1 / WITHIN), 40, near, bottom - 40, PALE),
        line([(across(1), 40), (across(1), bottom)], GREY, 2),
        text(560, 26, "guessed too high", 20, GREY),
        text(980, 26, "guessed too low", 20, GREY, "end"),
        text(10, bottom + 26, f"measured / guessed (green: within {WITHIN} times)", 18, GREY),
    ]
    for row, each in enumerate(told):
        parts += guess_row(each, 76 + STEP * row, across(1), across(each.ratio))
    for at in (1 / reach, 1 / WITHIN, 1, WITHIN, reach):
        parts.append(text(across(at), bottom + 26, f"{at:.2g}", 18, GREY, "middle"))
    said = calibration(told)
    parts.append(text(10, bottom + 66, said, 22, bold=True))
    return as_image(svg(1000, bottom + 82, said, *parts))


def guess_row(each: Guess, y: float, start: float, end: float) -> list[str]:
    """One guess at the height y: its words, and a line from the middle to where it lies."""
    words = f"{shown(each.guessed)} → {shown(each.measured)}: {each.verdict()}"
    return [
        text(10, y, each.what, 20, bold=True),
        text(10, y + 23, words, 18, GREY),
        line([(start, y), (end, y)], BLUE, 4),
        circle(end, y, 9, GREEN if each.near else BLUE, BLACK),
    ]


def calibration(told: list[Guess]) -> str:
    """How good some guesses were: how many near, how far off in the middle, to which side."""
    logs = [math.log(each.ratio) for each in told]
    factor = math.exp(statistics.median(map(abs, logs)))
    low, high = sum(log > 0.01 for log in logs), sum(log < -0.01 for log in logs)
    return (
        f"{sum(each.near for each in told)} of {len(told)} within a factor of {WITHIN}; typically "
        f"{factor:.2g} times off; {low} too low, {high} too high."
    )
