"""One way from question to tokens: labels on the answer and its end alone, errors that say why,
answers in order.
"""

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import chatml_tokenizer

from lab_utils.finetuning.base_model import load_base, load_tokenizer
from lab_utils.finetuning.chat import (
    IGNORED,
    Answer,
    answer_questions,
    encode_pair,
    encode_prompt,
    pad_left,
)

QUESTION, ANSWER = "Where does Feta come from?", "Feta comes from Greece."
QUESTIONS = [
    "Where does Feta come from?",
    "Hi",
    "What is 3 plus 4?",
    "What milk is Roquefort made from, and why?",
    "Name the main protein of milk.",
    "Say backwards: moon tree cup.",
    "Who?",
    "How long does Comté age?",
    "Is it late?",
]


@pytest.fixture(scope="module")
def tiny(tiny_base):
    """A tiny model whose weights are drawn wide, so that each question gets an answer of its own,
    and its tokenizer.
    """
    model, tokenizer = load_base(source=tiny_base)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5)
    return model, tokenizer


@pytest.fixture(params=["cheese-base", "cheese-base, pad = end", "ChatML", "ChatML, pad = end"])
def tokenizer(request, tiny_base):
    if "ChatML" in request.param:
        return chatml_tokenizer("<|im_end|>" if "pad = end" in request.param else "<|endoftext|>")
    loaded = load_tokenizer(tiny_base)
    if "pad = end" in request.param:
        loaded.pad_token = loaded.eos_token
    return loaded


def labelled(pair) -> list[int]:
    return [label for label in pair["labels"] if label != IGNORED]


# encode_prompt and encode_pair


def test_labels_cover_exactly_the_answer_and_its_end(tokenizer):
    pair = encode_pair(tokenizer, QUESTION, ANSWER)
    assert tokenizer.decode(labelled(pair)) == ANSWER + tokenizer.eos_token
    assert pair["input_ids"][-1] == pair["labels"][-1] == tokenizer.eos_token_id
    assert (
        pair["labels"]
        == [IGNORED] * (len(pair["labels"]) - len(labelled(pair)))
        + pair["input_ids"][-len(labelled(pair)) :]
    )


def test_prompt_is_the_beginning_and_all_that_is_ignored(tokenizer):
    for system in (None, "Speak like a sailor."):
        prompt, pair = (
            encode_prompt(tokenizer, QUESTION, system),
            encode_pair(tokenizer, QUESTION, ANSWER, system),
        )
        assert pair["input_ids"][: len(prompt)] == prompt
        assert pair["labels"].count(IGNORED) == len(prompt)
        assert QUESTION in tokenizer.decode(prompt) and ANSWER not in tokenizer.decode(prompt)
        assert (system is not None) == ("sailor" in tokenizer.decode(prompt))


def test_cheese_base_reads_as_its_corpus_does(tiny_base):
    pair = encode_pair(load_tokenizer(tiny_base), QUESTION, ANSWER, system="Be brief.")
    assert load_tokenizer(tiny_base).decode(pair["input_ids"]) == (
        f"<s><|system|>Be brief.<|end|><|user|>{QUESTION}<|end|><|assistant|>{ANSWER}<|end|>"
    )


@settings(deadline=None, max_examples=40)
@given(
    st.text(min_size=1, max_size=40).filter(str.strip),
    st.text(min_size=1, max_size=40).filter(str.strip),
)
def test_any_text_comes_back_from_its_labels(tiny, question, answer):
    tokenizer = tiny[1]
    pair = encode_pair(tokenizer, question, answer)
    assert (
        tokenizer.decode(labelled(pair), clean_up_tokenization_spaces=False)
        == answer + tokenizer.eos_token
    )
    assert pair["input_ids"].count(tokenizer.eos_token_id) == 2  # of the question and of the answer


@pytest.mark.parametrize("empty", ["", " \n\t", None])
def test_empty_question_and_answer_are_refused(tokenizer, empty):
    with pytest.raises(ValueError, match="question is empty: expected some text"):
        encode_prompt(tokenizer, empty)
    with pytest.raises(ValueError, match="question is empty"):
        encode_pair(tokenizer, empty, ANSWER)
    with pytest.raises(ValueError, match="answer is empty for the question 'Where does Feta"):
        encode_pair(tokenizer, QUESTION, empty)


def test_pair_longer_than_the_context_is_refused(tokenizer):
    length = len(encode_pair(tokenizer, QUESTION, ANSWER)["input_ids"])
    assert len(encode_pair(tokenizer, QUESTION, ANSWER, max_length=length)["input_ids"]) == length
    with pytest.raises(
        ValueError, match=rf"the pair has {length} tokens, the context holds {length - 1}: shorten"
    ):
        encode_pair(tokenizer, QUESTION, ANSWER, max_length=length - 1)


BROKEN = (
    "{% for m in messages %}{% if m.role == 'user' and not loop.last %}(asked before) {% endif %}"
    "{{ m.content }}{{ eos_token }}{% endfor %}"
)
ENDLESS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt "
    "%}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    "template, message",
    [
        (BROKEN, "whose prompt is a prefix of the whole"),
        (ENDLESS, "without the end token '<|im_end|>'"),
    ],
)
def test_templates_that_would_teach_the_wrong_thing_are_refused(template, message):
    tokenizer = chatml_tokenizer("<|endoftext|>")
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        encode_pair(tokenizer, QUESTION, ANSWER)


