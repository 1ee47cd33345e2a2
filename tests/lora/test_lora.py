"""LoRA: PEFT's output, gradients and merged weight; Eckart-Young in closed form; the decks'
numbers.
"""

import json
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from lab_utils.files import DATA
from lab_utils.lora import capacity, lora
from lab_utils.lora.lora import LoRALinear, add_lora

MODELS = json.loads((DATA / "reference" / "architectures.json").read_text(encoding="utf-8"))[
    "models"
]
QV = ("q", "v")


class Block(nn.Module):
    """Two named layers, one of them not square, one with a bias."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Linear(10, 16), nn.Linear(16, 6, bias=False)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def pair(rank, alpha, use_rslora=False):
    """Our model and PEFT's around the same float64 weights, with the same A; B is zero in both."""
    ours = add_lora(
        Block().double(), ("first", "second"), rank, alpha, seed=1, use_rslora=use_rslora
    )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        use_rslora=use_rslora,
        target_modules=["first", "second"],
    )
    theirs = get_peft_model(Block().double(), config).double()
    for name in ("first", "second"):
        getattr(theirs.base_model.model, name).lora_A["default"].weight.data = getattr(
            ours, name
        ).lora_a.data.clone()
    return ours, theirs


def train(model, steps=4):
    """A few steps of AdamW with weight decay on fixed random data."""
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(7, n, generator=generator, dtype=torch.float64) for n in (10, 6))
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.05, weight_decay=0.1
    )
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return x


@pytest.mark.parametrize(("rank", "alpha"), [(1, 16), (2, 3), (4, 16), (6, 1), (5, 32)])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_equal_to_peft_after_several_steps(rank, alpha, use_rslora):
    """Output, gradients, adapters and merged weights to 1e-10 in float64: no rounding hides a wrong
    factor.
    """
    ours, theirs = pair(rank, alpha, use_rslora)
    x = train(ours)
    train(theirs)
    inner = theirs.base_model.model
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-10)
    for name in ("first", "second"):
        mine, peft = getattr(ours, name), getattr(inner, name)
        assert mine.lora_b.abs().max() > 0.01, "it has learnt something"
        for a, b in [
            (mine.lora_a, peft.lora_A["default"].weight),
            (mine.lora_b, peft.lora_B["default"].weight),
        ]:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-10)
        assert mine.scaling == pytest.approx(peft.scaling["default"], rel=1e-12)
    merged = theirs.merge_and_unload()
    for name in ("first", "second"):
        weight = getattr(ours, name).merge().base.weight
        torch.testing.assert_close(weight, getattr(merged, name).weight, rtol=0, atol=1e-10)


def test_rslora_scales_by_the_root_of_the_rank():
    """golden b.peft.rslora_scaling_r8_a16: 16 / sqrt(8), against 2 for alpha / r."""
    assert LoRALinear(nn.Linear(16, 16), 8, 16, use_rslora=True).scaling == pytest.approx(
        5.65685424949238
    )
    assert LoRALinear(nn.Linear(16, 16), 8, 16).scaling == 2.0


def test_at_first_the_update_is_zero_and_only_b_has_a_gradient():
    layer = LoRALinear(nn.Linear(12, 8), 4, 16)
    x = torch.randn(5, 12)
    assert torch.equal(layer(x), layer.base(x)) and layer.lora_a.any()
    layer(x).square().sum().backward()
    assert not layer.lora_a.grad.any() and layer.lora_b.grad.any()
    assert layer.base.weight.grad is None and layer.base.bias.grad is None


