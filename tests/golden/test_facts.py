"""The checked facts that no other test computes; golden_table.py names each test for its facts."""

import inspect
import json
from pathlib import Path
from statistics import NormalDist

import bitsandbytes as bnb
import bitsandbytes.functional as F
import pytest
import torch
from golden_table import FACTS, PAPERS, TABLE
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BitsAndBytesConfig, DataCollatorForLanguageModeling

from lab_utils.files import ROOT
from lab_utils.finetuning.base_model import CHEESE_BASE, load_tokenizer
from lab_utils.gemini.tuning import TuningSpec
from lab_utils.lora import lora
from lab_utils.memory import paging, sizes
from lab_utils.quantization import buckets as q
from lab_utils.quantization import double as dq


def value(name):
    return FACTS[name]["value"]


# ------------------------------------------------------------------------------------- quantization
def test_errors_of_the_lectures_matrix():
    w = torch.tensor(value("a.mat.W"))
    for name, block_size in (("a.mat.err_global", None), ("a.mat.err_block5", 5)):
        codes, scale = q.quantize_absmax(w, block_size=block_size)
        found = q.errors(w, q.dequantize_absmax(codes, scale, block_size=block_size))
        for kind, expected in value(name).items():
            assert found[kind] == pytest.approx(expected, abs=2e-6), (name, kind)


def test_equation_4_of_the_paper_does_not_give_its_codebook():
    """q_i is the mean of two neighbouring quantiles at i / 17 and (i + 1) / 17."""
    quantile = NormalDist().inv_cdf
    values = [(quantile(i / 17) + quantile((i + 1) / 17)) / 2 for i in range(1, 16)]
    assert max(values) == pytest.approx(1.3758, abs=5e-5)
    assert values == pytest.approx([-v for v in values[::-1]]), "symmetric, NF4 is not"
    scaled = [v / max(values) for v in values]
    assert min(abs(s - 0.7229568) for s in scaled) > 0.01, "NF4's second largest is not among them"


