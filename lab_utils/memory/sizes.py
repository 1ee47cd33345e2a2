"""Memory on paper: bits per parameter of every scheme, and what they mean for a model (1 GB = 10**9
bytes).

Each scheme stores a code for every parameter and a constant for every block of parameters; double
quantization stores a smaller constant for every block, and one float32 for every block of blocks:

    bits per parameter = code_bits + constant_bits / block_size + 32 / (block_size * block_size_2)

QLoRA paper, section 3: 4 + 32/64 = 4.5 bits without, 4 + 8/64 + 32/(64*256) = 4.127 bits with
double quantization. The "0.37 bits" often quoted are the difference, the saving, not the total.
"""

import difflib
from dataclasses import dataclass

GB = 10**9  # what papers and card names mean
GIB = 2**30  # what nvidia-smi and torch.cuda print as "GB" or "MiB"


@dataclass(frozen=True)
class Scheme:
    """How the weights are stored. `block_size` None: one constant for the whole tensor, or none
    where it has 0 bits.
    """

    name: str
    code_bits: int
    block_size: int | None = None
    constant_bits: int = 0
    block_size_2: int | None = (
        None  # constants in one block of the second quantization; None: not quantized twice
    )

    def __post_init__(self) -> None:
        for name in ("code_bits", "block_size", "block_size_2"):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or value < 1
            ):
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

    Codes are packed, the last byte may be half empty; the last block may be short and still has its
    constant.
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
    """Cards that hold so many gigabytes and leave a share of their memory free for the driver and
    activations.
    """
    if not 0 <= headroom < 1:
        raise ValueError(
            f"headroom must be from 0 to below 1, got {headroom}: 0.1 leaves a tenth free."
        )
    return [name for name, size in CARDS.items() if gigabytes <= size * (1 - headroom)]


