"""Double quantization: the constants are data too (lecture 9, "Ingredient 2"; QLoRA paper, section
3).

Block-wise quantization stores one float32 for each block: 32 / 64 = 0.5 bits per weight at the
usual block size 64. Quantizing these constants as well, to 8 bits in blocks of 256, leaves 8/64 +
32/(64*256) = 0.127 bits: 0.373 saved.

Two ways to do it:
- the lecture's: absmax int8 on the scales c_1 = 127 / absmax, all of them in one block with one
  constant c_2;
- the paper's and bitsandbytes': absmax values are all positive, so their mean is taken off first;
  the rest goes
  to the nearest of 256 "dynamic" values, in blocks of 256.

Shapes: `n` weights, `n_blocks` constants, `n_blocks_2 = ceil(n_blocks / block_size_2)` constants of
the constants.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lab_utils.quantization.buckets import (
    check_absmax,
    check_values,
    dequantize_absmax,
    dequantize_blockwise,
    dequantize_nf4,
    errors,
    quantize_absmax,
    quantize_blockwise,
    quantize_nf4,
)


# ---------------------------------------------------------------------------------- the paper's way
class QuantizedConstants(NamedTuple):
    """The constants of all blocks, quantized a second time."""

    codes: Tensor  # (n_blocks,) uint8
    absmax: Tensor  # (n_blocks_2,) float32, the constants of the constants
    offset: Tensor  # () float32, the mean of the constants
    block_size: int


def dynamic_codebook() -> Tensor:
    """The signed dynamic 8-bit map, (256,), dense near zero (Dettmers 2015, arXiv:1511.04561).

    Seven decades, 10**-6 up to 1. The decade ending at 10**-k holds 2**(6-k) values on each side,
    the middles of equal steps: large values get fine steps, small ones a fine exponent. Zero and
    1.0 complete the 256.
    """
    decades = []
    for k in range(7):
        edges = torch.linspace(0.1, 1, 2**k + 1)
        decades.append(10.0 ** (k - 6) * (edges[1:] + edges[:-1]) / 2)
    positive = torch.cat(decades)
    return torch.cat([-positive, torch.tensor([0.0, 1.0]), positive]).sort().values


def quantize_constants(absmax: Tensor, block_size: int = 256) -> QuantizedConstants:
    """Quantize the absmax of all blocks, (n_blocks,), to 8 bits, their mean taken off first.

    Fewer than `block_size` constants make one block.
    """
    absmax = check_absmax(check_values(absmax, "absmax"), "absmax").reshape(-1)
    offset = absmax.mean()
    block_size = min(block_size, absmax.numel())
    codes, absmax_2 = quantize_blockwise(absmax - offset, dynamic_codebook(), block_size)
    return QuantizedConstants(codes, absmax_2, offset, block_size)


def dequantize_constants(constants: QuantizedConstants) -> Tensor:
    """Undo `quantize_constants`: absmax, (n_blocks,) float32."""
    codes, absmax_2, offset, block_size = constants
    return dequantize_blockwise(codes, absmax_2, dynamic_codebook(), block_size) + offset


# ------------------------------------------------------------------------------ weights, both steps
class DoubleQuantized(NamedTuple):
    """A weight tensor as QLoRA stores it: NF4 codes and double-quantized constants."""

    packed: Tensor  # (ceil(n / 2),) uint8, two codes to a byte
    constants: QuantizedConstants
    shape: torch.Size
    block_size: int


def double_quantize(x: Tensor, block_size: int = 64, block_size_2: int = 256) -> DoubleQuantized:
    """NF4 weights in blocks of `block_size`, their constants in blocks of `block_size_2`."""
    packed, absmax = quantize_nf4(x, block_size)
    return DoubleQuantized(packed, quantize_constants(absmax, block_size_2), x.shape, block_size)


def double_dequantize(stored: DoubleQuantized, dtype: torch.dtype = torch.float32) -> Tensor:
    """doubleDequant of the lecture: dequantize the constants, and with them the weights."""
    absmax = dequantize_constants(stored.constants)
    return dequantize_nf4(stored.packed, absmax, tuple(stored.shape), stored.block_size, dtype)


# -------------------------------------------------------------------------------- the lecture's way
class DeckDoubleQuantized(NamedTuple):
    """The lecture's example: int8 weights, int8 constants c_1, one float32 constant c_2."""

    codes: Tensor  # the shape of x, int8
    scale_codes: Tensor  # (n_blocks,) int8, c_1 quantized
    scale_2: Tensor  # (1,) float32, c_2
    block_size: int


def deck_double_quantize(x: Tensor, block_size: int) -> DeckDoubleQuantized:
    """W_int8 = round(c_1 W) in blocks, then c_1_int8 = round(c_2 c_1) in one block."""
    codes, scale = quantize_absmax(x, bits=8, block_size=block_size)
    scale_codes, scale_2 = quantize_absmax(scale, bits=8)
    return DeckDoubleQuantized(codes, scale_codes, scale_2, block_size)


def deck_double_dequantize(stored: DeckDoubleQuantized) -> Tensor:
    """W = W_int8 / (c_1_int8 / c_2).

    A c_1 far below the largest one rounds to code 0, and its block is lost.
    """
    scale = dequantize_absmax(stored.scale_codes, stored.scale_2)
    return dequantize_absmax(stored.codes, scale, stored.block_size)


# -------------------------------------------------------------------------- what a block size costs
class TradeOff(NamedTuple):
    """NF4 at one block size: what it costs and how far off it is."""

    block_size: int
    bits: float  # per weight, with float32 constants
    bits_twice: float  # per weight, with constants quantized in blocks of 256
    rmse: float


def trade_off(
    x: Tensor, block_sizes: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
) -> list[TradeOff]:
    """Small blocks have a smaller error and more constants: both sides, for each block size."""
    points = []
    for block_size in block_sizes:
        packed, absmax = quantize_nf4(x, block_size)
        rmse = errors(x, dequantize_nf4(packed, absmax, tuple(x.shape), block_size))["rmse"]
        points.append(
            TradeOff(block_size, 4 + 32 / block_size, 4 + (8 + 32 / 256) / block_size, rmse)
        )
    return points


def outlier_rmse(x: Tensor, outlier: float, block_size: int, bits: int = 8) -> tuple[float, float]:
    """RMSE of the other values, (with one scale, in blocks), once the first one is an outlier."""
    x = x.clone().reshape(-1)
    x[0] = outlier
    restored = (
        dequantize_absmax(*quantize_absmax(x, bits, size), size) for size in (x.numel(), block_size)
    )
    one_scale, in_blocks = (errors(x[1:], values[1:])["rmse"] for values in restored)
    return one_scale, in_blocks


# ---------------------------------------------------------------------------- what is really stored
def stored_tensors(stored: object) -> dict[str, Tensor]:
    """Every tensor in a quantized thing by its name, nested ones as "constants.codes".

    Works on the tuples above and on the `quant_state` of a bitsandbytes weight. A block size and a
    shape are metadata, no tensors.
    """
    fields = stored._asdict() if hasattr(stored, "_asdict") else vars(stored)
    found: dict[str, Tensor] = {}
    for name, value in fields.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif hasattr(value, "_asdict") or hasattr(value, "absmax"):
            found |= {f"{name}.{inner}": t for inner, t in stored_tensors(value).items()}
    return found


def stored_bytes(stored: object) -> dict[str, int]:
    """The bytes of each of those tensors."""
    return {name: tensor.nbytes for name, tensor in stored_tensors(stored).items()}
