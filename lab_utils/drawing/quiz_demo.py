"""A quiz in a notebook: choose an answer, read at once what it means, and see the score. Nothing is
stored.
"""

import html
from collections.abc import Sequence

import ipywidgets as widgets

from lab_utils.drawing.live import Demo
from lab_utils.drawing.quiz import Question, feedback, score
from lab_utils.drawing.style import GREEN, VERMILLION, Picture, picture


def question_html(number: int, question: Question) -> str:
    """A question's text, large enough for a hall."""
    return (
        f'<p style="font-size:120%;margin:10px 0 2px"><b>{number}.</b> '
        f"{html.escape(question.text)}</p>"
    )


def feedback_html(right: bool, said: str) -> str:
    """What to say to a chosen answer; read aloud by screen readers when it changes."""
    color, word = (GREEN, "✓ Right.") if right else (VERMILLION, "✗ Not quite.")
    said = said.removeprefix("Right: ").removeprefix("Right. ")  # the mark says that already
    return (
        f'<div role="status" aria-live="polite" style="border-left:8px solid {color};padding:4px '
        '14px;font-size:110%">'
        f"<b>{word}</b> {html.escape(said[:1].upper() + said[1:])}</div>"
    )


def score_html(right: int, given: int, of: int) -> str:
    """The score so far."""
    return (
        f'<p role="status" style="font-size:120%"><b>{right} right of {given} answered</b>, {of} '
        "questions in all.</p>"
    )


def quiz_page(questions: Sequence[Question]) -> Picture:
    """The quiz where no kernel runs: each answer opens and says what it means."""
    parts = []
    for number, question in enumerate(questions, 1):
        parts.append(question_html(number, question))
        for option, said in question.options.items():
            body = feedback_html(option == question.right, said).replace(
                ' role="status" aria-live="polite"', ""
            )
            parts.append(
                "<details "
                f'style="margin-left:24px"><summary>{html.escape(option)}</summary>{body}</details>'
            )
    return picture(
        "".join(parts),
        f"A quiz of {len(questions)} questions; open an answer to see whether it is right.",
    )


class Quiz(Demo):
    """Questions one under the other; `choices`, `replies` and `total` are there for those who want
    to drive it.
    """

    def __init__(self, questions: tuple[Question, ...]):
        self.questions = questions
        self.choices = [
            widgets.RadioButtons(
                options=list(question.options), value=None, layout=widgets.Layout(width="auto")
            )
            for question in questions
        ]
        self.replies, self.total = [widgets.HTML() for _ in questions], widgets.HTML()
        rows = []
        for i, (question, choice, reply) in enumerate(
            zip(questions, self.choices, self.replies, strict=True)
        ):
            choice.observe(lambda _, i=i: self.answer(i), names="value")
            rows += [widgets.HTML(question_html(i + 1, question)), choice, reply]
        super().__init__(
            [*rows, self.total], f"A quiz of {len(questions)} questions that answers each choice"
        )
        self.show_score()

    def still(self) -> str:
        """The quiz that opens: each answer says what it means."""
        return quiz_page(self.questions)

    def answer(self, i: int) -> None:
        """Say what the chosen answer of question `i` means."""
        chosen = self.choices[i].value
        self.replies[i].value = (
            "" if chosen is None else feedback_html(*feedback(self.questions[i], chosen))
        )
        self.show_score()

    def show_score(self) -> None:
        """Right answers of those given."""
        right, given = score(self.questions, [choice.value for choice in self.choices])
        self.total.value = score_html(right, given, len(self.questions))
