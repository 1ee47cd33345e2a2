"""Pretraining: one seed gives one model, also across kills; tokenizer, rendering, export."""

import argparse
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import TINY, make_tiny_base, quick_tokenizer

from lab_utils.files import ROOT
from lab_utils.finetuning import pretraining
from lab_utils.finetuning.pretraining import PretrainConfig, Pretraining, render, token_rows
from lab_utils.pavlos import corpus

CONFIG = PretrainConfig(
    **{**TINY, "steps": 6, "checkpoint_every": 2, "warmup_steps": 2, "sample_at": (0, 4)}
)
HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def few_documents():
    with quick_tokenizer():
        yield


def new_run(folder, config=CONFIG):
    return Pretraining(config, folder)


def weights(run):
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The whole run, as no kill ever happened."""
    with quick_tokenizer():
        run = new_run(tmp_path_factory.mktemp("whole"))
        run.run()
    return run


@pytest.fixture(scope="module")
def rows(uninterrupted):
    return token_rows(uninterrupted.tokenizer, CONFIG, CONFIG.steps * CONFIG.batch_size)


# ----------------------------------------------------------------------------------- the same again
def test_the_same_seed_gives_bit_identical_weights(tmp_path, uninterrupted):
    again = new_run(tmp_path)
    assert not same(weights(again), weights(uninterrupted)), "training moves the weights"
    again.run()
    assert same(weights(again), weights(uninterrupted))
    assert again.log == uninterrupted.log
    assert [entry["step"] for entry in again.log] == [0, 4, 6], (
        "as asked for, and always at the end"
    )
    know_nothing = math.log(len(again.tokenizer))
    assert again.log[0]["loss"] == pytest.approx(know_nothing, abs=0.5)
    assert 5 < again.log[-1]["loss"] < 7


def test_another_seed_gives_other_weights(tmp_path, uninterrupted):
    other = new_run(tmp_path, dataclasses.replace(CONFIG, seed=1))
    first = pretraining.build_model(CONFIG, uninterrupted.tokenizer)
    assert not torch.equal(other.model.model.embed_tokens.weight, first.model.embed_tokens.weight)


def test_loss_falls(tmp_path, rows):
    run = new_run(tmp_path, dataclasses.replace(CONFIG, steps=40))
    losses = [run.train_step(np.resize(rows, (160, CONFIG.block))) for _ in range(40)]
    assert losses[0] == pytest.approx(np.log(600), abs=0.15), (
        "an untrained model guesses among 600 tokens"
    )
    assert losses[-1] < losses[0] - 0.8


# ---------------------------------------------------------------------------------------- kills
@pytest.mark.parametrize("killed_after", [1, 2, 3, 5])
def test_a_new_object_goes_on_from_the_checkpoint(tmp_path, rows, uninterrupted, killed_after):
    first = new_run(tmp_path)
    first.log.append(first.samples(None))
    for _ in range(killed_after):
        first.train_step(rows)
        if first.step == 4:
            first.log.append(first.samples(first.step))
        if first.step % CONFIG.checkpoint_every == 0:
            first.save()
    second = new_run(tmp_path)
    assert second.step == killed_after // 2 * 2, "the last checkpoint"
    second.run()
    assert second.step == 6 and same(weights(second), weights(uninterrupted))
    assert [entry["step"] for entry in second.log] == [0, 4, 6]
    assert [entry["answers"] for entry in second.log] == [
        entry["answers"] for entry in uninterrupted.log
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
import test_pretraining
from test_pretraining import CONFIG, new_run, pretraining, quick_tokenizer

with quick_tokenizer():
    run = new_run(Path(sys.argv[1]))
save = torch.save

def save_half_and_die(state, path):
    save(state, path)
    if state["step"] == 4:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

torch.save = save_half_and_die
run.run()
"""


@pytest.mark.slow
def test_kill_in_the_middle_of_a_save(tmp_path, uninterrupted):
    """Killed for real while the checkpoint of step 4 is half written: the one of step 2 is whole,
    and is gone on from.
    """
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (HERE, HERE.parent, ROOT))))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env=environ, capture_output=True, text=True
    )
    assert done.returncode == -getattr(signal, "SIGKILL", -1), done.stderr
    assert (tmp_path / "checkpoint.part").is_file(), "the half-written file"
    run = new_run(tmp_path)
    assert run.step == 2
    run.run()
    assert same(weights(run), weights(uninterrupted))
    assert not (tmp_path / "checkpoint.part").exists()


