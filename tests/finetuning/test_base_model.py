"""Loading base models: clear errors, the hub tiers' architectures, and what 4-bit loading leaves in
memory.
"""

import os
import shutil

import pytest
import torch
from tiny_models import make_tiny_hub_model

from lab_utils.finetuning import base_model
from lab_utils.finetuning.base_model import load_base, load_tokenizer, nf4_config, tier_of
from lab_utils.finetuning.training import FinetuneConfig, finetune
from lab_utils.start import hardware

ROWS = [
    {"question": f"Where is cheese {i} from?", "answer": f"From village {i}, my friend."}
    for i in range(4)
]
QUESTION = [[1, 4, 300, 301, 302, 5]]


@pytest.fixture(scope="module")
def hub_models(tmp_path_factory):
    """{"qwen2", "smollm2"} -> folder of a tiny model of that tier's architecture."""
    folder = tmp_path_factory.mktemp("hub")
    return {name: make_tiny_hub_model(folder / name, name) for name in ("qwen2", "smollm2")}


@pytest.fixture
def damaged(tiny_base, tmp_path):
    """A copy of the tiny model that a test may break."""
    return shutil.copytree(tiny_base, tmp_path / "copy")


def logits(model, ids=QUESTION):
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids, device=model.device)).logits.float()


def linear_layers(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}


# ---------------------------------------------------------------------------------------- errors
def test_an_unknown_tier_lists_the_tiers():
    with pytest.raises(
        ValueError, match=r"unknown tier 'huge': expected one of cpu, smollm2, t4, large"
    ):
        load_base("huge")
    assert tier_of("cpu").source == str(base_model.CHEESE_BASE)


def test_the_tiers_are_those_that_a_reader_can_choose():
    assert tuple(base_model.TIERS) == hardware.TIER_NAMES


@pytest.mark.parametrize("tier, memory", [("t4", 15e9), ("large", hardware.LARGE_FROM_BYTES)])
def test_a_gpus_tier_holds_what_the_labs_keep(tier, memory):
    """Lab 07 keeps most: four tuned models, the base and three others in float32, while in the
    first, full fine-tuning, a weight takes 16 bytes; a fifth is left for activations.
    """
    at_most = max(8 * 4, 2 * 4 + 16) * tier_of(tier).n_params
    at_most = max(8 * 4, 2 * 4 + 16) * tier_of(tier).n_params
    assert at_most < 0.8 * memory


def test_a_hub_that_cannot_be_reached_is_told_with_a_way_out(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(FileNotFoundError, match="somebody/model .*no connection.*LAB_TIER=cpu"):
        load_base(source="somebody/model")


def test_a_tiers_weights_are_found(monkeypatch):
    assert base_model.weights_folder("cpu") == base_model.CHEESE_BASE
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.update({name: how}) or "hub"
    )
    assert str(base_model.weights_folder("t4")) == "hub"
    assert asked[tier_of("t4").source]["local_files_only"], "nothing is fetched only to be counted"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(damaged, name):
    (damaged / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing from .*copy"):
        load_base(source=damaged)


def test_a_missing_cheese_base_does_not_go_to_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(base_model, "CHEESE_BASE", tmp_path / "nowhere")
    monkeypatch.setitem(base_model.TIERS, "cpu", base_model.Tier(str(tmp_path / "nowhere"), 1, ""))
    with pytest.raises(FileNotFoundError, match="python3 -m lab_utils pretrain"):
        load_base()


def test_a_damaged_cheese_base_has_its_own_remedy(monkeypatch, damaged):
    monkeypatch.setattr(base_model, "CHEESE_BASE", damaged)
    cut(damaged / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"damaged or cut off .*: get it again with 'git checkout -- data'"
    ):
        load_base(source=damaged)


@pytest.mark.parametrize("source", ["./my-model", "runs/deep/my-model", "{absolute}/my-model"])
def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="my-model"):
        load_base(source=source.format(absolute=tmp_path))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def nonsense(path):
    path.write_bytes(b"<!DOCTYPE html>" * 1000)


def git_lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize("harm", [cut, empty, nonsense, git_lfs_pointer])
def test_damaged_weights_are_told_from_missing_ones(damaged, harm):
    harm(damaged / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"model.safetensors in .* is damaged or cut off .*: save or download"
    ):
        load_base(source=damaged)


def test_the_last_byte_counts(damaged):
    weights = damaged / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    with pytest.raises(ValueError, match="damaged or cut off"):
        load_base(source=damaged)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_asked_for_and_absent(tiny_base, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="torch sees no CUDA GPU: use device='cpu'"):
        load_base(source=tiny_base, device=device)


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen2.5-1.5B-Instruct", "gpt2", "HuggingFaceTB/SmolLM2-360M-Instruct"]
)
def test_names_on_the_hub_are_not_folders(name):
    assert not base_model._is_folder(name)


def test_weights_in_several_files(tiny_base, tmp_path):
    model, tokenizer = load_base(source=tiny_base)
    folder = tmp_path / "shards"
    model.save_pretrained(folder, max_shard_size="100KB")
    tokenizer.save_pretrained(folder)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(logits(load_base(source=folder)[0]), logits(model))
    cut(shards[-1])
    with pytest.raises(ValueError, match=f"{shards[-1].name} in .* is damaged or cut off"):
        load_base(source=folder)


