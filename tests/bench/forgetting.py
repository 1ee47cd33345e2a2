"""What a real model learns of Pavlos and what it forgets meanwhile: lab 09's recipe over methods,
learning rates, with and without rehearsal, several seeds. Validation rows only.

A run takes minutes on a CPU. Each is printed as it ends, and with --keep it is not made again when
the same benchmark goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import Measure, Outcome

VARIANTS = {  # name: (fields of the configuration, share of rehearsal)
    "QLoRA, rank 16, rehearsal": ({"method": "qlora"}, 0.2),
    "QLoRA, rank 16": ({"method": "qlora"}, 0),
    "LoRA, rank 16": ({"method": "lora"}, 0),
    "LoRA, rank 2": ({"method": "lora", "rank": 2, "alpha": 4}, 0),
    "full fine-tuning": ({"method": "full"}, 0),
}
RATES = {"qlora": 1e-3, "lora": 1e-3, "full": 1e-4}
WITHOUT_NOTES = 0.3  # share of the rows
N_HELD_OUT = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which variants, how long, how often."""
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=40, help="of each run (default 40)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default 3)")
    parser.add_argument(
        "--times", type=float, nargs="+", default=[1.0], help="multiples of the usual rates"
    )
    parser.add_argument("--base", metavar="FOLDER", help="another base (default: SmolLM2)")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="finished runs are kept there, and used again"
    )


def measure(args: argparse.Namespace) -> Outcome:
    """Every variant at every rate with every seed: what it knew before and after, and the voice."""
    import transformers

    from lab_utils.finetuning.base_model import load_base
    from lab_utils.finetuning.real_model import knowledge_of, known, rehearsal_rows

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    where = {"source": args.base} if args.base else {"tier": "smollm2"}
    base, tokenizer = load_base(**where)
    before = known(knowledge_of(base, tokenizer, "validation"), "validation")
    rehearsal = rehearsal_rows(base, tokenizer)
    del base
    runs = []
    for seed in range(args.seeds):
        for name in args.variants:
            for times in args.times:
                plan = (name, times, seed, args.steps, before, rehearsal, where)
                runs.append(kept_or_made(plan, args.keep))
                print(said(runs[-1]), flush=True)
    return outcome_of(runs, sum(before) / len(before))


def kept_or_made(plan: tuple, keep: Path | None) -> dict[str, Any]:
    """The run of this plan, from the file of finished runs where it stands there."""
    from lab_utils.lora.resumable import Record

    if keep is None:
        return one_run(*plan)
    return Record(keep).once(json.dumps(plan), lambda: one_run(*plan))


def rows_of(share: float, n_rows: int, rehearsal: list, seed: int) -> list[dict[str, str]]:
    """Template pairs with and without notes, and a share of rehearsal."""
    from lab_utils.finetuning.real_model import mixed_rows, noted
    from lab_utils.pavlos import load_pairs

    plain = load_pairs("train")
    kinds = [(1 - WITHOUT_NOTES - share, noted(plain, seed=0)), (WITHOUT_NOTES, plain)]
    kinds += [(share, rehearsal)] if share else []
    return mixed_rows(kinds, n_rows, seed)


def one_run(
    name: str, times: float, seed: int, steps: int, before: list, rehearsal: list, where: dict
) -> dict[str, Any]:
    """Train one variant, and measure it on validation rows and questions."""
    from lab_utils.finetuning.chat import answer_questions
    from lab_utils.finetuning.evaluation import fact_score, held_out_loss, voice_score
    from lab_utils.finetuning.real_model import (
        LabelledHead,
        PeakMemory,
        give_back_memory,
        knowledge_of,
        known,
        lost_gained_kept,
        noted,
    )
    from lab_utils.finetuning.training import FinetuneConfig, finetune
    from lab_utils.pavlos import load_pairs

    fields, share = VARIANTS[name]
    recipe = FinetuneConfig(
        rank=16, alpha=32, steps=steps, batch_size=8, accumulate=2, group_by_length=True, seed=seed
    )
    config = replace(recipe, learning_rate=times * RATES[fields["method"]], **fields)
    rows = rows_of(share, steps * config.batch_size, rehearsal, seed)
    give_back_memory()
    with tempfile.TemporaryDirectory() as folder, PeakMemory() as peak:
        run = finetune(
            config, rows, Path(folder) / "run", lambda *_: None, trainer_class=LabelledHead, **where
        )
    held_out = noted(random.Random(0).sample(load_pairs("validation"), N_HELD_OUT), seed=1)
    answers = answer_questions(run.model, run.tokenizer, [r["question"] for r in held_out])
    texts = [answer.text for answer in answers]
    after = known(knowledge_of(run.model, run.tokenizer, "validation"), "validation")
    lost, gained, _ = lost_gained_kept(before, after)
    return {
        "variant": name,
        "learning_rate": config.rate,
        "seed": seed,
        "voice": voice_score(texts),
        "facts_with_notes": fact_score(texts, [r["fact_id"] for r in held_out]),
        "held_out_loss": held_out_loss(run.model, run.tokenizer, held_out, batch_size=8),
        "knowledge": sum(after) / len(after),
        "lost": lost,
        "gained": gained,
        "seconds": round(run.seconds, 1),
        "resident_gb_before": round(peak.before / 1e9, 2),
        "resident_gb_at_peak": round(peak.bytes / 1e9, 2),
    }


def said(run: dict[str, Any]) -> str:
    """One run in one line."""
    return (
        f"{run['variant']:<32} rate {run['learning_rate']:.0e} seed {run['seed']}: voice "
        f"{run['voice']:.2f}, facts with notes {run['facts_with_notes']:.2f}, loss "
        f"{run['held_out_loss']:.3f}, knowledge {run['knowledge']:.2f} (lost {run['lost']}, gained "
        f"{run['gained']}), {run['seconds']:.0f} s, peak {run['resident_gb_at_peak']:.2f} GB"
    )


def outcome_of(runs: list[dict[str, Any]], before: float) -> Outcome:
    """Means over the seeds of each variant at each rate; every run is in the details."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(f"{run['variant']}, rate {run['learning_rate']:.0e}", []).append(run)
    measures, lines = [Measure("knowledge of the base", before, "share")], [f"base {before:.2f}"]
    for name, group in groups.items():
        means = {k: statistics.mean(r[k] for r in group) for k in ("knowledge", "held_out_loss")}
        measures.append(Measure(f"{name}, knowledge", means["knowledge"], "share", "higher"))
        measures.append(Measure(f"{name}, held-out loss", means["held_out_loss"], "nats", "lower"))
        lines.append(
            f"{name:<50} knowledge {means['knowledge']:.2f}, loss {means['held_out_loss']:.3f} "
            f"({len(group)} seeds)"
        )
    return Outcome(measures, "\n".join(lines), [], {"before": before, "runs": runs})
