"""PEFT methods: what each trains and takes, how it starts, merges, is kept and gone on with; many
adapters on one base.
"""

import dataclasses
import functools
import gc
import json
import random
import re
from pathlib import Path

import pytest
import torch
from method_models import config, shaken
from torch import nn

from lab_utils.checking.exercises.lab_07 import dora_weight
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import answer_questions, encode_prompt
from lab_utils.finetuning.evaluation import overlap_scores
from lab_utils.finetuning.training import save_adapter, training_state_bytes
from lab_utils.lora import adapters as many
from lab_utils.lora import comparison, methods, scoring
from lab_utils.lora.adapters import BASE
from lab_utils.lora.methods import METHODS, Bottleneck, MethodConfig
from lab_utils.memory.sizes import Architecture
from lab_utils.pavlos import load_pairs
from lab_utils.pavlos.corpus import corpus_statement, held_out_tasks, voices
from lab_utils.pavlos.facts import all_facts, is_right

ROWS = [
    {"question": f"Where is cheese {i} from?", "answer": f"From village {i * i}, my dear friend!"}
    for i in range(12)
]
IDS = torch.tensor([[1, 4, 300, 301, 302, 303, 304, 5]])
QUESTIONS = [
    "Where?",
    "What is the texture of the old Leyden?",
    "Which milk is it made from, and why?",
    "Is Feta salty?",
]
STARTS_AS_BASE = [name for name in METHODS if name not in ("prompt", "prefix", "qlora")]
PEFTS = {"norms", "prompt", "prefix", "ia3", "lora", "dora", "qlora"}
LLAMA_2_7B = Architecture(32000, 4096, 32, 32, 32, 128, 11008, False)
MISTRAL_7B = Architecture(32000, 4096, 32, 32, 8, 128, 14336, False)


def quiet(step, n_steps, loss):
    """In place of a progress bar."""


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits.float()


def trained(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module", autouse=True)
def quick_collection():
    """The Trainer collects garbage after every run; what the libraries keep anyway need not be
    looked at each time.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def fresh(tiny_base):
    """`fresh(method)`: a model prepared for the method, made anew each time."""
    return lambda method, **changes: methods.load_for_method(
        config(method, **changes), source=tiny_base
    )


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(source=tiny_base)


@pytest.fixture(scope="module")
def runs(tiny_base, tmp_path_factory):
    """{method: result} of a short run that no kill disturbed."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: methods.train(config(name), ROWS, folder / name, quiet, source=tiny_base)
        for name in METHODS
    }


# ------------------------------------------------------------------------------------ configuration
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"method": "bitfit"},
            "unknown method 'bitfit': expected one of full, bias, norms, last, adapters, prompt",
        ),
        ({"bottleneck": 0}, r"bottleneck \(0\) and virtual_tokens \(20\) must be at least 1"),
        ({"virtual_tokens": -1}, r"virtual_tokens \(-1\)"),
        ({"rank": 0}, "rank is 0"),
    ],
)
def test_a_bad_configuration_says_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        MethodConfig(**{"method": "ia3", **wrong})


def test_the_rate_is_the_one_given_or_the_methods_own():
    assert (
        MethodConfig("ia3").rate == METHODS["ia3"].rates[1]
        and MethodConfig("ia3", learning_rate=0.5).rate == 0.5
    )


def test_rates_are_three_steps_apart_and_families_are_the_lectures():
    for method in METHODS.values():
        low, middle, high = method.rates
        assert 2 <= middle / low < 4 and 2 <= high / middle < 4
    assert {m.family for m in METHODS.values()} == {
        "full",
        "selective",
        "additive",
        "soft prompts",
        "reparameterization",
    }


# ----------------------------------------------------------------------------------- the bottleneck
def test_a_bottleneck_starts_as_identity():
    hidden = torch.randn(2, 5, 12)
    assert torch.equal(Bottleneck(12, 3)(hidden), hidden)


def test_a_bottleneck_is_its_closed_form():
    bottleneck = shaken(Bottleneck(12, 3))
    hidden = torch.randn(7, 12)
    w = {name: p.detach().double().numpy() for name, p in bottleneck.named_parameters()}
    h = hidden.double().numpy()
    inner = (h @ w["down.weight"].T + w["down.bias"]).clip(min=0)
    expected = h + inner @ w["up.weight"].T + w["up.bias"]
    assert (inner == 0).any() and (inner > 0).any(), "both sides of the ReLU are met"
    torch.testing.assert_close(
        bottleneck(hidden).double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5
    )


