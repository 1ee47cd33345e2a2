"""Who can be asked without a key: the templates, you, and in Colab its own free text model. Each is
labelled as what it is.

`lab_utils.gemini.client` is asked in the same way, by its `ask`; rows of a template never bear a
model's name.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from lab_utils.pavlos.facts import Fact
from lab_utils.pavlos.generation import Job, Record, make_record
from lab_utils.pavlos.prompt import user_prompt
from lab_utils.pavlos.templates import Row, build_pairs

CARD_LINE = re.compile(r"^\[(.+?)\] ", re.MULTILINE)


class LocalReply(NamedTuple):
    """A reply that cost nothing. `model` says who made it."""

    text: str
    model: str
    finish_reason: str = "STOP"
    prompt_tokens: int = 0
    output_tokens: int = 0


def as_json(rows: Sequence[Row]) -> str:
    """Pairs as the prompt asks for them: a JSON list, one item a line."""
    items = [{name: row[name] for name in ("fact_id", "question", "answer")} for row in rows]
    return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n]"


class TemplateAsker:
    """Answers a prompt from fact cards, question forms and persona pieces. No language model:
    source `template`.
    """

    def __init__(self, seed: int = 0):
        self.rows = {row["fact_id"]: row for rows in build_pairs(seed).values() for row in rows}

    def ask(self, prompt: str, *, system: str | None = None) -> LocalReply:
        """One pair for each card of the prompt, as a JSON list."""
        return LocalReply(
            as_json([self.rows[fact_id] for fact_id in CARD_LINE.findall(prompt)]),
            "none: filled templates",
        )


def template_jobs(facts: dict[str, Fact], seed: int = 0, per_call: int = 20) -> list[Job]:
    """Calls for every row that the templates make with this seed, in the order in which they make
    them.
    """
    ids = [row["fact_id"] for rows in build_pairs(seed).values() for row in rows]
    batches = [ids[start : start + per_call] for start in range(0, len(ids), per_call)]
    return [Job(user_prompt([facts[i] for i in batch]), tuple(batch), seed) for batch in batches]


def human_record(rows: Sequence[Row], who: str = "a person") -> Record:
    """Pairs that somebody wrote (dicts with fact_id, question and answer), as a raw reply with the
    source `human`.

    They go through the same steps as all others, and can be refused for the same reasons.
    """
    text = as_json(rows)
    job = Job(f"written by hand\n{text}", tuple(row["fact_id"] for row in rows))
    return make_record(job, LocalReply(text, who), "human", None)


class ColabAsker:
    """Colab's free text model, `google.colab.ai`, where there is one: source `colab`."""

    def __init__(self, module, model: str | None = None):
        self.module, self.model = module, model

    def ask(self, prompt: str, *, system: str | None = None) -> LocalReply:
        """The model's text. It has no system prompt of its own, so ours is set in front; it names
        no finish reason.
        """
        chosen = {"model_name": self.model} if self.model else {}
        text = self.module.generate_text(f"{system}\n\n{prompt}" if system else prompt, **chosen)
        return LocalReply(text or "", self.model or "google.colab.ai, its usual model")


def colab_asker(model: str | None = None) -> ColabAsker:
    """Colab's model as an asker. Raises RuntimeError outside Colab."""
    try:
        return ColabAsker(importlib.import_module("google.colab.ai"), model)
    except ImportError:
        raise RuntimeError(
            "google.colab.ai is there in Colab only: here ask the templates, or Gemini with a key"
        ) from None
