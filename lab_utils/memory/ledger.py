"""The memory ledger of training: every part by name, with its formula, its source and, where it
must be, a range.

It stands beside `memory.py`, which counts bits and the sizes of models, because this is another
idea: what a training step keeps and makes. Three kinds of parts:
- kept between steps: weights, adapters, optimizer states, a master copy;
- made in a step: gradients, activations, logits and loss, the workspace of dequantization;
- taken by the card: the CUDA context, and what the allocator rounds up.

Activations are what autograd saves in the forward pass of transformers' models, layer by layer,
counted with saved-tensor hooks on a CPU and written down here as formulas, T = batch * sequence
tokens, x bytes each value:

    RMSNorm      4Th + 4T       its input in float32 and one root for each token; full: T h x more,
    for the gain's gradient
    attention    T h x + (2 q + 2 kv) T x + 4 T heads      input; q, k, v, output; one log-sum for
    each query ("flash")
                 eager: the scores too, batch * heads * sequence**2 float32, and k and v once for
                 each query head
    gated MLP    T h x + 4 T f x                           input; gate, silu(gate), up, product
    adapters     7 r T                                     what A gives to B, in each of the 7
    linear layers

Biases of 4-bit layers count as the other unquantized weights; bitsandbytes takes them to the type
it computes in. What is not covered: padding (then scores are masked by one more (batch, sequence,
sequence) tensor, and k and v are repeated for each query head), a sequence beyond a sliding window
(masked in the same way), dropout, autocast (copies in two types) and fused kernels, which save
less.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

from lab_utils.memory.sizes import CARDS, GB, Architecture, nf4_parts

TYPES = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes of a value
METHODS = ("full", "lora", "qlora")
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "sgd")
# transformers' "sdpa" runs a flash kernel, on a CPU too, where nothing is padded
ATTENTION = (
    "flash",
    "eager",
)
CONTEXT_BYTES = (0.3 * GB, 1.4 * GB)
SLACK = (0.0, 0.1)  # shares of all other bytes
ROOM_OF_A_CARD = (
    0.98  # of a T4's 16 GB programs get 14.7 GiB, 15.8 GB; the CUDA context is a line of the ledger
)


@dataclass(frozen=True)
class Plan:
    """How a model is trained. Types are "fp32", "bf16" or "fp16"; None stands for what the
    libraries do by themselves.

    `gradients` None: the type of what is trained. `activations` None: the type of the weights;
    after PEFT has prepared a 4-bit model, fp32, since embeddings and norms were upcast and what
    they give runs through all layers.
    """

    method: str = "qlora"
    rank: int = 16  # of the adapters on all linear layers
    sequence: int = 512  # tokens
    batch: int = 1
    # of what is trained (full) or frozen (lora); the type that 4-bit weights are computed in
    weights: str = "bf16"
    gradients: str | None = None
    states: str = "fp32"  # AdamW's two moments
    master: bool = False  # mixed precision's float32 copy of what is trained
    optimizer: str = "adamw"
    adapters: str = "fp32"  # PEFT upcasts adapters
    unquantized: str = (
        "fp32"  # embeddings, head, norms of a 4-bit model: prepare_model_for_kbit_training upcasts
    )
    activations: str | None = None
    attention: str = "flash"
    checkpointing: bool = False  # keep each layer's input, compute the rest again

    def __post_init__(self) -> None:
        for name, allowed in (
            ("method", METHODS),
            ("optimizer", OPTIMIZERS),
            ("attention", ATTENTION),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}."
                )
        for name in ("weights", "states", "adapters", "unquantized", "gradients", "activations"):
            value = getattr(self, name)
            if value not in TYPES and not (value is None and name in ("gradients", "activations")):
                raise ValueError(f"{name} must be one of {', '.join(TYPES)}, got {value!r}.")
        for name in ("rank", "sequence", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")

    @property
    def full(self) -> bool:
        """Whether all parameters are trained."""
        return self.method == "full"

    @property
    def tokens(self) -> int:
        """Tokens in one step."""
        return self.batch * self.sequence

    @property
    def trained_bytes(self) -> int:
        """Bytes of a trained value."""
        return TYPES[self.weights if self.full else self.adapters]

    @property
    def gradient_bytes(self) -> int:
        """Bytes of a gradient's value."""
        return TYPES[self.gradients] if self.gradients else self.trained_bytes

    @property
    def activation_bytes(self) -> int:
        """Bytes of a value that flows between the layers."""
        return TYPES[
            self.activations or (self.unquantized if self.method == "qlora" else self.weights)
        ]


