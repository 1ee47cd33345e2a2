"""Live demos of labs 00, 02 and 03: the ledger with all assumptions as controls; players."""

import functools
from collections.abc import Callable
from typing import Any

import ipywidgets

from lab_utils.drawing.live import Demo, live, side_by_side, wide
from lab_utils.drawing.style import Picture
from lab_utils.memory import sizes
from lab_utils.memory.checkpointing import PLANS, make_schedule, optimal, replay, smallest_limit
from lab_utils.memory.ledger import ledger
from lab_utils.memory.paging import simulate, training_steps, transfer_seconds
from lab_utils.memory.pictures import ledger_picture, memory_picture, pages_picture, stepper_picture
from lab_utils.memory.plan import ATTENTION, METHODS, OPTIMIZERS, TYPES, Plan
from lab_utils.memory.report import architecture_named
from lab_utils.memory.sizes import LECTURE_10B, Architecture

LECTURE = "10B of the lecture"
MODELS = (
    LECTURE,
    "cheese-base",
    "SmolLM2-360M",
    "Qwen2.5-1.5B",
    "Qwen2.5-7B",
    "Mistral-7B",
    "Llama-2-7B",
    "Llama-3-8B",
    "Llama-2-13B",
    "LLaMA-33B",
    "LLaMA-65B",
    "Llama-2-70B",
)
BY_ITSELF = "as the libraries do"
SEQUENCES = (128, 256, 512, 1024, 2048, 4096, 8192)
ROOM = 10  # rows: 7 to 13 share their height, so that the picture keeps its own


def architecture_of(model: str) -> Architecture:
    """The architecture behind a choice of the calculator."""
    return LECTURE_10B if model == LECTURE else architecture_named(model)


def draw_training(model: str, sequence: int, room: int = 0, **choices: Any) -> Picture:
    """The ledger of a plan, drawn.

    A sequence longer than the model's positions is cut to them, and the title says so.
    """
    architecture = architecture_of(model)
    most = architecture.max_positions or sequence
    given: dict[str, Any] = {n: None if v == BY_ITSELF else v for n, v in choices.items()}
    plan = Plan(sequence=min(sequence, most), **given)
    cut = f" (no more than {most} positions)" if sequence > most else ""
    how = plan.method if plan.full else f"{plan.method}, rank {plan.rank}"
    again = ", checkpointing" if plan.checkpointing else ""
    title = f"{model}, {how}, {plan.batch} x {plan.sequence} tokens{cut}{again}"
    return ledger_picture(title, ledger(architecture, plan), room)


START = {
    "model": LECTURE,
    "method": "full",
    "weights": "fp16",
    "gradients": BY_ITSELF,
    "states": "fp32",
    "master": False,
    "optimizer": "adamw",
    "rank": 16,
    "adapters": "fp32",
    "batch": 1,
    "sequence": 512,
    "attention": "flash",
    "checkpointing": False,
}
DROPDOWNS = {
    "model": MODELS,
    "method": METHODS,
    "weights": TYPES,
    "gradients": (BY_ITSELF, *TYPES),
    "states": TYPES,
    "optimizer": OPTIMIZERS,
    "adapters": TYPES,
    "attention": ATTENTION,
}
SLIDERS = {
    "rank": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "sequence": SEQUENCES,
}
MAIN = ("model", "method", "sequence", "checkpointing")
UNITS = {"batch": "batch (sequences)", "sequence": "sequence (tokens)"}
CHECKS = {"master": "float32 master copy", "checkpointing": "gradient checkpointing"}


def control_for(name: str, value: Any) -> Any:
    """The control of one assumption, labelled, set to `value`."""
    if name in DROPDOWNS:
        control = ipywidgets.Dropdown(options=list(DROPDOWNS[name]), value=value, description=name)
    elif name in SLIDERS:
        control = ipywidgets.SelectionSlider(
            options=list(SLIDERS[name]), value=value, description=UNITS.get(name, name)
        )
    else:
        control = ipywidgets.Checkbox(value=value, description=CHECKS[name])
    control.style.description_width = "9.5em"
    control.layout.width = "34em"
    return control


