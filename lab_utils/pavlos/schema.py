"""What a pair must be, as a pydantic model, and the reasons why some are not: these go to a
quarantine file.

Nothing is dropped in silence. A reason is written for people: "answer: stops in mid-sentence".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from lab_utils.pavlos.cleaning import canonical, clean

FIELDS = {  # what models call the two fields
    "question": ("question", "q", "prompt", "instruction", "user"),
    "answer": ("answer", "a", "response", "output", "completion", "assistant"),
    "context": ("context", "input"),
    "fact_id": ("fact_id", "fact", "card"),
}
SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]*$""")
PLACEHOLDER = re.compile(
    r"\{\w*\}|\[(?:insert|your|name|answer|question)\b|\blorem ipsum\b|\bTODO\b|^\.{3}$",
    re.IGNORECASE,
)
OUT_OF_ROLE = re.compile(
    r"\bas an? (?:AI|(?:large )?language model)\b|\bI(?: am|'m) an? AI\b", re.IGNORECASE
)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}")
    return clean(value)


def _usable(text: str) -> str:
    if PLACEHOLDER.search(text):
        raise ValueError("holds a placeholder")
    if OUT_OF_ROLE.search(text):
        raise ValueError("speaks as a language model")
    if re.search(r'"(?:question|answer)"\s*:', text):
        raise ValueError("holds a piece of JSON: two pairs ran together")
    return text


def _ended(text: str) -> str:
    if not SENTENCE_END.search(text):
        raise ValueError(f"stops in mid-sentence: {text[-30:]!r}")
    return text


def _long(low: int, high: int) -> AfterValidator:
    """pydantic's own min_length speaks of items; a reader wants characters."""

    def within(text: str) -> str:
        if not low <= len(text) <= high:
            raise ValueError(f"has {len(text)} characters, expected {low} to {high}")
        return text

    return AfterValidator(within)


Text = Annotated[str, BeforeValidator(_text), AfterValidator(_usable)]


class Pair(BaseModel):
    """One pair as a reply gives it, cleaned. `fact_id` names the fact card that the answer rests
    on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: Annotated[Text, _long(8, 400)]
    answer: Annotated[Text, _long(8, 1500), AfterValidator(_ended)]
    fact_id: Annotated[str, BeforeValidator(_text)] = ""


def named_fields(found: dict[str, Any]) -> dict[str, Any]:
    """The object with our field names. A context, as Alpaca's `input`, is set behind the question."""
    lowered = {str(key).strip().lower(): value for key, value in found.items()}
    named = {
        name: lowered[alias]
        for name, aliases in FIELDS.items()
        for alias in reversed(aliases)
        if alias in lowered
    }
    context = named.pop("context", "")
    if context and "question" not in named:
        named["question"] = context
    elif context and isinstance(context, str) and isinstance(named["question"], str):
        named["question"] += f" {context}"
    return named


def reasons_of(error: ValidationError) -> str:
    """One line: each field with what is wrong."""
    return "; ".join(
        f"{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    )


def validate(found: dict[str, Any]) -> Pair:
    """The object as a Pair. ValueError says in one line what is wrong with it."""
    named = named_fields(found)
    if not {"question", "answer"} & named.keys():
        raise ValueError(
            f"no question and no answer among the fields {', '.join(map(str, found)) or '(none)'}"
        )
    try:
        pair = Pair(**named)
    except ValidationError as error:
        raise ValueError(reasons_of(error)) from None
    if canonical(pair.question) == canonical(pair.answer):
        raise ValueError("answer: repeats the question")
    return pair


def sift(objects: Sequence[dict]) -> tuple[list[Pair], list[tuple[dict, str]]]:
    """(valid pairs, [(object, reason), ...]): one bad pair costs itself alone."""
    pairs, refused = [], []
    for found in objects:
        try:
            pairs.append(validate(found))
        except ValueError as error:
            refused.append((found, str(error)))
    return pairs, refused
