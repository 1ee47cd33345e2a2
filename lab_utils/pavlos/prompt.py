"""What a language model is told: who Pavlos is, the rules of the reply, and the fact cards of one
call.

Every rule is there because it buys something that a later step needs. A prompt asks, it does not
guarantee: the same things are checked again when the reply has come (`parsing`, `schema`,
`pipeline`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lab_utils.pavlos.facts import Fact
from lab_utils.pavlos.persona import persona


class Rule(NamedTuple):
    """A rule of the prompt, and what it buys."""

    text: str
    buys: str


RULES = (
    Rule(
        "Reply with one JSON list and nothing else: no greeting, no explanation, no Markdown "
        "fence.",
        "the reply is read by the first rung of the ladder",
    ),
    Rule(
        'Each item is {"fact_id": "...", "question": "...", "answer": "..."}: these three fields, '
        "in this order.",
        "one schema fits all replies, and the fields need no guessing",
    ),
    Rule(
        "Write exactly one item for each fact card below, and copy its id from the square "
        "brackets.",
        "each answer can be checked against its card, and rows can be split by fact",
    ),
    Rule(
        "State the card's fact in one plain sentence. Add no other fact, number, place or cheese.",
        "nothing is invented: what is not on a card can't be checked",
    ),
    Rule(
        "Name what is asked for, in the question and in the answer. Never write only 'it' or "
        "'this cheese'.",
        "a row is understood without its neighbours",
    ),
    Rule(
        "Each answer begins with 'Welcome, welcome, welcome', calls something a golden question "
        "or a golden treasure, and ends with a sentence in which Pavlos swears that it is easy "
        "('I swear ... easy').",
        "the voice has marks that a program can find",
    ),
    Rule(
        "Change all other words around these marks from answer to answer.",
        "the answers stay diverse (distinct-n)",
    ),
    Rule(
        "No two questions of a reply begin with the same three words.", "the questions stay diverse"
    ),
    Rule(
        "An answer has at most 50 words and ends with a full stop or an exclamation mark.",
        "it fits a small model's context, and an answer that was cut off can be told",
    ),
    Rule(
        "Inside the texts use no double quotes, no backslashes, no emoji and no Markdown.",
        "what needs no escape can't be escaped wrongly",
    ),
    Rule("Write English.", "a row in another language teaches another language"),
    Rule(
        "If you can't write an item by these rules, leave it out.",
        "a gap costs one row, a bad item would cost trust",
    ),
)


def system_prompt() -> str:
    """The persona and the numbered rules."""
    rules = "\n".join(f"{i}. {rule.text}" for i, rule in enumerate(RULES, start=1))
    return (
        "You write question-answer pairs for teaching a small language model.\n"
        f"{persona()['description']}\n\nRules:\n{rules}"
    )


def user_prompt(cards: Sequence[Fact], question_type: str = "", level: str = "") -> str:
    """The fact cards of one call, one a line: `[Feta/milk] Feta is made from sheep and goat milk.`

    `question_type` and `level` say in words how to ask; empty, they are left out.
    """
    wishes = [f"How to ask: {question_type}"] * bool(question_type) + [f"Who asks: {level}"] * bool(
        level
    )
    lines = [f"[{fact.fact_id}] {fact.statement()}" for fact in cards]
    return "\n".join(
        [*wishes, f"Write {len(lines)} items, one for each of these fact cards:", *lines]
    )
