"""Demos of lab 03, driven as a browser would: set a control or press a button, and the picture
follows. No browser needed.
"""

import re

import pytest

from lab_utils.drawing import style
from lab_utils.memory import demos as paging_widgets
from lab_utils.memory import demos as widgets

DEMOS = {
    "stepper": (
        widgets.stepper_demo,
        {
            "step": [5, 56],
            "plan": ["none", "every k", "every layer", "optimal", "sqrt(n)"],
            "n": [4, 1, 16],
            "inside": [16, 0],
        },
    ),
    "pages": (
        paging_widgets.page_demo,
        {"step": [15, 42], "capacity": [8, 24], "long": [6, 26, 14], "speed": [4.0, 50.0]},
    ),
}


def said(demo):
    return re.search(r'aria-label="([^"]+)"', demo.picture.value).group(1)


@pytest.mark.parametrize("name", DEMOS)
def test_every_control_changes_the_picture(name):
    make, changes = DEMOS[name]
    demo = make()
    shown = [control for row in demo.children[:2] for control in row.children]
    assert {*demo.controls.values()} <= set(shown) and demo.children[2] is demo.picture, (
        "every control is shown"
    )
    demo.controls["step"].value = 20
    for control, values in changes.items():
        for value in values:
            before = demo.picture.value
            demo.controls[control].value = value
            assert demo.picture.value != before, f"{control} = {value} changed nothing"
            assert demo.picture.value.startswith("<svg")


@pytest.mark.parametrize("name", DEMOS)
def test_controls_are_labelled(name):
    demo = DEMOS[name][0]()
    for control in (*demo.controls.values(), demo.play, *demo.buttons):
        assert control.description, "a screen reader reads this"


@pytest.mark.parametrize("name", DEMOS)
def test_buttons_go_one_event_on_and_back_and_stop_at_the_ends(name):
    demo = DEMOS[name][0]()
    step, (back, on) = demo.controls["step"], demo.buttons
    first = step.value
    back.click()
    assert step.value == first == step.min
    on.click()
    on.click()
    assert step.value == first + 2
    back.click()
    assert step.value == first + 1 and f"event {first + 1} of {step.max}" in said(demo)
    step.value = step.max
    on.click()
    assert step.value == step.max


# ---------------------------------------------------------------------------------------- stepper
def test_a_plan_is_played_to_its_end():
    demo = widgets.stepper_demo()
    step = demo.controls["step"]
    assert (step.min, step.max, demo.play.max) == (0, 56, 56)
    seen = []
    for number in range(step.max + 1):
        step.value = number
        seen.append(said(demo))
    assert len(set(seen)) == 57
    assert (
        "16 of 16 layers have their gradient" in seen[-1] and "Forward steps: 28 of 28" in seen[-1]
    )


def test_the_event_slider_follows_the_plan():
    demo = widgets.stepper_demo()
    step = demo.controls["step"]
    step.value = 56
    demo.controls["plan"].value = "none"
    assert (
        step.max == demo.play.max == step.value == 32
        and "none, 16 layers, event 32 of 32" in said(demo)
    )
    demo.controls["n"].value = 1
    assert step.max == 2 and "none, 1 layer, event 2 of 2" in said(demo)
    demo.controls["n"].value = 16
    assert step.max == 32


def test_only_the_control_that_counts_can_be_moved():
    demo = widgets.stepper_demo()
    plan, k, limit = (demo.controls[name] for name in ("plan", "k", "limit"))
    assert k.disabled and limit.disabled
    plan.value = "every k"
    assert not k.disabled and limit.disabled
    k.value = 2
    assert "every 2, 16 layers" in said(demo)
    plan.value = "optimal"
    assert k.disabled and not limit.disabled
    limit.value = 5
    assert "optimal, limit 5, 16 layers" in said(demo)
    demo.controls["inside"].value = 4
    assert "optimal, limit 7, 16 layers" in said(demo), (
        "a limit below the smallest possible is moved up"
    )


def test_k_above_n_is_one_segment():
    assert widgets.draw_stepper(0, "every k", n=4, k=9).description.startswith("none, 4 layers")


def test_a_step_beyond_the_end_is_the_last():
    assert "event 12 of 12" in widgets.draw_stepper(99, "every k", n=4, k=2).description
    assert "event 42 of 42" in paging_widgets.draw_pages(99).description


# ---------------------------------------------------------------------------------------- pages
def test_the_spike_and_the_way_back():
    demo = paging_widgets.page_demo()
    step = demo.controls["step"]
    step.value = 15
    assert "to the CPU: 0, 1, 2, 3, 4, 5. Pages moved so far: 6, 1.0 ms." in said(demo)
    step.value = 42
    assert "Pages moved so far: 12, 2.1 ms" in said(demo)
    demo.controls["speed"].value = 4.0
    assert "Pages moved so far: 12, 6.3 ms" in said(demo)


def test_a_run_that_nothing_can_save_ends_early():
    demo = paging_widgets.page_demo()
    demo.controls["step"].value = 42
    demo.controls["long"].value = 26
    assert demo.controls["step"].max == demo.controls["step"].value == 15
    assert (
        "event 15 of 15: OUT OF MEMORY" in said(demo)
        and style.INKS[style.VERMILLION] in demo.picture.value
    )
