"""Judging answers, and the arrays in which questions and answers travel: right ones pass, whatever
else comes does not.
"""

import io
import json
import math
import re
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from variants import VARIANTS

from lab_utils.checking import all_exercises
from lab_utils.course.grading.judge import draw_cases, judge
from lab_utils.course.grading.worker.values import Foreign, decode, encode

EXERCISES = all_exercises()


def label(exercise):
    return exercise.name


def same(a, b) -> bool:
    """Equal in type and in every bit that matters; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, torch.Tensor):
        equal = (
            torch.allclose(a.double(), b.double(), rtol=0, atol=0, equal_nan=True)
            if not a.is_complex()
            else same(torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj()))
        )
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and a.requires_grad == b.requires_grad
            and equal
        )
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b or (a != a and b != b)


# --------------------------------------------------------------------------------- values as arrays
@pytest.mark.parametrize("exercise", EXERCISES, ids=label)
def test_every_exercise_can_be_asked(exercise):
    """Its arguments and its answers go through arrays and come back the same; if not, this says
    which exercise it is.
    """
    for seed in range(3):
        cases = draw_cases(exercise, seed)
        assert same(decode(encode(cases)), cases), (
            f"{exercise.lab}: the arguments of {exercise.name} do not survive being sent"
        )
        answers = [exercise.reference(*case) for case in cases]
        assert same(decode(encode(answers)), answers), (
            f"{exercise.lab}: the answers of {exercise.name} do not survive being sent"
        )


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text()
    | st.complex_numbers()
)
ARRAYS = arrays.arrays(
    st.sampled_from(["?", "i1", "u2", "i8", "f2", "f4", "f8", "c16"]),
    arrays.array_shapes(min_dims=0, min_side=0),
)


@given(
    st.recursive(
        PLAIN | ARRAYS | ARRAYS.map(torch.from_numpy),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_value_comes_back_the_same(value):
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.5, math.nan], dtype=torch.bfloat16),
        torch.zeros(2, 0, 3).half(),
        torch.tensor(3, dtype=torch.int8),
        torch.arange(12).reshape(3, 4).T,
        torch.zeros(1).expand(5),
        torch.ones(2, requires_grad=True),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]).conj(),
        torch.ones(3).to(torch.float8_e4m3fn),
        np.float32(0.1),
        np.int64(3),
        torch.bfloat16,
        -0.0,
        2**200,
        np.arange(6).reshape(2, 3)[:, ::-1],
    ],
    ids=str,
)
def test_special_values_come_back_the_same(value):
    assert same(decode(encode([value])), [value])


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        len,
        np.array([object()]),
        np.array(["text"]),
        type("List", (list,), {})(),
        torch.ones(2).to_sparse(),
        torch.ones(2, device="meta"),
        2**300,
    ],
    ids=lambda value: (
        type(value).__name__
    ),  # not str: the address of an object differs in each process
)
def test_what_has_no_place_is_refused_or_marked(value):
    with pytest.raises(TypeError, match=f"type {type(value).__name__} cannot be sent"):
        encode((1, value))
    one, marked = decode(encode((1, value), foreign=True))
    assert one == 1 and type(marked) is Foreign and marked != marked


def test_a_parameter_travels_as_the_tensor_that_it_is():
    parameter = torch.nn.Parameter(torch.tensor([1.5, -2.0]))
    received = decode(encode([parameter]))[0]
    assert type(received) is torch.Tensor and received.tolist() == [1.5, -2.0]


def npz(compress: bool = False, **members) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, **members)
    return file.getvalue()


def structure(value) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def promising_header() -> bytes:
    """An npy file that says it has 10**12 numbers."""
    npy, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(
        npy, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("structure.npy", npy.getvalue())
    return file.getvalue()


class Boom:
    exploded = False

    def __reduce__(self):
        return setattr, (Boom, "exploded", True)


DEEP = b"[" * 100_000
COLLIDING = [[{"plain": i * (2**61 - 1)}, {"plain": 0}] for i in range(30_000)]  # all hash to 0
RUBBISH = {
    "keys that collide": npz(structure=structure({"dict": COLLIDING})),
    "values without end": npz(structure=structure({"list": [{"plain": 1}] * 300_000})),
    "nothing": b"",
    "text": b"right",
    "cut off": encode([1, 2])[:-5],
    "a number": struct.pack("<Q", 7),
    "no structure": npz(a0=np.zeros(3)),
    "a pickle": npz(structure=np.array([Boom()], dtype=object)),
    "a pickle beside": npz(
        structure=structure({"array": "a0"}), a0=np.array([Boom()], dtype=object)
    ),
    "strings": npz(structure=structure({"array": "a0"}), a0=np.array(["a"])),
    "records": npz(structure=structure({"array": "a0"}), a0=np.zeros(2, dtype=[("a", "f8")])),
    "a compressed array": npz(
        compress=True, structure=structure({"array": "a0"}), a0=np.zeros(10**6)
    ),
    "a zip bomb": npz(compress=True, structure=np.zeros(10**7, np.uint8)),
    "a promising header": promising_header(),
    "unknown structure": npz(structure=structure({"eval": "1 + 1"})),
    "no structure's type": npz(structure=structure([1])),
    "empty structure": npz(structure=structure({})),
    "missing array": npz(structure=structure({"array": "a9"})),
    "a path as array": npz(structure=structure({"array": "../../etc/passwd"})),
    "an attribute of torch": npz(structure=structure({"dtype": "load"})),
    "a tensor with too few bytes": npz(
        structure=structure({"tensor": "a0", "shape": [9], "dtype": "float32", "grad": False}),
        a0=np.zeros(4, np.uint8),
    ),
    "a tensor of negative shape": npz(
        structure=structure({"tensor": "a0", "shape": [-2, -2], "dtype": "uint8", "grad": False}),
        a0=np.zeros(4, np.uint8),
    ),
    "a tensor with a function as dtype": npz(
        structure=structure({"tensor": "a0", "shape": [4], "dtype": "load", "grad": False}),
        a0=np.zeros(4, np.uint8),
    ),
    "deep": npz(structure=np.frombuffer(DEEP, np.uint8)),
    "a plain list": npz(structure=structure({"plain": [1]})),
    "keys that cannot be keys": npz(structure=structure({"dict": [[{"list": []}, {"plain": 1}]]})),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_rubbish_is_no_answer(name):
    with pytest.raises(ValueError, match="no answer file"):
        decode(RUBBISH[name])
    assert not Boom.exploded
    exercise = EXERCISES[0]
    assert judge(exercise, draw_cases(exercise, 0), RUBBISH[name]).kind == "no answer"


# ---------------------------------------------------------------------------------------- verdicts
def answers(exercise, cases, function) -> bytes:
    """What a room sends back: each answer, and the arguments after the call."""
    return encode([("answer", function(*case), case) for case in cases], foreign=True)


@pytest.mark.parametrize("exercise", EXERCISES, ids=label)
def test_right_answers_get_the_points(exercise):
    for seed, function in enumerate((exercise.reference, *VARIANTS[exercise.name])):
        verdict = judge(
            exercise,
            draw_cases(exercise, seed),
            answers(exercise, draw_cases(exercise, seed), function),
        )
        assert (verdict.points, verdict.kind) == (exercise.points, "right"), verdict


def attempt(function):
    """The function, with its errors as answers: not every mistake can be made on every input."""

    def answer(*case):
        try:
            return function(*case)
        except Exception:
            return None

    return answer


@pytest.mark.parametrize("exercise", EXERCISES, ids=label)
def test_named_mistakes_get_none(exercise):
    for seed, (mistake, function) in enumerate(exercise.wrong.items()):
        cases = draw_cases(exercise, seed)
        verdict = judge(
            exercise, cases, answers(exercise, draw_cases(exercise, seed), attempt(function))
        )
        assert verdict.points == 0 and verdict.kind != "right", mistake
        assert verdict.mistake in (mistake, ""), verdict
        assert not re.search(r"\d\.\d|\d{3}", verdict.message), (
            "a message holds no number of the hidden inputs"
        )


@pytest.mark.parametrize("exercise", EXERCISES, ids=label)
def test_nothing_that_is_no_answer_gets_a_point(exercise):
    cases = draw_cases(exercise, 0)
    values = [
        None,
        object(),
        math.nan,
        True,
        "right",
        [],
        (),
        {},
        Foreign(),
        10**70,
        -(10**70),
        complex(1, 1),
        b"",
        np.nan,
        np.zeros(0),
        np.longdouble(1),
        torch.tensor(math.nan),
        torch.zeros(0),
        torch.zeros(()),
        [[[[]]]],
    ]
    for value in values:
        try:
            sent = encode([("answer", value, case) for case in cases], foreign=True)
        except ValueError:
            continue
        assert judge(exercise, cases, sent).points == 0, value


def bend(value):
    """The answer with NaN for every number, in its own form."""
    if isinstance(value, list | tuple):
        return type(value)(map(bend, value))
    if isinstance(value, torch.Tensor | np.ndarray | np.generic) and (
        value.dtype.is_floating_point
        if isinstance(value, torch.Tensor)
        else value.dtype.kind == "f"
    ):
        return value * math.nan
    return math.nan if type(value) in (float, int) else value


@pytest.mark.parametrize("exercise", EXERCISES, ids=label)
def test_nan_in_the_right_form_gets_no_point(exercise):
    cases = draw_cases(exercise, 0)
    bent = [bend(exercise.reference(*case)) for case in draw_cases(exercise, 0)]
    if same(bent, [exercise.reference(*case) for case in draw_cases(exercise, 0)]):
        pytest.skip("an exercise without floating-point answers")
    assert (
        judge(
            exercise,
            cases,
            encode(
                [("answer", value, case) for value, case in zip(bent, cases, strict=True)],
                foreign=True,
            ),
        ).points
        == 0
    )


@pytest.mark.parametrize(
    "outcomes, kind",
    [
        (lambda good: good[:-1], "no answer"),
        (lambda good: good + good[:1], "no answer"),
        (lambda good: [], "no answer"),
        (lambda good: "right", "no answer"),
        (lambda good: {"points": 300}, "no answer"),
        (lambda good: [("right", 300)] * len(good), "no answer"),
        (lambda good: [list(outcome) for outcome in good], "no answer"),
        (lambda good: [("answer", outcome[1], 1) for outcome in good], "no answer"),
        (lambda good: [("answer", outcome[1], ([7.0],)) for outcome in good], "input changed"),
        (lambda good: [("answer", outcome[1], True) for outcome in good], "no answer"),
        (lambda good: good[1:] + good[:1], "shape"),
        (lambda good: good[:-1] + [("error", "ValueError", 1, 2)], "exception"),
        (lambda good: [("error", "NotImplementedError", 1, 2)] * len(good), "not started"),
        (lambda good: [("error", "arguments", 0, 0)] * len(good), "arguments"),
        (lambda good: [("error", "kit call", 1, 2)] * len(good), "kit call"),
        (lambda good: [("error", "Input1234567Error", 1, 2)] * len(good), "exception"),
        (lambda good: [("error", "ValueError", "1", 2)] * len(good), "no answer"),
        (lambda good: [("answer", None, ())] * len(good), "none"),
        (lambda good: good[:-1] + [("answer", None, ())], "none"),
    ],
)
def test_one_bad_case_takes_the_point(outcomes, kind):
    exercise = next(exercise for exercise in EXERCISES if exercise.name == "absmax_int8")
    cases = draw_cases(exercise, 0)
    good = [("answer", exercise.reference(*case), case) for case in draw_cases(exercise, 0)]
    verdict = judge(exercise, cases, encode(outcomes(good)))
    assert (verdict.points, verdict.kind) == (0, kind)
    assert "1234567" not in verdict.message


def test_an_answer_that_cannot_be_compared_is_wrong_and_stops_nothing():
    exercise = next(exercise for exercise in EXERCISES if exercise.name == "bytes_of_scheme")
    cases = draw_cases(exercise, 0)
    sent = [("answer", 2**255, case) for case in draw_cases(exercise, 0)]
    verdict = judge(exercise, cases, encode(sent))
    assert (verdict.points, verdict.kind) == (0, "wrong value")


def test_the_kind_of_an_input_is_told_without_its_values():
    exercise = next(exercise for exercise in EXERCISES if exercise.name == "absmax_int8")
    cases = draw_cases(exercise, 0)
    sent = [("answer", exercise.reference(*case), case) for case in draw_cases(exercise, 0)]
    wrong = bend(sent[-1][1])
    verdict = judge(exercise, cases, encode([*sent[:-1], ("answer", wrong, cases[-1])]))
    assert "x, a tensor of float32 with " in verdict.message
    assert not re.search(r"\d\.\d|\d{3}", verdict.message)


@pytest.mark.parametrize("errors", [["KeyError", "ValueError", "SystemExit", "OSError"]])
def test_the_kind_of_an_error_is_not_told(errors):
    """It could be chosen by the inputs: `raise [KeyError, ValueError][bit]`."""
    exercise = EXERCISES[0]
    cases = draw_cases(exercise, 0)
    said = {
        (verdict.kind, verdict.message)
        for error in errors
        for verdict in [judge(exercise, cases, encode([("error", error, 1, 2)] * len(cases)))]
    }
    assert said == {("exception", "it raised an error")}
