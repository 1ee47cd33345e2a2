"""Exercises of lab 01_quantization_buckets: what they call right is what `lab_utils` computes, and
the slide's is not.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import pytest
import torch
from exercise_tests import cases

from lab_utils.checking import all_exercises, check, find_exercise
from lab_utils.quantization import buckets as q


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("01_quantization_buckets")]
    assert names == [
        "absmax_int8",
        "dequantize_int8",
        "max_error_bound",
        "bucket_of",
        "equal_count_codebook",
        "pack_codes",
    ]


def test_absmax_int8_and_back():
    dequantize = find_exercise("dequantize_int8").reference
    for absmax_int8, (x,) in cases("absmax_int8"):
        codes, scale = absmax_int8(x)
        expected_codes, expected_scale = q.quantize_absmax(x)
        assert torch.equal(codes, expected_codes) and scale == expected_scale.item()
        torch.testing.assert_close(
            dequantize(codes, scale), q.dequantize_absmax(expected_codes, expected_scale)
        )


def test_max_error_bound():
    for max_error_bound, (x, bits) in cases("max_error_bound"):
        scale = q.absmax_scale(x, bits)
        assert max_error_bound(x, bits) == pytest.approx(q.half_bucket(scale).item(), rel=1e-6)


def test_bucket_of():
    for bucket_of, (x, codebook) in cases("bucket_of"):
        assert torch.equal(bucket_of(x, codebook), q.nearest_code(x, codebook).long())


def test_equal_count_codebook():
    """The exercise's medians, divided by absmax and with the smallest moved onto zero, are the
    library's codebook.
    """
    for equal_count_codebook, (x, bits) in cases("equal_count_codebook"):
        medians = equal_count_codebook(x, bits) / x.abs().max()
        medians[medians.abs().argmin()] = 0
        torch.testing.assert_close(torch.unique(medians), q.equal_count_codebook(x, bits))


def test_the_slide_s_codes_are_refused():
    def absmax_int8(x):
        codes, scale = find_exercise("absmax_int8").reference(x)
        if len(x) == 10:
            codes = torch.tensor([18, 29, 46, 51, 69, 85, 98, 105, 115, 127], dtype=torch.int8)
        return codes, scale

    problem = check(absmax_int8).problem
    assert problem.kind == "wrong value" and "is 18 where 19 is expected" in problem.message
