"""Fine-tuning on a CPU: our recipe against TRL's and artidoro/qlora's, above two floors, at equal
steps in one run.

What decides what is learnt is the same for all: base, rows, rank, layers, steps, rows in a step,
learning rate and its schedule, clipping. What decides the speed is each recipe's own: how rows are
batched and padded, checkpointing, precision.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import Measure, Outcome

# what ours should reach
FASTER_THAN = {
    "TRL SFTTrainer": 1.5,
    "artidoro/qlora": 1.5,
    "LoRA in float32": 0.8,
}
# nats: between recipes the order of the rows differs, and with it the loss after a few dozen steps
SAME_LOSS = 0.1
IN_BFLOAT16 = "ours, there and in bfloat16"  # lab 09's recipe, where the processor has the units
TRL_MISSING = "TRL is not installed and was left out. To have it: pip install 'trl>=1.16'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, how often, and which recipes."""
    parser.add_argument(
        "--steps", type=int, default=40, help="of each run; the first is not timed (default 40)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of each recipe, taking turns (default 3)"
    )
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument(
        "--model",
        default="cpu",
        help="the tier of the base: smollm2 is lab 09's (default: the one that ships with the kit)",
    )
    parser.add_argument(
        "--base",
        metavar="FOLDER",
        help="another base model, in place of a tier's",
    )


def measure(args: argparse.Namespace) -> Outcome:
    """Every recipe in turns; then each one's loss on answers that none was trained on."""
    import datasets
    import transformers

    from lab_utils.files import LabKitError
    from lab_utils.start.timing import alternating

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    recipes, left_out = available_recipes()
    if unknown := set(args.recipes or ()) - set(RECIPES):
        raise LabKitError(
            f"Unknown: {', '.join(sorted(unknown))}. The recipes are: {', '.join(RECIPES)}."
        )
    chosen = {
        name: recipe for name, recipe in recipes.items() if not args.recipes or name in args.recipes
    }
    where, losses = ({"source": args.base} if args.base else {"tier": args.model}), {}
    train_rows, held_out = read_rows("train"), read_rows("validation")[:128]
    with tempfile.TemporaryDirectory() as folder:
        calls = {
            name: lambda name=name: run(
                chosen[name], name, args.steps, train_rows, held_out, Path(folder), losses, where
            )
            for name in chosen
        }
        speeds = alternating(calls, args.rounds, told="timing")
    as_in_lab_09 = [IN_BFLOAT16, "ours, head where a label is"] if args.model == "smollm2" else []
    mine = next((name for name in (*as_in_lab_09, "ours") if name in speeds), "ours")
    return outcome_of(speeds, losses, left_out, mine)


