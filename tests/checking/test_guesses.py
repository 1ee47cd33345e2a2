"""`guess` and `reveal`: what is kept, what counts, and what is said of it."""

import types

import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from lab_utils.checking import guess, reveal, your_guesses
from lab_utils.checking import guesses as module
from lab_utils.checking.guess_form import GuessForm
from lab_utils.checking.guesses import Guess, calibration, guesses_picture, standing
from lab_utils.drawing.live import VIEW
from lab_utils.files import read_jsonl
from lab_utils.start.lab import LabInfo

LOSS = "loss at step 0"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The file of a running lab's guesses, not there yet."""
    hardware = types.SimpleNamespace(device="cpu", compute_dtype="float32", tier="cpu")
    info = LabInfo("01_quantization_buckets", hardware, 1, 0, tmp_path)
    monkeypatch.setattr(module, "session", lambda: {"info": info})
    return tmp_path / "guesses.jsonl"


def test_a_guess_is_kept_and_held_beside_the_measured_value(file):
    assert str(guess(LOSS, 10)) == f"{LOSS}: your guess is 10"
    assert str(reveal(LOSS, torch.tensor(8.0))) == (
        f"{LOSS}: measured 8, you guessed 10: 25% too high"
    )
    assert read_jsonl(file) == [{"what": LOSS, "guess": 10}, {"what": LOSS, "measured": 8}]


def test_none_is_no_guess_and_leaves_no_trace(file):
    assert str(guess(LOSS, None)) == (
        f"{LOSS}: write your number in the place of None, and run this cell"
    )
    assert str(reveal(LOSS, 7.714)) == f"{LOSS}: measured 7.71 (not guessed)"
    assert not file.exists()
    assert your_guesses().description.startswith("No guesses yet")


def test_the_last_guess_before_the_value_was_told_counts(file):
    for value in (1, 10, 10):
        guess(LOSS, value)
    assert reveal(LOSS, 5).guessed == 10
    assert guess(LOSS, 5) == Guess(LOSS, 10, 5), "after the value was told"
    assert guess(LOSS) == reveal(LOSS, 5) == Guess(LOSS, 10, 5)
    assert reveal(LOSS, 4) == Guess(LOSS, 10, 4), "measured anew"
    assert [row.get("guess", row.get("measured")) for row in read_jsonl(file)] == [1, 10, 5, 4]


def test_guesses_outlive_the_kernel_and_a_line_that_was_cut_off(file):
    guess(LOSS, 10)
    with file.open("a", encoding="utf-8") as stream:
        stream.write('{"what": "lo')
    assert guess(LOSS).guessed == 10


@pytest.mark.parametrize("value", ["7", True, [7], float("nan"), float("inf")])
def test_what_is_no_number_is_refused(file, value):
    with pytest.raises((TypeError, ValueError), match=f"'{LOSS}' is a.* number"):
        guess(LOSS, value)
    assert not file.exists()


def test_a_field_asks_where_the_notebook_is_open_and_nowhere_else(file, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    bundle = DisplayFormatter().format
    words, page = bundle(guess(LOSS, None))[0], guess(LOSS, None)._repr_html_()
    assert words == {"text/plain": str(guess(LOSS)), "text/html": page}, "as a lab stores it"
    monkeypatch.setenv("JPY_SESSION_NAME", "labs/01.ipynb")
    shown = bundle(guess(LOSS, None))[0]
    assert shown.keys() - words.keys() == {VIEW} and {**shown, **words} == shown
    assert VIEW not in bundle(guess(LOSS, 4))[0], "a number was given"
    assert VIEW in bundle(guess(LOSS, None))[0], "it may still be changed"
    assert VIEW not in bundle(reveal(LOSS, 5))[0] and VIEW not in bundle(guess(LOSS, None))[0]


def test_what_is_typed_is_kept_and_shown(file):
    form = GuessForm(guess(LOSS), lambda value: guess(LOSS, value))
    assert (form.field.description, form.field.value, form.kept.value) == (LOSS, "", "")
    for typed, said in (
        ("", "An empty field is no"),
        ("<b>", "&lt;b&gt; is no"),
        ("inf", "inf is"),
    ):
        form.field.value = typed
        form.button.click()
        assert said in form.kept.value and not file.exists()
    form.field.value = " 1e3 "
    form.button.click()
    assert "your guess is 1,000" in form.kept.value and guess(LOSS).guessed == 1000
    again = GuessForm(guess(LOSS), lambda value: guess(LOSS, value))
    assert again.field.value == "1000" and "your guess is 1,000" in again.kept.value
    reveal(LOSS, 500)
    again.field.value = "500"
    again.button.click()
    assert "measured 500, you guessed 1,000: 2 times too high" in again.kept.value


def test_before_the_set_up_cell_it_says_what_to_do():
    with pytest.raises(ValueError, match="run the set-up cell first"):
        guess(LOSS, 1)


@pytest.mark.parametrize(
    "guessed, measured, verdict, near",
    [
        (4.5, 4.5, "right!", True),
        (0, 0, "right!", True),
        (10, 8, "25% too high", True),
        (8, 10, "25% too low", True),
        (40, 120, "3 times too low", False),
        (100, 5, "20 times too high", False),
        (0, 3, "3 too low", False),
        (1, -0.5, "1.5 too high", False),
    ],
)
def test_how_far_off_a_guess_was(guessed, measured, verdict, near):
    made = Guess("x", guessed, measured)
    assert (made.verdict(), made.near) == (verdict, near)


def test_the_card_says_in_words_what_its_colour_says():
    assert "#6E6E6E" in Guess("<x>")._repr_html_() and "&lt;x&gt;" in Guess("<x>")._repr_html_()
    assert "#009E73" in Guess("x", 2, 3)._repr_html_() and "#0072B2" in Guess("x", 2)._repr_html_()


def test_a_measured_value_without_a_guess_is_no_guess():
    assert standing([{"what": "x", "measured": 1}]) == {}
    late = [{"what": "x", "guess": 2}, {"what": "x", "measured": 1}, {"what": "x", "guess": 1}]
    assert standing(late) == {"x": Guess("x", 2, 1)}, "written by another kernel"


def test_the_picture_at_the_end_has_every_guess_and_a_sentence(file):
    for what, guessed, measured in (("a", 10, 8), ("b", 40, 120), ("c", 100, 5), ("d", 2, 2)):
        guess(what, guessed)
        reveal(what, measured)
    guess("never told", 5)
    assert your_guesses().description == (
        "2 of 4 within a factor of 2; typically 1.9 times off; 1 too low, 2 too high."
    )
    assert 'alt="2 of 4' in your_guesses()


def test_a_dot_lies_where_the_ratio_is():
    """On a log scale: twice too low as far to the right as twice too high to the left."""
    import base64
    import re

    drawn = guesses_picture([Guess("low", 1, 4), Guess("high", 4, 1), Guess("right", 3, 3)])
    svg = base64.b64decode(re.search(r"base64,([^\"]+)", drawn)[1]).decode()
    low, high, right = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg))
    assert low > right > high and low - right == pytest.approx(right - high, abs=0.2)


def test_a_calibrated_student_is_off_by_nothing():
    assert calibration([Guess("a", 3, 3)]) == (
        "1 of 1 within a factor of 2; typically 1 times off; 0 too low, 0 too high."
    )
