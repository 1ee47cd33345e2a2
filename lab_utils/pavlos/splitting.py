"""Into train, validation and test without a leak: by what the rows are about, not row by row.

Ten questions about one fact, dealt out at random, put some of them into training and the others
into the test: the test then asks for what was learnt by heart. So a whole subject (a cheese, a
topic of dairy science) goes to one split.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence

from lab_utils.pavlos.duplicates import jaccard_matrix
from lab_utils.pavlos.facts import all_facts

SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}
Row = dict[str, str]


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
