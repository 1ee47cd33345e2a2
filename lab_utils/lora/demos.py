"""Live demos of lab 04: a matrix at rank r, and how many parameters the adapters of a real model
have.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import ipywidgets
import ipywidgets as widgets
import torch
from torch import Tensor

from lab_utils.drawing.live import Demo, live, side_by_side, wide
from lab_utils.drawing.style import Picture
from lab_utils.lora.lora import adapter_size, layer_shapes, relative_error
from lab_utils.lora.pictures import adapter_picture, axes_picture, rank_picture, voice_html

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
LAYERS = {
    "q, v": ("q", "v"),
    "attention": ("q", "k", "v", "o"),
    "MLP": ("gate", "up", "down"),
    "all linear": None,
}


def cheese_picture(size: int = 128) -> Tensor:
    """A wedge of cheese with holes, (size, size), brightness 0 to 1, drawn by formula."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    inside = (x > 0.08) & (x < 0.92)
    top, front = inside & (y > 0.62 - 0.45 * x) & (y < 0.62), inside & (y >= 0.62) & (y < 0.88)
    picture = 0.12 + 0.1 * y + 0.78 * top * (1 - 0.25 * y) + 0.6 * front * (1 - 0.15 * x)
    holes = (
        (0.3, 0.75, 0.07),
        (0.55, 0.7, 0.045),
        (0.75, 0.78, 0.08),
        (0.7, 0.45, 0.06),
        (0.84, 0.33, 0.035),
    )
    for middle_x, middle_y, radius in holes:
        hole = (x - middle_x) ** 2 + (1.3 * (y - middle_y)) ** 2 < radius**2
        picture = torch.where(hole, 0.35 + 0.5 * (y - middle_y + radius), picture)
    return picture.clamp(0, 1)


def example_matrices() -> dict[str, Tensor]:
    """Lab 04's two matrices, (128, 128): the picture, and normal noise, which no low rank holds."""
    noise = torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
    return {"cheese": cheese_picture(), "noise": noise}


class Decomposed(NamedTuple):
    """A matrix (rows, columns) with its singular value decomposition, computed once."""

    matrix: Tensor
    u: Tensor
    s: Tensor
    vt: Tensor


def decompose(matrices: Mapping[str, Tensor]) -> dict[str, Decomposed]:
    """Each matrix by its name, decomposed."""
    plain = {name: matrix.detach().float() for name, matrix in matrices.items()}
    return {
        name: Decomposed(matrix, *torch.linalg.svd(matrix, full_matrices=False))
        for name, matrix in plain.items()
    }


def draw_rank(name: str, rank: int, decomposed: Mapping[str, Decomposed]) -> Picture:
    """A matrix beside its best approximation of this rank, or of its full one."""
    matrix, u, s, vt = decomposed[name]
    rank = min(rank, len(s))
    approximation = (u[:, :rank] * s[:rank]) @ vt[:rank]
    return rank_picture(
        name,
        matrix.cpu().numpy(),
        approximation.cpu().numpy(),
        s.tolist(),
        rank,
        relative_error(s, rank),
    )


def rank_demo(decomposed: Mapping[str, Decomposed]) -> Demo:
    """Choose a matrix and drag the rank: sharper picture, smaller error, more parameters."""
    names = list(decomposed)
    return live(
        functools.partial(draw_rank, decomposed=decomposed),
        name=wide(ipywidgets.Dropdown(options=names, value=names[0], description="matrix")),
        rank=wide(ipywidgets.SelectionSlider(options=list(RANKS), value=8, description="rank")),
    )


def draw_adapters(model: str, rank: int, configs: Mapping[str, Mapping]) -> Picture:
    """What adapters on some layers of a real model have to train, beside its linear layers."""
    config = configs[model]
    shapes = layer_shapes(config)
    # Falcon and GPT-2 keep q, k and v in one matrix
    sizes = {
        name: adapter_size(config, rank, layers)
        for name, layers in LAYERS.items()
        if layers is None or set(layers) <= set(shapes)
    }
    full = config["num_hidden_layers"] * sum(n_out * n_in for n_out, n_in in shapes.values())
    return adapter_picture(model, rank, sizes, full, room=len(LAYERS))


