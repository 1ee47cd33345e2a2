"""Exercises of lab 07_peft_methods: write and count adapters, scale with IA3, move and stretch with
DoRA, add two adapters, plan replay, count what is lost.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, decimal, draw_until, exact, one_of, whole
from lab_utils.checking.exercises.lab_01 import normal
from lab_utils.checking.exercises.lab_04 import adapter_corners

LAB = "07_peft_methods"


# ------------------------------------------------------------------------------- bottleneck_forward
def bottleneck_forward(
    hidden: Tensor, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor
) -> Tensor:
    return hidden + torch.relu(hidden @ down.T + down_bias) @ up.T + up_bias


def bottleneck_with(
    bend=torch.relu,
    way_round=lambda hidden, detour: hidden + detour,
    first=lambda hidden, down, bias: hidden @ down.T + bias,
    second=lambda narrow, up, bias: narrow @ up.T + bias,
):
    """A wrong bottleneck_forward: another bend, another sum, or another layer down or up."""
    return lambda hidden, down, down_bias, up, up_bias: way_round(
        hidden, second(bend(first(hidden, down, down_bias)), up, up_bias)
    )


def bottleneck_case(rng: np.random.Generator, n: int, width: int, size: int) -> tuple:
    """A batch, and the weights and biases of a bottleneck."""
    return (
        normal(rng, n, width),
        normal(rng, size, width),
        normal(rng, size),
        normal(rng, width, size),
        normal(rng, width),
    )


def some_bent(hidden: Tensor, down: Tensor, down_bias: Tensor, *up: Tensor) -> bool:
    """Whether the ReLU cuts some values off and lets others through."""
    narrow = hidden @ down.T + down_bias
    return bool((narrow < -0.1).any() and (narrow > 0.1).any())


BOTTLENECK_FORWARD = Exercise(
    name="bottleneck_forward",
    lab=LAB,
    reference=bottleneck_forward,
    cases=lambda rng: [
        (
            torch.tensor([[1.0, 2.0]]),
            torch.tensor([[1.0, 1.0], [-2.0, 0.0]]),
            torch.tensor([1.0, 0.5]),
            torch.tensor([[1.0, 3.0], [0.5, 1.0]]),
            torch.tensor([10.0, 20.0]),
        ),
        *(
            draw_until(some_bent, lambda sizes=sizes: bottleneck_case(rng, *sizes))
            for sizes in ((4, 6, 2), (3, 5, 5), (3, 2, 4), (1, 6, 3), (5, 4, 1), (4, 4, 4))
        ),
    ],
    domain=lambda rng: bottleneck_case(rng, whole(rng, 1, 6), whole(rng, 1, 8), whole(rng, 1, 6)),
    corners={
        "one row": lambda hidden, *layers: len(hidden) == 1,
        "size 1": lambda hidden, down, *rest: len(down) == 1,
        "no bottleneck": lambda hidden, down, *rest: len(down) > hidden.shape[1],
        "as wide as hidden": lambda hidden, down, *rest: down.shape[0] == down.shape[1],
        "as many rows as hidden": lambda hidden, *layers: hidden.shape[0] == hidden.shape[1],
        "cut off and let through": some_bent,
    },
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "the way round is missing: hidden is added to what the detour gives": bottleneck_with(
            way_round=lambda hidden, detour: detour
        ),
        "no ReLU: two linear layers in a row are one": bottleneck_with(bend=lambda x: x),
        "the ReLU stands at the end: it stands between down and up": lambda h, d, db, u, ub: (
            h + torch.relu((h @ d.T + db) @ u.T + ub)
        ),
        "hidden goes through the ReLU as well": bottleneck_with(
            way_round=lambda hidden, detour: torch.relu(hidden + detour)
        ),
        "the bias of down is missing": bottleneck_with(
            first=lambda hidden, down, bias: hidden @ down.T
        ),
        "the bias of up is missing": bottleneck_with(second=lambda narrow, up, bias: narrow @ up.T),
        "the bias of down comes after the ReLU: it belongs to down": lambda h, d, db, u, ub: (
            h + (torch.relu(h @ d.T) + db) @ u.T + ub
        ),
        "the detour is taken off: it is added": bottleneck_with(
            way_round=lambda hidden, detour: hidden - detour
        ),
        "another bend: GELU": bottleneck_with(bend=torch.nn.functional.gelu),
    },
    hints=(
        "torch stores a weight as (out, in): down gives hidden @ down.T + down_bias.",
        "torch.relu of that goes up: ... @ up.T + up_bias.",
        "What comes back is added to hidden itself.",
    ),
)


# ---------------------------------------------------------------------------- bottleneck_parameters
def bottleneck_parameters(hidden: int, size: int, n_layers: int) -> int:
    return 2 * n_layers * (2 * hidden * size + size + hidden)


BOTTLENECK_PARAMETERS = Exercise(
    name="bottleneck_parameters",
    lab=LAB,
    reference=bottleneck_parameters,
    cases=lambda rng: [
        (320, 16, 4),
        (768, whole(rng, 8, 63), 12),
        (whole(rng, 100, 2000), whole(rng, 2, 89), whole(rng, 2, 39)),
        (4096, 64, 32),
        (7, 1, 1),
        (3, 5, 2),
        (6, 6, 3),
    ],
    domain=lambda rng: (whole(rng, 2, 3000), whole(rng, 1, 200), whole(rng, 1, 40)),
    corners={
        "size 1": lambda hidden, size, n_layers: size == 1,
        "one layer": lambda hidden, size, n_layers: n_layers == 1,
        "no bottleneck": lambda hidden, size, n_layers: size > hidden,
        "as wide as hidden": lambda hidden, size, n_layers: size == hidden,
        "an odd number of layers": lambda hidden, size, n_layers: n_layers % 2 == 1,
    },
    same=exact,
    wrong={
        "one adapter in each layer: there are two, one behind the MLP as well": lambda h, m, n: (
            n * (2 * h * m + m + h)
        ),
        "the adapters of one layer only: multiply by n_layers": lambda h, m, n: (
            2 * (2 * h * m + m + h)
        ),
        "the biases are missing: down has size of them, up has hidden": lambda h, m, n: (
            4 * n * h * m
        ),
        "down has no bias here: it has size of them": lambda h, m, n: 2 * n * (2 * h * m + h),
        "up has no bias here: it has hidden of them": lambda h, m, n: 2 * n * (2 * h * m + m),
        "only down is counted: up leads back to hidden": lambda h, m, n: 2 * n * (h * m + m),
        "only up is counted: down leads from hidden to size": lambda h, m, n: 2 * n * (h * m + h),
        "hidden + size: a matrix has as many numbers as their product": lambda h, m, n: (
            2 * n * (2 * (h + m) + m + h)
        ),
    },
    hints=(
        "down is a linear layer from hidden to size, up one from size to hidden; both have a bias.",
        "One adapter has hidden * size + size parameters in down, and size * hidden + hidden in "
        "up.",
        "Each of the n_layers has two adapters: 2 * n_layers * (2 * hidden * size + size + "
        "hidden).",
    ),
)


# -------------------------------------------------------------------------------------- ia3_forward
def ia3_forward(x: Tensor, weight: Tensor, factors: Tensor, feedforward: bool) -> Tensor:
    return (x * factors) @ weight.T if feedforward else (x @ weight.T) * factors


def ia3_with(change):
    """A wrong ia3_forward: other factors."""
    return lambda x, w, f, feedforward: ia3_forward(x, w, change(f), feedforward)


def ia3_inputs(rng: np.random.Generator, n: int, width: int, feedforward: bool) -> tuple:
    """A batch, a square weight and factors near 1, as after some training."""
    return (
        normal(rng, n, width),
        normal(rng, width, width),
        1 + 0.5 * normal(rng, width),
        feedforward,
    )


def wide_ia3_inputs(
    rng: np.random.Generator, n: int, n_in: int, n_out: int, feedforward: bool
) -> tuple:
    """A batch, a weight (n_out, n_in) and as many factors as are scaled."""
    factors = 1 + 0.5 * normal(rng, n_in if feedforward else n_out)
    factors[0] = -0.5
    return normal(rng, n, n_in), normal(rng, n_out, n_in), factors, feedforward


IA3_FORWARD = Exercise(
    name="ia3_forward",
    lab=LAB,
    reference=ia3_forward,
    cases=lambda rng: [
        (
            torch.tensor([[1.0, 2.0]]),
            torch.tensor([[1.0, 3.0], [0.0, 1.0], [2.0, 0.0]]),
            torch.tensor([2.0, 0.5, 1.0]),
            False,
        ),
        (
            torch.tensor([[1.0, 2.0]]),
            torch.tensor([[1.0, 3.0], [0.0, 1.0], [2.0, 0.0]]),
            torch.tensor([2.0, 0.5]),
            True,
        ),
        ia3_inputs(rng, 5, 6, False),
        ia3_inputs(rng, 3, 7, True),
        wide_ia3_inputs(rng, 4, 2, 3, False),
        wide_ia3_inputs(rng, 4, 2, 3, True),
        wide_ia3_inputs(rng, 3, 3, 2, False),
        wide_ia3_inputs(rng, 2, 5, 2, True),
    ],
    domain=lambda rng: wide_ia3_inputs(
        rng, whole(rng, 1, 6), whole(rng, 1, 7), whole(rng, 1, 7), one_of(rng, False, True)
    ),
    corners={
        "more out than in": lambda x, w, f, feedforward: not feedforward and len(w) > w.shape[1],
        "fewer out than in": lambda x, w, f, feedforward: not feedforward and len(w) < w.shape[1],
        "more out, scaled before": lambda x, w, f, feedforward: feedforward and len(w) > w.shape[1],
        "fewer out, scaled before": lambda x, w, f, feedforward: (
            feedforward and len(w) < w.shape[1]
        ),
        "a square": lambda x, w, f, feedforward: not feedforward and len(w) == w.shape[1] > 2,
        "a square, scaled before": lambda x, w, f, feedforward: (
            feedforward and len(w) == w.shape[1] > 2
        ),
        "a negative factor": lambda x, w, f, feedforward: bool((f < 0).any()),
        "as many rows as n_out": lambda x, w, f, feedforward: len(x) == len(w),
    },
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "the output is always scaled: not if `feedforward`": lambda x, w, f, feedforward: (
            (x @ w.T) * f
        ),
        "the input is always scaled: only if `feedforward`": lambda x, w, f, feedforward: (
            (x * f) @ w.T
        ),
        "input and output are exchanged": lambda x, w, f, feedforward: ia3_forward(
            x, w, f, not feedforward
        ),
        "both are scaled: only one of them is": lambda x, w, f, feedforward: ((x * f) @ w.T) * f,
        "the factors are added: they multiply": lambda x, w, f, feedforward: (
            (x + f) @ w.T if feedforward else x @ w.T + f
        ),
        "1 + factors: they start at one, so that nothing changes": ia3_with(lambda f: 1 + f),
        "divided by the factors": ia3_with(lambda f: 1 / f),
        "the factors are left out": ia3_with(torch.ones_like),
        "weight is not transposed: torch stores it as (n_out, n_in)": lambda x, w, f, feedforward: (
            ia3_forward(x, w.T, f, feedforward)
        ),
    },
    hints=(
        "A linear layer computes x @ weight.T. IA3 multiplies element by element, by * and not by "
        "@.",
        "Keys and values: the output is scaled, (x @ weight.T) * factors.",
        "In the MLP the input is scaled: (x * factors) @ weight.T. Choose by `feedforward`.",
    ),
)


# --------------------------------------------------------------------------------- add_two_adapters
def add_two_adapters(
    weight: Tensor, a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor, alpha: float, share: float
) -> Tensor:
    return weight + alpha / a1.shape[0] * ((1 - share) * b1 @ a1 + share * b2 @ a2)


def sum_with(first=lambda s: 1 - s, second=lambda s: s, scale=lambda alpha, rank: alpha / rank):
    """A wrong add_two_adapters: other weights for the two, or another scale."""
    return lambda w, a1, b1, a2, b2, alpha, s: (
        w + scale(alpha, len(a1)) * (first(s) * b1 @ a1 + second(s) * b2 @ a2)
    )


def factors_with(first, second):
    """A wrong add_two_adapters: the A's and the B's are mixed apart, so that B of one meets A of
    the other.
    """
    return lambda w, a1, b1, a2, b2, alpha, s: (
        w + alpha / len(a1) * ((first(s) * b1 + second(s) * b2) @ (first(s) * a1 + second(s) * a2))
    )


def two_adapters(
    rng: np.random.Generator, n_in: int, n_out: int, rank: int, alpha: float, share: float
) -> tuple:
    """A weight (n_out, n_in) and two trained adapters of one rank."""
    pair = [
        normal(rng, rank, n_in),
        normal(rng, n_out, rank),
        normal(rng, rank, n_in),
        normal(rng, n_out, rank),
    ]
    return normal(rng, n_out, n_in), *pair, alpha, share


def random_pair(rng: np.random.Generator) -> tuple:
    sizes = whole(rng, 1, 7), whole(rng, 1, 7), whole(rng, 1, 5)
    return two_adapters(rng, *sizes, decimal(rng, 1, 32), round(rng.uniform(0, 1), 2))


ADD_TWO_ADAPTERS = Exercise(
    name="add_two_adapters",
    lab=LAB,
    reference=add_two_adapters,
    cases=lambda rng: [
        (
            torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
            torch.tensor([[1.0, 0.0, 0.0]]),
            torch.tensor([[1.0], [0.0]]),
            torch.tensor([[0.0, 1.0, 2.0]]),
            torch.tensor([[0.0], [2.0]]),
            4.0,
            0.25,
        ),
        two_adapters(rng, 6, 5, 3, 16.0, 0.3),
        two_adapters(rng, 5, 7, 2, 8.0, 0.75),
        two_adapters(rng, 6, 6, 4, 2.0, 0.1),
        two_adapters(rng, 2, 3, 4, 6.0, 0.6),
        two_adapters(rng, 3, 3, 3, 1.0, 0.0),
        two_adapters(rng, 3, 4, 2, 4.0, 1.0),
    ],
    domain=random_pair,
    corners=adapter_corners(lambda w, a1, b1, a2, b2, alpha, share: (a1, b1, alpha))
    | {
        "the first alone": lambda *arguments: arguments[-1] == 0,
        "the second alone": lambda *arguments: arguments[-1] == 1,
        "more of the second": lambda *arguments: 0.5 < arguments[-1] < 1,
    },
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "the A's and the B's are averaged apart: make each update first": factors_with(
            lambda s: 1 - s, lambda s: s
        ),
        "the roots of the weights go to the A's and the B's: that is PEFT's linear, with its "
        "cross products": factors_with(lambda s: math.sqrt(1 - s), math.sqrt),
        "A's and B's are added whole: the weights are missing, and the B of one meets the A of "
        "the other": factors_with(lambda s: 1, lambda s: 1),
        "share is the weight of the second adapter, 1 - share that of the first": sum_with(
            lambda s: s, lambda s: 1 - s
        ),
        "both adapters are added whole": sum_with(lambda s: 1, lambda s: 1),
        "scaled by alpha: LoRA scales by alpha / rank": sum_with(scale=lambda alpha, rank: alpha),
        "not scaled: LoRA scales by alpha / rank": sum_with(scale=lambda alpha, rank: 1),
        "the rank is taken from the wrong side: a1 is (rank, n_in)": (
            lambda weight, a1, b1, a2, b2, alpha, share: (
                weight + alpha / a1.shape[1] * ((1 - share) * b1 @ a1 + share * b2 @ a2)
            )
        ),
        "alpha / (2 rank): stacking two adapters does not change the scale of each": sum_with(
            scale=lambda alpha, rank: alpha / (2 * rank)
        ),
        "the update alone: it is added to the weight": lambda w, *rest: add_two_adapters(
            torch.zeros_like(w), *rest
        ),
    },
    hints=(
        "Each adapter changes the weight by alpha / rank * B @ A. Make the two updates first, "
        "then add them.",
        "The first counts 1 - share, the second share.",
        "weight + alpha / rank * ((1 - share) * b1 @ a1 + share * b2 @ a2), with rank = "
        "a1.shape[0].",
    ),
)


# -------------------------------------------------------------------------------------- replay_rows
def replay_rows(n_rows: int, share: float) -> int:
    return round(n_rows * share / (1 - share))


def far_from_half(n_rows: int, share: float) -> bool:
    """No number of rows just between two whole ones, where both are the nearest."""
    return abs(n_rows * share / (1 - share) % 1 - 0.5) > 1e-3


REPLAY_ROWS = Exercise(
    name="replay_rows",
    lab=LAB,
    reference=replay_rows,
    cases=lambda rng: [
        (300, 0.25),
        (4 * whole(rng, 50, 400), 0.2),
        (3 * whole(rng, 100, 900) + 1, 0.4),  # two thirds over: rounding matters
        (1218, 0.1),
        (500, 0.5),
        (777, 0.0),
        (10, 0.9),
        (2, 0.1),
    ],
    domain=lambda rng: draw_until(
        far_from_half,
        lambda: (whole(rng, 1, 5000), one_of(rng, *np.arange(0, 0.95, 0.05).tolist())),
    ),
    corners={
        "no replay": lambda n_rows, share: share == 0,
        "half and half": lambda n_rows, share: share == 0.5,
        "more replay than rows": lambda n_rows, share: share > 0.5,
        "rounded up": lambda n_rows, share: n_rows * share / (1 - share) % 1 > 0.6,
        "rounded down": lambda n_rows, share: 0.1 < n_rows * share / (1 - share) % 1 < 0.4,
        "rounded down to none": lambda n_rows, share: 0 < n_rows * share / (1 - share) < 0.4,
    },
    same=exact,
    wrong={
        "share of the old rows: of all rows, new and old, is asked for": lambda n, s: round(n * s),
        "the old rows that stay if none were added: here rows are added": lambda n, s: round(
            n * (1 - s)
        ),
        "all rows together: only the new ones are asked for": lambda n, s: round(n / (1 - s)),
        "divided by 1 + share: the old rows are 1 - share of all": lambda n, s: round(
            n * s / (1 + s)
        ),
        "upside down: old rows for each new one": lambda n, s: round(n * (1 - s) / s) if s else 0,
        "cut off: the nearest whole number may be the one above": lambda n, s: int(
            n * s / (1 - s) + 1e-9
        ),
        "always rounded up, also where nothing is to be rounded": lambda n, s: (
            math.floor(n * s / (1 - s)) + 1 if s else 0
        ),
    },
    hints=(
        "Of all the rows in the end, 1 - share are the n_rows that you have.",
        "So there are n_rows / (1 - share) in the end. How many of them are new?",
        "round(n_rows * share / (1 - share)).",
    ),
)


# ---------------------------------------------------------------------------------- lost_and_gained
def lost_and_gained(before: Tensor, after: Tensor) -> tuple[float, float]:
    n = len(before)
    return (before & ~after).sum().item() / n, (~before & after).sum().item() / n


def solved(
    rng: np.random.Generator, n: int, share_before: float, share_after: float
) -> tuple[Tensor, Tensor]:
    """Which of n tasks were solved before and after; each of the four cases is there, in different
    numbers.
    """
    before, after = (
        torch.from_numpy(rng.random(n) < share_before),
        torch.from_numpy(rng.random(n) < share_after),
    )
    before[:7], after[:7] = True, torch.tensor([False, False, False, False, True, True, True])
    before[7:10], after[7:10] = False, torch.tensor([True, False, False])
    return before, after


def random_tasks(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    n = whole(rng, 1, 30)
    return torch.from_numpy(rng.random(n) < rng.random()), torch.from_numpy(
        rng.random(n) < rng.random()
    )


LOST_AND_GAINED = Exercise(
    name="lost_and_gained",
    lab=LAB,
    reference=lost_and_gained,
    cases=lambda rng: [
        (
            torch.tensor([True, True, True, True, False]),
            torch.tensor([True, False, False, True, True]),
        ),
        solved(rng, 40, 0.9, 0.6),
        solved(rng, 57, 0.7, 0.5),
        # nothing lost, nothing gained
        (torch.tensor([True, True, False]), torch.tensor([True, True, False])),
        (torch.tensor([True, False, False]), torch.tensor([True, True, True])),
        (torch.tensor([True, True]), torch.tensor([False, False])),
        (torch.tensor([False]), torch.tensor([True])),
    ],
    domain=random_tasks,
    corners={
        "nothing has changed": lambda before, after: torch.equal(before, after),
        "gained and nothing lost": lambda before, after: (
            before.any() and bool((after >= before).all()) and not torch.equal(before, after)
        ),
        "all are lost": lambda before, after: bool(before.all()) and not after.any(),
        "more lost than gained": lambda before, after: before.sum() > after.sum() > 0,
        "one task": lambda before, after: len(before) == 1,
    },
    same=close(rtol=1e-5, atol=1e-6),
    wrong={
        "lost and gained are exchanged": lambda b, a: lost_and_gained(a, b),
        "the difference of the means: gains hide losses in it": lambda b, a: (
            max((b.sum() - a.sum()).item(), 0) / len(b),
            max((a.sum() - b.sum()).item(), 0) / len(b),
        ),
        "lost of those solved before: the share of all tasks is asked for": lambda b, a: (
            (b & ~a).sum().item() / max(b.sum().item(), 1),
            (~b & a).sum().item() / len(b),
        ),
        "gained of those not solved before: the share of all tasks is asked for": lambda b, a: (
            (b & ~a).sum().item() / len(b),
            (~b & a).sum().item() / max((~b).sum().item(), 1),
        ),
        "numbers of tasks: shares are asked for": lambda b, a: (
            (b & ~a).sum().item(),
            (~b & a).sum().item(),
        ),
        "what is solved before and after is no loss": lambda b, a: (
            (b & a).sum().item() / len(b),
            (~b & a).sum().item() / len(b),
        ),
        "what was solved all along is no gain: it must not have been solved before": lambda b, a: (
            (b & ~a).sum().item() / len(b),
            a.sum().item() / len(b),
        ),
        "the shares solved before and after": lambda b, a: (
            b.sum().item() / len(b),
            a.sum().item() / len(b),
        ),
    },
    hints=(
        "`before & ~after` is True where a task was solved before and no longer is.",
        "`.sum().item()` counts the True ones; divide by len(before), the number of all tasks.",
        "The gain is the other way round: ~before & after.",
    ),
)


# -------------------------------------------------------------------------------------- dora_weight
def dora_weight(
    weight: Tensor, lora_a: Tensor, lora_b: Tensor, lengths: Tensor, alpha: float
) -> Tensor:
    moved = weight + alpha / lora_a.shape[0] * (lora_b @ lora_a)
    return lengths[:, None] * moved / moved.norm(dim=1, keepdim=True)


def dora_with(
    scale=lambda alpha, r: alpha / r,
    stretch=lambda moved, lengths, weight: lengths[:, None] * moved / rows(moved),
):
    """A wrong dora_weight: another scaling of the update, or another way to the lengths."""
    return lambda w, a, b, lengths, alpha: stretch(w + scale(alpha, len(a)) * (b @ a), lengths, w)


def rows(weight: Tensor) -> Tensor:
    return weight.norm(dim=1, keepdim=True)


def dora_case(rng: np.random.Generator, n_out: int, n_in: int, rank: int, alpha: float) -> tuple:
    """A weight, a trained adapter, and lengths above 0 that are no longer the weight's."""
    lengths = torch.tensor([decimal(rng, 0.2, 5) for _ in range(n_out)], dtype=torch.float32)
    return (
        normal(rng, n_out, n_in) + 0.003,
        normal(rng, rank, n_in),
        normal(rng, n_out, rank),
        lengths,
        alpha,
    )


