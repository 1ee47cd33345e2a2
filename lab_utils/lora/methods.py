"""The lecture's PEFT methods on one base: what each trains, the bytes it takes, how it merges.

Selective methods train some of the weights that are there, additive ones add small layers or soft
prompts, LoRA and its kin write the update as a product of two thin matrices (Lialin et al. 2023,
figure 2). PEFT has most of them; bottleneck adapters, which it lacks, are written out here. All are
trained by `finetuning.finetune`.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from transformers import TrainerCallback

from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.merging import merged_and_checked
from lab_utils.finetuning.training import FinetuneConfig, FinetuneResult, add_adapters, finetune
from lab_utils.memory.sizes import (
    Architecture,
    adapter_parameters,
    tensor_bytes,
    training_state_bytes,
)

Row = dict[str, str]


# -------------------------------------------------------------------------------------- the methods
@dataclass(frozen=True)
class Method:
    """A way to fine-tune: its family, its usual learning rate, and the rates a search tries."""

    title: str
    family: str  # "full", "selective", "additive", "soft prompts" or "reparameterization"
    trains: str  # what is trained, in a few words
    rates: tuple[float, float, float]  # the middle one first tried; the search takes all three
    merges: bool  # whether what was trained can become part of the base's own weights

    @property
    def rate(self) -> float:
        return self.rates[1]


METHODS = {
    "full": Method("full", "full", "every weight", (2e-4, 5e-4, 1e-3), True),
    "bias": Method(
        "biases", "selective", "a bias for every linear layer", (3e-3, 1e-2, 3e-2), True
    ),
    "norms": Method("norms", "selective", "the scales of the norms", (3e-3, 1e-2, 3e-2), True),
    "last": Method(
        "last layer", "selective", "the last layer and the final norm", (3e-4, 1e-3, 3e-3), True
    ),
    "adapters": Method(
        "adapters", "additive", "a bottleneck behind attention and MLP", (1e-3, 3e-3, 1e-2), False
    ),
    "prompt": Method(
        "prompt tuning", "soft prompts", "embeddings of virtual tokens", (3e-2, 1e-1, 3e-1), False
    ),
    "prefix": Method(
        "prefix tuning",
        "soft prompts",
        "keys and values of virtual tokens",
        (1e-2, 3e-2, 1e-1),
        False,
    ),
    "ia3": Method(
        "IA3", "additive", "a factor for every key, value and MLP unit", (1e-2, 3e-2, 1e-1), True
    ),
    "lora": Method(
        "LoRA", "reparameterization", "B and A beside every linear layer", (1e-3, 3e-3, 1e-2), True
    ),
    "dora": Method(
        "DoRA", "reparameterization", "B, A and the length of every row", (1e-3, 3e-3, 1e-2), True
    ),
    "qlora": Method(
        "QLoRA", "reparameterization", "B and A beside 4-bit layers", (1e-3, 3e-3, 1e-2), True
    ),
}


@dataclass(frozen=True)
class MethodConfig(FinetuneConfig):
    """A `FinetuneConfig` for any of METHODS.

    `bottleneck` is the width of adapters, `virtual_tokens` the length of soft prompts.
    """

    methods: ClassVar[tuple[str, ...]] = tuple(METHODS)

    batch_size: int = 8
    bottleneck: int = 16
    virtual_tokens: int = 20

    def __post_init__(self):
        super().__post_init__()
        if self.bottleneck < 1 or self.virtual_tokens < 1:
            raise ValueError(
                f"bottleneck ({self.bottleneck}) and virtual_tokens ({self.virtual_tokens}) must "
                "be at least 1"
            )

    @property
    def rate(self) -> float:
        """The learning rate given, or else the method's usual one."""
        return METHODS[self.method].rate if self.learning_rate is None else self.learning_rate


# --------------------------------------------------------------------------- adapters, from scratch
class Bottleneck(nn.Module):
    """h + up(relu(down(h))), from width to size and back (Houlsby et al. 2019, figure 2).

    `up` starts at zero, so the module starts as the identity. In PyTorch's order `down.weight` is
    (size, width) and `up.weight` (width, size); both layers have a bias.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: (..., width) -> (..., width)."""
        return hidden + self.up(relu(self.down(hidden)))


