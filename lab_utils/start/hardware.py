"""What this machine computes on, and in which number format. The choice is a pure function."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab_utils.files import GIGABYTE, LabKitError

LARGE_FROM_BYTES = 70 * GIGABYTE
CHOICE = "LAB_TIER"  # the variable by which a reader chooses another tier than the machine's
TIER_NAMES = ("cpu", "smollm2", "t4", "large")

GPU_TRACES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # Linux: NVIDIA, AMD, Windows' subsystem


@dataclass(frozen=True)
class Hardware:
    """A machine as the labs use it. `memory_bytes` is that of the device: the GPU's, or the RAM."""

    device: str  # "cpu" or "cuda"
    name: str
    compute_dtype: str  # an attribute of torch: getattr(torch, hardware.compute_dtype)
    dtype_reason: str
    tier: str  # one of TIER_NAMES: which base model
    memory_bytes: int
    n_threads: int

    @property
    def runs(self) -> str:
        """What runs here, as records are named: "cpu", "t4", "large", "smollm2 on cpu" or cuda."""
        return f"smollm2 on {self.device}" if self.tier == "smollm2" else self.tier


def choose(
    device: str, capability: tuple[int, int] | None, memory_bytes: int
) -> tuple[str, str, str]:
    """(compute dtype, why, tier) for a device; `capability` is CUDA's (major, minor), None
    elsewhere.
    """
    if device == "cpu":
        return (
            "float32",
            (
                "without AVX512-BF16, bfloat16 was measured 3 to 6 times slower, and float32 "
                "gives the same scores on every CPU"
            ),
            "cpu",
        )
    if device != "cuda":
        raise ValueError(f"expected device cpu or cuda, got {device!r}")
    tier = "large" if memory_bytes >= LARGE_FROM_BYTES else "t4"
    if capability >= (8, 0):
        return "bfloat16", "compute capability 8.0 and newer has bfloat16 units", tier
    return (
        "float16",
        f"compute capability {capability[0]}.{capability[1]} has no bfloat16 units",
        tier,
    )


def wanted_tier(has_gpu: bool) -> str | None:
    """What LAB_TIER says, None where it is not set.

    LabKitError for a name that is none of TIER_NAMES, and for a GPU's tier where there is no GPU.
    """
    wanted = os.environ.get(CHOICE, "").strip().lower() or None
    if wanted not in (None, *TIER_NAMES):
        raise LabKitError(f"{CHOICE} is {wanted!r}: expected one of {', '.join(TIER_NAMES)}")
    if wanted in ("t4", "large") and not has_gpu:
        raise LabKitError(
            f"{CHOICE}={wanted} needs a CUDA GPU, and torch sees none here: use {CHOICE}=cpu, or "
            "in Colab choose Runtime > Change runtime type > T4 GPU"
        )
    return wanted


def compute_dtype(device: str):
    """The torch dtype to compute in on this machine's `device` ("cpu", "cuda", "cuda:0")."""
    import torch

    kind = device.split(":")[0]
    capability = torch.cuda.get_device_capability(device) if kind == "cuda" else None
    return getattr(torch, choose(kind, capability, 0)[0])


def has_fast_bfloat16(device: str) -> bool:
    """Whether this device multiplies bfloat16 matrices in hardware; elsewhere bfloat16 is slower
    than float32.
    """
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu._is_avx512_bf16_supported())


def may_have_gpu() -> bool:
    """Whether the machine's files leave a GPU possible: importing torch, which knows, takes
    seconds.
    """
    traces = any(Path(trace).exists() for trace in GPU_TRACES)
    return traces or sys.platform == "darwin" or shutil.which("nvidia-smi") is not None


def detect() -> Hardware:
    """The machine this process runs on, as the labs use it: the one place that decides on a device
    and a tier. A CUDA GPU is taken unless LAB_TIER is "cpu"; Apple's is not, since the labs' 4-bit
    layers were never tried there.

    ImportError where psutil is absent, or torch where there may be a GPU.
    """
    device, capability, threads = "cpu", None, os.cpu_count() or 1
    if "torch" in sys.modules or may_have_gpu():
        import torch

        threads = torch.get_num_threads()
        if torch.cuda.is_available():
            device, capability = "cuda", torch.cuda.get_device_capability()
    wanted = wanted_tier(device == "cuda")
    device = "cpu" if wanted == "cpu" else device
    name, memory = _name_and_memory(device)
    dtype, why, tier = choose(device, capability, memory)
    return Hardware(device, name, dtype, why, wanted or tier, memory, threads)


def _name_and_memory(device: str) -> tuple[str, int]:
    if device == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(0)
        return properties.name, properties.total_memory
    import platform

    import psutil

    return platform.processor() or platform.machine(), psutil.virtual_memory().total
