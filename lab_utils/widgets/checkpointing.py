"""Live demo of lab 03: walk through a checkpointing plan, event by event. `player` is for any demo that has a course."""

import functools
from collections.abc import Callable
from typing import Any

import ipywidgets

from lab_utils.checkpointing import PLANS, make_schedule, optimal, replay, smallest_limit
from lab_utils.plots.checkpointing import stepper_picture
from lab_utils.plots.style import Picture
from lab_utils.widgets import Demo, live, side_by_side, wide


def player(draw: Callable[..., str], last: Callable[..., int], first: int = 0, **controls: Any) -> Demo:
    """A demo with a course: play it, go one event on or back, or scrub; `draw(step=..., **values)` draws.

    `last(**values)` is the number of the last event for the values of the controls; the slider follows it.
    """
    step = wide(ipywidgets.IntSlider(first, first, last(**values_of(controls)), description="event"))
    play = ipywidgets.Play(value=first, min=first, max=step.max, interval=600, description="play")
    buttons = [ipywidgets.Button(description=words, layout=ipywidgets.Layout(width="8em")) for words in ("◀ back", "next ▶")]
    for button, by in zip(buttons, (-1, 1), strict=True):
        button.on_click(lambda _, by=by: setattr(step, "value", min(max(step.value + by, first), step.max)))

    def fit(_change: Any) -> None:
        play.max = step.max = last(**values_of(controls))  # a slider that stands beyond its end moves there

    for control in controls.values():
        control.layout.width = "38em"
        control.observe(fit, names="value")  # before `live` observes: the picture is drawn with an event that exists
    box = live(draw, **controls, step=step)
    ipywidgets.jslink((play, "value"), (step, "value"))
    box.lay_out(side_by_side(*controls.values()), side_by_side(play, *buttons, step), box.picture)
    box.play, box.buttons = play, buttons
    return box


def values_of(controls: dict[str, Any]) -> dict[str, Any]:
    return {name: control.value for name, control in controls.items()}


@functools.lru_cache(maxsize=64)
def replayed(plan: str, n: int, k: int, limit: int, inside: int) -> tuple:
    """(schedule, its states) for the values of the demo; what does not fit (k above n, a limit too small) is moved in."""
    if plan == "optimal":
        schedule = optimal(n, max(limit, smallest_limit(n, 1, inside)), 1, inside)
    else:
        schedule = make_schedule(plan, n, min(k, n))
    return schedule, tuple(replay(schedule))


def draw_stepper(step: int, plan: str = "sqrt(n)", n: int = 16, k: int = 4, limit: int = 8, inside: int = 0) -> Picture:
    """The chain after `step` events of a plan (after the last, where there are fewer)."""
    schedule, states = replayed(plan, n, k, limit, inside)
    return stepper_picture(schedule, states, min(step, len(schedule.events)), inside)


def stepper_demo() -> Demo:
    """Choose a plan and play it: forward, discard, recompute, backward, with a meter for memory and one for work."""
    plan = wide(ipywidgets.Dropdown(options=PLANS, value="sqrt(n)", description="plan"))
    n = wide(ipywidgets.SelectionSlider(options=[1, 2, 4, 6, 9, 12, 16], value=16, description="layers n"))
    k = wide(ipywidgets.IntSlider(4, 1, 16, description="segment k (layers)", disabled=True))
    limit = wide(ipywidgets.IntSlider(8, 3, 40, description="limit (activations)", disabled=True))
    inside = wide(ipywidgets.SelectionSlider(options=[0, 1, 4, 16], value=0, description="inside (activations)"))

    def enable(_change: Any) -> None:
        k.disabled, limit.disabled = plan.value != "every k", plan.value != "optimal"

    plan.observe(enable, names="value")
    controls = {"plan": plan, "n": n, "k": k, "limit": limit, "inside": inside}
    return player(draw_stepper, lambda **values: len(replayed(**values)[0].events), **controls)
