"""A stand-in for Colab: its `google.colab` without secrets, its folder, and a git that finds the
kit on this disk.
"""

import os
import shutil
import subprocess
from pathlib import Path

import nbformat

from lab_utils.files import ROOT

CLONED = "https://github.com/OWNER/REPO"  # what the setup cells of the masters clone
LOADED = "import google.colab\n"  # every Colab kernel has it before the first cell
USERDATA = """class SecretNotFoundError(Exception):
    pass


def get(name):
    raise SecretNotFoundError(name)
"""


def setup_cell(lab: str) -> str:
    """The source of a lab's setup cell, as it is in the notebook."""
    notebook = nbformat.read(ROOT / "labs" / f"{lab}.ipynb", as_version=4)
    return next(
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "start_lab(" in cell.source
    )


def make_repository(folder: Path, names: list[str]) -> Path:
    """A git repository of these files and folders of the kit as they are now, committed or not."""
    folder.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    who = ["-c", "user.name=kit", "-c", "user.email=kit@localhost"]
    for command in (["init", "-q"], ["add", "-Af"], [*who, "commit", "-qm", "The kit"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def colab_environ(repository: Path, home: Path) -> dict[str, str]:
    """Variables for a process in the stand-in: `home` is empty, and cloning the kit's address takes
    the repository.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "LAB_"))
    }
    git = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": CLONED,
    }
    files = {
        "packages/google/colab/__init__.py": "",
        "packages/google/colab/userdata.py": USERDATA,
        ".ipython/profile_default/startup/00-colab.py": LOADED,
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return {
        **kept,
        **git,
        "HOME": str(home),
        "IPYTHONDIR": str(home / ".ipython"),
        "PYTHONPATH": str(home / "packages"),
    }
