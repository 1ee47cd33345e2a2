"""Replies that are no JSON: tables, CSV, XML, TOML, YAML, and lines that begin with Q and A.

A row counts where its end can be told: by a closing tag, bar or quote, or by the line break behind
it. What tells no end is left, with a reason: the service's word that a reply is whole is not always
true.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from typing import Any

from lab_utils.pavlos.lenient import DECODER, keep_repeated
from lab_utils.pavlos.parse import Rejected, field_of

FENCE_LINE = re.compile(r"^[ \t]*```.*$\n?", re.MULTILINE)
TAGGED = re.compile(r"<(\w[\w:.-]*)((?:\s[^<>]*)?)(?:/>|>(.*?)</\1\s*>)", re.DOTALL)
ATTRIBUTE = re.compile(r"""([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
LABEL = re.compile(
    r"^[\s>*#_-]*(?:\d+[.)]\s*)?[*_]*([^\W\d_]+)[ ]?\d*[.)]?[*_]*\s*[:.)][*_]*[ \t]+(?=\S)(.*)$"
)
BARE_LABEL = re.compile(r"^[\s>*#_-]*([^\W\d_]+)[ ]?\d*[*_]*[.):]?[*_]*\s*$")
TOML_TABLE = re.compile(r"^\[\[[\w.-]+\]\][ \t]*$", re.MULTILINE)
TOML_TEXT = re.compile(r'^[ \t]*([\w-]+)[ \t]*=[ \t]*("(?:[^"\\\n]|\\.)*")[ \t]*$', re.MULTILINE)
PAIR = {"question", "answer"}


def tagged_rows(text: str, cut: bool = False) -> list[dict[str, Any]]:
    """Pairs in XML, from closed elements or attributes. Not by an XML parser: one bad character
    would cost the whole reply.
    """
    found = keep_repeated(list(_fields_in_tags(text)))
    rows = found if isinstance(found, list) else [found]
    return [row for row in rows if row.keys() & PAIR]


def _fields_in_tags(text: str) -> Iterator[tuple[str, Any]]:
    """(our name of a field, its text) for each closed element that is a field, in order."""
    for tag in TAGGED.finditer(text):
        attributes = [(field_of(name)[0], a or b) for name, a, b in ATTRIBUTE.findall(tag[2])]
        yield from ((field, value) for field, value in attributes if field)
        field, content = field_of(tag[1])[0], tag[3] or ""
        if field:
            yield field, re.sub(r"<!\[CDATA\[(.*?)\]\]>", r"\1", content, flags=re.DOTALL)
        else:
            yield from _fields_in_tags(content)


def table_rows(text: str, cut: bool = False) -> list[Any]:
    """Pairs of a Markdown table: each row stands between two bars."""
    lines = [line.strip() for line in text.splitlines()]
    cells = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line[1:-1])]
        for line in lines
        if len(line) > 1 and line[0] == "|" == line[-1]
    ]
    return _under_header([row for row in cells if not all(re.fullmatch(r":?-+:?", c) for c in row)])


def csv_rows(text: str, cut: bool = False) -> list[Any]:
    """Pairs of a table with commas, semicolons or tabs, from its header on."""
    body = FENCE_LINE.sub("", text)
    if not _ends_whole(body, cut):  # half a line is no row
        body = body[: body.rfind("\n") + 1]
    lines = body.splitlines(keepends=True)
    for start, line in enumerate(lines):
        for mark in ",;\t":
            header = next(csv.reader([line], delimiter=mark), [])
            if PAIR <= {field_of(name)[0] for name in header}:
                table = csv.reader(lines[start:], delimiter=mark, strict=True)
                return _under_header(_until_it_breaks(table))
    return []


def _ends_whole(text: str, cut: bool) -> bool:
    """Whether the last line of a text is a whole one: a line break or a quote closes it."""
    return text.endswith("\n") or (not cut and text.endswith('"'))


def _until_it_breaks(table: Any) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        rows.extend(row for row in table if row)
    except csv.Error:  # a quote that never closes: what stands before it is whole
        pass
    return rows