class Line(NamedTuple):
    """One part of the ledger; `low` and `high` bytes differ where it must be a range."""

    name: str
    low: float
    high: float
    formula: str
    source: str
    when: str  # "kept" between steps, in a "step", or taken by the "card"
    measured: str  # how the tests hold it against real tensors


TENSORS, HOOKS, NOT_HERE = "bytes of tensors", "saved-tensor hooks, CPU", "not measured here"


# ------------------------------------------------------------------------------- kept between steps
def weight_lines(model: Architecture, plan: Plan) -> list[Line]:
    """The weights as the method stores them, and the adapters."""
    lines = []
    if plan.method == "qlora":
        parts = [nf4_parts(n_out * n_in) for n_out, n_in in model.linear_shapes()]
        codes, absmax, nested = (sum(part[name] for part in parts) for name in parts[0])
        other, n = model.n_other() * TYPES[plan.unquantized], model.n_linear()
        lines += [
            kept(
                "codes", codes, f"4 bits x {count(n)} weights of linear layers", "QLoRA, section 3"
            ),
            kept("absmax", absmax, "1 byte for a block of 64 weights", "QLoRA, section 3"),
            kept(
                "nested absmax",
                nested,
                "4 bytes for 256 blocks, and 1,092 of tables and mean a layer",
                "QLoRA, section 3; bitsandbytes",
            ),
            kept(
                "unquantized weights",
                other,
                f"{TYPES[plan.unquantized]} bytes x {count(model.n_other())}: embeddings, head, "
                "norms, biases",
                "transformers leaves the head out; PEFT upcasts the rest",
            ),
        ]
    else:
        n = model.n_parameters()
        lines.append(
            kept(
                "weights",
                n * TYPES[plan.weights],
                f"{TYPES[plan.weights]} bytes x {count(n)}",
                "lecture 9",
            )
        )
    if not plan.full:
        n = n_trained(model, plan)
        formula = f"{TYPES[plan.adapters]} bytes x {count(n)}: rank x (in + out) a layer"
        lines.append(kept("adapters", n * TYPES[plan.adapters], formula, "LoRA, section 4.1"))
    return lines


def trained_sizes(model: Architecture, plan: Plan) -> list[int]:
    """Values of each trained tensor: all of the model's, or A (rank, in) and B (out, rank) of each
    linear layer.
    """
    if plan.full:
        return [n_out * n_in for n_out, n_in in model.linear_shapes()] + model.other_sizes()
    return [plan.rank * side for shape in model.linear_shapes() for side in shape]


def n_trained(model: Architecture, plan: Plan) -> int:
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


def optimizer_lines(model: Architecture, plan: Plan) -> list[Line]:
    """The optimizer's states, and the master copy. Paged states may all lie in the CPU's memory at
    times.
    """
    sizes = trained_sizes(model, plan)
    states, n = state_bytes(sizes, plan), sum(sizes)
    paged = plan.optimizer.startswith("paged")
    if plan.optimizer.endswith("8bit"):
        formula, source = (
            "2 x (1 byte a value + 4 bytes for 256)",
            "Dettmers et al. 2021, 8-bit optimizers, section 2",
        )
    else:
        formula, source = (
            f"2 moments x {TYPES[plan.states]} bytes x {count(n)}",
            "Kingma and Ba 2014, algorithm 1",
        )
    lines = []
    if states:
        formula += ", paged out or not" if paged else ""
        low, measured = (0, NOT_HERE) if paged else (states, TENSORS)
        lines.append(Line("optimizer states", low, states, formula, source, "kept", measured))
    if plan.master:
        lines.append(
            kept(
                "master copy",
                4 * n,
                f"4 bytes x {count(n)}",
                "Micikevicius et al. 2017, section 3.1",
            )
        )
    return lines


