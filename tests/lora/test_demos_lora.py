"""Demos of lab 04, driven as a browser would: set a control, and the picture follows. No browser
needed.
"""

import base64
import io
import json
import re

import pytest
import torch
from PIL import Image

from lab_utils.files import DATA
from lab_utils.lora import demos as widgets
from lab_utils.lora import lora

CONFIGS = json.loads((DATA / "reference" / "architectures.json").read_text(encoding="utf-8"))[
    "models"
]
MATRICES = widgets.decompose(
    {
        "cheese": widgets.cheese_picture(),
        "noise": torch.randn(128, 96, generator=torch.Generator().manual_seed(0)),
    }
)
DEMOS = {
    "rank": (lambda: widgets.rank_demo(MATRICES), {"rank": [1, 64, 128], "name": ["noise"]}),
    "adapters": (
        lambda: widgets.adapter_calculator(CONFIGS),
        {"model": ["Falcon-180B", "GPT-2-medium"], "rank": [1, 8192]},
    ),
}


@pytest.mark.parametrize("name", DEMOS)
def test_every_control_changes_the_picture_and_is_labelled(name):
    make, changes = DEMOS[name]
    demo = make()
    assert set(demo.controls) == set(changes) and demo.children[:-1] == (
        *demo.controls.values(),
        demo.picture,
    )
    for control, values in changes.items():
        assert demo.controls[control].description
        for value in values:
            before = demo.picture.value
            demo.controls[control].value = value
            assert demo.picture.value != before, f"{control} = {value} changed nothing"
            assert demo.picture.value.startswith("<svg")


def test_the_pictures_error_is_that_of_the_best_approximation():
    cheese = MATRICES["cheese"].matrix
    b, a = lora.best_rank_r(cheese, 8)
    error = ((cheese - b @ a).norm() / cheese.norm()).item()
    made = widgets.draw_rank("cheese", 8, MATRICES)
    assert made.description == (
        f"cheese, 128 x 128, at rank 8 of 128: relative error {error:.1%}, 2,048 parameters, "
        "12% of the 16,384 of the matrix."
    )
    assert "at rank 96 of 96" in widgets.draw_rank("noise", 128, MATRICES).description, (
        "a rank too high shows the highest"
    )
    assert "relative error 0.0%" in widgets.draw_rank("noise", 128, MATRICES).description


def test_what_is_drawn_is_the_best_approximation():
    """The second image's pixels, from the matrix' smallest value (0) to its largest (255), to a
    grey level.
    """
    matrix = MATRICES["noise"].matrix
    b, a = lora.best_rank_r(matrix, 24)
    expected = ((b @ a - matrix.min()) / (matrix.max() - matrix.min()) * 255).clamp(0, 255)
    address = re.findall(
        r'href="data:image/png;base64,([^"]+)"', widgets.draw_rank("noise", 24, MATRICES)
    )[1]
    drawn = torch.tensor(list(Image.open(io.BytesIO(base64.b64decode(address))).tobytes())).view(
        matrix.shape
    )
    assert (drawn - expected).abs().max() <= 1


def test_a_picture_is_nearer_to_low_rank_than_noise():
    """What the demo is to show: half the error for the cheese, whatever the rank of the slider in
    between.
    """
    for rank in (2, 4, 8, 16, 32):
        cheese, noise = (
            lora.relative_error(MATRICES[name].s, rank) for name in ("cheese", "noise")
        )
        assert cheese < noise / 2


def test_the_cheese_is_a_picture():
    cheese = widgets.cheese_picture(64)
    assert cheese.shape == (64, 64) and 0 <= cheese.min() and cheese.max() <= 1
    assert cheese[40, 32] > 0.5 > cheese[5, 5], "bright cheese, dark room"


def test_the_calculator_counts_what_lora_counts():
    made = widgets.draw_adapters("Llama-2-7B", 8, CONFIGS)
    assert (
        "q, v 4,194,304 (0.06%)" in made.description
        and "all linear 19,988,480 (0.31%)" in made.description
    )
    assert "their weights have 6,476,005,376" in made.description
    falcon = widgets.draw_adapters("Falcon-180B", 1, CONFIGS)
    assert (
        f"all linear {lora.adapter_size(CONFIGS['Falcon-180B'], 1):,}" in falcon.description
        and "q, v" not in falcon
    )
    assert all(widgets.draw_adapters(model, 8192, CONFIGS) for model in CONFIGS)
