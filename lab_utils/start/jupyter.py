"""The `lab` command: JupyterLab, opened on the labs, with settings of its own."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lab_utils.files import ROOT
from lab_utils.start.lab import results_folder

FOLDERS = {  # where Jupyter looks for settings, kernels and extensions of a person's own
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
}


def own_settings(folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment in which Jupyter keeps its settings below `folder`, and finds none of the
    person's own: their folder, port, password or dead kernel would stop the labs.
    """
    given = {name: value for name, value in environ.items() if not name.startswith("JUPYTER_PORT")}
    own = {name: str(folder / part) for name, part in FOLDERS.items()}
    return {**given, **own, "JUPYTER_PREFER_ENV_PATH": "1"}


def jupyter_arguments(passed_on: list[str]) -> list[str]:
    """JupyterLab's arguments: it serves the whole kit, so that data/ and runs/ can be opened too,
    and shows labs/.
    """
    return [
        f"--ServerApp.root_dir={ROOT}",
        f"--ServerApp.preferred_dir={ROOT}",
        "--LabApp.default_url=/lab/tree/labs",
        *passed_on,
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is JupyterLab's, for example `--no-browser`."""
    parser.set_defaults(passed_on=[])


def main(args: argparse.Namespace) -> int:
    """Runs JupyterLab until it is stopped. Returns its exit code."""
    return subprocess.call(
        [sys.executable, "-m", "jupyterlab", *jupyter_arguments(args.passed_on)],
        cwd=ROOT,
        env=own_settings(results_folder() / "jupyter"),
    )
