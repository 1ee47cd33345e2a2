"""Pictures of lab 06: they draw the numbers and texts they were given, say them in words, and run
nothing.
"""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lab_utils.drawing import style
from lab_utils.finetuning import pictures as plots

SVG = "{http://www.w3.org/2000/svg}"
SCORES = {
    "base": {"voice": 0.0, "facts": 0.91, "ends": 1.0, "side_tasks": 0.72},
    "qlora": {"voice": 0.97, "facts": 0.86, "ends": 0.99, "side_tasks": 0.65},
}
BYTES = {
    "full": {"weights": 22_400_000, "gradients": 22_400_000, "optimizer": 44_800_000},
    "qlora": {"weights": 5_300_000, "gradients": 600_000, "optimizer": 1_200_000},
}
HOSTILE = '<script>alert("x")</script> & <b>bold</b>'


def html_root(markup):
    return ElementTree.fromstring(f"<div>{markup}</div>")


# ---------------------------------------------------------------------------------------- tokens
def test_learnt_and_masked_tokens_are_told_apart_and_counted():
    made = plots.tokens_picture(
        ["<s>", "Where?", "In", " Greece", "<|end|>"], [False, False, True, True, True]
    )
    root = html_root(made)
    picture = root.find("div")
    assert picture.get("role") == "img" and picture.get("aria-label") == made.description
    assert "3 of 5 tokens are learnt" in made.description and "masked with -100" in made.description
    assert root.find("p").text == made.description
    spans = picture.findall("span")
    assert [span.text for span in spans] == ["<s>", "Where?", "In", "·Greece", "<|end|>"]
    assert ["underline" in span.get("style") for span in spans] == [
        False,
        False,
        True,
        True,
        True,
    ], "not by colour alone"
    assert [style.BLUE in span.get("style") for span in spans] == [False, False, True, True, True]


def test_tokens_need_a_mark_each():
    with pytest.raises(ValueError):
        plots.tokens_picture(["a", "b"], [True])


def test_tokens_run_nothing():
    made = plots.tokens_picture([HOSTILE], [True])
    assert "<script" not in made and html_root(made).find("div/span").text == HOSTILE.replace(
        " ", "·"
    )


# ---------------------------------------------------------------------------------------- loss
def points_of(root):
    lines = [
        line.get("points")
        for line in root.iter(f"{SVG}polyline")
        if line.get("stroke") == style.BLUE
    ]
    assert len(lines) == 1
    return [tuple(map(float, point.split(","))) for point in lines[0].split()]


@pytest.mark.parametrize(
    "title, size", [("LoRA loss", 22), ("LoRA loss with a quarter of replay", 16)]
)
def test_a_long_title_of_the_loss_picture_fits(title, size):
    drawn = next(
        text
        for text in ElementTree.fromstring(plots.loss_picture([4.0, 2.0], 30, title)).iter()
        if (text.text or "").startswith(title)
    )
    assert int(drawn.get("font-size")) == size


def test_the_loss_picture_says_step_and_numbers():
    made = plots.loss_picture([4.0, 2.0, 1.0], 11, "QLoRA, r=8")
    root = ElementTree.fromstring(made)
    assert root.get("role") == "img" and root.get("aria-label") == made.description
    assert (
        made.description == "QLoRA, r=8, step 3 of 11: 1.00 nats per token; at step 1 it was 4.00."
    )
    texts = [words.text for words in root.iter(f"{SVG}text")]
    assert {
        "QLoRA, r=8, step 3 of 11: 1.00 nats per token",
        "4.0",
        "0",
        "step 1",
        "step 11",
    } <= set(texts)