# ----------------------------------------------------------------------------------- made in a step
def input_bytes(plan: Plan, width: int, readers: int) -> int:
    """The input of linear layers, T x width, kept for the gradient of what is trained in them.

    `readers` layers share it; but an adapter of another type than the activations makes a copy of
    its own in its type.
    """
    if plan.full or TYPES[plan.adapters] == plan.activation_bytes:
        return plan.tokens * width * plan.activation_bytes
    return readers * plan.tokens * width * TYPES[plan.adapters]


def norm_bytes(model: Architecture, plan: Plan) -> int:
    """One norm: its input, its statistics for each token, and, where its gain is trained, the
    normed values.
    """
    t, h, x = plan.tokens, model.hidden_size, plan.activation_bytes
    if model.family == "gpt2":
        return t * h * x + 2 * t * x
    return 4 * t * h + 4 * t + (t * h * x if plan.full else 0)


def attention_bytes(model: Architecture, plan: Plan) -> int:
    """Attention of one layer: its input, q, k, v, then the output and, eager, the scores."""
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
    """The MLP of one layer: its input, what the activation function needs, the input of its last
    linear layer.
    """
    gpt2, t, f = model.family == "gpt2", plan.tokens, model.intermediate_size
    # GELU by tanh: 4 tensors; gate, silu(gate), up: 3
    inner = (4 if gpt2 else 3) * t * f * plan.activation_bytes
    return input_bytes(plan, model.hidden_size, 1 if gpt2 else 2) + inner + input_bytes(plan, f, 1)


def adapter_bytes(model: Architecture, plan: Plan) -> int:
    """What A gives to B, T x rank, in each adapted layer."""
    return (
        0
        if plan.full
        else plan.rank * plan.tokens * TYPES[plan.adapters] * len(model.linear_layers())
    )


def rotary_bytes(model: Architecture, plan: Plan) -> int:
    """Cosine and sine of the rotary positions, (1, sequence, head_dim) each, shared by all layers."""
    return (
        0 if model.family == "gpt2" else 2 * plan.sequence * model.head_dim * plan.activation_bytes
    )


def ends_bytes(model: Architecture, plan: Plan) -> int:
    """Outside the layers: token ids and the head's input where embedding and head are trained, and
    the last norm.
    """
    ids = 8 * (plan.tokens + (plan.sequence if model.family == "gpt2" else 0))
    return norm_bytes(model, plan) + (
        ids + plan.tokens * model.hidden_size * plan.activation_bytes if plan.full else 0
    )


