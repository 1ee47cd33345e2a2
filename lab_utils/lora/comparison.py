"""`python3 -m lab_utils methods`: every PEFT method on cheese-base, each at its own learning rate.

For each method three learning rates are tried, and more while the best is at the edge; the loss on
validation questions chooses. The chosen rate is trained with two seeds, and only then are the test
questions asked. What a run trained is kept in a folder of its own, its results in one record: the
same command goes on where a killed one stopped.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lab_utils.files import ROOT, RUNS, write_json
from lab_utils.lora.resumable import Record, provenance
from lab_utils.start.timing import seconds_alternating

RECORD = ROOT / "data" / "reference" / "peft_methods.json"
MOST_RATES, SEEDS = 5, (0, 1)
N_VALIDATION, N_TEST, N_EACH_TASK = 96, 128, 25
REPLAYS = (("lora", 0.1), ("lora", 0.25), ("lora", 0.5), ("full", 0.25))
VERSIONS = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass
class Comparison:
    """A wide comparison: what is trained and asked, and the folder of finished runs."""

    work: Path
    steps: int
    batch_size: int
    methods: tuple[str, ...]
    where: dict  # goes to `load_base`; a test takes a tiny base

    @cached_property
    def record(self) -> Record:
        """The results so far."""
        return Record(self.work / "record.jsonl")

    def config(self, method: str, rate: float | None = None, seed: int = 0):
        """The method's configuration; `rate` None is its usual learning rate."""
        from lab_utils.lora.methods import MethodConfig

        return MethodConfig(
            method, steps=self.steps, batch_size=self.batch_size, learning_rate=rate, seed=seed
        )


def trained_once(plan: Comparison, config, share: float = 0.0) -> dict:
    """Train one configuration, keep its tensors; its losses, bytes and validation loss."""
    from lab_utils.finetuning.evaluation import held_out_loss
    from lab_utils.lora import methods, scoring
    from lab_utils.pavlos import load_pairs

    folder = folder_of(plan, config, share)

    def make() -> dict:
        rows = load_pairs("train")
        rows = scoring.with_replay(rows, share, config.seed) if share else rows
        start = time.process_time()
        result = methods.train(config, rows, folder / "run", lambda *_: None, **plan.where)
        file = methods.save_trained(result.model, folder)
        loss = held_out_loss(
            result.model, result.tokenizer, load_pairs("validation")[:N_VALIDATION]
        )
        return {
            "method": config.method,
            "learning_rate": config.rate,
            "seed": config.seed,
            "replay": share,
            "trainable": result.trainable_params,
            "bytes_disk": file.stat().st_size,
            "measured_bytes": result.measured_bytes,
            "validation_loss": round(loss, 4),
            "cpu_seconds": round(time.process_time() - start, 1),
            "losses": [round(x, 3) for x in result.losses],
        }

    return plan.record.once(f"{folder.name}, training", make)


def folder_of(plan: Comparison, config, share: float = 0.0) -> Path:
    """Where a run is kept; its name holds all that tells runs apart."""
    return (
        plan.work
        / f"{config.method}-{config.rate:g}-seed{config.seed}-replay{share:g}-{config.steps}x"
        f"{config.batch_size}"
    )


def tested_once(plan: Comparison, config, share: float = 0.0) -> dict:
    """Ask a trained run the test questions and the side tasks."""
    from lab_utils.lora import methods, scoring

    folder = folder_of(plan, config, share)
    base_tasks = base_once(plan)["tasks"]

    def make() -> dict:
        model, tokenizer = methods.load_trained(config, folder, **plan.where)
        return rounded(scoring.scores_of(model, tokenizer, *asked(), base_tasks))

    return plan.record.once(f"{folder.name}, test", make)


def base_once(plan: Comparison) -> dict:
    """The scores of the untouched base."""
    from lab_utils.finetuning.base_model import load_base
    from lab_utils.lora import scoring

    def make() -> dict:
        return rounded(scoring.scores_of(*load_base(**plan.where), *asked()))

    return plan.record.once("base", make)


def asked() -> tuple[list[dict], list]:
    """The test questions and the side tasks of the record."""
    import random

    from lab_utils.pavlos import load_pairs
    from lab_utils.pavlos.corpus import held_out_tasks

    rows = load_pairs("test")
    random.Random(0).shuffle(rows)
    return rows[:N_TEST], held_out_tasks(N_EACH_TASK, seed=0)


def rounded(scores):
    """Numbers to four places, also inside dictionaries."""
    if isinstance(scores, dict):
        return {name: rounded(value) for name, value in scores.items()}
    return round(scores, 4) if isinstance(scores, float) else scores


