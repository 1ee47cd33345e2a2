"""Published configurations: counted to the parameter, strangers passed over, slips refused."""

import argparse
import json
import math
import subprocess
import sys

import pytest
import torch
import transformers
from model_cards import CARDS

from lab_utils.files import LabKitError
from lab_utils.memory import report
from lab_utils.memory.configurations import Counted, read_configuration
from lab_utils.memory.ledger import Plan, as_record, fits_on, ledger, peak
from lab_utils.memory.sizes import Architecture, adapter_parameters

FIELDS = {name: fields for name, fields, _ in CARDS}
LLAMA = FIELDS["meta-llama/Llama-3.1-8B"]


def on_meta(fields, auto=transformers.AutoModelForCausalLM):
    """transformers' own model of these fields, without any of our code."""
    given = {name: value for name, value in fields.items() if name != "model_type"}
    config = transformers.AutoConfig.for_model(fields["model_type"], **given).get_text_config()
    with torch.device("meta"):
        return auto.from_config(config)


# --------------------------------------------------------------------------------- published models
@pytest.mark.parametrize(("fields", "published"), [c[1:] for c in CARDS], ids=[c[0] for c in CARDS])
def test_a_published_model_has_the_parameters_of_its_card(fields, published):
    model, _ = read_configuration(fields)
    assert model.n_parameters() == published == on_meta(fields).num_parameters()


def small(fields, n_layers=2):
    """The same model with two layers: the same kinds of layers, in a moment."""
    if "text_config" in fields:
        return fields | {"text_config": small(fields["text_config"])}
    return fields | {"n_layer" if "n_layer" in fields else "num_hidden_layers": n_layers}


