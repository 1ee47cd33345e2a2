"""What every lab starts with. The setup cell, the same in each lab but for its name, and folded:

    # @title Set-up: run this cell first
    import os, subprocess, sys

    # Before torch loads: waiting threads sleep instead of spinning.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "google.colab" in sys.modules and not os.path.exists("peft-lab-kit"):
        kit = "https://github.com/OWNER/REPO"
        subprocess.run(["git", "clone", "--depth=1", kit, "peft-lab-kit"], check=True)
    sys.path[:0] = ["peft-lab-kit", ".."]  # Colab's copy, or the folder above labs/

    from lab_utils.start.environment import install_missing

    install_missing()

    from lab_utils.start.lab import start_lab

    info = start_lab("01_quantization_buckets", seed=0)
    print(info)

Its output names the machine, so the notebook tests run the cell but do not compare what it prints.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from lab_utils.files import DATA, RUNS
from lab_utils.start.environment import set_variables
from lab_utils.start.hardware import Hardware, detect

MINUTES = DATA / "reference" / "lab_minutes.json"
"""What each lab took where it was measured; `python3 -m lab_utils run --record` writes it."""
NEEDS_REAL_MODEL = ("09",)


@dataclass(frozen=True)
class Measured:
    """What a lab took, from start to end in a fresh kernel."""

    seconds: float
    gigabytes: float  # the most that its kernel held: RAM

    @property
    def minutes(self) -> int:
        """Whole minutes, rounded up."""
        return math.ceil(self.seconds / 60)


@dataclass(frozen=True)
class LabInfo:
    """What a lab knows about itself; its text is one line."""

    name: str
    hardware: Hardware
    minutes: float | None  # None where nobody has measured it
    seed: int
    runs: Path

    @property
    def where(self) -> dict[str, str]:
        """Which base model, and on what: a lab hands it to whatever loads a model."""
        return {"tier": self.hardware.tier, "device": self.hardware.device}

    @property
    def tier(self) -> str:
        """The name of the base model, in `base_model.TIERS`."""
        return self.hardware.tier

    @property
    def device(self) -> str:
        """Where a lab's own tensors go, so that they meet the model's."""
        return self.hardware.device

    def __str__(self) -> str:
        hardware = self.hardware
        minutes = "not timed here yet" if self.minutes is None else f"about {self.minutes:g} min"
        return (
            f"Lab {self.name} | device {hardware.device} | dtype {hardware.compute_dtype} | tier "
            f"{hardware.tier} | {minutes} | seed {self.seed}"
        )


def start_lab(name: str, seed: int = 0) -> LabInfo:
    """Seeds python, numpy and torch, makes the lab's results folder and looks at the machine.
    Prints nothing.

    Call it before torch is imported: it sets OMP_WAIT_POLICY, which is read once. ValueError for a
    name without number.
    """
    set_variables()
    # PEFT gives up beside an old torchao, such as the one that Colab has. No lab uses torchao: here
    # it counts as not installed.
    sys.modules.setdefault("torchao", None)
    # On CPUs with AVX512-BF16 bitsandbytes advises to fetch a kernel from a hub; the labs need no
    # network, nor that kernel.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    runs = runs_dir(name)
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    hardware = hardware_for(name)
    took = measured(name, hardware.runs)
    return LabInfo(name, hardware, took.minutes if took else None, seed, runs)


def hardware_for(name: str) -> Hardware:
    """The machine as a lab uses it: on a CPU the small base, but in lab 09, which is about a real
    model.
    """
    hardware = detect()
    real = hardware.tier == "cpu" and name[:2] in NEEDS_REAL_MODEL
    return replace(hardware, tier="smollm2") if real else hardware


def measured(name: str, what_runs: str, record: Path = MINUTES) -> Measured | None:
    """What the lab (its number is enough) took where this ran (`Hardware.runs`), or None where
    nobody has measured it.
    """
    if not record.is_file():
        return None
    records = json.loads(record.read_text(encoding="utf-8"))
    took = records.get(what_runs, {}).get("labs", {}).get(name[:2])
    return Measured(**took) if took else None


def results_folder() -> Path:
    """Where results go: LAB_RUNS_DIR where that is set, else the kit's `runs`. Where that cannot
    be written, as in somebody else's copy of the kit, a folder in the person's home, else a
    temporary one.
    """
    if chosen := os.environ.get("LAB_RUNS_DIR"):
        return Path(chosen)
    home = Path(os.path.expanduser("~"))  # "~" where the person has none
    for folder in (RUNS, home / "lab-kit-runs"):
        if folder.is_absolute() and can_write(folder):
            return folder
    return Path(tempfile.gettempdir()) / "lab-kit-runs"


def can_write(folder: Path) -> bool:
    """Whether files can be made in the folder, which is made if needed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def runs_dir(lab_name: str) -> Path:
    """The folder for a lab's results, made if needed: `<NN>` in `results_folder()`."""
    if not re.match(r"\d\d", lab_name):
        raise ValueError(
            "expected a lab name with its number first, such as 06_qlora_finetune, got "
            f"{lab_name!r}"
        )
    folder = results_folder() / lab_name[:2]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
