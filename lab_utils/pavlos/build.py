"""From raw replies to the dataset: check against the cards, drop copies, split, measure.

Nothing here asks anybody, and nothing is drawn by lot but the split: the same replies and the same
seed give the same bytes. What is left out stands in the quarantine with its reason.

Near-duplicates: ROUGE-L >= 0.7, as in Self-Instruct (Wang et al. 2022, arXiv:2212.10560, section
2.2) and Alpaca, counts common words in order. "Which country does Feta come from?" and "Which
country does Brie come from?" share five words of six: merged, though each teaches another fact.
What tells them apart are the content words, so these alone are compared, by Jaccard's measure.
Exact copies are dropped; near ones are flagged, for a person to look at.

The split: ten questions about one fact, dealt out at random, put some of them into training and the
others into the test: the test then asks for what was learnt by heart. So a whole subject (a cheese,
a topic of dairy science) goes to one split.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from lab_utils.pavlos.ask import Record, coverage
from lab_utils.pavlos.corpus import speaks_pavlos
from lab_utils.pavlos.facts import Fact, all_facts, deal, objections, split_subjects, unchecked
from lab_utils.pavlos.ladder import parse_reply
from lab_utils.pavlos.parse import (
    Pair,
    Rejected,
    canonical,
    guess_language,
    match_card,
    sift,
)

# ====================================================================== copies and near-duplicates
STOP_WORDS = frozenset(
    (
        "a an the and or of in on at to from for with by as is are was be does do did has have can "
        "could will would should what which where when who whose how why that this these it its i "
        "you "
        "me my your tell know want please not so"
    ).split()
)
THRESHOLD = 0.7
Match = tuple[int, int, float]  # positions of two texts, the first smaller, and how alike they are


@lru_cache(maxsize=100_000)
def content_words(text: str) -> frozenset[str]:
    """The words of a text, without case, accents and function words."""
    return frozenset(canonical(text).split()) - STOP_WORDS


def jaccard(a: frozenset | set, b: frozenset | set) -> float:
    """$|A \\cap B| / |A \\cup B|$; 0 for two empty sets, which say nothing."""
    return len(a & b) / len(a | b) if a or b else 0.0


def drop_copies(
    rows: Sequence[dict[str, str]],
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(rows kept, copies): a row whose question and answer are canonically those of an earlier row
    is a copy.
    """
    seen, kept, copies = set(), [], []
    for row in rows:
        key = canonical(row["question"]), canonical(row["answer"])
        (copies if key in seen else kept).append(row)
        seen.add(key)
    return kept, copies


def jaccard_matrix(a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """Content-word Jaccard of each text of `a` with each of `b`: (len(a), len(b)) float32, as one
    matrix product.
    """
    sets = [content_words(text) for text in (*a, *b)]
    place = {word: i for i, word in enumerate(sorted(frozenset().union(*sets)))}
    held = np.zeros((len(sets), len(place)), np.float32)  # 1 where a text holds a word
    for row, words in zip(held, sets):
        row[[place[word] for word in words]] = 1
    left, right = held[: len(a)], held[len(a) :]
    common = left @ right.T
    either = left.sum(1)[:, None] + right.sum(1)[None] - common
    return common / np.maximum(either, 1)


def near_duplicates(texts: Sequence[str], threshold: float = THRESHOLD) -> list[Match]:
    """Pairs of texts whose content words have a Jaccard of at least `threshold`."""
    alike = np.triu(jaccard_matrix(texts, texts), 1)
    return [(int(i), int(j), float(alike[i, j])) for i, j in np.argwhere(alike >= threshold - 1e-6)]


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F1 of two texts, by Google's rouge_score."""
    return _rouge_scorer().score(a, b)["rougeL"].fmeasure


@lru_cache(maxsize=1)
def _rouge_scorer():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])


def matches(
    texts: Sequence[str], measure: Callable[[str, str], float], threshold: float = THRESHOLD
) -> list[Match]:
    """Pairs of texts that any measure finds alike, one comparison at a time: for a few hundred
    texts.
    """
    scores = (
        (i, j, measure(texts[i], texts[j]))
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
    )
    return [match for match in scores if match[2] >= threshold]


