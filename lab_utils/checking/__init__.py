"""Checks of the exercises in the labs: `from lab_utils.checking import check`, then
`check(my_function)`.

`guess` and `reveal` hold what you expect beside what is measured, `progress()` shows what is done,
`submit()` packs the notebook. Names are imported when they are first asked for: the commands that
live in this package must start on a bare Python, and the checks need NumPy.
"""

import importlib

MODULES = {
    "CheckReport": "lab_utils.checking.checks",
    "Exercise": "lab_utils.checking.checks",
    "all_exercises": "lab_utils.checking.checks",
    "check": "lab_utils.checking.checks",
    "find_exercise": "lab_utils.checking.checks",
    "guess": "lab_utils.checking.guesses",
    "progress": "lab_utils.checking.board",
    "ready": "lab_utils.checking.checks",
    "reveal": "lab_utils.checking.guesses",
    "submit": "lab_utils.checking.packing",
    "your_guesses": "lab_utils.checking.guesses",
}
__all__ = list(MODULES)


def __getattr__(name: str) -> object:
    """PEP 562: called for a name that is not here yet."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(MODULES[name]), name)
