"""Exercises of lab 01_quantization_buckets: round to integers, find buckets, bound the error, pack
the codes.
"""

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, decimal, exact, one_of, whole
from lab_utils.quantization.buckets import nf4_codebook

LAB = "01_quantization_buckets"
DECK_ROW = torch.tensor([1.5, 2.3, 3.7, 4.1, 5.6, 6.8, 7.9, 8.4, 9.2, 10.2])


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal values, rounded to two decimals so that a message can be read."""
    return torch.tensor(np.round(rng.normal(size=shape) * scale, 2), dtype=torch.float32)


def far_from_ties(x: Tensor, levels: int = 127) -> bool:
    """No value is next to the middle of two buckets, where both neighbours would be right."""
    scaled = x * levels / x.abs().max()
    return bool(((scaled - scaled.floor() - 0.5).abs() > 1e-3).all()) and x.abs().max().item() > 0


def without_ties(make, levels: int = 127) -> Tensor:
    """Draw until no value is near a tie."""
    while not far_from_ties(x := make(), levels):
        pass
    return x


# -------------------------------------------------------------------------------------- absmax_int8
def absmax_int8(x: Tensor) -> tuple[Tensor, float]:
    scale = 127 / x.abs().max()
    return torch.round(scale * x).to(torch.int8), scale.item()


def int8_with(scale_of, rounding=torch.round, low=-128, high=127, returned=None):
    """A wrong absmax_int8: another scale, another rounding, or another scale returned."""

    def answer(x: Tensor) -> tuple[Tensor, float]:
        scale = torch.as_tensor(scale_of(x))
        codes = rounding(scale * x).clamp(low, high).to(torch.int8)
        return codes, (returned(scale) if returned else scale).item()

    return answer


def right_scale(x: Tensor) -> Tensor:
    return 127 / x.abs().max()


def random_values(rng: np.random.Generator) -> Tensor:
    """Values of one of several sizes and shapes, none of them near a tie."""
    shape = one_of(rng, (1,), (2,), (7,), (30,), (1, 5), (4, 3), (2, 3, 2))
    scale = one_of(rng, 0.1, 1, 20, 1000)
    return without_ties(lambda: normal(rng, *shape, scale=scale))


ABSMAX_INT8 = Exercise(
    name="absmax_int8",
    lab=LAB,
    reference=absmax_int8,
    cases=lambda rng: [
        (DECK_ROW.clone(),),
        # the largest is negative
        (without_ties(lambda: torch.cat([-normal(rng, 1).abs() - 5, normal(rng, 6)])),),
        (without_ties(lambda: normal(rng, 12)),),
        (without_ties(lambda: normal(rng, 3, 4, scale=0.1)),),
        (without_ties(lambda: torch.cat([normal(rng, 30), torch.tensor([400.0])])),),  # an outlier
        (without_ties(lambda: -normal(rng, 1).abs() - 0.5),),
    ],
    domain=lambda rng: (random_values(rng),),
    corners={
        "the largest is negative": lambda x: -x.min() > x.max() > 0,
        "all are negative": lambda x: x.max() < 0,
        "all are positive": lambda x: x.min() > 0,
        "one value": lambda x: x.numel() == 1,
        "two axes": lambda x: x.dim() == 2,
        "a scale below 1": lambda x: x.abs().max() > 127,
        "no value above 1": lambda x: x.abs().max() < 1,
    },
    same=close(),
    wrong={
        "the fraction is cut off instead of rounded: .to(torch.int8) alone truncates": int8_with(
            right_scale, torch.trunc
        ),
        "rounded down: torch.floor instead of torch.round": int8_with(right_scale, torch.floor),
        "rounded up: torch.ceil instead of torch.round": int8_with(right_scale, torch.ceil),
        "the largest value is taken without .abs(): a large negative value is missed": int8_with(
            lambda x: 127 / x.max()
        ),
        "128 instead of 127: the largest positive value has no code then": int8_with(
            lambda x: 128 / x.abs().max()
        ),
        "255 instead of 127: int8 has a sign": int8_with(lambda x: 255 / x.abs().max()),
        "the scale is upside down: it is 127 / absmax, not absmax / 127": int8_with(
            lambda x: x.abs().max() / 127
        ),
        "absmax / 127 is returned as scale: the deck's c is 127 / absmax": int8_with(
            right_scale, returned=lambda c: 1 / c
        ),
        "scaled by the range max - min: absmax quantization uses the largest magnitude": int8_with(
            lambda x: 254 / (x.max() - x.min()).clamp(min=1e-3)
        ),
        "negative values are cut off at 0": int8_with(right_scale, low=0),
        "the codes are still floats: end with .to(torch.int8)": lambda x: (
            torch.round(right_scale(x) * x),
            right_scale(x).item(),
        ),
        "only the codes are returned: return codes, scale": lambda x: absmax_int8(x)[0],
    },
    hints=(
        "Two steps: first one number, the scale c = 127 / absmax(x), then round(c * x).",
        "absmax is x.abs().max(): with x.max() alone a large negative value is missed.",
        "torch.round(scale * x).to(torch.int8) makes the codes; return them and the scale.",
    ),
)


# ---------------------------------------------------------------------------------- dequantize_int8
def dequantize_int8(codes: Tensor, scale: float) -> Tensor:
    return codes / scale


def random_codes(rng: np.random.Generator, *shape: int) -> Tensor:
    codes = torch.tensor(rng.integers(-127, 128, size=shape), dtype=torch.int8)
    codes.view(-1)[0] = 127
    return codes


DEQUANTIZE_INT8 = Exercise(
    name="dequantize_int8",
    lab=LAB,
    reference=dequantize_int8,
    cases=lambda rng: [
        (torch.tensor([19, 29, 46, 127], dtype=torch.int8), 12.5),
        (random_codes(rng, 10), decimal(rng, 2, 60)),
        (random_codes(rng, 3, 5), decimal(rng, 100, 1000)),
        (torch.tensor([0, -127], dtype=torch.int8), decimal(rng, 0.1, 0.9)),
    ],
    domain=lambda rng: (
        random_codes(rng, *one_of(rng, (1,), (6,), (2, 5), (3, 3), (2, 2, 3))),
        decimal(rng, 0.05, 2000),
    ),
    corners={
        "two axes": lambda codes, scale: codes.dim() == 2,
        "negative codes": lambda codes, scale: codes.min() < 0,
        "a scale below 1": lambda codes, scale: scale < 1,
        "a scale above 100": lambda codes, scale: scale > 100,
    },
    same=close(rtol=1e-5, atol=1e-9),
    wrong={
        "multiplied by the scale: quantizing multiplied, so going back divides": lambda c, s: (
            c.float() * s
        ),
        "whole-number division //: it cuts the fraction off": lambda c, s: (c.float() / s).floor(),
        "divided by 127 instead of by the scale": lambda c, s: c / 127,
        "the scale is taken for absmax: codes * scale / 127": lambda c, s: c.float() * s / 127,
        "the result is rounded": lambda c, s: torch.round(c / s),
        "the result is an integer tensor again: it must be float32": lambda c, s: (c / s).to(
            torch.int8
        ),
        "half a bucket is added: a code already stands for the middle of its bucket": lambda c, s: (
            (c + 0.5) / s
        ),
        "the sign is lost": lambda c, s: c.abs() / s,
        "128 is added to the codes: int8 codes already have a sign": lambda c, s: (
            (c.float() + 128) / s
        ),
    },
    hints=(
        "Undo the multiplication: what takes 127 back to absmax?",
        "codes / scale: torch makes floats of it.",
    ),
)


# ---------------------------------------------------------------------------------- max_error_bound
def max_error_bound(x: Tensor, bits: int) -> float:
    return (x.abs().max() / (2 ** (bits - 1) - 1) / 2).item()


MAX_ERROR_BOUND = Exercise(
    name="max_error_bound",
    lab=LAB,
    reference=max_error_bound,
    cases=lambda rng: [
        (DECK_ROW.clone(), 8),
        (torch.cat([-normal(rng, 1).abs() - 4, normal(rng, 5)]), 4),
        (normal(rng, 20), whole(rng, 3, 7)),
        (normal(rng, 2, 3, scale=10), 2),
        (normal(rng, 50), 16),
        (DECK_ROW * 10, 2),
    ],
    domain=lambda rng: (random_values(rng), whole(rng, 2, 16)),
    corners={
        "the largest is negative": lambda x, bits: -x.min() > x.max(),
        "two bits": lambda x, bits: bits == 2,
        "sixteen bits": lambda x, bits: bits == 16,
        "two axes": lambda x, bits: x.dim() == 2,
        "a bound above 1": lambda x, bits: max_error_bound(x, bits) > 1,
    },
    same=close(rtol=1e-5, atol=0),
    wrong={
        "a whole bucket: rounding is off by half a bucket at most": lambda x, b: (
            2 * max_error_bound(x, b)
        ),
        "2**bits buckets: one bit is the sign": lambda x, b: (
            x.abs().max() / (2**b - 1) / 2
        ).item(),
        "2**(bits - 1) without - 1: the largest code of 8 bits is 127": lambda x, b: (
            x.abs().max() / 2 ** (b - 1) / 2
        ).item(),
        "127 for any number of bits": lambda x, b: (x.abs().max() / 127 / 2).item(),
        "the largest value without .abs()": lambda x, b: (x.max() / (2 ** (b - 1) - 1) / 2).item(),
        "the scale itself, halved: the bound is 0.5 / scale": lambda x, b: (
            0.25 / max_error_bound(x, b)
        ),
        "the range max - min in place of absmax": lambda x, b: (
            (x.max() - x.min()) / (2 ** (b - 1) - 1) / 2
        ).item(),
        "the error of this tensor: a bound holds for every tensor with this absmax": lambda x, b: (
            actual_error(x, b)
        ),
    },
    hints=(
        "How far apart are two neighbours? absmax is divided into 127 equal steps for 8 bits.",
        "Rounding goes to the nearer neighbour: at most half a step.",
        "The largest code is 2 ** (bits - 1) - 1.",
    ),
)


def actual_error(x: Tensor, bits: int) -> float:
    scale = (2 ** (bits - 1) - 1) / x.abs().max()
    return (torch.round(x * scale) / scale - x).abs().max().item()


# ---------------------------------------------------------------------------------------- bucket_of
def bucket_of(x: Tensor, codebook: Tensor) -> Tensor:
    return (x[:, None] - codebook).abs().argmin(dim=1)


def random_codebook(rng: np.random.Generator, size: int) -> Tensor:
    """A sorted codebook from -1 to 1 with a zero and uneven gaps of at least 0.05."""
    while True:
        inside = rng.uniform(-0.95, 0.95, size=size - 3)
        codebook = np.sort(np.round(np.concatenate([[-1, 0, 1], inside]), 2))
        gaps = np.diff(codebook)
        if gaps.min() >= 0.03 and gaps.max() > 1.5 * gaps.min():
            return torch.tensor(codebook, dtype=torch.float32)


def between(rng: np.random.Generator, codebook: Tensor, n: int) -> Tensor:
    """Values from -1 to 1, none of them near the middle of two codebook values."""
    middles = (codebook[1:] + codebook[:-1]) / 2
    x = torch.tensor(np.round(rng.uniform(-1, 1, size=4 * n), 3), dtype=torch.float32)
    return x[((x[:, None] - middles).abs() > 2e-3).all(dim=1)][:n]


def bucket_cases(rng: np.random.Generator) -> list[tuple]:
    first = torch.tensor([-1.0, -0.2, 0.0, 0.3, 1.0])
    codebooks = [nf4_codebook(), random_codebook(rng, 8), random_codebook(rng, 5)]
    random = [(between(rng, codebook, 12), codebook) for codebook in codebooks]
    return [
        (torch.tensor([-0.9, -0.15, 0.1, 0.5, 0.7]), first),
        (torch.tensor([-0.95, 0.98]), torch.tensor([-0.5, 0.1, 0.9])),
        (torch.tensor([0.34]), torch.tensor([0.1, 0.3, 0.4, 1.0])),
        (torch.tensor([0.0, -0.3, 0.2]), torch.tensor([0.1, 0.3, 0.9])),
        *random,
        (nf4_codebook().flip(0), nf4_codebook()),
    ]


def random_bucket_case(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Values from -1 to 1, and a codebook whose ends may lie inside."""
    codebook = random_codebook(rng, whole(rng, 4, 12))
    codebook = codebook[one_of(rng, 0, 1) : len(codebook) - one_of(rng, 0, 1)]
    return between(rng, codebook, whole(rng, 1, 12)), codebook


