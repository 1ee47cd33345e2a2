"""Exercises of lab 02_double_quantization: what they call right is what `lab_utils` computes.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import pytest
import torch
from exercise_tests import cases

from lab_utils.checking import all_exercises
from lab_utils.memory import sizes as memory
from lab_utils.quantization import buckets as q


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("02_double_quantization")]
    assert names == [
        "blockwise_absmax",
        "quantize_constants",
        "bytes_of_scheme",
        "bits_per_param_double_quant",
        "model_gigabytes",
    ]


def test_blockwise_absmax():
    for blockwise_absmax, (x, block_size) in cases("blockwise_absmax"):
        ours = blockwise_absmax(x, block_size)
        assert torch.equal(ours, q.blockwise_absmax(x, min(block_size, x.numel())))


def test_quantize_constants_is_absmax_int8_after_the_mean():
    for quantize_constants, (absmax,) in cases("quantize_constants"):
        codes, scale, offset = quantize_constants(absmax)
        expected_codes, expected_scale = q.quantize_absmax(absmax - absmax.mean())
        assert (
            torch.equal(codes, expected_codes)
            and scale == expected_scale.item()
            and offset == absmax.mean().item()
        )


def test_bytes_of_scheme():
    for bytes_of_scheme, (n_values, code_bits, block_size) in cases("bytes_of_scheme"):
        scheme = memory.Scheme("", code_bits, block_size, 32)
        assert (
            bytes_of_scheme(n_values, code_bits, block_size)
            == memory.bytes_by_part(scheme, n_values)["total"]
        )


def test_bits_per_param_double_quant():
    for bits_per_param, (code_bits, block_size, block_size_2) in cases(
        "bits_per_param_double_quant"
    ):
        scheme = memory.Scheme("", code_bits, block_size, 8, block_size_2)
        assert bits_per_param(code_bits, block_size, block_size_2) == pytest.approx(
            memory.bits_per_parameter(scheme)
        )


def test_model_gigabytes():
    for model_gigabytes, (n_params, bits) in cases("model_gigabytes"):
        assert model_gigabytes(n_params, bits) == pytest.approx(
            memory.model_gigabytes(n_params, bits)
        )