def test_bitsandbytes_makes_its_codebook_with_scipy_alone(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    monkeypatch.setitem(__import__("sys").modules, "scipy.stats", None)
    with pytest.raises(ImportError, match="[Ss]cipy"):
        F.create_normal_map()
    assert q.normal_float_codebook(4).tolist() == pytest.approx(value("b.nf4.codebook"), abs=2e-7)


@pytest.mark.parametrize(("nested", "name"), [(False, "nf4"), (True, "nf4_dq")])
def test_bits_of_a_real_layer_of_4096(nested, name):
    weight = torch.ones(4096, 4096)
    packed, state = F.quantize_4bit(
        weight, blocksize=64, compress_statistics=nested, quant_type="nf4"
    )
    kept = [packed, state.absmax]
    if nested:
        kept += [state.state2.absmax, state.state2.code, state.offset]
    bits = 8 * sum(tensor.nbytes for tensor in kept) / weight.numel()
    assert bits == pytest.approx(value("b.bnb.measured_bits_4096")[name], abs=5e-6)
    if nested:  # ours counts NF4's table of 16 as well
        assert 8 * (sizes.nf4_layer_bytes(4096**2) - 64) / 4096**2 == pytest.approx(bits, abs=1e-9)


def test_what_bitsandbytes_stores():
    facts = value("b.bnb.facts")
    x = q.example_values(n=8192)
    packed, state = F.quantize_4bit(x, compress_statistics=True)
    assert state.blocksize == facts["block_default"]
    assert state.quant_type == inspect.signature(F.quantize_4bit).parameters["quant_type"].default
    assert facts["quant_type_default"].startswith(state.quant_type)
    assert facts["quant_type_default"].startswith(BitsAndBytesConfig().bnb_4bit_quant_type)
    assert state.state2.blocksize == facts["nested_block"]
    assert torch.equal(state.state2.code, F.create_dynamic_map())
    assert state.state2.code.shape == (256,) and state.offset.dtype == torch.float32
    plain = F.quantize_4bit(x)[1].absmax
    assert plain.dtype == getattr(torch, facts["absmax_dtype"])
    assert state.state2.absmax.dtype == getattr(torch, facts["state2_absmax"])
    assert state.offset.item() == pytest.approx(plain.mean().item(), rel=1e-6)
    assert packed.dtype == torch.uint8 and packed.numel() == x.numel() // 2
    for block_size in facts["valid_4bit_blocks"]:
        F.quantize_4bit(x, blocksize=block_size)
    with pytest.raises((ValueError, RuntimeError)):
        F.quantize_4bit(x, blocksize=5)
    assert paging.MIN_PAGED_ELEMENTS == facts["min_paged_numel"]
    least = inspect.signature(bnb.optim.Adam8bit.__init__).parameters["min_8bit_size"].default
    assert least == facts["min_8bit_numel"]


def test_a_cpu_quantizes_and_takes_an_8_bit_step():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        packed, state = F.quantize_4bit(torch.randn(128, 64).to(dtype), quant_type="nf4")
        assert F.dequantize_4bit(packed, state).dtype == dtype
    weight = nn.Parameter(torch.ones(8192))
    weight.grad = torch.ones(8192)
    optimizer = bnb.optim.Adam8bit([weight], lr=0.1)
    optimizer.step()
    assert weight.max() < 1 and optimizer.state[weight]["state1"].dtype == torch.uint8
    assert "UserWarning" in value("b.bnb.cpu")["paged"]  # seen in test_paging.py


def test_merging_a_small_adapter_into_4_bits_erases_it():
    """The share of a random update of rank 16 that is left after dequantizing, adding and
    quantizing again.
    """
    torch.manual_seed(0)
    weight = 0.02 * torch.randn(1024, 1024)
    stored = dq.double_dequantize(dq.double_quantize(weight))
    update = torch.randn(1024, 16) @ torch.randn(16, 1024)
    for relative, expected in value("b.merge.random_delta_survival").items():
        delta = update * float(relative) * weight.norm() / update.norm()
        merged = dq.double_dequantize(dq.double_quantize(stored + delta))
        left = ((merged - stored) * delta).sum() / delta.square().sum()
        assert left.item() == pytest.approx(expected, abs=0.02), relative


# --------------------------------------------------------------------------------------------- LoRA
def test_break_even_of_a_square():
    assert lora.break_even_rank(4096, 4096) == value("a.lora.break_even_rank_4096sq")


def test_gpt2_counts():
    counts = value("a.lora.gpt2_counts")
    medium, large = [(1024, 1024)] * 2 * 24, [(1280, 1280)] * 2 * 36
    assert lora.lora_parameters(medium, 4) == counts["M_r4_qv"]
    assert lora.lora_parameters(large, 4) == counts["L_r4_qv"]
    assert lora.lora_parameters(medium, 1024) == counts["M_r1024_qv"]
    assert sum(a * b for a, b in medium) == counts["M_full_Wq_Wv"]


def test_the_forward_formula_and_the_decks_two_constants():
    """x W + s x L1 L2 with L1 (h, r): A touches x first. The deck's X B A is the same change of the
    weight with W stored (in, out), B = A' and A = B' of the others.
    """
    torch.manual_seed(0)
    layer = lora.LoRALinear(nn.Linear(6, 4, bias=False), rank=2, alpha=16)
    layer.lora_b.data.normal_()
    x, w = torch.randn(3, 6), layer.base.weight.T
    l1, l2 = layer.lora_a.T, layer.lora_b.T
    torch.testing.assert_close(layer(x), x @ w + 8 * x @ l1 @ l2)
    decks_b, decks_a = l1, l2
    torch.testing.assert_close(layer(x), x @ (w + 8 * decks_b @ decks_a))
    # Per block 8 bits, per block of blocks FP32: as the deck's walk has it, not its last formula.
    _, state = F.quantize_4bit(torch.randn(64, 256), compress_statistics=True)
    assert state.absmax.dtype == torch.uint8 and state.state2.absmax.dtype == torch.float32


def peft_layer(init, rank=8):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, 512))
    config = LoraConfig(r=rank, target_modules=["0"], init_lora_weights=init)
    return get_peft_model(model, config).base_model.model[0]


def test_how_peft_begins():
    bound = 1024**-0.5
    for init, std in ((True, bound / 3**0.5), ("gaussian", 1 / 8)):
        layer = peft_layer(init)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert a.std().item() == pytest.approx(std, rel=0.03) and not b.any()
        assert (a.abs().max() <= bound) == (init is True)


