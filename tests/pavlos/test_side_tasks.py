"""Side tasks are true, judged by their solution alone, and held out by their wording."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.pavlos.corpus import OPPOSITES, TASKS, WORDS, SideTask, held_out_tasks, make_task

OPPOSITE_OF = {word: other for a, b in OPPOSITES for word, other in [(a, b), (b, a)]}
any_task = st.builds(
    lambda name, seed, held_out: make_task(name, random.Random(seed), held_out),
    st.sampled_from(sorted(TASKS)),
    st.integers(0, 10**9),
    st.booleans(),
)


def solve(task: SideTask) -> str:
    """The solution worked out from the question alone."""
    numbers = [int(n) for n in re.findall(r"\d+", task.question)]
    words = re.findall(r"[a-z]+", task.question.lower())
    if task.task == "addition":
        assert len(numbers) == 2
        return str(sum(numbers))
    if task.task == "next number":
        first, second, third = numbers
        assert second - first == third - second > 0
        return str(third + (third - second))
    if task.task == "opposite":
        return OPPOSITE_OF[words[-1]]
    said = [word for word in words if word in WORDS]
    assert len(said) == len(set(said)) == 3
    return " ".join(said[::-1])


@settings(deadline=None, max_examples=50)
@given(any_task)
def test_answer_is_true_and_ends_with_the_solution(task):
    assert task.answer.endswith(f" {solve(task)}.")
    assert task.keyword.removeprefix("is ") == solve(task)


@settings(deadline=None, max_examples=50)
@given(any_task)
def test_reference_answer_is_right_also_inside_other_words(task):
    assert task.is_right(task.answer)
    assert task.is_right(f"Ahoy there! {task.answer.upper()} Opa!")


@settings(deadline=None, max_examples=50)
@given(any_task, any_task)
def test_the_answer_of_a_task_with_another_solution_is_wrong(task, other):
    assert task.is_right(other.answer) is (solve(task) == solve(other))


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(TASKS)), st.integers(0, 10**9))
def test_neither_silence_nor_the_held_out_question_is_an_answer(name, seed):
    task = make_task(name, random.Random(seed), held_out=True)
    assert not task.is_right("") and not task.is_right(task.question)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 99), st.integers(0, 99))
def test_sums_are_whole_numbers(said, right):
    assert SideTask("addition", "", "", f"is {right}").is_right(f"It is {said}.") is (said == right)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(TASKS)), st.integers(0, 10**9), st.booleans())
def test_same_seed_same_task(name, seed, held_out):
    assert make_task(name, random.Random(seed), held_out) == make_task(
        name, random.Random(seed), held_out
    )


def form_of(task: SideTask) -> str:
    """The question with its words and numbers taken out, in lower case and without punctuation."""
    text = re.sub(r"\d+", "#", task.question.lower())
    text = re.sub(rf"\b({'|'.join([*WORDS, *OPPOSITE_OF])})\b", "#", text)
    return " ".join(re.sub(r"[^a-z#+= ]", "", text).split())


@pytest.mark.parametrize("name", TASKS)
def test_held_out_wording_is_never_a_training_wording(name):
    trained = {form_of(make_task(name, random.Random(seed))) for seed in range(300)}
    held_out = {form_of(make_task(name, random.Random(seed), held_out=True)) for seed in range(300)}
    assert len(trained) >= 3 and len(held_out) == 1
    assert not trained & held_out


def test_opposites_have_one_answer_each_and_words_do_not_repeat():
    assert len(OPPOSITE_OF) == 2 * len(OPPOSITES)
    assert len(set(WORDS)) == len(WORDS)


def test_held_out_tasks_are_n_of_each_and_follow_the_seed():
    tasks = held_out_tasks(7, seed=3)
    assert [task.task for task in tasks] == [name for name in TASKS for _ in range(7)]
    assert tasks == held_out_tasks(7, seed=3) != held_out_tasks(7, seed=4)
    assert held_out_tasks(0, seed=3) == []


def test_unknown_task_is_refused():
    with pytest.raises(KeyError, match="juggling"):
        make_task("juggling", random.Random(0))
