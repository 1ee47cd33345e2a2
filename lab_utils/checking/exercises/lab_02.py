"""Exercises of lab 02_double_quantization: constants of blocks, quantizing them, and the bytes and
bits of it all.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, exact, one_of, whole
from lab_utils.checking.exercises.lab_01 import far_from_ties, normal

LAB = "02_double_quantization"


# --------------------------------------------------------------------------------- blockwise_absmax
def blockwise_absmax(x: Tensor, block_size: int) -> Tensor:
    return torch.stack([block.abs().max() for block in x.reshape(-1).split(block_size)])


def padded(x: Tensor, block_size: int, fill: float = 0.0) -> Tensor:
    flat = x.reshape(-1)
    return torch.cat([flat, flat.new_full((-len(flat) % block_size,), fill)]).view(-1, block_size)


def whole_blocks(x: Tensor, block_size: int) -> Tensor:
    flat = x.reshape(-1)
    return flat[: len(flat) // block_size * block_size].view(-1, block_size)


def each_block(statistic):
    """A wrong blockwise_absmax: another number for each block."""
    return lambda x, size: torch.stack([statistic(block) for block in x.reshape(-1).split(size)])


def blocks_in_number(x: Tensor, block_size: int) -> Tensor:
    return torch.stack([part.abs().max() for part in x.reshape(-1).chunk(block_size)])


BLOCKWISE_ABSMAX = Exercise(
    name="blockwise_absmax",
    lab=LAB,
    reference=blockwise_absmax,
    cases=lambda rng: [
        (torch.tensor([-0.7, -0.3, 0.2, -1.0, 0.1, 0.9, 0.4]), 3),  # the last block is short
        (normal(rng, 5, 5), 5),
        (normal(rng, 4, 6), 8),  # blocks run on over the end of a row
        (torch.cat([normal(rng, 20), torch.tensor([-30.0])]), 8),
        (normal(rng, 6), 6),
        (normal(rng, 5), 1),
        (normal(rng, 5), 9),
    ],
    domain=lambda rng: (
        normal(rng, *one_of(rng, (1,), (7,), (40,), (4, 6), (3, 5), (2, 3, 4))),
        whole(rng, 1, 12),
    ),
    corners={
        "a short last block": lambda x, size: x.numel() % size > 0,
        "whole blocks": lambda x, size: x.numel() % size == 0 < x.numel() // size - 1,
        "the largest stands in a short last block": lambda x, size: (
            x.abs().argmax() >= x.numel() // size * size
        ),
        "blocks of one": lambda x, size: size == 1,
        "one block": lambda x, size: x.numel() == size,
        "a block with room left": lambda x, size: x.numel() < size,
        "blocks that run over the end of a row": lambda x, size: (
            x.dim() == 2 and x.shape[1] % size > 0
        ),
    },
    same=close(),
    wrong={
        "the largest value without .abs()": each_block(torch.max),
        "a short last block is dropped: it needs a constant as well": lambda x, b: (
            whole_blocks(x, b).abs().amax(dim=1)
        ),
        "the mean magnitude of each block": each_block(lambda block: block.abs().mean()),
        "one absmax for the whole tensor": lambda x, b: x.abs().max(),
        "the largest absmax repeated for every block": lambda x, b: (
            x.abs().max().expand(math.ceil(x.numel() / b))
        ),
        "block_size is taken as the number of blocks": blocks_in_number,
        "every block_size-th value: a block is values that are neighbours": lambda x, b: (
            torch.stack(
                [
                    x.reshape(-1)[i :: math.ceil(x.numel() / b)].abs().max()
                    for i in range(math.ceil(x.numel() / b))
                ]
            )
        ),
        "the absmax of each row: flatten first": lambda x, b: x.abs().amax(dim=-1),
        "the maximum over the wrong dimension": lambda x, b: padded(x, b).abs().amax(dim=0),
        "one number for every value: one for every block is enough": lambda x, b: blockwise_absmax(
            x, b
        ).repeat_interleave(b)[: x.numel()],
    },
    hints=(
        "Flatten first: x.reshape(-1). Blocks are neighbours in the flat tensor.",
        "x.reshape(-1).split(block_size) gives the blocks, the last one may be shorter.",
        "torch.stack([block.abs().max() for block in ...]) puts the constants into one tensor.",
    ),
)


# ------------------------------------------------------------------------------- quantize_constants
def quantize_constants(absmax: Tensor) -> tuple[Tensor, float, float]:
    offset = absmax.mean()
    centered = absmax - offset
    scale = 127 / centered.abs().max()
    return torch.round(scale * centered).to(torch.int8), scale.item(), offset.item()


def constants_with(
    offset_of=torch.mean, scale_of=lambda c: 127 / c.abs().max(), rounding=torch.round, change=None
):
    """A wrong quantize_constants: another offset, scale or rounding, or the right one changed at
    the end.
    """

    def answer(absmax: Tensor) -> tuple[Tensor, float, float]:
        offset = torch.as_tensor(offset_of(absmax))
        centered = absmax - offset
        scale = scale_of(centered)
        result = (
            rounding(scale * centered).clamp(-128, 127).to(torch.int8),
            scale.item(),
            offset.item(),
        )
        return change(*result) if change else result

    return answer


def random_constants(rng: np.random.Generator, n: int) -> Tensor:
    """Constants as blocks of 64 normal weights have them: all positive, around 2.5 standard
    deviations.
    """
    while True:
        absmax = torch.tensor(
            np.round(np.abs(rng.normal(size=(n, 64))).max(axis=1), 2), dtype=torch.float32
        )
        if far_from_ties(absmax - absmax.mean()):
            return absmax


QUANTIZE_CONSTANTS = Exercise(
    name="quantize_constants",
    lab=LAB,
    reference=quantize_constants,
    cases=lambda rng: [
        (torch.tensor([0.7, 1.7, 1.5, 1.6, 2.2]),),
        (random_constants(rng, 8),),
        (random_constants(rng, 40),),
        (random_constants(rng, 3) / 100,),
        (torch.tensor([2.0, 2.4, 2.3, 2.1, 4.5]),),
        (torch.tensor([260.0, 300.0, 1000.0, 250.0]),),
    ],
    domain=lambda rng: (
        random_constants(rng, whole(rng, 2, 40)) * one_of(rng, 0.01, 0.25, 1, 10, 100),
    ),
    corners={
        "the farthest is below the mean": lambda a: (a.mean() - a).max() > (a - a.mean()).max(),
        "the farthest is above the mean": lambda a: (a.mean() - a).max() < (a - a.mean()).max(),
        "constants below 0.1": lambda a: a.max() < 0.1,
        "a scale below 1": lambda a: (a - a.mean()).abs().max() > 127,
    },
    same=close(rtol=1e-4, atol=1e-7),
    wrong={
        "the mean is not taken off: half of the codes are unused then": constants_with(
            lambda a: 0.0
        ),
        "the median in place of the mean": constants_with(torch.median),
        "the mean is taken off with the wrong sign: absmax - mean": constants_with(
            lambda a: -a.mean()
        ),
        "128 instead of 127: the largest code of int8 is 127": constants_with(
            scale_of=lambda c: 128 / c.abs().max()
        ),
        "rounded down": constants_with(rounding=torch.floor),
        "cut off instead of rounded": constants_with(rounding=torch.trunc),
        "the scale is made from absmax before the mean is off": lambda a: constants_with(
            scale_of=lambda c: 127 / a.abs().max()
        )(a),
        "the scale misses .abs(): the farthest may be above the mean": constants_with(
            scale_of=lambda c: 127 / -c.min()
        ),
        "the scale is upside down in the result": constants_with(
            change=lambda q, s, o: (q, 1 / s, o)
        ),
        "offset and scale are swapped: return codes, scale, offset": constants_with(
            change=lambda q, s, o: (q, o, s)
        ),
        "the offset is not returned: without it there is no way back": constants_with(
            change=lambda q, s, o: (q, s)
        ),
        "the codes are not int8: 32-bit codes save nothing": constants_with(
            change=lambda q, s, o: (q.int(), s, o)
        ),
        "the scale is quantized, not absmax: that is the deck's way": lambda a: quantize_constants(
            127 / a
        ),
    },
    hints=(
        "Three steps: the offset is absmax.mean(); subtract it; then absmax int8 as in lab 01.",
        "After the subtraction about half of the values are negative: the scale needs "
        ".abs().max() of those.",
        "Return codes (int8), scale and offset: all three are needed to go back.",
    ),
)


# ---------------------------------------------------------------------------------- bytes_of_scheme
def bytes_of_scheme(n_values: int, code_bits: int, block_size: int) -> int:
    return math.ceil(n_values * code_bits / 8) + 4 * math.ceil(n_values / block_size)


def codes(n: int, bits: int) -> int:
    return math.ceil(n * bits / 8)


def blocks(n: int, size: int) -> int:
    return math.ceil(n / size)


BYTES_OF_SCHEME = Exercise(
    name="bytes_of_scheme",
    lab=LAB,
    reference=bytes_of_scheme,
    cases=lambda rng: [
        (25, 8, 5),
        (25, 4, 5),
        (4096, 4, 64),
        (2 * whole(rng, 10, 500) + 1, 4, 64),  # the last byte is half empty, the last block short
        (whole(rng, 1000, 5000), 8, one_of(rng, 32, 128, 256)),
        (1, 4, 64),
        (3, 3, 64),
        (64 * whole(rng, 1, 60) + 1, 4, 64),
    ],
    domain=lambda rng: (whole(rng, 1, 5000), whole(rng, 1, 16), whole(rng, 3, 300)),
    corners={
        "a part of a byte at the end": lambda n, bits, size: n * bits % 8 > 0,
        "less than half of the last byte": lambda n, bits, size: 0 < n * bits % 8 < 4,
        "whole bytes": lambda n, bits, size: n * bits % 8 == 0,
        "a short last block": lambda n, bits, size: n % size > 0,
        "whole blocks": lambda n, bits, size: n % size == 0,
        "one value in the last block": lambda n, bits, size: n % size == 1 < n,
        "one block with room left": lambda n, bits, size: n < size,
        "one value": lambda n, bits, size: n == 1,
        "an odd number of bits": lambda n, bits, size: bits % 2 == 1,
    },
    same=exact,
    wrong={
        "the constants are forgotten": lambda n, bits, size: codes(n, bits),
        "one constant for all: every block has its own": lambda n, bits, size: codes(n, bits) + 4,
        "one byte for a constant: float32 takes four": lambda n, bits, size: (
            codes(n, bits) + blocks(n, size)
        ),
        "32 for a constant: those are its bits, four bytes": lambda n, bits, size: (
            codes(n, bits) + 32 * blocks(n, size)
        ),
        "a short last block is dropped: round the number of blocks up": lambda n, bits, size: (
            codes(n, bits) + 4 * (n // size)
        ),
        "a half-filled last byte is dropped: round the bytes up": lambda n, bits, size: (
            n * bits // 8 + 4 * blocks(n, size)
        ),
        "a block more than there is: round up, don't add 1": lambda n, bits, size: (
            codes(n, bits) + 4 * (n // size + 1)
        ),
        "bits are counted as bytes": lambda n, bits, size: n * bits + 4 * blocks(n, size),
        "one byte for every code: two 4-bit codes share one": lambda n, bits, size: (
            n + 4 * blocks(n, size)
        ),
        "the result is in bits": lambda n, bits, size: n * bits + 32 * blocks(n, size),
        "block_size is taken as the number of blocks": lambda n, bits, size: (
            codes(n, bits) + 4 * size
        ),
        "fractions of bytes and blocks: memory comes in whole ones": lambda n, bits, size: (
            n * bits / 8 + 4 * n / size
        ),
    },
    hints=(
        "Two parts: the codes, and one float32 (4 bytes) for each block.",
        "Round up twice: the last byte may be half empty, the last block may be short. math.ceil "
        "rounds up.",
    ),
)


# ---------------------------------------------------------------------- bits_per_param_double_quant
def bits_per_param_double_quant(code_bits: int, block_size: int, block_size_2: int) -> float:
    return code_bits + 8 / block_size + 32 / (block_size * block_size_2)


BITS_PER_PARAM = Exercise(
    name="bits_per_param_double_quant",
    lab=LAB,
    reference=bits_per_param_double_quant,
    cases=lambda rng: [
        (4, 64, 256),
        (8, 5, 5),
        (4, one_of(rng, 32, 128, 256), one_of(rng, 64, 128, 512)),
        (8, whole(rng, 10, 100), whole(rng, 101, 300)),
        (3, 16, 4),
        (2, 1, 1),
    ],
    domain=lambda rng: (whole(rng, 1, 16), whole(rng, 1, 500), whole(rng, 1, 500)),
    corners={
        "4 bits": lambda bits, size, size_2: bits == 4,
        "an odd number of bits": lambda bits, size, size_2: bits % 2 == 1,
        "equal block sizes": lambda bits, size, size_2: size == size_2,
        "the first blocks are larger": lambda bits, size, size_2: size > size_2,
        "a constant for each weight": lambda bits, size, size_2: size == size_2 == 1,
    },
    same=close(rtol=1e-6, atol=0),
    wrong={
        "only the saving, 0.373 bits: the total is asked for": lambda b, s, t: (
            32 / s - 8 / s - 32 / (s * t)
        ),
        "only the constants: the codes are missing": lambda b, s, t: 8 / s + 32 / (s * t),
        "without double quantization: 32-bit constants": lambda b, s, t: b + 32 / s,
        "the second constant is shared by one block only": lambda b, s, t: b + 8 / s + 32 / t,
        "the second constant is forgotten": lambda b, s, t: b + 8 / s,
        "8 and 32 are swapped: first 8-bit constants, then 32-bit ones for them": lambda b, s, t: (
            b + 32 / s + 8 / (s * t)
        ),
        "block sizes are added, not multiplied": lambda b, s, t: b + 8 / s + 32 / (s + t),
        "in bytes: bits are asked for": lambda b, s, t: bits_per_param_double_quant(b, s, t) / 8,
        "the constants are in bytes, the codes in bits": lambda b, s, t: b + 1 / s + 4 / (s * t),
        "the block sizes are swapped": lambda b, s, t: b + 8 / t + 32 / (s * t),
        "64 and 256, whatever the block sizes say": lambda b, s, t: b + 8 / 64 + 32 / (64 * 256),
    },
    hints=(
        "Three parts: the code, a share of an 8-bit constant, a share of a 32-bit constant.",
        "block_size parameters share one 8-bit constant: 8 / block_size bits for each.",
        "block_size_2 constants share one 32-bit constant: so block_size * block_size_2 "
        "parameters do.",
    ),
)


# ---------------------------------------------------------------------------------- model_gigabytes
def model_gigabytes(n_params: float, bits: float) -> float:
    return n_params * bits / 8 / 1e9


MODEL_GIGABYTES = Exercise(
    name="model_gigabytes",
    lab=LAB,
    reference=model_gigabytes,
    kit="lab_utils.memory.sizes.model_gigabytes",
    cases=lambda rng: [
        (65e9, 0.373),
        (7e9, 4.5),
        (whole(rng, 1, 200) * 1e9 + 5e8, 16),
        (125e6, 4.127),
        (whole(rng, 10, 90) * 1e6, 8),
        (whole(rng, 3, 90) * 10**6, 32),
    ],
    domain=lambda rng: (
        float(whole(rng, 10**7, 10**12)),
        one_of(rng, 0.373, 2, 4, 4.127, 4.5, 8, 16, 32),
    ),
    corners={
        "less than one bit": lambda n, bits: bits < 1,
        "bits that are no whole bytes": lambda n, bits: bits % 8 > 0 and bits > 1,
        "less than half a GB": lambda n, bits: n * bits < 4e9,
        "more than one byte": lambda n, bits: bits > 8,
    },
    same=close(rtol=1e-5, atol=0),
    wrong={
        "bits are counted as bytes: divide by 8": lambda n, b: n * b / 1e9,
        "GiB (2**30 bytes): GB is 10**9": lambda n, b: n * b / 8 / 2**30,
        "megabytes: GB is 10**9 bytes": lambda n, b: n * b / 8 / 1e6,
        "bytes: divide by 10**9": lambda n, b: n * b / 8,
        "times 8 instead of divided by 8": lambda n, b: n * b * 8 / 1e9,
        "whole bytes for each parameter: 4.5 bits are no whole bytes": lambda n, b: (
            n * math.ceil(b / 8) / 1e9
        ),
        "rounded down to whole gigabytes": lambda n, b: n * b // 8 // 1e9,
        "2 bytes for each parameter, whatever bits says": lambda n, b: n * 2 / 1e9,
    },
    hints=(
        "n_params * bits are bits. 8 bits are a byte.",
        "1 GB is 10**9 bytes (1 GiB would be 2**30).",
    ),
)

EXERCISES = (BLOCKWISE_ABSMAX, QUANTIZE_CONSTANTS, BYTES_OF_SCHEME, BITS_PER_PARAM, MODEL_GIGABYTES)
