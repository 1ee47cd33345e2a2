"""Lab 09: what a real language model knows, what fine-tuning teaches it, and what it forgets.

The questions and the English text come from `data/general_knowledge.json`, written for this kit.
Notes are sentences of the fact cards that stand below a question, as in the written Pavlos pairs.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Trainer

from lab_utils.files import DATA, LabKitError
from lab_utils.finetuning.chat import IGNORED, answer_questions
from lab_utils.finetuning.evaluation import share
from lab_utils.memory.ledger import Plan, ledger, moments
from lab_utils.memory.sizes import Architecture
from lab_utils.pavlos.facts import Fact, all_facts, contains
from lab_utils.quantization.buckets import (
    dequantize_absmax,
    dequantize_blockwise,
    fp4_codebook,
    nf4_codebook,
    quantize_absmax,
    quantize_blockwise,
)
from lab_utils.quantization.double import double_dequantize, double_quantize
from lab_utils.quantization.microscaling import dequantize, quantize_mxfp4, quantize_nvfp4

Row = dict[str, str]


# --------------------------------------------------------------------------------- what it knows
@lru_cache(maxsize=None)
def general_knowledge() -> dict:
    """ "asked": 30 questions with the keys of which a right answer holds one; "validation": 24
    others with keys, for what is chosen before; "rehearsal": other questions; "english": texts.
    """
    return json.loads((DATA / "general_knowledge.json").read_text(encoding="utf-8"))


def knows(answer: str, keys: Sequence[str]) -> bool:
    """Whether an answer holds one of the keys as a whole word or number; case does not matter."""
    return any(contains(answer, key) for key in keys)


def known(answers: Sequence[str], which: str = "asked") -> list[bool]:
    """For each general question of one kind ("asked" or "validation"), in order, whether its answer
    is right.
    """
    asked = general_knowledge()[which]
    return [knows(text, row["keys"]) for text, row in zip(answers, asked, strict=True)]


def lost_gained_kept(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int, float]:
    """How many questions were right before and are wrong after; how many the other way round; right
    after over right before (NaN where nothing was right).
    """
    pairs = list(zip(before, after, strict=True))
    lost, gained = sum(b and not a for b, a in pairs), sum(a and not b for b, a in pairs)
    return lost, gained, sum(after) / sum(before) if any(before) else math.nan


def rehearsal_rows(model, tokenizer, n: int | None = None) -> list[Row]:
    """Rows in which the model's own greedy answers stand, up to the end of their last sentence:
    training on them holds it where it is. `n` takes the first questions only.

    Cut after the first sentence, they would teach it to stop there, before much of what it knows.
    """
    questions = general_knowledge()["rehearsal"][:n]
    answers = answer_questions(model, tokenizer, questions, max_new_tokens=64, batch_size=48)
    sentences = [re.match(r".{12,}[.!?](?=\s|$)", answer.text, re.DOTALL) for answer in answers]
    return [
        {"question": question, "answer": found[0]}
        for question, found in zip(questions, sentences)
        if found
    ]


# ----------------------------------------------------------------------------------------- notes
@lru_cache(maxsize=None)
def _facts() -> tuple[dict[str, Fact], dict[str, list[Fact]]]:
    by_subject: dict[str, list[Fact]] = {}
    for fact in all_facts():
        by_subject.setdefault(fact.subject, []).append(fact)
    return {fact.fact_id: fact for fact in all_facts()}, by_subject


def with_notes(question: str, notes: Sequence[str]) -> str:
    """The question with its notes below it, as the written pairs have it."""
    return "\n".join([question, *(["Notes: " + " ".join(notes)] if notes else [])])


def noted(rows: Sequence[Row], n_notes: int = 4, seed: int = 0) -> list[Row]:
    """Rows whose question has `n_notes` notes below it: the fact asked for, at a random place among
    others of the same cheese (of dairy science, where there are too few).
    """
    by_id, by_subject = _facts()
    rng = random.Random(seed)
    science = [fact for fact in by_id.values() if fact.kind == "science"]
    new = []
    for row in rows:
        fact = by_id[row["fact_id"]]
        others = [f for f in by_subject[fact.subject] if f != fact]
        others = rng.sample(others, min(n_notes - 1, len(others)))
        if fact.kind == "science":
            others = rng.sample([f for f in science if f != fact], n_notes - 1)
        notes = [f.statement() for f in (fact, *others)]
        rng.shuffle(notes)
        new.append({**row, "question": with_notes(row["question"], notes)})
    return new


def mixed_rows(kinds: Sequence[tuple[float, Sequence[Row]]], n_rows: int, seed: int) -> list[Row]:
    """`n_rows` rows drawn from (share, rows) pairs, the shares together 1. A kind that has too few
    rows gives each of them again before any comes a third time. Raises LabKitError for other
    shares, and for a kind without rows.
    """
    if abs(sum(part for part, _ in kinds) - 1) > 1e-9 or not all(rows for part, rows in kinds):
        raise LabKitError(
            f"The shares are {[part for part, _ in kinds]}, the rows {[len(r) for _, r in kinds]}. "
            "The shares must be 1 together, and every kind needs a row."
        )
    rng, chosen, ends = random.Random(seed), [], 0.0
    for part, rows in kinds:
        ends += part
        while missing := round(ends * n_rows) - len(chosen):
            chosen += rng.sample(rows, min(missing, len(rows)))
    return chosen


# ------------------------------------------------------------------- the head where a label is
def labelled_positions(labels: Tensor) -> Tensor:
    """(batch, length) True where a hidden state must go through the head: position t predicts the
    token at t + 1.
    """
    needed = torch.zeros_like(labels, dtype=torch.bool)
    needed[:, :-1] = labels[:, 1:] != IGNORED
    return needed


def labelled_loss(
    model, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, n_labels: int | None = None
) -> Tensor:
    """() The mean cross entropy of a Llama, from logits of the labelled positions alone.

    All arguments but the model are (batch, length). The head turns each hidden state (batch,
    length, width) into one logit for each word of the vocabulary, so it is spared wherever no label
    asks for them. `n_labels` are those of the whole step, where the batch is a part of it.
    """
    core = getattr(
        model, "get_base_model", lambda: model
    )()  # inside the adapters, if there are any
    hidden = core.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    logits = core.lm_head(hidden[labelled_positions(labels)])  # (labels, vocabulary)
    targets = labels[:, 1:][labels[:, 1:] != IGNORED]
    total = F.cross_entropy(logits.float(), targets, reduction="sum")
    return total / (len(targets) if n_labels is None else n_labels)


def mixed_batches(lengths: Sequence[int], batch_size: int, seed: int = 0) -> list[int]:
    """The places of rows in an order in which each `batch_size` of them are of like length, and
    long and short batches come mixed.

    transformers' `group_by_length` sorts the batches of a stretch as well, long ones first. What
    only short rows teach (here: the voice without notes) then comes last, at rates near zero.
    """
    rng, order = random.Random(seed), list(range(len(lengths)))
    rng.shuffle(order)
    order.sort(key=lambda i: lengths[i])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(batches)
    return [i for batch in batches for i in batch]


class LabelledHead(Trainer):
    """transformers' Trainer with `labelled_loss`: the same loss, the head spared on the prompt;
    `group_by_length` gives `mixed_batches`.
    """

    def _get_train_sampler(self, train_dataset=None):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        lengths = [len(pair["input_ids"]) for pair in train_dataset or self.train_dataset]
        return mixed_batches(lengths, self.args.train_batch_size, self.args.seed)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of a batch, as its share of the step's where gradients are accumulated."""
        # accelerate puts its half precision round `model.forward`, which is not called here
        with self.accelerator.autocast():
            loss = labelled_loss(model, **inputs, n_labels=num_items_in_batch)
        return (loss, {}) if return_outputs else loss


