"""`submit()`: pack the notebook into a zip to hand in, and say where it is and what may be missing.

A kernel does not know its notebook. JupyterLab and Notebook tell it in JPY_SESSION_NAME, VS Code in
a variable, Colab's page hands out the notebook itself; else it is looked for by the lab's name
beside the kernel. Whatever is found is compared with the functions of this session, since the usual
accident is to hand in a notebook that was not saved.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
import os
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_utils.checking.cells import defined, is_stub
from lab_utils.checking.checks import all_exercises, card
from lab_utils.start.lab import LabInfo

COLAB_SECONDS = 30  # for Colab's page to answer
BY_HAND = 'Save the notebook and name its file: submit("path/to/the_notebook.ipynb").'
COLAB_BY_HAND = (
    "Colab's page did not hand over the notebook. Use its menu: File > Download > Download "
    ".ipynb, and hand that in."
)


@dataclass(frozen=True)
class Submission:
    """What `submit` packed. A notebook shows it as a card, `print` as text."""

    archive: Path
    notebook: str  # where it came from
    n_written: int  # exercises with a solution in it
    n_exercises: int
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        size = (
            f"{max(1, round(self.archive.stat().st_size / 1000)):,} kB"
            if self.archive.exists()
            else "gone"
        )
        return [
            f"Hand in this file: {self.archive} ({size})",
            f"It holds {self.notebook}, with {self.n_written} of "
            f"{self.n_exercises} exercises written.",
            *self.warnings,
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        first, *others = map(html.escape, self.lines())
        color, sign = ("#D55E00", "! ") if self.warnings else ("#009E73", "✓ ")
        return card(color, "<br>".join([f"<b>{sign}{first}</b>", *others]))


def submit(notebook: str | Path | None = None) -> Submission:
    """Pack the saved notebook, found by itself or given by its path, into a zip in the kernel's
    folder.

    Outputs are not needed: the grader runs the functions again. FileNotFoundError or ValueError say
    what to do.
    """
    namespace = session()
    lab = lab_name(namespace)
    text, source = (
        read_colab()
        if notebook is None and "google.colab" in sys.modules
        else read_saved(find_notebook(notebook, lab, namespace, os.environ, Path.cwd()))
    )
    saved = definitions(text, source)
    name = lab or Path(source.split(" (")[0]).stem
    archive = Path.cwd() / f"{name}-submission.zip"
    write_zip(archive, f"{name}.ipynb", text)
    exercises = (
        [exercise.name for exercise in all_exercises(lab)]
        if lab
        else sorted(set(saved) & exercise_names())
    )
    written = [name for name in exercises if name in saved and not is_stub(saved[name])]
    download(archive)
    return Submission(
        archive,
        source,
        len(written),
        len(exercises),
        warnings(exercises, written, saved, namespace),
    )


# ------------------------------------------------------------------------------------- this session
def session() -> Mapping[str, Any]:
    """The names of the notebook that is running; nothing outside of one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell.user_ns if shell else {}


def is_open(namespace: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody has this notebook open; not where it is executed by a program."""
    editor = "__vsc_ipynb_file__" in namespace or "JPY_SESSION_NAME" in environ
    return editor or "google.colab" in sys.modules


def lab_info(namespace: Mapping[str, Any]) -> LabInfo | None:
    """What `start_lab` returned in the setup cell, or None before that cell was run."""
    return next((value for value in namespace.values() if isinstance(value, LabInfo)), None)


def lab_name(namespace: Mapping[str, Any]) -> str | None:
    """The lab's name as the setup cell gave it to `start_lab`, or None before that cell was run."""
    info = lab_info(namespace)
    return info.name if info else None


def exercise_names() -> set[str]:
    return {exercise.name for exercise in all_exercises()}


# ------------------------------------------------------------------------------ the notebook's file
def find_notebook(
    given: str | Path | None, lab: str | None, namespace: Mapping, environ: Mapping, folder: Path
) -> Path:
    """The notebook's file: the one given, else what the editor says, else LAB.ipynb in the folder.
    FileNotFoundError.
    """
    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"there is no file {given} in {folder}. {BY_HAND}")
        return Path(given).resolve()
    said = [namespace.get("__vsc_ipynb_file__"), environ.get("JPY_SESSION_NAME"), f"{lab}.ipynb"]
    for path in [folder / name for name in said if name]:
        if path.suffix == ".ipynb" and path.is_file():
            return path.resolve()
    raise FileNotFoundError(f"this notebook's file was not found (looked in {folder}). {BY_HAND}")