def activation_lines(model: Architecture, plan: Plan) -> list[Line]:
    """What the forward pass saves for the backward pass, without logits and loss."""
    n, t, h = model.n_layers, plan.tokens, model.hidden_size
    # With adapters the embeddings need no gradient, so the first norm has nothing to save.
    norms = norm_bytes(model, plan) * (2 * n - (0 if plan.full else 1))
    parts = {
        "norms": norms,
        "attention": attention_bytes(model, plan) * n,
        "MLP": mlp_bytes(model, plan) * n,
        "adapters": adapter_bytes(model, plan) * n,
    }
    ours, llama = "counted in transformers' forward pass", model.family == "llama"
    if plan.checkpointing:
        layer = 2 * norm_bytes(model, plan) + sum(
            parts[name] // n for name in ("attention", "MLP", "adapters")
        )
        # GPT-2 hands the causal mask to each layer
        mask = 0 if llama or plan.attention == "flash" else t * plan.sequence
        return [
            step(
                "activations: layer inputs",
                (n * t * h + mask) * plan.activation_bytes,
                f"{n} layers x {count(t)} tokens x {h} x {plan.activation_bytes} bytes",
                "Chen et al. 2016; Korthikanti et al. 2022, section 5",
            ),
            step(
                "activations: one layer again",
                layer + rotary_bytes(model, plan),
                "all that one layer saves",
                ours,
            ),
            step(
                "activations: ends",
                ends_bytes(model, plan),
                "last norm; full: ids and the head's input",
                ours,
            ),
        ]
    formulas = {
        "norms": "4Th + 4T, and Thx for a trained gain" if llama else "Thx + 2Tx",
        "attention": "Thx + (2q + 2kv)Tx + 4T heads"
        if plan.attention == "flash"
        else "Thx + 4qTx + scores, batch heads S^2",
        "MLP": "Thx + 4Tfx" if llama else "Thx + 5Tfx",
        "adapters": f"{len(model.linear_layers())} rT x bytes of an adapter's value",
    }
    lines = [
        step(f"activations: {name}", parts[name], f"{n} x ({formulas[name]})", ours)
        for name in parts
        if parts[name]
    ]
    ends = ends_bytes(model, plan) + rotary_bytes(model, plan)
    return [
        *lines,
        step(
            "activations: ends", ends, "positions, last norm; full: ids and the head's input", ours
        ),
    ]


def logits_line(model: Architecture, plan: Plan) -> Line:
    """Saved: the float32 log-softmax and the labels. At the peak also the logits, their float32
    copy and the gradient.
    """
    values, x = plan.tokens * model.vocab_size, plan.activation_bytes
    saved = 4 * values + 8 * plan.tokens + 4  # 4: the sum of the weights of the labels
    most = saved + values * (x + 4 + (4 if x < 4 else 0))
    formula = (
        f"{count(plan.tokens)} tokens x {model.vocab_size:,} words x 4 bytes, up to "
        f"{4 + x + 4 + (4 if x < 4 else 0)}"
    )
    return Line(
        "logits and loss",
        saved,
        most,
        formula,
        "torch's cross entropy in float32",
        "step",
        HOOKS + " (low end)",
    )


def step_lines(model: Architecture, plan: Plan) -> list[Line]:
    """Gradients, activations, logits, workspace."""
    n = n_trained(model, plan)
    gradients = Line(
        "gradients",
        n * plan.gradient_bytes,
        n * plan.gradient_bytes,
        f"{plan.gradient_bytes} bytes x {count(n)}",
        "lecture 9",
        "step",
        TENSORS,
    )
    lines = [gradients, *activation_lines(model, plan), logits_line(model, plan)]
    if plan.method == "qlora":
        largest = max(n_out * n_in for n_out, n_in in model.linear_shapes())
        w, x = TYPES[plan.weights], plan.activation_bytes
        lines.append(
            Line(
                "dequantization workspace",
                0,
                largest * (w + (x if x != w else 0)),
                f"one weight of {count(largest)} in 16 or 32 bits; 0 in a fused kernel",
                "bitsandbytes' backward pass",
                "step",
                NOT_HERE,
            )
        )
    return lines


# ---------------------------------------------------------------------------------------- the whole
def ledger(model: Architecture, plan: Plan) -> list[Line]:
    """Every part of the memory of this training.

    ValueError for a sequence that the model has no positions for, and for a rank above an adapted
    layer's smallest side.
    """
    if model.max_positions and plan.sequence > model.max_positions:
        raise ValueError(
            f"sequence is {plan.sequence}, but the model has {model.max_positions} positions: "
            "take a shorter one."
        )
    smallest = min(side for shape in model.linear_layers().values() for side in shape)
    if not plan.full and plan.rank > smallest:
        raise ValueError(
            f"rank is {plan.rank}, but the smallest side of an adapted layer is {smallest}: take "
            f"1 to {smallest}."
        )
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