# ------------------------------------------------------------------------------- time and memory
def give_back_memory() -> None:
    """Hand memory that was freed back to the system, where glibc keeps it for later, and a GPU's
    where torch does; elsewhere nothing happens.

    After a few training steps and answers that can be gigabytes, in pieces too small to be of use.
    """
    gc.collect()
    torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class PeakMemory:
    """Context that watches the memory of a device: `.bytes` is the largest amount seen, `.seconds`
    how long it took.

    On a CPU that is this process' resident size, looked at every so many seconds; on a GPU torch
    counts what its tensors take.
    """

    def __init__(self, every: float = 0.02, device: str = "cpu"):
        self.every, self.bytes, self.seconds = every, 0, 0.0
        self._on_gpu, self._done = device.startswith("cuda"), threading.Event()

    def _now(self) -> int:
        if self._on_gpu:
            return torch.cuda.max_memory_allocated()
        return psutil.Process().memory_info().rss

    def _watch(self) -> None:
        while not self._done.wait(self.every):
            self.bytes = max(self.bytes, self._now())

    def __enter__(self) -> PeakMemory:
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.before = self.bytes = self._now()
        self._start, self._thread = time.perf_counter(), threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.seconds = time.perf_counter() - self._start
        self._done.set()
        self._thread.join()
        self.bytes = max(self.bytes, self._now())


