"""Merging an adapter into its base, so that answering costs what it cost without one.

A merge that goes wrong says nothing: the merged model talks, only not as the adapted one did. So
every merge here is followed by one batch through both.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from lab_utils.finetuning.base_model import load_base

MERGES = ("into 4 bits", "dequantised first", "into the original")
# how far merged logits may be off, as a share of the logits' spread: by the type of the weights
ROUNDING = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.1, "4 bits": 0.5}


def merge(folder: Path | str, way: str, **where):
    """The adapter in `folder` merged into its base in one of MERGES; `where` goes to `load_base`.

    "into 4 bits" rounds the sum to NF4 again and so loses small updates; "dequantised first" gives
    what the adapter was trained with; "into the original" adds it to weights that it never saw.
    Raises ValueError for another way, RuntimeError where the merged model answers differently.
    """
    from peft import PeftModel

    if way not in MERGES:
        raise ValueError(f"unknown way {way!r}: expected one of {', '.join(MERGES)}")
    base, _ = load_base(quantized=way != "into the original", **where)
    if way == "dequantised first":
        base = base.dequantize()
    return merged_and_checked(PeftModel.from_pretrained(base, folder), way == "into 4 bits")


def merged_and_checked(model, into_4_bits: bool = False):
    """The plain model inside a PEFT model, the adapter added to its weights; `model` is used up.

    Where an adapter sits on the head or on the embeddings of a model that shares one weight between
    them, the head gets a weight of its own first, with a warning. Raises RuntimeError where the
    merged model's logits on one batch are not those of the adapted one.
    """
    if untie(model):
        warnings.warn(
            "the adapter changes the head or the embeddings, which share one weight in this model: "
            "the merged model has two, and its configuration says tie_word_embeddings = False",
            stacklevel=2,
        )
    adapted = probe_logits(model)
    with warnings.catch_warnings():  # PEFT warns of rounding in 4 bits, which is checked below
        warnings.filterwarnings("ignore", message="Merge lora module to 4-bit")
        merged = model.merge_and_unload()
    stored = "4 bits" if into_4_bits else str(merged.dtype).removeprefix("torch.")
    check_merge(adapted, probe_logits(merged), ROUNDING.get(stored, ROUNDING["bfloat16"]))
    return merged


def untie(model) -> bool:
    """Give the head its own copy of a tied weight if an adapter sits on either side of the tie.

    A merge would otherwise change both sides at once. Returns whether it had to.
    """
    base = model.get_base_model()
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    adapted = hasattr(head, "base_layer") or hasattr(embeddings, "base_layer")
    if head is None or not adapted or head.weight is not embeddings.weight:
        return False
    layer = getattr(head, "base_layer", head)
    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    base.config.tie_word_embeddings = False
    return True


@torch.no_grad()
def probe_logits(model) -> Tensor:
    """Logits (2, 16, vocabulary), in float32, of two rows of the first 32 token ids."""
    was_training = model.training
    ids = torch.arange(32, device=model.device).reshape(2, 16) % model.config.vocab_size
    logits = model.eval()(input_ids=ids).logits.float()
    model.train(was_training)
    return logits


def check_merge(adapted: Tensor, merged: Tensor, limit: float) -> None:
    """Raise RuntimeError where two models' logits (any shape) differ by more than rounding does.

    `limit` bounds the root mean square of the difference, as a share of the logits' spread.
    """
    off = (merged - adapted).square().mean().sqrt() / adapted.std()
    if not off <= limit:  # also where it is NaN
        raise RuntimeError(
            f"the merged model does not answer as the adapted one: its logits are off by {off:.2g} "
            f"of their spread, expected at most {limit:g}. Keep the adapter beside its base"
        )
