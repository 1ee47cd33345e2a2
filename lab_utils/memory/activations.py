"""What a training step saves for its backward pass, layer by layer, as formulas.

Counted with saved-tensor hooks in the forward pass of transformers' models, on a CPU, and written
down here: T = batch * sequence tokens, x bytes for each value, h, f and q, kv the widths of the
stream, the MLP, and all query and key heads.

    RMSNorm      4Th + 4T                       its input in float32 and one root for each token
                 full: T h x more               for the gradient of its gain
    attention    T h x + (2 q + 2 kv) T x       input; q, k, v, output
                 flash: 4 T heads more          one log-sum for each query
                 eager: the scores, too         batch * heads * sequence**2 in float32, and k and v
                                                once for each query head
    gated MLP    T h x + 4 T f x                input; gate, silu(gate), up, product
    adapters     7 r T                          what A gives to B, in each of the 7 linear layers

Not covered: padding (scores are then masked by one more (batch, sequence, sequence) tensor, and k
and v repeated for each query head), a sequence beyond a sliding window (masked in the same way),
dropout, autocast (copies in two types), and fused kernels, which save less.
"""

from __future__ import annotations

import math

from lab_utils.memory.plan import HOOKS, NOT_HERE, TYPES, Line, Plan, count, step
from lab_utils.memory.sizes import Architecture, Model

OURS = "counted in transformers' forward pass"


def input_bytes(plan: Plan, width: int, readers: int) -> int:
    """Bytes of the input (T, width) that `readers` linear layers share, kept for their gradients.

    An adapter of another type than the activations makes a copy of its own, in its type.
    """
    if plan.full or TYPES[plan.adapters] == plan.activation_bytes:
        return plan.tokens * width * plan.activation_bytes
    return readers * plan.tokens * width * TYPES[plan.adapters]


def norm_bytes(model: Architecture, plan: Plan) -> int:
    """Bytes of one norm: its input, its statistics for each token, and for a trained gain the
    normed values.
    """
    t, h, x = plan.tokens, model.hidden_size, plan.activation_bytes
    if model.family == "gpt2":
        return t * h * x + 2 * t * x
    return 4 * t * h + 4 * t + (t * h * x if plan.full else 0)


def attention_bytes(model: Architecture, plan: Plan) -> int:
    """Bytes of one layer's attention: input, q, k, v, output and, if eager, the scores."""
    t, x, heads = plan.tokens, plan.activation_bytes, model.n_heads
    q, kv, gpt2 = heads * model.head_dim, model.n_kv_heads * model.head_dim, model.family == "gpt2"
    total = input_bytes(plan, model.hidden_size, 1 if gpt2 else 3)
    if plan.attention == "eager":
        # Llama's softmax is in float32; in 16 bits a copy follows
        score = x if gpt2 or x == 4 else 4 + x
        scores = plan.batch * heads * plan.sequence**2 * score
        return total + 3 * t * q * x + scores + input_bytes(plan, q, 1)
    copy = 0 if plan.full or TYPES[plan.adapters] == x else input_bytes(plan, q, 1)
    return total + (2 * q + 2 * kv) * t * x + 4 * t * heads + copy


def mlp_bytes(model: Architecture, plan: Plan) -> int:
    """Bytes of one layer's MLP: its input, the activation function's needs, what `down` reads."""
    gpt2, t, f = model.family == "gpt2", plan.tokens, model.intermediate_size
    # GELU by tanh: 4 tensors; gate, silu(gate), up: 3
    inner = (4 if gpt2 else 3) * t * f * plan.activation_bytes
    return input_bytes(plan, model.hidden_size, 1 if gpt2 else 2) + inner + input_bytes(plan, f, 1)


def adapter_bytes(model: Architecture, plan: Plan) -> int:
    """Bytes of what A gives to B, (T, rank), in all adapted linear layers of one layer."""
    if plan.full:
        return 0
    return plan.rank * plan.tokens * TYPES[plan.adapters] * len(model.linear_layers())


def rotary_bytes(model: Architecture, plan: Plan) -> int:
    """Bytes of cosine and sine, (1, sequence, head_dim) each, which all layers share."""
    if model.family == "gpt2":
        return 0
    return 2 * plan.sequence * model.head_dim * plan.activation_bytes


