"""A quiz in a notebook: choose an answer, read at once what it means, and see the score. Nothing is stored."""

import ipywidgets as widgets

from lab_utils.plots.why_peft import feedback_html, question_html, score_html
from lab_utils.quiz import Question, feedback, score
from lab_utils.widgets import Demo


class Quiz(Demo):
    """Questions one under the other; `choices`, `replies` and `total` are there for those who want to drive it."""

    def __init__(self, questions: tuple[Question, ...]):
        self.questions = questions
        self.choices = [widgets.RadioButtons(options=list(question.options), value=None, layout=widgets.Layout(width="auto"))
                        for question in questions]  # fmt: skip
        self.replies, self.total = [widgets.HTML() for _ in questions], widgets.HTML()
        rows = []
        for i, (question, choice, reply) in enumerate(zip(questions, self.choices, self.replies, strict=True)):
            choice.observe(lambda _, i=i: self.answer(i), names="value")
            rows += [widgets.HTML(question_html(i + 1, question)), choice, reply]
        super().__init__([*rows, self.total], f"A quiz of {len(questions)} questions that answers each choice")
        self.show_score()

    def answer(self, i: int) -> None:
        """Say what the chosen answer of question `i` means."""
        chosen = self.choices[i].value
        self.replies[i].value = "" if chosen is None else feedback_html(*feedback(self.questions[i], chosen))
        self.show_score()

    def show_score(self) -> None:
        """Right answers of those given."""
        right, given = score(self.questions, [choice.value for choice in self.choices])
        self.total.value = score_html(right, given, len(self.questions))
