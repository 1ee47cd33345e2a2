"""The memory ledger of training: each part by name, with formula, source and, if need be, a range.

There are three kinds of parts:
- kept between steps: weights, adapters, optimizer states, a master copy;
- made in a step: gradients, activations, logits and loss, the workspace of dequantization;
- taken by the card: the CUDA context, and what the allocator rounds up.

Biases of 4-bit layers count as the other unquantized weights; bitsandbytes casts them to the type
that it computes in.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from lab_utils.memory.activations import activation_lines, logits_line
from lab_utils.memory.plan import (
    NOT_HERE,
    TENSORS,
    TYPES,
    Line,
    Plan,
    count,
    kept,
)
from lab_utils.memory.sizes import CARDS, GB, Architecture, Model, nf4_parts

CONTEXT_BYTES = (0.3 * GB, 1.4 * GB)
SLACK = (0.0, 0.1)  # shares of all other bytes
ROOM_OF_A_CARD = 0.98  # of a T4's 16 GB programs get 14.7 GiB, 15.8 GB


# ------------------------------------------------------------------------------- kept between steps
def weight_lines(model: Model, plan: Plan) -> list[Line]:
    """The weights as the method stores them, and the adapters."""
    lines = quantized_lines(model, plan) if plan.method == "qlora" else plain_lines(model, plan)
    if not plan.full:
        n = n_trained(model, plan)
        formula = f"{TYPES[plan.adapters]} bytes x {count(n)}: rank x (in + out) a layer"
        lines.append(kept("adapters", n * TYPES[plan.adapters], formula, "LoRA, section 4.1"))
    return lines


def plain_lines(model: Model, plan: Plan) -> list[Line]:
    """All weights in one type."""
    each, n = TYPES[plan.weights], model.n_parameters()
    return [kept("weights", n * each, f"{each} bytes x {count(n)}", "lecture 9")]


def quantized_lines(model: Model, plan: Plan) -> list[Line]:
    """The weights of linear layers in NF4 with their constants, and all that stays as it was."""
    parts = [nf4_parts(n_out * n_in) for n_out, n_in in model.quantized_shapes()]
    codes, absmax, nested = (
        sum(part[name] for part in parts) for name in ("codes", "absmax", "nested absmax")
    )
    paper, each = "QLoRA, section 3", TYPES[plan.unquantized]
    codes_formula = f"4 bits x {count(model.n_linear())} weights of linear layers"
    nested_formula = "4 bytes for 256 blocks, and 1,092 of tables and mean a layer"
    experts = ", experts" if getattr(model, "expert_parameters", 0) else ""
    rest = f"{each} bytes x {count(model.n_other())}: embeddings, head, norms, biases{experts}"
    return [
        kept("codes", codes, codes_formula, paper),
        kept("absmax", absmax, "1 byte for a block of 64 weights", paper),
        kept("nested absmax", nested, nested_formula, f"{paper}; bitsandbytes"),
        kept(
            "unquantized weights",
            model.n_other() * each,
            rest,
            "transformers leaves the head out; PEFT upcasts the rest",
        ),
    ]


def trained_sizes(model: Model, plan: Plan) -> list[int]:
    """Values of each trained tensor: all of the model's, or A (rank, in) and B (out, rank) of each
    linear layer.
    """
    if plan.full:
        return [n_out * n_in for n_out, n_in in model.quantized_shapes()] + model.other_sizes()
    return model.adapter_sizes(plan.rank)


def n_trained(model: Model, plan: Plan) -> int:
    """Trained parameters."""
    return sum(trained_sizes(model, plan))


def state_bytes(sizes: list[int], plan: Plan) -> int:
    """What the optimizer keeps for trained tensors of these sizes.

    AdamW: two moments. The 8-bit one: a byte each and a float32 for each block of 256, but for
    tensors under 4,096 values, which stay in float32.
    """
    if plan.optimizer == "sgd":
        return 0
    if not plan.optimizer.endswith("8bit"):
        return 2 * TYPES[plan.states] * sum(sizes)
    # -(-a // b) rounds up
    return sum(2 * (n + 4 * -(-n // 256)) if n >= 4096 else 8 * n for n in sizes)


def optimizer_lines(model: Model, plan: Plan) -> list[Line]:
    """The optimizer's states, and the master copy. Paged states may all lie in the CPU's memory."""
    sizes = trained_sizes(model, plan)
    states, n = state_bytes(sizes, plan), sum(sizes)
    formula = f"2 moments x {TYPES[plan.states]} bytes x {count(n)}"
    source = "Kingma and Ba 2014, algorithm 1"
    if plan.optimizer.endswith("8bit"):
        formula = "2 x (1 byte a value + 4 bytes for 256)"
        source = "Dettmers et al. 2021, 8-bit optimizers, section 2"
    lines = []
    if states and plan.optimizer.startswith("paged"):
        formula += ", paged out or not"
        lines = [Line("optimizer states", 0, states, formula, source, "kept", NOT_HERE)]
    elif states:
        lines = [kept("optimizer states", states, formula, source)]
    if plan.master:
        source = "Micikevicius et al. 2017, section 3.1"
        lines.append(kept("master copy", 4 * n, f"4 bytes x {count(n)}", source))
    return lines


# ----------------------------------------------------------------------------------- made in a step
def step_lines(model: Model, plan: Plan) -> list[Line]:
    """Gradients, activations, logits, workspace."""
    n, each = n_trained(model, plan), plan.gradient_bytes
    formula = f"{each} bytes x {count(n)}"
    gradients = Line("gradients", n * each, n * each, formula, "lecture 9", "step", TENSORS)
    lines = [gradients, *activation_lines(model, plan), logits_line(model, plan)]
    if plan.method == "qlora":
        largest = max((n_out * n_in for n_out, n_in in model.quantized_shapes()), default=0)
        w, x = TYPES[plan.weights], plan.activation_bytes
        most = largest * (w + (x if x != w else 0))
        formula = f"one weight of {count(largest)} in 16 or 32 bits; 0 in a fused kernel"
        source = "bitsandbytes' backward pass"
        lines.append(Line("dequantization workspace", 0, most, formula, source, "step", NOT_HERE))
    return lines


# ---------------------------------------------------------------------------------------- the whole
def ledger(model: Model, plan: Plan) -> list[Line]:
    """Every part of the memory of this training.

    A model that is only counted has activations of unknown size, from 0 to infinity. Raises
    ValueError for a sequence that the model has no positions for, and for a rank above an adapted
    layer's smallest side.
    """
    check_fits(model, plan)
    lines = [*weight_lines(model, plan), *optimizer_lines(model, plan), *step_lines(model, plan)]
    low, high = sum(line.low for line in lines), sum(line.high for line in lines)
    return [
        *lines,
        Line(
            "allocator slack",
            SLACK[0] * low,
            SLACK[1] * high,
            "0 to 10 % of the rest: blocks are rounded up, gaps stay",
            "rule of thumb",
            "card",
            NOT_HERE,
        ),
        Line(
            "CUDA context",
            *CONTEXT_BYTES,
            "0.3 to 1.4 GB, by card and driver",
            "rule of thumb; transformers, Model training anatomy: 1.3 GB",
            "card",
            NOT_HERE,
        ),
    ]


def check_fits(model: Model, plan: Plan) -> None:
    """Raise ValueError for a sequence or a rank that the model has no room for."""
    if model.max_positions and plan.sequence > model.max_positions:
        raise ValueError(
            f"sequence is {plan.sequence}, but the model has {model.max_positions} positions: "
            "take a shorter one."
        )
    smallest = min((side for shape in model.linear_shapes() for side in shape), default=0)
    if not plan.full and plan.rank > smallest:
        raise ValueError(
            f"rank is {plan.rank}, but the smallest side of an adapted layer is {smallest}: take "
            f"1 to {smallest}."
        )


def peak(lines: list[Line]) -> tuple[float, float]:
    """(low, high) bytes at the worst moment of a step; high is infinite if a part is not counted.

    Activations go while gradients come: at least the larger of the two is there, at most both.
    """
    gradients = sum(line.low for line in lines if line.name == "gradients")
    others = sum(line.low for line in lines if line.when == "step") - gradients
    rest = sum(line.low for line in lines if line.when != "step")
    return rest + max(gradients, others), sum(line.high for line in lines)


def moments(model: Architecture, plan: Plan) -> dict[str, float]:
    """Bytes of tensors at the four moments of a step that can be its worst, the card's share left
    out.

    While gradients come, layer by layer, activations go: when the first layer's turn comes, last of
    all, 1/n of them is left. Of the logits there are at the loss the float32 log-softmax and two
    gradients of its size; none while layers have their turn. torch's AdamW takes two values for
    each of the tensor in hand; bitsandbytes' optimizers take none.
    """
    n, lines = model.n_layers, {line.name: line for line in ledger(model, plan)}
    sizes = {name: line.low for name, line in lines.items()}
    stays = sum(line.high for line in lines.values() if line.when == "kept")  # paged or not
    again, gradients = sizes.get("activations: one layer again", 0), sizes["gradients"]
    saved = sum(size for name, size in sizes.items() if name.startswith("activations")) - again
    workspace = lines.get("dequantization workspace")
    work = again + (workspace.high if workspace else 0)
    if model.family == "gpt2":
        # GELU by tanh is a dozen small steps: two gradients of its width come before one goes
        work += 2 * plan.tokens * model.intermediate_size * plan.activation_bytes
    spare = 2 * plan.gradient_bytes * max(trained_sizes(model, plan)) * (plan.optimizer == "adamw")
    return {
        "loss": stays + saved + sizes["logits and loss"] + 8 * plan.tokens * model.vocab_size,
        "last layer backward": stays + saved + work + gradients / n,
        "first layer backward": stays + saved / n + work + gradients * (n - 1) / n,
        "optimizer": stays + gradients + spare,
    }


def fits_on(lines: list[Line]) -> dict[str, str]:
    """Card -> "yes" if the high end fits, "perhaps" if only the low end does, else "no"."""
    low, high = (size / GB for size in peak(lines))
    room = {card: size * ROOM_OF_A_CARD for card, size in CARDS.items()}
    return {
        card: "yes" if high <= size else "perhaps" if low <= size else "no"
        for card, size in room.items()
    }


def as_record(name: str, plan: Plan, lines: list[Line]) -> dict[str, Any]:
    """The ledger as plain data for JSON; sizes in bytes, None where a part is not counted."""
    low, high = peak(lines)
    return {
        "model": name,
        "plan": asdict(plan),
        "lines": [line._asdict() | {"high": finite(line.high)} for line in lines],
        "peak": {"low": low, "high": finite(high)},
        "fits_on": fits_on(lines),
    }


def finite(size: float) -> float | None:
    """The size, or None for infinity, which JSON does not have."""
    return size if math.isfinite(size) else None


def size_range(low: float, high: float) -> str:
    """Bytes as gigabytes, three digits: "5.05", "0.3 to 1.4", or "0 or more" without an end."""
    if math.isinf(high):
        return f"{low / GB:.3g} or more"
    first, last = (
        f"{size / GB:.3g}" if size < 100 * GB else f"{size / GB:.0f}" for size in (low, high)
    )
    return first if first == last else f"{first} to {last}"
