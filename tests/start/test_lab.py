"""What every lab starts with."""

import ast
import os
import random
import re
import subprocess
import sys

import numpy
import pytest
import torch

from lab_utils.start import environment, hardware, lab


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


def test_its_text_is_one_line_with_what_a_student_must_know(runs):
    info = lab.start_lab("06_qlora_finetune")
    machine = hardware.detect()
    minutes = hardware.LAB_06_EXPECTED[machine.tier][0]
    assert str(info) == (
        f"Lab 06_qlora_finetune | device {machine.device} | dtype {machine.compute_dtype} | "
        f"tier {machine.tier} | about {minutes:g} min | seed 0"
    )
    assert info.runs == runs / "06" and info.runs.is_dir()


def test_results_go_where_the_launcher_says_or_into_runs(runs, monkeypatch, tmp_path):
    assert lab.runs_dir("05_pavlos_dataset") == runs / "05"
    monkeypatch.delenv("LAB_RUNS_DIR")
    monkeypatch.setattr(lab, "RUNS", tmp_path / "default")
    assert lab.runs_dir("05") == tmp_path / "default" / "05"
    assert (tmp_path / "default" / "05").is_dir()


@pytest.mark.parametrize("name", ["", "qlora", "6_x"])
def test_a_name_without_a_number_is_refused(name):
    with pytest.raises(ValueError, match="expected a lab name with its number first"):
        lab.runs_dir(name)


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
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(environment.ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    before, after = done.stdout.splitlines()
    assert "incompatible version of torchao" in before and after == "False", done.stderr


def test_the_setup_cell_in_the_docstring_runs(monkeypatch, tmp_path):
    """From labs/, where nothing is missing: it installs nothing, clones nothing, and names the lab."""
    cell = "\n".join(line[4:] for line in lab.__doc__.splitlines() if line.startswith("    "))
    ast.parse(cell)
    (tmp_path / "labs").mkdir()
    (tmp_path / "lab_utils").symlink_to(environment.ROOT / "lab_utils")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", cell],
        cwd=tmp_path / "labs",
        env=environ,
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(r"Lab 01_quantization_buckets \| device .*\n", done.stdout), done.stderr