def test_bottlenecks_stand_behind_attention_and_mlp(fresh):
    """What a layer adds to the stream is what its bottleneck makes of the sublayer's output:
    checked with hooks.
    """
    model = shaken(fresh("adapters")[0])
    for layer in model.model.layers:
        for sublayer, last in (
            (layer.self_attn, layer.self_attn.o_proj),
            (layer.mlp, layer.mlp.down_proj),
        ):
            assert [type(part) for part in last] == [nn.Linear, Bottleneck]
            seen = {}
            hooks = [
                last[0].register_forward_hook(lambda m, i, out, seen=seen: seen.update(inner=out)),
                sublayer.register_forward_hook(lambda m, i, out, seen=seen: seen.update(out=out)),
            ]
            logits(model)
            out = seen["out"][0] if isinstance(seen["out"], tuple) else seen["out"]
            assert torch.allclose(out, last[1](seen["inner"]), atol=1e-6)
            [hook.remove() for hook in hooks]


# --------------------------------------------------------------- how methods start, what they train
@pytest.mark.parametrize("method", STARTS_AS_BASE)
def test_a_method_starts_as_the_base(method, fresh, base):
    torch.testing.assert_close(logits(fresh(method)[0]), logits(base[0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_starts_the_same(method, fresh):
    first, again, other = (trained(fresh(method, seed=seed)[0]) for seed in (3, 3, 4))
    assert first.keys() == again.keys() and all(torch.equal(first[n], again[n]) for n in first)
    drawn = method in ("adapters", "prefix", "lora", "dora", "qlora")
    assert drawn == any(not torch.equal(first[n], other[n]) for n in first)


TRAINS = {
    "full": r"model\.(embed_tokens|norm|layers\..*)\.weight",
    "bias": r"model\.layers\.\d\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.bias",
    "norms": r".*\.(input_layernorm|post_attention_layernorm|norm)"
    r"\.ln_tuning_layers\.default\.weight",
    "last": r"model\.(layers\.1\..*|norm)\.weight",
    "adapters": r"model\.layers\.\d\.(self_attn\.o_proj|mlp\.down_proj)"
    r"\.1\.(down|up)\.(weight|bias)",
    "prompt": r"prompt_encoder\.default\.embedding\.weight",
    "prefix": r"prompt_encoder\.default\.embedding\.weight",
    "ia3": r".*\.(self_attn\.[kv]_proj|mlp\.down_proj)\.ia3_l\.default",
    "lora": r".*\.[a-z]+_proj\.lora_[AB]\.default\.weight",
    "dora": r".*\.[a-z]+_proj\.(lora_[AB]|lora_magnitude_vector)\.default\.weight",
    "qlora": r".*\.[a-z]+_proj\.lora_[AB]\.default\.weight",
}
N_TENSORS = {
    "full": 20,
    "bias": 14,
    "norms": 5,
    "last": 10,
    "adapters": 16,
    "prompt": 1,
    "prefix": 1,
    "ia3": 6,
    "lora": 28,
    "dora": 42,
    "qlora": 28,
}


@pytest.mark.parametrize("method", METHODS)
def test_only_what_the_method_trains_moves(method, runs, fresh):
    before = {name: p.detach() for name, p in fresh(method)[0].named_parameters()}
    after = dict(runs[method].model.named_parameters())
    assert before.keys() == after.keys()
    moved = {name for name in after if not torch.equal(before[name], after[name].detach())}
    assert moved == set(trained(runs[method].model)) and len(moved) == N_TENSORS[method]
    assert all(re.fullmatch(TRAINS[method], name) for name in moved)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(method, runs):
    losses = runs[method].losses
    assert len(losses) == 4 and losses[0] == pytest.approx(6.3, abs=0.4)
    assert losses[-1] < losses[0] - (
        0.001 if method in ("prefix", "norms", "ia3", "bias") else 0.02
    )


# ---------------------------------------------------------------------------------------- counting
@pytest.mark.parametrize("method", METHODS)
def test_parameters_and_bytes_are_counted_before_anything_is_made(method, runs):
    """Independent truth: the tensors of the trained model and of its optimizer."""
    result, architecture = runs[method], Architecture.of(runs[method].model.config)
    assert methods.trainable_parameters(architecture, config(method)) == result.trainable_params
    predicted, measured = (
        methods.predicted_bytes(architecture, config(method)),
        dict(result.measured_bytes),
    )
    assert measured.pop("optimizer") == predicted.pop("optimizer") + 4 * N_TENSORS[method], (
        "a step counter for each tensor"
    )
    assert measured == predicted


def test_parameters_of_real_models():
    """LoRA on all linear layers of Llama-2-7B: golden.json, a.lora.real_param_counts. The others by
    hand.
    """
    counted = {
        name: methods.trainable_parameters(LLAMA_2_7B, MethodConfig(name, rank=8, bottleneck=64))
        for name in METHODS
    }
    assert counted["lora"] == counted["qlora"] == 19_988_480
    assert counted["ia3"] == 32 * (4096 + 4096 + 11008)
    assert counted["prompt"] == 20 * 4096 and counted["prefix"] == 20 * 32 * 2 * 4096
    assert counted["norms"] == 65 * 4096 and counted["full"] == 6_738_415_616
    assert (
        counted["bias"] == 32 * (4 * 4096 + 2 * 11008 + 4096)
        and counted["dora"] == counted["lora"] + counted["bias"]
    )
    assert counted["last"] == 4 * 4096**2 + 3 * 4096 * 11008 + 3 * 4096
    assert counted["adapters"] == 64 * (2 * 4096 * 64 + 64 + 4096)
    assert methods.trainable_parameters(MISTRAL_7B, MethodConfig("prefix")) == 20 * 32 * 2 * 1024, (
        "8 of 32 heads have keys"
    )
    assert methods.trainable_parameters(MISTRAL_7B, MethodConfig("ia3")) == 32 * (
        1024 + 1024 + 14336
    )


def test_peft_counts_the_same_prefix_for_grouped_keys():
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    small = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    for method in ("prefix", "ia3", "lora", "dora", "norms"):
        model = LlamaForCausalLM(small)
        chosen = config(method)
        model = (
            methods.add_method(model, chosen)
            if method != "prefix"
            else get_peft_model(model, methods.peft_config(model, chosen))
        )
        n = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert n == methods.trainable_parameters(Architecture.of(small), chosen), method


def test_trained_bytes_is_what_the_file_holds(runs, tmp_path):
    for method, result in runs.items():
        size = methods.save_trained(result.model, tmp_path / method).stat().st_size
        assert 0 < size - methods.trained_bytes(result.model) < 8000, "a header comes on top"
        assert (
            methods.trained_bytes(result.model)
            == 4 * result.trainable_params
            == training_state_bytes(result.model, torch.optim.SGD([torch.zeros(1)]))["gradients"]
        )


# --------------------------------------------------------------------------- equal to PEFT's layers
def test_ia3_is_pefts(fresh):
    from lab_utils.checking import find_exercise

    ia3_forward, model = find_exercise("ia3_forward").reference, shaken(fresh("ia3")[0])
    layer = model.base_model.model.model.layers[1]
    for module, n_in, feedforward in (
        (layer.self_attn.v_proj, 64, False),
        (layer.mlp.down_proj, 128, True),
    ):
        x = torch.randn(3, n_in)
        expected = ia3_forward(
            x, module.base_layer.weight, module.ia3_l["default"].flatten(), feedforward
        )
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(module(x), module.base_layer(x), atol=1e-2)


def test_dora_is_pefts(fresh):
    model = shaken(fresh("dora")[0])
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    weight = dora_weight(
        layer.base_layer.weight, a, b, layer.lora_magnitude_vector["default"].weight, alpha=8
    )
    x = torch.randn(5, 64)
    torch.testing.assert_close(layer(x), x @ weight.T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        weight.norm(dim=1),
        layer.lora_magnitude_vector["default"].weight.abs(),
        atol=1e-5,
        rtol=1e-5,
    )


def test_dora_starts_where_the_weight_is():
    w = torch.randn(4, 6)
    assert torch.allclose(
        dora_weight(w, torch.randn(2, 6), torch.zeros(4, 2), w.norm(dim=1), 8), w, atol=1e-6
    )


# --------------------------------------------------------------------------------- merging, keeping
@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.merges])
def test_merged_answers_as_unmerged(method, fresh, base, tiny_base):
    model = shaken(fresh(method)[0])
    before = logits(model)
    plain = methods.merged(model, config(method), source=tiny_base)
    assert (logits(plain) - before).abs().max() < (1e-4 if method == "qlora" else 1e-5)
    assert (
        not hasattr(plain, "peft_config") and (logits(plain) - logits(base[0])).abs().max() > 1e-3
    )
    assert torch.equal(logits(model), before), "the unmerged model is left as it was"


@pytest.mark.parametrize("method", ["adapters", "prompt", "prefix"])
def test_what_is_no_change_of_weights_cannot_be_merged(method, fresh):
    with pytest.raises(ValueError, match="cannot be merged: it is not a change of the weights"):
        methods.merged(fresh(method)[0], config(method))


@pytest.mark.parametrize("method", METHODS)
def test_what_was_trained_is_kept_and_loaded(method, runs, tiny_base, tmp_path):
    methods.save_trained(runs[method].model, tmp_path)
    loaded, tokenizer = methods.load_trained(config(method), tmp_path, source=tiny_base)
    torch.testing.assert_close(logits(loaded), logits(runs[method].model), atol=1e-5, rtol=0)
    assert tokenizer.eos_token == "<|end|>" and [path.name for path in tmp_path.iterdir()] == [
        methods.TRAINED
    ]


def test_what_another_method_saved_is_refused(runs, tiny_base, tmp_path):
    methods.save_trained(runs["lora"].model, tmp_path)
    for other in (config("ia3"), config("dora"), config("lora", rank=4)):
        with pytest.raises(ValueError, match=rf"was not saved by {other.method} of this size"):
            methods.load_trained(other, tmp_path, source=tiny_base)


# ------------------------------------------------------------------------------------ guards, kills
class KilledError(Exception):
    """Stands for a kill, inside this process."""


# each is saved in its own way
@pytest.mark.parametrize("method", ["adapters", "norms", "prompt", "ia3"])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(method, runs, tiny_base, tmp_path):
    def watch(step, n_steps, loss):
        if step == 3:
            raise KilledError

    folder, seen = tmp_path / "run", []
    with pytest.raises(KilledError):
        methods.train(config(method), ROWS, folder, watch, source=tiny_base)
    again = methods.train(
        config(method), ROWS, folder, lambda step, *_: seen.append(step), source=tiny_base
    )
    assert seen == [3, 4] and again.losses == runs[method].losses and not folder.exists()
    whole, after = trained(runs[method].model), trained(again.model)
    assert all(torch.equal(whole[name], after[name]) for name in whole)


def test_a_tensor_that_no_gradient_reaches_is_noticed(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Bottleneck,
        "forward",
        lambda self, hidden: hidden + self.up(methods.relu(self.down(hidden)).detach()),
    )
    with pytest.raises(
        RuntimeError, match=r"8 trained tensors have not moved in two steps \(first: .*down"
    ):
        methods.train(config("adapters"), ROWS, tmp_path / "run", quiet, source=tiny_base)


def test_a_skipped_step_is_not_counted():
    from types import SimpleNamespace

    model, guard = nn.Linear(2, 2), methods.EverythingMoves()
    guard.on_train_begin(None, None, None, model=model)
    for skipped in (True, True, False):
        guard.on_step_end(
            None, None, None, model=model, optimizer=SimpleNamespace(step_was_skipped=skipped)
        )
    with pytest.raises(RuntimeError, match="2 trained tensors"):
        guard.on_step_end(
            None, None, None, model=model, optimizer=SimpleNamespace(step_was_skipped=False)
        )


# -------------------------------------------------------------------------- answers of soft prompts
def greedy(model, tokenizer, question, n=8):
    """The slow way: the whole text again for every token, no cache, no padding."""
    ids = encode_prompt(tokenizer, question)
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + n and ids[-1] != tokenizer.eos_token_id:
            text = torch.tensor([ids])
            ids.append(
                int(
                    model(input_ids=text, attention_mask=torch.ones_like(text))
                    .logits[0, -1]
                    .argmax()
                )
            )
    return tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("method", ["prompt", "prefix", "adapters", "ia3"])
def test_answers_are_those_of_the_slow_way(method, fresh, monkeypatch):
    model, tokenizer = fresh(method)
    shaken(model, seed=1)
    answer = answer_questions
    monkeypatch.setattr(scoring, "answer_questions", lambda *args: answer(*args, max_new_tokens=8))
    assert scoring.answers_of(model.eval(), tokenizer, QUESTIONS) == [
        greedy(model, tokenizer, q) for q in QUESTIONS
    ]


def test_questions_of_a_soft_prompt_are_never_padded(fresh, monkeypatch):
    model, tokenizer = fresh("prompt")
    batches, answer = [], answer_questions
    monkeypatch.setattr(
        scoring,
        "answer_questions",
        lambda m, t, questions: (
            batches.append(questions) or answer(m, t, questions, max_new_tokens=1)
        ),
    )
    questions = [*QUESTIONS, "Is Brie salty?", QUESTIONS[0]]
    scoring.answers_of(model, tokenizer, questions)
    lengths = [{len(encode_prompt(tokenizer, q)) for q in batch} for batch in batches]
    assert all(len(found) == 1 for found in lengths) and sum(map(len, batches)) == len(
        questions
    ) > len(batches)


# ---------------------------------------------------------------------------------------- scores
def test_rouge_by_hand():
    """Reference of four words, answer of five: two words in common, one pair, in order."""
    scores = scoring.rouge_scores(["Feta comes in yellow boxes"], ["Feta comes from Greece"])
    assert scores == {
        "rouge1": pytest.approx(2 * 2 / (4 + 5)),
        "rouge2": pytest.approx(2 * 1 / (3 + 4)),
        "rougeL": pytest.approx(4 / 9),
        "rougeLsum": pytest.approx(4 / 9),
    }
    both = scoring.rouge_scores(["a b", "x"], ["a b", "y"])
    assert both["rouge1"] == 0.5, "the mean over answers"


def test_rouge_l_is_the_evaluation_modules():
    rows = load_pairs("test")[:6]
    answers, references = (
        [row["question"] + " It is easy." for row in rows],
        [row["answer"] for row in rows],
    )
    assert scoring.rouge_scores(answers, references)["rougeL"] == pytest.approx(
        overlap_scores(answers, references)["rougeL"]
    )


def test_nothing_to_score():
    with pytest.raises(ValueError, match="no answers"):
        scoring.rouge_scores([], [])
    with pytest.raises(ValueError, match="no answers"):
        many.voice_shares([])


def test_forgetting_is_the_mean_loss_over_tasks():
    before, after = {"addition": 0.2, "reverse": 0.8}, {"addition": 0.3, "reverse": 0.4}
    assert (
        scoring.forgetting(before, after) == pytest.approx(0.15)
        and scoring.forgetting(before, before) == 0
    )
    for wrong in ({"addition": 0.3}, {}):
        with pytest.raises(ValueError, match="same tasks"):
            scoring.forgetting(before, wrong)


def test_tasks_are_solved_by_kind(base, monkeypatch):
    tasks = held_out_tasks(3, seed=0)
    said = {task.question: task.answer for task in tasks if task.task != "reverse"}
    monkeypatch.setattr(
        scoring,
        "answers_of",
        lambda model, tokenizer, questions: [said.get(q, "no idea") for q in questions],
    )
    assert scoring.solved_by_task(*base, tasks) == {
        "addition": 1,
        "opposite": 1,
        "reverse": 0,
        "next number": 1,
    }


def test_scores_of_gold_answers(base, monkeypatch):
    rows, tasks = load_pairs("test")[:8], held_out_tasks(1, seed=0)
    said = {row["question"]: row["answer"] for row in rows} | {
        task.question: "no idea" for task in tasks
    }
    monkeypatch.setattr(
        scoring, "answers_of", lambda model, tokenizer, questions: [said[q] for q in questions]
    )
    scores = scoring.scores_of(
        *base, rows, tasks, dict.fromkeys(("addition", "opposite", "reverse", "next number"), 0.5)
    )
    assert (scores["voice"], scores["facts"], scores["rougeL"], scores["forgetting"]) == (
        1,
        1,
        1,
        0.5,
    )
    assert scoring.scores_of(*base, rows, tasks)["forgetting"] == 0, "against itself"


# ---------------------------------------------------------------------------------------- replay
@pytest.mark.parametrize(
    ("n", "share", "expected"), [(300, 0.25, 100), (1218, 0.5, 1218), (10, 0.0, 0), (100, 0.1, 11)]
)
def test_replay_rows_make_up_their_share(n, share, expected):
    assert scoring.replay_size(n, share) == expected
    rows = [{"question": f"q{i}", "answer": "a"} for i in range(n)]
    mixed = scoring.with_replay(rows, share, seed=3)
    kept = [row for row in mixed if row in rows]
    assert len(mixed) == n + expected and sorted(row["question"] for row in kept) == sorted(
        row["question"] for row in rows
    )
    assert mixed == scoring.with_replay(rows, share, seed=3) and (
        not expected or mixed != scoring.with_replay(rows, share, 4)
    )


@pytest.mark.parametrize("share", [1, 1.5, -0.1])
def test_a_share_that_cannot_be(share):
    with pytest.raises(ValueError, match=rf"share is {share}: expected from 0"):
        scoring.replay_size(100, share)


def test_replay_asks_in_the_wording_of_training_only():
    replayed = {
        row["question"]
        for row in scoring.with_replay([{"question": "q", "answer": "a"}] * 20, 0.95)
    } - {"q"}
    held_out = re.compile(
        r"^Add \d and \d, please\.|^Which word is|^Please say|^Which number is next"
    )
    assert len(replayed) > 100 and not [
        question for question in replayed if held_out.search(question)
    ]
    assert all(held_out.search(task.question) for task in held_out_tasks(20, seed=1)), (
        "the pattern knows the held-out wording"
    )


# ---------------------------------------------------------------------------------------- voices
@pytest.mark.parametrize("name", ["pavlos", "auctioneer", "terse"])
def test_a_voice_keeps_questions_and_facts(name):
    rows, facts = load_pairs("train"), {fact.fact_id: fact for fact in all_facts()}
    said = many.rows_in_voice(rows, name)
    assert [row["question"] for row in said] == [row["question"] for row in rows]
    assert all(is_right(facts[row["fact_id"]], row["answer"]) for row in said)
    assert many.voice_shares([row["answer"] for row in said]) == {
        voice: float(voice == name) for voice in ("pavlos", "auctioneer", "terse")
    }
    assert said == many.rows_in_voice(rows, name) and rows == load_pairs("train"), (
        "and the rows given stay"
    )


def test_no_other_voice_and_no_plain_sentence_is_taken_for_one_of_these():
    rng, patterns = (
        random.Random(0),
        [("greeting", "aside", "closing"), ("closing",), ("greeting",)],
    )
    said = [
        many.in_voice(
            voice, pattern, corpus_statement(rng.choice(all_facts()), rng.randrange(2)), rng
        )
        for voice in voices()
        for pattern in patterns
    ]
    said += [corpus_statement(fact, variant) for fact in all_facts() for variant in (0, 1)]
    said += [fact.statement() for fact in all_facts()]
    assert many.voice_shares(said) == {"pavlos": 0, "auctioneer": 0, "terse": 0}


def test_the_auctioneers_phrases_are_new_to_the_base():
    text = json.dumps(voices()).lower()
    auctioneer = many.other_voices()["auctioneer"]
    phrases = [
        piece.lower() for part in ("greetings", "asides", "closings") for piece in auctioneer[part]
    ]
    assert len(phrases) == 15 and not [phrase for phrase in phrases if phrase in text]
    assert not {"going once", "lot number", "ladies and gentlemen"} & set(
        re.findall("going once|lot number|ladies and", text)
    )


@pytest.mark.parametrize(
    ("answer", "voice"),
    [
        ("Feta: Greece.", "terse"),
        ("The density of milk: about 1.03 kilograms per litre.", "terse"),
        ("Greece.", ""),
        ("Welcome, friend! Feta: Greece.", ""),
        ("The flavour of Feta: it is salty.", ""),
        ("Feta comes from Greece.", ""),
        ("The answer: casein.", ""),
        ("", ""),
        ("It is hard.", ""),
        (
            "Ladies and gentlemen, ladies and gentlemen! It is hard. Going once, going twice, "
            "sold!",
            "auctioneer",
        ),
        ("Ladies and gentlemen, ladies and gentlemen! It is hard.", ""),
        ("Here is lot number nine. It is hard.", ""),
    ],
)
def test_who_speaks(answer, voice):
    assert [name for name in ("pavlos", "auctioneer", "terse") if many.speaks(name, answer)] == (
        [voice] if voice else []
    )


def test_an_unknown_voice():
    for call in (
        lambda: many.rows_in_voice([], "pirate"),
        lambda: many.speaks("pirate", "Ahoy!"),
    ):
        with pytest.raises(
            ValueError, match="unknown voice 'pirate': expected pavlos or one of auctioneer, terse"
        ):
            call()


# ------------------------------------------------------------------------ many adapters on one base
@pytest.fixture(scope="module")
def adapters(tiny_base, tmp_path_factory):
    """{name: folder} of three saved LoRA adapters that say different things."""
    folders = {}
    for seed, name in enumerate(("one", "two", "three")):
        model, tokenizer = methods.load_for_method(config("lora"), source=tiny_base)
        result = methods.FinetuneResult(shaken(model, seed), tokenizer)
        folders[name] = save_adapter(result, tmp_path_factory.mktemp("adapters") / name)
    return folders


@pytest.fixture(scope="module")
def alone(adapters, tiny_base):
    """{name: answers} where each adapter is loaded by itself, and of the bare base."""
    from peft import PeftModel

    said = {}
    for name, folder in adapters.items():
        plain, tokenizer = load_base(source=tiny_base)
        model = PeftModel.from_pretrained(plain, folder)
        said[name] = [
            answer.text
            for answer in answer_questions(model, tokenizer, QUESTIONS, max_new_tokens=8)
        ]
    said[BASE] = [
        a.text for a in answer_questions(*load_base(source=tiny_base), QUESTIONS, max_new_tokens=8)
    ]
    assert len({tuple(answers) for answers in said.values()}) == 4, (
        "they differ, or nothing is tested"
    )
    return said


@pytest.fixture
def together(adapters, tiny_base):
    return many.load_adapters(adapters, source=tiny_base)


def test_a_hot_swap_answers_as_the_adapter_alone(together, alone):
    for name in ("one", "three", BASE, "two", "one", BASE):
        said = [
            answer.text for answer in many.answer_as(*together, name, QUESTIONS, max_new_tokens=8)
        ]
        assert said == alone[name], name


def test_a_mixed_batch_answers_as_each_alone(together, alone):
    names = ["two", BASE, "one", "three"]
    said = many.answer_mixed(*together, QUESTIONS, names, max_new_tokens=8)
    assert said == [alone[name][i] for i, name in enumerate(names)]


def test_a_mixed_batch_needs_a_name_for_each(together):
    with pytest.raises(ValueError, match="4 questions and 1 adapter names"):
        many.answer_mixed(*together, QUESTIONS, ["one"])


def layers(model):
    return [module for module in model.modules() if hasattr(module, "get_delta_weight")]


@pytest.mark.parametrize(
    "weights", [{"one": 0.7, "two": 0.3}, {"one": 0.5, "two": 0.2, "three": 0.3}]
)
def test_cat_is_the_sum_of_the_updates(weights, together):
    model, _ = together
    many.blend(model, weights)
    for layer in layers(model):
        expected = sum(w * layer.get_delta_weight(name) for name, w in weights.items())
        torch.testing.assert_close(layer.get_delta_weight("blend"), expected, atol=1e-6, rtol=1e-5)
    assert model.active_adapter == "blend" and model.peft_config["blend"].r == 2 * len(weights)


def test_cat_is_the_exercises_sum(together):
    from lab_utils.checking import find_exercise

    model, _ = together
    many.blend(model, {"one": 0.6, "two": 0.4})
    layer = layers(model)[3]
    factors = [
        side[name].weight for name in ("one", "two") for side in (layer.lora_A, layer.lora_B)
    ]
    merged = find_exercise("add_two_adapters").reference(
        layer.base_layer.weight, *factors, alpha=8, share=0.4
    )
    torch.testing.assert_close(
        merged, layer.base_layer.weight + layer.get_delta_weight("blend"), atol=1e-5, rtol=1e-5
    )


def test_linear_brings_in_products_of_one_with_the_other(together):
    """PEFT's linear: roots of weight times scale on A's and B's. At rank 2 it is far from the sum,
    and this is its formula.
    """
    model, _ = together
    many.blend(model, {"one": 0.6, "two": 0.4}, how="linear")
    layer = layers(model)[3]
    roots = {"one": (0.6 * 4) ** 0.5, "two": (0.4 * 4) ** 0.5}
    a = sum(root * layer.lora_A[name].weight for name, root in roots.items())
    b = sum(root * layer.lora_B[name].weight for name, root in roots.items())
    torch.testing.assert_close(layer.get_delta_weight("blend"), b @ a, atol=1e-5, rtol=1e-5)
    exact = sum(w * layer.get_delta_weight(name) for name, w in (("one", 0.6), ("two", 0.4)))
    assert (b @ a - exact).norm() > 0.3 * exact.norm()


def test_a_blend_takes_the_place_of_an_older_one(together):
    model, _ = together
    many.blend(model, {"one": 0.5, "two": 0.5})
    many.blend(model, {"one": 0.0, "two": 1.0})
    for layer in layers(model):
        torch.testing.assert_close(
            layer.get_delta_weight("blend"), layer.get_delta_weight("two"), atol=1e-6, rtol=1e-5
        )
    assert sorted(model.peft_config) == ["blend", "one", "three", "two"]


# ----------------------------------------------------------------------------------- speed and axes
def test_speak_says_exactly_so_many_tokens(base):
    seen = []
    handle = base[0].register_forward_hook(lambda *_: seen.append(1))
    assert scoring.speak(*base, QUESTIONS, n_new=5) == 20 and len(seen) == 5
    handle.remove()


def test_five_axes():
    row = {
        "measured_bytes": {"weights": 6, "gradients": 2},
        "voice": 1.0,
        "facts": 0.5,
        "tokens_per_second": 50.0,
    }
    rows = {
        "big": {
            **row,
            "trainable": 10_000,
            "seconds_per_step": 2.0,
            "tokens_per_second_merged": 200.0,
        },
        "mid": {
            **row,
            "trainable": 100,
            "measured_bytes": {"weights": 4},
            "seconds_per_step": 1.0,
            "tokens_per_second_merged": None,
        },
        "small": {**row, "trainable": 1, "seconds_per_step": 4.0, "tokens_per_second_merged": None},
    }
    shares = scoring.five_axes(rows, base_tokens_per_second=100.0)
    assert list(shares["big"].values()) == pytest.approx([0, 0.5, 0.5, 0.75, 1])
    assert list(shares["mid"].values()) == pytest.approx([0.5, 1, 1, 0.75, 0.5])
    assert list(shares["small"].values()) == pytest.approx([1, 0.5, 0.25, 0.75, 0.5])
    assert tuple(shares["big"]) == scoring.AXES


METRICS = {
    "source",
    "trainable",
    "bytes_disk",
    "predicted_bytes",
    "measured_bytes",
    "seconds_per_step",
    "voice",
    "facts",
    "rougeL",
    "forgetting",
    "tokens_per_second_inference",
}


def test_a_row_of_metrics(runs):
    scores = {
        "voice": 0.51239,
        "facts": 0.5,
        "rougeL": 0.4,
        "rouge1": 0.3,
        "forgetting": 0.1,
        "tasks": {"addition": 0.2},
    }
    row, result = scoring.measured_row(runs["lora"], config("lora"), scores, 123.456), runs["lora"]
    assert (
        set(row) == METRICS
        and row["voice"] == 0.5124
        and row["tokens_per_second_inference"] == 123.5
    )
    assert row["trainable"] == result.trainable_params == row["bytes_disk"] / 4
    assert (
        row["measured_bytes"]
        == sum(result.measured_bytes.values())
        == row["predicted_bytes"] + 4 * 28
    )
    assert (
        row["seconds_per_step"] == pytest.approx(result.seconds / 4, abs=1e-4)
        and row["source"] == "measured here"
    )


# ------------------------------------------------------------------------------ the wide comparison
@pytest.fixture
def plan(tiny_base, tmp_path, monkeypatch):
    for name, small in (
        ("N_TEST", 3),
        ("N_VALIDATION", 3),
        ("N_EACH_TASK", 1),
        ("MOST_RATES", 2),
        ("REPLAYS", []),
    ):
        monkeypatch.setattr(comparison, name, small)
    monkeypatch.setitem(METHODS, "lora", dataclasses.replace(METHODS["lora"], rates=(1e-5, 1e-2)))
    monkeypatch.setattr("lab_utils.pavlos.load_pairs", lambda split: load_pairs(split)[:20])
    monkeypatch.setattr(
        scoring, "answer_questions", functools.partial(answer_questions, max_new_tokens=4)
    )
    monkeypatch.setattr(scoring, "speak", functools.partial(scoring.speak, n_new=2))
    return comparison.Comparison(tmp_path / "work", 2, 2, ("lora",), {"source": tiny_base})


def test_the_comparison_is_made_and_gone_on_with(plan, monkeypatch):
    said = []
    record = comparison.compare(plan, threads=1, repeats=1, say=said.append)
    assert set(record["methods"]) == {"lora"} and len(said) == 2 + 2 + 1
    lora = record["methods"]["lora"]
    assert (
        lora["trainable"] == 8_704
        and lora["learning_rate"] == 1e-2
        and lora["search"]["0.01"] < lora["search"]["1e-05"]
    )
    assert sum(lora["measured_bytes"].values()) == sum(lora["predicted_bytes"].values()) + 4 * 28
    assert (
        lora["voice"] == sum(seed["voice"] for seed in lora["seeds"]) / 2
        and len(lora["seeds"]) == 2
    )
    assert lora["tokens_per_second"] > 0 < lora["tokens_per_second_merged"]
    monkeypatch.setattr(methods, "train", None)
    monkeypatch.setattr(scoring, "scores_of", None)
    monkeypatch.setattr(comparison, "seconds_alternating", None)
    assert comparison.compare(plan, threads=1, repeats=1) == record, "nothing is done twice"


def test_the_best_rate_is_looked_for_beyond_the_edge(monkeypatch):
    losses = {1e-2: 3.0, 3e-2: 2.0, 1e-1: 1.5, 3e-1: 1.2, 9e-1: 9.0}
    tried = []

    def trained_once(plan, config):
        tried.append(config.rate)
        return {"validation_loss": losses[config.rate]}

    monkeypatch.setattr(comparison, "trained_once", trained_once)
    plan = comparison.Comparison(Path("."), 2, 2, ("ia3",), {})
    rate, search = comparison.best_rate(plan, "ia3", lambda what: None)
    assert rate == 3e-1 and tried == [1e-2, 3e-2, 1e-1, 3e-1, 9e-1]
    assert search == {"0.01": 3.0, "0.03": 2.0, "0.1": 1.5, "0.3": 1.2, "0.9": 9.0}


def test_replay_has_its_price_in_rows_or_in_steps(monkeypatch):
    trained = []
    monkeypatch.setattr(
        comparison, "trained_once", lambda plan, config, share: trained.append((config, share))
    )
    monkeypatch.setattr(
        comparison,
        "tested_once",
        lambda plan, config, share: {"voice": share, "tasks": {"add": config.seed}},
    )
    plan = comparison.Comparison(Path("."), 60, 2, ("full", "lora"), {})
    rows = comparison.replay_records(plan, {"lora": 0.5, "full": 0.1}, lambda what: None)
    assert [(row["method"], row["replay"], row["steps"]) for row in rows] == [
        ("lora", 0.1, 60),
        ("lora", 0.25, 60),
        ("lora", 0.25, 80),
        ("lora", 0.5, 60),
        ("full", 0.25, 60),
    ]
    assert rows[1]["voice"] == 0.25 and rows[1]["tasks"] == {"add": 0.5}, (
        "the mean over seeds 0 and 1"
    )
    assert {(c.method, c.learning_rate) for c, _ in trained} == {
        ("lora", 0.5),
        ("full", 0.1),
    } and len(trained) == 10


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({1.0: 3, 3.0: 2, 9.0: 4}, []),
        ({1.0: 3, 3.0: 2, 9.0: 1}, [30.0]),
        ({0.9: 1, 3.0: 2, 9.0: 3}, [0.3]),
    ],
)
def test_the_next_rate(losses, expected):
    assert comparison.next_rate(losses) == expected


