"""What a fine-tuned model is worth, in numbers that a question never trained on decides.

Each score is a pure function of texts, so that controls can be scored like models: gold answers,
the base's answers, answers shuffled between the questions, the greeting alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from lab_utils.finetuning.chat import IGNORED, Answer, answer_questions, encode_pair
from lab_utils.pavlos.corpus import SideTask, speaks_pavlos
from lab_utils.pavlos.facts import all_facts, is_right

METRICS = Path(__file__).resolve().with_name("metrics.py")


@dataclass(frozen=True)
class Scores:
    """Shares between 0 and 1, but `loss` (nats per answer token) and `bleu` (0 to 100)."""

    voice: float  # answers in Pavlos' voice
    facts: float  # answers that give the fact
    ends: float  # answers that ended by themselves
    loss: float  # held-out loss on Pavlos' own answers
    rougeL: float
    bleu: float
    side_tasks: float  # tasks other than cheese that are still solved

    def as_dict(self) -> dict[str, float]:
        """The scores, rounded to four places for a file."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def _check_some(things: list) -> None:
    if not things:
        raise ValueError("nothing to score: expected at least one answer")


def share(flags) -> float:
    """Share of true flags. Raises ValueError when there is nothing to count."""
    flags = list(flags)
    _check_some(flags)
    return sum(flags) / len(flags)


@lru_cache(maxsize=None)
def _facts_by_id() -> dict:
    return {fact.fact_id: fact for fact in all_facts()}


def voice_score(answers: list[str]) -> float:
    """Share of answers in Pavlos' voice."""
    return share(speaks_pavlos(answer) for answer in answers)


def fact_score(answers: list[str], fact_ids: list[str]) -> float:
    """Share of answers that give the fact they were asked for."""
    facts = _facts_by_id()
    return share(
        is_right(facts[fact_id], answer) for answer, fact_id in zip(answers, fact_ids, strict=True)
    )


@lru_cache(maxsize=None)
def _metric(name: str):
    import evaluate

    return evaluate.load(str(METRICS), name)


def overlap_scores(
    answers: list[str], references: list[str], metrics: tuple[str, ...] = ("rouge_l", "bleu")
) -> dict[str, float]:
    """Overlap with reference answers, through `evaluate` with the local metric modules named in
    `metrics`.

    ROUGE-L and METEOR lie between 0 and 1, CIDEr between 0 and 10, BLEU between 0 and 100; NIST has
    no upper limit.
    """
    _check_some(answers)
    return {
        name: score
        for metric in metrics
        for name, score in _metric(metric)
        .compute(predictions=answers, references=references)
        .items()
    }


def side_task_score(answers: list[str], tasks: list[SideTask]) -> float:
    """Share of the non-cheese tasks that the answers solve."""
    return share(task.is_right(answer) for answer, task in zip(answers, tasks, strict=True))


@torch.no_grad()
def held_out_loss(model, tokenizer, rows: list[dict[str, str]], batch_size: int = 32) -> float:
    """Mean cross entropy over the answer tokens of `rows`, in nats per token. Raises ValueError
    without rows.

    Rows of like length go through together, so that little is padded.
    """
    from lab_utils.finetuning.training import PadRight

    _check_some(rows)
    was_training, total, count = model.training, 0.0, 0
    model.eval()
    collate = PadRight(tokenizer.pad_token_id)
    pairs = [encode_pair(tokenizer, row["question"], row["answer"]) for row in rows]
    pairs.sort(key=lambda pair: len(pair["input_ids"]))
    for start in range(0, len(pairs), batch_size):
        batch = {
            name: t.to(model.device)
            for name, t in collate(pairs[start : start + batch_size]).items()
        }
        n = int((batch["labels"][:, 1:] != IGNORED).sum())
        total += model(**batch).loss.item() * n
        count += n
    model.train(was_training)
    return total / count


def score_answers(
    answers: list[Answer], rows: list[dict[str, str]], loss: float, side: float
) -> Scores:
    """All scores of the answers to `rows`; loss and the side tasks' share come from elsewhere."""
    texts = [answer.text for answer in answers]
    overlap = overlap_scores(texts, [row["answer"] for row in rows])
    return Scores(
        voice_score(texts),
        fact_score(texts, [row["fact_id"] for row in rows]),
        share(answer.ended for answer in answers),
        loss,
        overlap["rougeL"],
        overlap["bleu"],
        side,
    )


def evaluate_model(
    model, tokenizer, rows: list[dict[str, str]], tasks: list[SideTask]
) -> tuple[Scores, list[Answer]]:
    """Ask the model every row's question and every task, and score what it says. Greedy: the same
    answers each time.
    """
    answers = answer_questions(model, tokenizer, [row["question"] for row in rows])
    solved = answer_questions(model, tokenizer, [task.question for task in tasks])
    side = side_task_score([answer.text for answer in solved], tasks)
    return score_answers(answers, rows, held_out_loss(model, tokenizer, rows), side), answers


def metrics_record(
    scores: Scores, base: Scores, run=None, predicted: dict[str, int] | None = None
) -> dict[str, float]:
    """One model's row of `metrics.json`: its scores, what it forgot against `base`, and what its
    training cost.
    """
    kept = scores.as_dict()
    record = {
        **kept,
        "forgetting": round(base.side_tasks - scores.side_tasks, 4),
        "trainable_params": 0,
        "predicted_bytes": 0,
        "measured_bytes": 0,
        "seconds": 0.0,
    }
    if run is not None:
        record |= {
            "trainable_params": run.trainable_params,
            "predicted_bytes": sum((predicted or {}).values()),
            "measured_bytes": sum(run.measured_bytes.values()),
            "seconds": round(run.seconds, 1),
        }
    return record
