"""Timing that holds up on a busy machine: what is compared takes turns, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def alternating(
    calls: Mapping[str, Callable[[], float]],
    rounds: int,
    chosen: Callable = statistics.median,
    told: str | None = None,
) -> dict[str, float]:
    """The `chosen` one of each call's results. They take turns, so that a busy moment of the
    machine hits all alike.

    With `told`, a progress bar of that name counts the turns.
    """
    # here: a command's arguments are known before any package is installed
    from tqdm.auto import (
        tqdm,
    )

    found: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in tqdm(
        list(calls.items()) * rounds, unit="run", desc=told, disable=told is None
    ):
        found[name].append(call())
    return {name: chosen(results) for name, results in found.items()}


def seconds_alternating(
    calls: Mapping[str, Callable], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each call, in turns; a first round, not counted, warms up.

    With `time.process_time` as the clock and one thread, what else runs on the machine hardly
    counts.
    """

    def seconds_of(call: Callable) -> float:
        start = clock()
        call()
        return clock() - start

    timed = {name: lambda call=call: seconds_of(call) for name, call in calls.items()}
    alternating(timed, 1)
    return alternating(timed, repeats)
