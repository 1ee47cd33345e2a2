"""`bench gpu`: the dry run does on a CPU all that a GPU would do; goals, counts, errors and time
are what they say.
"""

import argparse
import json
import re
import subprocess
import sys
import time

import pytest

import bench
from bench import Measure, gpu
from lab_utils.files import DATA, ROOT, LabKitError
from lab_utils.memory.ledger import ledger, moments
from lab_utils.memory.report import architecture_named
from lab_utils.memory.sizes import Architecture, nf4_layer_bytes

pytestmark = pytest.mark.filterwarnings("ignore")


def run(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return bench.main(parser.parse_args(["gpu", *map(str, words)]))


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The record of a dry run of all parts but the tests, with two shapes."""
    path = tmp_path_factory.mktemp("gpu") / "record.json"
    words = (
        "--dry-run",
        "--parts",
        "memory",
        "paged",
        "speed",
        "--shapes",
        "7B",
        "65B",
        "--rounds",
        1,
        "--json",
        path,
    )
    assert run(*words) == 0
    return json.loads(path.read_text())


# -------------------------------------------------------------------------------------- the dry run
def test_the_dry_run_measures_every_step_within_5_percent_of_the_ledger(record):
    rows = {row["name"]: row for row in record["details"]["memory"]}
    assert list(rows) == ["7B bf16", "65B bf16", "7B fp32", "65B fp32"] and record["problems"] == []
    for row in rows.values():
        assert row["load"]["ratio"] == pytest.approx(1, abs=0.06)
        assert [step["sequence"] for step in row["steps"]] == [16, 64]
        for step in row["steps"]:
            assert (
                step["ratio"] == step["measured"] / step["predicted"] == pytest.approx(1, abs=0.05)
            )
            assert set(step["parts"]) == set(step["predicted parts"])
            for part, size in step["parts"].items():
                assert step["predicted parts"][part] == pytest.approx(size, rel=0.01, abs=8), part


def test_the_dry_run_says_that_it_is_one_and_has_numbers_of_every_part(record):
    assert record["details"]["dry run"] is True and record["machine"]["torch"]
    names = {row["name"] for row in record["measures"]}
    assert {
        "65B bf16, 64 tokens, ratio",
        "65B fp32, load, peak",
        "matmul",
        "7B ours",
        "7B artidoro/qlora",
        "paged, seconds more a step",
    } <= names


def test_speed_counts_the_same_tokens_for_all_recipes(record):
    rows = {row["name"]: row for row in record["details"]["speed"]}
    assert rows["ours"]["tokens"] == rows["artidoro/qlora"]["tokens"] > 50
    for row in rows.values():
        if "tokens per second" in row:
            each = row["flops"] / row["tokens per second"]
            assert each == pytest.approx(
                rows["ours"]["flops"] / rows["ours"]["tokens per second"], rel=1e-9
            )
    assert (
        "tokens per second" in rows["TRL SFTTrainer"]
        or "not installed" in rows["TRL SFTTrainer"]["left out"]
    )


def test_paged_runs_four_times(record):
    row = record["details"]["paged"][0]
    for runs in ("without cap", "under cap"):
        assert {name: result["fits"] for name, result in row[runs].items()} == {
            "AdamW32bit": True,
            "PagedAdamW32bit": True,
        }


def test_its_options_load_no_torch():
    code = (
        "import argparse, sys; from bench import gpu; "
        "gpu.add_arguments(argparse.ArgumentParser()); "
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], cwd=ROOT
        ).returncode
        == 0
    )


def test_no_gpu_is_said(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LabKitError, match="no CUDA GPU here. Try it out with --dry-run"):
        run()


# ---------------------------------------------------------------------------------------- jobs
def test_a_job_that_fails_or_comes_too_late_does_not_cost_the_others():
    def fail():
        raise RuntimeError("boom\nsecond line")

    jobs = [
        gpu.Job("a", "bad", fail),
        gpu.Job("a", "good", lambda: {"x": 1}),
        gpu.Job("b", "empty", dict),
    ]
    late, details = time.monotonic() - 1, {}
    problems = [problem for _, problem in gpu.done(jobs, details, time.monotonic() + 60)]
    assert problems == ["RuntimeError: boom", "", ""]
    assert [row.get("x", row.get("error")) for row in details["a"]] == [
        "RuntimeError: boom",
        1,
    ] and len(details["b"]) == 1
    problems = [problem for _, problem in gpu.done(jobs, details, late)]
    assert problems == ["TimeoutError: left out, the minutes are over"] * 3


def test_the_record_is_written_after_each_job(tmp_path, monkeypatch):
    seen, path = [], tmp_path / "record.json"

    def job(number):
        seen.append(len(json.loads(path.read_text())["details"]["tests"]) if path.exists() else 0)
        if number == 2:
            raise KeyboardInterrupt  # a kill in the midst of it
        return {"passed": 1, "failed": 0, "skipped": 0, "said": "1 passed"}

    monkeypatch.setattr(
        gpu, "jobs_of", lambda *_: [gpu.Job("tests", str(i), lambda i=i: job(i)) for i in range(4)]
    )
    with pytest.raises(KeyboardInterrupt):
        run("--dry-run", "--json", path)
    assert seen == [0, 1, 2] and len(json.loads(path.read_text())["details"]["tests"]) == 2


def test_jobs_are_all_shapes_and_recipes_take_turns():
    jobs = gpu.jobs_of(gpu.Setting(), gpu.PARTS, gpu.SHAPES, 2, 0.0)
    memory = [job.name for job in jobs if job.part == "memory"]
    assert (
        memory[:5] == [f"{shape} bf16" for shape in gpu.SHAPES]
        and len(memory) == 9
        and "1B fp32" not in memory
    )
    recipes = ["ours", "TRL SFTTrainer", "artidoro/qlora"]
    assert [job.name for job in jobs if job.part == "speed"] == ["matmul", *recipes, *recipes]
    assert {job.part for job in gpu.jobs_of(gpu.tiny(), ["tests"], [], 1, 0.0)} == {"tests"}


def test_shapes_are_those_of_the_published_models():
    for shape, billions in (
        ("1B", 1.10),
        ("7B", 6.74),
        ("13B", 13.02),
        ("33B", 32.53),
        ("65B", 65.29),
    ):
        assert Architecture.from_fields(
            gpu.fields_of(shape, 1)
        ).n_parameters() / 1e9 == pytest.approx(billions, abs=5e-3)
    assert Architecture.from_fields(gpu.fields_of("65B", 64)).n_parameters() < 2e6


def test_the_ledger_has_65b_under_48_gb():
    from bench.gpu_memory import plan_of

    most = {
        n: max(moments(architecture_named("LLaMA-65B"), plan_of(64, "bf16", n)).values())
        for n in (512, 2048)
    }
    assert 38e9 < most[512] < most[2048] < gpu.ROOM_65B


def test_gpu_tests_are_counted(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n\npytestmark = pytest.mark.gpu\n\ndef test_a(): pass\n\ndef test_b(): "
        "assert 0\n\ndef test_c(): pytest.skip('no')\n\n@pytest.fixture\ndef bad(): 1 / 0\n\ndef "
        "test_d(bad): pass\n"
    )
    (tmp_path / "test_other.py").write_text("import a_module_that_is_not_there\n")
    row = gpu.tests_row(tmp_path, time.monotonic() + 100)
    assert (row["passed"], row["failed"], row["skipped"]) == (1, 2, 1)
    assert [name.split("::")[1].split()[0] for name in row["which failed"]] == ["test_b", "test_d"]


# ----------------------------------------------------------------------------------- counting bytes
def test_on_a_gpu_the_allocators_counters_are_read(monkeypatch):
    """Numbers of a card that is not here: 100 bytes now, 40 of them before there was a model."""
    import torch

    from bench import gpu_memory

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 100)
    paged = torch.zeros(25)
    paged.is_paged = True
    optimizer = argparse.Namespace(
        state={0: {"state1": paged, "state2": torch.zeros(9), "step": 3}}
    )
    assert gpu_memory.paged_bytes(optimizer) == 100
    assert gpu_memory.resident({"weights": 7}, optimizer, "cuda", base=40) == 100 - 40 + 100
    assert (
        gpu_memory.resident(
            {"weights": 7, "gradients": 5, "activations": 5}, optimizer, "cpu", base=0
        )
        == 7
    )


def test_the_cap_is_a_share_of_the_card_and_is_lifted_after_a_failure(monkeypatch):
    import torch

    from bench.gpu_memory import capped

    shares = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: argparse.Namespace(total_memory=80e9)
    )
    with pytest.raises(torch.OutOfMemoryError), capped(20e9, "cuda"):
        raise torch.OutOfMemoryError("full")
    assert shares == [0.25, 1.0]
    with capped(None, "cuda"), capped(20e9, "cpu"):
        assert shares == [0.25, 1.0]


def test_out_of_memory_is_found_not_raised(monkeypatch):
    import torch

    from bench import gpu_memory

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    monkeypatch.setattr(gpu_memory, "train_step", full)
    found = gpu_memory.optimizer_run("AdamW32bit", gpu.fields_of("1B", 64), "cpu", 4, 16)
    assert found == {"fits": False, "error": "CUDA out of memory."}


def test_a_random_model_has_the_sizes_of_its_configuration_and_only_4_bit_layers():
    import torch

    from bench.gpu_memory import random_model
    from lab_utils.memory.report import weight_bytes

    fields = {**gpu.fields_of("7B", 64), "tie_word_embeddings": True, "num_key_value_heads": 2}
    model, architecture = random_model(fields, "cpu"), Architecture.from_fields(fields)
    sizes = weight_bytes(model)
    assert sizes.pop("unquantized weights") == 2 * architecture.n_other()
    assert sum(sizes.values()) == sum(
        nf4_layer_bytes(a * b) for a, b in architecture.linear_shapes()
    )
    assert not any(p.is_meta for p in (*model.parameters(), *model.buffers()))
    weight = model.model.layers[0].mlp.up_proj.weight
    assert (
        weight.dtype == torch.uint8
        and weight.quant_state.nested
        and weight.quant_state.quant_type == "nf4"
    )
    loss = model(input_ids=torch.arange(50)[None], labels=torch.arange(50)[None]).loss
    assert loss.item() == pytest.approx(7.62, abs=0.3), "log of 2,048 words: it knows nothing"


def test_useful_flops_of_a_token():
    from bench.gpu_speed import flops_per_token

    model = architecture_named("Llama-2-7B")
    assert flops_per_token(model, 64) == pytest.approx(
        4 * (6.738e9 - 0.131e9) + 6 * 0.16e9, rel=2e-3
    )


# ---------------------------------------------------------------------------------------- goals
def memory_details(ratio, size):
    found = {"measured": size, "predicted": size / ratio, "ratio": ratio}
    return {
        "memory": [
            {
                "name": "65B bf16",
                "load": {**found, "measured": 1e9},
                "steps": [{"sequence": 512, **found}],
            }
        ]
    }


@pytest.mark.parametrize(
    ("ratio", "size", "words"),
    [
        (1.049, 47.9e9, []),
        (0.951, 47.9e9, []),
        (1.051, 40e9, ["measured is 1.051", "measured is 1.051"]),
        (0.94, 40e9, ["measured is 0.940", "measured is 0.940"]),
        (1.0, 48.1e9, ["512 tokens: 48.1 GB, above 48"]),
    ],
)
def test_goals_of_memory_hold_on_a_gpu(ratio, size, words):
    outcome = gpu.outcome_of(gpu.Setting(), memory_details(ratio, size))
    assert len(outcome.problems) == len(words)
    assert all(word in problem for word, problem in zip(words, outcome.problems))
    assert gpu.outcome_of(gpu.tiny(), memory_details(ratio, size)).problems == [], (
        "a dry run has no goals"
    )


def test_medians_and_the_share_of_the_peak():
    rows = [
        {"name": "matmul", "flops": 8e14},
        *(
            {"name": "ours", "tokens per second": speed, "flops": speed * 1e11}
            for speed in (1000, 5000, 2000)
        ),
        {"name": "TRL SFTTrainer", "left out": "not installed"},
    ]
    outcome = gpu.outcome_of(gpu.Setting(), {"speed": rows})
    assert Measure("7B ours", 2000, "tokens/s", "higher") in outcome.measures
    assert re.search(r"ours +2000 tokens/s, 25.0% of the peak, 3 turns", outcome.text)
    assert "TRL SFTTrainer: not installed" in outcome.text


@pytest.mark.parametrize(
    ("plain", "paged", "n"), [(False, True, 0), (True, True, 1), (False, False, 1)]
)
def test_the_paged_optimizer_must_go_where_the_plain_one_does_not(plain, paged, n):
    runs = {name: {"fits": True, "seconds": 1.0} for name in ("AdamW32bit", "PagedAdamW32bit")}
    row = {
        "name": "1B",
        "cap": 3e9,
        "rank": 256,
        "without cap": runs,
        "seconds more": 0.1,
        "under cap": {"AdamW32bit": {"fits": plain}, "PagedAdamW32bit": {"fits": paged}},
    }
    assert len(gpu.outcome_of(gpu.Setting(), {"paged": [row]}).problems) == n


def test_errors_and_failed_tests_are_problems():
    details = {
        "memory": [{"name": "65B bf16", "error": "OutOfMemoryError: no"}],
        "tests": [
            {
                "name": "marked gpu",
                "passed": 3,
                "failed": 1,
                "skipped": 0,
                "said": "1 failed, 3 passed",
            }
        ],
    }
    problems = gpu.outcome_of(gpu.Setting(), details).problems
    assert problems == [
        "memory, 65B bf16: OutOfMemoryError: no",
        "tests marked gpu: 1 failed, 3 passed",
    ]


def test_a_record_that_ships_is_of_a_gpu():
    path = DATA / "reference" / "gpu_memory.json"
    if path.exists():
        shipped = json.loads(path.read_text())
        assert (
            shipped["bench"] == "gpu"
            and shipped["details"]["dry run"] is False
            and shipped["machine"]["device"] == "cuda"
        )


def test_the_plan_given_to_the_ledger_is_the_paged_8_bit_one():
    from bench.gpu_memory import plan_of

    lines = {
        line.name for line in ledger(architecture_named("Llama-2-7B"), plan_of(64, "bf16", 512))
    }
    assert {"optimizer states", "activations: one layer again"} <= lines
    assert (
        plan_of(64, "bf16", 512).optimizer == "paged_adamw_8bit"
        and plan_of(64, "fp32", 512).activation_bytes == 4
    )
