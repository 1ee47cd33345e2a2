"""Fine-tuning on transformers' Trainer, peft and bitsandbytes: full, LoRA or QLoRA by one small
configuration.

What a lab must not get wrong silently is guarded here: the loss is finite and not zero, the
adapters have moved after the first step, a killed run goes on from its last whole checkpoint, and
nothing half-written is left under a final name.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.pytorch_utils import Conv1D

from lab_utils.finetuning.base_model import load_base, set_compute_dtype
from lab_utils.finetuning.chat import IGNORED, encode_pair
from lab_utils.finetuning.rates import rate_scale, rates_for
from lab_utils.memory.sizes import tensor_bytes
from lab_utils.quantization.double import stored_tensors
from lab_utils.start.hardware import compute_dtype

METHODS = ("full", "lora", "qlora")


@dataclass(frozen=True)
class FinetuneConfig:
    """What decides a fine-tuning run. Defaults come from a handful of tries on the validation
    pairs.
    """

    methods: ClassVar[tuple[str, ...]] = METHODS

    method: str = "qlora"
    rank: int = 4
    alpha: int = 16
    dropout: float = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    target_modules: str | tuple[str, ...] = "all-linear"  # or names such as ("q_proj", "v_proj")
    learning_rate: float | None = None  # None: the method's usual one, by the model's size
    steps: int = 80
    batch_size: int = 12
    accumulate: int = 1  # a step's rows go through in so many parts: less memory, the same gradient
    bf16: bool = False  # multiply matrices in bfloat16; what is kept between steps is as before
    seed: int = 0
    checkpointing: bool = False
    group_by_length: bool = (
        False  # rows of like length share a batch, so that little of it is padding
    )
    save_every: int = 20

    def __post_init__(self):
        if self.method not in self.methods:
            raise ValueError(
                f"unknown method {self.method!r}: expected one of {', '.join(self.methods)}"
            )
        if self.rank < 1:
            raise ValueError(
                f"rank is {self.rank}: a LoRA adapter needs a rank of at least 1 (4 to 64 are "
                "usual)"
            )
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(
                f"steps ({self.steps}) and batch_size ({self.batch_size}) must be at least 1"
            )
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate is {self.accumulate}: it must divide batch_size ({self.batch_size})"
            )
        if self.save_every < 1:
            raise ValueError(
                f"save_every is {self.save_every}: a checkpoint is kept after every so many "
                "steps, at least 1"
            )
        if self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"alpha ({self.alpha}) must be above 0, dropout ({self.dropout}) from 0 to below "
                "1: otherwise the adapter adds nothing"
            )
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate}: it must be above 0, or None for the "
                "usual one"
            )

    @property
    def rate(self) -> float:
        """The learning rate given, or else the method's usual one on the small base."""
        return rates_for(0).of(self.method) if self.learning_rate is None else self.learning_rate

    def rate_for(self, model) -> float:
        """The learning rate given, or else the usual one for a model of this size."""
        return self.rate if self.learning_rate else self.rate * rate_scale(model, self.method)


@dataclass
class FinetuneResult:
    """A fine-tuned model and what training cost; bytes count the tensors that training keeps."""

    model: object
    tokenizer: object
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    trainable_params: int = 0
    measured_bytes: dict[str, int] = field(default_factory=dict)


