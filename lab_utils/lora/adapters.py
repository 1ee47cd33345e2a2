"""Many adapters on one base: voices to train, switching, mixing in a batch, and blending."""

from __future__ import annotations

import json
import random
import re
from functools import lru_cache
from pathlib import Path

import torch

from lab_utils.files import DATA
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import Answer, answer_questions, encode_prompt, pad_left
from lab_utils.lora.methods import Row
from lab_utils.pavlos.corpus import in_voice, voice_marks
from lab_utils.pavlos.facts import all_facts


# ----------------------------------------------------------------- other voices, for other adapters
@lru_cache(maxsize=None)
def other_voices() -> dict[str, dict]:
    """The voices of `data/adapters_voices.json`: an auctioneer, and a terse one."""
    return json.loads((DATA / "adapters_voices.json").read_text(encoding="utf-8"))


def _voice(name: str) -> dict:
    if name not in other_voices():
        raise ValueError(
            f"unknown voice {name!r}: expected pavlos or one of {', '.join(other_voices())}"
        )
    return other_voices()[name]


def rows_in_voice(rows: list[Row], name: str, seed: int = 0) -> list[Row]:
    """The same questions with the same facts, answered in another voice.

    "pavlos" gives the rows as they are.
    """
    if name == "pavlos":
        return rows
    voice, rng, facts = (
        _voice(name),
        random.Random(seed),
        {fact.fact_id: fact for fact in all_facts()},
    )
    pattern = tuple(part for part in ("greeting", "aside", "closing") if voice[part + "s"])

    def answer(row: Row) -> str:
        fact = facts[row["fact_id"]]
        subject = fact.subject[0].upper() + fact.subject[1:]
        said = (
            voice["form"].format(subject=subject, value=fact.value)
            if "form" in voice
            else fact.statement()
        )
        return in_voice(voice, pattern, said, rng)

    return [{**row, "answer": answer(row)} for row in rows]


def speaks(name: str, answer: str) -> bool:
    """Whether an answer is in this voice: at least two of its marks (the terse voice has two)."""
    if name == "pavlos":
        return sum(voice_marks(answer).values()) >= 2
    patterns = _voice(name)["signature"].values()
    return sum(re.search(pattern, answer, re.IGNORECASE) is not None for pattern in patterns) >= 2


def voice_shares(answers: list[str]) -> dict[str, float]:
    """Share of the answers in each voice: {"pavlos": 0.9, "auctioneer": 0.0, "terse": 0.0}."""
    if not answers:
        raise ValueError("no answers to score: expected at least one")
    names = ("pavlos", *other_voices())
    return {name: sum(speaks(name, answer) for answer in answers) / len(answers) for name in names}


# ------------------------------------------------------------------------ many adapters on one base
BASE = "__base__"  # PEFT's name for "no adapter" in a mixed batch


def load_adapters(folders: dict[str, Path | str], **where):
    """(model, tokenizer): one base with every saved adapter on it; the first is active.

    `where` goes to `load_base`.
    """
    from peft import PeftModel

    base, tokenizer = load_base(**where)
    (first, folder), *others = folders.items()
    model = PeftModel.from_pretrained(base, folder, adapter_name=first)
    for name, folder in others:
        model.load_adapter(folder, adapter_name=name)
    return model.eval(), tokenizer


def answer_as(model, tokenizer, name: str, questions: list[str], **how) -> list[Answer]:
    """Switch to the adapter of this name, or to none for BASE, and answer.

    `how` goes to `answer_questions`.
    """
    if name == BASE:
        with model.disable_adapter():
            return answer_questions(model, tokenizer, questions, **how)
    model.set_adapter(name)
    return answer_questions(model, tokenizer, questions, **how)


@torch.no_grad()
def answer_mixed(
    model, tokenizer, questions: list[str], names: list[str], max_new_tokens: int = 72
) -> list[str]:
    """One batch in which `names[i]` answers `questions[i]`, BASE being the bare base."""
    if len(questions) != len(names):
        raise ValueError(
            f"{len(questions)} questions and {len(names)} adapter names: expected one name for "
            "each question"
        )
    ids, mask = pad_left(
        [encode_prompt(tokenizer, question) for question in questions], tokenizer.pad_token_id
    )
    out = model.eval().generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        adapter_names=names,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return [
        text.strip()
        for text in tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    ]


def blend(model, weights: dict[str, float], name: str = "blend", how: str = "cat") -> None:
    """Add an adapter that is the weighted sum of others, and switch to it.

    An older one of that name is replaced. "cat" stacks the A's and the B's: exactly the sum of the
    updates B A, at the sum of the ranks. "linear" averages the A's and the B's apart, which brings
    in products of one adapter's B with another's A.
    """
    model.set_adapter(next(iter(weights)))
    if name in model.peft_config:
        model.delete_adapter(name)
    model.add_weighted_adapter(list(weights), list(weights.values()), name, combination_type=how)
    model.set_adapter(name)