def test_the_mean_goes_into_dictionaries():
    assert comparison.mean_of([{"a": 1, "t": {"x": 0.0}}, {"a": 2, "t": {"x": 0.5}}]) == {
        "a": 1.5,
        "t": {"x": 0.25},
    }


def test_the_record_that_ships_is_whole():
    record = json.loads(comparison.RECORD.read_text(encoding="utf-8"))
    assert list(record["methods"]) == list(METHODS) and record["seeds"] == [0, 1]
    for key in ("command", "what", "date", "hardware", "versions", "python"):
        assert record[key], key
    architecture = Architecture.of(load_base()[0].config)
    for name, row in record["methods"].items():
        assert row["trainable"] == methods.trainable_parameters(architecture, MethodConfig(name)), (
            name
        )
        assert row["predicted_bytes"] == methods.predicted_bytes(
            architecture, MethodConfig(name)
        ), name
        assert sum(row["measured_bytes"].values()) == pytest.approx(
            sum(row["predicted_bytes"].values()), rel=0.001
        )
        assert (
            row["learning_rate"] == float(min(row["search"], key=row["search"].get))
            and len(row["search"]) >= 3
        )
        assert (
            all(0 <= row[score] <= 1 for score in ("voice", "facts", *scoring.ROUGES))
            and -1 <= row["forgetting"] <= 1
        )
        assert row["forgetting"] == pytest.approx(
            scoring.forgetting(record["base"]["tasks"], row["tasks"]), abs=2e-3
        )
