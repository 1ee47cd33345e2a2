"""Exercises of lab 06_qlora_finetune: which tokens are learnt, what an adapter costs, how it is
scaled and merged.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, decimal, exact, one_of, whole
from lab_utils.checking.exercises.lab_01 import normal
from lab_utils.checking.exercises.lab_04 import adapter_corners

LAB = "06_qlora_finetune"
END = 2  # the id of the end token in the examples, also used as padding there


# -------------------------------------------------------------------------------------- mask_labels
def mask_labels(input_ids: Tensor, n_prompt: int, n_real: int) -> Tensor:
    labels = input_ids.clone()
    labels[:n_prompt] = -100
    labels[n_real:] = -100
    return labels


def labels_with(first=lambda p, n: p, last=lambda p, n: n, ignored: int = -100, change=None):
    """A wrong mask_labels: other bounds, another mark, or the right labels changed at the end."""

    def answer(input_ids: Tensor, n_prompt: int, n_real: int) -> Tensor:
        labels = torch.full_like(input_ids, ignored)
        keep = slice(first(n_prompt, n_real), last(n_prompt, n_real))
        labels[keep] = input_ids[keep]
        return change(labels, input_ids, n_prompt, n_real) if change else labels

    return answer


def token_row(
    rng: np.random.Generator, n_prompt: int, n_answer: int, n_pad: int, end: int = END
) -> tuple[Tensor, int, int]:
    """Question, answer and end token, then padding with the very same token. Each longer question
    ends with one as well.
    """
    body = rng.integers(5, 2000, n_prompt + n_answer - 1)
    if n_prompt > 4:
        body[n_prompt - 1] = end
    ids = torch.tensor([*body, end, *[end] * n_pad])
    return ids, n_prompt, n_prompt + n_answer


MASK_LABELS = Exercise(
    name="mask_labels",
    lab=LAB,
    reference=mask_labels,
    cases=lambda rng: [
        (torch.tensor([1, 11, 12, 13, 21, 22, 2, 2, 2]), 4, 7),
        token_row(rng, whole(rng, 3, 8), whole(rng, 3, 8), whole(rng, 2, 5)),
        token_row(rng, 6, 5, 0),  # nothing to pad
        # an answer of two turns: an end token inside it
        (torch.tensor([1, 11, 2, 21, 2, 22, 23, 2, 2, 2]), 3, 8),
        token_row(rng, 2, 12, 3),
        token_row(rng, 4, 1, 2),
        token_row(rng, 1, 2, 1),
        token_row(rng, 3, 4, 2, end=0),
    ],
    domain=lambda rng: token_row(
        rng,
        whole(rng, 1, 9),
        whole(rng, 1, 9),
        one_of(rng, 0, 1, 3),
        end=one_of(rng, 0, END, 50256),
    ),
    corners={
        "no padding": lambda ids, n_prompt, n_real: n_real == len(ids),
        "one padding token": lambda ids, n_prompt, n_real: n_real == len(ids) - 1,
        "an answer of its end token alone": lambda ids, n_prompt, n_real: n_real == n_prompt + 1,
        "an end token in the answer": lambda ids, n_prompt, n_real: (
            ids[-1] in ids[n_prompt : n_real - 1]
        ),
        "an end token in the question": lambda ids, n_prompt, n_real: ids[-1] in ids[:n_prompt],
        "another end token": lambda ids, n_prompt, n_real: ids[-1] != END,
        "a question of one token": lambda ids, n_prompt, n_real: n_prompt == 1,
    },
    same=exact,
    wrong={
        "every pad token is masked by its id: where padding is the end token, the model never "
        "learns to stop": lambda ids, p, n: torch.where(
            (torch.arange(len(ids)) < p) | (ids == END), -100, ids
        ),
        "nothing is masked: the model learns to ask the questions as well": labels_with(
            lambda p, n: 0, lambda p, n: None
        ),
        "the padding is learnt too: mask from n_real on": labels_with(last=lambda p, n: None),
        "the question is learnt too: mask the first n_prompt positions": labels_with(
            first=lambda p, n: 0
        ),
        "the end token is masked: the answer's last token is at n_real - 1": labels_with(
            last=lambda p, n: n - 1
        ),
        "the answer's first token is masked: it is at n_prompt": labels_with(
            first=lambda p, n: p + 1
        ),
        "the question's last token is learnt": labels_with(first=lambda p, n: p - 1),
        "one padding token is learnt": lambda ids, p, n: (
            labels_with(last=lambda p, n: n + 1)(ids, p, n)
            if n < len(ids)
            else labels_with(last=lambda p, n: n - 1)(ids, p, n)
        ),
        "masked with 0, which is a token: -100 is what cross entropy leaves out": labels_with(
            ignored=0
        ),
        "the question is kept and the answer masked": lambda ids, p, n: torch.where(
            (torch.arange(len(ids)) < p), ids, -100
        ),
        "labels shifted by one: the model shifts them itself": labels_with(
            change=lambda labels, ids, p, n: torch.roll(labels, -1)
        ),
    },
    hints=(
        "Copy first: labels = input_ids.clone(), or the caller's ids are changed.",
        "The answer stands at the positions n_prompt to n_real - 1, its end token included.",
        "labels[:n_prompt] = -100 and labels[n_real:] = -100.",
    ),
)


# ---------------------------------------------------------------------------------- trainable_share
def trainable_share(n_in: int, n_out: int, rank: int) -> float:
    return rank * (n_in + n_out) / (n_in * n_out)


TRAINABLE_SHARE = Exercise(
    name="trainable_share",
    lab=LAB,
    reference=trainable_share,
    cases=lambda rng: [
        (512, 64, 8),
        (320, 864, whole(rng, 2, 15)),
        (whole(rng, 100, 5000), whole(rng, 100, 5000), whole(rng, 1, 63)),
        (4096, 11008, 64),
        (300, 300, 1),
        (8, 20, 16),
    ],
    domain=lambda rng: (whole(rng, 2, 3000), whole(rng, 2, 3000), whole(rng, 1, 64)),
    corners={
        "rank 1": lambda n_in, n_out, rank: rank == 1,
        "a square": lambda n_in, n_out, rank: n_in == n_out,
        "wide": lambda n_in, n_out, rank: n_in > n_out,
        "tall": lambda n_in, n_out, rank: n_in < n_out,
        "more than the layer": lambda n_in, n_out, rank: rank * (n_in + n_out) > n_in * n_out,
    },
    same=close(rtol=1e-6, atol=0),
    wrong={
        "only A is counted: B has rank * n_out parameters": lambda i, o, r: r * i / (i * o),
        "only B is counted: A has rank * n_in parameters": lambda i, o, r: r * o / (i * o),
        "the parameters themselves: their share of the layer is asked for": lambda i, o, r: (
            r * (i + o)
        ),
        "the reduction, 1 minus the share": lambda i, o, r: 1 - r * (i + o) / (i * o),
        "in percent: a share between 0 and 1 is asked for": lambda i, o, r: (
            100 * r * (i + o) / (i * o)
        ),
        "of adapter and layer together: divide by the layer alone": lambda i, o, r: (
            r * (i + o) / (i * o + r * (i + o))
        ),
        "the share upside down": lambda i, o, r: (i * o) / (r * (i + o)),
        "a square of n_in is taken for the layer": lambda i, o, r: r * (i + o) / (i * i),
    },
    hints=(
        "A is (rank, n_in), B is (n_out, rank).",
        "Together they have rank * n_in + rank * n_out parameters.",
        "The layer has n_in * n_out; divide.",
    ),
)


# ---------------------------------------------------------------------------------- adapter_forward
def adapter_forward(
    x: Tensor, weight: Tensor, lora_a: Tensor, lora_b: Tensor, alpha: float
) -> Tensor:
    return x @ weight.T + alpha / lora_a.shape[0] * (x @ lora_a.T @ lora_b.T)


def forward_scaled(scale):
    """A wrong adapter_forward: the adapter's part with another factor."""
    return lambda x, w, a, b, alpha: x @ w.T + scale(alpha, a.shape[0], b, x) * (x @ a.T @ b.T)


