"""Number formats: our formulas against torch's own bits, every pattern of every 8- and 16-bit
format.
"""

import math

import pytest
import torch

from lab_utils.quantization import floats as numerics
from lab_utils.quantization.floats import BF16, FORMATS, FP8_E4M3, FP8_E5M2, FP16, FP32


def all_patterns(fmt):
    """Every bit pattern of a format as text, and the values torch reads from them."""
    words = torch.arange(2**fmt.bits, dtype=torch.int32)
    stored = words.to(torch.uint8) if fmt.bits == 8 else words.to(torch.int16)
    text = [f"{word:0{fmt.bits}b}" for word in words.tolist()]
    cut = 1 + fmt.exponent_bits
    return [f"{bits[0]} {bits[1:cut]} {bits[cut:]}" for bits in text], stored.view(
        fmt.dtype
    ).double().tolist()


@pytest.mark.parametrize("fmt", [FP16, BF16, FP8_E4M3, FP8_E5M2], ids=lambda fmt: fmt.name)
def test_decode_equals_torch_for_every_pattern(fmt):
    patterns, expected = all_patterns(fmt)
    for pattern, value in zip(patterns, expected, strict=True):
        ours = numerics.decode(pattern, fmt)
        assert ours == value or (math.isnan(ours) and math.isnan(value)), pattern


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_encode_then_decode_equals_the_cast(fmt):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(500, generator=generator, dtype=torch.float64) * 10.0 ** torch.randint(
        -6, 3, (500,)
    )
    for value, cast in zip(values.tolist(), values.to(fmt.dtype).double().tolist(), strict=True):
        ours = numerics.decode(numerics.encode(value, fmt), fmt)
        assert ours == cast or (math.isnan(ours) and math.isnan(cast)), value


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_range_equals_finfo(fmt):
    info = torch.finfo(fmt.dtype)
    assert fmt.bits == info.bits
    assert fmt.smallest_normal == info.tiny
    assert numerics.spacing(1.0, fmt) == info.eps
    assert numerics.store(fmt.largest, fmt).note == "exact"
    assert numerics.store(fmt.smallest, fmt).stored == fmt.smallest
    assert numerics.store(fmt.smallest / 4, fmt).note == "underflow"
    assert numerics.store(min(fmt.largest * 1.5, 1e300), fmt).note == "overflow"


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("value", [1.0, 1.5, -3.7, 0.1, 200.0, 0.0])
def test_spacing_is_the_distance_to_the_next_number(fmt, value):
    stored = abs(numerics.store(value, fmt).stored)
    sign, exponent, fraction = numerics.encode(stored, fmt).split()
    following = f"{int(exponent + fraction, 2) + 1:0{fmt.bits - 1}b}"
    above = numerics.decode(
        f"0 {following[: fmt.exponent_bits]} {following[fmt.exponent_bits :]}", fmt
    )
    assert above - stored == numerics.spacing(stored, fmt)


def test_known_bits():
    assert numerics.encode(1.0, FP32) == "0 01111111 00000000000000000000000"
    assert numerics.encode(-2.5, FP16) == "1 10000 0100000000"
    assert numerics.encode(0.1, BF16) == "0 01111011 1001101", "0.1 in bfloat16 is 0x3DCD"
    assert numerics.store(0.1, BF16).stored == 0.10009765625
    assert numerics.store(70000, FP16).note == "overflow", "FP16 ends at 65,504"
    assert numerics.store(70000, BF16).note == "rounded", "BF16 has FP32's range"
    assert numerics.store(500, FP8_E4M3).note == "overflow", "FP8 E4M3 ends at 448"


def test_nf4_is_a_place_in_a_list():
    assert numerics.store_nf4(0.0).pattern == "0111", "zero is code 7"
    assert numerics.store_nf4(-1.0).pattern == "0000" and numerics.store_nf4(1.0).pattern == "1111"
    assert numerics.store_nf4(3.0, absmax=3.0).stored == 3.0
    assert numerics.store_nf4(5.0, absmax=3.0).note == "overflow"
    assert numerics.store_nf4(0.01).note == "underflow"


def test_every_format_at_once():
    names = [number.format_name for number in numerics.store_everywhere(0.3)]
    assert names == ["FP32", "FP16", "BF16", "FP8 E4M3", "FP8 E5M2", "NF4"]
    errors = [abs(number.error) for number in numerics.store_everywhere(0.3)]
    assert errors[0] < errors[1] < errors[2] < errors[3], "fewer fraction bits, larger error"


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: numerics.store(math.nan, FP16), ValueError, "value"),
        (lambda: numerics.store(math.inf, FP16), ValueError, "value"),
        (lambda: numerics.store("0.1", FP16), TypeError, "value"),
        (lambda: numerics.store(True, FP16), TypeError, "value"),
        (lambda: numerics.store_nf4(0.1, absmax=0.0), ValueError, "absmax"),
        (lambda: numerics.store_nf4(0.1, absmax=math.nan), ValueError, "absmax"),
    ],
)
def test_bad_input_names_the_argument(call, error, word):
    with pytest.raises(error, match=word):
        call()
