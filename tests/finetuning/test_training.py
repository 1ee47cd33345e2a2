"""Fine-tuning: what is trained, what is guarded, what survives a kill, what a saved adapter is
worth.
"""

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Trainer, TrainerCallback

from lab_utils.files import ROOT
from lab_utils.finetuning import rates
from lab_utils.finetuning import training as finetuning
from lab_utils.finetuning.base_model import load_base, nf4_config
from lab_utils.finetuning.merging import MERGES, merge
from lab_utils.finetuning.real_model import LabelledHead
from lab_utils.finetuning.training import (
    METHODS,
    AdapterMoved,
    BadLossError,
    FinetuneConfig,
    PadRight,
    PairDataset,
    StopOnBadLoss,
    bytes_by_dtype,
    finetune,
    last_whole_checkpoint,
    load_for_training,
    make_trainer,
    open_run,
    save_adapter,
)
from lab_utils.memory import sizes as memory

HERE = Path(__file__).resolve().parent
ROWS = [
    {"question": f"Where is cheese {i} from?", "answer": f"From village {i * i}, my dear friend!"}
    for i in range(12)
]
CONFIG = FinetuneConfig("qlora", rank=4, alpha=8, steps=6, batch_size=4, save_every=2)
IDS = torch.tensor([[1, 4, 300, 301, 302, 303, 304, 5]])


def quiet(step, n_steps, loss):
    """In place of a progress bar."""


def train(config, folder, source, rows=ROWS, watch=quiet, **where):
    return finetune(config, rows, folder, watch, source=source, **where)


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits.float()


def trained(result):
    return {
        name: p.detach().clone() for name, p in result.model.named_parameters() if p.requires_grad
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def uninterrupted(tiny_base, tmp_path_factory):
    """The run that no kill ever disturbed."""
    return train(CONFIG, tmp_path_factory.mktemp("whole") / "run", tiny_base)


@pytest.fixture(scope="module")
def strong(tiny_base, tmp_path_factory):
    """{"lora", "qlora"} -> (result, saved adapter): long enough for the adapter to matter."""
    made = {}
    for method in ("lora", "qlora"):
        folder = tmp_path_factory.mktemp(method)
        config = dataclasses.replace(CONFIG, method=method, steps=20, learning_rate=1e-2)
        result = train(config, folder / "run", tiny_base)
        made[method] = result, save_adapter(result, folder / "adapter")
    return made


# --------------------------------------------------------------------------- configuration and data
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "QLoRA"}, "unknown method 'QLoRA': expected one of full, lora, qlora"),
        ({"rank": 0}, "rank is 0: a LoRA adapter needs a rank of at least 1"),
        ({"rank": -4}, "rank is -4"),
        ({"steps": 0}, r"steps \(0\) and batch_size \(12\) must be at least 1"),
        ({"batch_size": 0}, r"batch_size \(0\) must be at least 1"),
        ({"alpha": 0}, r"alpha \(0\) must be above 0"),
        ({"dropout": 1.0}, r"dropout \(1.0\) from 0 to below 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: it must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"save_every": 0}, "save_every is 0: a checkpoint is kept after every so many steps"),
    ],
)
def test_a_bad_configuration_says_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        FinetuneConfig(**wrong)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_rank_above_the_smallest_side(tiny_base, method):
    with pytest.raises(
        ValueError, match="rank 65 is above 64, the smallest side .*: choose a rank from 1 to 64"
    ):
        load_for_training(FinetuneConfig(method, rank=65), source=tiny_base)
    model, _ = load_for_training(FinetuneConfig(method, rank=64), source=tiny_base)
    assert model.peft_config["default"].r == 64


def test_the_smallest_side_is_an_adapted_layers():
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    assert finetuning.smallest_linear_side(model) == 32, (
        "the keys' and values', not the 8 of the head, which has no adapter"
    )


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Where?", "answer": ""},
        {"question": "Where?", "answer": " \n"},
        {"question": "Where?", "answer": None},
        {"question": "Where?"},
    ],
)
def test_an_empty_answer_names_its_question(tiny_base, tmp_path, row):
    with pytest.raises(ValueError, match=r"answer is empty for the question 'Where\?'"):
        train(CONFIG, tmp_path / "run", tiny_base, [*ROWS, row])


@pytest.mark.parametrize("row", [{"question": " ", "answer": "Here."}, {"answer": "Here."}])
def test_an_empty_question(tiny_base, tmp_path, row):
    with pytest.raises(ValueError, match="question is empty"):
        train(CONFIG, tmp_path / "run", tiny_base, [*ROWS, row])


def test_no_rows(tiny_base, tmp_path):
    with pytest.raises(ValueError, match="no rows to learn from"):
        train(CONFIG, tmp_path / "run", tiny_base, [])


