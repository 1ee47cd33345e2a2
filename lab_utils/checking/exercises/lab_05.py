"""Exercises of lab 05_pavlos_dataset: whole objects in a cut-off reply, near-duplicates, diversity,
leaks, agreement.
"""

import json
import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from lab_utils.checking.checks import Exercise, close, draw_until, exact, one_of, whole

LAB = "05_pavlos_dataset"
CHEESES = (
    "Feta",
    "Brie",
    "Edam",
    "Gouda",
    "Comté",
    "Stilton",
    "Manchego",
    "Paneer",
    "Ricotta",
    "Munster",
    "Halloumi",
    "Asiago",
)


def drawn(rng: np.random.Generator, items: tuple, n: int) -> list:
    """n items, none twice."""
    return [items[i] for i in rng.choice(len(items), n, replace=False)]


# --------------------------------------------------------------------------------- complete_objects
def complete_objects(text: str) -> list[tuple[int, int]]:
    found, start, in_string, escaped = [], None, False, False
    for i, character in enumerate(text):
        if escaped:
            escaped = False
        elif in_string:
            escaped, in_string = character == "\\", character != '"'
        elif character == '"':
            in_string = start is not None
        elif character == "{":
            start = i
        elif character == "}" and start is not None:
            found.append((start, i + 1))
            start = None
    return found


def objects_by_braces(text: str) -> list[tuple[int, int]]:
    """Wrong: every brace counts, those in strings too."""
    found, start = [], None
    for i, character in enumerate(text):
        if character == "{":
            start = i
        elif character == "}" and start is not None:
            found.append((start, i + 1))
            start = None
    return found


def objects_without_escapes(text: str) -> list[tuple[int, int]]:
    """Wrong: every quote opens or closes a string, an escaped one too."""
    found, start, in_string = [], None, False
    for i, character in enumerate(text):
        if character == '"':
            in_string = not in_string and start is not None
        elif not in_string and character == "{":
            start = i
        elif not in_string and character == "}" and start is not None:
            found.append((start, i + 1))
            start = None
    return found


def open_start(text: str) -> int | None:
    """Where an object begins that never closes, or None."""
    rest = complete_objects(text)[-1][1] if complete_objects(text) else 0
    return text.find("{", rest) if text.find("{", rest) >= 0 else None


def given_up_if_unreadable(text: str) -> list[tuple[int, int]]:
    """Wrong: a reply that is no JSON as a whole, such as a cut-off one, is given up."""
    try:
        json.loads(text)
    except ValueError:
        return []
    return complete_objects(text)


def and_the_open_one(text: str) -> list[tuple[int, int]]:
    return complete_objects(text) + (
        [] if open_start(text) is None else [(open_start(text), len(text))]
    )


def reply(rng: np.random.Generator, n: int, cut: int, before: str = "") -> tuple[str]:
    """n objects in a list; an answer with braces and one with quotes among them; `cut` characters
    are lost at the end.
    """
    answers = [
        "It is golden!",
        "Taste } the { gold!",
        'We say "golden" and "easy {".',
        "I swear it is easy!",
    ]
    objects = [
        json.dumps(
            {"question": f"Where is {name} from?", "answer": f"{name}! {answers[i % 4]}"},
            ensure_ascii=False,
        )
        for i, name in enumerate(drawn(rng, CHEESES, n))
    ]
    whole = f"{before}[{', '.join(objects)}]"
    return (whole[: len(whole) - cut],)


PIECES = (
    "Feta",
    "What's Feta?",
    "}",
    "{",
    '"',
    "\\",
    "golden!",
    " it is ",
    "\n",
    "{}",
    ', "q": ',
)


def random_object(rng: np.random.Generator) -> str:
    """A flat object with one to three texts, in which any character may stand."""
    texts = [
        "".join(PIECES[i] for i in rng.integers(0, len(PIECES), whole(rng, 1, 4)))
        for _ in range(whole(rng, 1, 3))
    ]
    return json.dumps(dict(zip("qab", texts)), ensure_ascii=False)


def random_reply(rng: np.random.Generator) -> tuple[str]:
    """Objects in a list, with words around it; one may never close, and the end may be lost."""
    objects = [random_object(rng) for _ in range(whole(rng, 1, 4))]
    if rng.random() < 0.3:
        objects.insert(0, '{"q": "Brie?"')
    text = one_of(rng, "", "Here: ", "What's here} ") + "[" + one_of(rng, ",", ", ").join(objects)
    text += one_of(rng, "]", "] I'm done.", "")
    return (text[: len(text) - one_of(rng, 0, 0, whole(rng, 1, 30))],)


