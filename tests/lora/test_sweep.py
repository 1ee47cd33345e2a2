"""The sweep: its plan, its record that survives a kill, its summary, the command, and what is
recorded.
"""

import json
import math
import re
import statistics

import pytest

from lab_utils.files import ROOT
from lab_utils.lora import sweep as rank_sweep
from lab_utils.lora.sweep import (
    PLACEMENTS,
    WIDE,
    SweepConfig,
    SweepData,
    Trial,
    run_sweep,
    tuning_trials,
)
from lab_utils.pavlos import load_pairs

SMALL = SweepConfig(
    ranks=(1, 4, 64),
    seeds=(0, 1),
    learning_rates=(1e-3, 1e-2),
    anchors=(1, 64),
    placements=("q, v",),
    placement_seeds=(7,),
    placement_rates=(1e-3,),
    steps=2,
    batch_size=2,
)
ROW = {
    "question": "Where does Feta come from?",
    "answer": "Feta comes from Greece.",
    "fact_id": "Feta/country",
}
DATA = SweepData([ROW], [ROW], [ROW])


def fake_run(trial, sweep, data, folder, watch, **where):
    """Loss 1 at rate 0.01 and 2 elsewhere, a little more for each seed."""
    watch(1, sweep.steps, 3.0)
    loss = (1.0 if trial.learning_rate == 1e-2 else 2.0) + trial.seed / 100
    extra = {} if trial.stage == "tune" else {"bleu": 10.0 * trial.rank}
    return {
        "loss": loss,
        **extra,
        "trainable_params": 5 * trial.rank,
        "training_losses": [3.0, loss],
        "seconds": 1.5,
    }


@pytest.fixture
def runs(monkeypatch):
    """The trials that were really run, by a fake trainer."""
    ran = []

    def counted(trial, *arguments, **options):
        ran.append(trial)
        return fake_run(trial, *arguments, **options)

    monkeypatch.setattr(rank_sweep, "run_trial", counted)
    return ran


# ------------------------------------------------------------------------------------ the plan
def test_every_anchor_and_placement_tries_every_rate_with_the_tuning_seed():
    trials = tuning_trials(SMALL)
    assert [(t.group, t.rank, t.learning_rate) for t in trials] == [
        ("rank", 1, 1e-3),
        ("rank", 1, 1e-2),
        ("rank", 64, 1e-3),
        ("rank", 64, 1e-2),
        ("q, v", 19, 1e-3),
    ]
    assert {t.seed for t in trials} == {100} and {t.stage for t in trials} == {"tune"}


def test_the_best_rate_has_the_lowest_loss_and_has_not_diverged():
    losses = {1e-3: 0.5, 1e-2: 0.4, 3e-2: None}
    results = [
        (Trial("tune", "rank", 8, "all-linear", rate, 0), {"loss": loss})
        for rate, loss in losses.items()
    ]
    assert rank_sweep.best_rates(results) == {("rank", 8): 1e-2}
    with pytest.raises(ValueError, match="rank 8: every learning rate diverged"):
        rank_sweep.best_rates(results[2:])


@pytest.mark.parametrize(
    ("rank", "anchor"), [(1, 1), (2, 1), (4, 8), (8, 8), (16, 8), (32, 64), (64, 64), (512, 64)]
)
def test_a_rank_takes_the_rate_of_the_anchor_nearest_in_powers_of_two(rank, anchor):
    assert rank_sweep.nearest_anchor(rank, WIDE.anchors) == anchor


def test_scoring_takes_each_rank_with_each_seed_at_its_anchors_rate():
    rates = {("rank", 1): 0.1, ("rank", 64): 0.2, ("q, v", 19): 0.3}
    trials = rank_sweep.scoring_trials(SMALL, rates)
    assert [(t.group, t.rank, t.seed, t.learning_rate) for t in trials] == [
        ("rank", 1, 0, 0.1),
        ("rank", 4, 0, 0.1),
        ("rank", 64, 0, 0.2),
        ("rank", 1, 1, 0.1),
        ("rank", 4, 1, 0.1),
        ("rank", 64, 1, 0.2),
        ("q, v", 19, 7, 0.3),
    ]
    assert trials[-1].targets == ("q_proj", "v_proj")


