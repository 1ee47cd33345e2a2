"""Exercises of lab 05_pavlos_dataset: what they call right is what `lab_utils` and independent
libraries compute.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import json

import numpy as np
import pytest
from exercise_tests import cases

from lab_utils.checking import all_exercises, check, find_exercise
from lab_utils.pavlos import build, judge, ladder


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("05_pavlos_dataset")]
    assert names == [
        "complete_objects",
        "content_jaccard",
        "distinct_n",
        "leaked_share",
        "cohens_kappa",
    ]


def test_complete_objects_are_those_of_the_ladder():
    for complete_objects, (text,) in cases("complete_objects"):
        found = [text[start:end] for start, end in complete_objects(text)]
        assert complete_objects(text) == ladder.complete_objects(text)
        assert all(isinstance(json.loads(piece), dict) for piece in found)


def test_complete_objects_by_hand():
    complete_objects = find_exercise("complete_objects").reference
    assert complete_objects(r'x {"a": "} \" {"} , {"b": 1} {"c": "') == [(2, 17), (20, 28)]


def test_content_jaccard():
    for content_jaccard, (a, b, stop_words) in cases("content_jaccard"):
        words = [frozenset(text.lower().split()) - set(stop_words) for text in (a, b)]
        assert content_jaccard(a, b, stop_words) == build.jaccard(*words)
    first = find_exercise("content_jaccard").make_inputs(np.random.default_rng(0))[0]
    # {country, come} of {country, come, feta, brie}
    assert find_exercise("content_jaccard").reference(*first) == 0.5


def test_distinct_n():
    for distinct_n, (texts, n) in cases("distinct_n"):
        assert distinct_n(texts, n) == build.distinct_n(texts, n)
    assert (
        find_exercise("distinct_n").reference(["golden golden cheese", "golden cheese is easy"], 2)
        == 4 / 5
    )


def test_leaked_share():
    for leaked_share, (train, held_out) in cases("leaked_share"):
        rows = [[{"fact_id": fact} for fact in facts] for facts in (train, held_out)]
        assert leaked_share(train, held_out) == build.leak(*rows)


def test_cohens_kappa():
    for cohens_kappa, (a, b) in cases("cohens_kappa"):
        assert cohens_kappa(a, b) == pytest.approx(judge.cohens_kappa(a, b), abs=1e-12)


def test_a_reader_that_gives_up_on_cut_off_replies_is_told_so():
    def complete_objects(text):
        try:
            whole = json.loads(text)
        except ValueError:
            return []
        return find_exercise("complete_objects").reference(text) if whole else []

    assert check(complete_objects).problem.mistake.startswith("a cut-off reply is given up")