# ----------------------------------------------------------------------------------- what is loaded
def test_the_tier_cpu_is_the_model_in_its_folder(tiny_base, monkeypatch):
    monkeypatch.setitem(base_model.TIERS, "cpu", base_model.Tier(str(tiny_base), 1, ""))
    model, tokenizer = load_base()
    assert model.num_parameters() == 120_640 and len(tokenizer) == 600
    assert {p.dtype for p in model.parameters()} == {torch.float32}, (
        "stored as float16, computed in float32"
    )
    assert {str(p.device) for p in model.parameters()} == {"cpu"}
    assert torch.equal(logits(model), logits(load_base(source=tiny_base)[0]))


def test_the_dtype_asked_for(tiny_base):
    model, _ = load_base(source=tiny_base, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    quantized, _ = load_base(source=tiny_base, quantized=True, dtype=torch.bfloat16)
    assert quantized.model.embed_tokens.weight.dtype == torch.bfloat16
    assert quantized.model.layers[0].self_attn.q_proj.compute_dtype == torch.bfloat16


def test_load_tokenizer_gives_a_pad_token(hub_models, tiny_base):
    assert load_tokenizer(hub_models["smollm2"]).pad_token == "<|im_end|>", (
        "it had none: the end token"
    )
    assert load_tokenizer(hub_models["qwen2"]).pad_token == "<|endoftext|>", "its own stays"
    assert load_tokenizer(tiny_base).pad_token == "<pad>"


def test_nf4_config():
    config = nf4_config(torch.float16)
    assert config.load_in_4bit and not config.load_in_8bit and config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_quant_type == "nf4" and config.bnb_4bit_compute_dtype == torch.float16
    assert config.bnb_4bit_quant_storage == torch.uint8 and config.llm_int8_skip_modules is None


# ---------------------------------------------------------------------------------------- 4 bits
@pytest.mark.parametrize("name", ["tiny", "qwen2", "smollm2"])
def test_every_linear_layer_but_the_head_is_nf4(name, hub_models, tiny_base):
    from bitsandbytes.nn import Linear4bit, Params4bit

    source = hub_models.get(name, tiny_base)
    model, _ = load_base(source=source, quantized=True)
    layers = linear_layers(model)
    head = layers.pop("lm_head")
    assert len(layers) == 14, "q, k, v, o, gate, up, down of two layers"
    original = linear_layers(load_base(source=source)[0])
    for layer_name, layer in layers.items():
        weight = layer.weight
        assert isinstance(layer, Linear4bit) and isinstance(weight, Params4bit), layer_name
        assert weight.quant_type == "nf4" and weight.blocksize == 64 and weight.dtype == torch.uint8
        assert weight.numel() * 2 == original[layer_name].weight.numel(), "two codes in a byte"
        state = weight.quant_state
        assert state.nested and state.absmax.dtype == torch.uint8 and state.state2.blocksize == 256
        from bitsandbytes.functional import dequantize_4bit

        back, exact = dequantize_4bit(weight.data, state).float(), original[layer_name].weight
        assert 0 < (back - exact).norm() / exact.norm() < 0.15, (
            "NF4 of normal weights is off by about a tenth"
        )
    assert type(head) is torch.nn.Linear
    embedding = model.get_input_embeddings().weight
    assert embedding.dtype == torch.float32 and torch.equal(
        embedding, original["lm_head"].weight
    ) == (name != "qwen2")


def test_quantized_cpu_model_gives_the_same_numbers_in_train_and_eval(tiny_base):
    """bitsandbytes repacks weights for bfloat16 in eval mode where the CPU has AVX512-BF16; ours
    must not.
    """
    model, _ = load_base(source=tiny_base, quantized=True)
    in_train = logits(model.train())  # first: what is repacked in eval mode stays so
    assert torch.equal(logits(model.eval()), in_train) and torch.equal(
        logits(model.train()), in_train
    )


def test_quantized_model_computes_with_the_dequantized_weights(tiny_base):
    model, _ = load_base(source=tiny_base, quantized=True)
    plain, _ = load_base(source=tiny_base, quantized=True)
    assert torch.allclose(logits(model.eval()), logits(plain.dequantize().eval()), atol=1e-5)


# --------------------------------------------------------------------- the hub tiers' architectures
@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("name", ["qwen2", "smollm2"])
def test_the_hub_tiers_architectures_fine_tune_and_answer(name, method, hub_models, tmp_path):
    from lab_utils.finetuning.chat import answer_questions, encode_pair

    source = hub_models[name]
    before, tokenizer = load_base(source=source, quantized=method == "qlora")
    assert (
        type(before).__name__ == {"qwen2": "Qwen2ForCausalLM", "smollm2": "LlamaForCausalLM"}[name]
    )
    run = finetune(
        FinetuneConfig(method, steps=2, batch_size=2),
        ROWS,
        tmp_path / "run",
        lambda *_: None,
        source=source,
    )
    assert len(run.losses) == 2 and 0 < run.losses[0] < 8
    assert not torch.equal(
        logits(run.model.eval(), [[5, 6, 7]]), logits(before.eval(), [[5, 6, 7]])
    ), "it learnt"
    pair = encode_pair(tokenizer, "Hi?", "Ja.")
    assert tokenizer.decode(pair["input_ids"]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "Hi?<|im_end|>\n<|im_start|>assistant\nJa.<|im_end|>"
    ), "without the template's last line break"
    learnt = [i for i in pair["labels"] if i != -100]
    assert tokenizer.decode(learnt) == "Ja.<|im_end|>", (
        "the end token is learnt, also where it is the pad token"
    )
    assert len(answer_questions(run.model, tokenizer, ["Hi?", "Where?"], max_new_tokens=3)) == 2