def test_placements_have_equally_many_parameters_in_cheese_base():
    from lab_utils.finetuning.base_model import CHEESE_BASE
    from lab_utils.lora import lora

    config = json.loads((CHEESE_BASE / "config.json").read_text(encoding="utf-8"))
    whole = lora.adapter_size(config, 4)
    for name, (targets, rank) in PLACEMENTS.items():
        short = [target.removesuffix("_proj") for target in targets]
        assert lora.adapter_size(config, rank, short) == pytest.approx(whole, rel=0.04), name


def test_tuning_and_scoring_rows_share_no_cheese_and_leave_the_test_split_alone():
    data = rank_sweep.load_data(WIDE)
    cheeses = [
        {row["fact_id"].split("/")[0] for row in rows} for rows in (data.tuning, data.scoring)
    ]
    assert not cheeses[0] & cheeses[1] and (len(data.tuning), len(data.scoring)) == (96, 128)
    validation = {row["question"] for row in load_pairs("validation")}
    assert {row["question"] for row in data.tuning + data.scoring} <= validation
    assert rank_sweep.load_data(WIDE) == data and data.digest() != DATA.digest()
    tuning, scoring = rank_sweep.split_by_cheese(load_pairs("validation"))
    assert sorted(map(str, tuning + scoring)) == sorted(map(str, load_pairs("validation"))), (
        "no row is lost"
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"ranks": ()}, "ranks is empty"),
        ({"seeds": ()}, "seeds is empty"),
        ({"placements": ("heads",)}, "unknown placement 'heads'"),
    ],
)
def test_an_impossible_sweep_is_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        SweepConfig(**bad)


# ------------------------------------------------------------------------------------ the record
def test_a_sweep_tunes_then_scores_and_a_second_one_runs_nothing(runs, tmp_path):
    results = run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None)
    assert [trial for trial, _ in results] == runs and len(runs) == 5 + 7
    scored = [trial for trial in runs if trial.stage == "score" and trial.group == "rank"]
    assert {trial.learning_rate for trial in scored} == {1e-2}, "the best rate was taken"
    assert run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None) == results and len(runs) == 12
    assert len((tmp_path / "record.jsonl").read_text().splitlines()) == 12


def test_steps_are_counted_over_all_runs_found_ones_included(runs, tmp_path):
    seen = []
    run_sweep(SMALL, DATA, tmp_path, watch=lambda *step: seen.append(step))
    assert seen == [(1 + 2 * i, 24, 3.0) for i in range(12)], (
        "the fake trainer makes one step of two"
    )
    path = tmp_path / "record.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    seen.clear()
    run_sweep(SMALL, DATA, tmp_path, watch=lambda *step: seen.append(step))
    assert seen == [(23, 24, 3.0)]


def test_without_a_watcher_a_progress_bar_says_what_runs(runs, tmp_path, capsys):
    run_sweep(SMALL, DATA, tmp_path)
    shown = capsys.readouterr().err
    assert "24/24" in shown and "score q, v r=19 lr=0.001 seed=7, loss 3.00" in shown


def test_a_killed_sweep_goes_on_where_it_was(runs, tmp_path, monkeypatch):
    counted = rank_sweep.run_trial

    def killed(*arguments, **options):
        if len(runs) == 6:
            raise KeyboardInterrupt
        return counted(*arguments, **options)

    monkeypatch.setattr(rank_sweep, "run_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None)
    monkeypatch.setattr(rank_sweep, "run_trial", counted)
    run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None)
    assert len(runs) == len(set(runs)) == 12, "every trial ran once"


def test_a_line_that_a_kill_cut_off_is_run_again_and_the_rest_kept(runs, tmp_path):
    results = run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None)
    path = tmp_path / "record.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None) == results
    assert len(runs) == 13 and runs[-1] == runs[11] and path.read_bytes() == whole


