"""The site's live demos: all pictures of a demo for a grid of its controls' values, drawn when the
site is built by the function that draws in the lab.

A page holds them compressed, and site.js shows the one that the controls ask for: it needs no
kernel. Numbers that a reader would type are chosen from a list there.
"""

from __future__ import annotations

import base64
import gzip
import html
import importlib
import itertools
import json
import random
import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode

from lab_utils.course.stage import DEMOS, find_demo

# values of controls that have too many of them, or whose effect is left to the lab (one value)
GRIDS: dict[str, dict[str, list[Any]]] = {
    "training": {
        "gradients": ["as the libraries do"],
        "states": ["fp32"],
        "master": [False],
        "optimizer": ["adamw"],
        "rank": [16],
        "adapters": ["fp32"],
        "batch": [1],
        "attention": ["flash"],
    },
    "bits": {
        "value": [1e-8, 6e-8, 0.001, 0.1, 1 / 3, 1.0, 1.001, 2.5, 100.0, 65504.0, 70000.0, 3e38],
        "absmax": [0.5, 1.0, 8.0, 70000.0],
    },
    "buckets": {"bits": [2, 3, 4, 8], "block_size": [16, 64, 256, 1024, 4096]},
    "outlier": {"outlier": [3.0, *map(float, range(10, 301, 10))]},
    "checkpointing": {
        "n": [4, 9, 16],
        "k": [2, 4, 8],
        "limit": [4, 8, 16],
        "inside": [0, 4],
    },
    "paging": {"capacity": [8, 14, 20, 24], "long": [6, 14, 20, 26], "speed": [4.0, 12.0, 50.0]},
    "break-even": {"shots": list(range(0, 51, 2))},
}
# a control that does nothing unless another one is set so; the lab greys it out as well
NEEDS = {"checkpointing": {"k": ("plan", "every k"), "limit": ("plan", "optimal")}}
# what is less here than in the lab
NOTES = {
    "training": "The lab's demo also sets the optimizer, the batch, the rank and the types of what "
    "is kept.",
    "bits": "In the lab you type any number.",
    "buckets": "The lab's demo also has the weights of a real model.",
    "duplicates": "Here with the first 120 questions for training; the lab takes 150 others.",
}
# the function that a notebook calls, where it is not the builder of the stage itself
CALLED = {
    "rank_demo": "rank",
    "adapter_calculator": "adapters",
    "duplicates_demo": "duplicates",
    "axes_demo": "methods",
    "job_demo": "tuning-job",
    "break_even_demo": "break-even",
    "BrowseAndVote": "votes",
    **{
        demo.builder.split(":")[1]: name
        for name, demo in DEMOS.items()
        if not demo.needs and "course.stage" not in demo.builder
    },
}


class Control(NamedTuple):
    """A control of a page: its kind (range, select or checkbox), (label, value) of each of its
    positions, and where it begins.
    """

    name: str
    label: str
    kind: str
    options: list[tuple[str, Any]]
    start: int


def demo_called(source: str) -> str:
    """The demo that the code of a cell shows, by its name on stage; "" if it shows none that can
    be drawn beforehand.
    """
    return next((CALLED[word] for word in re.findall(r"\b(\w+)\(", source) if word in CALLED), "")


# ---------------------------------------------------------------------------------------- the grid
def options_of(control: Any, chosen: list[Any] | None) -> list[tuple[str, Any]]:
    """(label, value) of all values of a widget, or of those `chosen`."""
    if hasattr(control, "options"):
        pairs = [o if isinstance(o, tuple) else (label_of(o), o) for o in control.options]
        return [pair for pair in pairs if chosen is None or pair[1] in chosen]
    if isinstance(control.value, bool):
        values = chosen or [False, True]
    else:
        values = chosen or steps_of(control)
    return [(label_of(value), value) for value in values]


def steps_of(control: Any) -> list[Any]:
    """All values of a slider, rounded as it shows them."""
    n = round((control.max - control.min) / control.step)
    return [round(control.min + i * control.step, 6) for i in range(n + 1)]


