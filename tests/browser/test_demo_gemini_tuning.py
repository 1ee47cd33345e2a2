"""The demos of lab 08 in a real browser: the keyboard moves a control, and the picture says the new
numbers.
"""

import pytest
from driving import picture_saying, press

from lab_utils.gemini import demos as widgets

pytestmark = pytest.mark.browser

NUMBERS = dict(
    file_tokens=100_000,
    shot_tokens=50.0,
    base_tokens=60.0,
    answer_tokens=40.0,
    tuning_price=5.0,
    input_price=0.5,
    output_price=2.0,
)


def test_a_job_is_stepped_through_by_keyboard_under_its_banner(open_demo):
    page = open_demo("from lab_utils.gemini.demos import job_demo\njob_demo(100_000, 5.0)")
    picture = picture_saying(
        page,
        "SIMULATED job at step 0: PENDING, 0 of 3 epochs read; "
        "would be billed so far: 0 tokens, $0.00.",
    )
    assert picture.get_by_text(
        "SIMULATED: no service was called, no model was tuned, nothing was billed"
    ).is_visible()
    press(page, "step", "ArrowRight", "ArrowRight", "ArrowRight")
    picture_saying(page, widgets.draw_job(3, 3, "nothing", 100_000, 5.0).description)
    choice = page.get_by_label("what happens", exact=True)
    choice.focus()
    # by keyboard: JupyterLab would take the key for its own, and select a cell
    choice.press("ArrowDown")
    picture_saying(page, widgets.draw_job(3, 3, "cancelled at step 1", 100_000, 5.0).description)
    choice.select_option("cancelled at step 3")
    cancelling = widgets.draw_job(3, 3, "cancelled at step 3", 100_000, 5.0).description
    assert "CANCELLING" in cancelling
    picture_saying(page, cancelling)
    press(page, "step", "End")
    picture_saying(page, widgets.draw_job(8, 3, "cancelled at step 3", 100_000, 5.0).description)
    press(page, "epochs", "Home")
    picture_saying(page, widgets.draw_job(8, 1, "cancelled at step 3", 100_000, 5.0).description)


def test_break_even_moves_by_keyboard(open_demo):
    page = open_demo(
        f"from lab_utils.gemini.demos import break_even_demo\nbreak_even_demo(**{NUMBERS!r})"
    )
    picture_saying(
        page,
        "10 examples in every prompt against tuning for $1.50: equal at 6,000 questions, $2.16.",
    )
    press(page, "examples in prompt", "Home")
    picture_saying(page, "0 examples in every prompt against tuning for $1.50: tuning never pays.")
    press(page, "epochs", "ArrowLeft")
    picture_saying(page, widgets.draw_break_even(0, 2, **NUMBERS).description)