def _under_header(table: list[list[str]]) -> list[Any]:
    """Each row under the names of the header; what has another number of cells is rejected."""
    if not table or not PAIR <= {field_of(name)[0] for name in table[0]}:
        return []
    header, rows = table[0], table[1:]
    return [
        dict(zip(header, row))
        if len(row) == len(header)
        else Rejected(f"{len(row)} cells under a header of {len(header)}", " | ".join(row))
        for row in rows
    ]


def yaml_rows(text: str, cut: bool = False) -> list[Any]:
    """Pairs of a YAML list. Where the reply was cut off, its last item may be half."""
    import yaml

    body = FENCE_LINE.sub("", text)
    items = list(re.finditer(r"^[ \t]*- ?[\w \"']+:", body, re.MULTILINE))
    if not items or not PAIR <= names(body):
        return []
    key = re.search(r"^[\w ]+:[ \t]*\n\Z", body[: items[0].start()], re.MULTILINE)
    last = [mark.start() for mark in re.finditer(r"^[ \t]*-", body, re.MULTILINE)][-1]
    whole = _ends_whole(body, cut) and not cut
    body = body[key.start() if key else items[0].start() : None if whole else last]
    try:
        found = yaml.safe_load(body)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:80]
        return [Rejected(f"YAML that can't be read: {said}", text)]
    return [found] if isinstance(found, (list, dict)) else []


def names(text: str) -> set[str]:
    """Our names of the fields that begin a line of the text."""
    words = re.findall(r"^[ \t>*#-]*([^\W\d_][\w ]*?)[ \t]*\d*[*_]*:", text, re.MULTILINE)
    return {field_of(word)[0] for word in words}


def labelled_rows(text: str, cut: bool = False) -> list[Any]:
    """Pairs of lines "Q: ..." and "A: ...". An answer counts where the next line with a word is a
    label again: one that goes on in further lines has no end that can be told.
    """
    lines = _labels_joined([line for line in FENCE_LINE.sub("", text).splitlines() if line.strip()])
    labels = [LABEL.match(line) for line in lines]
    told = [(field_of(m[1])[0], m[2]) if m else ("", line) for m, line in zip(labels, lines)]
    rows: list[Any] = []
    for i, (field, content) in enumerate(told):
        if field != "answer" or i == 0 or told[i - 1][0] != "question":
            continue
        closed = not cut and text.endswith("\n")
        after = told[i + 1][0] if i + 1 < len(told) else "end" if closed else ""
        row = {"question": told[i - 1][1].strip("*_ "), "answer": content}
        why = "a text without marks around it: where it ends can't be told"
        rows.append(row if after else Rejected(why, f"{row['question']} {content}"))
    return rows


def _labels_joined(lines: list[str]) -> list[str]:
    """The lines, each label that stands alone ("### Question") in front of the line below it."""
    joined: list[str] = []
    for line in lines:
        alone = BARE_LABEL.match(joined[-1]) if joined else None
        if alone and field_of(alone[1])[0] in PAIR:
            joined[-1] = f"{alone[1]}: {line}"
        else:
            joined.append(line)
    return joined


def toml_rows(text: str, cut: bool = False) -> list[Any]:
    """Pairs of TOML's [[tables]], whose texts end in a quote on their line."""
    tables = TOML_TABLE.split(FENCE_LINE.sub("", text))[1:]
    rows = [{k: DECODER.decode(said) for k, said in TOML_TEXT.findall(part)} for part in tables]
    why = "a TOML table without a whole question and a whole answer"
    return [
        row if PAIR <= {field_of(key)[0] for key in row} else Rejected(why, part)
        for row, part in zip(rows, tables)
    ]


FORMATS: tuple[Callable[[str, bool], list[Any]], ...] = (
    tagged_rows,
    table_rows,
    csv_rows,
    toml_rows,
    yaml_rows,
    labelled_rows,
)


def values_of(text: str, cut: bool) -> list[Any]:
    """What the first format gives that fits the reply; [] where none does."""
    return next((rows for read in FORMATS if (rows := read(text, cut))), [])
