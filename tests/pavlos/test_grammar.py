"""What people read of the pairs is sound English: every sentence and question of every fact, with
every opener, and every piece of the persona, held against a short list of rules.
"""

import json
import random
import re

import pytest

from lab_utils.files import DATA
from lab_utils.pavlos import load_pairs
from lab_utils.pavlos.corpus import (
    ASKED,
    HABITS,
    TOLD,
    WANTED,
    pavlos_says,
    persona,
    with_opener,
)
from lab_utils.pavlos.facts import SPLITS, WITH_ARTICLE, all_facts, question_forms

FACTS = {fact.fact_id: fact for fact in all_facts()}
ASKING = "what which where how when who why is are was does do can to in from for"
TELLING = "tell describe complete remind explain name"
PREPOSITION = "(?:of|in|from|with|for|at|by|about)"
FIRST = "|".join(word.capitalize() for word in f"{ASKING} {TELLING}".split())
PLACES = "|".join(map(re.escape, sorted(WITH_ARTICLE)))
RULES = {
    "a before a vowel": r"\b[Aa] (?!US\b|us\b|uni|use|usu|Eu)[aeiouAEIOU]",
    "an before a consonant": r"\b[Aa]n (?![aeiouAEIOU]|hour)",
    "a word twice": r"\b(?!golden|welcome)(\w+) \1\b",
    "two prepositions": rf"\b{PREPOSITION} (?!at least){PREPOSITION}\b",
    "a region without of": r"\bthe region [A-ZÀ-Ž]",
    "a capital inside": rf"[,:;] (?:{FIRST})\b",
    "Please with a comma": r"\b[Pp]lease, ",
    "a place without the": rf"\b(?:is|from) (?:{PLACES})\b",
    "number": r"\b(?:are it|is they)\b",
    "a space before a mark": r" [,;:!?]| \.(?!\.\.)",
    "forgotten and told": r"\bI forgot\b|^(?:Tell me|Remind me of) the (?!home|shortest)",
    "a texture that is fresh": r"\btexture of [^.]* is fresh\b|\ba fresh texture\b",
    "no ending": r"(?<![.!?])\Z",
    "no capital": r"\A[a-zà-ž]",
    "a noun for an adjective": r"\btastes caramel\b|\band caramel\b",
}


def broken(text: str) -> list[str]:
    """The rules that a text breaks."""
    return [name for name, rule in RULES.items() if re.search(rule, text)]


@pytest.mark.parametrize(
    "text, rule",
    [
        ("The texture of Paneer is fresh.", "a texture that is fresh"),
        ("Tetilla is at home in the region Galicia.", "a region without of"),
        ("Please, Describe the rind of Feta.", "Please with a comma"),
        ("Dear friend, Which country makes Manouri?", "a capital inside"),
        ("Quick question: What goes well with Feta?", "a capital inside"),
        ("I forgot the splitting of fat as cheese ages.", "forgotten and told"),
        ("Tell me the milk of Feta.", "forgotten and told"),
        ("The amino acids beside the chymosin cut: what are it?", "number"),
        ("Feta has an soft texture.", "an before a consonant"),
        ("Cornish Yarg has a ash-coated rind.", "a before a vowel"),
        ("Feta comes from in Greece.", "two prepositions"),
        ("The home region of Crowdie is Highlands.", "a place without the"),
        ("Leyden comes from Netherlands.", "a place without the"),
        ("Beaufort tastes nutty and caramel.", "a noun for an adjective"),
        ("Which milk is is in Feta?", "a word twice"),
        ("which milk is in Feta?", "no capital"),
        ("Which milk is in Feta", "no ending"),
        ("Feta comes from Greece .", "a space before a mark"),
    ],
)
def test_the_rules_hear_what_is_wrong(text, rule):
    assert rule in broken(text)


def test_every_sentence_and_every_question_of_every_fact():
    said = [fact.statement() for fact in FACTS.values()]
    said += [q for f in FACTS.values() for held in (False, True) for q in f.questions(held)]
    assert len(said) > 20_000
    assert [(text, rules) for text in said if (rules := broken(text))] == []


