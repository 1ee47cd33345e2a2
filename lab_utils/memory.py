"""Memory on paper: bits per parameter of every scheme, and what they mean for a model (1 GB = 10**9 bytes).

Each scheme stores a code for every parameter and a constant for every block of parameters; double quantization
stores a smaller constant for every block, and one float32 for every block of blocks:

    bits per parameter = code_bits + constant_bits / block_size + 32 / (block_size * block_size_2)

QLoRA paper, section 3: 4 + 32/64 = 4.5 bits without, 4 + 8/64 + 32/(64*256) = 4.127 bits with double quantization.
The "0.37 bits" often quoted are the difference, the saving, not the total.
"""

from dataclasses import dataclass

GB = 10**9  # what papers and card names mean
GIB = 2**30  # what nvidia-smi and torch.cuda print as "GB" or "MiB"


@dataclass(frozen=True)
class Scheme:
    """How the weights are stored. `block_size` None: one constant for the whole tensor, or none where it has 0 bits."""

    name: str
    code_bits: int
    block_size: int | None = None
    constant_bits: int = 0
    block_size_2: int | None = None  # constants in one block of the second quantization; None: not quantized twice

    def __post_init__(self) -> None:
        for name in ("code_bits", "block_size", "block_size_2"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")


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

    Codes are packed, the last byte may be half empty; the last block may be short and still has its constant.
    """
    if n_values < 1:
        raise ValueError(f"n_values must be at least 1, got {n_values}.")
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
    """Cards that hold so many gigabytes and leave a share of their memory free for the driver and activations."""
    if not 0 <= headroom < 1:
        raise ValueError(f"headroom must be from 0 to below 1, got {headroom}: 0.1 leaves a tenth free.")
    return [name for name, size in CARDS.items() if gigabytes <= size * (1 - headroom)]


# ---------------------------------------------------------------------------------------- training a whole model
@dataclass(frozen=True)
class Architecture:
    """The sizes of a Llama-like model that decide its memory."""

    vocab_size: int
    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    tied_head: bool

    @classmethod
    def of(cls, config) -> "Architecture":
        """From a transformers configuration of a Llama-like model."""
        return cls(config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads,
                   config.num_key_value_heads, getattr(config, "head_dim", None) or
                   config.hidden_size // config.num_attention_heads, config.intermediate_size,
                   config.tie_word_embeddings)

    def linear_shapes(self) -> list[tuple[int, int]]:
        """(out, in) of every linear layer but the head: q, k, v, o, gate, up, down of each layer."""
        h, f = self.hidden_size, self.intermediate_size
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        return [(q, h), (kv, h), (kv, h), (h, q), (f, h), (f, h), (h, f)] * self.n_layers

    def n_other(self) -> int:
        """Parameters outside those linear layers: embeddings, norms, and the head where it is not tied."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_head else 2)
        return embeddings + self.hidden_size * (2 * self.n_layers + 1)


def adapter_parameters(architecture: Architecture, rank: int) -> int:
    """Parameters of LoRA adapters on all linear layers: rank * (in + out) for each."""
    return sum(rank * (n_out + n_in) for n_out, n_in in architecture.linear_shapes())


def nf4_layer_bytes(n_values: int) -> int:
    """Bytes that bitsandbytes keeps for one NF4 layer with double quantization, its lookup tables included.

    The 16-entry NF4 code, the 256-entry code of the second quantization and the float32 mean are kept for each layer.
    """
    return bytes_by_part(scheme_named("nf4 + double quantization"), n_values)["total"] + 4 * (16 + 256 + 1)


def training_state_bytes(architecture: Architecture, method: str, rank: int = 0, weight_bytes: int = 4) -> dict[str, int]:
    """Bytes kept between steps by "full", "lora" or "qlora" with AdamW: {"weights", "gradients", "optimizer"}.

    What is trained, and everything that is not quantized, takes `weight_bytes` each; AdamW keeps two float32 each.
    Activations come on top while a step runs. Raises ValueError for another method.
    """
    linear = [n_out * n_in for n_out, n_in in architecture.linear_shapes()]
    base = (sum(linear) + architecture.n_other()) * weight_bytes
    adapters = adapter_parameters(architecture, rank)
    if method == "full":
        weights, trained = base, sum(linear) + architecture.n_other()
    elif method == "lora":
        weights, trained = base + adapters * weight_bytes, adapters
    elif method == "qlora":
        stored = sum(map(nf4_layer_bytes, linear)) + architecture.n_other() * weight_bytes
        weights, trained = stored + adapters * weight_bytes, adapters
    else:
        raise ValueError(f"method must be full, lora or qlora, got {method!r}.")
    return {"weights": weights, "gradients": trained * weight_bytes, "optimizer": trained * 8}
