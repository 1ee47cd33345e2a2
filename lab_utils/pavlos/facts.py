"""The facts that cheese-base knows: read from `data/`, asked in many forms, and judged.

A fact is one cell of `data/cheeses.csv` ("Feta", milk, "sheep and goat") or one row of
`data/dairy_science.csv`. `data/question_forms.json` holds, for each kind of fact, its sentence and
its question forms: those used in training and those held out, which no training text ever contains.
(The sentences that cheese-base was pretrained on are older and rougher: `corpus`.)
"""

from __future__ import annotations

import csv
import json
import random
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lab_utils.files import DATA

FAMILY_PHRASES = {
    "fresh": "fresh cheeses",
    "brined": "brined cheeses",
    "bloomy rind": "bloomy rind cheeses",
    "washed rind": "washed rind cheeses",
    "blue": "blue cheeses",
    "pasta filata": "pasta filata cheeses",
    "pressed": "pressed cheeses",
    "cooked pressed": "cooked pressed cheeses",
    "whey": "whey cheeses",
    "natural rind goat": "natural rind goat cheeses",
    "processed": "processed cheeses",
    "acid-set": "acid-set cheeses",
    "granular": "granular cheeses",
    "smoked": "smoked cheeses",
}
RIND_PHRASES = {
    "none": "no rind",
    "bloomy": "a bloomy rind",
    "washed": "a washed rind",
    "natural": "a natural rind",
    "waxed": "a waxed rind",
    "ash-coated": "an ash-coated rind",
    "cloth-bound": "a cloth-bound rind",
    "leaf-wrapped": "a leaf-wrapped rind",
}
PROTECTION_PHRASES = {
    "PDO": "the PDO label",
    "PGI": "the PGI label",
    "TSG": "the TSG label",
    "Swiss AOP": "the Swiss AOP label",
    "none": "no protected label",
}
SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}
WITH_ARTICLE = frozenset(
    (
        "United States,Netherlands,Czech Republic,Philippines,Alentejo,Allgäu,Aosta Valley,"
        "Auvergne,Aveyron,Azores,Basque Country,Cyclades,Cévennes,Dauphiné,Drôme,East Midlands,"
        "Harz,Highlands,Jura,Marche,Po Valley,Pyrenees,Veneto"
    ).split(",")
)
CHEESE_ATTRIBUTES = (
    "country",
    "region",
    "milk",
    "family",
    "texture",
    "rind",
    "ageing",
    "protection",
    "flavour",
    "pairing",
)


@dataclass(frozen=True)
class Fact:
    """One fact: `value` is the phrase that answers it, `keywords` are what a right answer must
    contain.
    """

    fact_id: str
    kind: str  # an attribute of a cheese, or "science"
    subject: str  # the cheese's name, or the noun phrase asked for
    verb: str
    value: str
    keywords: tuple[str, ...]

    def fill(self, form: str) -> str:
        """A form with this fact in it; of the verb "is called", {is} and {called} are the parts."""
        subject, (first, *called) = self.subject, self.verb.split()
        return form.format(
            name=subject,
            subject=subject,
            Subject=subject[0].upper() + subject[1:],
            verb=self.verb,
            **{"is": first, "called": "".join(f" {word}" for word in called)},
            be="are" if first == "are" else "is",
            it="they" if first == "are" else "it",
            value=self.value,
            bare=self.value.removeprefix("the "),
        )

    def statement(self) -> str:
        """The fact as a sentence: that of its kind, or where its value needs another, that one."""
        forms = question_forms()[self.kind]
        return self.fill(forms.get("instead", {}).get(self.value, forms["statement"]))

    def questions(self, held_out: bool = False) -> list[str]:
        """Every question form of this fact: those of training, or those held out from it."""
        forms = question_forms()[self.kind]
        return [self.fill(form) for form in forms["held_out" if held_out else "train"]]


@lru_cache(maxsize=None)
def question_forms() -> dict[str, dict]:
    """Kind of fact -> its sentence, value -> sentence `instead`, training and held-out forms."""
    return json.loads((DATA / "question_forms.json").read_text(encoding="utf-8"))


def _phrase(attribute: str, cell: str) -> tuple[str, tuple[str, ...]]:
    """How a sentence says a cell of the table, and the keywords that a right answer contains."""
    if attribute == "milk":
        said = "cow, sheep and goat" if cell == "cow sheep and goat" else cell
        return said, tuple(word for word in re.findall(r"\w+", cell) if word != "and")
    if attribute in ("country", "region"):
        return ("the " if cell in WITH_ARTICLE else "") + cell, (cell.lower(),)
    if attribute == "ageing":
        return f"{cell} days", (cell,)
    if attribute == "flavour":
        return cell, tuple(cell.split(" and "))
    phrases = {
        "family": FAMILY_PHRASES,
        "rind": RIND_PHRASES,
        "protection": PROTECTION_PHRASES,
    }.get(attribute, {})
    said = phrases.get(cell, cell)
    return said, (said.removeprefix("a ").removeprefix("an ").removeprefix("the ").lower(),)


