"""`progress()`: which exercises of the lab are done, in a list that follows every check.

It is plain HTML, drawn again after each cell that ends in `check(...)`: nothing to click, nothing
to install in Colab, and what the notebook stores can be read where no kernel runs.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lab_utils.checking.checks import (
    NOT_STARTED,
    CheckReport,
    Exercise,
    all_exercises,
    find_problem,
)
from lab_utils.checking.packing import lab_name, session
from lab_utils.drawing.style import GREEN, GREY, VERMILLION

PASSED, NOT_RUN = "passed", "not run yet"
# any other: a problem's kind
SIGNS = {
    PASSED: ("✓", GREEN),
    NOT_STARTED: ("○", GREY),
    NOT_RUN: ("○", GREY),
}
PROBLEM = ("✗", VERMILLION)


class Board:
    """The exercises of a lab with their states: PASSED, NOT_RUN, or the kind of problem that the
    check found.
    """

    def __init__(self, lab: str, states: dict[str, str]):
        self.lab, self.states = lab, states

    @property
    def summary(self) -> str:
        """One sentence: how many, and which one is next."""
        done = sum(state == PASSED for state in self.states.values())
        left = next((name for name, state in self.states.items() if state != PASSED), None)
        return f"{done} of {len(self.states)} exercises passed" + (
            f"; next: {left}." if left else ". All done."
        )

    def record(self, report: CheckReport) -> bool:
        """Take over what a check found. Return whether it was about one of these exercises."""
        name = report.exercise.name
        if name in self.states:
            self.states[name] = PASSED if report.passed else report.problem.kind
        return name in self.states

    def __str__(self) -> str:
        rows = [
            f"  {SIGNS.get(state, PROBLEM)[0]} {name:<30}{state}"
            for name, state in self.states.items()
        ]
        return "\n".join([f"Lab {self.lab}: {self.summary}", *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        done, total = sum(state == PASSED for state in self.states.values()), len(self.states)
        bar = (
            f'<div role="progressbar" aria-label="{html.escape(self.summary, quote=True)}" '
            f'aria-valuemin="0" aria-valuenow="{done}" aria-valuemax="{total}" '
            f'style="max-width:36em;height:14px;border:2px solid {GREY}"><div style="width:'
            f'{100 * done / max(total, 1):.0f}%;height:100%;background:{GREEN}"></div></div>'
        )
        rows = "".join(self._row(name, state) for name, state in self.states.items())
        title = f"<b>{html.escape(self.lab)}</b>: {html.escape(self.summary)}"
        return (
            f'<div style="font-size:110%;padding:6px 0">{title}{bar}<ul '
            f'style="list-style:none;padding:0">{rows}</ul></div>'
        )

    @staticmethod
    def _row(name: str, state: str) -> str:
        sign, color = SIGNS.get(state, PROBLEM)
        mark = f'<span aria-hidden="true" style="color:{color};font-weight:bold">{sign}</span>'
        return f"<li>{mark} <code>{html.escape(name)}</code> {html.escape(state)}</li>"


def states_now(lab: str, namespace: Mapping[str, Any]) -> dict[str, str]:
    """{exercise: state} of a lab, each function of the session checked afresh. ValueError for a lab
    without exercises.
    """
    exercises = all_exercises(lab)
    if not exercises:
        labs = sorted({exercise.lab for exercise in all_exercises()})
        raise ValueError(f"no lab with exercises is called {lab!r}: give one of {', '.join(labs)}")
    return {
        exercise.name: state_of(exercise, namespace.get(exercise.name)) for exercise in exercises
    }


def state_of(exercise: Exercise, function: Any) -> str:
    """What the check finds now, on fresh inputs; NOT_RUN if the session has no such function."""
    if not callable(function):
        return NOT_RUN
    problem = find_problem(exercise, function, np.random.default_rng())
    return problem.kind if problem else PASSED


def follow(board: Board, redraw: Callable[[Board], None]) -> Callable[[Any], None]:
    """A callback for IPython's `post_run_cell`: a cell whose value is a check's report updates the
    board.
    """

    def after_cell(result: Any) -> None:
        if isinstance(result.result, CheckReport) and board.record(result.result):
            redraw(board)

    return after_cell


def progress(lab: str | None = None) -> Board | None:
    """Show which exercises are done, and keep showing it while the notebook runs. The lab is known
    from its setup cell.

    Outside of a notebook the board is returned. ValueError if the lab is not known.
    """
    namespace = session()
    lab = lab or lab_name(namespace)
    if lab is None:
        raise ValueError(
            'which lab? Run the setup cell first, or name it: progress("01_quantization_buckets")'
        )
    board = Board(lab, states_now(lab, namespace))
    if not namespace:
        return board
    from IPython import get_ipython
    from IPython.display import display

    shown = display(board, display_id=True)
    get_ipython().events.register("post_run_cell", follow(board, shown.update))
    return None
