"""What this machine computes on, and in which number format. The choice itself is a pure function."""

from __future__ import annotations

from dataclasses import dataclass

from lab_utils.files import GIGABYTE

LARGE_FROM_BYTES = 20 * GIGABYTE

LAB_06_EXPECTED: dict[str, tuple[float, float]] = {
    "cpu": (4, 1.2),
    "t4": (10, 8.0),
    "large": (10, 18.0),
}
"""Minutes and gigabytes (RAM on a CPU, GPU memory otherwise) that lab 06 takes on each tier. The cpu row was measured
on two cores with the model that ships (3 minutes and 1.0 GB, rounded up); nobody has timed the others, they are estimates."""


LAB_09_EXPECTED: tuple[float, float] = (8, 3.0)
"""Minutes and gigabytes of RAM that lab 09 takes on two cores with SmolLM2-135M."""


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


def detect() -> Hardware:
    """The machine this process runs on. A CUDA GPU is taken before Apple's, both before the CPU."""
    import torch

    device, capability = "cpu", None
    if torch.cuda.is_available():
        device, capability = "cuda", torch.cuda.get_device_capability()
    elif torch.backends.mps.is_available():
        device = "mps"
    name, memory = _name_and_memory(device)
    return Hardware(
        device, name, *choose(device, capability, memory), memory, torch.get_num_threads()
    )


def _name_and_memory(device: str) -> tuple[str, int]:
    if device == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(0)
        return properties.name, properties.total_memory
    import platform

    import psutil

    return platform.processor() or platform.machine(), psutil.virtual_memory().total
