"""Merged models answer as the adapted ones did, tied weights too, and a wrong merge is caught."""

import warnings

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import make_tiny_base

from lab_utils.finetuning import merging
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.merging import check_merge, merge, merged_and_checked, probe_logits
from lab_utils.finetuning.training import FinetuneConfig, add_adapters


@pytest.fixture(scope="module")
def tied_base(tmp_path_factory):
    return make_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


def saved_adapter(base, folder, targets):
    """A random adapter on these modules of the base, saved; returns the adapted model's logits."""
    torch.manual_seed(0)
    model = get_peft_model(
        load_base(source=base)[0], LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    with warnings.catch_warnings():  # PEFT also warns that the target is tied
        warnings.simplefilter("ignore", UserWarning)
        model.save_pretrained(folder)
    return probe_logits(model)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens"], ["q_proj", "lm_head"]])
def test_an_adapter_on_a_tied_weight_is_merged_into_a_weight_of_its_own(
    targets, tied_base, tmp_path
):
    adapted = saved_adapter(tied_base, tmp_path / "adapter", targets)
    with pytest.warns(UserWarning, match="tie_word_embeddings = False"):
        merged = merge(tmp_path / "adapter", "into the original", source=tied_base)
    moved = (adapted - probe_logits(load_base(source=tied_base)[0])).abs().max()
    assert moved > 0.1
    torch.testing.assert_close(probe_logits(merged), adapted, rtol=0, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(probe_logits(again), adapted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("way", merging.MERGES)
def test_other_adapters_leave_the_tie_and_warn_of_nothing(way, tied_base, tmp_path):
    adapted = saved_adapter(tied_base, tmp_path / "adapter", ["q_proj", "down_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        merged = merge(tmp_path / "adapter", way, source=tied_base)
    assert merged.config.tie_word_embeddings
    off = (probe_logits(merged) - adapted).square().mean().sqrt() / adapted.std()
    assert off < (1e-4 if way == "into the original" else 0.5), "4 bits round the base"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_to_16_bits_is_no_wrong_merge(dtype, tied_base, tmp_path):
    saved_adapter(tied_base, tmp_path / "adapter", ["q_proj", "down_proj"])
    assert merge(tmp_path / "adapter", "into the original", source=tied_base, dtype=dtype)


def test_a_merge_that_changes_the_answers_is_an_error(tied_base, tmp_path, monkeypatch):
    """Without the untying, the tied weight takes the update on both of its sides."""
    saved_adapter(tied_base, tmp_path / "adapter", ["lm_head"])
    monkeypatch.setattr(merging, "untie", lambda model: False)
    with pytest.raises(RuntimeError, match="does not answer as the adapted one"):
        merge(tmp_path / "adapter", "into the original", source=tied_base)


def test_the_check_refuses_nan_and_allows_the_limit():
    logits = torch.tensor([0.0, 1.0, 2.0])
    check_merge(logits, logits + 0.01, 0.011)
    for merged in (logits + 0.02, torch.full_like(logits, torch.nan)):
        with pytest.raises(RuntimeError, match="expected at most 0.011"):
            check_merge(logits, merged, 0.011)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_gpt2_whose_layers_are_conv1d_gets_adapters_and_is_merged():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=100, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=1
    )
    base = transformers.GPT2LMHeadModel(config).eval()
    untouched = probe_logits(base)
    model = add_adapters(base, FinetuneConfig(method="lora", rank=4))
    adapted = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(adapted) == 2 * 4 * 2, "A and B of q k v, o, up and down in two layers"
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    logits = probe_logits(model)
    assert (logits - untouched).abs().max() > 0.01
    torch.testing.assert_close(probe_logits(merged_and_checked(model)), logits, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="rank 33 is above 32"):
        add_adapters(transformers.GPT2LMHeadModel(config), FinetuneConfig("lora", rank=33))


def test_a_model_without_linear_layers_is_refused_by_name():
    with pytest.raises(ValueError, match="Embedding has no linear layer"):
        add_adapters(torch.nn.Embedding(4, 4), FinetuneConfig("lora"))


def test_a_loaded_adapter_of_peft_is_checked_too(tied_base, tmp_path):
    adapted = saved_adapter(tied_base, tmp_path / "adapter", "all-linear")
    model = PeftModel.from_pretrained(load_base(source=tied_base)[0], tmp_path / "adapter")
    torch.testing.assert_close(probe_logits(merged_and_checked(model)), adapted, rtol=0, atol=1e-4)