ONE_OF_EACH = {fields["model_type"]: small(fields) for fields in FIELDS.values()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind for kind in ONE_OF_EACH if kind != "mamba"])
def test_adapters_and_4_bit_layers_are_those_of_peft_and_bitsandbytes(kind):
    from peft import LoraConfig, get_peft_model
    from transformers import BitsAndBytesConfig
    from transformers.integrations import replace_with_bnb_linear
    from transformers.quantizers.base import HfQuantizer

    model, _ = read_configuration(ONE_OF_EACH[kind])
    adapted = get_peft_model(
        on_meta(ONE_OF_EACH[kind]),
        LoraConfig(r=5, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    assert adapter_parameters(model, 5) == adapted.num_parameters(only_trainable=True)

    theirs = on_meta(ONE_OF_EACH[kind])
    kept = HfQuantizer.get_modules_to_not_convert(theirs, None, theirs._keep_in_fp32_modules)
    theirs = replace_with_bnb_linear(theirs, kept, BitsAndBytesConfig(load_in_4bit=True))
    layers = [m for m in theirs.modules() if type(m).__name__ == "Linear4bit"]
    assert sorted(model.quantized_shapes()) == sorted(
        (m.out_features, m.in_features) for m in layers
    )


def test_a_model_that_peft_refuses_is_counted_and_its_adapters_refused():
    model, _ = read_configuration(FIELDS["state-spaces/mamba-130m-hf"])
    assert peak(ledger(model, Plan(method="full")))[0] > 12 * model.n_parameters()
    with pytest.raises(ValueError, match="incompatible with Mamba-based models"):
        ledger(model, Plan(method="lora", rank=4))


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("mistralai/Mixtral-8x7B-v0.1", 12.9),
        ("mistralai/Mixtral-8x22B-v0.1", 39),
        ("Qwen/Qwen3-235B-A22B", 22),
        ("deepseek-ai/DeepSeek-V3", 37),
        ("openai/gpt-oss-120b", 5.1),  # OpenAI leaves the embeddings out, 0.58 billion
    ],
)
def test_few_experts_are_used_for_a_token(name, billions):
    model, notes = read_configuration(FIELDS[name])
    embeddings = 0.58 if "gpt-oss" in name else 0
    assert model.active_parameters / 1e9 - embeddings == pytest.approx(billions, rel=0.02)
    assert any(f"{model.active_parameters:,} of them used for a token" in note for note in notes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["qwen3", "mixtral", "gemma3_text"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_kept_bytes_of_counted_models_are_those_of_real_tensors(kind, method, tmp_path):
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    from lab_utils.finetuning.base_model import nf4_config

    fields = ONE_OF_EACH[kind] | {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 300,
        "num_local_experts": 4,
    }
    config = transformers.AutoConfig.for_model(**fields)
    model = transformers.AutoModelForCausalLM.from_config(config)
    if method == "qlora":
        model.save_pretrained(tmp_path)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, quantization_config=nf4_config(torch.float32), dtype=torch.float32
        )
        model = prepare_model_for_kbit_training(model)
    if method != "full":
        lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    lines = ledger(Counted.of(config), Plan(method=method, rank=4, weights="fp32"))
    predicted = {line.name: line.low for line in lines if line.when == "kept"}
    predicted.pop("optimizer states")
    assert predicted == report.weight_bytes(model)


# ------------------------------------------------------------------------------- defaults and notes
@pytest.mark.parametrize(
    ("fields", "parameters", "note"),
    [
        ({"model_type": "mistral"}, 7_241_732_096, "num_key_value_heads = 8"),
        (
            {
                "model_type": "qwen2",
                "hidden_size": 5120,
                "intermediate_size": 27648,
                "num_attention_heads": 40,
                "num_hidden_layers": 64,
                "vocab_size": 152064,
                "tie_word_embeddings": False,
            },
            34_777_535_488,
            "num_key_value_heads = 32",
        ),
        ({"model_type": "gpt2"}, 124_439_808, "vocab_size = 50257"),
    ],
)
def test_a_missing_size_is_the_default_of_its_model_type(fields, parameters, note):
    model, notes = read_configuration(fields)
    assert model.n_parameters() == parameters == on_meta(fields).num_parameters()
    assert any("own default" in line and note in line for line in notes)


STRANGERS = {
    "unsloth_version": "2025.1",
    "output_past": True,
    "n_special": 0,
    "quantization": {"group_size": 64, "bits": 4},
    "quantization_config": {"load_in_4bit": True, "quant_method": "bitsandbytes"},
    "max_sequence_length": 4096,
    "is_llama_config": True,
    "rope_interleaved": False,
}


@pytest.mark.parametrize(
    "name", ["meta-llama/Llama-3.1-8B", "openai-community/gpt2", "Qwen/Qwen3-8B"]
)
def test_other_peoples_fields_are_named_and_passed_over(name):
    plain, notes = read_configuration(FIELDS[name])
    model, more = read_configuration(FIELDS[name] | STRANGERS | {"_name_or_path": "somewhere"})
    assert model == plain
    (line,) = [note for note in more if note not in notes]
    assert line.startswith("passed over, changes no parameter count: ")
    assert all(stranger in line for stranger in STRANGERS)


def test_fields_that_transformers_reads_are_no_strangers():
    """All that transformers itself writes into a config.json, for every type here."""
    for fields in ONE_OF_EACH.values():
        given = {name: value for name, value in fields.items() if name != "model_type"}
        config = transformers.AutoConfig.for_model(fields["model_type"], **given)
        written = json.loads(config.to_json_string(use_diff=False))
        assert read_configuration(written)[0] == read_configuration(fields)[0]
        assert not [
            n for n in read_configuration(written)[1] if n.startswith(("passed", "missing"))
        ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (LLAMA | {"num_kv_heads": 2}, "did you mean num_key_value_heads"),
        (LLAMA | {"hidden_sice": 4096}, "did you mean hidden_size"),
        (FIELDS["Qwen/Qwen3-30B-A3B"] | {"num_expert": 4}, "did you mean num_experts"),
        (
            LLAMA | {"num_hidden_layers": 0},
            "num_hidden_layers must be a whole number of at least 1",
        ),
        (LLAMA | {"hidden_size": "4096"}, "hidden_size.*expected int, got str"),
        (LLAMA | {"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
        (LLAMA | {"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"model_type": "lama"}, "'lama' is not one that transformers knows"),
        ({"model_type": ["llama"]}, "is not one that transformers knows"),
        ({"model_type": "t5"}, "builds no causal model of type 't5'"),
        ({"model_type": "vit"}, "builds no causal model of type 'vit'"),
        ({"hidden_size": 64}, "lacks vocab_size"),
    ],
)
def test_what_cannot_be_counted_is_refused_with_a_reason(fields, words):
    with pytest.raises(ValueError, match=words):
        read_configuration(fields)


@pytest.mark.parametrize(
    ("labels", "parameters"), [({"0": "reward"}, 7_504_928_768), (None, 7_504_932_864)]
)
def test_a_sequence_classifier_is_counted_as_one(labels, parameters):
    fields = LLAMA | {"architectures": ["LlamaForSequenceClassification"]}
    fields |= {"id2label": labels} if labels else {}
    model, notes = read_configuration(fields)
    assert model.n_parameters() == parameters
    assert any("counted as a sequence classifier" in note for note in notes)
    theirs = on_meta(fields, transformers.AutoModelForSequenceClassification)
    assert parameters == theirs.num_parameters()


@pytest.mark.parametrize(
    ("more", "longest"),
    [
        ({}, 32768),
        (
            {
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                }
            },
            131072,
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 65536),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 8}}, 262144),
        (  # Llama 3.1 gives the stretched length, and what it was before beside the factor
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 4096,
                }
            },
            32768,
        ),
        ({"rope_scaling": None}, 32768),
    ],
)
@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B", "Qwen/Qwen3-8B"])
def test_a_scaling_of_the_rotary_positions_allows_longer_sequences(name, more, longest):
    model, _ = read_configuration(FIELDS[name] | {"max_position_embeddings": 32768} | more)
    assert model.max_positions == longest
    assert ledger(model, Plan(sequence=longest))
    with pytest.raises(ValueError, match=f"the model has {longest} positions"):
        ledger(model, Plan(sequence=longest + 1))


