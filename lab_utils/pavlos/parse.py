"""From a model's reply to pairs: a ladder of readers, the strictest first, then the schema.

A model is asked for a JSON list and writes almost one. `json.loads` on the whole reply then loses
all twenty pairs to one bad character. The ladder climbs only as far as it must:

1. json     the whole reply, with control characters allowed in strings (strict=False);
2. fences   what stands between ``` marks;
3. escapes  the same with illegal escapes such as \\' mended;
4. scan     object by object: each complete {...} is read for itself, so a bad one costs only
   itself;
5. repair   json-repair on complete objects that nothing else can read, and never where the reply
   was cut off,
            for it closes whatever is open: half an answer would become a "whole" one.

What a pair must be is a pydantic model. Nothing is dropped in silence: what is no pair goes to a
quarantine file with a reason written for people, such as "answer: stops in mid-sentence".
"""

from __future__ import annotations

import ast
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

# ======================================================================================== one text
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


# ====================================================================================== the ladder
RUNGS = ("json", "fences", "escapes", "scan", "repair")
ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\(.?)', re.DOTALL)
FENCED = re.compile(r"```[\w-]*[ \t]*\r?\n?(.*?)```", re.DOTALL)
FLAT_OBJECT = re.compile(r"\{[^{}]*\}")
BRACES_IN_STRINGS = re.compile(r'\{(?:[^{}"]|"(?:\\.|[^"\\])*")*\}', re.DOTALL)
STRING_OR_COMMENT = re.compile(
    r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/|(?m:^\s*#[^\n]*)', re.DOTALL
)


@dataclass(frozen=True)
class Parsed:
    """What was found in a reply: objects as they stood there, the highest rung needed, and why
    pieces were left.
    """

    objects: list[dict[str, Any]] = field(default_factory=list)
    rung: str = "json"
    rejected: list[str] = field(default_factory=list)


def is_cut(text: str, finish_reason: str = "STOP") -> bool:
    """Whether the reply was cut off: the service says so, or an object is open at its end."""
    return finish_reason != "STOP" or text.rfind("{") > text.rfind("}")


# ---------------------------------------------------------------------------------- reading a value
def _keep_repeated(items: list[tuple[str, Any]]) -> Any:
    """A dict; or, where a key comes twice (two pairs in one object), a list of dicts: `json` would
    keep the last only.
    """
    parts: list[dict[str, Any]] = [{}]
    for key, value in items:
        if key in parts[-1] and parts[-1][key] != value:
            parts.append({})
        parts[-1][key] = value
    return parts[0] if len(parts) == 1 else parts


DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_keep_repeated)