def test_the_gradients_are_those_of_the_whole_weight_seen_through_a_and_b():
    """dA = s B^T G and dB = s G A^T for the full weight's gradient G (Hu et al., section 4.1)."""
    layer, x = LoRALinear(nn.Linear(12, 8).double(), 3, 7), torch.randn(5, 12, dtype=torch.float64)
    layer.lora_b.data.normal_()
    layer(x).pow(3).sum().backward()
    weight = (layer.base.weight + layer.delta()).detach().requires_grad_()
    (x @ weight.T + layer.base.bias).pow(3).sum().backward()
    torch.testing.assert_close(layer.lora_a.grad, 7 / 3 * layer.lora_b.T @ weight.grad)
    torch.testing.assert_close(layer.lora_b.grad, 7 / 3 * weight.grad @ layer.lora_a.T)


def test_a_is_normal_with_the_papers_kind_of_variance():
    torch.manual_seed(0)
    values = LoRALinear(nn.Linear(400, 50), 50, 16).lora_a.detach().flatten() * math.sqrt(400)
    assert values.mean().abs() < 0.03 and values.std().item() == pytest.approx(1, abs=0.03)
    assert values.pow(4).mean().item() == pytest.approx(3, abs=0.2), (
        "normal, where PEFT's uniform has 1.8"
    )


def test_dropout_falls_on_the_adapters_input_only():
    layer, x = LoRALinear(nn.Linear(12, 8), 4, 16, dropout=0.5), torch.ones(3, 12)
    assert torch.equal(layer(x), layer.base(x)), (
        "B is zero: whatever is dropped, the base's output is whole"
    )
    layer.lora_b.data.normal_()
    torch.manual_seed(0)
    assert not torch.equal(layer(x)[0], layer(x)[1])
    layer.eval()
    torch.testing.assert_close(layer(x), layer.base(x) + x @ layer.delta().T)


# ------------------------------------------------------------------------------- merging and saving
def trained_layer(dtype=torch.float32):
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(24, 16).to(dtype), 4, 16)
    layer.lora_b.data.normal_()
    return layer


def test_merging_keeps_the_output_and_unmerging_the_weight():
    layer, x = trained_layer(torch.float64), torch.randn(5, 24, dtype=torch.float64)
    before, weight = layer(x), layer.base.weight.clone()
    torch.testing.assert_close(layer.merge()(x), before, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        layer.base.weight, weight + 4 * layer.lora_b @ layer.lora_a, rtol=0, atol=1e-12
    )
    torch.testing.assert_close(layer.unmerge().base.weight, weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-12)


def test_merging_twice_and_unmerging_what_is_not_merged_is_refused():
    layer = trained_layer()
    with pytest.raises(RuntimeError, match="not merged"):
        layer.unmerge()
    weight = layer.merge().base.weight.clone()
    with pytest.raises(RuntimeError, match="merged already"):
        layer.merge()
    assert torch.equal(layer.base.weight, weight)


def test_a_saved_merged_layer_knows_that_it_is_merged(tmp_path):
    layer, x = trained_layer().merge(), torch.randn(5, 24)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = LoRALinear(nn.Linear(24, 16), 4, 16)
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert torch.equal(other(x), layer(x))
    with pytest.raises(RuntimeError, match="merged already"):
        other.merge()


def test_adapters_alone_go_from_one_model_to_another():
    ours, fresh = add_lora(Block(), ("first",), 2, 16), add_lora(Block(), ("first",), 2, 16, seed=9)
    ours.first.lora_b.data.normal_()
    state = lora.adapter_state(ours)
    assert list(state) == ["first.lora_a", "first.lora_b"]
    ours.first.lora_b.data.zero_()
    assert state["first.lora_b"].any(), "a copy"
    lora.load_adapter(fresh, state)
    assert torch.equal(fresh.first.lora_b, state["first.lora_b"]) and torch.equal(
        fresh.first.lora_a, state["first.lora_a"]
    )
    with pytest.raises(ValueError, match="1 are missing and 1 are unknown"):
        lora.load_adapter(
            fresh, {"first.lora_a": state["first.lora_a"], "third.lora_b": state["first.lora_b"]}
        )
    with pytest.raises(RuntimeError, match="size mismatch"):
        lora.load_adapter(add_lora(Block(), ("first",), 3, 16), state)
    fresh.first.merge()
    with pytest.raises(RuntimeError, match="unmerge"):
        lora.load_adapter(fresh, state)


