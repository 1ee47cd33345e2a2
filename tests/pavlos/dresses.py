"""Lists of pairs as models dress them, with the place at which each pair is closed.

Nothing of the kit's reader is used here: what must come back from a reply that is cut anywhere
follows from where its pieces end.
"""

import json
from dataclasses import dataclass
from functools import partial

Pair = tuple[str, str]
CARDS = (
    "Feta/milk",
    "Brie/rind",
    "Gouda/country",
    "casein-isoelectric",
    "Comté/region",
    "Tilsit/texture",
)


@dataclass(frozen=True)
class Dressed:
    """A reply, and for each pair how long the reply must be for the pair to be closed."""

    text: str
    ends: tuple[int, ...]

    def inside(self, before: str, after: str = "") -> "Dressed":
        return Dressed(before + self.text + after, tuple(end + len(before) for end in self.ends))

    def without_first(self) -> "Dressed":
        return Dressed(self.text, self.ends[1:])


def joined(pieces: list[str], between: str = ", ", mark: str = "") -> Dressed:
    """Pieces in a row; each is closed at its end, or where `mark` behind it ends."""
    text, ends = "", []
    for i, piece in enumerate(pieces):
        text += between * bool(i) + piece
        ends.append(len(text) + len(mark))
    return Dressed(text, tuple(ends))


# ------------------------------------------------------------------------------------ one object
def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def plain(pair: Pair, i: int) -> str:
    return json.dumps(dict(zip(("question", "answer"), pair)), ensure_ascii=False)


def fields(*names: str, pair: Pair, i: int) -> str:
    return json.dumps(dict(zip(names, pair)), ensure_ascii=False)


def with_id(name: str, form: str, pair: Pair, i: int) -> str:
    given = {name: form.format(CARDS[i]), "question": pair[0], "answer": pair[1]}
    return json.dumps(given, ensure_ascii=False)


def indented(pair: Pair, i: int) -> str:
    return json.dumps({"question": pair[0], "answer": pair[1]}, ensure_ascii=False, indent=2)


def unquoted_keys(pair: Pair, i: int) -> str:
    return f"{{question: {quoted(pair[0])}, answer: {quoted(pair[1])}}}"


def no_comma(pair: Pair, i: int) -> str:
    return f'{{"question": {quoted(pair[0])} "answer": {quoted(pair[1])}}}'


def no_break_spaces(pair: Pair, i: int) -> str:
    question, answer = map(quoted, pair)
    return f'{{~"question":~{question},\n~~"answer":~{answer}~}}'.replace("~", "\u00a0")


def comments(pair: Pair, i: int) -> str:
    return (
        f'{{ // pair {i}\n "question": {quoted(pair[0])}, /* then */ "answer": {quoted(pair[1])} }}'
    )


def trailing_comma(pair: Pair, i: int) -> str:
    return f'{{"question": {quoted(pair[0])}, "answer": {quoted(pair[1])}, }}'


def inner_quotes(pair: Pair, i: int) -> str:
    return f'{{"question": "{pair[0]}", "answer": "{pair[1]}"}}'


def single_quotes(pair: Pair, i: int) -> str:
    return f"{{'question': '{pair[0]}', 'answer': '{pair[1]}'}}"


def python_dict(pair: Pair, i: int) -> str:
    return repr({"question": pair[0], "answer": pair[1], "checked": True, "note": None})


def smart_quotes(pair: Pair, i: int) -> str:
    return f"{{“question”: “{pair[0]}”, “answer”: “{pair[1]}”}}"


def mixed_quotes(pair: Pair, i: int) -> str:
    return f"{{\"question\": '{pair[0]}', answer: “{pair[1]}”}}"


def illegal_escapes(pair: Pair, i: int) -> str:
    return plain(pair, i).replace("'", "\\'")


def extra_fields(pair: Pair, i: int) -> str:
    row = {"n": i, "tags": ["a", "b"], "question": pair[0], "meta": {"x": 1}, "answer": pair[1]}
    return json.dumps(row)


