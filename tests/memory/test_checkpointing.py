"""Checkpointing: schedules held against brute force, closed forms and the papers; real modules
against autograd and torch.
"""

import copy
import gc
import heapq
import itertools
import math
import warnings
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from lab_utils.memory import checkpointing as ck
from lab_utils.memory.checkpointing import Event, Schedule, State
from lab_utils.memory.measuring import SavedBytes, run_schedule, without_gradient

SIZES = [(1, 0), (1, 1), (1, 3), (2, 1)]


def forward(*layers, saves=False):
    return [Event("forward", layer, saves) for layer in layers]


# ------------------------------------------------------------------- schedules, written out by hand
def test_two_segments_of_two_event_by_event():
    assert ck.in_segments(4, 2).events == (
        Event("forward", 1),
        Event("forward", 2),
        Event("discard", 1),
        Event("forward", 3, True),
        Event("forward", 4, True),
        Event("backward", 4),
        Event("backward", 3),
        Event("discard", 2),
        Event("recompute", 1, True),
        Event("recompute", 2, True),
        Event("backward", 2),
        Event("backward", 1),
    )
    sizes = [state.size() for state in ck.replay(ck.in_segments(4, 2))]
    assert sizes == [1, 2, 3, 2, 3, 4, 3, 2, 1, 2, 3, 2, 1]
    sizes = [state.size(2, 5) for state in ck.replay(ck.in_segments(4, 2))]
    assert max(sizes) == 4 * 2 + 2 * 5 and sizes[-1] == 2


def test_a_checkpoint_at_every_layer_event_by_event():
    assert ck.one_layer_in(2, 1).events == (
        *forward(1, 2),
        Event("recompute", 2, True),
        Event("backward", 2),
        Event("recompute", 1, True),
        Event("backward", 1),
    )
    one_in_two = ck.one_layer_in(3, 2)
    assert [event.layer for event in one_in_two.events if event.kind == "recompute"] == [3, 1]
    assert [event.saves for event in one_in_two.events[:3]] == [False, True, False]


# golden.json, a.ckpt_sqrt_n (computed from Chen et al. 2016): ceil(n/k) + k at its best k
@pytest.mark.parametrize(("n", "k", "kept"), [(16, 4, 8), (36, 6, 12), (64, 8, 16), (100, 10, 20)])
def test_the_square_root_of_n_is_the_best_segment_length(n, k, kept):
    assert ck.sqrt_segment(n) == k
    assert ck.peak(ck.make_schedule("sqrt(n)", n)) == kept
    assert ck.extra_forwards(ck.make_schedule("sqrt(n)", n)) == n - k
    assert min(ck.peak(ck.in_segments(n, other)) for other in range(1, n + 1)) == kept


def test_no_length_beats_the_square_root_in_chens_formula():
    for n in range(1, 300):
        kept = [math.ceil(n / k) + k for k in range(1, n + 1)]
        assert kept[ck.sqrt_segment(n) - 1] == min(kept), n


chains = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@settings(max_examples=80, deadline=None)
@given(chain=chains, activation=st.integers(1, 5), inside=st.integers(0, 20))
def test_segments_keep_what_the_formula_says(chain, activation, inside):
    n, k = chain
    schedule, last = ck.in_segments(n, k), n - (math.ceil(n / k) - 1) * k
    segments = math.ceil(n / k)
    live = [(segments + last) * activation + last * inside]
    live += [(segments - 1 + k) * activation + k * inside] if segments > 1 else []
    assert ck.peak(schedule, activation, inside) == max(live)
    assert ck.peak(schedule) == math.ceil(n / k) + k - (n % k > 0)
    assert ck.extra_forwards(schedule) == n - last


@settings(max_examples=60, deadline=None)
@given(chain=chains, inside=st.integers(0, 20))
def test_one_layer_in_k_keeps_every_input_and_the_other_insides(chain, inside):
    n, k = chain
    schedule = ck.one_layer_in(n, k)
    thrown_away = math.ceil(n / k)
    assert ck.extra_forwards(schedule) == thrown_away
    last_is_kept = (n - 1) % k > 0  # otherwise the last layer's inside comes back at once
    assert ck.peak(schedule, 1, inside) == n + 1 + inside * (
        n - thrown_away + (0 if last_is_kept and n > 1 else 1)
    )


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_segments_of_any_lengths(lengths):
    schedule = ck.segments(lengths)
    assert ck.peak(schedule) == max(number + length for number, length in enumerate(lengths, 1))
    assert ck.extra_forwards(schedule) == sum(lengths[:-1])