def label_of(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def controls_of(name: str, box: Any) -> list[Control]:
    """The controls of a demo with the values that a page offers."""
    grid, found = dict(GRIDS.get(name, {})), []
    for key, widget in box.controls.items():
        if key == "step" and hasattr(box, "last"):
            grid[key] = list(range(widget.min, longest(box, found) + 1))
        options = options_of(widget, grid.get(key))
        kind = {"Dropdown": "select", "Checkbox": "checkbox"}.get(type(widget).__name__, "range")
        start = [value for _, value in options].index(widget.value)
        found.append(Control(key, widget.description, kind, options, start))
    return found


def longest(box: Any, controls: list[Control]) -> int:
    """The last event of the longest course that a player shows."""
    return max(box.last(**values) for values in settings(controls))


def settings(controls: Iterable[Control]) -> Iterable[dict[str, Any]]:
    """All combinations of the controls' values, the last control's fastest."""
    names = [control.name for control in controls]
    for values in itertools.product(*([v for _, v in c.options] for c in controls)):
        yield dict(zip(names, values))


def draw_all(name: str, box: Any, controls: list[Control]) -> dict[str, list]:
    """{"pictures": different ones, "order": for each setting, the place of its picture}."""
    pictures: dict[str, int] = {}
    order, known = [], {}
    rest = {control.name: control.options[control.start][1] for control in controls}
    for values in settings(controls):
        for key, (other, wanted) in NEEDS.get(name, {}).items():
            values[key] = values[key] if values[other] == wanted else rest[key]
        if hasattr(box, "last"):
            others = {key: value for key, value in values.items() if key != "step"}
            values["step"] = min(values["step"], box.last(**others))
        key = tuple(values.values())
        if key not in known:
            known[key] = pictures.setdefault(str(box.draw(**values)), len(pictures))
        order.append(known[key])
    return {"pictures": list(pictures), "order": order}


def frames_html(frames: dict[str, Any]) -> str:
    """The frames as text that a page can hold: JSON, gzip, base64; without a date in it."""
    data = json.dumps(frames, ensure_ascii=False, separators=(",", ":")).encode()
    text = base64.b64encode(gzip.compress(data, mtime=0)).decode()
    return f'<script type="text/plain" class="frames">{text}</script>'


# ---------------------------------------------------------------------------------------- the page
def live_demo(name: str, begin: dict[str, str] | None = None) -> str:
    """A demo of the stage as HTML with its controls; `begin` gives labels of values to begin with,
    by the labels of the controls.
    """
    if name == "votes":
        return live_votes()
    demo = find_demo(name)
    module, function = demo.builder.split(":")
    box = getattr(importlib.import_module(module), function)()
    controls = [began(control, begin or {}) for control in controls_of(name, box)]
    frames = draw_all(name, box, controls)
    first = box.draw(**{c.name: c.options[c.start][1] for c in controls})
    player = PLAYER if hasattr(box, "last") else ""
    shown = "".join(control_html(name, control) for control in controls)
    note = f"<p><em>{NOTES[name]}</em></p>" if name in NOTES else ""
    title = html.escape(demo.title, quote=True)
    return (
        f'<section class="demo live" id="{name}" aria-label="{title}">'
        f'<div class="controls" hidden>{shown}{player}</div>'
        f'<p class="presets" hidden>{presets_html(name, controls)}</p>'
        f"{picture_html(first)}{note}"
        f"{frames_html(frames)}</section>"
    )


BACK = '<button type="button" data-by="-1">◀ back</button>'
NEXT = '<button type="button" data-by="1">next ▶</button>'
PLAY = '<button type="button" data-play aria-pressed="false">play</button>'
PLAYER = f'<div class="player">{BACK}{PLAY}{NEXT}</div>'


def began(control: Control, begin: dict[str, str]) -> Control:
    """The control, begun at the label that a lab's stored output shows, where the page has it."""
    labels = [label for label, _ in control.options]
    wanted = begin.get(control.label)
    return control._replace(start=labels.index(wanted)) if wanted in labels else control


def control_html(demo: str, control: Control) -> str:
    """A control with its label; "" for one with a single value, which leaves nothing to choose."""
    if len(control.options) == 1:
        return ""
    mark = f'id="{demo}-{control.name}" name="{control.name}"'
    label = f'<label for="{demo}-{control.name}">{html.escape(control.label)}</label>'
    values = [label_of(value) for _, value in control.options]
    needs = NEEDS.get(demo, {}).get(control.name)
    mark += f' data-needs="{needs[0]}={html.escape(needs[1])}"' if needs else ""
    if control.kind == "select":
        options = "".join(
            f'<option value="{html.escape(value, quote=True)}"'
            f"{' selected' if i == control.start else ''}>{html.escape(label)}</option>"
            for i, (value, (label, _)) in enumerate(zip(values, control.options))
        )
        shown = f"<select {mark}>{options}</select>"
    elif control.kind == "checkbox":
        shown = f'<input type="checkbox" {mark}{" checked" if control.start else ""}>'
    else:
        labels = html.escape(json.dumps([label for label, _ in control.options]), quote=True)
        shown = (
            f'<input type="range" {mark} min="0" max="{len(values) - 1}" value="{control.start}" '
            f'data-labels="{labels}"><output>{control.options[control.start][0]}</output>'
        )
    return f'<div class="control">{label}{shown}</div>'


def presets_html(name: str, controls: list[Control]) -> str:
    """The presets of the stage as links to settings, and one to how the demo begins."""
    links = {"start": ""}
    for label, values in find_demo(name).presets.items():
        links[label] = "?" + urlencode(
            {
                c.name: label_of(values[c.name])
                for c in controls
                if c.name in values and len(c.options) > 1
            }
        )
    return "".join(
        f'<a href="#{name}{html.escape(query)}">{html.escape(label)}</a>'
        for label, query in links.items()
    )


# ---------------------------------------------------------------------------------------- the votes
RATERS = ("A", "B")
TWO_VOTES = ("yes yes", "yes no", "no yes", "no no")  # A's and B's; site.js counts in this order
N_PAIRS = 12  # of 30, as in the lab, there are 46,376 counts of the two raters' votes; of 12, 1,820
VOTES_NOTE = (
    f"Here with {N_PAIRS} pairs of the kit's own dataset; the lab has 30 and keeps your votes. On "
    "this page they are gone when you leave it."
)


def live_votes() -> str:
    """Lab 05's form on which two raters vote, as HTML.

    Its settings are no grid: two raters, two questions and N_PAIRS pairs have 3 ** 48 states. But a
    pair's picture depends on its place alone, and a question's agreement on how many pairs got
    which two votes. So these are drawn beforehand, and site.js keeps the votes and counts them.
    """
    from lab_utils.pavlos import load_pairs
    from lab_utils.pavlos.build import facts_by_id
    from lab_utils.pavlos.demos import VOTES
    from lab_utils.pavlos.judge import with_controls
    from lab_utils.pavlos.pictures import pair_picture

    rng, facts = random.Random(1), facts_by_id()
    rows = with_controls(rng.sample(load_pairs("train"), N_PAIRS), facts, seed=1)
    pairs = [
        str(pair_picture(i, N_PAIRS, row, facts[row["fact_id"]].statement()))
        for i, row in enumerate(rows, 1)
    ]
    drawn = {name: draw_agreement(name) for name in VOTES}
    questions = (
        choice_html(name, text, ("not yet", "yes", "no"))
        + picture_html(drawn[name]["pictures"][0])  # no votes yet
        for name, text in VOTES.items()
    )
    return (
        '<section class="demo live" id="votes" aria-label="Two raters vote">'
        f"{choice_html('rater', 'rater', RATERS)}{picture_html(pairs[0])}"
        f'<div class="controls player" hidden>{BACK}{NEXT}</div>'
        f"{''.join(questions)}<p><em>{VOTES_NOTE}</em></p>"
        f"{frames_html({'pairs': pairs, **drawn})}</section>"
    )


def draw_agreement(name: str) -> dict[str, Any]:
    """A question's agreement for all votes of N_PAIRS pairs: {"pictures": different ones, "place":
    {the counts of TWO_VOTES, as "3,0,1,0": the place of their picture}}.
    """
    from lab_utils.pavlos.judge import agreement
    from lab_utils.pavlos.pictures import agreement_picture

    pictures: dict[str, int] = {}
    place = {}
    for counts in itertools.product(range(N_PAIRS + 1), repeat=len(TWO_VOTES)):
        if sum(counts) <= N_PAIRS:
            drawn = str(agreement_picture({name: agreement(*votes_of(counts))}, RATERS))
            place[",".join(map(str, counts))] = pictures.setdefault(drawn, len(pictures))
    return {"pictures": list(pictures), "place": place}


def votes_of(counts: Iterable[int]) -> tuple[dict[int, str], dict[int, str]]:
    """The votes of two raters, by pair, that have these counts of TWO_VOTES."""
    both = [two.split() for two, n in zip(TWO_VOTES, counts) for _ in range(n)]
    return tuple(dict(enumerate(votes)) for votes in zip(*both)) or ({}, {})


def choice_html(name: str, legend: str, options: Iterable[str]) -> str:
    """A group of radio buttons, the first of them chosen."""
    buttons = "".join(
        f'<label><input type="radio" name="votes-{name}" value="{option}"'
        f"{'' if i else ' checked'}> {option}</label>"
        for i, option in enumerate(options)
    )
    return (
        f'<fieldset class="controls" data-name="{name}" hidden><legend>{html.escape(legend)}'
        f"</legend>{buttons}</fieldset>"
    )


def picture_html(drawn: str) -> str:
    """A place for pictures, with the first of them; what it says stands below on a telephone."""
    return (
        f'<div class="picture" aria-live="polite" tabindex="0">{drawn}</div>'
        '<p class="said" aria-hidden="true"></p>'
    )
