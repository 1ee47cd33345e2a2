"""Checks of the exercises in the labs: `from lab_utils.grading import check`, then `check(my_function)`.

`progress()` shows what is done, `submit()` packs the notebook. Names are imported when they are first asked for: the
commands that live in this package must start on a bare Python, and the checks need NumPy.
"""

import importlib

MODULES = {
    "CheckReport": "lab_utils.grading.checks",
    "Exercise": "lab_utils.grading.checks",
    "all_exercises": "lab_utils.grading.checks",
    "check": "lab_utils.grading.checks",
    "find_exercise": "lab_utils.grading.checks",
    "progress": "lab_utils.widgets.progress",
    "submit": "lab_utils.grading.packing",
}
__all__ = list(MODULES)


def __getattr__(name: str) -> object:
    """PEP 562: called for a name that is not here yet."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(MODULES[name]), name)
