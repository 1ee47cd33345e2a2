"""How many mutants of its right answers an exercise refuses."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mutants import Mutant, TooLong, mutants_of
from variants import VARIANTS

from lab_utils.checking.checks import Exercise, find_difference, fresh
from lab_utils.course.grading.judge import draw_cases

N_SEEDS, N_SEARCHED = 40, 400
Drawn = list[tuple[tuple, Any]]  # (arguments, right answer)


@dataclass
class Score:
    """What became of the mutants of an exercise's reference and variants."""

    exercise: Exercise
    refused: list[str] = field(default_factory=list)
    equal: list[str] = field(default_factory=list)  # the same answer all over the domain
    accepted: list[str] = field(default_factory=list)  # wrong somewhere, and right on some seed

    def __str__(self) -> str:
        killed, wrong = len(self.refused), len(self.refused) + len(self.accepted)
        return (
            f"{self.exercise.name:<28}{killed:>5} of {wrong:>4} refused"
            f"{killed / max(wrong, 1):>8.1%}{len(self.equal):>5} equal"
        )


def score(exercise: Exercise) -> Score:
    """Try every mutant on the inputs of each seed, which are those of the grader, too."""
    drawn = [with_answers(exercise, draw_cases(exercise, seed)) for seed in range(N_SEEDS)]
    rng = np.random.default_rng(N_SEEDS)
    searched = with_answers(exercise, [exercise.domain(rng) for _ in range(N_SEARCHED)])
    result, known = Score(exercise), set()
    for function in (exercise.reference, *VARIANTS[exercise.name]):
        for mutant in mutants_of(function, *drawn[0][0]):
            if mutant.change not in known:
                known.add(mutant.change)
                sort_in(result, mutant, drawn, searched)
    return result


def with_answers(exercise: Exercise, cases: list[tuple]) -> Drawn:
    return [(case, exercise.reference(*fresh(case))) for case in cases]


def sort_in(result: Score, mutant: Mutant, drawn: list[Drawn], searched: Drawn) -> None:
    function = mutant.function
    seeds = seeds_that_accept(result.exercise, function, drawn)
    if not seeds:
        result.refused.append(mutant.change)
    elif len(seeds) == len(drawn) and not refusing(result.exercise, function, searched):
        result.equal.append(mutant.change)
    else:
        result.accepted.append(f"{mutant.change} (on {len(seeds)} of {len(drawn)} seeds)")


def seeds_that_accept(exercise: Exercise, function: Callable, drawn: list[Drawn]) -> list[int]:
    """The seeds on which every answer is right. What refused on one seed is tried first."""
    seeds, first = [], 0
    for seed, cases in enumerate(drawn):
        order = cases[first : first + 1] + cases
        found = refusing(exercise, function, order)
        if not found:
            seeds.append(seed)
        elif found > 1:
            first = found - 2
    return seeds


def refusing(exercise: Exercise, function: Callable, cases: Drawn) -> int:
    """The number of the first case, from 1, whose answer is wrong; 0 if none is."""
    i = 0
    try:
        with seconds(5):
            for i, (arguments, right) in enumerate(cases, 1):
                given = fresh(arguments)
                received = function(*given)
                if find_difference(exercise, arguments, given, right, received):
                    return i
    except Exception:
        return i
    return 0


@contextmanager
def seconds(limit: float) -> Iterator[None]:
    """Ends what takes longer of the processor's time, however busy the machine, with `TooLong`."""

    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