def read_saved(path: Path) -> tuple[str, str]:
    """(text, where it came from and when it was saved) of a notebook file. ValueError if it is no
    text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is no notebook: it is no text in UTF-8. Open it in Jupyter, save it, and try "
            "again."
        ) from None
    return (
        text,
        f"{path.name} (as saved at "
        f"{time.strftime('%H:%M on %d %b', time.localtime(path.stat().st_mtime))})",
    )


def read_colab() -> tuple[str, str]:
    """The same from Colab's page, whose notebook is no file on the machine that runs it."""
    from google.colab import _message

    try:
        reply = _message.blocking_request("get_ipynb", request="", timeout_sec=COLAB_SECONDS)
    except Exception as error:  # whatever Colab raises: the way out is the same
        raise ValueError(f"{COLAB_BY_HAND} ({error})") from None
    if not isinstance(reply, dict) or "ipynb" not in reply:
        raise ValueError(COLAB_BY_HAND)
    notebook = reply["ipynb"]
    name = notebook.get("metadata", {}).get("colab", {}).get("name", "notebook.ipynb")
    return json.dumps(notebook, ensure_ascii=False, indent=1), f"{name} (as it stands in Colab)"


def definitions(text: str, source: str) -> dict[str, ast.stmt]:
    """{name: its last definition} for the functions in a notebook's cells. ValueError if the text
    is no notebook.
    """
    try:
        cells = json.loads(text)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{source} is no notebook, or was cut off. Open it in Jupyter, save it, and try again."
        ) from None
    found: dict[str, ast.stmt] = {}
    for code in sources:  # the last one counts, but a stub never replaces a solution
        for name, node in defined(code).items():
            if name not in found or is_stub(found[name]) or not is_stub(node):
                found[name] = node
    return found


# ------------------------------------------------------------------------------ what may be missing
def warnings(
    exercises: list[str], written: list[str], saved: Mapping, namespace: Mapping
) -> tuple[str, ...]:
    """What the student should know before handing in: functions that are not saved, not there, or
    not written.
    """
    unsaved = [
        name
        for name in exercises
        if name in namespace and differs(namespace[name], saved.get(name))
    ]
    absent = [name for name in exercises if name not in saved and name not in unsaved]
    stubs = [name for name in exercises if name not in {*written, *unsaved, *absent}]
    said = {
        "Not saved as you ran them: {}. Save the notebook (Ctrl+S, on a Mac Cmd+S), then run "
        "submit() again.": unsaved,
        "Not in the notebook: {}. Without its function, an exercise cannot be graded.": absent,
        "Not written yet: {}.": stubs,
    }
    return tuple(sentence.format(", ".join(names)) for sentence, names in said.items() if names)


def differs(function: Any, saved: ast.stmt | None) -> bool:
    """Whether a function of this session has another code than the saved one. False if its source
    is not known.
    """
    if not inspect.isfunction(function):
        return False
    try:
        running = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError):
        return False
    return saved is None or ast.dump(running) != ast.dump(saved)


# ---------------------------------------------------------------------------------------- the zip
def write_zip(archive: Path, name: str, text: str) -> None:
    """One file in a zip, written in one step. PermissionError says which folder could not be
    written.
    """
    temporary = archive.with_name(f"{archive.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(name, text)
        os.replace(temporary, archive)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise type(error)(
            f"{archive.parent} cannot be written ({error.strerror}). Move to a folder of your own "
            "with os.chdir(...), then submit() again."
        ) from None


def download(archive: Path) -> None:
    """In Colab, let the browser fetch the zip: Colab's disk is gone after the session."""
    if "google.colab" in sys.modules:
        from google.colab import files

        files.download(str(archive))