# ------------------------------------------------------------------------------ rounded weights
@torch.no_grad()
def perplexity(model, tokenizer, texts: Sequence[str]) -> float:
    """exp of the mean cross entropy over the tokens of all texts but each one's first."""
    total, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt").input_ids.to(model.device)
        logits = model(input_ids=ids).logits[0, :-1].float()
        total += F.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return float(torch.tensor(total / count).exp())


def linear_weights(model) -> dict[str, Tensor]:
    """Name -> (out, in) weight of every linear layer but the head: what quantization rounds."""
    return {
        name: module.weight.data
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    }


class Rounded:
    """Context in which the model's linear weights are what `rounder` makes of them; `.rmse` is its
    error, relative to the weights' root mean square.
    """

    def __init__(self, model, rounder: Callable[[Tensor], Tensor]):
        self.weights, self.rounder = linear_weights(model), rounder

    @torch.no_grad()
    def __enter__(self) -> Rounded:
        self.kept = {name: weight.clone() for name, weight in self.weights.items()}
        error = power = 0.0
        for name, weight in self.weights.items():
            weight.copy_(self.rounder(weight))
            error += float((weight - self.kept[name]).float().square().sum())
            power += float(self.kept[name].float().square().sum())
        self.rmse = (error / power) ** 0.5
        return self

    @torch.no_grad()
    def __exit__(self, *exception) -> None:
        for name, weight in self.weights.items():
            weight.copy_(self.kept[name])


def four_bit_formats() -> dict[str, tuple[float, Callable[[Tensor], Tensor]]]:
    """Name -> (bits per weight, what becomes of a weight that is stored so)."""

    def whole(bits: int, block: int | None = None):
        return lambda w: dequantize_absmax(*quantize_absmax(w, bits, block), block)

    def blocks(codebook: Tensor):
        return lambda w: dequantize_blockwise(*quantize_blockwise(w, codebook, 64), codebook, 64)

    return {
        "bf16, as stored": (16, lambda w: w),
        "int8, one scale a tensor": (8, whole(8)),
        "int4, one scale a tensor": (4, whole(4)),
        "int4, blocks of 64": (4.5, whole(4, 64)),
        "FP4, blocks of 64": (4.5, blocks(fp4_codebook())),
        "NF4, blocks of 64": (4.5, blocks(nf4_codebook())),
        "NF4 + double quantization": (4.127, lambda w: double_dequantize(double_quantize(w))),
        "MXFP4, blocks of 32": (4.25, lambda w: dequantize(quantize_mxfp4(w))),
        "NVFP4, blocks of 16": (4.5, lambda w: dequantize(quantize_nvfp4(w))),
    }


def low_rank(weight: Tensor, rank: int) -> Tensor:
    """The nearest matrix of this rank, by a randomized SVD (seeded by the caller's generator)."""
    u, s, v = torch.svd_lowrank(weight, q=rank + 8, niter=4)
    return (u[:, :rank] * s[:rank]) @ v[:, :rank].T