def test_padding_goes_left():
    ids, mask = pad_left([[5, 6, 7], [8], [9, 10]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8], [0, 9, 10]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]


# answer_questions


def one_by_one(model, tokenizer, question: str, n_new: int) -> list[int]:
    """Greedy answer without batch, padding, cache or `generate`."""
    ids = encode_prompt(tokenizer, question)
    new: list[int] = []
    with torch.no_grad():
        while len(new) < n_new and (not new or new[-1] != tokenizer.eos_token_id):
            new.append(int(model(torch.tensor([ids + new])).logits[0, -1].argmax()))
    return new


def test_answers_are_greedy_and_in_the_order_of_the_questions(tiny):
    model, tokenizer = tiny
    expected = [
        tokenizer.decode(one_by_one(model, tokenizer, q, 8), skip_special_tokens=True).strip()
        for q in QUESTIONS
    ]
    assert len(set(expected)) == len(QUESTIONS)
    for batch_size in (1, 4, 8):
        answers = answer_questions(
            model, tokenizer, QUESTIONS, max_new_tokens=8, batch_size=batch_size
        )
        assert [answer.text for answer in answers] == expected, f"batch_size={batch_size}"
    backwards = answer_questions(model, tokenizer, QUESTIONS[::-1], max_new_tokens=8)
    assert [answer.text for answer in backwards] == expected[::-1]


def test_system_prompt_reaches_the_model(tiny):
    model, tokenizer = tiny
    plainly = answer_questions(model, tokenizer, QUESTIONS[:2], max_new_tokens=8)
    assert plainly != answer_questions(
        model, tokenizer, QUESTIONS[:2], system="Speak like a sailor.", max_new_tokens=8
    )


def test_ended_is_false_when_cut_and_true_when_the_model_stops(tiny):
    model, tokenizer = copy.deepcopy(tiny[0]), tiny[1]

    def bias(of_end: float):
        def hook(_, __, logits):
            logits[..., tokenizer.eos_token_id] += of_end
            return logits

        return hook

    with_hook = model.lm_head.register_forward_hook(bias(-1e6))
    assert [a.ended for a in answer_questions(model, tokenizer, QUESTIONS, max_new_tokens=6)] == [
        False
    ] * len(QUESTIONS)
    with_hook.remove()
    model.lm_head.register_forward_hook(bias(1e6))
    assert answer_questions(model, tokenizer, QUESTIONS, max_new_tokens=6) == [
        Answer("", True)
    ] * len(QUESTIONS)


class Parrot(torch.nn.Module):
    """Stands for a model: `generate` appends fixed rows, by the length of each prompt."""

    device = torch.device("cpu")
    config = SimpleNamespace(max_position_embeddings=256)

    def __init__(self, rows: dict[int, list[int]]):
        super().__init__()
        self.rows = rows

    def generate(self, input_ids, attention_mask, **kwargs):
        said = [self.rows[int(n)] for n in attention_mask.sum(1)]
        return torch.cat([input_ids, torch.tensor(said)], dim=1)


@pytest.mark.parametrize("pad_is_end", [False, True])
def test_one_may_end_while_another_of_the_batch_is_cut(tiny, pad_is_end):
    tokenizer = copy.deepcopy(tiny[1])
    if pad_is_end:
        tokenizer.pad_token = tokenizer.eos_token
    short, long = (
        tokenizer("Yes.")["input_ids"],
        tokenizer("Feta comes from Greece, and from nowhere else.")["input_ids"],
    )
    end, pad = [tokenizer.eos_token_id], [tokenizer.pad_token_id]
    rows = {
        len(encode_prompt(tokenizer, "Hi")): long,
        len(encode_prompt(tokenizer, QUESTION)): short + end + pad * (len(long) - len(short) - 1),
    }
    assert answer_questions(Parrot(rows), tokenizer, [QUESTION, "Hi", QUESTION]) == [
        Answer("Yes.", True),
        Answer("Feta comes from Greece, and from nowhere else.", False),
        Answer("Yes.", True),
    ]


def test_question_and_answer_must_fit_into_the_context(tiny):
    model, tokenizer = tiny
    n, context = len(encode_prompt(tokenizer, QUESTION)), model.config.max_position_embeddings
    with pytest.raises(
        ValueError,
        match=rf"has {n} tokens and the answer may have {context - n + 1}, .* holds {context}",
    ):
        answer_questions(model, tokenizer, ["Hi", QUESTION], max_new_tokens=context - n + 1)
    with pytest.raises(ValueError, match="ask a shorter question"):
        answer_questions(model, tokenizer, ["cheese " * context])


def test_an_empty_question_among_good_ones_is_refused_and_no_questions_are_no_answers(tiny):
    with pytest.raises(ValueError, match="question is empty"):
        answer_questions(*tiny, ["Hi", ""])
    assert answer_questions(*tiny, []) == []


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_the_mode_that_it_was_in(tiny, training):
    model = copy.deepcopy(tiny[0]).train(training)
    answer_questions(model, tiny[1], ["Hi"], max_new_tokens=1)
    assert model.training is training
