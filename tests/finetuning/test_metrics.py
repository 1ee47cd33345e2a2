"""NIST, METEOR and CIDEr through `evaluate`: published examples, the reference code's numbers, sums
by hand.
"""

import math
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.finetuning.evaluation import overlap_scores
from lab_utils.finetuning.metrics import cider_d, plain_words, words

ALL = ("rouge_l", "bleu", "nist", "meteor", "cider")
texts = st.lists(st.text(alphabet="abcdé .,!?'", max_size=30), min_size=1, max_size=6)


def score(metric, answers, references):
    return overlap_scores(answers, references, (metric,))[metric]


# ------------------------------------------------------------------------------------ all of them
def test_the_scores_that_are_asked_for_and_no_others():
    said = ["Feta is made from sheep milk in Greece."] * 2
    assert list(overlap_scores(said, said, ALL)) == ["rougeL", "bleu", "nist", "meteor", "cider"]
    assert list(overlap_scores(said, said)) == ["rougeL", "bleu"], "lab 06 asks for these"


@settings(max_examples=25, deadline=None)
@given(answers=texts)
def test_any_text_has_a_finite_score_within_its_bounds(answers):
    references = ["a b, c d!"] * len(answers)
    scores = overlap_scores(answers, references, ("nist", "meteor", "cider"))
    assert 0 <= scores["nist"] < 100 and 0 <= scores["meteor"] <= 1 and 0 <= scores["cider"] <= 10


@pytest.mark.parametrize("metric", ["nist", "meteor", "cider"])
def test_silence_and_other_words_score_nothing(metric):
    references = ["the cat sat on the mat", "a dog ran in the park"]
    assert score(metric, ["", ""], references) == 0
    assert score(metric, ["nobody knows", "who cares"], references) == 0


@pytest.mark.parametrize("metric", ["nist", "meteor", "cider"])
def test_case_does_not_matter_and_order_does(metric):
    references = ["The cat sat on the mat today", "A dog ran in the park yesterday"]
    gold = score(metric, references, references)
    assert score(metric, [r.upper() for r in references], references) == pytest.approx(gold)
    backwards = [" ".join(reversed(r.split())) for r in references]
    assert score(metric, backwards, references) < 0.9 * gold


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a metric reaches for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    overlap_scores(["running dogs"], ["the dog runs"], ALL)


def test_words_are_lower_case_with_punctuation_apart():
    assert words("Welcome, my friend! It's 3.5 %.") == [
        "welcome",
        ",",
        "my",
        "friend",
        "!",
        "it's",
        "3.5",
        "%",
        ".",
    ]
    assert plain_words("Welcome, my friend! It's 3.5 %.") == [
        "welcome",
        "my",
        "friend",
        "it's",
        "3.5",
    ]


# ------------------------------------------------------------------------------------ NIST
def test_nist_by_hand():
    """References "a b a c" and "a b": a 3, b 2, c 1 of 6 words; "a b" 2, "b a" 1, "a c" 1;
    information in bits.
    """
    # Answers "a b" and "a c b": unigram hits a, b, a, b of 5 words; bigram hit "a b" of 3. They
    # have 5 words, references 6.
    info = {"a": math.log2(6 / 3), "b": math.log2(6 / 2), "a b": math.log2(3 / 2)}
    sums = (2 * info["a"] + 2 * info["b"]) / 5 + info["a b"] / 3 + 0 / 1
    penalty = math.exp(math.log(0.5) / math.log(1.5) ** 2 * math.log(5 / 6) ** 2)
    assert score("nist", ["a b", "a c b"], ["a b a c", "a b"]) == pytest.approx(sums * penalty)


def test_nist_adds_up_all_five_orders():
    """Two gold answers that part at their fifth word: at every order, two n-grams in (5 - n + 1) *
    2 hold one bit.
    """
    texts = ["a b c d e", "a b c d f"]
    unigrams = (8 * math.log2(10 / 2) + 2 * math.log2(10 / 1)) / 10
    assert score("nist", texts, texts) == pytest.approx(unigrams + 2 / 8 + 2 / 6 + 2 / 4 + 2 / 2)