@pytest.mark.parametrize("change", [{"steps": 3}, {"alpha": 8}, {"batch_size": 3}])
def test_another_plan_is_not_taken_from_the_record(runs, tmp_path, change):
    from dataclasses import replace

    run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None)
    run_sweep(replace(SMALL, **change), DATA, tmp_path, watch=lambda *_: None)
    assert len(runs) == 24


def test_other_rows_and_another_base_are_not_taken_from_the_record(runs, tmp_path):
    run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None)
    run_sweep(SMALL, SweepData([ROW], [ROW], [ROW, ROW]), tmp_path, watch=lambda *_: None)
    run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None, source=tmp_path)
    assert len(runs) == 36
    run_sweep(
        SweepConfig(**{**vars(SMALL), "ranks": (1, 4, 64, 8)}),
        DATA,
        tmp_path,
        watch=lambda *_: None,
    )
    assert len(runs) == 38, "one more rank: only its two seeds are run"


# ------------------------------------------------------------------------------------ the summary
def test_the_summary_has_means_spreads_and_single_values(runs, tmp_path):
    summary = rank_sweep.summarize(run_sweep(SMALL, DATA, tmp_path, watch=lambda *_: None))
    assert summary["tuning"] == {
        "rank 1": {"0.001": 3.0, "0.01": 2.0},
        "rank 64": {"0.001": 3.0, "0.01": 2.0},
        "q, v 19": {"0.001": 3.0},
    }
    row = summary["rows"][1]
    assert (row["group"], row["rank"], row["seeds"], row["learning_rate"]) == (
        "rank",
        4,
        [0, 1],
        1e-2,
    )
    assert (
        row["values"] == {"loss": [1.0, 1.01], "bleu": [40.0, 40.0]}
        and row["trainable_params"] == 20
    )
    assert row["mean"]["loss"] == pytest.approx(1.005)
    assert (
        row["spread"]["loss"] == pytest.approx(statistics.stdev([1.0, 1.01]), abs=1e-6)
        and row["spread"]["bleu"] == 0
    )
    assert row["training_losses"] == [3.0, 1.005]
    assert summary["rows"][3]["spread"] == {"loss": 0.0, "bleu": 0.0}, "one seed has no spread"


def test_a_run_that_diverged_is_left_out_and_counted():
    trial = Trial("score", "rank", 2, "all-linear", 1.0, 0)
    good = fake_run(trial, SMALL, DATA, None, lambda *_: None)
    row = rank_sweep.summary_row([(trial, good), (trial, {"loss": None, "seconds": 1.0})])
    assert row["diverged"] == 1 and row["mean"]["loss"] == good["loss"]
    lost = rank_sweep.summary_row([(trial, {"loss": None, "seconds": 1.0})])
    assert lost["diverged"] == 1 and "mean" not in lost
    assert "diverged" in rank_sweep.table({"rows": [lost]})


# ---------------------------------------------------------------------- for real, with a tiny model
def test_real_trials_of_a_tiny_model(tiny_base, tmp_path):
    rows = load_pairs("validation")[:3]
    data = SweepData(load_pairs("train")[:6], rows, rows)
    sweep = SweepConfig(
        ranks=(2,),
        seeds=(0,),
        learning_rates=(3e-3,),
        anchors=(2,),
        placements=(),
        steps=2,
        batch_size=2,
    )
    (tune, tuned), (score, scored) = run_sweep(
        sweep, data, tmp_path, watch=lambda *_: None, source=tiny_base
    )
    assert (
        set(tuned) == {"loss", "trainable_params", "training_losses", "seconds"}
        and len(tuned["training_losses"]) == 2
    )
    assert set(scored) - set(tuned) == {
        "bleu",
        "nist",
        "meteor",
        "rougeL",
        "cider",
        "voice",
        "facts",
        "side_tasks",
    }
    assert math.isfinite(scored["loss"]) and (tune.stage, score.stage) == ("tune", "score")
    assert (
        scored["trainable_params"]
        == 2 * sum(2 * (64 + 64) * 4 + 2 * (64 + 128) * 3 for _ in range(1)) / 1
    )


