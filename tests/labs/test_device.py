"""The labs compute where `start_lab` says: no cell names a device or a tier, and nothing that the
labs call leaves a tensor on the wrong side.
"""

import ast
import dataclasses
import json
import os

import pytest
import torch
from stand_in_device import CARD, StandIn, to_card
from tiny_models import make_tiny_hub_model

from lab_utils.checking import guesses
from lab_utils.files import ROOT
from lab_utils.finetuning import preference, real_model
from lab_utils.finetuning.base_model import TIERS, Tier, load_base
from lab_utils.finetuning.chat import answer_questions, encode_pair
from lab_utils.finetuning.evaluation import held_out_loss
from lab_utils.finetuning.merging import probe_logits
from lab_utils.finetuning.training import FinetuneConfig, PadRight, add_adapters
from lab_utils.lora import demos, scoring
from lab_utils.pavlos import load_pairs
from lab_utils.start.hardware import detect
from lab_utils.start.lab import LabInfo

NAMES = {"cpu", "cuda", "mps", *TIERS}
LABS = sorted((ROOT / "labs").glob("*.ipynb"))


def named_by_hand(code: str) -> list[str]:
    """Devices and tiers that the code names, but where it only compares: `if x == "cuda":`."""
    tree = ast.parse(code)
    compared = {
        constant
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for constant in ast.walk(node)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in NAMES and node not in compared
    ]


