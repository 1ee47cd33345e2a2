"""The models that the labs start from: one registry of tiers, one function that loads them.

`cheese-base` ships with the kit (data/models/cheese-base) and needs no network. `smollm2` is a real
model that `python3 -m lab_utils get smollm2` puts in place. The other tiers are models of the
Hugging Face hub, for machines with a GPU: the largest with which every cell of every lab fits, full
fine-tuning and seven copies in float32 included. `start_lab` chooses; LAB_TIER overrules it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab_utils.files import DATA, SMOLLM2
from lab_utils.start.hardware import compute_dtype

if TYPE_CHECKING:  # torch is imported where it is used, so that the command line starts without it
    import torch

CHEESE_BASE = DATA / "models" / "cheese-base"


@dataclass(frozen=True)
class Tier:
    """A base model for a kind of machine. `source` is a folder or a name on the hub."""

    source: str
    n_params: float
    needs: str


TIERS = {
    "cpu": Tier(str(CHEESE_BASE), 5.74e6, "any laptop, no network"),
    "smollm2": Tier(
        str(SMOLLM2), 134.5e6, "3 GB of memory; `python3 -m lab_utils get smollm2` once"
    ),
    "t4": Tier("HuggingFaceTB/SmolLM2-360M-Instruct", 362e6, "a network and a GPU of 15 GB"),
    "large": Tier("Qwen/Qwen2.5-1.5B-Instruct", 1.54e9, "a network and a GPU of 70 GB"),
}


def tier_of(name: str) -> Tier:
    """The registered tier. Raises ValueError that lists the tiers for an unknown name."""
    if name not in TIERS:
        raise ValueError(f"unknown tier {name!r}: expected one of {', '.join(TIERS)}")
    return TIERS[name]


def weights_folder(tier: str) -> Path:
    """Where a tier's weights lie: its own folder, or the hub's, once they were fetched."""
    from huggingface_hub import snapshot_download

    source = tier_of(tier).source
    if _is_folder(source):
        return Path(source)
    return Path(snapshot_download(source, local_files_only=True, allow_patterns="*.safetensors"))


def check_device(device: str) -> str:
    """`device` as given, if this machine has it. Raises RuntimeError where CUDA is asked for and
    absent.
    """
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError(
            "device 'cuda' was asked for, but torch sees no CUDA GPU: use device='cpu', or in "
            "Colab choose Runtime > Change runtime type > T4 GPU"
        )
    return device


def nf4_config(compute_dtype: torch.dtype):
    """QLoRA's quantization: 4-bit NormalFloat, double-quantized constants (Dettmers et al. 2023,
    section 3).
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def _is_folder(source: str | Path) -> bool:
    """Whether `source` means a folder, there or not; names on the hub look like "owner/model"."""
    name = str(source)
    return (
        isinstance(source, Path)
        or Path(name).is_dir()
        or Path(name).is_absolute()
        or name.startswith(".")
        or "\\" in name
        or name.count("/") > 1
    )


def _check_files(folder: Path) -> None:
    """The files of a local model are there, and its weights whole (safetensors says so itself)."""
    from safetensors import SafetensorError, safe_open

    remedy = {
        CHEESE_BASE: "get it again with 'git checkout -- data', or make it anew with 'python3 -m "
        "lab_utils pretrain'",
        SMOLLM2: "get it with 'python3 -m lab_utils get smollm2' (92 MB, once)",
    }.get(folder, "save or download the model again")
    # large models have several
    shards = sorted(folder.glob("model*.safetensors")) or [folder / "model.safetensors"]
    for needed in (folder / "config.json", folder / "tokenizer.json", *shards):
        if not needed.is_file():
            raise FileNotFoundError(f"{needed.name} is missing from {folder}: {remedy}")
    for weights in shards:
        try:
            with safe_open(weights, framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{weights.name} in {folder} is damaged or cut off ({error}): {remedy}"
            ) from error


def load_tokenizer(source: str | Path):
    """The tokenizer of a folder or hub model, with a pad token (its own, or else the end token)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def same_numbers_in_eval(model) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for bfloat16 kernels when a CPU model goes
    into eval mode.

    It does so only on CPUs with AVX512-BF16, so the same model would score differently from one
    laptop to the next, and differently in evaluation than in training.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def set_compute_dtype(model, dtype: torch.dtype) -> None:
    """Have 4-bit layers dequantize straight to `dtype` and multiply in it.

    Under autocast they multiply in it anyway, but dequantize to the type that they were loaded with
    and cast each weight, twice a step.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = module.weight.quant_state.dtype = dtype


def load_base(
    tier: str = "cpu",
    *,
    quantized: bool = False,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    source: str | Path | None = None,
):
    """(model, tokenizer) of a tier, or of `source`: a folder or a name on the hub.

    `quantized` stores every linear layer but the head as double-quantized NF4; `dtype` is the type
    that the weights are computed in (and, unquantized, stored in), chosen from the hardware unless
    given. Raises ValueError for an unknown tier or damaged weights, FileNotFoundError for missing
    ones and for a hub that cannot be reached, RuntimeError where CUDA is asked for and absent.
    """
    from transformers import AutoModelForCausalLM

    source = source or tier_of(tier).source
    check_device(device)
    dtype = dtype or compute_dtype(device)
    if _is_folder(source):
        _check_files(Path(source))
    extra = {"quantization_config": nf4_config(dtype)} if quantized else {}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, device_map={"": device}, **extra
        )
    except OSError as error:
        if _is_folder(source):
            raise
        raise FileNotFoundError(
            f"{source} could not be fetched from the hub ({error}): without a network set "
            "LAB_TIER=cpu before the lab starts; it takes the model that ships with the kit"
        ) from error
    if quantized and device == "cpu":
        same_numbers_in_eval(model)
    return model, load_tokenizer(source)
