"""Pictures of lab 07: they draw the numbers and texts they were given, say them in words, and run
nothing.
"""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lab_utils.drawing import style
from lab_utils.lora import pictures as plots

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("x")</script> & <b>bold</b>'
SHARES = {
    "full": {"few parameters": 0.0, "good answers": 1.0, "fast answers": 1.0},
    "LoRA": {"few parameters": 0.5, "good answers": 0.9, "fast answers": 0.75},
    "IA3": {"few parameters": 1.0, "good answers": 0.25, "fast answers": 1.0},
    "DoRA": {"few parameters": 0.4, "good answers": 0.5, "fast answers": 0.2},
}
ROUGE = {
    "base": {"rouge1": 0.35, "rougeL": 0.3},
    "full": {"rouge1": 0.6, "rougeL": 0.58},
    "LoRA": {"rouge1": 0.55, "rougeL": 0.5},
}


def polylines(root, colour):
    found = [line for line in root.iter(f"{SVG}polyline") if line.get("stroke") == colour]
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in found
    ]


def texts(root):
    return [words.text for words in root.iter(f"{SVG}text")]


# ---------------------------------------------------------------------------------------- five axes
def test_chosen_methods_stand_out_and_are_drawn_to_scale():
    root = ElementTree.fromstring(plots.axes_picture(SHARES, ["full", "LoRA"]))
    uprights = [line for line in polylines(root, style.BLACK) if line[0][0] == line[1][0]]
    assert len(uprights) == 3
    (x1, top), (_, bottom) = uprights[0]
    drawn = [line for line in polylines(root, style.BLUE) if len(line) == 3]
    assert drawn == [[(x1, bottom), (uprights[1][0][0], top), (uprights[2][0][0], top)]], (
        "0 at the bottom, 1 on top"
    )
    lora = next(line for line in polylines(root, style.VERMILLION) if len(line) == 3)
    assert [y for _, y in lora] == [
        pytest.approx(bottom - share * (bottom - top)) for share in (0.5, 0.9, 0.75)
    ]
    assert len([line for line in polylines(root, plots.PALE) if len(line) == 3]) == 2, (
        "the others stay behind"
    )
    assert {"full", "LoRA", "0.50", "0.90", "0.75", *SHARES["full"]} <= set(
        texts(root)
    ) and "IA3" not in texts(root)


def test_methods_are_told_apart_without_colour():
    root = ElementTree.fromstring(plots.axes_picture(SHARES, ["full", "LoRA", "IA3"]))
    dashes = {
        line.get("stroke-dasharray")
        for line in root.iter(f"{SVG}polyline")
        if line.get("stroke-width") == "6"
    }
    assert len(dashes) == 3


def test_the_axes_say_their_numbers():
    made = plots.axes_picture(SHARES, ["IA3"])
    assert made.description == (
        "4 methods on five axes, 1 is best. IA3: few parameters 1.00, good answers 0.25, "
        "fast answers 1.00."
    )
    assert plots.axes_picture(SHARES, ["IA3", "IA3"]) == made, "chosen twice is chosen once"
    assert "full:" in plots.axes_picture(SHARES, ["full", "LoRA", "IA3", "DoRA"]).description
    assert "DoRA:" not in plots.axes_picture(SHARES, ["full", "LoRA", "IA3", "DoRA"]).description, (
        "three at most"
    )
    assert len(polylines(ElementTree.fromstring(plots.axes_picture(SHARES, [])), plots.PALE)) == 4


def test_everything_stays_inside_the_picture():
    root = ElementTree.fromstring(plots.axes_picture(SHARES, ["full", "LoRA", "IA3"]))
    width, height = map(float, root.get("viewBox").split()[2:])
    points = [point for line in root.iter(f"{SVG}polyline") for point in line.get("points").split()]
    assert all(
        0 <= float(x) <= width and 0 <= float(y) <= height
        for x, y in (point.split(",") for point in points)
    )
    assert all(float(words.get("y")) <= height for words in root.iter(f"{SVG}text"))


