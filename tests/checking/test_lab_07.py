"""Exercises of lab 07_peft_methods: what they call right is what `lab_utils` and PEFT compute.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py. IA3
and the sum of two adapters are held against PEFT's layers in tests/lora/test_methods.py.
"""

import pytest
import torch
from exercise_tests import cases

from lab_utils.checking import all_exercises, find_exercise
from lab_utils.lora import methods, scoring
from lab_utils.memory.sizes import Architecture


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("07_peft_methods")]
    assert names == [
        "bottleneck_forward",
        "bottleneck_parameters",
        "ia3_forward",
        "dora_weight",
        "lost_and_gained",
        "replay_rows",
        "add_two_adapters",
    ]


def test_bottleneck_parameters():
    for count, (hidden, size, n_layers) in cases("bottleneck_parameters"):
        architecture = Architecture(100, hidden, n_layers, 1, 1, hidden, 4 * hidden, True)
        config = methods.MethodConfig("adapters", bottleneck=size)
        assert count(hidden, size, n_layers) == methods.trainable_parameters(architecture, config)


def test_bottleneck_parameters_are_the_modules():
    count = find_exercise("bottleneck_parameters").reference
    assert 2 * 3 * sum(p.numel() for p in methods.Bottleneck(20, 5).parameters()) == count(20, 5, 3)


def test_bottleneck_forward_is_the_modules():
    for forward, (hidden, down, down_bias, up, up_bias) in cases("bottleneck_forward"):
        module = methods.Bottleneck(hidden.shape[1], len(down))
        state = {"down.weight": down, "down.bias": down_bias, "up.weight": up, "up.bias": up_bias}
        module.load_state_dict(state)
        torch.testing.assert_close(
            forward(hidden, down, down_bias, up, up_bias), module(hidden), rtol=1e-4, atol=1e-4
        )


def test_ia3_with_factors_of_one_is_the_layer():
    for forward, (x, weight, factors, feedforward) in cases("ia3_forward"):
        torch.testing.assert_close(
            forward(x, weight, torch.ones_like(factors), feedforward), x @ weight.T
        )


def test_the_sum_of_two_adapters_ends_at_each():
    update = find_exercise("lora_update").reference
    for add, (weight, a1, b1, a2, b2, alpha, _) in cases("add_two_adapters"):
        torch.testing.assert_close(
            add(weight, a1, b1, a2, b2, alpha, 0.0), weight + update(a1, b1, alpha)
        )
        torch.testing.assert_close(
            add(weight, a1, b1, a2, b2, alpha, 1.0), weight + update(a2, b2, alpha)
        )


def test_replay_rows():
    for replay_rows, (n_rows, share) in cases("replay_rows"):
        added = replay_rows(n_rows, share)
        assert added == scoring.replay_size(n_rows, share)
        assert added / (n_rows + added) == pytest.approx(share, abs=0.5 / n_rows)


def test_lost_minus_gained_is_the_forgetting():
    for lost_and_gained, (before, after) in cases("lost_and_gained"):
        lost, gained = lost_and_gained(before, after)
        tasks = ({"all": flags.double().mean().item()} for flags in (before, after))
        assert lost - gained == pytest.approx(scoring.forgetting(*tasks))
