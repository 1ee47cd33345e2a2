"""How a model is trained, as the memory ledger is asked for it, and what one of its lines holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lab_utils.files import whole_number

TYPES = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes of a value
METHODS = ("full", "lora", "qlora")
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "sgd")
# transformers' "sdpa" runs a flash kernel, on a CPU too, where nothing is padded
ATTENTION = ("flash", "eager")
CHOICES = {"method": METHODS, "optimizer": OPTIMIZERS, "attention": ATTENTION}


@dataclass(frozen=True)
class Plan:
    """How a model is trained. Types are "fp32", "bf16" or "fp16"; None leaves it to the libraries.

    They give gradients the type of what is trained, and activations that of the weights; but once
    PEFT has prepared a 4-bit model, activations are fp32: embeddings and norms were upcast, and
    what they give runs through all layers. Raises ValueError for a choice that does not exist.
    """

    method: str = "qlora"
    rank: int = 16  # of the adapters on all linear layers
    sequence: int = 512  # tokens
    batch: int = 1  # sequences
    weights: str = "bf16"  # trained or frozen ones; the type that 4-bit weights are computed in
    gradients: str | None = None
    states: str = "fp32"  # AdamW's two moments
    master: bool = False  # mixed precision's float32 copy of what is trained
    optimizer: str = "adamw"
    adapters: str = "fp32"  # PEFT upcasts adapters
    unquantized: str = "fp32"  # a 4-bit model's embeddings, head, norms: PEFT upcasts them
    activations: str | None = None
    attention: str = "flash"
    checkpointing: bool = False  # keep each layer's input, compute the rest again

    def __post_init__(self) -> None:
        types: dict[str, tuple] = dict.fromkeys(
            ("weights", "states", "adapters", "unquantized"), tuple(TYPES)
        )
        types |= dict.fromkeys(("gradients", "activations"), (*TYPES, None))
        for name, allowed in (CHOICES | types).items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(filter(None, allowed))}, got "
                    f"{getattr(self, name)!r}."
                )
        for name in ("rank", "sequence", "batch"):
            whole_number(name, getattr(self, name))

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
    """One part of the ledger, from `low` to `high` bytes; infinite where nobody has counted it."""

    name: str
    low: float
    high: float
    formula: str
    source: str
    when: str  # "kept" between steps, in a "step", or taken by the "card"
    measured: str  # how the tests hold it against real tensors


TENSORS, HOOKS, NOT_HERE = "bytes of tensors", "saved-tensor hooks, CPU", "not measured here"


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
