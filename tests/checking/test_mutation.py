"""Mutants by machine: every small change of a right answer that changes an answer anywhere in the
exercise's domain is refused, on each of 40 seeds. The terminal's summary shows the score.
"""

import numpy as np
import pytest
from exercise_tests import label
from mutants import TooLong, mutants_of
from mutation import score

from lab_utils.checking import all_exercises
from lab_utils.checking.checks import find_problem
from lab_utils.course.grading.judge import draw_cases, judge
from lab_utils.course.grading.worker.values import encode


@pytest.mark.filterwarnings("ignore")  # mutants divide by zero, and worse
@pytest.mark.parametrize("exercise", all_exercises(), ids=label)
def test_every_mutant_is_refused(exercise, record_property):
    result = score(exercise)
    record_property("mutants", str(result))
    print(result, *(f"equal: {change}" for change in result.equal), sep="\n  ")
    assert not result.accepted
    assert len(result.refused) >= 30


def some_mutants(exercise, n=5):
    """A few mutants of the reference, from all over it."""
    first = exercise.make_inputs(np.random.default_rng(0))[0]
    mutants = mutants_of(exercise.reference, first, exercise.reference(*first))
    return mutants[:: max(1, len(mutants) // n)]


def outcome(function, case):
    """What the grader's worker would send: the answer, and the arguments after the call."""
    try:
        return ("answer", function(*case), case)
    except Exception as error:
        return ("error", type(error).__name__, 1, 1)


@pytest.mark.filterwarnings("ignore")  # mutants divide by zero, and worse
@pytest.mark.parametrize("exercise", all_exercises(), ids=label)
def test_check_and_grader_agree_on_mutants(exercise):
    """The score looks at answers one by one; here are the two ways that people go."""
    for seed, mutant in enumerate(some_mutants(exercise)):
        drawn = draw_cases(exercise, seed)
        sent = encode([outcome(mutant.function, case) for case in drawn], foreign=True)
        verdict = judge(exercise, draw_cases(exercise, seed), sent)
        problem = find_problem(exercise, mutant.function, np.random.default_rng(seed))
        assert (verdict.points == 0) == (problem is not None), mutant.change


def scaled_and_shifted(a, b):
    for i in range(3):
        if a < b and i > 0:
            a += 2 * i
    return max(a, b)


def test_the_mutator_knows_the_usual_changes():
    changes = [mutant.change for mutant in mutants_of(scaled_and_shifted, (1.0, 7.0), 7.0)]
    for change in (
        "3 -> 4",
        "a < b -> a <= b",
        "a < b and i > 0 -> a < b or i > 0",
        "a < b and i > 0 -> i > 0",
        "2 * i -> 2 / i",
        "max(a, b) -> min(a, b)",
        "a = 1.0",
        "a, b = b, a",
        "result: int(r - .1)",
        "always 7.0",
    ):
        assert change in changes, change
    assert len(changes) == len(set(changes))


def never_ends(n):
    while n > 0:
        n -= 1
    return n


def test_a_mutant_without_end_is_stopped():
    endless = [m for m in mutants_of(never_ends, (3,), 0) if m.change == "n > 0 -> True"]
    with pytest.raises(TooLong):
        endless[0].function(3)
