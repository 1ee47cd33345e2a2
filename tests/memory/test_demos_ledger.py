"""The calculator of lab 00, driven as a browser would: set a control, and the ledger follows. No
browser needed.
"""

import pytest

from lab_utils.memory import demos as widgets
from lab_utils.memory.ledger import Plan, ledger, peak, size_range

CHANGES = {
    "model": ["cheese-base", "LLaMA-65B", widgets.LECTURE],
    "method": ["qlora", "full", "lora"],
    "weights": ["fp32"],
    "gradients": ["bf16", widgets.BY_ITSELF],
    "states": ["bf16", "fp32"],
    "master": [True],
    "optimizer": ["sgd", "paged_adamw", "adamw_8bit"],
    "rank": [1, 256],
    "adapters": ["fp16", "fp32"],
    "batch": [8, 1],
    "sequence": [128, 2048],
    "attention": ["eager"],
    "checkpointing": [True, False],
}


def said(demo):
    return demo.picture.value.split('aria-label="')[1].split('"')[0]


def test_every_control_changes_the_picture():
    demo = widgets.training_calculator(method="lora")
    assert (
        set(demo.controls)
        == set(CHANGES)
        == set(Plan.__dataclass_fields__) - {"unquantized", "activations"} | {"model"}
    )
    for name, values in CHANGES.items():
        for value in values:
            if name in ("states", "gradients"):
                demo.controls["optimizer"].value = "adamw"
            before = demo.picture.value
            demo.controls[name].value = value
            assert demo.picture.value != before, f"{name} = {value} changed nothing"


def test_four_controls_are_shown_and_the_others_behind_a_button():
    demo = widgets.training_calculator()
    main, more, rest, picture, _ = demo.children
    assert [control.description for control in main.children] == [
        "model",
        "method",
        "sequence (tokens)",
        "gradient checkpointing",
    ]
    assert {*main.children, *rest.children} == set(demo.controls.values())
    assert all(control.description for control in rest.children), "a screen reader reads this"
    assert picture is demo.picture and rest.layout.display == "none"
    more.value = True
    assert rest.layout.display is None
    more.value = False
    assert rest.layout.display == "none"


def test_it_starts_at_the_lectures_120_gigabytes():
    demo = widgets.training_calculator()
    assert said(demo).startswith("10B of the lecture, full, 1 x 512 tokens: 120 to ")
    assert ">weights<" in demo.picture.value and ">79.8 GB<" in demo.picture.value


def test_the_picture_is_the_ledger_of_the_chosen_plan():
    chosen = dict(method="qlora", weights="bf16", sequence=1024, checkpointing=True, batch=4)
    demo, plan = widgets.training_calculator(model="Mistral-7B", **chosen), Plan(**chosen)
    expected = size_range(*peak(ledger(widgets.architecture_of("Mistral-7B"), plan)))
    assert said(demo).startswith(
        f"Mistral-7B, qlora, rank 16, 4 x 1024 tokens, checkpointing: {expected} GB"
    )


def test_a_sequence_beyond_the_positions_is_cut_and_said():
    demo = widgets.training_calculator(model="cheese-base", sequence=4096)
    assert "1 x 512 tokens (no more than 512 positions)" in said(demo)


@pytest.mark.parametrize("model", widgets.MODELS)
@pytest.mark.parametrize("method", widgets.METHODS)
def test_every_model_has_a_picture(model, method):
    picture = widgets.draw_training(
        **(widgets.START | {"model": model, "method": method, "sequence": 8192})
    )
    assert picture.startswith("<svg") and "nan" not in picture
