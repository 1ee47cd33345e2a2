"""The fine-tuning of lab 06 from a command line, on one process or on several, with the same
result.

    python3 -m lab_utils.course.launching --config data/launch/pavlos.json
    accelerate launch --config_file data/launch/ddp.yaml -m lab_utils.course.launching --config
    data/launch/pavlos.json

The batch in the file is the global one: each of its batches is dealt out to the processes, and the
loss is the mean over all its answer tokens, wherever they are. So more processes change the time
that a step takes, and not the step.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import signal
import sys
import types
import typing
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from peft import load_peft_weights, set_peft_model_state_dict
from torch.utils.data import BatchSampler
from transformers import Trainer

from lab_utils.files import write_json
from lab_utils.finetuning.base_model import load_base, load_tokenizer, nf4_config, tier_of
from lab_utils.finetuning.training import (
    BadLossError,
    FinetuneConfig,
    FinetuneResult,
    add_adapters,
    finetune,
    load_for_training,
    save_adapter,
)
from lab_utils.pavlos import load_pairs
from lab_utils.start.hardware import compute_dtype

# beside FinetuneConfig's fields; the first two are needed
PLACES = {
    "data": str,
    "output": str,
    "tier": str,
    "source": str,
}


@dataclass(frozen=True)
class Job:
    """What a configuration file asks for: a fine-tuning, its rows, its base model (`where`), and
    where it is written.
    """

    config: FinetuneConfig
    rows: list[dict[str, str]]
    where: dict[str, str]
    output: Path


# --------------------------------------------------------------------------- the configuration file
def known_fields() -> dict[str, object]:
    """Every field of a configuration file with its type."""
    hints = typing.get_type_hints(FinetuneConfig)
    return PLACES | {field.name: hints[field.name] for field in fields(FinetuneConfig)}


def fits(value: object, hint: object) -> bool:
    """Whether a JSON value is of a field's type: an int is a float too, a bool is no number, a list
    stands for a tuple.
    """
    if isinstance(hint, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return (
            isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
        )
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def said_of(hint: object) -> str:
    """A field's type in words for an error message."""
    return str(getattr(hint, "__name__", hint)).replace("NoneType", "null").replace("None", "null")


def check_fields(given: object, path: Path) -> dict[str, object]:
    """The file's fields as given. Raises ValueError for an unknown or missing field, or a value of
    another type.
    """
    if not isinstance(given, dict):
        raise ValueError(
            f'{path} holds no JSON object: expected {{"data": ..., "output": ..., ...}}'
        )
    known = known_fields()
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"{path}: unknown field {name!r}"
                + (f", did you mean {near[0]!r}?" if near else "")
                + f" Known fields: {', '.join(known)}"
            )
        if not fits(value, known[name]):
            raise ValueError(
                f"{path}: {name} is {json.dumps(value)}, expected {said_of(known[name])}"
            )
    for name in ("data", "output"):
        if not given.get(name):
            raise ValueError(
                f"{path}: {name} is missing; it names "
                + {
                    "data": "a file of question-answer rows (.jsonl)",
                    "output": "the folder for the adapter and the checkpoints",
                }[name]
            )
    return given


