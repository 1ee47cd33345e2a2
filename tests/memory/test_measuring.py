"""The most memory that a computation takes: on a CPU by torch's profiler, on a GPU by counters."""

import torch

from lab_utils.memory.measuring import growth


def test_growth_is_the_most_that_was_there_at_a_time(capfd):
    def compute():
        first = torch.zeros(1000)  # 4,000 bytes
        second = torch.zeros(500)  # 2,000 more
        del first
        return torch.zeros(300), second

    (small, _), most = growth(compute)
    assert most == 6000 and small.shape == (300,)
    assert "profiler" not in capfd.readouterr().err, "nothing of it in the notebook"


def test_on_a_gpu_the_allocators_counters_are_read(monkeypatch):
    """Numbers of a card that is not here: 700 bytes at most, 100 before the work."""
    counters = {
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 100,
        "max_memory_allocated": 700,
    }
    for name, value in counters.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert growth(lambda: "done", "cuda:0") == ("done", 600)
