"""Live demo of lab 00: every assumption of a fine-tuning plan is a control, and the ledger follows."""

import ipywidgets

from lab_utils.memory import LECTURE_10B, Architecture
from lab_utils.memory_report import architecture_named
from lab_utils.plots.memory import ledger_picture
from lab_utils.plots.style import Picture
from lab_utils.training_memory import ATTENTION, METHODS, OPTIMIZERS, TYPES, Plan, ledger
from lab_utils.widgets import live

LECTURE = "10B of the lecture"
MODELS = (LECTURE, "cheese-base", "SmolLM2-360M", "Qwen2.5-1.5B", "Qwen2.5-7B", "Mistral-7B", "Llama-2-7B", "Llama-3-8B",
          "Llama-2-13B", "LLaMA-33B", "LLaMA-65B", "Llama-2-70B")  # fmt: skip
BY_ITSELF = "as the libraries do"
SEQUENCES = (128, 256, 512, 1024, 2048, 4096, 8192)


def architecture_of(model: str) -> Architecture:
    """The architecture behind a choice of the calculator."""
    return LECTURE_10B if model == LECTURE else architecture_named(model)


def draw_training(model: str, sequence: int, **choices) -> Picture:
    """The ledger of a plan; a sequence longer than the model's positions is cut to them, and the title says so."""
    architecture = architecture_of(model)
    most = architecture.max_positions or sequence
    plan = Plan(sequence=min(sequence, most), **{name: None if value == BY_ITSELF else value for name, value in choices.items()})
    cut = f" (no more than {most} positions)" if sequence > most else ""
    how = plan.method if plan.full else f"{plan.method}, rank {plan.rank}"
    again = ", checkpointing" if plan.checkpointing else ""
    return ledger_picture(f"{model}, {how}, {plan.batch} x {plan.sequence} tokens{cut}{again}", ledger(architecture, plan))


START = {"model": LECTURE, "method": "full", "weights": "fp16", "gradients": BY_ITSELF, "states": "fp32", "master": False,
         "optimizer": "adamw", "rank": 16, "adapters": "fp32", "batch": 1, "sequence": 512, "attention": "flash",
         "checkpointing": False}  # fmt: skip
DROPDOWNS = {"model": MODELS, "method": METHODS, "weights": TYPES, "gradients": (BY_ITSELF, *TYPES), "states": TYPES,
             "optimizer": OPTIMIZERS, "adapters": TYPES, "attention": ATTENTION}  # fmt: skip
SLIDERS = {"rank": (1, 2, 4, 8, 16, 32, 64, 128, 256), "batch": (1, 2, 4, 8, 16, 32, 64), "sequence": SEQUENCES}
CHECKS = {"master": "float32 master copy", "checkpointing": "gradient checkpointing"}


def control_for(name: str, value):
    """The control of one assumption, labelled, set to `value`."""
    if name in DROPDOWNS:
        control = ipywidgets.Dropdown(options=list(DROPDOWNS[name]), value=value, description=name)
    elif name in SLIDERS:
        control = ipywidgets.SelectionSlider(options=list(SLIDERS[name]), value=value, description=name)
    else:
        control = ipywidgets.Checkbox(value=value, description=CHECKS[name])
    control.style.description_width = "6.5em"
    control.layout.width = "27em"
    return control


def training_calculator(**start) -> ipywidgets.VBox:
    """Model, method, types, optimizer, batch, sequence, checkpointing in; gigabytes and cards out.

    It starts at the lecture's example, full fine-tuning in FP16, but for the assumptions given by name.
    """
    box = live(draw_training, **{name: control_for(name, value) for name, value in (START | start).items()})
    rows = list(box.controls.values())
    box.children = (ipywidgets.HBox([ipywidgets.VBox(rows[:7]), ipywidgets.VBox(rows[7:])]), box.picture)
    return box
