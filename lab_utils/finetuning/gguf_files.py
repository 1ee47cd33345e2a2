"""GGUF, the file that llama.cpp and Ollama run: read through transformers, written by the package
`gguf`.

Only the Llama architecture, which the real model of lab 09 has. GGUF keeps the rows of q and k in
another order than transformers: the two halves of a head's rotary pairs lie side by side there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab_utils.files import LabKitError

if TYPE_CHECKING:  # torch is imported where it is used, so that the command line starts without it
    import torch

ARCHITECTURE = "llama"
KINDS = {"F16": 1, "Q8_0": 7}  # how the matrices are stored -> llama.cpp's number for such a file
NORMAL_TOKEN, CONTROL_TOKEN = 1, 3


def architecture_of(path: Path) -> str:
    """The architecture that a GGUF file says it has. LabKitError where it is no whole GGUF file."""
    import gguf

    try:
        return gguf.GGUFReader(path).fields["general.architecture"].contents()
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise LabKitError(
            f"{path.name} is not a whole GGUF file ({error}). Get it again."
        ) from error


def read_gguf(path: Path):
    """(model, tokenizer) of a GGUF file of Llama's architecture, its weights dequantized to
    bfloat16.

    The model is a new one with the file's weights: transformers refuses to save one that it calls
    quantized. LabKitError for another architecture or a damaged file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    found = architecture_of(path)
    if found != ARCHITECTURE:
        raise LabKitError(
            f"{path.name} holds a model of the architecture {found!r}, and the labs read "
            f"{ARCHITECTURE!r}. Take SmolLM2-135M-Instruct."
        )
    where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    config = type(loaded.config).from_dict(
        {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model.eval(), tokenizer


def rotary_pairs_together(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """The rows of a q or k matrix (n_heads * head_dim, in) as GGUF orders them: row i of a head's
    first half, then row i of its second half.
    """
    return weight.view(n_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def write_gguf(model, tokenizer, path: Path, kind: str = "F16") -> Path:
    """Write a Llama model and its byte-level BPE tokenizer as one GGUF file; vectors stay float32.

    `kind` "F16" rounds the matrices to half precision, "Q8_0" to int8 in blocks of 32. ValueError
    for another kind or architecture.
    """
    import gguf

    if kind not in KINDS or model.config.model_type != ARCHITECTURE:
        raise ValueError(
            f"expected one of the kinds {', '.join(KINDS)} and a model of type {ARCHITECTURE}, got "
            f"{kind!r} and {model.config.model_type!r}"
        )
    temporary = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(temporary, ARCHITECTURE)
    _write_sizes(writer, model.config, kind)
    _write_tokenizer(writer, tokenizer, model.config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        _write_tensor(writer, written, _in_gguf_order(name, weight.float(), model.config), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return temporary.replace(path)


def _in_gguf_order(name: str, weight: torch.Tensor, config) -> torch.Tensor:
    if "q_proj" in name:
        return rotary_pairs_together(weight, config.num_attention_heads)
    if "k_proj" in name:
        return rotary_pairs_together(weight, config.num_key_value_heads)
    return weight


def _write_tensor(writer, name: str, weight: torch.Tensor, kind: str) -> None:
    import gguf

    chosen = gguf.GGMLQuantizationType[kind] if weight.dim() > 1 else gguf.GGMLQuantizationType.F32
    data = gguf.quants.quantize(weight.float().cpu().numpy(), chosen)
    writer.add_tensor(name, data, raw_dtype=chosen)


def _write_sizes(writer, config, kind: str) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(KINDS[kind])


def _write_tokenizer(writer, tokenizer, vocab_size: int) -> None:
    import json

    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in bpe["merges"]]
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    tokens += [f"<unused_{i}>" for i in range(len(tokens), vocab_size)]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    kinds = [CONTROL_TOKEN if i in special else NORMAL_TOKEN for i in range(len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    for name, token in (("bos", tokenizer.bos_token_id), ("eos", tokenizer.eos_token_id)):
        if token is not None:
            getattr(writer, f"add_{name}_token_id")(token)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
