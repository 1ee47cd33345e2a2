"""Live demos of lab 01: the bit explorer and the bucket demo."""

import functools
import math

import ipywidgets
import torch
from torch import Tensor

from lab_utils.drawing.live import Demo, live, wide
from lab_utils.drawing.style import Picture, svg, text
from lab_utils.quantization.buckets import DISTRIBUTIONS, compare_codebooks, example_values
from lab_utils.quantization.double import outlier_rmse, trade_off
from lab_utils.quantization.floats import store_everywhere
from lab_utils.quantization.pictures import (
    bits_picture,
    block_size_picture,
    buckets_picture,
    outlier_picture,
)


def draw_bits(value: float, absmax: float = 1.0) -> Picture:
    """The typed value in every format, or a picture that says what to type."""
    if not (math.isfinite(value) and math.isfinite(absmax) and absmax > 0):
        message = "Type a finite number; absmax must be above 0."
        return svg(1000, 60, message, text(0, 36, message, 22))
    return bits_picture(value, store_everywhere(value, absmax))


def bit_explorer(value: float = 0.1, absmax: float = 1.0) -> Demo:
    """Type a number, see its bits in every format; `absmax` is that of its NF4 block."""
    return live(
        draw_bits,
        value=wide(ipywidgets.FloatText(value, description="value")),
        absmax=wide(ipywidgets.FloatText(absmax, description="absmax of its block")),
    )


def draw_buckets(
    distribution: str, bits: int, block_size: int, values: dict[str, Tensor] | None = None
) -> Picture:
    """Values of a distribution in three kinds of buckets.

    `values` adds distributions of your own, by name.
    """
    x = values[distribution] if values and distribution in values else example_values(distribution)
    block_size = min(block_size, x.numel())
    results = compare_codebooks(x, bits, block_size)
    return buckets_picture(
        x, results, f"{distribution}, {bits} bits, blocks of {block_size}", block_size
    )


def bucket_demo(values: dict[str, Tensor] | None = None) -> Demo:
    """Choose values, bits and block size; compare three codebooks by their errors."""
    names = [*DISTRIBUTIONS, *(values or {})]
    return live(
        lambda **chosen: draw_buckets(**chosen, values=values),
        distribution=wide(ipywidgets.Dropdown(options=names, description="values")),
        bits=wide(ipywidgets.IntSlider(4, 2, 8, description="bits of a code")),
        block_size=wide(
            ipywidgets.SelectionSlider(
                options=[16, 32, 64, 128, 256, 1024, 4096],
                value=64,
                description="block size (values)",
            )
        ),
    )


BLOCK_SIZES = (16, 32, 64, 128, 256, 512, 1024)


def draw_outlier(outlier: float, block_size: int, n: int = 512) -> Picture:
    """Normal weights with one outlier, quantized to int8 with one scale and in blocks."""
    x = example_values("normal", n)
    one_scale, in_blocks = outlier_rmse(x, outlier, block_size)
    return outlier_picture(
        torch.cat([torch.tensor([outlier]), x[1:]]), one_scale, in_blocks, block_size
    )


def outlier_demo() -> Demo:
    """Drag the outlier: with one scale it spoils every weight, in blocks only its neighbours."""
    return live(
        draw_outlier,
        outlier=wide(
            ipywidgets.FloatSlider(3.0, min=3.0, max=300.0, step=1.0, description="outlier (in σ)")
        ),
        block_size=wide(
            ipywidgets.SelectionSlider(
                options=[8, 16, 32, 64], value=32, description="block size (weights)"
            )
        ),
    )


@functools.lru_cache(maxsize=1)
def normal_trade_off() -> tuple:
    """The trade-off on 65,536 normal weights: the slider only chooses a point of it."""
    return tuple(trade_off(example_values("normal", 2**16), BLOCK_SIZES))


def draw_block_size(block_size: int, x: Tensor | None = None) -> Picture:
    """Error and bits per weight over the block size, one block size marked."""
    return block_size_picture(
        normal_trade_off() if x is None else trade_off(x, BLOCK_SIZES), block_size
    )


def block_size_demo() -> Demo:
    """Move the block size: the error on one side, the constants on the other."""
    slider = ipywidgets.SelectionSlider(
        options=list(BLOCK_SIZES), value=64, description="block size (weights)"
    )
    return live(draw_block_size, block_size=wide(slider))
