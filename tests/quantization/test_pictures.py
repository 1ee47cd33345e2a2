"""Pictures of labs 01 and 02: they draw the numbers they were given, say them in words, and are
well-formed.
"""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from lab_utils.drawing import style
from lab_utils.memory import pictures as memory_pictures
from lab_utils.memory import sizes as memory
from lab_utils.quantization import buckets as q
from lab_utils.quantization import double as dq
from lab_utils.quantization import floats as numerics
from lab_utils.quantization import pictures as dq_plots
from lab_utils.quantization import pictures as q_plots

SVG = "{http://www.w3.org/2000/svg}"
X = q.example_values("normal", 512)
RESULTS = q.compare_codebooks(X, 4, 64)
POINTS = dq.trade_off(X, (16, 64, 256))
SIZES = {"bf16": 130.0, "nf4": 36.6}
CODES = torch.tensor([[-40, -17], [0, 127]], dtype=torch.int8)

LIVE = {
    "bits": lambda: q_plots.bits_picture(0.1, numerics.store_everywhere(0.1)),
    "buckets": lambda: q_plots.buckets_picture(X, RESULTS, "normal"),
    "outlier": lambda: dq_plots.outlier_picture(X[:64], 0.13, 0.01, 16),
    "codes": lambda: dq_plots.codes_picture(
        CODES, CODES - torch.eye(2, dtype=torch.int8), {(1, 1): (127, 126)}
    ),
    "block size": lambda: dq_plots.block_size_picture(POINTS, 64),
    "memory": lambda: memory_pictures.memory_picture(
        "65B", SIZES, memory.CARDS, {"bf16": [], "nf4": ["L40S 48 GB"]}
    ),
}
STATIC = {
    "buckets": lambda: q_plots.buckets_figure(X, RESULTS, "normal"),
    "rounding": lambda: q_plots.rounding_figure(X[:8], X[:8] + 0.01, 0.02),
    "usage": lambda: q_plots.usage_figure(RESULTS[2].codebook, RESULTS[2].usage),
    "normal float": lambda: q_plots.normal_float_figure(q.nf4_codebook()),
    "rmse": lambda: q_plots.rmse_figure(
        {"normal": {"nf4": 0.09, "int4": 0.11}, "uniform": {"nf4": 0.06, "int4": 0.04}}
    ),
    "outlier": lambda: dq_plots.outlier_figure([3, 300], [0.01, 0.7], [0.01, 0.05], 64),
    "trade-off": lambda: dq_plots.trade_off_figure(POINTS),
    "perplexity": lambda: dq_plots.perplexity_figure(
        {"Int4": 2.345, "NFloat4": 2.1}, {"Int4": 34.34, "NFloat4": 27.41}, 2.0
    ),
    "ledger": lambda: dq_plots.ledger_figure(
        {"a": memory.bytes_by_part(memory.Scheme("", 8, 5, 32), 25)}
    ),
}


@pytest.mark.parametrize("name", LIVE)
def test_live_pictures_are_well_formed_and_described(name):
    made = LIVE[name]()
    root = ElementTree.fromstring(made)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert root.get("aria-label") == made.description and made.description.count(".") >= 1
    assert made._repr_html_() == str(made)


@pytest.mark.parametrize("name", LIVE)
def test_live_pictures_stay_inside_and_are_large_enough_to_read(name):
    root = ElementTree.fromstring(LIVE[name]())
    width, height = map(float, root.get("viewBox").split()[2:])
    for box in root.iter(f"{SVG}rect"):
        assert (
            -1 <= float(box.get("x")) and float(box.get("x")) + float(box.get("width")) <= width + 8
        )
        assert (
            -1 <= float(box.get("y"))
            and float(box.get("y")) + float(box.get("height")) <= height + 1
        )
    for words in root.iter(f"{SVG}text"):
        assert 0 <= float(words.get("y")) <= height and float(words.get("font-size")) >= 18
        assert "nan" not in words.text


@pytest.mark.parametrize("block_size", [16, 64, 256])
def test_the_labels_of_a_chosen_block_size_stay_on_the_page(block_size):
    picture = ElementTree.fromstring(dq_plots.block_size_picture(POINTS, block_size))
    width = float(picture.get("viewBox").split()[2])
    for words in picture.iter(f"{SVG}text"):
        length = 0.65 * float(words.get("font-size")) * len(words.text)
        left = (
            float(words.get("x"))
            - length * {"start": 0, "middle": 0.5, "end": 1}[words.get("text-anchor")]
        )
        assert left >= 0 and left + length <= width, words.text


@pytest.mark.parametrize("name", LIVE)
def test_live_pictures_are_light(name):
    assert len(LIVE[name]()) < 120_000


