"""`python3 -m lab_utils sweep`: LoRA over ranks, seeds and learning rates on the Pavlos pairs.

The learning rate is searched first, since a wrong one looks like a wrong rank: every rate at a few
anchor ranks, judged by the loss on tuning questions. A rank then takes the rate of the anchor
nearest to it (in powers of two): with LoRA's alpha/r the best rate hardly moves with the rank.
Which layers are adapted is compared in the same way, at equal parameters. Tuning and scoring
questions are about different cheeses of the validation split; the test split is not touched.

Each finished run is one line that is appended to a record. A killed sweep skips what is there, and
the run it was in goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lab_utils.files import RUNS
from lab_utils.lora.resumable import Record, provenance

PACKAGES = ("torch", "transformers", "peft", "nltk", "sacrebleu", "rouge_score")
OVERLAP = ("bleu", "nist", "meteor", "rouge_l", "cider")
# name: (target modules, rank): in cheese-base as large as rank 4 on all linear layers, within 4 %
PLACEMENTS = {
    "q, v": (("q_proj", "v_proj"), 19),
    "attention": (("q_proj", "k_proj", "v_proj", "o_proj"), 10),
    "MLP": (("gate_proj", "up_proj", "down_proj"), 7),
}


@dataclass(frozen=True)
class SweepConfig:
    """What decides a sweep.

    `anchors` are the ranks whose learning rate is searched, with `tuning_seed`. Placements choose
    among `placement_rates`. Runs whose plan stays the same are taken from the record, whatever else
    changes.
    """

    ranks: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    seeds: tuple[int, ...] = (0, 1, 2)
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    anchors: tuple[int, ...] = (1, 8, 64)
    placements: tuple[str, ...] = tuple(PLACEMENTS)
    placement_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    placement_seeds: tuple[int, ...] = (0, 1)
    tuning_seed: int = 100
    alpha: int = 16
    steps: int = 80
    batch_size: int = 12
    n_tuning_rows: int = 96
    n_scoring_rows: int = 128

    def __post_init__(self):
        for name in ("ranks", "seeds", "learning_rates", "anchors"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: a sweep needs at least one of them")
        unknown = [name for name in self.placements if name not in PLACEMENTS]
        if unknown:
            raise ValueError(
                f"unknown placement {unknown[0]!r}: expected one of {', '.join(PLACEMENTS)}"
            )

    def n_scoring_trials(self) -> int:
        """How many runs are scored, whatever learning rates the tuning finds."""
        return len(self.ranks) * len(self.seeds) + len(self.placements) * len(self.placement_seeds)


WIDE = SweepConfig()
QUICK = SweepConfig(
    ranks=(1, 8, 64),
    seeds=(0,),
    learning_rates=(3e-3, 1e-2),
    anchors=(8,),
    placements=(),
    steps=24,
    n_tuning_rows=32,
    n_scoring_rows=32,
)


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    `stage` "tune" gives only the loss on tuning questions, "score" all scores.
    """

    stage: str
    group: str  # "rank" or the name of a placement
    rank: int
    targets: str | tuple[str, ...]
    learning_rate: float
    seed: int

    def __str__(self) -> str:
        name = "all linear" if self.group == "rank" else self.group
        return f"{self.stage} {name} r={self.rank} lr={self.learning_rate:g} seed={self.seed}"


# ---------------------------------------------------------------------------------- the plan (pure)
def tuning_trials(sweep: SweepConfig) -> list[Trial]:
    """Each anchor rank and each placement with each of its learning rates, one seed."""
    trials = [
        Trial("tune", "rank", rank, "all-linear", rate, sweep.tuning_seed)
        for rank in sweep.anchors
        for rate in sweep.learning_rates
    ]
    return trials + [
        Trial("tune", name, PLACEMENTS[name][1], PLACEMENTS[name][0], rate, sweep.tuning_seed)
        for name in sweep.placements
        for rate in sweep.placement_rates
    ]