def adapter_calculator(configs: Mapping[str, Mapping]) -> Demo:
    """Choose a model and a rank; starts at Llama-2-7B, rank 8.

    `configs` as in data/reference/architectures.json.
    """
    ranks = [2**k for k in range(14)]
    return live(
        functools.partial(draw_adapters, configs=configs),
        model=wide(
            ipywidgets.Dropdown(options=list(configs), value="Llama-2-7B", description="model")
        ),
        rank=wide(ipywidgets.SelectionSlider(options=ranks, value=8, description="rank")),
    )


NOBODY = "-"


def axes_demo(shares: Mapping[str, Mapping[str, float]], chosen: Sequence[str]) -> Demo:
    """Choose up to three methods that stand out on the five axes; `chosen` at first."""

    def draw(**picked: str):
        return axes_picture(shares, [method for method in picked.values() if method != NOBODY])

    names = [*shares, NOBODY]
    labels = ("first method", "second method", "third method")
    return live(
        draw,
        **{
            label.replace(" ", "_"): wide(
                widgets.Dropdown(options=names, value=method, description=label)
            )
            for label, method in zip(labels, [*chosen, NOBODY, NOBODY, NOBODY])
        },
    )


def _said(ask: Callable[..., str], *arguments) -> str:
    """What the callable says, or what is wrong with the question."""
    try:
        return ask(*arguments)
    except ValueError as error:
        return f"({error})"


class VoiceChat(Demo):
    """Type a question, choose a voice: `ask(voice, question)` answers, on one base."""

    def __init__(
        self, ask: Callable[[str, str], str], voices: Sequence[str], examples: Sequence[str]
    ):
        self.asker = ask
        self.voice = widgets.ToggleButtons(
            options=list(voices), description="Voice", tooltips=[f"Answer as {v}" for v in voices]
        )
        self.voice.style.button_width, self.voice.style.font_weight = "9em", "bold"
        self.box = widgets.Text(
            value=examples[0],
            description="Question",
            layout=widgets.Layout(width="70%"),
            style={"description_width": "initial"},
            continuous_update=False,
        )
        self.examples = [
            widgets.Button(
                description=text, tooltip=f"Ask: {text}", layout=widgets.Layout(width="auto")
            )
            for text in examples
        ]
        self.answer = widgets.HTML()
        for control in (self.voice, self.box):
            control.observe(lambda _: self.ask(), names="value")
        for button in self.examples:
            button.on_click(lambda pressed: setattr(self.box, "value", pressed.description))
        super().__init__(
            [self.voice, self.box, side_by_side(*self.examples), self.answer],
            f"A chat in the voices {', '.join(voices)}: choose one and type a question",
        )
        self.ask()

    def ask(self) -> None:
        """Show the chosen voice's answer to the question, or say what is wrong with it."""
        voice, question = self.voice.value, self.box.value
        self.answer.value = voice_html(question, voice, _said(self.asker, voice, question))


def blend_demo(ask: Callable[[float, str], str], names: tuple[str, str], question: str) -> Demo:
    """Drag from one voice to another: `ask(weight of the second, question)` answers."""

    def draw(weight: float, question: str) -> str:
        return voice_html(
            question,
            f"{1 - weight:.1f} {names[0]} + {weight:.1f} {names[1]}",
            _said(ask, weight, question),
        )

    return live(
        draw,
        weight=wide(
            widgets.FloatSlider(
                0.5,
                min=0,
                max=1,
                step=0.1,
                description=f"{names[0]} → {names[1]}",
                continuous_update=False,
                readout_format=".1f",
            )
        ),
        question=wide(
            widgets.Text(value=question, description="Question", continuous_update=False)
        ),
    )
