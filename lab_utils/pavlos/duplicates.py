"""Copies and near-duplicates among questions, and why the usual measure fails on a narrow subject.

ROUGE-L >= 0.7, as in Self-Instruct (Wang et al. 2022, arXiv:2212.10560, section 2.2) and Alpaca,
counts common words in order. "Which country does Feta come from?" and "Which country does Brie come
from?" share five words of six: merged, though each teaches another fact. What tells them apart are
the content words, so these alone are compared, by Jaccard's measure. Exact copies are dropped; near
ones are flagged, for a person to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from lab_utils.pavlos.cleaning import canonical

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