def training_calculator(**start: Any) -> Demo:
    """Model, method, sequence and checkpointing in, and behind a button types, optimizer, batch and
    what else is rarely changed; gigabytes and cards out.

    It starts at the lecture's example, full fine-tuning in FP16, but for the assumptions given by
    name.
    """
    controls = {name: control_for(name, value) for name, value in (START | start).items()}
    box = live(functools.partial(draw_training, room=ROOM), **controls)
    rest = side_by_side(*(c for name, c in box.controls.items() if name not in MAIN))
    rest.layout.display = "none"
    box.more = ipywidgets.ToggleButton(description="more assumptions")
    box.more.layout.width = "14em"
    box.more.observe(
        lambda change: setattr(rest.layout, "display", None if change["new"] else "none"),
        names="value",
    )
    box.lay_out(side_by_side(*(box.controls[n] for n in MAIN)), box.more, rest, box.picture)
    return box


def player(
    draw: Callable[..., str], last: Callable[..., int], first: int = 0, **controls: Any
) -> Demo:
    """A demo with a timeline: play it, step on or back, or scrub; `draw(step=..., **values)` draws.

    `last(**values)` is the number of the last event for the values of the controls; the slider
    follows it.
    """
    step = wide(
        ipywidgets.IntSlider(first, first, last(**values_of(controls)), description="event")
    )
    play = ipywidgets.Play(value=first, min=first, max=step.max, interval=600, description="play")
    buttons = [
        ipywidgets.Button(description=words, layout=ipywidgets.Layout(width="8em"))
        for words in ("◀ back", "next ▶")
    ]
    for button, by in zip(buttons, (-1, 1), strict=True):
        button.on_click(
            lambda _, by=by: setattr(step, "value", min(max(step.value + by, first), step.max))
        )

    def fit(_change: Any) -> None:
        # a slider that stands beyond its end moves there
        play.max = step.max = last(**values_of(controls))

    for control in controls.values():
        control.layout.width = "38em"
        # before `live` observes: the picture is drawn with an event that exists
        control.observe(fit, names="value")
    box = live(draw, **controls, step=step)
    ipywidgets.jslink((play, "value"), (step, "value"))
    box.lay_out(side_by_side(*controls.values()), side_by_side(play, *buttons, step), box.picture)
    box.play, box.buttons, box.last = play, buttons, last
    return box


def values_of(controls: dict[str, Any]) -> dict[str, Any]:
    return {name: control.value for name, control in controls.items()}


@functools.lru_cache(maxsize=64)
def replayed(plan: str, n: int, k: int, limit: int, inside: int) -> tuple:
    """(schedule, its states) for the values of the demo.

    What does not fit, k above n or too small a limit, is moved to the nearest that does.
    """
    if plan == "optimal":
        schedule = optimal(n, max(limit, smallest_limit(n, 1, inside)), 1, inside)
    else:
        schedule = make_schedule(plan, n, min(k, n))
    return schedule, tuple(replay(schedule))


def draw_stepper(
    step: int, plan: str = "sqrt(n)", n: int = 16, k: int = 4, limit: int = 8, inside: int = 0
) -> Picture:
    """The chain after `step` events of a plan (after the last, where there are fewer)."""
    schedule, states = replayed(plan, n, k, limit, inside)
    return stepper_picture(schedule, states, min(step, len(schedule.events)), inside)


def stepper_demo(step: int = 0) -> Demo:
    """Choose a plan and play it from event `step` on; one meter for memory, one for work."""
    plan = wide(ipywidgets.Dropdown(options=PLANS, value="sqrt(n)", description="plan"))
    n = wide(
        ipywidgets.SelectionSlider(
            options=[1, 2, 4, 6, 9, 12, 16], value=16, description="layers n"
        )
    )
    k = wide(ipywidgets.IntSlider(4, 1, 16, description="segment k (layers)", disabled=True))
    limit = wide(ipywidgets.IntSlider(8, 3, 40, description="limit (activations)", disabled=True))
    inside = wide(
        ipywidgets.SelectionSlider(
            options=[0, 1, 4, 16], value=0, description="inside (activations)"
        )
    )

    def enable(_change: Any) -> None:
        k.disabled, limit.disabled = plan.value != "every k", plan.value != "optimal"

    plan.observe(enable, names="value")
    controls = {"plan": plan, "n": n, "k": k, "limit": limit, "inside": inside}
    box = player(draw_stepper, lambda **values: len(replayed(**values)[0].events), **controls)
    box.controls["step"].value = box.play.value = step
    return box