def test_what_asks_ends_as_a_question_and_what_tells_does_not():
    forms = [
        form for kind in question_forms().values() for form in kind["train"] + kind["held_out"]
    ]
    tells = re.compile(rf"(?:I want|{'|'.join(TELLING.title().split())}) (?!me, )")
    assert [form for form in forms if form.endswith("?") == bool(tells.match(form))] == []


def test_every_opener_suits_every_question():
    rng, said = random.Random(0), set()
    for fact in list(FACTS.values())[::7]:
        for question in fact.questions():
            said |= {with_opener(question, fact.subject, rng) for _ in range(6)}
    assert all(any(t.startswith(o) for t in said) for o in ASKED + TOLD + WANTED)
    assert [(text, rules) for text in said if (rules := broken(text))] == []
    assert [t for t in said if re.match(rf"Please (?!{'|'.join(TELLING.split())})", t)] == []
    assert [t for t in said if len(re.findall(r"[:?!,] ", t)) > 1 and "please" not in t] == []


@pytest.mark.parametrize(
    "question, asked",
    [
        ("Feta is made in which country?", {f"{o}Feta is made in which country?" for o in ASKED}),
        ("I want to taste Feta.", {f"{o}I want to taste Feta." for o in WANTED}),
        ("Tell me, what is whey?", {"Tell me, what is whey?"}),
    ],
)
def test_a_name_and_i_keep_their_capital_and_one_opener_is_enough(question, asked):
    rngs = map(random.Random, range(60))
    assert {with_opener(question, "Feta", rng) for rng in rngs} == asked


def test_the_pieces_of_the_persona():
    pieces = [piece for part in ("greetings", "asides", "closings") for piece in persona()[part]]
    assert len(set(pieces)) == len(pieces) >= 30
    assert [(piece, rules) for piece in pieces if (rules := broken(piece))] == []


def test_no_habit_comes_twice_in_an_answer_and_every_piece_is_heard():
    said = [pavlos_says("So.", random.Random(seed)) for seed in range(4000)]
    assert [text for text in said if any(text.lower().count(habit) > 1 for habit in HABITS)] == []
    heard = "\n".join(said)
    pieces = [piece for part in ("greetings", "asides", "closings") for piece in persona()[part]]
    assert [piece for piece in pieces if piece not in heard] == []


def test_the_rows_that_are_shipped():
    rows = [row for split in SPLITS for row in load_pairs(split)]
    careless = {"no capital", "no ending"}  # a training question now and then is typed so
    assert [(r["question"], b) for r in rows if (b := set(broken(r["question"])) - careless)] == []
    assert [(r["answer"], b) for r in rows if (b := broken(r["answer"]))] == []


@pytest.mark.parametrize(
    "fact_id, sentence",
    [
        ("Paneer/texture", "Paneer has the texture of a fresh cheese."),
        ("Gouda/texture", "The texture of Gouda is semi-hard."),
        ("Tetilla/region", "The home region of Tetilla is Galicia."),
        ("Crowdie/region", "The home region of Crowdie is the Highlands."),
        ("lipolysis", "The splitting of fat as cheese ages is called lipolysis."),
        ("margarine-year", "The year margarine was patented in France was 1869."),
        ("goat-teats", "The usual teat count of a goat is 2."),
        ("Geitost/flavour", "Geitost tastes sweet, with a note of caramel."),
    ],
)
def test_sentences_that_were_mended(fact_id, sentence):
    assert FACTS[fact_id].statement() == sentence


def test_a_sentence_instead_of_the_usual_one_belongs_to_a_value_of_the_tables():
    values = {(fact.kind, fact.value) for fact in FACTS.values()}
    for kind, forms in json.loads((DATA / "question_forms.json").read_text("utf-8")).items():
        assert {(kind, value) for value in forms.get("instead", {})} <= values
