"""Preference alignment in small: direct preference optimization (DPO, Rafailov et al. 2023,
arXiv:2305.18290).

A preference is a question with two answers, the chosen and the rejected one. DPO needs no reward
model: it moves the model (the policy) so that, measured against the frozen model it came from (the
reference), chosen answers gain more log-probability than rejected ones. With adapters the reference
costs nothing: it is the same model, adapters off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lab_utils.finetuning.chat import IGNORED, encode_pair
from lab_utils.finetuning.training import PadRight


def answer_log_probs(model, batch: dict[str, Tensor]) -> Tensor:
    """(batch,) log-probability of each answer: the sum over its tokens, those whose label is not
    -100.
    """
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels = batch["labels"][:, 1:]  # position t predicts token t + 1
    log_probs = logits[:, :-1].log_softmax(-1)
    each = log_probs.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return (each * (labels != IGNORED)).sum(-1)


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """() DPO's loss from four (batch,) log-probabilities: -log sigmoid(beta * margin), equation 7
    of the paper.

    The margin is how much more the policy prefers the chosen answer than the reference does; at
    margin 0 the loss is log 2. Raises ValueError for a beta that is not above 0.
    """
    if not beta > 0:
        raise ValueError(
            f"beta is {beta}: it must be above 0 (0.1 is usual), or no preference moves the model"
        )
    margin = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return -torch.nn.functional.logsigmoid(beta * margin).mean()


def encode_preferences(tokenizer, rows: list[dict[str, str]]) -> dict[str, Tensor]:
    """Rows with "question", "chosen" and "rejected" as one batch: all chosen answers first, then
    all rejected ones.

    Raises ValueError without rows, and where both answers are the same.
    """
    if not rows:
        raise ValueError(
            "no preferences: expected at least one {'question': ..., 'chosen': ..., 'rejected': "
            "...}"
        )
    if same := [row for row in rows if row["chosen"] == row["rejected"]]:
        raise ValueError(
            f"the chosen and the rejected answer to {same[0]['question']!r} are the same: nothing "
            "is preferred"
        )
    pairs = [
        encode_pair(tokenizer, row["question"], row[which])
        for which in ("chosen", "rejected")
        for row in rows
    ]
    return PadRight(tokenizer.pad_token_id)(pairs)


def preference_step(
    model, tokenizer, rows: list[dict[str, str]], optimizer, beta: float = 0.1
) -> float:
    """One DPO step on these preferences; returns the loss before it. `model` is a PEFT model, its
    base is the reference.
    """
    batch = {n: t.to(model.device) for n, t in encode_preferences(tokenizer, rows).items()}
    with torch.no_grad(), model.disable_adapter():
        reference = answer_log_probs(model, batch).chunk(2)
    policy = answer_log_probs(model, batch).chunk(2)
    loss = dpo_loss(*policy, *reference, beta=beta)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()