def ends_bytes(model: Architecture, plan: Plan) -> int:
    """Bytes outside the layers: the last norm; ids and the head's input if those are trained."""
    ids = 8 * (plan.tokens + (plan.sequence if model.family == "gpt2" else 0))
    return norm_bytes(model, plan) + (
        ids + plan.tokens * model.hidden_size * plan.activation_bytes if plan.full else 0
    )


def activation_lines(model: Model, plan: Plan) -> list[Line]:
    """What the forward pass saves for the backward pass, without logits and loss."""
    if not isinstance(model, Architecture):
        return [not_counted("activations", model)]
    if plan.checkpointing:
        return checkpointed_lines(model, plan)
    n, parts = model.n_layers, layer_bytes(model, plan)
    llama, flash = model.family == "llama", plan.attention == "flash"
    formulas = {
        "norms": "4Th + 4T, and Thx for a trained gain" if llama else "Thx + 2Tx",
        "attention": "Thx + (2q + 2kv)Tx + 4T heads"
        if flash
        else "Thx + 4qTx + scores, batch heads S^2",
        "MLP": "Thx + 4Tfx" if llama else "Thx + 5Tfx",
        "adapters": f"{len(model.linear_layers())} rT x bytes of an adapter's value",
    }
    # with adapters the embeddings need no gradient, so the first norm has nothing to save
    spared = 0 if plan.full else norm_bytes(model, plan)
    totals = {name: n * size - (spared if name == "norms" else 0) for name, size in parts.items()}
    lines = [
        step(f"activations: {name}", size, f"{n} x ({formulas[name]})", OURS)
        for name, size in totals.items()
        if size
    ]
    ends = ends_bytes(model, plan) + rotary_bytes(model, plan)
    formula = "positions, last norm; full: ids and the head's input"
    return [*lines, step("activations: ends", ends, formula, OURS)]


def layer_bytes(model: Architecture, plan: Plan) -> dict[str, int]:
    """Bytes that one layer saves, by its parts."""
    return {
        "norms": 2 * norm_bytes(model, plan),
        "attention": attention_bytes(model, plan),
        "MLP": mlp_bytes(model, plan),
        "adapters": adapter_bytes(model, plan),
    }


def checkpointed_lines(model: Architecture, plan: Plan) -> list[Line]:
    """With checkpointing: every layer's input, and one layer that is computed again."""
    n, t, h, x = model.n_layers, plan.tokens, model.hidden_size, plan.activation_bytes
    # GPT-2 hands the causal mask to each layer
    mask = t * plan.sequence if model.family == "gpt2" and plan.attention == "eager" else 0
    again = sum(layer_bytes(model, plan).values()) + rotary_bytes(model, plan)
    return [
        step(
            "activations: layer inputs",
            (n * t * h + mask) * x,
            f"{n} layers x {count(t)} tokens x {h} x {x} bytes",
            "Chen et al. 2016; Korthikanti et al. 2022, section 5",
        ),
        step("activations: one layer again", again, "all that one layer saves", OURS),
        step(
            "activations: ends",
            ends_bytes(model, plan),
            "last norm; full: ids and the head's input",
            OURS,
        ),
    ]


def not_counted(name: str, model: Model) -> Line:
    """The line of a part for which nothing was measured: it may be anything."""
    kind = getattr(model, "model_type", model.family)
    formula = f"not counted: no formula was measured for {kind}"
    return Line(name, 0, math.inf, formula, "none", "step", NOT_HERE)


def logits_line(model: Model, plan: Plan) -> Line:
    """Saved: the float32 log-softmax and the labels. At the peak also the logits, their float32
    copy and the gradient.
    """
    if not isinstance(model, Architecture):
        return not_counted("logits and loss", model)
    values, x = plan.tokens * model.vocab_size, plan.activation_bytes
    saved = 4 * values + 8 * plan.tokens + 4  # 4: the sum of the weights of the labels
    more = x + 4 + (4 if x < 4 else 0)
    formula = (
        f"{count(plan.tokens)} tokens x {model.vocab_size:,} words x 4 bytes, up to {4 + more}"
    )
    source = "torch's cross entropy in float32"
    name, measured = "logits and loss", HOOKS + " (low end)"
    return Line(name, saved, saved + values * more, formula, source, "step", measured)
