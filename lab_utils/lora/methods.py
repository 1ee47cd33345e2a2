"""The lecture's PEFT methods on one base: what each one trains, how many bytes it takes, what it
forgets, how it merges.

Selective methods train some of the weights that are there, additive ones add small layers or soft
prompts, LoRA and its kin write the update as a product of two thin matrices (Lialin et al. 2023,
figure 2). PEFT has most of them; bottleneck adapters, which it lacks, are written out here. All are
trained by `finetuning.finetune`.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from transformers import TrainerCallback

from lab_utils.files import DATA
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import Answer, answer_questions, encode_prompt, pad_left
from lab_utils.finetuning.evaluation import fact_score, voice_score
from lab_utils.finetuning.merging import merged_and_checked
from lab_utils.finetuning.training import FinetuneConfig, FinetuneResult, add_adapters, finetune
from lab_utils.memory.sizes import (
    Architecture,
    adapter_parameters,
    tensor_bytes,
    training_state_bytes,
)
from lab_utils.pavlos.corpus import TASKS, SideTask, in_voice, make_task, voice_marks
from lab_utils.pavlos.facts import all_facts

Row = dict[str, str]


# -------------------------------------------------------------------------------------- the methods
@dataclass(frozen=True)
class Method:
    """One way to fine-tune: its family, its usual learning rate, and the rates that a search tries."""

    title: str
    family: str  # "full", "selective", "additive", "soft prompts" or "reparameterization"
    trains: str  # what is trained, in a few words
    rates: tuple[float, float, float]  # the middle one first tried; the search takes all three
    merges: bool  # whether what was trained can become part of the base's own weights

    @property
    def rate(self) -> float:
        return self.rates[1]


METHODS = {
    "full": Method("full", "full", "every weight", (2e-4, 5e-4, 1e-3), True),
    "bias": Method(
        "biases", "selective", "a bias for every linear layer", (3e-3, 1e-2, 3e-2), True
    ),
    "norms": Method("norms", "selective", "the scales of the norms", (3e-3, 1e-2, 3e-2), True),
    "last": Method(
        "last layer", "selective", "the last layer and the final norm", (3e-4, 1e-3, 3e-3), True
    ),
    "adapters": Method(
        "adapters", "additive", "a bottleneck behind attention and MLP", (1e-3, 3e-3, 1e-2), False
    ),
    "prompt": Method(
        "prompt tuning", "soft prompts", "embeddings of virtual tokens", (3e-2, 1e-1, 3e-1), False
    ),
    "prefix": Method(
        "prefix tuning",
        "soft prompts",
        "keys and values of virtual tokens",
        (1e-2, 3e-2, 1e-1),
        False,
    ),
    "ia3": Method(
        "IA3", "additive", "a factor for every key, value and MLP unit", (1e-2, 3e-2, 1e-1), True
    ),
    "lora": Method(
        "LoRA", "reparameterization", "B and A beside every linear layer", (1e-3, 3e-3, 1e-2), True
    ),
    "dora": Method(
        "DoRA", "reparameterization", "B, A and the length of every row", (1e-3, 3e-3, 1e-2), True
    ),
    "qlora": Method(
        "QLoRA", "reparameterization", "B and A beside 4-bit layers", (1e-3, 3e-3, 1e-2), True
    ),
}


@dataclass(frozen=True)
class MethodConfig(FinetuneConfig):
    """A `FinetuneConfig` for any of METHODS. `bottleneck` is the adapters' width, `virtual_tokens`
    that of soft prompts.
    """

    methods: ClassVar[tuple[str, ...]] = tuple(METHODS)

    batch_size: int = 8
    bottleneck: int = 16
    virtual_tokens: int = 20

    def __post_init__(self):
        super().__post_init__()
        if self.bottleneck < 1 or self.virtual_tokens < 1:
            raise ValueError(
                f"bottleneck ({self.bottleneck}) and virtual_tokens ({self.virtual_tokens}) must "
                "be at least 1"
            )

    @property
    def rate(self) -> float:
        """The learning rate given, or else the method's usual one."""
        return METHODS[self.method].rate if self.learning_rate is None else self.learning_rate


