"""QLoRA steps of models with random weights, made in 4 bits layer by layer, and the most memory
that they take.

On a GPU the bytes are those of torch's allocator, and of the paged optimizer's states, which lie
outside of it. On a CPU they are the same count of the same tensors, by torch's profiler: the dry
run differs in nothing else.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lab_utils.finetuning.training import FinetuneConfig, add_adapters
from lab_utils.memory.ledger import Plan, ledger, moments, weight_lines
from lab_utils.memory.measuring import growth
from lab_utils.memory.report import measure_step, predicted_parts
from lab_utils.memory.sizes import Architecture, tensor_bytes

TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
STD = 0.02  # of the random weights: as transformers initializes Llama
REPEATS = 5  # timed steps of the paged optimizer and of the plain one


# ---------------------------------------------------------------------------------------- the model
def random_model(fields: dict[str, Any], device: str):
    """A Llama of this `config.json` with random weights: linear layers but the head in NF4, the
    rest in bfloat16.

    Each weight is drawn on the device and quantized there before the next one is: never is there
    more than one in 16 bits.
    """
    import transformers

    config = transformers.LlamaConfig(
        **{name: value for name, value in fields.items() if name != "model_type"}
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    torch.manual_seed(0)
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not isinstance(module, nn.Linear) or module is model.lm_head:
                setattr(
                    module,
                    name,
                    nn.Parameter(random_weight(parameter.shape, device), requires_grad=False),
                )
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            model.set_submodule(name, random_linear4bit(module, device))
    if config.tie_word_embeddings:
        model.tie_weights()
    with torch.device(device):
        model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.is_loaded_in_4bit = True  # PEFT asks for it
    model.config.use_cache = False
    return model


def random_weight(shape: torch.Size, device: str) -> torch.Tensor:
    """A bfloat16 tensor: uniform with that standard deviation, or ones for the gain of a norm."""
    weight = torch.empty(shape, dtype=torch.bfloat16, device=device)
    return weight.fill_(1) if weight.ndim == 1 else weight.uniform_(-STD * 3**0.5, STD * 3**0.5)


def random_linear4bit(linear: nn.Linear, device: str):
    """bitsandbytes' layer in place of one without data: NF4, constants quantized twice, computing
    in bfloat16.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit

    with torch.device("meta"):
        layer = Linear4bit(
            linear.in_features, linear.out_features, False, torch.bfloat16, quant_type="nf4"
        )
    weight = random_weight(linear.weight.shape, device)
    # quantizes
    layer.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", module=layer).to(
        device
    )
    return layer


