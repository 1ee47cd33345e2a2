"""The written edition, `data/pavlos/written.jsonl`: pairs without templates, and the gate that
checks them.

Columns as in the lecture: an instruction (the question), a context (0 to 5 notes, sentences of our
fact cards) and an output. The gate reads an answer sentence by sentence: what a sentence says of a
cheese (country, region, milk, family, texture, rind, label, flavour, partner, a number) must stand
in the row's notes about that cheese, or in the question, where the sentence denies or doubts it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from zlib import crc32

from lab_utils.files import read_jsonl
from lab_utils.pavlos import FOLDER
from lab_utils.pavlos.build import distinct_n, facts_by_id, jaccard_matrix
from lab_utils.pavlos.corpus import speaks_pavlos
from lab_utils.pavlos.facts import (
    SPELLED_NUMBER,
    Fact,
    cheese_facts,
    contains,
    science_facts,
    split_subjects,
)
from lab_utils.pavlos.parse import canonical

Row = dict[str, object]
WRITTEN = FOLDER / "written.jsonl"
COLUMNS = ("instruction", "context", "output", "fact_ids", "kind", "source", "split")
KINDS = (
    "buying comparison cooking history making myth origin pairing premise science serving storing "
    "talk tasting unknown"
).split()
WORDS = range(30, 91)  # of an answer
NOTES = range(0, 6)  # of a row
OPENING, PHRASE = 6, 7  # so many first words, so many words in a row, are in one answer only,
FACT = 4  # unless so many of them are words of a note: a fact may be told again
ALIKE_QUESTIONS, ALIKE_ANSWERS = 0.7, 0.4  # content-word Jaccard from which two are too much alike

ADMITS = re.compile(
    r"\b(?:do not|don't|cannot|can't|could not|will not|won't|not|never|nobody|no (?:card|note))\b"
    r"[^.!?]*\b(?:know|tell|say|says|said|told|swear|answer|guess|invent|names?|written|holds?|"
    r"mentions?|speaks?)\b|\b(?:silent|empty|blank|nothing)\b",
    re.IGNORECASE,
)
HEDGES = re.compile(
    r"\b(?:not|no|never|nor|neither|nobody|nothing|nowhere|none|without|instead of|rather than|if|"
    r"whether|cannot|silent|empty|blank|forget|wrong|rumour)\b|n't\b|\?",
    re.IGNORECASE,
)
NOT = r"(?:\b(?:not|never|no|neither|nor|nothing)|n't)"
CLAUSE = re.compile(r";\s+|, (?:while|whereas|but) ")  # a clause that names a cheese is about it
DEMONYMS = {
    "american": "united states",
    "austrian": "austria",
    "british": "england",
    "cypriot": "cyprus",
    "danish": "denmark",
    "dutch": "netherlands",
    "english": "england",
    "finnish": "finland",
    "french": "france",
    "german": "germany",
    "greek": "greece",
    "irish": "ireland",
    "italian": "italy",
    "norwegian": "norway",
    "polish": "poland",
    "portuguese": "portugal",
    "scottish": "scotland",
    "spanish": "spain",
    "swedish": "sweden",
    "swiss": "switzerland",
    "turkish": "turkey",
    "welsh": "wales",
}
LABELS = {"PDO", "PGI", "TSG", "AOP"}
MILKS = {"cows": "cow", "goats": "goat", "ewe": "sheep", "ewes": "sheep", "buffaloes": "buffalo"}
# keywords of dairy science that are also everyday words: nobody learns a fact from them
EVERYDAY = frozenset(
    (
        "ash antibiotics brine buttermilk casein churning copper crumbly fresh harp kefir lactose "
        "lard orange paper plate ricotta spray steel whey"
    ).split()
)


# ------------------------------------------------------------------------------------- the tables
@lru_cache(maxsize=None)
def _facts() -> dict[str, Fact]:
    return facts_by_id()


def _words(words: Iterable[str]) -> re.Pattern:
    """Any of these words, the longest first, also before 's; "soft" is not in "semi-soft"."""
    longest_first = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.compile(rf"(?<![\w-])(?:{longest_first})(?![\w-])", re.IGNORECASE)


@lru_cache(maxsize=None)
def _cheeses() -> dict[str, str]:
    """Lower-case name -> the cheese."""
    return {fact.subject.lower(): fact.subject for fact in cheese_facts()}


@lru_cache(maxsize=None)
def _cheese_pattern() -> re.Pattern:
    return _words(_cheeses())


@lru_cache(maxsize=None)
def _claim_pattern() -> re.Pattern:
    """Every value of the table of cheeses, the nations, and the terms of dairy science."""
    values = {w for f in cheese_facts() if f.kind != "ageing" for w in f.keywords}
    values |= {
        w.split()[0] for f in cheese_facts() if f.kind in ("family", "rind") for w in f.keywords
    }
    known = (values - {"no", "pasta"}) | LABELS | set(DEMONYMS) | set(MILKS)
    return re.compile(f"{_words(known).pattern}|{_term_pattern().pattern}", re.IGNORECASE)


