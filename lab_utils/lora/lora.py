"""LoRA: a frozen weight and a small update beside it (lecture 9, "LoRA - Working"; Hu et al. 2021,
arXiv:2106.09685).

    y = x W0^T + scaling * x A^T B^T        so that  dW = scaling * B A,  scaling = alpha / r

W0 is (n_out, n_in) as torch stores it, A is (rank, n_in), B is (n_out, rank). A starts random and B
at zero, so at first the update is exactly zero. The lecture writes X B A with weights stored as in
x out: there its B touches x first.

"Any matrix W can be decomposed into W = BA" (lecture) holds only where rank(W) <= r. For other
matrices the best that rank r can do is the truncated singular value decomposition (Eckart and Young
1936), and its error is known exactly.
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lab_utils.files import whole_number
from lab_utils.memory.sizes import Architecture


# ---------------------------------------------------------------------------------------- the layer
class LoRALinear(nn.Module):
    """A linear layer, frozen, with a low-rank update that can be trained and merged.

    A is drawn from N(0, 1/n_in) and B is zero, as in the paper; PEFT's default for A is Kaiming
    uniform, a third of that variance. `use_rslora` scales by alpha / sqrt(r) (Kalajdzievski 2023,
    arXiv:2312.03732). The layer that is passed in is frozen and kept, not copied. A rank above
    min(n_in, n_out) is allowed and warned of. Raises TypeError for what is no ordinary linear
    layer, ValueError for a rank, alpha or dropout that makes no sense.
    """

    def __init__(
        self,
        layer: nn.Linear,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        use_rslora: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_target(layer)
        check_rank(rank, *layer.weight.shape)
        if not (math.isfinite(alpha) and alpha > 0 and 0 <= dropout < 1):
            raise ValueError(
                f"alpha ({alpha}) must be above 0 and finite, dropout ({dropout}) from 0 to below "
                "1: otherwise the adapter adds nothing."
            )
        self.base = layer.requires_grad_(False)
        weight, n_in = layer.weight, layer.in_features
        self.lora_a = nn.Parameter(
            torch.randn(rank, n_in, generator=generator).to(weight) / math.sqrt(n_in)
        )
        self.lora_b = nn.Parameter(weight.new_zeros(layer.out_features, rank))
        self.scaling = alpha / math.sqrt(rank) if use_rslora else alpha / rank
        self.dropout = nn.Dropout(dropout)
        # a buffer: a saved merged layer knows that it is merged
        self.merged: Tensor
        self.register_buffer("merged", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out). Dropout falls on the adapter's input only."""
        y = self.base(x)
        if self.merged:
            return y
        return y + self.scaling * (self.dropout(x) @ self.lora_a.T @ self.lora_b.T)

    def delta(self) -> Tensor:
        """The update scaling * B A, (n_out, n_in)."""
        return self.scaling * (self.lora_b @ self.lora_a)

    @torch.no_grad()
    def merge(self) -> "LoRALinear":
        """Add the update to the weight: the layer then costs what it cost without an adapter."""
        if self.merged:
            raise RuntimeError(
                "this layer is merged already; merging again would add the update twice. "
                "Call unmerge() first if the adapter has changed."
            )
        self.base.weight += self.delta()
        self.merged.fill_(True)
        return self

    @torch.no_grad()
    def unmerge(self) -> "LoRALinear":
        """Take the update out again. The weight comes back up to the rounding of its dtype."""
        if not self.merged:
            raise RuntimeError(
                "this layer is not merged, so there is nothing to take out: call merge() first."
            )
        self.base.weight -= self.delta()
        self.merged.fill_(False)
        return self


def check_target(layer: object) -> None:
    """Raises TypeError unless LoRALinear can go around this layer."""
    if isinstance(layer, LoRALinear):
        raise TypeError(
            "this layer has an adapter already: train that one, or put the new one around "
            "layer.base."
        )
    if not isinstance(layer, nn.Linear):
        raise TypeError(
            f"expected an nn.Linear, got {type(layer).__name__}: choose the names of linear "
            "layers, such as q_proj and v_proj. (Embeddings and convolutions can have adapters "
            "too, PEFT knows how.)"
        )
    if not layer.weight.dtype.is_floating_point:
        raise TypeError(
            f"the weight is stored as {layer.weight.dtype}, so it is quantized: B A cannot be "
            "added to codes. Dequantize it first, or use PEFT, as lab 06 does."
        )


def check_rank(rank: int, n_out: int, n_in: int) -> None:
    """Raises ValueError for a rank below 1, warns of one above min(n_out, n_in)."""
    whole_number("rank", rank)
    if rank > min(n_out, n_in):
        warnings.warn(
            f"rank {rank} is above {min(n_out, n_in)}, the smaller side of a {n_out} x {n_in} "
            "layer: B A has no more rank than that, and with "
            f"{lora_parameters([(n_out, n_in)], rank):,} parameters it is larger than the "
            f"{n_out * n_in:,} of the weight itself.",
            stacklevel=3,
        )


