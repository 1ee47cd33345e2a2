"""Small tasks that have nothing to do with cheese: what a fine-tuned model may forget.

Each task makes a question and its answer from a random generator. `held_out=True` asks in a wording
that no training text contains; the word lists and numbers are the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from lab_utils.pavlos.facts import contains

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
    """A question about something else than cheese; `keyword` is what a right answer must contain."""

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
