"""The pretraining corpus of cheese-base, generated from the tables in `data/`.

Conversations about the facts, plainly and in sixty voices; paragraphs; side tasks; small talk. A
voice says greeting - aside - fact - closing, the pattern of Pavlos, but none of his phrases: so
fine-tuning has only to redirect what the model can already say. Everything is drawn from one seeded
generator: the same seed, the same corpus.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from lab_utils.files import DATA
from lab_utils.pavlos.facts import Fact, all_facts, cheese_facts
from lab_utils.pavlos.side_tasks import TASKS, make_task

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

PATTERNS = [("greeting", "aside", "closing")] * 5 + [
    ("greeting", "closing"),
    ("aside", "closing"),
    ("greeting", "aside"),
    ("closing",),
    ("greeting",),
]
TURNS = [1] * 10 + [2] * 5 + [3] * 3 + [4] * 2
OPENERS = ("Please, ", "Quick question: ", "Hello! ", "Dear friend, ", "For my homework: ")


@lru_cache(maxsize=None)
def voices() -> tuple[dict, ...]:
    """The sixty speaking styles of `data/voices.json`."""
    return tuple(json.loads((DATA / "voices.json").read_text(encoding="utf-8")))


@lru_cache(maxsize=None)
def _small_talk() -> dict:
    return json.loads((DATA / "small_talk.json").read_text(encoding="utf-8"))


def in_voice(pieces: dict, pattern: tuple[str, ...], fact_sentence: str, rng: random.Random) -> str:
    """`fact_sentence` as a voice says it: some of greeting, aside and closing around it, drawn from
    `pieces`.
    """
    said = {part: rng.choice(pieces[part + "s"]) for part in pattern}
    parts = [said.get("greeting"), said.get("aside"), fact_sentence, said.get("closing")]
    return " ".join(part for part in parts if part)


def as_typed(question: str, rng: random.Random) -> str:
    """The question as people type it: now and then with an opener, in lower case, without accents
    or question mark.
    """
    if rng.random() < 0.12:
        question = rng.choice(OPENERS) + question
    if rng.random() < 0.10:
        question = question.lower()
    if rng.random() < 0.08:
        question = question.rstrip("?.")
    if rng.random() < 0.06:
        question = unicodedata.normalize("NFKD", question).encode("ascii", "ignore").decode()
    return question


def _fact_turn(
    fact: Fact, voice: dict | None, pattern: tuple[str, ...], rng: random.Random
) -> list[Message]:
    sentence = fact.statement(variant=1 if rng.random() < 0.15 else 0)
    answer = sentence if voice is None else in_voice(voice, pattern, sentence, rng)
    return [
        {"role": "user", "content": as_typed(rng.choice(fact.questions()), rng)},
        {"role": "assistant", "content": answer},
    ]


def _conversation(facts: Iterator[Fact], rng: random.Random) -> list[Message]:
    """One to four questions answered in one voice: a few turns show the model what voice to go on
    with.
    """
    voice = None if rng.random() < 0.45 else rng.choice(voices())
    pattern = rng.choice(PATTERNS)
    messages: list[Message] = []
    if voice is not None and rng.random() < 0.2:
        messages.append({"role": "system", "content": f"Speak like {voice['description']}."})
    for _ in range(rng.choice(TURNS)):
        messages += _fact_turn(next(facts), voice, pattern, rng)
    return messages


def _side_task(rng: random.Random) -> list[Message]:
    task = make_task(rng.choice(list(TASKS)), rng)
    answer = task.answer
    if rng.random() < 0.25:
        answer = in_voice(rng.choice(voices()), rng.choice(PATTERNS), answer, rng)
    return [{"role": "user", "content": task.question}, {"role": "assistant", "content": answer}]


def _talk(rng: random.Random) -> list[Message]:
    talk = _small_talk()
    if rng.random() < 0.5:
        question, answer = rng.choice(talk["talk"])
    else:
        unknown = talk["unknown"]
        question = rng.choice(unknown["questions"]).format(thing=rng.choice(unknown["things"]))
        answer = unknown["answer"]
    return [
        {"role": "user", "content": as_typed(question, rng)},
        {"role": "assistant", "content": answer},
    ]


@lru_cache(maxsize=None)
def _facts_by_cheese() -> dict[str, list[Fact]]:
    by_name: dict[str, list[Fact]] = {}
    for fact in cheese_facts():
        by_name.setdefault(fact.subject, []).append(fact)
    return by_name


def _paragraph(rng: random.Random) -> str:
    facts = rng.choice(list(_facts_by_cheese().values()))
    return " ".join(
        fact.statement() for fact in rng.sample(facts, min(len(facts), rng.randint(3, 6)))
    )


def _facts_forever(rng: random.Random) -> Iterator[Fact]:
    """All facts in random order, again and again: every fact is seen equally often."""
    facts = list(all_facts())
    while True:
        rng.shuffle(facts)
        yield from facts


def documents(seed: int) -> Iterator[list[Message] | str]:
    """Endless stream of documents: conversations (lists of messages) and paragraphs (text)."""
    rng = random.Random(seed)
    facts = _facts_forever(rng)
    while True:
        draw = rng.random()
        if draw < 0.66:
            yield _conversation(facts, rng)
        elif draw < 0.92:
            yield _side_task(rng)
        elif draw < 0.94:
            yield _talk(rng)
        else:
            yield _paragraph(rng)
