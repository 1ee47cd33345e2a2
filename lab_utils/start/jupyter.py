"""The `lab` command: JupyterLab, opened on the labs."""

from __future__ import annotations

import argparse
import subprocess
import sys

from lab_utils.files import ROOT


def jupyter_arguments(passed_on: list[str]) -> list[str]:
    """JupyterLab's arguments: it serves the whole kit, so that data/ and runs/ can be opened too,
    and shows labs/.
    """
    return [f"--ServerApp.root_dir={ROOT}", "--LabApp.default_url=/lab/tree/labs", *passed_on]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is JupyterLab's, for example `--no-browser`."""
    parser.set_defaults(passed_on=[])


def main(args: argparse.Namespace) -> int:
    """Runs JupyterLab until it is stopped. Returns its exit code."""
    return subprocess.call(
        [sys.executable, "-m", "jupyterlab", *jupyter_arguments(args.passed_on)], cwd=ROOT
    )
