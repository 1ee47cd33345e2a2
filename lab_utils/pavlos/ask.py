"""Ask for pairs, and lose nothing: the prompt, the grid of calls, who answers, and the raw replies.

Every rule of the prompt is there because it buys something that a later step needs. A prompt asks,
it does not guarantee: the same things are checked again when the reply has come (`parse`, `build`).

A reply costs money and can't be had again; everything after it (parsing, cleaning, splitting) is
free and will be improved. So the file keeps the text as it came, one JSON line for each call, under
a key made from the prompt, before anything is done with it. After a kill at any moment the same
command goes on, and at most the call in flight is lost.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lab_utils.files import DATA
from lab_utils.pavlos.corpus import Row, build_pairs, persona
from lab_utils.pavlos.facts import Fact, all_facts
from lab_utils.pavlos.parse import Item


# ====================================================================================== the prompt
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


# ===================================================================================== raw replies
Record = dict[str, Any]
CARD_LINE = re.compile(r"^\[(.+?)\] ", re.MULTILINE)


class Asker(Protocol):
    """Anything that answers a prompt: its reply has text, finish_reason, model, prompt_tokens and
    output_tokens.
    """

    def ask(self, prompt: str, *, system: str | None = None) -> Any:
        """The reply to a prompt, under a system prompt."""


@dataclass(frozen=True)
class Job:
    """One call: its prompt, the fact cards in it, `sample`, a number that tells repeated calls
    apart, and `attempt`, 1 and more where an earlier reply did not give its pairs.
    """

    prompt: str
    cards: tuple[str, ...]
    sample: int = 0
    attempt: int = 0


class Tally(NamedTuple):
    """How a generation ended: calls made, replies that were there already, calls that failed, why
    it was stopped by an error, and calls left for the next time by a limit.
    """

    asked: int
    reused: int
    failed: tuple[str, ...] = ()
    stopped: str = ""
    left: int = 0


def prompt_key(job: Job, source: str, system: str | None) -> str:
    """32 hex digits that depend on all that decides a reply: who is asked, what, under which system
    prompt, which time.
    """
    parts = [source, job.sample, system or "", job.prompt, *[job.attempt] * (job.attempt > 0)]
    said = json.dumps(parts, ensure_ascii=True)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


# -------------------------------------------------------------------------- the file of raw replies
class RawReplies:
    """An append-only file of replies, one JSON object a line. `records` maps key -> record, in the
    order of the file.
    """

    def __init__(self, path: Path):
        """Read what is there. A last line without its line break was torn by a kill: it is cut off.

        Raises ValueError for any other line that is not JSON: then something else has written into
        the file.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        self.records: dict[str, Record] = {}
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            self._remember(line, number)

    def _remember(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
            self.records[record["key"]] = record
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path.name}, line {number} is no raw reply ({error}): expected one JSON "
                "object with a key a line; move the file away or take the line out"
            ) from None

    def append(self, record: Record) -> None:
        """Write one record, and return when it is on the disk; one whose key is there already
        changes nothing.

        ASCII only: a reply may hold what UTF-8 can't.
        """
        if record["key"] in self.records:
            return
        with open(self.path, "ab") as file:
            file.write(json.dumps(record, ensure_ascii=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[record["key"]] = record


def make_record(job: Job, reply: Any, source: str, system: str | None, when: str = "") -> Record:
    """What is kept of one call. `when` is a date; template replies have none, so that they are the
    same every day.
    """
    record = {
        "key": prompt_key(job, source, system),
        "source": source,
        "model": reply.model,
        "when": when,
        "sample": job.sample,
        "cards": list(job.cards),
        "prompt": job.prompt,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "output_tokens": reply.output_tokens,
        "text": reply.text,
    }
    return record if when else {name: value for name, value in record.items() if name != "when"}


# ------------------------------------------------------------------------------- what is still owed
Given = Callable[[Record], set[str]]  # the cards of which a reply gave a pair


def missing_cards(record: Record, given: Given) -> list[str]:
    """The cards of a reply that was cut off, blocked or empty, or gave no pair at all, for which it
    gave none; [] for a reply that gave its pairs.
    """
    cards = given(record)
    if record["finish_reason"] == "STOP" and cards:
        return []
    return [card for card in record["cards"] if card not in cards]


def again(job: Job, cards: Sequence[str]) -> Job:
    """The same call once more, for these of its cards alone."""
    lines = (
        line
        for line in job.prompt.splitlines()
        if not (card := CARD_LINE.match(line)) or card[1] in cards
    )
    prompt = re.sub(r"\AWrite \d+|(?<=\n)Write \d+", f"Write {len(cards)}", "\n".join(lines))
    return Job(prompt, tuple(cards), job.sample, job.attempt + 1)


def last_attempt(
    job: Job, raw: RawReplies, source: str, system: str | None, given: Given
) -> tuple[Job, list[Record]]:
    """(the call that is to be made, or gave its pairs; the replies that did not, before it)."""
    owing = []
    while record := raw.records.get(prompt_key(job, source, system)):
        missing = missing_cards(record, given)
        if not missing:
            break
        owing.append(record)
        job = again(job, missing)
    return job, owing


def why(record: Record) -> str:
    """Why a reply did not give its pairs, in words."""
    reason = record["finish_reason"]
    if reason != "STOP":
        return "cut off" if reason == "MAX_TOKENS" else f"blocked ({reason})"
    return "in replies without a pair" if record["text"].strip() else "in empty replies"


def shortfall(
    jobs: Sequence[Job], raw: RawReplies, source: str, system: str | None, given: Given
) -> Counter[str]:
    """Why -> how many of the jobs' cards have no pair yet."""
    lacking: Counter[str] = Counter()
    for job in jobs:
        last, owing = last_attempt(job, raw, source, system, given)
        record = raw.records.get(prompt_key(last, source, system))
        if record:
            lacking["refused or left out"] += len(set(last.cards) - given(record))
        else:
            lacking[why(owing[-1]) if owing else "not asked for yet"] += len(last.cards)
    return +lacking


# ---------------------------------------------------------------------------------------- asking
def generate(
    jobs: Sequence[Job],
    asker: Asker,
    raw: RawReplies,
    source: str,
    system: str | None = None,
    *,
    limit: int | None = None,
    stop_on: tuple[type[Exception], ...] = (),
    skip_on: tuple[type[Exception], ...] = (),
    hopeless: Callable[[Exception], bool] = lambda error: False,
    given: Given | None = None,
    when: str = "",
    progress: bool = True,
) -> Tally:
    """Make each call that is not in `raw` yet, and keep its reply at once.

    At most `limit` calls are made. An error of `stop_on` (quota or budget used up) ends it in
    order, one of `skip_on` costs its own call only and is tried again next time, but three in a row
    end it, or one that is `hopeless`; any other is raised. What was kept stays in every case. With
    `given`, which tells the cards that a reply gave pairs of, replies that were cut off, blocked or
    empty are asked for once more, for the cards that they owe.
    """
    from tqdm.auto import tqdm

    if given:
        jobs = [last_attempt(job, raw, source, system, given)[0] for job in jobs]
    missing = [job for job in jobs if prompt_key(job, source, system) not in raw.records]
    reused, todo = len(jobs) - len(missing), missing if limit is None else missing[:limit]
    failed, asked, in_a_row = [], 0, 0
    for job in tqdm(todo, desc=f"replies ({source})", unit="call", disable=not progress):
        try:
            reply = asker.ask(job.prompt, system=system)
        except stop_on as error:
            return Tally(asked, reused, tuple(failed), f"{type(error).__name__}: {error}")
        except skip_on as error:
            failed.append(f"{type(error).__name__}: {error}")
            in_a_row += 1
            if hopeless(error):
                return Tally(asked, reused, tuple(failed), failed[-1])
            if in_a_row == 3:
                told = f"three calls failed in a row, the last by {failed[-1]}"
                return Tally(asked, reused, tuple(failed), told)
            continue
        raw.append(make_record(job, reply, source, system, when))
        asked, in_a_row = asked + 1, 0
    return Tally(asked, reused, tuple(failed), left=len(missing) - len(todo))


# ======================================================================================== the grid
LEVELS = {
    "guest": "a guest at the counter, who wants to know where a cheese comes from, how it tastes "
    "and what goes with it",
    "student": "a student of cheese, who wants to know how it is made, sorted and what it looks "
    "like",
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
    "turned": "with the thing first and the question word behind it: "
    "Feta is made in which country?",
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
    """How a question asks, told by its first word, openers such as "Please" left out."""
    asked = question.lower()
    if opener := _OPENERS.match(asked):
        asked = asked[opener.end() :]
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


_OPENERS = re.compile(
    r"(?:(?:please(?: help me:)?|hello!|good morning!|excuse me|dear \w+|professor"
    r"|quick question:|my teacher asks:|for my homework:?|i always forget:|can you help me\?"
    r"|let me ask you:|one more question:),?\s+)+"
)
_REQUEST = re.compile(r"(?:tell|describe|remind|explain|name|complete|i )\b|i ")


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


# ======================================================================= who answers without a key


@dataclass(frozen=True)
class WithSchema:
    """Asks a client of `lab_utils.gemini` for replies that keep to the schema of `parse.Item`."""

    client: Any

    def ask(self, prompt: str, *, system: str | None = None) -> Any:
        """The client's reply. Its form is sound; it may still be cut off, blocked or untrue."""
        return self.client.ask(prompt, system=system, response_schema=list[Item])


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
