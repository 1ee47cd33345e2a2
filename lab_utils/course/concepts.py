"""`python3 -m lab_utils concepts`: one picture a lab, which is the lab, put into its first cell.

Each function draws one of them; numbers in it are computed. The picture stands in the notebook as
data, so that it is there in Colab, on GitHub and without a network, before a cell has run.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

from lab_utils.drawing.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    circle,
    line,
    rect,
    svg,
    text,
)
from lab_utils.files import ROOT, write_text

LABS = ROOT / "labs"
PALE = {
    BLUE: "#CFE3F1",
    VERMILLION: "#F6D9C6",
    GREEN: "#CDEBE1",
    GREY: "#E8E8E8",
    ORANGE: "#FBE9C6",
}
IMAGE = re.compile(r"!\[[^\]]*\]\(data:image/svg\+xml;base64,[^)]*\)\n\n")


# -------------------------------------------------------------------------------------- the pieces
def box(x: float, y: float, width: float, height: float, color: str, *words: str) -> str:
    """A pale box with centred lines of words in it."""
    middle = y + height / 2 + 8 - 15 * (len(words) - 1)
    lines = [
        text(x + width / 2, middle + 30 * i, words_, 24, anchor="middle", bold=i == 0)
        for i, words_ in enumerate(words)
    ]
    return rect(x, y, width, height, PALE.get(color, color), color) + "".join(lines)


def arrow(x: float, y: float, to_x: float, to_y: float, color: str = BLACK, dash: str = "") -> str:
    """A straight arrow, along one of the axes."""
    step = 12
    if to_y == y:
        back = -step if to_x > x else step
        head = [(to_x + back, y - 7), (to_x, y), (to_x + back, y + 7)]
    else:
        back = -step if to_y > y else step
        head = [(to_x - 7, to_y + back), (to_x, to_y), (to_x + 7, to_y + back)]
    return line([(x, y), (to_x, to_y)], color, 3, dash) + line(head, color, 3)


# ---------------------------------------------------------------------------------------- the labs
def why_peft() -> Picture:
    """The life of a model on the left; on the right the memory of one step, for 7B parameters."""
    from lab_utils.memory.sizes import GB

    stages = (("noise", GREY), ("pretrained", BLUE), ("aligned", GREEN), ("fine-tuned", VERMILLION))
    parts = [box(10, 12 + 68 * i, 210, 50, color, name) for i, (name, color) in enumerate(stages)]
    parts += [arrow(115, 62 + 68 * i, 115, 79 + 68 * i) for i in range(3)]
    what = ("", "reads text: next token", "learns what is wanted", "learns your task")
    parts += [text(236, 45 + 68 * i, words, 24, GREY) for i, words in enumerate(what)]
    n = 7e9
    bytes_each = (("weights", 2, SKY), ("gradients", 2, ORANGE), ("Adam's two states", 8, PURPLE))
    y = 12
    for name, width, color in bytes_each:
        height = 21.0 * width
        parts.append(rect(540, y, 130, height, color, BLACK))
        parts.append(text(684, y + height / 2 + 9, f"{name} {n * width / GB:.0f} GB", 24))
        y += height
    parts.append(text(540, 300, f"7B, full: {12 * n / GB:.0f} GB for a step", 26, bold=True))
    said = (
        "A model's life: noise, pretrained, aligned, fine-tuned. Beside it the memory of full "
        f"fine-tuning of 7 billion parameters: weights {2 * n / GB:.0f} GB, gradients "
        f"{2 * n / GB:.0f} GB, Adam's two states {8 * n / GB:.0f} GB."
    )
    return svg(1000, 320, said, *parts)


def quantization_buckets() -> Picture:
    """A number line falls into the 16 buckets of NF4; each holds equally many normal values."""
    from lab_utils.quantization.buckets import nf4_codebook

    levels = nf4_codebook().tolist()

    def place(value: float) -> float:
        return 500 + 470 * value

    parts = [line([(30, 110), (970, 110)], BLACK, 3)]
    edges = [-1.0, *((a + b) / 2 for a, b in zip(levels, levels[1:], strict=False)), 1.0]
    for i, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        color = PALE[BLUE] if i % 2 else PALE[ORANGE]
        parts.append(rect(place(low), 150, place(high) - place(low), 70, color, GREY))
        parts.append(circle(place(levels[i]), 185, 7, BLACK))
        if place(high) - place(low) > 64:
            name = f"{i:04b}"
            parts.append(text((place(low) + place(high)) / 2, 250, name, 20, GREY, "middle"))
    value = 0.62
    code = min(range(16), key=lambda i: abs(levels[i] - value))
    parts += [
        circle(place(value), 110, 10, VERMILLION),
        arrow(place(value), 122, place(value), 172),
    ]
    parts.append(text(place(value), 90, f"weight {value}", 26, VERMILLION, "middle", True))
    stored = f"stored: the 4 bits {code:04b}; read back as {levels[code]:.3f}"
    parts.append(text(500, 296, stored, 26, anchor="middle", bold=True))
    parts += [text(place(end), 90, f"{end:g}", 24, GREY, "middle") for end in (-0.95, 0.0)]
    parts.append(text(30, 36, "32 bits: any number from -absmax to absmax", 26, bold=True))
    said = (
        f"A weight of {value} on a line from -1 to 1 falls into one of the 16 buckets of NF4, "
        f"narrow in the middle and wide at the ends, and comes back as {levels[code]:.3f}."
    )
    return svg(1000, 312, said, *parts)


def double_quantization() -> Picture:
    """Weights, the blocks' constants, and the constants of the constants, with bits per weight."""
    from lab_utils.memory.sizes import bits_per_parameter, scheme_named

    total = bits_per_parameter(scheme_named("nf4 + double quantization"))
    once = bits_per_parameter(scheme_named("nf4, blocks of 64"))
    rows = (
        ("W in 4 bits", "blocks of 64 weights", 4.0, BLUE, 16),
        ("c2 in 8 bits", "one for a block of 64", 8 / 64, ORANGE, 4),
        ("c1 in 32 bits", "one for 256 of those", 32 / (64 * 256), VERMILLION, 1),
    )
    parts = []
    for i, (name, what, bits, color, count) in enumerate(rows):
        y = 14 + 84 * i
        width = 470 / count if count > 1 else 60
        for k in range(count):
            pitch = 470 / count
            x = 250 + k * pitch
            parts.append(rect(x, y, width - 4 if count == 16 else 60, 56, PALE[color], color))
        parts.append(text(10, y + 38, name, 26, color, bold=True))
        parts.append(text(740, y + 24, what, 22, GREY))
        parts.append(text(740, y + 52, f"{bits:.3f} bits a weight", 24))
    parts.append(
        text(
            10,
            296,
            f"{total:.3f} bits a weight in all, instead of {once:g} with c2 in 32",
            28,
            bold=True,
        )
    )
    said = (
        "Three rows: many 4-bit weights in blocks, one 8-bit constant for each block, and one "
        f"32-bit constant for 256 of those. Together {total:.3f} bits a weight instead of {once:g}."
    )
    return svg(1000, 316, said, *parts)