def test_what_peft_can_begin_with():
    fields = LoraConfig.__dataclass_fields__
    known = f"{fields['init_lora_weights'].type} {list(fields)}"
    for option in value("b.peft.options"):
        name = option.split(" (")[0].replace("pissa_niter_N", "pissa_niter").replace("True", "bool")
        assert name in known, option


def test_a_dtype_is_chosen_apart_from_the_method():
    """LoRA in BF16 or FP32, and QLoRA computes in float32 unless it is told otherwise."""
    for dtype in (torch.float32, torch.bfloat16):
        layer = lora.LoRALinear(nn.Linear(8, 8).to(dtype), rank=2, alpha=4)
        assert layer.base.weight.dtype == dtype
    assert BitsAndBytesConfig(load_in_4bit=True).bnb_4bit_compute_dtype == torch.float32
    keeps = inspect.signature(get_peft_model).parameters["autocast_adapter_dtype"].default
    assert keeps and peft_layer(True).lora_A["default"].weight.dtype == torch.float32


# ----------------------------------------------------------------------------- memory, and services
def test_qlora_states_of_ten_billion():
    facts = value("a.mem.qlora_10b")
    base = sizes.model_gigabytes(10e9, 4.126953125)
    assert base == pytest.approx(facts["base_nf4_dq_GB"], rel=1e-9)
    assert sizes.model_gigabytes(10e9, 4.5) == facts["base_nf4_GB"]
    for share, name in ((0.024, "plus_adapters_r64_like_2p4pct_GB"), (0.01, "plus_1pct_GB")):
        assert base + 12 * share * 10 == pytest.approx(facts[name], abs=5e-3)


def test_the_service_says_nothing_of_quantization():
    fields = set(TuningSpec.__dataclass_fields__)
    assert "adapter_size" in fields and not any("bit" in name or "quant" in name for name in fields)


def test_transformers_collator_masks_every_pad_id():
    tokenizer = load_tokenizer(CHEESE_BASE)
    end = tokenizer.eos_token_id
    tokenizer.pad_token = tokenizer.eos_token
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)(
        [{"input_ids": [5, 6, end]}, {"input_ids": [5, end]}]
    )
    assert not (batch["labels"] == end).any(), "the real end is masked as well"


# ----------------------------------------------------------------------------- only a paper's word
def test_table_2_of_qlora():
    table = json.loads((ROOT / "data/reference/qlora_table2.json").read_text(encoding="utf-8"))
    assert table["mean_perplexity"] == value("b.qlora.table2_ppl")
    assert "2305.14314" in table["source"]


def test_means_of_qloras_table_4():
    """The printed mean of NF4 does not follow from its printed cells."""
    table = value("b.qlora.table4_mmlu")
    for kind, mean in value("b.qlora.table4_means_recomputed").items():
        *cells, printed = table[kind]
        assert sum(cells) / len(cells) == pytest.approx(mean, abs=6e-4)
        assert (abs(printed - mean) < 0.05) == (kind != "NFloat4_DQ")


def test_footprints_of_guanaco_lie_above_the_bare_codes():
    whole = value("b.qlora.training_footprint")
    for name, deployed in value("b.qlora.guanaco_mem_GB").items():
        codes = sizes.model_gigabytes(float(name[:-1]) * 1e9, 4.126953125)
        assert codes < deployed < 2 * codes
        assert codes < whole["model_MB"][name] / 1000 < whole["total_GB"][name]


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_word_has_its_source(name):
    fact = PAPERS[name]
    assert len(fact["source"]) > 10 and fact["value"] not in (None, "", [], {})


# ------------------------------------------------------------------------------------ the table
def test_every_fact_names_what_computes_it():
    assert set(TABLE) == set(FACTS) and len(FACTS) == 77


@pytest.mark.parametrize("name", TABLE)
def test_what_computes_a_fact_is_there(name):
    file, _, test = TABLE[name].partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f"\ndef {test}(" in text, f"{TABLE[name]} is gone: which test computes {name} now?"


def test_a_fact_is_computed_or_a_papers_word():
    computed = json.loads((Path(__file__).parent / "facts.json").read_text(encoding="utf-8"))
    assert not set(computed["facts"]) & set(PAPERS)
