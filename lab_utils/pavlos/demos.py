"""Demos of lab 05: look into the fault box, move the near-duplicate threshold, read pairs and vote.

Only wiring: what is read, counted and drawn comes from `pavlos` and `pictures`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import ipywidgets as widgets

from lab_utils.drawing.live import Demo, live, wide
from lab_utils.drawing.style import Picture
from lab_utils.files import write_text
from lab_utils.pavlos.build import THRESHOLD, Match, content_words, jaccard, matches, rouge_l
from lab_utils.pavlos.facts import Fact
from lab_utils.pavlos.fault_box import faults
from lab_utils.pavlos.judge import agreement
from lab_utils.pavlos.ladder import parse_reply
from lab_utils.pavlos.parse import sift
from lab_utils.pavlos.pictures import (
    agreement_picture,
    duplicates_picture,
    pair_picture,
    reply_picture,
)

LOWEST = 0.4  # pairs of questions less alike than this are not kept for the slider
VOTES = {"voice": "Is this Pavlos' voice?", "truth": "Does it give the card's fact?"}


# ---------------------------------------------------------------------------------------- fault box
def draw_fault(name: str) -> Picture:
    """One reply of the fault box, and what the kit's reader makes of it."""
    fault = next(fault for fault in faults() if fault.name == name)
    parsed = parse_reply(fault.reply, fault.finish_reason)
    pairs, refused = sift(parsed.objects)
    left = [piece.reason for piece in (*parsed.rejected, *refused)]
    return reply_picture(
        f"{fault.name} ({fault.finish_reason})",
        fault.reply,
        parsed.rung,
        [(pair.question, pair.answer) for pair in pairs],
        left,
    )


def fault_browser(name: str = "clean list") -> Demo:
    """Choose a reply: see it, the rung that reads it, the pairs kept and why the rest is left."""
    options = [(f"{fault.group}: {fault.name}", fault.name) for fault in faults()]
    box = live(
        draw_fault, name=wide(widgets.Dropdown(options=options, value=name, description="reply"))
    )
    # long replies scroll: the page stays in place
    box.picture.layout.height, box.picture.layout.overflow = (
        "36em",
        "auto",
    )
    return box


# ---------------------------------------------------------------------------------- near-duplicates
def alike_questions(rows: Sequence[Mapping[str, str]]) -> dict[str, list[Match]]:
    """Measure -> pairs of questions that are alike from LOWEST on. ROUGE-L takes about 50
    microseconds a pair.
    """
    questions = [row["question"] for row in rows]
    return {
        "ROUGE-L": matches(questions, rouge_l, LOWEST),
        "Jaccard": matches(
            questions, lambda a, b: jaccard(content_words(a), content_words(b)), LOWEST
        ),
    }


def draw_duplicates(
    threshold: float, rows: Sequence[Mapping[str, str]], alike: Mapping[str, Sequence[Match]]
) -> Picture:
    """What both measures call alike from the threshold on, each with the pair that is alike the
    least.
    """
    found, examples = {}, {}
    for measure, pairs in alike.items():
        over = [pair for pair in pairs if pair[2] >= threshold - 1e-6]
        found[measure] = (
            len(over),
            sum(rows[i]["fact_id"] != rows[j]["fact_id"] for i, j, _ in over),
        )
        if over:
            i, j, _ = min(over, key=lambda pair: pair[2])
            examples[measure] = rows[i]["question"], rows[j]["question"]
    return duplicates_picture(threshold, found, examples)


def duplicates_demo(
    rows: Sequence[Mapping[str, str]], alike: Mapping[str, Sequence[Match]] | None = None
) -> Demo:
    """Move the threshold: how many pairs are called alike, and how many of them teach different
    facts.
    """
    alike = alike_questions(rows) if alike is None else alike
    slider = widgets.FloatSlider(
        THRESHOLD, min=LOWEST, max=1.0, step=0.05, description="threshold (0 to 1)"
    )
    return live(lambda threshold: draw_duplicates(threshold, rows, alike), threshold=wide(slider))


