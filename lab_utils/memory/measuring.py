"""What a step of training keeps and takes, counted on real tensors, and schedules carried out."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lab_utils.memory.checkpointing import Event, Schedule, replay


class SavedBytes:
    """Counts what autograd keeps for the backward pass: `with SavedBytes() as saved:`.

    `now` falls again as the backward pass sets tensors free, `peak` does not. A storage counts
    once, however many saved tensors look at it; those in `ignore` (parameters, as a rule) count
    nothing. It works on any device, by `torch.autograd.graph.saved_tensors_hooks`. What
    `torch.utils.checkpoint` recomputes it does not see.
    """

    def __init__(self, ignore: Iterable[Tensor] = ()):
        # the storages themselves: an address that is freed may be given to a tensor that counts
        self.ignored = {s.data_ptr(): s for s in (tensor.untyped_storage() for tensor in ignore)}
        self.now, self.peak = 0, 0
        self._holders: dict[int, int] = {}  # address of a storage -> saved tensors that use it
        # detached: an output that its own node holds would keep node and itself alive for ever,
        # where no backward pass follows
        self._hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: self.hold(tensor.detach()), lambda held: held.tensor
        )

    def __enter__(self) -> SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)

    def hold(self, tensor: Tensor) -> _Held:
        """Count a tensor until the returned object is gone."""
        held, storage = _Held(tensor), tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key not in self.ignored:
            self._holders[key] = self._holders.get(key, 0) + 1
            self.now += size if self._holders[key] == 1 else 0
            self.peak = max(self.peak, self.now)
            weakref.finalize(held, self._release, key, size)
        return held

    def _release(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.now -= size


class _Held:
    """Keeps a tensor; when the last reference goes, `SavedBytes` hears of it."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


def growth(compute: Callable[[], Any], device: str = "cpu") -> tuple[Any, int]:
    """(what `compute()` returns, the most bytes of tensors that were there at a time on top of
    those before).
    """
    if not device.startswith("cuda"):
        return _growth_on_cpu(compute)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = compute()
    torch.cuda.synchronize()
    return result, torch.cuda.max_memory_allocated() - before


def _growth_on_cpu(compute: Callable[[], Any]) -> tuple[Any, int]:
    """The same on a CPU: torch's profiler notes each allocation and each release."""
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it tells of its start and stop on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = compute()
    events = [
        event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return result, most


Layer = Callable[[Tensor], Tensor]


class Run(NamedTuple):
    """What a schedule did on real layers; the parameters' gradients are in their `.grad`."""

    loss: Tensor  # ()
    bytes_kept: list[int]  # after each event


def run_schedule(
    schedule: Schedule,
    layers: Sequence[Layer],
    x: Tensor,
    loss_function: Layer,
    ignore: Iterable[Tensor] = (),
) -> Run:
    """Train one step on real layers, event by event, and count what is kept.

    x is the chain's input, each layer maps x_{i-1} to x_i, `loss_function` maps x_n to a scalar.
    Parameters of modules are left out of the count, and so is what is in `ignore`. Layers must give
    the same output each time (dropout would not).
    """
    if len(layers) != schedule.n:
        raise ValueError(f"the schedule is for {schedule.n} layers, and there are {len(layers)}.")
    replay(schedule)
    own = [
        parameter
        for layer in layers
        if isinstance(layer, nn.Module)
        for parameter in layer.parameters()
    ]
    with SavedBytes([*own, *ignore]) as saved:
        step = _TrainingStep(layers, x, loss_function, saved)
        return Run(bytes_kept=[step.do(event) for event in schedule.events], loss=step.loss)


class _TrainingStep:
    """The tensors behind a `State`: `kept[i]` is x_i, `graphs[i]` layer i's input and output."""

    def __init__(self, layers: Sequence[Layer], x: Tensor, loss_function: Layer, saved: SavedBytes):
        self.layers, self.loss_function, self.saved = layers, loss_function, saved
        self.kept = {0: saved.hold(x.detach())}
        self.graphs: dict[int, tuple[Tensor, Tensor]] = {}
        self.gradient: Tensor | None = None
        self.loss = x.new_zeros(())  # until the first backward step

    def do(self, event: Event) -> int:
        """Carry one event out and return the bytes kept after it."""
        if event.kind == "discard":
            del self.kept[event.layer]
        elif event.kind == "backward":
            self.backward(event.layer)
        else:
            self.compute(event.layer, event.saves)
        return self.saved.now

    def compute(self, i: int, saves: bool) -> None:
        x = self.kept[i - 1].tensor.detach().requires_grad_(saves)
        with torch.set_grad_enabled(saves):
            y = self.layers[i - 1](x)
        self.kept[i] = self.saved.hold(y.detach())
        if saves:
            self.graphs[i] = x, y

    def backward(self, i: int) -> None:
        if self.gradient is None:
            x_n = self.kept[i].tensor.detach().requires_grad_()
            loss = self.loss_function(x_n)
            (self.gradient,), self.loss = torch.autograd.grad(loss, x_n), loss.detach()
        x, y = self.graphs.pop(i)
        y.backward(self.gradient)
        self.gradient = x.grad
        del self.kept[i]


def without_gradient(model: nn.Module) -> list[str]:
    """Names of trained parameters whose last gradient is missing or zero.

    LoRA's A has a zero gradient in the very first step (B is zero): look after the second, or at B
    alone.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [name for name, p in named if p.grad is None or not p.grad.any()]
