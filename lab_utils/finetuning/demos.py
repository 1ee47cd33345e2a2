"""Demos of lab 06: the loss while it falls, and a chat with the model before and after.

Only wiring: what is drawn comes from `pictures`, what is said from the callables given.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets
from IPython.display import display

from lab_utils.drawing.live import Demo, side_by_side
from lab_utils.drawing.style import as_image
from lab_utils.finetuning.pictures import answers_html, loss_picture


class LiveLoss:
    """`watch` for `finetune`: one picture in the cell's output that grows with each step, and stays
    when all is done.
    """

    def __init__(self, title: str):
        self.title, self.losses = title, []
        self.first_step, self.handle = 1, None

    def __call__(self, step: int, n_steps: int, loss: float) -> None:
        """Add one loss and redraw."""
        if self.handle is None:
            self.first_step = step  # above 1 where a killed run goes on
        self.losses.append(loss)
        picture = as_image(
            loss_picture(self.losses, n_steps, self.title, self.first_step), width=760
        )
        if self.handle is None:
            self.handle = display(picture, display_id=True)
        else:
            self.handle.update(picture)


class BeforeAfterChat(Demo):
    """Type a question (or press an example), read both answers. Enter in the box asks too."""

    def __init__(
        self, before: Callable[[str], str], after: Callable[[str], str], examples: list[str]
    ):
        self.before, self.after, self.asked = before, after, None
        self.box = widgets.Text(
            value=examples[0],
            description="Question",
            layout=widgets.Layout(width="70%"),
            style={"description_width": "initial"},
            continuous_update=False,
        )
        self.button = widgets.Button(
            description="Ask both", button_style="primary", tooltip="Ask both models"
        )
        self.examples = [
            widgets.Button(
                description=text, tooltip=f"Ask: {text}", layout=widgets.Layout(width="auto")
            )
            for text in examples
        ]
        self.answers = widgets.HTML()
        self.button.on_click(lambda _: self.ask())
        self.box.observe(lambda _: self.ask(), names="value")  # fires on Enter, not at every key
        for button in self.examples:
            button.on_click(lambda pressed: self.choose(pressed.description))
        super().__init__(
            [widgets.HBox([self.box, self.button]), side_by_side(*self.examples), self.answers],
            "A chat: type a question and read the answers of two models, before and after "
            "fine-tuning",
        )
        self.ask()

    def choose(self, question: str) -> None:
        """Put an example into the box and ask it."""
        self.box.value = question  # its observer asks

    def ask(self) -> None:
        """Show both answers to the question in the box, or say what is wrong with it."""
        question = self.box.value
        if question == self.asked:
            # leaving the box by a click on the button asks once, not twice; the answers are greedy,
            # so the same
            return
        self.asked = question
        try:
            before, after = self.before(question), self.after(question)
        except ValueError as error:
            before = after = f"({error})"
        self.answers.value = answers_html(question, before, after)