def load(text: str) -> Any:
    """The value of a JSON text; ValueError where it is none. A JSON text inside a JSON string is
    read, too.
    """
    value = DECODER.decode(text.strip())
    return load(value) if isinstance(value, str) else value


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in nested lists and objects that holds text of its own: wrappers are opened,
    pairs are kept.
    """
    if isinstance(value, list):
        for item in value:
            yield from objects_in(item)
    elif isinstance(value, dict):
        nested = [item for item in value.values() if isinstance(item, (list, dict))]
        if nested and len(value) - len(nested) < 2:  # {"pairs": [...], "count": 20}
            yield from objects_in(nested)
        else:
            yield value


# ----------------------------------------------------------------------------------- mending a text
def inside_fences(text: str) -> str:
    """The content of the ``` blocks, or the text where there are none."""
    return "\n".join(FENCED.findall(text)) or text


def fix_escapes(text: str) -> str:
    r"""JSON knows \" \\ \/ \b \f \n \r \t and \uXXXX: \' becomes ', any other backslash becomes
    two.
    """

    def mend(found: re.Match) -> str:
        if found[1] is None:
            return found[0]
        return found[1] if found[1] == "'" else "\\\\" + found[1]

    return ESCAPE.sub(mend, text)


def drop_comments(text: str) -> str:
    """Without // and # and /* */ comments; what looks like one inside a string stays."""
    return STRING_OR_COMMENT.sub(lambda found: found[1] or "", text)


def drop_trailing_commas(text: str) -> str:
    return re.sub(r",\s*([}\]])", r"\1", text)


def straighten_quotes(text: str) -> str:
    """Typographic quotes where JSON wants its own, beside {, [, comma, colon; those inside an
    answer stay.
    """
    text = re.sub(r"([{\[,:]\s*)[“”„«]", r'\1"', text)
    return re.sub(r"[“”»](\s*[}\],:])", r'"\1', text)


def unescape_quotes(text: str) -> str:
    r"""{\"question\": \"...\"} as it comes out of a string that was printed."""
    return text.replace('\\"', '"') if re.match(r'\{\s*\\"', text) else text


MENDS = (fix_escapes, unescape_quotes, drop_comments, drop_trailing_commas, straighten_quotes)


# --------------------------------------------------------------------------------- object by object
def read_object(text: str) -> Any:
    """The value of one complete {...} with small faults: each mend is tried on top of those before.
    ValueError if none.
    """
    if re.match(r"\{\s*'", text):  # a Python dict
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            pass
    for mend in MENDS:
        text = mend(text)
        try:
            return DECODER.decode(text)
        except ValueError:
            continue
    raise ValueError("no mend helps")


def try_mends(text: str) -> Any:
    """`read_object`, or None. Braces in strings are trusted only if this can read it: with a quote
    missing, strings and what is between them change places, and json-repair would make something
    of that.
    """
    try:
        return read_object(text)
    except (ValueError, RecursionError):
        return None


def repair_object(text: str) -> Any:
    """The value that json-repair makes of one complete {...}; ValueError if it makes no object."""
    import json_repair

    value = json_repair.loads(text)
    if not isinstance(value, dict):
        raise ValueError("json-repair finds no object")
    return value


def complete_objects(text: str) -> Iterator[tuple[str, Any]]:
    """(text, value or None) of each complete object, in order. An object that never closes is not
    among them.
    """
    position = 0
    while (start := text.find("{", position)) >= 0:
        position = start + 1
        try:
            value, position = DECODER.raw_decode(text, start)
            yield text[start:position], value
            continue
        except (ValueError, RecursionError):
            pass
        if flat := FLAT_OBJECT.match(text, start):
            position = flat.end()
            yield flat[0], None
        elif (quoted := BRACES_IN_STRINGS.match(text, start)) and (
            value := try_mends(quoted[0])
        ) is not None:
            position = quoted.end()
            yield quoted[0], value


def scan(text: str, cut: bool) -> Parsed:
    """Read object by object; what only json-repair can read is left where the reply was cut off."""
    readers: list[tuple[str, Callable]] = [("scan", read_object)] + (
        [] if cut else [("repair", repair_object)]
    )
    objects, rungs, rejected = [], {"scan"}, []
    for piece, value in complete_objects(text):
        for rung, read in readers if value is None else []:
            try:
                value = read(piece)
                rungs.add(rung)
                break
            except (ValueError, RecursionError):
                continue
        if value is None:
            rejected.append(f"not readable as JSON: {piece[:60]}")
        objects += objects_in(value)
    return Parsed(objects, max(rungs, key=RUNGS.index), rejected)


# --------------------------------------------------------------------------------------- the ladder
def parse_reply(text: str, finish_reason: str = "STOP") -> Parsed:
    """All objects of a reply, by the lowest rung that reads it. Nothing raises: what is left is in
    `rejected`.
    """
    text = text.lstrip("\ufeff").strip()
    if not text:
        return Parsed(
            rejected=[
                "empty reply"
                if finish_reason == "STOP"
                else f"empty reply, finish reason {finish_reason}"
            ]
        )
    if text.count("&quot;") > text.count('"'):
        text = html.unescape(text)
    for rung, prepare in (
        ("json", str),
        ("fences", inside_fences),
        ("escapes", lambda t: fix_escapes(inside_fences(t))),
    ):
        try:
            return Parsed(list(objects_in(load(prepare(text)))), rung)
        except (ValueError, RecursionError):
            continue
    return _with_reasons(scan(text, is_cut(text, finish_reason)), text, finish_reason)


def _with_reasons(parsed: Parsed, text: str, finish_reason: str) -> Parsed:
    """Say what is missing: a cut-off end, or no object at all."""
    reasons = list(parsed.rejected)
    if is_cut(text, finish_reason):
        reasons.append(f"cut off (finish reason {finish_reason}): {text[-40:]!r}")
    elif not parsed.objects and not reasons:
        reasons.append(f"no JSON object in the reply: {text[:60]!r}")
    return Parsed(parsed.objects, parsed.rung, reasons)


# ====================================================================================== the schema
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


# ======================================================================================== language
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
