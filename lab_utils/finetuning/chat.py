"""One way from a question to tokens, for training and for answering alike.

Both go through the tokenizer's own chat template, so what a model is asked later is what it was
trained on. Labels are masked by *position* (everything before the answer), never by token id: where
the pad token is the end token, masking by id would also hide the end of the answer, and the model
would never learn to stop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Answer:
    """A generated answer; `ended` says whether the model stopped by itself."""

    text: str
    ended: bool


def _messages(question: str, system: str | None) -> list[dict[str, str]]:
    start = [{"role": "system", "content": system}] if system else []
    return [*start, {"role": "user", "content": question}]


def encode_prompt(tokenizer, question: str, system: str | None = None) -> list[int]:
    """Token ids of the question up to where the answer begins.

    Raises ValueError for an empty question.
    """
    if not question or not question.strip():
        raise ValueError("question is empty: expected some text to answer")
    return tokenizer.apply_chat_template(
        _messages(question, system), add_generation_prompt=True, return_dict=False
    )


def encode_pair(
    tokenizer, question: str, answer: str, system: str | None = None, max_length: int | None = None
) -> dict[str, list[int]]:
    """`input_ids` of question and answer, and `labels`: the same ids, with all before the answer
    set to -100.

    The pair stops at the end token, whatever the template puts after it (ChatML: a line break that
    nobody says). Raises ValueError for an empty question or answer, for a template whose prompt is
    not the beginning of the whole or that writes no end token, and for a pair longer than
    `max_length` tokens.
    """
    if not answer or not answer.strip():
        raise ValueError(
            f"answer is empty for the question {question!r}: nothing could be learnt from this row"
        )
    prompt = encode_prompt(tokenizer, question, system)
    messages = [*_messages(question, system), {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    if whole[: len(prompt)] != prompt:
        raise ValueError(
            "this chat template renders the question differently once an answer follows, so the "
            "answer's position is unknown: use a template whose prompt is a prefix of the whole"
        )
    if tokenizer.eos_token_id not in whole[len(prompt) :]:
        raise ValueError(
            f"this chat template ends the answer without the end token {tokenizer.eos_token!r}, "
            "so the model would never learn to stop: use a template that writes it"
        )
    while whole[-1] != tokenizer.eos_token_id:
        whole = whole[:-1]
    if max_length is not None and len(whole) > max_length:
        raise ValueError(
            f"the pair has {len(whole)} tokens, the context holds {max_length}: "
            f"shorten the question or the answer ({question[:40]!r}...)"
        )
    return {"input_ids": whole, "labels": [IGNORED] * len(prompt) + whole[len(prompt) :]}


def pad_left(sequences: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, each (batch, longest), padded on the left so that all answers begin
    together.
    """
    longest = max(map(len, sequences))
    ids = torch.tensor([[pad_id] * (longest - len(s)) + s for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences])
    return ids, mask


def _check_room(model, longest: int, max_new_tokens: int) -> None:
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and longest + max_new_tokens > context:
        raise ValueError(
            f"the question has {longest} tokens and the answer may have {max_new_tokens}, but the "
            f"model's context holds {context}: ask a shorter question"
        )


@torch.no_grad()
def answer_questions(
    model,
    tokenizer,
    questions: list[str],
    system: str | None = None,
    max_new_tokens: int = 72,
    batch_size: int = 64,
) -> list[Answer]:
    """The model's greedy answer to each question, in order.

    Questions of like length go through together, so that little is padded. Raises ValueError where
    a question and its answer do not fit into the model's context.
    """
    prompts = [encode_prompt(tokenizer, question, system) for question in questions]
    answers: list[Answer | None] = [None] * len(prompts)
    if prompts:
        _check_room(model, max(map(len, prompts)), max_new_tokens)
    was_training = model.training
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        for i, answer in zip(
            chosen, _answer_batch(model, tokenizer, [prompts[i] for i in chosen], max_new_tokens)
        ):
            answers[i] = answer
    model.train(was_training)
    return answers  # type: ignore[return-value]


def _answer_batch(model, tokenizer, prompts: list[list[int]], max_new_tokens: int) -> list[Answer]:
    ids, mask = pad_left(prompts, tokenizer.pad_token_id)
    out = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=True,
    )
    new = out[:, ids.shape[1] :].cpu()
    ended = (new == tokenizer.eos_token_id).any(dim=1).tolist()
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [Answer(text.strip(), stop) for text, stop in zip(texts, ended)]
