"""Pictures of lab 03: they draw the numbers they were given, say them in words, and run nothing."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lab_utils.drawing import style
from lab_utils.memory import checkpointing as ck
from lab_utils.memory import paging
from lab_utils.memory import pictures as paging_plots
from lab_utils.memory import pictures as plots
from lab_utils.memory.checkpointing import Event, Point, Schedule

SVG = "{http://www.w3.org/2000/svg}"


def drawn(made):
    """The elements of a picture, after a look at its frame."""
    root = ElementTree.fromstring(made)
    assert root.get("role") == "img" and root.get("aria-label") == made.description
    width, height = (float(number) for number in root.get("viewBox").split()[2:])
    for rect in root.iter(f"{SVG}rect"):
        assert (
            0 <= float(rect.get("x")) and float(rect.get("x")) + float(rect.get("width")) <= width
        )
        assert (
            0 <= float(rect.get("y")) and float(rect.get("y")) + float(rect.get("height")) <= height
        )
    for text in root.iter(f"{SVG}text"):
        assert int(text.get("font-size")) >= 17, "readable from the back row"
    return root


def texts(root):
    return [text.text for text in root.iter(f"{SVG}text")]


def circles(root):
    return [
        circle
        for circle in root.iter(f"{SVG}circle")
        if circle.get("fill") in (style.BLUE, "white")
    ]


def stepper(schedule, step, inside=0):
    return plots.stepper_picture(schedule, ck.replay(schedule), step, inside)


# ---------------------------------------------------------------------------------------- stepper
def test_the_stepper_says_all_its_numbers():
    made = stepper(ck.in_segments(4, 2), 9, inside=5)
    assert made.description == (
        "every 2, 4 layers, event 9 of 12: recompute layer 1, keep its inside. Kept: activations "
        "0, 1, insides 1: 7 in all, peak so far 14, of the whole plan 14. Forward steps: 5 of 6; "
        "2 of 4 layers have their gradient."
    )
    said = texts(drawn(made))
    assert {"7 (peak 14)", "5 of 6 forward steps", "everything kept: 25"} <= set(said)
    assert said.count("✓") == 2 and said.count("→") == 1 and "←" not in said


def test_before_the_first_event_only_the_input_is_there():
    made = stepper(ck.in_segments(3, 3), 0)
    assert (
        "event 0 of 6: nothing has happened yet. Kept: activations 0, insides none: 1 in all"
        in made.description
    )
    root = drawn(made)
    assert [circle.get("fill") for circle in circles(root)] == [
        style.BLUE,
        "white",
        "white",
        "white",
    ]
    assert "→" not in texts(root)


@pytest.mark.parametrize("step", range(0, 13))
def test_filled_circles_and_boxes_are_what_is_kept(step):
    schedule = ck.in_segments(4, 2)
    state, root = ck.replay(schedule)[step], drawn(stepper(schedule, step))
    assert {
        i for i, circle in enumerate(circles(root)) if circle.get("fill") == style.BLUE
    } == state.activations
    boxes = [rect for rect in root.iter(f"{SVG}rect") if rect.get("height") == "30.0"]
    assert len(boxes) == 4
    assert {
        i for i, box in enumerate(boxes, 1) if box.get("fill") == style.VERMILLION
    } == state.insides


def test_the_worked_layer_has_an_arrow_above_its_box():
    schedule = ck.in_segments(4, 2)
    for step, mark in ((4, "→"), (6, "←"), (8, None)):
        root, event = drawn(stepper(schedule, step)), schedule.events[step - 1]
        arrows = [text for text in root.iter(f"{SVG}text") if text.text in ("→", "←")]
        assert [arrow.text for arrow in arrows] == ([mark] if mark else [])
        for arrow in arrows:
            box = [rect for rect in root.iter(f"{SVG}rect") if rect.get("height") == "30.0"][
                event.layer - 1
            ]
            assert float(arrow.get("x")) == pytest.approx(
                float(box.get("x")) + float(box.get("width")) / 2, abs=0.2
            )


def test_the_meter_and_the_line_are_to_scale():
    schedule = ck.in_segments(16, 4)
    sizes = [state.size() for state in ck.replay(schedule)]
    root = drawn(stepper(schedule, 37))
    bar = next(
        rect
        for rect in root.iter(f"{SVG}rect")
        if rect.get("height") == "34.0" and rect.get("fill") == style.BLUE
    )
    frame = next(rect for rect in root.iter(f"{SVG}rect") if rect.get("fill") == "#F0F0F0")
    assert float(bar.get("width")) / float(frame.get("width")) == pytest.approx(
        sizes[37] / 17, abs=0.001
    )
    lines = [line.get("points").split() for line in root.iter(f"{SVG}polyline")]
    whole = max(lines, key=len)
    assert len(whole) == len(sizes) and len([line for line in lines if len(line) == 38]) == 1, (
        "done events are drawn bold"
    )
    heights = [float(point.split(",")[1]) for point in whole]
    bottom, top = 440, 335
    assert heights == pytest.approx(
        [bottom - size / 17 * (bottom - top) for size in sizes], abs=0.1
    )


@pytest.mark.parametrize("n", [1, 2, 16])
def test_small_and_large_chains_are_drawn(n):
    for plan in ck.PLANS:
        schedule = ck.make_schedule(plan, n, k=1)
        assert len(circles(drawn(stepper(schedule, len(schedule.events))))) == n + 1


def test_events_in_words():
    said = [
        plots.event_words(event)
        for event in (None, Event("forward", 3), Event("recompute", 2, True), Event("discard", 4))
    ]
    assert said == [
        "nothing has happened yet",
        "forward layer 3",
        "recompute layer 2, keep its inside",
        "discard activation 4",
    ]


def test_a_name_runs_nothing():
    schedule = Schedule("<script>alert(1)</script>", 1, ck.in_segments(1, 1).events)
    assert "<script" not in plots.stepper_picture(schedule, ck.replay(schedule), 1)


# --------------------------------------------------------------------------------------- page mover
def test_the_page_picture_says_where_every_page_is():
    moments = paging.simulate(paging.training_steps([1, 3], 3), 3, 4)
    made = paging_plots.pages_picture(moments, 6, 3, 4, page_seconds=0.001)
    assert made.description == (
        "event 6 of 10: forward and backward need 3 pages. GPU: 3 of 4 pages hold activations, 1 "
        "the optimizer, 0 are free; 2 pages are on the CPU. Now to the GPU: none; to the CPU: 0, "
        "1. Pages moved so far: 2, 2.0 ms."
    )
    said = texts(drawn(made))
    assert said.count("act") == 3 and {
        "2",
        "0↓",
        "1↓",
        "GPU, room for 4 pages",
        "CPU, 2 pages of the optimizer",
    } <= set(said)
    back = paging_plots.pages_picture(moments, 8, 3, 4, page_seconds=0.001)
    assert "0↑" in texts(drawn(back)) and "the optimizer uses page 0" in back.description
    assert "Pages moved so far: 3, 3.0 ms." in back.description


def test_out_of_memory_is_said_in_words():
    moments = paging.simulate(paging.training_steps([9], 3), 3, 4)
    made = paging_plots.pages_picture(moments, 1, 3, 4, 0.001)
    assert made.description.startswith(
        "event 1 of 1: OUT OF MEMORY: forward and backward need 9 pages."
    )
    drawn(made)


def test_words_for_requests():
    say = [
        paging_plots.request_words(paging.Moment(paging.Request(*r), 0, ()))
        for r in (("release", 1), ("reserve", 2))
    ]
    assert say == ["forward and backward give back 1 page", "forward and backward need 2 pages"]


# ----------------------------------------------------------------------------------- static figures
def image_of(made):
    from PIL import Image

    alt, data = re.fullmatch(
        r'<img alt="([^"]+)" style="max-width:100%" src="data:image/png;base64,([^"]+)">', made
    ).groups()
    assert alt == made.description
    return Image.open(io.BytesIO(base64.b64decode(data)))


POINTS = [
    Point("none", 17, 0),
    Point("every 4", 8, 12),
    Point("every layer", 17, 16),
    Point("one layer in 2", 17, 8),
    Point("optimal", 8, 11),
    Point("optimal", 17, 0),
]
FIGURES = {
    "segments": (
        lambda: plots.segments_figure(4, [5, 4, 4, 5], 2),
        "With 4 layers the peak falls from 5 kept activations at k = 1 to 4 at k = 2 and rises to "
        "5 at k = 4.",
    ),
    "traces": (
        lambda: plots.traces_figure({"a": [1, 2], "b": [3, 4]}, {"a": [1, 2.5], "b": [3, 4]}, "MB"),
        "Memory over the events of each plan; peaks in MB: a 2.50 (predicted 2.00), b 4.00 "
        "(predicted 4.00).",
    ),
    "frontier": (
        lambda: plots.frontier_figure(POINTS, 16, "activations", ["none", "every 4"]),
        "Memory against work for 16 layers. none: 17 at 1.00 times the forward work; every 4: 8 "
        "at 1.75 times the forward work.",
    ),
    "lengths": (
        lambda: plots.lengths_figure(
            [512, 1024], {"none": [1, 4], "full": [0.5, 1]}, "GB", limit=2
        ),
        "GB for sequences of 512 to 1024 tokens: none 1 to 4; full 0.5 to 1.",
    ),
    "room": (
        lambda: paging_plots.room_figure(
            [3, 4, 5], [0, 6, 0], [False, False, True], [False, True, True]
        ),
        "Pages moved over the room on the GPU: paging saves the run with room for 4 to 4 pages "
        "and moves 6 to 6 a step.",
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_say_their_numbers_and_are_not_blank(name):
    make, said = FIGURES[name]
    made = make()
    assert made.description == said
    image = image_of(made)
    assert image.size[0] > 700 and len(image.convert("L").getcolors(10_000)) > 20


def test_where_paging_changes_nothing_the_figure_says_so():
    made = paging_plots.room_figure([5, 6], [0, 0], [True, True], [True, True])
    assert made.description == "Pages moved over the room on the GPU: paging changes nothing."


def test_the_drawn_frontier_follows_its_points(monkeypatch):
    kept = []
    monkeypatch.setattr(style, "described", lambda figure, words: kept.append(figure))
    plots.frontier_figure(POINTS, 16, "activations", ["every 4"])
    lines = {
        line.get_label(): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in kept[0].axes[0].lines
    }
    assert lines == {
        "optimal": [(8, 1 + 11 / 16), (17, 1)],
        "segments of k": [(8, 1.75)],
        "none": [(17, 1)],
        "one layer in k": [(17, 1.5), (17, 2)],
    }
