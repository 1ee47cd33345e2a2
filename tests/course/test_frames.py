"""The demos of the site: which values a page offers, and that each setting leads to the picture
that the lab draws for it. tests/browser/test_browse_site.py uses them as a reader does.
"""

import base64
import gzip
import json

import ipywidgets
import pytest
from bs4 import BeautifulSoup

from lab_utils.course import frames
from lab_utils.course.frames import Control, demo_called, live_demo
from lab_utils.course.stage import DEMOS
from lab_utils.drawing.live import live
from lab_utils.memory.demos import draw_stepper
from lab_utils.pavlos.demos import VOTES
from lab_utils.pavlos.judge import agreement
from lab_utils.pavlos.pictures import agreement_picture
from lab_utils.quantization.demos import draw_outlier


def unpacked(page):
    """{"pictures": ..., "order": ...} of a demo, as site.js reads it."""
    text = page.select_one("script.frames").string
    return json.loads(gzip.decompress(base64.b64decode(text)))


def shown_at(page, **chosen):
    """The picture for labels of the controls, found as site.js finds it."""
    place = 0
    for field in page.select(".control :is(input, select)"):
        if field.name == "select":
            labels = [option["value"] for option in field("option")]
        elif field["type"] == "checkbox":
            labels = ["False", "True"]
        else:
            labels = json.loads(field["data-labels"])
        place = place * len(labels) + labels.index(chosen[field["name"]])
    found = unpacked(page)
    return found["pictures"][found["order"][place]]


@pytest.fixture(scope="module")
def outlier():
    return BeautifulSoup(live_demo("outlier"), "html.parser")


@pytest.fixture(scope="module")
def checkpointing():
    return BeautifulSoup(live_demo("checkpointing"), "html.parser")


def test_each_setting_shows_what_the_lab_draws(outlier):
    assert shown_at(outlier, outlier="3", block_size="8") == draw_outlier(3.0, 8)
    assert shown_at(outlier, outlier="300", block_size="64") == draw_outlier(300.0, 64)
    found = unpacked(outlier)
    assert len(found["order"]) == 31 * 4 and len(set(found["pictures"])) == len(found["pictures"])


def test_a_page_begins_as_the_demo_does_and_can_be_read_without_a_script(outlier):
    assert outlier.select_one(".picture").svg["aria-label"] == draw_outlier(3.0, 32).description
    assert outlier.select_one(".controls").has_attr("hidden")
    size = outlier.select_one("[name=block_size]")
    assert json.loads(size["data-labels"])[int(size["value"])] == "32"
    assert outlier.find("label", attrs={"for": size["id"]}).text == "block size (weights)"


def test_presets_are_links_to_settings(outlier):
    links = {link.text: link["href"] for link in outlier.select(".presets a")}
    assert links == {
        "start": "#outlier",
        "one outlier": "#outlier?outlier=100",
        "a huge one": "#outlier?outlier=300",
        "a huge one, small blocks": "#outlier?outlier=300&block_size=8",
    }


def test_a_page_begins_where_the_stored_output_stands():
    page = BeautifulSoup(live_demo("outlier", {"outlier (in σ)": "100"}), "html.parser")
    assert page.select_one(".picture").svg["aria-label"] == draw_outlier(100.0, 32).description


def test_a_player_goes_to_the_end_of_its_longest_course(checkpointing):
    labels = json.loads(checkpointing.select_one("[name=step]")["data-labels"])
    assert labels[0] == "0" and checkpointing.select_one(".player [data-play]")
    setting = dict(n="16", k="4", limit="8", inside="0")
    last = shown_at(checkpointing, plan="none", step=labels[-1], **setting)
    assert last == draw_stepper(step=10**6, plan="none")
    middle = shown_at(checkpointing, plan="sqrt(n)", step="34", **setting)
    assert middle == draw_stepper(step=34)


def test_what_does_nothing_is_marked_and_drawn_once(checkpointing):
    setting = dict(plan="none", n="16", limit="8", inside="0", step="5")
    assert shown_at(checkpointing, k="2", **setting) == shown_at(checkpointing, k="8", **setting)
    setting["plan"] = "every k"
    assert shown_at(checkpointing, k="2", **setting) != shown_at(checkpointing, k="8", **setting)
    assert checkpointing.select_one("[name=k]")["data-needs"] == "plan=every k"


def test_all_kinds_of_controls_become_fields():
    box = live(
        lambda **values: str(values),
        menu=ipywidgets.Dropdown(options=[("one <1>", 1), ("two", 2)], description="menu"),
        tick=ipywidgets.Checkbox(True, description="tick"),
        slide=ipywidgets.FloatSlider(0.5, min=0.4, max=0.6, step=0.05, description="slide"),
        whole=ipywidgets.IntSlider(4, 2, 6, 2, description="whole"),
    )
    menu, tick, slide, whole = frames.controls_of("none", box)
    assert menu == Control("menu", "menu", "select", [("one <1>", 1), ("two", 2)], 0)
    assert tick == Control("tick", "tick", "checkbox", [("False", False), ("True", True)], 1)
    assert [label for label, _ in slide.options] == ["0.4", "0.45", "0.5", "0.55", "0.6"]
    assert slide.start == 2 and [value for _, value in whole.options] == [2, 4, 6]
    assert "one &lt;1&gt;" in frames.control_html("none", menu)


def test_a_call_is_known_by_its_function():
    assert demo_called("from x import outlier_demo\n\noutlier_demo()") == "outlier"
    assert demo_called("rank_demo(matrices)") == "rank"
    assert demo_called("BeforeAfterChat(a, b)") == "" == demo_called("outlier_demo")
    without_model = {name for name, demo in DEMOS.items() if not demo.needs}
    assert set(frames.CALLED.values()) == {"votes", *without_model}


def test_grids_are_of_controls_that_exist():
    assert set(frames.GRIDS) <= set(DEMOS) and set(frames.NOTES) <= set(DEMOS)


def test_votes_lead_to_the_agreement_that_the_lab_draws():
    page = BeautifulSoup(live_demo("votes"), "html.parser")
    drawn = unpacked(page)
    a = {1: "yes", 2: "yes", 3: "no", 4: "yes"}
    b = {1: "yes", 2: "no", 3: "no", 5: "no"}  # of both: yes yes, yes no, no no
    for name in VOTES:
        wanted = agreement_picture({name: agreement(a, b)}, frames.RATERS)
        assert drawn[name]["pictures"][drawn[name]["place"]["1,1,0,1"]] == wanted
        assert len(drawn[name]["place"]) == 1820
    assert len(set(drawn["pairs"])) == frames.N_PAIRS
    assert page.select_one(".picture [role=status]").text.startswith("pair 1 of 12")


def test_the_counts_of_votes_are_the_right_way_round():
    a, b = frames.votes_of((2, 1, 0, 1))
    assert ([*a.values()], [*b.values()]) == (["yes"] * 3 + ["no"], ["yes"] * 2 + ["no"] * 2)
    assert frames.votes_of((0, 0, 0, 0)) == ({}, {})