BUCKET_OF = Exercise(
    name="bucket_of",
    lab=LAB,
    reference=bucket_of,
    kit="lab_utils.quantization.buckets.nearest_code",
    cases=bucket_cases,
    domain=random_bucket_case,
    corners={
        "values of the codebook themselves": lambda x, codebook: bool(
            torch.isin(x, codebook).any()
        ),
        "a value below all others": lambda x, codebook: x.min() < codebook.min(),
        "a value above all others": lambda x, codebook: x.max() > codebook.max(),
        "as many values as buckets": lambda x, codebook: len(x) == len(codebook),
        "one value": lambda x, codebook: len(x) == 1,
        "another number than 16 of buckets": lambda x, codebook: len(codebook) not in (15, 16),
        "a codebook of positive values": lambda x, codebook: codebook.min() > 0,
    },
    same=exact,
    wrong={
        "the bucket below, not the nearest": lambda x, c: (
            torch.searchsorted(c, x, right=True) - 1
        ).clamp(min=0),
        "the bucket above, not the nearest: the values of the codebook are no edges": lambda x, c: (
            torch.searchsorted(c, x).clamp(max=len(c) - 1)
        ),
        "the farthest bucket: argmax instead of argmin": lambda x, c: (
            (x[:, None] - c).abs().argmax(dim=1)
        ),
        "the distance has a sign: take .abs() before argmin": lambda x, c: (x[:, None] - c).argmin(
            dim=1
        ),
        "the value of the bucket, not its index": lambda x, c: c[bucket_of(x, c)],
        "counted from 1: the first bucket is 0": lambda x, c: bucket_of(x, c) + 1,
        "buckets taken as equally wide: use the codebook's own values": lambda x, c: torch.round(
            (x + 1) / 2 * (len(c) - 1)
        ).long(),
        "magnitudes are compared: the sign of x is lost": lambda x, c: bucket_of(x.abs(), c),
        "magnitudes are compared: the sign of the codebook is lost": lambda x, c: (
            (x.abs()[:, None] - c.abs()).abs().argmin(dim=1)
        ),
        "one index for the whole tensor: argmin needs dim=1": lambda x, c: (
            (x[:, None] - c).abs().argmin()
        ),
        "the nearest x of each bucket: argmin over the wrong dimension": lambda x, c: (
            (x[:, None] - c).abs().argmin(dim=0)
        ),
    },
    hints=(
        "Compare every x with every codebook value: x[:, None] - codebook has the shape (n, 16).",
        "The nearest has the smallest distance, and a distance has no sign.",
        "(...).abs().argmin(dim=1) gives one index for each x.",
    ),
)