def test_add_lora_trains_the_adapters_and_nothing_else():
    model = add_lora(Block(), ("second",), 2, 16)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "second.lora_a",
        "second.lora_b",
    ]
    before = {name: p.clone() for name, p in model.named_parameters()}
    train(model.double())
    moved = [
        name
        for name, p in model.named_parameters()
        if not torch.allclose(p.float(), before[name].float(), atol=1e-7)
    ]
    assert moved == ["second.lora_a", "second.lora_b"], (
        "with weight decay, and the frozen weights stay"
    )


# ------------------------------------------------------------------------------------ bad input
def test_a_rank_above_the_smaller_side_is_warned_of_and_works():
    with pytest.warns(
        UserWarning, match="rank 9 is above 8.*252 parameters it is larger than the 160"
    ):
        layer = LoRALinear(nn.Linear(20, 8), 9, 16)
    assert layer.lora_a.shape == (9, 20) and layer(torch.ones(2, 20)).shape == (2, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LoRALinear(nn.Linear(20, 8), 8, 16)


@pytest.mark.parametrize(
    "layer", [nn.Embedding(4, 4), nn.Conv1d(4, 4, 1), nn.LayerNorm(4), torch.zeros(4, 4)]
)
def test_other_layers_are_refused_by_name(layer):
    with pytest.raises(TypeError, match=f"expected an nn.Linear, got {type(layer).__name__}"):
        LoRALinear(layer, 2, 16)


def test_an_adapter_on_an_adapter_and_on_codes_is_refused():
    with pytest.raises(TypeError, match="has an adapter already"):
        LoRALinear(LoRALinear(nn.Linear(4, 4), 2, 16), 2, 16)
    import bitsandbytes

    quantized = bitsandbytes.nn.Linear4bit(64, 64, bias=False).to("cpu")
    with pytest.raises(TypeError, match="quantized"):
        LoRALinear(quantized, 2, 16)


@pytest.mark.parametrize("rank", [0, -1, 2.0, "4"])
def test_bad_ranks_are_refused(rank):
    with pytest.raises(ValueError, match="rank must be a whole number of at least 1"):
        LoRALinear(nn.Linear(4, 4), rank, 16)


@pytest.mark.parametrize(
    "bad", [{"alpha": 0}, {"alpha": math.nan}, {"alpha": 16, "dropout": 1.0}, {"alpha": -1}]
)
def test_bad_alpha_and_dropout_are_refused(bad):
    with pytest.raises(ValueError, match="otherwise the adapter adds nothing"):
        LoRALinear(nn.Linear(4, 4), 2, **bad)


def test_a_missing_target_is_named_and_the_model_left_alone():
    model = Block()
    with pytest.raises(
        ValueError, match="no layer is called third: the linear layers here are first, second"
    ):
        add_lora(model, ("first", "third"), 2, 16)
    assert isinstance(model.first, nn.Linear) and model.first.weight.requires_grad


# ------------------------------------------------------------------------------------ counting
def test_the_lectures_example():
    """golden a.lora.512x64_r8: 512 + 4,096 = 4,608 of 32,768, 85.94 % fewer; break-even at rank
    56.9.
    """
    layer = LoRALinear(nn.Linear(64, 512, bias=False), 8, 16)
    assert (layer.lora_a.numel(), layer.lora_b.numel()) == (512, 4096)
    assert lora.lora_parameters([(512, 64)], 8) == 4608 and layer.base.weight.numel() == 32768
    assert 1 - 4608 / 32768 == pytest.approx(0.859375)
    assert lora.break_even_rank(512, 64) == pytest.approx(56.888888888888886)
    assert lora.break_even_rank(4096, 4096) == 2048


@pytest.mark.parametrize(
    ("billions", "rank", "true"),
    [
        (7, 1, 167332),
        (13, 1, 228035),
        (70, 1, 529150),
        (180, 1, 848528),
        (7, 2, 334664),
        (180, 2, 1697056),
        (7, 8, 1338656),
        (70, 16, 8466404),
        (13, 512, 116753964),
        (70, 1024, 541849869),
        (7, 8192, 1370783787),
        (180, 8192, 6951142502),
    ],
)
def test_the_lectures_table_in_full(billions, rank, true):
    """golden a.lora.rank_table, 2 r sqrt(N)."""
    assert round(lora.toy_square_parameters(billions * 1e9, rank)) == true


@pytest.mark.parametrize(
    ("model", "rank", "qv", "all_linear"),
    [
        ("Llama-2-7B", 8, 4194304, 19988480),
        ("Llama-2-7B", 1, 524288, 2498560),
        ("Llama-2-13B", 16, 13107200, 62586880),
        ("Llama-2-70B", 64, 131072000, 828375040),
        ("Llama-3-8B", 2, 851968, 5242880),
        ("LLaMA-65B", 8, 20971520, 99942400),
    ],
)
def test_real_models(model, rank, qv, all_linear):
    """golden a.lora.real_param_counts."""
    assert lora.adapter_size(MODELS[model], rank, QV) == qv
    assert lora.adapter_size(MODELS[model], rank) == all_linear


def test_the_7b_model_has_many_times_the_lectures_parameters():
    """golden: the deck understates 3.1 and 14.9 times; rank 8192 on all layers is 304 % of the
    model.
    """
    toy = lora.toy_square_parameters(7e9, 8)
    config = MODELS["Llama-2-7B"]
    assert lora.adapter_size(config, 8, QV) / toy == pytest.approx(3.1, abs=0.05)
    assert lora.adapter_size(config, 8) / toy == pytest.approx(14.9, abs=0.05)
    assert lora.adapter_size(config, 8192) == pytest.approx(20.5e9, rel=0.01)


def test_gpt2_counts_of_the_paper():
    """golden a.lora.gpt2_counts: W_q and W_v as squares of their own, r = 4: 0.393 M where the
    paper prints 0.35 M.
    """
    config = MODELS["GPT-2-medium"]
    square = (config["hidden_size"],) * 2
    assert lora.lora_parameters([square] * 2 * config["num_hidden_layers"], 4) == 393216


REAL_NAMES = {
    "llama": {f"{name}_proj": name for name in ("q", "k", "v", "o", "gate", "up", "down")},
    "gpt2": {"c_attn": "qkv", "attn.c_proj": "o", "c_fc": "up", "mlp.c_proj": "down"},
    "falcon": {
        "query_key_value": "qkv",
        "self_attention.dense": "o",
        "dense_h_to_4h": "up",
        "dense_4h_to_h": "down",
    },
}


@pytest.mark.parametrize("family", REAL_NAMES)
def test_layer_shapes_are_those_of_transformers_models(family):
    """A small model of each family, built by transformers: the very shapes of its one block."""
    import transformers

    sizes = {"vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = {
        **sizes,
        "model_type": family,
        "num_key_value_heads": 4 if family == "gpt2" else 2,
        "intermediate_size": 256,
    }
    config["max_position_embeddings"] = 32
    config |= {"num_kv_heads": 2, "ffn_hidden_size": 256} if family == "falcon" else {}
    more = {
        "llama": {"num_key_value_heads": 2, "intermediate_size": 256},
        "gpt2": {"n_inner": 256},
        "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True, "bias": False},
    }
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(family, **sizes, **more[family])
    )
    shapes = {
        path: tuple(module.weight.shape)
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, transformers.pytorch_utils.Conv1D))
        and "lm_head" not in path
    }
    assert len(shapes) == len(lora.layer_shapes(config)) == len(REAL_NAMES[family])
    for path, shape in shapes.items():
        name = next(short for real, short in REAL_NAMES[family].items() if path.endswith(real))
        # Conv1D is in x out
        assert lora.layer_shapes(config)[name] == (shape[::-1] if family == "gpt2" else shape), path