# ---------------------------------------------------------------------------------------- voting
class BrowseAndVote(Demo):
    """Read pairs one by one and say yes or no to two questions; two raters take turns, and their
    agreement is shown.

    With `path`, each vote is kept there at once, and a new one goes on from it.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, str]],
        facts: Mapping[str, Fact],
        raters: tuple[str, str] = ("A", "B"),
        path: Path | None = None,
    ):
        self.rows, self.facts, self.raters, self.path, self.place = (
            list(rows),
            facts,
            raters,
            path,
            0,
        )
        self.votes: dict[str, dict[str, dict[str, str]]] = {
            rater: {name: {} for name in VOTES} for rater in raters
        }
        if path and Path(path).exists():
            self._merge(json.loads(Path(path).read_text(encoding="utf-8")))
        self.rater = widgets.ToggleButtons(options=list(raters), description="rater")
        self.shown, self.agreement = widgets.HTML(), widgets.HTML()
        self.choices = {
            name: widgets.ToggleButtons(
                options=["not yet", "yes", "no"], description=name, tooltips=[text] * 3
            )
            for name, text in VOTES.items()
        }
        self.back, self.next = (
            widgets.Button(description="◀ before"),
            widgets.Button(description="next ▶"),
        )
        self.back.on_click(lambda _: self.go(-1))
        self.next.on_click(lambda _: self.go(1))
        self.rater.observe(lambda _: self.show(), names="value")
        for name, choice in self.choices.items():
            choice.observe(lambda change, name=name: self.vote(name, change["new"]), names="value")
        asked = [
            widgets.VBox(
                [widgets.HTML(f'<span style="font-size:16px">{VOTES[name]}</span>'), choice]
            )
            for name, choice in self.choices.items()
        ]
        super().__init__(
            [self.rater, self.shown, *asked, widgets.HBox([self.back, self.next]), self.agreement],
            f"A form on which two raters vote on {len(self.rows)} pairs, with their agreement",
        )
        self.show()

    def _merge(self, kept: dict) -> None:
        for rater in self.raters:
            for name in VOTES:
                self.votes[rater][name] = dict(kept.get(rater, {}).get(name, {}))

    @property
    def row_id(self) -> str:
        """What a vote is kept under: the fact asked for, and the control, which the rater does not
        see.
        """
        row = self.rows[self.place]
        return f"{row['fact_id']} ({row.get('control', 'as it is')})"

    def go(self, step: int) -> None:
        """To the next pair or the one before, in a circle."""
        self.place = (self.place + step) % len(self.rows)
        self.show()

    def show(self) -> None:
        """Draw the pair, this rater's votes for it, and the agreement so far."""
        row = self.rows[self.place]
        self.shown.value = pair_picture(
            self.place + 1, len(self.rows), row, self.facts[row["fact_id"]].statement()
        )
        for name, choice in self.choices.items():
            choice.value = self.votes[self.rater.value][name].get(self.row_id, "not yet")
        self.agreement.value = agreement_picture(self.told(), self.raters)

    def vote(self, name: str, value: str) -> None:
        """Keep one vote of the present rater for the present pair, on the disk too."""
        own = self.votes[self.rater.value][name]
        if own.get(self.row_id, "not yet") == value:
            return  # only shown, not voted
        own[self.row_id] = value
        if value == "not yet":
            del own[self.row_id]
        if self.path:
            write_text(Path(self.path), json.dumps(self.votes, indent=1, ensure_ascii=False) + "\n")
        self.agreement.value = agreement_picture(self.told(), self.raters)

    def told(self) -> dict[str, tuple[int, float, float]]:
        """Question -> (pairs that both judged, share of agreement, kappa)."""
        return {
            name: agreement(*(self.votes[rater][name] for rater in self.raters)) for name in VOTES
        }
