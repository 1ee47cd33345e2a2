"""What a method is worth: its answers, what it forgot, its speed, and the lecture's five axes."""

from __future__ import annotations

import math
import random

import torch

from lab_utils.finetuning.chat import answer_questions, encode_prompt, pad_left
from lab_utils.finetuning.evaluation import fact_score, voice_score
from lab_utils.finetuning.training import FinetuneResult
from lab_utils.lora.methods import MethodConfig, Row, predicted_bytes, trained_bytes
from lab_utils.memory.sizes import Architecture
from lab_utils.pavlos.corpus import TASKS, SideTask, make_task

# ---------------------------------------------------------------------------------------- scores
ROUGES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def rouge_scores(answers: list[str], references: list[str]) -> dict[str, float]:
    """Mean F-measures, 0 to 1, of the ROUGEs in the lecture's chart (Lin 2004).

    Words, pairs of words, and longest common subsequences.
    """
    from rouge_score.rouge_scorer import RougeScorer

    if not answers:
        raise ValueError("no answers to score: expected at least one")
    scorer = RougeScorer(ROUGES)
    scores = [
        scorer.score(reference, answer)
        for answer, reference in zip(answers, references, strict=True)
    ]
    return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in ROUGES}


def answers_of(model, tokenizer, questions: list[str]) -> list[str]:
    """The model's greedy answers; soft prompts get questions of equal length in a batch.

    PEFT puts the virtual tokens before the padding and drops the position ids, so that padding
    comes between prompt and question: with peft 0.21 most answers of a padded batch differ from
    those given one by one (huggingface/peft#1093).
    """
    if (
        getattr(model, "active_peft_config", None) is None
        or not model.active_peft_config.is_prompt_learning
    ):
        return [answer.text for answer in answer_questions(model, tokenizer, questions)]
    by_length: dict[int, list[int]] = {}
    for i, question in enumerate(questions):
        by_length.setdefault(len(encode_prompt(tokenizer, question)), []).append(i)
    texts = [""] * len(questions)
    for chosen in by_length.values():
        for i, answer in zip(
            chosen, answer_questions(model, tokenizer, [questions[i] for i in chosen]), strict=True
        ):
            texts[i] = answer.text
    return texts


def solved_by_task(model, tokenizer, tasks: list[SideTask]) -> dict[str, float]:
    """Share of the side tasks solved, task by task: {"addition": 0.2, ...}."""
    right: dict[str, list[bool]] = {}
    for task, answer in zip(
        tasks, answers_of(model, tokenizer, [task.question for task in tasks]), strict=True
    ):
        right.setdefault(task.task, []).append(task.is_right(answer))
    return {name: sum(flags) / len(flags) for name, flags in right.items()}


def forgetting(before: dict[str, float], after: dict[str, float]) -> float:
    """Mean share of tasks lost over the kinds of task: 0.1 is one task in ten."""
    if before.keys() != after.keys() or not before:
        raise ValueError(
            f"before and after must have the same tasks, got {sorted(before)} and {sorted(after)}"
        )
    return sum(before[name] - after[name] for name in before) / len(before)


def scores_of(
    model,
    tokenizer,
    rows: list[Row],
    tasks: list[SideTask],
    base_tasks: dict[str, float] | None = None,
) -> dict:
    """What a model is worth, in shares from 0 to 1, and what it forgot.

    Pavlos' voice, facts, the ROUGEs, side tasks. `forgetting` is counted against `base_tasks`, the
    base's share by task; without it, against the model itself (0).
    """
    answers = answers_of(model, tokenizer, [row["question"] for row in rows])
    tasks_now = solved_by_task(model, tokenizer, tasks)
    return {
        "voice": voice_score(answers),
        "facts": fact_score(answers, [row["fact_id"] for row in rows]),
        **rouge_scores(answers, [row["answer"] for row in rows]),
        "tasks": tasks_now,
        "forgetting": forgetting(base_tasks or tasks_now, tasks_now),
    }


