"""Paged optimizers: what a step does not need right now waits in CPU memory (lecture 9, "Ingredient
3"; QLoRA paper, section 3).

Memory is cut into pages of one size. A page of the optimizer's state lies on the GPU or on the CPU;
to be used it must be on the GPU. Where there is no room, the least recently used page goes to the
CPU (LRU). Activations can't be moved: they *reserve* pages while forward and backward run, a long
sequence many of them (the spike), and give them back before the optimizer's step.

This is a model. In bitsandbytes the state lies in CUDA's managed memory, and the driver moves pages
of up to 2 MiB when they are touched; it decides itself which ones go. Weights, gradients and small
tensors are not paged: leave them out of the capacity.
"""

from collections.abc import Iterable, Sequence
from math import ceil, prod
from typing import NamedTuple

MIN_PAGED_ELEMENTS = 100_000
"""From so many elements on bitsandbytes 0.50 pages a tensor's state (`get_state_buffer`)."""


# -------------------------------------------------------------------------- what bitsandbytes pages
def is_paged(n_elements: int) -> bool:
    """Whether bitsandbytes pages the state of a tensor with so many elements (not bytes)."""
    return n_elements >= MIN_PAGED_ELEMENTS


def optimizer_bytes(
    shapes: Iterable[tuple[int, ...]], bytes_per_element: float = 8
) -> tuple[float, float]:
    """(paged, not paged) bytes of the optimizer's state for tensors of these shapes.

    AdamW keeps two float32 for each trained element, 8 bytes; its 8-bit version 2 bytes (the
    constants come on top, unpaged).
    """
    sizes = [prod(shape) for shape in shapes]
    paged = sum(size for size in sizes if is_paged(size))
    return paged * bytes_per_element, (sum(sizes) - paged) * bytes_per_element


# ------------------------------------------------------------------------------------ the simulator
class Request(NamedTuple):
    """What the program does next: "reserve" or "release" pages, or "touch" one.

    `amount` is how many pages for activations, or the number of the optimizer's page.
    """

    kind: str
    amount: int


class Moment(NamedTuple):
    """Memory after a request."""

    request: Request
    reserved: int  # pages taken by activations
    on_gpu: tuple[int, ...]  # pages of the optimizer there, least recently used first
    moved_in: tuple[int, ...] = ()  # CPU to GPU in this moment
    moved_out: tuple[int, ...] = ()  # GPU to CPU in this moment
    out_of_memory: bool = False  # the request could not be met; nothing comes after it


def training_steps(activations: Sequence[int], n_pages: int) -> list[Request]:
    """The requests of one training step for each number of activation pages.

    Forward and backward reserve pages, then the optimizer touches its own.
    """
    requests = []
    for pages in activations:
        requests += [Request("reserve", pages), Request("release", pages)]
        requests += [Request("touch", page) for page in range(n_pages)]
    return requests


def simulate(requests: Iterable[Request], n_pages: int, capacity: int) -> list[Moment]:
    """What happens to `n_pages` pages of the optimizer on a GPU with room for `capacity` pages.

    In the beginning as many as fit are on the GPU. The list ends early, with `out_of_memory`, where
    moving pages does not help: activations alone are larger than the GPU, or leave no room for the
    page that is touched.
    """
    if n_pages < 0 or capacity < 1:
        raise ValueError(
            f"expected n_pages of at least 0 and a capacity of at least 1, got {n_pages} and "
            f"{capacity}."
        )
    moment = Moment(Request("release", 0), 0, tuple(range(min(n_pages, capacity))))
    moments = []
    for request in requests:
        moment = _answer(request, moment, n_pages, capacity)
        moments.append(moment)
        if moment.out_of_memory:
            break
    return moments


def _answer(request: Request, before: Moment, n_pages: int, capacity: int) -> Moment:
    kind, amount = request
    reserved, on_gpu = before.reserved, before.on_gpu
    moved_in: tuple[int, ...] = ()
    if (
        amount < 0
        or (kind == "touch" and amount >= n_pages)
        or (kind == "release" and amount > reserved)
    ):
        raise ValueError(
            f"can't {kind} {amount}: there are {n_pages} pages, and {reserved} are reserved."
        )
    if kind == "reserve":
        reserved += amount
    elif kind == "release":
        reserved -= amount
    elif kind == "touch":
        moved_in = () if amount in on_gpu else (amount,)
        place = on_gpu.index(amount) if amount in on_gpu else len(on_gpu)
        on_gpu = on_gpu[:place] + on_gpu[place + 1 :] + (amount,)  # now the most recently used
    else:
        raise ValueError(f"unknown request {kind!r}: expected reserve, release or touch.")
    room = capacity - reserved
    if room < (1 if kind == "touch" else 0):
        return before._replace(request=request, moved_in=(), moved_out=(), out_of_memory=True)
    too_many = max(len(on_gpu) - room, 0)
    return Moment(request, reserved, on_gpu[too_many:], moved_in, on_gpu[:too_many])


def pages_moved(moments: Iterable[Moment]) -> int:
    """Pages that crossed between CPU and GPU, in either direction."""
    return sum(len(moment.moved_in) + len(moment.moved_out) for moment in moments)


def fits_without_paging(activations: Sequence[int], n_pages: int, capacity: int) -> bool:
    """Would the same steps run with the optimizer's state fixed on the GPU?"""
    return n_pages + max(activations, default=0) <= capacity


# -------------------------------------------------------------------------------- bytes and seconds
def pages_for(n_bytes: float, page_bytes: int) -> int:
    """Whole pages for so many bytes."""
    if n_bytes < 0 or page_bytes < 1:
        raise ValueError(
            f"expected n_bytes of at least 0 and page_bytes of at least 1, got {n_bytes} and "
            f"{page_bytes}."
        )
    return ceil(n_bytes / page_bytes)


def transfer_seconds(n_pages: int, page_bytes: int, gigabytes_per_second: float) -> float:
    """Seconds to move pages over a bus of this speed (1 GB = 10**9 bytes), and nothing else."""
    if gigabytes_per_second <= 0:
        raise ValueError(f"the speed must be above 0 GB/s, got {gigabytes_per_second}.")
    return n_pages * page_bytes / (gigabytes_per_second * 1e9)
