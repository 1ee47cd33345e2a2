"""Any model's sizes from its `config.json`, counted on transformers' own model without its weights.

transformers builds the model on torch's meta device: tensors have shapes and no memory, so even
671 billion parameters take a second. What is missing in a configuration is the model type's own
default there, and what transformers does not read changes no size.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab_utils.files import whole_number
from lab_utils.memory.sizes import (
    FAMILIES,
    MORE_SIZES,
    SIZES,
    Architecture,
    Model,
    Shape,
    positions,
    refuse_near_misses,
)

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

CLASSIFIER = "ForSequenceClassification"
STORAGE = ("quantization_config", "quantization", "auto_map")  # how weights were stored or coded
READ_BY_ALL = (
    *("architectures", "torch_dtype", "rope_theta", "rope_scaling", "num_labels", "head_dim"),
)


@dataclass(frozen=True)
class Counted(Model):
    """A model that transformers built on the meta device, counted by what is done to each."""

    model_type: str
    vocab_size: int
    max_positions: int | None
    adapted: tuple[Shape, ...]  # (out, in) of the linear layers but the head
    quantized: tuple[Shape, ...]  # (out, in) of the layers that bitsandbytes stores in 4 bits
    others: tuple[int, ...]  # parameters of each tensor that is not quantized
    expert_parameters: int = 0  # of the others: 3-D tensors, one matrix for each expert
    active_parameters: int = 0  # used for one token; all of them where there are no experts
    family: str = "counted"  # no activations are written out for it
    source: Any = field(default=None, repr=False, compare=False)  # (configuration, is classifier)

    @classmethod
    def of(cls, config: PreTrainedConfig, classifier: bool = False) -> Counted:
        """Build the language model of a transformers configuration on the meta device and count."""
        model = built(config, classifier)
        text = config.get_text_config()
        adapted, quantized = linear_layers(model), quantized_layers(model)
        weights = {id(layer.weight) for layer in quantized}
        experts = sum(p.numel() for p in expert_tensors(model))
        others = tuple(p.numel() for p in model.parameters() if id(p) not in weights)
        return cls(
            model_type=text.model_type,
            vocab_size=text.vocab_size,
            max_positions=positions(text.to_dict()),
            adapted=tuple(map(shape_of, adapted)),
            quantized=tuple(map(shape_of, quantized)),
            others=others,
            expert_parameters=experts,
            active_parameters=model.num_parameters() - round(experts * idle_share(text)),
            source=(config, classifier),
        )

    def linear_shapes(self) -> list[Shape]:
        """(out, in) of every linear layer but the head; experts in 3-D tensors are none."""
        return list(self.adapted)

    def adapter_sizes(self, rank: int) -> list[int]:
        """Values of each tensor of PEFT's "all-linear" adapters; ValueError where it has none."""
        return [rank * n for n in self._adapters]

    @functools.cached_property
    def _adapters(self) -> list[int]:
        """The same for rank 1, by PEFT on the meta device: seconds for a hundred layers."""
        return adapter_tensors(*self.source)

    def quantized_shapes(self) -> list[Shape]:
        """(out, in) of the layers that bitsandbytes stores in 4 bits."""
        return list(self.quantized)

    def other_sizes(self) -> list[int]:
        """Parameters of each tensor beside those weights."""
        return list(self.others)


# ------------------------------------------------------------------------ the model without weights
def built(config: PreTrainedConfig, classifier: bool = False) -> PreTrainedModel:
    """The language model of a configuration on the meta device, with a classifier's head if asked.

    Raises ValueError where transformers has no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    text = config.get_text_config()
    auto = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            return auto.from_config(text)
    except Exception as error:  # whatever a model's own code stumbles over
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(
            f"transformers builds no {'classifier' if classifier else 'causal model'} of type "
            f"{text.model_type!r} from this configuration ({type(error).__name__}: {reason})"
        ) from None


def linear_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Every linear layer but the head; a classifier's head is left out, too."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    heads = [model.get_output_embeddings(), getattr(model, "score", None)]
    return [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m not in heads]


def quantized_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The layers that bitsandbytes replaces: plain linear ones, but those that transformers keeps.

    Experts in one 3-D tensor are no linear layers: they keep their 16 bits.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or [])]
    return [
        module
        for name, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D))
        and should_convert_module(name, kept)
    ]


def adapter_tensors(config: PreTrainedConfig, classifier: bool) -> list[int]:
    """Values of each tensor of adapters of rank 1, as PEFT adds them on the meta device.

    In a mixture of experts PEFT adapts the router and each expert too, with twice the rank where
    gate and up are one tensor. Raises ValueError for a model that PEFT refuses.
    """
    from peft import LoraConfig, get_peft_model

    task = "SEQ_CLS" if classifier else "CAUSAL_LM"
    lora = LoraConfig(r=1, target_modules="all-linear", task_type=task)
    with warnings.catch_warnings():  # of details that change no size
        warnings.simplefilter("ignore")
        model = get_peft_model(built(config, classifier), lora)
    return [p.numel() for name, p in model.named_parameters() if "lora_" in name]


def shape_of(layer: nn.Module) -> Shape:
    """(out, in) of a linear layer; GPT-2's Conv1D is stored as (in, out)."""
    weight = layer.get_parameter("weight")
    first, second = weight.shape
    return (first, second) if hasattr(layer, "in_features") else (second, first)


