"""The grid: what the pairs are about (topic), how they ask (question type), and who asks (level).

Coverage counts rows in every cell of the grid that has a fact. An empty cell is a thing the model
is never shown.
"""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product

from lab_utils.files import DATA
from lab_utils.pavlos.corpus import OPENERS
from lab_utils.pavlos.facts import Fact, all_facts
from lab_utils.pavlos.generation import Job
from lab_utils.pavlos.prompt import user_prompt

LEVELS = {
    "guest": "a guest at the counter, who wants to know where a cheese comes from, how it tastes and "
    "what goes with it",
    "student": "a student of cheese, who wants to know how it is made, sorted and what it looks like",
    "expert": "an expert, who asks for numbers, labels and the science of milk",
}
LEVEL_OF_KIND = {
    "country": "guest",
    "flavour": "guest",
    "pairing": "guest",
    "texture": "guest",
    "region": "student",
    "milk": "student",
    "family": "student",
    "rind": "student",
    "ageing": "expert",
    "protection": "expert",
    "science": "expert",
}
QUESTION_TYPES = {
    "open": "with an open question that begins with what, which, where or how",
    "request": "with a request and no question word in front: tell me, describe, remind me",
    "yes or no": "with a question that could be answered by yes or no, and is answered in full",
    "turned": "with the thing first and the question word behind it: Feta is made in which country?",
}
Cell = tuple[str, str, str]  # topic, question type, level


# ------------------------------------------------------------------------------ where a row belongs
def _column(file: str, key: str, value: str) -> dict[str, str]:
    with open(DATA / file, encoding="utf-8", newline="") as rows:
        return {row[key]: row[value] for row in csv.DictReader(rows)}


@lru_cache(maxsize=None)
def _families_and_fields() -> tuple[dict[str, str], dict[str, str]]:
    return _column("cheeses.csv", "name", "family"), _column(
        "dairy_science.csv", "fact_id", "topic"
    )


def topic_of(fact: Fact) -> str:
    """The family of the fact's cheese ("blue"), "other cheeses" where the table gives none, or the
    field of science.
    """
    families, fields = _families_and_fields()
    return (
        f"science: {fields[fact.fact_id]}"
        if fact.kind == "science"
        else families[fact.subject] or "other cheeses"
    )


def question_type_of(question: str) -> str:
    """How a question asks, told by its first word, an opener such as "Please," left out."""
    openers = "|".join(re.escape(opener.strip()) for opener in (*OPENERS, "Professor,"))
    asked = re.sub(rf"^(?:{openers})\s*", "", question, flags=re.IGNORECASE).lower()
    if re.match(
        r"(?:what|which|where|how|when|who|why|(?:from|in|to|for) (?:what|which|how))\b", asked
    ):
        return "open"
    if re.match(r"(?:is|are|does|do|can|has|have|was|will)\b", asked):
        return "yes or no"
    return (
        "turned"
        if re.search(r"\b(?:what|which|where|how)\b", asked) and not _REQUEST.match(asked)
        else "request"
    )


_REQUEST = re.compile(r"(?:tell|describe|remind|explain|name|i )\b|i ")


def cell_of(row: dict[str, str], facts: dict[str, Fact]) -> Cell:
    """The cell of the grid that a row stands in."""
    return (
        topic_of(facts[row["fact_id"]]),
        question_type_of(row["question"]),
        LEVEL_OF_KIND[row["kind"]],
    )


# ---------------------------------------------------------------------------------------- coverage
def grid(facts: Iterable[Fact]) -> list[Cell]:
    """Every cell that has a fact to ask for, in order."""
    subjects = sorted({(topic_of(fact), LEVEL_OF_KIND[fact.kind]) for fact in facts})
    return [
        (topic, question_type, level)
        for (topic, level), question_type in product(subjects, QUESTION_TYPES)
    ]


def coverage(rows: Iterable[dict[str, str]], facts: Sequence[Fact] | None = None) -> Counter[Cell]:
    """Rows in each cell, 0 included."""
    facts = all_facts() if facts is None else facts
    by_id = {fact.fact_id: fact for fact in facts}
    counts: Counter[Cell] = Counter(dict.fromkeys(grid(facts), 0))
    counts.update(cell_of(row, by_id) for row in rows)
    return counts


def coverage_share(counts: Counter[Cell]) -> float:
    """The share of cells with at least one row."""
    return sum(count > 0 for count in counts.values()) / len(counts)


# ------------------------------------------------------------------------------- calls that fill it
def grid_jobs(facts: Sequence[Fact], seed: int, per_call: int = 20) -> list[Job]:
    """One call for up to `per_call` facts of one topic and level; every fact once, the question
    types taking turns.

    The order is shuffled, so that a small budget is spread over the whole grid.
    """
    rng, jobs, turn = random.Random(seed), [], 0
    for topic, level in sorted({(topic_of(fact), LEVEL_OF_KIND[fact.kind]) for fact in facts}):
        cards = [
            fact for fact in facts if (topic_of(fact), LEVEL_OF_KIND[fact.kind]) == (topic, level)
        ]
        rng.shuffle(cards)
        for start in range(0, len(cards), per_call):
            question_type = list(QUESTION_TYPES)[turn % len(QUESTION_TYPES)]
            chosen, turn = cards[start : start + per_call], turn + 1
            prompt = user_prompt(chosen, QUESTION_TYPES[question_type], LEVELS[level])
            jobs.append(Job(prompt, tuple(fact.fact_id for fact in chosen), sample=seed))
    rng.shuffle(jobs)
    return jobs
