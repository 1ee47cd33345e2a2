"""From what a reply holds to pairs: the names of fields, wrappers, and the schema.

`ladder` reads the text of a reply; here the values that it finds become rows. Rows are found by
walking: through lists in lists, objects in objects, JSON in strings, columns, a mapping from ids to
pairs. What a pair must be is a pydantic model. Nothing is dropped in silence: what is no row, and
what is no pair, goes to a quarantine file with its raw text and a reason written for people, such
as "answer: stops in mid-sentence".
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from lab_utils.pavlos.lenient import DECODER

# ======================================================================================== one text
TAGS = re.compile(r"</?(?:a|b|br|code|div|em|i|li|p|pre|span|strong|ul)\b[^<>]*/?>", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# combining marks, once NFKD has taken them off their letters
ACCENTS = re.compile(r"[\u0300-\u036f]")
# byte order mark, zero-width marks, marks of direction, soft hyphen
INVISIBLE = dict.fromkeys(
    map(
        ord,
        "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\u00ad\u061c\u180e"
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    )
)
SENTENCE_ENDS = ".!?。！？।؟"
CLOSING_MARKS = "\"'“”’»›)]*_~`」』）\ufe0f "
EMOTICON = re.compile(r"(?:(?<=[\s.!?])|^)(?:[:;=8][-'’]?[)D(pPoO*\]]|<3|\^_?\^)$")
ELLIPSIS = re.compile(r"(?<![.!?…])(?:\.{2,}|…)$")


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


def ends_as_sentence(text: str) -> bool:
    """Whether the text ends with a mark of a sentence's end, or with an emoji or an emoticon;
    quotes, brackets and asterisks behind it don't count. "Feta comes from..." breaks off.
    """
    smiles = False
    while text:
        if found := EMOTICON.search(text):
            text, smiles = text[: found.start()], True
        elif unicodedata.category(text[-1]) in ("So", "Sk"):
            text, smiles = text[:-1], True
        elif text[-1] in CLOSING_MARKS:
            text = text[:-1]
        else:
            break
    if not text or ELLIPSIS.search(text):
        return False
    return smiles or text[-1] in SENTENCE_ENDS + "…"


# ================================================================================= names of fields
ALIASES = {  # what models call the fields, in the order in which they count
    "question": "question q query ask prompt instruction user human customer guest problem "
    "textinput dt "
    "frage pregunta domanda pergunta vraag ερωτηση вопрос pytanie soru fraga sporgsmal kysymys "
    "otazka kerdes intrebare питання 问题 問題 質問 질문 سؤال",
    "answer": "answer a ans response reply output completion assistant gpt bot model pavlos "
    "solution target textoutput dd "
    "antwort reponse respuesta risposta resposta antwoord απαντηση ответ "
    "odpowiedz cevap yanit svar vastaus odpoved valasz raspuns відповідь 答案 回答 答え 답변 답 "
    "إجابة جواب",
    "context": "context input background kontext contexte contexto",
    "fact_id": "factid factcard cardid fact card faktid karte",
    "hint": "hint id key ref reference number no nr",
}
FIELD_OF = {
    alias: (field, rank)
    for field, aliases in ALIASES.items()
    for rank, alias in enumerate(canonical(aliases).split())
}
# words around a name that change nothing: "the question text", "Pavlos's answer 2"
DECORATION = re.compile(r"^(?:the|user|your|full|final|sample|pavlos)(?=.)|(?<=.)(?:text|string)$")


def field_of(name: Any) -> tuple[str, int]:
    """(our name of the field, how far down among its aliases this one stands); ("", 0) for a name
    that is none of them. "Question", "question_text", "Q1" and "questions" are questions.
    """
    letters = re.sub(r"[\W\d_]+", "", canonical(str(name)))
    for form in (letters, DECORATION.sub("", letters), letters.removesuffix("s")):
        if form in FIELD_OF:
            return FIELD_OF[form]
    return "", 0


def named_fields(found: dict[str, Any]) -> dict[str, Any]:
    """The object's fields under our names, others left out. A context, as Alpaca's `input`, is set
    behind the question.
    """
    named: dict[str, Any] = {}
    for (field, _), value in sorted(
        ((field_of(key), value) for key, value in found.items()), key=lambda item: item[0]
    ):
        if field:
            named.setdefault(field, value)
    context = named.pop("context", "")
    if context and "question" not in named:
        named["question"] = context
    elif context and isinstance(context, str) and isinstance(named["question"], str):
        named["question"] += f" {context}"
    return named


def card_key(text: str) -> str:
    """What is left of a card's id when brackets, case, accents, and the marks between its words
    don't count. Of a whole line of the prompt, the id in its brackets.
    """
    bracketed = re.match(r"\s*\[([^\]]+)\]", text)
    words = re.findall(r"[^\W_]+", canonical(bracketed[1] if bracketed else text))
    while len(words) > 1 and words[0] in ("fact", "card", "id", "factid", "cardid"):
        words = words[1:]
    return " ".join(words)


def match_card(text: str, cards: Iterable[str]) -> str:
    """The one of the cards that were asked for that an id of a reply means, or ""."""
    wanted = card_key(text)
    meant = [card for card in cards if wanted and card_key(card) == wanted]
    return text if text in cards else meant[0] if len(meant) == 1 else ""


# ============================================================================================ rows
DEEPEST = 20  # a list of pairs that is nested deeper is no list of pairs
SPEAKERS = {"role", "from", "speaker", "author"}
SAID = ("content", "value", "text", "parts")
Row = dict[str, Any]


@dataclass(frozen=True)
class Rejected:
    """A piece of a reply that is no row: why, and the piece as it stood there."""

    reason: str
    text: str


def raw(value: Any) -> str:
    """A value as JSON text, for the quarantine."""
    try:
        return json.dumps(value, ensure_ascii=True, default=str)
    except RecursionError:
        return "(nested too deeply to be written)"


def rows_in(value: Any, place: str = "", depth: int = 0) -> Iterator[Row | Rejected]:
    """Every row in a value, with our names of the fields, and what is none. A row's `hint` is the
    key under which it stood: perhaps the id of its card.
    """
    if isinstance(value, Rejected):
        yield value
    elif depth > DEEPEST:
        yield Rejected(f"nested more than {DEEPEST} levels deep", raw(value))
    elif isinstance(value, dict):
        yield from _rows_in_object(value, place, depth)
    elif isinstance(value, list):
        yield from _rows_in_list(value, place, depth)
    elif _is_json(value):
        yield from rows_in(_loaded(value), place, depth + 1)
    else:
        yield Rejected("no object with a question and an answer", raw(value))


def _is_json(value: Any) -> bool:
    """Whether a value is a text that holds a JSON list or object."""
    return isinstance(value, str) and bool(re.match(r"""\s*(?:\{\s*"|\[\s*["{\[])""", value))


def _loaded(text: str) -> Any:
    """The value of a JSON text, or the text rejected."""
    try:
        return DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        return Rejected("not readable as JSON", text)


def _rows_in_object(found: dict[str, Any], place: str, depth: int) -> Iterator[Row | Rejected]:
    named = named_fields(found)
    pairs = _columns(named) or _numbered(found) or _question_keys(found)
    if pairs:
        for pair in pairs:
            yield from rows_in(pair, place, depth + 1)
    elif _is_row(found, named):
        yield _with_hint({k: v for k, v in named.items() if v is not None}, place)
        yield from _rows_beside(found, place, depth)
    else:
        card = named.get("fact_id")
        yield from _rows_in_wrapper(found, _path(place, card) if card else place, depth)


def _rows_beside(found: dict[str, Any], place: str, depth: int) -> Iterator[Row]:
    """The pairs in further fields of a pair: {"question": ..., "answer": ..., "more": [...]}."""
    for key, value in found.items():
        if isinstance(value, (dict, list)) and not field_of(key)[0]:
            inner = rows_in(value, _path(place, key), depth + 1)
            yield from (row for row in inner if isinstance(row, dict))


def _path(place: str, key: Any) -> str:
    return f"{place} > {key}" if place else str(key)


def _with_hint(row: Row, place: str) -> Row:
    hint = _path(place, row["hint"]) if "hint" in row else place
    return row | {"hint": hint} if hint else row


def _is_row(found: dict[str, Any], named: dict[str, Any]) -> bool:
    """Whether an object is a pair, good or bad, and not one around pairs: a list of pairs is no
    answer, and "model": "..." beside a list of pairs neither.
    """
    parts = [named[name] for name in ("question", "answer") if name in named]
    if not parts or (len(parts) == 1 and isinstance(parts[0], (dict, list))):
        return False
    around = parts if len(parts) == 2 else found.values()
    nested = [value for value in around if isinstance(value, (dict, list))]
    near = DEEPEST - 5  # pairs are looked for a few levels down
    return not any(isinstance(row, dict) for part in nested for row in rows_in(part, "", near))


def _rows_in_wrapper(found: dict[str, Any], place: str, depth: int) -> Iterator[Row | Rejected]:
    """The rows of an object that is none itself. Its plain fields, and lists of plain values beside
    its rows (tags and the like), are no pieces of pairs.
    """
    branches = {
        key: list(rows_in(value, _path(place, key), depth + 1))
        for key, value in found.items()
        if isinstance(value, (dict, list, Rejected)) or _is_json(value)
    }
    rows = any(isinstance(row, dict) for branch in branches.values() for row in branch)
    for key, branch in branches.items():
        gave = any(isinstance(row, dict) for row in branch)
        if gave or not (rows and _is_plain_list(found[key])):
            yield from branch
    if not branches:
        names = ", ".join(map(str, found)) or "(none)"
        yield Rejected(f"no question and no answer among the fields {names}", raw(found))


def _is_plain_list(value: Any) -> bool:
    return isinstance(value, list) and all(_is_plain(item) for item in value)


def _is_plain(value: Any) -> bool:
    return not _is_json(value) and not isinstance(value, (dict, list, Rejected))


def _columns(named: dict[str, Any]) -> list[Row]:
    """Pairs of {"questions": [...], "answers": [...]}, [] for another object or unequal columns."""
    lists = {name: value for name, value in named.items() if isinstance(value, list)}
    if not {"question", "answer"} <= lists.keys():
        return []
    n = len(lists["question"])
    alike = {name: column for name, column in lists.items() if len(column) == n}
    if not {"question", "answer"} <= alike.keys():
        return []
    return [{name: column[i] for name, column in alike.items()} for i in range(n)]


def _numbered(found: dict[str, Any]) -> list[Row]:
    """Pairs of {"question_1": ..., "answer_1": ..., "question_2": ...}, [] for another object."""
    groups: dict[str, Row] = {}
    for key, value in found.items():
        number = re.search(r"\d+$", str(key))
        if number and field_of(key)[0]:
            groups.setdefault(number[0], {})[field_of(key)[0]] = value
    return list(groups.values()) if len(groups) > 1 else []


def _question_keys(found: dict[str, Any]) -> list[Row]:
    """Pairs of {"Where does Feta come from?": "Feta comes from Greece."}, [] for another object."""
    asked = all(str(key).rstrip().endswith("?") for key in found)
    told = all(isinstance(value, str) for value in found.values())
    return [{"question": q, "answer": a} for q, a in found.items()] if asked and told else []


def _rows_in_list(found: list[Any], place: str, depth: int) -> Iterator[Row | Rejected]:
    if not found:
        yield Rejected("an empty list", "[]")
    elif table := _with_header(found) or _turns(found) or _positional(found):
        yield from (_with_hint(row, place) for row in table)
    else:
        # plain texts between the objects are told together
        for plain, items in groupby(found, _is_plain):
            if plain:
                several = list(items)
                yield Rejected(f"{len(several)} values without names of fields", raw(several))
            else:
                for item in items:
                    yield from rows_in(item, place, depth + 1)


def _with_header(found: list[Any]) -> list[Row]:
    """Rows of a table [["question", "answer"], [...], ...], [] for another list."""
    if not all(isinstance(item, list) for item in found):
        return []
    header = [field_of(name)[0] if isinstance(name, str) else "" for name in found[0]]
    if not {"question", "answer"} <= set(header):
        return []
    return [dict(zip(header, cells)) for cells in found[1:] if len(cells) == len(header)]


def _turns(found: list[Any]) -> list[Row]:
    """Pairs of a conversation [{"role": "user", "content": ...}, {"role": "assistant", ...}], []
    for another list.
    """
    turns = []
    for item in found:
        speaker = SPEAKERS & item.keys() if isinstance(item, dict) else set()
        said = next((item[k] for k in SAID if speaker and k in item), None)
        if isinstance(said, list) and len(said) == 1 and isinstance(said[0], dict):
            said = said[0].get("text")  # Gemini's: "parts": [{"text": ...}]
        if said is None:
            return []
        turns.append((field_of(item[speaker.pop()])[0], said))
    return [
        {"question": asked, "answer": told}
        for (one, asked), (two, told) in zip(turns, turns[1:])
        if (one, two) == ("question", "answer")
    ]


def _positional(found: list[Any]) -> list[Row]:
    """The pair of [question, answer] or [id, question, answer], [] for another list. Two texts are
    a pair only if the first asks and the second does not.
    """
    if len(found) not in (2, 3) or not all(isinstance(item, str) for item in found):
        return []
    *ids, question, answer = found
    if any(map(_is_json, found)):
        return []
    asks = question.rstrip().endswith("?") and not answer.rstrip().endswith("?")
    if not asks or any(ends_as_sentence(text) for text in ids):
        return []
    return [{"question": question, "answer": answer, **({"fact_id": ids[0]} if ids else {})}]


# ====================================================================================== the schema
PLACEHOLDER = re.compile(
    r"(?<![\w\\])\{\w*\}|[\[<](?:insert|your|name|answer|question)\b|\blorem ipsum\b"
    r"|\bTODO\b|\bTBD\b|^\W+$",
    re.IGNORECASE,
)
OUT_OF_ROLE = re.compile(
    r"\bas an? (?:AI|(?:large )?language model)\b|\bI(?: am|'m) an? AI\b", re.IGNORECASE
)
KEY_IN_TEXT = re.compile(
    r"""["'“](\w[\w ]{0,20})["'”]\s*:\s*["'“\[{]|(?:["'”]\s*[,;]|[-{])\s*(\w{1,20})\s*:\s*["'“]"""
)

ROWS_IN_TEXT = re.compile(r"""["'”]\s*\]\s*,?\s*\[\s*["'“]|\[\s*"[^"]{1,500}"\s*,\s*\"""")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}")
    return clean(value)


def _id(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else _text(value)


def without_objects(text: str) -> str:
    """The text without the whole JSON objects in it: an answer may quote one."""
    place = 0
    while (place := text.find("{", place)) >= 0:
        try:
            _, end = DECODER.raw_decode(text, place)
            text = text[:place] + text[end:]
        except (ValueError, RecursionError):
            place += 1
    return text


def _usable(text: str) -> str:
    if PLACEHOLDER.search(text):
        raise ValueError("holds a placeholder")
    if OUT_OF_ROLE.search(text):
        raise ValueError("speaks as a language model")
    plain = without_objects(text)
    keys = (found[1] or found[2] for found in KEY_IN_TEXT.finditer(plain))
    if any(field_of(key)[0] for key in keys) or ROWS_IN_TEXT.search(plain):
        raise ValueError("holds a piece of JSON: two pairs ran together")
    return text


def _ended(text: str) -> str:
    if not ends_as_sentence(text):
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


class Item(BaseModel):
    """One pair as the prompt asks for it: the schema that is sent with a call, so that the service
    itself keeps to it.
    """

    fact_id: str
    question: str
    answer: str


class Pair(BaseModel):
    """One pair as a reply gives it, cleaned. `fact_id` names the fact card that the answer rests
    on; `hint` is the key under which it stood, which may name the card, too.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: Annotated[Text, _long(8, 400)]
    answer: Annotated[Text, _long(8, 1500), AfterValidator(_ended)]
    fact_id: Annotated[str, BeforeValidator(_id)] = ""
    hint: Annotated[str, BeforeValidator(_id)] = ""


def reasons_of(error: ValidationError) -> str:
    """One line: each field with what is wrong."""
    return "; ".join(
        f"{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    )


def validate(found: Row) -> Pair:
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


def sift(rows: Iterable[Row | Rejected]) -> tuple[list[Pair], list[Rejected]]:
    """(valid pairs, what is none): one bad pair costs itself alone."""
    pairs, refused = [], []
    for row in rows:
        if isinstance(row, Rejected):
            refused.append(row)
            continue
        try:
            pairs.append(validate(row))
        except ValueError as error:
            refused.append(Rejected(str(error), raw(row)))
    return pairs, refused


# ======================================================================================== language
SMALL_WORDS = {  # words of one language that are none, or rare, in the others
    "en": "the is are of and to for what which where how with it that you this from does my so",
    "de": "der die das ist und von zu mit was welche wo wie nicht ein eine ich sie aus wird auch",
    "fr": "le les est et une des du que quel quelle avec pour dans je vous cette qui au sur ce",
    "es": "el los las es y una del que cuál qué dónde cómo con para por este se su lo muy",
    "it": "il gli è e una del della che quale dove come con per di questo si sono lo nel mi",
    "el": "το η ο οι τα και είναι από με για του της που ποιο την τον ένα στο σας να",
}


def small_word_counts(text: str) -> dict[str, int]:
    """Language -> how many of its small words the text has."""
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", text).lower())
    return {
        language: sum(word in own.split() for word in words)
        for language, own in SMALL_WORDS.items()
    }


def guess_language(text: str) -> str:
    """The language with the most small words, English where it shares the lead; "?" where the text
    has none.
    """
    counts = small_word_counts(text)
    best = max(counts.values())
    if best == 0:
        return "?"
    return "en" if counts["en"] == best else max(counts, key=counts.get)
