"""Pictures of lab 08: they draw the numbers they were given, say them in words, and wear the banner
of the simulation.
"""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lab_utils.drawing import style
from lab_utils.gemini import pictures as plots
from lab_utils.gemini.simulated import simulate

SVG = "{http://www.w3.org/2000/svg}"


def texts(made) -> list[str]:
    return [element.text for element in ElementTree.fromstring(made).iter(f"{SVG}text")]


def inside(made) -> None:
    """Nothing is drawn outside the page, and its words are the description."""
    root = ElementTree.fromstring(made)
    _, _, width, height = map(float, root.get("viewBox").split())
    assert root.get("role") == "img" and root.get("aria-label") == made.description
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width and 0 < float(text.get("y")) <= height, text.text
        assert int(text.get("font-size")) >= 18, "readable from the back row"
    for line in root.iter(f"{SVG}polyline"):
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width and 0 <= y <= height


# ---------------------------------------------------------------------------------------- a job
def filled(made) -> str:
    """The state whose box is filled."""
    boxes = {
        (b.get("x"), b.get("y")): b.get("fill")
        for b in ElementTree.fromstring(made).iter(f"{SVG}rect")
    }
    here = [
        state
        for state, (x, y) in plots.PLACES.items()
        if boxes[(f"{x:.1f}", f"{y:.1f}")] == style.BLUE
    ]
    assert len(here) == 1
    return here[0]


@pytest.mark.parametrize(
    ("events", "step", "state", "epochs", "bill"),
    [
        ({}, 0, "PENDING", 0, "would be billed so far: 0 tokens, $0.00"),
        ({}, 3, "RUNNING", 2, "would be billed so far: 200,000 tokens, $1.00"),
        ({}, 8, "SUCCEEDED", 3, "would be billed: 300,000 tokens, $1.50"),
        ({3: "cancel"}, 3, "CANCELLING", 1, "would be billed so far: 100,000 tokens, $0.50"),
        ({3: "cancel"}, 4, "CANCELLED", 1, "would be billed: 100,000 tokens, $0.50"),
        ({2: "bad row"}, 5, "FAILED", 0, "would be billed: 0 tokens, $0.00"),
    ],
)
def test_a_job_shows_its_state_its_epochs_and_what_it_would_cost(events, step, state, epochs, bill):
    made = plots.job_picture(simulate(3, 100_000, events), step, 5.0)
    inside(made)
    assert filled(made) == state
    assert texts(made).count("read") == epochs and texts(made).count("to come") == 3 - epochs
    assert (
        made.description
        == f"SIMULATED job at step {step}: {state}, {epochs} of 3 epochs read; {bill}."
    )
    assert f"{bill} at $5.00 per million" in texts(made)


def test_every_picture_of_a_job_wears_the_banner():
    for events in ({}, {1: "cancel"}, {3: "cancel"}, {4: "bad row"}):
        for step in range(9):
            made = plots.job_picture(simulate(5, 1000, events), step, 1.0)
            assert (
                texts(made)[0]
                == "SIMULATED: no service was called, no model was tuned, nothing was billed"
            )
            assert made.description.startswith("SIMULATED")


def test_only_the_way_that_was_taken_is_thick():
    made = plots.job_picture(simulate(3, 1000, {3: "cancel"}), 8, 1.0)
    thick = [
        e.get("points")
        for e in ElementTree.fromstring(made).iter(f"{SVG}polyline")
        if e.get("stroke-width") == "5"
    ]
    boxes = plots.PLACES
    way = [("PENDING", "RUNNING"), ("RUNNING", "CANCELLING"), ("CANCELLING", "CANCELLED")]
    assert len(thick) == 3
    for (start, end), points in zip(way, thick, strict=True):
        (x, y), (to_x, to_y) = (tuple(map(float, point.split(","))) for point in points.split())
        for place, at in ((boxes[start], (x, y)), (boxes[end], (to_x, to_y))):
            assert (
                place[0] <= at[0] <= place[0] + plots.BOX_WIDTH
                and place[1] <= at[1] <= place[1] + plots.BOX_HEIGHT
            )


# --------------------------------------------------------------------------------------- break-even
def test_the_lines_meet_where_the_ring_is():
    made = plots.break_even_picture(
        tuning=1.0, prompted=0.002, tuned=0.001, questions=1000, shots=10
    )
    inside(made)
    assert (
        made.description
        == "10 examples in every prompt against tuning for $1.00: equal at 1,000 questions, $2.00."
    )
    root = ElementTree.fromstring(made)
    lines = [
        [tuple(map(float, p.split(","))) for p in e.get("points").split()]
        for e in root.iter(f"{SVG}polyline")
        if e.get("stroke-width") == "5"
    ]
    ring = next(root.iter(f"{SVG}circle"))
    for (x0, y0), (x1, y1) in lines:
        share = (float(ring.get("cx")) - x0) / (x1 - x0)
        assert y0 + share * (y1 - y0) == pytest.approx(float(ring.get("cy")), abs=0.2)
    assert {"0", "1,000", "2,000"} <= set(texts(made))


def test_without_examples_tuning_never_pays():
    made = plots.break_even_picture(
        tuning=1.0, prompted=0.001, tuned=0.001, questions=math.inf, shots=0
    )
    inside(made)
    assert (
        made.description
        == "0 examples in every prompt against tuning for $1.00: tuning never pays."
    )
    assert not list(ElementTree.fromstring(made).iter(f"{SVG}circle"))


# ----------------------------------------------------------------------------------- static figures
def test_the_parts_and_their_shares_are_said():
    made = plots.parts_figure({"system instruction": 600, "questions": 100, "answers": 300})
    assert made.description == (
        "Tokens of the tuning file in one epoch, estimated: system instruction 600 (60%), "
        "questions 100 (10%), answers 300 (30%)."
    )
    assert re.match(r'<img alt="Tokens of the tuning file', made)


def test_the_cost_of_the_last_epoch_is_said():
    made = plots.cost_figure({"large": [1.0, 2.0], "small": [0.25, 0.5]}, range(1, 3))
    assert made.description.endswith("for 2: large $2.00, small $0.50.")
