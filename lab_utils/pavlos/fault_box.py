"""The fault box: malformed replies in the ways in which models break them, each with the whole
pairs that must be kept.

All of them were written for this kit; the ways are those reported by people who ask models for
JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lab_utils.files import DATA
from lab_utils.pavlos.ladder import is_cut, parse_reply
from lab_utils.pavlos.parse import Pair, clean, sift

QuestionAnswer = tuple[str, str]
# (reply, finish reason) -> pairs; each a (question, answer), a dict or a Pair
Reader = Callable[[str, str], Sequence]


@dataclass(frozen=True)
class Fault:
    """One reply. `whole` are the pairs that must be kept, cleaned, and no others; `why` says so in
    words; `cards` are the ids of the fact cards that were asked for, where the reply goes by them.
    """

    name: str
    group: str
    reply: str
    finish_reason: str
    whole: tuple[QuestionAnswer, ...]
    why: str
    cards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a reader made of one fault: whole pairs kept, pairs accepted that are none, and what it
    raised, if it did.
    """

    fault: Fault
    kept: int
    wrong: tuple[QuestionAnswer, ...]
    raised: str = ""

    @property
    def right(self) -> bool:
        """Whether every whole pair was kept, and nothing else."""
        return self.kept == len(self.fault.whole) and not self.wrong and not self.raised


@lru_cache(maxsize=None)
def faults() -> tuple[Fault, ...]:
    """All replies of `data/fault_box/faults.json`, in its order."""
    entries = json.loads((DATA / "fault_box" / "faults.json").read_text(encoding="utf-8"))
    return tuple(
        Fault(
            **entry
            | {"whole": tuple(map(tuple, entry["whole"])), "cards": tuple(entry.get("cards", ()))}
        )
        for entry in entries
    )


def keeps_to_schema(fault: Fault) -> bool:
    """Whether a service that is held to a schema (a list of objects with three texts) could still
    send what is wrong here: any reply may be cut off, blocked or empty; a whole one has the form.
    """
    if is_cut(fault.reply, fault.finish_reason) or not fault.reply.strip():
        return True
    try:
        items = json.loads(fault.reply)
    except ValueError:
        return False
    return isinstance(items, list) and all(
        isinstance(item, dict)
        and {"question", "answer"} <= item.keys() <= {"fact_id", "question", "answer"}
        and all(isinstance(value, str) for value in item.values())
        for item in items
    )


def read_pairs(reply: str, finish_reason: str = "STOP") -> list[Pair]:
    """The kit's reader: the ladder, then the schema; what fails the schema is left out."""
    return sift(parse_reply(reply, finish_reason).objects)[0]


def _question_answer(pair) -> QuestionAnswer:
    if isinstance(pair, dict):
        pair = (pair.get("question"), pair.get("answer"))
    elif isinstance(pair, Pair):
        pair = (pair.question, pair.answer)
    return tuple(clean(part) if isinstance(part, str) else repr(part) for part in pair)  # type: ignore[return-value]


def try_reader(fault: Fault, reader: Reader = read_pairs) -> Outcome:
    """Read one reply. Whatever the reader raises costs it the whole reply, as it would cost the
    batch.
    """
    try:
        got = {_question_answer(pair) for pair in reader(fault.reply, fault.finish_reason)}
    except Exception as error:
        return Outcome(fault, 0, (), f"{type(error).__name__}: {error}"[:120])
    return Outcome(fault, len(got & set(fault.whole)), tuple(sorted(got - set(fault.whole))))


def measure(reader: Reader = read_pairs) -> list[Outcome]:
    """The reader on every fault."""
    return [try_reader(fault, reader) for fault in faults()]


def totals(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Whole pairs kept, whole pairs in all, pairs wrongly accepted, replies that raised."""
    return {
        "kept": sum(outcome.kept for outcome in outcomes),
        "whole": sum(len(outcome.fault.whole) for outcome in outcomes),
        "wrong": sum(len(outcome.wrong) for outcome in outcomes),
        "raised": sum(bool(o.raised) for o in outcomes),
    }