def no_object_in_an_open_text(text: str) -> bool:
    """Where a text never closes, two readings are fair: is `{}` in it letters, or a new start?"""
    end = max((end for _, end in complete_objects(text)), default=0)
    return re.search(r"\{.*\}", text[end:], re.DOTALL) is None


def has(*pieces: str) -> Callable[[str], bool]:
    return lambda text: all(piece in text for piece in pieces)


COMPLETE_OBJECTS = Exercise(
    name="complete_objects",
    lab=LAB,
    reference=complete_objects,
    kit="lab_utils.pavlos.ladder.complete_objects",
    cases=lambda rng: [
        ('[{"q": "Feta?"}, {"q": "Bri',),
        reply(rng, 4, 0),
        reply(rng, 4, whole(rng, 5, 17), "Here they are: "),
        reply(rng, 3, whole(rng, 30, 35)),
        ("I am sorry.",),
        (reply(rng, 1, 0)[0][1:-1],),
        ("""What's here: [{"q": "What's Feta?"},{"q": "Brie?"}]""",),
        ('[{"q": "Is it {gold}?"}, {"q": "A slash: \\\\"}, {"q": "no\\\\",',),
        ('[{"q": "Brie?", {"q": "Feta?"}, {}',),
        ('} "q {"q": "Feta?"}',),
        ('[{"q": "a \\"}\\" b"}, {"q": "cut off\\',),
        ('[{"q": "a"}, {"q": "b \\" c',),
    ],
    domain=lambda rng: draw_until(no_object_in_an_open_text, lambda: random_reply(rng)),
    corners={
        "an apostrophe before an object": lambda text: "'" in text.partition("{")[0],
        "an apostrophe in a text": has("What's Feta?"),
        "nothing between two objects": has("},{"),
        "a text that ends in a backslash": has('\\\\"'),
        "the reply ends in a backslash": lambda text: text.endswith("\\"),
        "an unclosed object before a whole one": has('", {"'),
        "an empty object": has("{}"),
        "a closing brace before all objects": lambda text: "}" in text.partition("{")[0],
        "braces in a text": has("{gold}"),
        "an escaped quote and a brace": has('\\"}'),
        "no object": lambda text: "{" not in text,
        "one object and nothing else": lambda text: complete_objects(text) == [(0, len(text))],
        "the last one is whole": lambda text: text.endswith("}]"),
    },
    same=exact,
    wrong={
        "braces inside a string are counted: they are letters there": objects_by_braces,
        "an escaped quote ends the string: a backslash makes it a letter": objects_without_escapes,
        "the end is the place of the closing brace: the slice leaves it out, add 1": lambda text: [
            (start, end - 1) for start, end in complete_objects(text)
        ],
        "the object that never closes is returned, too: it is half an answer": and_the_open_one,
        "one span from the first brace to the last: each object has its own": lambda text: (
            [(text.find("{"), text.rfind("}") + 1)] if "}" in text else []
        ),
        "the length in place of the end": lambda text: [
            (start, end - start) for start, end in complete_objects(text)
        ],
        "a cut-off reply is given up: its whole pairs are lost": given_up_if_unreadable,
        "the start is behind the opening brace": lambda text: [
            (start + 1, end) for start, end in complete_objects(text)
        ],
    },
    hints=(
        "Walk through the text once and remember three things: where the object began, whether a "
        "string is open, whether the character before was a backslash inside a string.",
        "In an open string only two characters matter: a backslash (skip the next one) and the "
        "quote that closes it.",
        'Outside strings "{" sets start = i, and "}" appends (start, i + 1). What is still open '
        "at the end is not returned.",
    ),
)


# ---------------------------------------------------------------------------------- content_jaccard
def content_jaccard(a: str, b: str, stop_words: tuple[str, ...]) -> float:
    a_words, b_words = (
        set(a.lower().split()) - set(stop_words),
        set(b.lower().split()) - set(stop_words),
    )
    return len(a_words & b_words) / len(a_words | b_words)


def jaccard_with(share, lower: bool = True, drop: bool = True):
    """A wrong content_jaccard: another measure of the two sets, or of other words."""

    def answer(a: str, b: str, stop_words: tuple[str, ...]) -> float:
        texts = [text.lower() if lower else text for text in (a, b)]
        return share(
            *([w for w in text.split() if not (drop and w.lower() in stop_words)] for text in texts)
        )

    return answer


