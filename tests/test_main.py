"""The command line: light to start, clear when something is wrong."""

import importlib
import json
import subprocess
import sys

import pytest

from lab_utils import __main__ as command_line
from lab_utils.files import ROOT, LabKitError
from lab_utils.start import environment
from lab_utils.start.requirements import LABS, OPENING, RUNNING, TESTING

HEAVY = {
    "torch",
    "numpy",
    "transformers",
    "playwright",
    "IPython",
    "nbclient",
    "pandas",
    "matplotlib",
}


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running the code."""
    code += (
        "\nimport json, sys; print(json.dumps([name for name in sys.modules if '.' not in name]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import lab_utils",
        "import runpy, sys\nsys.argv = ['lab_utils', '--help']\n"
        "try: runpy.run_module('lab_utils', run_name='__main__')\nexcept SystemExit: pass",
        *(f"import {module}" for module, _ in command_line.COMMANDS.values()),
    ],
)
def test_starting_loads_nothing_heavy(code):
    assert not loaded_after(code) & HEAVY


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_each_command_keeps_the_contract(name):
    module = importlib.import_module(command_line.COMMANDS[name][0])
    assert callable(module.add_arguments) and callable(module.main)


def test_help_lists_each_command_without_site_packages():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "lab_utils", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    for name in command_line.COMMANDS:
        assert f"\n    {name} " in done.stdout


@pytest.mark.parametrize(
    "version, fine", [((3, 9, 18), False), ((2, 7, 18), False), ((3, 10, 0), True), ((4, 0), True)]
)
def test_too_old_a_python_is_named(version, fine):
    problem = command_line.python_problem(version)
    assert (problem == "") is fine
    if not fine:
        assert (
            f"Python {version[0]}.{version[1]}" in problem
            and "needs Python 3.10 or newer" in problem
        )


def test_main_parses_on_python_3_6():
    import ast

    for name in ("__init__.py", "__main__.py"):
        ast.parse((ROOT / "lab_utils" / name).read_text(), feature_version=(3, 6))


def test_arguments_are_passed_on_in_order():
    args = command_line.parse(["test", "tests/test_main.py", "-q", "-m", "gpu", "-k", "not slow"])
    assert args.passed_on == ["tests/test_main.py", "-q", "-m", "gpu", "-k", "not slow"]
    assert command_line.parse(["lab", "--no-browser"]).passed_on == ["--no-browser"]


@pytest.mark.parametrize("argv", [[], ["walk"], ["run", "--fast"], ["doctor", "now"]])
def test_what_is_not_understood_is_refused(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.parse(argv)
    assert stopped.value.code == 2
    assert "usage: python3 -m lab_utils" in capsys.readouterr().err


@pytest.mark.parametrize(
    "problem, code, said",
    [
        (LabKitError("no room"), 1, "no room"),
        (KeyboardInterrupt(), 130, "Stopped"),
        (PermissionError(13, "Permission denied", "/kit/x"), 1, "/kit/x: Permission denied. The"),
        (OSError(28, "No space left on device", "x"), 1, "x: No space left on device. The command"),
    ],
)
def test_problems_are_said_without_a_traceback(problem, code, said, monkeypatch, capsys):
    def fail(*arguments):
        raise problem

    monkeypatch.setattr(environment, "ensure", fail)
    assert command_line.main(["run"]) == code
    assert said in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in `... | head -1`: its end is closed before the first line is written."""
    code = (
        "import os, sys; from lab_utils import __main__ as command_line\n"
        "read, write = os.pipe(); os.dup2(write, 1); os.close(write); os.close(read)\n"
        "sys.exit(command_line.main(['memory', 'Llama-2-7B', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    "command, section",
    [("run", RUNNING), ("lab", OPENING), ("test", TESTING), ("sweep", LABS), ("pavlos", LABS)],
)
def test_a_command_sets_up_what_it_needs_and_no_more(command, section, monkeypatch):
    asked = []

    def stop(argv, section, newest):
        asked.append((section, newest))
        raise LabKitError("enough")

    monkeypatch.setattr(environment, "ensure", stop)
    command_line.main([command])
    assert asked == [(section, False)]


def test_memory_needs_no_package():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "lab_utils", "memory", "Llama-2-7B"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0 and "at the peak of a step" in done.stdout, done.stderr


def test_doctor_installs_nothing(monkeypatch):
    from lab_utils.start import doctor

    monkeypatch.setattr(
        environment, "ensure", lambda argv: pytest.fail("the doctor must not install")
    )
    monkeypatch.setattr(doctor, "main", lambda args: 7)
    assert command_line.main(["doctor"]) == 7