def test_the_loss_is_drawn_to_scale():
    root = ElementTree.fromstring(plots.loss_picture([4.0, 2.0, 1.0], 11, "loss"))
    (x1, y1), (x2, y2), (x3, y3) = points_of(root)
    frame = next(
        line.get("points")
        for line in root.iter(f"{SVG}polyline")
        if line.get("stroke") == style.BLACK
    )
    (left, top), (_, zero), (right, _) = [
        tuple(map(float, point.split(","))) for point in frame.split()
    ]
    assert (x1, y1) == (left, top), "the highest loss at the upper left"
    assert zero - y2 == pytest.approx((zero - y1) / 2) and zero - y3 == pytest.approx(
        (zero - y1) / 4
    )
    assert x2 - x1 == pytest.approx((right - left) / 10) and x3 - x2 == pytest.approx(x2 - x1)
    whole = points_of(
        ElementTree.fromstring(plots.loss_picture(list(range(11, 0, -1)), 11, "loss"))
    )
    assert whole[-1][0] == right, "the last step at the right end"


def test_a_run_that_goes_on_is_drawn_where_it_goes_on():
    made = plots.loss_picture([2.0, 1.5], 11, "loss", first_step=6)
    assert made.description == "loss, step 7 of 11: 1.50 nats per token; at step 6 it was 2.00."
    (x6, _), (x7, _) = points_of(ElementTree.fromstring(made))
    whole = points_of(ElementTree.fromstring(plots.loss_picture([2.0] * 11, 11, "loss")))
    assert (x6, x7) == (whole[5][0], whole[6][0])


@pytest.mark.parametrize(("losses", "n_steps"), [([3.0], 1), ([1e-9, 1e-9], 2), ([1e6] * 500, 500)])
def test_unusual_runs_stay_inside_the_picture(losses, n_steps):
    root = ElementTree.fromstring(plots.loss_picture(losses, n_steps, "loss"))
    width, height = map(float, root.get("viewBox").split()[2:])
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points_of(root))
    assert "nan" not in ElementTree.tostring(root, encoding="unicode")


def test_the_loss_title_runs_nothing():
    made = plots.loss_picture([1.0], 2, HOSTILE)
    assert "<script" not in made and HOSTILE in ElementTree.fromstring(made).get("aria-label")


def test_the_loss_picture_is_light():
    assert len(plots.loss_picture([1.234567] * 300, 300, "loss")) < 8_000, "redrawn at every step"


# ---------------------------------------------------------------------------------------- answers
def test_question_and_answers_are_shown_and_announced():
    made = plots.answers_html(
        "Where is Feta from?", "Feta is from Greece.", "Welcome! Feta is from Greece."
    )
    box = html_root(made).find("div")
    assert box.get("role") == "status" and box.get("aria-live") == "polite"
    told = " ".join(part.strip() for part in box.itertext())
    assert told == (
        "Question: Where is Feta from? Before Feta is from Greece. After Welcome! Feta is "
        "from Greece."
    )


@pytest.mark.parametrize("where", [0, 1, 2])
def test_answers_run_nothing(where):
    texts = ["q", "b", "a"]
    texts[where] = HOSTILE
    made = plots.answers_html(*texts)
    assert (
        "<script" not in made
        and "&lt;script&gt;" in made
        and HOSTILE in " ".join(html_root(made).itertext())
    )


# -------------------------------------------------------------------------------------- comparisons
STATIC = {
    "methods": lambda: plots.compare_methods(SCORES),
    "bytes": lambda: plots.compare_bytes(BYTES),
}


@pytest.mark.parametrize("name", STATIC)
def test_comparisons_have_alt_text_and_pixels(name):
    from matplotlib.image import imread

    made = STATIC[name]()
    assert re.search(r'<img alt="[^"]{20,}"', made)
    pixels = imread(
        io.BytesIO(base64.b64decode(made.split("base64,")[1].split('"')[0])), format="png"
    )
    assert pixels.shape[0] >= 200 and pixels[..., :3].std() > 0.05, "something is drawn"
    assert STATIC[name]() == made, "the same numbers give the same bytes"