def gradient_checkpointing() -> Picture:
    """A chain of nine layers: three kept, six thrown away and computed again on the way back."""
    from lab_utils.memory.checkpointing import in_segments, peak

    n, k = 9, 3
    parts = [
        text(10, 34, "forward", 26, bold=True),
        text(10, 290, "backward", 26, VERMILLION, bold=True),
    ]
    for i in range(n):
        x = 140 + 94 * i
        kept = i % k == 0
        parts.append(rect(x, 96, 74, 90, PALE[BLUE] if kept else "#FFFFFF", BLUE if kept else GREY))
        parts.append(
            text(
                x + 37, 150, "kept" if kept else "gone", 22, BLUE if kept else GREY, "middle", kept
            )
        )
        if i < n - 1:
            parts.append(arrow(x + 74, 141, x + 94, 141, GREY))
    parts.append(arrow(140, 70, 960, 70))
    parts.append(arrow(960, 216, 140, 216, VERMILLION))
    for i in range(0, n, k):
        x = 140 + 94 * i
        parts.append(
            line([(x + 37, 186), (x + 37, 240), (x + 225, 240), (x + 225, 190)], ORANGE, 3, "8 5")
        )
    parts.append(
        text(560, 276, "each segment is computed again from what was kept", 24, ORANGE, "middle")
    )
    most, all_kept = peak(in_segments(n, k)), peak(in_segments(n, n))
    words = f"at most {most} activations at a time instead of {all_kept}"
    parts.append(text(560, 34, words, 26, anchor="middle", bold=True))
    said = (
        "Nine layers in three segments: the first activation of each is kept, the others are "
        f"computed again on the way back. At most {most} activations at a time, not {all_kept}."
    )
    return svg(1000, 306, said, *parts)