# ----------------------------------------------------------------------------- the sizes of a model
# model_type -> how it is built
FAMILIES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "llama",
    "gpt2": "gpt2",
}
GPT2_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "n_inner": "intermediate_size",
}
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)
# its MLP is 4 hidden sizes wide unless it says so
GPT2_SIZES = (
    *SIZES[:4],
    "max_position_embeddings",
)
OPTIONAL = (
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "model_type",
)
SWITCHES = ("tie_word_embeddings", "attention_bias", "mlp_bias")
NO_SIZE = set(  # fields of published configurations that change no size
    (
        "_attn_implementation _attn_implementation_autoset _commit_hash _name_or_path "
        "activation_function architectures attention_dropout attn_implementation attn_pdrop "
        "auto_map "
        "bad_words_ids bos_token_id chunk_size_feed_forward dtype embd_pdrop eos_token_id "
        "finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing hidden_act "
        "hidden_dropout hidden_activation id2label initializer_range is_llama_config label2id "
        "layer_norm_epsilon layer_types max_length max_sequence_length max_window_layers n_ctx "
        "output_attentions output_hidden_states pad_token_id partial_rotary_factor prefix "
        "pretraining_tp problem_type reorder_and_upcast_attn resid_pdrop return_dict rms_norm_eps "
        "rope_interleaved rope_parameters rope_scaling rope_theta scale_attn_by_inverse_layer_idx "
        "scale_attn_weights sep_token_id sliding_window summary_activation summary_first_dropout "
        "summary_proj_to_labels summary_type summary_use_proj task_specific_params tokenizer_class "
        "torch_dtype torchscript transformers.js_config transformers_version unk_token_id "
        "unsloth_fixed use_bfloat16 use_cache use_mrope use_sliding_window"
    ).split()
)
# change sizes
ONLY_OFF = (
    "add_cross_attention",
    "is_encoder_decoder",
    "quantization_config",
    "use_qk_norm",
    "qk_layernorm",
)
SIDE_BY_SIDE, EXPERTS = "its attention and MLP stand side by side", "it is a mixture of experts"
NOT_COVERED = {  # how the model type begins: what the ledger would get wrong
    "qwen3": "it norms queries and keys too",
    "phi3": "its q, k and v are one linear layer, gate and up another",
    "gemma": "its gate is a GELU, its embeddings are scaled, and since Gemma 2 it has more norms",
    "phi": SIDE_BY_SIDE,
    "falcon": SIDE_BY_SIDE,
    "gpt_neox": SIDE_BY_SIDE,
    "mixtral": EXPERTS,
    "deepseek": EXPERTS,
}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a language model that decide its memory.

    `family` "llama" (Llama, Mistral, Qwen2) has RMSNorm, rotary positions and a gated MLP; "gpt2"
    has LayerNorm, learnt positions, one linear layer for q, k and v, and a plain MLP. `biased`
    names the linear layers that have a bias.
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
    biased: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "n_layers",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "intermediate_size",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if self.max_positions is not None and self.max_positions < 1:
            raise ValueError(
                "max_positions must be at least 1, or None for no limit, got "
                f"{self.max_positions!r}."
            )
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"num_attention_heads ({self.n_heads}) must be a multiple of num_key_value_heads "
                f"({self.n_kv_heads}): each key serves equally many queries."
            )

    @classmethod
    def of(cls, config) -> "Architecture":
        """From a transformers configuration."""
        fields = config.to_dict()
        return cls.from_fields(
            {name: fields[name] for name in (*SIZES, *OPTIONAL, *GPT2_NAMES) if name in fields}
        )

    @classmethod
    def from_fields(cls, fields: dict) -> "Architecture":
        """From the fields of a `config.json`, named as in transformers.

        ValueError for another model type, a missing size, a size below 1, heads that do not divide
        the hidden size, and for a field that is not known here: it could be a misspelt one, or one
        that changes the memory.
        """
        fields = {
            GPT2_NAMES.get(name, name): value for name, value in fields.items() if value is not None
        }
        kind = fields.get("model_type", "llama")
        if kind not in list(FAMILIES):
            raise ValueError(
                f"model_type {kind!r} is not covered{why_not(kind)}: expected one of "
                f"{', '.join(FAMILIES)}."
            )
        check_fields(fields)
        check_sizes(fields)
        hidden, heads, gpt2 = fields["hidden_size"], fields["num_attention_heads"], kind == "gpt2"
        return cls(
            fields["vocab_size"],
            hidden,
            fields["num_hidden_layers"],
            heads,
            fields.get("num_key_value_heads", heads),
            fields.get("head_dim", hidden // heads),
            fields.get("intermediate_size", 4 * hidden),
            fields.get("tie_word_embeddings", gpt2),
            fields.get("max_position_embeddings"),
            FAMILIES[kind],
            biased_layers(kind, fields),
        )

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Name -> (out, in) of the linear layers in one layer of the model; the head is none of
        them.
        """
        h, f = self.hidden_size, self.intermediate_size
        if self.family == "gpt2":
            return {"qkv": (3 * h, h), "o": (h, h), "up": (f, h), "down": (h, f)}
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        return {
            "q": (q, h),
            "k": (kv, h),
            "v": (kv, h),
            "o": (h, q),
            "gate": (f, h),
            "up": (f, h),
            "down": (h, f),
        }

    def linear_shapes(self) -> list[tuple[int, int]]:
        """(out, in) of every linear layer of the model but the head."""
        return list(self.linear_layers().values()) * self.n_layers

    def n_linear(self) -> int:
        """Weights of those linear layers: what QLoRA quantizes."""
        return sum(n_out * n_in for n_out, n_in in self.linear_shapes())

    def other_sizes(self) -> list[int]:
        """Parameters of each tensor outside those weights: embeddings, the head where it is not
        tied, norms, biases.
        """
        gpt2, h, layers = self.family == "gpt2", self.hidden_size, self.linear_layers()
        embeddings = [self.vocab_size * h] * (1 if self.tied_head else 2) + [
            (self.max_positions or 0) * h
        ] * gpt2
        # LayerNorm has a bias, RMSNorm has none
        norms = [h] * (2 * self.n_layers + 1) * (2 if gpt2 else 1)
        return embeddings + norms + [layers[name][0] for name in self.biased] * self.n_layers

    def n_other(self) -> int:
        """Parameters outside those weights: what QLoRA leaves unquantized."""
        return sum(self.other_sizes())

    def n_parameters(self) -> int:
        """All parameters of the model."""
        return self.n_linear() + self.n_other()


LECTURE_10B = Architecture(32_000, 4096, 48, 32, 32, 128, 11_008, False, 4096)
"""The lecture's model of 10 billion parameters has no shape; this one is Llama-2-7B with 48 layers: 9.98 billion."""


def why_not(kind) -> str:
    """Why a model type is not covered, in brackets, where that is known."""
    if "moe" in str(kind):
        return f" ({EXPERTS})"
    return next(
        (f" ({reason})" for start, reason in NOT_COVERED.items() if str(kind).startswith(start)), ""
    )


def check_fields(fields: dict) -> None:
    """Raise ValueError where a size is missing, or a field is neither used nor known to change no
    memory.
    """
    known, needed = (*SIZES, *OPTIONAL), GPT2_SIZES if fields.get("model_type") == "gpt2" else SIZES
    if switched := [name for name in ONLY_OFF if fields.get(name)]:
        raise ValueError(
            f"{switched[0]} is not covered: give the configuration of a plain model, without it."
        )
    if strange := [
        name for name in fields if name not in (*known, *ONLY_OFF) and name not in NO_SIZE
    ]:
        near = difflib.get_close_matches(strange[0], (*known, *NO_SIZE), n=1)
        advice = f"did you mean {near[0]}?" if near else "leave it out if it changes no size."
        raise ValueError(f"unknown field {strange[0]!r}: {advice}")
    if missing := [name for name in needed if name not in fields]:
        raise ValueError(
            f"the configuration lacks {', '.join(missing)}: they are named as in a transformers "
            "config.json."
        )


def check_sizes(fields: dict) -> None:
    """Raise ValueError for a size below 1, a switch that is neither true nor false, or a hidden
    size that heads do not divide.
    """
    for name in (*SIZES, "num_key_value_heads", "head_dim", "max_position_embeddings"):
        value = fields.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
    for name in SWITCHES:
        if not isinstance(fields.get(name, False), bool):
            raise ValueError(f"{name} must be true or false, got {fields[name]!r}.")
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    if "head_dim" not in fields and hidden % heads:
        raise ValueError(
            f"hidden_size ({hidden}) must be a multiple of num_attention_heads ({heads}), or give "
            "head_dim."
        )


def biased_layers(model_type: str, fields: dict) -> tuple[str, ...]:
    """The linear layers that have a bias, by the conventions of the model type."""
    if model_type == "gpt2":
        return ("qkv", "o", "up", "down")
    if model_type == "qwen2":
        return ("q", "k", "v")
    attention = ("q", "k", "v", "o") if fields.get("attention_bias") else ()
    return attention + (("gate", "up", "down") if fields.get("mlp_bias") else ())


# ------------------------------------------------------------------------------ what training keeps
def adapter_parameters(architecture: Architecture, rank: int) -> int:
    """Parameters of LoRA adapters on all linear layers: rank * (in + out) for each."""
    return sum(rank * (n_out + n_in) for n_out, n_in in architecture.linear_shapes())


def nf4_parts(n_values: int) -> dict[str, int]:
    """Bytes that bitsandbytes keeps for one double-quantized NF4 layer: {"codes", "absmax", "nested
    absmax"}.

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
    """Bytes that bitsandbytes keeps for one NF4 layer with double quantization, its lookup tables
    included.
    """
    return sum(nf4_parts(n_values).values())


def training_state_bytes(
    architecture: Architecture, method: str, rank: int = 0, weight_bytes: int = 4
) -> dict[str, int]:
    """Bytes kept between steps by "full", "lora" or "qlora" with AdamW: {"weights", "gradients",
    "optimizer"}.

    What is trained, and everything that is not quantized, takes `weight_bytes` each; AdamW keeps
    two float32 each. Activations come on top while a step runs. Raises ValueError for another
    method.
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


def tensor_bytes(tensors) -> int:
    """Bytes of the tensors' elements."""
    return sum(t.numel() * t.element_size() for t in tensors)
