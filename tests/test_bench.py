"""Benchmarks: they run, print seconds and a ratio, and fail where the results differ."""

import argparse

import pytest

from lab_utils import bench, quantization


def run(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return bench.main(parser.parse_args(words))


def test_quantization_prints_seconds_ratio_and_difference(capsys):
    assert run("quantization", "--size", "128", "--repeats", "1") == 0
    printed = capsys.readouterr().out
    for words in ("128 x 128", "quantize", "dequantize", "together", "largest difference of a weight: 0"):
        assert words in printed


def test_quantization_fails_where_the_weights_differ(monkeypatch, capsys):
    right = quantization.dequantize_nf4
    monkeypatch.setattr(quantization, "dequantize_nf4", lambda *arguments: right(*arguments) * 1.0001)
    assert run("quantization", "--size", "128", "--repeats", "1") == 1


def test_calls_take_turns_and_the_median_counts():
    order = []
    seconds = bench.seconds_alternating({name: lambda name=name: order.append(name) for name in "ab"}, repeats=3)
    assert order == list("ab" * 4), "one warm-up and three turns"
    assert set(seconds) == {"a", "b"} and all(value >= 0 for value in seconds.values())


def test_an_unknown_name_is_refused():
    with pytest.raises(SystemExit):
        run("nothing")
