"""The lab command."""

import argparse
import subprocess
import sys

from lab_utils.files import ROOT
from lab_utils.start import jupyter


def test_jupyterlab_is_opened_on_the_labs(monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "call", lambda command, cwd: called.append((command, cwd)) or 3)
    assert jupyter.main(argparse.Namespace(passed_on=["--no-browser"])) == 3
    ((command, cwd),) = called
    assert command == [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={ROOT}",
        "--LabApp.default_url=/lab/tree/labs",
        "--no-browser",
    ]
    assert cwd == ROOT