def add_bottlenecks(model, size: int) -> None:
    """Put a Bottleneck behind attention and MLP of every layer, before each joins the stream."""
    width = model.config.hidden_size
    for layer in model.model.layers:
        layer.self_attn.o_proj = nn.Sequential(layer.self_attn.o_proj, Bottleneck(width, size))
        layer.mlp.down_proj = nn.Sequential(layer.mlp.down_proj, Bottleneck(width, size))


def add_biases(model) -> None:
    """Give every linear layer of the blocks a bias of zeros.

    BitFit trains biases; a Llama has none to select.
    """
    for module in model.model.layers.modules():
        if isinstance(module, nn.Linear) and module.bias is None:
            module.bias = nn.Parameter(
                torch.zeros(module.out_features, device=module.weight.device)
            )


# -------------------------------------------------------------------------------- preparing a model
def _by_hand(model, config: MethodConfig):
    """Freeze all but what the method trains, and add what it adds; for methods without PEFT."""
    if config.method == "full":
        return model
    model.requires_grad_(False)
    if config.method == "bias":
        add_biases(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith(".bias"))
    elif config.method == "last":
        model.model.layers[-1].requires_grad_(True)
        model.model.norm.requires_grad_(True)
    else:
        add_bottlenecks(model, config.bottleneck)  # new modules: trainable
    return model


def peft_config(model, config: MethodConfig):
    """PEFT's own configuration of "norms", "prompt", "prefix" or "ia3"."""
    from peft import IA3Config, LNTuningConfig, PrefixTuningConfig, PromptTuningConfig

    task = {"task_type": "CAUSAL_LM"}
    if config.method == "norms":
        return LNTuningConfig(
            target_modules=["input_layernorm", "post_attention_layernorm", "norm"], **task
        )
    if config.method == "ia3":
        return IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
            **task,
        )
    if config.method == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=config.virtual_tokens, **task)
    return PromptTuningConfig(
        num_virtual_tokens=config.virtual_tokens,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text="Speak like a friend who knows all about cheese.",
        tokenizer_name_or_path=model.config.name_or_path,
        **task,
    )


def add_method(model, config: MethodConfig):
    """The model with what the method adds; only that is trainable.

    Random starts are drawn from the seed.
    """
    from peft import get_peft_model

    if config.method in ("lora", "dora", "qlora"):
        return add_adapters(
            model, replace(config, use_dora=config.method == "dora" or config.use_dora)
        )
    torch.manual_seed(config.seed)
    if config.method in ("full", "bias", "last", "adapters"):
        return _by_hand(model, config)
    return get_peft_model(model, peft_config(model, config))


def load_for_method(config: MethodConfig, **where):
    """(model, tokenizer) as the method trains them, in float32 or 4 bits.

    `where` goes to `load_base`.
    """
    where = {"dtype": torch.float32, **where}
    model, tokenizer = load_base(quantized=config.method == "qlora", **where)
    model = add_method(model, config)
    # a cache of keys and values is of no use while all positions are computed at once
    model.config.use_cache = False
    return model, tokenizer


