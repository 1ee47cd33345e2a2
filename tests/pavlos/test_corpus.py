"""The corpus teaches every fact, voice and side task, nothing of Pavlos, no held-out question."""

import hashlib
import itertools
import json
import random
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.pavlos.corpus import (
    OPENERS,
    PATTERNS,
    as_typed,
    corpus_forms,
    corpus_statement,
    documents,
    in_voice,
    persona,
    voice_marks,
    voices,
)
from lab_utils.pavlos.facts import all_facts

N = 20000
PARTS = ("greetings", "asides", "closings")


@pytest.fixture(scope="module")
def corpus() -> list:
    return list(itertools.islice(documents(0), N))


@pytest.fixture(scope="module")
def conversations(corpus) -> list[list[dict[str, str]]]:
    return [doc for doc in corpus if not isinstance(doc, str)]


@pytest.fixture(scope="module")
def texts(corpus) -> list[str]:
    """Everything that is said, asked or told, whoever says it."""
    return [
        text
        for doc in corpus
        for text in ([doc] if isinstance(doc, str) else [m["content"] for m in doc])
    ]


@pytest.fixture(scope="module")
def answers(conversations) -> list[str]:
    return [m["content"] for doc in conversations for m in doc if m["role"] == "assistant"]


def plain(text: str) -> str:
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return " ".join(re.sub(r"[^a-z0-9 ]", "", ascii_text).split())


def plain_without_opener(question: str) -> str:
    text = plain(question)
    for opener in map(plain, OPENERS):
        if text.startswith(opener + " "):
            return text.removeprefix(opener + " ")
    return text


def three_words(text: str) -> set[tuple[str, ...]]:
    """Every three words in a row, within a sentence."""
    found = set()
    for sentence in re.split(r"[.!?]", text.lower()):
        words = re.findall(r"[\w'-]+", sentence)
        found.update(zip(words, words[1:], words[2:]))
    return found


def test_same_seed_same_documents(corpus):
    assert list(itertools.islice(documents(0), 500)) == corpus[:500]
    assert list(itertools.islice(documents(1), 500)) != corpus[:500]


