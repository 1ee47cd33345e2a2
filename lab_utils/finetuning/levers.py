"""What makes a fine-tuning step fast or slow: lab 06's recipe with one thing changed at a time,
each timed in turns.

No lever changes what is learnt but for rounding (bfloat16) and the order of the rows (grouping by
length).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.training import (
    FinetuneConfig,
    PadRight,
    add_adapters,
    clear_run,
    load_for_training,
    make_trainer,
)
from lab_utils.start.hardware import has_fast_bfloat16
from lab_utils.start.timing import alternating

RECIPE = FinetuneConfig(method="qlora", group_by_length=True)  # lab 06's
COUNT_TOKENS = {"include_num_input_tokens_seen": "non_padding", "save_strategy": "no"}


@dataclass(frozen=True)
class Lever:
    """What differs from RECIPE: fields of its configuration, arguments of the Trainer, padding,
    threads, the loader.
    """

    config: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    pad_to: int = 0
    n_threads: int | None = None
    load: Callable = load_for_training


def load_dequantized(config: FinetuneConfig, **where):
    """(model, tokenizer): the 4-bit base dequantized once, for good, with adapters: QLoRA's numbers
    with LoRA's memory.
    """
    model, tokenizer = load_base(quantized=True, **where)
    model = add_adapters(model.dequantize(), replace(config, method="lora"))
    model.config.use_cache = False
    return model, tokenizer


LEVERS = {
    "the recipe of this lab": Lever(),
    "rows in random order": Lever({"group_by_length": False}),
    "every row padded to 128 tokens": Lever(pad_to=128),
    "activations checkpointed": Lever({"checkpointing": True}),
    "one row at a time, gradients summed": Lever(
        {"batch_size": 1}, {"gradient_accumulation_steps": RECIPE.batch_size}
    ),
    "one thread": Lever(n_threads=1),
    "bfloat16 arithmetic": Lever({"bf16": True}),
    "weights dequantized once, for good": Lever(load=load_dequantized),
}


def levers_here(device: str = "cpu") -> dict[str, Lever]:
    """LEVERS that this machine has: without bfloat16 units that line would only be slow, ten times
    where it was measured, and tell nothing about the recipe.
    """
    has_units = has_fast_bfloat16(device)
    return {name: lever for name, lever in LEVERS.items() if has_units or "bfloat16" not in name}


def wait_for_gpu() -> None:
    """Until the GPU, where there is one, has done what it was told: Python only tells it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class StepClock(TrainerCallback):
    """Seconds and tokens (padding left out) of every step but the first, which warms up. A GPU is
    waited for.
    """

    def __init__(self):
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self._start, self._seen = 0.0, 0

    def on_step_begin(self, args, state, control, **kwargs):
        """Start the watch, when all that came before is done."""
        wait_for_gpu()
        self._start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        """Stop it, and see how many tokens have come through."""
        wait_for_gpu()
        if state.global_step > 1:
            self.seconds.append(time.perf_counter() - self._start)
            self.tokens.append(int(state.num_input_tokens_seen) - self._seen)
        self._seen = int(state.num_input_tokens_seen)


def tokens_per_second(trainer: Trainer) -> float:
    """Train, and return the tokens per second of all steps but the first. The trainer must count
    tokens (COUNT_TOKENS).
    """
    clock = StepClock()
    trainer.add_callback(clock)
    trainer.train()
    if not sum(clock.tokens):
        raise ValueError(
            "no tokens were counted: the trainer needs COUNT_TOKENS among its arguments, and two "
            "steps or more"
        )
    return sum(clock.tokens) / sum(clock.seconds)


def speed_with(
    lever: Lever, rows: Sequence[dict[str, str]], folder: Path, steps: int, **where
) -> float:
    """Tokens per second of RECIPE with one lever, from the base model on."""
    config = replace(RECIPE, steps=steps, **lever.config)
    model, tokenizer = lever.load(config, **where)
    trainer = make_trainer(
        config,
        model,
        tokenizer,
        list(rows),
        folder,
        where.get("device", "cpu"),
        lambda *_: None,
        **COUNT_TOKENS,
        **lever.arguments,
    )
    trainer.data_collator = PadRight(tokenizer.pad_token_id, lever.pad_to)
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(lever.n_threads or n_threads)
        return tokens_per_second(trainer)
    finally:
        torch.set_num_threads(n_threads)
        clear_run(folder)


def ablation(
    rows: Sequence[dict[str, str]],
    folder: Path,
    steps: int = 3,
    rounds: int = 2,
    levers: Mapping[str, Lever] | None = None,
    **where,
) -> dict[str, float]:
    """Lever -> tokens per second, the best of `rounds` turns: what else the machine does can only
    slow a turn down. `where` goes to `load_base`.
    """
    return alternating(
        {
            name: lambda lever=lever: speed_with(lever, rows, folder, steps, **where)
            for name, lever in (levers or levers_here(where.get("device", "cpu"))).items()
        },
        rounds,
        max,
        "timing",
    )