# ======================================================================================= diversity
def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words over all n-grams, counted within each text. It falls as a set
    grows: compare equal sizes.

    Raises ValueError where no text has n words.
    """
    grams = [
        tuple(words[i : i + n])
        for words in (canonical(text).split() for text in texts)
        for i in range(len(words) - n + 1)
    ]
    if not grams:
        raise ValueError(f"no text has {n} words")
    return len(set(grams)) / len(grams)


def diversity(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, float]]:
    """ "question" and "answer" -> distinct-1, distinct-2, the share of texts that differ, and the
    mean number of words.
    """
    told = {}
    for part in ("question", "answer"):
        texts = [row[part] for row in rows]
        told[part] = {
            "distinct_1": distinct_n(texts, 1),
            "distinct_2": distinct_n(texts, 2),
            "different": len(set(map(canonical, texts))) / len(texts),
            "words": sum(len(text.split()) for text in texts) / len(texts),
        }
    return told


# ========================================================================================== splits
Row = dict[str, str]


def split_by_row(rows: Sequence[Row], seed: int) -> dict[str, list[Row]]:
    """The usual random split, which leaks where several rows share a fact."""
    return deal(rows, seed)


def split_by(
    rows: Sequence[Row], key: Callable[[Row], Hashable], parts: dict[str, set]
) -> dict[str, list[Row]]:
    """Each row goes where `parts` has its key; the order stays. Raises KeyError for a key that is
    in no part.
    """
    where = {value: name for name, values in parts.items() for value in values}
    splits: dict[str, list[Row]] = {name: [] for name in parts}
    for row in rows:
        splits[where[key(row)]].append(row)
    return splits


def leak(
    train: Sequence[Row],
    held_out: Sequence[Row],
    key: Callable[[Row], Hashable] = lambda row: row["fact_id"],
) -> float:
    """The share of held-out rows whose key (by default the fact) is also in training. Raises
    ValueError for no rows.
    """
    if not held_out:
        raise ValueError("no held-out rows: there is nothing to measure a leak on")
    known = {key(row) for row in train}
    return sum(key(row) in known for row in held_out) / len(held_out)


def copycat(train: Sequence[Row], held_out: Sequence[Row]) -> list[str]:
    """For each held-out row the answer of the training row with the most similar question.

    It understands nothing: what it gets right on a test was in the training rows.
    """
    alike = jaccard_matrix(
        [row["question"] for row in held_out], [row["question"] for row in train]
    )
    return [train[i]["answer"] for i in alike.argmax(axis=1)]


# ==================================================================================== the pipeline
Refused = dict[str, str]  # key and source of the reply, the reason, and the text that was refused


class Built(NamedTuple):
    """The dataset with what was left out and what was measured."""

    splits: dict[str, list[Row]]
    quarantine: list[Refused]
    report: dict[str, Any]


def facts_by_id() -> dict[str, Fact]:
    """Every fact card by its id."""
    return {fact.fact_id: fact for fact in all_facts()}


# ---------------------------------------------------------------------------------------- one reply
def card_of(pair: Pair, cards: Sequence[str], facts: dict[str, Fact]) -> str:
    """The id of the card that a pair rests on. An id that the pair gives must be one of the cards
    that were asked for; without one the place where it stood may name it, or it is the only card
    that the pair fits. ValueError where none is found.
    """
    named = match_card(pair.fact_id, cards)
    if pair.fact_id and not named and not pair.fact_id.isdigit():
        raise ValueError(
            f"fact_id: {pair.fact_id!r} is none of the {len(cards)} cards that were asked for"
        )
    hinted = [card for hint in pair.hint.split(" > ") if (card := match_card(hint, cards))]
    if named or hinted or len(cards) == 1:
        return named or (hinted or list(cards))[0]
    fitting = [c for c in cards if not objections(facts[c], pair.question, pair.answer)]
    if len(fitting) != 1:
        raise ValueError(
            f"fact_id: missing, and of the {len(cards)} cards that were asked for the pair fits "
            f"{len(fitting) or 'none'}"
        )
    return fitting[0]


def make_row(pair: Pair, record: Record, facts: dict[str, Fact]) -> Row:
    """The row of a valid pair. ValueError where its card was not asked for, its fact is wrong or
    its voice is not Pavlos'.
    """
    fact_id = card_of(pair, [card for card in record["cards"] if card in facts], facts)
    fact = facts[fact_id]
    if against := objections(fact, pair.question, pair.answer):
        raise ValueError(against[0])
    if not speaks_pavlos(pair.answer):
        raise ValueError("answer: has fewer than two of Pavlos' three marks")
    return {
        "question": pair.question,
        "answer": pair.answer,
        "fact_id": fact_id,
        "kind": fact.kind,
        "source": record["source"],
    }


def read_reply(record: Record, facts: dict[str, Fact]) -> tuple[list[Row], list[Refused], str]:
    """(rows, what was refused, the rung of the ladder) of one raw reply. A bad pair costs itself,
    not the reply.
    """
    parsed = parse_reply(record["text"], record["finish_reason"])
    pairs, bad = sift(parsed.objects)
    refused, rows = [*parsed.rejected, *bad], []
    for pair in pairs:
        try:
            rows.append(make_row(pair, record, facts))
        except ValueError as error:
            refused.append(Rejected(str(error), pair.model_dump_json(exclude={"hint"})))
    told = [
        {
            "key": record["key"],
            "source": record["source"],
            "reason": piece.reason,
            "text": piece.text,
        }
        for piece in refused
    ]
    return rows, told, parsed.rung


# -------------------------------------------------------------------------------------- all replies
def build(records: Iterable[Record], seed: int = 0) -> Built:
    """The dataset from raw replies. Raises ValueError where not one pair is left."""
    facts, records = facts_by_id(), list(records)
    read = [read_reply(record, facts) for record in records]
    rows, copies = drop_copies([row for rows, _, _ in read for row in rows])
    if not rows:
        raise ValueError(
            f"no pair is left of {len(records)} replies: read the reasons in the quarantine, or "
            "the raw replies"
        )
    quarantine = [entry for _, refused, _ in read for entry in refused]
    splits = split_by(rows, lambda row: facts[row["fact_id"]].subject, split_subjects(seed))
    counts = {
        "replies": len(records),
        "rungs": dict(Counter(rung for _, _, rung in read)),
        "refused": len(quarantine),
        "copies": len(copies),
        "rows": len(rows),
    }
    return Built(
        splits,
        quarantine,
        {"seed": seed, "sources": sources(records, rows), **counts, **measured(splits, facts)},
    )


def sources(records: Sequence[Record], rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Provenance: for each source its models, days, calls, tokens and rows."""
    told = {}
    for name in dict.fromkeys(record["source"] for record in records):
        own = [record for record in records if record["source"] == name]
        told[name] = {
            "models": sorted({record["model"] for record in own}),
            "calls": len(own),
            "days": sorted({record["when"][:10] for record in own if record.get("when")}),
            "tokens": sum(record["prompt_tokens"] + record["output_tokens"] for record in own),
            "rows": sum(row["source"] == name for row in rows),
        }
    return told