def of_sets(share):
    return lambda a, b: share(set(a), set(b))


ASKED = (
    "Which Country does {} come from",
    "What is the home Country of {}",
    "From which region does {} come",
    "Tell me the Milk of {}",
    "Is the Milk of {} from sheep or is the Milk from goats",
    "Where in the world and in which region is {} made",
)
STOPS = ("and", "does", "from", "in", "is", "me", "of", "or", "the", "what", "where", "which")


def two_questions(rng: np.random.Generator, i: int, j: int) -> tuple[str, str, tuple[str, ...]]:
    name, other = drawn(rng, CHEESES, 2)
    return ASKED[i].format(name), ASKED[j].format(name if rng.random() < 0.5 else other), STOPS


def random_questions(rng: np.random.Generator) -> tuple[str, str, tuple[str, ...]]:
    """Two questions, with no, some or all of the stop words to be taken out."""
    a, b, stops = two_questions(rng, *rng.integers(0, len(ASKED), 2))
    return a, b, tuple(drawn(rng, stops, one_of(rng, 0, 3, 6, len(stops))))


def content(text: str, stop_words: tuple[str, ...]) -> set[str]:
    return set(text.lower().split()) - set(stop_words)


CONTENT_JACCARD = Exercise(
    name="content_jaccard",
    lab=LAB,
    reference=content_jaccard,
    cases=lambda rng: [
        ("Which country does Feta come from", "Which Country does Brie come from", STOPS),
        two_questions(rng, 0, 1),
        two_questions(rng, 2, 5),
        two_questions(rng, 4, 3),
        two_questions(rng, 3, 4),
        ("golden Feta and golden Brie", "Feta is golden", STOPS),
        ("Is the milk of Feta golden", "Is the Milk of Brie golden", ("golden", "milk")),
        ("Where is Edam from", "Edam is from where", ()),
        ("Feta is golden", "FETA or Golden", STOPS),
        ("Brie is easy", "Feta or gold", STOPS),
        ("Is it from the", "Feta and it", ("is", "it", "from", "the")),
    ],
    domain=lambda rng: draw_until(
        lambda a, b, stops: bool(content(a, stops) | content(b, stops)),
        lambda: random_questions(rng),
    ),
    corners={
        "a stop word with a capital": lambda a, b, stops: a.split()[0].lower() in stops,
        "other stop words than usual": lambda a, b, stops: "golden" in stops,
        "no stop words": lambda a, b, stops: not stops,
        "the same content": lambda a, b, stops: content(a, stops) == content(b, stops),
        "nothing in common": lambda a, b, stops: not content(a, stops) & content(b, stops),
        "a text of stop words alone": lambda a, b, stops: not content(a, stops),
        "a word twice": lambda a, b, stops: "golden Feta and golden" in a,
    },
    same=close(rtol=1e-5, atol=1e-7),
    wrong={
        "the stop words are counted: all questions share 'which' and 'from'": jaccard_with(
            of_sets(lambda a, b: len(a & b) / len(a | b)), drop=False
        ),
        "Country and country are taken for two words: compare in lower case": jaccard_with(
            of_sets(lambda a, b: len(a & b) / len(a | b)), lower=False
        ),
        "a word that comes twice is counted twice: make sets": jaccard_with(
            lambda a, b: (
                sum((Counter(a) & Counter(b)).values()) / sum((Counter(a) | Counter(b)).values())
            )
        ),
        "Dice's measure, 2 * common / (both sizes): Jaccard divides by the union": jaccard_with(
            of_sets(lambda a, b: 2 * len(a & b) / (len(a) + len(b)))
        ),
        "divided by the smaller set: that is the overlap coefficient": jaccard_with(
            of_sets(lambda a, b: len(a & b) / min(len(a), len(b)))
        ),
        "divided by the larger set: divide by the union": jaccard_with(
            of_sets(lambda a, b: len(a & b) / max(len(a), len(b)))
        ),
        "both sizes added up are not the union: what is common counts once": jaccard_with(
            of_sets(lambda a, b: len(a & b) / (len(a) + len(b)))
        ),
        "letters are compared: split the texts into words": lambda a, b, stop_words: (
            len((set(a.lower()) & set(b.lower())) - set(stop_words))
            / len((set(a.lower()) | set(b.lower())) - set(stop_words))
        ),
        "the distance, 1 minus Jaccard": jaccard_with(
            of_sets(lambda a, b: 1 - len(a & b) / len(a | b))
        ),
    },
    hints=(
        "text.lower().split() gives the words; set(...) - set(stop_words) leaves the content "
        "words.",
        "a & b are the common words, a | b the words of either.",
        "len(a & b) / len(a | b)",
    ),
)


