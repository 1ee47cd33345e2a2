"""Demos of lab 08, driven as a browser would: set a control, and the picture follows. No browser
needed.
"""

import pytest

from lab_utils.gemini import demos as widgets
from lab_utils.gemini import rows as gt

NUMBERS = dict(
    file_tokens=100_000,
    shot_tokens=50.0,
    base_tokens=60.0,
    answer_tokens=40.0,
    tuning_price=5.0,
    input_price=0.5,
    output_price=2.0,
)
DEMOS = {
    "job": (
        lambda: widgets.job_demo(1000, 5.0),
        {"step": [3, 8], "epochs": [1, 5], "happens": list(widgets.EVENTS)[1:]},
    ),
    "break-even": (
        lambda: widgets.break_even_demo(**NUMBERS),
        {"shots": [0, 50], "epochs": [1, 10]},
    ),
}


@pytest.mark.parametrize("name", DEMOS)
def test_every_control_changes_the_picture(name):
    make, changes = DEMOS[name]
    demo = make()
    assert set(demo.controls) == set(changes) and demo.children[:-1] == (
        *demo.controls.values(),
        demo.picture,
    )
    for control, values in changes.items():
        assert demo.controls[control].description, "a screen reader reads this"
        for value in values:
            before = demo.picture.value
            demo.controls[control].value = value
            assert demo.picture.value != before and demo.picture.value.startswith("<svg"), (
                f"{control} = {value}"
            )


def test_the_job_goes_the_way_of_the_event():
    ends = {
        event: widgets.draw_job(8, 3, event, 1000, 5.0).description.split(": ")[1].split(",")[0]
        for event in widgets.EVENTS
    }
    assert ends == {
        "nothing": "SUCCEEDED",
        "cancelled at step 1": "CANCELLED",
        "cancelled at step 3": "CANCELLED",
        "bad row at step 2": "FAILED",
        "bad row at step 4": "FAILED",
    }


def test_break_even_is_that_of_the_formula():
    said = widgets.draw_break_even(10, 3, **NUMBERS).description
    # tuning 100,000 * 3 * 5 / 1e6 = 1.50; examples 500 tokens at 0.5 per million = 0.00025 a
    # question: 6,000 questions.
    # A question costs 0.00025 + (60 * 0.5 + 40 * 2) / 1e6 = 0.00036, so 6,000 cost 2.16
    assert (
        said
        == "10 examples in every prompt against tuning for $1.50: equal at 6,000 questions, $2.16."
    )
    assert gt.break_even_questions(1.5, 500, 0.5) == 6000
    assert widgets.draw_break_even(0, 3, **NUMBERS).description.endswith("tuning never pays.")
