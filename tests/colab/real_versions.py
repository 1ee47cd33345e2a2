"""Runs labs with the very versions that Colab preinstalls. Needs a network and 10 GB of disk; no
test runs it.

    python3.12 tests/colab/real_versions.py FOLDER [LAB ...]      # a lab by its number, such as 01

It makes FOLDER/venv from colab-2026-06.txt, runs the setup cell twice, then once more without a
network, and compares what is installed before and after: nothing that Colab preinstalls may be
replaced. Then it builds every demo and executes the labs. Colab's CUDA build of torch (+cu128) is
on no usual index: the usual build of that version takes its place.
"""

import argparse
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

VERSIONS = Path(__file__).with_name("colab-2026-06.txt")
KIT = ["lab_utils", "data", "labs", "pyproject.toml", "requirements.txt"]
NOT_IN_COLAB = ("jedi",)  # IPython asks for it, and Colab takes it out again
OFFLINE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
}
DEMOS = """
import sys
sys.path.insert(0, "peft-lab-kit")
from lab_utils.files import LabKitError
from lab_utils.course.stage import DEMOS, stage
failed = {}
for name in DEMOS:
    try:
        stage(name)
    except LabKitError as reason:
        print(f"  {name:<15} needs something first: {reason}")
    except Exception as error:
        failed[name] = error
        print(f"  {name:<15} FAILED: {error!r}")
from ipywidgets import __version__
print(f"  {len(DEMOS) - len(failed)} of {len(DEMOS)} demos with ipywidgets {__version__}")
sys.exit(bool(failed))
"""
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
client = NotebookClient(
    notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": "."}}
)
try:
    client.execute()
finally:
    nbformat.write(notebook, sys.argv[2])
"""


def make_environment(folder: Path) -> Path:
    """The interpreter of a new environment with Colab's versions; one that is there already is
    kept.
    """
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip = [python, "-m", "pip"]
        subprocess.run(
            [*pip, "install", "-q", "-c", VERSIONS, "pip", "setuptools", "wheel"], check=True
        )
        subprocess.run([*pip, "install", "-q", "-r", VERSIONS], check=True)
        subprocess.run([*pip, "uninstall", "-qy", *NOT_IN_COLAB], check=True)
    return python


def freeze(python: Path) -> set[str]:
    """What is installed, a line for each package."""
    command = [python, "-m", "pip", "freeze", "--all"]
    return set(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    )


def run_python(python: Path, code: str, *arguments, **settings) -> bool:
    """Run code, say how long it took and, if it failed, the end of its output."""
    start = time.monotonic()
    done = subprocess.run(
        [python, "-c", code, *arguments], capture_output=True, text=True, **settings
    )
    print(done.stdout, end="")
    if done.returncode:
        print(textwrap.indent(done.stderr[-3000:], "    "))
    print(
        f"  {'FAILED' if done.returncode else 'ok'}, {time.monotonic() - start:.0f} s", flush=True
    )
    return not done.returncode


def run_setup(python: Path, content: Path, environ: dict) -> bool:
    """The setup cell of lab 01 three times: first, again, and with pip cut off from every index."""
    from fake_colab import LOADED, setup_cell

    code, before = LOADED + setup_cell("01_quantization_buckets"), freeze(python)
    fine = True
    for label, more in (("setup cell", {}), ("once more", {}), ("without a network", OFFLINE)):
        print(label)
        fine &= run_python(python, code, cwd=content, env={**environ, **more})
    replaced, added = sorted(before - freeze(python)), sorted(freeze(python) - before)
    print(f"replaced: {replaced or 'nothing'}\nadded: {', '.join(added) or 'nothing'}")
    return fine and not replaced


def main() -> int:
    """Returns 1 if something preinstalled was replaced, or the setup, a demo or a lab failed."""
    from fake_colab import colab_environ, make_repository

    from lab_utils.course.run import choose_labs, find_labs

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("labs", nargs="*")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    python = make_environment(folder)
    # what a new Colab session has none of
    fresh = Path(tempfile.mkdtemp(prefix="colab-", dir=folder))
    (content := fresh / "content").mkdir()
    environ = colab_environ(make_repository(fresh / "repository", KIT), fresh / "home")
    fine = run_setup(python, content, environ)
    print("demos")
    fine &= run_python(python, DEMOS, cwd=content, env=environ)
    for lab in choose_labs(arguments.labs, find_labs()) if arguments.labs else []:
        print(lab.stem)
        fine &= run_python(python, EXECUTE, lab, fresh / lab.name, cwd=content, env=environ)
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