def peak(lines: list[Line]) -> tuple[float, float]:
    """(low, high) bytes at the worst moment of a step.

    Activations go while gradients come: at least the larger of the two is there, at most both.
    """
    gradients = sum(line.low for line in lines if line.name == "gradients")
    others = sum(line.low for line in lines if line.when == "step") - gradients
    rest = sum(line.low for line in lines if line.when != "step")
    return rest + max(gradients, others), sum(line.high for line in lines)


def moments(model: Architecture, plan: Plan) -> dict[str, float]:
    """Bytes of tensors at the four moments of a step that can be its worst, the card's own share
    left out.

    While gradients come, layer by layer, activations go: when the first layer's turn comes, last of
    all, 1/n of them is left. Of the logits there are at the loss the float32 log-softmax and two
    gradients of its size; none while layers have their turn. torch's AdamW takes two values for
    each of the tensor in hand; bitsandbytes' optimizers take none.
    """
    n, sizes = model.n_layers, {line.name: line.low for line in ledger(model, plan)}
    kept = sum(line.high for line in ledger(model, plan) if line.when == "kept")  # paged or not
    again, gradients = sizes.get("activations: one layer again", 0), sizes["gradients"]
    saved = sum(size for name, size in sizes.items() if name.startswith("activations")) - again
    work = again + next(
        (line.high for line in ledger(model, plan) if line.name == "dequantization workspace"), 0
    )
    if (
        model.family == "gpt2"
        # GELU by tanh is a dozen small steps: two gradients of its width come before a saved one goes
    ):
        work += 2 * plan.tokens * model.intermediate_size * plan.activation_bytes
    spare = 2 * plan.gradient_bytes * max(trained_sizes(model, plan)) * (plan.optimizer == "adamw")
    return {
        "loss": kept + saved + sizes["logits and loss"] + 8 * plan.tokens * model.vocab_size,
        "last layer backward": kept + saved + work + gradients / n,
        "first layer backward": kept + saved / n + work + gradients * (n - 1) / n,
        "optimizer": kept + gradients + spare,
    }


def fits_on(lines: list[Line]) -> dict[str, str]:
    """Card -> "yes" if the high end fits, "perhaps" if only the low end does, else "no"."""
    low, high = (size / GB for size in peak(lines))
    room = {card: size * ROOM_OF_A_CARD for card, size in CARDS.items()}
    return {
        card: "yes" if high <= size else "perhaps" if low <= size else "no"
        for card, size in room.items()
    }


def as_record(name: str, plan: Plan, lines: list[Line]) -> dict:
    """The ledger as plain data for JSON; sizes in bytes."""
    low, high = peak(lines)
    return {
        "model": name,
        "plan": asdict(plan),
        "lines": [line._asdict() for line in lines],
        "peak": {"low": low, "high": high},
        "fits_on": fits_on(lines),
    }


def kept(name: str, size: int, formula: str, source: str) -> Line:
    """A line that stays between steps, known to the byte."""
    return Line(name, size, size, formula, source, "kept", TENSORS)


def step(name: str, size: int, formula: str, source: str) -> Line:
    """A line of what autograd saves in a step, known to the byte."""
    return Line(name, size, size, formula, source, "step", HOOKS)


def count(n: float) -> str:
    """A number of things, short: 6.48 billion, 5.74 million, 2,048."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:,}"


def size_range(low: float, high: float) -> str:
    """Bytes as gigabytes, three digits: "5.05", or "0.3 to 1.4" where the ends differ as printed."""
    first, last = (
        f"{size / GB:.3g}" if size < 100 * GB else f"{size / GB:.0f}" for size in (low, high)
    )
    return first if first == last else f"{first} to {last}"