def read_job(path: Path) -> Job:
    """The job that a JSON file describes; its paths are relative to the current folder.

    Raises FileNotFoundError for a missing file, ValueError for what is wrong in it or in its rows.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: --config names a JSON file such as data/launch/pavlos.json"
        )
    try:
        given = check_fields(json.loads(path.read_text(encoding="utf-8")), path)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if name not in PLACES
    }
    data = Path(given["data"])
    if data.suffix != ".jsonl" or not data.is_file():
        raise ValueError(
            f"data is {str(data)!r}: expected an existing .jsonl file, as data/pavlos/train.jsonl "
            "is"
        )
    where = {name: given[name] for name in ("tier", "source") if name in given}
    return Job(
        FinetuneConfig(**settings), load_pairs(data.stem, data.parent), where, Path(given["output"])
    )


# --------------------------------------------------------------------- several processes, one batch
def check_shares(batch_size: int, n_rows: int, n_processes: int) -> None:
    """Raises ValueError unless every batch, and the smaller last one of an epoch, has a row for
    every process.
    """
    if batch_size % n_processes:
        near = [
            size
            for size in (
                batch_size - batch_size % n_processes,
                batch_size + -batch_size % n_processes,
            )
            if size
        ]
        raise ValueError(
            f"batch_size {batch_size} cannot be dealt out evenly to {n_processes} processes: it "
            f"is the batch of all of them together, so choose {' or '.join(map(str, near))}, or "
            "another number of processes"
        )
    left = n_rows % batch_size
    if 0 < left < n_processes:
        raise ValueError(
            f"{n_rows} rows in batches of {batch_size} leave {left} for the last batch of an "
            f"epoch, fewer than the {n_processes} processes: leave out {left}, or choose another "
            "batch_size"
        )


class RankShare(BatchSampler):
    """One rank's rows of each batch that a single process would take: every `n_processes`-th, from
    its own rank on.

    The order is rank 0's, sent to all at the start of an epoch: a batch is whole only if all agree
    on it. accelerate's own `split_batches` does not do: it fills up the last, smaller batch of an
    epoch with rows seen before, or leaves some ranks without any, and then the others wait forever.
    """

    def __init__(self, batches: BatchSampler, rank: int, n_processes: int):
        self.batches, self.rank, self.n_processes = batches, rank, n_processes
        self.sampler = batches.sampler  # accelerate tells it the epoch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        order = [list(self.batches)]
        broadcast_object_list(order)
        for batch in order[0]:
            yield batch[self.rank :: self.n_processes]


class GlobalBatchTrainer(Trainer):
    """transformers' Trainer, whose `per_device_train_batch_size` is taken as the batch of all
    processes together.

    Its own way would give each process whole batches in turn and fill up the last one of an epoch
    with rows seen before. It already divides each rank's summed loss by the number of answer tokens
    of all ranks (`num_items_in_batch`, `average_tokens_across_devices`), which makes the gradients
    those of a single process.
    """

    def __init__(self, *, args, **kwargs):
        args.ddp_find_unused_parameters = (
            False  # every adapter is used in every step: nothing to search for
        )
        super().__init__(args=args, **kwargs)
        self.bare = self.model  # without FSDP's wrapper, which `model` will have

    def get_train_dataloader(self):
        """The Trainer's loader, in which accelerate's sharding passes on `RankShare`'s shares."""
        loader = super().get_train_dataloader()
        if self.args.world_size > 1:
            shard = loader.batch_sampler
            shard.batch_sampler = RankShare(
                shard.batch_sampler, self.args.process_index, self.args.world_size
            )
            shard.num_processes, shard.process_index, shard.batch_size = 1, 0, None
        return loader

    def _save_rng_state(self, output_dir):
        """Each rank writes its own file. `trainer_state.json`, which marks a whole checkpoint, must
        come after them all.
        """
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        """As the Trainer does, but for adapters under FSDP, which `train` has loaded: PEFT finds
        none in wrapped layers.
        """
        if not (self.is_fsdp_enabled and hasattr(self.bare, "peft_config")):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def train(self, resume_from_checkpoint=None, **kwargs):
        """Train; under FSDP adapters are loaded before it wraps the layers, and put together on
        rank 0 in the end.
        """
        if self.is_fsdp_enabled and resume_from_checkpoint and hasattr(self.bare, "peft_config"):
            set_peft_model_state_dict(
                self.bare, load_peft_weights(resume_from_checkpoint, device="cpu")
            )
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        if self.is_fsdp_enabled:
            whole = self.accelerator.get_state_dict(self.model)  # all ranks must take part
            self.bare.save_pretrained = partial(self.bare.save_pretrained, state_dict=whole)
        return output