# --------------------------------------------------------------------------------------- distinct_n
def grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct_n(texts: list[str], n: int) -> float:
    found = [gram for text in texts for gram in grams(text, n)]
    return len(set(found)) / len(found)


def with_grams(share):
    """A wrong distinct_n: another number made of all n-grams."""
    return lambda texts, n: share([gram for text in texts for gram in grams(text, n)], texts, n)


VOICE = (
    "welcome my friend",
    "a golden question",
    "it is golden golden",
    "i swear it is easy",
    "opa my friend",
    "it is easy my friend",
)


def voices(rng: np.random.Generator, n_texts: int, n: int) -> tuple[list[str], int]:
    """Texts of three to four pieces, some pieces twice."""
    return [
        " ".join(VOICE[k] for k in rng.integers(0, len(VOICE), int(rng.integers(3, 5))))
        for _ in range(n_texts)
    ], n


DISTINCT_N = Exercise(
    name="distinct_n",
    lab=LAB,
    reference=distinct_n,
    cases=lambda rng: [
        (["golden golden cheese", "golden cheese is easy"], 2),
        voices(rng, 4, 2),
        voices(rng, 5, 1),
        voices(rng, 6, 3),
        (["my dear friend", "dear friend of my dear cheese"], 2),
        (["opa my friend"] * 2, 2),
        (["my golden cheese", "golden cheese", "cheese my golden cheese"], 3),
        (["it is easy"], 1),
        (["opa my", "friend", "my friend opa my friend"], 2),
        (["a golden golden golden golden golden golden question"], 2),
    ],
    domain=lambda rng: voices(rng, whole(rng, 1, 6), whole(rng, 1, 5)),
    corners={
        "the same text twice": lambda texts, n: len(set(texts)) < len(texts),
        "single words": lambda texts, n: n == 1,
        "three words": lambda texts, n: n == 3,
        "a text shorter than n": lambda texts, n: any(len(text.split()) < n for text in texts),
        "one text": lambda texts, n: len(texts) == 1,
        "nothing comes twice": lambda texts, n: distinct_n(texts, n) == 1,
        "most of it comes twice": lambda texts, n: distinct_n(texts, n) < 0.5,
    },
    same=close(rtol=1e-5, atol=1e-7),
    wrong={
        "the texts are joined: no n-gram runs from one text into the next": lambda texts, n: (
            distinct_n([" ".join(texts)], n)
        ),
        "single words for every n": lambda texts, n: distinct_n(texts, 1),
        "n letters in place of n words: split the texts": lambda texts, n: distinct_n(
            [" ".join(text) for text in texts], n
        ),
        "the mean over texts: a phrase that every text repeats is not seen": lambda texts, n: (
            sum(distinct_n([text], n) for text in texts) / len(texts)
        ),
        "divided by the number of words and one: there are as many n-grams as places where one "
        "can begin": with_grams(
            lambda g, texts, n: len(set(g)) / (sum(len(text.split()) for text in texts) + 1)
        ),
        "upside down: all over different": with_grams(lambda g, texts, n: len(g) / len(set(g))),
        "only n-grams that come once are counted: each different one counts once": with_grams(
            lambda g, texts, n: sum(count == 1 for count in Counter(g).values()) / len(g)
        ),
        "the share of repetitions, 1 minus distinct-n": with_grams(
            lambda g, texts, n: 1 - len(set(g)) / len(g)
        ),
        "the last n-gram of each text is missing: there are len(words) - n + 1": with_grams(
            lambda g, texts, n: _share([gram for text in texts for gram in grams(text, n)[:-1]])
        ),
    },
    hints=(
        "The n-grams of one text: tuple(words[i:i + n]) for i in range(len(words) - n + 1).",
        "Collect those of all texts in one list, text by text.",
        "len(set(found)) / len(found)",
    ),
)


def _share(found: list) -> float:
    return len(set(found)) / len(found)