def test_plans_by_name():
    backward = [Event("backward", layer) for layer in range(5, 0, -1)]
    assert ck.make_schedule("none", 5).events == (*forward(1, 2, 3, 4, 5, saves=True), *backward)
    assert ck.make_schedule("every k", 12, k=5) == ck.in_segments(12, 5)
    assert ck.make_schedule("sqrt(n)", 12).name == "every 4"
    assert ck.make_schedule("every layer", 12) == ck.one_layer_in(12, 1)
    assert ck.make_schedule("optimal", 12, limit=5) == ck.optimal(12, 5)
    assert ck.extra_forwards(ck.make_schedule("optimal", 12)) == 0, (
        "without a limit everything is kept"
    )
    for plan in ck.PLANS:
        assert ck.peak(ck.make_schedule(plan, 1, limit=2)) == 2, "a chain of one layer is allowed"


# ------------------------------------------------------------------------------------ the replayer
def test_a_schedule_without_one_of_its_steps_cannot_be_executed():
    """Whatever computation or backward step is left out, the replay notices; without a discard it
    only needs more.
    """
    for schedule in (
        ck.in_segments(7, 3),
        ck.one_layer_in(4, 2),
        ck.optimal(9, 4),
        ck.optimal(6, 9, 1, 2),
    ):
        for i, event in enumerate(schedule.events):
            without = schedule._replace(events=schedule.events[:i] + schedule.events[i + 1 :])
            if event.kind == "discard":
                assert ck.peak(without) >= ck.peak(schedule)
            else:
                with pytest.raises(ck.ScheduleError):
                    ck.replay(without)


