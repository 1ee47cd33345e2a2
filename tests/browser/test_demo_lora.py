"""The demos of lab 04 in a real browser: the keyboard moves a control, and the picture says the new
numbers.
"""

import json

import pytest
from driving import picture_saying, press

from lab_utils.files import DATA
from lab_utils.lora import demos as widgets

pytestmark = pytest.mark.browser

RANK = """from lab_utils.lora.demos import cheese_picture, decompose, rank_demo
rank_demo(decompose({"cheese": cheese_picture(), "square": cheese_picture(64)}))"""
ADAPTERS = """import json
from lab_utils.files import DATA
from lab_utils.lora.demos import adapter_calculator
adapter_calculator(json.loads((DATA / "reference" / "architectures.json")
    .read_text(encoding="utf-8"))["models"])"""


def test_the_rank_is_dragged_by_keyboard_and_the_picture_chosen(open_demo):
    matrices = widgets.decompose(
        {"cheese": widgets.cheese_picture(), "square": widgets.cheese_picture(64)}
    )
    page = open_demo(RANK)
    shown = picture_saying(page, widgets.draw_rank("cheese", 8, matrices).description)
    assert shown.locator("image").count() == 2
    press(page, "rank", "ArrowRight")
    picture_saying(page, widgets.draw_rank("cheese", 12, matrices).description)
    press(page, "rank", "End")
    whole = widgets.draw_rank("cheese", 128, matrices).description
    assert "relative error 0.0%" in whole and "200% of the 16,384" in whole
    picture_saying(page, whole)
    press(page, "rank", "Home")
    picture_saying(page, widgets.draw_rank("cheese", 1, matrices).description)
    page.locator(".widget-dropdown select").select_option("square")
    picture_saying(page, widgets.draw_rank("square", 1, matrices).description)


def test_the_calculator_answers_by_keyboard(open_demo):
    configs = json.loads((DATA / "reference" / "architectures.json").read_text(encoding="utf-8"))[
        "models"
    ]
    page = open_demo(ADAPTERS)
    picture_saying(page, widgets.draw_adapters("Llama-2-7B", 8, configs).description)
    press(page, "rank", "ArrowRight")
    picture_saying(page, widgets.draw_adapters("Llama-2-7B", 16, configs).description)
    page.locator(".widget-dropdown select").select_option("Falcon-180B")
    picture_saying(page, widgets.draw_adapters("Falcon-180B", 16, configs).description)
