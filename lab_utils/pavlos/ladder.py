"""The ladder: from a model's reply to rows, by the strictest reader that can read it.

A model is asked for a JSON list and writes almost one. `json.loads` on the whole reply then loses
all twenty pairs to one bad character. The ladder climbs only as far as it must:

1. json     the whole reply, with control characters allowed in strings (strict=False);
2. fences   what stands between ``` marks;
3. escapes  the same with illegal escapes such as \\' mended;
4. scan     object by object, by the forgiving reader of `lenient`: a bad one costs only itself;
5. repair   json-repair on closed objects that nothing else can read, and never behind the last
            closed one, for it closes whatever is open: half an answer would become a "whole" one;
6. other    tables, CSV, XML, YAML and labelled lines, where a reply is no JSON at all.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any

from lab_utils.pavlos.formats import values_of
from lab_utils.pavlos.lenient import DECODER, Reader
from lab_utils.pavlos.parse import Rejected, Row, canonical, field_of, rows_in

RUNGS = ("json", "fences", "escapes", "scan", "repair", "other")
FLAT_OBJECT = re.compile(r'\{(?:[^{}"]|"(?:\\.|[^"\\])*")*\}', re.DOTALL)
ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\(.?)', re.DOTALL)
FENCED = re.compile(r"^[ \t]*```[\w-]*[ \t]*\r?\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
DRAFT = re.compile(
    r"<(think|thinking|thought|thoughts|reasoning|scratchpad|draft|analysis)>.*?(?:</\1>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
DRAFT_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
# commands of LaTeX whose first letter makes an escape of JSON: \beta is no backspace
COMMAND = re.compile(
    r"(?<!\\)((?:\\\\)*)\\(?=(?:[bf][a-zA-Z]|t(?:imes|heta|au|ext[a-z]*|herefore|ilde|riangle|an)\b"
    r"|n(?:u|eq|abla|otin)\b|r(?:ho|ight[a-z]*|angle|ceil|floor)\b))"
)
WIDE = str.maketrans("｛｝［］：，", "{}[]:,")
WIDE_BETWEEN = re.compile(
    r"""[｛｝［］]|(?<=["'”’｝])\s*[：，](?=\s*["'“‘｛［])"""
)  # not in a text
ONE_LEVEL = re.compile(r"\\([\"'\\])")
PRINTED = re.compile(r"""(?<!["'“])\{\s*\\+["'][\w ]+\\+["']\s*:""")


@dataclass(frozen=True)
class Parsed:
    """What was found in a reply: rows with our names of the fields, the highest rung needed, and
    each piece that was left, with its reason.
    """

    objects: list[Row] = field(default_factory=list)
    rung: str = "json"
    rejected: list[Rejected] = field(default_factory=list)


# ----------------------------------------------------------------------------------- mending a text
def load(text: str) -> Any:
    """The value of a JSON text; ValueError where it is none. A JSON text inside a JSON string is
    read, too.
    """
    value = DECODER.decode(text.strip())
    return load(value) if isinstance(value, str) else value


def inside_fences(text: str) -> str:
    """The content of the one ``` block, or the text where there is none, or JSON outside of it."""
    blocks = FENCED.findall(text)
    return blocks[0] if len(blocks) == 1 and "{" not in FENCED.sub("", text) else text


def fix_escapes(text: str) -> str:
    r"""JSON knows \" \\ \/ \b \f \n \r \t and \uXXXX: \' becomes ', any other backslash becomes
    two.
    """

    def mend(found: re.Match) -> str:
        if found[1] is None:
            return found[0]
        return found[1] if found[1] == "'" else "\\\\" + found[1]

    return ESCAPE.sub(mend, text)


def without_drafts(text: str) -> str:
    """The text without what the model thought on its way: <think> ... </think>, also where the
    first mark or the last is missing.
    """
    return DRAFT_END.sub("", DRAFT.sub("", text))


def prepared(text: str) -> str:
    """The reply without a byte order mark, with quotes in place of &quot; and braces in place of
    full-width ones where it has no others, and with the backslash of LaTeX's commands doubled.
    """
    text = text.lstrip("\ufeff \n\r\t")
    if "{" not in text and "｛" in text:
        text = WIDE_BETWEEN.sub(lambda found: found[0].translate(WIDE), text)
    if text.count("&quot;") > text.count('"'):
        text = html.unescape(text)
    return COMMAND.sub(r"\1\\\\", text)


# ------------------------------------------------------------------------------------ closed pieces
def complete_objects(text: str) -> list[tuple[int, int]]:
    """(start, end) of every flat object that closes; braces in its strings are letters."""
    return [found.span() for found in FLAT_OBJECT.finditer(text)]


def repair_object(piece: str) -> dict[str, Any]:
    """What json-repair makes of one closed {...}. ValueError if that is no object, or has not just
    the words of the piece, all of them and in their order.
    """
    import json_repair

    value = json_repair.loads(piece)
    if not isinstance(value, dict):
        raise ValueError("json-repair finds no object")
    words = canonical(" ".join(f"{key} {told}" for key, told in value.items()))
    if words != canonical(fix_escapes(piece)):
        raise ValueError("json-repair changes the words")
    return value


class Mender:
    """Makes of an unreadable object what json-repair can, or rejects it; remembers if it could."""

    def __init__(self) -> None:
        self.mended = False

    def __call__(self, piece: str) -> Any:
        try:
            if not piece.rstrip().endswith("}"):
                raise ValueError("the object never closes")
            value = repair_object(piece)
        except (ValueError, RecursionError):
            return Rejected(f"not readable as JSON: {piece[:60]}", piece)
        self.mended = True
        return value


def scan(text: str, cut: bool) -> Parsed:
    """Read object by object."""
    mender = Mender()
    if printed := PRINTED.search(
        text
    ):  # {\\"question\\": ...}, as it comes out of a printed string
        text = text[: printed.start()] + ONE_LEVEL.sub(r"\1", text[printed.start() :])
    reader = Reader(text, cut, mender, lambda name: bool(field_of(name)[0]))
    values = list(reader.values())
    if reader.never_closes and not (cut or is_cut(text)):
        values.append(Rejected(f"a text or an object never closes: {text[-40:]!r}", text[-400:]))
    parsed = walked(values, "repair" if mender.mended else "scan")
    if not parsed.objects and (others := values_of(text, cut)):
        return walked(others, "other")
    return parsed


def walked(values: list[Any], rung: str) -> Parsed:
    """The rows in the values, and what is none."""
    pieces = [piece for value in values for piece in rows_in(value)]
    rows = [piece for piece in pieces if isinstance(piece, dict)]
    return Parsed(rows, rung, [piece for piece in pieces if isinstance(piece, Rejected)])


# --------------------------------------------------------------------------------------- the ladder
def parse_reply(text: str, finish_reason: str = "STOP") -> Parsed:
    """All rows of a reply, by the lowest rung that reads it. Nothing raises: what is left is in
    `rejected`.
    """
    reply, cut = prepared(text), finish_reason != "STOP"
    parsed = strict(reply) or scan(without_drafts(reply), cut)
    return _with_reasons(parsed, reply, finish_reason)


def strict(reply: str) -> Parsed | None:
    """The first three rungs: the reply as one JSON value, or None."""
    for rung, prepare in (
        ("json", str),
        ("fences", lambda text: inside_fences(without_drafts(text))),
        ("escapes", lambda text: fix_escapes(inside_fences(without_drafts(text)))),
    ):
        try:
            return walked([load(prepare(reply))], rung)
        except (ValueError, RecursionError):
            continue
    return None


def is_cut(text: str, finish_reason: str = "STOP") -> bool:
    """Whether the reply was cut off: the service says so, or an object is open at its end."""
    return finish_reason != "STOP" or text.rfind("{") > text.rfind("}")


def _with_reasons(parsed: Parsed, reply: str, finish_reason: str) -> Parsed:
    """Say what is missing: a cut-off end, or any pair at all."""
    reasons = list(parsed.rejected)
    if not reply.strip():
        said = "" if finish_reason == "STOP" else f", finish reason {finish_reason}"
        reasons = [Rejected(f"empty reply{said}", "")]
    elif is_cut(reply, finish_reason):
        end = reply[-40:]
        reasons.append(Rejected(f"cut off (finish reason {finish_reason}): {end!r}", end))
    elif not parsed.objects and not reasons:
        reasons.append(Rejected(f"no JSON object in the reply: {reply[:60]!r}", reply))
    return Parsed(parsed.objects, parsed.rung, reasons)
