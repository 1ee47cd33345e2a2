"""Memory on paper: bits per parameter, and the sizes of a model (1 GB = 10**9 bytes).

Each scheme stores a code for every parameter and a constant for every block of parameters. Double
quantization stores a smaller constant for every block, and one float32 for every block of blocks:

    bits per parameter = code_bits + constant_bits / block_size + 32 / (block_size * block_size_2)

QLoRA paper, section 3: 4 + 32/64 = 4.5 bits without double quantization, 4 + 8/64 + 32/(64*256) =
4.127 bits with it. The "0.37 bits" often quoted are the difference, the saving, not the total.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab_utils.files import whole_number

if TYPE_CHECKING:  # so that the numbers on paper need no torch
    from torch import Tensor
    from transformers import PreTrainedConfig

GB = 10**9  # what papers and card names mean
GIB = 2**30  # what nvidia-smi and torch.cuda print as "GB" or "MiB"
Shape = tuple[int, int]  # (out, in) of a linear layer


@dataclass(frozen=True)
class Scheme:
    """How weights are stored; a part that a scheme lacks is None or 0 bits."""

    name: str
    code_bits: int
    block_size: int | None = None  # None: one constant for the whole tensor
    constant_bits: int = 0
    block_size_2: int | None = None  # constants in a block of the second quantization

    def __post_init__(self) -> None:
        for name in ("code_bits", "block_size", "block_size_2"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name))


SCHEMES = (
    Scheme("fp32", 32),
    Scheme("bf16", 16),
    Scheme("int8, one constant per tensor", 8, None, 32),
    Scheme("int8, blocks of 64", 8, 64, 32),
    Scheme("int4, blocks of 64", 4, 64, 32),
    Scheme("nf4, blocks of 64", 4, 64, 32),
    Scheme("nf4 + double quantization", 4, 64, 8, 256),
)

# Memory printed on the card, in GB. What a program can use is less: 14.7 GiB of a T4, for example.
CARDS = {
    "RTX 3060 12 GB": 12,
    "T4 16 GB": 16,
    "RTX 4090 24 GB": 24,
    "V100 32 GB": 32,
    "A100 40 GB": 40,
    "L40S 48 GB": 48,
    "H100 80 GB": 80,
    "H200 141 GB": 141,
}


def scheme_named(name: str) -> Scheme:
    """Look up one of SCHEMES by its name."""
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    raise ValueError(f"name must be one of {[scheme.name for scheme in SCHEMES]}, got {name!r}.")


def bits_per_parameter(scheme: Scheme) -> float:
    """Bits for one parameter of a large tensor: the code and its share of the constants."""
    if scheme.block_size is None:
        return float(scheme.code_bits)
    first = scheme.constant_bits / scheme.block_size
    second = 32 / (scheme.block_size * scheme.block_size_2) if scheme.block_size_2 else 0.0
    return scheme.code_bits + first + second


def bytes_by_part(scheme: Scheme, n_values: int) -> dict[str, int]:
    """Exact bytes for a tensor of `n_values`: {"codes", "constants", "second constants", "total"}.

    Codes are packed, the last byte may be half empty; the last block may be short and still has its
    constant.
    """
    whole_number("n_values", n_values)
    n_blocks = -(-n_values // (scheme.block_size or n_values))  # -(-a // b) rounds up
    n_blocks_2 = -(-n_blocks // scheme.block_size_2) if scheme.block_size_2 else 0
    parts = {
        "codes": -(-n_values * scheme.code_bits // 8),
        "constants": -(-n_blocks * scheme.constant_bits // 8),
        "second constants": 4 * n_blocks_2,
    }
    return parts | {"total": sum(parts.values())}


def model_gigabytes(n_parameters: float, bits: float) -> float:
    """Gigabytes (10**9 bytes) of a model's weights at so many bits each."""
    if n_parameters <= 0 or bits <= 0:
        raise ValueError(f"n_parameters and bits must be above 0, got {n_parameters} and {bits}.")
    return n_parameters * bits / 8 / GB


