"""One text, cleaned: what no reader wants to see and no file can hold is taken out, the words stay
as they are.
"""

from __future__ import annotations

import html
import re
import unicodedata

TAGS = re.compile(r"</?(?:a|b|br|code|div|em|i|li|p|pre|span|strong|ul)\b[^<>]*/?>", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# combining marks, once NFKD has taken them off their letters
ACCENTS = re.compile(r"[\u0300-\u036f]")
# byte order mark, zero-width, soft hyphen
INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))


def clean(text: str) -> str:
    """The text in Unicode form NFC, on one line, without tags, control characters, lone surrogates
    and `**`.

    A lone surrogate is half of a character, left by a cut emoji: UTF-8 can't hold it, so writing it
    would raise.
    """
    # halves that belong together are joined
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
    text = html.unescape(TAGS.sub(" ", text)).replace("**", "").translate(INVISIBLE)
    return " ".join(unicodedata.normalize("NFC", CONTROL.sub(" ", text)).split())


def canonical(text: str) -> str:
    """What is left of a text when case, accents, punctuation and spaces don't count: equal for
    copies.
    """
    plain = ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return " ".join(re.findall(r"\w+(?:[.,]\d+)*", plain.casefold()))