@lru_cache(maxsize=None)
def _term_pattern() -> re.Pattern:
    """The terms of dairy science that are no everyday words, and numbers."""
    terms = {w for f in science_facts() for w in f.keywords if not w[0].isdigit()} - EVERYDAY
    return re.compile(f"{_words(terms).pattern}|(?<!\\w)\\d+(?:[.,]\\d+)*", re.IGNORECASE)


def cheeses_in(text: str) -> set[str]:
    """The cheeses of the table that a text names."""
    return {_cheeses()[name.lower()] for name in _cheese_pattern().findall(text)}


def subjects_of(row: Row) -> set[str]:
    """What a row is about: the subjects of its facts, and every cheese that it names."""
    facts = [_facts()[fact_id] for fact_id in row["fact_ids"]]
    return {fact.subject for fact in facts} | cheeses_in(f"{row['instruction']} {row['output']}")


def split_for(row: Row, seed: int = 0) -> str:
    """The split of a row's subjects. A row about none is dealt by its question, one in ten to each
    held-out split.

    Raises ValueError where the subjects stand in several splits.
    """
    subjects = subjects_of(row)
    if not subjects:
        tenth = crc32(canonical(row["instruction"]).encode()) % 10
        return {8: "validation", 9: "test"}.get(tenth, "train")
    parts = split_subjects(seed)
    found = {name: sorted(subjects & part) for name, part in parts.items() if subjects & part}
    if len(found) > 1:
        raise ValueError(f"subjects of several splits: {found}")
    return next(iter(found))


# ---------------------------------------------------------------------------------------- the gate
def _claims(sentence: str, of_cheese: bool) -> set[str]:
    """What a sentence says, names of cheeses left out: numbers, terms of dairy science, and where
    the row is about a cheese of the table, every value that the table knows.
    """
    pattern = _claim_pattern() if of_cheese else _term_pattern()
    found = pattern.findall(_cheese_pattern().sub(" ", sentence))
    return {word.lower() for word in found}


def _holds(text: str, claim: str) -> bool:
    """Whether a text holds a claim, in this or in the table's word for it."""
    return any(contains(text, w) for w in (claim, DEMONYMS.get(claim), MILKS.get(claim)) if w)


def _denied(sentence: str, fact: Fact) -> bool:
    """Whether a few words behind a "not" the sentence says the value that the fact affirms."""
    values = "|".join(map(re.escape, fact.keywords))
    return bool(re.search(rf"{NOT}(?: [\w']+){{0,4}} (?:{values})\b", sentence, re.IGNORECASE))


def untrue(row: Row) -> list[str]:
    """Claims of the answer that its notes do not hold, or that it denies: "sentence: claim"."""
    facts, question, bad = [_facts()[i] for i in row["fact_ids"]], str(row["instruction"]), []
    of_cheese = any(fact.kind != "science" for fact in facts) or bool(
        cheeses_in(f"{question} {row['output']}")
    )
    for sentence in re.split(r"(?<=[.!?])\s+", str(row["output"])):
        doubted = question if HEDGES.search(sentence) else ""
        for clause in CLAUSE.split(sentence):
            named = cheeses_in(clause)
            about = [f for f in facts if not named or f.kind == "science" or f.subject in named]
            notes = " ".join(fact.statement() for fact in about)
            bad += [
                f"{clause!r} says {claim!r}"
                for claim in sorted(_claims(clause, of_cheese))
                if not (_holds(notes, claim) or _holds(doubted, claim))
            ]
            bad += [f"{clause!r} denies {f.statement()!r}" for f in about if _denied(clause, f)]
    return bad


def _misfits(row: Row) -> list[str]:
    """What is wrong with a row's columns; [] if the rest can be checked."""
    if not isinstance(row, dict) or tuple(row) != COLUMNS:
        return [f"expected the columns {', '.join(COLUMNS)}"]
    wrong = [f"{c}: expected text" for c in ("instruction", "output") if not str(row[c]).strip()]
    wrong += [f"kind {row['kind']!r} is none of {', '.join(KINDS)}"] * (row["kind"] not in KINDS)
    wrong += [f"source {row['source']!r}, expected 'written'"] * (row["source"] != "written")
    unknown = [fact_id for fact_id in row["fact_ids"] if fact_id not in _facts()]
    return wrong + [f"there is no fact {fact_id!r}" for fact_id in unknown]