def double_quantization_saving(block_size: int = 64, block_size_2: int = 256) -> float:
    """Bits per parameter that the second quantization saves: 0.373 for 64 and 256."""
    once = Scheme("once", 4, block_size, 32)
    twice = Scheme("twice", 4, block_size, 8, block_size_2)
    return bits_per_parameter(once) - bits_per_parameter(twice)


def cards_that_fit(gigabytes: float, headroom: float = 0.1) -> list[str]:
    """Cards that hold so many gigabytes and still have the share `headroom` of their memory free.

    The driver and activations need it. Raises ValueError for a share outside [0, 1).
    """
    if not 0 <= headroom < 1:
        raise ValueError(
            f"headroom must be from 0 to below 1, got {headroom}: 0.1 leaves a tenth free."
        )
    return [name for name, size in CARDS.items() if gigabytes <= size * (1 - headroom)]


# ----------------------------------------------------------------------------- the sizes of a model
FAMILIES = {"llama": "llama", "mistral": "llama", "qwen2": "llama", "gpt2": "gpt2"}
GPT2_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "n_inner": "intermediate_size",
}
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
MORE_SIZES = ("intermediate_size", "num_key_value_heads", "head_dim", "max_position_embeddings")
SWITCHES = ("tie_word_embeddings", "attention_bias", "mlp_bias")


class Model:
    """What the ledger asks of a model: its linear layers, and what lies beside them."""

    vocab_size: int
    max_positions: int | None  # None: no limit is known
    family: str  # decides which formulas count its activations

    def linear_shapes(self) -> list[Shape]:
        """(out, in) of every linear layer but the head: those that get adapters."""
        raise NotImplementedError

    def adapter_sizes(self, rank: int) -> list[int]:
        """Values of each tensor of their adapters: A is (rank, in), B is (out, rank)."""
        return [rank * side for shape in self.linear_shapes() for side in shape]

    def quantized_shapes(self) -> list[Shape]:
        """(out, in) of the layers that bitsandbytes stores in 4 bits."""
        raise NotImplementedError

    def other_sizes(self) -> list[int]:
        """Parameters of each tensor beside those weights."""
        raise NotImplementedError

    def n_linear(self) -> int:
        """Weights that QLoRA quantizes."""
        return sum(n_out * n_in for n_out, n_in in self.quantized_shapes())

    def n_other(self) -> int:
        """Parameters beside those weights: what QLoRA leaves unquantized."""
        return sum(self.other_sizes())

    def n_parameters(self) -> int:
        """All parameters of the model."""
        return self.n_linear() + self.n_other()


