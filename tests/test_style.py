"""The style of the house: ruff's rules and its formatter for code, 88 columns for cells."""

import json
import subprocess
import sys

import pytest

from lab_utils.course.run import find_labs
from lab_utils.files import ROOT

WIDEST_CELL = 88  # what a notebook shows without a sideways scroll


@pytest.mark.parametrize(
    "words", [["check", "."], ["format", "--check", "lab_utils", "tests"]], ids=["rules", "format"]
)
def test_ruff_has_nothing_to_say(words):
    pytest.importorskip("ruff")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


@pytest.mark.parametrize("lab", find_labs(), ids=lambda path: path.stem)
def test_code_in_cells_fits_the_page(lab):
    cells = json.loads(lab.read_text(encoding="utf-8"))["cells"]
    lines = [
        line
        for cell in cells
        if cell["cell_type"] == "code"
        for line in "".join(cell["source"]).splitlines()
    ]
    assert not [line for line in lines if len(line) > WIDEST_CELL]