def hash_rockets(pair: Pair, i: int) -> str:
    return f'{{"question" => {quoted(pair[0])}, "answer" => {quoted(pair[1])}}}'


OBJECTS = {
    "json": plain,
    "indented": indented,
    "unquoted keys": unquoted_keys,
    "no comma": no_comma,
    "no-break spaces": no_break_spaces,
    "comments": comments,
    "trailing comma": trailing_comma,
    "inner quotes": inner_quotes,
    "single quotes": single_quotes,
    "python": python_dict,
    "smart quotes": smart_quotes,
    "mixed quotes": mixed_quotes,
    "illegal escapes": illegal_escapes,
    "extra fields": extra_fields,
    "hash rockets": hash_rockets,
    **{
        f"{q} and {a}": partial(lambda names, pair, i: fields(*names, pair=pair, i=i), (q, a))
        for q, a in [
            ("Question", "Answer"),
            ("q", "a"),
            ("question_text", "answer_text"),
            ("prompt", "completion"),
            ("human", "assistant"),
            ("Frage", "Antwort"),
            ("pregunta", "respuesta"),
            ("domanda", "risposta"),
            ("Question", "Réponse"),
            ("ερώτηση", "απάντηση"),
            ("问题", "答案"),
            ("QUESTION", "ANSWER"),
            ("questionText", "answerText"),
            ("instruction", "output"),
            ("Q1", "A1"),
        ]
    },
    **{
        f"{name} as {form}": partial(with_id, name, form)
        for name, form in [
            ("fact_id", "{}"),
            ("fact_id", "[{}]"),
            ("id", "{}"),
            ("card_id", "[{}]"),
            ("factId", "{}"),
            ("Fact ID", "card {}"),
            ("card", "[{}] as it stands there"),
        ]
    },
}
# objects that carry a quotation inside a text as it is; an apostrophe closes nothing in any of them
UNESCAPED = {"inner quotes"}


# ------------------------------------------------------------------------------- objects in a row
def listed(pieces: list[str]) -> Dressed:
    return joined(pieces).inside("[", "]")


def lines(pieces: list[str]) -> Dressed:
    return joined(pieces, "\n")


def pretty(pieces: list[str]) -> Dressed:
    return joined(pieces, ",\n  ").inside("[\n  ", "\n]\n")


def no_commas(pieces: list[str]) -> Dressed:
    return joined(pieces, "\n").inside("[\n", "\n]")


def comma_at_the_end(pieces: list[str]) -> Dressed:
    return joined(pieces).inside("[", ",]")


def list_in_list(pieces: list[str]) -> Dressed:
    return joined([f"[{piece}" for piece in pieces], "], ").inside("[", "]]")


def wrapped(pieces: list[str]) -> Dressed:
    return joined(pieces).inside('{"pairs": [', "]}")


def wrapped_in_fields(pieces: list[str]) -> Dressed:
    before = '{"topic": "cheese", "count": 3, "tags": ["a", "b"], "pairs": ['
    return joined(pieces).inside(before, '], "status": "done"}')


def wrapped_twice(pieces: list[str]) -> Dressed:
    return joined(pieces).inside('{"model": "x", "data": {"n": 1, "items": [', "]}}")


def by_id(pieces: list[str]) -> Dressed:
    return joined([f'"{CARDS[i]}": {piece}' for i, piece in enumerate(pieces)]).inside("{", "}")


def by_number(pieces: list[str]) -> Dressed:
    return joined([f'"pair {i}": {piece}' for i, piece in enumerate(pieces)]).inside("{", "}")


ROWS = {
    "list": listed,
    "lines": lines,
    "pretty": pretty,
    "no commas": no_commas,
    "comma at the end": comma_at_the_end,
    "list in list": list_in_list,
    "wrapped": wrapped,
    "wrapped in fields": wrapped_in_fields,
    "wrapped twice": wrapped_twice,
    "by id": by_id,
    "by number": by_number,
}


