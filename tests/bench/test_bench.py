"""Benchmarks: they run, tell seconds and a ratio, and fail where results differ; two records are
compared.
"""

import argparse
import json
import shlex
import sys
import types

import pytest

import bench
from bench import Measure, Outcome, forgetting, starts
from bench import finetune as bench_finetune
from lab_utils.files import ROOT, LabKitError
from lab_utils.finetuning import levers, training
from lab_utils.finetuning.base_model import load_base
from lab_utils.quantization import buckets as quantization
from lab_utils.start import hardware


def run(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return bench.main(parser.parse_args([str(word) for word in words]))


def record(tmp_path, name, *measures, bench_name="quantization", machine=None):
    path = tmp_path / f"{name}.json"
    kept = {
        **bench.record_of(bench_name, Outcome(list(measures), "")),
        **({"machine": machine} if machine else {}),
    }
    path.write_text(json.dumps(kept))
    return path


def test_quantization_tells_seconds_ratio_and_difference(capsys, tmp_path):
    assert run("quantization", "--size", 128, "--repeats", 1, "--json", tmp_path / "new.json") == 0
    printed = capsys.readouterr().out
    for words in (
        "128 x 128",
        "quantize",
        "dequantize",
        "together",
        "largest difference of a weight: 0",
    ):
        assert words in printed
    kept = json.loads((tmp_path / "new.json").read_text())
    values = {row["name"]: row["value"] for row in kept["measures"]}
    assert values["together, ours / bitsandbytes"] == pytest.approx(
        values["together, ours"] / values["together, bitsandbytes"]
    )
    assert values["together, ours"] == pytest.approx(
        values["quantize, ours"] + values["dequantize, ours"]
    )
    assert kept["machine"]["torch"] and kept["machine"]["cpu"] and kept["problems"] == []


def test_quantization_fails_where_the_weights_differ(monkeypatch, capsys):
    right = quantization.dequantize_nf4
    monkeypatch.setattr(
        quantization, "dequantize_nf4", lambda *arguments: right(*arguments) * 1.0001
    )
    assert run("quantization", "--size", 128, "--repeats", 1) == 1
    assert "PROBLEM: ours and bitsandbytes' differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    "better, old, new, worse",
    [
        ("lower", 2.0, 2.19, False),
        ("lower", 2.0, 2.21, True),
        ("lower", 2.0, 0.1, False),
        ("higher", 2.0, 1.81, False),
        ("higher", 2.0, 1.79, True),
        ("higher", 2.0, 9.0, False),
        ("", 2.0, 90.0, False),
    ],
)
def test_worse_is_beyond_the_tolerance_in_the_bad_direction(
    tmp_path, capsys, better, old, new, worse
):
    paths = [
        record(tmp_path, name, Measure("x", value, "s", better))
        for name, value in (("old", old), ("new", new))
    ]
    assert run("--compare", *paths, "--tolerance", 0.1) == int(worse)
    row = capsys.readouterr().out.splitlines()[1]
    assert (
        row.split()[:4] == ["x", f"{old:.4g}", f"{new:.4g}", f"{new / old:.2f}"]
        and ("worse" in row) == worse
    )


def test_a_measure_that_is_gone_and_another_machine_are_named(tmp_path, capsys):
    old = record(
        tmp_path,
        "old",
        Measure("x", 1, "s"),
        Measure("y", 1, "s"),
        machine={"cpu": "slow", "torch": "1"},
    )
    new = record(tmp_path, "new", Measure("x", 1, "s"), machine={"cpu": "fast", "torch": "1"})
    assert run("--compare", old, new) == 1
    printed = capsys.readouterr().out
    assert "missing" in printed and "Not the same machine or versions (cpu)" in printed


def test_what_is_no_record_or_another_bench_is_refused(tmp_path):
    old = record(tmp_path, "old", Measure("x", 1, "s"))
    (tmp_path / "bad.json").write_text("[]")
    for other in (tmp_path / "bad.json", tmp_path / "none.json"):
        with pytest.raises(LabKitError, match="is no record of a benchmark"):
            run("--compare", old, other)
    with pytest.raises(LabKitError, match="different benchmarks"):
        run("--compare", old, record(tmp_path, "new", Measure("x", 1, "s"), bench_name="grading"))


def test_an_unknown_name_is_refused_and_no_name_is_told():
    with pytest.raises(SystemExit):
        run("nothing")
    with pytest.raises(LabKitError, match="finetune, .*quantization"):
        run()


# -------------------------------------------------------------------------------------- fine-tuning
SPEEDS = {
    "ours": 1600.0,
    "TRL SFTTrainer": 1000.0,
    "artidoro/qlora": 400.0,
    "LoRA in float32": 1900.0,
}
LOSSES = dict.fromkeys(SPEEDS, 1.5)


