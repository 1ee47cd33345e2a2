"""Double quantization: the real nested state of bitsandbytes, the lecture's numbers, and bytes
counted on tensors.
"""

import bitsandbytes as bnb
import bitsandbytes.functional as bnbf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.memory import sizes as memory
from lab_utils.quantization import buckets as q
from lab_utils.quantization import double as dq

DECK_W = torch.tensor(
    [
        [-0.7, -0.3, 0.0, -0.4, 0.3],
        [-1.0, 0.2, 0.7, 1.7, -0.9],
        [-0.1, -1.5, -0.1, 0.8, 0.5],
        [1.2, -1.7, -0.9, -0.3, 0.7],
        [0.4, 0.1, -1.4, 2.2, -1.1],
    ]
)
# bitsandbytes' CPU kernel first rounds a scaled constant onto 65,536 points from -1 to 1
GRID = 2 / 65535


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_dynamic_codebook_equals_bitsandbytes():
    theirs = bnbf.create_dynamic_map()
    assert torch.equal(dq.dynamic_codebook(), theirs)
    q.check_codebook(theirs)


@pytest.mark.parametrize("shape", [(512, 512), (300, 1000), (64, 64), (1, 64), (4099,)])
@pytest.mark.parametrize("block_size", [64, 128])
def test_nested_constants_equal_bitsandbytes_state(shape, block_size):
    """Offset and second absmax bit for bit; codes too, but for constants almost in the middle of
    two buckets: the kernel rounds onto a grid of 2/65535 first, and which bucket is nearest may
    change within half a grid step.
    """
    x = normal(*shape, seed=sum(shape))
    if x.numel() < block_size:
        block_size = x.numel()
    _, state = bnbf.quantize_4bit(
        x, blocksize=block_size, quant_type="nf4", compress_statistics=True
    )
    absmax = q.blockwise_absmax(x, block_size)
    ours = dq.quantize_constants(absmax)
    assert torch.equal(ours.offset, state.offset)
    if absmax.numel() == 1:  # one constant minus its mean: nothing is left
        assert torch.equal(dq.dequantize_constants(ours), absmax)
        return
    assert torch.equal(ours.absmax, state.state2.absmax)
    assert torch.equal(dq.dynamic_codebook(), state.state2.code)
    scaled = (absmax - ours.offset) / ours.absmax.repeat_interleave(ours.block_size)[
        : absmax.numel()
    ]
    codebook = dq.dynamic_codebook()
    on_grid = ((scaled.double() + 1) / GRID).round() * GRID - 1
    different = ours.codes != state.absmax
    midpoint = (codebook[ours.codes.int()] + codebook[state.absmax.int()]) / 2
    assert ((scaled - midpoint).abs()[different] <= GRID / 2 + 1e-6).all(), (
        "they differ only next to a midpoint"
    )
    assert different.float().mean() < 0.01
    assert (q.nearest_code(on_grid, codebook) != state.absmax).sum() == 0, (
        "with the grid, not one code differs"
    )


@pytest.mark.parametrize("seed", range(5))
def test_double_dequantize_is_bitsandbytes_within_one_bucket_of_a_constant(seed):
    x = normal(256, 1024, seed=seed)
    packed, state = bnbf.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=True)
    ours = dq.double_quantize(x)
    assert torch.equal(ours.packed, packed.reshape(-1))
    theirs, restored = bnbf.dequantize_4bit(packed, state), dq.double_dequantize(ours)
    same_constant = (ours.constants.codes == state.absmax).repeat_interleave(64).view(x.shape)
    assert torch.equal(restored[same_constant], theirs[same_constant])
    bucket = dq.dynamic_codebook().diff().max() * ours.constants.absmax.max()
    assert (restored - theirs).abs().max() <= bucket * 1.001, (
        "a weight is at most 1, times a constant one bucket off"
    )


def test_double_quantization_costs_almost_no_precision():
    x = normal(2048, 1024)
    packed, absmax = q.quantize_nf4(x)
    once = q.errors(x, q.dequantize_nf4(packed, absmax, x.shape))["rmse"]
    twice = q.errors(x, dq.double_dequantize(dq.double_quantize(x)))["rmse"]
    assert once == pytest.approx(0.092, abs=0.001)
    assert 0 < twice - once < 5e-5


# -------------------------------------------------------------------------------- the lecture's way
def test_the_lectures_constants():
    stored = dq.deck_double_quantize(DECK_W, block_size=5)
    assert stored.scale_2.item() == pytest.approx(0.7, abs=1e-6)
    assert stored.scale_codes.tolist() == [127, 52, 59, 52, 40]
    error = q.errors(DECK_W, dq.deck_double_dequantize(stored))
    assert error["mae"] == pytest.approx(0.00600041, abs=2e-6)
    assert error["max_abs"] == pytest.approx(0.0225, abs=1e-5)