def test_a_live_picture_as_an_image_says_and_shows_the_same():
    drawn = LIVE["codes"]()
    image = style.as_image(drawn)
    shown = ElementTree.fromstring(image.replace(">", "/>"))
    assert shown.get("alt") == image.description == drawn.description
    assert (
        base64.b64decode(shown.get("src").removeprefix("data:image/svg+xml;base64,")).decode()
        == drawn
    )


@pytest.mark.parametrize("name", STATIC)
def test_static_pictures_have_alt_text_and_pixels(name):
    made = STATIC[name]()
    assert re.search(r'<img alt="[^"]{20,}"', made)
    data = base64.b64decode(made.split("base64,")[1].split('"')[0])
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(data), format="png")
    assert pixels.shape[0] >= 300 and pixels[..., :3].std() > 0.05, "something is drawn"
    assert STATIC[name]() == made, "the same numbers give the same bytes"


def test_pictures_say_the_numbers_they_draw():
    bits = LIVE["bits"]()
    assert "FP16 stores 0.0999756 (rounded)" in bits.description and "0.0999755859" in bits
    buckets = LIVE["buckets"]()
    for result in RESULTS:
        assert f"RMSE {result.rmse:.4f}" in buckets
    assert f"Best: {min(RESULTS, key=lambda r: r.rmse).name}" in buckets.description
    assert "13.0 times less" in LIVE["outlier"]().description
    assert "4.500 bits per weight, 4.127 with" in LIVE["block size"]().description
    codes = LIVE["codes"]()
    assert (
        codes.description.startswith("Of 4 codes on the slide 3 are right and 1 wrong.")
        and ">slide -41<" in codes
    )
    assert "126" not in codes, "either side of a tie is right"
    perplexity = STATIC["perplexity"]().description
    assert (
        "2 before: Int4 2.345; NFloat4 2.1." in perplexity
        and "Int4 34.34; NFloat4 27.41." in perplexity
    )
    assert "no single card here" in LIVE["memory"]() and "L40S 48 GB" in LIVE["memory"]()


def test_the_static_bits_are_the_live_drawing_as_an_image():
    made, live = q_plots.bits_figure(0.1, numerics.store_everywhere(0.1)), LIVE["bits"]()
    root = ElementTree.fromstring(made.replace('">', '"/>'))
    assert root.tag == "img" and root.get("alt") == made.description == live.description
    kind, data = root.get("src").split(",")
    assert kind == "data:image/svg+xml;base64" and base64.b64decode(data).decode() == live


def test_as_many_bit_boxes_as_bits():
    root = ElementTree.fromstring(LIVE["bits"]())
    digits = [words.text for words in root.iter(f"{SVG}text") if words.text in ("0", "1")]
    assert len(digits) == 32 + 16 + 16 + 8 + 8 + 4


def test_histogram_hides_no_value():
    assert sum(q_plots.histogram(torch.tensor([-9.0, 0.0, 9.0]), -1, 1)) == 3


def test_values_are_drawn_where_their_buckets_are():
    scaled = q_plots.scaled_to_blocks(torch.tensor([1.0, -2.0, 30.0, 60.0, 5.0]), block_size=2)
    assert scaled.tolist() == [0.5, -1.0, 0.5, 1.0, 1.0], (
        "each over the absmax of its own block, the last one short"
    )
    assert q_plots.scaled_to_blocks(torch.tensor([[1.0, -2.0], [0.0, 4.0]])).tolist() == [
        0.25,
        -0.5,
        0.0,
        1.0,
    ]
    assert not q_plots.scaled_to_blocks(torch.zeros(4), 2).any()
    assert q_plots.buckets_picture(X, RESULTS, "normal", 64) != q_plots.buckets_picture(
        X, RESULTS, "normal"
    )


def test_svg_helpers():
    assert "a &lt;b&gt;" in style.text(0, 0, "a <b>")
    assert 'aria-label="say &quot;x&quot;"' in style.svg(10, 10, 'say "x"')
    two = style.bars([1, 2], 0, 0, 10, 10, "red")
    assert two.count("<rect") == 2 and 'height="10.0"' in two and 'height="5.0"' in two
    assert style.bars([0, 0], 0, 0, 10, 10, "red").count('height="0.0"') == 2
    assert style.placed(5, 0, 10, 100, 200) == 150 and style.placed(50, 0, 10, 100, 200) == 200
    assert style.DASHES[1] in style.line([(0, 0), (1, 1)], dash=style.DASHES[1])


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_colors_can_be_read_on_white():
    for color in (style.BLACK, style.GREY, style.BLUE, style.VERMILLION, style.GREEN):
        assert 1.05 / (luminance(color) + 0.05) >= 3, "WCAG: 3 to 1 for large text"
