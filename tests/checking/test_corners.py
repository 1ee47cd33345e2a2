"""Right values at corners where wrong answers once passed, worked out by hand. Each corner is
declared in its exercise, so every check asks for one like it.
"""

import json

import pytest
import torch

from lab_utils.checking import find_exercise

BODY = {"error": {"code": 503, "details": [{"a": 1}, {"retryDelay": "90s"}, {"retryDelay": "5s"}]}}
STOPS = ("is", "from")


def row(*messages):
    turns = [{"role": role, "parts": [{"text": t} for t in texts]} for role, *texts in messages]
    return json.dumps({"contents": turns})


VALUES = [
    ("retry_delay", ({}, "9", 2.0), 9),
    ("retry_delay", ({"error": {}}, "0", 2.0), 0),
    ("retry_delay", (BODY, "3", 2.0), 90),
    ("row_flaws", (row(("user", "Who?", " "), ("model", "I.")),), [0, 0, 0, 0, 1]),
    ("row_flaws", (row(("user", "a"), ("tool", "b"), ("model", "c")),), [0, 0, 1, 0, 0]),
    ("row_flaws", ("null",), [1, 0, 0, 0, 0]),
    ("row_flaws", (row(("user", "7?"), ("model", "y")),), [0, 0, 0, 0, 0]),
    ("complete_objects", ('What\'s Feta? {"q": "a"}',), [(13, 23)]),
    ("complete_objects", ('{"q": "a\\\\"}',), [(0, 12)]),
    ("complete_objects", ('{"q": "a"}, {"q": "b\\',), [(0, 10)]),
    ("complete_objects", ('[{"q": 1},{"q": 2}]',), [(1, 9), (10, 18)]),
    ("complete_objects", ('{"q": "a", {"q": 2}',), [(11, 19)]),
    ("cards_needed", (120, 24, 0), 5),
    ("smallest_paged_rank", (800,), 125),
    ("smallest_paged_rank", (2439,), 42),  # 41 * 2439 is 99,999
    ("questions_to_break_even", (3.0, 10, 100.0, 1.0), 3000),
    ("bytes_of_scheme", (3, 3, 64), 6),
    ("full_finetuning_gigabytes", (10e9, 4, True), 200),
    ("leaked_share", (["Allgaeuer Emmentaler/milk"], ["Emmentaler/milk"]), 0),
    ("leaked_share", (["Feta/milk"], ["Feta/country"]), 0),
    ("leaked_share", (["Brie/milk", "Feta/milk"], ["Feta/milk"]), 1),
    ("content_jaccard", ("Feta is from Greece", "where is Feta from", STOPS), 1 / 3),
    ("content_jaccard", ("Feta is from Greece", "where is Feta from", ()), 3 / 5),
    ("distinct_n", (["opa my friend"] * 2, 2), 0.5),
    ("activation_gigabytes", (10, 2, 100, 5, 3), 3 * (34 * 10 * 2 * 100 + 5 * 5 * 100 * 2) / 1e9),
    ("segment_peak", ([2, 7, 7, 1, 1],), 10),  # at the last of the two longest
    ("largest_useful_rank", (3, 7), 2),  # 20 of 21 parameters
    ("qlora_layer_bytes", (3, 3, 2), (5 + 1 + 4, 16 * 2 * 6)),
    ("qlora_layer_bytes", (16384, 2, 7), (16384 + 512 + 8, 16 * 7 * 16386)),
]


@pytest.mark.parametrize(("name", "arguments", "value"), VALUES)
def test_values(name, arguments, value):
    assert find_exercise(name).reference(*arguments) == value


A, B = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]])
UPDATE = 2 * torch.tensor([[9.0], [10.0]])  # alpha 6, rank 3, one input


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("lora_update", (A, B, 6.0), UPDATE),
        ("swap_adapter", (torch.ones(2, 1), (A, 0 * B), (A, B), 6.0), 1 + UPDATE),
        ("make_adapter", (torch.tensor([[3.0], [5.0]]), 1), torch.tensor([[3.0], [5.0]])),
    ],
)
def test_a_rank_above_n_in(name, arguments, value):
    result = find_exercise(name).reference(*arguments)
    torch.testing.assert_close(result[0] if name == "make_adapter" else result, value)


def test_ia3_with_another_width_out_than_in():
    ia3_forward = find_exercise("ia3_forward").reference
    x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    out = ia3_forward(x, weight, torch.tensor([1.0, 2.0, 3.0]), False)
    assert out.tolist() == [[1, 4, 9]]
    assert ia3_forward(x, weight, torch.tensor([3.0, 1.0]), True).tolist() == [[3, 2, 5]]
