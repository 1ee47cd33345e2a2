"""Usual learning rates by the size of the model, and where each of them comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Usual learning rates of models of up to `n_params` parameters, and where they come from."""

    n_params: float
    full: float
    lora: float  # QLoRA's, too
    source: str

    def of(self, method: str) -> float:
        """The rate of "full", or of any method that trains little."""
        return self.full if method == "full" else self.lora


# where full fine-tuning has no source of its own, it is a tenth of LoRA's: the published rule
# (Schulman and Thinking Machines Lab 2025, LoRA Without Regret)
RATES = (
    Rates(2e7, 5e-4, 3e-3, "tried with cheese-base on the validation pairs"),
    # lab 09 takes half of it, by which its model forgets less
    Rates(1e9, 2e-4, 2e-3, "tried with SmolLM2-135M on the pairs of lab 09"),
    Rates(2e10, 2e-5, 2e-4, "Dettmers et al. 2023, table 9: 7B and 13B"),
    Rates(math.inf, 1e-5, 1e-4, "Dettmers et al. 2023, table 9: 33B and 65B"),
)


def rates_for(n_params: float) -> Rates:
    """The line of RATES for a model of so many parameters."""
    return next(rates for rates in RATES if n_params <= rates.n_params)


def rate_scale(model, method: str = "lora") -> float:
    """What a rate that was found on the small base is multiplied by for this model, 1 for a model
    as small: larger ones take smaller steps.
    """
    return rates_for(model.num_parameters()).of(method) / RATES[0].of(method)
