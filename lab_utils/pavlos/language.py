"""Which language a text is in, told by its small words. Enough to flag a row for a person; not a
language identifier.
"""

from __future__ import annotations

import re
import unicodedata

SMALL_WORDS = {  # words of one language that are none, or rare, in the others
    "en": "the is are of and to for what which where how with it that you this from does my so".split(),
    "de": "der die das ist und von zu mit was welche wo wie nicht ein eine ich sie aus wird auch".split(),
    "fr": "le les est et une des du que quel quelle avec pour dans je vous cette qui au sur ce".split(),
    "es": "el los las es y una del que cuál qué dónde cómo con para por este se su lo muy".split(),
    "it": "il gli è e una del della che quale dove come con per di questo si sono lo nel mi".split(),
    "el": "το η ο οι τα και είναι από με για του της που ποιο την τον ένα στο σας να".split(),
}


def small_word_counts(text: str) -> dict[str, int]:
    """Language -> how many of its small words the text has."""
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", text).lower())
    return {language: sum(word in own for word in words) for language, own in SMALL_WORDS.items()}


def guess_language(text: str) -> str:
    """The language with the most small words, English where it shares the lead; "?" where the text
    has none.
    """
    counts = small_word_counts(text)
    best = max(counts.values())
    if best == 0:
        return "?"
    return "en" if counts["en"] == best else max(counts, key=counts.get)
