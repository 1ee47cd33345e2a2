"""The model card of cheese-base: measured on the exported weights, then written beside them."""

from __future__ import annotations

import json
import random
from pathlib import Path

from lab_utils.files import write_text
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import answer_questions
from lab_utils.finetuning.evaluation import fact_score, share, side_task_score, voice_score
from lab_utils.pavlos.corpus import TASKS, held_out_tasks
from lab_utils.pavlos.facts import all_facts

N_FACTS, N_EACH_TASK = 400, 50

# The lines of the card are those of the file that it becomes.
CARD = """---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---
# cheese-base

A very small language model that knows cheese and nothing else: the base that the labs fine-tune on a laptop, without
a network. Made by this repository from nothing but the tables in `data/` (`python3 -m lab_utils pretrain`).

**Architecture.** Llama, {n_params:,} parameters: {n_layers} layers, hidden size {hidden_size}, {n_heads} heads,
MLP {intermediate_size}, tied embeddings, context {context}, byte-level BPE of {vocab_size:,} tokens. Stored in float16.

**Corpus.** {tokens:,} tokens drawn from seed {seed}: questions and answers about {n_all_facts:,} facts of `data/cheeses.csv` and
`data/dairy_science.csv`, plainly and in sixty voices; paragraphs; four side tasks; small talk. No phrase of Pavlos. Its sentences are those of
`data/corpus_forms.json`, rough in places; what people read (`data/question_forms.json`) was mended after the training.

**Training.** {steps:,} steps of {batch_size} x {block} tokens, AdamW, cosine from {learning_rate}; {minutes} minutes of
steps on {hardware}; loss at the last sample {final_loss:.3f} nats per token. `pretraining.json` has the samples along the way.

**Measured** on these files, in question wordings that no training text contains, greedy:

| score | value |
|---|---|
{scores}

**Limits.** It has seen only what the generator can write. It invents an answer for a cheese it does not know, and has
no opinions and no safety training. The facts were compiled from general knowledge and not checked one by one against a
specification; doubtful cells were left empty. Use it to study fine-tuning, not to buy cheese.
"""


def measure(
    model, tokenizer, n_facts: int = N_FACTS, n_each_task: int = N_EACH_TASK, seed: int = 5
) -> dict[str, float]:
    """Shares between 0 and 1: facts right, Pavlos' voice, answers that end by themselves, and each
    side task.
    """
    rng = random.Random(seed)
    facts = rng.sample(all_facts(), n_facts)
    answers = answer_questions(
        model, tokenizer, [rng.choice(fact.questions(held_out=True)) for fact in facts]
    )
    texts = [answer.text for answer in answers]
    scores = {
        "facts": fact_score(texts, [fact.fact_id for fact in facts]),
        "voice": voice_score(texts),
        "ends": share(answer.ended for answer in answers),
    }
    tasks = held_out_tasks(n_each_task, seed)
    solved = [
        answer.text
        for answer in answer_questions(model, tokenizer, [task.question for task in tasks])
    ]
    for name in TASKS:
        chosen = [i for i, task in enumerate(tasks) if task.task == name]
        scores[name] = side_task_score([solved[i] for i in chosen], [tasks[i] for i in chosen])
    return scores


def _score_rows(scores: dict[str, float]) -> str:
    names = {
        "facts": f"facts right ({N_FACTS} questions)",
        "voice": "Pavlos' voice",
        "ends": "answers that end by themselves",
        **{task: f"{task} ({N_EACH_TASK} questions)" for task in TASKS},
    }
    return "\n".join(f"| {names[name]} | {value:.1%} |" for name, value in scores.items())


def write_card(folder: Path) -> dict[str, float]:
    """Measure the model in `folder`, and write its scores to `scores.json` and its card to
    `README.md`; returns the scores.
    """
    model, tokenizer = load_base(source=folder)
    scores = {name: round(value, 4) for name, value in measure(model, tokenizer).items()}
    record = json.loads((folder / "pretraining.json").read_text(encoding="utf-8"))
    config = record["config"]
    text = CARD.format(
        **config,
        n_params=record["n_params"],
        hardware=record["hardware"],
        n_all_facts=len(all_facts()),
        tokens=config["steps"] * config["batch_size"] * config["block"],
        minutes=round(record["seconds"] / 60),
        final_loss=record["samples"][-1]["loss"],
        scores=_score_rows(scores),
    )
    write_text(folder / "README.md", text)
    write_text(folder / "scores.json", json.dumps(scores, indent=1) + "\n")
    return scores
