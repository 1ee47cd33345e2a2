"""The set-up: version ranges, a real environment made from a package on this disk, and every way it
can fail.
"""

import importlib.metadata
import io
import os
import re
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from lab_utils.files import LabKitError
from lab_utils.start import environment

ROOMY = namedtuple("Usage", "free")(100 * environment.GIGABYTE)


@pytest.fixture
def terminal():
    return io.StringIO()


# --- version ranges

versions = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(
    lambda parts: ".".join(map(str, parts))
)


@given(
    versions,
    st.lists(st.tuples(st.sampled_from(sorted(environment.COMPARISONS)), versions), max_size=3),
)
def test_ranges_agree_with_packaging(version, bounds):
    range_text = ",".join(sign + limit for sign, limit in bounds)
    _, parsed = environment.parse_requirement("name" + range_text)
    assert parsed == bounds
    assert environment.satisfies(version, parsed) == SpecifierSet(range_text).contains(version)


@pytest.mark.parametrize(
    "version, numbers",
    [
        ("2.13.0+cpu", (2, 13)),
        ("2.14.0rc1", (2, 14, 0)[:2]),
        ("5.2.0.post1", (5, 2)),
        ("24", (24,)),
        ("0.0", ()),
    ],
)
def test_release_keeps_the_numbers(version, numbers):
    assert environment.release(version) == numbers


def test_ten_is_newer_than_nine():
    assert environment.satisfies("2.10", [(">=", "2.9")])
    assert not environment.satisfies("2.14.0", [("<", "2.14")])


@pytest.mark.parametrize(
    "line", ["", ">=2", "torch~=2.0", "torch>=2; python_version<'3'", "-r other.txt"]
)
def test_what_is_not_a_plain_requirement_is_refused(line):
    with pytest.raises(ValueError, match="expected a name and bounds"):
        environment.parse_requirement(line)


def test_unmet_names_absent_and_out_of_range():
    installed = {"there": "2.0", "old": "0.9", "new": "3.0"}.get
    lines = ["there>=1,<3", "old>=1", "new<3", "absent"]
    assert environment.unmet(lines, installed) == ["old>=1", "new<3", "absent"]


def have(monkeypatch, **changed: str | None) -> None:
    """As if every package were there in version 999, but for these."""
    versions = dict.fromkeys(by_name(environment.requirement_lines()), "999") | changed
    monkeypatch.setattr(environment, "installed_version", versions.get)
    monkeypatch.setattr(environment.unmet, "__defaults__", (versions.get,))


def bound_of(name: str) -> str:
    return next(line for line in environment.loose_requirements() if line.startswith(name + ">="))


def command_for_pip(monkeypatch) -> list[str]:
    """The command with which install_missing would install."""
    commands = []
    monkeypatch.setattr(environment, "run_logged", lambda command, *_: commands.append(command))
    environment.install_missing()
    return commands[0]


def test_nothing_is_missing_where_all_is_there(monkeypatch):
    have(monkeypatch)
    monkeypatch.setattr(environment, "run_logged", lambda *_: pytest.fail("called pip"))
    environment.install_missing()


def test_what_is_absent_is_judged_by_the_loose_bounds_and_installed_beside_pins(monkeypatch):
    have(monkeypatch, sacrebleu=None)
    assert environment.missing_requirements() == [bound_of("sacrebleu")]
    option, file, line = command_for_pip(monkeypatch)[-3:]
    assert (line, option) == (bound_of("sacrebleu"), "--constraint")
    pins = Path(file).read_text(encoding="utf-8").splitlines()
    assert f"numpy=={importlib.metadata.version('numpy')}" in pins and pins == environment.pins()


def test_nothing_is_pinned_where_something_is_too_old(monkeypatch):
    have(monkeypatch, sacrebleu=None, torch="1.0")
    option, file, *lines = command_for_pip(monkeypatch)[-4:]
    assert (
        lines == [bound_of("torch"), bound_of("sacrebleu")]
        and Path(file).read_text(encoding="utf-8") == ""
    )


def test_pins_leave_out_what_pip_cannot_read_and_take_what_is_imported(monkeypatch):
    found = [
        namedtuple("Found", "name version")(*each)
        for each in (
            ("torch", "2.11.0+cu128"),
            ("distro-info", "1.1+ubuntu0.2"),
            ("python-debian", "0.1.43ubuntu1"),
            ("numpy", "2.0.2"),
            ("numpy", "1.21.5"),
            (None, "1.0"),
            ("broken", None),
            ("h5py", "3.0rc1.post2"),
        )
    ]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    assert environment.pins() == [
        "distro-info==1.1+ubuntu0.2",
        "h5py==3.0rc1.post2",
        "numpy==2.0.2",
        "torch==2.11.0+cu128",
    ]


