"""Paging: the simulator against a second one and against counting by hand; bitsandbytes' rule
against bitsandbytes itself.
"""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.memory import paging
from lab_utils.memory.paging import Moment, Request


def touches(*pages):
    return [Request("touch", page) for page in pages]


# ------------------------------------------------------------------------------- bitsandbytes' rule
@pytest.fixture
def buffer_of(monkeypatch):
    """`buffer_of(shape)`: "paged" or "plain", as bitsandbytes itself decides. Tensors on "meta"
    have no memory; it takes the way that it takes on a GPU, and the call for managed memory,
    which needs CUDA, is caught.
    """
    import bitsandbytes as bnb
    import bitsandbytes.functional as bnbf

    asked = []

    def get_paged(*shape, **options):
        asked.append(shape)
        return torch.empty(shape, device="meta")

    monkeypatch.setattr(bnbf, "get_paged", get_paged)
    monkeypatch.setattr(bnbf, "fill", lambda *_: None)
    optimizer = bnb.optim.PagedAdamW32bit([torch.nn.Parameter(torch.zeros(1))])

    def decide(*shape):
        asked.clear()
        optimizer.get_state_buffer(torch.empty(shape, device="meta"))
        return "paged" if asked else "plain"

    return decide


@pytest.mark.parametrize(
    "shape",
    [
        (99_999,),
        (100_000,),
        (1,),
        (24, 4096),
        (25, 4096),
        (9, 11008),
        (10, 11008),
        (316, 316),
        (317, 316),
        (400, 250),
    ],
)
def test_the_rule_is_that_of_bitsandbytes(buffer_of, shape):
    assert buffer_of(*shape) == ("paged" if paging.is_paged(torch.Size(shape).numel()) else "plain")


# golden.json, b.bnb.paged_lora_never_paged (bitsandbytes 0.50.2, Optimizer8bit.get_state_buffer)
@pytest.mark.parametrize(("width", "rank"), [(4096, 24), (11008, 9)])
def test_ranks_that_are_never_paged(buffer_of, width, rank):
    assert not paging.is_paged(rank * width) and paging.is_paged((rank + 1) * width)
    assert buffer_of(rank, width) == "plain" and buffer_of(rank + 1, width) == "paged"


def test_on_a_cpu_the_paged_optimizer_is_a_plain_one_and_says_so():
    import bitsandbytes as bnb

    optimizer = bnb.optim.PagedAdamW32bit([torch.nn.Parameter(torch.zeros(1))])
    with pytest.warns(UserWarning, match="Paged optimizers are not supported on CPU"):
        buffer = optimizer.get_state_buffer(torch.zeros(400, 400))
    assert not hasattr(buffer, "is_paged")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.get_state_buffer(torch.zeros(400, 400))  # said once


def test_bytes_of_the_optimizer():
    shapes = [(8, 4096), (4096, 8), (64, 4096), (11008, 64)]
    assert paging.optimizer_bytes(shapes) == (8 * 64 * (4096 + 11008), 8 * 8 * 4096 * 2)
    assert paging.optimizer_bytes(shapes, 2) == (2 * 64 * (4096 + 11008), 2 * 8 * 4096 * 2)
    assert paging.optimizer_bytes([]) == (0, 0)


# --------------------------------------------------------------------------- the simulator, by hand
def test_a_spike_sends_the_least_recently_used_pages_away_and_they_come_back():
    moments = paging.simulate(paging.training_steps([1, 3], 3), n_pages=3, capacity=4)
    assert moments == [
        Moment(Request("reserve", 1), 1, (0, 1, 2)),
        Moment(Request("release", 1), 0, (0, 1, 2)),
        Moment(Request("touch", 0), 0, (1, 2, 0)),
        Moment(Request("touch", 1), 0, (2, 0, 1)),
        Moment(Request("touch", 2), 0, (0, 1, 2)),
        Moment(Request("reserve", 3), 3, (2,), (), (0, 1)),
        Moment(Request("release", 3), 0, (2,)),
        Moment(Request("touch", 0), 0, (2, 0), (0,)),
        Moment(Request("touch", 1), 0, (2, 0, 1), (1,)),
        Moment(Request("touch", 2), 0, (0, 1, 2)),
    ]
    assert paging.pages_moved(moments) == 4
    assert not paging.fits_without_paging([1, 3], 3, 4) and paging.fits_without_paging([1, 1], 3, 4)


def test_one_page_too_few_moves_all_of_them():
    """The page that is needed next is always the one that just left: LRU's worst case."""
    steps = [paging.simulate(paging.training_steps([0] * n, 10), 10, 9) for n in (1, 2, 3)]
    assert [paging.pages_moved(step) for step in steps] == [2, 22, 42]
    assert paging.pages_moved(paging.simulate(paging.training_steps([0] * 3, 10), 10, 10)) == 0


