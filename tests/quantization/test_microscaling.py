"""MXFP4 and NVFP4 held against the package `gguf`, which computes the first and decodes the second
on a CPU, and against the specification's examples.
"""

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab_utils.quantization import microscaling as ms

MXFP4, NVFP4 = (getattr(gguf.GGMLQuantizationType, name) for name in ("MXFP4", "NVFP4"))


def normal(*shape, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1.0, 0.02, 3e4, 1e-6])
def test_mxfp4_is_what_gguf_stores(scale):
    x = normal(64, 256, scale=scale)
    theirs = gguf.quants.dequantize(gguf.quants.quantize(x.numpy(), MXFP4), MXFP4)
    torch.testing.assert_close(ms.dequantize(ms.quantize_mxfp4(x)), torch.tensor(theirs))


def as_gguf_nvfp4(stored: ms.Microscaled, tensor_scale: float) -> np.ndarray:
    """Our codes and scales as llama.cpp has them: 4 scales, then 16 codes each, low half first."""
    values = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]) / 2
    place = {value: code for code, value in reversed(list(enumerate(values)))}
    ours = ms.e2m1_codebook()[stored.codes.long().reshape(-1)].numpy()
    codes = np.array([place[value] for value in ours], dtype=np.uint8).reshape(-1, 4, 16)
    packed = (codes[:, :, :8] | codes[:, :, 8:] << 4).reshape(-1, 32)
    scales = (stored.scales / tensor_scale).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    return np.concatenate([scales.reshape(-1, 4), packed], axis=1)


def test_nvfp4_is_read_by_gguf():
    """The scales are exact in E4M3, and the values those that llama.cpp would compute."""
    x = normal(8, 64)
    stored = ms.quantize_nvfp4(x)
    tensor_scale = float(x.abs().max()) / (6 * 448)
    theirs = gguf.quants.dequantize(as_gguf_nvfp4(stored, tensor_scale), NVFP4) * tensor_scale
    torch.testing.assert_close(
        ms.dequantize(stored).reshape(-1), torch.tensor(theirs).reshape(-1).float()
    )


def test_the_codebook_is_e2m1():
    """A sign, two exponent bits with bias 1, one fraction bit: decoded by the formula."""
    magnitudes = {
        (f / 2) if e == 0 else 2.0 ** (e - 1) * (1 + f / 2) for e in range(4) for f in range(2)
    }
    assert ms.e2m1_codebook().tolist() == sorted(magnitudes | {-m for m in magnitudes if m})


@given(st.floats(min_value=1e-30, max_value=1e30))
def test_a_block_scaled_by_a_power_of_two_reaches_from_4_to_8(absmax):
    scale = ms.e8m0_scale(torch.tensor([absmax], dtype=torch.float64)).item()
    assert 4 <= absmax / scale < 8 and np.log2(scale) == round(np.log2(scale))


@pytest.mark.parametrize("quantize", [ms.quantize_mxfp4, ms.quantize_nvfp4])
def test_zeros_and_short_tensors(quantize):
    assert ms.dequantize(quantize(torch.zeros(40))).tolist() == [0] * 40
    assert ms.dequantize(quantize(torch.tensor([6.0, -3.0, 0.5]))).tolist() == [6, -3, 0.5]
    half_zero = torch.cat([torch.zeros(32), normal(32)])
    restored = ms.dequantize(quantize(half_zero))
    assert not restored[:32].any() and restored.isfinite().all()


def test_errors_on_normal_values():
    """Blocks of 16 with finer scales err less than blocks of 32 with powers of two."""
    x = normal(100_000)
    rmse = {
        name: float((ms.dequantize(quantize(x)) - x).square().mean().sqrt())
        for name, quantize in (("mx", ms.quantize_mxfp4), ("nv", ms.quantize_nvfp4))
    }
    assert 0.08 < rmse["nv"] < rmse["mx"] < 0.13
