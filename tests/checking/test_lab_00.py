"""Exercises of lab 00_why_peft: what they call right is what torch, `lab_utils` and the lecture
compute.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import math
from dataclasses import replace

import pytest
import torch
from exercise_tests import cases

from lab_utils.checking import all_exercises, find_exercise
from lab_utils.finetuning.preference import dpo_loss
from lab_utils.memory import sizes as memory
from lab_utils.memory.ledger import Plan, ledger


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("00_why_peft")]
    assert names == [
        "next_token_loss",
        "preference_loss",
        "full_finetuning_gigabytes",
        "peft_gigabytes",
        "cards_needed",
    ]


def test_next_token_loss_is_what_transformers_trains_on():
    from transformers.loss.loss_utils import ForCausalLMLoss

    for next_token_loss, (logits, ids) in cases("next_token_loss"):
        theirs = ForCausalLMLoss(logits[None], ids[None], vocab_size=logits.shape[-1]).item()
        assert next_token_loss(logits, ids) == pytest.approx(theirs, rel=1e-5)


def test_a_model_that_knows_nothing_loses_the_logarithm_of_its_vocabulary():
    loss = find_exercise("next_token_loss").reference(torch.zeros(9, 2048), torch.arange(9))
    assert loss == pytest.approx(math.log(2048), rel=1e-6)


def test_preference_loss_is_the_kits_dpo_loss():
    for preference_loss, (*log_probs, beta) in cases("preference_loss"):
        assert preference_loss(*log_probs, beta) == pytest.approx(
            dpo_loss(*log_probs, beta=beta).item(), rel=1e-5
        )


@pytest.mark.parametrize(
    ("n", "value_bytes", "master", "gigabytes"),
    [(10e9, 2, False, 120), (10e9, 2, True, 160), (65e9, 2, False, 780)],
)
def test_full_fine_tuning_of_the_lecture_and_the_paper(n, value_bytes, master, gigabytes):
    assert find_exercise("full_finetuning_gigabytes").reference(n, value_bytes, master) == gigabytes


@pytest.mark.parametrize(
    ("bits", "share", "gigabytes"), [(16, 0.01, 21.6), (4.126953125, 0.01, 6.7587)]
)
def test_peft_gigabytes(bits, share, gigabytes):
    """The golden numbers have 12 bytes for a trained parameter; float32 adapters take 16."""
    assert find_exercise("peft_gigabytes").reference(10e9, bits, share * 10e9) == pytest.approx(
        gigabytes, abs=1e-4
    )


def test_the_exercises_agree_with_the_ledger():
    model = memory.LECTURE_10B
    for method, plan in (
        ("full", Plan(method="full", weights="fp16")),
        ("lora", Plan(method="lora", weights="fp16")),
    ):
        kept = (
            sum(
                line.low
                for line in ledger(model, plan)
                if line.when == "kept" or line.name == "gradients"
            )
            / 1e9
        )
        if method == "full":
            answer = find_exercise("full_finetuning_gigabytes").reference(
                model.n_parameters(), 2, False
            )
        else:
            adapters = memory.adapter_parameters(model, plan.rank)
            answer = find_exercise("peft_gigabytes").reference(model.n_parameters(), 16, adapters)
        assert answer == pytest.approx(kept, rel=1e-9)
    small = replace(model, n_layers=1)
    assert find_exercise("full_finetuning_gigabytes").reference(small.n_parameters(), 2, True) < 20


def test_the_lectures_five_and_seven_cards():
    """Golden a.mem.gpus: 5 cards of 24 GB hold 120 GB only if nothing is kept free; with a tenth
    free they are 6.
    """
    cards_needed = find_exercise("cards_needed").reference
    assert cards_needed(120, 24, 0) == 5 and cards_needed(160, 24, 0) == 7
    assert cards_needed(120, 24, 0.1) == 6