# ----------------------------------------------------------------------------- equal_count_codebook
def equal_count_codebook(x: Tensor, bits: int) -> Tensor:
    return x.sort().values.view(2**bits, -1).median(dim=1).values


def groups(x: Tensor, bits: int) -> Tensor:
    return x.sort().values.view(2**bits, -1)


def skewed(rng: np.random.Generator, bits: int, each: int) -> Tensor:
    """2**bits * each values, each odd, with a long tail to one side."""
    return torch.tensor(
        np.round(rng.gamma(1.5, size=2**bits * each) - rng.uniform(0.5, 1), 3), dtype=torch.float32
    )


EQUAL_COUNT_CODEBOOK = Exercise(
    name="equal_count_codebook",
    lab=LAB,
    reference=equal_count_codebook,
    cases=lambda rng: [
        (torch.tensor([9.0, 1.0, 2.0, 7.0, 4.0, 3.0, 30.0, 5.0, 8.0, 6.0, 15.0, 20.0]), 2),
        (skewed(rng, 3, 5), 3),
        (skewed(rng, 4, 7), 4),
        (normal(rng, 2 * 9, scale=5), 1),
        (normal(rng, 4, scale=5), 2),
        (torch.tensor([5.0, 2.0, 2.0, 2.0, -7.0, 5.0]), 1),
    ],
    domain=lambda rng: (skewed(rng, bits := whole(rng, 1, 4), one_of(rng, 1, 3, 5, 9)), bits),
    corners={
        "one bit": lambda x, bits: bits == 1,
        "four bits": lambda x, bits: bits == 4,
        "groups of one": lambda x, bits: len(x) == 2**bits,
        "equal neighbours": lambda x, bits: len(set(x.tolist())) < len(x),
        "negative values": lambda x, bits: x.min() < 0,
    },
    same=close(rtol=1e-5, atol=1e-6),
    wrong={
        "equally wide buckets: the middles of equal steps from min to max": lambda x, b: (
            x.min() + (x.max() - x.min()) * (torch.arange(2**b) + 0.5) / 2**b
        ),
        "not sorted before cutting into groups": lambda x, b: x.view(2**b, -1).median(dim=1).values,
        "the mean of each group, not the median": lambda x, b: groups(x, b).mean(dim=1),
        "the smallest of each group: the lower edge of the bucket": lambda x, b: groups(x, b)[:, 0],
        "the largest of each group: the upper edge of the bucket": lambda x, b: groups(x, b)[:, -1],
        "bits buckets: there are 2**bits": lambda x, b: torch.quantile(
            x, (torch.arange(b) + 0.5) / b
        ),
        "quantiles from 0 to 1: their ends are the extremes, no middles of groups": lambda x, b: (
            torch.quantile(x, torch.linspace(0, 1, 2**b), interpolation="nearest")
        ),
        "sorted by magnitude": lambda x, b: (
            x[x.abs().argsort()].view(2**b, -1).median(dim=1).values
        ),
        "sorted from large to small": lambda x, b: equal_count_codebook(x, b).flip(0),
        "grouped by columns: use view(2**bits, -1), one group in a row": lambda x, b: (
            x.sort().values.view(-1, 2**b).median(dim=0).values
        ),
    },
    hints=(
        "Sort first: then groups of equal count are neighbours.",
        "x.sort().values.view(2**bits, -1) has one group in each row.",
        "The median of each row is the bucket's value: .median(dim=1).values",
    ),
)


