"""Live demos of lab 02: drag an outlier, choose a block size, and see what a model weighs."""

import functools

import ipywidgets
import torch
from torch import Tensor

from lab_utils import memory
from lab_utils.double_quantization import outlier_rmse, trade_off
from lab_utils.plots.double_quantization import block_size_picture, memory_picture, outlier_picture
from lab_utils.plots.style import Picture
from lab_utils.quantization import example_values
from lab_utils.widgets import Demo, live, wide

BLOCK_SIZES = (16, 32, 64, 128, 256, 512, 1024)


def draw_outlier(outlier: float, block_size: int, n: int = 512) -> Picture:
    """Normal weights with one outlier, quantized to int8 with one scale and in blocks."""
    x = example_values("normal", n)
    one_scale, in_blocks = outlier_rmse(x, outlier, block_size)
    return outlier_picture(torch.cat([torch.tensor([outlier]), x[1:]]), one_scale, in_blocks, block_size)


def outlier_demo() -> Demo:
    """Drag the outlier: with one scale it spoils every weight, in blocks only its neighbours."""
    return live(
        draw_outlier,
        outlier=wide(ipywidgets.FloatSlider(3.0, min=3.0, max=300.0, step=1.0, description="outlier (in σ)")),
        block_size=wide(ipywidgets.SelectionSlider(options=[8, 16, 32, 64], value=32, description="block size (weights)")),
    )


@functools.lru_cache(maxsize=1)
def normal_trade_off() -> tuple:
    """The trade-off on 65,536 normal weights: the slider only chooses a point of it."""
    return tuple(trade_off(example_values("normal", 2**16), BLOCK_SIZES))


def draw_block_size(block_size: int, x: Tensor | None = None) -> Picture:
    """Error and bits per weight over the block size, one block size marked."""
    return block_size_picture(normal_trade_off() if x is None else trade_off(x, BLOCK_SIZES), block_size)


def block_size_demo() -> Demo:
    """Move the block size: the error on one side, the constants on the other."""
    slider = ipywidgets.SelectionSlider(options=list(BLOCK_SIZES), value=64, description="block size (weights)")
    return live(draw_block_size, block_size=wide(slider))


def draw_memory(billions: float, bits: int, block_size: int, block_size_2: int) -> Picture:
    """Weights of a model in bf16, quantized once and quantized twice, with the cards that hold them."""
    once = memory.Scheme("once", bits, block_size, 32)
    twice = memory.Scheme("twice", bits, block_size, 8, block_size_2)
    widths = {"bf16": 16.0}
    for name, scheme in (("float32 constants", once), ("double quantization", twice)):
        width = memory.bits_per_parameter(scheme)
        widths[f"{name}: {width:.3f} bits"] = width
    sizes = {name: memory.model_gigabytes(billions * 1e9, width) for name, width in widths.items()}
    saved = memory.model_gigabytes(billions * 1e9, memory.double_quantization_saving(block_size, block_size_2))
    title = f"{billions:g} billion parameters: double quantization saves {saved:.2f} GB"
    fitting = {name: memory.cards_that_fit(size) for name, size in sizes.items()}
    return memory_picture(title, sizes, memory.CARDS, fitting)


def memory_calculator() -> Demo:
    """Model size, bits and block sizes in; gigabytes and cards out. It starts at the paper's 65B point."""
    sizes = [0.36, 1, 1.5, 3, 7, 13, 33, 65, 70, 180]
    return live(
        draw_memory,
        billions=wide(ipywidgets.SelectionSlider(options=sizes, value=65, description="billion parameters")),
        bits=wide(ipywidgets.IntSlider(4, 2, 8, description="bits of a code")),
        block_size=wide(ipywidgets.SelectionSlider(options=list(BLOCK_SIZES), value=64, description="block size (weights)")),
        block_size_2=wide(
            ipywidgets.SelectionSlider(options=[64, 128, 256, 512], value=256, description="constants in a block")
        ),
    )