@given(st.from_regex(environment.PLAIN_VERSION, fullmatch=True))
def test_a_version_that_is_pinned_can_be_read_by_pip(version):
    Version(version)


# --- the three lists of packages


def by_name(lines) -> dict:
    return dict(map(environment.parse_requirement, lines))


def all_of_pyproject() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11 on")
    project = tomllib.loads(environment.PYPROJECT.read_text())["project"]
    assert project["dependencies"] == environment.loose_requirements()
    extras = project["optional-dependencies"]
    # what `bench` compares with is not installed by default
    lists = [
        project["dependencies"],
        extras["lab"],
        extras["test"],
    ]
    return by_name(line for lines in lists for line in lines)


def test_pyproject_and_requirements_name_the_same_packages():
    assert set(all_of_pyproject()) == set(by_name(environment.requirement_lines()))


def test_pyprojects_bounds_contain_the_tested_ranges():
    loose = all_of_pyproject()
    for name, bounds in by_name(environment.requirement_lines()).items():
        ((sign, lowest),) = loose[name]
        assert sign == ">=" and environment.satisfies(dict(bounds)[">="], [(">=", lowest)]), name


def test_every_tested_range_has_an_upper_end_and_holds_what_is_installed():
    for name, bounds in by_name(environment.requirement_lines()).items():
        assert [sign for sign, _ in bounds] == [">=", "<"], name
    assert environment.unmet(environment.requirement_lines()) == []


def test_conda_takes_the_same_list():
    text = (environment.ROOT / "environment.yml").read_text()
    assert re.findall(r"^      - (.*)", text, re.MULTILINE) == ["-r requirements.txt"]
    required = environment.PYPROJECT.read_text().split('requires-python = ">=')[1].split('"')[0]
    assert environment.satisfies(re.search(r"python=([\d.]+)", text)[1], [(">=", required)])


def test_python_bound_is_the_one_checked():
    from lab_utils import PYTHON_REQUIRED

    assert (
        f'requires-python = ">={PYTHON_REQUIRED[0]}.{PYTHON_REQUIRED[1]}"'
        in environment.PYPROJECT.read_text()
    )


# --- variables for children


def test_variables_are_set_but_never_overruled():
    environ = {"OMP_WAIT_POLICY": "ACTIVE", "PYTHONPATH": "/elsewhere"}
    environment.set_variables(environ)
    environment.set_variables(environ)
    assert environ == {
        **environment.VARIABLES,
        "OMP_WAIT_POLICY": "ACTIVE",
        "PYTHONPATH": os.pathsep.join([str(environment.ROOT), "/elsewhere"]),
    }
    assert environment.VARIABLES["OMP_WAIT_POLICY"] == "PASSIVE"


# --- files


def test_interpreter_paths():
    assert environment.venv_python(Path("v"), windows=True) == Path("v/Scripts/python.exe")
    assert environment.venv_python(Path("v"), windows=False) == Path("v/bin/python")


def test_a_missing_requirements_file_is_named(tmp_path):
    with pytest.raises(LabKitError, match="complete copy"):
        environment.requirement_lines(tmp_path / "requirements.txt")


# --- places where it cannot work


def test_too_little_disk_is_said_with_both_numbers(tmp_path):
    with pytest.raises(LabKitError, match=r"has 1\.5 GB free, and the set-up needs 6 GB"):
        environment.check_place(tmp_path, usage=lambda _: ROOMY._replace(free=1_500_000_000))
    environment.check_place(tmp_path, usage=lambda _: ROOMY)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(LabKitError, match=r"cannot be written \(Permission denied\)") as stopped:
        environment.check_place(tmp_path, usage=lambda _: ROOMY, probe=refuse)
    assert str(tmp_path) in str(stopped.value)


@pytest.mark.parametrize(
    "said, meaning",
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device",
            "disk is full",
        ),
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
        (
            "Collecting x\nERROR: 'x' requires another Python\nbye",
            "failed.\nERROR: 'x' requires another Python\nThe whole",
        ),
    ],
)
def test_failures_are_explained(said, meaning, tmp_path):
    text = environment.explain_failure(said, tmp_path / "install.log")
    assert meaning in text and str(tmp_path / "install.log") in text


# --- a real environment