def best_rate(
    plan: Comparison, method: str, say: Callable[[str], None]
) -> tuple[float, dict[str, float]]:
    """(rate, {rate: validation loss}): three rates, then more while the best is at an edge.

    Each next one is three times off.
    """
    from lab_utils.lora.methods import METHODS

    losses: dict[float, float] = {}
    waiting = list(METHODS[method].rates)
    while waiting:
        rate = waiting.pop(0)
        say(f"{method}, rate {rate:g}")
        losses[rate] = trained_once(plan, plan.config(method, rate))["validation_loss"]
        if not waiting and len(losses) < MOST_RATES:
            waiting = next_rate(losses)
    return min(losses, key=losses.get), {f"{rate:g}": loss for rate, loss in sorted(losses.items())}


def next_rate(losses: dict[float, float]) -> list[float]:
    """The rate beyond the edge if the best one is at an edge, else none."""
    best = min(losses, key=losses.get)
    if best == max(losses):
        return [float(f"{best * 3:.1g}")]
    return [float(f"{best / 3:.1g}")] if best == min(losses) else []


def mean_of(records: list[dict]) -> dict:
    """The mean of several seeds' scores, and of the dictionaries in them."""
    return {
        name: mean_of([record[name] for record in records])
        if isinstance(value, dict)
        else round(statistics.mean(record[name] for record in records), 4)
        for name, value in records[0].items()
    }


def method_record(plan: Comparison, method: str, say: Callable[[str], None]) -> dict:
    """One method's row: search, two seeds, test."""
    from lab_utils.finetuning.base_model import load_base
    from lab_utils.lora.methods import predicted_bytes
    from lab_utils.memory.sizes import Architecture

    rate, search = best_rate(plan, method, say)
    configs = [plan.config(method, rate, seed) for seed in SEEDS]
    runs, tests = [], []
    for config in configs:
        say(f"{method}, rate {rate:g}, seed {config.seed}, test")
        runs.append(trained_once(plan, config))
        tests.append(tested_once(plan, config))
    predicted = predicted_bytes(Architecture.of(load_base(**plan.where)[0].config), configs[0])
    return {
        "learning_rate": rate,
        "search": search,
        "trainable": runs[0]["trainable"],
        "bytes_disk": runs[0]["bytes_disk"],
        "predicted_bytes": predicted,
        "measured_bytes": runs[0]["measured_bytes"],
        "losses": runs[0]["losses"],
        **mean_of(tests),
        "seeds": tests,
    }


def replay_records(
    plan: Comparison, rates: dict[str, float], say: Callable[[str], None]
) -> list[dict]:
    """Rows of replay: the method, the share, the scores.

    For LoRA at a quarter also with as many more steps as keep the number of pairs seen.
    """
    made = []
    for method, share in REPLAYS:
        longer = [1, 1 / (1 - share)] if (method, share) == ("lora", 0.25) else [1]
        for times in longer if method in rates else []:
            configs = [
                replace(plan.config(method, rates[method], seed), steps=round(plan.steps * times))
                for seed in SEEDS
            ]
            tests = []
            for config in configs:
                say(f"{method}, replay {share:g}, {config.steps} steps, seed {config.seed}")
                trained_once(plan, config, share)
                tests.append(tested_once(plan, config, share))
            made.append(
                {"method": method, "replay": share, "steps": configs[0].steps, **mean_of(tests)}
            )
    return made


# ---------------------------------------------------------------------------------------- speed
def one_step(model, batch: dict, optimizer) -> None:
    """One training step on a batch that stays the same."""
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def step_seconds(plan: Comparison, repeats: int) -> dict[str, float]:
    """CPU seconds of a training step of each method, on the same batch."""
    import torch

    from lab_utils.finetuning.training import PadRight, PairDataset
    from lab_utils.lora import methods
    from lab_utils.pavlos import load_pairs

    calls = {}
    for method in plan.methods:
        model, tokenizer = methods.load_for_method(plan.config(method), **plan.where)
        data = PairDataset(load_pairs("train")[: plan.batch_size], tokenizer)
        batch = PadRight(tokenizer.pad_token_id)(list(data.pairs))
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        calls[method] = lambda model=model, batch=batch, optimizer=optimizer: one_step(
            model.train(), batch, optimizer
        )
    return seconds_alternating(calls, repeats, time.process_time)