def faults(row: Row) -> list[str]:
    """What is wrong with one row, in words; [] for a good one."""
    if wrong := _misfits(row):
        return wrong
    facts, output = [_facts()[fact_id] for fact_id in row["fact_ids"]], str(row["output"])
    if list(row["context"]) != [fact.statement() for fact in facts]:
        wrong.append(
            "the context is not, word for word, what its fact_ids say: with_notes renews it"
        )
    if len(facts) not in NOTES or len(set(facts)) < len(facts):
        wrong.append("expected 0 to 5 different notes")
    if (words := len(output.split())) not in WORDS:
        wrong.append(f"the answer has {words} words, expected {WORDS[0]} to {WORDS[-1]}")
    if not re.search(r"[.!?…]$", output):
        wrong.append("the answer stops in mid-sentence")
    if spelled := SPELLED_NUMBER.search(output):
        wrong.append(f"a number that cannot be checked: {spelled[0]!r}; write digits")
    if row["kind"] == "unknown" and not ADMITS.search(output):
        wrong.append("the notes do not hold the answer, and the answer does not say so")
    used = [all(contains(output, w) for w in fact.keywords) for fact in facts]
    if facts and row["kind"] != "unknown" and not any(used):
        wrong.append("the answer uses none of its notes")
    strangers = cheeses_in(output) - cheeses_in(f"{row['instruction']} {' '.join(row['context'])}")
    wrong += [f"{cheese} is neither asked for nor in the notes" for cheese in sorted(strangers)]
    try:
        home = split_for(row)
        wrong += [f"stands in {row['split']}, expected {home}"] * (home != row["split"])
    except ValueError as error:
        wrong.append(str(error))
    return wrong + untrue(row)


def faults_between(rows: Sequence[Row]) -> list[str]:
    """Copies, near-copies, shared openings and shared phrases, as "rows 3 and 9: ..." """
    wrong, seen = [], {}
    for i, row in enumerate(rows):
        words = canonical(str(row["output"])).split()
        notes = canonical(" ".join(row["context"]))
        said = {("opening", " ".join(words[:OPENING]))}
        for k in range(len(words) - PHRASE + 1):
            phrase = words[k : k + PHRASE]
            runs = (" ".join(phrase[j : j + FACT]) for j in range(PHRASE - FACT + 1))
            if not any(run in notes for run in runs):
                said.add(("phrase", " ".join(phrase)))
        for what, text in sorted(said):
            if (first := seen.setdefault((what, text), i)) != i:
                wrong.append(f"rows {first} and {i}: the same {what}, {text!r}")
    for column, limit in (("instruction", ALIKE_QUESTIONS), ("output", ALIKE_ANSWERS)):
        texts = [str(row[column]) for row in rows]
        alike = jaccard_matrix(texts, texts) if texts else []
        wrong += [
            f"rows {i} and {j}: {column}s too much alike ({alike[i][j]:.2f})"
            for j in range(len(texts))
            for i in range(j)
            if alike[i][j] >= limit
        ]
    return wrong


def check_written(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows as given. Raises ValueError with every fault, one a line."""
    wrong = [f"row {i}: {fault}" for i, row in enumerate(rows) for fault in faults(row)]
    if wrong := wrong or faults_between(rows):
        raise ValueError("\n".join(wrong))
    return rows


# ---------------------------------------------------------------------------------------- its uses
def load_written(split: str | None = None, path: Path = WRITTEN) -> list[Row]:
    """The rows of the written edition, or of one of its splits. Raises ValueError for a line that
    is not JSON.
    """
    return [row for row in read_jsonl(path) if split in (None, row["split"])]


def with_notes(row: Row) -> Row:
    """A row with context, source and split filled in from its instruction, output, kind and
    fact_ids.
    """
    notes = [_facts()[fact_id].statement() for fact_id in row["fact_ids"]]
    full = {**row, "context": notes, "source": "written", "split": split_for(row)}
    return {column: full[column] for column in COLUMNS}


def as_pairs(rows: Iterable[Row], notes: bool = True) -> list[dict[str, str]]:
    """Rows to train on: `question` (with its notes below it, unless `notes` is False), `answer`,
    `kind`, `source`.
    """
    return [
        {
            "question": "\n".join(
                [str(row["instruction"])]
                + (["Notes: " + " ".join(row["context"])] if notes and row["context"] else [])
            ),
            "answer": str(row["output"]),
            "kind": str(row["kind"]),
            "source": str(row["source"]),
        }
        for row in rows
    ]


def same_size(texts: Sequence[str], words: int) -> list[str]:
    """The first texts that hold `words` words together: distinct-n compares sets of equal size."""
    kept, held = [], 0
    for text in texts:
        if held >= words:
            break
        kept.append(text)
        held += len(text.split())
    return kept


def compared(template: Sequence[str], written: Sequence[str]) -> dict[str, dict[str, float]]:
    """The answers of two editions, side by side: pairs, words of an answer, distinct-1 to -4 (on as
    many words of each), and the share in which two of Pavlos' three marks are heard.
    """
    editions = {"template": template, "written": written}
    size = min(sum(len(text.split()) for text in texts) for texts in editions.values())
    return {
        name: {
            "pairs": len(texts),
            "words": sum(len(text.split()) for text in texts) / len(texts),
            **{f"distinct_{n}": distinct_n(same_size(texts, size), n) for n in range(1, 5)},
            "marks": sum(map(speaks_pavlos, texts)) / len(texts),
        }
        for name, texts in editions.items()
    }


def counts(rows: Sequence[Row]) -> dict[str, Counter]:
    """ "split", "kind" and "notes" -> how many rows have each."""
    return {
        "split": Counter(row["split"] for row in rows),
        "kind": Counter(row["kind"] for row in rows),
        "notes": Counter(len(row["context"]) for row in rows),
    }