# --------------------------------------------------------------------------- adapters, from scratch
class Bottleneck(nn.Module):
    """h + up(relu(down(h))), from width to size and back (Houlsby et al. 2019, figure 2). `up`
    starts at zero: identity.

    In PyTorch's order `down.weight` is (size, width) and `up.weight` (width, size); both layers
    have a bias.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: (..., width) -> (..., width)."""
        return hidden + self.up(relu(self.down(hidden)))


def add_bottlenecks(model, size: int) -> None:
    """Put a Bottleneck behind the attention and behind the MLP of every layer, before each is added
    to the stream.
    """
    width = model.config.hidden_size
    for layer in model.model.layers:
        layer.self_attn.o_proj = nn.Sequential(layer.self_attn.o_proj, Bottleneck(width, size))
        layer.mlp.down_proj = nn.Sequential(layer.mlp.down_proj, Bottleneck(width, size))


def add_biases(model) -> None:
    """Give every linear layer of the blocks a bias of zeros. BitFit trains biases; a Llama has none
    to select.
    """
    for module in model.model.layers.modules():
        if isinstance(module, nn.Linear) and module.bias is None:
            module.bias = nn.Parameter(
                torch.zeros(module.out_features, device=module.weight.device)
            )


# ---------------------------------------------------------------------------- DoRA, in one equation
def dora_weight(
    weight: Tensor, lora_a: Tensor, lora_b: Tensor, lengths: Tensor, alpha: float
) -> Tensor:
    """The weight that a DoRA layer uses: rows point where W + alpha/r B A points, and are as long
    as `lengths` says.

    weight (n_out, n_in), lora_a (rank, n_in), lora_b (n_out, rank), lengths (n_out,) -> (n_out,
    n_in). At the start, B is zero and `lengths` are those of W's own rows, so nothing changes (Liu
    et al. 2024, equation 5, transposed).
    """
    moved = weight + alpha / lora_a.shape[0] * lora_b @ lora_a
    return moved * (lengths / moved.norm(dim=1))[:, None]


# -------------------------------------------------------------------------------- preparing a model
def _by_hand(model, config: MethodConfig):
    """Freeze the model but for what the method trains, and add what it adds; for methods without
    PEFT.
    """
    if config.method == "full":
        return model
    model.requires_grad_(False)
    if config.method == "bias":
        add_biases(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith(".bias"))
    elif config.method == "last":
        model.model.layers[-1].requires_grad_(True)
        model.model.norm.requires_grad_(True)
    else:
        add_bottlenecks(model, config.bottleneck)  # new modules: trainable
    return model


def peft_config(model, config: MethodConfig):
    """PEFT's own configuration of "norms", "prompt", "prefix" or "ia3"."""
    from peft import IA3Config, LNTuningConfig, PrefixTuningConfig, PromptTuningConfig

    task = {"task_type": "CAUSAL_LM"}
    if config.method == "norms":
        return LNTuningConfig(
            target_modules=["input_layernorm", "post_attention_layernorm", "norm"], **task
        )
    if config.method == "ia3":
        return IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
            **task,
        )
    if config.method == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=config.virtual_tokens, **task)
    return PromptTuningConfig(
        num_virtual_tokens=config.virtual_tokens,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text="Speak like a friend who knows all about cheese.",
        tokenizer_name_or_path=model.config.name_or_path,
        **task,
    )


def add_method(model, config: MethodConfig):
    """The model with what the method adds; only what it trains is trainable. Random starts are
    drawn from the seed.
    """
    from peft import get_peft_model

    if config.method in ("lora", "dora", "qlora"):
        return add_adapters(
            model, replace(config, use_dora=config.method == "dora" or config.use_dora)
        )
    torch.manual_seed(config.seed)
    if config.method in ("full", "bias", "last", "adapters"):
        return _by_hand(model, config)
    return get_peft_model(model, peft_config(model, config))


def load_for_method(config: MethodConfig, **where):
    """(model, tokenizer) as the method trains them, in float32 or 4 bits; `where` goes to
    `load_base`.
    """
    where = {"dtype": torch.float32, **where}
    model, tokenizer = load_base(quantized=config.method == "qlora", **where)
    model = add_method(model, config)
    model.config.use_cache = (
        False  # a cache of keys and values is of no use while all positions are computed at once
    )
    return model, tokenizer


