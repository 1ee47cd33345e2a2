"""The Dockerfile, the devcontainer and the workflow, as far as they can be checked without running
them: parsed, their parts looked for, their shell lines read by a shell.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from lab_utils import __main__ as command_line
from lab_utils.course.lock import PYTHONS
from lab_utils.files import ROOT

INSTRUCTIONS = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "CMD"}


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, its text) in order, lines that go on joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined)]


def texts(instruction: str) -> list[str]:
    return [text for word, text in dockerfile() if word == instruction]


def test_each_instruction_is_known_and_the_first_names_a_tested_python():
    words = [word for word, _ in dockerfile()]
    assert set(words) == INSTRUCTIONS and words[0] == "FROM" and words[-1] == "CMD"
    ((python,),) = [re.findall(r"^python:(3\.\d+)-slim-\w+$", text) for text in texts("FROM")]
    assert python in PYTHONS


def test_what_is_copied_is_there_and_what_must_stay_out_is_left_out():
    for text in texts("COPY"):
        *sources, _ = [word for word in shlex.split(text) if not word.startswith("--")]
        assert all((ROOT / source).exists() for source in sources), text
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "runs", ".env"} <= set(ignored)


def test_the_lock_is_copied_before_it_is_installed_and_the_rest_after():
    steps = [f"{word} {text}" for word, text in dockerfile()]
    copied = steps.index("COPY requirements.txt requirements.lock ./")
    installed = steps.index(
        "RUN python -m pip install --no-cache-dir -r requirements.txt -c requirements.lock"
    )
    assert copied < installed < steps.index("COPY --chown=student:student . .")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash reads the lines, and there is none")
def test_a_shell_can_read_each_run_line():
    for text in texts("RUN"):
        subprocess.run(["bash", "-n", "-c", text], check=True)
        # the image keeps no lists of packages, and asks nothing
        assert "apt-get" not in text or ("install -y" in text and "rm -rf /var/lib/apt/" in text)


def test_it_runs_as_a_person_without_rights_and_opens_the_labs():
    assert texts("USER") == ["student"] and "useradd --create-home student" in texts("RUN")[0]
    command = json.loads(texts("CMD")[0])
    assert command[:3] == ["python", "-m", "lab_utils"]
    assert command_line.parse(command[3:]).passed_on == ["--no-browser", "--ip=0.0.0.0"]


def test_the_devcontainer_is_built_from_the_same_file():
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    folder = ROOT / ".devcontainer"
    assert (folder / made["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / made["build"]["context"]).resolve() == ROOT
    assert [made["remoteUser"]] == texts("USER")
    assert [str(port) for port in made["forwardPorts"]] == texts("EXPOSE")
    assert made["hostRequirements"]["gpu"] == "optional"
    words = shlex.split(made["postCreateCommand"])
    assert words[:3] == ["python", "-m", "lab_utils"] and words[3] in command_line.COMMANDS


def test_every_command_of_the_workflow_is_one_of_the_kits():
    yaml = pytest.importorskip("yaml")
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    for line in "\n".join(steps).splitlines():
        words = shlex.split(line)
        if "lab_utils" in words:
            assert words[words.index("lab_utils") + 1] in command_line.COMMANDS, line
    newest = [job for job in jobs.values() if "--newest" in str(job["steps"])]
    assert [job["if"] for job in newest] == ["github.event_name == 'schedule'"]
    assert set(jobs["elsewhere"]["strategy"]["matrix"]["python"]) <= set(PYTHONS)


def test_this_python_is_one_that_the_lock_is_for_or_newer():
    assert sys.version_info[:2] >= tuple(map(int, PYTHONS[0].split(".")))
