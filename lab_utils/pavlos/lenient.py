"""A forgiving reader of JSON: object by object, and nothing is closed that the reply left open.

Models write JSON with quotes inside quotes, unquoted keys, comments, commas too many or too few.
This reader takes all that as it was meant, by one rule: a quote ends a text only where JSON goes on
behind it, with a key, a comma and a key, or a closing bracket that is not followed by the rest of a
sentence. What never closes is never given back: an object that the reply cut off is no object, but
the closed ones inside it are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

DEEPEST = 30  # objects in objects; a reply nested deeper than this is no list of pairs
# what may stand between two tokens: white space, invisible marks, comments
SPACE = (
    r"(?:[\s\ufeff\u200b-\u200f\u2060]|//[^\n]*(?=\n|\Z)|/\*.*?\*/"
    r"|(?:(?<=\n)|(?<=\s)(?=#\s))#[^\n]*(?=\n|\Z))*"
)
CLOSERS = {  # opening quote -> the quotes that may close it
    '"': '"”“',
    "“": '”"“',
    "”": '”"',
    "„": '“”"',
    "«": '»"',
    "'": "'’",
    "‘": "’'",
    "’": "’'",
    "`": "`'",
}
QUOTE = f"[{''.join(CLOSERS)}]"
NUMBER = r"[-+]?(?:0[xX][0-9a-fA-F]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"
LITERAL = rf"(?:true|false|null|undefined|True|False|None|NaN|[-+]?Infinity|{NUMBER})(?![\w.])"
QUOTED = rf"{QUOTE}(?P<quoted>[^\n{''.join(CLOSERS)}]{{1,80}}){QUOTE}{SPACE}(?::|=>?)"
BARE = rf"(?P<bare>[^\W\d]\w{{0,40}}){SPACE}(?::|=>)"
KEY = rf"(?:{QUOTED}|{BARE}){SPACE}(?={QUOTE}|[\[{{(]|{LITERAL})"


def _compiled(pattern: str) -> re.Pattern:
    return re.compile(pattern, re.DOTALL)


_SPACE, _KEY, _LITERAL = _compiled(SPACE), _compiled(KEY), _compiled(LITERAL)
_SEPARATORS = _compiled(rf"(?:{SPACE}[,;])*{SPACE}")
_START = _compiled(rf"\{{|\[(?={SPACE}(?:[\[{{(]|{QUOTE}))")
_ANONYMOUS_KEY = KEY.replace("?P<quoted>", "?:").replace("?P<bare>", "?:")
_NO_COLON = rf"{QUOTE}\w{{1,40}}{QUOTE} ?{QUOTE}"  # {"question" "..."}
_OBJECT_STARTS = rf"(?:\[\s*)?\{{\s*(?:{_ANONYMOUS_KEY}|{_NO_COLON})"
_IN_STRING = _compiled(rf"\\.|{QUOTE}|(?P<object>{_OBJECT_STARTS})")
# what follows the quote that ends a text: in an object, and in a list
_NEXT_FIELD = _compiled(
    rf"{SPACE}(?:(?P<comma>[,;])?{SPACE}{KEY}|,{SPACE}\{{|[,;]?{SPACE}(?P<bracket>[}}\])]))"
)
_NEXT_ITEM = _compiled(
    rf"{SPACE}(?:,{SPACE}(?:{QUOTE}|[\[{{(]|{LITERAL})|,?{SPACE}(?P<bracket>[\])])"
    rf"|,?{SPACE}(?P<end>\Z))"
)
_BEHIND = _compiled(r"[\s\ufeff\u200b-\u200f\u2060,;\]})]*")
_STRUCTURE = _compiled(rf"$|[\[{{(`<#/*\-.]|{QUOTE}|{_ANONYMOUS_KEY}")
_TEXT_ENDS = _compiled(rf"{QUOTE}{SPACE}[}}\]]")
_LIST_GOES_ON = _compiled(rf"{SPACE}(?:$|,{SPACE}[\[{{]|[\]}}]|\{{|```)")
_RESUME = _compiled(
    rf"\}}(?={SPACE}(?:$|[,;]?{SPACE}(?:[\]{{}}]|{_ANONYMOUS_KEY})|\n))"
    rf"|(?=\{{{SPACE}{_ANONYMOUS_KEY})"
)
# a text in two strings, one a line, or with a plus between
_CONTINUED = _compiled(r"([\"'])(?:[ \t]*\n\s*|\s*\+\s*)\1")
_BRACKET = _compiled(r"[\[\]{}]")
_ESCAPE = _compiled(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_MEANING = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Unreadable(ValueError):
    """What stands at `place` is not JSON in any dress."""

    def __init__(self, place: int):
        super().__init__(f"not readable as JSON at place {place}")
        self.place = place


class Open(ValueError):
    """The text ends inside an object or a list; `closed` are the whole values inside it."""

    def __init__(self, closed: list[Any]):
        super().__init__("the text ends before what it began is closed")
        self.closed = closed


def keep_repeated(items: list[tuple[str, Any]]) -> Any:
    """A dict; or, where a key comes twice (two pairs in one object), a list of dicts: `json` would
    keep the last only.
    """
    parts: list[dict[str, Any]] = [{}]
    for key, value in items:
        if key in parts[-1] and parts[-1][key] != value:
            parts.append({})
        parts[-1][key] = value
    return parts[0] if len(parts) == 1 else parts


DECODER = json.JSONDecoder(strict=False, object_pairs_hook=keep_repeated)


def plain_text(raw: str) -> str:
    r"""A string's content with its escapes read. A backslash that is none of JSON's stays: \d."""

    def meaning(found: re.Match) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return _MEANING.get(found[2]) or (found[2] if found[2] in "\"'\\/" else found[0])

    return _ESCAPE.sub(meaning, raw)


def without_stray_quote(content: str, quote: str) -> str:
    """The content of a text that ended in two quotes: the first is the text's own where it closes
    one that was opened inside, otherwise it is one too many.
    """
    inside = re.sub(rf"(?<=\w){quote}(?=\w)", "", content)  # an apostrophe opens nothing
    return content[:-1] if content.endswith(quote) and inside.count(quote) % 2 else content


class Reader:
    """Reads values from a text. `cut` says that the reply is known to be cut off, `mend` what is
    made of a closed object that cannot be read here, `is_field` knows the names of our fields: in a
    text, "milk: " begins a field only where keys stand without quotes.
    """

    def __init__(
        self,
        text: str,
        cut: bool,
        mend: Callable[[str], Any],
        is_field: Callable[[str], bool] = bool,
    ):
        self.text, self.cut, self.mend, self.is_field = text, cut, mend, is_field
        self.bare_keys = False  # whether the keys of the object in hand stand without quotes
        self.in_string = False  # whether an object inside a text is being looked at
        self.depth = 0
        self.never_closes = False  # whether the text ends inside a value

    # ------------------------------------------------------------------------------- all values
    def values(self) -> Iterator[Any]:
        """Every closed value of the text, outermost first, in order. Raises nothing."""
        place = 0
        while start := _START.search(self.text, place):
            try:
                value, place = self.value(start.start())
                yield value
            except Open as stop:
                self.never_closes = True
                yield from stop.closed
                return
            except Unreadable as error:
                value, place = self.broken(start.start(), error.place)
                yield value

    def broken(self, start: int, place: int) -> tuple[Any, int]:
        """What `mend` makes of an unreadable object, and where to read on: at the next boundary
        between objects behind `place`.
        """
        found = _RESUME.search(self.text, max(place, start + 1))
        end = found.end() if found else len(self.text)
        return self.mend(self.text[start:end]), end

    # -------------------------------------------------------------------------------- one value
    def value(self, at: int, in_list: bool = False) -> tuple[Any, int]:
        """(the value at this place, where it ends). Raises Open or Unreadable."""
        mark = self.text[at : at + 1]
        if mark and mark in "{[(":
            return self.strictly(at) or self._container(at)
        if mark in CLOSERS:
            return self.string(at, _NEXT_ITEM if in_list else _NEXT_FIELD)
        if found := _LITERAL.match(self.text, at):
            return self._literal(found[0]), found.end()
        raise self.trouble(at)

    @staticmethod
    def _literal(word: str) -> Any:
        """What a word without quotes means; a number that JSON does not know (01, 0xFF) stays as it
        is written.
        """
        try:
            return json.loads(word)
        except ValueError:
            named = {"True": True, "False": False, "None": None, "undefined": None}
            return named.get(word, word)

    def strictly(self, at: int) -> tuple[Any, int] | None:
        """The value by the book, or None. It ends where a list goes on, or it was no end."""
        try:
            value, end = DECODER.raw_decode(self.text, at)
        except (ValueError, RecursionError):
            return None
        return (value, end) if self.settled(end) else None

    def _container(self, at: int) -> tuple[Any, int]:
        if self.depth == DEEPEST:
            raise Unreadable(at + 1)
        self.depth += 1
        try:
            return self.fields(at + 1) if self.text[at] == "{" else self.items(at + 1)
        finally:
            self.depth -= 1

    def fields(self, place: int) -> tuple[Any, int]:
        """The fields of an object, from behind its { to behind its }. A brace that was forgotten
        before the next object, or at the list's end, counts as there.
        """
        found: list[tuple[str, Any]] = []
        try:
            while True:
                place = _SEPARATORS.match(self.text, place).end()
                mark = self.text[place : place + 1]
                if not mark:
                    raise Open([])
                if mark == "}" and self.settled(place + 1):
                    return keep_repeated(found), place + 1
                if found and mark in "{]":
                    return keep_repeated(found), place
                key = _KEY.match(self.text, place)
                if not key:
                    raise self.trouble(place)
                self.bare_keys = key["bare"] is not None
                value, place = self.value(key.end())
                found.append((key["quoted"] or key["bare"], value))
        except Open as stop:
            raise Open([*self.closed_in(found), *stop.closed]) from None

    @staticmethod
    def closed_in(found: list[tuple[str, Any]]) -> list[Any]:
        """Of an object that never closes: the lists and objects in it, and of two pairs in one
        object those before the last.
        """
        parts = keep_repeated(found)
        before = parts[:-1] if isinstance(parts, list) else []
        return before + [{k: v} for k, v in found if isinstance(v, (list, dict)) and v]

    @staticmethod
    def whole(found: list[Any]) -> list[Any]:
        """Of a list that never closes: a list of its objects and lists, without single texts."""
        nested = [item for item in found if not isinstance(item, str) or item[:1] in ("{", "[")]
        return [nested] if nested else []

    def items(self, place: int) -> tuple[list[Any], int]:
        """The items of a list, from behind its [ to behind its ]. A broken one costs itself; one
        that lost its braces is read as an object.
        """
        found: list[Any] = []
        while True:
            place = _SEPARATORS.match(self.text, place).end()
            mark = self.text[place : place + 1]
            if not mark:
                raise Open(self.whole(found))
            if mark in ")]":
                return found, place + 1
            if mark == "}":  # the end of an object that lost its beginning
                place += 1
                continue
            try:
                without_brace = _KEY.match(self.text, place)
                read = self.fields(place) if without_brace else self.value(place, in_list=True)
            except Open as stop:
                raise Open([*self.whole(found), *stop.closed]) from None
            except Unreadable as error:
                read = self.broken(place, error.place)
            found.append(read[0])
            place = read[1]

    def trouble(self, place: int) -> Open | Unreadable:
        """What is wrong here: where no bracket follows, the text was cut off."""
        return Unreadable(place) if _BRACKET.search(self.text, place) else Open([])

    # --------------------------------------------------------------------------------- one text
    def string(self, at: int, follows: re.Pattern) -> tuple[str, int]:
        """The text that opens with the quote at this place."""
        if len(fence := self.text[at : at + 3]) == 3 and fence in (3 * '"', 3 * "'"):  # Python's
            end = self.text.find(fence, at + 3)
            if end < 0:
                raise Open([])
            return plain_text(self.text[at + 3 : end]), end + 3
        closers, place = CLOSERS[self.text[at]], at + 1
        while found := _IN_STRING.search(self.text, place):
            place = found.end()
            if found["object"]:
                place = self.behind_object(found.start())
            elif found[0] in closers and self.closes(at, found.start(), follows):
                content = _CONTINUED.sub("", self.text[at + 1 : found.start()])
                return plain_text(without_stray_quote(content, found[0])), found.end()
        raise Open([])

    def closes(self, at: int, place: int, follows: re.Pattern) -> bool:
        """Whether the quote at `place` ends the text that began at `at`."""
        opened, quote, inside = self.text[at], self.text[place], self.text[at + 1 : place]
        if opened != quote and (inside.count(quote) % 2 or (opened == '"' and "“" in inside)):
            return False  # the end of a quotation inside
        found = follows.match(self.text, place + 1)
        if not found:
            return False
        named = found.groupdict()
        if bare := named.get("bare"):
            return self.is_field(bare) or (self.bare_keys and named["comma"] is not None)
        if named.get("end") is not None:  # a whole object in a string of a list that is cut off
            return inside.endswith("}")
        return not found["bracket"] or self.settled(found.end())

    def behind_object(self, at: int) -> int:
        """A text holds what looks like an object. Where a list goes on behind that object, the text
        was broken off and the model began anew: Unreadable. Otherwise it is quoted: its end.
        """
        if self.in_string:
            return at + 1
        self.in_string = True
        try:
            _, end = self._quoted_value(at)
        except Unreadable:
            return at + 1
        finally:
            self.in_string = False
        if _LIST_GOES_ON.match(self.text, end):
            raise Unreadable(at)
        return end

    def _quoted_value(self, at: int) -> tuple[Any, int]:
        try:
            return DECODER.raw_decode(self.text, at)
        except (ValueError, RecursionError):
            return self.value(at)

    def settled(self, end: int) -> bool:
        """Whether a bracket that closes before `end` is JSON's own: what follows is JSON's, or
        words that begin anew. After the "} of a smile in a text the sentence goes on.
        """
        behind = _BEHIND.match(self.text, end).end()
        if _STRUCTURE.match(self.text, behind):
            return True
        following = self.text.find("{", behind)
        words = self.text[behind : following if following >= 0 else len(self.text)]
        if "\n" not in self.text[end:behind]:  # on the same line: a new sentence, in a whole reply
            if not words[0].isupper() or (self.cut and following < 0):
                return False
        return not _TEXT_ENDS.search(words)
