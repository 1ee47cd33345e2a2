"""The set-up: real environments made from a package on this disk, and every way it can fail."""

import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from lab_utils.files import GIGABYTE, ROOT, LabKitError
from lab_utils.start import environment, installing, requirements
from lab_utils.start.requirements import LABS, OPENING, RUNNING, parse_requirement

ROOMY = namedtuple("Usage", "free")(100 * GIGABYTE)


@pytest.fixture
def terminal():
    return io.StringIO()


# --- a notebook's interpreter


def have(monkeypatch, **changed: str | None) -> None:
    """As if every package were there in version 999, but for these."""
    names = [parse_requirement(line)[0] for line in requirements.requirement_lines()]
    versions = dict.fromkeys(names, "999") | changed
    monkeypatch.setattr(environment, "installed_version", versions.get)
    monkeypatch.setattr(requirements.unmet, "__defaults__", (versions.get,))


def bound_of(name: str) -> str:
    lines = requirements.loose_requirements()
    return next(line for line in lines if line.startswith(name + ">="))


def arguments_for_pip(monkeypatch, **changed: str | None) -> list[str]:
    """With what install_missing would call pip, which then succeeds."""
    have(monkeypatch, **changed)
    called = []

    def install(arguments, python, log, show, own):
        assert python == sys.executable and not own
        called.append(arguments)
        have(monkeypatch)

    monkeypatch.setattr(environment, "install", install)
    environment.install_missing()
    return called[0]


def test_nothing_is_missing_where_all_is_there(monkeypatch):
    have(monkeypatch)
    monkeypatch.setattr(environment, "install", lambda *_, **__: pytest.fail("called pip"))
    environment.install_missing()


def test_what_is_absent_is_judged_by_the_loose_bounds_and_installed_beside_pins(monkeypatch):
    have(monkeypatch, sacrebleu=None)
    assert environment.missing_requirements() == [bound_of("sacrebleu")]
    option, file, line = arguments_for_pip(monkeypatch, sacrebleu=None)
    assert (line, option) == (bound_of("sacrebleu"), "--constraint")
    pins = Path(file).read_text(encoding="utf-8").splitlines()
    assert f"numpy=={importlib.metadata.version('numpy')}" in pins and pins == requirements.pins()


def test_nothing_is_pinned_where_something_is_too_old(monkeypatch):
    option, file, *lines = arguments_for_pip(monkeypatch, sacrebleu=None, torch="1.0")
    assert lines == [bound_of("torch"), bound_of("sacrebleu")]
    assert Path(file).read_text(encoding="utf-8") == ""


def test_a_pip_that_ends_well_and_installs_nothing_is_noticed(monkeypatch):
    have(monkeypatch, sacrebleu=None)
    monkeypatch.setattr(environment, "install", lambda *_, **__: None)
    with pytest.raises(LabKitError, match="does not find sacrebleu.*\nRestart the kernel"):
        environment.install_missing()


# --- variables for children


def test_variables_are_set_but_never_overruled():
    environ = {"OMP_WAIT_POLICY": "ACTIVE", "PYTHONPATH": "/elsewhere"}
    environment.set_variables(environ)
    environment.set_variables(environ)
    assert environ == {
        **environment.VARIABLES,
        "OMP_WAIT_POLICY": "ACTIVE",
        "PYTHONPATH": os.pathsep.join([str(ROOT), "/elsewhere"]),
    }
    assert environment.VARIABLES["OMP_WAIT_POLICY"] == "PASSIVE"


SIXTY_SHAPES_TWICE = """import torch
for n in [*range(60)] * 2:
    torch.ones(9, 64 + n, dtype=torch.bfloat16) @ torch.ones(64 + n, 9, dtype=torch.bfloat16)
"""


def test_onednn_does_not_keep_a_program_for_each_shape():
    """By what it tells: all sixty are made again the second time. It would keep 1024."""
    from lab_utils.start.hardware import has_fast_bfloat16

    if not has_fast_bfloat16("cpu"):
        pytest.skip("no bfloat16 units: torch asks oneDNN for no products")
    environ = {**os.environ, "ONEDNN_VERBOSE": "2"}
    environment.set_variables(environ)
    command = [sys.executable, "-c", SIXTY_SHAPES_TWICE]
    told = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    assert told.count("create:cache_miss") == 120 and "create:cache_hit" not in told


# --- files


def test_interpreter_paths():
    assert environment.venv_python(Path("v"), windows=True) == Path("v/Scripts/python.exe")
    assert environment.venv_python(Path("v"), windows=False) == Path("v/bin/python")


# --- places where it cannot work


def test_too_little_disk_is_said_with_both_numbers(tmp_path):
    with pytest.raises(
        LabKitError, match=rf"has 1\.5 GB free, and the set-up needs {installing.DISK_NEEDED_GB} GB"
    ):
        environment.check_place(tmp_path, usage=lambda _: ROOMY._replace(free=1_500_000_000))
    environment.check_place(tmp_path, usage=lambda _: ROOMY)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(LabKitError, match=r"cannot be written \(Permission denied\)") as stopped:
        environment.check_place(tmp_path, usage=lambda _: ROOMY, probe=refuse)
    assert str(tmp_path) in str(stopped.value)


