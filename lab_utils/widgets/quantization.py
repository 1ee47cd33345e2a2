"""Live demos of lab 01: the bit explorer and the bucket demo."""

import math

import ipywidgets
from torch import Tensor

from lab_utils.numerics import store_everywhere
from lab_utils.plots.quantization import bits_picture, buckets_picture
from lab_utils.plots.style import Picture, svg, text
from lab_utils.quantization import DISTRIBUTIONS, compare_codebooks, example_values
from lab_utils.widgets import Demo, live, wide


def draw_bits(value: float, absmax: float = 1.0) -> Picture:
    """The typed value in every format, or a picture that says what to type."""
    if not (math.isfinite(value) and math.isfinite(absmax) and absmax > 0):
        message = "Type a finite number; absmax must be above 0."
        return svg(1000, 60, message, text(0, 36, message, 22))
    return bits_picture(value, store_everywhere(value, absmax))


def bit_explorer(value: float = 0.1, absmax: float = 1.0) -> Demo:
    """Type a number and see its bits in FP32, FP16, BF16, FP8 and NF4 (whose block has the given absmax)."""
    return live(
        draw_bits,
        value=wide(ipywidgets.FloatText(value, description="value")),
        absmax=wide(ipywidgets.FloatText(absmax, description="absmax of its block")),
    )


def draw_buckets(distribution: str, bits: int, block_size: int, values: dict[str, Tensor] | None = None) -> Picture:
    """Values of a distribution in three kinds of buckets; `values` adds distributions of your own, by name."""
    x = values[distribution] if values and distribution in values else example_values(distribution)
    block_size = min(block_size, x.numel())
    results = compare_codebooks(x, bits, block_size)
    return buckets_picture(x, results, f"{distribution}, {bits} bits, blocks of {block_size}", block_size)


def bucket_demo(values: dict[str, Tensor] | None = None) -> Demo:
    """Choose values, bits and block size; compare equal width, equal count and NormalFloat by their errors."""
    names = [*DISTRIBUTIONS, *(values or {})]
    return live(
        lambda **chosen: draw_buckets(**chosen, values=values),
        distribution=wide(ipywidgets.Dropdown(options=names, description="values")),
        bits=wide(ipywidgets.IntSlider(4, 2, 8, description="bits of a code")),
        block_size=wide(
            ipywidgets.SelectionSlider(options=[16, 32, 64, 128, 256, 1024, 4096], value=64, description="block size (values)")
        ),
    )