@pytest.mark.parametrize(
    "speeds, losses, problem",
    [
        ({}, {}, None),
        (
            {"TRL SFTTrainer": 1100.0},
            {},
            "ours is 1.45 times as fast as TRL SFTTrainer: 1.5 was the goal",
        ),
        (
            {"LoRA in float32": 2100.0},
            {},
            "ours is 0.76 times as fast as LoRA in float32: 0.8 was the goal",
        ),
        ({}, {"ours": 1.7}, "ours ends 0.20 nats above TRL SFTTrainer"),
        ({}, {"ours": 1.2}, None),
    ],
)
def test_missed_goals_are_problems(speeds, losses, problem):
    outcome = bench_finetune.outcome_of({**SPEEDS, **speeds}, {**LOSSES, **losses}, ["left out"])
    assert (outcome.problems[:1] or [None])[0] == problem
    assert (
        "left out" in outcome.text
        and f"{1600 / {**SPEEDS, **speeds}['TRL SFTTrainer']:.2f} x" in outcome.text
    )
    values = {measure.name: measure.value for measure in outcome.measures}
    assert (
        values["ours / artidoro/qlora"] == 4.0
        and values["ours, held-out loss"] == {**LOSSES, **losses}["ours"]
    )


def test_two_recipes_are_run_on_another_base(tiny_base, capsys):
    """On the same rows artidoro's way, without its speed, learns what ours learns."""
    run(
        "finetune",
        "--base",
        tiny_base,
        "--steps",
        2,
        "--rounds",
        1,
        "--recipes",
        "ours",
        "artidoro/qlora, rows at once",
    )
    rows = [
        line.split()
        for line in capsys.readouterr().out.splitlines()
        if "held-out" not in line and " x " in line
    ]
    assert [row[0] for row in rows] == ["ours", "artidoro/qlora,"] and rows[0][-1] == rows[1][-1]


def test_what_a_recipe_does_in_its_own_way(tiny_base, tmp_path):
    """name: (rows at once, passes to a step, checkpointing); twelve rows to a step for all."""
    expected = {
        "ours": (12, 1, False),
        "ours, head where a label is": (12, 1, False),
        "ours, there and in bfloat16": (12, 1, False),
        "artidoro/qlora": (1, 12, True),
        "artidoro/qlora, rows at once": (12, 1, True),
        "LoRA in float32": (12, 1, False),
        "full fine-tuning": (12, 1, False),
    }
    for name, own in expected.items():
        trainer, _ = bench_finetune.RECIPES[name](
            2, bench_finetune.read_rows("test")[:24], tmp_path, {"source": tiny_base}
        )
        model = getattr(trainer.model, "base_model", trainer.model)
        layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
        found = {module.gradient_checkpointing for module in layers}
        assert (
            trainer.args.per_device_train_batch_size,
            trainer.args.gradient_accumulation_steps,
            True in found,
        ) == own, name
        assert trainer.args.bf16 is ("bfloat16" in name)


def test_all_recipes_learn_at_one_rate_on_a_model_of_any_size(tiny_base, tmp_path, monkeypatch):
    """TRL's too, whose trainer is a stand-in; only full fine-tuning has a rate of its own."""
    monkeypatch.setattr(training, "rate_scale", lambda model, method: 0.1)
    trl = types.ModuleType("trl")
    trl.SFTConfig = lambda **settings: types.SimpleNamespace(**settings)
    trl.SFTTrainer = lambda model, settings, **more: types.SimpleNamespace(
        args=settings, remove_callback=lambda callback: None
    )
    monkeypatch.setitem(sys.modules, "trl", trl)
    rows = bench_finetune.read_rows("test")[:24]
    same = [name for name in bench_finetune.LEARNING if name != "learning_rate"]
    for name, recipe in bench_finetune.RECIPES.items():
        trainer, _ = recipe(2, rows, tmp_path, {"source": tiny_base})
        rate = 5e-4 if "full" in name else 3e-3
        assert trainer.args.learning_rate == pytest.approx(rate * 0.1), name
        settings = training.training_arguments(levers.RECIPE, tmp_path, "cpu")
        for setting in same:
            assert getattr(trainer.args, setting) == getattr(settings, setting), (name, setting)


def test_a_recipe_that_cannot_run_is_told(monkeypatch):
    with pytest.raises(LabKitError, match="Unknown: nothing. The recipes are: ours, ours, head"):
        run("finetune", "--recipes", "nothing")
    monkeypatch.setattr(bench_finetune.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda device: False)
    there, left_out = bench_finetune.available_recipes()
    missing = {"TRL SFTTrainer", "ours, there and in bfloat16"}
    assert set(bench_finetune.RECIPES) - set(there) == missing
    assert left_out == [
        "TRL is not installed and was left out. To have it: pip install 'trl>=1.16'",
        "ours, there and in bfloat16: left out, this processor has no units for it",
    ]