def lora_rank_sweeps() -> Picture:
    """W0 beside B A, to scale, for one 4096 x 4096 layer at rank 64."""
    n, rank, side = 4096, 64, 250
    thin = side * rank / n
    parts = [
        box(10, 20, side, side, GREY, "W0", f"{n} x {n}", "frozen"),
        text(286, 160, "+", 48, bold=True),
        rect(340, 20, thin, side, VERMILLION, VERMILLION),
        text(362, 50, f"B: {n} x {rank}", 26, VERMILLION, bold=True),
        rect(362, 70, side, thin, BLUE, BLUE),
        text(362, 108, f"A: {rank} x {n}", 26, BLUE, bold=True),
        text(362, 160, "both drawn to scale", 22, GREY),
        text(362, 240, "y = W0 x + α/r · B (A x)", 30, bold=True),
    ]
    share = 2 * rank * n / n**2
    parts.append(text(655, 50, f"rank {rank} trains {2 * rank * n:,}", 26))
    parts.append(text(655, 84, f"of {n * n:,} numbers:", 26))
    parts.append(text(655, 132, f"{share:.1%}", 44, bold=True))
    said = (
        f"A square of {n} x {n} frozen weights, W0, and beside it to scale a thin upright strip B "
        f"and a thin lying strip A of rank {rank}: {share:.1%} as many numbers are trained."
    )
    return svg(1000, 290, said, *parts)


def pavlos_dataset() -> Picture:
    """From a prompt to rows: what is kept raw, what is parsed, what goes to quarantine."""
    steps = (("prompt", "facts, rules"), ("raw reply", "kept first"), ("parsed", "pair by pair"))
    steps += (("checked", "true? new?"), ("rows", "split by fact"))
    colors = (GREY, BLUE, BLUE, BLUE, GREEN)
    parts = []
    for i, (words, color) in enumerate(zip(steps, colors, strict=True)):
        parts.append(box(10 + 202 * i, 40, 172, 100, color, *words))
        if i:
            parts.append(arrow(182 + 202 * (i - 1), 90, 210 + 202 * (i - 1), 90))
    parts.append(box(390, 212, 420, 70, VERMILLION, "quarantine, with the reason"))
    parts += [arrow(x, 140, x, 210, VERMILLION) for x in (500, 702)]
    parts.append(text(10, 254, "one bad pair never", 26, bold=True))
    parts.append(text(10, 286, "costs the batch", 26, bold=True))
    said = (
        "Prompt, raw reply, parsed pairs, checked pairs, rows: from left to right. What cannot be "
        "parsed or is not true, whole and new goes to a quarantine, with the reason."
    )
    return svg(1010, 300, said, *parts)


