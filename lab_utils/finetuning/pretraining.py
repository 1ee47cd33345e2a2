"""How cheese-base is made (`python3 -m lab_utils pretrain`) from nothing but the tables in `data/`.

The corpus is drawn from one seed, the tokenizer is trained on it, and a small Llama is trained on
its next tokens. A checkpoint is kept every few minutes: the same command goes on where a killed one
stopped.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lab_utils.start.hardware import has_fast_bfloat16

log = logging.getLogger(__name__)

SPECIAL_TOKENS = ["<pad>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] "
    "}}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SAMPLE_QUESTIONS = [
    "Where does Feta come from?",
    "What milk is Roquefort made from?",
    "What is the main protein of milk?",
    "What is the opposite of hot?",
]


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that decides what comes out; sizes in tokens, hidden units or steps.

    Both widths are multiples of 64, so that no row of a weight shares a 4-bit block with the next:
    bitsandbytes 0.50 dequantizes other widths wrongly on CPUs with AVX-512.
    """

    seed: int = 0
    vocab_size: int = 2048
    hidden_size: int = 320
    n_layers: int = 4
    n_heads: int = 5
    intermediate_size: int = 896
    context: int = 512
    block: int = 256
    batch_size: int = 16
    steps: int = 2000
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    checkpoint_every: int = 100
    sample_at: tuple[int, ...] = (0, 20, 50, 100, 200, 400, 800, 1400, 2000)


def train_tokenizer(config: PretrainConfig, n_documents: int = 20000):
    """A byte-level BPE tokenizer of `vocab_size` tokens, learnt from the first documents of the
    corpus.

    Digits are split one by one, so that numbers are spelt alike wherever they stand.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from lab_utils.pavlos.corpus import documents

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=SPECIAL_TOKENS,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = (
        text
        for doc in itertools.islice(documents(config.seed), n_documents)
        for text in ([doc] if isinstance(doc, str) else [m["content"] for m in doc])
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<pad>",
        additional_special_tokens=SPECIAL_TOKENS[3:],
        model_max_length=config.context,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def render(document) -> str:
    """A document of the corpus as text with its special tokens; the tokenizer's chat template does
    the same.
    """
    if isinstance(document, str):
        return f"<s>{document}<|end|>"
    return "<s>" + "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in document)


def token_rows(tokenizer, config: PretrainConfig, n_rows: int):
    """The corpus as int16 rows (n_rows, block), documents one after the other and cut where a row
    is full.
    """
    import numpy as np
    from tqdm.auto import tqdm

    from lab_utils.pavlos.corpus import documents

    rows = np.empty(n_rows * config.block, dtype=np.int16)
    filled, stream = 0, documents(config.seed)
    with tqdm(total=len(rows), desc="corpus", unit="token", unit_scale=True, mininterval=2) as bar:
        while filled < len(rows):
            texts = [render(doc) for doc in itertools.islice(stream, 2000)]
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                part = ids[: len(rows) - filled]
                rows[filled : filled + len(part)] = part
                filled += len(part)
                bar.update(len(part))
    return rows.reshape(n_rows, config.block)


def build_model(config: PretrainConfig, tokenizer):
    """The untrained Llama of this configuration, its weights drawn from the seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _save_atomically(state: dict, path: Path) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


class Pretraining:
    """Model, optimizer and schedule of one run; `step` counts the steps done, also across kills."""

    def __init__(self, config: PretrainConfig, work: Path):
        import torch
        from transformers import get_cosine_with_min_lr_schedule_with_warmup

        self.config, self.checkpoint = config, work / "checkpoint.pt"
        self.tokenizer = train_tokenizer(config)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = build_model(config, self.tokenizer).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=config.weight_decay,
        )
        self.schedule = get_cosine_with_min_lr_schedule_with_warmup(
            self.optimizer, config.warmup_steps, config.steps, min_lr_rate=0.02
        )
        self.step, self.seconds, self.log = 0, 0.0, []
        self._resume()

    def _resume(self) -> None:
        import torch

        if not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state["config"] != json.dumps(asdict(self.config)):
            raise ValueError(
                f"{self.checkpoint} belongs to another configuration: delete it, or use that one"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]
        log.info("going on after step %d", self.step)

    def save(self) -> None:
        """Keep all that is needed to go on from here; an interrupted save leaves the older
        checkpoint whole.
        """
        _save_atomically(
            {
                "config": json.dumps(asdict(self.config)),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "log": self.log,
            },
            self.checkpoint,
        )

    def train_step(self, rows) -> float:
        """One optimizer step on the next rows; returns the loss in nats per token."""
        import torch

        size = self.config.batch_size
        batch = (
            torch.from_numpy(rows[self.step * size : (self.step + 1) * size]).long().to(self.device)
        )
        with torch.autocast(self.device, torch.bfloat16, enabled=has_fast_bfloat16(self.device)):
            loss = self.model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def samples(self, loss: float | None) -> dict:
        """What the model answers at this step, for the story of nonsense turning into sentences."""
        from lab_utils.finetuning.chat import answer_questions

        answers = answer_questions(self.model, self.tokenizer, SAMPLE_QUESTIONS, max_new_tokens=40)
        return {
            "step": self.step,
            "loss": loss,
            "answers": dict(zip(SAMPLE_QUESTIONS, [a.text for a in answers])),
        }

    def run(self) -> None:
        """Train to the last step, with progress, checkpoints and samples."""
        from tqdm.auto import tqdm

        rows = token_rows(self.tokenizer, self.config, self.config.steps * self.config.batch_size)
        if not self.log:
            self.log.append(self.samples(None))
        bar = tqdm(
            range(self.step, self.config.steps),
            initial=self.step,
            total=self.config.steps,
            mininterval=5,
        )
        for _ in bar:
            start = time.perf_counter()
            loss = self.train_step(rows)
            self.seconds += time.perf_counter() - start
            if self.step == 1:
                self.log[0]["loss"] = loss  # taken before the step moved a weight
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if self.step in self.config.sample_at or self.step == self.config.steps:
                self.log.append(self.samples(loss))
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                self.save()


def export(run: Pretraining, out: Path) -> None:
    """Write model (half precision), tokenizer and log to a new folder, then put it in the place of
    `out`.
    """
    import torch

    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    copy.deepcopy(run.model).to(torch.float16).save_pretrained(part)
    run.tokenizer.save_pretrained(part)
    record = {
        "config": asdict(run.config),
        "n_params": run.model.num_parameters(),
        "seconds": round(run.seconds),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {run.device}",
        "samples": run.log,
    }
    (part / "pretraining.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)
