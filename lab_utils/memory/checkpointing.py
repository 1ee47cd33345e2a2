"""Gradient checkpointing: keep some activations, compute the others again (lecture 9, from "Running
out of memory").

A chain of n layers: x_0 is the input and x_i the output of layer i. The backward step of layer i
needs what the layer saved in its forward step: its input x_{i-1} and its **inside** (everything
else that autograd stores for it). Checkpointing throws both away and runs the layer again when its
turn comes.

A plan is written out as a **schedule**, the exact sequence of events. What is counted as kept:
every x_i that is held (as a checkpoint, as the input of a layer that saved its inside, or as the
newest output), at `activation` each, and every inside, at `inside` each. The defaults 1 and 0 count
kept activations, as the lecture does. Bytes of a real layer give bytes. Parameters, gradients and
what a layer needs only while it runs are not counted.

Sources: Chen et al. 2016 (arXiv:1604.06174) for segments; Griewank and Walther 2000 (algorithm 799,
"revolve") and Beaumont et al. 2019 (arXiv:1911.13214) for optimal plans; Korthikanti et al. 2022
(arXiv:2205.05198) for the bytes of a transformer layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lab_utils.files import whole_number


# ---------------------------------------------------------------------------------------- schedules
class Event(NamedTuple):
    """One event: "forward" and "recompute" make x_layer from x_{layer-1}, "discard" forgets it."""

    kind: str  # "forward", "recompute", "discard" or "backward"
    layer: int  # 1..n
    saves: bool = False  # the layer also keeps its inside: it is ready for its backward step


class Schedule(NamedTuple):
    """All events of one training step on a chain of n layers."""

    name: str
    n: int
    events: tuple[Event, ...]


class State(NamedTuple):
    """What is kept after an event."""

    activations: frozenset[int]  # each i for which x_i is held
    insides: frozenset[int]  # each layer whose inside is held
    reached: int  # the last layer that was ever computed
    waiting: int  # the layers 1..waiting still wait for their backward step
    forwards: int  # layers run forward so far, first time or again

    def size(self, activation: float = 1, inside: float = 0) -> float:
        """How much is kept, in the unit of the two sizes."""
        return len(self.activations) * activation + len(self.insides) * inside


class ScheduleError(ValueError):
    """A schedule uses what is not kept, or ends too early."""


def check_chain(n: int, k: int = 1) -> None:
    """Raise unless there are n >= 1 layers in the chain and 1 <= k <= n."""
    whole_number("n, the layers of the chain,", n)
    whole_number("k, the layers of a segment,", k, 1, n)


def in_segments(n: int, k: int) -> Schedule:
    """Checkpoints at every k-th layer: one segment of k layers is recomputed at a time.

    k = n keeps everything: no checkpointing. The last segment may be shorter.
    """
    check_chain(n, k)
    lengths = [min(k, n - start) for start in range(0, n, k)]
    return segments(lengths)._replace(name="none" if k == n else f"every {k}")


def segments(lengths: Sequence[int]) -> Schedule:
    """One checkpoint for each segment, of any lengths.

    The last segment is not thrown away: its turn comes at once.
    `torch.utils.checkpoint.checkpoint_sequential(layers, s, x)` makes s segments of n // s layers,
    and the last takes the rest.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(
            f"lengths are {list(lengths)}: expected at least one segment, of at least 1 layer each."
        )
    ends = list(itertools.accumulate(lengths))
    events = []
    for length, end in zip(lengths, ends):
        events += _advance(end - length, end, saves=end == ends[-1], kind="forward")
    for length, end in reversed(list(zip(lengths, ends))):
        if end != ends[-1]:
            events += [Event("discard", end), *_advance(end - length, end, saves=True)]
        events += [Event("backward", layer) for layer in range(end, end - length, -1)]
    return Schedule(f"segments of {', '.join(map(str, lengths))}", ends[-1], tuple(events))