def test_a_pair_longer_than_the_context(tiny_base, tmp_path):
    long = {
        "question": "What is the longest answer of all the answers?",
        "answer": "on and on " * 200,
    }
    with pytest.raises(
        ValueError,
        match=r"the pair has \d+ tokens, the context holds 256: .*What is the longest answer",
    ):
        train(CONFIG, tmp_path / "run", tiny_base, [*ROWS, long])


def test_bad_rows_leave_the_checkpoints_of_a_killed_run_alone(tiny_base, tmp_path):
    folder = killed_run(tmp_path / "run", tiny_base, at=3)
    with pytest.raises(ValueError, match="no rows"):
        train(CONFIG, folder, tiny_base, [])
    assert last_whole_checkpoint(folder).name == "checkpoint-2"


def test_only_the_answer_and_its_end_are_learnt(tiny_base):
    _, tokenizer = load_base(source=tiny_base)
    data = PairDataset(ROWS[:2], tokenizer)
    assert len(data) == 2
    for row, pair in zip(ROWS, (data[0], data[1])):
        learnt = [i for i in pair["labels"] if i != -100]
        assert tokenizer.decode(learnt) == row["answer"] + "<|end|>"
        assert (
            pair["labels"][-len(learnt) :] == learnt and pair["input_ids"][-len(learnt) :] == learnt
        )
        assert (
            tokenizer.decode(pair["input_ids"])
            == f"<s><|user|>{row['question']}<|end|><|assistant|>{row['answer']}<|end|>"
        )


def test_the_collator_pads_on_the_right():
    batch = PadRight(7)(
        [{"input_ids": [1, 7, 3], "labels": [-100, 7, 3]}, {"input_ids": [4], "labels": [4]}]
    )
    assert batch["input_ids"].tolist() == [[1, 7, 3], [4, 7, 7]]
    assert batch["labels"].tolist() == [[-100, 7, 3], [4, -100, -100]], (
        "a pad id within an answer stays a label"
    )
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    assert PadRight(7, at_least=5)([{"input_ids": [4], "labels": [4]}])[
        "attention_mask"
    ].tolist() == [[1, 0, 0, 0, 0]]


def test_padding_does_not_change_the_loss(tiny_base):
    model, tokenizer = load_base(source=tiny_base)
    rows = [
        ROWS[0],
        {"question": "Why?", "answer": "Because it ripens slowly, and slowly, in a cave."},
    ]
    pairs = [PairDataset([row], tokenizer)[0] for row in rows]
    collate = PadRight(tokenizer.pad_token_id)
    with torch.no_grad():
        alone = [model(**collate([pair])).loss.item() for pair in pairs]
        together = model(**collate(pairs)).loss.item()
    sizes = [sum(i != -100 for i in pair["labels"]) for pair in pairs]
    assert together == pytest.approx(
        sum(a * n for a, n in zip(alone, sizes)) / sum(sizes), rel=1e-5
    )


# ---------------------------------------------------------------------------------------- training
@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls(method, tiny_base, tmp_path, strong):
    if method == "full":
        result = train(
            dataclasses.replace(CONFIG, method="full", steps=20, learning_rate=1e-3),
            tmp_path / "run",
            tiny_base,
        )
    else:
        result = strong[method][0]
    assert len(result.losses) == 20 and result.seconds > 0
    assert result.losses[0] == pytest.approx(6.3, abs=0.3)
    assert sum(result.losses[-3:]) / 3 < result.losses[0] - 0.4


@pytest.mark.parametrize("method", METHODS)
def test_the_first_loss_is_the_bases(method, tiny_base, tmp_path):
    """lora_B starts at zero, so step 1 sees the untouched base; the loss is the mean over the
    answers' tokens.
    """
    model, tokenizer = load_base(source=tiny_base, quantized=method == "qlora")
    data = PairDataset(ROWS, tokenizer)
    with torch.no_grad():
        expected = model(
            **PadRight(tokenizer.pad_token_id)([data[i] for i in range(12)])
        ).loss.item()
    result = train(FinetuneConfig(method, steps=1, batch_size=12), tmp_path / "run", tiny_base)
    assert result.losses == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_on_all_linear_layers_but_the_head(method, strong, tiny_base):
    model = strong[method][0].model
    parts = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ]
    expected = {
        f"base_model.model.model.layers.{layer}.{part}.lora_{side}.default.weight"
        for layer in range(2)
        for part in parts
        for side in "AB"
    }
    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
    assert all(p.detach().any() for name, p in model.named_parameters() if "lora_B" in name)
    fresh, _ = load_base(source=tiny_base, quantized=method == "qlora")
    before = dict(fresh.named_parameters())
    checked = 0
    for name, p in model.named_parameters():
        if "lora_" not in name:
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(p.detach(), before[plain].detach()), (
                f"{plain} of the base has changed"
            )
            checked += 1
    assert checked == len(before) == 20
    assert (
        strong[method][0].trainable_params
        == 4 * sum(i + o for i, o in [(64, 64)] * 4 + [(64, 128)] * 3) * 2
    )