N_PAGES, SHORT, PAGE_BYTES = 12, 6, 2 * 2**20


def page_moments(capacity: int, long: int) -> list:
    """Three training steps with 12 pages of optimizer: a short batch, a long one, a short one."""
    return simulate(training_steps([SHORT, long, SHORT], N_PAGES), N_PAGES, capacity)


def draw_pages(step: int, capacity: int = 20, long: int = 14, speed: float = 12.0) -> Picture:
    """Memory after `step` events, or after the last; `speed` of the bus in GB/s."""
    moments = page_moments(capacity, long)
    return pages_picture(
        moments, min(step, len(moments)), N_PAGES, capacity, transfer_seconds(1, PAGE_BYTES, speed)
    )


def page_demo(step: int = 1) -> Demo:
    """Play, step or scrub through three steps, from event `step` on; choose the GPU's room, the
    long batch and bus.
    """
    capacity = wide(ipywidgets.IntSlider(20, 8, 24, description="GPU's room (pages)"))
    long = wide(ipywidgets.IntSlider(14, 6, 26, description="long batch (pages)"))
    speed = wide(
        ipywidgets.SelectionSlider(
            options=[4.0, 12.0, 25.0, 50.0], value=12.0, description="bus (GB/s)"
        )
    )
    box = player(
        draw_pages,
        lambda capacity, long, speed: len(page_moments(capacity, long)),
        first=1,
        capacity=capacity,
        long=long,
        speed=speed,
    )
    box.controls["step"].value = box.play.value = step
    return box


BILLIONS = [0.36, 1, 1.5, 3, 7, 13, 33, 65, 70, 180]
BLOCK_SIZES = [16, 32, 64, 128, 256, 512, 1024]


def draw_memory(billions: float, bits: int, block_size: int, block_size_2: int) -> Picture:
    """Weights of a model in bf16, quantized once and twice, with the cards that hold them."""
    once = sizes.Scheme("once", bits, block_size, 32)
    twice = sizes.Scheme("twice", bits, block_size, 8, block_size_2)
    widths = {"bf16": 16.0}
    for name, scheme in (("float32 constants", once), ("double quantization", twice)):
        width = sizes.bits_per_parameter(scheme)
        widths[f"{name}: {width:.3f} bits"] = width
    gigabytes = {
        name: sizes.model_gigabytes(billions * 1e9, width) for name, width in widths.items()
    }
    saved = sizes.model_gigabytes(
        billions * 1e9, sizes.double_quantization_saving(block_size, block_size_2)
    )
    title = f"{billions:g} billion parameters: double quantization saves {saved:.2f} GB"
    fitting = {name: sizes.cards_that_fit(size) for name, size in gigabytes.items()}
    return memory_picture(title, gigabytes, sizes.CARDS, fitting)


def memory_calculator() -> Demo:
    """Model size, bits and block sizes in; gigabytes and cards out. Starts at the paper's 65B."""
    return live(
        draw_memory,
        billions=wide(
            ipywidgets.SelectionSlider(options=BILLIONS, value=65, description="billion parameters")
        ),
        bits=wide(ipywidgets.IntSlider(4, 2, 8, description="bits of a code")),
        block_size=wide(
            ipywidgets.SelectionSlider(
                options=BLOCK_SIZES, value=64, description="block size (weights)"
            )
        ),
        block_size_2=wide(
            ipywidgets.SelectionSlider(
                options=[64, 128, 256, 512], value=256, description="constants in a block"
            )
        ),
    )