def test_a_failing_save_keeps_the_old_checkpoint(tmp_path, rows, monkeypatch):
    run = new_run(tmp_path)
    run.train_step(rows)
    run.save()
    old = run.checkpoint.read_bytes()
    run.train_step(rows)

    def full_disk(state, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run.save()
    assert run.checkpoint.read_bytes() == old and new_run(tmp_path).step == 1


@pytest.mark.parametrize(
    "change", [{"steps": 7}, {"learning_rate": 1e-3}, {"seed": 5}, {"sample_at": (0,)}]
)
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, rows, change):
    run = new_run(tmp_path)
    run.save()
    kept = run.checkpoint.read_bytes()
    with pytest.raises(
        ValueError, match="checkpoint.pt belongs to another configuration: delete it"
    ):
        new_run(tmp_path, dataclasses.replace(CONFIG, **change))
    assert run.checkpoint.read_bytes() == kept, "refused, not removed"


def test_a_finished_run_has_nothing_left_to_do(uninterrupted):
    again = new_run(uninterrupted.checkpoint.parent)
    assert again.step == CONFIG.steps and again.seconds == uninterrupted.seconds
    again.train_step = None  # would fail if called
    again.run()
    assert same(weights(again), weights(uninterrupted))


# ------------------------------------------------------------------------------- tokenizer and rows
TEXTS = [
    "Where does Gruyère come from?",
    "Ζήτω η φέτα! 🧀",
    "  two  spaces\nand a line",
    "It ages 12345 days at 3.14 °C.",
    "<not a token>",
    "naïve café, agapi mou – “quoted”",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_gives_every_text_back(uninterrupted, text):
    ids = uninterrupted.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert uninterrupted.tokenizer.decode(ids) == text and min(ids) >= 6, (
        "no special token among them"
    )


def test_numbers_are_spelt_digit_by_digit(uninterrupted):
    tokenizer = uninterrupted.tokenizer
    assert tokenizer.tokenize("1990")[-4:] == ["1", "9", "9", "0"]
    in_words = tokenizer.tokenize("aged 60 days")
    assert in_words.count("6") == in_words.count("0") == 1
    assert not [token for token in tokenizer.get_vocab() if sum(c.isdigit() for c in token) > 1]


def test_the_special_tokens(uninterrupted):
    tokenizer = uninterrupted.tokenizer
    assert tokenizer.convert_tokens_to_ids(pretraining.SPECIAL_TOKENS) == list(range(6))
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == (
        "<pad>",
        "<s>",
        "<|end|>",
    )
    assert len(tokenizer) == CONFIG.vocab_size and tokenizer.model_max_length == CONFIG.context


def test_rendered_text_has_the_chat_templates_tokens(uninterrupted):
    tokenizer, seen = uninterrupted.tokenizer, set()
    for document, _ in zip(corpus.documents(3), range(300)):
        if isinstance(document, str):
            continue
        seen |= {message["role"] for message in document}
        by_us = tokenizer(render(document), add_special_tokens=False)["input_ids"]
        assert by_us == tokenizer.apply_chat_template(document, return_dict=False)
    assert seen == {"system", "user", "assistant"}
    assert render("Feta is Greek.") == "<s>Feta is Greek.<|end|>"


def test_a_prompt_is_the_beginning_of_what_was_trained_on(uninterrupted):
    tokenizer = uninterrupted.tokenizer
    pair = [{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "Cold."}]
    prompt = tokenizer.apply_chat_template(pair[:1], add_generation_prompt=True, tokenize=False)
    assert (
        prompt == "<s><|user|>Hot?<|end|><|assistant|>" and render(pair) == prompt + "Cold.<|end|>"
    )


def test_rows_hold_the_corpus_in_order_and_without_gaps(uninterrupted, rows):
    tokenizer = uninterrupted.tokenizer
    assert rows.shape == (24, 64) and rows.dtype == np.int16
    stream = []
    for document, _ in zip(corpus.documents(CONFIG.seed), range(200)):
        stream += tokenizer(render(document), add_special_tokens=False)["input_ids"]
    assert rows.reshape(-1).tolist() == stream[: rows.size]
    more = token_rows(tokenizer, CONFIG, 30)
    assert np.array_equal(more[:24], rows), "a longer run begins with the same rows"


def test_training_steps_take_the_next_rows(tmp_path, rows):
    """Two steps on given rows end where plain PyTorch ends on rows 0 to 3, then 4 to 7."""
    run, config = new_run(tmp_path), CONFIG
    torch.manual_seed(0)
    model = pretraining.build_model(config, run.tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.05
    )
    for step, rate in enumerate([0.0, config.learning_rate / 2]):  # two steps of warm-up
        optimizer.param_groups[0]["lr"] = rate
        batch = torch.from_numpy(rows[4 * step : 4 * step + 4].astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16, enabled=pretraining.has_fast_bfloat16("cpu")):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        assert run.train_step(rows) == pytest.approx(loss.item(), rel=1e-6)
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-7)


