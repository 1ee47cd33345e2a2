"""Exercises of lab 06_qlora_finetune: what they call right is what autograd, bitsandbytes and
`lab_utils` compute.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import bitsandbytes as bnb
import pytest
import torch
from exercise_tests import cases

from lab_utils.checking import all_exercises, find_exercise
from lab_utils.memory.sizes import nf4_parts
from lab_utils.quantization.buckets import dequantize_blockwise, nf4_codebook, quantize_blockwise


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("06_qlora_finetune")]
    assert names == ["qlora_backward", "qlora_layer_bytes", "mask_labels", "lost_in_merging"]


def test_qlora_backward_is_autograds_through_bitsandbytes():
    """A real 4-bit layer whose rows are its blocks."""
    torch.manual_seed(0)
    layer = bnb.nn.Linear4bit(64, 6, bias=False, compress_statistics=False, quant_type="nf4")
    layer = layer.to("cpu")
    inputs = [torch.randn(shape, requires_grad=True) for shape in ((3, 64), (4, 64), (6, 4))]
    x, a, b = inputs
    layer(x)  # quantizes on the first call, where it is not done yet
    weight, grad_y = layer.weight, torch.randn(3, 6)
    codes = torch.stack([weight.data.flatten() >> 4, weight.data.flatten() & 15], 1).reshape(6, 64)
    theirs = torch.autograd.grad(layer(x) + 4 * x @ a.T @ b.T, inputs, grad_y)
    ours = find_exercise("qlora_backward").reference(
        grad_y, x.detach(), codes.long(), nf4_codebook(), weight.quant_state.absmax, a, b, 16.0
    )
    for mine, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-4)


def test_qlora_layer_bytes():
    tables = 4 * (1 + 16 + 256)  # which every layer repeats
    for count, (n_in, n_out, rank) in cases("qlora_layer_bytes"):
        frozen, trained = count(n_in, n_out, rank)
        assert frozen == sum(nf4_parts(n_in * n_out).values()) - tables
        assert trained == 16 * rank * (n_in + n_out)


def test_lost_in_merging_is_what_the_quantizer_loses():
    for lost, (codes, levels, absmax, update) in cases("lost_in_merging"):
        wanted = dequantize_blockwise(codes, absmax, levels, codes.shape[1]) + update
        stored = quantize_blockwise(wanted, levels, codes.shape[1])
        restored = dequantize_blockwise(*stored, levels, codes.shape[1])
        right = ((restored.reshape(wanted.shape) - wanted).norm() / update.norm()).item()
        assert lost(codes, levels, absmax, update) == pytest.approx(right, rel=1e-4)


def test_a_larger_update_loses_a_smaller_share():
    lost = find_exercise("lost_in_merging").reference
    torch.manual_seed(0)
    codes, update = torch.randint(16, (8, 64)), torch.randn(8, 64)
    shares = [lost(codes, nf4_codebook(), torch.ones(8), size * update) for size in (0.01, 0.1, 1)]
    assert shares[0] > shares[1] > shares[2] and shares[0] > 1
