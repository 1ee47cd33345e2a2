"""From raw replies to the dataset: parse, validate, check against the fact cards, drop copies,
flag, split, report.

Nothing here asks anybody, and nothing is drawn by lot but the split: the same replies and the same
seed give the same bytes. What is left out stands in the quarantine with its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab_utils.files import write_text
from lab_utils.pavlos import write_pairs
from lab_utils.pavlos.diversity import diversity
from lab_utils.pavlos.duplicates import drop_copies, near_duplicates
from lab_utils.pavlos.export import export
from lab_utils.pavlos.facts import Fact, all_facts, is_right
from lab_utils.pavlos.generation import Record
from lab_utils.pavlos.language import guess_language
from lab_utils.pavlos.parsing import parse_reply
from lab_utils.pavlos.persona import speaks_pavlos
from lab_utils.pavlos.schema import Pair, sift
from lab_utils.pavlos.splitting import leak, split_by, split_subjects
from lab_utils.pavlos.topics import coverage

Row = dict[str, str]
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
def make_row(pair: Pair, record: Record, facts: dict[str, Fact]) -> Row:
    """The row of a valid pair. ValueError where its card was not asked for, its fact is wrong or
    its voice is not Pavlos'.
    """
    fact_id = pair.fact_id or (record["cards"][0] if len(record["cards"]) == 1 else "")
    if fact_id not in record["cards"] or fact_id not in facts:
        raise ValueError(
            f"fact_id: {fact_id!r} is none of the {len(record['cards'])} cards that were asked for"
        )
    fact = facts[fact_id]
    if not is_right(fact, pair.answer):
        raise ValueError(
            f"answer: does not give the card's fact, and only that: {fact.statement()}"
        )
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
    refused = [(reason, "") for reason in parsed.rejected]
    refused += [
        (reason, json.dumps(found, ensure_ascii=True, default=str)) for found, reason in bad
    ]
    rows = []
    for pair in pairs:
        try:
            rows.append(make_row(pair, record, facts))
        except ValueError as error:
            refused.append((str(error), pair.model_dump_json()))
    told = [
        {"key": record["key"], "source": record["source"], "reason": reason, "text": text}
        for reason, text in refused
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


def measured(splits: dict[str, list[Row]], facts: dict[str, Fact]) -> dict[str, Any]:
    """Split sizes, leaks, diversity, coverage, and what a person should look at."""
    rows = [row for part in splits.values() for row in part]
    questions = [row["question"] for row in rows]
    held_out = splits["validation"] + splits["test"]
    cells = coverage(rows)
    return {
        "facts": len({row["fact_id"] for row in rows}),
        "splits": {name: len(part) for name, part in splits.items()},
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
        },
    }


# -------------------------------------------------------------------------------------- to the disk
def write(built: Built, folder: Path, card: str, system: str | None = None) -> list[Path]:
    """Write the splits, the quarantine, the report, the card and every export; returns the paths."""
    paths = write_pairs(built.splits, folder)
    lines = "".join(json.dumps(entry, ensure_ascii=True) + "\n" for entry in built.quarantine)
    texts = {
        "quarantine.jsonl": lines,
        "report.json": json.dumps(built.report, indent=1, ensure_ascii=False) + "\n",
        "README.md": card,
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [
        *paths,
        *(folder / name for name in texts),
        *export(built.splits, folder / "exports", system),
    ]
