"""Tokens per second of a QLoRA step on a large model: ours, TRL's SFTTrainer, and the Trainer with
artidoro/qlora's arguments.

The same for all: shape, rows, rows in a step, rank, layers. Each recipe's own: how rows are
batched, checkpointing, precision of what is not quantized, optimizer. The weights are random, so
the loss says nothing; the work is that of a real model.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.finetune import read_rows, sft_trainer
from bench.gpu_memory import free, random_model, timed
from lab_utils.finetuning.base_model import CHEESE_BASE, load_tokenizer
from lab_utils.finetuning.levers import COUNT_TOKENS, StepClock
from lab_utils.finetuning.training import (
    FinetuneConfig,
    add_adapters,
    make_trainer,
    training_arguments,
)
from lab_utils.memory.sizes import Architecture, adapter_parameters

# qlora.py's defaults and its README's command, but for batches, checkpointing, length groups
ARTIDORO = {
    "optim": "paged_adamw_32bit",
    "max_grad_norm": 0.3,
    "adam_beta2": 0.999,
    "lr_scheduler_type": "constant",
    "learning_rate": 2e-4,
}


def matmul_row(size: int, device: str) -> dict[str, float]:
    """The peak that products of bfloat16 matrices reach here: FLOPs a second of one size x size x
    size, median of ten.
    """
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = statistics.median([timed(lambda: a @ b, device) for _ in range(13)][3:])
    return {"size": size, "seconds": seconds, "flops": 2 * size**3 / seconds}


def flops_per_token(model: Architecture, rank: int) -> float:
    """Useful FLOPs of a QLoRA step for each token: forward and the gradient of the inputs, 4 for
    each frozen weight of the layers and the head; 6 for each adapter's. Attention's scores and
    what checkpointing computes again are left out.
    """
    return 4 * (model.n_linear() + model.vocab_size * model.hidden_size) + 6 * adapter_parameters(
        model, rank
    )


# ---------------------------------------------------------------------------------------- recipes
def ours(model, tokenizer, rows: list, config: FinetuneConfig, folder: Path, device: str):
    """The kit's way: loss on answers, rows of like length together, nothing computed twice."""
    return make_trainer(
        config,
        add_adapters(model, config),
        tokenizer,
        rows,
        folder,
        device,
        lambda *_: None,
        **COUNT_TOKENS,
    )


def artidoro(model, tokenizer, rows: list, config: FinetuneConfig, folder: Path, device: str):
    """The Trainer with artidoro/qlora's arguments: a row at a time, gradients summed,
    checkpointing, AdamW in 32 bits.
    """
    arguments = {**COUNT_TOKENS, **ARTIDORO, "gradient_accumulation_steps": config.batch_size}
    config = replace(config, batch_size=1, checkpointing=True)
    return make_trainer(
        config,
        add_adapters(model, config),
        tokenizer,
        rows,
        folder,
        device,
        lambda *_: None,
        **arguments,
    )


def trl_sft(model, tokenizer, rows: list, config: FinetuneConfig, folder: Path, device: str):
    """TRL's SFTTrainer with its defaults, which for a 4-bit base are checkpointing, bfloat16, rows
    in random order.
    """
    return sft_trainer(
        model, tokenizer, rows, training_arguments(config, folder, device, **COUNT_TOKENS), config
    )


RECIPES: dict[str, Callable] = {"ours": ours, "TRL SFTTrainer": trl_sft, "artidoro/qlora": artidoro}


def speed_row(
    name: str, fields: dict[str, Any], device: str, rank: int, batch_size: int, steps: int
) -> dict[str, Any]:
    """One turn of a recipe on a fresh model: seconds a step, tokens a second, FLOPs a second."""
    if name.startswith("TRL") and importlib.util.find_spec("trl") is None:
        return {"left out": "not installed: pip install trl"}
    free()
    model = random_model(fields, device)
    architecture = Architecture.of(model.config)
    config = FinetuneConfig(
        "qlora", rank=rank, batch_size=batch_size, steps=steps, group_by_length=True
    )
    with tempfile.TemporaryDirectory() as folder:
        # one epoch: the same rows for all, in whatever order
        rows = read_rows("train")[: batch_size * steps]
        trainer = RECIPES[name](
            model, load_tokenizer(CHEESE_BASE), rows, config, Path(folder), device
        )
        clock = StepClock()
        trainer.add_callback(clock)
        trainer.train()
    speed = sum(clock.tokens) / sum(clock.seconds)
    return {
        "seconds": statistics.median(clock.seconds),
        "tokens": statistics.mean(clock.tokens),
        "tokens per second": speed,
        "flops": speed * flops_per_token(architecture, rank),
    }
