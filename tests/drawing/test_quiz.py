"""Quizzes: they judge, they count, their widget follows, and where no kernel runs the page says the
same.
"""

import re

import pytest

from lab_utils.drawing.quiz import AFTER, BEFORE, Question, feedback, score
from lab_utils.drawing.quiz_demo import Quiz, quiz_page

QUESTION = Question("2 + 2 < 5?", "yes", {"yes": "Right: 4.", "no": "Count <again>."})


def test_feedback_says_what_belongs_to_the_answer():
    assert feedback(QUESTION, "yes") == (True, "Right: 4.") and feedback(QUESTION, "no") == (
        False,
        "Count <again>.",
    )
    with pytest.raises(ValueError, match="'maybe' is no answer here"):
        feedback(QUESTION, "maybe")


def test_score_leaves_open_questions_out():
    assert score((QUESTION, QUESTION, QUESTION), ["yes", None, "no"]) == (1, 2)
    with pytest.raises(ValueError):
        score((QUESTION,), [])


@pytest.mark.parametrize(
    ("right", "options", "words"),
    [("c", {"a": "", "b": ""}, "must be one of"), ("a", {"a": ""}, "at least two")],
)
def test_a_question_without_a_right_answer_is_refused(right, options, words):
    with pytest.raises(ValueError, match=words):
        Question("?", right, options)


@pytest.mark.parametrize("quiz", [BEFORE, AFTER], ids=["before", "after"])
def test_the_quizzes_of_lab_00(quiz):
    assert len(quiz) == 5 and len({question.text for question in quiz}) == 5
    for question in quiz:
        assert len(question.options) >= 3 and all(
            len(said) > 20 for said in question.options.values()
        )
        assert not any(
            said.startswith("Right")
            for option, said in question.options.items()
            if option != question.right
        )
    places = {list(question.options).index(question.right) for question in quiz}
    assert len(places) > 1, "the right answer is not always in the same place"


def test_the_widget_answers_at_once_and_counts():
    quiz = Quiz((QUESTION, QUESTION))
    assert "0 right of 0 answered" in quiz.total.value and quiz.replies[0].value == ""
    quiz.choices[0].value = "no"
    assert "Not quite" in quiz.replies[0].value and "Count &lt;again&gt;." in quiz.replies[0].value
    assert "0 right of 1 answered" in quiz.total.value and quiz.replies[1].value == ""
    quiz.choices[0].value = "yes"
    quiz.choices[1].value = "yes"
    assert "✓ Right." in quiz.replies[1].value and "2 right of 2 answered" in quiz.total.value
    quiz.choices[0].value = None
    assert quiz.replies[0].value == "" and "1 right of 1 answered" in quiz.total.value
    assert all(box in quiz.children for box in (*quiz.choices, *quiz.replies, quiz.total))
    assert 'role="status"' in quiz.replies[1].value and "2 + 2 &lt; 5?" in quiz.children[0].value


def test_the_page_without_a_kernel_opens_every_answer():
    page = quiz_page(BEFORE)
    assert (
        page.count("<details")
        == page.count("</details>")
        == sum(len(question.options) for question in BEFORE)
    )
    assert page.count("✓ Right.") == len(BEFORE) and "5 questions" in page.description
    assert not re.search(r"Right[.:]</b> Right", page), "the word is not said twice"
