"""The choice of number format and tier."""

import subprocess
import sys

import pytest
import torch

from lab_utils.files import ROOT, LabKitError
from lab_utils.start import hardware

GB = 10**9


@pytest.mark.parametrize(
    "device, capability, memory, dtype, tier",
    [
        ("cpu", None, 4 * GB, "float32", "cpu"),
        ("cpu", None, 512 * GB, "float32", "cpu"),
        ("cuda", (7, 5), 16 * GB, "float16", "t4"),  # T4
        ("cuda", (7, 0), 32 * GB, "float16", "t4"),  # V100
        ("cuda", (8, 0), 80 * GB, "bfloat16", "large"),  # A100
        ("cuda", (8, 9), 8 * GB, "bfloat16", "t4"),  # a laptop's
        ("cuda", (8, 6), 70 * GB, "bfloat16", "large"),
        ("cuda", (8, 6), 70 * GB - 1, "bfloat16", "t4"),
        ("cuda", (12, 0), 96 * GB, "bfloat16", "large"),
    ],
)
def test_choice(device, capability, memory, dtype, tier):
    chosen, reason, chosen_tier = hardware.choose(device, capability, memory)
    assert (chosen, chosen_tier) == (dtype, tier)
    assert isinstance(getattr(torch, chosen), torch.dtype)
    assert "bfloat16" in reason or "float32" in reason


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="got 'tpu'"):
        hardware.choose("tpu", None, 0)


def test_without_a_trace_of_a_gpu_torch_is_not_imported():
    code = (
        "import sys; from lab_utils.start import hardware\n"
        "hardware.may_have_gpu = lambda: False\n"
        "print(hardware.detect().device, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "cpu False\n", done.stderr


def test_traces_of_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware.sys, "platform", "linux")
    monkeypatch.setattr(hardware.shutil, "which", lambda name: None)
    monkeypatch.setattr(hardware, "GPU_TRACES", [str(tmp_path / "nvidiactl")])
    assert not hardware.may_have_gpu()
    (tmp_path / "nvidiactl").touch()
    assert hardware.may_have_gpu()


def test_detect_on_a_cpu(monkeypatch):
    import psutil

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = hardware.detect()
    assert (found.device, found.compute_dtype, found.tier) == ("cpu", "float32", "cpu")
    assert found.memory_bytes == psutil.virtual_memory().total
    assert found.n_threads == torch.get_num_threads()


@pytest.fixture
def t4(monkeypatch):
    """torch tells of a T4."""
    from types import SimpleNamespace

    monkeypatch.delenv(hardware.CHOICE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: SimpleNamespace(name="Tesla T4", total_memory=15 * GB),
    )


@pytest.mark.parametrize(
    "wanted, device, tier, runs",
    [
        ("cpu", "cpu", "cpu", "cpu"),
        (" SmolLM2 ", "cuda", "smollm2", "smollm2 on cuda"),
        ("t4", "cuda", "t4", "t4"),
        ("large", "cuda", "large", "large"),
        ("", "cuda", "t4", "t4"),
    ],
)
def test_a_reader_chooses_the_tier(wanted, device, tier, runs, t4, monkeypatch):
    monkeypatch.setenv(hardware.CHOICE, wanted)
    found = hardware.detect()
    assert (found.device, found.tier, found.runs) == (device, tier, runs)
    assert found.compute_dtype == ("float32" if device == "cpu" else "float16")
    assert (found.memory_bytes == 15 * GB) is (device == "cuda"), "the memory of what is used"


@pytest.mark.parametrize(
    "wanted, told",
    [
        ("huge", "LAB_TIER is 'huge': expected one of cpu, smollm2, t4, large"),
        ("t4", "LAB_TIER=t4 needs a CUDA GPU, and torch sees none here: use LAB_TIER=cpu"),
    ],
)
def test_a_tier_that_cannot_be_is_refused(wanted, told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(hardware.CHOICE, wanted)
    with pytest.raises(LabKitError, match=told):
        hardware.detect()


def test_detect_on_a_t4(t4):
    found = hardware.detect()
    assert (found.device, found.name, found.compute_dtype, found.tier) == (
        "cuda",
        "Tesla T4",
        "float16",
        "t4",
    )
    assert found.memory_bytes == 15 * GB


@pytest.mark.gpu
def test_detect_on_this_gpu():
    found = hardware.detect()
    assert found.device == "cuda" and found.name == torch.cuda.get_device_name()
    assert found.memory_bytes == torch.cuda.mem_get_info()[1]
    if found.compute_dtype == "bfloat16":
        assert torch.cuda.is_bf16_supported(including_emulation=False)
