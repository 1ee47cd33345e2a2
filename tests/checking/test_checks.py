"""The core of the checks: what it says for each way to be wrong, and that it can't be talked into a
pass.
"""

import copy
import math
import re

import numpy as np
import pytest
import torch

from lab_utils.checking import all_exercises, check, checks, find_exercise, ready
from lab_utils.checking.exercises.lab_01 import absmax_int8 as right_absmax_int8
from lab_utils.checking.exercises.lab_02 import bytes_of_scheme as right_bytes_of_scheme


def named(name, function):
    """The function under the name that `check` looks for."""
    function.__name__ = name
    return function


def raises(error):
    def function(x):
        raise error

    return function


def changes_input(x):
    answer = right_absmax_int8(x)
    x.mul_(2)
    return answer


class AlwaysEqual:
    """A result that says yes to every comparison."""

    shape, dtype = (10,), torch.int8

    def __eq__(self, other):
        return True

    def __len__(self):
        return 2

    def __iter__(self):
        return iter((self, self))

    def __float__(self):
        return 1.0

    def __repr__(self):
        raise RuntimeError("not even a repr")


KINDS = {
    "none": lambda x: None,
    "not started": raises(NotImplementedError()),
    "exception": raises(ZeroDivisionError("division by <zero>")),
    "type": lambda x: "codes",
    "shape": lambda x: (right_absmax_int8(x)[0][None], right_absmax_int8(x)[1]),
    "dtype": lambda x: (right_absmax_int8(x)[0].long(), right_absmax_int8(x)[1]),
    "input changed": changes_input,
    "wrong value": lambda x: (right_absmax_int8(x)[0] + 1, right_absmax_int8(x)[1]),
    "arguments": lambda: None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_way_to_be_wrong_has_its_own_message(kind):
    report = check(named("absmax_int8", KINDS[kind]))
    assert not report.passed
    assert report.problem.kind == kind
    assert kind in str(report) and kind in report._repr_html_()
    if kind != "arguments":
        assert "x=[1.5" in str(report), "the input is shown"


def test_a_pass_says_so_without_colour():
    report = check(named("absmax_int8", lambda x: right_absmax_int8(x)))
    assert report.passed
    assert str(report).startswith("PASSED") and "Passed" in report._repr_html_()


def test_the_message_has_input_expected_received_and_mistake():
    def absmax_int8(x):
        scale = 127 / x.abs().max()
        return (scale * x).to(torch.int8), scale

    text = str(check(absmax_int8))
    for part in (
        "Input:",
        "Expected:",
        "Received:",
        "Likely mistake:",
        "truncates",
        "[19, 29, 46, 51, 70",
        "[18, 28",
    ):
        assert part in text, part
    assert "where 70 is expected" in text or "where 19 is expected" in text


def test_an_unknown_mistake_is_not_invented():
    report = check(named("absmax_int8", KINDS["wrong value"]))
    assert report.problem.mistake == ""


def test_an_untouched_function_is_grey_and_has_no_cross():
    untouched = check(named("absmax_int8", KINDS["not started"]))._repr_html_()
    wrong = check(named("absmax_int8", KINDS["wrong value"]))._repr_html_()
    assert checks.GREY in untouched and "✗" not in untouched and checks.VERMILLION not in untouched
    assert checks.VERMILLION in wrong and "✗ Not yet" in wrong


def prints(x):
    print("absmax\nis", x.abs().max().item())
    return right_absmax_int8(x)


def test_prints_are_shown_of_the_failing_case_alone(capsys):
    assert check(named("absmax_int8", prints)).passed and capsys.readouterr().out == ""
    report = check(named("absmax_int8", lambda x: prints(-x)))
    assert report.problem.printed.splitlines() == ["absmax", "is 10.199999809265137"]
    assert "  Printed:        absmax\n" + 18 * " " + "is 10.2" in str(report).replace(
        "is 10.19", "is 10.2"
    )
    assert capsys.readouterr().out == ""


def test_the_example_is_shown_if_it_fails_else_the_shortest_failing_input():
    right = find_exercise("bytes_of_scheme").reference
    assert "n_values=25, code_bits=8" in check(named("bytes_of_scheme", lambda *_: -1)).rows()[1][1]
    report = check(
        named("bytes_of_scheme", lambda n, b, s: right(n, b, s) + (n != 25)),
        seed=3,
    )
    drawn = find_exercise("bytes_of_scheme").make_inputs(np.random.default_rng(3))
    others = [f"n_values={n}, code_bits={b}, block_size={s}" for n, b, s in drawn if n != 25]
    assert report.problem.inputs == min(others, key=len)


def test_the_line_that_raised_is_shown():
    def absmax_int8(x):
        scale = 127 / x.absmax()
        return scale

    assert "127 / x.absmax()" in str(check(absmax_int8))


def test_html_is_escaped():
    report = check(named("absmax_int8", raises(ValueError("<script>alert(1)</script>"))))
    assert "<script>" not in report._repr_html_() and "&lt;script&gt;" in report._repr_html_()


def test_an_object_that_equals_everything_is_refused():
    for exercise in all_exercises():
        assert not check(named(exercise.name, lambda *arguments: AlwaysEqual())).passed
        assert not check(named(exercise.name, lambda *arguments: (AlwaysEqual(),) * 2)).passed


def wrapped(name, change):
    """The right answer of an exercise, and then a change of its form."""
    exercise = find_exercise(name)
    return named(name, lambda *arguments: change(exercise.reference(*arguments)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bucket_of", lambda codes: codes.int()),
        ("bucket_of", lambda codes: codes.to(torch.uint8)),
        ("bucket_of", lambda codes: codes.numpy()),
        ("bucket_of", lambda codes: codes.tolist()),
        ("mask_labels", lambda labels: labels.int()),
        ("make_adapter", lambda pair: tuple(torch.nn.Parameter(one) for one in pair)),
        ("lora_update", torch.nn.Parameter),
        ("lora_step", lambda three: [torch.nn.Parameter(one) for one in three]),
        ("lora_update", lambda update: update.double()),
        ("blockwise_absmax", lambda absmax: absmax.tolist()),
        ("blockwise_absmax", lambda absmax: list(absmax)),
        ("dequantize_int8", lambda values: values.numpy().astype("float64")),
        ("lost_in_merging", np.float32),
        ("lost_in_merging", lambda share: torch.tensor(share)),
        ("bytes_of_scheme", float),
        ("row_flaws", lambda flaws: [flaw == 1 for flaw in flaws]),
        ("row_flaws", lambda flaws: torch.tensor(flaws) == 1),
        ("row_flaws", np.array),
        ("lost_and_gained", torch.tensor),
        ("complete_objects", lambda spans: [list(span) for span in spans]),
    ],
)
def test_the_same_values_in_another_form_are_right(name, change):
    for seed in range(5):
        report = check(wrapped(name, change), seed=seed)
        assert report.passed, report


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("bucket_of", lambda codes: codes.double(), "dtype"),
        ("bucket_of", lambda codes: codes.double().tolist(), "dtype"),
        ("bucket_of", lambda codes: codes > 2, "dtype"),
        ("absmax_int8", lambda pair: (pair[0].numpy(), pair[1]), "type"),
        ("pack_codes", lambda codes: codes.int(), "dtype"),
        ("dequantize_int8", lambda values: values.half(), "wrong value"),
        ("lora_update", lambda update: update.tolist(), "type"),
        ("page_transfers", bool, "type"),
        ("page_transfers", lambda n: torch.tensor(n > 0), "type"),
        ("page_transfers", lambda n: torch.tensor([n]), "type"),
        ("lost_and_gained", lambda pair: (bool(pair[0]), bool(pair[1])), "type"),
        ("row_flaws", lambda flaws: [2 * flaw for flaw in flaws], "wrong value"),
        ("keep_checkpoints", lambda kept: dict(enumerate(kept)), "type"),
    ],
)
def test_other_values_and_forms_are_not(name, change, kind):
    assert check(wrapped(name, change)).problem.kind == kind


