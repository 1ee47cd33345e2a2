"""Exercises of lab 07_peft_methods: count adapters, scale with IA3, add two adapters, plan replay,
count what is lost.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, exact
from lab_utils.checking.exercises.lab_01 import normal

LAB = "07_peft_methods"


# ---------------------------------------------------------------------------- bottleneck_parameters
def bottleneck_parameters(hidden: int, size: int, n_layers: int) -> int:
    return 2 * n_layers * (2 * hidden * size + size + hidden)


BOTTLENECK_PARAMETERS = Exercise(
    name="bottleneck_parameters",
    lab=LAB,
    reference=bottleneck_parameters,
    make_inputs=lambda rng: [
        (320, 16, 4),
        (768, int(rng.integers(8, 64)), 12),
        (int(rng.integers(100, 2000)), int(rng.integers(2, 90)), int(rng.integers(2, 40))),
        (4096, 64, 32),
    ],
    same=exact,
    wrong={
        "one adapter in each layer: there are two, behind the attention and behind the MLP": lambda h, m, n: (
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
        "both layers have hidden biases here: down has size of them": lambda h, m, n: (
            2 * n * (2 * h * m + 2 * h)
        ),
        "both layers have size biases here: up has hidden of them": lambda h, m, n: (
            2 * n * (2 * h * m + 2 * m)
        ),
        "only down is counted: up leads back to hidden": lambda h, m, n: 2 * n * (h * m + m),
        "only up is counted: down leads from hidden to size": lambda h, m, n: 2 * n * (h * m + h),
        "hidden + size in place of their product: a matrix is counted by its product": lambda h, m, n: (
            2 * n * (2 * (h + m) + m + h)
        ),
        "a full hidden x hidden layer: the bottleneck is what makes it small": lambda h, m, n: (
            2 * n * (h * h + h)
        ),
        "bytes: parameters are asked": lambda h, m, n: 8 * n * (2 * h * m + m + h),
    },
    variants=(
        lambda hidden, size, n_layers: n_layers * 2 * ((hidden + 1) * size + (size + 1) * hidden),
    ),
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


def ia3_forward_merged(x: Tensor, weight: Tensor, factors: Tensor, feedforward: bool) -> Tensor:
    return x @ (weight * (factors if feedforward else factors[:, None])).T


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


IA3_FORWARD = Exercise(
    name="ia3_forward",
    lab=LAB,
    reference=ia3_forward,
    make_inputs=lambda rng: [
        (
            torch.tensor([[1.0, 2.0]]),
            torch.tensor([[1.0, 3.0], [0.0, 1.0]]),
            torch.tensor([2.0, 0.5]),
            False,
        ),
        (
            torch.tensor([[1.0, 2.0]]),
            torch.tensor([[1.0, 3.0], [0.0, 1.0]]),
            torch.tensor([2.0, 0.5]),
            True,
        ),
        ia3_inputs(rng, 5, 6, False),
        ia3_inputs(rng, 3, 7, True),
    ],
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "the output is always scaled: in the MLP, IA3 scales what goes into down_proj": lambda x, w, f, feedforward: (
            (x @ w.T) * f
        ),
        "the input is always scaled: keys and values are scaled after their layer": lambda x, w, f, feedforward: (
            (x * f) @ w.T
        ),
        "input and output are exchanged": lambda x, w, f, feedforward: ia3_forward(
            x, w, f, not feedforward
        ),
        "both are scaled: only one of them is": lambda x, w, f, feedforward: ((x * f) @ w.T) * f,
        "the factors are added: they multiply": lambda x, w, f, feedforward: (
            (x + f) @ w.T if feedforward else x @ w.T + f
        ),
        "1 + factors: they start at one, and the scaled result takes the place of the unscaled": ia3_with(
            lambda f: 1 + f
        ),
        "divided by the factors": ia3_with(lambda f: 1 / f),
        "the factors are left out": ia3_with(torch.ones_like),
        "the mean factor for all: each unit has its own": ia3_with(lambda f: f.mean().expand_as(f)),
        "weight is not transposed: torch stores it as (n_out, n_in)": lambda x, w, f, feedforward: (
            ia3_forward(x, w.T, f, feedforward)
        ),
        "the factors are squared: they are used once": ia3_with(torch.square),
    },
    variants=(ia3_forward_merged,),
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


def add_two_adapters_stacked(
    weight: Tensor, a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor, alpha: float, share: float
) -> Tensor:
    a = torch.cat([(1 - share) * a1, share * a2])
    return weight + alpha / len(a1) * torch.cat([b1, b2], dim=1) @ a


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


ADD_TWO_ADAPTERS = Exercise(
    name="add_two_adapters",
    lab=LAB,
    reference=add_two_adapters,
    make_inputs=lambda rng: [
        (
            torch.eye(2),
            torch.tensor([[1.0, 0.0]]),
            torch.tensor([[1.0], [0.0]]),
            torch.tensor([[0.0, 1.0]]),
            torch.tensor([[0.0], [2.0]]),
            4.0,
            0.25,
        ),
        two_adapters(rng, 6, 5, 3, 16.0, 0.3),
        two_adapters(rng, 5, 7, 2, 8.0, 0.75),
        two_adapters(rng, 6, 6, 4, 2.0, 0.1),
    ],
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "the A's and the B's are averaged apart: then the B of one meets the A of the other": factors_with(
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
        "half of each, whatever the share": sum_with(lambda s: 0.5, lambda s: 0.5),
        "the first adapter is added whole": sum_with(first=lambda s: 1),
        "the second adapter is missing": sum_with(second=lambda s: 0),
        "the first adapter is missing": sum_with(first=lambda s: 0),
        "scaled by alpha: LoRA scales by alpha / rank": sum_with(scale=lambda alpha, rank: alpha),
        "not scaled: LoRA scales by alpha / rank": sum_with(scale=lambda alpha, rank: 1),
        "alpha / (2 rank): stacking two adapters does not change the scale of each": sum_with(
            scale=lambda alpha, rank: alpha / (2 * rank)
        ),
        "the update alone: it is added to the weight": lambda w, *rest: add_two_adapters(
            torch.zeros_like(w), *rest
        ),
    },
    variants=(add_two_adapters_stacked,),
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


REPLAY_ROWS = Exercise(
    name="replay_rows",
    lab=LAB,
    reference=replay_rows,
    make_inputs=lambda rng: [
        (300, 0.25),
        (int(rng.integers(50, 400)) * 4, 0.2),
        (int(rng.integers(100, 900)) * 3 + 1, 0.4),  # a third over: rounding matters
        (1218, 0.1),
        (500, 0.5),
        (777, 0.0),
    ],
    same=exact,
    wrong={
        "share of the old rows: of all rows, new and old, is asked": lambda n, s: round(n * s),
        "the old rows that stay if none were added: here rows are added": lambda n, s: round(
            n * (1 - s)
        ),
        "all rows together: only the new ones are asked": lambda n, s: round(n / (1 - s)),
        "divided by 1 + share: the old rows are 1 - share of all": lambda n, s: round(
            n * s / (1 + s)
        ),
        "upside down: old rows for each new one": lambda n, s: round(n * (1 - s) / s) if s else 0,
        "half of it is missing: replay makes up share, not share / 2": lambda n, s: round(
            n * s / (1 - s) / 2
        ),
        "n_rows / share: the rows that you have are 1 - share of all": lambda n, s: (
            round(n / s) if s else 0
        ),
        "always rounded up, also where nothing is to be rounded": lambda n, s: (
            math.floor(n * s / (1 - s)) + 1 if s else 0
        ),
        "one row too few": lambda n, s: max(round(n * s / (1 - s)) - 1, 0),
        "the share squared": lambda n, s: round(n * s * s / (1 - s)),
    },
    variants=(lambda n_rows, share: round(n_rows / (1 - share) - n_rows),),
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


def lost_and_gained_loop(before: Tensor, after: Tensor) -> tuple[float, float]:
    pairs = list(zip(before.tolist(), after.tolist(), strict=True))
    return pairs.count((True, False)) / len(pairs), pairs.count((False, True)) / len(pairs)


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


LOST_AND_GAINED = Exercise(
    name="lost_and_gained",
    lab=LAB,
    reference=lost_and_gained,
    make_inputs=lambda rng: [
        (
            torch.tensor([True, True, True, True, False]),
            torch.tensor([True, False, False, True, True]),
        ),
        solved(rng, 40, 0.9, 0.6),
        solved(rng, 57, 0.7, 0.5),
        (
            torch.tensor([True, True, False]),
            torch.tensor([True, True, False]),
        ),  # nothing lost, nothing gained
    ],
    same=close(rtol=1e-6, atol=1e-9),
    wrong={
        "lost and gained are exchanged": lambda b, a: lost_and_gained(a, b),
        "the difference of the means: gains hide losses in it": lambda b, a: (
            max((b.sum() - a.sum()).item(), 0) / len(b),
            max((a.sum() - b.sum()).item(), 0) / len(b),
        ),
        "lost of those solved before: of all tasks is asked": lambda b, a: (
            (b & ~a).sum().item() / max(b.sum().item(), 1),
            (~b & a).sum().item() / len(b),
        ),
        "gained of those not solved before: of all tasks is asked": lambda b, a: (
            (b & ~a).sum().item() / len(b),
            (~b & a).sum().item() / max((~b).sum().item(), 1),
        ),
        "both of their own groups: of all tasks is asked": lambda b, a: (
            (b & ~a).sum().item() / max(b.sum().item(), 1),
            (~b & a).sum().item() / max((~b).sum().item(), 1),
        ),
        "numbers of tasks: shares are asked": lambda b, a: (
            (b & ~a).sum().item(),
            (~b & a).sum().item(),
        ),
        "all tasks that changed, twice": lambda b, a: ((b != a).sum().item() / len(b),) * 2,
        "what is solved before and after is no loss": lambda b, a: (
            (b & a).sum().item() / len(b),
            (~b & a).sum().item() / len(b),
        ),
        "what was never solved is no loss: it must have been solved before": lambda b, a: (
            (~a).sum().item() / len(b),
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
        "the loss is negative here: it is a share from 0 to 1": lambda b, a: (
            -(b & ~a).sum().item() / len(b),
            (~b & a).sum().item() / len(b),
        ),
    },
    variants=(lost_and_gained_loop,),
    hints=(
        "`before & ~after` is True where a task was solved before and no longer is.",
        "`.sum().item()` counts the True ones; divide by len(before), the number of all tasks.",
        "The gain is the other way round: ~before & after.",
    ),
)

EXERCISES = [BOTTLENECK_PARAMETERS, IA3_FORWARD, LOST_AND_GAINED, REPLAY_ROWS, ADD_TWO_ADAPTERS]
