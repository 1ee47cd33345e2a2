"""A hundred rows of the dataset, read and judged by people, criterion by criterion:
`data/pavlos/rubric.csv`.

What programs check (marks of the voice, the card's words) is not what a reader sees; so somebody
has to read.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

from lab_utils.pavlos import FOLDER

CRITERIA = {
    "fact": "the answer gives the fact of its card, and nothing beside it",
    "answers": "the answer answers this very question",
    "voice": "one hears Pavlos: the welcome, the gold, the oath, and all in one breath",
    "language": "question and answer are sound English; a carelessly typed question is meant so",
    "no_repetition": "no word of the voice comes twice but for his manner: no second 'opa', 'bravo' or 'friend'",
}
Row = dict[str, str]


def sample_rows(rows: Sequence[Row], n: int = 100, seed: int = 0) -> list[Row]:
    """n rows drawn without repeats, the same for the same seed."""
    return random.Random(seed).sample(list(rows), n)


def load_rubric(path: Path = FOLDER / "rubric.csv") -> tuple[list[str], list[Row]]:
    """(the lines of the header that say who judged and how, the judged rows: fact_id, a 1 or 0 for
    each criterion, note).
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    return header, list(csv.DictReader(line for line in lines if not line.startswith("#")))


def rubric_shares(judged: Sequence[Row]) -> dict[str, float]:
    """Criterion -> share of rows that meet it."""
    return {name: sum(row[name] == "1" for row in judged) / len(judged) for name in CRITERIA}
