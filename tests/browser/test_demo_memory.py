"""The calculator and the quiz of lab 00 in a real browser: controls are set as a person sets them,
and the page follows.
"""

import pytest
from driving import picture_saying, press

from lab_utils.drawing.quiz import BEFORE
from lab_utils.memory import demos as widgets

pytestmark = pytest.mark.browser


def described(**change):
    return widgets.draw_training(**(widgets.START | change)).description


def test_the_calculator_goes_from_120_gigabytes_to_a_card(open_demo):
    page = open_demo(
        "from lab_utils.memory.demos import training_calculator\ntraining_calculator()"
    )
    start = described()
    assert ": 120 to " in start
    picture_saying(page, start)
    page.locator(".widget-dropdown").filter(has=page.get_by_text("method", exact=True)).locator(
        "select"
    ).select_option("qlora")
    picture_saying(page, described(method="qlora"))
    page.get_by_label("gradient checkpointing").check()
    picture_saying(page, described(method="qlora", checkpointing=True))
    press(page, "sequence (tokens)", "ArrowRight", "ArrowRight")
    last = described(method="qlora", checkpointing=True, sequence=2048)
    assert "Fits on" in last and "RTX 4090 24 GB" in last
    picture_saying(page, last)


def test_the_quiz_answers_a_click_and_counts(open_demo):
    page = open_demo(
        "from lab_utils.drawing.quiz import BEFORE\nfrom lab_utils.drawing.quiz_demo import Quiz\n"
        "Quiz(BEFORE)"
    )
    page.get_by_text("0 right of 0 answered").wait_for()
    first = BEFORE[0]
    page.get_by_label("about 2048", exact=True).check()
    page.get_by_text(first.options["about 2048"]).wait_for()
    page.get_by_text("0 right of 1 answered").wait_for()
    page.get_by_label(first.right, exact=True).check()
    page.get_by_text("It can only guess: each token has probability 1/2048").wait_for()
    page.get_by_text("1 right of 1 answered").wait_for()
