"""The command line: `python3 -m lab_utils COMMAND`.

A command is a module with `add_arguments(parser)` and `main(args) -> exit code`. It is imported when it is chosen, and
imports what is heavy inside its functions, since `--help` and the set-up must work on a bare Python.
"""

import sys

from lab_utils import PYTHON_REQUIRED


def python_problem(version):
    """What is wrong with a Python of this (major, minor, ...) version, or "" if it is new enough."""
    if tuple(version[:2]) >= PYTHON_REQUIRED:
        return ""
    return ("The lab kit needs Python {}.{} or newer, and this is Python {}.{} ({}).\n"
            "Install a newer one from https://www.python.org/downloads/ and call it by its name, for example:\n"
            "    python3.11 -m lab_utils run").format(*PYTHON_REQUIRED, version[0], version[1], sys.executable)


if python_problem(sys.version_info):  # before anything below needs a newer Python: this file parses on Python 3.6
    sys.exit(python_problem(sys.version_info))

import argparse  # noqa: E402
import importlib  # noqa: E402

from lab_utils import environment  # noqa: E402

COMMANDS = {  # name: (module, one line of help)
    "run": ("lab_utils.running", "execute the labs, all or those named, and show Pavlos before and after"),
    "test": ("lab_utils.testing", "run the tests; what follows is handed to pytest"),
    "lab": ("lab_utils.jupyter", "open JupyterLab on the labs; what follows is handed to it"),
    "doctor": ("lab_utils.doctor", "say whether this machine is ready, and what to do if not"),
    "pretrain": ("lab_utils.pretraining", "pretrain the small base model that ships with the kit"),
    "pavlos": ("lab_utils.pavlos", "build the Pavlos dataset"),
    "gemini": ("lab_utils.gemini_tuning", "check a tuning file, start, watch and ask a job on Vertex AI; costs money"),
    "release": ("lab_utils.grading.release", "make the student edition, without solutions"),
    "memory": ("lab_utils.memory_report", "say where the memory of fine-tuning a model goes, and on which cards it fits"),
    "site": ("lab_utils.site", "make web pages of the labs that need no kernel and no network"),
    "demo": ("lab_utils.presenting", "show one live demo in a window of its own, with presets as buttons"),
    "bench": ("lab_utils.bench", "measure speed and memory on this machine"),
    "methods": ("lab_utils.methods_comparison", "compare all PEFT methods on the small base model, for lab 07"),
    "sweep": ("lab_utils.rank_sweep", "LoRA over ranks, seeds and learning rates on the Pavlos pairs"),
    "grade": ("lab_utils.grading.grader", "grade a folder of submissions, in a sandbox"),
}
NEEDS_NO_SETUP = {"doctor"}  # it must be able to say what is missing


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """The parser of all commands; only the chosen one's module is imported and has its arguments."""
    parser = argparse.ArgumentParser(prog="python3 -m lab_utils", description="The lab kit's commands.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            importlib.import_module(module).add_arguments(command)
    return parser


def parse(argv: list) -> argparse.Namespace:
    """The arguments. A command that declares `passed_on` gets there, in order, what the parser does not know."""
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
            environment.ensure(argv)
        return importlib.import_module(COMMANDS[args.command][0]).main(args)
    except environment.LabKitError as error:
        print("\n" + str(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command starts again where that is possible.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