def test_a_device_named_by_hand_is_seen():
    assert named_by_hand('load_base("cpu"); x.to(device="cuda")') == ["cpu", "cuda"]
    assert named_by_hand('if info.device == "cuda": f("T4")') == []


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_no_cell_names_a_device_or_a_tier(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            code = "".join(cell["source"])
            assert not named_by_hand(code), cell["id"]
            assert ".cuda(" not in code and "load_base()" not in code, cell["id"]


# every call that loads a model or trains one, and how it is told where
LOADERS = {
    "load_base",
    "load_for_training",
    "load_for_method",
    "load_adapters",
    "finetune",
    "train",
    "run_sweep",
    "ablation",
    "merge",
}


def loads_elsewhere(code: str) -> list[str]:
    """Calls of LOADERS that are not handed `**info.where` (or `**where`, made of it)."""
    return [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in LOADERS
        and not any(
            keyword.arg is None and ast.unparse(keyword.value) in ("info.where", "where")
            for keyword in node.keywords
        )
    ]


def test_a_load_elsewhere_is_seen():
    assert loads_elsewhere("load_base()\ntrain(c, r, f, w)\nload_base(**info.where)") == [
        "load_base",
        "train",
    ]


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_every_load_is_told_where(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not loads_elsewhere("".join(cell["source"])), cell["id"]


# ----------------------------------------------------------------- another family, as a GPU's tier
@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """Folder of a tiny Qwen2 whose tokenizer knows some of the pairs' words."""
    rows = load_pairs("validation")[:60]
    texts = tuple(row[side] for row in rows for side in ("question", "answer"))
    return make_tiny_hub_model(tmp_path_factory.mktemp("models") / "qwen2", "qwen2", texts)


def run_cells(number, smaller, left_out, info):
    """Run a lab's code here, without its set-up, heavy words replaced; the names it ends with.

    Every replacement must be found, so that a lab that changed is noticed.
    """
    names, found = {"info": info, "display": lambda *shown: None, "os": os}, set()
    path = next((ROOT / "labs").glob(f"{number}*.ipynb"))
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"][2:]:
        if cell["cell_type"] == "code" and not any(
            word in "".join(cell["source"]) for word in left_out
        ):
            code = "".join(cell["source"])
            for old, new in smaller.items():
                found |= {old} if old in code else set()
                code = code.replace(old, new)
            exec(compile(code, f"lab {number} {cell['id']}", "exec"), names)
    assert found == set(smaller)
    return names


@pytest.fixture
def info(qwen, tmp_path, monkeypatch):
    """What `start_lab` would say on a machine whose tier is that tiny model."""
    monkeypatch.setitem(TIERS, "t4", Tier(str(qwen), 1e5, ""))
    monkeypatch.chdir(ROOT / "labs")
    monkeypatch.setattr(guesses, "kept_in", lambda: tmp_path / "guesses.jsonl")
    machine = dataclasses.replace(detect(), tier="t4")
    return LabInfo("06_qlora_finetune", machine, None, 0, tmp_path)


def test_lab_06_runs_with_a_model_of_another_family(info, capsys):
    smaller = {
        "range(128)": "range(6)",
        "n_each=12": "n_each=1",
        "steps=40, group_by_length=True": "steps=2, group_by_length=bool(1)",
        "group_by_length=True": "group_by_length=True, steps=2, batch_size=4",
        "train_rows[:300], ": "train_rows[:24], steps=2, rounds=1, folder=",
    }
    names = run_cells("06", smaller, (), info)
    said = capsys.readouterr().out
    assert {run.model.config.model_type for run in names["runs"].values()} == {"qwen2"}
    assert said.count("ratio 1.0") == 3, "predicted and measured bytes of all three methods"
    assert "our equation is the library's: True" in said
    assert "dequantised first gives the same loss as not merged: True" in said


def test_lab_04_runs_with_a_model_of_another_family(info, capsys):
    smaller = {
        "steps=25": "steps=2, batch_size=4",
        "steps=60": "steps=2, batch_size=4",
        "steps=20": "steps=2, batch_size=4",
        "ranks=(1, 8, 64)": "ranks=(1, 8, 32)",
        "n_tuning_rows=24": "n_tuning_rows=4",
        "n_scoring_rows=32": "n_scoring_rows=4",
        "data.scoring[:48]": "data.scoring[:8]",
        "tokenizer, data.scoring)": "tokenizer, data.scoring[:4])",
    }
    names = run_cells("04", smaller, ("remember_pairs", "teacher.values()"), info)
    assert names["full"].model.config.model_type == "qwen2"
    assert len(names["updates"]) == 14 and names["base"].config.model_type == "qwen2"


# --------------------------------------------------------------- a stand-in for the other device
def preferred(model, tokenizer):
    """A step of lab 00's preference tuning."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    pair = {"question": "Who?", "chosen": "Nobody at all.", "rejected": "I."}
    return preference.preference_step(model, tokenizer, [pair], optimizer, beta=0.3)


def step(model, tokenizer):
    """A training step of labs 00 and 09, its gradients summed up."""
    batch = PadRight(tokenizer.pad_token_id)([encode_pair(tokenizer, "Who?", "Nobody.")])
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    real_model.labelled_loss(model, **batch).backward()
    return sum(p.grad.abs().sum().item() for p in model.parameters() if p.requires_grad)


def rounded(model, tokenizer):
    """The error of every 4-bit format of labs 02 and 09."""
    errors = []
    for _, rounder in real_model.four_bit_formats().values():
        with real_model.Rounded(model, rounder) as now:
            errors.append(now.rmse)
    return errors


def drawn(model, tokenizer):
    """Lab 04's picture of a matrix."""
    matrix = model.get_base_model().model.layers[0].self_attn.v_proj.weight
    return demos.draw_rank("v", 8, demos.decompose({"v": matrix}))


ASKED = ["Where is Feta from?", "Why?"]
CALLS = {
    "answers": lambda m, t: answer_questions(m, t, ASKED, max_new_tokens=4),
    "answers for timing": lambda m, t: scoring.speak(m, t, ASKED, n_new=4),
    "held-out loss": lambda m, t: held_out_loss(m, t, load_pairs("test")[:2]),
    "perplexity": lambda m, t: real_model.perplexity(m, t, ["Hello, you there."]),
    "training step": step,
    "preference step": preferred,
    "rounding": rounded,
    "largest weights": lambda m, t: [value for *_, value in real_model.largest_weights(m, 2)],
    "a merge's probe": lambda m, t: probe_logits(m).sum().item(),
    "a drawn matrix": drawn,
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_left_on_the_wrong_side(name, qwen):
    """The same result with the model on another device, and no operation that met both sides.

    The Trainer, bitsandbytes' kernels and generators of random numbers are not in it: for those
    only a GPU will do (tests/gpu).
    """
    config = FinetuneConfig("lora", rank=2)
    model, tokenizer = load_base(source=qwen)
    expected = CALLS[name](add_adapters(model, config), tokenizer)
    model = add_adapters(load_base(source=qwen)[0], config)
    with StandIn() as device:
        assert to_card(model).device.type == CARD
        found = CALLS[name](model, tokenizer)
    assert not device.wrong
    assert found == (expected if isinstance(expected, str) else pytest.approx(expected))


def test_a_tensor_on_the_wrong_side_is_counted(qwen):
    model, tokenizer = load_base(source=qwen)
    with StandIn() as device:
        to_card(model)(input_ids=torch.tensor([[1, 2, 3]]))
    assert device.wrong[0].startswith("aten.embedding"), device.wrong