def expert_tensors(model: PreTrainedModel) -> Iterator[Any]:
    """The parameters of experts: all that lies in a module called "experts"."""
    for name, parameter in model.named_parameters():
        if ".experts." in name:
            yield parameter


def idle_share(config: PreTrainedConfig) -> float:
    """Share of the experts that one token does not use; 0 where there are none."""
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    n_experts = next((getattr(config, name) for name in names if getattr(config, name, None)), 0)
    used = getattr(config, "num_experts_per_tok", None) or getattr(config, "moe_topk", None)
    return 1 - used / n_experts if n_experts and used else 0.0


# ---------------------------------------------------------------------------- reading a config.json
def read_configuration(fields: Mapping[str, Any]) -> tuple[Model, list[str]]:
    """(model, notes) from the fields of a `config.json`; a note is a line on what was assumed.

    A dense model of FAMILIES comes as an Architecture, which knows its activations; every other
    causal model or sequence classifier of transformers as Counted. Raises ValueError for a model
    that transformers does not know, and for sizes that make no sense.
    """
    if not fields.get("model_type") and not isinstance(fields.get("text_config"), Mapping):
        return Architecture.from_fields(fields), ["model_type is missing: read as a Llama"]
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return Architecture.from_fields(fields), ["transformers is not installed: sizes only"]
    config = transformers_config(fields)
    classifier = any(CLASSIFIER in str(name) for name in fields.get("architectures") or [])
    counted = Counted.of(config, classifier)
    notes = [*field_notes(fields, config), *counting_notes(counted, config, classifier)]
    dense = None if classifier else dense_architecture(fields, config)
    exact = dense is not None and dense.n_parameters() == counted.n_parameters()
    return (dense if exact and dense is not None else counted), notes


def transformers_config(fields: Mapping[str, Any]) -> PreTrainedConfig:
    """transformers' own configuration, the type's defaults filled in and its rules checked."""
    from transformers import AutoConfig

    given = {name: v for name, v in fields.items() if name not in ("model_type", *STORAGE)}
    kind = fields.get("model_type") or fields["text_config"].get("model_type")
    try:
        return AutoConfig.for_model(kind, **given)
    except Exception as error:  # each type has checks of its own, of many classes
        reason = " ".join(str(error).split())[:300]
        if "Unrecognized model identifier" in reason or not isinstance(kind, str):
            raise ValueError(f"model_type {kind!r} is not one that transformers knows.") from None
        raise ValueError(f"transformers refuses this configuration: {reason}") from None


def dense_architecture(fields: Mapping[str, Any], config: PreTrainedConfig) -> Architecture | None:
    """The Architecture of a type in FAMILIES; None for other types, and where the type's default
    number of key heads does not fit the heads (such a model can be counted, not run).
    """
    text = config.get_text_config()
    if text.model_type not in FAMILIES:
        return None
    try:
        return Architecture.of(text)
    except ValueError:
        if text is config and "num_key_value_heads" not in fields:
            return None
        raise


def field_notes(fields: Mapping[str, Any], config: PreTrainedConfig) -> list[str]:
    """What was passed over, and which sizes are the type's own defaults.

    Raises ValueError for a name that is nearly that of a size, and for a size below 1.
    """
    text, notes = config.get_text_config(), []
    given = fields
    if text is not config:
        notes.append("counted: the language model alone, as in text_config")
        given = fields.get("text_config") or {}
    defaults = type(text)().to_dict()
    sizes = [name for name in defaults if type(getattr(text, name, None)) is int]
    for name in {*SIZES, *MORE_SIZES} & given.keys():
        if given[name] is not None:
            whole_number(name, given[name])
    read = {*defaults, *text.attribute_map, *READ_BY_ALL}
    strangers = [name for name in given if name not in read]
    refuse_near_misses(strangers, filter(decides_size, [*sizes, *text.attribute_map]))
    strangers = sorted({*strangers, *(name for name in STORAGE if name in fields)})
    if strangers:
        notes.append(f"passed over, changes no parameter count: {', '.join(strangers)}")
    aliases = {ours: theirs for theirs, ours in text.attribute_map.items()}
    missing = [
        f"{name} = {getattr(text, name)}"
        for name in filter(decides_size, sizes)
        if defaults[name] is not None and name not in given and aliases.get(name) not in given
    ]
    if missing:
        notes.append(f"missing, so {text.model_type}'s own default: {', '.join(missing)}")
    return notes


def decides_size(name: str) -> bool:
    """Whether a whole number of this name is a width or a number of things that have weights."""
    ends = ("_size", "_dim", "_layers", "_layer", "_heads", "_head", "_experts", "_rank", "_embd")
    return name.endswith(ends) or name in ("n_positions", "num_experts_per_tok")


def counting_notes(counted: Counted, config: PreTrainedConfig, classifier: bool) -> list[str]:
    """What a reader of the count must know: a classifier's head, and experts."""
    notes = []
    if classifier:
        n_labels = config.get_text_config().num_labels
        notes.append(f"counted as a sequence classifier with {n_labels} label(s), without lm_head")
    if counted.expert_parameters:
        notes.append(
            f"a mixture of experts: {counted.n_parameters():,} parameters are stored, "
            f"{counted.active_parameters:,} of them used for a token"
        )
        notes.append(
            f"{counted.expert_parameters:,} of them are experts in 3-D tensors, which bitsandbytes "
            "does not quantize"
        )
    return notes