def layer_inputs(
    rng: np.random.Generator, n: int, n_in: int, n_out: int, rank: int, alpha: float
) -> tuple:
    """A batch, a weight (n_out, n_in) and adapters that were trained, so that B is not zero."""
    return (
        normal(rng, n, n_in),
        normal(rng, n_out, n_in),
        normal(rng, rank, n_in),
        normal(rng, n_out, rank),
        alpha,
    )


def random_layer(rng: np.random.Generator) -> tuple:
    sizes = [whole(rng, 1, n) for n in (6, 7, 7, 6)]
    return layer_inputs(rng, *sizes, decimal(rng, 1, 32))


ADAPTER_FORWARD = Exercise(
    name="adapter_forward",
    lab=LAB,
    reference=adapter_forward,
    cases=lambda rng: [
        (
            torch.tensor([[1.0, 2.0]]),
            torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
            torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
            torch.tensor([[1.0, 0.0], [0.0, 3.0]]),
            3.0,
        ),
        layer_inputs(rng, 5, 8, 6, 3, 16.0),
        layer_inputs(rng, 2, 6, 6, 4, 2.0),
        layer_inputs(rng, 7, 5, 9, 2, 8.0),
        layer_inputs(rng, 3, 2, 4, 5, 8.0),
        layer_inputs(rng, 3, 3, 3, 1, 1.0),
    ],
    domain=random_layer,
    corners=adapter_corners(lambda x, weight, a, b, alpha: (a, b, alpha))
    | {
        "one row": lambda x, *layer: len(x) == 1,
        "as many rows as n_in": lambda x, *layer: x.shape[0] == x.shape[1],
        "alpha is 1": lambda *layer: layer[-1] == 1,
    },
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "scaled by alpha: LoRA scales by alpha / rank": forward_scaled(
            lambda alpha, r, b, x: alpha
        ),
        "not scaled: LoRA scales by alpha / rank": forward_scaled(lambda alpha, r, b, x: 1.0),
        "scaled by rank / alpha, upside down": forward_scaled(lambda alpha, r, b, x: r / alpha),
        "scaled by alpha / sqrt(rank): that is rsLoRA": forward_scaled(
            lambda alpha, r, b, x: alpha / math.sqrt(r)
        ),
        "the adapter is taken off: it is added": forward_scaled(lambda alpha, r, b, x: -alpha / r),
        "the frozen weight is left out": lambda x, w, a, b, alpha: (
            alpha / a.shape[0] * (x @ a.T @ b.T)
        ),
        "the adapter is left out": lambda x, w, a, b, alpha: x @ w.T,
        "the whole sum is scaled: only the adapter's part is": lambda x, w, a, b, alpha: (
            alpha / a.shape[0] * (x @ w.T + x @ a.T @ b.T)
        ),
    },
    hints=(
        "torch stores a weight as (n_out, n_in): the layer computes x @ weight.T.",
        "The adapter's part is x @ lora_a.T @ lora_b.T: A touches x first.",
        "rank = lora_a.shape[0]; add alpha / rank times the adapter's part.",
    ),
)