def one_layer_in(n: int, k: int) -> Schedule:
    """transformers' way: each of the layers 1, k+1, 2k+1, ... recomputes itself; others keep all.

    k = 1 is what `gradient_checkpointing_enable()` does: a checkpoint at every layer. Larger k is
    its option `every_n_layers=k`: not the scheme of `in_segments`, since k - 1 of k layers keep
    everything.
    """
    check_chain(n, k)
    thrown_away = range(1, n + 1, k)
    events = [Event("forward", layer, saves=layer not in thrown_away) for layer in range(1, n + 1)]
    for layer in range(n, 0, -1):
        if layer in thrown_away:
            events.append(Event("recompute", layer, saves=True))
        events.append(Event("backward", layer))
    return Schedule("every layer" if k == 1 else f"one layer in {k}", n, tuple(events))


def _advance(start: int, end: int, saves: bool, kind: str = "recompute") -> list[Event]:
    """Run the layers start+1..end. Without `saves` only x_start and x_end are kept."""
    events = []
    for layer in range(start + 1, end + 1):
        events.append(Event(kind, layer, saves))
        if not saves and layer - 1 > start:
            events.append(Event("discard", layer - 1))
    return events


def sqrt_segment(n: int) -> int:
    """The lecture's and Chen's segment length, ceil(sqrt(n)): no k has a smaller ceil(n/k) + k."""
    check_chain(n)
    return math.isqrt(n - 1) + 1


PLANS = ("none", "every k", "sqrt(n)", "every layer", "optimal")


def make_schedule(plan: str, n: int, k: int = 1, limit: int | None = None) -> Schedule:
    """One of PLANS for n layers.

    `k` is for "every k" only; `limit`, in kept activations, for "optimal" only. Raises ValueError
    for another plan.
    """
    if plan not in PLANS:
        raise ValueError(f"unknown plan {plan!r}: expected one of {', '.join(PLANS)}.")
    if plan == "optimal":
        return optimal(n, n + 1 if limit is None else limit)
    if plan == "every layer":
        return one_layer_in(n, 1)
    check_chain(n)
    return in_segments(n, {"none": n, "every k": k, "sqrt(n)": sqrt_segment(n)}[plan])


# ----------------------------------------------------------------------------- replaying a schedule
def apply_event(state: State, event: Event, n: int) -> State:
    """The state after an event. Raises ScheduleError where the event needs what is not kept."""
    kind, layer = event.kind, event.layer
    if not 1 <= layer <= n:
        raise ScheduleError(f"{kind} of layer {layer}: there are layers 1 to {n}.")
    if kind in ("forward", "recompute"):
        return _computed(state, event)
    if kind == "discard":
        return _discarded(state, layer)
    if kind == "backward":
        return _backpropagated(state, layer, n)
    raise ScheduleError(
        f"unknown event {kind!r}: expected forward, recompute, discard or backward."
    )


def _computed(state: State, event: Event) -> State:
    layer = event.layer
    if layer - 1 not in state.activations:
        raise ScheduleError(f"{event.kind} of layer {layer}: its input x_{layer - 1} is not kept.")
    if (event.kind == "recompute") != (layer <= state.reached):
        raise ScheduleError(
            f"{event.kind} of layer {layer}: a forward step comes once, and only then a "
            "recomputation."
        )
    insides = state.insides | {layer} if event.saves else state.insides
    reached = max(state.reached, layer)
    return State(state.activations | {layer}, insides, reached, state.waiting, state.forwards + 1)


def _discarded(state: State, layer: int) -> State:
    if layer not in state.activations:
        raise ScheduleError(f"discard of x_{layer}: it is not kept.")
    if layer + 1 in state.insides:
        raise ScheduleError(
            f"discard of x_{layer}: layer {layer + 1} has saved it for its backward step."
        )
    return state._replace(activations=state.activations - {layer})