def test_a_layer_that_saves_nothing_has_no_backward_step():
    for schedule in (ck.in_segments(6, 2), ck.optimal(6, 4)):
        for i, event in enumerate(schedule.events):
            if event.saves:
                events = (
                    *schedule.events[:i],
                    event._replace(saves=False),
                    *schedule.events[i + 1 :],
                )
                with pytest.raises(
                    ck.ScheduleError, match="what it saved in its forward step is not kept"
                ):
                    ck.replay(schedule._replace(events=events))


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (forward(2), "event 1 of 1: forward of layer 2: its input x_1 is not kept"),
        ([*forward(1), Event("discard", 1), *forward(2)], "its input x_1 is not kept"),
        (forward(1, 1), "forward of layer 1: a forward step comes once"),
        ([Event("recompute", 1)], "recompute of layer 1: a forward step comes once"),
        ([*forward(1), Event("discard", 2)], "discard of x_2: it is not kept"),
        ([*forward(1, 2, saves=True), Event("discard", 1)], "layer 2 has saved it"),
        ([*forward(1, 2, saves=True), Event("backward", 1)], "it is the turn of layer 2"),
        ([*forward(1, 2), Event("backward", 2)], "what it saved in its forward step is not kept"),
        ([*forward(1, 2, saves=True), Event("discard", 2), Event("backward", 2)], "what it saved"),
        ([*forward(1, 2, saves=True), Event("backward", 2)], "ends while 1 layers wait"),
        ([], "ends while 2 layers wait"),
        (forward(1, 2, 3), "there are layers 1 to 2"),
        ([Event("compute", 1)], "unknown event 'compute'"),
    ],
)
def test_what_cannot_be_executed_is_refused(events, words):
    with pytest.raises(ck.ScheduleError, match=words):
        ck.replay(Schedule("by hand", 2, tuple(events)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: ck.in_segments(0, 1),
            ValueError,
            "n, the layers of the chain, must be a whole number of at least 1, got 0",
        ),
        (lambda: ck.in_segments(4, 0), ValueError, "k, .* from 1 to 4, got 0"),
        (lambda: ck.in_segments(4, 5), ValueError, "k, .* whole number .*, got 5"),
        (
            lambda: ck.in_segments(4.0, 2),
            ValueError,
            "must be a whole number of at least 1, got 4.0",
        ),
        (lambda: ck.one_layer_in(3, 0), ValueError, "k, .* whole number .*, got 0"),
        (lambda: ck.sqrt_segment(0), ValueError, "n, .* whole number .*, got 0"),
        (lambda: ck.segments([]), ValueError, "at least one segment"),
        (lambda: ck.segments([2, 0]), ValueError, "at least 1 layer each"),
        (
            lambda: ck.make_schedule("every two", 4),
            ValueError,
            "unknown plan 'every two': expected one of none, every k",
        ),
        (lambda: ck.make_schedule("sqrt(n)", -1), ValueError, "n, .* whole number .*, got -1"),
        (
            lambda: ck.optimal(16, 2),
            ValueError,
            "limit is 2: a chain of 16 layers needs at least 3",
        ),
        (lambda: ck.optimal(16, 10, 1, 8), ValueError, "needs at least 11"),
        (lambda: ck.optimal(1, 1), ValueError, "a chain of 1 layers needs at least 2"),
        (lambda: ck.optimal(0, 5), ValueError, "n, .* whole number .*, got 0"),
        (lambda: ck.compare_plans(0), ValueError, "n, .* whole number .*, got 0"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --------------------------------------------------------------------------------- the optimal plan
def fewest_forwards(n, limit, activation, inside):
    """By trying everything: the shortest way through all states that the replayer's rules allow
    (Dijkstra).
    """
    kinds = [
        ("forward", False),
        ("forward", True),
        ("recompute", False),
        ("recompute", True),
        ("discard", False),
        ("backward", False),
    ]
    events = [Event(kind, layer, saves) for layer in range(1, n + 1) for kind, saves in kinds]
    count, seen = itertools.count(), set()
    heap = [(0, next(count), State(frozenset({0}), frozenset(), 0, n, 0))]
    while heap:
        work, _, state = heapq.heappop(heap)
        if state.waiting == 0:
            return work
        if state[:4] in seen:
            continue
        seen.add(state[:4])
        for event in events:
            try:
                following = ck.apply_event(state, event, n)
            except ck.ScheduleError:
                continue
            if following.size(activation, inside) <= limit and following[:4] not in seen:
                heapq.heappush(heap, (following.forwards, next(count), following))
    return math.inf


@pytest.mark.parametrize(("activation", "inside"), SIZES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_no_plan_at_all_beats_the_optimal_one(n, activation, inside):
    smallest = ck.smallest_limit(n, activation, inside)
    assert fewest_forwards(n, smallest - 1, activation, inside) == math.inf, (
        "below the smallest limit nothing works"
    )
    for limit in range(smallest, (n + 1) * activation + n * inside + 1):
        schedule = ck.optimal(n, limit, activation, inside)
        assert ck.peak(schedule, activation, inside) <= limit
        assert n + ck.extra_forwards(schedule) == fewest_forwards(n, limit, activation, inside)
    assert ck.extra_forwards(schedule) == 0, "where everything fits, nothing is recomputed"


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 5, 10, 21, 40])
def test_the_optimum_is_revolves_binomial_formula(n, checkpoints):
    """Griewank and Walther 2000: with s checkpoints, r n - C(s + r, r - 1) forward steps before
    each layer's last one, where C(s + r - 1, s) < n <= C(s + r, s). Our limit holds those, the
    running activation with the next one, and a single inside.
    """
    r = next(r for r in itertools.count(1) if n <= math.comb(checkpoints + r, checkpoints))
    revolve = r * n - math.comb(checkpoints + r, r - 1)
    schedule = ck.optimal(n, checkpoints + 2 + 1000, 1, 1000)
    assert n + ck.extra_forwards(schedule) == n + revolve


def test_a_thousand_layers_have_an_optimal_plan_too():
    """Deeper than Python's own stack. Keeping all needs no step more, and
    with as much memory as segments of 32 take, fewer steps do.
    """
    assert ck.extra_forwards(ck.optimal(1000, 1001)) == 0
    assert ck.extra_forwards(ck.optimal(1000, 1000)) > 0
    in_segments = ck.in_segments(1000, 32)
    optimal = ck.optimal(1000, 63)
    assert ck.peak(optimal) == ck.peak(in_segments) == 63
    assert ck.extra_forwards(optimal) < ck.extra_forwards(in_segments)


def test_sizes_in_bytes_need_no_table_of_every_byte():
    schedule = ck.optimal(24, 36_000_009, activation=1_000_003, inside=499_999)
    assert ck.peak(schedule, 1_000_003, 499_999) <= 36_000_009


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30),
    more=st.integers(0, 30),
    activation=st.integers(1, 3),
    inside=st.integers(0, 9),
)
def test_the_optimal_plan_keeps_its_limit_and_more_memory_never_costs_work(
    n, more, activation, inside
):
    limit = ck.smallest_limit(n, activation, inside) + more
    schedule, next_one = (ck.optimal(n, limit + i, activation, inside) for i in (0, 1))
    assert ck.peak(schedule, activation, inside) <= limit
    assert ck.extra_forwards(next_one) <= ck.extra_forwards(schedule)