def test_activations_larger_than_the_gpu_are_out_of_memory_all_the_same():
    moments = paging.simulate(paging.training_steps([2, 5, 2], 3), 3, 4)
    assert [moment.out_of_memory for moment in moments] == [False] * 5 + [True]
    assert (
        moments[-1].on_gpu == (0, 1, 2)
        and moments[-1].reserved == 0
        and moments[-1].moved_out == ()
    )
    full = paging.simulate([Request("reserve", 4), Request("touch", 0)], 3, 4)
    assert full[0].on_gpu == () and full[1].out_of_memory, "no room for the page that is touched"
    exactly = paging.simulate(paging.training_steps([4], 3), 3, 4)
    assert not exactly[-1].out_of_memory and paging.pages_moved(exactly) == 6


def test_an_optimizer_larger_than_the_gpu_begins_partly_on_the_cpu():
    moments = paging.simulate(touches(3), n_pages=4, capacity=2)
    assert moments == [Moment(Request("touch", 3), 0, (1, 3), (3,), (0,))]


# ------------------------------------------------------------------------------------ properties
class SecondSimulator:
    """The same rules, told otherwise: each page has the time of its last use."""

    def __init__(self, n_pages, capacity):
        self.used = {page: page - n_pages for page in range(min(n_pages, capacity))}
        self.capacity, self.reserved, self.moved, self.time = capacity, 0, 0, 0

    def make_room(self, needed):
        while len(self.used) + self.reserved + needed > self.capacity:
            del self.used[min(self.used, key=self.used.get)]
            self.moved += 1

    def do(self, kind, amount):
        self.time += 1
        if kind == "reserve":
            self.make_room(amount)
            self.reserved += amount
        elif kind == "release":
            self.reserved -= amount
        else:
            if amount not in self.used:
                self.make_room(1)
                self.moved += 1
            self.used[amount] = self.time


@settings(max_examples=150, deadline=None)
@given(data=st.data(), n_pages=st.integers(1, 8), capacity=st.integers(1, 8))
def test_equals_a_second_simulator(data, n_pages, capacity):
    pages = st.lists(st.integers(0, n_pages - 1), max_size=12)
    steps = data.draw(st.lists(st.tuples(st.integers(0, capacity), pages), max_size=5))
    requests = []
    for reserved, touched in steps:
        requests += [Request("reserve", reserved), Request("release", reserved), *touches(*touched)]
    moments, second = (
        paging.simulate(requests, n_pages, capacity),
        SecondSimulator(n_pages, capacity),
    )
    assert len(moments) == len(requests)
    for request, moment in zip(requests, moments, strict=True):
        second.do(*request)
        assert set(moment.on_gpu) == set(second.used) and moment.reserved == second.reserved
        assert moment.reserved + len(moment.on_gpu) <= capacity and len(set(moment.on_gpu)) == len(
            moment.on_gpu
        )
    assert paging.pages_moved(moments) == second.moved


@settings(max_examples=80, deadline=None)
@given(
    activations=st.lists(st.integers(0, 10), min_size=1, max_size=4),
    n_pages=st.integers(0, 10),
    capacity=st.integers(1, 20),
)
def test_nothing_moves_where_everything_fits(activations, n_pages, capacity):
    moments = paging.simulate(paging.training_steps(activations, n_pages), n_pages, capacity)
    if paging.fits_without_paging(activations, n_pages, capacity):
        assert paging.pages_moved(moments) == 0 and not moments[-1].out_of_memory
    elif not moments[-1].out_of_memory:
        assert paging.pages_moved(moments) > 0


# ------------------------------------------------------------------------ bytes, seconds, bad input
def test_pages_and_seconds():
    assert [paging.pages_for(n, 100) for n in (0, 1, 100, 101)] == [0, 1, 1, 2]
    assert paging.transfer_seconds(1000, 2 * 2**20, 12) == pytest.approx(0.17476, abs=1e-5)
    assert paging.transfer_seconds(0, 4096, 1) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paging.simulate([], 4, 0), "a capacity of at least 1, got 4 and 0"),
        (lambda: paging.simulate([], -1, 4), "n_pages of at least 0"),
        (lambda: paging.simulate(touches(4), 4, 4), "can't touch 4: there are 4 pages"),
        (
            lambda: paging.simulate([Request("release", 1)], 4, 4),
            "can't release 1: .* 0 are reserved",
        ),
        (lambda: paging.simulate([Request("reserve", -1)], 4, 4), "can't reserve -1"),
        (lambda: paging.simulate([Request("grab", 1)], 4, 4), "unknown request 'grab'"),
        (lambda: paging.pages_for(-1, 10), "n_bytes of at least 0"),
        (lambda: paging.pages_for(1, 0), "page_bytes of at least 1"),
        (lambda: paging.transfer_seconds(1, 1, 0), "above 0 GB/s"),
    ],
)
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