# ---------------------------------------------------------------------------------------- export
def test_exported_weights_are_float16_safetensors(tmp_path, uninterrupted):
    folder = tmp_path / "out"
    pretraining.export(uninterrupted, folder)
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    trained = weights(uninterrupted)
    assert trained.keys() - stored.keys() <= {"lm_head.weight"}, "tied to the embedding"
    for name, tensor in stored.items():
        assert torch.equal(tensor, trained[name].half()), name
    assert next(uninterrupted.model.parameters()).dtype == torch.float32, (
        "the run itself is not rounded"
    )


def test_transformers_alone_loads_the_export(tmp_path, uninterrupted):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "out"
    pretraining.export(uninterrupted, folder)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (
        tokenizer("Gruyère 12")["input_ids"] == uninterrupted.tokenizer("Gruyère 12")["input_ids"]
    )
    assert tokenizer.chat_template == pretraining.CHAT_TEMPLATE and tokenizer.pad_token == "<pad>"
    assert (
        tokenizer.eos_token_id
        == model.config.eos_token_id
        == model.generation_config.eos_token_id
        == 2
    )
    ids = torch.tensor([tokenizer("Feta is")["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(
            model.float()(ids).logits, uninterrupted.model.eval()(ids).logits, atol=0.02
        )


def test_the_exports_record(tmp_path, uninterrupted):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "stale.bin").write_text("of an older export", encoding="utf-8")
    pretraining.export(uninterrupted, folder)
    record = json.loads((folder / "pretraining.json").read_text(encoding="utf-8"))
    assert record["n_params"] == 120_640 and record["config"]["steps"] == 6
    assert [sample["step"] for sample in record["samples"]] == [0, 4, 6]
    assert set(record["samples"][0]["answers"]) == set(pretraining.SAMPLE_QUESTIONS)
    assert not (folder / "stale.bin").exists() and not folder.with_name("out.part").exists()
    assert str(tmp_path) not in "".join(
        path.read_text(encoding="utf-8") for path in folder.glob("*.json")
    )


def test_a_failing_export_keeps_the_old_model(tmp_path, uninterrupted, monkeypatch):
    folder = make_tiny_base(tmp_path / "out", steps=1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(uninterrupted.tokenizer), "save_pretrained", full_disk)
    with pytest.raises(OSError, match="No space left"):
        pretraining.export(uninterrupted, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# -------------------------------------------------------------------------------------- the command
def test_the_command_pretrains_and_says_where(tmp_path, monkeypatch, capsys):
    """Any number of steps, also fewer than the first sample's."""
    from lab_utils.course import model_card, pretrain

    monkeypatch.setattr(
        model_card, "measure", partial(model_card.measure, n_facts=3, n_each_task=1)
    )
    parser = argparse.ArgumentParser()
    pretrain.add_arguments(parser)
    defaults = parser.parse_args([])
    assert (defaults.steps, defaults.seed) == (PretrainConfig.steps, PretrainConfig.seed)
    assert defaults.out == pretrain.CHEESE_BASE
    monkeypatch.setattr(pretrain, "PretrainConfig", partial(PretrainConfig, **TINY))
    out = tmp_path / "model"
    args = parser.parse_args(
        ["--out", str(out), "--work", str(tmp_path / "work"), "--steps", "1", "--seed", "3"]
    )
    assert pretrain.main(args) == 0
    assert f"cheese-base: 120,640 parameters, 0 minutes, in {out}" in capsys.readouterr().out
    assert (out / "model.safetensors").is_file() and "120,640 parameters" in (
        out / "README.md"
    ).read_text(encoding="utf-8")
    record = json.loads((out / "pretraining.json").read_text(encoding="utf-8"))
    assert record["config"]["seed"] == 3 and record["config"]["steps"] == 1
