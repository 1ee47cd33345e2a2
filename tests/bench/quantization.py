"""Block-wise NF4, ours against bitsandbytes: seconds, ratio, and the largest difference, which must
be 0.
"""

from __future__ import annotations

import argparse

from bench import Measure, Outcome
from lab_utils.start.timing import seconds_alternating


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The size of the tensor, and how often."""
    parser.add_argument(
        "--size", type=int, default=4096, help="rows and columns of the tensor (default 4096)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed repetitions (default 5)")


def measure(args: argparse.Namespace) -> Outcome:
    """Quantize and dequantize one random tensor with both. A problem where a code or a weight
    differs.
    """
    import bitsandbytes.functional as bnb
    import torch

    from lab_utils.quantization import buckets as quantization

    torch.manual_seed(0)
    x = torch.randn(args.size, args.size)
    packed, absmax = quantization.quantize_nf4(x)
    their_packed, state = bnb.quantize_4bit(x, blocksize=64, quant_type="nf4")
    seconds = seconds_alternating(
        {
            "quantize ours": lambda: quantization.quantize_nf4(x),
            "quantize bitsandbytes": lambda: bnb.quantize_4bit(x, blocksize=64, quant_type="nf4"),
            "dequantize ours": lambda: quantization.dequantize_nf4(packed, absmax, tuple(x.shape)),
            "dequantize bitsandbytes": lambda: bnb.dequantize_4bit(their_packed, state),
        },
        args.repeats,
    )
    ours, theirs = (
        quantization.dequantize_nf4(packed, absmax, tuple(x.shape)),
        bnb.dequantize_4bit(their_packed, state),
    )
    different_codes = (packed != their_packed.reshape(-1)).sum().item()
    difference = (ours - theirs).abs().max().item()
    text, measures = ratios(seconds)
    title = (
        f"NF4, {args.size} x {args.size} float32, blocks of 64, {torch.get_num_threads()} threads"
    )
    differences = (
        f"different bytes of codes: {different_codes}    largest difference of a weight: "
        f"{difference:g}"
    )
    problems = ["ours and bitsandbytes' differ"] if difference or different_codes else []
    return Outcome(measures, "\n".join([title, text, differences]), problems)


def ratios(seconds: dict[str, float]) -> tuple[str, list[Measure]]:
    """A row for each step and one for all of them together: ours, bitsandbytes', ratio; and the
    same as measures.
    """
    steps = sorted({name.split()[0] for name in seconds}, reverse=True)
    rows = [(step, seconds[f"{step} ours"], seconds[f"{step} bitsandbytes"]) for step in steps]
    rows.append(("together", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines, measures = [f"{'':<12}{'ours':>10}{'bitsandbytes':>15}{'ratio':>8}"], []
    for step, ours, theirs in rows:
        lines.append(f"{step:<12}{ours:>8.4f} s{theirs:>13.4f} s{ours / theirs:>7.2f}x")
        measures += [
            Measure(f"{step}, ours", ours, "s"),
            Measure(f"{step}, bitsandbytes", theirs, "s"),
            Measure(f"{step}, ours / bitsandbytes", ours / theirs, "ratio", "lower"),
        ]
    return "\n".join(lines), measures
