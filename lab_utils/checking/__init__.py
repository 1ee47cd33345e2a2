"""Checks of the exercises in the labs: `from lab_utils.checking import check`, then
`check(my_function)`.

`progress()` shows what is done, `submit()` packs the notebook. Names are imported when they are
first asked for: the commands that live in this package must start on a bare Python, and the checks
need NumPy.
"""

import importlib

MODULES = {
    "CheckReport": "lab_utils.checking.checks",
    "Exercise": "lab_utils.checking.checks",
    "all_exercises": "lab_utils.checking.checks",
    "check": "lab_utils.checking.checks",
    "find_exercise": "lab_utils.checking.checks",
    "progress": "lab_utils.checking.board",
    "ready": "lab_utils.checking.checks",
    "submit": "lab_utils.checking.packing",
}
__all__ = list(MODULES)


def __getattr__(name: str) -> object:
    """PEP 562: called for a name that is not here yet."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(MODULES[name]), name)