def test_quantizing_absmax_instead_is_better():
    codes, scale = q.quantize_absmax(DECK_W, block_size=5)
    absmax_codes, absmax_scale = q.quantize_absmax(q.blockwise_absmax(DECK_W, 5))
    assert absmax_codes.tolist() == [40, 98, 87, 98, 127]
    restored = q.dequantize_absmax(
        codes, 127 / q.dequantize_absmax(absmax_codes, absmax_scale), block_size=5
    )
    assert q.errors(DECK_W, restored)["mae"] == pytest.approx(0.00391890, abs=2e-6)


def test_an_outlier_breaks_the_lectures_way():
    """The scale of a block with a large outlier is so small beside the others that its code is 0:
    dividing by it gives infinity. Quantizing absmax (the paper) keeps the outlier instead, since
    it is the largest.
    """
    w = DECK_W.clone()
    w[4, 3] = 1000.0
    assert torch.isinf(dq.deck_double_dequantize(dq.deck_double_quantize(w, 5))).any()
    assert torch.isfinite(dq.double_dequantize(dq.double_quantize(w, 5))).all()


# ------------------------------------------------------------------------------------ bytes
def test_the_lectures_bytes_counted_on_tensors():
    codes, scale = q.quantize_absmax(DECK_W, block_size=5)
    assert DECK_W.numel() * DECK_W.element_size() == 100
    assert codes.nbytes + scale.nbytes == 45
    assert sum(dq.stored_bytes(dq.deck_double_quantize(DECK_W, 5)).values()) == 34
    plain_codes, plain_scale = q.quantize_absmax(DECK_W)
    assert plain_codes.nbytes + plain_scale.nbytes == 29
    nf4 = dq.stored_bytes(dq.double_quantize(DECK_W, 5))
    assert nf4 == {"packed": 13, "constants.codes": 5, "constants.absmax": 4, "constants.offset": 4}
    assert sum(nf4.values()) - nf4["constants.offset"] == 22, (
        "22 in the lecture's way, which has no offset"
    )


@pytest.mark.parametrize(
    ("nested", "scheme"), [(False, "nf4, blocks of 64"), (True, "nf4 + double quantization")]
)
def test_bytes_of_a_real_bitsandbytes_layer(nested, scheme):
    """The formula's bits against the tensors of a Linear4bit; the lookup tables and the offset are
    all that it omits.
    """
    layer = bnb.nn.Linear4bit(
        1024, 1024, bias=False, compress_statistics=nested, quant_type="nf4"
    ).to("cpu")
    n = 1024 * 1024
    assert layer.weight.quant_state is not None, "the layer is quantized"
    state = dq.stored_bytes(layer.weight.quant_state)
    tables = {name: size for name, size in state.items() if name.endswith(("code", "offset"))}
    stored = layer.weight.nbytes + sum(state.values())
    expected = memory.bytes_by_part(memory.scheme_named(scheme), n)["total"]
    assert stored - sum(tables.values()) == expected
    assert tables == ({"code": 64, "offset": 4, "state2.code": 1024} if nested else {"code": 64})
    assert 8 * stored / n == pytest.approx(
        memory.bits_per_parameter(memory.scheme_named(scheme)), abs=0.01
    )


@pytest.mark.parametrize("n", [1, 63, 64, 65, 16384, 16385, 40000])
def test_our_tensors_hold_as_many_bytes_as_the_formula_says(n):
    x = normal(n)
    stored = dq.stored_bytes(dq.double_quantize(x, min(64, n)))
    scheme = memory.Scheme("ours", 4, min(64, n), 8, 256)
    assert sum(stored.values()) - 4 == memory.bytes_by_part(scheme, n)["total"], (
        "all but the offset"
    )


# ------------------------------------------------------------------------------------ properties
constants = st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=600).map(torch.tensor)


@settings(max_examples=60, deadline=None)
@given(absmax=constants, block_size=st.integers(1, 300))
def test_constants_come_back_within_half_the_widest_bucket(absmax, block_size):
    stored = dq.quantize_constants(absmax, block_size)
    restored = dq.dequantize_constants(stored)
    assert restored.shape == absmax.shape
    largest = (absmax - absmax.mean()).abs().max().item()
    widest = dq.dynamic_codebook().diff().max().item() / 2
    assert (
        restored - absmax
    ).abs().max().item() <= largest * widest + 1e-6 * absmax.max().item() + 1e-30


@settings(max_examples=30, deadline=None)
@given(value=st.floats(1e-3, 1e3), n=st.integers(1, 600))
def test_equal_constants_stay_equal(value, n):
    restored = dq.dequantize_constants(dq.quantize_constants(torch.full((n,), value)))
    torch.testing.assert_close(restored, torch.full((n,), value), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("absmax", "error", "words"),
    [
        (torch.empty(0), ValueError, "absmax is empty"),
        (torch.tensor([1, 2]), TypeError, "absmax must hold floats"),
        (torch.tensor([1.0, torch.nan]), ValueError, "absmax contains NaN"),
    ],
)
def test_bad_input_names_the_argument(absmax, error, words):
    with pytest.raises(error, match=words):
        dq.quantize_constants(absmax)
    with pytest.raises(ValueError, match="block_size"):
        dq.quantize_constants(torch.ones(4), block_size=0)