def test_two_numbers_are_shown_until_they_differ():
    by_a_little = {
        "cohens_kappa": 1e-4,
        "next_token_loss": 3e-4,
        "lora_update": 3e-4,
        "quantize_constants": 3e-4,
    }
    for name, relative in by_a_little.items():

        def change(answer, relative=relative):
            if isinstance(answer, tuple):
                return (*answer[:-1], answer[-1] * (1 + relative))
            return answer * (1 + relative)

        problem = check(wrapped(name, change)).problem
        assert problem.kind == "wrong value"
        found, wanted = re.search(
            r"the value(?: at \[.*?\])? is (\S+) where (\S+) is expected", problem.message
        ).groups()
        assert found != wanted and float(found) != float(wanted)
        assert problem.expected != problem.received


def test_a_mistake_is_known_though_it_raises_on_some_inputs():
    def ia3_forward(x, weight, factors, feedforward):
        return (x @ weight.T) * factors

    for seed in range(5):
        assert "always scaled" in check(ia3_forward, seed=seed).problem.mistake


def test_a_reserve_as_per_cent_is_told_apart():
    def cards_needed(gigabytes, card_gigabytes, reserve):
        return math.ceil(gigabytes / (card_gigabytes * (1 - reserve / 100)))

    for seed in range(10):
        assert "per cent" in check(cards_needed, seed=seed).problem.mistake


