"""Text metrics for `evaluate` that need no download: it loads each file of this folder as a metric
module.
"""

import re

from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

_tokenizer = Tokenizer13a()


def words(text: str) -> list[str]:
    """Lower-case tokens of WMT's "13a" tokenizer, punctuation marks apart: what NIST and METEOR
    compare.
    """
    return _tokenizer(text.lower()).split()


def plain_words(text: str) -> list[str]:
    """`words` without those that are punctuation only: what CIDEr compares."""
    return [word for word in words(text) if re.search(r"\w", word)]
