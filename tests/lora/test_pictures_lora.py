"""Pictures of lab 04: they draw the numbers they were given, say them in words, and are
well-formed.
"""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from lab_utils.drawing import style
from lab_utils.lora import pictures as plots

SVG = "{http://www.w3.org/2000/svg}"
GAINS = {"α / r": {1: 1.0, 16: 1.1}, "α": {1: 1.0, 16: 17.0}}
SIZES = {"q, v": 4_194_304, "all linear": 19_988_480}


def sweep_row(rank, loss, group="rank"):
    scores = {
        "loss": loss,
        "bleu": 40.0 + rank,
        "nist": 5.0,
        "meteor": 0.5,
        "rougeL": 0.6,
        "cider": 1.5,
        "facts": 0.9,
    }
    return {
        "group": group,
        "rank": rank,
        "mean": scores,
        "spread": {name: 0.01 for name in scores},
        "values": {name: [value, value * 1.02] for name, value in scores.items()},
    }


ROWS = [sweep_row(1, 0.21), sweep_row(8, 0.19), sweep_row(64, 0.18)]
TABLE3 = [
    {
        "model": f"GPT-2 {size}",
        "method": method,
        "params_millions": millions,
        "bleu": bleu,
        "confidence": {"bleu": 0.1} if method == "LoRA" else {},
    }
    for size, method, millions, bleu in (
        ("M", "FT", 354.92, 68.2),
        ("M", "LoRA", 0.35, 70.4),
        ("L", "LoRA", 0.77, 70.4),
    )
]
STATIC = {
    "parameters": (
        lambda: plots.parameter_figure({"q, v": {1: 5e5, 64: 3e7}}, 7e9, "Llama-2-7B"),
        "Llama-2-7B, rank 1 to 64: q, v from 500,000 to 30,000,000; all: 7,000,000,000",
    ),
    "update": (
        lambda: plots.update_figure(
            {"q": [0.1, 0.3, 1.0], "down": [0.05, 0.2, 1.0]}, {1: 2.3, 64: 0.18}, 5.49
        ),
        "q 100%; down 100%. Held-out loss with the update cut to a rank, 5.490 without it: 1: "
        "2.300, 64: 0.180",
    ),
    "capacity": (
        lambda: plots.capacity_figure(
            {1: (0.91, 0.9), 16: (0.0, 0.0)}, {128: {1: 0.09, 16: 1.0}}, 16
        ),
        "teacher of rank 16: 1: 0.910, 16: 0.000. Learnt by heart: 128 pairs 1: 9%, 16: 100%",
    ),
    "tuning": (
        lambda: plots.tuning_figure({"rank 1": {"0.001": 0.7, "0.01": 0.2, "0.03": None}}),
        "the best: rank 1 0.01",
    ),
    "ranks": (
        lambda: plots.rank_figure(ROWS, "our sweep"),
        "validation loss 0.18 to 0.21, best at rank 64; BLEU 41 to 104",
    ),
    "ranks of a paper": (
        lambda: plots.rank_figure([row["mean"] | {"rank": row["rank"]} for row in ROWS], "paper"),
        "paper, by rank: validation loss 0.18 to 0.21, best at rank 64",
    ),
    "placements": (
        lambda: plots.placement_figure(
            [sweep_row(19, 0.25, "q, v"), sweep_row(4, 0.19, "all linear")]
        ),
        "q, v, r = 19 0.2500 and 90.0%; all linear, r = 4 0.1900 and 90.0%",
    ),
    "table 3": (
        lambda: plots.table3_figure(TABLE3),
        "GPT-2 M FT 354.92 M 68.2; GPT-2 M LoRA 0.35 M 70.4",
    ),
}


@pytest.mark.parametrize("name", STATIC)
def test_static_figures_are_images_that_say_their_numbers(name):
    draw, said = STATIC[name]
    made = draw()
    assert said in made.description
    alt, data = re.fullmatch(
        r'<img alt="([^"]+)" style="[^"]+" src="data:image/png;base64,([^"]+)">', made
    ).groups()
    assert len(alt) > 20 and Image.open(io.BytesIO(base64.b64decode(data))).width > 600


