"""`progress()`: what it says of each function, and that it follows the checks."""

import re
import types

import pytest

from lab_utils.checking import all_exercises, check, find_exercise, progress
from lab_utils.checking import board as board_module
from lab_utils.checking.board import NOT_RUN, PASSED, Board, follow, state_of, states_now

LAB = "02_double_quantization"
RIGHT = {exercise.name: exercise.reference for exercise in all_exercises(LAB)}


def not_started(*_):
    raise NotImplementedError


def test_every_exercise_has_its_state():
    written = {
        "model_gigabytes": lambda n, b: None,
        "bytes_of_scheme": not_started,
        "quantize_constants": 7,
    }
    states = states_now(LAB, {**RIGHT, **written})
    assert states == {
        "blockwise_absmax": PASSED,
        "quantize_constants": NOT_RUN,
        "bytes_of_scheme": "not started",
        "bits_per_param_double_quant": PASSED,
        "model_gigabytes": "none",
    }


def test_a_function_under_another_name_of_its_own_is_judged_all_the_same():
    exercise = find_exercise("model_gigabytes")
    assert state_of(exercise, lambda n_params, bits: n_params * bits / 8e9) == PASSED
    assert state_of(exercise, lambda n_params, bits: n_params * bits) == "wrong value"


def test_the_summary_counts_and_names_the_next():
    board = Board(LAB, {"a": PASSED, "b": "wrong value", "c": NOT_RUN})
    assert board.summary == "1 of 3 exercises passed; next: b."
    assert Board(LAB, {"a": PASSED}).summary == "1 of 1 exercises passed. All done."
    assert str(board).splitlines()[1:] == [
        f"  ✓ {'a':<30}passed",
        f"  ✗ {'b':<30}wrong value",
        f"  ○ {'c':<30}not run yet",
    ]


def test_the_picture_says_in_words_what_it_shows_in_colour():
    page = Board("<lab>", {"a": PASSED, "<b>": "wrong value"})._repr_html_()
    assert re.search(
        r'role="progressbar" aria-label="1 of 2 exercises passed; next: &lt;b&gt;."', page
    )
    assert 'aria-valuenow="1" aria-valuemax="2"' in page and "width:50%" in page
    rows = [re.sub(r"<[^>]+>", "", row) for row in re.findall(r"<li>(.*?)</li>", page)]
    assert rows == ["✓ a passed", "✗ &lt;b&gt; wrong value"] and "<lab>" not in page


def cell_result(value):
    return types.SimpleNamespace(result=value)


def test_the_board_follows_the_checks_of_its_lab_and_nothing_else():
    def model_gigabytes(n_params, bits):
        return n_params * bits / 8 / 1e9

    def absmax_int8(x):
        raise NotImplementedError

    drawn, board = [], Board(LAB, dict.fromkeys(RIGHT, NOT_RUN))
    after_cell = follow(board, drawn.append)
    for value in (None, 3, "PASSED", check(absmax_int8)):
        after_cell(cell_result(value))
    assert drawn == [] and set(board.states.values()) == {NOT_RUN}
    after_cell(cell_result(check(model_gigabytes)))
    assert drawn == [board] and board.states["model_gigabytes"] == PASSED
    broken = check(
        types.FunctionType(
            not_started.__code__, {"NotImplementedError": NotImplementedError}, "model_gigabytes"
        )
    )
    after_cell(cell_result(broken))
    assert board.states["model_gigabytes"] == "not started" and len(drawn) == 2


def test_an_unknown_lab_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=f"'03_soup'.*{LAB}"):
        progress("03_soup")
    with pytest.raises(ValueError, match="Run the setup cell first"):
        progress()


def test_outside_of_a_notebook_the_board_is_returned():
    board = progress(LAB)
    assert isinstance(board, Board) and board.states == dict.fromkeys(RIGHT, NOT_RUN)


def test_in_a_notebook_the_board_is_shown_and_drawn_again(monkeypatch):
    import IPython

    shown, registered = [], {}
    handle = types.SimpleNamespace(update=shown.append)
    events = types.SimpleNamespace(register=registered.__setitem__)
    monkeypatch.setattr(board_module, "session", lambda: dict(RIGHT))
    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(events=events))
    monkeypatch.setattr(
        "IPython.display.display", lambda board, display_id: shown.append(board) or handle
    )
    assert progress(LAB) is None and shown[0].summary == "5 of 5 exercises passed. All done."
    registered["post_run_cell"](cell_result(check(RIGHT["model_gigabytes"])))
    assert shown == [shown[0], shown[0]]