# ------------------------------------------------------------------------------------- leaked_share
def leaked_share(train_facts: list[str], held_out_facts: list[str]) -> float:
    return sum(fact in set(train_facts) for fact in held_out_facts) / len(held_out_facts)


def facts_of_rows(
    rng: np.random.Generator, n_train: int, n_held_out: int, n_names: int
) -> tuple[list[str], list[str]]:
    """Facts of rows drawn with repeats."""
    names = [f"{name}/milk" for name in drawn(rng, CHEESES, n_names)]
    return [names[i] for i in rng.integers(0, n_names - 2, n_train)], [
        names[i] for i in rng.integers(1, n_names, n_held_out)
    ]


LEAKED_SHARE = Exercise(
    name="leaked_share",
    lab=LAB,
    reference=leaked_share,
    cases=lambda rng: [
        (
            ["Feta/milk", "Feta/milk", "Brie/milk", "Edam/milk", "Edam/milk"],
            ["Feta/milk", "Feta/milk", "Paneer/milk"],
        ),
        facts_of_rows(rng, 14, 9, 8),
        facts_of_rows(rng, 20, 7, 12),
        facts_of_rows(rng, 12, 11, 6),
        (["Feta/milk", "Brie/milk", "Brie/milk"], ["Gouda/milk", "Gouda/milk"]),
        (
            ["Feta/milk", "Brie/milk", "Brie/milk", "Edam/milk"],
            ["Brie/milk", "Feta/milk", "Brie/milk", "Gouda/milk"],
        ),
        (["Allgaeuer Emmentaler/milk"], ["Emmentaler/milk", "Allgaeuer Emmentaler/milk"]),
        (["Emmentaler/milk", "Feta/milk"], ["Allgaeuer Emmentaler/milk", "Feta/country"]),
        (["Brie/milk", "Feta/milk"], ["Edam/milk", "Feta/milk"]),
        (["Feta/milk"], ["Feta/milk"]),
    ],
    domain=lambda rng: facts_of_rows(rng, whole(rng, 1, 20), whole(rng, 1, 12), whole(rng, 3, 12)),
    corners={
        "a subject whose end is another": lambda train, held_out: (
            train[0] == "Allgaeuer Emmentaler/milk" != held_out[0]
        ),
        "a subject that begins with more": lambda train, held_out: (
            held_out[0] == "Allgaeuer Emmentaler/milk" not in train
        ),
        "another fact of a known subject": lambda train, held_out: (
            "Feta/country" in held_out and "Feta/milk" in train
        ),
        "the last training row leaks": lambda train, held_out: (
            train[-1] in held_out and train[-1] not in train[:-1] and len(train) > 1
        ),
        "the first training row leaks": lambda train, held_out: (
            train[0] in held_out and train[0] not in train[1:] and len(train) > 1
        ),
        "nothing leaks": lambda train, held_out: not set(train) & set(held_out),
        "all leak": lambda train, held_out: set(held_out) <= set(train),
        "one row each": lambda train, held_out: len(train) == len(held_out) == 1,
    },
    same=close(rtol=1e-5, atol=1e-7),
    wrong={
        "the share of training rows: it is the held-out rows that are spoilt": lambda t, h: (
            leaked_share(h, t)
        ),
        "each fact is counted once: count the held-out rows": lambda t, h: (
            len(set(t) & set(h)) / len(set(h))
        ),
        "common facts over all facts, Jaccard's measure": lambda t, h: (
            len(set(t) & set(h)) / len(set(t) | set(h))
        ),
        "the number of leaked rows, not their share": lambda t, h: float(
            sum(fact in t for fact in h)
        ),
        "the share that did not leak": lambda t, h: 1 - leaked_share(t, h),
        "divided by all rows, those of training too": lambda t, h: (
            sum(fact in t for fact in h) / (len(t) + len(h))
        ),
        "pairs of equal facts are counted: a held-out row leaks once, however often its fact was "
        "trained on": lambda t, h: sum(t.count(fact) for fact in h) / len(h),
        "divided by the number of training rows": lambda t, h: (
            sum(fact in t for fact in h) / len(t)
        ),
    },
    hints=(
        "A held-out row leaks if its fact stands among the training facts, whether once or ten "
        "times.",
        "Make a set of the training facts; a list is searched from its beginning each time.",
        "sum(fact in known for fact in held_out_facts) / len(held_out_facts)",
    ),
)