@dataclass(frozen=True)
class Architecture(Model):
    """The sizes of a dense language model that decide its memory.

    `family` "llama" (Llama, Mistral, Qwen2) has RMSNorm, rotary positions and a gated MLP; "gpt2"
    has LayerNorm, learnt positions, one linear layer for q, k and v, and a plain MLP. Other models
    are counted by `configurations.Counted`.
    """

    vocab_size: int
    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    tied_head: bool
    max_positions: int | None = None  # None: no limit is known
    family: str = "llama"
    biased: tuple[str, ...] = ()  # names of the linear layers that have a bias

    def __post_init__(self) -> None:
        sizes = "vocab_size hidden_size n_layers n_heads n_kv_heads head_dim intermediate_size"
        for name in sizes.split():
            whole_number(name, getattr(self, name))
        if self.max_positions is not None:
            whole_number("max_positions", self.max_positions)

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Architecture:
        """From a transformers configuration, in which the type's own defaults are filled in."""
        return cls.from_fields(config.to_dict())

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Architecture:
        """From the fields of a `config.json`; those that change no size are passed over.

        Raises ValueError for a model type that is not in FAMILIES, a missing or impossible size,
        and a field whose name is nearly that of a size.
        """
        kind = fields.get("model_type") or "llama"
        if kind not in list(FAMILIES):
            raise ValueError(
                f"model_type {kind!r} is not written out here: expected one of "
                f"{', '.join(FAMILIES)}. transformers counts the others (configurations.Counted)."
            )
        f = checked_sizes(fields, kind)
        hidden, heads = f["hidden_size"], f["num_attention_heads"]
        return cls(
            vocab_size=f["vocab_size"],
            hidden_size=hidden,
            n_layers=f["num_hidden_layers"],
            n_heads=heads,
            n_kv_heads=f.get("num_key_value_heads", heads),
            head_dim=f.get("head_dim", hidden // heads),
            intermediate_size=f.get("intermediate_size", 4 * hidden),
            tied_head=f.get("tie_word_embeddings", kind == "gpt2"),
            max_positions=positions(f),
            family=FAMILIES[kind],
            biased=biased_layers(kind, f),
        )

    def linear_layers(self) -> dict[str, Shape]:
        """Name -> (out, in) of the linear layers in one layer of the model."""
        h, f = self.hidden_size, self.intermediate_size
        if self.family == "gpt2":
            return {"qkv": (3 * h, h), "o": (h, h), "up": (f, h), "down": (h, f)}
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        attention = {"q": (q, h), "k": (kv, h), "v": (kv, h), "o": (h, q)}
        return {**attention, "gate": (f, h), "up": (f, h), "down": (h, f)}

    def linear_shapes(self) -> list[Shape]:
        """(out, in) of every linear layer of the model but the head: those that get adapters."""
        return list(self.linear_layers().values()) * self.n_layers

    def quantized_shapes(self) -> list[Shape]:
        """The same: bitsandbytes quantizes the layers that get adapters."""
        return self.linear_shapes()

    def other_sizes(self) -> list[int]:
        """Parameters of each tensor beside them: embeddings, an untied head, norms, biases."""
        gpt2, h, layers = self.family == "gpt2", self.hidden_size, self.linear_layers()
        embeddings = [self.vocab_size * h] * (1 if self.tied_head else 2)
        if gpt2:
            embeddings.append((self.max_positions or 0) * h)
        norms = [h] * (2 * self.n_layers + 1) * (2 if gpt2 else 1)  # LayerNorm also has a bias
        return embeddings + norms + [layers[name][0] for name in self.biased] * self.n_layers


LECTURE_10B = Architecture(32_000, 4096, 48, 32, 32, 128, 11_008, False, 4096)
"""The lecture's 10 billion have no shape: this is Llama-2-7B with 48 layers, 9.98 billion."""


def checked_sizes(fields: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The fields, with GPT-2's names translated and None left out, once their sizes make sense.

    Raises ValueError for a missing or impossible size and for a nearly right name.
    """
    found = {GPT2_NAMES.get(name, name): v for name, v in fields.items() if v is not None}
    refuse_near_misses(set(found) - {*SIZES, *MORE_SIZES}, (*SIZES, *MORE_SIZES))
    needed = [*SIZES, "max_position_embeddings" if kind == "gpt2" else "intermediate_size"]
    if kind in ("mistral", "qwen2"):
        needed.append("num_key_value_heads")  # their defaults are not the number of heads
    if missing := [name for name in needed if name not in found]:
        raise ValueError(
            f"the configuration lacks {', '.join(missing)}: they are named as in a transformers "
            "config.json."
        )
    for name in (*SIZES, *MORE_SIZES):
        if name in found:
            whole_number(name, found[name])
    for name in SWITCHES:
        if not isinstance(found.get(name, False), bool):
            raise ValueError(f"{name} must be true or false, got {found[name]!r}.")
    check_heads(found)
    return found


def check_heads(fields: Mapping[str, Any]) -> None:
    """Raise ValueError for heads that do not divide the hidden size or are not shared evenly."""
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    if "head_dim" not in fields and hidden % heads:
        raise ValueError(
            f"hidden_size ({hidden}) must be a multiple of num_attention_heads ({heads}), or give "
            "head_dim."
        )
    if heads % fields.get("num_key_value_heads", heads):
        raise ValueError(
            f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads "
            f"({fields['num_key_value_heads']}): each key serves equally many queries."
        )


def refuse_near_misses(strangers: Iterable[str], names: Iterable[str]) -> None:
    """Raise ValueError where an unknown field is nearly the name of a size: it is a slip."""
    names = list(names)
    for stranger in sorted(strangers):
        if near := difflib.get_close_matches(stranger, names, n=1, cutoff=0.77):
            raise ValueError(f"unknown field {stranger!r}: did you mean {near[0]}?")


def positions(fields: Mapping[str, Any]) -> int | None:
    """The longest sequence: rotary positions have no table, so a scaling (YaRN) stretches them.

    It multiplies the length before it, which a configuration gives beside the factor or, if not, as
    `max_position_embeddings`.
    """
    most = fields.get("max_position_embeddings")
    scaling = fields.get("rope_scaling") or fields.get("rope_parameters") or {}
    for one in [scaling, *(v for v in scaling.values() if isinstance(v, Mapping))]:
        factor, before = one.get("factor"), one.get("original_max_position_embeddings", most)
        if most and before and isinstance(factor, int | float):
            most = max(most, int(factor * before))
    return most


def biased_layers(model_type: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The linear layers that have a bias, by the conventions of the model type."""
    if model_type == "gpt2":
        return ("qkv", "o", "up", "down")
    if model_type == "qwen2":
        return ("q", "k", "v")
    attention = ("q", "k", "v", "o") if fields.get("attention_bias") else ()
    return attention + (("gate", "up", "down") if fields.get("mlp_bias") else ())


# ------------------------------------------------------------------------------ what training keeps
def adapter_parameters(model: Model, rank: int) -> int:
    """Parameters of LoRA adapters on all linear layers but the head: rank * (in + out) for each."""
    return sum(model.adapter_sizes(rank))


def nf4_parts(n_values: int) -> dict[str, int]:
    """Bytes of one double-quantized NF4 layer: {"codes", "absmax", "nested absmax"}.

    Beside the float32 constants of the constants, the last has what each layer repeats: their
    float32 mean, the NF4 table of 16 and the second quantization's table of 256.
    """
    parts = bytes_by_part(scheme_named("nf4 + double quantization"), n_values)
    return {
        "codes": parts["codes"],
        "absmax": parts["constants"],
        "nested absmax": parts["second constants"] + 4 * (1 + 16 + 256),
    }


def nf4_layer_bytes(n_values: int) -> int:
    """Bytes of one double-quantized NF4 layer in bitsandbytes, lookup tables included."""
    return sum(nf4_parts(n_values).values())


def training_state_bytes(
    model: Model, method: str, rank: int = 0, weight_bytes: int = 4, adapter_bytes: int = 0
) -> dict[str, int]:
    """Bytes kept between steps with AdamW: {"weights", "gradients", "optimizer"}.

    `method` is "full", "lora" or "qlora". Everything that is not quantized takes `weight_bytes`
    each, adapters `adapter_bytes` where that is given; AdamW keeps two float32 each. Activations
    come on top while a step runs. Raises ValueError for another method.
    """
    adapters, each = adapter_parameters(model, rank), adapter_bytes or weight_bytes
    weights, trained = model.n_parameters() * weight_bytes + adapters * each, adapters
    if method == "full":
        weights, trained = model.n_parameters() * weight_bytes, model.n_parameters()
        each = weight_bytes
    elif method == "qlora":
        stored = sum(nf4_layer_bytes(n_out * n_in) for n_out, n_in in model.quantized_shapes())
        weights = stored + model.n_other() * weight_bytes + adapters * each
    elif method != "lora":
        raise ValueError(f"method must be full, lora or qlora, got {method!r}.")
    return {"weights": weights, "gradients": trained * each, "optimizer": trained * 8}


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' elements."""
    return sum(t.numel() * t.element_size() for t in tensors)