def matrix_picture(rank):
    values = np.outer(np.arange(1, 9), np.ones(6)).astype(np.float32)
    return plots.rank_picture(
        "steps", values, values / 2, [9.0, 3.0, 1.0, 0.5, 0.2, 0.1], rank, 0.25
    )


LIVE = {
    "rank": lambda: matrix_picture(2),
    "adapters": lambda: plots.adapter_picture("Llama-2-7B", 8, SIZES, 6_476_005_376),
    "first step": lambda: plots.first_step_picture(GAINS),
}


@pytest.mark.parametrize("name", LIVE)
def test_live_pictures_are_well_formed_described_and_large_enough(name):
    made = LIVE[name]()
    root = ElementTree.fromstring(made)
    assert root.get("role") == "img" and root.get("aria-label") == made.description
    width, height = map(float, root.get("viewBox").split()[2:])
    for box in root.iter(f"{SVG}rect"):
        assert (
            -1 <= float(box.get("x")) and float(box.get("x")) + float(box.get("width")) <= width + 1
        )
        assert (
            -1 <= float(box.get("y"))
            and float(box.get("y")) + float(box.get("height")) <= height + 1
        )
    assert all(float(words.get("font-size")) >= 18 for words in root.iter(f"{SVG}text"))


def pixels(address):
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    )


def test_a_matrix_becomes_grey_values_between_low_and_high():
    values = np.array([[-1.0, 0.0], [1.0, 3.0]])
    assert pixels(plots.grey_png(values, -1, 1)).tolist() == [[0, 127], [255, 255]]
    assert pixels(plots.grey_png(np.ones((2, 3)), 1, 1)).shape == (2, 3), (
        "a constant matrix is no division by zero"
    )


def test_both_matrices_are_drawn_on_the_originals_scale():
    first, second = (
        pixels(image.get("href"))
        for image in ElementTree.fromstring(matrix_picture(2)).iter(f"{SVG}image")
    )
    assert first[0, 0] == 0 and first[-1, 0] == 255
    assert second[-1, 0] == int((4 - 1) / 7 * 255), "half of 8, between 1 and 8"


@pytest.mark.parametrize(("rank", "kept"), [(0, 0), (2, 2), (6, 6)])
def test_the_singular_values_that_are_kept_are_blue(rank, kept):
    root = ElementTree.fromstring(matrix_picture(rank))
    bars = [box for box in root.iter(f"{SVG}rect") if float(box.get("height")) > 0]
    assert [box.get("fill") for box in bars].count(style.BLUE) == kept and len(bars) == 6
    heights = sorted((float(box.get("height")) for box in bars), reverse=True)
    assert heights[1] / heights[0] == pytest.approx(3 / 9, abs=0.01)


def test_the_price_turns_red_where_the_adapter_is_as_large_as_the_matrix():
    assert "28 parameters" in matrix_picture(2) and style.INKS[
        style.VERMILLION
    ] not in matrix_picture(2)
    costly = matrix_picture(4)
    assert "56 parameters" in costly and style.INKS[style.VERMILLION] in costly
    assert costly.description == (
        "steps, 8 x 6, at rank 4 of 6: relative error 25.0%, 56 parameters, "
        "117% of the 48 of the matrix."
    )


def test_adapters_are_squares_to_scale():
    root = ElementTree.fromstring(plots.adapter_picture("m", 1, {"a": 10**6, "b": 10**8}, 10**10))
    sides = [(float(box.get("width")), box.get("fill")) for box in root.iter(f"{SVG}rect")][:3]
    (full, _), (b, color_b), (a, color_a) = sides
    assert full / b == pytest.approx(10, abs=0.1) and b / a == pytest.approx(10, abs=0.2)
    assert color_a != color_b, "the larger lies below: all can be seen"


def test_adapters_larger_than_the_weights_still_fit():
    root = ElementTree.fromstring(plots.adapter_picture("m", 1, {"a": 4 * 10**10}, 10**10))
    first, second, *_ = [float(box.get("width")) for box in root.iter(f"{SVG}rect")]
    assert first == pytest.approx(2 * second, abs=0.2), "the weights within the adapters"


def test_first_steps_are_written_above_their_bars():
    texts = [
        words.text
        for words in ElementTree.fromstring(plots.first_step_picture(GAINS)).iter(f"{SVG}text")
    ]
    assert {"1.0", "1.1", "17.0", "α / r", "α"} <= set(texts)