class PairDataset(Dataset):
    """Question-answer rows as token ids, with labels on the answers only."""

    def __init__(self, rows: list[dict[str, str]], tokenizer, max_length: int | None = None):
        if not rows:
            raise ValueError(
                "no rows to learn from: expected at least one {'question': ..., 'answer': ...}"
            )
        self.pairs = [
            encode_pair(tokenizer, row.get("question"), row.get("answer"), max_length=max_length)
            for row in rows
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> dict[str, list[int]]:
        return self.pairs[i]


class PadRight:
    """Collates pairs into (batch, longest) tensors, or `at_least` so long: ids padded with the pad
    token, labels with -100.
    """

    def __init__(self, pad_id: int, at_least: int = 0):
        self.pad_id, self.at_least = pad_id, at_least

    def __call__(self, pairs: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        longest = max(self.at_least, *(len(pair["input_ids"]) for pair in pairs))

        def padded(name: str, filler: int) -> torch.Tensor:
            return torch.tensor(
                [pair[name] + [filler] * (longest - len(pair[name])) for pair in pairs]
            )

        mask = [
            [1] * len(pair["input_ids"]) + [0] * (longest - len(pair["input_ids"]))
            for pair in pairs
        ]
        return {
            "input_ids": padded("input_ids", self.pad_id),
            "labels": padded("labels", IGNORED),
            "attention_mask": torch.tensor(mask),
        }


def smallest_linear_side(model) -> int:
    """The smallest input or output width of the linear layers but the head: the highest rank.

    GPT-2's `Conv1D` is a linear layer too, stored as (in, out).
    """
    layers = [module for name, module in model.named_modules() if "lm_head" not in name]
    sides = [min(m.in_features, m.out_features) for m in layers if isinstance(m, torch.nn.Linear)]
    sides += [min(m.weight.shape) for m in layers if isinstance(m, Conv1D)]
    if not sides:
        raise ValueError(f"{type(model).__name__} has no linear layer to put an adapter beside")
    return min(sides)


def add_adapters(model, config: FinetuneConfig):
    """The model with LoRA adapters on all its linear layers but the head; only they are trainable.

    Raises ValueError for a rank above the smallest side of a layer, where B A has more parameters
    than it has rank.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    widest = smallest_linear_side(model)
    if config.rank > widest:
        raise ValueError(
            f"rank {config.rank} is above {widest}, the smallest side of an adapted layer: "
            f"choose a rank from 1 to {widest}"
        )
    if config.method == "qlora":
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=config.checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    torch.manual_seed(config.seed)  # A is drawn at random
    return get_peft_model(
        model,
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            use_rslora=config.use_rslora,
            use_dora=config.use_dora,
            task_type="CAUSAL_LM",
            target_modules=config.target_modules
            if isinstance(config.target_modules, str)
            else list(config.target_modules),
        ),
    )


def load_for_training(config: FinetuneConfig, **where):
    """(model, tokenizer) as the method trains them; `where` goes to `load_base` (tier, device,
    dtype, source).
    """
    if config.method == "full":
        # a 16-bit weight is too coarse to take AdamW's small steps
        where = {"dtype": torch.float32, **where}
    model, tokenizer = load_base(quantized=config.method == "qlora", **where)
    if config.method != "full":
        model = add_adapters(model, config)
    # for QLoRA, `add_adapters` has switched it on
    if config.checkpointing and config.method != "qlora":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    # a cache of keys and values is of no use while all positions are computed at once
    model.config.use_cache = False
    return model, tokenizer


class BadLossError(RuntimeError):
    """Training met a loss that is not finite, or exactly zero."""


class StopOnBadLoss(TrainerCallback):
    """Stops at the first step whose loss is not finite, or zero, and says what usually is why."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Look at the loss that was just logged."""
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise BadLossError(
                f"the loss is {loss} at step {state.global_step}: usually the learning rate is "
                "too high, or float16 overflowed (use bfloat16 or float32); at step 1, look "
                "whether every label is masked"
            )
        if loss == 0.0:
            raise BadLossError(
                f"the loss is exactly 0 at step {state.global_step}: usually every label is "
                "masked, so there is no answer token to learn from; look at the labels of one "
                "batch"
            )


class AdapterMoved(TrainerCallback):
    """After the first step every lora_B must differ from the zeros that it started from."""

    def __init__(self):
        self.checked = False

    def on_log(self, args, state, control, model=None, optimizer=None, **kwargs):
        """Checks once, after `StopOnBadLoss` has seen the loss; float16 training may skip its very
        first steps.
        """
        if self.checked or getattr(optimizer, "step_was_skipped", False):
            return
        self.checked = True
        still = [
            name
            for name, p in model.named_parameters()
            if "lora_B" in name and not p.detach().any()
        ]
        if still:
            raise RuntimeError(
                f"{len(still)} lora_B matrices are still zero after the first step (first: "
                f"{still[0]}): no gradient reaches them. With checkpointing, use "
                "use_reentrant=False or call model.enable_input_require_grads()"
            )


class Progress(TrainerCallback):
    """A progress bar over the steps, or, where given, `watch(step, n_steps, loss)` for a live
    picture instead of it.
    """

    def __init__(self, watch=None):
        self.watch, self.bar = watch, None

    def on_train_begin(self, args, state, control, **kwargs):
        """Open the bar; a resumed run starts it where it stopped."""
        if self.watch is None:
            # one bar, however many processes
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                unit="step",
                desc="training",
                disable=not state.is_world_process_zero,
            )

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Show the loss that was just logged."""
        if "loss" not in (logs or {}):
            return
        if self.watch is not None:
            self.watch(state.global_step, state.max_steps, logs["loss"])
        else:
            self.bar.update(state.global_step - self.bar.n)
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of the folder that was saved to its end, or None.

    The Trainer writes `trainer_state.json` last, so a checkpoint whose state can be read is whole.
    """
    found = sorted(
        folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]), reverse=True
    )
    for checkpoint in found:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return checkpoint
    return None


