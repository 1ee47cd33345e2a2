"""Quantization: splitting a range into buckets (lecture 9, "QLoRA"; QLoRA paper, sections 2 and 3).

A tensor of floats becomes a tensor of small integers, the *codes*, and a few floats that bring them
back:

- **absmax integers**: code = round(scale * x), with scale = 127 / max|x| for int8;
- **codebooks**: x / absmax lies in [-1, 1], and the code is the index of the nearest of 2**bits
  fixed values;
- **block-wise**: every `block_size` consecutive values have an absmax of their own, so that an
  outlier
  spoils only its own block.

Shapes: `n` values in total, `n_blocks = ceil(n / block_size)`; the last block may be shorter than
the others.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lab_utils.files import whole_number

# The 16 values of NF4 as the QLoRA paper prints them (appendix E) and bitsandbytes uses them.
# `normal_float_codebook(4)` derives them from the normal distribution and agrees to 2e-7.
NF4_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


# --------------------------------------------------------------------------------- what may come in
def check_values(x: Tensor, name: str = "x") -> Tensor:
    """`x` in at least 32 bits of precision; raises for what cannot be quantized.

    Whether values are finite is checked on each block's absmax: NaN and infinity survive a maximum,
    which spares a second pass over all of `x`.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {type(x).__name__}: use torch.tensor({name})."
        )
    if not x.is_floating_point():
        raise TypeError(f"{name} must hold floats, got {x.dtype}: use {name}.float() first.")
    if x.numel() == 0:
        raise ValueError(
            f"{name} is empty, and an empty tensor has no absmax: pass at least one value."
        )
    return x if x.dtype == torch.float64 else x.float()


def check_bits(bits: int, least: int = 1) -> int:
    """`bits`, if it is a whole number from `least` to 16; else ValueError."""
    return whole_number("bits", bits, least, 16)


def check_block_size(block_size: int, n: int) -> int:
    """`block_size`, if a tensor of `n` values has such blocks; else ValueError."""
    return whole_number("block_size", block_size, 1, n)


def check_codebook(codebook: Tensor) -> Tensor:
    """The codebook, or an error that says what is wrong with it.

    It needs a zero, so that zeros, such as padding, stay zeros.
    """
    if not isinstance(codebook, Tensor) or codebook.dim() != 1 or not codebook.is_floating_point():
        raise TypeError(
            "codebook must be a 1-D torch.Tensor of floats, for example nf4_codebook()."
        )
    if not 2 <= codebook.numel() <= 2**16:
        raise ValueError(f"codebook must have from 2 to 65536 values, got {codebook.numel()}.")
    if not bool((codebook[1:] > codebook[:-1]).all()):  # also False where a value is NaN
        raise ValueError(
            "codebook must be sorted, each value above the one before: use torch.unique(codebook)."
        )
    if not bool((codebook == 0).any()):
        raise ValueError(
            "codebook must contain 0, so that zero stays zero: move the value nearest to it onto 0."
        )
    return codebook


def check_absmax(absmax: Tensor, name: str = "x") -> Tensor:
    """Refuse NaN and infinity: they make the absmax of their block NaN or infinite."""
    if not bool(torch.isfinite(absmax).all()):
        raise ValueError(
            f"{name} contains NaN or infinity, which no bucket holds: use "
            f"torch.nan_to_num({name}) first."
        )
    return absmax


# ---------------------------------------------------------------------------------------- blocks
def split_into_blocks(x: Tensor, block_size: int) -> Tensor:
    """Flatten `x` (any shape, n values) to (n_blocks, block_size), zeros filling the last block."""
    flat = x.reshape(-1)
    missing = -flat.numel() % block_size
    return (F.pad(flat, (0, missing)) if missing else flat).view(-1, block_size)


def join_blocks(blocks: Tensor, like: Tensor) -> Tensor:
    """Undo `split_into_blocks`: (n_blocks, block_size) to the shape of `like`, filling removed."""
    return blocks.reshape(-1)[: like.numel()].view(like.shape)


