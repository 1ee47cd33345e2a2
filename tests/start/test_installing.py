"""pip's settings, and what is said about a failed install."""

import io
import os
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from lab_utils.files import GIGABYTE, LabKitError
from lab_utils.start import installing


@pytest.fixture
def terminal():
    return io.StringIO()


@pytest.mark.parametrize(
    "said, meaning",
    [
        (
            "The virtual environment was not created successfully because ensurepip is not "
            "available.",
            "python3-venv",
        ),
        (
            "Retrying after connection broken by 'NewConnectionError(...)'\nERROR: No distribution",
            "could not be reached",
        ),
        ("ERROR: [Errno 13] Permission denied: '/x'", "could not be written"),
        ("error: externally-managed-environment", "python3 -m lab_utils lab"),
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))\nERROR: no",
            "pip config set global.cert",
        ),
        (
            "Collecting x\nERROR: 'x' requires another Python\nbye",
            "failed.\nERROR: 'x' requires another Python\nThe whole",
        ),
    ],
)
def test_failures_are_explained(said, meaning, tmp_path):
    text = installing.explain_failure(said, tmp_path / "install.log")
    assert meaning in text and str(tmp_path / "install.log") in text


# --- progress


def test_progress_is_a_line_for_each_package_or_one_line_in_place(terminal):
    said = ["Collecting torch\n", "  Using cached x\n", "  Downloading torch.whl (800 MB)\n"]
    for line in said:
        installing.progress(terminal)(line)
    assert terminal.getvalue() == "Collecting torch\nDownloading torch.whl (800 MB)\n"
    window = io.StringIO()
    window.isatty = lambda: True
    for line in said:
        installing.progress(window)(line)
    assert "\n" not in window.getvalue() and window.getvalue().count("\r") == 3


def test_a_failing_command_keeps_all_it_said(tmp_path):
    shown = []
    command = [
        sys.executable,
        "-c",
        "import sys; print('first'); print('last error', file=sys.stderr); sys.exit(3)",
    ]
    with pytest.raises(LabKitError, match="last error"):
        installing.run_logged(command, tmp_path / "log", shown.append)
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["first", "last error"]
    assert sorted(shown) == ["first\n", "last error\n"]


# --- pip's settings

LISTING = """For variant 'global', will try loading '/etc/pip.conf'
:env:.find-links='/wheels /more wheels'
:env:.user='1'
global.cert='/etc/certificate.pem'
global.constraint='/etc/constraints.txt'
global.index-url='first'
global.trusted-host='a\\nb'
install.index-url='second'
install.target='/elsewhere'
list.index-url='never'
"""


def test_settings_say_how_packages_are_reached_and_the_stronger_wins():
    assert installing.read_settings(LISTING, installing.REACH) == {
        "cert": "/etc/certificate.pem",
        "index-url": "second",
        "trusted-host": "a\nb",
        "find-links": "/wheels /more wheels",
    }
    assert "constraint" in installing.read_settings(LISTING, installing.IN_PLACE)


def test_nothing_else_reaches_pip():
    environ = {"PATH": "/bin", "PIP_USER": "1", "PIP_INDEX_URL": "old", "HTTPS_PROXY": "proxy"}
    assert installing.isolated(environ, {"index-url": "new", "no-index": "true"}) == {
        **installing.OWN_SETTINGS,
        "PATH": "/bin",
        "HTTPS_PROXY": "proxy",
        "PIP_INDEX_URL": "new",
        "PIP_NO_INDEX": "true",
    }


def test_pip_itself_tells_the_settings(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text("[global]\nquiet = 3\nproxy = http://proxy:1\nuser = yes\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_QUIET", "3")
    monkeypatch.setenv("PIP_RETRIES", "7")
    found = installing.settings_of([sys.executable, "-m", "pip"], installing.REACH)
    assert (found["proxy"], found["retries"]) == ("http://proxy:1", "7") and "user" not in found


def test_a_broken_settings_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "pip.conf").write_text("no section = 1\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    with pytest.raises(LabKitError, match="cannot read its own settings(.|\n)*pip.conf"):
        installing.settings_of([sys.executable, "-m", "pip"], installing.REACH)


# --- full disks


@pytest.mark.parametrize(
    "said",
    [
        "OSError: [Errno 28] No space left on device",
        "[WinError 112] There is not enough space on the disk",
        "OSError: [Errno 122] Disk quota exceeded: '/home/me'",
    ],
)
def test_which_disk_is_full_is_said(said, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "small"))
    (tmp_path / "small").mkdir()
    monkeypatch.setattr(installing.tempfile, "tempdir", str(tmp_path / "small"))
    Usage = namedtuple("Usage", "free")
    rooms = {tmp_path: Usage(75 * GIGABYTE), tmp_path / "small": Usage(0)}
    text = installing.explain_failure(said, tmp_path / "install.log", rooms.__getitem__)
    assert f"{tmp_path}: 75.0 GB free\n" in text and f"{tmp_path / 'small'}: 0.0 GB free\n" in text


def test_temporary_files_lie_beside_the_log_and_go(tmp_path, monkeypatch):
    code = "import sys, tempfile; print(tempfile.gettempdir())"
    shown = []
    fake = tmp_path / "bin" / "pip"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}'\n")
    fake.chmod(0o755)
    monkeypatch.setattr(installing, "find_installer", lambda *_: [str(fake)])
    monkeypatch.setattr(installing, "settings_of", lambda *_: {})
    installing.install([], sys.executable, tmp_path / "install.log", shown.append, own=True)
    (used,) = shown
    assert Path(used.strip()).parent == tmp_path and not Path(used.strip()).exists()