def add_lora(
    model: nn.Module, targets: Iterable[str], rank: int, alpha: float, seed: int = 0, **options: Any
) -> nn.Module:
    """Freeze the model and put a LoRALinear around each layer whose last name is a target.

    Returns the model. `options` go to LoRALinear. Raises ValueError where a target occurs nowhere,
    TypeError where it is no linear layer; the model is changed only if all is well.
    """
    wanted, generator = set(targets), torch.Generator().manual_seed(seed)
    found = {
        name: module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in wanted
    }
    missing = wanted - {name.rsplit(".", 1)[-1] for name in found}
    if missing:
        names = sorted(
            {
                n.rsplit(".", 1)[-1]
                for n, module in model.named_modules()
                if isinstance(module, nn.Linear)
            }
        )
        raise ValueError(
            f"no layer is called {', '.join(sorted(missing))}: the linear layers here are "
            f"{', '.join(names)}."
        )
    made = {
        name: LoRALinear(layer, rank, alpha, generator=generator, **options)
        for name, layer in found.items()
    }
    model.requires_grad_(False)
    for name, layer in made.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer)
        layer.lora_a.requires_grad_(True)
        layer.lora_b.requires_grad_(True)
    return model


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters alone: what is worth saving, a copy of every lora_a and lora_b by its name."""
    return {
        name: tensor.clone()
        for name, tensor in model.state_dict().items()
        if name.endswith(("lora_a", "lora_b"))
    }


def load_adapter(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put saved adapters into the model.

    Raises ValueError for other names, RuntimeError for merged layers or other shapes.
    """
    expected = set(adapter_state(model))
    if expected != set(state):
        raise ValueError(
            f"the adapters do not fit: {len(expected - set(state))} are missing and "
            f"{len(set(state) - expected)} are unknown; build the model with the same targets."
        )
    if any(module.merged for module in model.modules() if isinstance(module, LoRALinear)):
        raise RuntimeError(
            "a layer is merged, and its weight would keep the old update: call unmerge() first."
        )
    model.load_state_dict(dict(state), strict=False)


# ------------------------------------------------------------------------------ counting parameters
Shape = tuple[int, int]  # (n_out, n_in)


def lora_parameters(shapes: Iterable[Shape], rank: int) -> int:
    """Parameters of adapters on layers of these shapes: rank * (n_out + n_in) each."""
    return sum(rank * (n_out + n_in) for n_out, n_in in shapes)


def break_even_rank(n_out: int, n_in: int) -> float:
    """The rank at which an adapter is as large as its weight: n_out n_in / (n_out + n_in)."""
    return n_out * n_in / (n_out + n_in)


def toy_square_parameters(n_parameters: float, rank: int) -> float:
    """The lecture's table: adapters of one square matrix of n parameters, 2 r sqrt(n)."""
    return 2 * rank * math.sqrt(n_parameters)


def layer_shapes(config: Mapping) -> dict[str, Shape]:
    """{name: (n_out, n_in)} of the linear layers in one block of a transformers configuration.

    Falcon and GPT-2 store query, key and value as one matrix, "qkv". Raises ValueError for a family
    that is not known.
    """
    if config["model_type"] != "falcon":
        return Architecture.from_fields(dict(config)).linear_layers()
    h, f, heads = config["hidden_size"], config["ffn_hidden_size"], config["num_attention_heads"]
    qkv = (heads + 2 * config["num_kv_heads"]) * (h // heads)
    return {"qkv": (qkv, h), "o": (h, h), "up": (f, h), "down": (h, f)}


def adapter_size(config: Mapping, rank: int, targets: Iterable[str] | None = None) -> int:
    """Parameters of a real model's adapters; `targets` None means all linear layers but the head.

    Raises ValueError for a target that the model has not.
    """
    shapes = layer_shapes(config)
    chosen = list(shapes) if targets is None else list(targets)
    unknown = [name for name in chosen if name not in shapes]
    if unknown:
        raise ValueError(f"no layer is called {unknown[0]}: expected some of {', '.join(shapes)}.")
    return config["num_hidden_layers"] * lora_parameters([shapes[name] for name in chosen], rank)


# -------------------------------------------------------------------------------- how low is a rank
def best_rank_r(w: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (n_out, rank) and A (rank, n_in) with the smallest ||W - B A||, in Frobenius' norm.

    The truncated SVD, each singular value shared between both. A rank above min(n_out, n_in) gives
    that many.
    """
    if w.dim() != 2 or rank < 0:
        raise ValueError(
            f"expected a matrix and a rank of at least 0, got shape {tuple(w.shape)} and rank "
            f"{rank}."
        )
    u, s, vt = torch.linalg.svd(w, full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * vt[:rank]


def relative_error(singular_values: Tensor, rank: int) -> float:
    """Eckart-Young: ||W - best B A|| / ||W|| at this rank.

    The root of the share of the squared singular values after `rank`. 0 for a matrix of zeros.
    """
    squares = singular_values.double().square()
    return math.sqrt((squares[rank:].sum() / squares.sum().clamp_min(1e-300)).item())


def rank_for(singular_values: Tensor, share: float = 0.9) -> int:
    """The smallest rank that keeps `share` of the squared singular values (so of ||W||^2)."""
    if not 0 < share <= 1:
        raise ValueError(
            f"share must be above 0 and at most 1, got {share}: 0.9 keeps nine tenths."
        )
    squares = singular_values.double().square()
    return int((squares.cumsum(0) < share * squares.sum() * (1 - 1e-12)).sum().item()) + 1
