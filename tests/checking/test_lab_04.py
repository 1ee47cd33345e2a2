"""Exercises of lab 04_lora_rank_sweeps: what they call right is what `lab_utils.lora.lora`, torch
and the layer itself do.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import pytest
import torch
from exercise_tests import cases
from torch import nn

from lab_utils.checking import all_exercises, find_exercise
from lab_utils.lora import lora


def layer_of(weight, lora_a, lora_b, alpha):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    layer = lora.LoRALinear(layer, len(lora_a), alpha)
    layer.lora_a.data, layer.lora_b.data = lora_a.clone(), lora_b.clone()
    return layer


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("04_lora_rank_sweeps")]
    assert names == [
        "low_rank_error",
        "largest_useful_rank",
        "make_adapter",
        "lora_update",
        "lora_step",
        "swap_adapter",
    ]


def test_low_rank_error_is_that_of_the_best_approximation():
    for low_rank_error, (w, rank) in cases("low_rank_error"):
        b, a = lora.best_rank_r(w, rank)
        assert low_rank_error(w, rank) == pytest.approx(
            ((w - b @ a).norm() / w.norm()).item(), rel=1e-4, abs=1e-5
        )
        assert low_rank_error(w, rank) == pytest.approx(
            lora.relative_error(torch.linalg.svdvals(w), rank), rel=1e-4, abs=1e-5
        )


def test_largest_useful_rank_is_the_last_below_break_even():
    for largest, (n_out, n_in) in cases("largest_useful_rank"):
        rank = largest(n_out, n_in)
        assert (
            lora.lora_parameters([(n_out, n_in)], rank)
            < n_out * n_in
            <= lora.lora_parameters([(n_out, n_in)], rank + 1)
        )
        assert rank < lora.break_even_rank(n_out, n_in) <= rank + 1
    assert find_exercise("largest_useful_rank").reference(512, 64) == 56


def test_make_adapter_starts_as_the_layer_does():
    for make_adapter, (noise, n_out) in cases("make_adapter"):
        a, b = make_adapter(noise, n_out)
        layer = (
            lora.LoRALinear(nn.Linear(noise.shape[1], n_out), len(noise), 16)
            if min(n_out, noise.shape[1]) >= len(noise)
            else None
        )
        assert not b.any() and torch.allclose(a * noise.shape[1] ** 0.5, noise)
        assert layer is None or (layer.lora_a.shape == a.shape and torch.equal(layer.lora_b, b))
    torch.manual_seed(0)
    assert lora.LoRALinear(nn.Linear(400, 9), 8, 16).lora_a.std().item() == pytest.approx(
        400**-0.5, rel=0.05
    )


def test_lora_update_is_the_layers():
    for lora_update, (a, b, alpha) in cases("lora_update"):
        layer = layer_of(torch.zeros(len(b), a.shape[1]), a, b, alpha)
        assert torch.allclose(lora_update(a, b, alpha), layer.delta())


def test_lora_step_is_torchs_sgd_on_the_adapter():
    for lora_step, (weight, a, b, grad_a, grad_b, rate, decay) in cases("lora_step"):
        layer = layer_of(weight, a, b, 16)
        layer.lora_a.grad, layer.lora_b.grad = grad_a, grad_b
        torch.optim.SGD(layer.parameters(), lr=rate, weight_decay=decay).step()
        new = lora_step(weight, a, b, grad_a, grad_b, rate, decay)
        for ours, theirs in zip(new, (layer.base.weight, layer.lora_a, layer.lora_b), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)


def test_swap_adapter_is_unmerge_and_merge():
    for swap_adapter, (merged, old, new, alpha) in cases("swap_adapter"):
        layer = layer_of(merged, *old, alpha)
        layer.merged.fill_(True)
        base = layer.unmerge().base.weight
        expected = layer_of(base.detach(), *new, alpha).merge().base.weight
        assert torch.allclose(swap_adapter(merged, old, new, alpha), expected, atol=1e-4)