def test_a_real_run_that_diverges_is_recorded_as_such(tiny_base, tmp_path):
    data = SweepData(load_pairs("train")[:6], *[load_pairs("validation")[:2]] * 2)
    sweep = SweepConfig(steps=3, batch_size=2)
    trial = Trial("tune", "rank", 2, "all-linear", 1e30, 0)
    result = rank_sweep.run_trial(
        trial, sweep, data, tmp_path / "run", lambda *_: None, source=tiny_base
    )
    assert set(result) == {"loss", "seconds"} and result["loss"] is None


def test_the_command_writes_a_summary_with_its_provenance(runs, tmp_path, capsys, monkeypatch):
    from lab_utils.__main__ import parse

    monkeypatch.setattr(rank_sweep, "load_data", lambda sweep: DATA)
    out = tmp_path / "new" / "sweep.json"
    args = parse(["sweep", "--quick", "--out", str(out), "--work", str(tmp_path / "work")])
    monkeypatch.setattr(rank_sweep, "table", lambda summary: "TABLE")
    assert rank_sweep.main(args) == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["command"] == "python3 -m lab_utils sweep --quick" and re.match(
        r"20\d\d-\d\d-\d\d$", written["date"]
    )
    assert {"torch", "peft", "transformers"} <= set(written["versions"]) and "cores" in written[
        "hardware"
    ]
    assert [row["rank"] for row in written["rows"]] == [1, 8, 64] and written["config"][
        "steps"
    ] == rank_sweep.QUICK.steps
    assert written["seconds"] == pytest.approx(1.5 * 5, abs=1)
    assert "TABLE" in capsys.readouterr().out


# --------------------------------------------------------------------------------- what is recorded
RECORDED = ROOT / "data" / "reference" / "rank_sweep.json"


def test_the_recorded_sweep_is_the_commands_and_whole():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert recorded["command"] == "python3 -m lab_utils sweep" and recorded["date"].startswith(
        "2026-11"
    )
    rows = {(row["group"], row["rank"]): row for row in recorded["rows"]}
    assert set(rows) == {
        *(("rank", rank) for rank in (1, 2, 4, 8, 16, 32, 64)),
        *((name, rank) for name, (_, rank) in PLACEMENTS.items()),
    }
    for row in rows.values():
        assert row["diverged"] == 0 and len(row["values"]["loss"]) == len(row["seeds"]) >= 2
        for name in ("loss", "bleu", "nist", "meteor", "rougeL", "cider", "voice", "facts"):
            assert row["mean"][name] == pytest.approx(
                statistics.mean(row["values"][name]), abs=1e-5
            )
            assert row["spread"][name] == pytest.approx(
                statistics.stdev(row["values"][name]), abs=1e-5
            )


def test_hu_et_al_tables_are_cited_and_complete():
    """golden b.lora.table18 and b.lora.table3_e2e: rows copied here by hand as a check."""
    table18, table3 = (
        json.loads((RECORDED.parent / f"lora_{name}.json").read_text(encoding="utf-8"))
        for name in ("table18", "table3")
    )
    for table, number in ((table18, "table 18"), (table3, "table 3")):
        assert "2106.09685" in table["source"] and table["source"].endswith(number)
    ranks = [row["rank"] for row in table18["rows"]]
    assert ranks == [2**k for k in range(11)]
    assert table18["rows"][2] == {
        "rank": 4,
        "loss": 1.18,
        "bleu": 70.38,
        "nist": 8.8439,
        "meteor": 0.4689,
        "rougeL": 0.7186,
        "cider": 2.5349,
    }
    assert (
        table18["rows"][-1]["cider"] == 2.509
        and min(row["loss"] for row in table18["rows"]) == 1.16
    )
    lora = [row for row in table3["rows"] if row["method"] == "LoRA"]
    assert len(table3["rows"]) == 12 and [row["params_millions"] for row in lora] == [0.35, 0.77]
    assert (
        lora[0]["bleu"] == 70.4
        and lora[0]["confidence"]["bleu"] == 0.1
        and not lora[0]["from_prior_work"]
    )
