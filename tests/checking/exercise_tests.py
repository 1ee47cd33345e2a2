"""What every exercise must withstand. Also the `cases` that the labs' own tests compare."""

import numpy as np
from variants import VARIANTS

from lab_utils.checking import all_exercises, find_exercise
from lab_utils.checking.checks import Exercise, find_problem, fresh, same_answer


def solutions(lab: str | None = None) -> list[tuple[Exercise, int]]:
    """(exercise, i) for the reference (0) and each variant."""
    return [
        (exercise, i)
        for exercise in all_exercises(lab)
        for i in range(1 + len(VARIANTS.get(exercise.name, ())))
    ]


def mistakes(lab: str | None = None) -> list[tuple[Exercise, str]]:
    return [(exercise, mistake) for exercise in all_exercises(lab) for mistake in exercise.wrong]


def label(value: object) -> str | None:
    """An exercise's name; else pytest's own, since an object's address differs between workers."""
    return value.name if isinstance(value, Exercise) else None


def cases(name: str, seeds: int = 5) -> list[tuple]:
    """(reference, arguments) for every case that the exercise draws from each seed."""
    exercise = find_exercise(name)
    return [
        (exercise.reference, case)
        for seed in range(seeds)
        for case in exercise.make_inputs(np.random.default_rng(seed))
    ]


def assert_accepted(exercise: Exercise, i: int, seeds: int = 40) -> None:
    function = (exercise.reference, *VARIANTS[exercise.name])[i]
    for seed in range(seeds):
        problem = find_problem(exercise, function, np.random.default_rng(seed))
        assert problem is None, (seed, problem)


def assert_corners_met(exercise: Exercise, seeds: int = 40) -> None:
    """Every corner of the domain is asked for in every check, and in every grading."""
    for seed in range(seeds):
        drawn = exercise.make_inputs(np.random.default_rng(seed))
        missed = [
            name
            for name, here in exercise.corners.items()
            if not any(here(*case) for case in drawn)
        ]
        assert not missed, (seed, missed)


def assert_refused(exercise: Exercise, mistake: str, seeds: int = 6) -> None:
    """Refused on every seed, and named: the message must say this mistake and not another."""
    for seed in range(seeds):
        problem = find_problem(exercise, exercise.wrong[mistake], np.random.default_rng(seed))
        assert problem is not None, f"accepted with seed {seed}"
        assert problem.mistake in (mistake, ""), f"seed {seed}: taken for {problem.mistake!r}"
        assert problem.mistake == mistake or problem.kind in ("none", "exception"), (
            f"seed {seed}: {problem}"
        )


def assert_well_made(exercise: Exercise) -> None:
    assert len(exercise.wrong) >= 6, "at least 6 likely mistakes"
    assert len(exercise.corners) >= 3 and exercise.hints
    assert len(VARIANTS.get(exercise.name, ())) >= 3, "at least 3 right answers in other styles"
    drawn = exercise.make_inputs(np.random.default_rng(0))
    answers = [exercise.reference(*fresh(case)) for case in drawn]
    assert not all(same_answer(exercise, answers[0], answer) for answer in answers[1:])
