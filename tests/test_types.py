"""The ideas that students read are typed: mypy finds nothing in quantization, memory and LoRA."""

import importlib.util
import subprocess
import sys

import pytest

from lab_utils.files import ROOT


@pytest.mark.slow
def test_mypy_finds_nothing():
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install mypy")
    command = [sys.executable, "-m", "mypy"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