class EverythingMoves(TrainerCallback):
    """Two steps in, every trained tensor must differ from what it was: what no gradient reaches is
    noticed at once.
    """

    def __init__(self):
        self.before: dict[str, Tensor] = {}
        self.n_steps = 0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Remember what is trained."""
        self.before = {
            name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad
        }

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        """Look once, after two steps that were not skipped: LoRA's A, behind a B of zeros, moves
        only in the second.
        """
        if not self.before or getattr(optimizer, "step_was_skipped", False):
            return
        self.n_steps += 1
        if self.n_steps < 2:
            return
        now = dict(model.named_parameters())
        still = [name for name, before in self.before.items() if torch.equal(now[name], before)]
        self.before = {}
        if still:
            raise RuntimeError(
                f"{len(still)} trained tensors have not moved in two steps (first: {still[0]}): "
                "no gradient reaches them. Is the layer used at all, and is nothing detached "
                "before it?"
            )


def train(
    config: MethodConfig, rows: list[Row], folder: Path | str, watch=None, **where
) -> FinetuneResult:
    """`finetuning.finetune` for any method: its progress, its guards, its going on after a kill."""
    # a copy of a whole model would be large
    guards = () if config.method == "full" else (EverythingMoves(),)
    return finetune(config, rows, folder, watch, load=load_for_method, more_guards=guards, **where)


# -------------------------------------------------------------------- counting, before any training
def trainable_parameters(architecture: Architecture, config: MethodConfig) -> int:
    """Parameters that the method trains, counted from the sizes of a Llama-like model alone."""
    a, shapes = architecture, architecture.linear_shapes()
    outputs, layer = sum(n_out for n_out, _ in shapes), sum(o * i for o, i in shapes) // a.n_layers
    kv = a.n_kv_heads * a.head_dim
    counts = {
        "full": layer * a.n_layers + a.n_other(),
        "bias": outputs,
        "norms": a.hidden_size * (2 * a.n_layers + 1),
        "last": layer + 3 * a.hidden_size,
        "adapters": 2
        * a.n_layers
        * (2 * a.hidden_size * config.bottleneck + config.bottleneck + a.hidden_size),
        "prompt": config.virtual_tokens * a.hidden_size,
        "prefix": config.virtual_tokens * a.n_layers * 2 * kv,
        "ia3": a.n_layers * (2 * kv + a.intermediate_size),
        "lora": adapter_parameters(a, config.rank),
        "dora": adapter_parameters(a, config.rank) + outputs,
        "qlora": adapter_parameters(a, config.rank),
    }
    return counts[config.method]


def predicted_bytes(architecture: Architecture, config: MethodConfig) -> dict[str, int]:
    """Bytes between steps in float32 with AdamW: {"weights", "gradients", "optimizer"}, from the
    sizes alone.

    Full fine-tuning and "last" train weights that are there; every other method stores what it
    trains beside the base (PEFT keeps the norms' old scales too). A gradient takes 4 bytes, AdamW's
    two states 8.
    """
    if config.method in ("full", "lora", "qlora"):
        return training_state_bytes(architecture, config.method, config.rank)
    trained = trainable_parameters(architecture, config)
    weights = training_state_bytes(architecture, "full")["weights"] + (
        0 if config.method == "last" else 4 * trained
    )
    return {"weights": weights, "gradients": 4 * trained, "optimizer": 8 * trained}


# ------------------------------------------------------------------------ keeping, loading, merging
TRAINED = "trained.safetensors"


def save_trained(model, folder: Path | str) -> Path:
    """Keep the trained tensors alone, in one file: what each task needs beside the base. Returns
    the file.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / (TRAINED + ".part")
    save_file(
        {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad},
        part,
    )
    os.replace(part, folder / TRAINED)
    return folder / TRAINED


def load_trained(config: MethodConfig, folder: Path | str, **where):
    """(model, tokenizer) as `save_trained` left them. Raises ValueError where the file is of
    another method or size.
    """
    from safetensors.torch import load_file

    model, tokenizer = load_for_method(config, **where)
    kept, trained = (
        load_file(Path(folder) / TRAINED),
        {n: p for n, p in model.named_parameters() if p.requires_grad},
    )
    if {n: t.shape for n, t in kept.items()} != {n: p.shape for n, p in trained.items()}:
        raise ValueError(
            f"{TRAINED} in {folder} was not saved by {config.method} of this size: load it with "
            "the configuration that it was trained with"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(kept[name])
    return model, tokenizer


def merged(model, config: MethodConfig, **where):
    """A plain model that answers as `model` does, with what was trained inside its weights; `model`
    stays as it is.

    Raises ValueError for methods that cannot be merged: a nonlinear adapter is no matrix, and a
    prompt is no weight.
    """
    if not METHODS[config.method].merges:
        raise ValueError(
            f"{METHODS[config.method].title} cannot be merged: it is not a change of the weights"
        )
    if config.method in ("full", "bias", "last"):
        return copy.deepcopy(model)
    if config.method != "qlora":
        return merged_and_checked(copy.deepcopy(model))
    base, _ = load_base(quantized=True, **{"dtype": torch.float32, **where})
    plain = add_adapters(base.dequantize(), replace(config, method="lora"))
    adapters = {name: p for name, p in model.named_parameters() if "lora_" in name}
    plain.load_state_dict(adapters, strict=False)
    return merged_and_checked(plain)


# ---------------------------------------------------------------------------------------- scores
ROUGES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def rouge_scores(answers: list[str], references: list[str]) -> dict[str, float]:
    """Mean F-measures, 0 to 1, of words, pairs of words and longest common subsequence (Lin 2004):
    the lecture's chart.
    """
    from rouge_score.rouge_scorer import RougeScorer

    if not answers:
        raise ValueError("no answers to score: expected at least one")
    scorer = RougeScorer(ROUGES)
    scores = [
        scorer.score(reference, answer)
        for answer, reference in zip(answers, references, strict=True)
    ]
    return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in ROUGES}


def answers_of(model, tokenizer, questions: list[str]) -> list[str]:
    """The model's greedy answers. A soft prompt gets its questions in batches of equal length,
    without any padding.

    PEFT puts the virtual tokens before the padding and drops the position ids, so that padding
    comes between prompt and question: with peft 0.21 most answers of a padded batch differ from
    those given one by one (huggingface/peft#1093).
    """
    if (
        getattr(model, "active_peft_config", None) is None
        or not model.active_peft_config.is_prompt_learning
    ):
        return [answer.text for answer in answer_questions(model, tokenizer, questions)]
    by_length: dict[int, list[int]] = {}
    for i, question in enumerate(questions):
        by_length.setdefault(len(encode_prompt(tokenizer, question)), []).append(i)
    texts = [""] * len(questions)
    for chosen in by_length.values():
        for i, answer in zip(
            chosen, answer_questions(model, tokenizer, [questions[i] for i in chosen]), strict=True
        ):
            texts[i] = answer.text
    return texts


def solved_by_task(model, tokenizer, tasks: list[SideTask]) -> dict[str, float]:
    """Share of the side tasks solved, task by task: {"addition": 0.2, ...}."""
    right: dict[str, list[bool]] = {}
    for task, answer in zip(
        tasks, answers_of(model, tokenizer, [task.question for task in tasks]), strict=True
    ):
        right.setdefault(task.task, []).append(task.is_right(answer))
    return {name: sum(flags) / len(flags) for name, flags in right.items()}


def forgetting(before: dict[str, float], after: dict[str, float]) -> float:
    """Mean share of tasks lost, over the kinds of task: 0.1 means that one task in ten is no longer
    solved.
    """
    if before.keys() != after.keys() or not before:
        raise ValueError(
            f"before and after must have the same tasks, got {sorted(before)} and {sorted(after)}"
        )
    return sum(before[name] - after[name] for name in before) / len(before)


def scores_of(
    model,
    tokenizer,
    rows: list[Row],
    tasks: list[SideTask],
    base_tasks: dict[str, float] | None = None,
) -> dict:
    """What a model is worth, as shares from 0 to 1: Pavlos' voice, facts, the ROUGEs, side tasks;
    and what it forgot.

    `forgetting` is counted against `base_tasks`, the base's share by task; without it, against the
    model itself (0).
    """
    answers = answers_of(model, tokenizer, [row["question"] for row in rows])
    tasks_now = solved_by_task(model, tokenizer, tasks)
    return {
        "voice": voice_score(answers),
        "facts": fact_score(answers, [row["fact_id"] for row in rows]),
        **rouge_scores(answers, [row["answer"] for row in rows]),
        "tasks": tasks_now,
        "forgetting": forgetting(base_tasks or tasks_now, tasks_now),
    }


# ------------------------------------------------------------------------ replay against forgetting
def replay_size(n_rows: int, share: float) -> int:
    """How many rows to add to `n_rows` so that they make up `share` of all. Raises ValueError for a
    share not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}: expected from 0 (no replay) to below 1")
    return round(n_rows * share / (1 - share))


def with_replay(rows: list[Row], share: float, seed: int = 0) -> list[Row]:
    """`rows` mixed with side tasks in their training wording, plainly answered, so that these make
    up `share` of all.

    Multi-task fine-tuning in small: the base met such tasks in pretraining, and is reminded of
    them.
    """
    rng = random.Random(seed)
    tasks = [make_task(rng.choice(list(TASKS)), rng) for _ in range(replay_size(len(rows), share))]
    mixed = [*rows, *({"question": task.question, "answer": task.answer} for task in tasks)]
    rng.shuffle(mixed)
    return mixed


# ----------------------------------------------------------------- other voices, for other adapters
@lru_cache(maxsize=None)
def other_voices() -> dict[str, dict]:
    """The voices of `data/adapters_voices.json`: an auctioneer, and a terse one."""
    return json.loads((DATA / "adapters_voices.json").read_text(encoding="utf-8"))


def _voice(name: str) -> dict:
    if name not in other_voices():
        raise ValueError(
            f"unknown voice {name!r}: expected pavlos or one of {', '.join(other_voices())}"
        )
    return other_voices()[name]


def rows_in_voice(rows: list[Row], name: str, seed: int = 0) -> list[Row]:
    """The same questions, answered with the same facts in another voice; "pavlos" gives the rows as
    they are.
    """
    if name == "pavlos":
        return rows
    voice, rng, facts = (
        _voice(name),
        random.Random(seed),
        {fact.fact_id: fact for fact in all_facts()},
    )
    pattern = tuple(part for part in ("greeting", "aside", "closing") if voice[part + "s"])

    def answer(row: Row) -> str:
        fact = facts[row["fact_id"]]
        subject = fact.subject[0].upper() + fact.subject[1:]
        said = (
            voice["form"].format(subject=subject, value=fact.value)
            if "form" in voice
            else fact.statement()
        )
        return in_voice(voice, pattern, said, rng)

    return [{**row, "answer": answer(row)} for row in rows]


def speaks(name: str, answer: str) -> bool:
    """Whether an answer is in this voice: at least two of its marks (the terse voice has two)."""
    if name == "pavlos":
        return sum(voice_marks(answer).values()) >= 2
    patterns = _voice(name)["signature"].values()
    return sum(re.search(pattern, answer, re.IGNORECASE) is not None for pattern in patterns) >= 2


def voice_shares(answers: list[str]) -> dict[str, float]:
    """Share of the answers in each voice: {"pavlos": 0.9, "auctioneer": 0.0, "terse": 0.0}."""
    if not answers:
        raise ValueError("no answers to score: expected at least one")
    names = ("pavlos", *other_voices())
    return {name: sum(speaks(name, answer) for answer in answers) / len(answers) for name in names}


# ------------------------------------------------------------------------ many adapters on one base
BASE = "__base__"  # PEFT's name for "no adapter" in a mixed batch


def load_adapters(folders: dict[str, Path | str], **where):
    """(model, tokenizer): one base with every saved adapter on it, by name; the first is active.
    `where`: `load_base`.
    """
    from peft import PeftModel

    base, tokenizer = load_base(**where)
    (first, folder), *others = folders.items()
    model = PeftModel.from_pretrained(base, folder, adapter_name=first)
    for name, folder in others:
        model.load_adapter(folder, adapter_name=name)
    return model.eval(), tokenizer


def answer_as(model, tokenizer, name: str, questions: list[str], **how) -> list[Answer]:
    """Hot-swap: switch to the adapter (or to none, for BASE) and answer. `how` goes to
    `answer_questions`.
    """
    if name == BASE:
        with model.disable_adapter():
            return answer_questions(model, tokenizer, questions, **how)
    model.set_adapter(name)
    return answer_questions(model, tokenizer, questions, **how)


@torch.no_grad()
def answer_mixed(
    model, tokenizer, questions: list[str], names: list[str], max_new_tokens: int = 72
) -> list[str]:
    """One batch, an adapter of its own for every question: `names[i]` answers `questions[i]`, BASE
    the bare base.
    """
    if len(questions) != len(names):
        raise ValueError(
            f"{len(questions)} questions and {len(names)} adapter names: expected one name for "
            "each question"
        )
    ids, mask = pad_left(
        [encode_prompt(tokenizer, question) for question in questions], tokenizer.pad_token_id
    )
    out = model.eval().generate(
        input_ids=ids,
        attention_mask=mask,
        adapter_names=names,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return [
        text.strip()
        for text in tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    ]


def blend(model, weights: dict[str, float], name: str = "blend", how: str = "cat") -> None:
    """Add an adapter that is the weighted sum of others, and switch to it; an older one of that
    name is replaced.

    "cat" stacks the A's and the B's: exactly the sum of the updates B A, at the sum of the ranks.
    "linear" averages the A's and the B's apart, which brings in products of one adapter's B with
    another's A.
    """
    model.set_adapter(next(iter(weights)))
    if name in model.peft_config:
        model.delete_adapter(name)
    model.add_weighted_adapter(list(weights), list(weights.values()), name, combination_type=how)
    model.set_adapter(name)


# ---------------------------------------------------------------------------------------- speed
@torch.no_grad()
def speak(model, tokenizer, questions: list[str], n_new: int = 32) -> int:
    """Generate exactly `n_new` tokens for every question, end or no end; returns the number of
    tokens, for timing.
    """
    ids, mask = pad_left(
        [encode_prompt(tokenizer, question) for question in questions], tokenizer.pad_token_id
    )
    model.eval().generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        min_new_tokens=n_new,
        max_new_tokens=n_new,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    return n_new * len(questions)


def trained_bytes(model) -> int:
    """Bytes of the trained tensors: what a task of its own adds on disk, but for a file's header."""
    return tensor_bytes(p for p in model.parameters() if p.requires_grad)


# ----------------------------------------------------------------------------- rows of metrics.json
def metrics_row(row: dict, source: str) -> dict:
    """A method's row of `runs/07/metrics.json`, from a row with the fields of the wide comparison;
    bytes are totals.
    """
    kept = ("trainable", "bytes_disk", "seconds_per_step", "voice", "facts", "rougeL", "forgetting")
    return {
        "source": source,
        **{name: row[name] for name in kept},
        "predicted_bytes": sum(row["predicted_bytes"].values()),
        "measured_bytes": sum(row["measured_bytes"].values()),
        "tokens_per_second_inference": row["tokens_per_second"],
    }


def measured_row(
    run: FinetuneResult, config: MethodConfig, scores: dict, tokens_per_second: float
) -> dict:
    """The same for a run that was just made, with the scores that `scores_of` gave it."""
    architecture = Architecture.of(run.model.config)
    return metrics_row(
        {
            **{name: round(value, 4) for name, value in scores.items() if name != "tasks"},
            "trainable": run.trainable_params,
            "bytes_disk": trained_bytes(run.model),
            "seconds_per_step": round(run.seconds / config.steps, 4),
            "predicted_bytes": predicted_bytes(architecture, config),
            "measured_bytes": run.measured_bytes,
            "tokens_per_second": round(tokens_per_second, 1),
        },
        "measured here",
    )


# -------------------------------------------------------------------------- the lecture's five axes
AXES = ("few parameters", "little memory", "fast training", "good answers", "fast answers")


def five_axes(
    methods: dict[str, dict], base_tokens_per_second: float
) -> dict[str, dict[str, float]]:
    """Each method on the lecture's five axes, 1 best: {method: {axis: share}}. `methods` are rows
    of the wide comparison.

    Parameters on a log scale from the most to the fewest; memory and seconds as the least of all
    divided by one's own; answers as the mean of voice and facts; speed of answering against the
    bare base, merged where that is possible.
    """
    trained = [row["trainable"] for row in methods.values()]
    memory = {name: sum(row["measured_bytes"].values()) for name, row in methods.items()}
    seconds = [row["seconds_per_step"] for row in methods.values()]

    def shares(name: str, row: dict) -> tuple[float, ...]:
        few = math.log(max(trained) / row["trainable"]) / math.log(max(trained) / min(trained))
        speed = (
            row["tokens_per_second_merged"] or row["tokens_per_second"]
        ) / base_tokens_per_second
        return (
            few,
            min(memory.values()) / memory[name],
            min(seconds) / row["seconds_per_step"],
            (row["voice"] + row["facts"]) / 2,
            min(speed, 1.0),
        )

    return {name: dict(zip(AXES, shares(name, row), strict=True)) for name, row in methods.items()}
