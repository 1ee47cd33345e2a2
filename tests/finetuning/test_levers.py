"""Levers of speed: each changes what it says and nothing else, what is timed is counted right, and
all take turns.
"""

import dataclasses
import json
import time

import nbformat
import pytest
import torch

from lab_utils.files import DATA, ROOT
from lab_utils.finetuning import levers
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.levers import (
    COUNT_TOKENS,
    LEVERS,
    RECIPE,
    Lever,
    ablation,
    load_dequantized,
    speed_with,
)
from lab_utils.finetuning.training import FinetuneConfig, load_for_training, make_trainer

ROWS = [
    {"question": f"Where is cheese {i} from?", "answer": "From there. " * (1 + i % 7)}
    for i in range(60)
]
SMALL = dataclasses.replace(RECIPE, rank=4, batch_size=4)


def losses(tiny_base, folder, lever, monkeypatch, steps=3):
    """The losses of a run with one lever, taken where `speed_with` times them."""
    seen = []
    monkeypatch.setattr(levers, "RECIPE", SMALL)
    monkeypatch.setattr(
        levers,
        "tokens_per_second",
        lambda trainer: (
            trainer.train()
            and seen.extend(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
            or 1.0
        ),
    )
    speed_with(lever, ROWS, folder, steps, source=tiny_base)
    return seen


@pytest.mark.parametrize(
    "name", [name for name in LEVERS if name not in ("rows in random order", "bfloat16 arithmetic")]
)
def test_a_lever_changes_no_number(name, tiny_base, tmp_path, monkeypatch):
    """Tolerance 1e-4: sums in another order. The gradient of rows summed is divided by all their
    tokens, not row by row.
    """
    lever = LEVERS[name]
    if "batch_size" in lever.config:  # as many rows in a step as the small recipe has
        lever = dataclasses.replace(
            lever, arguments={"gradient_accumulation_steps": SMALL.batch_size}
        )
    expected = losses(tiny_base, tmp_path / "recipe", Lever(), monkeypatch)
    assert losses(tiny_base, tmp_path / "lever", lever, monkeypatch) == pytest.approx(
        expected, abs=1e-4
    )


def test_bfloat16_changes_the_losses_but_little(tiny_base, tmp_path, monkeypatch):
    """bfloat16 keeps 8 bits of a number, 0.4 %: of a loss of 6 that is 0.024, and errors of many
    terms average out.
    """
    expected = losses(tiny_base, tmp_path / "recipe", Lever(), monkeypatch)
    found = losses(tiny_base, tmp_path / "lever", LEVERS["bfloat16 arithmetic"], monkeypatch)
    assert found != expected and found == pytest.approx(expected, abs=0.03)


def test_one_thread_is_one_thread_and_only_for_this_lever(tiny_base, tmp_path, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(
        levers, "tokens_per_second", lambda trainer: seen.append(torch.get_num_threads()) or 1.0
    )
    try:
        # where the tests have a core each there would be nothing to restore
        torch.set_num_threads(2)
        for lever in (LEVERS["one thread"], Lever()):
            speed_with(lever, ROWS, tmp_path, 2, source=tiny_base)
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2]


def test_padding_reaches_the_length_that_was_asked_for(tiny_base, tmp_path, monkeypatch):
    widths = []
    monkeypatch.setattr(
        levers,
        "tokens_per_second",
        lambda trainer: (
            widths.extend(batch["input_ids"].shape[1] for batch in trainer.get_train_dataloader())
            or 1.0
        ),
    )
    speed_with(LEVERS["every row padded to 128 tokens"], ROWS, tmp_path, 2, source=tiny_base)
    assert set(widths) == {128}


def test_dequantized_once_there_is_no_4_bit_weight_left_and_the_numbers_are_qloras(tiny_base):
    config = dataclasses.replace(SMALL, method="qlora")
    dequantized, _ = load_dequantized(config, source=tiny_base)
    qlora, tokenizer = load_for_training(config, source=tiny_base)
    assert all(parameter.dtype == torch.float32 for parameter in dequantized.parameters())
    ids = torch.tensor([tokenizer("Where is Feta from?")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(dequantized(ids).logits, qlora(ids).logits, atol=1e-5, rtol=1e-5)
    full, _ = load_base(source=tiny_base)
    with torch.no_grad():
        assert (full(ids).logits - qlora(ids).logits).abs().max() > 1e-3, (
            "rounding to 4 bits can be seen"
        )


def test_the_clock_counts_tokens_without_padding_and_leaves_out_the_first_step(
    tiny_base, tmp_path, monkeypatch
):
    """A clock that runs a second at each look: every step takes one second, so tokens per second
    are tokens per step.
    """
    config, now = dataclasses.replace(SMALL, steps=4), iter(range(10_000))
    model, tokenizer = load_for_training(config, source=tiny_base)
    trainer = make_trainer(
        config, model, tokenizer, ROWS, tmp_path, "cpu", lambda *_: None, **COUNT_TOKENS
    )
    seen = []
    collate = trainer.data_collator
    trainer.data_collator = lambda pairs: (
        seen.append(sum(len(pair["input_ids"]) for pair in pairs)) or collate(pairs)
    )
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    clock = levers.StepClock()
    trainer.add_callback(clock)
    trainer.train()
    assert clock.tokens == seen[1:4] and len(clock.seconds) == 3


def test_a_trainer_that_counts_no_tokens_is_refused(tiny_base, tmp_path):
    config = dataclasses.replace(SMALL, steps=2, save_every=9)
    model, tokenizer = load_for_training(config, source=tiny_base)
    with pytest.raises(ValueError, match="COUNT_TOKENS"):
        levers.tokens_per_second(
            make_trainer(config, model, tokenizer, ROWS, tmp_path, "cpu", lambda *_: None)
        )


def test_the_ablation_times_every_lever_for_real(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(levers, "RECIPE", SMALL)
    chosen = {name: LEVERS[name] for name in ("the recipe of this lab", "activations checkpointed")}
    speeds = ablation(ROWS, tmp_path / "run", steps=2, rounds=1, levers=chosen, source=tiny_base)
    assert list(speeds) == list(chosen) and all(speed > 0 for speed in speeds.values())
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_the_recipe_is_lab_06s():
    lab = nbformat.read(next((ROOT / "labs").glob("06*.ipynb")), as_version=4)
    code = "\n".join(cell.source for cell in lab.cells if cell.cell_type == "code")
    assert 'FinetuneConfig(method="qlora", group_by_length=True)' in code
    assert RECIPE == FinetuneConfig(method="qlora", group_by_length=True)


@pytest.mark.parametrize("has_units", [True, False])
def test_bfloat16_is_tried_where_the_processor_has_units_for_it(has_units, monkeypatch):
    monkeypatch.setattr(levers, "has_fast_bfloat16", lambda device: has_units)
    assert ("bfloat16 arithmetic" in levers.levers_here()) is has_units
    assert len(levers.levers_here()) == len(LEVERS) - (not has_units)


def test_what_was_tried_says_where_and_against_what():
    """Ratios follow from the times; the first row is what the others are held against."""
    record = json.loads((DATA / "reference" / "levers_tried.json").read_text(encoding="utf-8"))
    first, *others = record["rows"]
    assert first["as_fast"] == 1 and record["versions"]["torch"] and record["machine"]
    assert others and all(row["found"] and row["ms"] > 0 for row in others)
    kept = [row for row in others if row["base"] == "cheese-base" and "floor" not in row["lever"]]
    assert all(row["as_fast"] < 1.05 for row in kept), "what pays is kept, and no longer listed"
    bench = json.loads((DATA / "reference" / "bench_finetune.json").read_text(encoding="utf-8"))
    recorded = {row["name"]: row["value"] for row in bench["measures"]}
    losses = record["loss_after_25_steps"]
    assert losses["ours, rows grouped by length"]["0"] == pytest.approx(
        recorded["ours, held-out loss"], abs=1e-4
    )
    assert losses["TRL SFTTrainer, in random order"]["0"] == pytest.approx(
        recorded["TRL SFTTrainer, held-out loss"], abs=1e-4
    )
