"""Demos of lab 05, driven as a person drives them: the faults are shown, the threshold counts,
votes are kept.
"""

import json

import pytest

from lab_utils.pavlos import demos as widgets
from lab_utils.pavlos.build import facts_by_id
from lab_utils.pavlos.corpus import build_pairs
from lab_utils.pavlos.demos import (
    BrowseAndVote,
    alike_questions,
    draw_duplicates,
    draw_fault,
    duplicates_demo,
    fault_browser,
)
from lab_utils.pavlos.fault_box import faults
from lab_utils.pavlos.judge import cohens_kappa, with_controls

FACTS = facts_by_id()
ROWS = [
    {"question": "Which country does Feta come from?", "fact_id": "Feta/country"},
    {"question": "Which country does Brie come from?", "fact_id": "Brie/country"},
    {"question": "From which country does Feta come?", "fact_id": "Feta/country"},
    {"question": "Is rennet an enzyme?", "fact_id": "rennet"},
]


@pytest.fixture(scope="module")
def controls():
    return with_controls(build_pairs(0)["test"][:9], FACTS, seed=0)


# ---------------------------------------------------------------------------------------- fault box
def test_each_fault_can_be_chosen_and_is_shown():
    box = fault_browser()
    chooser = box.controls["name"]
    assert [value for _, value in chooser.options] == [fault.name for fault in faults()]
    assert box.picture.value == draw_fault("clean list")
    chooser.value = "smart quotes"
    assert (
        box.picture.value == draw_fault("smart quotes")
        and "3 pairs kept by the rung scan" in box.picture.value
    )
    assert fault_browser("empty").controls["name"].value == "empty"


def test_a_fault_says_why_pieces_are_left():
    assert "stops in mid-sentence" in draw_fault("closed in mid-sentence")
    assert "cut off (finish reason MAX_TOKENS)" in draw_fault("cut in a question")
    assert draw_fault("a missing colon").description.endswith(
        "2 pairs kept by the rung repair, 0 pieces left."
    )


# ---------------------------------------------------------------------------------- near-duplicates
def test_alike_questions_by_both_measures():
    alike = alike_questions(ROWS)
    assert {(i, j): round(score, 3) for i, j, score in alike["ROUGE-L"]} == {
        (0, 1): 0.833,
        (0, 2): 0.833,
        (1, 2): 0.667,
    }
    assert {(i, j): score for i, j, score in alike["Jaccard"]} == {
        (0, 1): 0.5,
        (0, 2): 1.0,
        (1, 2): 0.5,
    }


def test_the_threshold_decides_what_is_alike():
    alike = alike_questions(ROWS)
    assert draw_duplicates(0.7, ROWS, alike).description == (
        "From 0.70 on: ROUGE-L 2 pairs, 1 of them ask for different facts; Jaccard 1 pairs, 0 of "
        "them ask for different facts."
    )
    box = duplicates_demo(ROWS, alike)
    assert box.controls["threshold"].value == 0.7
    box.controls["threshold"].value = 0.5
    assert (
        "Jaccard 3 pairs, 2 of them" in box.picture.value and "ROUGE-L 3 pairs" in box.picture.value
    )
    box.controls["threshold"].value = 1.0
    assert "ROUGE-L 0 pairs" in box.picture.value and "Jaccard 1 pairs" in box.picture.value
    assert duplicates_demo(ROWS).picture.value == duplicates_demo(ROWS, alike).picture.value


# ---------------------------------------------------------------------------------------- voting
def test_pairs_are_browsed_in_a_circle(controls):
    demo = BrowseAndVote(controls, FACTS)
    assert (
        "pair 1 of 9" in demo.shown.value
        and FACTS[controls[0]["fact_id"]].statement().split()[0] in demo.shown.value
    )
    demo.next.click()
    assert "pair 2 of 9" in demo.shown.value
    demo.back.click()
    demo.back.click()
    assert "pair 9 of 9" in demo.shown.value
    assert not any(control in demo.shown.value for control in ("wrong fact", "no voice")), (
        "the rater must not see it"
    )


def rate(demo, rater, votes):
    demo.rater.value = rater
    for voice, truth in votes:
        demo.choices["voice"].value, demo.choices["truth"].value = voice, truth
        demo.next.click()


A = [("yes", "yes"), ("yes", "no"), ("no", "yes"), ("yes", "yes"), ("no", "no")]
B = [("yes", "yes"), ("yes", "yes"), ("no", "yes"), ("no", "yes"), ("no", "no")]


def test_two_raters_vote_and_kappa_is_theirs(controls):
    demo = BrowseAndVote(controls[:5], FACTS)
    assert "no pair judged by both" in demo.agreement.value
    rate(demo, "A", A)
    rate(demo, "B", B)
    told = demo.told()
    for k, name in enumerate(("voice", "truth")):
        expected = cohens_kappa([vote[k] for vote in A], [vote[k] for vote in B])
        assert told[name] == (5, 0.8, pytest.approx(expected))
        assert (
            f"{name}: agree on 80% of 5" in demo.agreement.value
            and f"kappa {expected:.2f}" in demo.agreement.value
        )


def test_each_rater_sees_his_own_votes_only(controls):
    demo = BrowseAndVote(controls, FACTS)
    demo.choices["voice"].value = "no"
    demo.rater.value = "B"
    assert demo.choices["voice"].value == "not yet" and demo.votes["B"]["voice"] == {}
    demo.rater.value = "A"
    assert demo.choices["voice"].value == "no"
    demo.choices["voice"].value = "not yet"
    assert demo.votes["A"]["voice"] == {}, "a vote can be taken back"


def test_browsing_alone_votes_nothing(controls):
    demo = BrowseAndVote(controls, FACTS)
    demo.choices["truth"].value = "yes"
    for _ in range(20):
        demo.next.click()
    demo.rater.value = "B"
    demo.rater.value = "A"
    assert sum(len(votes) for rater in demo.votes.values() for votes in rater.values()) == 1


def test_votes_are_on_the_disk_at_once_and_gone_on_from(controls, tmp_path):
    path = tmp_path / "votes.json"
    demo = BrowseAndVote(controls, FACTS, path=path)
    assert not path.exists()
    demo.choices["voice"].value = "no"
    assert json.loads(path.read_text(encoding="utf-8")) == demo.votes
    path.rename(tmp_path / "moved")
    demo.next.click()
    demo.back.click()
    assert not path.exists(), "to look at a pair writes nothing"
    (tmp_path / "moved").rename(path)
    again = BrowseAndVote(controls, FACTS, path=path)
    assert again.choices["voice"].value == "no" and again.votes == demo.votes
    rate(again, "B", B[:1])
    assert BrowseAndVote(controls, FACTS, path=path).told()["voice"][:2] == (1, 0.0)


def test_everything_is_on_the_page_and_labelled(controls):
    demo, shown = BrowseAndVote(controls, FACTS, raters=("Ann", "Bob")), []

    def walk(widget):
        shown.append(widget)
        for child in getattr(widget, "children", ()):
            walk(child)

    walk(demo)
    for widget in (
        demo.rater,
        demo.shown,
        demo.back,
        demo.next,
        demo.agreement,
        *demo.choices.values(),
    ):
        assert widget in shown
    assert demo.rater.options == ("Ann", "Bob")
    assert all(
        any(
            text in getattr(widget, "value", "")
            for widget in shown
            if isinstance(getattr(widget, "value", ""), str)
        )
        for text in widgets.VOTES.values()
    )
