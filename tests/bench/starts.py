"""A start that repairs the rounding, and how long its lead lasts: LoftQ and PiSSA against the usual
start, on a base in NF4. The held-out loss at step 0 and after some steps.

The rounded weights are kept in float32, so that all three train in the same arithmetic. Rows are
questions without notes: short, and quick on a CPU.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

from bench import Measure, Outcome

STARTS = ("the usual start", "LoftQ", "PiSSA")
RANK, ALPHA, RATE, BATCH_SIZE = 16, 32, 1e-3, 4
N_HELD_OUT = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, and which base."""
    parser.add_argument("--steps", type=int, default=40, help="of each start (default 40)")
    parser.add_argument("--base", metavar="FOLDER", help="another base (default: SmolLM2)")


def measure(args: argparse.Namespace) -> Outcome:
    """Each start, before training and after it."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    where = {"source": args.base} if args.base else {"tier": "smollm2"}
    measures, lines = [], [f"{'':<18}{'step 0':>10}{f'step {args.steps}':>10}"]
    for name in STARTS:
        first, last = losses_of(name, args.steps, where)
        measures.append(Measure(f"{name}, held-out loss at step 0", first, "nats", "lower"))
        measures.append(Measure(f"{name}, held-out loss at the end", last, "nats", "lower"))
        lines.append(f"{name:<18}{first:>10.3f}{last:>10.3f}")
        print(lines[-1], flush=True)
    settings = {"steps": args.steps, "rank": RANK, "alpha": ALPHA, "learning_rate": RATE}
    return Outcome(measures, "\n".join(lines), [], settings | {"batch_size": BATCH_SIZE, "seed": 0})


def losses_of(name: str, steps: int, where: dict) -> tuple[float, float]:
    """The held-out loss of one start, in nats per answer token: before training, and after it."""
    from lab_utils.finetuning.evaluation import held_out_loss
    from lab_utils.finetuning.real_model import LabelledHead
    from lab_utils.finetuning.training import FinetuneConfig, make_trainer
    from lab_utils.pavlos import load_pairs

    model, tokenizer = started(name, where)
    config = FinetuneConfig(
        "lora", RANK, ALPHA, learning_rate=RATE, steps=steps, batch_size=BATCH_SIZE,
        group_by_length=True,
    )  # fmt: skip
    rows = random.Random(0).sample(load_pairs("train"), steps * BATCH_SIZE)
    held_out = random.Random(0).sample(load_pairs("validation"), N_HELD_OUT)
    first = held_out_loss(model, tokenizer, held_out)
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(
            config, model, tokenizer, rows, Path(folder), "cpu", lambda *_: None,
            trainer_class=LabelledHead, save_strategy="no",
        ).train()  # fmt: skip
    return first, held_out_loss(model, tokenizer, held_out)


def started(name: str, where: dict) -> tuple[Any, Any]:
    """(model, tokenizer): a base whose linear layers hold NF4's values, with adapters beside them
    that start as `name` says.
    """
    import torch

    from lab_utils.finetuning.base_model import load_base
    from lab_utils.finetuning.real_model import four_bit_formats, loftq_parts, pissa_parts
    from lab_utils.finetuning.training import FinetuneConfig, add_adapters

    nf4 = four_bit_formats()["NF4, blocks of 64"][1]
    parts = {"LoftQ": loftq_parts, "PiSSA": pissa_parts}.get(name)
    model, tokenizer = load_base(**where)
    model = add_adapters(model, FinetuneConfig("lora", RANK, ALPHA))
    for layer in (module for module in model.modules() if hasattr(module, "base_layer")):
        weight = layer.base_layer.weight.data
        if parts is None:
            weight.copy_(nf4(weight))
            continue
        stored, adapters = parts(weight, RANK, nf4)
        weight.copy_(stored)
        u, s, v = torch.svd_lowrank(adapters / layer.scaling["default"], q=RANK, niter=4)
        layer.lora_A["default"].weight.data.copy_(s.sqrt()[:, None] * v.T)
        layer.lora_B["default"].weight.data.copy_(u * s.sqrt())
    return model, tokenizer
