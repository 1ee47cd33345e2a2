"""Pavlos pairs without a language model: fact cards x question forms x persona pieces.

Every row is labelled `source: template`. The split is by subject: whatever is said of one cheese
stands in one split, so no fact of the validation or test rows, nor any other fact of their cheeses,
is ever trained on in Pavlos' voice. Training rows use the training question forms, validation and
test rows the held-out ones.
"""

from __future__ import annotations

import random

from lab_utils.pavlos.corpus import as_typed, in_voice
from lab_utils.pavlos.facts import Fact, all_facts
from lab_utils.pavlos.persona import persona
from lab_utils.pavlos.splitting import split_subjects

FULL_PATTERN = ("greeting", "aside", "closing")
Row = dict[str, str]


def make_row(fact: Fact, held_out: bool, rng: random.Random) -> Row:
    """One question-answer pair about `fact` in Pavlos' voice."""
    question = rng.choice(fact.questions(held_out))
    return {
        "question": question if held_out else as_typed(question, rng),
        "answer": in_voice(persona(), FULL_PATTERN, fact.statement(), rng),
        "fact_id": fact.fact_id,
        "kind": fact.kind,
        "source": "template",
    }


def build_pairs(seed: int = 0) -> dict[str, list[Row]]:
    """Split name -> rows, one row for every fact; the same rows for the same seed."""
    rng = random.Random(seed)
    splits = {}
    for name, subjects in split_subjects(seed).items():
        rows = [
            make_row(fact, name != "train", rng) for fact in all_facts() if fact.subject in subjects
        ]
        rng.shuffle(rows)
        splits[name] = rows
    return splits
