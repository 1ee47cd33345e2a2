"""Exercises of lab 08_gemini_tuning: what they call right is what `lab_utils` computes.

That right answers pass and mistakes are refused is tested for all labs in test_exercises.py.
"""

import json

import pytest
from exercise_tests import cases

from lab_utils.checking import all_exercises
from lab_utils.gemini import errors, ledger
from lab_utils.gemini import rows as gt


def test_the_exercises_of_the_lab():
    names = [exercise.name for exercise in all_exercises("08_gemini_tuning")]
    assert names == [
        "row_flaws",
        "dollars_of_tuning",
        "retry_delay",
        "most_it_can_cost",
        "questions_to_break_even",
    ]


def test_row_flaws_agree_with_the_kits_check():
    for row_flaws, (line,) in cases("row_flaws"):
        flaws = row_flaws(line)
        row, wrong = gt.parse_line(line.encode())
        told = " ".join(wrong or gt.check_row(row))
        assert flaws[0] == any(
            words in told for words in ("not JSON", "should be one object", "an empty line")
        )
        assert flaws[1] == ("contents should be a list" in told)
        assert flaws[2] == ("has the role" in told)
        if line.count('"text"') == line.count('"role"'):  # the kit looks at whole messages
            assert flaws[4] == ("is empty" in told)
        if not flaws[0] and not flaws[1]:
            assert flaws[3] == (json.loads(line)["contents"][-1]["role"] != "model")


def test_dollars_of_tuning():
    for dollars_of_tuning, (tokens, epochs, price) in cases("dollars_of_tuning"):
        assert dollars_of_tuning(tokens, epochs, price) == pytest.approx(
            gt.tuning_cost(sum(tokens), epochs, price)
        )


def test_retry_delay():
    for retry_delay, (body, retry_after, default) in cases("retry_delay"):
        told = errors.read_delay(body, {"Retry-After": retry_after})
        assert retry_delay(body, retry_after, default) == pytest.approx(
            default if told is None else told
        )


def test_most_it_can_cost_is_what_the_ledger_reserves():
    for most_it_can_cost, (prompt, most, price_in, price_out) in cases("most_it_can_cost"):
        book = ledger.Ledger(1e9, {"m": ledger.Price(price_in, price_out, None, "", "")})
        book.reserve("m", prompt, most)
        assert most_it_can_cost(prompt, most, price_in, price_out) == pytest.approx(
            book.spent, rel=1e-12
        )


def test_questions_to_break_even():
    for questions_to_break_even, (tuning, shots, tokens, price) in cases("questions_to_break_even"):
        assert questions_to_break_even(tuning, shots, tokens, price) == gt.break_even_questions(
            tuning, shots * tokens, price
        )
