"""`python3 -m lab_utils pretrain`: make cheese-base, measure it, and write its card.

How the model is made stands in `finetuning.pretraining`; the same command goes on where a killed
one stopped.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from lab_utils.files import RUNS
from lab_utils.finetuning.base_model import CHEESE_BASE
from lab_utils.finetuning.pretraining import PretrainConfig, Pretraining, export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python3 -m lab_utils pretrain`."""
    parser.add_argument(
        "--out", type=Path, default=CHEESE_BASE, help="folder of the finished model"
    )
    parser.add_argument(
        "--work", type=Path, default=RUNS / "pretrain", help="folder of the checkpoint"
    )
    parser.add_argument("--steps", type=int, default=PretrainConfig.steps)
    parser.add_argument("--seed", type=int, default=PretrainConfig.seed)


def main(args: argparse.Namespace) -> int:
    """Pretrain, export, and say where the model is."""
    from lab_utils.course.model_card import write_card

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = Pretraining(PretrainConfig(steps=args.steps, seed=args.seed), args.work)
    run.run()
    export(run, args.out)
    scores = write_card(args.out)
    print(", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    print(
        f"cheese-base: {run.model.num_parameters():,} parameters, {run.seconds / 60:.0f} minutes, "
        f"in {args.out}"
    )
    return 0