def make_wheel(folder: Path) -> None:
    """A package `tinycheese` 1.0 with one constant: what pip needs and no more."""
    files = {
        "tinycheese.py": "RIPE = True\n",
        "tinycheese-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinycheese\nVersion: 1.0\n",
        "tinycheese-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, "tinycheese-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(folder / "tinycheese-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in (files | {"tinycheese-1.0.dist-info/RECORD": record}).items():
            wheel.writestr(name, text)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a requirements file that pip can serve from this disk alone."""
    make_wheel(tmp_path)
    (tmp_path / "requirements.txt").write_text("tinycheese>=1,<2\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "CONFIG_FILE": os.devnull,
        "NO_INDEX": "1",
        "FIND_LINKS": str(tmp_path),
    }.items():
        monkeypatch.setenv("PIP_" + name, value)
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(environment, "check_place", lambda folder: None)
    return tmp_path


def ripe(venv: Path) -> bool:
    return (
        subprocess.run([environment.venv_python(venv), "-c", "import tinycheese"]).returncode == 0
    )


def test_a_killed_set_up_is_repaired_and_a_finished_one_is_left_alone(
    project, terminal, monkeypatch
):
    venv, requirements = project / ".venv", project / "requirements.txt"
    venv.mkdir()
    (venv / environment.STAMP).write_text(environment.UNFINISHED)
    half_installed = venv / "lib" / "half-installed"
    half_installed.mkdir(parents=True)
    assert not environment.is_ready(venv, requirements)

    environment.build(venv, requirements, terminal)

    assert environment.is_ready(venv, requirements) and ripe(venv) and not half_installed.exists()
    assert "Successfully installed tinycheese-1.0" in (venv / "install.log").read_text()
    assert "Successfully installed tinycheese-1.0" in terminal.getvalue()
    check_that_ensure_only_restarts(venv, monkeypatch)
    requirements.write_text("tinycheese>=1\n")
    assert not environment.is_ready(venv, requirements)


def check_that_ensure_only_restarts(venv, monkeypatch):
    restarted = []
    monkeypatch.setattr(environment, "restart", lambda *command: restarted.append(command))
    monkeypatch.setattr(environment, "build", lambda *_: pytest.fail("set up twice"))
    environment.ensure(["run", "06"])
    environment.enter_if_ready(["doctor"])
    assert restarted == [
        (environment.venv_python(venv), ["run", "06"]),
        (environment.venv_python(venv), ["doctor"]),
    ]


def test_no_network_is_recognised_and_leaves_the_set_up_unfinished(project, terminal, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(LabKitError, match="package index could not be reached") as stopped:
        environment.build(project / ".venv", project / "requirements.txt", terminal)
    assert str(project / ".venv" / "install.log") in str(stopped.value)
    assert environment.state(project / ".venv") == environment.UNFINISHED


def test_a_foreign_environment_is_kept(project, terminal, monkeypatch):
    mine = project / ".venv" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("kept")
    monkeypatch.setattr(environment, "run_logged", lambda *_: None)
    environment.build(project / ".venv", project / "requirements.txt", terminal)
    assert mine.read_text() == "kept"


def test_an_environment_that_satisfies_is_used_as_it_is(monkeypatch):
    monkeypatch.setattr(environment, "unmet", lambda lines: [])
    for name in ("build", "restart"):
        monkeypatch.setattr(environment, name, lambda *_, name=name: pytest.fail(name))
    environment.ensure(["run"])
    environment.enter_if_ready(["doctor"])


def test_the_doctor_goes_on_where_nothing_is_set_up(project, monkeypatch):
    for name in ("build", "restart"):
        monkeypatch.setattr(environment, name, lambda *_, name=name: pytest.fail(name))
    environment.enter_if_ready(["doctor"])


def test_a_file_in_use_is_said_without_a_traceback(project, monkeypatch):
    def in_use(*_):
        raise PermissionError(13, "Access is denied", "python.exe")

    monkeypatch.setattr(environment, "build", in_use)
    with pytest.raises(
        LabKitError, match=r"stopped at python\.exe: Access is denied\.\nClose what uses \.venv"
    ):
        environment.ensure(["run"])


# --- progress


def test_progress_is_a_line_for_each_package_or_one_line_in_place(terminal):
    said = ["Collecting torch\n", "  Using cached x\n", "  Downloading torch.whl (800 MB)\n"]
    for line in said:
        environment.progress(terminal)(line)
    assert terminal.getvalue() == "Collecting torch\nDownloading torch.whl (800 MB)\n"
    window = io.StringIO()
    window.isatty = lambda: True
    for line in said:
        environment.progress(window)(line)
    assert "\n" not in window.getvalue() and window.getvalue().count("\r") == 3


def test_a_failing_command_keeps_all_it_said(tmp_path):
    shown = []
    command = [
        sys.executable,
        "-c",
        "import sys; print('first'); print('last error', file=sys.stderr); sys.exit(3)",
    ]
    with pytest.raises(LabKitError, match="last error"):
        environment.run_logged(command, tmp_path / "log", shown.append)
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["first", "last error"]
    assert sorted(shown) == ["first\n", "last error\n"]