# ---------------------------------------------------------------------------------------- FSDP
def is_sharded() -> bool:
    """Whether accelerate was told to shard the model (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def load_sharded(
    config: FinetuneConfig, tier: str = "cpu", device: str = "cpu", source: str | None = None
):
    """(model, tokenizer) for FSDP, which flattens the weights of a layer into one tensor: all in
    one floating type.

    So 4-bit codes are stored as numbers of the compute type (`bnb_4bit_quant_storage`), four or
    eight in each, and nothing is upcast to float32, as `prepare_model_for_kbit_training` would.
    """
    from transformers import AutoModelForCausalLM

    dtype = compute_dtype(device)
    if config.method != "qlora":
        model, tokenizer = load_base(tier, device=device, dtype=dtype, source=source)
    else:
        quantization = nf4_config(dtype)
        quantization.bnb_4bit_quant_storage = dtype
        source = source or tier_of(tier).source
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, device_map={"": device}, quantization_config=quantization
        )
        tokenizer = load_tokenizer(source)
    if config.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.config.use_cache = False
    return (
        model if config.method == "full" else add_adapters(model, replace(config, method="lora"))
    ), tokenizer


def mend_adapter_names() -> None:
    """Lets PEFT find the adapters inside FSDP's wrappers; without this it saves files without a
    single weight.

    PEFT 0.21 asks the wrapped modules for their names and takes FSDP's prefix off the front only,
    not where a layer within is wrapped, while the weights that FSDP hands out have plain names. So
    nothing matches, and nothing is said.
    """
    from peft.tuners import tuners_utils

    wrapped = tuners_utils._get_tuner_state_dict_key_prefixes
    tuners_utils._get_tuner_state_dict_key_prefixes = lambda *args, **kwargs: {
        name.replace("_fsdp_wrapped_module.", "") for name in wrapped(*args, **kwargs)
    }


# -------------------------------------------------------------------------------------- the command
def fingerprint(job: Job) -> dict[str, object]:
    """What all processes must have in common, as plain values."""
    return (
        asdict(job.config)
        | job.where
        | {
            "data": hashlib.sha256(repr(job.rows).encode()).hexdigest()[:12],
            "output": str(job.output),
            "torch": torch.__version__,
        }
    )


def agreed_job(path: Path, state: PartialState) -> Job:
    """The job, read by every rank. Raises ValueError if one of them cannot read it or reads another
    than rank 0.
    """
    job, mine = None, {}
    try:
        job = read_job(path)
        check_shares(job.config.batch_size, len(job.rows), state.num_processes)
        mine = fingerprint(job)
    except (ValueError, OSError) as error:
        mine = {"error": str(error)}
    everyone = gather_object([mine])
    for rank, theirs in enumerate(everyone):
        if "error" in theirs:
            raise ValueError(theirs["error"] if rank == 0 else f"process {rank}: {theirs['error']}")
        for name in theirs.keys() | everyone[0].keys():
            if theirs.get(name) != everyone[0].get(name):
                raise ValueError(
                    f"the processes were started differently: {name} is {theirs.get(name)!r} for "
                    f"process {rank} and {everyone[0].get(name)!r} for process 0; give each "
                    "machine the same file and data"
                )
    return job


def check_folder_is_shared(folder: Path, state: PartialState) -> None:
    """Raises ValueError unless every process sees what process 0 writes into the folder:
    checkpoints are read by all.
    """
    mark = folder / "launch.mark"
    token = [os.urandom(8).hex()]
    broadcast_object_list(token)
    if state.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(token[0], encoding="utf-8")
    state.wait_for_everyone()
    seen = gather_object([mark.is_file() and mark.read_text(encoding="utf-8") == token[0]])
    if state.is_main_process:
        mark.unlink()
    if not all(seen):
        raise ValueError(
            f"process {seen.index(False)} does not see what process 0 wrote to {folder}: output "
            "must be a folder that all machines share"
        )


def save(result: FinetuneResult, job: Job, n_processes: int) -> Path:
    """Write the adapter (or the model, for full fine-tuning) and `losses.json`; returns the
    adapter's folder.
    """
    folder = save_adapter(
        result, job.output / ("model" if job.config.method == "full" else "adapter")
    )
    write_json(
        job.output / "losses.json",
        {
            "losses": result.losses,
            "seconds": round(result.seconds, 2),
            "processes": n_processes,
            "config": asdict(job.config),
        },
    )
    return folder


def run(path: Path, state: PartialState) -> None:
    """Do the job of the file; rank 0 writes and says what came out."""
    job = agreed_job(path, state)
    check_folder_is_shared(job.output, state)
    if is_sharded():
        mend_adapter_names()
    device = f"cuda:{state.local_process_index}" if state.device.type == "cuda" else "cpu"
    result = finetune(
        job.config,
        job.rows,
        job.output / "run",
        device=device,
        trainer_class=GlobalBatchTrainer,
        load=load_sharded if is_sharded() else load_for_training,
        **job.where,
    )
    if state.is_main_process:
        folder = save(result, job, state.num_processes)
        print(
            f"{len(result.losses)} steps in {result.seconds:.1f} s on {state.num_processes} "
            f"process(es): loss {result.losses[0]:.4f} -> {result.losses[-1]:.4f}; saved in "
            f"{folder}"
        )
    state.wait_for_everyone()


def start_process() -> PartialState:
    """This process among those started together, on its GPU, or on the CPU where there is none.

    Raises ValueError where several were asked for and just one was started, as `accelerate launch
    --cpu` does.
    """
    sizes = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("true", "1")
    if on_cpu and "MASTER_ADDR" in os.environ and not any(name in os.environ for name in sizes):
        raise ValueError(
            "several processes were asked for and only one was started: 'accelerate launch --cpu' "
            "does so without mpirun. Use --config_file data/launch/ddp.yaml; it takes the CPU "
            "where there is no GPU"
        )
    return PartialState(cpu=on_cpu or not torch.cuda.is_available())


class StoppedError(RuntimeError):
    """This process was stopped because another one of the launch is gone."""


def stop(signum, frame):
    """What the launcher's SIGTERM does, so that there is time to say how to go on."""
    raise StoppedError("stopped by the launcher")


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error means that another process is gone; gloo says so by a plain RuntimeError."""
    return isinstance(error, (StoppedError, torch.distributed.DistError)) or "gloo" in str(error)


def main(argv: list[str] | None = None) -> int:
    """Fine-tune as the configuration file says; 0 if it is done, 2 for bad input, 1 if the training
    went wrong.
    """
    parser = argparse.ArgumentParser(
        prog="lab_utils.course.launching", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="a JSON file; docs/launching.md lists its fields"
    )
    path = parser.parse_args(argv).config
    rank = int(os.environ.get("RANK", "0"))
    try:
        state = start_process()
        if state.num_processes > 1:
            signal.signal(signal.SIGTERM, stop)
        run(path, state)
        state.destroy_process_group()
    except (ValueError, OSError, BadLossError) as error:
        if rank == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        return 1 if isinstance(error, BadLossError) else 2
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        # the launcher's, which may come in the middle of the next line
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(
            f"error: process {rank} stops, since another process of this launch is gone. Give the "
            "same command again: it goes on from the last whole checkpoint",
            file=sys.stderr,
            flush=True,
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
