"""Exercises of lab 06_qlora_finetune: the gradients of a 4-bit layer with its adapter, the bytes
that it keeps, which tokens are learnt, and what rounding loses of a merged adapter.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, decimal, exact, one_of, whole
from lab_utils.checking.exercises.lab_01 import normal
from lab_utils.checking.exercises.lab_04 import adapter_corners
from lab_utils.quantization.buckets import nf4_codebook

LAB = "06_qlora_finetune"
END = 2  # the id of the end token in the examples, also used as padding there


def stored_weight(rng: np.random.Generator, n_out: int, n_in: int, n_levels: int = 16) -> tuple:
    """(codes, levels, absmax) of a weight (n_out, n_in) with one constant for each row."""
    levels = nf4_codebook() if n_levels == 16 else torch.linspace(-1, 1, n_levels)
    codes = torch.tensor(rng.integers(0, n_levels, (n_out, n_in)))
    absmax = torch.tensor([decimal(rng, 0.1, 3) for _ in range(n_out)], dtype=torch.float32)
    return codes, levels, absmax


def stored_corners(stored) -> dict:
    """Where a stored weight can be special. `stored` finds (codes, levels, absmax)."""
    return {
        "other levels than NF4": lambda *arguments: len(stored(arguments)[1]) != 16,
        "a square weight": lambda *arguments: len(set(stored(arguments)[0].shape)) == 1,
        "one output": lambda *arguments: len(stored(arguments)[0]) == 1,
    }


# ----------------------------------------------------------------------------------- qlora_backward
def qlora_backward(
    grad_y: Tensor,
    x: Tensor,
    codes: Tensor,
    levels: Tensor,
    absmax: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    alpha: float,
) -> tuple[Tensor, Tensor, Tensor]:
    weight = levels[codes] * absmax[:, None]
    grad_h = alpha / lora_a.shape[0] * grad_y @ lora_b
    grad_b = alpha / lora_a.shape[0] * grad_y.T @ (x @ lora_a.T)
    return grad_y @ weight + grad_h @ lora_a, grad_h.T @ x, grad_b


def backward_with(
    weight=lambda codes, levels, absmax: levels[codes] * absmax[:, None],
    scale=lambda alpha, r: alpha / r,
    change=lambda grad_x, grad_a, grad_b, from_adapter: (grad_x + from_adapter, grad_a, grad_b),
):
    """A wrong qlora_backward: another weight, another factor, or a change of the parts at the end;
    `grad_x` comes without what flows through the adapter.
    """

    def answer(grad_y, x, codes, levels, absmax, a, b, alpha):
        grad_h = scale(alpha, len(a)) * grad_y @ b
        grad_b = scale(alpha, len(a)) * grad_y.T @ (x @ a.T)
        return change(grad_y @ weight(codes, levels, absmax), grad_h.T @ x, grad_b, grad_h @ a)

    return answer


def layer_case(
    rng: np.random.Generator, n: int, n_in: int, n_out: int, rank: int, alpha: float, n_levels=16
) -> tuple:
    """The arguments of qlora_backward: a gradient, an input, a stored weight and its adapter."""
    return (
        normal(rng, n, n_out),
        normal(rng, n, n_in),
        *stored_weight(rng, n_out, n_in, n_levels),
        normal(rng, rank, n_in),
        normal(rng, n_out, rank),
        alpha,
    )


def random_layer(rng: np.random.Generator) -> tuple:
    sizes = [whole(rng, 1, n) for n in (6, 7, 7, 6)]
    return layer_case(rng, *sizes, decimal(rng, 1, 32), one_of(rng, 5, 9, 16))


QLORA_BACKWARD = Exercise(
    name="qlora_backward",
    lab=LAB,
    reference=qlora_backward,
    cases=lambda rng: [
        (
            torch.tensor([[1.0, 0.0]]),
            torch.tensor([[1.0, 2.0, 3.0]]),
            torch.tensor([[0, 2, 1], [2, 2, 1]]),
            torch.tensor([-1.0, 0.0, 1.0]),
            torch.tensor([2.0, 5.0]),
            torch.tensor([[1.0, 0.0, 1.0]]),
            torch.tensor([[3.0], [7.0]]),
            4.0,
        ),
        layer_case(rng, 5, 8, 6, 3, 16.0),
        layer_case(rng, 2, 6, 6, 4, 2.0),
        layer_case(rng, 3, 2, 4, 5, 8.0, 5),
        layer_case(rng, 3, 3, 3, 3, 1.0),
        layer_case(rng, 2, 4, 1, 2, 6.0),
        layer_case(rng, 1, 3, 2, 1, 5.0),
    ],
    domain=random_layer,
    corners=adapter_corners(lambda *arguments: arguments[5:])
    | stored_corners(lambda arguments: arguments[2:5])
    | {"one row": lambda grad_y, *rest: len(grad_y) == 1},
    same=close(rtol=1e-4, atol=1e-4),
    wrong={
        "x gets no gradient through the frozen weight: then no layer below would learn": (
            backward_with(change=lambda x, a, b, through: (through, a, b))
        ),
        "x gets no gradient through the adapter: it goes through both": backward_with(
            change=lambda x, a, b, through: (x, a, b)
        ),
        "the codes are taken for the weight: look each up in levels, times its row's absmax": (
            backward_with(weight=lambda codes, levels, absmax: codes.float())
        ),
        "the levels are not multiplied by absmax": backward_with(
            weight=lambda codes, levels, absmax: levels[codes]
        ),
        "divided by absmax: dequantizing multiplies": backward_with(
            weight=lambda codes, levels, absmax: levels[codes] / absmax[:, None]
        ),
        "the adapter's part is scaled by alpha: it is alpha / rank": backward_with(
            scale=lambda alpha, r: alpha
        ),
        "the adapter's part is not scaled: alpha / rank is missing": backward_with(
            scale=lambda alpha, r: 1.0
        ),
        "A and B get zero gradients: they are what is trained": backward_with(
            change=lambda x, a, b, through: (x + through, 0 * a, 0 * b)
        ),
        "A and B are swapped: return the gradients of x, A, B": backward_with(
            change=lambda x, a, b, through: (x + through, b, a)
        ),
        "the gradients of A and B are transposed: each has the shape of its matrix": backward_with(
            change=lambda x, a, b, through: (x + through, a.T, b.T)
        ),
        "the mean over the rows: each row's gradient is added": lambda *arguments: tuple(
            grad / (1 if i == 0 else len(arguments[0]))
            for i, grad in enumerate(qlora_backward(*arguments))
        ),
    },
    hints=(
        "The forward pass has thrown W away. Make it again: levels[codes] has the shape of the "
        "weight, and each row has its own constant: times absmax[:, None].",
        "y = x @ W.T + s * (x @ A.T) @ B.T with s = alpha / rank. Two paths lead from x to y, so "
        "its gradient has two parts: grad_y @ W and s * (grad_y @ B) @ A.",
        "grad_A = s * (grad_y @ B).T @ x and grad_B = s * grad_y.T @ (x @ A.T).",
    ),
)


# -------------------------------------------------------------------------------- qlora_layer_bytes
def qlora_layer_bytes(n_in: int, n_out: int, rank: int) -> tuple[int, int]:
    n_weights = n_in * n_out
    n_blocks = math.ceil(n_weights / 64)
    frozen = math.ceil(n_weights / 2) + n_blocks + 4 * math.ceil(n_blocks / 256)
    return frozen, 16 * rank * (n_in + n_out)


def bytes_with(
    codes=lambda n: math.ceil(n / 2),
    constants=lambda b: b + 4 * math.ceil(b / 256),
    blocks=lambda n: math.ceil(n / 64),
    trained=lambda i, o, r: 16 * r * (i + o),
):
    """A wrong qlora_layer_bytes: other codes, constants or blocks, or another adapter."""

    def answer(n_in: int, n_out: int, rank: int) -> tuple[int, int]:
        n = n_in * n_out
        return codes(n) + constants(blocks(n)), trained(n_in, n_out, rank)

    return answer


QLORA_LAYER_BYTES = Exercise(
    name="qlora_layer_bytes",
    lab=LAB,
    reference=qlora_layer_bytes,
    cases=lambda rng: [
        (320, 320, 4),
        (4096, 11008, whole(rng, 2, 64)),
        (2 * whole(rng, 50, 900) + 1, 2 * whole(rng, 50, 900) + 1, whole(rng, 2, 15)),
        (128, 128, 1),  # exactly one block of constants
        (64 * whole(rng, 1, 3), 1, 2),
        (whole(rng, 2, 7), whole(rng, 2, 7), 3),
        (129, 127, 1),
        (16, 4, 1),  # one block
        (13, 5, 2),  # one weight more
        (257, 64, 2),  # one constant more than a block of them
        (2, 33, whole(rng, 2, 5)),
        (16384, 2, 7),
    ],
    domain=lambda rng: (whole(rng, 2, 5000), whole(rng, 2, 5000), whole(rng, 1, 64)),
    corners={
        "an odd number of weights": lambda i, o, r: i * o % 2 == 1,
        "a short last block": lambda i, o, r: i * o % 64 > 0,
        "one weight beyond whole blocks": lambda i, o, r: i * o % 64 == 1,
        "one constant beyond whole blocks of them": lambda i, o, r: -(-i * o // 64) % 256 == 1,
        "whole blocks, and whole blocks of constants": lambda i, o, r: i * o % (64 * 256) == 0,
        "one block of constants": lambda i, o, r: i * o <= 64 * 256,
        "several blocks of constants": lambda i, o, r: i * o > 64 * 256,
        "rank 1": lambda i, o, r: r == 1,
        "the adapter takes more than the layer": lambda i, o, r: 16 * r * (i + o) > i * o,
        "the layer takes more than the adapter": lambda i, o, r: 32 * r * (i + o) < i * o,
    },
    same=exact,
    wrong={
        "the constants stay float32: double quantization makes them one byte each": bytes_with(
            constants=lambda b: 4 * b
        ),
        "the constants of the constants are forgotten": bytes_with(constants=lambda b: b),
        "the constants of the constants have one byte: they are float32": bytes_with(
            constants=lambda b: b + math.ceil(b / 256)
        ),
        "no constants at all": bytes_with(constants=lambda b: 0),
        "a byte for each code: two share one": bytes_with(codes=lambda n: n),
        "a short last block is dropped: it has a constant, too": bytes_with(
            blocks=lambda n: n // 64
        ),
        "the adapter's values alone: its gradients and AdamW's two states are kept, too": (
            bytes_with(trained=lambda i, o, r: 4 * r * (i + o))
        ),
        "AdamW's two states are forgotten, or all is in 16 bits: PEFT keeps it in float32": (
            bytes_with(trained=lambda i, o, r: 8 * r * (i + o))
        ),
        "the gradients are forgotten": bytes_with(trained=lambda i, o, r: 12 * r * (i + o)),
        "only A is counted: B has n_out * rank parameters": bytes_with(
            trained=lambda i, o, r: 16 * r * i
        ),
        "only B is counted: A has rank * n_in parameters": bytes_with(
            trained=lambda i, o, r: 16 * r * o
        ),
        "the frozen weights get gradients and states as well: nothing is kept for them": (
            lambda i, o, r: (qlora_layer_bytes(i, o, r)[0] + 12 * i * o, 16 * r * (i + o))
        ),
        "swapped: the frozen layer first": lambda i, o, r: qlora_layer_bytes(i, o, r)[::-1],
    },
    hints=(
        "n_in * n_out codes, two to a byte. A block of 64 weights has one 8-bit constant, and a "
        "block of 256 constants has one float32. Round up each time: math.ceil.",
        "The adapter has rank * (n_in + n_out) parameters.",
        "Each of them is kept four times in float32: its value, its gradient and AdamW's two "
        "states, 16 bytes.",
    ),
)


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


# ---------------------------------------------------------------------------------- lost_in_merging
def lost_in_merging(codes: Tensor, levels: Tensor, absmax: Tensor, update: Tensor) -> float:
    wanted = levels[codes] * absmax[:, None] + update
    largest = wanted.abs().amax(dim=1, keepdim=True)
    nearest = ((wanted / largest)[:, :, None] - levels).abs().argmin(dim=2)
    return ((levels[nearest] * largest - wanted).norm() / update.norm()).item()


def merging_with(
    constants=lambda wanted, absmax: wanted.abs().amax(dim=1, keepdim=True),
    measured=lambda stored, wanted, weight, update: (stored - wanted).norm() / update.norm(),
    weight=lambda codes, levels, absmax: levels[codes] * absmax[:, None],
):
    """A wrong lost_in_merging: other constants for the sum, another measure or another weight."""

    def answer(codes, levels, absmax, update):
        old = weight(codes, levels, absmax)
        wanted = old + update
        largest = constants(wanted, absmax)
        nearest = ((wanted / largest)[:, :, None] - levels).abs().argmin(dim=2)
        return float(measured(levels[nearest] * largest, wanted, old, update))

    return answer


def merging_case(
    rng: np.random.Generator, n_out: int, n_in: int, size: float, n_levels: int = 16
) -> tuple:
    """A stored weight and an update of about `size`."""
    return *stored_weight(rng, n_out, n_in, n_levels), size * normal(rng, n_out, n_in) + size / 50


LOST_IN_MERGING = Exercise(
    name="lost_in_merging",
    lab=LAB,
    reference=lost_in_merging,
    cases=lambda rng: [
        (
            torch.tensor([[2, 0, 2, 1]]),
            torch.tensor([-1.0, 0.0, 1.0]),
            torch.tensor([2.0]),
            torch.tensor([[1.0, -2.0, -0.5, 0.5]]),
        ),
        (  # the largest value grows by a fifth, and all the others are off by a tenth
            torch.tensor([[4, 3, 3, 3, 1, 1]]),
            torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]),
            torch.tensor([2.0]),
            torch.tensor([[0.2, 0.0, 0.0, 0.0, 0.0, 0.0]]),
        ),
        merging_case(rng, 4, 8, 0.01),
        merging_case(rng, 3, 6, 0.3),
        merging_case(rng, 5, 5, 3.0),
        merging_case(rng, 2, 7, 0.1, 5),
        merging_case(rng, 1, 9, 0.2, 9),
    ],
    domain=lambda rng: merging_case(
        rng, whole(rng, 1, 6), whole(rng, 2, 12), decimal(rng, 0.003, 3), one_of(rng, 5, 9, 16)
    ),
    corners=stored_corners(lambda arguments: arguments)
    | {
        "a small update": lambda codes, levels, absmax, update: update.abs().max() < 0.05,
        "more is lost than was added": lambda *arguments: lost_in_merging(*arguments) > 1,
        "a large update": lambda codes, levels, absmax, update: update.abs().max() > 3,
        "the largest value grows": lambda codes, levels, absmax, update: bool(
            (levels[codes] * absmax[:, None] + update).abs().amax() > absmax.max()
        ),
    },
    same=close(rtol=1e-3, atol=1e-5),
    wrong={
        "the old absmax: the sum has a new largest value in each row": merging_with(
            constants=lambda wanted, absmax: absmax[:, None]
        ),
        "one absmax for the whole weight: each row has its own": merging_with(
            constants=lambda wanted, absmax: wanted.abs().max()
        ),
        "relative to the merged weight: divide by the norm of the update": merging_with(
            measured=lambda stored, wanted, weight, update: (stored - wanted).norm() / wanted.norm()
        ),
        "the change that is left: what is lost is asked for": merging_with(
            measured=lambda stored, wanted, weight, update: (stored - weight).norm() / update.norm()
        ),
        "not relative: divide by the norm of the update": merging_with(
            measured=lambda stored, wanted, weight, update: (stored - wanted).norm()
        ),
        "squared: the root is missing": merging_with(
            measured=lambda stored, wanted, weight, update: (
                (stored - wanted).square().sum() / update.square().sum()
            )
        ),
        "the update is rounded alone: the sum is": lambda codes, levels, absmax, update: (
            lost_in_merging(torch.zeros_like(codes), levels, 0 * absmax, update)
        ),
        "absmax is left out of the stored weight": merging_with(
            weight=lambda codes, levels, absmax: levels[codes]
        ),
        "without the update: nothing is merged": lambda codes, levels, absmax, update: 1.0,
    },
    hints=(
        "wanted = levels[codes] * absmax[:, None] + update is what the merged layer should be.",
        "Store it again: each row's new constant is its largest |value|; after dividing by it, the "
        "nearest level is ((...)[:, :, None] - levels).abs().argmin(dim=2).",
        "Dequantize, subtract wanted, and divide the norm of that by the norm of the update.",
    ),
)

EXERCISES = [QLORA_BACKWARD, QLORA_LAYER_BYTES, MASK_LABELS, LOST_IN_MERGING]
