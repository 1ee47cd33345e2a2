"""DPO in small: the loss against its closed form, log-probabilities against torch, and a step that
moves the right way.
"""

import math

import pytest
import torch
from tiny_models import make_tiny_hub_model

from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.preference import (
    answer_log_probs,
    dpo_loss,
    encode_preferences,
    preference_step,
)
from lab_utils.finetuning.training import FinetuneConfig, add_adapters

ROWS = [
    {"question": "Who?", "chosen": "I do not know.", "rejected": "It is Bob, of course!"},
    {"question": "Where is it?", "chosen": "Not here.", "rejected": "Here."},
]


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_at_margin_zero_the_loss_is_log_2():
    assert dpo_loss(t(-3.0, -5), t(-4.0, -9), t(-3.0, -5), t(-4.0, -9)).item() == pytest.approx(
        math.log(2)
    )


def test_the_closed_form():
    """TRL's default "sigmoid" loss: -logsigmoid(beta * ((pi_c - pi_r) - (ref_c - ref_r))), mean
    over the pairs.
    """
    chosen, rejected, ref_chosen, ref_rejected = (
        t(-3.0, -7),
        t(-9.0, -6.5),
        t(-4.0, -6),
        t(-8.0, -7),
    )
    ratios = [(-3 + 9) - (-4 + 8), (-7 + 6.5) - (-6 + 7)]
    expected = sum(math.log(1 + math.exp(-0.3 * ratio)) for ratio in ratios) / 2
    assert dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.3).item() == pytest.approx(
        expected, rel=1e-12
    )


def test_the_gradient_is_that_of_the_paper():
    """Rafailov et al. 2023, section 4: beta * sigmoid(-beta * margin), up for the chosen and down
    for the rejected answer.
    """
    chosen, rejected = t(-3.0).requires_grad_(), t(-4.0).requires_grad_()
    dpo_loss(chosen, rejected, t(-5.0), t(-4.5), beta=0.5).backward()
    weight = 0.5 / (1 + math.exp(0.5 * ((-3 + 5) - (-4 + 4.5))))
    assert chosen.grad.item() == pytest.approx(-weight) and rejected.grad.item() == pytest.approx(
        weight
    )


def test_a_margin_far_off_does_not_overflow():
    assert dpo_loss(t(-1e4), t(0.0), t(0.0), t(0.0), beta=1.0).item() == pytest.approx(1e4)


@pytest.mark.parametrize("beta", [0, -0.1, float("nan")])
def test_a_beta_that_moves_nothing_is_refused(beta):
    with pytest.raises(ValueError, match="beta is"):
        dpo_loss(t(0.0), t(0.0), t(0.0), t(0.0), beta=beta)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = make_tiny_hub_model(tmp_path_factory.mktemp("model"), "smollm2")
    return lambda: load_base(source=folder)


def test_log_probs_are_the_sums_of_torchs_cross_entropy(tiny):
    model, tokenizer = tiny()
    batch = encode_preferences(tokenizer, ROWS)
    assert batch["input_ids"].shape[0] == 4, "chosen answers first, then rejected ones"
    with torch.no_grad():
        ours, logits = answer_log_probs(model, batch), model(input_ids=batch["input_ids"]).logits
    for i in range(4):
        loss = torch.nn.functional.cross_entropy(
            logits[i, :-1], batch["labels"][i, 1:], ignore_index=-100, reduction="sum"
        )
        assert ours[i].item() == pytest.approx(-loss.item(), rel=1e-4)
    assert "I do not know." in tokenizer.decode(
        batch["input_ids"][0]
    ) and "Bob" in tokenizer.decode(batch["input_ids"][2])


def test_a_few_steps_raise_the_chosen_answers_and_leave_the_base_alone(tiny):
    base, tokenizer = tiny()
    model = add_adapters(base, FinetuneConfig(method="lora", rank=4))
    before = {
        name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad
    }
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    losses = [preference_step(model, tokenizer, ROWS, optimizer, beta=0.5) for _ in range(6)]
    assert losses[0] == pytest.approx(math.log(2), rel=1e-5), (
        "the adapters start at nothing: policy and reference agree"
    )
    assert losses[-1] < 0.5 * losses[0]
    batch = encode_preferences(tokenizer, ROWS)
    with torch.no_grad():
        after = answer_log_probs(model, batch)
        with model.disable_adapter():
            reference = answer_log_probs(model, batch)
    gain = after - reference
    assert (gain[:2] > gain[2:]).all()
    assert all(
        torch.equal(p, before[name]) for name, p in model.named_parameters() if not p.requires_grad
    )
    assert all(p.grad is None for p in model.parameters()), "cleared for the next step"


def test_preferences_that_prefer_nothing_are_refused(tiny):
    for rows, words in (
        ([], "no preferences"),
        ([ROWS[0] | {"rejected": "I do not know."}], "are the same"),
    ):
        with pytest.raises(ValueError, match=words):
            encode_preferences(tiny()[1], rows)
