"""Checkpointing and paging on a real GPU: peak memory against the prediction, and bitsandbytes'
paged optimizer. No network.
"""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

from lab_utils.memory import checkpointing as ck
from lab_utils.memory import paging
from lab_utils.memory.measuring import run_schedule

pytestmark = pytest.mark.gpu

N, TOKENS, HIDDEN = 16, 2048, 512
UNIT = TOKENS * HIDDEN * 4  # bytes of one activation
FORWARDS = {
    "none": (lambda layers, x: layers(x), ck.in_segments(N, N)),
    "4 segments": (
        lambda layers, x: checkpoint_sequential(layers, 4, x, use_reentrant=False),
        ck.in_segments(N, 4),
    ),
    "every layer": (
        lambda layers, x: checkpoint_sequential(layers, N, x, use_reentrant=False),
        ck.in_segments(N, 1),
    ),
}


def loss_of(y):
    return y.square().mean()


@pytest.fixture
def stack():
    """Layers on the GPU whose gradients are there already, and an input."""
    torch.manual_seed(0)
    block = [
        nn.Sequential(nn.Linear(HIDDEN, 4 * HIDDEN), nn.GELU(), nn.Linear(4 * HIDDEN, HIDDEN))
        for _ in range(N)
    ]
    layers = nn.Sequential(*block).cuda()
    for parameter in layers.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return layers, torch.randn(TOKENS, HIDDEN, device="cuda")


def peak_of(step):
    """Bytes that a step takes on the GPU at its worst moment, on top of what is there before."""
    step()  # workspaces of the libraries come with the first step
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("plan", FORWARDS)
def test_peak_memory_is_the_predicted_one_and_a_layer_in_work(plan, stack, capsys):
    """On top of what is kept come gradients of activations and what a layer needs while it runs: at
    most about 14 units, and the gradient of one weight.
    """
    layers, x = stack
    forward, schedule = FORWARDS[plan]
    peak, predicted = (
        peak_of(lambda: loss_of(forward(layers, x)).backward()),
        ck.peak(schedule, UNIT, 8 * UNIT) - UNIT,
    )
    with capsys.disabled():
        print(
            f"\n{plan} on {torch.cuda.get_device_name()}: peak {peak:,} bytes, kept "
            f"{predicted:,}, {peak / predicted:.3f}"
        )
    assert 0.98 * predicted <= peak <= predicted + 14 * UNIT + 4 * 4 * HIDDEN * HIDDEN


@pytest.mark.parametrize(
    "schedule",
    [ck.in_segments(N, 4), ck.one_layer_in(N, 1), ck.optimal(N, 14, 1, 8)],
    ids=lambda s: s.name,
)
def test_a_schedule_runs_on_the_gpu(schedule, stack):
    layers, x = stack
    loss_of(layers(x)).backward()
    expected = [parameter.grad.clone() for parameter in layers.parameters()]
    layers.zero_grad()
    run = run_schedule(schedule, layers, x, loss_of)
    assert run.bytes_kept == [state.size(UNIT, 8 * UNIT) for state in ck.replay(schedule)[1:]]
    for parameter, theirs in zip(layers.parameters(), expected, strict=True):
        assert (parameter.grad - theirs).norm() <= 1e-4 * theirs.norm()


@pytest.mark.parametrize("rank", [24, 25])
def test_the_paged_optimizer_pages_by_the_rule_and_computes_the_same(rank):
    import bitsandbytes as bnb

    weights = {}
    for optimizer_class in (bnb.optim.AdamW32bit, bnb.optim.PagedAdamW32bit):
        weight = nn.Parameter(torch.linspace(-1, 1, rank * 4096, device="cuda").view(rank, 4096))
        weight.grad = torch.linspace(1, 2, rank * 4096, device="cuda").view(rank, 4096)
        optimizer = optimizer_class([weight], lr=1e-2)
        for _ in range(3):
            optimizer.step()
        torch.cuda.synchronize()
        weights[optimizer_class] = weight.detach().clone()
        paged = getattr(optimizer.state[weight]["state1"], "is_paged", False)
        assert paged == (
            optimizer_class is bnb.optim.PagedAdamW32bit and paging.is_paged(weight.numel())
        )
    torch.testing.assert_close(*weights.values())


def test_paged_state_lies_outside_torchs_memory():
    import bitsandbytes as bnb

    weight = nn.Parameter(torch.zeros(1024, 4096, device="cuda"))
    weight.grad = torch.ones_like(weight)
    before = torch.cuda.memory_allocated()
    optimizer = bnb.optim.PagedAdamW32bit([weight])
    optimizer.step()
    torch.cuda.synchronize()
    assert paging.optimizer_bytes([tuple(weight.shape)]) == (8 * weight.numel(), 0)
    assert torch.cuda.memory_allocated() - before < weight.numel(), (
        "two states of 4 bytes each would be eight times that"
    )
