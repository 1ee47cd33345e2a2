"""The field in which a guess is typed where a notebook is open; `guesses` keeps it."""

from __future__ import annotations

import html
from collections.abc import Callable

import ipywidgets as widgets

from lab_utils.checking.checks import card
from lab_utils.checking.guesses import Guess
from lab_utils.drawing.live import FULL_WIDTH, Demo
from lab_utils.drawing.style import VERMILLION


class GuessForm(Demo):
    """A field with what is asked as its label, a button that keeps the number in it, and below it
    what was kept. `keep` takes the number and says what stands now.
    """

    def __init__(self, asked: Guess, keep: Callable[[float], Guess]):
        self.keep, self.kept = keep, widgets.HTML()
        number = "" if asked.guessed is None else f"{asked.guessed:.15g}"
        # at every key, ipywidgets would hold back the last ones while the kernel is busy
        self.field = widgets.Text(
            number, description=asked.what, placeholder="a number", continuous_update=False
        )
        self.field.style.description_width = "initial"
        self.field.layout.width, self.field.layout.max_width = "auto", FULL_WIDTH
        self.button = widgets.Button(
            description="keep", tooltip=f"Keep your guess: {asked.what}", button_style="primary"
        )
        self.button.layout.width = "auto"
        self.button.on_click(lambda _: self.take())
        self.field.observe(lambda _: self.take(), names="value")  # Enter, or the field is left
        self.kept.add_class("lab-kit-picture")  # read aloud when it changes
        row = widgets.HBox([self.field, self.button], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.kept], f"A field for your guess: {asked.what}")
        if asked.guessed is not None:
            self.kept.value = asked._repr_html_()

    def take(self) -> None:
        """Keep the number in the field, or say why it is none."""
        try:
            self.kept.value = self.keep(float(self.field.value))._repr_html_()
        except ValueError:
            typed = html.escape(self.field.value.strip()) or "An empty field"
            self.kept.value = card(VERMILLION, f"{typed} is no number: write one such as 2.5")