# ------------------------------------------------------------------------------------ merge_adapter
def merge_adapter(weight: Tensor, lora_a: Tensor, lora_b: Tensor, alpha: float) -> Tensor:
    return weight + alpha / lora_a.shape[0] * (lora_b @ lora_a)


def merge_scaled(scale):
    """A wrong merge_adapter: another factor."""
    return lambda w, a, b, alpha: w + scale(alpha, a.shape[0], w) * (b @ a)


MERGE_ADAPTER = Exercise(
    name="merge_adapter",
    lab=LAB,
    reference=merge_adapter,
    cases=lambda rng: [
        (
            torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
            torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
            torch.tensor([[3.0, 0.0], [1.0, 1.0]]),
            3.0,
        ),
        layer_inputs(rng, 1, 8, 6, 3, 16.0)[1:],
        layer_inputs(rng, 1, 6, 6, 4, 2.0)[1:],
        layer_inputs(rng, 1, 5, 9, 2, 8.0)[1:],
        layer_inputs(rng, 1, 2, 4, 5, 8.0)[1:],
        layer_inputs(rng, 1, 3, 3, 1, 1.0)[1:],
    ],
    domain=lambda rng: random_layer(rng)[1:],
    corners=adapter_corners(lambda weight, a, b, alpha: (a, b, alpha))
    | {"alpha is 1": lambda *layer: layer[-1] == 1},
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "scaled by alpha: LoRA scales by alpha / rank": merge_scaled(lambda alpha, r, w: alpha),
        "not scaled: LoRA scales by alpha / rank": merge_scaled(lambda alpha, r, w: 1.0),
        "scaled by rank / alpha, upside down": merge_scaled(lambda alpha, r, w: r / alpha),
        "scaled by alpha / sqrt(rank): that is rsLoRA": merge_scaled(
            lambda alpha, r, w: alpha / math.sqrt(r)
        ),
        "the adapter is taken off: that is unmerging": merge_scaled(lambda alpha, r, w: -alpha / r),
        "the update alone: it is added to the weight": lambda w, a, b, alpha: (
            alpha / a.shape[0] * (b @ a)
        ),
        "the weight is scaled as well": lambda w, a, b, alpha: alpha / a.shape[0] * (w + b @ a),
        "transposed: the weight is (n_out, n_in)": lambda w, a, b, alpha: (
            (w + alpha / a.shape[0] * (b @ a)).T
        ),
    },
    hints=(
        "The merged layer must give for every x what the layer and its adapter give together.",
        "lora_b @ lora_a has the weight's shape (n_out, n_in).",
        "weight + alpha / rank * (lora_b @ lora_a), as a new tensor.",
    ),
)

EXERCISES = [MASK_LABELS, TRAINABLE_SHARE, ADAPTER_FORWARD, MERGE_ADAPTER]