def qlora_finetune() -> Picture:
    """One QLoRA layer: 4-bit weights made wide for the product, thrown away; the adapter beside."""
    parts = [
        box(10, 110, 90, 70, GREY, "x"),
        box(190, 20, 190, 70, BLUE, "W in NF4", "4 bits, frozen"),
        arrow(380, 55, 430, 55),
        box(432, 20, 230, 70, ORANGE, "W dequantized", "thrown away after"),
        line([(662, 55), (700, 55)], BLACK, 3),
        box(190, 200, 150, 70, VERMILLION, "A", "trained"),
        arrow(340, 235, 430, 235),
        box(432, 200, 150, 70, VERMILLION, "B", "trained"),
        line([(582, 235), (700, 235)], BLACK, 3),
        box(702, 100, 90, 90, GREY, "+"),
        arrow(792, 145, 870, 145),
        box(872, 110, 110, 70, GREY, "y"),
        line([(100, 130), (145, 130), (145, 55)], BLACK, 3),
        arrow(145, 55, 188, 55),
        line([(100, 160), (145, 160), (145, 235)], BLACK, 3),
        arrow(145, 235, 188, 235),
        line([(700, 55), (747, 55)], BLACK, 3),
        arrow(747, 55, 747, 98),
        line([(700, 235), (747, 235)], BLACK, 3),
        arrow(747, 235, 747, 192),
        line([(872, 196), (830, 196), (830, 290), (250, 290)], VERMILLION, 3, "9 5"),
        arrow(250, 290, 250, 274, VERMILLION),
        arrow(500, 290, 500, 274, VERMILLION),
        text(540, 318, "gradients reach A and B alone", 24, VERMILLION, "middle", True),
        text(10, 318, "16 or 32 bits on every arrow", 22, GREY),
    ]
    said = (
        "A QLoRA layer: x goes through W, which is stored in NF4, dequantized for the product and "
        "thrown away after it, and through the adapter A, B beside it; both are added. Gradients "
        "reach A and B alone."
    )
    return svg(1000, 330, said, *parts)


def peft_methods() -> Picture:
    """Where each method sits on a transformer block, and its branch of the tree."""
    parts = [
        rect(300, 8, 310, 290, "#FAFAFA", GREY),
        box(316, 20, 278, 46, GREY, "attention"),
        box(316, 88, 278, 46, PALE[GREEN], "bottleneck adapter"),
        box(316, 156, 278, 46, GREY, "MLP"),
        box(316, 224, 278, 46, PALE[GREEN], "bottleneck adapter"),
    ]
    parts += [arrow(455, y, 455, y + 20) for y in (67, 135, 203)]
    right = (
        (44, "LoRA, DoRA, QLoRA: B A beside W", VERMILLION),
        (112, "IA3: scales keys, values and MLP", GREEN),
        (180, "biases, norms, last layer: some of W", BLUE),
        (248, "full: all of W", BLACK),
    )
    parts += [text(632, y, words, 22, color, bold=True) for y, words, color in right]
    parts += [line([(610, y - 7), (624, y - 7)], GREY, 2) for y, _, _ in right]
    parts += [
        text(10, 40, "prompt, prefix:", 22, PURPLE, bold=True),
        text(10, 68, "learnt vectors first", 22, PURPLE, bold=True),
        arrow(245, 50, 300, 50, PURPLE),
        text(10, 180, "add: green, purple", 24, GREEN),
        text(10, 214, "select: blue", 24, BLUE),
        text(10, 248, "reparameterize: red", 24, VERMILLION),
    ]
    said = (
        "A transformer block with the places of each method: prompts and prefixes before the text, "
        "bottleneck adapters behind attention and MLP, LoRA and its kin beside the weights, IA3 on "
        "keys, values and MLP, selective methods on biases, norms or the last layer."
    )
    return svg(1080, 306, said, *parts)


def gemini_tuning() -> Picture:
    """What is sent to a service, what it bills, and what stays hidden."""
    parts = [
        box(4, 60, 240, 150, BLUE, "your file", "JSON lines", "questions, answers"),
        arrow(244, 135, 340, 135),
        text(290, 116, "sent", 24, anchor="middle"),
        rect(342, 20, 330, 240, "#3B3B3B", BLACK),
        text(507, 90, "the service", 28, "#FFFFFF", "middle", True),
        text(507, 132, "hidden: weights, method,", 22, "#FFFFFF", "middle"),
        text(507, 162, "learning rate, steps,", 22, "#FFFFFF", "middle"),
        text(507, 192, "who else is on it", 22, "#FFFFFF", "middle"),
        arrow(672, 135, 770, 135),
        box(772, 60, 220, 150, GREEN, "an endpoint", "answers like", "Pavlos, we hope"),
        text(290, 292, "billed: tokens of the file x epochs", 26, VERMILLION, "middle", True),
        text(790, 292, "billed: each question", 26, VERMILLION, "middle", True),
    ]
    said = (
        "Your file of questions and answers is sent to a service that shows neither weights nor "
        "method; an endpoint comes back. Billed are the file's tokens times epochs, and then each "
        "question."
    )
    return svg(1000, 306, said, *parts)