def test_the_ratios_are_those_of_the_recipe_in_question():
    speeds = {**SPEEDS, "ours, there and in bfloat16": 3000.0}
    outcome = bench_finetune.outcome_of(
        speeds, dict.fromkeys(speeds, 1.5), [], mine="ours, there and in bfloat16"
    )
    values = {measure.name: measure.value for measure in outcome.measures}
    assert values["ours, there and in bfloat16 / ours"] == 3000 / 1600 and not outcome.problems


OTHERS = ("TRL SFTTrainer", "LoRA in float32")


def test_the_numbers_in_the_readme_are_the_records():
    def ratios(file, mine):
        measures = bench.read_record(ROOT / "data" / "reference" / file)["measures"]
        speed = {name: measures[f"{name}, tokens per second"].value for name in (mine, *OTHERS)}
        return [speed[mine] / speed[name] for name in OTHERS]

    trl, lora = ratios("bench_finetune.json", "ours")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert (
        f"our QLoRA was {trl:.1f} times as fast as TRL's defaults and {lora:.2f} times as fast as "
        "LoRA in float32"
    ) in readme
    for file, words in {
        "bench_finetune.json": "as TRL has them, it was {:.1f} and {:.2f} times as fast",
        "bench_finetune_smollm2.json": "on lab 09's model {:.1f} and {:.2f} times",
    }.items():
        assert words.format(*ratios(file, bench_finetune.IN_BFLOAT16)) in readme


def test_a_record_keeps_a_command_that_can_be_given_again(monkeypatch):
    words = ["bench", "finetune", "--recipes", "ours", "LoRA in float32"]
    monkeypatch.setattr(sys, "argv", ["lab_utils", *words])
    command = bench.record_of("finetune", Outcome([], ""))["command"]
    assert shlex.split(command) == ["python3", "-m", "lab_utils", *words]


# ---------------------------------------------------------------------------------------- starts
def test_starts_round_the_base_and_are_measured_twice(tiny_base, tmp_path, capsys):
    record = tmp_path / "record.json"
    assert run("starts", "--steps", 1, "--base", tiny_base, "--json", record) == 0
    kept = json.loads(record.read_text(encoding="utf-8"))
    values = {row["name"]: row["value"] for row in kept["measures"]}
    assert len(values) == 6 and all(value > 1 for value in values.values())
    assert len(set(values.values())) == 6 and kept["details"]["steps"] == 1


@pytest.mark.parametrize("name", starts.STARTS)
def test_a_start_stores_sixteen_values_a_block_and_comes_nearer_to_the_weight(tiny_base, name):
    plain = load_base(source=tiny_base)[0].model.layers[0].self_attn.q_proj.weight.data
    layer = starts.started(name, {"source": tiny_base})[0].base_model.model.model.layers[0]
    layer = layer.self_attn.q_proj
    stored = layer.base_layer.weight.data
    assert all(len(block.unique()) <= 16 for block in stored.flatten().split(64))
    usual = quantization.dequantize_blockwise(
        *quantization.quantize_blockwise(plain, quantization.nf4_codebook(), 64),
        quantization.nf4_codebook(), 64,
    )  # fmt: skip
    started, rounded = (plain - stored - layer.get_delta_weight("default")).norm(), plain - usual
    if name == "the usual start":
        assert started == rounded.norm() > 0
    else:
        assert started < 0.95 * rounded.norm()


# ------------------------------------------------------------------------------------ forgetting
def test_forgetting_compares_runs_on_the_same_questions(tiny_base, tmp_path, capsys):
    record = tmp_path / "record.json"
    names = ["QLoRA, rank 16", "LoRA, rank 2"]
    arguments = ["forgetting", "--steps", "1", "--seeds", "1", "--base", str(tiny_base)]
    assert run(*arguments, "--json", str(record), "--variants", *names) == 0
    details = json.loads(record.read_text(encoding="utf-8"))["details"]
    assert [r["variant"] for r in details["runs"]] == names
    for r in details["runs"]:
        assert r["knowledge"] == pytest.approx(details["before"] + (r["gained"] - r["lost"]) / 24)
        assert r["voice"] == 0 and r["held_out_loss"] > 1
    assert capsys.readouterr().out.count("lost") == 2


def test_forgetting_makes_no_kept_run_again(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(forgetting, "one_run", lambda *plan: made.append(plan) or {"seed": plan[2]})
    plans = [("LoRA", 1.0, seed, 40, [True], [], {"tier": "smollm2"}) for seed in (0, 1, 0, 1)]
    runs = [forgetting.kept_or_made(plan, tmp_path / "runs.jsonl") for plan in plans]
    assert [run["seed"] for run in runs] == [0, 1, 0, 1] and made == plans[:2]
    forgetting.kept_or_made(plans[0], None)
    assert len(made) == 3


def test_rehearsal_is_a_share_of_the_rows():
    rows = forgetting.rows_of(1 / 4, 16, [{"question": "Q?", "answer": "A."}], seed=0)
    assert len(rows) == 16 and sum(row["question"] == "Q?" for row in rows) == 4
    assert sum("\nNotes: " in row["question"] for row in rows) == round(0.45 * 16)