def for_training(model, rank: int, types: str, checkpointing: bool = True):
    """The model with adapters on all linear layers. fp32: as PEFT prepares it. bf16, as in the
    paper: nothing is upcast.
    """
    method = "qlora" if types == "fp32" else "lora"
    config = FinetuneConfig(method, rank=rank, checkpointing=checkpointing)
    model = add_adapters(model, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(TYPES[types])
    if checkpointing and method == "lora":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def plan_of(rank: int, types: str, sequence: int) -> Plan:
    """What the ledger is told: exactly what `for_training` and the paged 8-bit AdamW do."""
    return Plan(
        "qlora",
        rank,
        sequence,
        weights="bf16",
        adapters=types,
        unquantized=types,
        optimizer="paged_adamw_8bit",
        checkpointing=True,
    )


# ---------------------------------------------------------------------------------------- counting
def free() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def warm_up(device: str) -> None:
    """Products forward and backward: the libraries take their workspace now, and not in what is
    measured.
    """
    for dtype in TYPES.values():
        x = torch.ones(256, 256, device=device, dtype=dtype, requires_grad=True)
        (x @ x).sum().backward()


def paged_bytes(optimizer) -> int:
    """Bytes of the states in CUDA's managed memory, which torch's allocator knows nothing of."""
    tensors = [value for state in optimizer.state.values() for value in state.values()]
    return tensor_bytes(tensor for tensor in tensors if getattr(tensor, "is_paged", False))


def resident(parts: dict[str, int], optimizer, device: str, base: int) -> int:
    """Bytes there between two steps; `base` was allocated before there was a model."""
    if device == "cpu":
        return sum(
            size
            for name, size in parts.items()
            if name not in ("activations", "logits and loss", "gradients")
        )
    return torch.cuda.memory_allocated() - base + paged_bytes(optimizer)


def allocated(device: str) -> int:
    """Bytes in torch's allocator; 0 on a CPU, where nobody counts them."""
    return 0 if device == "cpu" else torch.cuda.memory_allocated()


# -------------------------------------------------------------------- peak memory beside the ledger
def train_step(model, ids: torch.Tensor, optimizer) -> None:
    """One step on token ids, each its own label, without autocast."""
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def memory_row(
    fields: dict[str, Any], device: str, rank: int, types: str, sequences: tuple[int, ...]
) -> dict[str, Any]:
    """Peak bytes of making a model and of a step at each length, measured and predicted."""
    from bitsandbytes.optim import PagedAdamW8bit

    free()
    base = allocated(device)
    model, load = growth(lambda: random_model(fields, device), device)
    architecture = Architecture.of(model.config)
    model = for_training(model, rank, types)
    optimizer = PagedAdamW8bit([p for p in model.parameters() if p.requires_grad])
    steps = [
        step_row(model, optimizer, plan_of(rank, types, sequence), device, base)
        for sequence in sequences
    ]
    return {
        "parameters": architecture.n_parameters(),
        "steps": steps,
        "load": compared(load, predicted_load(architecture, device)),
    }


def compared(measured: float, predicted: float) -> dict[str, float]:
    """Both numbers and measured / predicted."""
    return {"measured": measured, "predicted": predicted, "ratio": measured / predicted}


def predicted_load(model: Architecture, device: str) -> float:
    """Bytes at the end of making it, when the last weight is still there in 16 bits, and the
    largest is among the last.

    On a CPU bitsandbytes quantizes with three float32 copies of the weight besides.
    """
    stored = sum(
        line.high
        for line in weight_lines(model, Plan(unquantized="bf16"))
        if line.name != "adapters"
    )
    return stored + (14 if device == "cpu" else 2) * max(
        n_out * n_in for n_out, n_in in model.linear_shapes()
    )


def step_row(model, optimizer, plan: Plan, device: str, base: int) -> dict[str, Any]:
    """One length: a first step, whose parts are counted, makes the optimizer's states; the second
    one is the step measured.
    """
    architecture = Architecture.of(model.config)
    ids = torch.randint(0, architecture.vocab_size, (plan.batch, plan.sequence), device=device)
    parts = measure_step(model, ids, optimizer)
    free()
    there = resident(parts, optimizer, device, base)
    start = time.perf_counter()
    _, more = growth(lambda: train_step(model, ids, optimizer), device)
    seconds, lines, at = (
        time.perf_counter() - start,
        ledger(architecture, plan),
        moments(architecture, plan),
    )
    predicted = {
        **predicted_parts(lines),
        **{line.name: line.high for line in lines if line.name == "optimizer states"},
    }
    return {
        "sequence": plan.sequence,
        **compared(there + more, max(at.values())),
        "worst moment": max(at, key=at.get),
        "paged": paged_bytes(optimizer),
        "seconds": seconds,
        "parts": parts,
        "predicted parts": predicted,
    }


# ------------------------------------------------------------------ the paged optimizer under a cap
@contextmanager
def capped(n_bytes: float | None, device: str):
    """torch's allocator refuses to hold more than so many bytes of the GPU. Nothing on a CPU, and
    nothing for None.
    """
    if n_bytes is None or device == "cpu":
        yield
        return
    torch.cuda.set_per_process_memory_fraction(
        min(n_bytes / torch.cuda.get_device_properties(0).total_memory, 1.0)
    )
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def reserved(device: str) -> int:
    """The most bytes that torch's allocator took from the GPU; 0 on a CPU."""
    return 0 if device == "cpu" else torch.cuda.max_memory_reserved()


def optimizer_run(
    name: str,
    fields: dict[str, Any],
    device: str,
    rank: int,
    sequence: int,
    cap: float | None = None,
) -> dict:
    """{"fits", "seconds" a step, "reserved" bytes} of a few steps with one of bitsandbytes'
    optimizers, in 32 bits.
    """
    import bitsandbytes as bnb

    free()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    try:
        with capped(cap, device):
            model = for_training(random_model(fields, device), rank, "bf16")
            optimizer = getattr(bnb.optim, name)([p for p in model.parameters() if p.requires_grad])
            ids = torch.zeros(1, sequence, dtype=torch.long, device=device)
            seconds = [
                timed(lambda: train_step(model, ids, optimizer), device) for _ in range(REPEATS + 1)
            ][1:]
        found = {
            "seconds": statistics.median(seconds),
            "reserved": reserved(device),
            "paged": paged_bytes(optimizer),
        }
        return {"fits": True, **found}
    except torch.OutOfMemoryError as error:
        return {"fits": False, "error": str(error).splitlines()[0]}


def timed(compute: Callable, device: str) -> float:
    """Seconds until all that `compute()` started is done."""

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    wait()
    start = time.perf_counter()
    compute()
    wait()
    return time.perf_counter() - start


def paged_row(fields: dict[str, Any], device: str, rank: int, sequence: int) -> dict[str, Any]:
    """Plain and paged AdamW without a cap, then both under one that lies halfway between what they
    took.

    The cap holds for torch's memory alone: the card itself has room, so nothing is moved out, and
    the cost is that of managed memory. Seconds of real paging come on top where a card is really
    full.
    """

    def run(name: str, cap: float | None = None) -> dict:
        return optimizer_run(name, fields, device, rank, sequence, cap)

    names = ("AdamW32bit", "PagedAdamW32bit")
    free_runs = {name: run(name) for name in names}
    cap = sum(result["reserved"] for result in free_runs.values()) / 2
    under_cap = {name: run(name, cap) for name in names}
    plain, paged = (free_runs[name]["seconds"] for name in names)
    return {
        "rank": rank,
        "sequence": sequence,
        "cap": cap,
        "without cap": free_runs,
        "under cap": under_cap,
        "seconds more": paged - plain,
    }
