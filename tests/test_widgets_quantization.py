"""Demos of labs 01 and 02, driven as a browser would: set a control, and the picture follows. No browser needed."""

import statistics
import time

import pytest

from lab_utils import widgets
from lab_utils.widgets import double_quantization as dq_widgets
from lab_utils.widgets import quantization as q_widgets

DEMOS = {
    "bits": (q_widgets.bit_explorer, {"value": [0.0, 70000.0, -2.5], "absmax": [3.0, 0.01]}),
    "buckets": (
        q_widgets.bucket_demo,
        {"distribution": ["uniform", "heavy tails", "two humps"], "bits": [2, 8, 3], "block_size": [16, 4096]},
    ),
    "outlier": (dq_widgets.outlier_demo, {"outlier": [60.0, 300.0], "block_size": [8, 64]}),
    "block size": (dq_widgets.block_size_demo, {"block_size": [16, 1024]}),
    "memory": (
        dq_widgets.memory_calculator,
        {"billions": [7, 0.36, 180], "block_size_2": [64, 512], "bits": [8, 2], "block_size": [16, 1024]},
    ),
}


@pytest.mark.parametrize("name", DEMOS)
def test_every_control_changes_the_picture(name):
    make, changes = DEMOS[name]
    demo = make()
    assert set(demo.controls) == set(changes), "every control is tried"
    assert set(demo.children) == {*demo.controls.values(), demo.picture}, "and every one is shown"
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
def test_an_update_takes_less_than_60_milliseconds(name):
    make, changes = DEMOS[name]
    demo = make()
    seconds = []
    for _ in range(5):
        for control, values in changes.items():
            for value in values:
                start = time.perf_counter()
                demo.controls[control].value = value
                seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < 0.060


def test_errors_are_not_swallowed():
    def draw(bits):
        if bits == 3:
            raise ValueError("broken")
        return "<svg/>"

    import ipywidgets

    slider = ipywidgets.IntSlider(2, 2, 8)
    widgets.live(draw, bits=slider)
    with pytest.raises(ValueError, match="broken"):
        slider.value = 3


def test_the_bit_explorer_says_what_to_type():
    for value, absmax in [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, 0.0), (1.0, -1.0)]:
        assert "Type a finite number" in q_widgets.draw_bits(value, absmax)


def test_the_paper_s_point():
    picture = dq_widgets.memory_calculator().picture.value
    assert "double quantization saves 3.03 GB" in picture
    assert "4.127 bits" in picture and "4.500 bits" in picture and "A100 40 GB" in picture


def test_own_values_in_the_bucket_demo():
    from lab_utils.quantization import example_values

    demo = q_widgets.bucket_demo({"layer 0": example_values("uniform", 100)})
    demo.controls["distribution"].value = "layer 0"
    assert "layer 0, 4 bits, blocks of 64" in demo.picture.value


def test_growing_outliers_hurt_one_scale_more():
    def ratio(outlier):
        return float(dq_widgets.draw_outlier(outlier, 32).description.split()[-3])

    assert ratio(300.0) > ratio(60.0) > ratio(10.0) > 1
