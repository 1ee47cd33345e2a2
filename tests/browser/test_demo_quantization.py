"""The demos of lab 01 in a real browser: what is typed or moved by keyboard shows in the picture
and in its words.
"""

import re

import pytest
from driving import press

from lab_utils.quantization.buckets import compare_codebooks, example_values

pytestmark = pytest.mark.browser

BITS = "from lab_utils.quantization.demos import bit_explorer\nbit_explorer(0.1)"
BUCKETS = """
from lab_utils.quantization.buckets import example_values
from lab_utils.quantization.demos import bucket_demo
bucket_demo({"my layer": example_values("uniform", 640)})
"""


def picture(page, says: str):
    """The demo's picture, once its description says so."""
    found = page.locator(".jp-OutputArea-output svg[role=img]").and_(
        page.get_by_role("img", name=says)
    )
    found.wait_for()
    return found


def type_number(page, label: str, value: str) -> None:
    """Write into a field and press Enter."""
    box = page.get_by_label(label, exact=True)
    box.fill(value)
    box.press("Enter")


def expected(distribution: str, bits: int, block_size: int) -> str:
    """How the description of the bucket demo ends for a known distribution."""
    results = compare_codebooks(example_values(distribution), bits, block_size)
    return ", ".join(f"{result.name}: RMSE {result.rmse:.4f}" for result in results)


def test_a_typed_value_is_shown_in_every_format(open_demo):
    page = open_demo(BITS)
    picture(page, "0.1 in 6 formats")
    type_number(page, "value", "70000")
    shown = picture(page, "70000 in 6 formats")
    says = shown.get_attribute("aria-label")
    assert "FP32 stores 70000 (exact)" in says and "BF16 stores 70144 (rounded)" in says
    assert re.search(r"FP16 stores \w+ \(overflow\)", says) and "NF4 stores 1 (overflow)" in says
    assert shown.get_by_text("70144").count() == 1, "what the words say is drawn too"


def test_the_block_of_an_nf4_value_can_be_chosen(open_demo):
    page = open_demo(BITS)
    type_number(page, "value", "3")
    picture(page, "NF4 stores 1 (overflow)")
    type_number(page, "absmax of its block", "3")
    picture(page, "NF4 stores 3 (exact)")


def test_a_useless_block_is_answered_kindly(open_demo):
    page = open_demo(BITS)
    type_number(page, "absmax of its block", "0")
    picture(page, "absmax must be above 0")
    type_number(page, "absmax of its block", "2")
    picture(page, "0.1 in 6 formats")


def test_bits_follow_the_arrow_keys(open_demo):
    page = open_demo(BUCKETS)
    picture(page, f"normal, 4 bits, blocks of 64. {expected('normal', 4, 64)}. Best: NF4.")
    press(page, "bits", "ArrowLeft", "ArrowLeft")
    picture(page, f"normal, 2 bits, blocks of 64. {expected('normal', 2, 64)}")


def test_block_size_follows_the_arrow_keys(open_demo):
    page = open_demo(BUCKETS)
    press(page, "block size", "ArrowLeft", "ArrowLeft")
    picture(page, f"normal, 4 bits, blocks of 16. {expected('normal', 4, 16)}")


def test_other_values_are_chosen(open_demo):
    page = open_demo(BUCKETS)
    choice = page.get_by_label("values", exact=True)
    choice.select_option("uniform")
    picture(
        page, f"uniform, 4 bits, blocks of 64. {expected('uniform', 4, 64)}. Best: equal count."
    )
    choice.select_option("my layer")
    assert picture(page, "my layer, 4 bits, blocks of 64").count() == 1
