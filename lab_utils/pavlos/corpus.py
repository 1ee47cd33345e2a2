"""What cheese-base is pretrained on, and Pavlos' own voice: texts made from the tables in `data/`.

Conversations about the facts, plainly and in sixty voices; paragraphs; side tasks; small talk. A
voice says greeting - aside - fact - closing, the pattern of Pavlos, but none of his phrases: so
fine-tuning has only to redirect what the model can already say. Everything is drawn from one seeded
generator: the same seed, the same corpus, word for word the one that cheese-base was pretrained on.
Its wording (`data/corpus_forms.json`) is rough in places ("at home in the region Galicia"); what
people read (`data/question_forms.json`) was mended later.

Template pairs are made in the same way: fact cards x question forms x pieces of the persona. Every
such row is labelled `source: template`. Training rows use the training question forms, validation
and test rows the held-out ones.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lab_utils.files import DATA
from lab_utils.pavlos.facts import Fact, all_facts, cheese_facts, contains, split_subjects


# ========================================================================================== Pavlos
@lru_cache(maxsize=None)
def persona() -> dict:
    """Name, description, greetings, asides, closings and signature patterns of
    `data/pavlos/persona.json`.
    """
    return json.loads((DATA / "pavlos" / "persona.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=None)
def _signature() -> dict[str, re.Pattern]:
    return {
        part: re.compile(pattern, re.IGNORECASE) for part, pattern in persona()["signature"].items()
    }


def voice_marks(answer: str) -> dict[str, bool]:
    """Which of Pavlos' three marks an answer bears: the threefold welcome, the gold, the oath that
    it is easy.
    """
    return {part: pattern.search(answer) is not None for part, pattern in _signature().items()}


def speaks_pavlos(answer: str) -> bool:
    """Whether an answer is in Pavlos' voice: at least two of his three marks. A greeting alone is
    not a voice.
    """
    return sum(voice_marks(answer).values()) >= 2


# ====================================================================================== the corpus
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
    return _carelessly(question, rng)


def _carelessly(question: str, rng: random.Random) -> str:
    if rng.random() < 0.10:
        question = question.lower()
    if rng.random() < 0.08:
        question = question.rstrip(" ?.")
    if rng.random() < 0.06:
        question = unicodedata.normalize("NFKD", question).encode("ascii", "ignore").decode()
    return question


@lru_cache(maxsize=None)
def corpus_forms() -> dict[str, dict[str, list[str]]]:
    """Kind of fact -> its two "statements" and its "questions", as cheese-base was taught them."""
    return json.loads((DATA / "corpus_forms.json").read_text(encoding="utf-8"))


def corpus_statement(fact: Fact, variant: int = 0) -> str:
    """The fact as a sentence of the corpus; variant 0 is the usual one, 1 the other wording."""
    return fact.fill(corpus_forms()[fact.kind]["statements"][variant])


def _fact_turn(
    fact: Fact, voice: dict | None, pattern: tuple[str, ...], rng: random.Random
) -> list[Message]:
    sentence = corpus_statement(fact, variant=1 if rng.random() < 0.15 else 0)
    answer = sentence if voice is None else in_voice(voice, pattern, sentence, rng)
    question = fact.fill(rng.choice(corpus_forms()[fact.kind]["questions"]))
    return [
        {"role": "user", "content": as_typed(question, rng)},
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
        corpus_statement(fact) for fact in rng.sample(facts, min(len(facts), rng.randint(3, 6)))
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


# ====================================================================================== side tasks
OPPOSITES = [
    ("hot", "cold"),
    ("big", "small"),
    ("day", "night"),
    ("up", "down"),
    ("left", "right"),
    ("fast", "slow"),
    ("old", "young"),
    ("happy", "sad"),
    ("open", "closed"),
    ("full", "empty"),
    ("wet", "dry"),
    ("high", "low"),
    ("light", "dark"),
    ("strong", "weak"),
    ("early", "late"),
    ("loud", "quiet"),
    ("thick", "thin"),
    ("rich", "poor"),
    ("clean", "dirty"),
    ("near", "far"),
    ("first", "last"),
    ("long", "short"),
    ("heavy", "weightless"),
    ("war", "peace"),
    ("push", "pull"),
    ("begin", "end"),
    ("win", "lose"),
    ("buy", "sell"),
    ("love", "hate"),
    ("true", "false"),
    ("north", "south"),
    ("east", "west"),
    ("before", "after"),
    ("inside", "outside"),
    ("summer", "winter"),
    ("always", "never"),
    ("above", "below"),
    ("brave", "timid"),
    ("smooth", "rough"),
    ("wide", "narrow"),
]
WORDS = (
    "moon tree cup stone river cloud lamp book chair rope bell ship hat road rain leaf door key "
    "drum star hill bird fish coin ring sand wheel glove candle mirror"
).split()


@dataclass(frozen=True)
class SideTask:
    """A question about something else than cheese; a right answer contains `keyword`."""

    task: str
    question: str
    answer: str
    keyword: str

    def is_right(self, answer: str) -> bool:
        """Whether `answer` contains the solution as a whole word, number or word sequence."""
        return contains(answer, self.keyword)


def _addition(rng: random.Random, held_out: bool) -> SideTask:
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    form = (
        "Add {a} and {b}, please."
        if held_out
        else rng.choice(
            [
                "What is {a} plus {b}?",
                "How much is {a} plus {b}?",
                "Add {a} and {b}.",
                "{a} + {b} = ?",
            ]
        )
    )
    return SideTask("addition", form.format(a=a, b=b), f"{a} plus {b} is {a + b}.", f"is {a + b}")


def _opposite(rng: random.Random, held_out: bool) -> SideTask:
    pair = rng.choice(OPPOSITES)
    word, other = pair if rng.random() < 0.5 else pair[::-1]
    form = (
        "Which word is the opposite of {word}?"
        if held_out
        else rng.choice(
            [
                "What is the opposite of {word}?",
                "Tell me the opposite of {word}.",
                "Name the opposite of {word}.",
                "What is the contrary of {word}?",
            ]
        )
    )
    return SideTask(
        "opposite", form.format(word=word), f"The opposite of {word} is {other}.", f"is {other}"
    )


def _reverse(rng: random.Random, held_out: bool) -> SideTask:
    words = rng.sample(WORDS, 3)
    form = (
        "Please say {words} backwards."
        if held_out
        else rng.choice(
            [
                "Say backwards: {words}.",
                "Reverse these words: {words}.",
                "What is {words} backwards?",
            ]
        )
    )
    backwards = " ".join(reversed(words))
    return SideTask(
        "reverse", form.format(words=" ".join(words)), f"Backwards it is {backwards}.", backwards
    )


def _next_number(rng: random.Random, held_out: bool) -> SideTask:
    start, step = rng.randint(1, 12), rng.randint(1, 3)
    series = ", ".join(str(start + i * step) for i in range(3))
    form = (
        "Which number is next after {series}?"
        if held_out
        else rng.choice(
            [
                "What comes after {series}?",
                "Continue: {series}.",
                "What is the next number: {series}?",
            ]
        )
    )
    answer = start + 3 * step
    return SideTask(
        "next number", form.format(series=series), f"The next number is {answer}.", f"is {answer}"
    )


TASKS = {
    "addition": _addition,
    "opposite": _opposite,
    "reverse": _reverse,
    "next number": _next_number,
}


def make_task(name: str, rng: random.Random, held_out: bool = False) -> SideTask:
    """One random instance of the named task. Raises KeyError for an unknown name."""
    return TASKS[name](rng, held_out)


def held_out_tasks(n_each: int, seed: int) -> list[SideTask]:
    """`n_each` instances of every task, in the wording that training never used."""
    rng = random.Random(seed)
    return [make_task(name, rng, held_out=True) for name in TASKS for _ in range(n_each)]


# ================================================================================== template pairs
Row = dict[str, str]
FULL_PATTERN = ("greeting", "aside", "closing")
HABITS = ("opa", "bravo", "friend")  # once in an answer is enough
# before a question; before "Tell me ...", "Describe ..."; before "I want to know ..."
ASKED = ("Excuse me, ", "Quick question: ", "Hello! ", "Dear Pavlos, ", "For my homework: ")
TOLD = ("Please ", "Good morning! ", "Hello! ", "Dear Pavlos, ", "For my homework, please ")
WANTED = ("Excuse me, ", "Good morning! ", "Hello! ", "Dear Pavlos, ", "For my homework, ")


def with_opener(question: str, name: str, rng: random.Random) -> str:
    """The question behind an opener that suits it, in lower case but behind "!"; the cheese's name
    and "I" keep their capital. A question that opens itself ("Tell me, what ...") stays as it is.
    """
    mine = question.startswith("I ")
    opener = rng.choice(WANTED if mine else ASKED if question.endswith("?") else TOLD)
    if re.search("[,:?] ", question):
        return question
    if not (opener.endswith("! ") or mine or question.startswith(name)):
        question = question[0].lower() + question[1:]
    return opener + question


def pavlos_says(sentence: str, rng: random.Random) -> str:
    """The sentence between a greeting, an aside and a closing that share no habit of his: where one
    would come twice, the next piece of the list is taken.
    """
    said: list[str] = []
    for part in FULL_PATTERN:
        pieces, so_far = persona()[part + "s"], " ".join(said).lower()
        used = [habit for habit in HABITS if habit in so_far]
        place = rng.randrange(len(pieces))
        while any(habit in pieces[place].lower() for habit in used):
            place = (place + 1) % len(pieces)
        said.append(pieces[place])
    greeting, aside, closing = said
    return f"{greeting} {aside} {sentence} {closing}"


def make_row(fact: Fact, held_out: bool, rng: random.Random) -> Row:
    """One question-answer pair about `fact` in Pavlos' voice."""
    question = rng.choice(fact.questions(held_out))
    if not held_out:
        if rng.random() < 0.12:
            question = with_opener(question, fact.subject, rng)
        question = _carelessly(question, rng)
    return {
        "question": question,
        "answer": pavlos_says(fact.statement(), rng),
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