def training_arguments(
    config: FinetuneConfig, folder: Path, device: str, **other
) -> TrainingArguments:
    """The Trainer's arguments: no warm-up (lora_B must move in step 1), a cosine to zero, every
    step logged; on a GPU QLoRA's own optimizer, whose states are as large as AdamW's.

    `other` arguments go before these.
    """
    on_gpu = device.startswith("cuda")
    half = compute_dtype(device) if on_gpu else None
    # `Progress` shows the steps
    return TrainingArguments(
        **{
            **dict(
                output_dir=str(folder),
                max_steps=config.steps,
                per_device_train_batch_size=config.batch_size // config.accumulate,
                gradient_accumulation_steps=config.accumulate,
                learning_rate=config.rate,
                lr_scheduler_type="cosine",
                warmup_steps=0,
                weight_decay=0.0,
                max_grad_norm=1.0,
                optim="paged_adamw_32bit" if on_gpu else "adamw_torch",
                use_cpu=not on_gpu,
                seed=config.seed,
                data_seed=config.seed,
                logging_steps=1,
                logging_nan_inf_filter=False,
                save_steps=config.save_every,
                save_total_limit=2,
                bf16=config.bf16 or half == torch.bfloat16,
                fp16=half == torch.float16,
                report_to="none",
                remove_unused_columns=False,
                train_sampling_strategy="group_by_length" if config.group_by_length else "random",
                dataloader_pin_memory=on_gpu,
                disable_tqdm=True,
            ),
            **other,
        }
    )


def _weight_tensors(parameter) -> list[torch.Tensor]:
    """A parameter's own tensor, and for a 4-bit weight the constants of its quantization."""
    state = getattr(parameter, "quant_state", None)
    return [parameter.detach(), *(stored_tensors(state).values() if state else ())]


def training_state_bytes(model, optimizer) -> dict[str, int]:
    """Bytes that training keeps between steps, counted on the tensors themselves: weights,
    gradients, optimizer.

    Gradients are freed between steps; they are counted as large as the trainable parameters that
    they belong to.
    """
    parameters = list(model.parameters())
    weights = tensor_bytes(t for p in parameters for t in _weight_tensors(p))
    gradients = tensor_bytes(p for p in parameters if p.requires_grad)
    states = tensor_bytes(
        t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)
    )
    return {"weights": weights, "gradients": gradients, "optimizer": states}


def clear_run(folder: Path) -> None:
    """Remove a run's plan and checkpoints, and its folder unless something else is in it."""
    (folder / "plan.json").unlink(missing_ok=True)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def open_run(
    folder: Path, config: FinetuneConfig, rows: list[dict[str, str]], where: dict
) -> Path | None:
    """Make the run's folder and return the checkpoint to go on from, if a run of the same plan was
    killed there.

    The plan is the configuration, the rows and the base model; checkpoints of another plan are
    removed.
    """
    base = {name: str(value) for name, value in sorted(where.items())}
    plan = json.dumps([asdict(config), hashlib.sha256(repr(rows).encode()).hexdigest(), base])
    plan_file = folder / "plan.json"
    if not plan_file.is_file() or plan_file.read_text(encoding="utf-8") != plan:
        clear_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
        plan_file.write_text(plan, encoding="utf-8")
    return last_whole_checkpoint(folder)


