"""Rows read by people: do two raters agree, and what did they find in a hundred rows?

Raw agreement flatters: two who always say yes agree always. Cohen's kappa takes chance away. What
programs check (marks of the voice, the card's words) is not what a reader sees; so somebody has to
read: `data/pavlos/rubric.csv` holds a hundred rows, judged criterion by criterion.
"""

from __future__ import annotations

import csv
import math
import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from lab_utils.pavlos import FOLDER
from lab_utils.pavlos.facts import Fact

# ======================================================================================= agreement
Row = dict[str, str]


def cohens_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """$\\kappa = (p_o - p_e) / (1 - p_e)$ of two raters' labels of the same rows (Cohen 1960).

    $p_o$ is the share of rows on which they agree, $p_e$ the share expected if each gave his labels
    by lot. NaN where both gave one and the same label throughout: then chance explains all, and
    nothing can be said. Raises ValueError for lists of different or no length.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"expected two equally long lists of labels, got {len(a)} and {len(b)}")
    observed = sum(x == y for x, y in zip(a, b)) / len(a)
    count_a, count_b = Counter(a), Counter(b)
    expected = sum(count_a[label] * count_b[label] for label in count_a) / len(a) ** 2
    return math.nan if expected == 1 else (observed - expected) / (1 - expected)


def agreement(a: Mapping[str, Hashable], b: Mapping[str, Hashable]) -> tuple[int, float, float]:
    """(rows judged by both, share of agreement, Cohen's kappa) of two raters' votes by row."""
    both = sorted(a.keys() & b.keys())
    if not both:
        return 0, 0.0, 0.0
    first, second = [a[key] for key in both], [b[key] for key in both]
    return (
        len(both),
        sum(x == y for x, y in zip(first, second)) / len(both),
        cohens_kappa(first, second),
    )


def with_controls(rows: Sequence[Row], facts: dict[str, Fact], seed: int) -> list[dict[str, str]]:
    """The rows shuffled, each with a `control`: a third as they are, a third without voice, a third
    with a wrong fact.

    Raters who only ever see good rows can't be told from raters who sleep. "as it is", "no voice",
    "wrong fact".
    """
    rng, controls = random.Random(seed), []
    for i, row in enumerate(rows):
        fact, control = facts[row["fact_id"]], ("as it is", "no voice", "wrong fact")[i % 3]
        answer = fact.statement() if control == "no voice" else row["answer"]
        if control == "wrong fact":
            answer = answer.replace(fact.value, rng.choice(_other_values(fact, facts)))
        controls.append({**row, "answer": answer, "control": control})
    rng.shuffle(controls)
    return controls


def _other_values(fact: Fact, facts: dict[str, Fact]) -> list[str]:
    return sorted(
        {other.value for other in facts.values() if other.kind == fact.kind} - {fact.value}
    )


# ====================================================================================== the rubric
CRITERIA = {
    "fact": "the answer gives the fact of its card, and nothing beside it",
    "answers": "the answer answers this very question",
    "voice": "one hears Pavlos: the welcome, the gold, the oath, and all in one breath",
    "language": "question and answer are sound English; a carelessly typed question is meant so",
    "no_repetition": "no word of the voice comes twice but for his manner: no second "
    "'opa', 'bravo' or 'friend'",
}


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
