"""Pictures of lab 05: they draw the numbers and texts they were given, say them in words, and run
nothing.
"""

import base64
import io
import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest

from lab_utils.drawing import style
from lab_utils.pavlos import pictures as plots

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("x")</script> & <b>bold</b>'
READERS = {
    "json.loads": {"kept": 26, "whole": 147, "wrong": 8, "raised": 57},
    "ladder": {"kept": 147, "whole": 147, "wrong": 0, "raised": 0},
}
LEAKS = {"by row": {"leak": 1.0, "copycat": 0.725}, "by fact": {"leak": 0.0, "copycat": 0.0}}


def boxes(drawn, color):
    return [
        (float(box.get("x")), float(box.get("width")))
        for box in ElementTree.fromstring(drawn).iter(f"{SVG}rect")
        if box.get("fill") == color
    ]


def words(drawn):
    return [text.text for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]


def inside(drawn):
    """No text begins or ends outside the picture, a letter being a bit more than half its size
    wide.
    """
    root = ElementTree.fromstring(drawn)
    width, height = map(float, root.get("viewBox").split()[2:])
    for text in root.iter(f"{SVG}text"):
        wide = (
            len(text.text or "")
            * float(text.get("font-size"))
            * (0.64 if text.get("font-weight") else 0.56)
        )
        left = (
            float(text.get("x"))
            - {"start": 0, "middle": wide / 2, "end": wide}[text.get("text-anchor")]
        )
        if not (left > -8 and left + wide < width + 8 and 0 < float(text.get("y")) <= height):
            return text.text
    return None


# ---------------------------------------------------------------------------------------- yield
def test_the_meter_is_as_long_as_the_share_kept():
    drawn = plots.yield_picture(READERS)
    (_, full), _ = boxes(drawn, "#E4E4E4")
    assert [width for _, width in boxes(drawn, style.BLUE)] == pytest.approx(
        [full * 26 / 147, full], abs=0.1
    )
    assert {
        "26 of 147 kept (18%)",
        "8 wrongly accepted, 57 replies lost",
        "147 of 147 kept (100%)",
        "none wrongly accepted",
    } <= set(words(drawn))
    assert drawn.description == (
        "Whole pairs kept by each reader: json.loads 26 of 147, 8 wrongly accepted, 57 replies "
        "lost; ladder 147 of 147, none wrongly accepted."
    )


# ---------------------------------------------------------------------------------------- a reply
def test_a_reply_is_shown_as_it_came_with_what_can_not_be_seen():
    assert plots.visible("a\tb\n\ufeff\x00\u2028é🧀") == "a⇥b⏎\n[U+FEFF][U+0000][U+2028]é🧀"
    drawn = plots.reply_picture(
        "cut (MAX_TOKENS)", 'x\n{"a"', "scan", [("Who?", "Pavlos.")], ["cut off"]
    )
    assert drawn.description == "cut (MAX_TOKENS): 1 pairs kept by the rung scan, 1 pieces left."
    root = ElementTree.fromstring(drawn)
    assert root.find("pre").text == 'x⏎\n{"a"' and root.get("role") == "status"
    assert ["".join(item.itertext()) for item in root.iter("li")] == ["Who? Pavlos.", "cut off"]
    empty = ElementTree.fromstring(plots.reply_picture("empty", "", "json", [], []))
    assert empty.find("pre").text == "(no text)" and [item.text for item in empty.iter("li")] == [
        "nothing",
        "nothing",
    ]


def test_every_fault_can_be_drawn():
    from lab_utils.pavlos.demos import draw_fault
    from lab_utils.pavlos.fault_box import faults

    for fault in faults():
        drawn = draw_fault(fault.name)
        drawn.encode("utf-8")
        assert f"{len(fault.whole)} pairs kept" in drawn.description


@pytest.mark.parametrize(
    "draw",
    [
        lambda text: plots.reply_picture(text, text, "json", [(text, text)], [text]),
        lambda text: plots.pair_picture(1, 2, {"question": text, "answer": text}, text),
    ],
)
def test_texts_run_nothing(draw):
    drawn = draw(HOSTILE)
    assert "<script" not in drawn and HOSTILE in " ".join(ElementTree.fromstring(drawn).itertext())


# ---------------------------------------------------------------------------------------- coverage
COUNTS = Counter(
    {
        ("blue", "open", "guest"): 12,
        ("blue", "request", "guest"): 0,
        ("science: milk", "open", "expert"): 100,
        ("science: milk", "request", "expert"): 3,
        ("blue", "open", "student"): 7,
        ("blue", "request", "student"): 1,
        ("blue", "open", "expert"): 2,
        ("blue", "request", "expert"): 5,
    }
)


def test_the_heat_map_writes_every_count_in_its_cell(monkeypatch):
    caught, described = [], style.described
    monkeypatch.setattr(
        style, "described", lambda figure, *rest: caught.append(figure) or described(figure, *rest)
    )
    drawn = plots.coverage_figure(COUNTS)
    ax = caught[0].axes[0]
    columns = [
        (level, question_type)
        for level in ("guest", "student", "expert")
        for question_type in ("open", "request")
    ]
    topics = [tick.get_text() for tick in ax.get_yticklabels()]
    shown = {text.get_position(): text.get_text() for text in ax.texts}
    for (topic, question_type, level), count in COUNTS.items():
        assert shown[columns.index((level, question_type)), topics.index(topic)] == str(count)
    values = ax.images[0].get_array()
    assert (
        values[0, 0] == pytest.approx(math.log2(13)) and values[0, 1] == 0 and values.mask[1, 0]
    ), "white: no fact to ask for"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        question_type for _, question_type in columns
    ]
    assert drawn.description == (
        "Rows in each of 8 cells of topic, question type and level: 1 are empty, the fullest "
        "has 100."
    )