def test_forgotten_layers_are_not_taken_for_heads():
    def activation_gigabytes(sequence, batch, hidden, heads, layers):
        return (34 * sequence * batch * hidden + 5 * heads * sequence**2 * batch) / 1e9

    for seed in range(10):
        assert check(activation_gigabytes, seed=seed).problem.mistake == "one layer only"


@pytest.mark.parametrize(
    ("name", "change", "thing"),
    [
        ("segment_peak", lambda lengths: lengths.sort(), "list"),
        ("retry_delay", lambda body, *_: body.clear(), "dict"),
        ("mask_labels", lambda ids, *_: ids.zero_(), "tensor"),
    ],
)
def test_what_was_changed_is_called_by_its_name(name, change, thing):
    reference = find_exercise(name).reference

    def function(*arguments):
        answer = reference(*copy.deepcopy(arguments))
        change(*arguments)
        return answer

    problem = check(named(name, function)).problem
    assert problem.kind == "input changed" and f"the caller's {thing} would" in problem.message


def test_numbers_may_come_in_any_form():
    for form in (float, np.float32, np.float64, torch.tensor, lambda value: value):

        def bytes_of_scheme(n_values, code_bits, block_size, form=form):
            return form(right_bytes_of_scheme(n_values, code_bits, block_size))

        assert check(bytes_of_scheme).passed
    for form in (
        str,
        bool,
        lambda value: [value],
        lambda value: math.nan,
        lambda value: math.inf,
        complex,
    ):

        def bytes_of_scheme(n_values, code_bits, block_size, form=form):
            return form(right_bytes_of_scheme(n_values, code_bits, block_size))

        assert not check(bytes_of_scheme).passed


def test_sys_exit_does_not_end_the_notebook():
    assert check(named("absmax_int8", raises(SystemExit(0)))).problem.kind == "exception"


def test_hints_come_one_after_the_other():
    wrong = named("absmax_int8", lambda x: None)
    hints = find_exercise("absmax_int8").hints
    assert len(hints) >= 2
    assert hints[0] not in str(check(wrong)) and "check(absmax_int8, hint=1)" in str(check(wrong))
    assert hints[0] in str(check(wrong, hint=1)) and hints[1] not in str(check(wrong, hint=1))
    assert all(hint in str(check(wrong, hint=99)) for hint in hints)
    card = check(wrong)._repr_html_()
    assert card.count("<details>") == len(hints), "the second hint is folded inside the first"
    assert card.index("Hint 1") < card.index("Hint 2") < card.index("</details>")
    assert check(wrong, hint=1)._repr_html_().count("<details open>") == 1


def test_a_seed_repeats_the_inputs():
    wrong = named(
        "bytes_of_scheme",
        lambda n_values, code_bits, block_size: n_values if n_values < 5000 else 0,
    )
    assert str(check(wrong, seed=3)) == str(check(wrong, seed=3))


def test_inputs_are_fresh():
    seen = []

    def absmax_int8(x):
        seen.append(x.sum().item())
        return right_absmax_int8(x)

    assert check(absmax_int8).passed and check(absmax_int8).passed
    assert len(set(seen)) > len(seen) / 2


def test_what_is_no_exercise_is_said_clearly():
    with pytest.raises(TypeError, match="without calling it"):
        check((1, 2))
    with pytest.raises(ValueError, match="did you mean absmax_int8"):
        check(named("absmax_int", lambda x: x))
    with pytest.raises(ValueError, match="keep the name"):
        check(lambda x: x)


def test_exercise_names_are_unique():
    names = [exercise.name for exercise in all_exercises()]
    assert len(names) == len(set(names))


def test_check_prints_nothing(capsys):
    check(named("absmax_int8", lambda x: None))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("expected", "received", "same"),
    [
        (1.0, 1.0 + 1e-7, True),
        (1.0, 1.01, False),
        (1.0, math.nan, False),
        (math.inf, math.inf, True),
        (0.0, 1e-5, False),
    ],
)
def test_close(expected, received, same):
    assert checks.close()(expected, received) is same


def test_a_cell_waits_aloud_for_its_exercise(capsys):
    def absmax_int8(x):
        raise NotImplementedError

    assert ready(right_absmax_int8) and capsys.readouterr().out == ""
    assert not ready(absmax_int8)
    assert capsys.readouterr().out == (
        "This waits for absmax_int8: run it again when its check has passed.\n"
    )
