"""Exercises of lab 04_lora_rank_sweeps: best low-rank approximation, break-even rank, and LoRA's
layer step by step.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, decimal, exact, one_of, whole

LAB = "04_lora_rank_sweeps"


def normal(rng: np.random.Generator, *shape: int) -> Tensor:
    """Normal values with two decimals, float32."""
    return torch.tensor(np.round(rng.normal(size=shape), 2), dtype=torch.float32)


# ----------------------------------------------------------------------------------- low_rank_error
def low_rank_error(w: Tensor, rank: int) -> float:
    s = torch.linalg.svdvals(w)
    return (s[rank:].square().sum() / s.square().sum()).sqrt().item()


def error_from(formula):
    """A wrong low_rank_error: another formula of the singular values s and the rank r."""
    return lambda w, rank: float(formula(torch.linalg.svdvals(w), rank))


def random_weight(rng: np.random.Generator) -> tuple[Tensor, int]:
    """A weight and a rank from 1 to its smaller side."""
    weight = normal(rng, whole(rng, 2, 9), whole(rng, 2, 9)) * one_of(rng, 0.1, 1, 30)
    return weight, whole(rng, 1, min(weight.shape))


LOW_RANK_ERROR = Exercise(
    name="low_rank_error",
    lab=LAB,
    reference=low_rank_error,
    cases=lambda rng: [
        (torch.tensor([[3.0, 0.0], [0.0, 4.0]]), 1),
        (normal(rng, 6, 4), 2),
        (normal(rng, 5, 9), 3),
        (normal(rng, 8, 8) * torch.logspace(0, -2, 8), whole(rng, 1, 3)),
        (normal(rng, 3, 7), 3),
        (normal(rng, 5, 4), 3),
    ],
    domain=random_weight,
    corners={
        "a wide weight": lambda w, rank: w.shape[0] < w.shape[1],
        "a tall weight": lambda w, rank: w.shape[0] > w.shape[1],
        "a square weight": lambda w, rank: w.shape[0] == w.shape[1],
        "the full rank": lambda w, rank: rank == min(w.shape),
        "one less than the full rank": lambda w, rank: rank == min(w.shape) - 1,
    },
    same=close(rtol=1e-4, atol=1e-5),
    wrong={
        "the share that is kept: the share that is lost is asked for": error_from(
            lambda s, r: (s[:r].square().sum() / s.square().sum()).sqrt()
        ),
        "1 minus the kept share of the norm: squares add up, norms do not": error_from(
            lambda s, r: 1 - (s[:r].square().sum() / s.square().sum()).sqrt()
        ),
        "divided by what is kept: divide by the norm of w": error_from(
            lambda s, r: (s[r:].square().sum() / s[:r].square().sum()).sqrt()
        ),
        "the root is missing: the error is a norm, not its square": error_from(
            lambda s, r: s[r:].square().sum() / s.square().sum()
        ),
        "the singular values are not squared": error_from(lambda s, r: s[r:].sum() / s.sum()),
        "only the next singular value: that is the error in the spectral norm": error_from(
            lambda s, r: s[r] / s[0]
        ),
        "not relative: divide by the norm of w": error_from(
            lambda s, r: s[r:].square().sum().sqrt()
        ),
        "one singular value too many is lost: s[rank:] begins after the first `rank`": error_from(
            lambda s, r: (s[r - 1 :].square().sum() / s.square().sum()).sqrt()
        ),
        "one singular value too many is kept": error_from(
            lambda s, r: (s[r + 1 :].square().sum() / s.square().sum()).sqrt()
        ),
        "the smallest singular values are kept: they come largest first": error_from(
            lambda s, r: (s[: len(s) - r].square().sum() / s.square().sum()).sqrt()
        ),
    },
    hints=(
        "torch.linalg.svdvals(w) gives the singular values, the largest first. Their squares add "
        "up to the squared norm of w.",
        "The best approximation of this rank keeps the first `rank` of them; what is left are "
        "s[rank:].",
        "The error is a norm: the root of the sum of squares that are left over the sum of all "
        "squares.",
    ),
)


# ------------------------------------------------------------------------------ largest_useful_rank
def largest_useful_rank(n_out: int, n_in: int) -> int:
    return (n_out * n_in - 1) // (n_out + n_in)


LARGEST_USEFUL_RANK = Exercise(
    name="largest_useful_rank",
    lab=LAB,
    reference=largest_useful_rank,
    cases=lambda rng: [
        (512, 64),
        (4096, 4096),  # at exactly half the adapter is as large as the weight
        (whole(rng, 200, 899), whole(rng, 1000, 3999)),
        (whole(rng, 1000, 3999), whole(rng, 200, 899)),
        (11008, 4096),
        (6 * (side := whole(rng, 5, 90)), 3 * side),  # at 2 * side it is as large as the weight
        (3, 3),
        # one parameter fewer than the weight: that saves something
        ((rank := whole(rng, 2, 60)) + 1, rank**2 + rank + 1),
    ],
    domain=lambda rng: (whole(rng, 3, 12_000), whole(rng, 3, 12_000)),
    corners={
        "as large as the weight": lambda n_out, n_in: n_out * n_in % (n_out + n_in) == 0,
        "the same, not square": lambda n_out, n_in: (
            n_out != n_in and n_out * n_in % (n_out + n_in) == 0
        ),
        "one parameter fewer": lambda n_out, n_in: (n_out * n_in - 1) % (n_out + n_in) == 0,
        "rank 1": lambda n_out, n_in: n_out == n_in == 3,
        "nearest would be up": lambda n_out, n_in: n_out * n_in / (n_out + n_in) % 1 >= 0.5,
        "a square": lambda n_out, n_in: n_out == n_in,
        "tall": lambda n_out, n_in: n_out > n_in,
        "wide": lambda n_out, n_in: n_out < n_in,
    },
    same=exact,
    wrong={
        "not a whole number: a rank is one": lambda d, k: d * k / (d + k),
        "rounded to the nearest: one rank more may be too large": lambda d, k: round(
            d * k / (d + k)
        ),
        "one is always taken off: only an adapter of equal size needs that": lambda d, k: (
            d * k // (d + k) - 1
        ),
        "rounded up: that adapter is larger than the weight": lambda d, k: math.ceil(
            d * k / (d + k)
        ),
        "the rank with equally many parameters counts: fewer are asked for": lambda d, k: (
            d * k // (d + k)
        ),
        "the smaller side: that is the highest rank that a matrix can have, and its adapter is "
        "larger": lambda d, k: min(d, k),
        "half the smaller side: right for squares only": lambda d, k: (min(d, k) - 1) // 2,
        "upside down: (d + k) / (d k)": lambda d, k: (d + k) / (d * k),
        "only B is counted: A has rank * n_in parameters as well": lambda d, k: (d * k - 1) // d,
        "only A is counted: B has n_out * rank parameters as well": lambda d, k: (d * k - 1) // k,
    },
    hints=(
        "The adapter has rank * (n_out + n_in) parameters, the weight n_out * n_in.",
        "They are equal at n_out * n_in / (n_out + n_in), 56.9 in the lecture's example. The "
        "largest whole rank below is asked.",
        "Where that quotient is whole, the adapter is exactly as large: take one less. (a - 1) // "
        "b does both at once.",
    ),
)


# ------------------------------------------------------------------------------------- make_adapter
def make_adapter(noise: Tensor, n_out: int) -> tuple[Tensor, Tensor]:
    rank, n_in = noise.shape
    return noise / math.sqrt(n_in), torch.zeros(n_out, rank)


def adapter_with(
    a=lambda noise, n_out: noise / math.sqrt(noise.shape[1]),
    b=lambda noise, n_out: torch.zeros(n_out, noise.shape[0]),
):
    """A wrong make_adapter: another A or another B."""
    return lambda noise, n_out: (a(noise, n_out), b(noise, n_out))


MAKE_ADAPTER = Exercise(
    name="make_adapter",
    lab=LAB,
    reference=make_adapter,
    cases=lambda rng: [
        (normal(rng, 2, 4), 3),
        (normal(rng, 3, 16), 5),
        (normal(rng, 1, 9), 7),
        (normal(rng, 4, 4), 4),
        (normal(rng, 2, 30), 2),
        (normal(rng, 5, 3), 4),
    ],
    domain=lambda rng: (normal(rng, whole(rng, 1, 8), whole(rng, 1, 20)), whole(rng, 1, 12)),
    corners={
        "rank 1": lambda noise, n_out: len(noise) == 1,
        "the rank is n_out": lambda noise, n_out: len(noise) == n_out,
        "a rank above n_in": lambda noise, n_out: noise.shape[0] > noise.shape[1],
        "a rank above n_out": lambda noise, n_out: noise.shape[0] > n_out,
        "all are equal": lambda noise, n_out: set(noise.shape) == {n_out},
    },
    same=close(),
    wrong={
        "A and B both zero: then neither gets a gradient, and nothing is ever learnt": adapter_with(
            a=lambda noise, n: torch.zeros_like(noise)
        ),
        "neither is zero: the model would be changed before any training": adapter_with(
            b=lambda noise, n: torch.ones(n, noise.shape[0])
        ),
        "A is zero and B is not: the update is zero as well, but the lecture and the paper have "
        "it the other way": adapter_with(
            a=lambda noise, n: torch.zeros_like(noise),
            b=lambda noise, n: torch.ones(n, noise.shape[0]),
        ),
        "A is not scaled: divide by the root of n_in, or its outputs grow with n_in": adapter_with(
            a=lambda noise, n: noise
        ),
        "divided by the root of the rank: A adds up n_in values": adapter_with(
            a=lambda noise, n: noise / math.sqrt(noise.shape[0])
        ),
        "divided by n_in: its root is asked for": adapter_with(
            a=lambda noise, n: noise / noise.shape[1]
        ),
        "divided by the root of n_out: A adds up n_in values": adapter_with(
            a=lambda noise, n: noise / math.sqrt(n)
        ),
        "divided by the rank (PEFT's 'gaussian'): here the root of n_in is asked for": adapter_with(
            a=lambda noise, n: noise / noise.shape[0]
        ),
        "PEFT's default variance, 1 / (3 n_in): here 1 / n_in is asked for": adapter_with(
            a=lambda noise, n: noise / math.sqrt(3 * noise.shape[1])
        ),
        "B is transposed: it is (n_out, rank)": adapter_with(
            b=lambda noise, n: torch.zeros(noise.shape[0], n)
        ),
        "A is transposed: it is (rank, n_in)": adapter_with(
            a=lambda noise, n: (noise / math.sqrt(noise.shape[1])).T
        ),
        "A and B are swapped: return A, then B": lambda noise, n: make_adapter(noise, n)[::-1],
        "B has the shape of the weight: it is (n_out, rank)": adapter_with(
            b=lambda noise, n: torch.zeros(n, noise.shape[1])
        ),
    },
    hints=(
        "noise has the shape of A, (rank, n_in), so it says both numbers.",
        "Divide by math.sqrt(n_in): then each of A's outputs is about as large as one of its "
        "inputs.",
        "B is torch.zeros(n_out, rank): the update starts at exactly zero.",
    ),
)


# -------------------------------------------------------------------------------------- lora_update
def lora_update(lora_a: Tensor, lora_b: Tensor, alpha: float) -> Tensor:
    return alpha / lora_a.shape[0] * (lora_b @ lora_a)


def update_scaled(scaling):
    """A wrong lora_update: B A times another number, of alpha and the rank."""
    return lambda a, b, alpha: scaling(alpha, a.shape[0]) * (b @ a)


def adapter_cases(rng: np.random.Generator) -> list[tuple[Tensor, Tensor, float]]:
    """(A, B, alpha): alpha is never the rank, nor any of the widths; one layer is square, so A B
    would fit, too.
    """
    return [
        (
            torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]),
            torch.tensor([[1.0, 0.0], [2.0, 1.0]]),
            16.0,
        ),
        (normal(rng, 3, 5), normal(rng, 5, 3), 16.0),
        (normal(rng, 4, 6), normal(rng, 5, 4), 24.0),
        (normal(rng, 1, 4), normal(rng, 6, 1), 12.0),
        (normal(rng, 4, 2), normal(rng, 3, 4), 6.0),
        (normal(rng, 2, 2), normal(rng, 2, 2), 1.0),
    ]


def random_adapter(rng: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    """(A, B, alpha) of any rank and any widths."""
    n_out, n_in, rank = whole(rng, 1, 7), whole(rng, 1, 7), whole(rng, 1, 6)
    return normal(rng, rank, n_in), normal(rng, n_out, rank), decimal(rng, 1, 32)


def adapter_corners(adapter: Callable[..., tuple]) -> dict[str, Callable[..., bool]]:
    """Where an adapter can be special. `adapter` finds (A, B, alpha) among the arguments."""

    def asked(question: Callable) -> Callable:
        return lambda *arguments: question(*adapter(*arguments))

    corners = {
        "rank 1": lambda a, b, alpha: len(a) == 1,
        "a rank above n_in": lambda a, b, alpha: a.shape[0] > a.shape[1],
        "a rank above n_out": lambda a, b, alpha: b.shape[0] < b.shape[1],
        "all are square": lambda a, b, alpha: a.shape == b.shape,
        "alpha is no multiple of the rank": lambda a, b, alpha: alpha % len(a) > 0,
    }
    return {name: asked(question) for name, question in corners.items()}


LORA_UPDATE = Exercise(
    name="lora_update",
    lab=LAB,
    reference=lora_update,
    cases=adapter_cases,
    domain=random_adapter,
    corners=adapter_corners(lambda a, b, alpha: (a, b, alpha)),
    same=close(rtol=1e-4, atol=1e-5),
    wrong={
        "scaled by alpha: it is alpha / r, or the update grows with the rank": update_scaled(
            lambda alpha, r: alpha
        ),
        "not scaled at all": update_scaled(lambda alpha, r: 1.0),
        "r / alpha: upside down": update_scaled(lambda alpha, r: r / alpha),
        "alpha * r": update_scaled(lambda alpha, r: alpha * r),
        "alpha / sqrt(r): that is rsLoRA": update_scaled(lambda alpha, r: alpha / math.sqrt(r)),
        "1 / r: alpha is forgotten": update_scaled(lambda alpha, r: 1 / r),
        "the rank is taken from the wrong side: lora_a is (rank, n_in)": lambda a, b, alpha: (
            alpha / a.shape[1] * (b @ a)
        ),
        "transposed: the update has the shape of the weight, (n_out, n_in)": lambda a, b, alpha: (
            lora_update(a, b, alpha).T
        ),
        "the wrong sign": update_scaled(lambda alpha, r: -alpha / r),
        "whole numbers only: alpha // r": update_scaled(lambda alpha, r: alpha // r),
    },
    hints=(
        "lora_b is (n_out, rank) and lora_a is (rank, n_in): only one order of the product has "
        "the weight's shape.",
        "The rank is lora_a.shape[0], the scaling alpha / rank.",
    ),
)


# ---------------------------------------------------------------------------------------- lora_step
def lora_step(
    weight: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    grad_a: Tensor,
    grad_b: Tensor,
    rate: float,
    decay: float,
):
    return (
        weight,
        lora_a - rate * (grad_a + decay * lora_a),
        lora_b - rate * (grad_b + decay * lora_b),
    )


def step_with(
    of_weight=lambda w, rate, decay: w,
    of_adapter=lambda p, g, rate, decay: p - rate * (g + decay * p),
):
    """A wrong lora_step: another rule for the weight, or for both adapter matrices."""
    return lambda w, a, b, grad_a, grad_b, rate, decay: (
        of_weight(w, rate, decay),
        of_adapter(a, grad_a, rate, decay),
        of_adapter(b, grad_b, rate, decay),
    )


def step_case(
    rng: np.random.Generator, n_out: int, n_in: int, rank: int, rate: float, decay: float
) -> tuple:
    return (
        normal(rng, n_out, n_in),
        normal(rng, rank, n_in),
        normal(rng, n_out, rank),
        normal(rng, rank, n_in),
        normal(rng, n_out, rank),
        rate,
        decay,
    )


def random_step(rng: np.random.Generator) -> tuple:
    sizes = whole(rng, 1, 7), whole(rng, 1, 7), whole(rng, 1, 5)
    return step_case(rng, *sizes, decimal(rng, 0.01, 2), decimal(rng, 0.05, 0.9))


LORA_STEP = Exercise(
    name="lora_step",
    lab=LAB,
    reference=lora_step,
    cases=lambda rng: [
        step_case(rng, 2, 3, 1, 0.1, 0.5),
        step_case(rng, 4, 4, 2, 0.3, 0.2),
        step_case(rng, 3, 5, 3, 0.05, 0.9),
        step_case(rng, 3, 2, 4, 0.2, 0.3),
        step_case(rng, 2, 3, 3, 0.2, 0.4),
        step_case(rng, 2, 4, 2, 0.5, 0.0),
    ],
    domain=random_step,
    corners={
        "no decay": lambda *step: step[-1] == 0,
        "a rank above n_in": lambda w, a, *rest: a.shape[0] > a.shape[1],
        "a rank above n_out": lambda w, a, b, *rest: b.shape[0] < b.shape[1],
        "A is square": lambda w, a, *rest: a.shape[0] == a.shape[1],
        "B is square": lambda w, a, b, *rest: b.shape[0] == b.shape[1],
    },
    same=close(rtol=1e-4, atol=1e-5),
    wrong={
        "weight decay on the frozen weight: it would shrink, though nothing trains it": step_with(
            lambda w, rate, decay: (1 - rate * decay) * w
        ),
        "no weight decay at all: the adapter has it": step_with(
            of_adapter=lambda p, g, rate, decay: p - rate * g
        ),
        "weight decay without the learning rate": step_with(
            of_adapter=lambda p, g, rate, decay: (1 - decay) * p - rate * g
        ),
        "the decay has the wrong sign: it must shrink": step_with(
            of_adapter=lambda p, g, rate, decay: p - rate * (g - decay * p)
        ),
        "uphill: the gradient is subtracted": step_with(
            of_adapter=lambda p, g, rate, decay: p + rate * (g - decay * p)
        ),
        "the update is added to the weight: a step trains the adapter, merging is for later": (
            lambda w, a, b, grad_a, grad_b, rate, decay: (
                w + b @ a,
                *lora_step(w, a, b, grad_a, grad_b, rate, decay)[1:],
            )
        ),
        "only B is trained": lambda w, a, b, grad_a, grad_b, rate, decay: (
            w,
            a,
            lora_step(w, a, b, grad_a, grad_b, rate, decay)[2],
        ),
        "only A is trained": lambda w, a, b, grad_a, grad_b, rate, decay: (
            w,
            lora_step(w, a, b, grad_a, grad_b, rate, decay)[1],
            b,
        ),
        "the decay falls on the new value: it is taken from the old one": step_with(
            of_adapter=lambda p, g, rate, decay: (1 - rate * decay) * (p - rate * g)
        ),
    },
    hints=(
        "The frozen weight comes back as it is: no gradient, and no weight decay either.",
        "For A and for B alike: new = old - rate * (gradient + decay * old).",
    ),
)


# ------------------------------------------------------------------------------------- swap_adapter
def swap_adapter(
    merged: Tensor, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], alpha: float
) -> Tensor:
    return merged - lora_update(*old, alpha) + lora_update(*new, alpha)


def swap_with(out_scaling=lambda alpha, r: alpha / r, in_scaling=lambda alpha, r: alpha / r):
    """A wrong swap_adapter: other scalings for what goes out and for what comes in."""
    return lambda w, old, new, alpha: (
        w
        - out_scaling(alpha, len(old[0])) * (old[1] @ old[0])
        + in_scaling(alpha, len(new[0])) * (new[1] @ new[0])
    )


def swap_case(
    rng: np.random.Generator, n_out: int, n_in: int, old_rank: int, new_rank: int, alpha: float
) -> tuple:
    old, new = (
        (normal(rng, rank, n_in), normal(rng, n_out, rank)) for rank in (old_rank, new_rank)
    )
    return normal(rng, n_out, n_in) + lora_update(*old, alpha), old, new, alpha


def random_swap(rng: np.random.Generator) -> tuple:
    sizes = [whole(rng, 1, n) for n in (7, 7, 5, 5)]
    return swap_case(rng, *sizes, decimal(rng, 1, 32))


SWAP_ADAPTER = Exercise(
    name="swap_adapter",
    lab=LAB,
    reference=swap_adapter,
    cases=lambda rng: [
        swap_case(rng, 2, 3, 1, 2, 16.0),
        swap_case(rng, 4, 4, 2, 4, 12.0),
        swap_case(rng, 5, 3, 3, 2, 8.0),
        swap_case(rng, 4, 2, 3, 3, 8.0),
        swap_case(rng, 3, 3, 3, 3, 1.0),
    ],
    domain=random_swap,
    corners={
        "a higher rank comes": lambda w, old, new, alpha: len(old[0]) < len(new[0]),
        "a lower rank comes": lambda w, old, new, alpha: len(old[0]) > len(new[0]),
        "equal ranks": lambda w, old, new, alpha: len(old[0]) == len(new[0]),
        "a rank above n_in": lambda w, old, new, alpha: len(new[0]) > w.shape[1],
        "all square": lambda w, old, new, alpha: (
            w.shape == old[0].shape == old[1].shape == new[0].shape
        ),
        "alpha is 1": lambda w, old, new, alpha: alpha == 1,
    },
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "merged without scaling: both updates need alpha / r": swap_with(
            lambda alpha, r: 1, lambda alpha, r: 1
        ),
        "the new adapter is merged without scaling": swap_with(in_scaling=lambda alpha, r: 1),
        "the old adapter is taken out without scaling": swap_with(out_scaling=lambda alpha, r: 1),
        "scaled by alpha, not by alpha / r": swap_with(
            lambda alpha, r: alpha, lambda alpha, r: alpha
        ),
        "the rank is taken from the wrong side: lora_a is (rank, n_in)": (
            lambda w, old, new, alpha: (
                w
                - alpha / old[0].shape[1] * (old[1] @ old[0])
                + alpha / new[0].shape[1] * (new[1] @ new[0])
            )
        ),
        "the old adapter stays in: the layer does two tasks at once, and neither well": swap_with(
            lambda alpha, r: 0
        ),
        "the new adapter is missing: that is the base model": swap_with(
            in_scaling=lambda alpha, r: 0
        ),
        "the old adapter is added again, not taken out": swap_with(lambda alpha, r: -alpha / r),
        "the new rank for both: each adapter has its own": lambda w, old, new, alpha: (
            w - alpha / len(new[0]) * (old[1] @ old[0]) + alpha / len(new[0]) * (new[1] @ new[0])
        ),
        "the old rank for both: each adapter has its own": lambda w, old, new, alpha: (
            w - alpha / len(old[0]) * (old[1] @ old[0]) + alpha / len(old[0]) * (new[1] @ new[0])
        ),
    },
    hints=(
        "Taking an adapter out is subtracting what merging it has added: its lora_update.",
        "Each adapter has its own rank, so each its own alpha / r. Your lora_update from above "
        "does both.",
    ),
)

EXERCISES = (
    LOW_RANK_ERROR,
    LARGEST_USEFUL_RANK,
    MAKE_ADAPTER,
    LORA_UPDATE,
    LORA_STEP,
    SWAP_ADAPTER,
)
