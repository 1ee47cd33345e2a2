"""The demos of lab 03 in a real browser: keyboard, buttons and the player move the picture, and it
says the new numbers.
"""

import pytest
from driving import picture_saying, press

from lab_utils.memory import demos as paging_widgets
from lab_utils.memory import demos as widgets

pytestmark = pytest.mark.browser


def choose(page, control: str, option: str) -> None:
    page.locator(".widget-dropdown").filter(has=page.get_by_text(control, exact=True)).locator(
        "select"
    ).select_option(option)


def test_a_plan_is_stepped_scrubbed_and_changed(open_demo):
    page = open_demo("from lab_utils.memory.demos import stepper_demo\nstepper_demo()")
    picture_saying(page, widgets.draw_stepper(0).description)
    page.get_by_role("button", name="next ▶").click()
    picture_saying(page, widgets.draw_stepper(1).description)
    press(page, "event", "ArrowRight", "ArrowRight")
    picture_saying(page, widgets.draw_stepper(3).description)
    page.get_by_role("button", name="◀ back").click()
    picture_saying(page, widgets.draw_stepper(2).description)
    press(page, "event", "End")
    last = widgets.draw_stepper(56).description
    assert "16 of 16 layers have their gradient" in last
    picture_saying(page, last)
    choose(page, "plan", "optimal")
    # the slider's end moves, and it with it
    step = min(56, len(widgets.replayed("optimal", 16, 4, 8, 0)[0].events))
    picture_saying(page, widgets.draw_stepper(step, "optimal").description)
    press(page, "limit", "ArrowLeft")
    picture_saying(page, widgets.draw_stepper(step, "optimal", limit=7).description)


def test_the_whole_stepper_is_in_view_of_a_projector(open_demo):
    """1280 x 720, as many projectors have it: picture and controls need no scrolling within the
    demo.
    """
    page = open_demo("from lab_utils.memory.demos import stepper_demo\nstepper_demo()")
    page.set_viewport_size({"width": 1280, "height": 720})
    picture_saying(page, widgets.draw_stepper(0).description)
    box = page.locator(".jp-OutputArea-output .widget-vbox").first.bounding_box()
    assert box["height"] <= 660 and box["width"] >= 900


def test_the_player_runs_by_itself(open_demo):
    page = open_demo("from lab_utils.memory.demos import stepper_demo\nstepper_demo()")
    picture_saying(page, widgets.draw_stepper(0).description)
    page.locator(".widget-play button").first.click()
    for step in (1, 2, 3):
        picture_saying(page, widgets.draw_stepper(step).description)
    page.locator(".widget-play button").first.click()  # the next test has the page


def test_pages_move_by_keyboard(open_demo):
    page = open_demo("from lab_utils.memory.demos import page_demo\npage_demo()")
    picture_saying(page, paging_widgets.draw_pages(1).description)
    press(page, "event", "End")
    last = paging_widgets.draw_pages(42).description
    assert "Pages moved so far: 12" in last
    picture_saying(page, last)
    press(page, "long batch", "End")
    failed = paging_widgets.draw_pages(15, long=26).description
    assert "OUT OF MEMORY" in failed
    picture_saying(page, failed)
    press(page, "GPU's room", "End")
    picture_saying(page, paging_widgets.draw_pages(15, capacity=24, long=26).description)
