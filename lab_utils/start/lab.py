"""What every lab starts with. The setup cell, the same in each lab but for its name:

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

import logging
import os
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from lab_utils.files import RUNS
from lab_utils.start.environment import set_variables
from lab_utils.start.hardware import LAB_06_EXPECTED, LAB_09_EXPECTED, Hardware, detect

OTHER_LABS_MINUTES = 2
"""An estimate for any lab but 06 and 09, on any tier; `python3 -m lab_utils run` prints what each one really took."""


@dataclass(frozen=True)
class LabInfo:
    """What a lab knows about itself; its text is one line."""

    name: str
    hardware: Hardware
    minutes: float
    seed: int
    runs: Path

    def __str__(self) -> str:
        hardware = self.hardware
        return (
            f"Lab {self.name} | device {hardware.device} | dtype {hardware.compute_dtype} | tier "
            f"{hardware.tier} | about {self.minutes:g} min | seed {self.seed}"
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
    hardware = detect()
    return LabInfo(name, hardware, expected_minutes(name, hardware.tier), seed, runs)


def expected_minutes(name: str, tier: str) -> float:
    """About how long the lab takes on this tier, in minutes."""
    if name.startswith("09"):
        return LAB_09_EXPECTED[0]
    return LAB_06_EXPECTED[tier][0] if name.startswith("06") else OTHER_LABS_MINUTES


def runs_dir(lab_name: str) -> Path:
    """The folder for a lab's results, made if needed: `runs/<NN>`, below LAB_RUNS_DIR where that is
    set.
    """
    if not re.match(r"\d\d", lab_name):
        raise ValueError(
            "expected a lab name with its number first, such as 06_qlora_finetune, got "
            f"{lab_name!r}"
        )
    folder = Path(os.environ.get("LAB_RUNS_DIR") or RUNS) / lab_name[:2]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