def make_trainer(
    config: FinetuneConfig,
    model,
    tokenizer,
    rows,
    folder: Path,
    device: str,
    watch,
    more_guards=(),
    trainer_class=Trainer,
    **arguments,
) -> Trainer:
    """transformers' Trainer with the answers-only data and this module's guards, or more;
    `arguments` go before ours. With `bf16` the model's 4-bit layers compute in it from here on.
    """
    if config.bf16:
        set_compute_dtype(model, torch.bfloat16)
    data = PairDataset(rows, tokenizer, model.config.max_position_embeddings)
    guards = [
        StopOnBadLoss(),
        Progress(watch),
        *([] if config.method == "full" else [AdapterMoved()]),
        *more_guards,
    ]
    arguments = {"learning_rate": config.rate_for(model), **arguments}
    trainer = trainer_class(
        model=model,
        args=training_arguments(config, folder, device, **arguments),
        train_dataset=data,
        data_collator=PadRight(tokenizer.pad_token_id),
        callbacks=guards,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def finetune(
    config: FinetuneConfig,
    rows: list[dict[str, str]],
    folder: Path | str,
    watch=None,
    *,
    load=load_for_training,
    more_guards=(),
    trainer_class=Trainer,
    **where,
) -> FinetuneResult:
    """Fine-tune on question-answer rows. A killed run goes on from its last whole checkpoint in
    `folder`.

    `watch(step, n_steps, loss)` is called at every step in place of a progress bar; `where` goes to
    `load_base`. Other methods bring their `load(config, **where)` -> (model, tokenizer) and the
    callbacks that guard them. The checkpoints of a finished run are removed. Raises ValueError for
    bad rows or a bad configuration, BadLossError for a loss that is not finite or zero,
    RuntimeError if the adapters do not move.
    """
    folder = Path(folder)
    torch.manual_seed(config.seed)
    model, tokenizer = load(config, **where)
    trainer = make_trainer(
        config,
        model,
        tokenizer,
        rows,
        folder,
        where.get("device", "cpu"),
        watch,
        more_guards,
        trainer_class,
    )
    # of several processes (launching.py), only this one writes and clears
    first = trainer.is_world_process_zero()
    with trainer.args.main_process_first(local=False):
        checkpoint = (
            open_run(folder, config, rows, where) if first else last_whole_checkpoint(folder)
        )
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    seconds = time.perf_counter() - start
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    measured = training_state_bytes(model, trainer.optimizer)
    if first:
        clear_run(folder)
    return FinetuneResult(model, tokenizer, losses, seconds, trainable, measured)


def save_adapter(result: FinetuneResult, folder: Path | str) -> Path:
    """Save the adapter in PEFT's format, so that `AutoPeftModelForCausalLM.from_pretrained` loads
    it by itself.

    Written beside `folder` and then moved: if the disk fills up, nothing that looks whole is left,
    and what was in `folder` before is still there. Raises OSError.
    """
    folder = Path(folder)
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    shutil.rmtree(part, ignore_errors=True)
    try:
        result.model.save_pretrained(part)
        result.tokenizer.save_pretrained(part)
        if folder.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(part, folder)
    except Exception as error:
        shutil.rmtree(part, ignore_errors=True)
        if old.is_dir() and not folder.exists():
            os.replace(old, folder)
        raise OSError(
            f"the adapter could not be saved to {folder} ({error}): is the disk full or the folder "
            "write-protected? Nothing was left behind"
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    return folder


def folder_bytes(folder: Path | str, pattern: str = "*.safetensors") -> int:
    """Bytes of the weight files of a saved model or adapter."""
    return sum(file.stat().st_size for file in Path(folder).glob(pattern))


def bytes_by_dtype(model) -> dict[str, int]:
    """Bytes of a model's weights by the type they are stored in; 4-bit weights are uint8, their
    constants apart.
    """
    sizes: dict[str, int] = {}
    for parameter in model.parameters():
        for i, tensor in enumerate(_weight_tensors(parameter)):
            name = str(tensor.dtype).removeprefix("torch.") + (" (constants)" if i else "")
            sizes[name] = sizes.get(name, 0) + tensor_bytes([tensor])
    return sizes
