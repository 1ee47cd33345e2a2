"""Tiny models for the tests: the real architectures and file layouts, some ten thousand parameters,
no network.
"""

from functools import partial
from pathlib import Path
from unittest import mock

from lab_utils.finetuning import pretraining
from lab_utils.finetuning.pretraining import PretrainConfig

TINY = dict(
    vocab_size=600,
    hidden_size=64,
    n_layers=2,
    n_heads=2,
    intermediate_size=128,
    context=256,
    block=64,
    batch_size=4,
    warmup_steps=1,
    checkpoint_every=1,
    sample_at=(),
)
N_DOCUMENTS = (
    1000  # enough to learn 600 tokens from, and twenty times faster than the real tokenizer
)

CHATML = (
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
)
CHATML_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful "
    "assistant.<|im_end|>\\n' }}{% endif %}{% for message in messages %}" + CHATML + "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def quick_tokenizer():
    """Context in which `Pretraining` learns its tokenizer from a few documents."""
    return mock.patch.object(
        pretraining,
        "train_tokenizer",
        partial(pretraining.train_tokenizer, n_documents=N_DOCUMENTS),
    )


def make_tiny_base(folder: Path, steps: int = 2) -> Path:
    """A two-layer Llama of hidden size 64 with its tokenizer, pretrained for a few steps and saved
    as cheese-base is.
    """
    with quick_tokenizer():
        run = pretraining.Pretraining(
            PretrainConfig(**TINY, steps=steps), folder.with_name(folder.name + "-work")
        )
        run.run()
    pretraining.export(run, folder)
    return folder


def chatml_tokenizer(pad_token: str | None, texts: tuple[str, ...] = ()):
    """A byte-level tokenizer with the special tokens and the chat template of Qwen2.5 and SmolLM2;
    its merges are learnt from `texts`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token=pad_token
    )
    tokenizer.chat_template = CHATML_TEMPLATE
    return tokenizer


def make_tiny_hub_model(folder: Path, name: str, texts: tuple[str, ...] = ()) -> Path:
    """An untrained model with the architecture, tokenizer and template of a hub tier: "qwen2" or
    "smollm2"; the tokenizer merges what stands in `texts`.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    tokenizer = chatml_tokenizer("<|endoftext|>" if name == "qwen2" else None, texts)
    sizes = dict(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    if name == "qwen2":  # biases in q, k and v, and a head of its own, as the 7B has
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=False))
    else:
        model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