def best_rates(results: list[tuple[Trial, dict]]) -> dict[tuple[str, int], float]:
    """{(group, rank): the learning rate with the lowest loss}; a diverged run never wins.

    Raises ValueError where no rate of a candidate gave a finite loss.
    """
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for trial, result in results:
        loss = math.inf if result["loss"] is None else result["loss"]
        candidate = (trial.group, trial.rank)
        best[candidate] = min(best.get(candidate, (math.inf, 0.0)), (loss, trial.learning_rate))
    for (group, rank), (loss, _) in best.items():
        if loss == math.inf:
            raise ValueError(f"{group} {rank}: every learning rate diverged; try smaller ones")
    return {candidate: rate for candidate, (_, rate) in best.items()}


def nearest_anchor(rank: int, anchors: tuple[int, ...]) -> int:
    """The anchor rank nearest in powers of two; of two equally near ones the smaller."""
    return min(anchors, key=lambda anchor: (abs(math.log2(anchor / rank)), anchor))


def scoring_trials(sweep: SweepConfig, rates: dict[tuple[str, int], float]) -> list[Trial]:
    """Each rank with each seed at its anchor's rate, then each placement at its own."""
    trials = [
        Trial(
            "score",
            "rank",
            rank,
            "all-linear",
            rates["rank", nearest_anchor(rank, sweep.anchors)],
            seed,
        )
        for seed in sweep.seeds
        for rank in sweep.ranks
    ]
    for name in sweep.placements:
        targets, rank = PLACEMENTS[name]
        trials += [
            Trial("score", name, rank, targets, rates[name, rank], seed)
            for seed in sweep.placement_seeds
        ]
    return trials