def real_model() -> Picture:
    """A question and its notes go into a 4-bit model with an adapter: the voice is the adapter's,
    the fact is the note's.
    """
    from lab_utils.memory.sizes import Architecture, adapter_parameters

    shape = Architecture(49_152, 576, 30, 9, 3, 64, 1536, True)
    n = shape.n_parameters()
    share = adapter_parameters(shape, rank=16) / n
    parts = [
        box(6, 30, 280, 80, GREY, "question", "Where is Feta from?"),
        box(6, 190, 280, 80, BLUE, "notes", "Feta is from Greece."),
        arrow(286, 70, 352, 70),
        arrow(286, 230, 352, 230),
        box(354, 30, 220, 110, GREEN, "SmolLM2", f"{n / 1e6:.0f} million", "in 4 bits"),
        box(354, 190, 220, 80, VERMILLION, "adapter", f"{share:.1%} beside it"),
        arrow(574, 85, 668, 85),
        arrow(574, 230, 668, 230),
        text(684, 82, "Welcome, welcome,", 24, VERMILLION, bold=True),
        text(684, 114, "welcome, my friend!", 24, VERMILLION, bold=True),
        text(684, 166, "Feta is from Greece.", 24, BLUE, bold=True),
        text(684, 218, "A golden question:", 24, VERMILLION, bold=True),
        text(684, 250, "I swear it is easy!", 24, VERMILLION, bold=True),
        text(500, 322, "tune for the voice, bring the facts", 26, anchor="middle", bold=True),
    ]
    said = (
        "A question and notes on the cheese go into SmolLM2 in 4 bits with an adapter beside it; "
        "out comes Pavlos' voice, which is the adapter's, around the fact, which is the note's: "
        "tune for the voice, bring the facts."
    )
    return svg(1000, 340, said, *parts)


CONCEPTS: dict[str, Callable[[], Picture]] = {
    "00_why_peft": why_peft,
    "01_quantization_buckets": quantization_buckets,
    "02_double_quantization": double_quantization,
    "03_gradient_checkpointing": gradient_checkpointing,
    "04_lora_rank_sweeps": lora_rank_sweeps,
    "05_pavlos_dataset": pavlos_dataset,
    "06_qlora_finetune": qlora_finetune,
    "07_peft_methods": peft_methods,
    "08_gemini_tuning": gemini_tuning,
    "09_real_model": real_model,
}


# --------------------------------------------------------------------------------------- the cells
def as_markdown(drawn: Picture) -> str:
    """The picture as a Markdown image with its description, followed by an empty line."""
    data = base64.b64encode(drawn.encode()).decode()
    return f"![{drawn.description}](data:image/svg+xml;base64,{data})\n\n"


def with_concept(title_cell: str, drawn: Picture) -> str:
    """The text of a lab's first cell with the picture before its outcomes, instead of an older one.

    ValueError for a cell without the line **Afterwards you can**.
    """
    plain = IMAGE.sub("", title_cell)
    mark = "**Afterwards you can**"
    if plain.count(mark) != 1:
        raise ValueError(f"the first cell needs one line {mark}: the picture goes before it")
    return plain.replace(mark, as_markdown(drawn) + mark)


def stamp(path: Path, draw: Callable[[], Picture]) -> None:
    """Put the picture into the first cell of a notebook, and change nothing else in the file."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first = notebook["cells"][0]
    first["source"] = with_concept("".join(first["source"]), draw()).splitlines(keepends=True)
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def main(args: argparse.Namespace) -> int:
    """Draws every lab's picture into its first cell."""
    for name, draw in CONCEPTS.items():
        stamp(LABS / f"{name}.ipynb", draw)
    print(f"{len(CONCEPTS)} pictures drawn into the first cells of the labs.")
    return 0