def test_nist_counts_rare_words_more_than_common_ones():
    references = ["a a a a x", "a a a a y"]
    assert score("nist", ["x", "y"], references) > score("nist", ["a", "a"], references) > 0


def test_nist_of_answers_two_thirds_as_long_is_halved():
    """The penalty's definition (Doddington 2002, equation 3), on words that all carry the same
    information.
    """
    whole, short = ["a b c"], ["a b"]
    # every bigram is the only one after its word: it adds no information
    unigrams, bigrams = (
        math.log2(3),
        0.0,
    )
    assert score("nist", whole, ["a b c"]) == pytest.approx(unigrams + bigrams)
    assert score("nist", short, ["a b c"]) == pytest.approx((unigrams + bigrams) / 2)


# ------------------------------------------------------------------------------------ METEOR
@pytest.mark.parametrize(
    ("answer", "reference", "published"),
    [
        ("the cat sat on the mat", "the cat sat on the mat", 0.9977),
        ("on the mat sat the cat", "the cat sat on the mat", 0.5),
        ("the cat was sat on the mat", "the cat sat on the mat", 0.9654),
    ],
)
def test_meteor_of_the_worked_examples_in_the_encyclopedia(answer, reference, published):
    """The three examples of Wikipedia's article on METEOR."""
    assert score("meteor", [answer], [reference]) == pytest.approx(published, abs=5e-5)


def test_meteor_by_hand_with_a_stem():
    """ "dogs run fast" for "the dog runs": stems dog and run match, one chunk. P = R = 2/3, penalty
    0.5 (1/2)^3.
    """
    assert score("meteor", ["dogs run fast"], ["the dog runs"]) == pytest.approx(
        2 / 3 * (1 - 0.0625)
    )


def test_meteor_weighs_recall_nine_times():
    """P = 1, R = 1/2: F = 10 P R / (R + 9 P); the other way round F = 10 P R / (1 + 4.5)."""
    long, short = "a b c d", "a b"
    assert score("meteor", [short], [long]) == pytest.approx(10 * 0.5 / 9.5 * (1 - 0.5 / 8))
    assert score("meteor", [long], [short]) == pytest.approx(10 * 0.5 / 5.5 * (1 - 0.5 / 8))


def test_meteor_knows_no_synonyms():
    assert score("meteor", ["a large dog"], ["a big dog"]) == score(
        "meteor", ["a zzz dog"], ["a big dog"]
    )


# ------------------------------------------------------------------------------------ CIDEr
def test_cider_has_the_numbers_of_the_reference_code():
    """pycocoevalcap 1.2, cider/cider_scorer.py (coco-caption's code), on these words: scores of
    each and their mean.
    """
    references = [
        "the cat sat on the mat",
        "a dog ran in the park",
        "the cat ran after a dog",
        "nobody sat in the park today",
    ]
    answers = [
        "the cat sat on a mat",
        "a dog ran in the park",
        "the the cat ran after the dog quickly",
        "somebody slept",
    ]
    theirs = [5.790519218212021, 10.0, 4.47845573130694, 0.0]
    ours = cider_d([a.split() for a in answers], [r.split() for r in references])
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert score("cider", answers, references) == pytest.approx(5.06724373737974, abs=1e-12)


def test_cider_by_hand():
    """Two references with no word in common: every idf is log 2. One of two words is right: cosine
    1/2, no bigram.
    """
    assert cider_d([["a", "x"]], [["a", "b"]]) == [0.0], (
        "with a single reference, no n-gram tells anything"
    )
    ours = cider_d([["a", "x"], ["c", "d"]], [["a", "b"], ["c", "d"]])
    assert ours == pytest.approx([10 / 4 * 0.5, 10 / 4 * 2])


def test_cider_clips_repetition_and_punishes_length():
    references = [["a", "b"], ["c", "d"]]
    once, thrice = (cider_d([["a"] * n, ["c", "d"]], references)[0] for n in (1, 3))
    assert once == pytest.approx(10 / 4 / 2**0.5 * math.exp(-1 / 72))
    assert thrice == pytest.approx(10 / 4 / 3 / 2**0.5 * math.exp(-1 / 72)), (
        "a's weight is clipped to 1, its norm is not"
    )
