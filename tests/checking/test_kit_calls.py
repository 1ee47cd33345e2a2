"""Reading lab_utils is learning; calling what an exercise asks for is no answer to it."""

import copy
import functools
import importlib
import inspect
import itertools
import pkgutil
import signal
import socket
import time

import numpy as np
import pytest

import lab_utils
from lab_utils.checking import all_exercises, find_exercise
from lab_utils.checking.checks import find_problem, same_answer
from lab_utils.checking.kit_calls import KitCall, refused
from lab_utils.quantization import buckets

ROOMS = ("quantization", "memory", "lora", "finetuning", "pavlos", "gemini")
# modules that train, load, measure, write, draw or ask somebody: none of them answers by one call
ACTING = set(
    """
    ask base_model build capacity client command comparison demos getting keys levers measuring
    pictures preference pretraining publish real_model report resumable scoring sweep training
    """.split()
)
ACTS = {"main", "compare_plans", "load_adapters"}  # in the others
SECONDS = 0.2  # of the processor's time, for one call


def public_functions() -> dict[str, callable]:
    """The functions of the rooms that students read, by their paths."""
    found = {}
    for info in pkgutil.walk_packages(lab_utils.__path__, "lab_utils."):
        room, name = info.name.split(".")[1], info.name.rpartition(".")[2]
        if room not in ROOMS or name in ACTING:
            continue
        for name, thing in vars(importlib.import_module(info.name)).items():
            own = inspect.isfunction(thing) and thing.__module__ == info.name
            if own and not name.startswith("_") and name not in ACTS:
                found[f"{info.name}.{name}"] = thing
    return found


class TooLong(BaseException):
    """A call took more than SECONDS, or waited for somebody."""


def stop(*_, **__):
    raise TooLong


def answers(exercise, function, case, expected) -> bool:
    """Whether a call with these arguments is right."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        return same_answer(exercise, expected, function(*copy.deepcopy(case)))
    except (Exception, SystemExit, TooLong):
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def answered_by_one_call(exercise, functions) -> set[str]:
    """The functions that are right on all inputs; up to three arguments in any order."""
    cases = exercise.make_inputs(np.random.default_rng(1))
    expected = [exercise.reference(*copy.deepcopy(case)) for case in cases]
    n = len(cases[0])
    orders = list(itertools.permutations(range(n))) if n <= 3 else [tuple(range(n))]
    found = set()
    for path, (function, signature) in functions.items():
        for order in orders:
            try:
                signature.bind(*order)
            except TypeError:
                break
            ordered = (tuple(case[i] for i in order) for case in cases)
            if all(map(functools.partial(answers, exercise, function), ordered, expected)):
                found.add(path)
    return found


@pytest.mark.filterwarnings("ignore")
def test_no_exercise_is_answered_by_one_call_that_is_not_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for module, name in ((socket, "getaddrinfo"), (time, "sleep")):  # nobody is asked or waited for
        monkeypatch.setattr(module, name, stop)
    monkeypatch.setattr("builtins.input", lambda *_: "")
    before = signal.signal(signal.SIGVTALRM, stop)
    functions = {path: (f, inspect.signature(f)) for path, f in public_functions().items()}
    try:
        found = {e.name: answered_by_one_call(e, functions) for e in all_exercises()}
    finally:
        signal.signal(signal.SIGVTALRM, before)
    assert len(functions) > 200
    assert found == {e.name: {e.kit} - {""} for e in all_exercises()}


def imported(x, codebook):
    return buckets.nearest_code(x, codebook)


renamed = functools.partial(buckets.nearest_code)


def in_a_map(x, codebook):
    return next(map(renamed, [x], [codebook]))


@pytest.mark.parametrize("answer", [imported, in_a_map])
def test_a_call_of_the_kit_is_refused_by_the_check_and_says_so(answer):
    problem = find_problem(find_exercise("bucket_of"), answer, np.random.default_rng(0))
    assert problem.kind == "kit call" and "buckets.nearest_code" in problem.message


def test_the_kit_may_call_its_own_and_other_exercises_may_too():
    x, codebook = find_exercise("bucket_of").make_inputs(np.random.default_rng(0))[0]
    with refused("lab_utils.quantization.buckets.nearest_code"):
        buckets.quantize_nf4(x, len(x))
        with pytest.raises(KitCall):
            imported(x, codebook)
    with refused(""):
        assert len(imported(x, codebook)) == len(x)
