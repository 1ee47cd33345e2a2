"""Exercises of lab 03_gradient_checkpointing: checkpoints, their memory and work, activations on
paper, pages.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close

LAB = "03_gradient_checkpointing"


# --------------------------------------------------------------------------------- keep_checkpoints
def keep_checkpoints(x: Tensor, weights: list[Tensor], k: int) -> list[Tensor]:
    kept = []
    for i, weight in enumerate(weights):
        if i % k == 0:
            kept.append(x)
        x = torch.tanh(weight @ x)
    return kept


def all_activations(
    x: Tensor, weights: list[Tensor], layer=lambda w, x: torch.tanh(w @ x)
) -> list[Tensor]:
    """[x_0, ..., x_n]."""
    activations = [x]
    for weight in weights:
        activations.append(layer(weight, activations[-1]))
    return activations


def chosen(*, layer=lambda w, x: torch.tanh(w @ x), which=lambda n, k: range(0, n, k), order=1):
    """A wrong keep_checkpoints: another layer, other places, or the layers in another order."""

    def answer(x: Tensor, weights: list[Tensor], k: int) -> list[Tensor]:
        activations = all_activations(x, weights[::order], layer)
        return [activations[i] for i in which(len(weights), k)]

    return answer


def always_from_the_input(x: Tensor, weights: list[Tensor], k: int) -> list[Tensor]:
    starts = range(0, len(weights), k)
    return [x] + [all_activations(x, weights[start - k : start])[-1] for start in starts[1:]]


def random_chain(rng: np.random.Generator, n: int, size: int = 3) -> tuple[Tensor, list[Tensor]]:
    def normal(*shape):
        return torch.tensor(np.round(rng.normal(size=shape), 2), dtype=torch.float32)

    return normal(size), [normal(size, size) for _ in range(n)]


KEEP_CHECKPOINTS = Exercise(
    name="keep_checkpoints",
    lab=LAB,
    reference=keep_checkpoints,
    make_inputs=lambda rng: [
        (torch.tensor([1.0, 0.0]), [torch.tensor([[0.0, -1.0], [0.5, 0.5]])] * 4, 2),
        (*random_chain(rng, 7), 3),  # the last segment is short
        (*random_chain(rng, 8), 2),
        (*random_chain(rng, int(rng.integers(9, 12))), 4),
        (*random_chain(rng, 3), 1),
    ],
    same=close(rtol=1e-4, atol=1e-5),
    wrong={
        "x_n is kept as well: no segment begins there": chosen(
            which=lambda n, k: [*range(0, n, k), n]
        ),
        "every activation is kept: only the inputs of segments are needed": chosen(
            which=lambda n, k: range(n)
        ),
        "x_0 is missing: the first segment needs its input too": chosen(
            which=lambda n, k: range(k, n, k)
        ),
        "the outputs of whole segments, x_k, x_2k, ...: the inputs are needed": chosen(
            which=lambda n, k: range(k, n + 1, k)
        ),
        "k is taken as the number of segments: it is their length": chosen(
            which=lambda n, k: range(0, n, math.ceil(n / k))
        ),
        "one layer too late: x_1, x_{k+1}, ...": chosen(which=lambda n, k: range(1, n + 1, k)),
        "the last activation of each segment but x_0": chosen(
            which=lambda n, k: [0, *range(2 * k - 1, n + 1, k)]
        ),
        "the last, shorter segment is dropped": chosen(which=lambda n, k: range(0, n // k * k, k)),
        "tanh is forgotten": chosen(layer=lambda w, x: w @ x),
        "tanh comes before the weight": chosen(layer=lambda w, x: w @ torch.tanh(x)),
        "the weight is transposed: weight @ x, not x @ weight": chosen(
            layer=lambda w, x: torch.tanh(x @ w)
        ),
        "the layers run from the last to the first": chosen(order=-1),
        "every segment starts at x_0 again: go on from where you are": always_from_the_input,
        "in reversed order: x_0 comes first": lambda x, w, k: keep_checkpoints(x, w, k)[::-1],
    },
    variants=(lambda x, weights, k: all_activations(x, weights)[: len(weights) : k],),
    hints=(
        "Walk through the weights with enumerate: before layer i runs, x is its input.",
        "Keep x where i is 0, k, 2k, ...: `if i % k == 0`. Then x = torch.tanh(weight @ x).",
        "x_n is the output, not the input of a segment: it is not in the list.",
    ),
)


# ------------------------------------------------------------------------------------- segment_peak
def segment_peak(lengths: list[int]) -> int:
    return max(number + length for number, length in enumerate(lengths, 1))


def segment_peak_backwards(lengths: list[int]) -> int:
    checkpoints, peak = len(lengths), 0
    for length in reversed(lengths):
        peak = max(peak, checkpoints + length)
        checkpoints -= 1
    return peak


def random_lengths(rng: np.random.Generator, n: int) -> list[int]:
    return [int(length) for length in rng.integers(1, 9, size=n)]


SEGMENT_PEAK = Exercise(
    name="segment_peak",
    lab=LAB,
    reference=segment_peak,
    make_inputs=lambda rng: [
        ([4, 4, 4, 4],),
        ([9, 2, 3],),  # the longest segment comes when the other checkpoints are gone
        ([3, 3, 3, 7],),
        (random_lengths(rng, 5),),
        (random_lengths(rng, 9),),
        ([6],),
    ],
    same=close(rtol=0, atol=1e-6),
    wrong={
        "only the checkpoints are counted": len,
        "only the longest segment is counted: the checkpoints are kept as well": max,
        "no checkpointing: all activations are kept": lambda s: sum(s) + 1,
        "the sum of all segments: they are recomputed one at a time": sum,
        "all checkpoints beside the longest segment: those of later segments are gone by then": lambda s: (
            len(s) + max(s)
        ),
        "all checkpoints beside the last segment: another one may need more": lambda s: (
            len(s) + s[-1]
        ),
        "all checkpoints beside the first segment: by then one is left": lambda s: len(s) + s[0],
        "the segment's own checkpoint is not counted": lambda s: segment_peak(s) - 1,
        "one too many: a segment's input is its checkpoint, don't count it again": lambda s: (
            segment_peak(s) + 1
        ),
        "checkpoints in reversed order: the first segment has 1 beside it": lambda s: segment_peak(
            s[::-1]
        ),
        "multiplied: keep them beside each other": lambda s: len(s) * max(s),
        "the segments are taken as equally long": lambda s: len(s) + sum(s) / len(s),
        "twice the square root of n: only for equal segments of that length": lambda s: (
            2 * math.sqrt(sum(s))
        ),
        "the smallest need: the largest is asked": lambda s: min(
            i + length for i, length in enumerate(s, 1)
        ),
    },
    variants=(segment_peak_backwards,),
    hints=(
        "While segment j (counted from 1) is live, the checkpoints of the segments 1..j are kept.",
        "Beside them, a live segment of length m holds m activations: its m - 1 inner ones and "
        "its output.",
        "So segment j needs j + m, and the peak is the largest of these: max(... for ... in "
        "enumerate(lengths, 1)).",
    ),
)


# -------------------------------------------------------------------------------- recomputed_layers
def recomputed_layers(n: int, k: int) -> int:
    return (math.ceil(n / k) - 1) * k


def last_length(n: int, k: int) -> int:
    return n - (math.ceil(n / k) - 1) * k


RECOMPUTED_LAYERS = Exercise(
    name="recomputed_layers",
    lab=LAB,
    reference=recomputed_layers,
    make_inputs=lambda rng: [
        (16, 4),
        (10, 4),
        (9, 1),
        (7, 7),
        (int(rng.integers(20, 40)) * 5 + 2, 5),
        (int(rng.integers(10, 20)) * 7, 7),
    ],
    same=close(rtol=0, atol=1e-6),
    wrong={
        "the last segment is counted: it was never thrown away": lambda n, k: n,
        "the recomputation is counted twice": lambda n, k: 2 * recomputed_layers(n, k),
        "all forward steps are counted: only those beyond the first n are asked": lambda n, k: (
            n + recomputed_layers(n, k)
        ),
        "a backward step is counted as two forward steps: only forward steps are asked": lambda n, k: (
            recomputed_layers(n, k) + 2 * n
        ),
        "n - k: the last segment may be shorter than k": lambda n, k: n - k,
        "the number of segments is rounded down": lambda n, k: (n // k - 1) * k,
        "only whole segments are counted, the last one too": lambda n, k: n // k * k,
        "layers that end in a checkpoint are left out: their inside is gone as well": lambda n, k: (
            recomputed_layers(n, k) - (math.ceil(n / k) - 1)
        ),
        "one step for each segment: every layer of it runs again": lambda n, k: (
            math.ceil(n / k) - 1
        ),
        "the number of segments": lambda n, k: math.ceil(n / k),
        "each segment is rounded up to k layers": lambda n, k: math.ceil(n / k) * k,
        "always from the input: checkpoints are there to avoid that": lambda n, k: n * (n - 1) // 2,
        "the length of the last segment: that one is not recomputed": lambda n, k: last_length(
            n, k
        ),
        "k is taken as the number of segments": lambda n, k: n - n // k if k > 1 else 0,
    },
    variants=(lambda n, k: sum(1 for layer in range(n) if layer // k != (n - 1) // k),),
    hints=(
        "All segments but the last are thrown away and run again, every layer of them once.",
        "There are math.ceil(n / k) segments; all but the last have exactly k layers.",
    ),
)


# ----------------------------------------------------------------------------- activation_gigabytes
def activation_gigabytes(sequence: int, batch: int, hidden: int, heads: int, layers: int) -> float:
    per_layer = 34 * sequence * batch * hidden + 5 * heads * sequence**2 * batch
    return layers * per_layer / 1e9


def linear_part(s: int, b: int, h: int) -> int:
    return 34 * s * b * h


ACTIVATION_GIGABYTES = Exercise(
    name="activation_gigabytes",
    lab=LAB,
    reference=activation_gigabytes,
    make_inputs=lambda rng: [
        (512, 1, 4096, 32, 32),
        (2048, 1, 4096, 32, 32),
        (int(rng.integers(5, 20)) * 100, int(rng.integers(2, 9)), 5120, 40, 40),
        (int(rng.integers(2, 6)) * 1000, 3, 1024, 16, int(rng.integers(12, 30))),
    ],
    same=close(rtol=1e-5, atol=0),
    wrong={
        "one layer only": lambda s, b, h, a, n: activation_gigabytes(s, b, h, a, 1),
        "only the linear part: the attention scores are missing": lambda s, b, h, a, n: (
            n * linear_part(s, b, h) / 1e9
        ),
        "only the attention scores": lambda s, b, h, a, n: n * 5 * a * s * s * b / 1e9,
        "the batch is forgotten": lambda s, b, h, a, n: activation_gigabytes(s, 1, h, a, n),
        "the batch is missing in the attention part": lambda s, b, h, a, n: (
            n * (linear_part(s, b, h) + 5 * a * s * s) / 1e9
        ),
        "the sequence is not squared": lambda s, b, h, a, n: (
            n * (linear_part(s, b, h) + 5 * a * s * b) / 1e9
        ),
        "the batch is squared together with the sequence": lambda s, b, h, a, n: (
            n * (linear_part(s, b, h) + 5 * a * (s * b) ** 2) / 1e9
        ),
        "the heads are forgotten": lambda s, b, h, a, n: activation_gigabytes(s, b, h, 1, n),
        "times 2 bytes: the formula counts bytes already, not elements": lambda s, b, h, a, n: (
            2 * activation_gigabytes(s, b, h, a, n)
        ),
        "divided by 2, as if the formula counted bits of 16-bit numbers": lambda s, b, h, a, n: (
            activation_gigabytes(s, b, h, a, n) / 2
        ),
        "GiB (2**30 bytes): GB is 10**9": lambda s, b, h, a, n: (
            activation_gigabytes(s, b, h, a, n) * 1e9 / 2**30
        ),
        "megabytes: GB is 10**9 bytes": lambda s, b, h, a, n: (
            activation_gigabytes(s, b, h, a, n) * 1e3
        ),
        "with full recomputation, 2 s b h: here nothing is recomputed": lambda s, b, h, a, n: (
            n * 2 * s * b * h / 1e9
        ),
        "the hidden size of one head": lambda s, b, h, a, n: activation_gigabytes(
            s, b, h // a, a, n
        ),
        "the hidden size in the attention part: s*s scores for each head": lambda s, b, h, a, n: (
            n * (linear_part(s, b, h) + 5 * a * s * s * b * h) / 1e9
        ),
    },
    variants=(
        lambda sequence, batch, hidden, heads, layers: (
            sequence * batch * hidden * layers * (34 + 5 * heads * sequence / hidden) / 1e9
        ),
    ),
    hints=(
        "One layer: 34 s b h + 5 a s**2 b bytes, with s = sequence, b = batch, h = hidden, a = "
        "heads.",
        "Times the layers, divided by 1e9. The 34 and the 5 count bytes, not elements.",
    ),
)


# ----------------------------------------------------------------------------------- page_transfers
def page_transfers(touched: list[int], room: int) -> int:
    on_gpu, transfers = [], 0
    for page in touched:
        if page in on_gpu:
            on_gpu.remove(page)
        else:
            transfers += 1
            if len(on_gpu) == room:
                on_gpu.pop(0)
        on_gpu.append(page)
    return transfers


def page_transfers_by_time(touched: list[int], room: int) -> int:
    last_use, transfers = {}, 0
    for time, page in enumerate(touched):
        if page not in last_use:
            transfers += 1
            if len(last_use) == room:
                del last_use[min(last_use, key=last_use.get)]
        last_use[page] = time
    return transfers


def transfers_with(leaving, room_of=lambda room: room, refresh: bool = True):
    """A wrong page_transfers: another page leaves, another room, or a use that is not noticed."""

    def answer(touched: list[int], room: int) -> int:
        on_gpu, transfers = [], 0
        for page in touched:
            if page in on_gpu and not refresh:
                continue
            if page in on_gpu:
                on_gpu.remove(page)
            else:
                transfers += 1
                if len(on_gpu) >= max(room_of(room), 1):
                    on_gpu.pop(leaving)
            on_gpu.append(page)
        return transfers

    return answer


def evictions(touched: list[int], room: int) -> int:
    return page_transfers(touched, room) - min(len(set(touched)), room)


PAGE_TRANSFERS = Exercise(
    name="page_transfers",
    lab=LAB,
    reference=page_transfers,
    make_inputs=lambda rng: [
        ([0, 1, 2, 0, 1, 2], 3),
        ([0, 1, 2, 0, 1, 2], 2),  # one page too few
        ([0, 1, 0, 2, 0, 3, 0, 1], 2),  # a page that is used again and again stays
        ([int(page) for page in rng.integers(0, 6, size=40)], 3),
        ([int(page) for page in rng.integers(0, 9, size=60)], 5),
    ],
    same=close(rtol=0, atol=1e-6),
    wrong={
        "every touch is counted: a page that is there need not move": lambda t, r: len(t),
        "every page is counted once: pages that had to leave come again": lambda t, r: len(set(t)),
        "the touches without a transfer are counted": lambda t, r: len(t) - page_transfers(t, r),
        "first in, first out: a page that was just used must not leave": transfers_with(
            0, refresh=False
        ),
        "the most recently used page leaves: the least recently used should": transfers_with(-1),
        "the pages that left are counted: those that came are asked": evictions,
        "both directions are counted: only transfers to the GPU are asked": lambda t, r: (
            page_transfers(t, r) + evictions(t, r)
        ),
        "one page too many on the GPU: make room before the page comes": transfers_with(
            0, lambda room: room + 1
        ),
        "one page too few on the GPU: it has room for `room` pages": transfers_with(
            0, lambda room: room - 1
        ),
        "room for one page only": transfers_with(0, lambda room: 1),
        "the pages that fit": lambda t, r: r,
    },
    variants=(page_transfers_by_time,),
    hints=(
        "Keep a list of the pages on the GPU, the least recently used first. It is empty in the "
        "beginning.",
        "A page that is there moves to the end of the list: it is now the most recently used.",
        "A page that is not there counts as a transfer; if the list is full, pop(0) first.",
    ),
)


# ------------------------------------------------------------------------------ smallest_paged_rank
def smallest_paged_rank(width: int) -> int:
    return math.ceil(100_000 / width)


SMALLEST_PAGED_RANK = Exercise(
    name="smallest_paged_rank",
    lab=LAB,
    reference=smallest_paged_rank,
    make_inputs=lambda rng: [
        (4096,),
        (11008,),
        (1000,),  # divides 100,000: 100 is enough
        (int(rng.choice([320, 896, 2048, 3584, 5120])),),
        (int(rng.integers(1000, 9000)) * 2 + 1,),
    ],
    same=close(rtol=0, atol=1e-6),
    wrong={
        "rounded down: that rank is still below 100,000 elements": lambda w: 100_000 // w,
        "rounded down plus 1: 100,000 elements exactly are enough": lambda w: 100_000 // w + 1,
        "not rounded: a rank is a whole number": lambda w: 100_000 / w,
        "rounded to the nearest": lambda w: round(100_000 / w),
        "100,000 bytes of float32: the rule counts elements": lambda w: math.ceil(25_000 / w),
        "half of it: A and B count each for itself, and elements count, not bytes": lambda w: (
            math.ceil(50_000 / w)
        ),
        "a million elements: it is 1e5": lambda w: math.ceil(1_000_000 / w),
        "10,000 elements: it is 1e5": lambda w: math.ceil(10_000 / w),
        "2**17 elements: it is 1e5": lambda w: math.ceil(2**17 / w),
        "the largest rank that is not paged: one more is asked": lambda w: 99_999 // w,
        "the elements at that rank: the rank is asked": lambda w: math.ceil(100_000 / w) * w,
    },
    variants=(lambda width: next(rank for rank in range(1, 100_001) if rank * width >= 100_000),),
    hints=(
        "A has rank * width elements, and so has B if the layer is square.",
        "Look for the smallest whole rank with rank * width >= 100_000: divide and round up.",
    ),
)

EXERCISES = (
    KEEP_CHECKPOINTS,
    SEGMENT_PEAK,
    RECOMPUTED_LAYERS,
    ACTIVATION_GIGABYTES,
    PAGE_TRANSFERS,
    SMALLEST_PAGED_RANK,
)