def test_what_cannot_be_counted_is_said():
    with pytest.raises(ValueError, match="no layer is called c_attn: expected some of q, k, v"):
        lora.adapter_size(MODELS["Llama-2-7B"], 8, ("c_attn",))
    with pytest.raises(ValueError, match="model_type 'mamba' is not written out"):
        lora.layer_shapes({**MODELS["Llama-2-7B"], "model_type": "mamba"})


# ------------------------------------------------------------------------------------ Eckart-Young
@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    rank=st.integers(0, 12),
    seed=st.integers(0, 10**6),
)
def test_the_error_is_the_closed_form_and_nothing_beats_it(rows, columns, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    w, u, v = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((rows, columns), (rows, max(rank, 1)), (max(rank, 1), columns))
    )
    b, a = lora.best_rank_r(w, rank)
    assert b.shape == (rows, min(rank, rows, columns)) and a.shape == (
        min(rank, rows, columns),
        columns,
    )
    error = (w - b @ a).norm().item()
    assert error == pytest.approx(
        lora.relative_error(torch.linalg.svdvals(w), rank) * w.norm().item(), abs=1e-10
    )
    if rank:
        best_with_v = torch.linalg.lstsq(v.T, w.T).solution.T @ v  # the best B for a random A
        assert error <= (w - best_with_v).norm().item() + 1e-9