def _read_csv(name: str) -> list[dict[str, str]]:
    with open(DATA / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=None)
def cheese_facts() -> tuple[Fact, ...]:
    """One fact for every filled cell of `data/cheeses.csv`."""
    facts = []
    for row in _read_csv("cheeses.csv"):
        for attribute in CHEESE_ATTRIBUTES:
            cell = row["min_ageing_days" if attribute == "ageing" else attribute]
            if cell:
                value, keywords = _phrase(attribute, cell)
                facts.append(
                    Fact(
                        f"{row['name']}/{attribute}", attribute, row["name"], "is", value, keywords
                    )
                )
    return tuple(facts)


@lru_cache(maxsize=None)
def science_facts() -> tuple[Fact, ...]:
    """One fact for every row of `data/dairy_science.csv`."""
    return tuple(
        Fact(
            row["fact_id"],
            "science",
            row["subject"],
            row["verb"],
            f"{row['value']} {row['unit']}".strip(),
            (row["keyword"],),
        )
        for row in _read_csv("dairy_science.csv")
    )


def all_facts() -> tuple[Fact, ...]:
    """Every fact of the kit, cheeses first."""
    return cheese_facts() + science_facts()


def deal(items: Sequence, seed: int) -> dict[str, list]:
    """Split name -> its share of the items, shuffled; what rounding leaves over goes to train."""
    items, parts, start = list(items), {}, 0
    random.Random(seed).shuffle(items)
    for name, share in SPLITS.items():
        size = round(share * len(items))
        parts[name] = items[start : start + size]
        start += size
    parts["train"] += items[start:]
    return parts


def split_subjects(seed: int) -> dict[str, set[str]]:
    """Split name -> subjects (cheeses and dairy-science topics), drawn without overlap."""
    return {
        name: set(part)
        for name, part in deal(sorted({fact.subject for fact in all_facts()}), seed).items()
    }


def _any_of(words: set[str]) -> re.Pattern:
    """Any of `words` as whole words and numbers: "5" is not in "15" nor in "5.2", "soft" is not in
    "semi-soft".
    """
    longest_first = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.compile(rf"(?<![\w.,-])(?:{longest_first})(?![\w-]|[.,]\d)")


@lru_cache(maxsize=None)
def _pattern(keyword: str) -> re.Pattern:
    return _any_of({keyword.lower()})


def contains(text: str, keyword: str) -> bool:
    """Whether `keyword` stands in `text` as a whole word or number (case does not matter)."""
    return _pattern(keyword).search(text.lower()) is not None


@lru_cache(maxsize=None)
def _any_value(kind: str) -> re.Pattern:
    """Any keyword that some cheese fact of this kind has, the longest first: "cooked pressed"
    before "pressed".
    """
    return _any_of({word for fact in cheese_facts() if fact.kind == kind for word in fact.keywords})


@lru_cache(maxsize=None)
def _any_cheese() -> re.Pattern:
    """The name of any cheese in lower case, "Allgäuer Emmentaler" before "Emmentaler"."""
    return _any_of({fact.subject.lower() for fact in cheese_facts()})


def is_right(fact: Fact, answer: str) -> bool:
    """Whether `answer` gives this fact: every keyword, and for a cheese no rival value and no other
    cheese's name.

    "pressed cheeses" is no rival inside "cooked pressed cheeses", but beside it. Dairy science has
    no list of rivals.
    """
    if fact.kind == "science":
        return all(contains(answer, keyword) for keyword in fact.keywords)
    text, subject = answer.lower(), fact.subject.lower()
    if set(_any_cheese().findall(text)) - {subject}:
        return False
    # a name may hold a value ("Queso Oaxaca"), which does not count; or be it ("Cheshire")
    if subject not in fact.keywords:
        text = _pattern(subject).sub(" ", text)
    return set(_any_value(fact.kind).findall(text)) == set(fact.keywords)


# ---------------------------------------------------------------------------------------- the gate
NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|hardly|nobody|nowhere|no longer|nothing)\b|n['’]t\b"
    r"|\b(?:false|wrong|untrue|myth|denies|denied|instead of|rather than|anything but"
    r"|anywhere but|far from|everything except|without|used to)\b"
)
# said anywhere in the sentence, these doubt it
DOUBT = re.compile(
    r"\b(?:lies?|rumou?r|mistaken|supposedly|allegedly|hearsay|nonsense|fable)\b"
    r"|\b(?:every|any|all|no) \w+ (?:but|except|other than)\b"
)
CURES = re.compile(
    r"\b(?:cures?|cured of|heals?|remed(?:y|ies)|medicines?|prevents?|lowers? (?:your )?blood"
    r"|cancer|diabetes|arthritis|asthma|disease|slimming|lose weight|helps? (?:against|with)"
    r"|good for (?:your|the) (?:bones|heart|skin|teeth|stomach|health)|immune|health(?:y|ier))\b"
)
CLAUSE = re.compile(r"[,;:!?()—–]|\.(?!\d)|(?<!where )(?<!thing )\bbut\b")
SPELLED_NUMBER = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|"
    r"fifty|sixty|seventy|eighty|ninety|hundred|thousand|million)[ -]"
    r"(?:days?|weeks?|months?|years?|percent|degrees?|lit(?:re|er)s?|grams?|kilo\w*|seconds?)\b",
    re.IGNORECASE,
)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def plain_letters(text: str) -> str:
    """The text in lower case, without accents and other marks: as a hurried person types it."""
    kept = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", kept))


