"""Every exercise of every lab: right answers pass on 40 seeds, every corner of its domain is asked
for, every named mistake is refused and recognised.
"""

import pytest
from exercise_tests import (
    assert_accepted,
    assert_corners_met,
    assert_refused,
    assert_well_made,
    label,
    mistakes,
    solutions,
)
from variants import VARIANTS

from lab_utils.checking import all_exercises

LABS = sorted({exercise.lab for exercise in all_exercises()})


@pytest.mark.parametrize("lab", LABS)
def test_each_lab_has_exercises(lab):
    assert len(all_exercises(lab)) >= 4


def test_every_variant_is_of_an_exercise():
    assert set(VARIANTS) == {exercise.name for exercise in all_exercises()}


@pytest.mark.parametrize("exercise", all_exercises(), ids=label)
def test_well_made(exercise):
    assert_well_made(exercise)


@pytest.mark.parametrize("exercise", all_exercises(), ids=label)
def test_every_corner_is_asked_for(exercise):
    assert_corners_met(exercise)


@pytest.mark.parametrize(("exercise", "i"), solutions(None), ids=label)
def test_right_answers_are_accepted(exercise, i):
    assert_accepted(exercise, i)


@pytest.mark.parametrize(("exercise", "mistake"), mistakes(None), ids=label)
def test_likely_mistakes_are_refused_and_named(exercise, mistake):
    assert_refused(exercise, mistake)