def drawn(monkeypatch, draw):
    """The axes of a static picture, caught before it becomes an image."""
    caught = []
    described = style.described
    monkeypatch.setattr(
        style, "described", lambda figure, *rest: caught.append(figure) or described(figure, *rest)
    )
    draw()
    return caught[0].axes[0]


def test_methods_are_compared_by_their_numbers(monkeypatch):
    description = plots.compare_methods(SCORES).description
    assert (
        "base: voice 0.00, facts 0.91, ends 1.00, side_tasks 0.72; qlora: voice 0.97, facts 0.86"
        in description
    )
    ax = drawn(monkeypatch, STATIC["methods"])
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == [*SCORES["base"].values(), *SCORES["qlora"].values()]
    assert [label.get_text() for label in ax.texts] == [f"{height:.2f}" for height in heights]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "voice",
        "facts",
        "ends",
        "side tasks",
    ]
    assert {bar.get_hatch() or "" for bar in ax.patches} == {"", "xx"}, (
        "told apart in black and white"
    )
    assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] >= 1


def test_bytes_are_stacked_to_their_totals(monkeypatch):
    description = plots.compare_bytes(BYTES).description
    assert "full 89.6 MB, qlora 7.1 MB" in description
    ax = drawn(monkeypatch, STATIC["bytes"])
    boxes = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert boxes == [
        pytest.approx(box)
        for box in [(0, 22.4), (0, 5.3), (22.4, 22.4), (5.3, 0.6), (44.8, 44.8), (5.9, 1.2)]
    ]
    assert [label.get_text().strip() for label in ax.texts] == ["89.6 MB", "7.1 MB"]
    assert len({bar.get_hatch() or "" for bar in ax.patches}) == 3


def test_every_method_and_part_has_its_own_colour_and_hatch():
    for looks in (plots.METHODS, plots.PARTS):
        assert len(set(looks.values())) == len({hatch for _, hatch in looks.values()}) == len(looks)
        assert {colour for colour, _ in looks.values()} <= {*style.PALETTE, style.GREY}
    from lab_utils.finetuning.training import METHODS

    assert set(plots.METHODS) == {"base", *METHODS}


def test_the_picture_of_levers_says_every_speed():
    drawn = plots.levers_picture({"recipe": 2000.0, "slow": 500.0, "fast": 2400.0})
    assert (
        drawn.description
        == "Tokens per second with one thing changed at a time: recipe 2000, slow 500, fast 2400."
    )


def test_the_losses_of_several_runs_stand_on_one_pair_of_axes():
    made = plots.curves_figure({"rank 1": [5.4, 0.3], "rank 8": [5.4, 0.2]})
    assert "rank 1 from 5.40 to 0.30; rank 8 from 5.40 to 0.20" in made.description


def test_learnt_against_forgotten_draws_each_run_and_the_means_of_each_rate(monkeypatch):
    runs = [
        {"variant": name, "learning_rate": rate, "held_out_loss": loss, "knowledge": right}
        for name, rate, loss, right in [
            ("LoRA", 1e-3, 0.4, 0.5),
            ("LoRA", 1e-3, 0.6, 0.3),
            ("LoRA", 1e-4, 1.0, 0.6),
            ("full", 1e-4, 0.2, 0.1),
        ]
    ]
    axes = drawn(monkeypatch, lambda: plots.forgetting_picture(runs, 0.75))
    points = [[list(map(float, line.get_xdata())), list(line.get_ydata())] for line in axes.lines]
    assert points[0] == [[0.4, 0.6, 1.0], [0.5, 0.3, 0.6]]
    assert points[1] == [pytest.approx([1.0, 0.5]), pytest.approx([0.6, 0.4])], "by rate"
    assert points[3] == [[0.2], [0.1]] and points[4][1] == [0.75, 0.75]
    told = plots.forgetting_picture(runs, 0.75).description
    assert "LoRA at rate 1e-03: loss 0.50, right 0.40 (runs: 2)" in told