def names_subject(fact: Fact, question: str) -> bool:
    """Whether a question names what the fact is about: the cheese by its name; of a topic of dairy
    science at least half of its words.
    """
    asked, subject = f" {plain_letters(question)} ", plain_letters(fact.subject)
    if fact.kind != "science":
        return f" {subject} " in asked
    words = [word for word in subject.split() if len(word) > 3] or subject.split()
    return 2 * sum(f" {word}" in asked for word in words) >= len(words)


def _denies(fact: Fact, answer: str) -> bool:
    """Whether a clause of the answer that has a word of the fact's value is a denial, or its
    sentence a doubt, or only questions have it, where the card's own sentence is none of these.
    """
    own = fact.statement().lower()
    if NEGATION.search(own) or DOUBT.search(own):
        return False

    def telling(pieces: list[str]) -> list[str]:
        return [piece for piece in pieces if any(contains(piece, word) for word in fact.keywords)]

    sentences = telling(re.split(r"(?<=[.!?])\s+", answer.lower()))
    values = "|".join(map(re.escape, fact.keywords))
    asked = re.compile(rf"\b(?:{values})\b[^,;:.!?]*\?", re.IGNORECASE)
    no_such = re.compile(rf"\bno {re.escape(fact.subject.lower())}\b")
    return (
        any(NEGATION.search(clause) for clause in telling(CLAUSE.split(answer.lower())))
        or any(DOUBT.search(sentence) or no_such.search(sentence) for sentence in sentences)
        or bool(sentences and all(asked.search(sentence) for sentence in sentences))
    )


def objections(fact: Fact, question: str, answer: str) -> list[str]:
    """What speaks against a pair about this fact, one reason each; [] for a pair that may pass.

    The answer must give the card's fact and no rival (`is_right`), must not deny it, and must hold
    no number and no cure that neither the card nor the question has; the question must name the
    subject. What else an answer may add, `unchecked` flags.
    """
    said = f"{fact.statement()} {question}"
    numbers = sorted(set(NUMBER.findall(answer)) - set(NUMBER.findall(said)))
    numbers += [found[0] for found in SPELLED_NUMBER.finditer(answer) if found[0] not in said]
    found = {
        f"answer: does not give the card's fact, and only that: {fact.statement()}": not is_right(
            fact, answer
        ),
        f"answer: denies the card's fact: {fact.statement()}": _denies(fact, answer),
        f"answer: has a number that is not on the card: {', '.join(numbers)}": bool(numbers),
        "answer: speaks of cures, and no card does": CURES.search(answer.lower()) is not None
        and not CURES.search(said.lower()),
        f"question: does not name {fact.subject}": not names_subject(fact, question),
    }
    return [reason for reason, holds in found.items() if holds]


@lru_cache(maxsize=None)
def _cues(kind: str) -> frozenset[str]:
    """The words by which questions of this kind ask: those of its forms, and of few other kinds."""

    def words(forms: dict) -> set[str]:
        return set(plain_letters(" ".join([*forms["train"], *forms["held_out"]])).split())

    every = [words(forms) for forms in question_forms().values()]
    own = words(question_forms()[kind])
    rare = (word for word in own if sum(word in other for other in every) <= 4)
    return frozenset(word for word in rare if len(word) > 3)


@lru_cache(maxsize=None)
def _places() -> frozenset[str]:
    return frozenset(fact.keywords[0] for fact in cheese_facts() if fact.kind == "country")


def unchecked(fact: Fact, question: str, answer: str) -> list[str]:
    """What no program can judge in a pair that may pass, one reason each: for a person to read."""
    text, asked = answer.lower(), set(plain_letters(question).split())
    own = f"{fact.statement()} {fact.value}".lower()
    places = sorted(place for place in _places() if contains(text, place) and place not in own)
    others = {name for name in _any_cheese().findall(question.lower()) if name not in own}
    found = {
        f"names a country that is not on the card: {', '.join(places)}": bool(places),
        f"the question names another cheese: {', '.join(sorted(others))}": bool(others),
        f"the question may ask for something else than the {fact.kind}": fact.kind != "science"
        and not asked & _cues(fact.kind),
    }
    return [reason for reason, holds in found.items() if holds]
