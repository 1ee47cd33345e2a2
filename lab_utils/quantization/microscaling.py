"""MXFP4 and NVFP4: 4-bit floats in small blocks whose scales are floats of 8 bits themselves.

Both store E2M1 codes (a sign, two exponent bits, one fraction bit: 0, 0.5, 1, 1.5, 2, 3, 4, 6).
MXFP4 (OCP Microscaling Formats 1.0, 2023) has one scale for 32 values, a power of two (E8M0). NVFP4
(NVIDIA's format of the Blackwell GPUs) has one for 16 values, an E4M3 float, and one float32 for
the whole tensor that brings those scales into E4M3's range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lab_utils.quantization.buckets import (
    blockwise_absmax,
    check_values,
    join_blocks,
    nearest_code,
    split_into_blocks,
)

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # the magnitudes; 6 is the largest
LARGEST_E2M1, EXPONENT_OF_LARGEST = 6.0, 2
LARGEST_E4M3 = 448.0
MX_BLOCK, NV_BLOCK = 32, 16


class Microscaled(NamedTuple):
    """`codes` index `e2m1_codebook()` (the tensor's shape), `scales` (n_blocks,) multiply its
    values.
    """

    codes: Tensor
    scales: Tensor
    block_size: int


def e2m1_codebook() -> Tensor:
    """(15,) The values of E2M1 in order; the sixteenth code is a second zero."""
    positive = torch.tensor(E2M1[1:])
    return torch.cat([-positive.flip(0), torch.zeros(1), positive])


def e8m0_scale(absmax: Tensor) -> Tensor:
    """MXFP4's scale of each block: the largest power of two not above absmax, over that of 6.

    absmax / scale then lies in [4, 8): what is above 6 is cut off there, as the specification
    says. A block of zeros takes the smallest scale, 2**-127.
    """
    exponent = torch.floor(torch.log2(absmax)) - EXPONENT_OF_LARGEST
    return torch.exp2(exponent.clamp(-127, 127))


def e4m3_scale(absmax: Tensor) -> Tensor:
    """NVFP4's scale of each block: absmax / 6, rounded to E4M3 under a float32 scale of the tensor.

    The tensor's scale puts the largest block's absmax / 6 at 448, the end of E4M3.
    """
    tensor_scale = absmax.max() / (LARGEST_E2M1 * LARGEST_E4M3)
    if tensor_scale == 0:
        return torch.ones_like(absmax)
    in_range = (absmax / LARGEST_E2M1 / tensor_scale).clamp(max=LARGEST_E4M3)
    rounded = in_range.to(torch.float8_e4m3fn).to(absmax.dtype)
    smallest = 2.0**-9  # of E4M3: no block that is not zero gets the scale 0
    return rounded.clamp(min=smallest) * tensor_scale


def _quantize(x: Tensor, block_size: int, scale_of: Callable[[Tensor], Tensor]) -> Microscaled:
    x = check_values(x)
    scales = scale_of(blockwise_absmax(x, min(block_size, x.numel())))
    blocks = split_into_blocks(x, min(block_size, x.numel()))
    scaled = (blocks / scales[:, None]).clamp(-LARGEST_E2M1, LARGEST_E2M1)
    codes = nearest_code(scaled, e2m1_codebook().to(x.device))
    return Microscaled(join_blocks(codes, like=x), scales, min(block_size, x.numel()))


def quantize_mxfp4(x: Tensor) -> Microscaled:
    """`x` (any shape) in MXFP4: 4 bits for each value and 8 for 32 of them, 4.25 bits."""
    return _quantize(x, MX_BLOCK, e8m0_scale)


def quantize_nvfp4(x: Tensor) -> Microscaled:
    """`x` (any shape) in NVFP4: 4 bits for each value and 8 for 16 of them, 4.5 bits."""
    return _quantize(x, NV_BLOCK, e4m3_scale)


def dequantize(stored: Microscaled) -> Tensor:
    """Back to floats of the codes' shape."""
    values = e2m1_codebook().to(stored.codes.device)[stored.codes.long()]
    blocks = split_into_blocks(values, stored.block_size) * stored.scales[:, None]
    return join_blocks(blocks, like=stored.codes)