def _backpropagated(state: State, layer: int, n: int) -> State:
    if layer != state.waiting:
        raise ScheduleError(f"backward of layer {layer}: it is the turn of layer {state.waiting}.")
    if layer not in state.insides or (layer == n and n not in state.activations):
        raise ScheduleError(
            f"backward of layer {layer}: what it saved in its forward step is not kept."
        )
    return state._replace(
        activations=state.activations - {layer}, insides=state.insides - {layer}, waiting=layer - 1
    )


def replay(schedule: Schedule) -> list[State]:
    """The state before the first event and after each one.

    Raises ScheduleError unless the schedule can be executed.
    """
    states = [State(frozenset({0}), frozenset(), 0, schedule.n, 0)]
    for number, event in enumerate(schedule.events, 1):
        try:
            states.append(apply_event(states[-1], event, schedule.n))
        except ScheduleError as error:
            raise ScheduleError(f"event {number} of {len(schedule.events)}: {error}") from None
    if states[-1].waiting:
        raise ScheduleError(
            f"the schedule ends while {states[-1].waiting} layers wait for their backward step."
        )
    return states


def peak(schedule: Schedule, activation: float = 1, inside: float = 0) -> float:
    """The most that is kept at any time.

    Segments of k keep ceil(n/k) + k activations, one less unless k divides n.
    """
    return max(state.size(activation, inside) for state in replay(schedule))


def extra_forwards(schedule: Schedule) -> int:
    """Layers run forward beyond the n that are needed anyway."""
    return sum(event.kind == "recompute" for event in schedule.events)


# --------------------------------------------------------------------------------- the optimal plan
def smallest_limit(n: int, activation: int = 1, inside: int = 0) -> int:
    """What every plan must keep: the chain's input, and one layer's input, output and inside.

    With a single layer the two inputs are the same one.
    """
    check_chain(n)
    return min(n + 1, 3) * activation + inside


def optimal(n: int, limit: int, activation: int = 1, inside: int = 0) -> Schedule:
    """The plan with the fewest forward steps that keeps at most `limit`, by dynamic programming.

    Sizes and limit are whole numbers in one unit. Raises ValueError below `smallest_limit`.
    """
    smallest = smallest_limit(n, activation, inside)
    if limit < smallest:
        raise ValueError(f"limit is {limit}: a chain of {n} layers needs at least {smallest}.")
    choose = _planner(n, activation, inside)
    events = _optimal_events(choose, n, limit - activation, activation, inside)
    return Schedule(f"optimal, limit {limit}", n, tuple(_name_first_steps(events)))


def _planner(n: int, activation: int, inside: int) -> Callable[[int, int], tuple[float, int]]:
    """`choose(length, free)` -> (forward steps, choice), for up to n layers.

    Their input is kept, and `free` is left for the rest. Choice 0 runs the first layer, saves its
    inside and goes on behind it. Choice j runs j layers, keeps only the output, does all that lies
    behind it, and then starts again for those j.
    """
    whole = activation + inside  # what one layer takes that saves its inside
    lengths = np.arange(n + 1)
    tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # free -> (steps, choices) by length

    def steps(free: int) -> np.ndarray:
        if free < 0:
            return np.full(n + 1, np.inf)
        return lengths.astype(float) if free >= n * whole else tables[free][0]

    def fill(free: int) -> None:
        mine = 1 + np.concatenate([[np.inf], steps(free - whole)[:-1]])  # choice 0
        mine[1] = 1 if free >= whole else np.inf
        tables[free] = mine, np.zeros(n + 1, dtype=int)
        if free < 2 * activation:  # while j layers run, the newest activation and the last are held
            return
        behind = steps(free - activation)
        for length in range(2, n + 1):
            options = lengths[1:length] + behind[length - 1 : 0 : -1] + mine[1:length]
            if options.min() < mine[length]:
                mine[length], tables[free][1][length] = options.min(), options.argmin() + 1

    def choose(length: int, free: int) -> tuple[float, int]:
        if free >= length * whole:
            return length, 0  # everything fits
        for smaller in sorted(_amounts_below(free, activation, whole) - tables.keys()):
            fill(smaller)
        return float(tables[free][0][length]), int(tables[free][1][length])

    return choose