def loftq_parts(
    weight: Tensor, rank: int, rounded: Callable[[Tensor], Tensor], rounds: int = 2
) -> tuple[Tensor, Tensor]:
    """(the rounded weight, what the adapters hold) at step 0 after LoftQ (Li et al. 2023, algorithm
    1): the largest part of the rounding error goes into the adapters, found in turns.
    """
    adapters = torch.zeros_like(weight)
    for _ in range(rounds):
        stored = rounded(weight - adapters)
        adapters = low_rank(weight - stored, rank)
    return stored, adapters


def pissa_parts(
    weight: Tensor, rank: int, rounded: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The same after PiSSA (Meng et al. 2024): adapters hold the weight's largest singular part,
    what is left is rounded.
    """
    adapters = low_rank(weight, rank)
    return rounded(weight - adapters), adapters


def loftq(weight: Tensor, rank: int, rounded: Callable[[Tensor], Tensor]) -> Tensor:
    """What a layer computes with at step 0 after LoftQ."""
    return sum(loftq_parts(weight, rank, rounded))


def pissa(weight: Tensor, rank: int, rounded: Callable[[Tensor], Tensor]) -> Tensor:
    """What a layer computes with at step 0 after PiSSA."""
    return sum(pissa_parts(weight, rank, rounded))


def largest_weights(model, n: int = 5) -> list[tuple[str, tuple[int, int], float]]:
    """(layer, (row, column), value) of the weights that stand out most: the largest magnitudes in
    units of their layer's standard deviation.
    """
    found = []
    for name, weight in linear_weights(model).items():
        ratio = (weight / weight.std()).abs()
        top = int(ratio.argmax())
        row, column = divmod(top, weight.shape[1])
        found.append((float(ratio.max()), name, (row, column), float(weight[row, column])))
    return [(name, place, value) for _, name, place, value in sorted(found, reverse=True)[:n]]


def padding_bytes(shape: Architecture, rows: int, length: int) -> int:
    """What a padded batch saves beyond the ledger, in float32: with a mask, transformers repeats k
    and v for each query head, and each layer keeps the mask, (rows, length, length).
    """
    repeated = 2 * (shape.n_heads - shape.n_kv_heads) * shape.head_dim
    return shape.n_layers * 4 * rows * length * (repeated + length)


def predicted_saved(shape: Architecture, rank: int, rows: int, length: int, labels: int) -> float:
    """Bytes that QLoRA saves in float32 for the backward pass of a padded batch of `rows` x
    `length` tokens, of which `labels` go through the head.
    """
    plan = Plan(method="qlora", rank=rank, sequence=length, batch=rows, weights="fp32")
    lines = [line for line in ledger(shape, plan) if line.name.startswith("activations")]
    logits = 4 * labels * shape.vocab_size  # the log-softmax
    return sum(line.low for line in lines) + logits + padding_bytes(shape, rows, length)


def predicted_peak(
    shape: Architecture, rank: int, rows: int, length: int, labelled: float
) -> float:
    """Bytes of QLoRA's tensors at the worst moment of a step on a padded batch of `rows` x `length`
    tokens in float32, logits on the `labelled` share of the positions alone.
    """
    plan = Plan(method="qlora", rank=rank, sequence=length, batch=rows, weights="fp32")
    at, lines = moments(shape, plan), {line.name: line.low for line in ledger(shape, plan)}
    logits = lines["logits and loss"] + 8 * plan.tokens * shape.vocab_size
    worst = max({**at, "loss": at["loss"] - (1 - labelled) * logits}.values())
    return worst + padding_bytes(shape, rows, length)


def knowledge_of(model, tokenizer, which: str = "asked") -> list[str]:
    """The model's greedy answers to the general questions of one kind ("asked", "validation").

    They have 64 tokens: Pavlos greets first, and in 32 would be cut off before what he knows.
    """
    questions = [row["question"] for row in general_knowledge()[which]]
    answers = answer_questions(model, tokenizer, questions, max_new_tokens=64, batch_size=30)
    return [answer.text for answer in answers]


def knowledge_score(answers: Sequence[str]) -> float:
    """Share of the 30 general questions that are answered right."""
    return share(known(answers))