def to_read(rows: Sequence[Row], facts: dict[str, Fact]) -> dict[str, list[list[str]]]:
    """ "unchecked" -> [question, reason] of rows with something that a program cannot judge; {}
    where there are none.
    """
    told = [
        [row["question"], reason]
        for row in rows
        for reason in unchecked(facts[row["fact_id"]], row["question"], row["answer"])
    ]
    return {"unchecked": told} if told else {}


def measured(splits: dict[str, list[Row]], facts: dict[str, Fact]) -> dict[str, Any]:
    """Split sizes, leaks, diversity, coverage, and what a person should look at."""
    rows = [row for part in splits.values() for row in part]
    questions = [row["question"] for row in rows]
    held_out = splits["validation"] + splits["test"]
    cells = coverage(rows)
    return {
        "facts": len({row["fact_id"] for row in rows}),
        "splits": {name: len(part) for name, part in splits.items()},
        "digest": hashlib.sha256(json.dumps(splits).encode()).hexdigest()[:12],
        "leak": {
            "facts": leak(splits["train"], held_out),
            "subjects": leak(splits["train"], held_out, lambda row: facts[row["fact_id"]].subject),
        }
        if held_out
        else {},
        "diversity": {
            part: {name: round(value, 4) for name, value in told.items()}
            for part, told in diversity(rows).items()
        },
        "coverage": {"cells": len(cells), "filled": sum(count > 0 for count in cells.values())},
        "flagged": {
            "near_duplicates": [
                [questions[i], questions[j], round(score, 3)]
                for i, j, score in near_duplicates(questions)
            ],
            "language": [
                row["question"]
                for row in rows
                if guess_language(f"{row['question']} {row['answer']}") not in ("en", "?")
            ],
            **to_read(rows, facts),
        },
    }