def far_from_zero(weight: Tensor, a: Tensor, b: Tensor, lengths: Tensor, alpha: float) -> bool:
    """No row is so short that its direction is a matter of rounding."""
    return bool(rows(weight + alpha / len(a) * (b @ a)).min() > 0.01)


DORA_WEIGHT = Exercise(
    name="dora_weight",
    lab=LAB,
    reference=dora_weight,
    cases=lambda rng: [
        (
            torch.tensor([[3.0, 0.0], [0.0, 1.0]]),
            torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
            torch.tensor([[1.0, 0.0], [0.0, 0.5]]),
            torch.tensor([10.0, 2.0]),
            8.0,
        ),
        *(
            draw_until(far_from_zero, lambda sizes=sizes: dora_case(rng, *sizes))
            for sizes in (
                (4, 6, 2, 16.0),
                (6, 3, 4, 6.0),
                (5, 5, 5, 8.0),
                (3, 4, 1, 1.0),
                (2, 5, 3, 7.0),
                (1, 4, 2, 3.0),
            )
        ),
    ],
    domain=lambda rng: draw_until(
        far_from_zero,
        lambda: dora_case(
            rng, whole(rng, 1, 7), whole(rng, 1, 7), whole(rng, 1, 6), decimal(rng, 1, 32)
        ),
    ),
    corners=adapter_corners(lambda weight, a, b, lengths, alpha: (a, b, alpha))
    | {
        "one row": lambda weight, *rest: len(weight) == 1,
        "alpha is 1": lambda *layer: layer[-1] == 1,
        "more rows than columns": lambda weight, *rest: weight.shape[0] > weight.shape[1],
    },
    same=close(rtol=1e-3, atol=1e-4),
    wrong={
        "not divided by its length: that is LoRA's weight, stretched": dora_with(
            stretch=lambda moved, lengths, weight: lengths[:, None] * moved
        ),
        "lengths are forgotten: every row has the length 1": dora_with(
            stretch=lambda moved, lengths, weight: moved / rows(moved)
        ),
        "divided by the length of the old rows: the moved rows have another": dora_with(
            stretch=lambda moved, lengths, weight: lengths[:, None] * moved / rows(weight)
        ),
        "one length for the whole weight: each row has its own": dora_with(
            stretch=lambda moved, lengths, weight: lengths[:, None] * moved / moved.norm()
        ),
        "divided by the squared length: the root is missing": dora_with(
            stretch=lambda moved, lengths, weight: lengths[:, None] * moved / rows(moved) ** 2
        ),
        "the columns' lengths: a row is one output": dora_with(
            stretch=lambda moved, lengths, weight: (
                lengths[:, None] * moved / moved.norm(dim=0, keepdim=True)
            )
        ),
        "the largest value of each row: its length is a norm": dora_with(
            stretch=lambda moved, lengths, weight: (
                lengths[:, None] * moved / moved.abs().amax(dim=1, keepdim=True)
            )
        ),
        "scaled by alpha: it is alpha / rank": dora_with(scale=lambda alpha, r: alpha),
        "not scaled: alpha / rank is missing": dora_with(scale=lambda alpha, r: 1.0),
        "the update alone is stretched: the weight belongs to it": lambda w, a, b, m, alpha: (
            w + m[:, None] * (b @ a) / rows(b @ a)
        ),
        "the update is left out": lambda w, a, b, m, alpha: m[:, None] * w / rows(w),
    },
    hints=(
        "First LoRA's weight: weight + alpha / rank * (lora_b @ lora_a).",
        "The length of each row is its norm: .norm(dim=1, keepdim=True) has the shape (n_out, 1).",
        "Divide by it, then multiply by lengths[:, None].",
    ),
)

EXERCISES = [
    BOTTLENECK_FORWARD,
    BOTTLENECK_PARAMETERS,
    IA3_FORWARD,
    DORA_WEIGHT,
    LOST_AND_GAINED,
    REPLAY_ROWS,
    ADD_TWO_ADAPTERS,
]