def test_any_w_is_ba_only_up_to_its_rank():
    """golden a.lora.decomposition_claim."""
    torch.manual_seed(0)
    low, full = torch.randn(20, 3) @ torch.randn(3, 15), torch.randn(20, 15)
    for w, rank, exact in [(low, 3, True), (low, 2, False), (full, 14, False), (full, 15, True)]:
        b, a = lora.best_rank_r(w, rank)
        assert (((w - b @ a).norm() / w.norm()).item() < 1e-5) is exact


def test_relative_error_and_rank_by_hand():
    s = torch.tensor([4.0, 2.0, 2.0, 1.0])  # squares 16, 4, 4, 1 of 25
    assert [lora.relative_error(s, rank) for rank in range(5)] == pytest.approx(
        [1, 0.6, 5**0.5 / 5, 0.2, 0]
    )
    assert [lora.rank_for(s, share) for share in (0.5, 0.64, 0.65, 0.8, 0.9, 0.96, 1.0)] == [
        1,
        1,
        2,
        2,
        3,
        3,
        4,
    ]
    assert lora.relative_error(torch.zeros(3), 1) == 0.0
    with pytest.raises(ValueError, match="share must be above 0"):
        lora.rank_for(s, 0)
    with pytest.raises(ValueError, match="expected a matrix"):
        lora.best_rank_r(s, 1)


# -------------------------------------------------------------------------------- when rank matters
@pytest.mark.parametrize("rank", [2, 8])
def test_below_the_teachers_rank_training_reaches_the_limit_and_no_more(rank):
    error, limit = capacity.match_teacher(rank, teacher_rank=8, size=32, steps=300)
    assert limit - 1e-6 <= error <= limit + 0.01
    assert (limit < 1e-5) is (rank == 8)


def test_random_pairs_need_rank():
    low, high = (capacity.remember_pairs(rank, 96, size=32, steps=200) for rank in (1, 16))
    assert low < 0.3 and high > 0.95


def test_alpha_over_r_makes_the_first_step_independent_of_the_rank():
    """What each rule makes of the first step at 16 times the rank, 64 for 4: x 1, x 4, x 16."""
    for scaling, factor in [(lambda r: 16 / r, 1), (lambda r: 16 / r**0.5, 4), (lambda r: 16, 16)]:
        ratio = capacity.first_step_gain(64, scaling(64), size=256) / capacity.first_step_gain(
            4, scaling(4), size=256
        )
        assert ratio == pytest.approx(factor, rel=0.1)
