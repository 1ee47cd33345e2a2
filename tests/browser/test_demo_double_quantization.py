"""The demos of lab 02 in a real browser: the keyboard moves a control, and the picture says the new
numbers.
"""

import pytest
from driving import drag, picture_saying, press

from lab_utils.memory import demos as memory_demos
from lab_utils.quantization import demos as dq_widgets

pytestmark = pytest.mark.browser


def test_the_outlier_is_dragged_by_keyboard(open_demo):
    page = open_demo("from lab_utils.quantization.demos import outlier_demo\noutlier_demo()")
    picture_saying(page, dq_widgets.draw_outlier(3.0, 32).description)
    press(page, "outlier", "ArrowRight", "ArrowRight")
    picture_saying(page, dq_widgets.draw_outlier(5.0, 32).description)
    press(page, "outlier", "End")
    last = dq_widgets.draw_outlier(300.0, 32).description
    assert "3.9 times less" in last
    picture_saying(page, last)
    press(page, "block size", "ArrowLeft", "ArrowLeft")
    smaller = dq_widgets.draw_outlier(300.0, 8).description
    assert "in blocks of 8" in smaller
    picture_saying(page, smaller)


def test_the_outlier_is_dragged_by_mouse(open_demo):
    page = open_demo("from lab_utils.quantization.demos import outlier_demo\noutlier_demo()")
    drag(page, "outlier", 1.0)
    picture_saying(page, dq_widgets.draw_outlier(300.0, 32).description)
    drag(page, "outlier", 0.0)
    picture_saying(page, dq_widgets.draw_outlier(3.0, 32).description)


def test_the_block_size_goes_to_both_ends_by_keyboard(open_demo):
    page = open_demo("from lab_utils.quantization.demos import block_size_demo\nblock_size_demo()")
    picture_saying(
        page, "Block size 64: RMSE 0.0919; 4.500 bits per weight, 4.127 with double quantization."
    )
    press(page, "block size", "Home")
    picture_saying(
        page, "Block size 16: RMSE 0.0809; 6.000 bits per weight, 4.508 with double quantization."
    )
    press(page, "block size", "End")
    picture_saying(
        page, "Block size 1024: RMSE 0.1048; 4.031 bits per weight, 4.008 with double quantization."
    )


def test_the_calculator_answers_by_keyboard(open_demo):
    page = open_demo("from lab_utils.memory.demos import memory_calculator\nmemory_calculator()")
    paper = memory_demos.draw_memory(65, 4, 64, 256).description
    assert "saves 3.03 GB" in paper
    picture_saying(page, paper)
    press(page, "billion parameters", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    smaller = memory_demos.draw_memory(7, 4, 64, 256).description
    assert "saves 0.33 GB" in smaller and "3.6 GB, RTX 3060 12 GB" in smaller
    picture_saying(page, smaller)
    press(page, "bits of a code", "ArrowRight")
    picture_saying(page, memory_demos.draw_memory(7, 5, 64, 256).description)
    press(page, "block size", "ArrowLeft")
    picture_saying(page, memory_demos.draw_memory(7, 5, 32, 256).description)
    press(page, "constants in a block", "ArrowRight")
    picture_saying(page, memory_demos.draw_memory(7, 5, 32, 512).description)