def test_comparing_plans_says_what_their_schedules_say():
    points = ck.compare_plans(12, 1, 4)
    made = {f"every {k}": ck.in_segments(12, k) for k in range(1, 12)} | {
        "none": ck.in_segments(12, 12)
    }
    made |= {f"one layer in {k}": ck.one_layer_in(12, k) for k in range(2, 12)} | {
        "every layer": ck.one_layer_in(12, 1)
    }
    assert {p.plan for p in points} == {*made, "optimal"}
    for point in points:
        schedule = made.get(point.plan) or ck.optimal(12, int(point.peak), 1, 4)
        assert ck.extra_forwards(schedule) == point.extra
        assert ck.peak(schedule, 1, 4) == point.peak
    best = [p for p in points if p.plan == "optimal"]
    for p in points:
        assert any(b.peak <= p.peak and b.extra <= p.extra for b in best), (
            "no plan lies beyond the optimal ones"
        )


def test_little_memory_goes_a_long_way():
    """Chen et al. 2016, section 4.4: O(log n) memory for O(n log n) forward steps."""
    for power in (4, 5, 6):
        n = 2**power
        assert ck.extra_forwards(ck.optimal(n, power + 3)) < n * power


# ------------------------------------------------------------------------------------ real modules
def stack(n, hidden=8, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    blocks = [
        nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))
        for _ in range(n)
    ]
    return nn.Sequential(*blocks).to(dtype)


def squares(y):
    return y.square().mean()


def plain_step(layers, x):
    """Loss and gradients as torch gives them."""
    layers = copy.deepcopy(layers)
    loss = squares(layers(x))
    loss.backward()
    return loss.detach(), [p.grad for p in layers.parameters()]


SCHEDULES = [
    ck.in_segments(6, 6),
    ck.in_segments(6, 2),
    ck.in_segments(6, 4),
    ck.in_segments(6, 1),
    ck.one_layer_in(6, 1),
    ck.one_layer_in(6, 3),
    ck.optimal(6, 3),
    ck.optimal(6, 14, 1, 8),
    ck.segments([1, 3, 2]),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_loss_and_gradients_are_those_of_torch(schedule):
    layers, x = stack(6), torch.randn(5, 8, dtype=torch.float64)
    loss, gradients = plain_step(layers, x)
    run = run_schedule(schedule, layers, x, squares)
    torch.testing.assert_close(run.loss, loss, rtol=0, atol=1e-6)
    for ours, theirs in zip((p.grad for p in layers.parameters()), gradients, strict=True):
        assert theirs.abs().max() > 1e-9
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_bytes_after_every_event_are_the_predicted_ones(schedule):
    """A block keeps its input, the values before and after GELU: 1 + 4 + 4 activations of `tokens x
    hidden` numbers.
    """
    layers, x = stack(6, hidden=16, dtype=torch.float32), torch.randn(32, 16)
    run = run_schedule(schedule, layers, x, squares)
    unit = 32 * 16 * 4
    assert run.bytes_kept == [state.size(unit, 8 * unit) for state in ck.replay(schedule)[1:]]
    assert max(run.bytes_kept) == pytest.approx(ck.peak(schedule, unit, 8 * unit), rel=0.02)


@pytest.mark.parametrize(
    ("pieces", "lengths"), [(1, [6]), (2, [3, 3]), (3, [2, 2, 2]), (4, [1, 1, 1, 3]), (6, [1] * 6)]
)
def test_torchs_checkpoint_sequential_does_the_same(pieces, lengths):
    """Same loss and gradients, and at the end of its forward pass it has kept our schedule's bytes
    of that moment.
    """
    layers, x = stack(6), torch.randn(5, 8, dtype=torch.float64)
    loss, gradients = plain_step(layers, x)
    with SavedBytes(layers.parameters()) as saved:
        theirs = squares(checkpoint_sequential(layers, pieces, x, use_reentrant=False))
    kept = saved.now
    theirs.backward()
    torch.testing.assert_close(theirs.detach(), loss, rtol=0, atol=1e-6)
    for ours, plain in zip((p.grad for p in layers.parameters()), gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-15)
    schedule, unit = ck.segments(lengths), 5 * 8 * 8
    forward_done = next(i for i, event in enumerate(schedule.events) if event.kind == "backward")
    assert kept == ck.replay(schedule)[forward_done].size(unit, 8 * unit)


def test_layers_may_be_functions_and_the_input_is_left_alone():
    weight = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 4, dtype=torch.float64)
    layers = [lambda t: torch.tanh(t @ weight)] * 3
    y = x
    for layer in layers:
        y = layer(y)
    (expected,) = torch.autograd.grad(squares(y), weight)
    run = run_schedule(ck.optimal(3, 3), layers, x, squares, ignore=[weight])
    torch.testing.assert_close(weight.grad, expected, rtol=1e-9, atol=0)
    assert not x.requires_grad and x.grad is None and run.loss.item() == squares(y).item()