def blockwise_absmax(x: Tensor, block_size: int) -> Tensor:
    """Return the largest magnitude in each block: (n_blocks,)."""
    x = check_values(x)
    blocks = split_into_blocks(x, check_block_size(block_size, x.numel()))
    return check_absmax(blocks.abs().amax(dim=1))


# ---------------------------------------------------------------------------------- absmax integers
def largest_code(bits: int) -> int:
    """Largest code of a signed integer that treats + and - alike: 127 for 8 bits, 7 for 4."""
    return 2 ** (check_bits(bits, least=2) - 1) - 1


def absmax_scale(x: Tensor, bits: int = 8, block_size: int | None = None) -> Tensor:
    """The deck's c = 127 / absmax(x) of each block, (n_blocks,).

    Without a `block_size` all of x is one block. A block of zeros (or of values so small that the
    scale would overflow) takes 1: any scale gives zeros there.
    """
    absmax = blockwise_absmax(x, block_size if block_size is not None else max(x.numel(), 1))
    scale = largest_code(bits) / absmax
    return torch.where(torch.isfinite(scale), scale, torch.ones_like(scale))


def quantize_absmax(
    x: Tensor, bits: int = 8, block_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """X_int8 = round(c * X): (codes, scale c), of the shapes of x and (n_blocks,).

    Codes are int8, or int16 above 8 bits. `torch.round` sends ties to the even neighbour. In the
    lecture's 5x5 example one value is an exact tie, -63.5: -63 and -64 are both right there, and
    which one comes out depends on the last bit of c.
    """
    x = check_values(x)
    scale = absmax_scale(x, bits, block_size)
    blocks = split_into_blocks(x, block_size or x.numel())
    codes = torch.round(blocks * scale[:, None])
    return join_blocks(codes.to(torch.int8 if bits <= 8 else torch.int16), like=x), scale


def dequantize_absmax(codes: Tensor, scale: Tensor, block_size: int | None = None) -> Tensor:
    """X = X_int8 / c: codes (any shape), scale (n_blocks,) -> floats of the codes' shape."""
    blocks = split_into_blocks(codes, block_size or codes.numel())
    return join_blocks(blocks / scale[:, None], like=codes)


def half_bucket(scale: Tensor) -> Tensor:
    """The largest error of rounding, in the units of x: half a bucket, 0.5 / c."""
    return 0.5 / scale


# ---------------------------------------------------------------------------------------- codebooks
def equal_width_codebook(bits: int = 4) -> Tensor:
    """Equally spaced buckets, (2**bits - 1,): for 4 bits the integers -7..7 over 7.

    One code stays unused. An even count of equally spaced values can't reach -1, 0 and 1 at once.
    (1 bit has room for 0 and 1 alone.)
    """
    if check_bits(bits) == 1:
        return torch.tensor([0.0, 1.0])
    largest = largest_code(bits)
    return torch.arange(-largest, largest + 1) / largest


def equal_count_codebook(x: Tensor, bits: int = 4) -> Tensor:
    """Equally *full* buckets (quantile quantization): (2**bits,) values that fit the data in `x`.

    Sort x / absmax, cut it into 2**bits groups of equal count, and let the median stand for each
    group: these are the quantiles at (i + 0.5) / 2**bits. The value nearest to zero is then moved
    onto zero. Fewer values come back where the data repeats itself, since two buckets can't hold
    the same value.
    """
    x = check_values(x).reshape(-1)
    absmax = check_absmax(x.abs().amax())
    size = 2 ** check_bits(bits)
    rank = ((torch.arange(size, device=x.device) + 0.5) / size * x.numel()).long()
    medians = x.sort().values[rank] / absmax.clamp(min=torch.finfo(x.dtype).tiny)
    medians[medians.abs().argmin()] = 0
    # nothing but zeros
    return torch.unique(medians) if medians.any() else medians.new_tensor([0, 1])


def normal_float_codebook(bits: int = 4) -> Tensor:
    """k-bit NormalFloat, (2**bits,): equally full buckets for a normal distribution.

    QLoRA paper, section 3 and appendix E. The quantiles of N(0, 1) at evenly spaced probabilities,
    2**(bits-1) of them below zero (the last is zero itself) and one more above, stretched so that
    the largest is 1. The outermost probability is the average of what the two sides would take
    alone, 1 - (1/32 + 1/30) / 2 = 0.9677083 for 4 bits. With 16 codes and an exact zero one side
    must have one value more than the other. (Equation 4 of the paper, taken to the letter, gives
    another set: the published codebook is the one made here.)
    """
    size = 2 ** check_bits(bits)
    if size == 2:
        return torch.tensor([0.0, 1.0])
    outermost = 1 - (1 / (2 * size) + 1 / (2 * (size - 1))) / 2
    above = torch.special.ndtri(torch.linspace(0.5, outermost, size // 2 + 1, dtype=torch.float64))
    below = -torch.special.ndtri(torch.linspace(outermost, 0.5, size // 2, dtype=torch.float64))
    return (torch.cat([below[:-1], above]) / above[-1]).float()


def nf4_codebook() -> Tensor:
    """NF4, (16,): 7 values below zero, zero, 8 above, as published and as in bitsandbytes."""
    return torch.tensor(NF4_VALUES)


def fp4_codebook() -> Tensor:
    """FP4 of bitsandbytes, (15,): 1 sign, 2 exponent and 1 fraction bit.

    Two of its 16 codes mean zero. Its smallest step is 1/192 where the usual E2M1 float has 1/12.
    """
    positive = torch.tensor([0.0625, 2, 3, 4, 6, 8, 12]) / 12
    return torch.cat([-positive.flip(0), torch.zeros(1), positive])


# ----------------------------------------------------------------------- block-wise with a codebook
def nearest_code(scaled: Tensor, codebook: Tensor) -> Tensor:
    """The index of the nearest codebook value: same shape, uint8, or int32 above 256 values.

    A value belongs to a bucket if it lies between the midpoints to the bucket's two neighbours, so
    looking up its place among the midpoints is enough: no distances. Exactly on a midpoint, the
    lower neighbour wins, as in bitsandbytes.
    """
    midpoints = (codebook[1:] + codebook[:-1]) / 2
    codes = torch.bucketize(scaled, midpoints.to(scaled.device, scaled.dtype), out_int32=True)
    return codes.to(torch.uint8) if codebook.numel() <= 256 else codes


def quantize_blockwise(x: Tensor, codebook: Tensor, block_size: int = 64) -> tuple[Tensor, Tensor]:
    """(codes, absmax): each block is scaled to [-1, 1], then looked up.

    Shapes: that of x, and (n_blocks,). QLoRA paper, section 2. With `nf4_codebook()` the result
    equals `bitsandbytes.functional.quantize_4bit`, bit for bit.
    """
    x = check_values(x)
    check_codebook(codebook)
    blocks = split_into_blocks(x, check_block_size(block_size, x.numel()))
    absmax = check_absmax(blocks.abs().amax(dim=1))
    scaled = blocks * (1 / absmax.clamp(min=1e-38))[:, None]  # a block of zeros stays zero
    return join_blocks(nearest_code(scaled, codebook), like=x), absmax


def dequantize_blockwise(
    codes: Tensor,
    absmax: Tensor,
    codebook: Tensor,
    block_size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return codebook[code] * absmax of the code's block: the shape of codes, in `dtype`."""
    values = codebook.to(codes.device)[codes.int()]
    blocks = split_into_blocks(values, block_size) * absmax[:, None]
    return join_blocks(blocks, like=codes).to(dtype)


# ------------------------------------------------------------------------------ two codes to a byte
def pack_codes(codes: Tensor) -> Tensor:
    """Two 4-bit codes to a byte, the first in the high half: uint8 (n,) -> (ceil(n / 2),)."""
    flat = codes.reshape(-1)
    if flat.dtype != torch.uint8 or (flat.numel() and int(flat.max()) > 15):
        raise ValueError(
            "codes must be uint8 and at most 15 (4 bits): quantize with a codebook of up to 16 "
            "values."
        )
    pairs = split_into_blocks(flat, 2)
    return (pairs[:, 0] << 4) | pairs[:, 1]


def quantize_nf4(x: Tensor, block_size: int = 64) -> tuple[Tensor, Tensor]:
    """NF4 as it is stored: packed codes, uint8 (ceil(n / 2),), and absmax, float32 (n_blocks,)."""
    codes, absmax = quantize_blockwise(x, nf4_codebook(), block_size)
    return pack_codes(codes), absmax


def dequantize_nf4(
    packed: Tensor,
    absmax: Tensor,
    shape: tuple[int, ...],
    block_size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Undo `quantize_nf4`: packed codes and absmax to values of this shape.

    There are only 256 different bytes, so one table of 256 pairs decodes both halves at once.
    """
    values = nf4_codebook().to(packed.device)
    # (256, 2): high half, low half
    pairs = torch.stack([values.repeat_interleave(16), values.repeat(16)], dim=1)
    n = math.prod(shape)
    blocks = split_into_blocks(F.embedding(packed.int(), pairs).view(-1)[:n], block_size)
    # in place: the blocks are ours
    return blocks.mul_(absmax[:, None]).view(-1)[:n].view(shape).to(dtype)


# ----------------------------------------------------------------------------------- how good is it
def errors(x: Tensor, restored: Tensor) -> dict[str, float]:
    """Dequantization error: {"mae", "rmse", "max_abs"}, in the units of x."""
    error = (x.double() - restored.double()).abs()
    return {
        "mae": error.mean().item(),
        "rmse": error.square().mean().sqrt().item(),
        "max_abs": error.max().item(),
    }


def code_usage(codes: Tensor, size: int) -> Tensor:
    """The share of codes in each of `size` buckets: (size,), summing to 1."""
    return torch.bincount(codes.reshape(-1).long(), minlength=size) / codes.numel()


def entropy_bits(usage: Tensor) -> float:
    """Bits of information in one code: log2(size) only if all buckets are equally full."""
    return torch.special.entr(usage.double()).sum().item() / math.log(2)


class CodebookResult(NamedTuple):
    """What one codebook made of a tensor."""

    name: str
    codebook: Tensor  # (size,)
    error: Tensor  # (n,), restored - x
    rmse: float
    usage: Tensor  # (size,), share of the values in each bucket


def compare_codebooks(
    x: Tensor, bits: int = 4, block_size: int | None = None
) -> list[CodebookResult]:
    """Quantize `x` with equally spaced, equally full and NormalFloat buckets in the same blocks."""
    x = check_values(x)
    block_size = block_size or x.numel()
    scaled = (
        split_into_blocks(x, block_size) / blockwise_absmax(x, block_size).clamp(min=1e-38)[:, None]
    )
    codebooks = {
        "equal width": equal_width_codebook(bits),
        "equal count": equal_count_codebook(join_blocks(scaled, like=x), bits),
        f"NF{bits}": normal_float_codebook(bits),
    }
    return [try_codebook(name, x, codebook, block_size) for name, codebook in codebooks.items()]


def try_codebook(name: str, x: Tensor, codebook: Tensor, block_size: int) -> CodebookResult:
    """Quantize and dequantize once, and measure."""
    codes, absmax = quantize_blockwise(x, codebook, block_size)
    error = (dequantize_blockwise(codes, absmax, codebook, block_size) - x).reshape(-1)
    return CodebookResult(
        name, codebook, error, error.square().mean().sqrt().item(), code_usage(codes, len(codebook))
    )


DISTRIBUTIONS = ("normal", "uniform", "heavy tails", "two humps")


def example_values(distribution: str = "normal", n: int = 4096, seed: int = 0) -> Tensor:
    """(n,) values to quantize, of one of DISTRIBUTIONS.

    Normal as weights are, uniform, heavy-tailed (Student's t with 3 degrees of freedom), or two
    humps.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(n, generator=generator)
    if distribution == "normal":
        return normal
    if distribution == "uniform":
        return torch.rand(n, generator=generator) * 2 - 1
    if distribution == "heavy tails":
        return normal / torch.randn(3, n, generator=generator).square().mean(dim=0).sqrt()
    if distribution == "two humps":
        return 0.25 * normal + torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    raise ValueError(f"distribution must be one of {DISTRIBUTIONS}, got {distribution!r}.")
