"""A lab of two small exercises, for the grader's tests: the grader may not be about one lab."""

import numpy as np
import torch

from lab_utils.checking.checks import Exercise, close

LAB = "90_made_up_lab"


def drawn(rng: np.random.Generator, *shape: int) -> list:
    """Numbers with so many digits that they can be looked for in any text."""
    return (rng.uniform(0.1, 1, size=shape) * rng.choice([-1, 1], size=shape)).tolist()


DOUBLE = Exercise(
    name="double",
    lab=LAB,
    reference=lambda x: 2 * x,
    cases=lambda rng: [
        (torch.tensor(drawn(rng, 4), dtype=torch.float64),),
        (torch.tensor(drawn(rng, 2, 3)),),
    ],
    domain=lambda rng: (torch.tensor(drawn(rng, 3)),),
    corners={},
    same=close(),
    wrong={"squared: twice is not the square": lambda x: x * x, "halved": lambda x: x / 2},
)
TOTAL = Exercise(
    name="total",
    lab=LAB,
    reference=lambda values, n: sum(values[:n]),
    cases=lambda rng: [(drawn(rng, 5), 3), (drawn(rng, 8), int(rng.integers(2, 7)))],
    domain=lambda rng: (drawn(rng, 8), int(rng.integers(2, 7))),
    corners={},
    same=close(),
    wrong={"all values are added: only the first n count": lambda values, n: sum(values)},
    points=2,
)
EXERCISES = [DOUBLE, TOTAL]
LABS = {LAB: {exercise.name for exercise in EXERCISES}}

SETUP = (
    f'import os, sys\nfrom lab_utils.start.lab import start_lab\n\ninfo = start_lab("{LAB}", '
    "seed=0)\nprint(info)"
)
IMPORTS = "import torch\nfrom lab_utils.checking import check"
GOOD_DOUBLE = "def double(x):\n    return x + x\n\ncheck(double)"
GOOD_TOTAL = """def total(values, n):
    result = 0.0
    for value in values[:n]:
        result += value
    return result

check(total)"""