def speaking_speed(plan: Comparison, rates: dict[str, float], repeats: int) -> dict[str, float]:
    """Tokens per CPU second while answering, for "base", each method, and "<method>, merged".

    Merged where that makes something new.
    """
    from lab_utils.finetuning.base_model import load_base
    from lab_utils.lora import methods, scoring
    from lab_utils.pavlos import load_pairs

    questions = [row["question"] for row in load_pairs("test")[:16]]
    models = {"base": load_base(**plan.where)}
    for method in plan.methods:
        config = plan.config(method, rates[method])
        models[method] = methods.load_trained(config, folder_of(plan, config), **plan.where)
        if methods.METHODS[method].merges and hasattr(models[method][0], "peft_config"):
            models[f"{method}, merged"] = (
                methods.merged(models[method][0], config, **plan.where),
                models[method][1],
            )
    calls = {
        name: lambda pair=pair: scoring.speak(*pair, questions) for name, pair in models.items()
    }
    n_tokens = scoring.speak(*models["base"], questions)
    times = seconds_alternating(calls, repeats, time.process_time)
    return {name: round(n_tokens / seconds, 1) for name, seconds in times.items()}


def speed_records(plan: Comparison, rates: dict[str, float], repeats: int) -> dict:
    """Both speeds, measured in one go so that their ratios mean something."""
    return {
        "seconds_per_step": {name: round(s, 4) for name, s in step_seconds(plan, repeats).items()},
        "tokens_per_second": speaking_speed(plan, rates, repeats),
    }


# -------------------------------------------------------------------------------------- the command
def header(plan: Comparison, threads: int) -> dict:
    """Where, when and with what the record was made."""
    command = f"--steps {plan.steps} --batch {plan.batch_size} --threads {threads}"
    runs = [run for key, run in plan.record.results.items() if key.endswith(", training")]
    return {
        **provenance(f"python3 -m lab_utils methods {command}", VERSIONS),
        "what": f"{plan.steps} steps of {plan.batch_size} Pavlos pairs for each method; learning "
        f"rate by the loss on {N_VALIDATION} validation questions, three or more rates with seed "
        f"0; scores are means of seeds 0 and 1 on {N_TEST} test questions and {N_EACH_TASK} of "
        f"each side task; speeds in CPU seconds of {threads} thread(s)",
        "seeds": list(SEEDS),
        "cpu_seconds_of_training": round(sum(run["cpu_seconds"] for run in runs)),
    }


def compare(
    plan: Comparison, threads: int, repeats: int = 7, say: Callable[[str], None] = lambda what: None
) -> dict:
    """The whole record."""
    base = base_once(plan)
    rows = {method: method_record(plan, method, say) for method in plan.methods}
    rates = {method: row["learning_rate"] for method, row in rows.items()}
    replays = replay_records(plan, rates, say)
    say("speed")
    speed = plan.record.once("speed", lambda: speed_records(plan, rates, repeats))
    for method, row in rows.items():
        row["seconds_per_step"] = speed["seconds_per_step"][method]
        row["tokens_per_second"] = speed["tokens_per_second"][method]
        row["tokens_per_second_merged"] = speed["tokens_per_second"].get(f"{method}, merged")
    base["tokens_per_second"] = speed["tokens_per_second"]["base"]
    return {**header(plan, threads), "base": base, "methods": rows, "replay": replays}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `methods` understands."""
    parser.add_argument(
        "--steps", type=int, default=80, help="training steps of each run (default 80)"
    )
    parser.add_argument("--batch", type=int, default=8, help="pairs in a step (default 8)")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of torch (default 1: speeds are CPU seconds)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RECORD,
        help="the record (default data/reference/peft_methods.json)",
    )
    parser.add_argument(
        "--work", type=Path, default=RUNS / "07" / "methods", help="where finished runs are kept"
    )


def main(args: argparse.Namespace) -> int:
    """Run the comparison with a progress bar, write the record and print its table."""
    import torch
    import transformers
    from tqdm import tqdm

    from lab_utils.lora.methods import METHODS

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    plan = Comparison(args.work, args.steps, args.batch, tuple(METHODS), {})
    # fewer, if a search ends early
    most = (MOST_RATES + len(SEEDS)) * len(METHODS) + len(SEEDS) * (len(REPLAYS) + 1) + 1
    with tqdm(total=most, unit="run") as bar:

        def say(what: str) -> None:
            bar.update()
            bar.set_description(what)

        record = compare(plan, args.threads, say=say)
    write_json(args.out, record)
    for method, row in record["methods"].items():
        print(
            f"{method:10}{row['trainable']:>10,} trained  rate {row['learning_rate']:<7g} voice "
            f"{row['voice']:.2f}  facts {row['facts']:.2f}  forgotten {row['forgetting']:+.2f}"
        )
    return 0