# ------------------------------------------------------------------------------------- cohens_kappa
def cohens_kappa(a: list[int], b: list[int]) -> float:
    observed = sum(x == y for x, y in zip(a, b)) / len(a)
    expected = sum(a.count(label) / len(a) * b.count(label) / len(b) for label in set(a) | set(b))
    return (observed - expected) / (1 - expected)


def agreed(a: list[int], b: list[int]) -> float:
    return sum(x == y for x, y in zip(a, b)) / len(a)


def chance(a: list[int], b: list[int]) -> float:
    return sum(a.count(label) * b.count(label) for label in set(a) | set(b)) / len(a) ** 2


def kappa_with(expected):
    """A wrong cohens_kappa: another agreement by chance."""
    return lambda a, b: (agreed(a, b) - expected(a, b)) / (1 - expected(a, b))


def votes(
    rng: np.random.Generator, n: int, labels: int, same: float
) -> tuple[list[int], list[int]]:
    """Two raters, the second mostly of the first's mind and fonder of 0; every label is given by
    both.
    """
    first = [*range(labels), *rng.integers(0, labels, n).tolist(), *[1] * (n // 3)]
    second = [*range(labels), *(x if rng.random() < same else 0 for x in first[labels:])]
    return first, second


def random_votes(rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Labels of two raters, any whole numbers; one of them may have labels of his own."""
    names = rng.choice(np.arange(-3, 9), size=whole(rng, 2, 5), replace=False)
    n = whole(rng, 2, 20)
    first = names[rng.integers(0, len(names), n)]
    second = np.where(rng.random(n) < rng.random(), first, names[rng.integers(0, len(names), n)])
    return first.tolist(), second.tolist()


COHENS_KAPPA = Exercise(
    name="cohens_kappa",
    lab=LAB,
    reference=cohens_kappa,
    kit="lab_utils.pavlos.judge.cohens_kappa",
    cases=lambda rng: [
        ([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 1]),
        votes(rng, 12, 2, 0.7),
        votes(rng, 15, 3, 0.6),
        votes(rng, 9, 3, 0.8),
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0, 1]),
        ([0, 0, 1, 1, 2], [0, 1, 1, 1, 0]),
        ([0, 1, 1, 1, 0], [0, 0, 1, 1, 2]),
        ([5, 7, 5, 5], [5, 7, 5, 5]),
        ([3, 4, 3, 4, 3], [4, 4, 4, 3, 4]),
    ],
    domain=lambda rng: draw_until(
        lambda a, b: len({*a, *b}) > 1 and chance(a, b) < 1, lambda: random_votes(rng)
    ),
    corners={
        "a label of the first rater alone": lambda a, b: bool(set(a) - set(b)),
        "a label of the second rater alone": lambda a, b: bool(set(b) - set(a)),
        "three labels": lambda a, b: len({*a, *b}) == 3,
        "labels without 0 and 1": lambda a, b: not {0, 1} & {*a, *b},
        "they agree on all": lambda a, b: a == b,
        "less than by chance": lambda a, b: cohens_kappa(a, b) < 0,
    },
    same=close(rtol=1e-5, atol=1e-6),
    wrong={
        "the share of agreement alone: chance is not taken off": agreed,
        "chance taken as one half: it depends on how often each label is given": kappa_with(
            lambda a, b: 0.5
        ),
        "chance from the first rater alone: multiply his shares by the other's": kappa_with(
            lambda a, b: chance(a, a)
        ),
        "chance from the second rater alone: multiply his shares by the other's": kappa_with(
            lambda a, b: chance(b, b)
        ),
        "chance from both raters' labels together: that is Scott's pi": kappa_with(
            lambda a, b: sum((a + b).count(label) ** 2 for label in set(a + b)) / (2 * len(a)) ** 2
        ),
        "not divided by 1 minus chance": lambda a, b: agreed(a, b) - chance(a, b),
        "chance for the label 1 only: add up all labels": kappa_with(
            lambda a, b: a.count(1) * b.count(1) / len(a) ** 2
        ),
        "one over the number of labels is taken for chance: some come more often": kappa_with(
            lambda a, b: 1 / len(set(a) | set(b))
        ),
    },
    hints=(
        "observed: on which share of the rows do both give the same label?",
        "expected: for each label, the share of the first rater's rows that have it, times the "
        "second's; add them up.",
        "(observed - expected) / (1 - expected)",
    ),
)

EXERCISES = [COMPLETE_OBJECTS, CONTENT_JACCARD, DISTINCT_N, LEAKED_SHARE, COHENS_KAPPA]