def _amounts_below(free: int, *sizes: int) -> set[int]:
    """`free`, and all that can be left of it after taking the sizes away again and again."""
    found, new = set(), {free}
    while new:
        found |= new
        new = {left - size for left in new for size in sizes if left >= size} - found
    return found


def _optimal_events(
    choose: Callable, n: int, free: int, activation: int, inside: int
) -> Iterator[Event]:
    """The events for the layers 1..n, all named "recompute".

    It keeps its own list of what is left to do: Python's stack ends at a thousand layers.
    """
    todo: list[Event | tuple[int, int, int]] = [(0, n, free)]  # (start, end, free) or an event
    while todo:
        task = todo.pop()
        if isinstance(task, Event):
            yield task
            continue
        start, end, free = task
        _, j = choose(end - start, free)
        if j:
            yield from _advance(start, start + j, saves=False)
            todo += [(start, start + j, free), Event("discard", start + j)]
            todo.append((start + j, end, free - activation))
        else:
            yield Event("recompute", start + 1, saves=True)
            todo.append(Event("backward", start + 1))
            if start + 1 < end:
                todo.append((start + 1, end, free - activation - inside))


def _name_first_steps(events: Iterable[Event]) -> Iterator[Event]:
    """Call each layer's first computation "forward"."""
    reached = 0
    for event in events:
        if event.kind == "recompute" and event.layer > reached:
            reached, event = event.layer, event._replace(kind="forward")
        yield event


class Point(NamedTuple):
    """A plan as a point of the memory-work plane."""

    plan: str
    peak: float
    extra: int  # forward steps beyond n


def compare_plans(n: int, activation: int = 1, inside: int = 0) -> list[Point]:
    """Segments of every length, transformers' way for every k, and all optimal plans.

    Of the optimal plans, those under each limit that changes something.
    """
    schedules = [in_segments(n, k) for k in range(n, 0, -1)] + [
        one_layer_in(n, k) for k in range(1, n)
    ]
    points = [Point(s.name, peak(s, activation, inside), extra_forwards(s)) for s in schedules]
    choose, fewest = _planner(n, activation, inside), math.inf
    for limit in range(
        smallest_limit(n, activation, inside), (n + 1) * activation + n * inside + 1
    ):
        extra = choose(n, limit - activation)[0] - n
        if extra < fewest:
            fewest = extra
            points.append(Point("optimal", limit, int(extra)))
    return points


# --------------------------------------------------------------------- a transformer layer on paper
def korthikanti_layer_bytes(
    sequence: int, batch: int, hidden: int, heads: int, recompute: str = "none"
) -> int:
    """Bytes of activations that one transformer layer keeps for its backward pass in 16 bits.

    34 s b h + 5 a s**2 b; with "selective" recomputation (of the attention scores) 34 s b h; with
    "full" only the layer's input, 2 s b h. For a GPT layer: multi-head attention without
    FlashAttention, an MLP of width 4 h, dropout (1 byte masks). Korthikanti et al. 2022, section 4
    and table 2.
    """
    named = {"sequence": sequence, "batch": batch, "hidden": hidden, "heads": heads}
    for name, value in named.items():
        whole_number(name, value)
    per_recompute = {
        "none": 34 * hidden + 5 * heads * sequence,
        "selective": 34 * hidden,
        "full": 2 * hidden,
    }
    if recompute not in per_recompute:
        raise ValueError(
            f"unknown recompute {recompute!r}: expected one of {', '.join(per_recompute)}."
        )
    return sequence * batch * per_recompute[recompute]