def test_the_heat_map_has_alt_text_and_pixels():
    from matplotlib.image import imread

    drawn = plots.coverage_figure(COUNTS)
    assert re.search(r'<img alt="[^"]{20,}"', drawn)
    pixels = imread(
        io.BytesIO(base64.b64decode(drawn.split("base64,")[1].split('"')[0])), format="png"
    )
    assert pixels.shape[1] >= 600 and pixels[..., :3].std() > 0.05


# ------------------------------------------------------------------------- near-duplicates and leak
def test_duplicates_are_drawn_to_scale_with_an_example():
    examples = {"ROUGE-L": ("Where is Feta?", "Where is Brie?")}
    drawn = plots.duplicates_picture(0.7, {"ROUGE-L": (80, 79), "Jaccard": (20, 0)}, examples)
    (_, long), (_, short) = boxes(drawn, style.ORANGE)[0], boxes(drawn, style.BLUE)[0]
    assert short == pytest.approx(long / 4, abs=0.1)
    told = {
        "Questions called alike from 0.70 on",
        "80 pairs,",
        "79 of different facts",
        *examples["ROUGE-L"],
    }
    assert told <= set(words(drawn))
    assert "Jaccard 20 pairs, 0 of them ask for different facts" in drawn.description
    nothing = plots.duplicates_picture(1.0, {"ROUGE-L": (0, 0), "Jaccard": (0, 0)}, {})
    assert [width for _, width in boxes(nothing, style.ORANGE)] == [0.0]


def test_the_leak_is_drawn_to_scale():
    drawn = plots.leak_picture(LEAKS)
    (_, full), (_, none) = boxes(drawn, style.VERMILLION)
    assert none == 0 and [width for _, width in boxes(drawn, style.SKY)] == pytest.approx(
        [full * 0.725, 0], abs=0.1
    )
    assert (
        "by row: 100.0% of the held-out facts are also in training, the copycat has 72.5% right"
        in drawn.description
    )
    assert {"by row", "by fact", "100.0%", "72.5%", "facts also in training"} <= set(words(drawn))


# ---------------------------------------------------------------------------------------- voting
def test_a_pair_is_shown_with_its_card():
    drawn = plots.pair_picture(
        3, 30, {"question": "Where?", "answer": "Greece."}, "Feta comes from Greece."
    )
    assert (
        drawn.description
        == "Pair 3 of 30. Question: Where? Answer: Greece. Card: Feta comes from Greece."
    )
    told = " ".join("".join(part.itertext()) for part in ElementTree.fromstring(drawn))
    assert told == "pair 3 of 30 Where? Greece. fact card: Feta comes from Greece."


def test_kappa_stands_where_it_belongs():
    told = {
        "voice": (10, 0.9, 0.5),
        "truth": (10, 1.0, math.nan),
        "taste": (0, 0.0, 0.0),
        "bad": (4, 0.25, -0.5),
    }
    drawn = plots.agreement_picture(told, ("A", "B"))
    root = ElementTree.fromstring(drawn)
    dots = [float(dot.get("cx")) for dot in root.iter(f"{SVG}circle")]
    lines = [
        [float(point.split(",")[0]) for point in line.get("points").split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    (start, end) = lines[0]
    whole = end - start
    assert dots == pytest.approx([start + 0.75 * whole, start + 0.25 * whole]), "from -1 to 1"
    for said in (
        "voice: agree on 90% of 10",
        "kappa 0.50",
        "truth: agree on 100% of 10",
        "kappa: not defined",
        "taste: no pair judged by both",
        "kappa -0.50",
    ):
        assert said in words(drawn) and said in drawn.description


LONG = {
    "json.loads": {"kept": 1000, "whole": 1000, "wrong": 99, "raised": 99},
    "ladder + schema": READERS["ladder"],
}
QUESTION = "For my homework: Where is San Simón da Costa?"


@pytest.mark.parametrize(
    "drawn",
    [
        plots.yield_picture(LONG),
        plots.leak_picture(
            {"dealt out row by row": LEAKS["by row"], "split by fact": LEAKS["by fact"]}
        ),
        plots.duplicates_picture(
            0.7, {"ROUGE-L": (1000, 1000), "Jaccard": (0, 0)}, {"ROUGE-L": (QUESTION, QUESTION)}
        ),
        plots.agreement_picture({"voice": (30, 1.0, math.nan)}, ("A, careful", "B, hasty")),
    ],
    ids=["yield", "leak", "duplicates", "agreement"],
)
def test_no_text_leaves_the_picture(drawn):
    assert inside(drawn) is None
    root = ElementTree.fromstring(drawn)
    assert root.get("role") == "img" and root.get("aria-label") == drawn.description