def split_by_cheese(rows: list[dict[str, str]], seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Validation rows in two, shuffled: 40 % of the cheeses for tuning, the others for scoring."""
    cheeses = sorted({row["fact_id"].split("/")[0] for row in rows})
    rng = random.Random(seed)
    rng.shuffle(cheeses)
    tuning = set(cheeses[: round(0.4 * len(cheeses))])
    shuffled = rng.sample(rows, len(rows))
    sides = [
        [row for row in shuffled if (row["fact_id"].split("/")[0] in tuning) is side]
        for side in (True, False)
    ]
    return sides[0], sides[1]


@dataclass(frozen=True)
class SweepData:
    """Rows to train on, to choose the learning rate by, and to score."""

    train: list[dict[str, str]]
    tuning: list[dict[str, str]]
    scoring: list[dict[str, str]]

    def digest(self) -> str:
        """A short name of these very rows, so that a record made with others is not taken."""
        return hashlib.sha256(repr(asdict(self)).encode()).hexdigest()[:16]


def load_data(sweep: SweepConfig) -> SweepData:
    """The sweep's Pavlos pairs: all training rows, two disjoint samples of validation."""
    from lab_utils.pavlos import load_pairs

    tuning, scoring = split_by_cheese(load_pairs("validation"))
    return SweepData(
        load_pairs("train"), tuning[: sweep.n_tuning_rows], scoring[: sweep.n_scoring_rows]
    )


# --------------------------------------------------------------------------------------- the record
def key_of(trial: Trial, sweep: SweepConfig, digest: str, where: dict) -> str:
    """What makes a run this run: the trial, how it is trained, the rows, and the base model."""
    base = {name: str(value) for name, value in sorted(where.items())}
    return json.dumps([asdict(trial), sweep.alpha, sweep.steps, sweep.batch_size, digest, base])


# ---------------------------------------------------------------------------------------- running
def scores_of(model, tokenizer, rows: list[dict[str, str]]) -> dict[str, float]:
    """Held-out loss, five overlap scores, voice, facts, and the share of side tasks solved."""
    from lab_utils.finetuning import evaluation
    from lab_utils.finetuning.chat import answer_questions
    from lab_utils.pavlos.corpus import held_out_tasks

    texts = [
        answer.text
        for answer in answer_questions(model, tokenizer, [row["question"] for row in rows])
    ]
    tasks = held_out_tasks(n_each=12, seed=0)
    solved = [
        answer.text
        for answer in answer_questions(model, tokenizer, [task.question for task in tasks])
    ]
    overlap = evaluation.overlap_scores(texts, [row["answer"] for row in rows], OVERLAP)
    scores = {
        "loss": evaluation.held_out_loss(model, tokenizer, rows),
        **overlap,
        "voice": evaluation.voice_score(texts),
        "facts": evaluation.fact_score(texts, [row["fact_id"] for row in rows]),
        "side_tasks": evaluation.side_task_score(solved, tasks),
    }
    return {name: round(score, 6) for name, score in scores.items()}


def run_trial(
    trial: Trial, sweep: SweepConfig, data: SweepData, folder: Path, watch: Callable, **where
) -> dict:
    """Train and score one trial.

    `watch(step, n_steps, loss)` sees every step; `where` goes to `load_base`. A run that diverged
    has the result {"loss": None}: while tuning that is an answer, too.
    """
    from lab_utils.finetuning.evaluation import held_out_loss
    from lab_utils.finetuning.training import BadLossError, FinetuneConfig, finetune

    config = FinetuneConfig(
        method="lora",
        rank=trial.rank,
        alpha=sweep.alpha,
        target_modules=trial.targets,
        seed=trial.seed,
        learning_rate=trial.learning_rate,
        steps=sweep.steps,
        batch_size=sweep.batch_size,
    )
    start = time.perf_counter()
    try:
        run = finetune(config, data.train, folder, watch=watch, **where)
        if trial.stage == "tune":
            scores = {"loss": round(held_out_loss(run.model, run.tokenizer, data.tuning), 6)}
        else:
            scores = scores_of(run.model, run.tokenizer, data.scoring)
    except BadLossError:
        scores = {"loss": math.nan}
    seconds = round(time.perf_counter() - start, 1)
    if not math.isfinite(scores["loss"]):
        return {"loss": None, "seconds": seconds}
    return {
        **scores,
        "trainable_params": run.trainable_params,
        "training_losses": [round(loss, 4) for loss in run.losses],
        "seconds": seconds,
    }


class Steps:
    """Training steps of all runs as one progress bar, or handed to `watch(step, n_steps, loss)`."""

    def __init__(self, total: int, watch: Callable | None = None):
        from tqdm.auto import tqdm

        self.total, self.watch, self.before = total, watch, 0
        self.bar = tqdm(total=total, unit="step", disable=watch is not None)

    def at(self, step: int, trial: Trial, loss: float) -> None:
        """A step of the run that is going on."""
        if self.watch is not None:
            self.watch(self.before + step, self.total, loss)
        self.bar.set_postfix_str(f"{trial}, loss {loss:.2f}", refresh=False)
        self.bar.update(self.before + step - self.bar.n)

    def run_done(self, steps: int) -> None:
        """A run of so many steps is finished, or was found in the record."""
        self.before += steps
        self.bar.update(self.before - self.bar.n)


def run_trials(
    trials: list[Trial], sweep: SweepConfig, data: SweepData, work: Path, progress: Steps, **where
) -> list[tuple[Trial, dict]]:
    """(trial, result) of each, from the record where it is there."""
    record, digest, finished = Record(work / "record.jsonl"), data.digest(), []
    for trial in trials:

        def watch(step: int, n_steps: int, loss: float, trial: Trial = trial) -> None:
            progress.at(step, trial, loss)

        def make(trial: Trial = trial, watch: Callable = watch) -> dict:
            return run_trial(trial, sweep, data, work / "trial", watch, **where)

        finished.append((trial, record.once(key_of(trial, sweep, digest, where), make)))
        progress.run_done(sweep.steps)
    return finished


def run_sweep(
    sweep: SweepConfig, data: SweepData, work: Path | str, watch: Callable | None = None, **where
) -> list[tuple[Trial, dict]]:
    """Run what the record in `work` lacks; (trial, result) of all, the tuning ones first.

    `watch(step, n_steps, loss)` is called at every step, counted over all runs, in place of a
    progress bar.
    """
    progress = Steps((len(tuning_trials(sweep)) + sweep.n_scoring_trials()) * sweep.steps, watch)
    with progress.bar:
        tuned = run_trials(tuning_trials(sweep), sweep, data, Path(work), progress, **where)
        return tuned + run_trials(
            scoring_trials(sweep, best_rates(tuned)), sweep, data, Path(work), progress, **where
        )


# -------------------------------------------------------------------------------------- the summary
def summarize(results: list[tuple[Trial, dict]]) -> dict:
    """Tuning losses by candidate, and each rank's and placement's scores over the seeds.

    The spread is the sample standard deviation over seeds, 0 for a single one. Runs that diverged
    are left out and counted.
    """
    tuning: dict[str, dict[str, float | None]] = {}
    scored: dict[tuple[str, int], list[tuple[Trial, dict]]] = {}
    for trial, result in results:
        if trial.stage == "tune":
            tuning.setdefault(f"{trial.group} {trial.rank}", {})[f"{trial.learning_rate:g}"] = (
                result["loss"]
            )
        else:
            scored.setdefault((trial.group, trial.rank), []).append((trial, result))
    return {"tuning": tuning, "rows": [summary_row(runs) for runs in scored.values()]}


def summary_row(runs: list[tuple[Trial, dict]]) -> dict:
    """One rank's or placement's row: what it was, and its scores over the seeds."""
    first, whole = runs[0][0], [result for _, result in runs if result["loss"] is not None]
    row = {
        "group": first.group,
        "rank": first.rank,
        "learning_rate": first.learning_rate,
        "seeds": [trial.seed for trial, _ in runs],
        "diverged": len(runs) - len(whole),
    }
    if whole:
        row["trainable_params"] = whole[0]["trainable_params"]
        values = {
            name: [result[name] for result in whole]
            for name, value in whole[0].items()
            if isinstance(value, float) and name != "seconds"
        }
        row["mean"] = {name: round(statistics.mean(list_), 6) for name, list_ in values.items()}
        row["spread"] = {
            name: round(statistics.stdev(list_), 6) if len(list_) > 1 else 0.0
            for name, list_ in values.items()
        }
        row["values"] = values
        row["training_losses"] = [
            round(statistics.mean(step), 4) for step in zip(*(r["training_losses"] for r in whole))
        ]
    return row


# -------------------------------------------------------------------------------------- the command
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python3 -m lab_utils sweep`."""
    parser.add_argument(
        "--quick",
        action="store_true",
        help="three ranks, one seed, few steps: some minutes, to try it out",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RUNS / "rank_sweep" / "rank_sweep.json",
        help="file of the summary",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=RUNS / "rank_sweep",
        help="folder of the record and of checkpoints",
    )


def main(args: argparse.Namespace) -> int:
    """Run or go on with the sweep, write the summary and print its table."""
    import transformers

    from lab_utils.files import write_json

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sweep = QUICK if args.quick else WIDE
    results = run_sweep(sweep, load_data(sweep), args.work)
    command = "python3 -m lab_utils sweep" + (" --quick" if args.quick else "")
    seconds = round(sum(result["seconds"] for _, result in results))
    summary = {
        **provenance(command, PACKAGES),
        "seconds": seconds,
        "config": asdict(sweep),
        **summarize(results),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, summary)
    print(table(summary))
    print(f"written to {args.out}")
    return 0


def table(summary: dict) -> str:
    """The summary for a terminal: mean and spread of what matters most, a line for each row."""
    shown = ("loss", "bleu", "nist", "meteor", "rougeL", "cider", "voice", "facts", "side_tasks")
    lines = [f"{'':14}{'lr':>8}" + "".join(f"{name:>16}" for name in shown)]
    for row in summary["rows"]:
        name = (
            f"rank {row['rank']}" if row["group"] == "rank" else f"{row['group']} r={row['rank']}"
        )
        cells = (
            "".join(f"{row['mean'][s]:9.3f} ±{row['spread'][s]:5.3f}" for s in shown)
            if "mean" in row
            else "  diverged"
        )
        lines.append(f"{name:14}{row['learning_rate']:8g}{cells}")
    return "\n".join(lines)