def test_full_fine_tuning_moves_every_weight(tiny_base, tmp_path):
    result = train(FinetuneConfig("full", steps=1, batch_size=4), tmp_path / "run", tiny_base)
    before = dict(load_base(source=tiny_base)[0].named_parameters())
    assert not [name for name, p in result.model.named_parameters() if torch.equal(p, before[name])]
    assert result.trainable_params == 120_640


@pytest.mark.parametrize("use_rslora", [False, True])
def test_the_adapter_is_scaled_by_alpha_over_r(use_rslora, tiny_base):
    model, _ = load_for_training(
        FinetuneConfig("lora", rank=16, alpha=4, use_rslora=use_rslora), source=tiny_base
    )
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == (4 / math.sqrt(16) if use_rslora else 4 / 16)


def test_the_first_step_is_adamw_at_the_full_rate(tiny_base, tmp_path):
    """No warm-up: Adam's first step moves a weight by the learning rate, whatever its gradient."""
    result = train(
        FinetuneConfig("lora", steps=1, batch_size=4, learning_rate=0.02),
        tmp_path / "run",
        tiny_base,
    )
    for name, p in trained(result).items():
        if "lora_B" in name:
            assert p.abs().max().item() == pytest.approx(0.02, rel=1e-3), name


@pytest.mark.parametrize("method", METHODS)
def test_checkpointing_computes_layers_twice_and_changes_no_number(
    method, tiny_base, tmp_path, monkeypatch
):
    from transformers.models.llama.modeling_llama import LlamaMLP

    calls, forward = [], LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: calls.append(1) or forward(self, x))
    config = FinetuneConfig(method, steps=2, batch_size=4)
    plain = train(config, tmp_path / "a", tiny_base)
    n_plain = len(calls)
    saving = train(dataclasses.replace(config, checkpointing=True), tmp_path / "b", tiny_base)
    assert (n_plain, len(calls) - n_plain) == (2 * 2, 2 * 2 * 2), (
        "layers x steps, then once more in each backward pass"
    )
    assert saving.losses == pytest.approx(plain.losses, rel=1e-5)
    for name, weight in trained(plain).items():
        assert torch.allclose(weight, trained(saving)[name], atol=1e-3), name


class Products(TorchDispatchMode):
    """Context that sees the types in which matrices are multiplied, forward and backward.

    Inside it autocast does not reach into bitsandbytes' operator: a 4-bit layer multiplies in the
    type that it was given.
    """

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.bitsandbytes.gemm_4bit.default:
            self.dtypes.add(args[0].dtype)
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.dtypes.add(args[-1].dtype)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("trainer_class", [Trainer, LabelledHead])
@pytest.mark.parametrize("method", METHODS)
def test_bf16_multiplies_in_bfloat16_and_keeps_everything_else(
    method, trainer_class, tiny_base, tmp_path
):
    """All products, those of 4-bit layers and of the backward pass too. What is kept between steps
    is float32 as before, and the losses are off by rounding (8 bits of mantissa), no more.
    """
    config, runs, dtypes = FinetuneConfig(method, steps=3, batch_size=4), {}, {}
    for bf16 in (False, True):
        with Products() as products:
            runs[bf16] = train(
                dataclasses.replace(config, bf16=bf16),
                tmp_path / "run",
                tiny_base,
                trainer_class=trainer_class,
            )
        dtypes[bf16] = products.dtypes
    assert dtypes == {False: {torch.float32}, True: {torch.bfloat16}}
    assert runs[True].measured_bytes == runs[False].measured_bytes
    assert runs[True].losses != runs[False].losses
    assert runs[True].losses == pytest.approx(runs[False].losses, rel=0.01)


def test_bf16_spares_a_cast_and_changes_no_loss(tiny_base, tmp_path, monkeypatch):
    """4-bit layers that were left in float32 give the same losses under autocast."""
    config = FinetuneConfig("qlora", steps=3, batch_size=4, bf16=True)
    straight = train(config, tmp_path / "a", tiny_base)
    monkeypatch.setattr(finetuning, "set_compute_dtype", lambda model, dtype: None)
    cast = train(config, tmp_path / "b", tiny_base)
    assert straight.losses == pytest.approx(cast.losses, rel=1e-4)
    layer = straight.model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    assert layer.compute_dtype == layer.weight.quant_state.dtype == torch.bfloat16


def test_the_same_seed_gives_the_same_losses(uninterrupted, tiny_base, tmp_path):
    again = train(CONFIG, tmp_path / "run", tiny_base)
    assert again.losses == uninterrupted.losses and same(trained(again), trained(uninterrupted))
    other = train(dataclasses.replace(CONFIG, seed=1), tmp_path / "run", tiny_base)
    assert other.losses != uninterrupted.losses and not same(trained(other), trained(uninterrupted))