def test_running_wants_as_many_layers_as_the_schedule_and_an_executable_one():
    with pytest.raises(ValueError, match="the schedule is for 3 layers, and there are 2"):
        run_schedule(ck.in_segments(3, 1), stack(2), torch.randn(2, 8), squares)
    with pytest.raises(ck.ScheduleError):
        run_schedule(Schedule("empty", 2, ()), stack(2), torch.randn(2, 8), squares)


# ----------------------------------------------------------------------------------- counting bytes
def test_saved_bytes_counts_storages_once_and_not_the_parameters():
    layer, x = nn.Linear(8, 4), torch.randn(16, 8, requires_grad=True)
    with SavedBytes(layer.parameters()) as saved:
        y = layer(x)
        assert saved.now == 16 * 8 * 4, "the input alone"
        z = x * x  # saves x twice, and it is saved already
        assert saved.now == 16 * 8 * 4
        w = x.exp()
        assert saved.now == 2 * 16 * 8 * 4, "exp saves its result"
    with SavedBytes() as all_of_them:
        again = layer(x)
    assert all_of_them.now == 16 * 8 * 4 + 4 * 8 * 4, "the input and the weight"
    (y.sum() + z.sum() + w.sum() + again.sum()).backward()
    assert saved.now == 0 and all_of_them.now == 0 and saved.peak == 2 * 16 * 8 * 4


def test_an_ignored_tensor_that_is_freed_hides_no_saved_one():
    """The allocator gives a freed address to the next tensor of the size: it must count."""
    for _ in range(50):
        x, ignored = torch.ones(1000, requires_grad=True), torch.ones(1000)
        with SavedBytes([ignored]) as saved:
            del ignored
            y = x.exp()  # saves its result
            assert saved.now == 4000
        del y


def test_a_view_keeps_its_whole_storage():
    whole = torch.randn(100, 8)
    weight = torch.randn(8, requires_grad=True)
    with SavedBytes([weight]) as saved:
        y = whole[:1] * weight
    assert saved.now == 100 * 8 * 4
    del y
    assert saved.now == 0


def test_saved_tensors_come_back_unchanged():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    with SavedBytes():
        y = (x.exp() * x.sin()).sum()
    y.backward()
    torch.testing.assert_close(x.grad, (x.exp() * (x.sin() + x.cos())).detach())


def test_what_was_counted_is_freed_with_its_loss_also_without_a_backward_pass():
    x = torch.ones(5, requires_grad=True)
    with SavedBytes() as saved:
        y = x.exp()  # its node saves the output: a tensor that holds itself, if it is held as it is
    gone = weakref.ref(y)
    assert saved.now == 20
    del y
    gc.collect()
    assert gone() is None and saved.now == 0