# --------------------------------------------------------------------------------------- matplotlib
STATIC = {
    "rouge": lambda: plots.rouge_picture(ROUGE, ["rouge1", "rougeL"]),
    "bars": lambda: plots.bars_picture(
        {"as trained": {"LoRA": 0.5, "adapters": 0.75}, "merged": {"LoRA": 1.0, "adapters": None}},
        "share of the base's",
        mark=(1, "the bare base"),
    ),
    "scatter": lambda: plots.scatter_picture(
        {"full": (5e6, 0.2), "IA3": (6144, 0.67), "norms": (2880, 0.66)}, "trained", "lost"
    ),
    "lines": lambda: plots.lines_picture(
        [0, 0.5], {"voice": [1.0, 0.9], "facts": [0.8, 0.7]}, "replay", "share"
    ),
}


@pytest.mark.parametrize("name", STATIC)
def test_static_pictures_have_alt_text_and_pixels(name):
    from matplotlib.image import imread

    made = STATIC[name]()
    assert re.search(r'<img alt="[^"]{20,}"', made)
    pixels = imread(
        io.BytesIO(base64.b64decode(made.split("base64,")[1].split('"')[0])), format="png"
    )
    assert pixels.shape[0] >= 120 and pixels[..., :3].std() > 0.05, "something is drawn"
    assert STATIC[name]() == made, "the same numbers give the same bytes"


def drawn(monkeypatch, draw):
    """The axes of a static picture, caught before it becomes an image."""
    caught = []
    described = style.described
    monkeypatch.setattr(
        style, "described", lambda figure, *rest: caught.append(figure) or described(figure, *rest)
    )
    made = draw()
    return caught[0].axes[0], made.description


def test_rouge_bars_are_the_numbers(monkeypatch):
    ax, said = drawn(monkeypatch, STATIC["rouge"])
    assert [bar.get_height() for bar in ax.patches] == [0.35, 0.3, 0.6, 0.58, 0.55, 0.5]
    assert [label.get_text() for label in ax.texts] == [
        "0.35",
        "0.30",
        "0.60",
        "0.58",
        "0.55",
        "0.50",
    ]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["ROUGE-1", "ROUGE-L"]
    assert (
        len({bar.get_hatch() for bar in ax.patches}) == 3
        and "base: rouge1 0.35, rougeL 0.30; full:" in said
    )