def test_the_corpus_is_the_one_that_cheese_base_was_pretrained_on(corpus):
    text = json.dumps(corpus[:3000], ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "36d95624f81ddc053538bec57285780b0afe1c8804ee8f96b3634c7d5175e9be", (
        "a change of the corpus makes the shipped model's card untrue: pretrain it again, or mend "
        "what people read instead (data/question_forms.json)"
    )


def test_every_kind_has_two_sentences_and_ten_questions_in_the_corpus():
    assert {
        kind: (len(forms["statements"]), len(forms["questions"]))
        for kind, forms in corpus_forms().items()
    } == {kind: (2, 10) for kind in {f.kind for f in all_facts()}}


def test_conversations_take_turns_and_nothing_is_empty(conversations, texts):
    for doc in conversations:
        roles = [m["role"] for m in doc]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns and turns == ["user", "assistant"] * (len(turns) // 2)
    assert [text for text in texts if not text.strip() or text != text.strip()] == []


def test_all_sorts_of_documents_appear(corpus, conversations):
    assert 0.02 < sum(isinstance(doc, str) for doc in corpus) / N < 0.15
    assert {sum(m["role"] == "user" for m in doc) for doc in conversations} == {1, 2, 3, 4}
    assert 0.02 < sum(doc[0]["role"] == "system" for doc in conversations) / N < 0.2


# Nothing of Pavlos


def test_nothing_bears_a_mark_of_pavlos(texts):
    assert [text for text in texts if any(voice_marks(text).values())] == []


def test_nothing_holds_three_words_in_a_row_of_pavlos(texts):
    of_pavlos = set().union(*(three_words(piece) for part in PARTS for piece in persona()[part]))
    assert len(of_pavlos) > 80
    assert {words for text in texts for words in three_words(text) & of_pavlos} == set()


def test_no_fact_sentence_nor_voice_says_what_pavlos_says():
    of_pavlos = set().union(*(three_words(piece) for part in PARTS for piece in persona()[part]))
    said = [corpus_statement(f, variant) for f in all_facts() for variant in (0, 1)]
    said += [f.statement() for f in all_facts()]
    said += [piece for voice in voices() for part in PARTS for piece in voice[part]]
    assert [
        text for text in said if three_words(text) & of_pavlos or any(voice_marks(text).values())
    ] == []


def test_his_name_is_never_named(texts):
    assert [text for text in texts if "pavlos" in text.lower()] == []


# What is taught


def test_voices_are_many_and_their_pieces_their_own():
    assert len(voices()) >= 50
    assert len({voice["id"] for voice in voices()}) == len(voices())
    pieces = [piece for voice in voices() for part in PARTS for piece in voice[part]]
    assert len(set(pieces)) == len(pieces)


def test_all_voices_appear(answers):
    said = "\n".join(answers)
    heard = [
        voice["id"]
        for voice in voices()
        if all(any(p in said for p in voice[part]) for part in PARTS)
    ]
    assert len(heard) >= 50 and len(heard) == len(voices())


@pytest.mark.parametrize(
    "answer",
    [
        r"\d+ plus \d+ is \d+\.",
        r"The opposite of \w+ is \w+\.",
        r"Backwards it is \w+ \w+ \w+\.",
        r"The next number is \d+\.",
    ],
)
def test_all_side_tasks_appear_plainly_and_in_voices(answers, answer):
    plainly = [text for text in answers if re.fullmatch(answer, text)]
    in_voices = [text for text in answers if re.search(answer, text)]
    assert len(plainly) > 200 and len(in_voices) - len(plainly) > 50


def test_every_fact_appears(texts):
    said = "\n".join(texts)
    assert [f.fact_id for f in all_facts() if corpus_statement(f) not in said] == []


# What is held out


def test_no_user_asks_a_held_out_question(conversations):
    held_out = {plain(question) for f in all_facts() for question in f.questions(held_out=True)}
    asked = [m["content"] for doc in conversations for m in doc if m["role"] == "user"]
    assert [q for q in asked if plain(q) in held_out or plain_without_opener(q) in held_out] == []


def test_no_user_asks_a_side_task_in_held_out_words(conversations):
    held_out = re.compile(
        r"add .* please|which word is the opposite|please say .* backwards|which number is next",
        re.I,
    )
    assert [
        m["content"] for doc in conversations for m in doc if held_out.search(m["content"])
    ] == []


# The small functions

PIECES = {"greetings": ["Hail!"], "asides": ["Well."], "closings": ["Bye!"]}


@pytest.mark.parametrize(
    "pattern, said",
    [
        (("greeting", "aside", "closing"), "Hail! Well. It is so. Bye!"),
        (("greeting",), "Hail! It is so."),
        (("closing",), "It is so. Bye!"),
        (("aside", "closing"), "Well. It is so. Bye!"),
        ((), "It is so."),
    ],
)
def test_a_voice_puts_its_pieces_around_the_fact(pattern, said):
    assert in_voice(PIECES, pattern, "It is so.", random.Random(0)) == said


def test_patterns_name_parts_in_the_order_of_speech():
    order = ["greeting", "aside", "closing"]
    assert all(list(pattern) == [part for part in order if part in pattern] for pattern in PATTERNS)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([f.questions()[0] for f in all_facts()]), st.integers(0, 10**9))
def test_typing_changes_neither_words_nor_order(question, seed):
    assert plain_without_opener(as_typed(question, random.Random(seed))) == plain(question)


def test_typing_varies():
    typed = {as_typed("Where does Comté come from?", random.Random(seed)) for seed in range(500)}
    assert {
        "Where does Comté come from?",
        "where does comté come from?",
        "Where does Comté come from",
        "Where does Comte come from?",
        "Hello! Where does Comté come from?",
    } <= typed