# --------------------------------------------------------------------------------------- pack_codes
def byte_from(high, low, shift: int = 4):
    """A wrong or right packing from two functions that choose the high and the low half."""
    return lambda codes: (high(codes) << shift) | low(codes)


def evens(codes: Tensor) -> Tensor:
    return codes[::2]


def odds(codes: Tensor) -> Tensor:
    return codes[1::2]


def four_bit_codes(rng: np.random.Generator, n: int) -> Tensor:
    return torch.tensor(
        np.concatenate([[1, 14], rng.integers(0, 16, size=n - 2)]), dtype=torch.uint8
    )


def pack_codes(codes: Tensor) -> Tensor:
    return (codes[::2] << 4) | codes[1::2]


PACK_CODES = Exercise(
    name="pack_codes",
    lab=LAB,
    reference=pack_codes,
    kit="lab_utils.quantization.buckets.pack_codes",
    cases=lambda rng: [
        (torch.tensor([1, 2, 15, 0], dtype=torch.uint8),),
        (four_bit_codes(rng, 12),),
        (four_bit_codes(rng, 64),),
        (torch.tensor([0, 9], dtype=torch.uint8),),
        (torch.tensor([15, 15, 8, 7], dtype=torch.uint8),),
    ],
    domain=lambda rng: (four_bit_codes(rng, 2 * whole(rng, 1, 20)),),
    corners={
        "the first half is zero": lambda codes: bool((codes[::2] == 0).any()),
        "the second half is zero": lambda codes: bool((codes[1::2] == 0).any()),
        "both halves are full": lambda codes: codes[:2].tolist() == [15, 15],
        "one byte": lambda codes: len(codes) == 2,
    },
    same=exact,
    wrong={
        "the first code is in the low half: bitsandbytes has it in the high half": byte_from(
            odds, evens
        ),
        "not shifted: << 4 moves a code into the high half": byte_from(evens, odds, 0),
        "& keeps only common bits: join with |": lambda c: (c[::2] << 4) & c[1::2],
        "the first half of the tensor is paired with the second: pair neighbours": lambda c: (
            (c[: len(c) // 2] << 4) | c[len(c) // 2 :]
        ),
        "the second code is dropped": lambda c: c[::2] << 4,
        "times 10 instead of times 16": lambda c: c[::2] * 10 + c[1::2],
        "the result is not uint8: a byte for two codes is the point": lambda c: (
            (c[::2].long() << 4) | c[1::2].long()
        ),
        "one byte for every code: nothing is packed": lambda c: c.clone(),
        "sliding pairs: each code belongs to one byte only": lambda c: (c[:-1] << 4) | c[1:],
        "the codes are in reverse order": lambda c: pack_codes(c.flip(0)),
    },
    hints=(
        "codes[::2] are the first of each pair, codes[1::2] the second.",
        "A byte has 8 bits: << 4 moves a code into the upper four, | puts the other below.",
    ),
)

EXERCISES = (
    ABSMAX_INT8,
    DEQUANTIZE_INT8,
    MAX_ERROR_BOUND,
    BUCKET_OF,
    EQUAL_COUNT_CODEBOOK,
    PACK_CODES,
)
