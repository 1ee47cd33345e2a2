"""Live demos of lab 04: a matrix at rank r, and how many parameters the adapters of a real model have."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import ipywidgets
import torch
from torch import Tensor

from lab_utils.lora import adapter_size, layer_shapes, relative_error
from lab_utils.plots.lora import adapter_picture, rank_picture
from lab_utils.plots.style import Picture
from lab_utils.widgets import Demo, live, wide

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
LAYERS = {"q, v": ("q", "v"), "attention": ("q", "k", "v", "o"), "MLP": ("gate", "up", "down"), "all linear": None}


def cheese_picture(size: int = 128) -> Tensor:
    """A wedge of cheese with holes, (size, size), brightness from 0 to 1: drawn by formula, no file needed."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    inside = (x > 0.08) & (x < 0.92)
    top, front = inside & (y > 0.62 - 0.45 * x) & (y < 0.62), inside & (y >= 0.62) & (y < 0.88)
    picture = 0.12 + 0.1 * y + 0.78 * top * (1 - 0.25 * y) + 0.6 * front * (1 - 0.15 * x)
    holes = ((0.3, 0.75, 0.07), (0.55, 0.7, 0.045), (0.75, 0.78, 0.08), (0.7, 0.45, 0.06), (0.84, 0.33, 0.035))
    for middle_x, middle_y, radius in holes:
        hole = (x - middle_x) ** 2 + (1.3 * (y - middle_y)) ** 2 < radius**2
        picture = torch.where(hole, 0.35 + 0.5 * (y - middle_y + radius), picture)
    return picture.clamp(0, 1)


class Decomposed(NamedTuple):
    """A matrix (rows, columns) with its singular value decomposition, so that a slider need not compute it again."""

    matrix: Tensor
    u: Tensor
    s: Tensor
    vt: Tensor


def decompose(matrices: Mapping[str, Tensor]) -> dict[str, Decomposed]:
    """Each matrix by its name, decomposed."""
    plain = {name: matrix.detach().float() for name, matrix in matrices.items()}
    return {name: Decomposed(matrix, *torch.linalg.svd(matrix, full_matrices=False)) for name, matrix in plain.items()}


def draw_rank(name: str, rank: int, decomposed: Mapping[str, Decomposed]) -> Picture:
    """The matrix of that name beside its best approximation of this rank; a rank too high shows the highest."""
    matrix, u, s, vt = decomposed[name]
    rank = min(rank, len(s))
    approximation = (u[:, :rank] * s[:rank]) @ vt[:rank]
    return rank_picture(name, matrix.numpy(), approximation.numpy(), s.tolist(), rank, relative_error(s, rank))


def rank_demo(decomposed: Mapping[str, Decomposed]) -> Demo:
    """Choose a matrix and drag the rank: the picture sharpens, the error falls, the parameters rise."""
    names = list(decomposed)
    return live(
        functools.partial(draw_rank, decomposed=decomposed),
        name=wide(ipywidgets.Dropdown(options=names, value=names[0], description="matrix")),
        rank=wide(ipywidgets.SelectionSlider(options=list(RANKS), value=8, description="rank")),
    )


def draw_adapters(model: str, rank: int, configs: Mapping[str, Mapping]) -> Picture:
    """What adapters on different layers of a real model have to train, beside the model's linear layers themselves."""
    config = configs[model]
    shapes = layer_shapes(config)
    sizes = {name: adapter_size(config, rank, layers) for name, layers in LAYERS.items()
             if layers is None or set(layers) <= set(shapes)}  # Falcon and GPT-2 keep q, k and v in one matrix
    full = config["num_hidden_layers"] * sum(n_out * n_in for n_out, n_in in shapes.values())
    return adapter_picture(model, rank, sizes, full, room=len(LAYERS))


def adapter_calculator(configs: Mapping[str, Mapping]) -> Demo:
    """Choose a model and a rank; `configs` as in data/reference/architectures.json. It starts at Llama-2 7B, rank 8."""
    ranks = [2**k for k in range(14)]
    return live(
        functools.partial(draw_adapters, configs=configs),
        model=wide(ipywidgets.Dropdown(options=list(configs), value="Llama-2-7B", description="model")),
        rank=wide(ipywidgets.SelectionSlider(options=ranks, value=8, description="rank")),
    )
