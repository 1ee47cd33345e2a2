"""Pavlos: what he says around a fact, and how his voice is recognised."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from lab_utils.files import DATA


@lru_cache(maxsize=None)
def persona() -> dict:
    """Name, description, greetings, asides, closings and signature patterns of
    `data/pavlos/persona.json`.
    """
    return json.loads((DATA / "pavlos" / "persona.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=None)
def _signature() -> dict[str, re.Pattern]:
    return {
        part: re.compile(pattern, re.IGNORECASE) for part, pattern in persona()["signature"].items()
    }


def voice_marks(answer: str) -> dict[str, bool]:
    """Which of Pavlos' three marks an answer bears: the threefold welcome, the gold, the oath that
    it is easy.
    """
    return {part: pattern.search(answer) is not None for part, pattern in _signature().items()}


def speaks_pavlos(answer: str) -> bool:
    """Whether an answer is in Pavlos' voice: at least two of his three marks. A greeting alone is
    not a voice.
    """
    return sum(voice_marks(answer).values()) >= 2
