"""What a number costs: FP32, FP16, BF16, FP8 and NF4 as bits (lecture 9, "BF16 as compared to
FP16").

A float is a sign, an exponent and a fraction:

    value = (-1)**sign * 2**(exponent - bias) * (1 + fraction / 2**fraction_bits)      normal
    value = (-1)**sign * 2**(1 - bias)        *      fraction / 2**fraction_bits       subnormal,
    where exponent = 0

Exponent bits buy range, fraction bits buy precision. NF4 has neither: its four bits are the place
in a list of 16.
"""

import math
from dataclasses import dataclass

import torch

from lab_utils.quantization.buckets import nearest_code, nf4_codebook


@dataclass(frozen=True)
class FloatFormat:
    """A float format: one sign bit, then exponent bits, then fraction bits."""

    name: str
    dtype: torch.dtype
    exponent_bits: int
    fraction_bits: int
    has_infinity: bool = True  # FP8 E4M3 gives the codes of infinity to numbers, up to 448

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self) -> int:
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def largest(self) -> float:
        return torch.finfo(self.dtype).max

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def smallest(self) -> float:
        """Smallest positive number, a subnormal: half of it and less becomes zero."""
        return self.smallest_normal * 2.0**-self.fraction_bits


FP32 = FloatFormat("FP32", torch.float32, 8, 23)
FP16 = FloatFormat("FP16", torch.float16, 5, 10)
BF16 = FloatFormat("BF16", torch.bfloat16, 8, 7)
FP8_E4M3 = FloatFormat("FP8 E4M3", torch.float8_e4m3fn, 4, 3, has_infinity=False)
FP8_E5M2 = FloatFormat("FP8 E5M2", torch.float8_e5m2, 5, 2)
FORMATS = (FP32, FP16, BF16, FP8_E4M3, FP8_E5M2)


@dataclass(frozen=True)
class StoredNumber:
    """What became of a typed value in one format.

    `pattern` groups the bits, "0 01111 1000000000" for sign, exponent, fraction, or "1100" for an
    NF4 code; `stored` is the value they stand for; `note` is one word: exact, rounded, overflow or
    underflow.
    """

    format_name: str
    pattern: str
    stored: float
    error: float
    note: str


def check_number(value: float, name: str = "value") -> float:
    """Return `value` as a float, or say what is expected."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: use float({name}).")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}: type a number such as 0.1.")
    return float(value)


def encode(value: float, fmt: FloatFormat) -> str:
    """The bits of `value`, "sign exponent fraction", rounded to the nearest number by torch."""
    word = torch.tensor([value], dtype=torch.float64).to(fmt.dtype).view(torch.uint8).tolist()
    bits = f"{int.from_bytes(bytes(word), 'little'):0{fmt.bits}b}"
    return f"{bits[0]} {bits[1 : 1 + fmt.exponent_bits]} {bits[1 + fmt.exponent_bits :]}"


def decode(pattern: str, fmt: FloatFormat) -> float:
    """Return the value of a bit pattern, by the two formulas at the top of this module."""
    sign, exponent, fraction = (int(part, 2) for part in pattern.split())
    top_exponent, top_fraction = 2**fmt.exponent_bits - 1, 2**fmt.fraction_bits - 1
    if exponent == top_exponent and fmt.has_infinity:
        return math.nan if fraction else (-1) ** sign * math.inf
    if exponent == top_exponent and fraction == top_fraction:
        return math.nan
    share = fraction / 2**fmt.fraction_bits
    if exponent == 0:
        return (-1) ** sign * 2.0 ** (1 - fmt.bias) * share
    return (-1) ** sign * 2.0 ** (exponent - fmt.bias) * (1 + share)


def spacing(value: float, fmt: FloatFormat) -> float:
    """The distance from |value| to the next number above: it doubles with each power of two."""
    magnitude = abs(check_number(value))
    if magnitude > fmt.largest:
        return math.inf
    # frexp: magnitude = m * 2**e, m in [0.5, 1)
    exponent = math.frexp(magnitude)[1] - 1 if magnitude else -math.inf
    return 2.0 ** (max(exponent, 1 - fmt.bias) - fmt.fraction_bits)


def describe_change(value: float, stored: float, largest: float) -> str:
    """What storing did to a value: exact, rounded, overflow or underflow.

    Past the largest number torch gives infinity or NaN or, from 2.13 on, the largest number itself
    in FP8 E4M3, which has no infinity.
    """
    if stored == value:
        return "exact"
    if not math.isfinite(stored) or abs(value) > largest and abs(stored) == largest:
        return "overflow"
    return "underflow" if stored == 0 else "rounded"


def store(value: float, fmt: FloatFormat) -> StoredNumber:
    """Put a number into a float format: its bits, the value they stand for, and the error made."""
    pattern = encode(check_number(value), fmt)
    stored = decode(pattern, fmt)
    return StoredNumber(
        fmt.name, pattern, stored, stored - value, describe_change(value, stored, fmt.largest)
    )


def store_nf4(value: float, absmax: float = 1.0) -> StoredNumber:
    """Put a number into NF4, in a block with this `absmax`, at which larger ones are cut off."""
    if check_number(absmax, "absmax") <= 0:
        raise ValueError(
            f"absmax must be above 0, got {absmax}: it is the largest magnitude of the block."
        )
    codebook = nf4_codebook().double()
    scaled = torch.tensor([check_number(value) / absmax], dtype=torch.float64)
    code = int(nearest_code(scaled, codebook))
    stored = codebook[code].item() * absmax
    return StoredNumber(
        "NF4", f"{code:04b}", stored, stored - value, describe_change(value, stored, absmax)
    )


def store_everywhere(value: float, absmax: float = 1.0) -> list[StoredNumber]:
    """Put a number into every format at once: FP32, FP16, BF16, both FP8, NF4."""
    return [*(store(value, fmt) for fmt in FORMATS), store_nf4(value, absmax)]
