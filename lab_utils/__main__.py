"""The command line: `python3 -m lab_utils COMMAND`.

A command is a module with `add_arguments(parser)` and `main(args) -> exit code`. It is imported
when it is chosen, and imports what is heavy inside its functions, since `--help` and the set-up
must work on a bare Python.
"""

import sys

from lab_utils import PYTHON_REQUIRED


def python_problem(version):
    """What is wrong with a Python of this (major, minor, ...) version, or "" where nothing is."""
    if tuple(version[:2]) >= PYTHON_REQUIRED:
        return ""
    return (
        "The lab kit needs Python {}.{} or newer, and this is Python {}.{} ({}).\nInstall a newer "
        "one from https://www.python.org/downloads/ and call it by its name, for example:\n    "
        "python3.11 -m lab_utils run"
    ).format(*PYTHON_REQUIRED, version[0], version[1], sys.executable)


if python_problem(sys.version_info):  # this file parses on Python 3.6, what follows may not
    sys.exit(python_problem(sys.version_info))

import argparse  # noqa: E402
import importlib  # noqa: E402
import os  # noqa: E402
from pathlib import Path  # noqa: E402

from lab_utils.files import ROOT, LabKitError  # noqa: E402
from lab_utils.start import environment  # noqa: E402
from lab_utils.start.requirements import LABS, OPENING, RUNNING, TESTING  # noqa: E402

COMMANDS = {  # name: (module, one line of help)
    "run": ("lab_utils.course.run", "execute the labs, and show Pavlos before and after"),
    "test": ("lab_utils.course.test", "run the tests; what follows is handed to pytest"),
    "lab": ("lab_utils.start.jupyter", "open JupyterLab on the labs; what follows is handed to it"),
    "doctor": (
        "lab_utils.start.doctor",
        "say whether this machine is ready, and what to do if not",
    ),
    "memory": (
        "lab_utils.memory.report",
        "say where a fine-tuning's memory goes, and what it fits on",
    ),
    "get": ("lab_utils.finetuning.getting", "put a real language model in place, for lab 09"),
    "pavlos": ("lab_utils.pavlos", "build the Pavlos dataset"),
    "gemini": (
        "lab_utils.gemini.command",
        "upload tuning files; start, watch, cancel a job; chat; costs money",
    ),
    "methods": (
        "lab_utils.lora.comparison",
        "compare all PEFT methods on the small base, for lab 07",
    ),
    "sweep": ("lab_utils.lora.sweep", "LoRA over ranks, seeds and learning rates, for lab 04"),
    "demo": ("lab_utils.course.stage", "show one live demo in a window of its own"),
    "site": ("lab_utils.course.site", "make web pages of the labs that need no kernel"),
    "release": ("lab_utils.course.release", "make the student edition, without solutions"),
    "grade": ("lab_utils.course.grading.grader", "grade a folder of submissions, in a sandbox"),
    "pretrain": (
        "lab_utils.course.pretrain",
        "pretrain the small base model that ships with the kit",
    ),
    "bench": ("bench", "measure speed and memory on this machine"),
    "concepts": ("lab_utils.course.concepts", "draw each lab's picture into its first cell"),
    "house": ("lab_utils.course.house", "draw the plan of the package into docs/house.md"),
    "lock": ("lab_utils.course.lock", "write the versions installed here to requirements.lock"),
}
# The doctor must be able to say what is missing; the others need no package, or can do without.
NEEDS_NO_SETUP = {"doctor", "memory", "house", "lock"}
SECTIONS = {  # what a command needs of requirements.txt; those not named here need the labs alone
    "run": RUNNING,
    "release": RUNNING,
    "grade": RUNNING,
    "lab": OPENING,
    "demo": OPENING,
    "site": OPENING,
    "test": TESTING,
    "bench": TESTING,
}


def path_of(module: str) -> Path:
    """The file of a command's module; `bench` is a folder of the tests."""
    folder = ROOT if module.startswith("lab_utils") else ROOT / "tests"
    path = folder.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def commands_here() -> dict:
    """COMMANDS without those whose module is not here: the student edition has none of `course`."""
    return {name: entry for name, entry in COMMANDS.items() if path_of(entry[0]).is_file()}


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """The parser of all commands; only the chosen one's module is imported and has arguments."""
    parser = argparse.ArgumentParser(
        prog="python3 -m lab_utils", description="The lab kit's commands."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in commands_here().items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            sys.path.append(str(ROOT / "tests"))  # where `bench` is
            importlib.import_module(module).add_arguments(command)
    return parser


def parse(argv: list) -> argparse.Namespace:
    """The arguments. A command that declares `passed_on` gets there, in order, what the parser does
    not know.
    """
    parser = build_parser(argv[0] if argv else "")
    args, unknown = parser.parse_known_args(argv)
    if hasattr(args, "passed_on"):
        args.passed_on = unknown
    elif unknown:
        parser.error("not understood: " + " ".join(unknown))
    return args


def main(argv: list) -> int:
    """Sets up what the command needs, then runs it. Returns its exit code."""
    args = parse(argv)
    try:
        if args.command in NEEDS_NO_SETUP:
            environment.enter_if_ready(argv)
        else:
            newest = getattr(args, "newest", False)
            environment.ensure(argv, SECTIONS.get(args.command, LABS), newest)
        code = importlib.import_module(COMMANDS[args.command][0]).main(args)
        sys.stdout.flush()  # what a closed pipe refuses is said here, not while Python ends
        return code
    except LabKitError as error:
        print("\n" + str(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command starts again where that is possible.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head` has seen enough; nothing is left to say, nor anybody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a file or folder that is missing, protected, or on a full disk
        if not error.filename:
            raise
        print(f"\n{error.filename}: {error.strerror}. The command stopped.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
