"""The lab command."""

import argparse
import json
import os
import subprocess
import sys

import pytest

from lab_utils.files import ROOT
from lab_utils.start import jupyter


def test_jupyterlab_is_opened_on_the_labs_with_settings_of_its_own(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(jupyter, "results_folder", lambda: tmp_path)
    monkeypatch.setattr(
        subprocess, "call", lambda command, cwd, env: called.append((command, cwd, env)) or 3
    )
    assert jupyter.main(argparse.Namespace(passed_on=["--no-browser"])) == 3
    ((command, cwd, environ),) = called
    assert command == [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={ROOT}",
        f"--ServerApp.preferred_dir={ROOT}",
        "--LabApp.default_url=/lab/tree/labs",
        "--no-browser",
    ]
    assert cwd == ROOT
    assert environ["JUPYTER_CONFIG_DIR"] == str(tmp_path / "jupyter" / "config")


THEIRS = {
    "ServerApp": {"root_dir": "/elsewhere", "preferred_dir": "/elsewhere", "port": 1},
    "PasswordIdentityProvider": {"hashed_password": "argon2:x", "password_required": True},
    "IdentityProvider": {"token": "theirs"},
}
SAY = """
from jupyterlab.labapp import LabApp
from jupyter_client.kernelspec import KernelSpecManager
app = LabApp.initialize_server(argv={argv})
token = app.identity_provider.token
print(repr([app.root_dir, app.preferred_dir, app.port, token == "theirs"]))
print(app.identity_provider.__dict__.get("hashed_password"))
print(KernelSpecManager().get_kernel_spec("python3").argv[0])
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A person's home with settings that lead elsewhere, and a kernel whose Python is gone."""
    for name, text in {
        ".jupyter/jupyter_server_config.json": json.dumps(THEIRS),
        ".local/share/jupyter/kernels/python3/kernel.json": json.dumps(
            {"argv": ["/nowhere/python"], "display_name": "Python 3", "language": "python"}
        ),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    for name in [name for name in os.environ if name.startswith(("JUPYTER", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PORT", "2")
    # as where the environment belongs to another user
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    return tmp_path


def said(environ) -> str:
    arguments = [*jupyter.jupyter_arguments([]), "--no-browser", "--allow-root"]
    code = SAY.format(argv=arguments)
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    return done.stdout + done.stderr[-2000:] * bool(done.returncode)


@pytest.mark.slow
def test_a_persons_own_settings_and_kernels_do_not_count(home):
    there = said(jupyter.own_settings(home / "runs" / "jupyter"))
    port = json.loads(there.splitlines()[0].replace("'", '"').replace("False", "false"))[2]
    assert there.splitlines()[0] == repr([str(ROOT), str(ROOT), port, False]), there
    assert port >= 8888 and "argon2" not in there and "/nowhere" not in there


@pytest.mark.slow
def test_with_them_this_test_would_fail(home):
    there = said(dict(os.environ))
    assert "argon2" in there or "/nowhere/python" in there
