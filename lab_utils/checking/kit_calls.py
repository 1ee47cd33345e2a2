"""The kit's own function is no answer to an exercise that asks for it: what an exercise names in
`kit` cannot be called by an answer, in `check` and in the grader alike.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class KitCall(Exception):
    """The kit's function was called, which the exercise asks for."""


@contextmanager
def refused(path: str) -> Iterator[None]:
    """While the block runs, the function at `path`, such as "lab_utils.pavlos.judge.cohens_kappa",
    raises KitCall where code outside of the kit calls it, by whatever name. "" refuses none.

    A profile function sees every call (sys.setprofile), so it does not matter how the answer came
    by the function. The kit itself may go on calling it.
    """
    if not path:
        yield
        return
    module, _, name = path.rpartition(".")
    code = getattr(importlib.import_module(module), name).__code__

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is code and not is_of_kit(frame.f_back):
            raise KitCall(f"it calls {path}, which is what this exercise asks for")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def is_of_kit(frame: FrameType | None) -> bool:
    """Whether a frame runs code of lab_utils."""
    return frame is not None and str(frame.f_globals.get("__name__")).startswith("lab_utils.")
