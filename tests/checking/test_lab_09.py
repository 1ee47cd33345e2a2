"""Exercises of lab 09_real_model: what they call right is what libraries and `lab_utils` compute.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import torch
from exercise_tests import cases
from transformers import LlamaConfig, LlamaForCausalLM

from lab_utils.checking import all_exercises
from lab_utils.finetuning import real_model
from lab_utils.quantization import microscaling


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("09_real_model")]
    assert names == [
        "count_parameters",
        "needs_head",
        "answer_from_notes",
        "lost_gained_kept",
        "mxfp4_scale",
    ]


def test_count_parameters_is_what_transformers_builds():
    names = "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads"
    for count_parameters, sizes in cases("count_parameters", seeds=2):
        fields = dict(zip([*names.split(), "intermediate_size"], sizes))
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(**fields, tie_word_embeddings=True))
        model.tie_weights()
        assert count_parameters(*sizes) == model.num_parameters()


def test_needs_head_is_what_cross_entropy_reads():
    """The loss of shifted logits has a gradient where the head is needed, and nowhere else."""
    for needs_head, (labels,) in cases("needs_head"):
        logits = torch.randn(*labels.shape, 2001, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )
        loss.backward()
        assert torch.equal(needs_head(labels), logits.grad.abs().sum(-1) > 0)


def test_lost_gained_kept_is_the_kits():
    for lost_gained_kept, (before, after) in cases("lost_gained_kept"):
        assert lost_gained_kept(before, after) == real_model.lost_gained_kept(before, after)


def test_mxfp4_scale_is_the_kits():
    for mxfp4_scale, (block,) in cases("mxfp4_scale"):
        assert mxfp4_scale(block) == microscaling.quantize_mxfp4(block).scales.item()


def test_every_exercise_of_the_kit_has_a_name_of_its_own():
    """`check` finds an exercise by its name."""
    names = [exercise.name for exercise in all_exercises()]
    assert sorted(names) == sorted(set(names))
