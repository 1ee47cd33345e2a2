"""Exercises of lab 03_gradient_checkpointing: what they call right is what `lab_utils` computes.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import pytest
import torch
from exercise_tests import cases
from torch import nn

from lab_utils.checking import all_exercises
from lab_utils.memory import checkpointing as ck
from lab_utils.memory import paging


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("03_gradient_checkpointing")]
    assert names == [
        "keep_checkpoints",
        "segment_peak",
        "recomputed_layers",
        "activation_gigabytes",
        "page_transfers",
        "smallest_paged_rank",
    ]


def test_keep_checkpoints_keeps_what_the_schedule_keeps():
    for keep_checkpoints, (x, weights, k) in cases("keep_checkpoints"):
        schedule = ck.in_segments(len(weights), min(k, len(weights)))
        kept = keep_checkpoints(x, weights, k)
        last_begins = next(i for i, event in enumerate(schedule.events) if event.saves)
        assert ck.replay(schedule)[last_begins].activations == set(range(0, k * len(kept), k))
        layers = [nn.Linear(len(x), len(x), bias=False) for _ in weights]
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.data = weight
        expected, y = [], x
        for i, layer in enumerate(layers):
            expected += [y] if i % k == 0 else []
            y = torch.tanh(layer(y))
        torch.testing.assert_close(torch.stack(kept), torch.stack(expected).detach())


def test_segment_peak():
    for segment_peak, (lengths,) in cases("segment_peak"):
        assert segment_peak(lengths) == ck.peak(ck.segments(lengths))


def test_recomputed_layers():
    for recomputed_layers, (n, k) in cases("recomputed_layers"):
        assert recomputed_layers(n, k) == ck.extra_forwards(ck.in_segments(n, min(k, n)))


def test_activation_gigabytes():
    for activation_gigabytes, (s, b, h, a, layers) in cases("activation_gigabytes"):
        assert activation_gigabytes(s, b, h, a, layers) == pytest.approx(
            layers * ck.korthikanti_layer_bytes(s, b, h, a) / 1e9
        )


def test_page_transfers():
    """The simulator begins with a full GPU: its pages are those that the touches never name."""
    for page_transfers, (touched, room) in cases("page_transfers"):
        requests = [paging.Request("touch", room + page) for page in touched]
        moments = paging.simulate(requests, room + max(touched) + 1, room)
        assert page_transfers(touched, room) == sum(len(moment.moved_in) for moment in moments)


def test_smallest_paged_rank():
    for smallest_paged_rank, (width,) in cases("smallest_paged_rank"):
        rank = smallest_paged_rank(width)
        assert paging.is_paged(rank * width) and not paging.is_paged((rank - 1) * width)
