"""The test command's choices, without running pytest in pytest."""

import argparse
import subprocess
import sys

import pytest

from lab_utils.course import test as testing

NBVAL = ["--nbval", "--nbval-current-env"]
SHARED_OUT = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
ALL_TESTS = [*SHARED_OUT, "-p", "no:nbval", "tests"]  # no notebook is among them


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(testing.os, "cpu_count", lambda: 2)


@pytest.mark.parametrize(
    "passed_on, expected",
    [
        ([], ALL_TESTS),
        (["-q", "-k", "absent"], [*ALL_TESTS, "-q", "-k", "absent"]),
        (["tests/test_main.py::test_x", "-q"], [*NBVAL, "tests/test_main.py::test_x", "-q"]),
        (["labs", "--nbval-lax"], [*NBVAL, "labs", "--nbval-lax"]),
        (["tests", "-m", "gpu"], [*NBVAL, "tests", "-m", "gpu"]),
    ],
)
def test_paths_replace_the_usual_ones(passed_on, expected):
    assert testing.pytest_arguments(passed_on) == ["-m", "not gpu", *expected]


def test_without_a_browser_nbval_runs_the_labs():
    without_real_model = ["labs", "tests", "--ignore-glob=labs/09_*"]
    assert testing.pytest_arguments([], browser=False) == [
        "-m",
        "not gpu",
        *SHARED_OUT,
        *NBVAL,
        *without_real_model,
    ]


def test_quick_leaves_out_what_takes_more_than_a_moment():
    assert testing.pytest_arguments([], quick=True, browser=False) == [
        "-m",
        "not gpu and not browser and not sandbox and not slow",
        *ALL_TESTS,
    ]


@pytest.mark.parametrize("cores, workers, threads", [(1, 1, "1"), (2, 2, "1"), (16, 4, "4")])
def test_workers_share_the_cores(cores, workers, threads, monkeypatch):
    given = {}
    monkeypatch.setattr(testing.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(testing, "find_chromium", lambda: "chromium")
    monkeypatch.setattr(testing, "sandbox_problem", lambda: "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(subprocess, "call", lambda command, env, **_: given.update(env) or 0)
    assert testing.main(argparse.Namespace(passed_on=[], quick=False)) == 0
    assert testing.n_workers() == workers and given["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize("apt, installs", [(True, 1), (False, 0)])
def test_a_missing_browser_is_installed_or_loudly_missed(apt, installs, monkeypatch, capsys):
    installed, commands = [], []
    monkeypatch.setattr(testing, "find_chromium", lambda: None)
    monkeypatch.setattr(testing, "sandbox_problem", lambda: "")
    monkeypatch.setattr(testing, "can_apt_install", lambda: apt)
    monkeypatch.setattr(testing, "install_chromium", lambda: installed.append(1))
    monkeypatch.setattr(subprocess, "call", lambda command, **_: commands.append(command) or 5)
    assert testing.main(argparse.Namespace(passed_on=["-q"], quick=False)) == 5
    assert len(installed) == installs
    assert "NO CHROMIUM: THE BROWSER TESTS ARE LEFT OUT" in capsys.readouterr().out
    assert commands[0][:3] == [sys.executable, "-m", "pytest"]


@pytest.mark.parametrize("codes, commands", [([0, 0], ["update", "install"]), ([100], ["update"])])
def test_apt_updates_first_and_stops_when_that_fails(codes, commands, monkeypatch):
    called, answers = [], iter(codes)
    monkeypatch.setattr(
        subprocess, "call", lambda command, **_: called.append(command) or next(answers)
    )
    testing.install_chromium()
    assert [next(word for word in command[1:] if word[0] != "-") for command in called] == commands


def test_left_out_tests_are_named_in_capitals(pytest_without_devices):
    assert "1 TESTS WERE LEFT OUT: NEEDS CHROMIUM, AND THERE IS NONE" in pytest_without_devices
    assert "1 TESTS WERE LEFT OUT: NEEDS A CUDA DEVICE, AND THERE IS NONE" in pytest_without_devices
    assert "1 passed, 2 skipped" in pytest_without_devices


@pytest.fixture
def pytest_without_devices(tmp_path):
    """What pytest prints with this project's conftest where there is no Chromium and no GPU."""
    conftest = (testing.ROOT / "tests" / "conftest.py").read_text()
    conftest += "\n\ndef has_cuda(): return False\ndef has_chromium(): return False\n"
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_marked.py").write_text(
        "import pytest\n\n@pytest.mark.gpu\ndef test_a(): pass\n\n"
        "@pytest.mark.browser\ndef test_b(): pass\n\ndef test_c(): pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        str(testing.ROOT / "pyproject.toml"),
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