def read_rows(split: str) -> list[dict[str, str]]:
    """The Pavlos pairs of one split."""
    import json

    from lab_utils.files import DATA

    lines = (DATA / "pavlos" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def run(
    recipe: Callable,
    name: str,
    steps: int,
    rows: list,
    held_out: list,
    folder: Path,
    losses: dict,
    where: dict,
) -> float:
    """One run of a recipe from the base on: its tokens per second. Its held-out loss is put into
    `losses`, once.
    """
    from lab_utils.finetuning.evaluation import held_out_loss
    from lab_utils.finetuning.levers import tokens_per_second

    trainer, tokenizer = recipe(steps, rows, folder, where)
    speed = tokens_per_second(trainer)
    if name not in losses:
        losses[name] = held_out_loss(trainer.model, tokenizer, held_out)
    return speed


# ---------------------------------------------------------------------------------------- recipes
def ours(method: str, labelled_head: bool = False, bf16: bool = False) -> Callable:
    """The recipe of lab 06, for one of its methods; with lab 09's levers: the head only where a
    label is, products in bfloat16.
    """

    def build(steps: int, rows: list, folder: Path, where: dict) -> tuple[Any, Any]:
        from transformers import Trainer

        from lab_utils.finetuning.levers import COUNT_TOKENS, RECIPE
        from lab_utils.finetuning.real_model import LabelledHead
        from lab_utils.finetuning.training import load_for_training, make_trainer

        kind = {"trainer_class": LabelledHead if labelled_head else Trainer}
        config = replace(RECIPE, method=method, steps=steps, bf16=bf16)
        model, tokenizer = load_for_training(config, **where)
        return make_trainer(
            config, model, tokenizer, rows, folder, "cpu", lambda *_: None, **kind, **COUNT_TOKENS
        ), tokenizer

    return build


def artidoro(batch_size: int | None) -> Callable:
    """The Trainer with the arguments of artidoro/qlora's qlora.py: checkpointing, grouping by
    length, one row at a time with gradients accumulated (or, with None, all rows of a step at
    once). Its paged optimizer needs a GPU: AdamW.
    """

    def build(steps: int, rows: list, folder: Path, where: dict) -> tuple[Any, Any]:
        from lab_utils.finetuning.levers import COUNT_TOKENS, RECIPE
        from lab_utils.finetuning.training import load_for_training, make_trainer

        at_once = batch_size or RECIPE.batch_size
        config = replace(RECIPE, steps=steps, batch_size=at_once, checkpointing=True)
        model, tokenizer = load_for_training(config, **where)
        arguments = {**COUNT_TOKENS, "gradient_accumulation_steps": RECIPE.batch_size // at_once}
        return make_trainer(
            config, model, tokenizer, rows, folder, "cpu", lambda *_: None, **arguments
        ), tokenizer

    return build


def trl_sft(steps: int, rows: list, folder: Path, where: dict) -> tuple[Any, Any]:
    """TRL's SFTTrainer on a 4-bit base with a LoraConfig: its defaults (checkpointing, bfloat16,
    rows in random order; in 1.16 the loss from labelled positions alone, in pieces, which was
    `chunked_nll` before).
    """
    from lab_utils.finetuning.base_model import load_base
    from lab_utils.finetuning.levers import COUNT_TOKENS, RECIPE
    from lab_utils.finetuning.training import training_arguments

    model, tokenizer = load_base(quantized=True, **where)
    config = replace(RECIPE, steps=steps, learning_rate=RECIPE.rate_for(model))
    given = training_arguments(config, folder, "cpu", **COUNT_TOKENS)
    return sft_trainer(model, tokenizer, rows, given, config, LEARNING), tokenizer


GIVEN = (
    "output_dir",
    "max_steps",
    "per_device_train_batch_size",
    "use_cpu",
    "logging_steps",
    "report_to",
    "save_strategy",
    "include_num_input_tokens_seen",
    "disable_tqdm",
)
LEARNING = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "seed",
    "data_seed",
)


def sft_trainer(model, tokenizer, rows: list, given, config, more: tuple[str, ...] = ()) -> Any:
    """TRL's trainer on a 4-bit model: of the arguments `given` those of GIVEN and `more`, the rest
    are TRL's defaults.
    """
    import datasets
    import transformers
    import trl
    from peft import LoraConfig

    from lab_utils.finetuning.training import PairDataset

    datasets.disable_progress_bars()
    settings = trl.SFTConfig(**{name: getattr(given, name) for name in (*GIVEN, *more)})
    adapters = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        task_type="CAUSAL_LM",
        target_modules=config.target_modules,
    )
    # with labels: taken as they are
    pairs = datasets.Dataset.from_list(list(PairDataset(rows, tokenizer)))
    trainer = trl.SFTTrainer(
        model, settings, train_dataset=pairs, processing_class=tokenizer, peft_config=adapters
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


RECIPES = {
    "ours": ours("qlora"),
    "ours, head where a label is": ours("qlora", labelled_head=True),
    IN_BFLOAT16: ours("qlora", labelled_head=True, bf16=True),
    "TRL SFTTrainer": trl_sft,
    "artidoro/qlora": artidoro(1),
    "artidoro/qlora, rows at once": artidoro(None),
    "LoRA in float32": ours("lora"),
    "full fine-tuning": ours("full"),
}


def available_recipes() -> tuple[dict[str, Callable], list[str]]:
    """RECIPES that can run here, and a line for each kind that cannot."""
    from lab_utils.start.hardware import has_fast_bfloat16

    missing = {}
    if importlib.util.find_spec("trl") is None:
        missing["TRL SFTTrainer"] = TRL_MISSING
    if not has_fast_bfloat16("cpu"):
        missing[IN_BFLOAT16] = f"{IN_BFLOAT16}: left out, this processor has no units for it"
    there = {name: recipe for name, recipe in RECIPES.items() if name not in missing}
    return there, list(missing.values())


# --------------------------------------------------------------------------------------- the result
def outcome_of(
    speeds: dict[str, float], losses: dict[str, float], left_out: list[str], mine: str = "ours"
) -> Outcome:
    """The table, in which `mine` is held against the others, and a problem for each goal that was
    missed.
    """
    import torch

    own, lines, problems = speeds.get(mine), [], []
    measures = [
        Measure(f"{name}, tokens per second", speed, "tokens/s", "higher")
        for name, speed in speeds.items()
    ]
    measures += [
        Measure(f"{name}, held-out loss", loss, "nats", "lower") for name, loss in losses.items()
    ]
    lines.append(
        f"{torch.get_num_threads()} threads; the ratios are those of {mine}\n"
        f"{'':<30}{'tokens/s':>10}{'ratio':>9}{'held-out loss':>15}"
    )
    for name, speed in speeds.items():
        ratio = f"{own / speed:.2f} x" if own else ""
        lines.append(f"{name:<30}{speed:>10.0f}{ratio:>9}{losses[name]:>15.3f}")
        if own and name != mine:
            measures.append(Measure(f"{mine} / {name}", own / speed, "ratio", "higher"))
        if own and name in FASTER_THAN and own / speed < FASTER_THAN[name]:
            problems.append(
                f"{mine} is {own / speed:.2f} times as fast as {name}: {FASTER_THAN[name]} was the "
                "goal"
            )
        if own and name in FASTER_THAN and losses[mine] - losses[name] > SAME_LOSS:
            problems.append(f"{mine} ends {losses[mine] - losses[name]:.2f} nats above {name}")
    return Outcome(measures, "\n".join([*lines, *left_out]), problems)