class EverythingMoves(TrainerCallback):
    """After two steps every trained tensor must have changed.

    What no gradient reaches is noticed at once.
    """

    def __init__(self):
        self.before: dict[str, Tensor] = {}
        self.n_steps = 0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Remember what is trained."""
        self.before = {
            name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad
        }

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        """Look once, after two steps that were not skipped.

        LoRA's A, behind a B of zeros, moves only in the second.
        """
        if not self.before or getattr(optimizer, "step_was_skipped", False):
            return
        self.n_steps += 1
        if self.n_steps < 2:
            return
        now = dict(model.named_parameters())
        still = [name for name, before in self.before.items() if torch.equal(now[name], before)]
        self.before = {}
        if still:
            raise RuntimeError(
                f"{len(still)} trained tensors have not moved in two steps (first: {still[0]}): "
                "no gradient reaches them. Is the layer used at all, and is nothing detached "
                "before it?"
            )


def train(
    config: MethodConfig, rows: list[Row], folder: Path | str, watch=None, **where
) -> FinetuneResult:
    """`finetuning.finetune` for any method: its progress, its guards, its going on after a kill."""
    # a copy of a whole model would be large
    guards = () if config.method == "full" else (EverythingMoves(),)
    return finetune(config, rows, folder, watch, load=load_for_method, more_guards=guards, **where)


# -------------------------------------------------------------------- counting, before any training
def trainable_parameters(architecture: Architecture, config: MethodConfig) -> int:
    """Parameters that the method trains, counted from the sizes of a Llama-like model alone."""
    a, shapes = architecture, architecture.linear_shapes()
    outputs, layer = sum(n_out for n_out, _ in shapes), sum(o * i for o, i in shapes) // a.n_layers
    kv = a.n_kv_heads * a.head_dim
    counts = {
        "full": layer * a.n_layers + a.n_other(),
        "bias": outputs,
        "norms": a.hidden_size * (2 * a.n_layers + 1),
        "last": layer + 3 * a.hidden_size,
        "adapters": 2
        * a.n_layers
        * (2 * a.hidden_size * config.bottleneck + config.bottleneck + a.hidden_size),
        "prompt": config.virtual_tokens * a.hidden_size,
        "prefix": config.virtual_tokens * a.n_layers * 2 * kv,
        "ia3": a.n_layers * (2 * kv + a.intermediate_size),
        "lora": adapter_parameters(a, config.rank),
        "dora": adapter_parameters(a, config.rank) + outputs,
        "qlora": adapter_parameters(a, config.rank),
    }
    return counts[config.method]


def predicted_bytes(architecture: Architecture, config: MethodConfig) -> dict[str, int]:
    """Bytes between steps in float32 with AdamW: {"weights", "gradients", "optimizer"}.

    Full fine-tuning and "last" train weights that are there; every other method stores what it
    trains beside the base (PEFT keeps the norms' old scales too). A gradient takes 4 bytes, AdamW's
    two states 8.
    """
    if config.method in ("full", "lora", "qlora"):
        return training_state_bytes(architecture, config.method, config.rank)
    trained = trainable_parameters(architecture, config)
    weights = training_state_bytes(architecture, "full")["weights"] + (
        0 if config.method == "last" else 4 * trained
    )
    return {"weights": weights, "gradients": 4 * trained, "optimizer": 8 * trained}


# ------------------------------------------------------------------------ keeping, loading, merging
TRAINED = "trained.safetensors"


def save_trained(model, folder: Path | str) -> Path:
    """Keep the trained tensors alone, in one file: what a task needs beside the base.

    Returns the file.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / (TRAINED + ".part")
    save_file(
        {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad},
        part,
    )
    os.replace(part, folder / TRAINED)
    return folder / TRAINED


def load_trained(config: MethodConfig, folder: Path | str, **where):
    """(model, tokenizer) as `save_trained` left them.

    Raises ValueError where the file is of another method or size.
    """
    from safetensors.torch import load_file

    model, tokenizer = load_for_method(config, **where)
    kept, trained = (
        load_file(Path(folder) / TRAINED),
        {n: p for n, p in model.named_parameters() if p.requires_grad},
    )
    if {n: t.shape for n, t in kept.items()} != {n: p.shape for n, p in trained.items()}:
        raise ValueError(
            f"{TRAINED} in {folder} was not saved by {config.method} of this size: load it with "
            "the configuration that it was trained with"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(kept[name])
    return model, tokenizer


def merged(model, config: MethodConfig, **where):
    """A plain model that answers as `model` does, which stays as it is.

    Raises ValueError for methods that cannot be merged: a nonlinear adapter is no matrix, and a
    prompt is no weight.
    """
    if not METHODS[config.method].merges:
        raise ValueError(
            f"{METHODS[config.method].title} cannot be merged: it is not a change of the weights"
        )
    if config.method in ("full", "bias", "last"):
        return copy.deepcopy(model)
    if config.method != "qlora":
        return merged_and_checked(copy.deepcopy(model))
    base, _ = load_base(quantized=True, **{"dtype": torch.float32, **where})
    plain = add_adapters(base.dequantize(), replace(config, method="lora"))
    adapters = {name: p for name, p in model.named_parameters() if "lora_" in name}
    plain.load_state_dict(adapters, strict=False)
    return merged_and_checked(plain)


def trained_bytes(model) -> int:
    """Bytes of the trained tensors: what a task adds on disk, but for a file's header."""
    return tensor_bytes(p for p in model.parameters() if p.requires_grad)