def test_lying_bars_leave_out_what_is_not_there(monkeypatch):
    ax, said = drawn(monkeypatch, STATIC["bars"])
    assert [bar.get_width() for bar in ax.patches] == [0.5, 0.75, 1.0]
    assert [label.get_text() for label in ax.texts] == ["0.50", "0.75", "1.00"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["LoRA", "adapters"]
    assert said == "share of the base's. as trained: LoRA 0.50, adapters 0.75; merged: LoRA 1.00."
    assert [line.get_xdata()[0] for line in ax.lines] == [1] and len(
        {bar.get_hatch() for bar in ax.patches}
    ) == 2


def test_lying_bars_can_be_negative(monkeypatch):
    ax, said = drawn(
        monkeypatch, lambda: plots.bars_picture({"forgotten": {"LoRA": -0.05, "IA3": 0.5}}, "lost")
    )
    assert [bar.get_width() for bar in ax.patches] == [-0.05, 0.5] and "LoRA -0.05" in said


def test_scattered_points_are_the_numbers(monkeypatch):
    ax, said = drawn(monkeypatch, STATIC["scatter"])
    assert list(ax.lines[0].get_xdata()) == [5e6, 6144, 2880] and list(ax.lines[0].get_ydata()) == [
        0.2,
        0.67,
        0.66,
    ]
    assert ax.get_xscale() == "log"
    assert (
        said == "lost over trained: full (5,000,000, 0.20), IA3 (6,144, 0.67), norms (2,880, 0.66)."
    )
    assert {label.get_text(): label.xy for label in ax.texts} == {
        "full": (5e6, 0.2),
        "IA3": (6144, 0.67),
        "norms": (2880, 0.66),
    }


def test_names_of_points_stand_where_there_is_room():
    taken = [(92, 108, 92, 108), (115, 131, 92, 108)]  # this point, and another to its right
    assert plots.free_side(100, 100, 40, taken) == "left"
    assert taken[-1] == (46, 86, 94, 112), "the label's own box"
    assert (
        plots.free_side(100, 100, 40, taken) == "above"
        and plots.free_side(100, 100, 40, taken) == "below"
    )
    assert plots.free_side(500, 100, 40, taken) == "right"


def test_lines_are_the_numbers(monkeypatch):
    ax, said = drawn(monkeypatch, STATIC["lines"])
    assert [list(line.get_xdata()) for line in ax.lines] == [[0, 0.5]] * 2
    assert [list(line.get_ydata()) for line in ax.lines] == [[1.0, 0.9], [0.8, 0.7]]
    assert len({(line.get_linestyle(), line.get_marker()) for line in ax.lines}) == 2
    assert said == (
        "share over replay. voice: 0 gives 1.00, 0.5 gives 0.90; facts: 0 gives 0.80, 0.5 "
        "gives 0.70."
    )


# ---------------------------------------------------------------------------------------- voices
def test_bytes_on_disk_are_drawn_to_scale():
    made = plots.disk_picture(10_000_000, {"pavlos": 400_000, "terse": 200_000})
    root = ElementTree.fromstring(made)
    widths = [float(box.get("width")) for box in root.iter(f"{SVG}rect")]
    assert len(widths) == 5 and widths[0] == widths[1] == widths[2], "two copies, one base"
    per_byte = (widths[0] + 6) / 10_000_000
    assert widths[3:] == [
        pytest.approx(400_000 * per_byte, abs=0.1),
        pytest.approx(200_000 * per_byte, abs=0.1),
    ]
    assert made.description == (
        "2 full copies take 20.0 MB; one base and 2 adapters take 10.6 MB, the adapters 0.60 MB "
        "of it."
    )


def test_an_answer_is_shown_and_announced():
    made = plots.voice_html("Where is Feta from?", "terse", "Feta: Greece.")
    box = ElementTree.fromstring(made)
    assert (
        box.get("role") == "status"
        and box.get("aria-live") == "polite"
        and plots.VOICES["terse"] in box.get("style")
    )
    assert "".join(box.itertext()) == "Question: Where is Feta from?terse: Feta: Greece."


@pytest.mark.parametrize("where", [0, 1, 2])
def test_answers_run_nothing(where):
    parts = ["q", "v", "a"]
    parts[where] = HOSTILE
    made = plots.voice_html(*parts)
    assert "<script" not in made and HOSTILE in "".join(ElementTree.fromstring(made).itertext())


def test_all_voices_answer_all_questions_in_one_picture():
    long = "Welcome, welcome, welcome, my dear friend! " * 4
    made = plots.voices_picture(
        {"Where?": {"base": "Here.", "pavlos": long}, HOSTILE: {"terse": "Feta: Greece."}}
    )
    root = ElementTree.fromstring(made)
    words = texts(root)
    assert {"Where?", "base", "Here.", "pavlos", "terse", "Feta: Greece.", HOSTILE} <= set(
        words
    ) and "<script" not in made
    assert " ".join(words).count("Welcome, welcome, welcome") == 4 and max(map(len, words)) <= 78, (
        "wrapped, nothing lost"
    )
    height = float(root.get("viewBox").split()[3])
    assert (
        all(float(w.get("y")) <= height for w in root.iter(f"{SVG}text"))
        and "Where? base: Here. pavlos:" in made.description
    )
