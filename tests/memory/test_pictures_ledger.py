"""Pictures of lab 00: they draw the numbers they were given, say them in words, stay on the page
and can be read.
"""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lab_utils.finetuning import pictures as why_peft
from lab_utils.memory import pictures as plots
from lab_utils.memory.ledger import CARDS, Plan, ledger, peak, size_range
from lab_utils.memory.report import architecture_named
from lab_utils.memory.sizes import LECTURE_10B

SVG = "{http://www.w3.org/2000/svg}"
QLORA = ledger(
    architecture_named("LLaMA-65B"),
    Plan(sequence=2048, checkpointing=True, optimizer="paged_adamw", master=True),
)
STORY = [(0, None, " ".join(["Brie"] * 15)), (20, 6.08, ""), (2000, 0.49, "Greece <3")]
LIVE = {
    "full": lambda: plots.ledger_picture(
        "10B", ledger(LECTURE_10B, Plan(method="full", weights="fp16"))
    ),
    "qlora": lambda: plots.ledger_picture("65B", QLORA),
    "story": lambda: why_peft.story_picture(STORY, "Where?"),
}
LEDGERS = {
    name: ledger(LECTURE_10B, Plan(method=name, sequence=256)) for name in ("full", "lora", "qlora")
}
STATIC = {
    "methods": lambda: plots.methods_figure(LEDGERS),
    "ratio": lambda: plots.ratio_figure({"weights": (2e6, 1e6), "activations": (3e6, 3e6)}),
    "shots": lambda: why_peft.shots_figure(
        (0, 1, 5), {"known": (0, 0.9, 1), "unknown": (0, 0, 0.1)}, 0.94
    ),
}


@pytest.mark.parametrize("name", LIVE)
def test_live_pictures_are_well_formed_described_and_light(name):
    made = LIVE[name]()
    root = ElementTree.fromstring(made)
    assert (
        root.tag == f"{SVG}svg"
        and root.get("role") == "img"
        and root.get("aria-label") == made.description
    )
    assert len(made.description) > 20 and len(made) < 30_000


@pytest.mark.parametrize("name", LIVE)
def test_live_pictures_stay_on_the_page_and_can_be_read_from_the_back(name):
    root = ElementTree.fromstring(LIVE[name]())
    width, height = map(float, root.get("viewBox").split()[2:])
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("x")) >= -1 and float(box.get("x")) + float(box.get("width")) <= width
        assert (
            float(box.get("y")) >= -1 and float(box.get("y")) + float(box.get("height")) <= height
        )
    for words in root.iter(f"{SVG}text"):
        size = float(words.get("font-size"))
        length = 0.62 * size * len(words.text)
        left = (
            float(words.get("x"))
            - length * {"start": 0, "middle": 0.5, "end": 1}[words.get("text-anchor")]
        )
        assert size >= 18 and 0 < float(words.get("y")) <= height
        assert left >= -1 and left + length <= width + 1, words.text


def test_the_ledger_picture_has_every_part_the_peak_and_every_card():
    made, rows = LIVE["qlora"](), plots.merged(QLORA)
    for row in rows:
        assert f">{row.name}<" in made and f">{size_range(row.low, row.high)} GB<" in made
    assert f"{size_range(*peak(QLORA))} GB at the peak" in made.description
    assert (
        all(f"{card}:" in made for card in CARDS)
        and "H100 80 GB" in made.description
        and "RTX 3060 12 GB: no" in made
    )
    nothing = plots.ledger_picture(
        "too large", [line._replace(low=1e12, high=1e12) for line in QLORA]
    )
    assert "no card here" in nothing.description and "perhaps" not in nothing.description


def test_bars_are_as_long_as_their_bytes():
    lines = [
        line._replace(low=low, high=high)
        for line, low, high in zip(QLORA, (2e9, 1e9, 0), (4e9, 1e9, 3e9), strict=False)
    ]
    root = ElementTree.fromstring(plots.ledger_picture("three", lines))
    widths = [float(box.get("width")) for box in root.iter(f"{SVG}rect") if box.get("x") == "290.0"]
    assert widths == [460, 230, 115, 115, 345, 1], (
        "hollow to the high end, full to the low end, none without a trace"
    )


def test_activations_are_one_row_and_keep_their_sum():
    merged = plots.merged(QLORA)
    assert [row.name for row in merged].count("activations") == 1
    assert sum(row.high for row in merged) == sum(line.high for line in QLORA)
    assert sum(row.low for row in merged) == sum(line.low for line in QLORA)


@pytest.mark.parametrize("name", STATIC)
def test_static_pictures_have_alt_text_and_pixels(name):
    made = STATIC[name]()
    assert re.search(r'<img alt="[^"]{40,}"', made)
    from matplotlib.image import imread

    pixels = imread(
        io.BytesIO(base64.b64decode(made.split("base64,")[1].split('"')[0])), format="png"
    )
    assert pixels.shape[0] >= 150 and pixels[..., :3].std() > 0.05, "something is drawn"
    assert STATIC[name]() == made, "the same numbers give the same bytes"


def test_methods_say_where_every_byte_went():
    made = STATIC["methods"]()
    for name, lines in LEDGERS.items():
        assert f"{name} {sum(line.high for line in lines) / 1e9:.1f} GB" in made.description
        parts = {plots.part_of(line) for line in lines}
        assert parts <= set(plots.PARTS) and "activations" in parts
    full = [plots.part_of(line) for line in LEDGERS["full"]]
    assert full[:3] == ["weights", "optimizer", "gradients"] and full[-2:] == ["card and slack"] * 2
    assert {plots.part_of(line) for line in QLORA if line.when == "kept"} == {
        "weights",
        "optimizer",
    }


def test_ratios_and_shares_are_said():
    assert "weights 2.000 and 1.000 MB" in STATIC["ratio"]().description
    shots = STATIC["shots"]().description
    assert (
        "known: 0.00, 0.90, 1.00; unknown: 0.00, 0.00, 0.10. Pavlos fine-tuned, no examples: 0.94"
        in shots
    )


def test_the_story_shortens_long_answers_and_says_nothing_for_none():
    made = LIVE["story"]()
    assert (
        "(nothing)" in made and "Brie ..." in made and "Greece &lt;3" in made and ">6.08<" in made
    )
    assert "Step 0: Brie" in made.description and "Step 2000: Greece <3" in made.description
    widths = [float(box.get("width")) for box in ElementTree.fromstring(made).iter(f"{SVG}rect")]
    assert widths == pytest.approx([120, 120 * 0.49 / 6.08], abs=0.06), (
        "the bar is as long as the loss; step 0 has none"
    )
