"""Timing: all take turns, the first round is not counted, one result is chosen."""

import statistics

import pytest

from lab_utils.start.timing import alternating, seconds_alternating


@pytest.mark.parametrize(
    "chosen, expected",
    [(statistics.median, {"a": 2.0, "b": 5.0}), (max, {"a": 9.0, "b": 6.0})],
    ids=["median", "best"],
)
def test_calls_take_turns_and_one_result_is_chosen(chosen, expected):
    order, values = [], {"a": iter([1.0, 9.0, 2.0]), "b": iter([5.0, 5.0, 6.0])}
    calls = {name: lambda name=name: order.append(name) or next(values[name]) for name in "ab"}
    assert alternating(calls, 3, chosen) == expected and order == list("ababab")


def test_the_first_round_is_not_counted_and_the_median_is_told():
    """A clock that each call moves by what it is said to take; the first calls take long."""
    now, takes = [0.0], {"a": iter([100.0, 1.0, 3.0, 2.0]), "b": iter([50.0, 7.0, 7.0, 8.0])}

    def call(name):
        now[0] += next(takes[name])

    calls = {name: lambda name=name: call(name) for name in takes}
    assert seconds_alternating(calls, 3, clock=lambda: now[0]) == {"a": 2.0, "b": 7.0}


def test_a_bar_counts_the_turns_only_where_it_is_named(capsys):
    alternating({"a": lambda: 1.0}, 2)
    assert capsys.readouterr().err == ""
    alternating({"a": lambda: 1.0}, 2, told="timing")
    assert "timing" in capsys.readouterr().err
