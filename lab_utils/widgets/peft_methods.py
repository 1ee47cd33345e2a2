"""Demos of lab 07: methods compared on five axes, a chat with a voice selector, two adapters blended by a slider.

Only wiring: what is drawn comes from `plots.peft_methods`, what is said from the callables given.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets

from lab_utils.plots.peft_methods import axes_picture, voice_html
from lab_utils.widgets import Demo, live, wide

NOBODY = "-"


def axes_demo(shares: Mapping[str, Mapping[str, float]], chosen: Sequence[str]) -> Demo:
    """Choose up to three methods; they stand out among the others on the five axes. `chosen` come first."""
    def draw(**picked: str):
        return axes_picture(shares, [method for method in picked.values() if method != NOBODY])

    names = [*shares, NOBODY]
    labels = ("first method", "second method", "third method")
    return live(draw, **{label.replace(" ", "_"): wide(widgets.Dropdown(options=names, value=method, description=label))
                         for label, method in zip(labels, [*chosen, NOBODY, NOBODY, NOBODY])})


def _said(ask: Callable[..., str], *arguments) -> str:
    """What the callable says, or what is wrong with the question."""
    try:
        return ask(*arguments)
    except ValueError as error:
        return f"({error})"


class VoiceChat(Demo):
    """Type a question or press an example, choose a voice: `ask(voice, question)` answers, on one base in one process."""

    def __init__(self, ask: Callable[[str, str], str], voices: Sequence[str], examples: Sequence[str]):
        self.asker = ask
        self.voice = widgets.ToggleButtons(options=list(voices), description="Voice", tooltips=[f"Answer as {v}" for v in voices])
        self.voice.style.button_width, self.voice.style.font_weight = "9em", "bold"
        self.box = widgets.Text(value=examples[0], description="Question", layout=widgets.Layout(width="70%"),
                                continuous_update=False)
        self.examples = [widgets.Button(description=text, tooltip=f"Ask: {text}", layout=widgets.Layout(width="auto"))
                         for text in examples]
        self.answer = widgets.HTML()
        for control in (self.voice, self.box):
            control.observe(lambda _: self.ask(), names="value")
        for button in self.examples:
            button.on_click(lambda pressed: setattr(self.box, "value", pressed.description))
        super().__init__([self.voice, self.box, widgets.HBox(self.examples), self.answer],
                         f"A chat in the voices {', '.join(voices)}: choose one and type a question")
        self.ask()

    def ask(self) -> None:
        """Show the chosen voice's answer to the question in the box, or say what is wrong with it."""
        voice, question = self.voice.value, self.box.value
        self.answer.value = voice_html(question, voice, _said(self.asker, voice, question))


def blend_demo(ask: Callable[[float, str], str], names: tuple[str, str], question: str) -> Demo:
    """Drag from one voice to another: `ask(weight of the second, question)` blends the two adapters and answers."""
    def draw(weight: float, question: str) -> str:
        return voice_html(question, f"{1 - weight:.1f} {names[0]} + {weight:.1f} {names[1]}", _said(ask, weight, question))

    return live(draw, weight=wide(widgets.FloatSlider(0.5, min=0, max=1, step=0.1, description=f"{names[0]} → {names[1]}",
                                                      continuous_update=False, readout_format=".1f")),
                question=wide(widgets.Text(value=question, description="Question", continuous_update=False)))