# --- a real environment


def make_wheel(folder: Path, version: str = "1.0", module: str = "RIPE = True\n") -> None:
    """A package `tinycheese` with one constant: what pip needs and no more."""
    info, tag = f"tinycheese-{version}.dist-info", "Root-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        "tinycheese.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinycheese\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\n{tag}",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"tinycheese-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


@pytest.fixture(scope="module")
def with_pip(tmp_path_factory):
    """An environment that has pip and nothing else: it takes seconds to make."""
    venv = tmp_path_factory.mktemp("with-pip") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    return venv


@pytest.fixture
def filled(project, with_pip):
    """The project with an environment in place, that somebody else made."""
    shutil.copytree(with_pip, project / ".venv", symlinks=True)
    return project


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a requirements file that pip can serve from this disk alone."""
    make_wheel(tmp_path)
    (tmp_path / "requirements.txt").write_text("# the labs\ntinycheese>=1,<2\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "VENV_NEWEST", tmp_path / ".venv-newest")
    monkeypatch.setattr(requirements, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(requirements, "LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(environment, "check_place", lambda folder: None)
    return tmp_path


def ripe(venv: Path) -> bool:
    python = environment.venv_python(venv)
    return subprocess.run([python, "-I", "-c", "import tinycheese"]).returncode == 0


def test_a_killed_set_up_is_repaired_and_a_finished_one_is_left_alone(
    project, terminal, monkeypatch
):
    venv = project / ".venv"
    venv.mkdir()
    (venv / environment.STAMP).write_text(environment.UNFINISHED)
    half_installed = venv / "lib" / "half-installed"
    half_installed.mkdir(parents=True)
    assert not environment.is_ready(venv, LABS)

    environment.build(venv, OPENING, terminal)

    assert environment.is_ready(venv, OPENING) and ripe(venv) and not half_installed.exists()
    assert "Successfully installed tinycheese-1.0" in (venv / "install.log").read_text()
    assert "Successfully installed tinycheese-1.0" in terminal.getvalue()
    assert not list(venv.glob("tmp-*"))
    check_that_ensure_only_restarts(venv, monkeypatch)
    (project / "requirements.lock").write_text("tinycheese==1.0\n")
    assert not environment.is_ready(venv, OPENING)


def check_that_ensure_only_restarts(venv, monkeypatch):
    restarted = []
    monkeypatch.setattr(environment, "restart", lambda *command: restarted.append(command))
    monkeypatch.setattr(environment, "build", lambda *_: pytest.fail("set up twice"))
    environment.ensure(["run", "06"], RUNNING)
    environment.enter_if_ready(["doctor"])
    assert restarted == [
        (environment.venv_python(venv), ["run", "06"]),
        (environment.venv_python(venv), ["doctor"]),
    ]


HOSTILE = {  # each alone sends packages elsewhere, or nowhere
    "PIP_USER": "1",
    "PIP_TARGET": "{}/target",
    "PIP_PREFIX": "{}/prefix",
    "PIP_ROOT": "{}/root",
    "PIP_DRY_RUN": "1",
    "PIP_DOWNLOAD": "1",
    "PIP_NO_DEPS": "1",
    "PIP_REQUIRE_HASHES": "1",
    "PIP_ONLY_BINARY": ":none:",
    "PIP_CONSTRAINT": "{}/absent.txt",
    "PIP_REQUIREMENT": "{}/absent.txt",
    "PIP_QUIET": "3",
    "PIP_LOG": "{}/absent/pip.log",
    "PIP_PYTHON": "{}/absent/python",
    "PIP_ISOLATED": "1",
}


def set_all(monkeypatch, folder: Path) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value.format(folder))


def write_them_in_a_file(monkeypatch, folder: Path) -> None:
    lines = ["[install]", "user = true", f"target = {folder}/target", "dry-run = true"]
    lines += ["[global]", "quiet = 2", f"find-links = {folder}", "no-index = true"]
    (folder / "pip.conf").write_text("\n".join(lines))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(folder / "pip.conf"))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")


@pytest.mark.parametrize("be_hostile", [set_all, write_them_in_a_file])
def test_a_persons_own_pip_settings_do_not_lead_packages_astray(
    be_hostile, filled, terminal, monkeypatch
):
    be_hostile(monkeypatch, filled)
    environment.build(filled / ".venv", LABS, terminal)
    assert environment.is_ready(filled / ".venv", LABS) and ripe(filled / ".venv")
    assert not list(filled.glob("target*")) and not list(filled.glob("prefix*"))


def test_the_stamp_is_not_written_where_a_package_cannot_be_imported(filled, terminal):
    make_wheel(filled, module="raise ImportError('DLL load failed while importing _tiny')\n")
    with pytest.raises(LabKitError, match="Visual C\\+\\+ Redistributable"):
        environment.build(filled / ".venv", LABS, terminal)
    assert environment.state(filled / ".venv") == environment.UNFINISHED


def test_the_stamp_is_not_written_where_pip_installs_nothing(filled, terminal, monkeypatch):
    monkeypatch.setattr(environment, "install", lambda *_, **__: None)
    with pytest.raises(LabKitError, match="not importable after the set-up: tinycheese>=1,<2"):
        environment.build(filled / ".venv", LABS, terminal)
    assert environment.state(filled / ".venv") == environment.UNFINISHED


def test_a_lost_base_python_is_repaired_at_once(project, terminal, monkeypatch):
    venv = project / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/nowhere/python3.11")
    (venv / environment.STAMP).write_text("a finished install's digest")
    monkeypatch.setattr(environment, "install", lambda *_, **__: None)
    monkeypatch.setattr(environment, "CHECK", "")
    environment.build(venv, LABS, terminal)
    assert environment.is_ready(venv, LABS) and environment.works(environment.venv_python(venv))


def test_another_python_in_its_place_is_noticed(filled, terminal):
    venv = filled / ".venv"
    environment.build(venv, LABS, terminal)
    assert environment.is_ready(venv, LABS)
    other = filled / "python3.99"
    shutil.copy(sys.executable, other)
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(other)
    assert not environment.is_ready(venv, LABS)


def test_somebody_elses_environment_without_a_python_is_not_deleted(project, terminal):
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    with pytest.raises(LabKitError, match="this kit did not make it"):
        environment.build(project / ".venv", LABS, terminal)
    assert (project / ".venv" / "bin" / "python").is_symlink()


def test_an_environment_without_pip_gets_it(project, terminal):
    """As uv makes them: it keeps its own Python, and what is in it."""
    venv = project / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (venv / "mine.txt").write_text("kept")
    environment.build(venv, LABS, terminal)
    assert ripe(venv) and (venv / "mine.txt").read_text() == "kept"


def test_without_pip_and_ensurepip_uv_installs(tmp_path, monkeypatch):
    fake = tmp_path / "uv"
    fake.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\n')
    fake.chmod(0o755)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho No module named ensurepip >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    installing.install(["peft"], str(broken), tmp_path / "log", print, own=True)
    assert (tmp_path / "told").read_text() == f"pip --python {broken} install peft\n"
    fake.unlink()
    with pytest.raises(LabKitError, match="apt-get install python3-venv"):
        installing.find_installer(str(broken))


def test_the_tested_versions_are_installed_and_with_newest_the_newest(
    filled, terminal, monkeypatch
):
    make_wheel(filled, "1.1")
    shutil.copytree(filled / ".venv", filled / ".venv-newest", symlinks=True)
    (filled / "requirements.lock").write_text("tinycheese==1.0\n")
    environment.build(filled / ".venv", LABS, terminal)
    restarted = []
    monkeypatch.setattr(environment, "restart", lambda python, argv: restarted.append(python))
    environment.ensure(["test", "--newest"], LABS, newest=True)
    assert restarted == [environment.venv_python(filled / ".venv-newest")]
    for venv, version in ((".venv", "1.0"), (".venv-newest", "1.1")):
        assert list((filled / venv).rglob(f"tinycheese-{version}.dist-info")), venv


def test_a_package_removed_from_the_environment_is_put_back(project, monkeypatch):
    """Its stamp says that all is there; inside it, the packages themselves are asked."""
    built = []
    monkeypatch.setattr(environment, "is_ready", lambda venv, section: True)
    monkeypatch.setattr(environment, "is_inside", lambda venv: True)
    monkeypatch.setattr(environment, "build", lambda *arguments: built.append(arguments[0]))
    monkeypatch.setattr(environment, "restart", lambda *_: None)
    environment.ensure(["run"], LABS)
    assert built == [project / ".venv"]


def test_no_network_is_recognised_and_leaves_the_set_up_unfinished(filled, terminal, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(LabKitError, match="package index could not be reached") as stopped:
        environment.build(filled / ".venv", LABS, terminal)
    assert str(filled / ".venv" / "install.log") in str(stopped.value)
    assert environment.state(filled / ".venv") == environment.UNFINISHED


def test_a_foreign_environment_is_kept(project, terminal, monkeypatch):
    mine = project / ".venv" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("kept")
    for name in ("run_logged", "install"):
        monkeypatch.setattr(environment, name, lambda *_, **__: None)
    environment.build(project / ".venv", LABS, terminal)
    assert mine.read_text() == "kept"


@pytest.mark.parametrize("missing", [[], ["evaluate>=0.4"]])
def test_in_colab_nothing_but_what_is_missing_is_installed(missing, monkeypatch):
    added = []
    monkeypatch.setattr(environment, "unmet", lambda lines: missing or list(lines)[:0])
    monkeypatch.setattr(environment, "in_colab", lambda: True)
    monkeypatch.setattr(environment, "add_here", added.append)
    for name in ("build", "restart"):
        monkeypatch.setattr(environment, name, lambda *_, name=name: pytest.fail(name))
    environment.ensure(["run"], RUNNING)
    assert added == ([missing] if missing else [])


def test_this_interpreter_is_not_colabs():
    assert not environment.in_colab()


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
