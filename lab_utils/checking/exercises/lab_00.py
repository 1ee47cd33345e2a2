"""Exercises of lab 00_why_peft: the loss of pretraining, the loss of preference alignment, and
where the gigabytes go.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from lab_utils.checking.checks import Exercise, close, decimal, draw_until, exact, one_of, whole

LAB = "00_why_peft"


# ---------------------------------------------------------------------------------- next_token_loss
def next_token_loss(logits: Tensor, ids: Tensor) -> float:
    return cross_entropy(logits[:-1], ids[1:]).item()


def picked(scores: Tensor, ids: Tensor) -> Tensor:
    """The scores of the given tokens, one for each position."""
    return scores.gather(1, ids[:, None])[:, 0]


def random_text(rng: np.random.Generator, n_tokens: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    logits = torch.tensor(np.round(rng.normal(size=(n_tokens, vocabulary)), 2), dtype=torch.float32)
    return logits, torch.tensor(rng.integers(0, vocabulary, n_tokens))


NEXT_TOKEN_LOSS = Exercise(
    name="next_token_loss",
    lab=LAB,
    reference=next_token_loss,
    cases=lambda rng: [
        (
            torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 1.0, 1.5]]),
            torch.tensor([0, 2, 1]),
        ),
        (torch.tensor([[0.0, 5.0, 1.0], [0.0, 0.5, 1.0]]), torch.tensor([0, 1])),  # well guessed
        random_text(rng, 2, 5),
        random_text(rng, 9, 3),
        random_text(rng, 6, 20),
    ],
    domain=lambda rng: random_text(rng, whole(rng, 2, 12), whole(rng, 2, 30)),
    corners={
        "one prediction": lambda logits, ids: len(ids) == 2,
        "a loss below 0.1": lambda logits, ids: next_token_loss(logits, ids) < 0.1,
        "as many tokens as words": lambda logits, ids: len(set(logits.shape)) == 1,
        "more tokens than words": lambda logits, ids: logits.shape[0] > logits.shape[1],
        "more words than tokens": lambda logits, ids: logits.shape[0] < logits.shape[1],
    },
    same=close(rtol=1e-4, atol=1e-5),
    wrong={
        "nothing is shifted: position t predicts token t + 1, not token t": lambda x, i: (
            cross_entropy(x, i).item()
        ),
        "shifted the wrong way: position t must be compared with the token after it": lambda x, i: (
            cross_entropy(x[1:], i[:-1]).item()
        ),
        "the sum of the losses: the mean is asked for": lambda x, i: cross_entropy(
            x[:-1], i[1:], reduction="sum"
        ).item(),
        "divided by all tokens: there is one prediction fewer": lambda x, i: (
            cross_entropy(x[:-1], i[1:], reduction="sum").item() / len(i)
        ),
        "rolled around: the last token predicts the first": lambda x, i: cross_entropy(
            x, i.roll(-1)
        ).item(),
        "in bits: natural logarithms are asked for": lambda x, i: (
            next_token_loss(x, i) / math.log(2)
        ),
        "the sign: a loss is minus the logarithm of a probability": lambda x, i: (
            -next_token_loss(x, i)
        ),
        "perplexity, the exponential of the loss": lambda x, i: math.exp(next_token_loss(x, i)),
        "probabilities without a logarithm": lambda x, i: (
            picked(x.softmax(-1)[:-1], i[1:]).mean().item()
        ),
        "logits are taken for log-probabilities: log_softmax is missing": lambda x, i: (
            -picked(x[:-1], i[1:]).mean().item()
        ),
        "softmax over the positions: it belongs over the vocabulary": lambda x, i: (
            -picked(x[:-1].log_softmax(0), i[1:]).mean().item()
        ),
    },
    hints=(
        "logits[t] predicts ids[t + 1]: leave out the last row of logits and the first id.",
        "log_softmax over the vocabulary gives log-probabilities; pick that of each next token.",
        "torch.nn.functional.cross_entropy(logits, targets) does softmax, logarithm, picking and "
        "the mean at once.",
    ),
)


# ---------------------------------------------------------------------------------- preference_loss
def preference_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> float:
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -logsigmoid(beta * margin).mean().item()


def with_margin(margin, loss=lambda beta, m: -logsigmoid(beta * m).mean()):
    """A wrong preference_loss: another margin or another function of it."""
    return lambda c, r, rc, rr, beta: loss(beta, margin(c, r, rc, rr)).item()


def right_margin(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor) -> Tensor:
    return (c - rc) - (r - rr)


def log_probabilities(rng: np.random.Generator, n: int) -> tuple[Tensor, ...]:
    """Four rows of log-probabilities of answers: policy and reference, chosen and rejected."""
    return tuple(
        torch.tensor(np.round(rng.uniform(-20, -4, n), 1), dtype=torch.float32) for _ in range(4)
    )


PREFERENCE_LOSS = Exercise(
    name="preference_loss",
    lab=LAB,
    reference=preference_loss,
    cases=lambda rng: [
        (
            torch.tensor([-4.0, -6.0]),
            torch.tensor([-9.0, -5.0]),
            torch.tensor([-5.0, -7.0]),
            torch.tensor([-6.0, -6.5]),
            0.5,
        ),
        (*log_probabilities(rng, 1), 0.1),
        (*log_probabilities(rng, 3)[:2] * 2, 0.3),  # nothing has moved: ln 2
        (*log_probabilities(rng, 6), decimal(rng, 1.1, 2)),
        (*log_probabilities(rng, 4), decimal(rng, 0.05, 0.4)),
    ],
    domain=lambda rng: (*log_probabilities(rng, whole(rng, 1, 8)), decimal(rng, 0.02, 2)),
    corners={
        "one pair": lambda *log_probs: len(log_probs[0]) == 1,
        "nothing has moved": lambda c, r, rc, rr, beta: torch.equal(c - rc, r - rr),
        "beta above 1": lambda c, r, rc, rr, beta: beta > 1,
    },
    same=close(rtol=1e-4, atol=1e-6),
    wrong={
        "the reference is left out: what counts is the change against it": with_margin(
            lambda c, r, rc, rr: c - r
        ),
        "chosen and rejected are swapped: that teaches the rejected answers": with_margin(
            lambda c, r, rc, rr: -right_margin(c, r, rc, rr)
        ),
        "the reference is added where it must be taken off": with_margin(
            lambda c, r, rc, rr: c + rc - r - rr
        ),
        "only the chosen answer: the rejected one must fall": with_margin(
            lambda c, r, rc, rr: c - rc
        ),
        "beta is left out": with_margin(right_margin, lambda beta, m: -logsigmoid(m).mean()),
        "divided by beta: it multiplies the margin": with_margin(
            right_margin, lambda beta, m: -logsigmoid(m / beta).mean()
        ),
        "beta stands outside: it belongs into the sigmoid": with_margin(
            right_margin, lambda beta, m: -beta * logsigmoid(m).mean()
        ),
        "the sign: the logarithm of a sigmoid is negative, a loss is minus that": with_margin(
            right_margin, lambda beta, m: logsigmoid(beta * m).mean()
        ),
        "the sum over the pairs: the mean is asked for": with_margin(
            right_margin, lambda beta, m: -logsigmoid(beta * m).sum()
        ),
        "the mean margin goes into the sigmoid: take the mean of the losses": with_margin(
            right_margin, lambda beta, m: -logsigmoid(beta * m.mean())
        ),
        "the logarithm is missing: 1 - sigmoid": with_margin(
            right_margin, lambda beta, m: (1 - torch.sigmoid(beta * m)).mean()
        ),
        "a hinge, max(0, 1 - margin), in place of -log sigmoid": with_margin(
            right_margin, lambda beta, m: torch.relu(1 - beta * m).mean()
        ),
    },
    hints=(
        "How much has the chosen answer gained against the reference? chosen - reference_chosen. "
        "And the rejected one?",
        "The margin is the first gain minus the second. The loss is -log(sigmoid(beta * margin)), "
        "one for each pair.",
        "torch.nn.functional.logsigmoid is log(sigmoid(x)) without overflow; then .mean().item().",
    ),
)


# ------------------------------------------------------------------------ full_finetuning_gigabytes
def full_finetuning_gigabytes(n_params: float, value_bytes: int, master: bool) -> float:
    return n_params * (2 * value_bytes + 8 + (4 if master else 0)) / 1e9


def by_parameter(each):
    """A wrong answer that is so many bytes for each parameter, in GB."""
    return lambda n, b, master: n * each(b, master) / 1e9


FULL_FINETUNING_GIGABYTES = Exercise(
    name="full_finetuning_gigabytes",
    lab=LAB,
    reference=full_finetuning_gigabytes,
    cases=lambda rng: [
        (10e9, 2, False),
        (10e9, 2, True),
        (10e9, 4, True),
        (whole(rng, 1, 90) * 1e5, 4, False),
        (whole(rng, 1, 90) * 1e9, 1, True),
    ],
    domain=lambda rng: (
        float(whole(rng, 10**6, 10**11)),
        one_of(rng, 1, 2, 4, 8),
        one_of(rng, False, True),
    ),
    corners={
        "4 bytes and a master copy": lambda n, value_bytes, master: value_bytes == 4 and master,
        "4 bytes and none": lambda n, value_bytes, master: value_bytes == 4 and not master,
        "2 bytes and none": lambda n, value_bytes, master: value_bytes == 2 and not master,
        "less than one GB": lambda n, *how: full_finetuning_gigabytes(n, *how) < 1,
        "one byte": lambda n, value_bytes, master: value_bytes == 1,
    },
    same=close(rtol=1e-5, atol=0),
    wrong={
        "the weights or the gradients are forgotten": by_parameter(lambda b, m: b + 8 + 4 * m),
        "one state: Adam keeps two for each parameter": by_parameter(
            lambda b, m: 2 * b + 4 + 4 * m
        ),
        "states in the type of the weights: here they are float32": by_parameter(
            lambda b, m: 4 * b + 4 * m
        ),
        "the optimizer is forgotten": by_parameter(lambda b, m: 2 * b + 4 * m),
        "the master copy is always counted": by_parameter(lambda b, m: 2 * b + 12),
        "the master copy is never counted": by_parameter(lambda b, m: 2 * b + 8),
        "the master copy in the type of the weights: it is float32": by_parameter(
            lambda b, m: 3 * b + 8 if m else 2 * b + 8
        ),
        "the master copy takes the place of the weights: it comes on top": by_parameter(
            lambda b, m: b + 8 + (4 if m else b)
        ),
        "the master copy has gradients and states of its own": by_parameter(
            lambda b, m: 2 * b + 8 + 16 * m
        ),
        "GiB (2**30 bytes): GB is 10**9": lambda n, b, m: (
            full_finetuning_gigabytes(n, b, m) * 1e9 / 2**30
        ),
        "bytes: divide by 10**9": lambda n, b, m: full_finetuning_gigabytes(n, b, m) * 1e9,
    },
    hints=(
        "For each parameter: its value, its gradient, and what Adam keeps.",
        "Adam keeps two float32 numbers for each parameter: 8 bytes. The master copy is a third "
        "one, 4 bytes.",
        "For the lecture's model: 2 + 2 + 8 = 12 bytes each, 120 GB in all.",
    ),
)


# ----------------------------------------------------------------------------------- peft_gigabytes
def peft_gigabytes(n_params: float, base_bits: float, n_adapter: float) -> float:
    return (n_params * base_bits / 8 + n_adapter * 16) / 1e9


def peft_bytes(each):
    return lambda n, bits, a: each(n, bits, a) / 1e9


PEFT_GIGABYTES = Exercise(
    name="peft_gigabytes",
    lab=LAB,
    reference=peft_gigabytes,
    cases=lambda rng: [
        (10e9, 16, 1e8),
        (10e9, 4.127, 1e8),
        (whole(rng, 2, 80) * 1e9, 4.127, whole(rng, 10, 400) * 1e6),
        (whole(rng, 2, 80) * 1e8, 8.5, whole(rng, 1, 40) * 1e6),
        (whole(rng, 2, 80) * 1e6, 4, 0.0),
        (whole(rng, 2, 80) * 1e6, 16, whole(rng, 81, 160) * 1e6),
    ],
    domain=lambda rng: (
        float(whole(rng, 10**6, 10**11)),
        one_of(rng, 2, 4, 4.127, 4.5, 8, 8.5, 16, 32),
        float(whole(rng, 10**5, 10**9)),
    ),
    corners={
        "no adapter": lambda n, bits, n_adapter: n_adapter == 0,
        "bits that are no whole bytes": lambda n, bits, n_adapter: bits % 8 != 0,
        "larger adapters than weights": lambda n, bits, n_adapter: n_adapter > n,
    },
    same=close(rtol=1e-5, atol=0),
    wrong={
        "gradients for the frozen weights as well: they are never made": peft_bytes(
            lambda n, b, a: n * b / 8 * 2 + a * 16
        ),
        "Adam's states for the frozen weights as well": peft_bytes(
            lambda n, b, a: n * (b / 8 + 8) + a * 16
        ),
        "the adapters are forgotten": peft_bytes(lambda n, b, a: n * b / 8),
        "the frozen weights are forgotten: they must be there to compute": peft_bytes(
            lambda n, b, a: a * 16
        ),
        "only the adapters' values: they have gradients and states as well": peft_bytes(
            lambda n, b, a: n * b / 8 + a * 4
        ),
        "one of four is missing: value, gradient and two states": peft_bytes(
            lambda n, b, a: n * b / 8 + a * 12
        ),
        "the adapters are stored in base_bits: they are float32": peft_bytes(
            lambda n, b, a: (n + a) * b / 8 + a * 12
        ),
        "bits are taken for bytes: divide by 8": peft_bytes(lambda n, b, a: n * b + a * 16),
        "whole bytes for each weight: 4.127 bits are no whole byte": peft_bytes(
            lambda n, b, a: n * math.ceil(b / 8) + a * 16
        ),
        "GiB (2**30 bytes): GB is 10**9": lambda n, b, a: peft_gigabytes(n, b, a) * 1e9 / 2**30,
    },
    hints=(
        "Frozen weights are only stored: base_bits / 8 bytes each, no gradient and no states.",
        "An adapter's parameter in float32: its value 4 bytes, its gradient 4, Adam's two states "
        "8.",
    ),
)


# ------------------------------------------------------------------------------------- cards_needed
def cards_needed(gigabytes: float, card_gigabytes: float, reserve: float) -> int:
    return math.ceil(gigabytes / (card_gigabytes * (1 - reserve)))


def draw_cards(rng: np.random.Generator) -> list[tuple]:
    """Cases in which rounding up, down and to the nearest differ, in which forgetting the reserve
    shows, and in which the model just fits.
    """
    card = float(rng.choice([16, 24, 40]))
    n = int(rng.integers(12, 25))
    return [
        (120.0, 24.0, 0.1),
        (120.0, 24.0, 0),
        (n * card, card, 0),
        (n * card + 0.3, card, 0),
        (n * card * 0.75, card, 0.25),
        (n * card * 0.75 + 0.02 * card, card, 0.25),
        (n * card * 0.75 + 0.2 * card, card, 0.25),
        ((n + 1) * card * 0.8 - 0.05 * card, card, 0.2),
        (300.0, 12.0, 0.5),
        (n * card + 0.6 * card, card, 0.5),
        (0.3 * card, card, 0.1),
    ]


def whole_or_clear(gigabytes: float, card_gigabytes: float, reserve: float) -> bool:
    """No quotient so near a whole number that the last bit of a float decides, but for reserves
    of which a float holds every bit.
    """
    near = abs((quotient := gigabytes / (card_gigabytes * (1 - reserve))) - round(quotient))
    return gigabytes > 0 and (near > 1e-6 or (near == 0 and reserve * 64 % 1 == 0))


CARDS_NEEDED = Exercise(
    name="cards_needed",
    lab=LAB,
    reference=cards_needed,
    cases=draw_cards,
    domain=lambda rng: draw_until(
        whole_or_clear,
        lambda: (
            decimal(rng, 1, 2000),
            float(one_of(rng, 8, 12, 16, 24, 40, 48, 80, 141)),
            one_of(rng, 0, 0.0625, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5),
        ),
    ),
    corners={
        "no reserve, and it just fits": lambda g, card, reserve: reserve == 0 and g % card == 0,
        "with a reserve it just fits": lambda g, card, reserve: (
            reserve > 0 and g / (card * (1 - reserve)) % 1 == 0
        ),
        "less than half a GB too much": lambda g, card, reserve: 0 < g % card < 0.5,
        "a small rest": lambda g, card, reserve: 0 < g / (card * (1 - reserve)) % 1 < 0.1,
        "nearly full": lambda g, card, reserve: g / (card * (1 - reserve)) % 1 > 0.9,
        "one card is enough": lambda g, card, reserve: g < card * (1 - reserve),
    },
    same=exact,
    wrong={
        "rounded down: the last card is missing": lambda g, c, r: int(g // (c * (1 - r))),
        "rounded to the nearest": lambda g, c, r: round(g / (c * (1 - r))),
        "one card more than there must be where it just fits": lambda g, c, r: (
            int(g // (c * (1 - r))) + 1
        ),
        "the reserve is forgotten": lambda g, c, r: math.ceil(g / c),
        "only the reserve is used: 1 - reserve is what a program gets": lambda g, c, r: math.ceil(
            g / (c * r)
        ),
        "the reserve makes the cards larger": lambda g, c, r: math.ceil(g / (c * (1 + r))),
        "the reserve is taken off the model: it is a share of each card": lambda g, c, r: math.ceil(
            g * (1 - r) / c
        ),
        "the reserve is added to the model: a share of each card is more": lambda g, c, r: (
            math.ceil(g * (1 + r) / c)
        ),
        "the reserve is taken for gigabytes: it is a share": lambda g, c, r: math.ceil(g / (c - r)),
        "a fraction of a card: cards come whole": lambda g, c, r: g / (c * (1 - r)),
        "the reserve is kept once, not on every card": lambda g, c, r: math.ceil((g + c * r) / c),
        "the reserve is taken as per cent: a tenth is 0.1": lambda g, c, r: math.ceil(
            g / (c * (1 - r / 100))
        ),
    },
    hints=(
        "Of each card a program gets card_gigabytes * (1 - reserve).",
        "Divide, then round up: math.ceil. A rest needs a card as well.",
    ),
)

EXERCISES = (
    NEXT_TOKEN_LOSS,
    PREFERENCE_LOSS,
    FULL_FINETUNING_GIGABYTES,
    PEFT_GIGABYTES,
    CARDS_NEEDED,
)