# --------------------------------------------------------------------- what nobody has counted here
def test_activations_without_a_formula_are_refused_by_name_and_leave_the_end_open():
    model, _ = read_configuration(FIELDS["Qwen/Qwen3-8B"])
    plan = Plan(method="lora")
    lines = ledger(model, plan)
    unknown = {line.name: line.formula for line in lines if math.isinf(line.high)}
    assert {name: unknown[name] for name in ("activations", "logits and loss")} == dict.fromkeys(
        ("activations", "logits and loss"), "not counted: no formula was measured for qwen3"
    )
    low, high = peak(lines)
    assert low > 2 * model.n_parameters() and math.isinf(high)
    verdicts = fits_on(lines)
    assert verdicts["RTX 3060 12 GB"] == "no" and verdicts["H200 141 GB"] == "perhaps"
    record = as_record("x", plan, lines)
    assert record["peak"]["high"] is None
    assert json.loads(json.dumps(record, allow_nan=False))["peak"] == record["peak"]


def command(capsys, *argv):
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    code = report.main(parser.parse_args(list(argv)))
    return code, capsys.readouterr().out


def test_the_command_on_a_strangers_configuration(tmp_path, capsys):
    """With a byte-order mark, nested, and with fields that nobody knows."""
    file = tmp_path / "config.json"
    fields = FIELDS["google/gemma-3-4b-pt"] | {"unsloth_version": "1"}
    file.write_text(json.dumps(fields), encoding="utf-8-sig")
    code, out = command(capsys, str(tmp_path), "--method", "lora", "--rank", "8")
    assert code == 0 and "7.76 GB" in out
    assert "the language model alone, as in text_config" in out
    assert "not counted: no formula was measured for gemma3_text" in out
    assert "or more GB" in out and "perhaps on:" in out
    _, text = command(capsys, str(file), "--json")
    assert json.loads(text)["notes"]


def test_falcon_180b_has_the_parameters_of_its_card(capsys):
    code, out = command(capsys, "Falcon-180B", "--method", "lora")
    assert code == 0 and "2 bytes x 180 billion" in out
    assert report.model_named("Falcon-180B")[0].n_parameters() == 179_522_565_120


def test_known_models_need_neither_torch_nor_transformers():
    code = (
        "import sys\n"
        "sys.modules |= {'torch': None, 'transformers': None}\n"
        "from lab_utils.memory.report import architecture_named, known_models\n"
        "names = [name for name in known_models() if 'Falcon' not in name]\n"
        "assert all(architecture_named(name).n_parameters() for name in [*names, 'cheese-base'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_transformers_a_dense_configuration_is_still_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model, notes = read_configuration(LLAMA)
    assert model == Architecture.from_fields(LLAMA) and "transformers is not installed" in notes[0]
    with pytest.raises(ValueError, match="'qwen3' is not written out here"):
        read_configuration(FIELDS["Qwen/Qwen3-8B"])
    with pytest.raises(ValueError, match="lacks .*num_key_value_heads"):
        read_configuration({"model_type": "mistral"})


@pytest.mark.parametrize("name", ["t5", "zzz"])
def test_the_command_says_what_it_cannot_count(name, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    with pytest.raises(LabKitError, match=name):
        command(capsys, str(tmp_path))
