"""Exercises of lab 03_gradient_checkpointing: checkpoints, their memory and work, activations on
paper, pages.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, exact, one_of, whole

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
    cases=lambda rng: [
        (torch.tensor([1.0, 0.0]), [torch.tensor([[0.0, -1.0], [0.5, 0.5]])] * 4, 2),
        (*random_chain(rng, 7), 3),  # the last segment is one layer
        (*random_chain(rng, 8), 3),  # the last segment is short
        (*random_chain(rng, 8), 2),
        (*random_chain(rng, whole(rng, 9, 11)), 4),
        (*random_chain(rng, 3), 1),
        (*random_chain(rng, 3), 3),
        (*random_chain(rng, 2), 5),
        (*random_chain(rng, 1), 1),
    ],
    domain=lambda rng: (*random_chain(rng, whole(rng, 1, 12), whole(rng, 1, 4)), whole(rng, 1, 6)),
    corners={
        "a short last segment": lambda x, weights, k: len(weights) % k > 1,
        "one layer in the last segment": lambda x, weights, k: k > 1 and len(weights) % k == 1,
        "whole segments": lambda x, weights, k: k > 1 and len(weights) in (2 * k, 3 * k, 4 * k),
        "segments of one layer": lambda x, weights, k: k == 1 < len(weights),
        "one segment": lambda x, weights, k: k == len(weights) > 1,
        "a segment with room left": lambda x, weights, k: k > len(weights),
        "one layer": lambda x, weights, k: len(weights) == 1,
    },
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
    hints=(
        "Walk through the weights with enumerate: before layer i runs, x is its input.",
        "Keep x where i is 0, k, 2k, ...: `if i % k == 0`. Then x = torch.tanh(weight @ x).",
        "x_n is the output, not the input of a segment: it is not in the list.",
    ),
)


# ------------------------------------------------------------------------------------- segment_peak
def segment_peak(lengths: list[int]) -> int:
    return max(number + length for number, length in enumerate(lengths, 1))


def random_lengths(rng: np.random.Generator, n: int) -> list[int]:
    return [int(length) for length in rng.integers(1, 9, size=n)]


SEGMENT_PEAK = Exercise(
    name="segment_peak",
    lab=LAB,
    reference=segment_peak,
    cases=lambda rng: [
        ([4, 4, 4, 4],),
        ([9, 2, 3],),  # the longest segment comes when the other checkpoints are gone
        ([3, 3, 3, 7],),
        ([2, 8, 1],),
        ([2, 7, 7, 1, 1],),
        (random_lengths(rng, 5),),
        (random_lengths(rng, 9),),
        ([6],),
        ([1, 1],),
    ],
    domain=lambda rng: (random_lengths(rng, whole(rng, 1, 10)),),
    corners={
        "equal segments": lambda lengths: len(set(lengths)) == 1 < len(lengths),
        "the first segment needs most": lambda lengths: (
            lengths[0] + 1 == segment_peak(lengths) > len(lengths) + lengths[-1]
        ),
        "the last segment needs most": lambda lengths: (
            1 + lengths[0] < lengths[-1] + len(lengths) == segment_peak(lengths)
        ),
        "one in the middle needs most": lambda lengths: (
            lengths[0] + 1 < segment_peak(lengths) > len(lengths) + lengths[-1]
        ),
        "the last longest of two needs most": lambda lengths: (
            lengths.count(max(lengths)) == 2
            and segment_peak(lengths) > lengths.index(max(lengths)) + 1 + max(lengths)
        ),
        "one segment": lambda lengths: len(lengths) == 1,
    },
    same=exact,
    wrong={
        "only the checkpoints are counted": len,
        "only the longest segment is counted: the checkpoints are kept as well": max,
        "no checkpointing: all activations are kept": lambda s: sum(s) + 1,
        "the sum of all segments: they are recomputed one at a time": sum,
        "all checkpoints beside the longest segment: later ones are gone by then": lambda s: (
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
    },
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
    cases=lambda rng: [
        (16, 4),
        (10, 4),
        (9, 1),
        (7, 7),
        (5 * whole(rng, 20, 40) + 2, 5),
        (7 * whole(rng, 10, 20), 7),
        (5 * whole(rng, 3, 9) + 1, 5),
        (3, 8),
    ],
    domain=lambda rng: (whole(rng, 1, 300), whole(rng, 1, 40)),
    corners={
        "a short last segment": lambda n, k: n % k > 1,
        "one layer in the last segment": lambda n, k: k > 1 and n % k == 1,
        "whole segments": lambda n, k: n % k == 0 and 1 < k < n,
        "one segment": lambda n, k: n == k,
        "segments of one layer": lambda n, k: k == 1,
        "a segment with room left": lambda n, k: n < k,
    },
    same=exact,
    wrong={
        "the last segment is counted: it was never thrown away": lambda n, k: n,
        "backward steps are counted as well: only forward steps are asked for": lambda n, k: (
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
        "always from the input: checkpoints are there to avoid that": lambda n, k: n * (n - 1) // 2,
        "the length of the last segment: that one is not recomputed": lambda n, k: last_length(
            n, k
        ),
        "k is taken as the number of segments": lambda n, k: n - n // k if k > 1 else 0,
    },
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
    cases=lambda rng: [
        (512, 1, 4096, 32, 32),
        (2048, 1, 4096, 32, 24),
        (100 * whole(rng, 5, 19), whole(rng, 2, 8), 5120, 40, 48),
        (1000 * whole(rng, 2, 5), 3, 1024, 16, whole(rng, 17, 30)),
        (64, 1, 64, 2, 1),
    ],
    domain=lambda rng: (
        whole(rng, 16, 8192),
        whole(rng, 1, 16),
        64 * (heads := whole(rng, 1, 64)),
        heads,
        whole(rng, 1, 80),
    ),
    corners={
        "fewer layers than heads": lambda s, b, h, heads, layers: layers < heads,
        "more layers than heads": lambda s, b, h, heads, layers: layers > heads,
        "one sequence": lambda s, b, h, heads, layers: b == 1,
        "several sequences": lambda s, b, h, heads, layers: b > 1,
        "one layer": lambda s, b, h, heads, layers: layers == 1,
        "less than one GB": lambda *sizes: activation_gigabytes(*sizes) < 1,
    },
    same=close(rtol=1e-5, atol=0),
    wrong={
        "one layer only": lambda s, b, h, a, n: activation_gigabytes(s, b, h, a, 1),
        "only the linear part: the attention scores are missing": lambda s, b, h, a, n: (
            n * linear_part(s, b, h) / 1e9
        ),
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
        "GiB (2**30 bytes): GB is 10**9": lambda s, b, h, a, n: (
            activation_gigabytes(s, b, h, a, n) * 1e9 / 2**30
        ),
        "with full recomputation, 2 s b h: here nothing is recomputed": lambda s, b, h, a, n: (
            n * 2 * s * b * h / 1e9
        ),
        "the hidden size in the attention part: s*s scores for each head": lambda s, b, h, a, n: (
            n * (linear_part(s, b, h) + 5 * a * s * s * b * h) / 1e9
        ),
    },
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
    cases=lambda rng: [
        ([0, 1, 2, 0, 1, 2], 3),
        ([0, 1, 2, 0, 1, 2], 2),  # one page too few
        ([0, 1, 0, 2, 0, 3, 0, 1], 2),  # a page that is used again and again stays
        (rng.integers(0, 6, size=40).tolist(), 3),
        (rng.integers(0, 9, size=60).tolist(), 5),
        ([4, 4, 5, 4, 5, 5, 4], 1),
        ([3, 7, 3], 9),
        ([8], 1),
    ],
    domain=lambda rng: (
        rng.integers(0, whole(rng, 1, 9), size=whole(rng, 1, 40)).tolist(),
        whole(rng, 1, 8),
    ),
    corners={
        "room for all pages": lambda touched, room: len(set(touched)) == room > 1,
        "more room than pages": lambda touched, room: len(set(touched)) < room,
        "one page too few": lambda touched, room: len(set(touched)) == room + 1 > 2,
        "room for one page": lambda touched, room: room == 1 < len(touched),
        "a page twice in a row": lambda touched, room: any(
            a == b for a, b in zip(touched, touched[1:])
        ),
        "one touch": lambda touched, room: len(touched) == 1,
        "the first page is not 0": lambda touched, room: touched[0] != 0,
    },
    same=exact,
    wrong={
        "every touch is counted: a page that is there need not move": lambda t, r: len(t),
        "every page is counted once: pages that had to leave come again": lambda t, r: len(set(t)),
        "the touches without a transfer are counted": lambda t, r: len(t) - page_transfers(t, r),
        "first in, first out: a page that was just used must not leave": transfers_with(
            0, refresh=False
        ),
        "the most recently used page leaves: the least recently used should": transfers_with(-1),
        "the pages that left are counted: those that came are asked for": evictions,
        "both directions are counted: only transfers to the GPU are asked for": lambda t, r: (
            page_transfers(t, r) + evictions(t, r)
        ),
        "one page too many on the GPU: make room before the page comes": transfers_with(
            0, lambda room: room + 1
        ),
        "one page too few on the GPU: it has room for `room` pages": transfers_with(
            0, lambda room: room - 1
        ),
    },
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
    cases=lambda rng: [
        (4096,),
        (11008,),
        (1000,),  # divides 100,000: 100 is enough
        (800,),
        (one_of(rng, 271, 2439, 11111),),  # divides 99,999: one element is missing
        (one_of(rng, 320, 896, 2048, 3584, 5120),),
        (2 * whole(rng, 500, 4500) + 1,),
        (one_of(rng, 100_000, 131_072),),
    ],
    domain=lambda rng: (whole(rng, 64, 200_000),),
    corners={
        "100,000 elements exactly": lambda width: 100_000 % width == 0 < width < 100_000,
        "one element is missing": lambda width: 99_999 % width == 0,
        "rank 1": lambda width: width >= 100_000,
        "nearest would be up": lambda width: 100_000 / width % 1 > 0.5,
        "nearest would be down": lambda width: 0 < 100_000 / width % 1 < 0.5,
    },
    same=exact,
    wrong={
        "rounded down: that rank is still below 100,000 elements": lambda w: 100_000 // w,
        "rounded down plus 1: 100,000 elements exactly are enough": lambda w: 100_000 // w + 1,
        "not rounded: a rank is a whole number": lambda w: 100_000 / w,
        "rounded to the nearest": lambda w: round(100_000 / w),
        "100,000 bytes of float32: the rule counts elements": lambda w: math.ceil(25_000 / w),
        "half of it: A and B count each for itself, and elements count, not bytes": lambda w: (
            math.ceil(50_000 / w)
        ),
        "the largest rank that is not paged: one more is asked for": lambda w: 99_999 // w,
        "the elements at that rank: the rank is asked for": lambda w: math.ceil(100_000 / w) * w,
    },
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