def test_the_global_random_state_does_not_matter(uninterrupted, tiny_base, tmp_path):
    torch.manual_seed(12345)
    torch.rand(3)
    assert train(CONFIG, tmp_path / "run", tiny_base).losses == uninterrupted.losses


def test_other_methods_bring_their_loader_and_their_guards(tiny_base, tmp_path):
    """What lab 07 does for methods that this module does not know."""
    calls = []

    class Guard(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            calls.append(state.global_step)

    def load(config, **where):
        model, tokenizer = load_base(**where)
        model.requires_grad_(False)
        model.model.norm.weight.requires_grad_(True)
        return model, tokenizer

    config = dataclasses.replace(CONFIG, method="lora", steps=3)
    result = finetune(
        config, ROWS, tmp_path / "run", quiet, load=load, more_guards=[Guard()], source=tiny_base
    )
    assert (
        calls == [1, 2, 3]
        and list(trained(result)) == ["model.norm.weight"]
        and result.trainable_params == 64
    )


def test_a_configuration_of_other_methods_has_its_own_rates():
    @dataclasses.dataclass(frozen=True)
    class Config(FinetuneConfig):
        methods = ("norms",)

        @property
        def rate(self):
            return 0.5

    assert Config("norms").rate == 0.5 and FinetuneConfig("full").rate == rates.RATES[0].full
    assert FinetuneConfig("full", learning_rate=0.25).rate == 0.25
    large = SimpleNamespace(num_parameters=lambda: 7e9)
    assert Config("norms").rate_for(large) == pytest.approx(0.5 * 2e-4 / 3e-3)
    with pytest.raises(ValueError, match="unknown method 'qlora': expected one of norms"):
        Config("qlora")


def test_watch_sees_every_step(tiny_base, tmp_path):
    seen = []
    result = train(CONFIG, tmp_path / "run", tiny_base, watch=lambda *what: seen.append(what))
    assert seen == [(step, 6, loss) for step, loss in enumerate(result.losses, start=1)]


def test_without_watch_a_bar_counts_the_steps(tiny_base, tmp_path, capsys):
    train(CONFIG, tmp_path / "run", tiny_base, watch=None)
    printed = capsys.readouterr()
    assert "6/6" in printed.err and "loss=" in printed.err and "{'loss'" not in printed.out


# ---------------------------------------------------------------------------------------- guards
def log(callback, loss, step=1):
    callback.on_log(None, SimpleNamespace(global_step=step), None, logs={"loss": loss})


@pytest.mark.parametrize(
    ("loss", "cause"),
    [
        (math.nan, "learning rate is too high"),
        (math.inf, "learning rate is too high"),
        (-math.inf, "learning rate is too high"),
        (0.0, "every label is masked"),
    ],
)
def test_a_bad_loss_stops_and_says_why(loss, cause):
    with pytest.raises(BadLossError, match=rf"(?s)the loss is .*{loss:g} at step 7.*{cause}"):
        log(StopOnBadLoss(), loss, 7)


def test_good_losses_pass():
    for logs in ({"loss": 2.5}, {"loss": 1e-30}, {"train_runtime": 0.0}, {}, None):
        StopOnBadLoss().on_log(None, SimpleNamespace(global_step=1), None, logs=logs)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_absurd_learning_rate_is_called_by_its_name(method, tiny_base, tmp_path):
    """The Trainer's own filter would report a loss that is not a number as 0, and so as masked
    labels.
    """
    config = dataclasses.replace(CONFIG, method=method, learning_rate=1e30)
    with pytest.raises(
        BadLossError,
        match=r"the loss is (nan|inf) at step [23]: usually the learning rate is too high",
    ):
        train(config, tmp_path / "run", tiny_base)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_masked_labels_are_called_by_their_name(method, tiny_base, tmp_path, monkeypatch):
    encode = finetuning.encode_pair

    def masked(*args, **kwargs):
        pair = encode(*args, **kwargs)
        return {**pair, "labels": [-100] * len(pair["labels"])}

    monkeypatch.setattr(finetuning, "encode_pair", masked)
    with pytest.raises(
        BadLossError, match=r"the loss is (nan|exactly 0) at step 1.*every label is masked"
    ):
        train(dataclasses.replace(CONFIG, method=method), tmp_path / "run", tiny_base)


def trainer_for(model, tokenizer, folder, config=CONFIG):
    return make_trainer(config, model, tokenizer, ROWS, folder, "cpu", quiet)


def test_an_adapter_that_does_not_move_is_noticed(tiny_base, tmp_path):
    model, tokenizer = load_for_training(CONFIG, source=tiny_base)
    for name, p in model.named_parameters():
        if "layers.1.mlp.down_proj.lora_B" in name or "layers.0.self_attn.q_proj.lora_B" in name:
            p.requires_grad_(False)
    with pytest.raises(
        RuntimeError,
        match=r"2 lora_B matrices are still zero after the first step \(first: "
        r".*layers.0.self_attn.q_proj.lora_B.*use_reentrant=False",
    ):
        trainer_for(model, tokenizer, tmp_path / "run").train()


def test_blocked_gradients_are_noticed(tiny_base, tmp_path):
    """Reentrant checkpointing of the layers, inputs without gradients, and one trained weight
    behind: nothing else complains.
    """
    model, tokenizer = load_for_training(
        dataclasses.replace(CONFIG, method="lora"), source=tiny_base
    )
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.disable_input_require_grads()
    model.base_model.model.model.norm.weight.requires_grad_(True)
    with pytest.raises(
        RuntimeError, match="14 lora_B matrices are still zero after the first step"
    ):
        trainer_for(
            model, tokenizer, tmp_path / "run", dataclasses.replace(CONFIG, method="lora")
        ).train()


def test_a_step_that_float16_training_skipped_is_not_blamed_on_the_adapter():
    """Where gradients overflow in float16, as on a T4, first steps only lower the loss scale."""
    model, guard = torch.nn.Module(), AdapterMoved()
    model.lora_B = torch.nn.Parameter(torch.zeros(2))
    for _ in range(2):
        guard.on_log(
            None, None, None, model=model, optimizer=SimpleNamespace(step_was_skipped=True)
        )
    with pytest.raises(RuntimeError, match="1 lora_B"):
        guard.on_log(
            None, None, None, model=model, optimizer=SimpleNamespace(step_was_skipped=False)
        )


def test_a_run_with_a_skipped_first_step_goes_on(tiny_base, tmp_path, monkeypatch):
    from accelerate.optimizer import AcceleratedOptimizer

    step, steps = AcceleratedOptimizer.step, []

    def skip_the_first(self, *args):
        steps.append(1)
        self._is_overflow = len(steps) == 1
        if not self._is_overflow:
            step(self, *args)

    monkeypatch.setattr(AcceleratedOptimizer, "step", skip_the_first)
    result = train(dataclasses.replace(CONFIG, steps=3), tmp_path / "run", tiny_base)
    assert len(steps) == 3 and all(p.any() for p in trained(result).values())


def test_the_adapter_is_checked_once():
    model, guard = torch.nn.Module(), AdapterMoved()
    model.lora_B = torch.nn.Parameter(torch.ones(2))
    guard.on_log(None, None, None, model=model)
    model.lora_B.data.zero_()
    guard.on_log(None, None, None, model=model)


# --------------------------------------------------------------------------- kills and what is left
class KilledError(Exception):
    """Stands for a kill, inside this process."""


def killed_run(folder, source, at, config=CONFIG, rows=ROWS):
    """A run that stopped in step `at`; returns its folder."""

    def watch(step, n_steps, loss):
        if step == at:
            raise KilledError

    with pytest.raises(KilledError):
        train(config, folder, source, rows, watch)
    return folder


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_stopped_run_ends_as_if_nothing_had_happened(at, tiny_base, tmp_path, uninterrupted):
    folder, seen = killed_run(tmp_path / "run", tiny_base, at), []
    result = train(CONFIG, folder, tiny_base, watch=lambda step, *_: seen.append(step))
    assert seen == list(range(at // 2 * 2 + 1, 7)), (
        "from the last checkpoint on, not from the start"
    )
    assert same(trained(result), trained(uninterrupted)) and result.losses == uninterrupted.losses
    assert not folder.exists()


def grouped_batches(tiny_base, folder, grouped, steps=8):
    """(rows of 8 lengths) as the batches of 2 in which a run sees them, by their lengths."""
    rows = [{"question": "Why?", "answer": "so " * (1 + i % 8)} for i in range(64)]
    config = dataclasses.replace(
        CONFIG, method="lora", steps=steps, batch_size=8, group_by_length=grouped
    )
    model, tokenizer = load_for_training(config, source=tiny_base)
    trainer = make_trainer(config, model, tokenizer, rows, folder, "cpu", None)
    return [batch["attention_mask"].sum(1).tolist() for batch in trainer.get_train_dataloader()]


def test_rows_of_like_length_share_a_batch_and_none_is_left_out(tiny_base, tmp_path):
    """64 rows, 8 of each length, batches of 8; the library sorts within 2 batches of a shuffled
    epoch's 8 (64 // (8 * 4)).
    """
    random, grouped = (grouped_batches(tiny_base, tmp_path / str(on), on) for on in (False, True))
    assert sorted(sum(random, [])) == sorted(sum(grouped, [])), "the same rows, each once"
    padding = [
        sum(max(batch) - n for batch in batches for n in batch) for batches in (random, grouped)
    ]
    assert 0 < padding[1] < 0.7 * padding[0]


@pytest.mark.parametrize("at", [1, 3])
def test_a_stopped_run_with_grouped_rows_sees_the_same_rows_again(at, tiny_base, tmp_path):
    """The order is drawn from torch's global generator, so a resumed run must begin its epoch where
    the first one did.
    """
    config = dataclasses.replace(CONFIG, group_by_length=True)
    whole = train(config, tmp_path / "whole", tiny_base, ROWS)
    torch.manual_seed(1234)  # whatever was drawn before in this kernel
    result = train(config, killed_run(tmp_path / "run", tiny_base, at, config), tiny_base)
    assert result.losses == whole.losses and same(trained(result), trained(whole))


KILLED = """
import os, signal, sys
from pathlib import Path
from transformers import TrainerState
import test_training as t

save = TrainerState.save_to_json

def save_half_and_die(self, path):
    save(self, path)
    if self.global_step == 4:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

TrainerState.save_to_json = save_half_and_die
t.train(t.CONFIG, Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_kill_in_the_middle_of_a_checkpoint(tiny_base, tmp_path, uninterrupted):
    """Killed for real while checkpoint 4 is half written: it is passed over, for 2."""
    folder = tmp_path / "run"
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (HERE, HERE.parent, ROOT))))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(tiny_base)],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -getattr(signal, "SIGKILL", -1), done.stderr
    assert (folder / "checkpoint-4").is_dir() and last_whole_checkpoint(
        folder
    ).name == "checkpoint-2"
    seen = []
    result = train(CONFIG, folder, tiny_base, watch=lambda step, *_: seen.append(step))
    assert seen == [3, 4, 5, 6]
    assert same(trained(result), trained(uninterrupted)) and result.losses == uninterrupted.losses
    assert not folder.exists(), "a finished run leaves no checkpoints"


def state_file(folder, step, text='{"global_step": 1}'):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    if text is not None:
        (checkpoint / "trainer_state.json").write_text(text, encoding="utf-8")
    return checkpoint


def test_the_newest_whole_checkpoint(tmp_path):
    assert (
        last_whole_checkpoint(tmp_path) is None
        and last_whole_checkpoint(tmp_path / "nowhere") is None
    )
    state_file(tmp_path, 90)
    newest = state_file(tmp_path, 100)
    assert last_whole_checkpoint(tmp_path) == newest, "by number, not by name"
    state_file(tmp_path, 110, text=None)
    state_file(tmp_path, 120, text='{"global_step": 1')
    state_file(tmp_path, 130, text="")
    assert last_whole_checkpoint(tmp_path) == newest
    shutil.rmtree(newest)
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-90"


@pytest.mark.parametrize("change", ["rank", "learning_rate", "rows", "source", "dtype"])
def test_checkpoints_of_another_plan_are_removed(change, tiny_base, tmp_path):
    """Above all those of another base model: adapters of one are worth nothing on another."""
    folder = tmp_path / "run"
    config, rows, where = CONFIG, ROWS, {"source": tiny_base}
    open_run(folder, config, rows, where)
    kept = state_file(folder, 2)
    assert open_run(folder, config, [dict(row) for row in rows], dict(where)) == kept, (
        "the same plan goes on"
    )
    if change == "rows":
        rows = [*ROWS[1:], ROWS[0]]
    elif change in ("source", "dtype"):
        where = {**where, change: {"source": tmp_path / "other", "dtype": torch.bfloat16}[change]}
    else:
        config = dataclasses.replace(CONFIG, **{change: 5})
    assert open_run(folder, config, rows, where) is None
    assert not kept.exists() and [path.name for path in folder.iterdir()] == ["plan.json"]


def test_a_run_of_another_plan_starts_from_the_beginning(tiny_base, tmp_path):
    folder = killed_run(tmp_path / "run", tiny_base, at=3)
    seen = []
    other = dataclasses.replace(CONFIG, rank=2)
    train(other, folder, tiny_base, watch=lambda step, *_: seen.append(step))
    assert seen == [1, 2, 3, 4, 5, 6] and not folder.exists()


def test_files_that_are_not_the_runs_are_never_removed(tiny_base, tmp_path):
    """A student who saves an adapter into the run's folder, or runs in a folder with notes, keeps
    both.
    """
    folder = tmp_path / "run"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_model.safetensors").write_text("precious")
    (folder / "notes.txt").write_text("also precious")
    train(dataclasses.replace(CONFIG, steps=2), folder, tiny_base)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter", "notes.txt"]
    assert (folder / "adapter" / "adapter_model.safetensors").read_text() == "precious"


@pytest.mark.parametrize(
    "n_params, full, lora",
    [(5.7e6, 5e-4, 3e-3), (134.5e6, 2e-4, 2e-3), (7e9, 2e-5, 2e-4), (65e9, 1e-5, 1e-4)],
)
def test_larger_models_take_smaller_steps(n_params, full, lora):
    model = SimpleNamespace(num_parameters=lambda: n_params)
    for method, rate in (("full", full), ("lora", lora), ("qlora", lora)):
        assert FinetuneConfig(method).rate_for(model) == pytest.approx(rate)
        assert FinetuneConfig(method, learning_rate=0.25).rate_for(model) == 0.25
    assert rates.rate_scale(model) == pytest.approx(lora / 3e-3)
    assert rates.rates_for(n_params).source


@pytest.mark.parametrize("method", METHODS)
def test_the_trainer_takes_the_rate_of_the_models_size(method, tiny_base, tmp_path, monkeypatch):
    lines = (rates.Rates(1e3, 0.5, 0.25, ""), rates.Rates(1e9, 1, 2, ""))
    monkeypatch.setattr(rates, "RATES", lines)
    config = FinetuneConfig(method, steps=1, batch_size=4)
    model, tokenizer = finetuning.load_for_training(config, source=tiny_base)
    trainer = finetuning.make_trainer(config, model, tokenizer, ROWS, tmp_path, "cpu", None)
    assert trainer.args.learning_rate == (1 if method == "full" else 2)


# ---------------------------------------------------------------------------------------- bytes
def test_lora_beside_weights_in_16_bits_takes_what_is_predicted(tiny_base, tmp_path):
    config = FinetuneConfig("lora", rank=4, steps=1, batch_size=4)
    result = finetune(config, ROWS, tmp_path, quiet, source=tiny_base, dtype=torch.bfloat16)
    shape = memory.Architecture.of(result.model.config)
    predicted = memory.training_state_bytes(shape, "lora", 4, weight_bytes=2, adapter_bytes=4)
    assert {part: result.measured_bytes[part] for part in ("weights", "gradients")} == {
        part: predicted[part] for part in ("weights", "gradients")
    }


@pytest.mark.parametrize("method", METHODS)
def test_measured_bytes_are_the_predicted_ones(method, tiny_base, tmp_path):
    result = train(
        FinetuneConfig(method, rank=4, steps=2, batch_size=4), tmp_path / "run", tiny_base
    )
    config = load_base(source=tiny_base)[0].config
    predicted = memory.training_state_bytes(memory.Architecture.of(config), method, rank=4)
    n_tensors = sum(p.requires_grad for p in result.model.parameters())
    assert n_tensors == (20 if method == "full" else 28)
    measured = dict(result.measured_bytes)
    assert measured.pop("optimizer") == predicted.pop("optimizer") + 4 * n_tensors, (
        "AdamW counts its steps in a float each"
    )
    assert measured == predicted


def test_bytes_by_dtype(tiny_base):
    n_linear, n_other = 2 * (4 * 64 * 64 + 3 * 64 * 128), 600 * 64 + 5 * 64
    plain, _ = load_base(source=tiny_base)
    assert bytes_by_dtype(plain) == {"float32": 4 * (n_linear + n_other)}
    assert bytes_by_dtype(plain.half()) == {"float16": 2 * (n_linear + n_other)}
    quantized, _ = load_base(source=tiny_base, quantized=True)
    constants = 14 * 4 * (1 + 256 + 16 + 1)  # of each layer: second constant, both codes, offset
    sizes = bytes_by_dtype(quantized)
    assert sizes == {
        "float32": 4 * n_other,
        "uint8": n_linear // 2,
        "uint8 (constants)": n_linear // 64,
        "float32 (constants)": constants,
    }
    adapted, _ = load_for_training(FinetuneConfig("qlora", rank=4), source=tiny_base)
    assert bytes_by_dtype(adapted)["float32"] == sizes["float32"] + 34_816


# ---------------------------------------------------------------------------------------- saving
def test_peft_alone_loads_the_adapter(strong, tiny_base):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    result, folder = strong["lora"]
    loaded = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert torch.allclose(logits(loaded), logits(result.model), atol=1e-5)
    assert (logits(loaded) - logits(load_base(source=tiny_base)[0])).abs().max() > 0.1, (
        "and it is not the base"
    )
    assert AutoTokenizer.from_pretrained(folder).chat_template == result.tokenizer.chat_template
    assert {file.name for file in folder.glob("*.safetensors")} == {"adapter_model.safetensors"}
    assert finetuning.folder_bytes(folder) == pytest.approx(
        4 * result.trainable_params, abs=6000
    ), "a header comes on top"


def test_peft_alone_loads_a_qlora_adapter_onto_a_quantized_base(strong):
    from peft import AutoPeftModelForCausalLM

    from lab_utils.finetuning.base_model import same_numbers_in_eval

    result, folder = strong["qlora"]
    loaded = AutoPeftModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        quantization_config=nf4_config(torch.float32),
        device_map={"": "cpu"},
    )
    same_numbers_in_eval(loaded)
    assert torch.allclose(logits(loaded), logits(result.model), atol=1e-4)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("part", ["model", "tokenizer"])
@pytest.mark.parametrize("older", [False, True])
def test_a_failing_save_leaves_nothing_new(part, older, strong, tmp_path, monkeypatch):
    result, saved = strong["lora"]
    target = tmp_path / "adapter"
    if older:
        shutil.copytree(saved, target)
    before = files(tmp_path)

    def full_disk(folder, *args, **kwargs):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(getattr(result, part), "save_pretrained", full_disk)
    with pytest.raises(
        OSError, match=r"could not be saved to .*adapter .*No space left.*Nothing was left behind"
    ):
        save_adapter(result, target)
    assert files(tmp_path) == before and target.exists() == older
    assert [path.name for path in tmp_path.iterdir()] == (["adapter"] if older else [])


def test_a_failing_move_gives_the_older_adapter_back(strong, tmp_path, monkeypatch):
    result, saved = strong["lora"]
    target = Path(shutil.copytree(saved, tmp_path / "adapter"))
    (target / "mine.txt").write_text("older")
    before, replace = files(tmp_path), os.replace

    def locked(source, destination):
        if Path(source).name == "adapter.part":
            raise PermissionError(13, "The file is used by another process")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", locked)
    with pytest.raises(OSError, match="used by another process"):
        save_adapter(result, target)
    assert files(tmp_path) == before


def test_a_file_in_the_adapters_place_is_kept(strong, tmp_path):
    target = tmp_path / "adapter"
    target.write_text("not a folder")
    with pytest.raises(OSError, match="could not be saved"):
        save_adapter(strong["lora"][0], target)
    assert files(tmp_path) == {"adapter": b"not a folder"}


def test_a_new_adapter_takes_the_place_of_an_older_one(strong, tmp_path):
    result, saved = strong["lora"]
    target = tmp_path / "deep" / "adapter"
    assert save_adapter(result, target) == target
    (target / "stale.txt").write_text("older")
    save_adapter(result, target)
    assert files(target) == files(saved) and [path.name for path in target.parent.iterdir()] == [
        "adapter"
    ]


def test_no_machine_path_but_the_bases_is_saved(strong, tiny_base):
    config = json.loads((strong["lora"][1] / "adapter_config.json").read_text(encoding="utf-8"))
    assert (
        config["base_model_name_or_path"] == str(tiny_base)
        and config["r"] == 4
        and config["lora_alpha"] == 8
    )


# ---------------------------------------------------------------------------------------- merging
def test_merged_after_dequantizing_answers_as_trained(strong, tiny_base):
    result, folder = strong["qlora"]
    merged = merge(folder, "dequantised first", source=tiny_base)
    assert (logits(merged) - logits(result.model)).abs().max() < 1e-4
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    assert {p.dtype for p in merged.parameters()} == {torch.float32}


def test_merged_into_the_original_is_base_plus_adapter(strong, tiny_base):
    from safetensors.torch import load_file

    adapter = load_file(strong["qlora"][1] / "adapter_model.safetensors")
    base = dict(load_base(source=tiny_base)[0].named_parameters())
    merged = dict(
        merge(strong["qlora"][1], "into the original", source=tiny_base).named_parameters()
    )
    assert merged.keys() == base.keys()
    changed = 0
    for name, weight in base.items():
        stem = "base_model.model." + name.removesuffix(".weight")
        expected = weight
        if f"{stem}.lora_A.weight" in adapter:
            expected = (
                weight
                + (8 / 4) * adapter[f"{stem}.lora_B.weight"] @ adapter[f"{stem}.lora_A.weight"]
            )
            assert not torch.allclose(expected, weight, atol=1e-3)
            changed += 1
        assert torch.allclose(merged[name], expected, atol=1e-6), name
    assert changed == 14


def test_merged_into_4_bits_is_rounded_again(strong, tiny_base):
    from bitsandbytes.nn import Linear4bit

    result, folder = strong["qlora"]
    merged = merge(folder, "into 4 bits", source=tiny_base)
    assert isinstance(merged.model.layers[0].self_attn.q_proj, Linear4bit)
    off = {
        way: (logits(merge(folder, way, source=tiny_base)) - logits(result.model))
        .abs()
        .max()
        .item()
        for way in MERGES
    }
    assert (
        off["into 4 bits"] > 0.01 > 1e-4 > off["dequantised first"]
        and off["into the original"] > 0.001
    )


def test_an_unknown_way_to_merge(strong, tiny_base):
    with pytest.raises(
        ValueError,
        match="unknown way 'fast': expected one of into 4 bits, dequantised first, into the ",
    ):
        merge(strong["qlora"][1], "fast", source=tiny_base)
