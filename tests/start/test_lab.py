"""What every lab starts with."""

import ast
import json
import os
import random
import re
import subprocess
import sys

import numpy
import pytest
import torch

from lab_utils.files import ROOT
from lab_utils.start import hardware, lab


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def draws() -> list[float]:
    return [random.random(), float(numpy.random.rand()), float(torch.rand(()))]


def test_the_same_seed_gives_the_same_numbers_everywhere(capsys):
    lab.start_lab("01_quantization_buckets", seed=3)
    first = draws()
    lab.start_lab("01_quantization_buckets", seed=3)
    assert draws() == first
    lab.start_lab("01_quantization_buckets", seed=4)
    assert not set(draws()) & set(first)
    assert capsys.readouterr().out == ""


def test_its_text_is_one_line_with_what_a_student_must_know(runs, monkeypatch):
    machine = hardware.detect()
    monkeypatch.setattr(lab, "measured", lambda name, runs: lab.Measured(182.0, 1.0))
    info = lab.start_lab("06_qlora_finetune")
    assert str(info) == (
        f"Lab 06_qlora_finetune | device {machine.device} | dtype {machine.compute_dtype} | "
        f"tier {machine.tier} | about 4 min | seed 0"
    )
    assert info.runs == runs / "06" and info.runs.is_dir()
    monkeypatch.setattr(lab, "measured", lambda name, runs: None)
    assert "| not timed here yet | seed 0" in str(lab.start_lab("06_qlora_finetune"))


def test_a_lab_is_told_where_to_load_and_how_long_what_it_loads_takes(runs, monkeypatch):
    told = []
    monkeypatch.setattr(lab, "measured", lambda *asked: told.append(asked))
    for chosen, name, tier in (
        ("cpu", "06_qlora_finetune", "cpu"),
        ("smollm2", "06_qlora_finetune", "smollm2"),
        ("cpu", "09_real_model", "smollm2"),  # which needs a real one
    ):
        monkeypatch.setenv("LAB_TIER", chosen)
        info = lab.start_lab(name)
        assert info.where == {"tier": tier, "device": "cpu"} and info.device == "cpu"
        assert f"| tier {tier} |" in str(info) and info.tier == tier
    small, real = ("06_qlora_finetune", "cpu"), ("06_qlora_finetune", "smollm2 on cpu")
    assert told == [small, real, ("09_real_model", "smollm2 on cpu")]


def test_minutes_are_those_that_were_measured_on_this_tier(tmp_path):
    record = tmp_path / "minutes.json"
    assert lab.measured("06_qlora_finetune", "cpu", record) is None
    record.write_text('{"cpu": {"labs": {"06": {"seconds": 60.1, "gigabytes": 1.5}}}}')
    took = lab.measured("06_qlora_finetune", "cpu", record)
    assert (took.minutes, took.gigabytes) == (2, 1.5)
    assert lab.measured("06", "t4", record) is None and lab.measured("05", "cpu", record) is None


def test_the_record_holds_labs_of_this_kit_with_where_they_were_measured():
    numbers = {notebook.name[:2] for notebook in (ROOT / "labs").glob("*.ipynb")}
    tiers = json.loads(lab.MINUTES.read_text(encoding="utf-8")) if lab.MINUTES.exists() else {}
    for tier, record in tiers.items():
        assert record["labs"].keys() <= numbers and record["hardware"] and record["versions"], tier
        for number in record["labs"]:
            took = lab.measured(number, tier)
            assert 0 < took.seconds < 3600 and 0 < took.gigabytes < 80, number


def test_results_go_where_the_launcher_says_or_into_runs(runs, monkeypatch, tmp_path):
    assert lab.runs_dir("05_pavlos_dataset") == runs / "05"
    monkeypatch.delenv("LAB_RUNS_DIR")
    monkeypatch.setattr(lab, "RUNS", tmp_path / "default")
    assert lab.runs_dir("05") == tmp_path / "default" / "05"
    assert (tmp_path / "default" / "05").is_dir()


def test_results_go_to_a_folder_that_can_be_written(monkeypatch, tmp_path):
    monkeypatch.delenv("LAB_RUNS_DIR")
    monkeypatch.setattr(lab, "RUNS", tmp_path / "kit" / "runs")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert lab.results_folder() == tmp_path / "kit" / "runs"
    (tmp_path / "kit" / "runs").rmdir()
    (tmp_path / "kit" / "runs").write_text("a file, so that no folder can be made")
    assert lab.results_folder() == tmp_path / "home" / "lab-kit-runs"
    (tmp_path / "home" / "lab-kit-runs").rmdir()
    (tmp_path / "home" / "lab-kit-runs").write_text("another one")
    assert lab.results_folder() == lab.Path(lab.tempfile.gettempdir()) / "lab-kit-runs"


@pytest.mark.parametrize("name", ["", "qlora", "6_x"])
def test_a_name_without_a_number_is_refused(name):
    with pytest.raises(ValueError, match="expected a lab name with its number first"):
        lab.runs_dir(name)


@pytest.mark.slow
def test_peft_works_beside_an_old_torchao(tmp_path):
    (tmp_path / "torchao").mkdir()
    (tmp_path / "torchao" / "__init__.py").write_text("")
    (tmp_path / "torchao-0.10.0.dist-info").mkdir()
    (tmp_path / "torchao-0.10.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchao\nVersion: 0.10.0\n"
    )
    code = """
from peft.import_utils import is_torchao_available
from lab_utils.start.lab import start_lab
try:
    is_torchao_available()
except ImportError as error:
    print(error)
start_lab("04_lora_rank_sweeps")
print(is_torchao_available())"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    before, after = done.stdout.splitlines()
    assert "incompatible version of torchao" in before and after == "False", done.stderr


def test_the_setup_cell_in_the_docstring_runs(monkeypatch, tmp_path):
    """From labs/, where nothing is missing: it installs nothing, clones nothing, names the lab."""
    cell = "\n".join(line[4:] for line in lab.__doc__.splitlines() if line.startswith("    "))
    ast.parse(cell)
    (tmp_path / "labs").mkdir()
    (tmp_path / "lab_utils").symlink_to(ROOT / "lab_utils")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", cell],
        cwd=tmp_path / "labs",
        env=environ,
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(r"Lab 01_quantization_buckets \| device .*\n", done.stdout), done.stderr
