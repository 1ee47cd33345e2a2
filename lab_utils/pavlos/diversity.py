"""How diverse the texts are: distinct-n (Li et al. 2016, arXiv:1510.03055, section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

from lab_utils.pavlos.cleaning import canonical


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
