"""What this machine computes on, and in which number format. The choice is a pure function."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab_utils.files import GIGABYTE

LARGE_FROM_BYTES = 20 * GIGABYTE

GPU_TRACES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # Linux: NVIDIA, AMD, Windows' subsystem


@dataclass(frozen=True)
class Hardware:
    """A machine as the labs see it. `memory_bytes` is the GPU's memory, or the RAM where there is
    no GPU of its own.
    """

    device: str  # "cpu", "cuda" or "mps"
    name: str
    compute_dtype: str  # an attribute of torch: getattr(torch, hardware.compute_dtype)
    dtype_reason: str
    tier: str  # "cpu", "t4" or "large"
    memory_bytes: int
    n_threads: int


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
    if device == "mps":
        return "float32", "float32 gives the same scores as on a CPU, on every Apple chip", "cpu"
    if device != "cuda":
        raise ValueError(f"expected device cpu, cuda or mps, got {device!r}")
    tier = "large" if memory_bytes >= LARGE_FROM_BYTES else "t4"
    if capability >= (8, 0):
        return "bfloat16", "compute capability 8.0 and newer has bfloat16 units", tier
    return (
        "float16",
        f"compute capability {capability[0]}.{capability[1]} has no bfloat16 units",
        tier,
    )


def compute_dtype(device: str):
    """The torch dtype to compute in on this machine's `device` ("cpu", "cuda", "cuda:0", "mps")."""
    import torch

    kind = device.split(":")[0]
    capability = torch.cuda.get_device_capability(device) if kind == "cuda" else None
    return getattr(torch, choose(kind, capability, 0)[0])


def may_have_gpu() -> bool:
    """Whether the machine's files leave a GPU possible: importing torch, which knows, takes
    seconds.
    """
    traces = any(Path(trace).exists() for trace in GPU_TRACES)
    return traces or sys.platform == "darwin" or shutil.which("nvidia-smi") is not None


def detect() -> Hardware:
    """The machine this process runs on. A CUDA GPU is taken before Apple's, both before the CPU.

    ImportError where psutil is absent, or torch where there may be a GPU.
    """
    device, capability, threads = "cpu", None, os.cpu_count() or 1
    if "torch" in sys.modules or may_have_gpu():
        import torch

        threads = torch.get_num_threads()
        if torch.cuda.is_available():
            device, capability = "cuda", torch.cuda.get_device_capability()
        elif torch.backends.mps.is_available():
            device = "mps"
    name, memory = _name_and_memory(device)
    return Hardware(device, name, *choose(device, capability, memory), memory, threads)


def _name_and_memory(device: str) -> tuple[str, int]:
    if device == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(0)
        return properties.name, properties.total_memory
    import platform

    import psutil

    return platform.processor() or platform.machine(), psutil.virtual_memory().total
