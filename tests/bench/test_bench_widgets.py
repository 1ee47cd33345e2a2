"""`bench widgets`: percentiles, the table, and a problem where a demo is slow or makes the page
jump; one is timed for real.
"""

import argparse
import json
import subprocess
import sys

import pytest

import bench
from bench import widgets
from bench.widgets import LIMIT, Seen, Timed, outcome_of, percentile
from lab_utils.files import ROOT


def timed(*milliseconds, name="bits", tops=(), heights=()):
    """A demo of one control, whose pictures took so long and stood there."""
    tops, heights = tops or [100.0] * len(milliseconds), heights or [400.0] * len(milliseconds)
    return Timed(
        name, {"value": [Seen(*row) for row in zip(milliseconds, tops, heights, strict=True)]}
    )


@pytest.mark.parametrize("share, value", [(0.5, 50), (0.95, 95), (0.01, 1), (1.0, 100), (0.0, 1)])
def test_the_percentile_is_the_nearest_rank(share, value):
    assert percentile(list(range(100, 0, -1)), share) == value


def test_of_few_values_the_slowest_counts():
    assert percentile([10, 20, 300], 0.95) == 300 and percentile([7], 0.5) == 7


def test_a_quick_demo_is_told_and_no_problem():
    outcome = outcome_of([timed(*[40] * 38, 90, 250)], ["pavlos"])
    assert outcome.problems == []
    assert outcome.text.splitlines()[1].split() == ["bits", "40", "40", "40", "250", "40"]
    assert outcome.text.splitlines()[2].startswith("pavlos ") and "left out" in outcome.text
    assert [(m.name, m.value, m.unit, m.better) for m in outcome.measures] == [
        ("bits, least", 40, "ms", "lower"),
        ("bits, p50", 40, "ms", "lower"),
        ("bits, p95", 40, "ms", "lower"),
    ]


def test_a_slow_demo_is_a_problem_beyond_the_limit_only():
    assert outcome_of([timed(*[LIMIT] * 40)], []).problems == []
    slow = outcome_of([timed(*[40] * 37, 130, 130, 130)], [])
    assert slow.problems == ["bits: p95 is 130 ms, above 100"]
    on_site = outcome_of([timed(21, 21)], [], widgets.SITE_LIMIT)
    assert on_site.problems == ["bits: p95 is 21 ms, above 20"]


def test_a_page_that_jumps_and_a_picture_that_grows_are_problems():
    assert outcome_of([timed(40, 40, tops=[100.0, 100.8])], []).problems == []
    assert outcome_of([timed(40, 40, tops=[100.0, 142.0])], []).problems == [
        "bits: the page jumped by 42 pixels"
    ]
    assert outcome_of([timed(40, 40, heights=[400.0, 425.0])], []).problems == [
        "bits: the picture's height changed by 25 pixels"
    ]


def test_the_place_of_different_controls_may_differ():
    """Focusing a control that is far down scrolls to it: that is no jump."""
    demo = Timed("training", {"model": [Seen(40, 300, 500)] * 2, "rank": [Seen(40, 120, 500)] * 2})
    assert outcome_of([demo], []).problems == []


def test_controls_without_effect_are_named_and_a_dead_demo_is_a_problem():
    half = Timed("training", {"model": [Seen(40, 300, 500)], "rank": []})
    assert "without effect here: rank" in outcome_of([half], []).text
    assert outcome_of([Timed("bits", {"value": []})], []).problems == [
        "bits: no key changed its picture"
    ]


def test_a_demo_that_is_not_there_is_named():
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    with pytest.raises(bench.LabKitError, match="no demo 'soup'"):
        bench.main(parser.parse_args(["widgets", "--demos", "soup"]))


@pytest.mark.browser
def test_a_demo_is_timed_in_a_browser(tmp_path):
    """By the command, in a process of its own. It finds a picture for each key; how long that takes
    is not judged here.
    """
    command = [
        sys.executable,
        "-m",
        "lab_utils",
        "bench",
        "widgets",
        "--presses",
        "8",
        "--json",
        tmp_path / "new.json",
    ]
    done = subprocess.run(
        [*command, "--demos", "memory", "pavlos"], cwd=ROOT, capture_output=True, text=True
    )
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("memory "))
    assert row[5] == "8" and "without effect" not in done.stdout and "left out" in done.stdout, (
        done.stderr
    )
    kept = json.loads((tmp_path / "new.json").read_text())
    least, half, most = (measure["value"] for measure in kept["measures"])
    assert 1 < least <= half <= most < widgets.PATIENCE and float(row[2]) == round(half)
    assert not [problem for problem in kept["problems"] if "p95" not in problem]
