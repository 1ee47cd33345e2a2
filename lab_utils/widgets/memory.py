"""Live demo of lab 00: every assumption of a fine-tuning plan is a control, and the ledger follows."""

import functools

import ipywidgets

from lab_utils.memory import LECTURE_10B, Architecture
from lab_utils.memory_report import architecture_named
from lab_utils.plots.memory import ledger_picture
from lab_utils.plots.style import Picture
from lab_utils.training_memory import ATTENTION, METHODS, OPTIMIZERS, TYPES, Plan, ledger
from lab_utils.widgets import Demo, live, side_by_side

LECTURE = "10B of the lecture"
MODELS = (LECTURE, "cheese-base", "SmolLM2-360M", "Qwen2.5-1.5B", "Qwen2.5-7B", "Mistral-7B", "Llama-2-7B", "Llama-3-8B",
          "Llama-2-13B", "LLaMA-33B", "LLaMA-65B", "Llama-2-70B")  # fmt: skip
BY_ITSELF = "as the libraries do"
SEQUENCES = (128, 256, 512, 1024, 2048, 4096, 8192)
ROOM = 10  # rows: 7 to 13 share their height, so that the picture keeps its own


def architecture_of(model: str) -> Architecture:
    """The architecture behind a choice of the calculator."""
    return LECTURE_10B if model == LECTURE else architecture_named(model)


def draw_training(model: str, sequence: int, room: int = 0, **choices) -> Picture:
    """The ledger of a plan; a sequence longer than the model's positions is cut to them, and the title says so."""
    architecture = architecture_of(model)
    most = architecture.max_positions or sequence
    plan = Plan(sequence=min(sequence, most), **{name: None if value == BY_ITSELF else value for name, value in choices.items()})
    cut = f" (no more than {most} positions)" if sequence > most else ""
    how = plan.method if plan.full else f"{plan.method}, rank {plan.rank}"
    again = ", checkpointing" if plan.checkpointing else ""
    title = f"{model}, {how}, {plan.batch} x {plan.sequence} tokens{cut}{again}"
    return ledger_picture(title, ledger(architecture, plan), room)


START = {"model": LECTURE, "method": "full", "weights": "fp16", "gradients": BY_ITSELF, "states": "fp32", "master": False,
         "optimizer": "adamw", "rank": 16, "adapters": "fp32", "batch": 1, "sequence": 512, "attention": "flash",
         "checkpointing": False}  # fmt: skip
DROPDOWNS = {"model": MODELS, "method": METHODS, "weights": TYPES, "gradients": (BY_ITSELF, *TYPES), "states": TYPES,
             "optimizer": OPTIMIZERS, "adapters": TYPES, "attention": ATTENTION}  # fmt: skip
SLIDERS = {"rank": (1, 2, 4, 8, 16, 32, 64, 128, 256), "batch": (1, 2, 4, 8, 16, 32, 64), "sequence": SEQUENCES}
UNITS = {"batch": "batch (sequences)", "sequence": "sequence (tokens)"}
CHECKS = {"master": "float32 master copy", "checkpointing": "gradient checkpointing"}


def control_for(name: str, value):
    """The control of one assumption, labelled, set to `value`."""
    if name in DROPDOWNS:
        control = ipywidgets.Dropdown(options=list(DROPDOWNS[name]), value=value, description=name)
    elif name in SLIDERS:
        control = ipywidgets.SelectionSlider(options=list(SLIDERS[name]), value=value, description=UNITS.get(name, name))
    else:
        control = ipywidgets.Checkbox(value=value, description=CHECKS[name])
    control.style.description_width = "9.5em"
    control.layout.width = "34em"
    return control


def training_calculator(**start) -> Demo:
    """Model, method, types, optimizer, batch, sequence, checkpointing in; gigabytes and cards out.

    It starts at the lecture's example, full fine-tuning in FP16, but for the assumptions given by name.
    """
    controls = {name: control_for(name, value) for name, value in (START | start).items()}
    box = live(functools.partial(draw_training, room=ROOM), **controls)
    rows = list(box.controls.values())
    box.add_class("lab-kit-beside")
    box.lay_out(side_by_side(ipywidgets.VBox(rows[:7]), ipywidgets.VBox(rows[7:])), box.picture)
    return box