# ------------------------------------------------------------------------ replay against forgetting
def replay_size(n_rows: int, share: float) -> int:
    """How many rows to add to `n_rows` to make up `share` of all.

    Raises ValueError for a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}: expected from 0 (no replay) to below 1")
    return round(n_rows * share / (1 - share))


def with_replay(rows: list[Row], share: float, seed: int = 0) -> list[Row]:
    """`rows` mixed with plainly answered side tasks, which make up `share` of all.

    Multi-task fine-tuning in small: the base met such tasks in pretraining, and is reminded of
    them.
    """
    rng = random.Random(seed)
    tasks = [make_task(rng.choice(list(TASKS)), rng) for _ in range(replay_size(len(rows), share))]
    mixed = [*rows, *({"question": task.question, "answer": task.answer} for task in tasks)]
    rng.shuffle(mixed)
    return mixed


# ---------------------------------------------------------------------------------------- speed
@torch.no_grad()
def speak(model, tokenizer, questions: list[str], n_new: int = 32) -> int:
    """Generate exactly `n_new` tokens for every question, for timing; the number of tokens."""
    ids, mask = pad_left(
        [encode_prompt(tokenizer, question) for question in questions], tokenizer.pad_token_id
    )
    model.eval().generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        min_new_tokens=n_new,
        max_new_tokens=n_new,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    return n_new * len(questions)


# ----------------------------------------------------------------------------- rows of metrics.json
def metrics_row(row: dict, source: str) -> dict:
    """A method's row of `runs/07/metrics.json`, from a row of the wide comparison.

    Bytes are totals.
    """
    kept = ("trainable", "bytes_disk", "seconds_per_step", "voice", "facts", "rougeL", "forgetting")
    return {
        "source": source,
        **{name: row[name] for name in kept},
        "predicted_bytes": sum(row["predicted_bytes"].values()),
        "measured_bytes": sum(row["measured_bytes"].values()),
        "tokens_per_second_inference": row["tokens_per_second"],
    }


def measured_row(
    run: FinetuneResult, config: MethodConfig, scores: dict, tokens_per_second: float
) -> dict:
    """The same for a run that was just made, with the scores that `scores_of` gave it."""
    architecture = Architecture.of(run.model.config)
    return metrics_row(
        {
            **{name: round(value, 4) for name, value in scores.items() if name != "tasks"},
            "trainable": run.trainable_params,
            "bytes_disk": trained_bytes(run.model),
            "seconds_per_step": round(run.seconds / config.steps, 4),
            "predicted_bytes": predicted_bytes(architecture, config),
            "measured_bytes": run.measured_bytes,
            "tokens_per_second": round(tokens_per_second, 1),
        },
        "measured here",
    )


# -------------------------------------------------------------------------- the lecture's five axes
AXES = ("few parameters", "little memory", "fast training", "good answers", "fast answers")


def five_axes(
    methods: dict[str, dict], base_tokens_per_second: float
) -> dict[str, dict[str, float]]:
    """Each method on the lecture's five axes, 1 best: {method: {axis: share}}.

    `methods` are rows of the wide comparison. Parameters on a log scale from the most to the
    fewest; memory and seconds as the least of all divided by one's own; answers as the mean of
    voice and facts; speed of answering against the bare base, merged where that is possible.
    """
    trained = [row["trainable"] for row in methods.values()]
    memory = {name: sum(row["measured_bytes"].values()) for name, row in methods.items()}
    seconds = [row["seconds_per_step"] for row in methods.values()]

    def shares(name: str, row: dict) -> tuple[float, ...]:
        few = math.log(max(trained) / row["trainable"]) / math.log(max(trained) / min(trained))
        speed = (
            row["tokens_per_second_merged"] or row["tokens_per_second"]
        ) / base_tokens_per_second
        return (
            few,
            min(memory.values()) / memory[name],
            min(seconds) / row["seconds_per_step"],
            (row["voice"] + row["facts"]) / 2,
            min(speed, 1.0),
        )

    return {name: dict(zip(AXES, shares(name, row), strict=True)) for name, row in methods.items()}