# -------------------------------------------------------------------------------- transformers' way
@pytest.fixture
def tiny():
    """A Llama with two layers and random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 512,
    }
    return LlamaForCausalLM(LlamaConfig(**sizes)).train()


def enable(model, **options):
    (
        getattr(model, "activation_checkpointing_enable", None)
        or model.gradient_checkpointing_enable
    )(**options)


def model_bytes(model, ids):
    with SavedBytes(model.parameters()) as saved:
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    kept = saved.now
    loss.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return kept, loss.detach(), gradients


def test_a_real_model_keeps_the_predicted_bytes(tiny):
    """Decoder layers of a Llama as the chain: one layer alone gives the two sizes, the schedule
    gives the rest.
    """
    core, ids = tiny.model, torch.randint(5, 500, (2, 24))
    x = core.embed_tokens(ids).detach()
    rope = core.rotary_emb(x, torch.arange(24)[None])
    layers = [lambda h, layer=layer: layer(h, position_embeddings=rope) for layer in core.layers]
    shared = [*tiny.parameters(), *rope]
    with SavedBytes(shared) as saved:
        y = layers[0](x.clone().requires_grad_())
    inside = saved.now - x.nbytes
    assert y.shape == x.shape and inside > 10 * x.nbytes
    for schedule in (
        ck.in_segments(2, 2),
        ck.one_layer_in(2, 1),
        ck.one_layer_in(2, 2),
        ck.optimal(2, 3),
    ):
        run = run_schedule(schedule, layers, x, squares, ignore=shared)
        assert max(run.bytes_kept) == pytest.approx(ck.peak(schedule, x.nbytes, inside), rel=0.02)


def test_every_n_layers_checkpoints_one_layer_in_n_and_keeps_the_others(tiny):
    """The more layers, the more it keeps: it is not the lecture's scheme. And whatever is kept, the
    gradients stay.
    """
    ids = torch.randint(5, 500, (2, 24))
    kept = {"none": model_bytes(tiny, ids)}
    for every in (1, 2):
        enable(tiny, every_n_layers=every)
        schedule = ck.one_layer_in(2, every)
        saves = [event.saves for event in schedule.events if event.kind == "forward"]
        assert [not layer.gradient_checkpointing for layer in tiny.model.layers] == saves
        kept[every] = model_bytes(tiny, ids)
    assert kept["none"][0] > kept[2][0] > kept[1][0]
    for name in (1, 2):
        torch.testing.assert_close(kept[name][1], kept["none"][1])
        for ours, plain in zip(kept[name][2], kept["none"][2], strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------- the silent failure
class Adapted(nn.Module):
    """A frozen linear layer with a small trained one beside it."""

    def __init__(self):
        super().__init__()
        self.base, self.adapter = nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 4)

    def forward(self, x):
        return torch.tanh(self.base(x) + self.adapter(x))


@pytest.mark.parametrize(
    ("reentrant", "input_grad", "dead"),
    [(True, False, True), (False, False, False), (True, True, False)],
)
def test_reentrant_checkpoints_with_frozen_inputs_train_nothing_and_are_caught(
    reentrant, input_grad, dead
):
    torch.manual_seed(0)
    model = nn.ModuleDict({"first": Adapted(), "head": nn.Linear(4, 1)})
    x = torch.randn(3, 4, requires_grad=input_grad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        hidden = checkpoint(model["first"], x, use_reentrant=reentrant)
    model["head"](hidden).sum().backward()
    assert without_gradient(model) == (
        ["first.adapter.weight", "first.adapter.bias"] if dead else []
    )


def test_a_gradient_of_zeros_is_no_gradient():
    model = nn.Linear(2, 2)
    (model(torch.zeros(1, 2)) * 1.0).sum().backward()
    assert without_gradient(model) == ["weight"], (
        "the input is zero, so the weight learns nothing; the bias does"
    )


# ------------------------------------------------------------------------------------ Korthikanti
# golden.json, b.ckpt.korthikanti_examples_GB (tolerance 0.001): h 4096, a 32, 32 layers, b 1
@pytest.mark.parametrize(
    ("s", "none", "selective", "full"), [(512, 3.624, 2.282, 0.134), (2048, 30.602, 9.127, 0.537)]
)
def test_korthikantis_formula_for_7b(s, none, selective, full):
    for recompute, gigabytes in (("none", none), ("selective", selective), ("full", full)):
        assert 32 * ck.korthikanti_layer_bytes(s, 1, 4096, 32, recompute) / 1e9 == pytest.approx(
            gigabytes, abs=0.001
        )


def test_attention_outweighs_the_rest_in_gpt3():
    """Korthikanti et al. 2022, section 4: for GPT-3 (h 12288, a 96, s 2048) 5 a s / h is 80,
    against 34.
    """
    none, selective = (
        ck.korthikanti_layer_bytes(2048, 1, 12288, 96, kind) for kind in ("none", "selective")
    )
    assert (none - selective) / (2048 * 12288) == 80
    assert ck.korthikanti_layer_bytes(2048, 3, 12288, 96) == 3 * none


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 1, 8, 1), "sequence must be a whole number of at least 1"),
        ((8, 0, 8, 1), "batch"),
        ((8, 1, 0, 1), "hidden"),
        ((8, 1, 8, 0), "heads"),
        ((8, 1, 8, 1, "half"), "unknown recompute 'half': expected one of none, selective, full"),
    ],
)
def test_korthikanti_refuses_what_has_no_meaning(arguments, words):
    with pytest.raises(ValueError, match=words):
        ck.korthikanti_layer_bytes(*arguments)
