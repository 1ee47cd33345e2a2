"""Live demo of lab 03: pages of the optimizer move between GPU and CPU while a long sequence comes along."""

import ipywidgets

from lab_utils.paging import simulate, training_steps, transfer_seconds
from lab_utils.plots.paging import pages_picture
from lab_utils.plots.style import Picture
from lab_utils.widgets import Demo, wide
from lab_utils.widgets.checkpointing import player

N_PAGES, SHORT, PAGE_BYTES = 12, 6, 2 * 2**20


def page_moments(capacity: int, long: int) -> list:
    """Three training steps with 12 pages of optimizer: a short batch (6 pages of activations), a long one, a short one."""
    return simulate(training_steps([SHORT, long, SHORT], N_PAGES), N_PAGES, capacity)


def draw_pages(step: int, capacity: int = 20, long: int = 14, speed: float = 12.0) -> Picture:
    """Memory after `step` events (the last one, where there are fewer). `speed` of the bus in GB/s."""
    moments = page_moments(capacity, long)
    return pages_picture(moments, min(step, len(moments)), N_PAGES, capacity, transfer_seconds(1, PAGE_BYTES, speed))


def page_demo() -> Demo:
    """Play, step or scrub through three steps; choose the GPU's room, the long batch and the speed of the bus."""
    capacity = wide(ipywidgets.IntSlider(20, 8, 24, description="GPU's room (pages)"))
    long = wide(ipywidgets.IntSlider(14, 6, 26, description="long batch (pages)"))
    speed = wide(ipywidgets.SelectionSlider(options=[4.0, 12.0, 25.0, 50.0], value=12.0, description="bus (GB/s)"))
    return player(draw_pages, lambda capacity, long, speed: len(page_moments(capacity, long)), first=1,
                  capacity=capacity, long=long, speed=speed)
