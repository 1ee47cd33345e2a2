"""The labs' real setup cell where Colab's versions are installed: packages made here stand for the
real ones, no network.

`real_versions.py` does the same with the real packages, and runs the labs.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fake_colab import LOADED, colab_environ, make_repository, setup_cell

from lab_utils.files import ROOT
from lab_utils.start import environment
from lab_utils.start.lab import measured
from lab_utils.start.requirements import (
    RUNNING,
    colab_requirements,
    loose_requirements,
    parse_requirement,
    requirement_lines,
    unmet,
)

VERSIONS = Path(__file__).with_name("colab-2026-06.txt")
ABSENT = ["bitsandbytes", "gguf", "evaluate", "rouge_score", "sacrebleu", "json_repair"]
MODULES = {  # as much of the real ones as start_lab touches
    "numpy": "class random:\n    seed = staticmethod(lambda seed: None)\n",
    "torch": "class cuda:\n    is_available = staticmethod(lambda: False)\n"
    "class backends:\n    mps = cuda\n"
    "manual_seed = lambda seed: None\nget_num_threads = lambda: 2\n",
    "psutil": "class virtual_memory:\n    total = 13 * 10**9\n",
}
TOOK = measured("01", "cpu")
SAID = (
    "Lab 01_quantization_buckets | device cpu | dtype float32 | tier cpu | "
    f"{f'about {TOOK.minutes} min' if TOOK else 'not timed here yet'} | seed 0\n"
)

needs_git = pytest.mark.skipif(
    shutil.which("git") is None, reason="the setup cell clones with git, and there is none"
)


def preinstalled() -> dict[str, str]:
    """Colab's versions by name."""
    return dict(line.split("==") for line in requirement_lines(VERSIONS))


def make_wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    """A package with one module, or with none, for pip to install."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if name in MODULES:
        files[f"{name}.py"] = f"__version__ = {version!r}\n{MODULES[name]}"
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(
        folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w"
    ) as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)


def pip_from(index: Path) -> dict[str, str]:
    """Variables with which pip takes packages from a folder and from nowhere else."""
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


class Colab:
    """A stand-in for one Colab session: its interpreter, its folder /content, and what its pip and
    git reach.
    """

    def __init__(self, folder: Path, base: Path, repository: Path):
        shutil.copytree(base, folder / "venv", symlinks=True)
        self.python = environment.venv_python(folder / "venv")
        self.content, self.index, self.home = folder / "content", folder / "index", folder / "home"
        for made in (self.content, self.index):
            made.mkdir()
        for name in ABSENT:
            make_wheel(self.index, name, parse_requirement(self.wanted(name))[1][0][1])
        self.environ = {**colab_environ(repository, self.home), **pip_from(self.index)}

    @staticmethod
    def wanted(name: str) -> str:
        return next(line for line in loose_requirements() if parse_requirement(line)[0] == name)

    def run(self, before: str = "", after: str = "") -> subprocess.CompletedProcess:
        """The setup cell of lab 01, as it is, between other cells."""
        code = f"{LOADED}{before}\n{setup_cell('01_quantization_buckets')}\n{after}"
        return subprocess.run(
            [self.python, "-c", code],
            cwd=self.content,
            env=self.environ,
            capture_output=True,
            text=True,
        )

    def installed(self) -> dict[str, str]:
        command = [self.python, "-m", "pip", "list", "--format=freeze"]
        said = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=True
        ).stdout
        return dict(line.split("==") for line in said.splitlines())

    def lose_the_network(self) -> None:
        """From now on neither pip nor git finds anything."""
        self.environ |= pip_from(self.home / "nothing") | {
            "GIT_CONFIG_KEY_0": "url.file:///nowhere.insteadOf"
        }


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An environment with the kit's packages that Colab has, in Colab's versions."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "wheels").mkdir()
    names = [parse_requirement(line)[0] for line in loose_requirements()]
    for name in {*names, "numpy"} - set(ABSENT):
        make_wheel(folder / "wheels", name, preinstalled()[name])
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    command = [
        environment.venv_python(folder / "venv"),
        "-m",
        "pip",
        "install",
        "-q",
        *(folder / "wheels").glob("*.whl"),
    ]
    subprocess.run(command, check=True)
    return folder / "venv"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    names = ["lab_utils", "pyproject.toml", "requirements.txt", "data/reference"]
    return make_repository(tmp_path_factory.mktemp("kit") / "repository", names)


@pytest.fixture
def colab(base, repository, tmp_path):
    return Colab(tmp_path, base, repository)


def test_colab_lacks_six_packages_and_the_others_are_new_enough():
    missing = [
        parse_requirement(line)[0] for line in unmet(loose_requirements(), preinstalled().get)
    ]
    assert missing == ABSENT


def test_where_a_lab_was_set_up_run_needs_nothing_more():
    installed = preinstalled() | dict.fromkeys(ABSENT, "999")
    assert unmet(colab_requirements(RUNNING), installed.get) == []


@needs_git
def test_the_first_run_replaces_nothing_and_the_second_needs_no_network(colab):
    before = colab.installed()
    first = colab.run()
    assert first.returncode == 0, first.stderr
    assert first.stdout.endswith(SAID) and "Successfully installed" in first.stdout
    after = colab.installed()
    assert before.items() <= after.items() and {*after} - {*before} == set(ABSENT)
    assert (colab.content / "peft-lab-kit" / "lab_utils").is_dir()
    colab.lose_the_network()
    second = colab.run()
    assert second.stdout == SAID, second.stderr  # pip would say more
    assert colab.installed() == after


@needs_git
def test_a_newer_numpy_is_not_taken_behind_the_one_that_is_loaded(colab):
    make_wheel(colab.index, "numpy", "9.0")
    make_wheel(colab.index, "evaluate", "5.0", needs="numpy>=9")
    done = colab.run(
        "import numpy",
        "from importlib.metadata import version\nprint(numpy.__version__, version('numpy'))",
    )
    assert done.stdout.endswith(f"{SAID}{preinstalled()['numpy']} {preinstalled()['numpy']}\n"), (
        done.stderr
    )
    assert colab.installed()["evaluate"] == "0.4"


@needs_git
def test_a_package_that_needs_another_numpy_is_refused_and_pip_says_why(colab):
    for old in colab.index.glob("evaluate-*"):
        old.unlink()
    make_wheel(colab.index, "numpy", "9.0")
    make_wheel(colab.index, "evaluate", "5.0", needs="numpy>=9")
    before, done = colab.installed(), colab.run()
    assert done.returncode != 0 and SAID not in done.stdout
    (log,) = re.findall(r"The whole log: (.*)", done.stderr)
    assert "evaluate 5.0 depends on numpy>=9" in Path(log).read_text(encoding="utf-8")
    assert colab.installed() == before


@needs_git
def test_without_a_network_the_missing_packages_are_named(colab):
    (colab.content / "peft-lab-kit").symlink_to(ROOT)
    before = colab.installed()
    colab.lose_the_network()
    done = colab.run()
    assert done.returncode != 0 and SAID not in done.stdout
    assert (
        "The set-up failed." in done.stderr
        and "No matching distribution found for bitsandbytes>=0.50" in done.stderr
    )
    assert colab.installed() == before