# ---------------------------------------------------------------------------------- around it all
AROUND = {
    "nothing": ("", ""),
    "fence": ("```json\n", "\n```"),
    "bare fence": ("```\n", "\n```\n"),
    "prose": ("Sure! Here are the pairs:\n\n", "\n\nI hope they are what you need."),
    "prose and fence": ("Here you go, {name}:\n```json\n", "\n```\nShall I write more?"),
    "byte order mark": ("\ufeff", ""),
    "draft": (
        '<think>I begin: {"question": "Is it a draft?", "answer": "It is a draft."} and mend it.'
        "</think>\n",
        "",
    ),
    "html": ("<html><body><pre>", "</pre></body></html>"),
}


# --------------------------------------------------------------------- no objects side by side
def columns(pairs: list[Pair]) -> Dressed:
    questions, answers = zip(*pairs)
    text = json.dumps({"questions": questions, "answers": answers}, ensure_ascii=False)
    return Dressed(text, (len(text),) * len(pairs))


def json_strings(pairs: list[Pair]) -> Dressed:
    dressed = joined([quoted(plain(pair, i)) for i, pair in enumerate(pairs)]).inside("[", "]")
    return dressed


def rows_of_texts(pairs: list[Pair]) -> Dressed:
    return joined([json.dumps(pair, ensure_ascii=False) for pair in pairs]).inside("[", "]")


def with_header(pairs: list[Pair]) -> Dressed:
    return rows_of_texts([("question", "answer"), *pairs]).without_first()


def turns(pairs: list[Pair]) -> Dressed:
    pieces = [
        json.dumps([{"role": "user", "content": q}, {"role": "assistant", "content": a}])[:-1]
        for q, a in pairs
    ]
    return joined(pieces, ']}\n{"messages": ').inside('{"messages": ', "]}")


def lost_opening_braces(pairs: list[Pair]) -> Dressed:
    pieces = [plain(pair, i)[bool(i) :] for i, pair in enumerate(pairs)]
    return joined(pieces).inside("[", "]")


def numbered_fields(pairs: list[Pair]) -> Dressed:
    row = {}
    for i, (q, a) in enumerate(pairs, start=1):
        row |= {f"question_{i}": q, f"answer_{i}": a}
    text = json.dumps(row, ensure_ascii=False)
    return Dressed(text, (len(text),) * len(pairs))


def question_to_answer(pairs: list[Pair]) -> Dressed:
    text = json.dumps(dict(pairs), ensure_ascii=False)
    return Dressed(text, (len(text),) * len(pairs))


def xml(pairs: list[Pair]) -> Dressed:
    pieces = [f"<pair><question>{q}</question><answer>{a}</answer>" for q, a in pairs]
    return joined(pieces, "</pair>\n").inside("<pairs>\n", "</pair>\n</pairs>")


def markdown_table(pairs: list[Pair]) -> Dressed:
    return joined([f"| {q} | {a} |" for q, a in pairs], "\n").inside(
        "| Question | Answer |\n|---|---|\n"
    )


OTHERS = {
    "columns": columns,
    "JSON strings": json_strings,
    "rows of texts": rows_of_texts,
    "table with a header": with_header,
    "turns": turns,
    "lost opening braces": lost_opening_braces,
    "numbered fields": numbered_fields,
    "question to answer": question_to_answer,
    "XML": xml,
    "Markdown table": markdown_table,
}


# ------------------------------------------------------- rows whose end only the next row can tell
def csv_lines(pairs: list[Pair]) -> Dressed:
    rows = [f'"{q}","{a}"' for q, a in pairs]
    return joined(rows, "\n", mark="\n").inside("question,answer\n")


def labelled(pairs: list[Pair]) -> Dressed:
    return joined([f"Q: {q}\nA: {a}" for q, a in pairs], "\n\n", mark="\n\nQ: x").inside("")


def yaml_list(pairs: list[Pair]) -> Dressed:
    rows = [f"- question: {quoted(q)}\n  answer: {quoted(a)}" for q, a in pairs]
    return joined(rows, "\n", mark="\n-").inside("")


LINES = {"CSV": csv_lines, "labelled lines": labelled, "YAML": yaml_list}
