"""Live demos: `live` wires controls to a function that draws. No numbers are made here and no pictures drawn."""

from collections.abc import Callable
from typing import Any

import ipywidgets


def live(draw: Callable[..., str], **controls: Any) -> ipywidgets.VBox:
    """Show controls above a picture that follows them: `draw(name=value, ...)` is called with the controls' values.

    `draw` returns HTML, best a `Picture`. The box keeps `controls` (by name) and `picture` for those who want to drive it.
    """
    picture = ipywidgets.HTML()
    picture.layout.width = "100%"

    def update(_change: Any = None) -> None:
        picture.value = str(draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(update, names="value")
    update()
    box = ipywidgets.VBox([*controls.values(), picture])
    box.controls, box.picture = controls, picture
    return box


def wide(control: Any) -> Any:
    """Give a control the room for its label and a slider that a lecturer can hit from the keyboard."""
    control.style.description_width = "11em"
    control.layout.width = "36em"
    return control
