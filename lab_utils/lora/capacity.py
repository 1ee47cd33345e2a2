"""When the rank matters: three small experiments on one layer, whose answers are known on paper."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lab_utils.lora.lora import LoRALinear, relative_error


def frozen_layer(n_out: int, n_in: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer without bias, its weight from N(0, 1/n_in)."""
    layer = nn.Linear(n_in, n_out, bias=False)
    layer.weight.data = torch.randn(n_out, n_in, generator=generator) / math.sqrt(n_in)
    return layer


def train_adapter(
    layer: LoRALinear, loss_of: Callable[[LoRALinear], Tensor], steps: int, learning_rate: float
) -> float:
    """Train A and B with Adam on `loss_of(layer)`; the last loss.

    The rate falls along a cosine.
    """
    optimizer = torch.optim.Adam([layer.lora_a, layer.lora_b], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(layer).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return loss_of(layer).item()


def match_teacher(
    rank: int,
    teacher_rank: int = 16,
    size: int = 64,
    steps: int = 400,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> tuple[float, float]:
    """Learn a weight that differs from the frozen one by a matrix of known rank.

    Returns the relative error of the update that was learnt, and the smallest one possible
    (Eckart-Young). Inputs are the unit vectors, so the mean squared error of the outputs is the
    squared Frobenius error of the weight.
    """
    generator = torch.Generator().manual_seed(seed)
    base = frozen_layer(size, size, generator)
    change = (
        torch.randn(size, teacher_rank, generator=generator)
        @ torch.randn(teacher_rank, size, generator=generator)
        / size
    )
    target, x = (base.weight.data + change).T, torch.eye(size)
    layer = LoRALinear(base, rank, alpha=16, generator=generator)
    train_adapter(layer, lambda layer: (layer(x) - target).square().mean(), steps, learning_rate)
    error = (layer.delta().detach() - change).norm() / change.norm()
    return error.item(), relative_error(torch.linalg.svdvals(change), rank)


def remember_pairs(
    rank: int,
    n_pairs: int,
    size: int = 64,
    steps: int = 300,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> float:
    """Share of `n_pairs` random pairs (key, one of `size` values) that a layer has learnt by heart.

    Nothing in the pairs helps to guess one from another, so each must be stored in the adapter's
    parameters.
    """
    generator = torch.Generator().manual_seed(seed)
    layer = LoRALinear(frozen_layer(size, size, generator), rank, alpha=16, generator=generator)
    keys = torch.randn(n_pairs, size, generator=generator)
    values = torch.randint(size, (n_pairs,), generator=generator)
    train_adapter(
        layer, lambda layer: nn.functional.cross_entropy(layer(keys), values), steps, learning_rate
    )
    with torch.no_grad():
        return (layer(keys).argmax(dim=1) == values).double().mean().item()


def first_step_gain(
    rank: int, scaling: float, size: int = 1024, learning_rate: float = 1e-3, seed: int = 0
) -> float:
    """How far one step of Adam goes downhill: -<gradient, dW>, for a random gradient of the weight.

    Adam's first step moves every entry of B by the learning rate, whatever `scaling` is. So each of
    the `rank` directions adds about the same, and `scaling` multiplies the sum: with alpha / r the
    rank cancels out.
    """
    generator = torch.Generator().manual_seed(seed)
    layer = LoRALinear(frozen_layer(size, size, generator), rank, alpha=1.0, generator=generator)
    layer.scaling = scaling
    gradient = torch.randn(size, size, generator=generator)
    optimizer = torch.optim.Adam([layer.lora_a, layer.lora_b], lr=learning_rate)
    (layer.delta() * gradient).sum().backward()
    optimizer.step()
    return -(layer.delta() * gradient).sum().item()
