"""Demos of labs 01 and 02, driven as a browser would: set a control, and the picture follows. No
browser needed.
"""

import ipywidgets
import pytest

from lab_utils.drawing import live as widgets
from lab_utils.memory import demos as memory_demos
from lab_utils.quantization import demos as dq_widgets
from lab_utils.quantization import demos as q_widgets

DEMOS = {
    "bits": (q_widgets.bit_explorer, {"value": [0.0, 70000.0, -2.5], "absmax": [3.0, 0.01]}),
    "buckets": (
        q_widgets.bucket_demo,
        {
            "distribution": ["uniform", "heavy tails", "two humps"],
            "bits": [2, 8, 3],
            "block_size": [16, 4096],
        },
    ),
    "outlier": (dq_widgets.outlier_demo, {"outlier": [60.0, 300.0], "block_size": [8, 64]}),
    "block size": (dq_widgets.block_size_demo, {"block_size": [16, 1024]}),
    "memory": (
        memory_demos.memory_calculator,
        {
            "billions": [7, 0.36, 180],
            "block_size_2": [64, 512],
            "bits": [8, 2],
            "block_size": [16, 1024],
        },
    ),
}


@pytest.mark.parametrize("name", DEMOS)
def test_every_control_changes_the_picture(name):
    make, changes = DEMOS[name]
    demo = make()
    assert set(demo.controls) == set(changes), "every control is tried"
    assert demo.children[:-1] == (*demo.controls.values(), demo.picture), "and every one is shown"
    assert demo.picture.value.startswith("<svg")
    for control, values in changes.items():
        for value in values:
            before = demo.picture.value
            demo.controls[control].value = value
            assert demo.picture.value != before, f"{control} = {value} changed nothing"
            assert demo.picture.value.startswith("<svg")


@pytest.mark.parametrize("name", DEMOS)
def test_controls_are_labelled(name):
    demo = DEMOS[name][0]()
    for control in demo.controls.values():
        assert control.description, "a screen reader reads this"


@pytest.mark.parametrize("name", DEMOS)
def test_a_change_draws_once_and_sends_a_light_picture(name):
    """What makes a demo quick; the milliseconds are measured by `bench widgets`."""
    make, changes = DEMOS[name]
    demo, sent = make(), []
    demo.picture.observe(lambda change: sent.append(len(change["new"])), names="value")
    n_changes = 0
    for control, values in changes.items():
        for value in values:
            demo.controls[control].value = value
            n_changes += 1
    assert len(sent) == n_changes and max(sent) < 60_000


def test_one_change_is_one_drawing():
    drawn = []
    slider = ipywidgets.IntSlider(2, 2, 8, description="bits")
    demo = widgets.live(lambda bits: drawn.append(bits) or f"<p>{bits}</p>", bits=slider)
    slider.value = 3
    assert drawn == [2, 3] and demo.picture.value == "<p>3</p>"


def test_a_demo_says_what_it_is_where_no_kernel_runs():
    sentence = (
        "A live demo with a picture that follows its controls: outlier (in σ) and block size "
        "(weights). "
    )
    assert (
        repr(dq_widgets.outlier_demo())
        == sentence + "It needs a kernel: run this cell in Jupyter or Colab to use it."
    )
    assert "controls: block size (weights). It" in repr(dq_widgets.block_size_demo())


def test_errors_are_not_swallowed():
    def draw(bits):
        if bits == 3:
            raise ValueError("broken")
        return "<svg/>"

    slider = ipywidgets.IntSlider(2, 2, 8)
    widgets.live(draw, bits=slider)
    with pytest.raises(ValueError, match="broken"):
        slider.value = 3


def test_the_bit_explorer_says_what_to_type():
    for value, absmax in [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, 0.0), (1.0, -1.0)]:
        assert "Type a finite number" in q_widgets.draw_bits(value, absmax)


def test_the_paper_s_point():
    picture = memory_demos.memory_calculator().picture.value
    assert "double quantization saves 3.03 GB" in picture
    assert "4.127 bits" in picture and "4.500 bits" in picture and "A100 40 GB" in picture


def test_own_values_in_the_bucket_demo():
    from lab_utils.quantization.buckets import example_values

    demo = q_widgets.bucket_demo({"layer 0": example_values("uniform", 100)})
    demo.controls["distribution"].value = "layer 0"
    assert "layer 0, 4 bits, blocks of 64" in demo.picture.value


def test_growing_outliers_hurt_one_scale_more():
    def ratio(outlier):
        return float(dq_widgets.draw_outlier(outlier, 32).description.split()[-3])

    assert ratio(300.0) > ratio(60.0) > ratio(10.0) > 1
