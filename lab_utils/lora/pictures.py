"""Pictures of lab 04: a picture at rank r, parameters, spectra, capacity, sweeps. Numbers come in,
pictures go out.
"""

from __future__ import annotations

import base64
import html
import io
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from lab_utils.drawing import style
from lab_utils.drawing.style import (
    BLACK,
    BLUE,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
)
from lab_utils.finetuning.pictures import grouped_bars

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
METRICS = {
    "loss": "validation loss",
    "bleu": "BLEU",
    "nist": "NIST",
    "meteor": "METEOR",
    "rougeL": "ROUGE-L",
    "cider": "CIDEr",
}


# ------------------------------------------------------------------------ a matrix at rank r (live)
def grey_png(values: np.ndarray, low: float, high: float) -> str:
    """A matrix as a PNG in a data address: `low` and below is black, `high` and above white."""
    from PIL import Image

    scaled = np.clip((values - low) / ((high - low) or 1) * 255, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(scaled).save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def image(x: float, y: float, width: float, height: float, address: str) -> str:
    """A bitmap in an SVG, its pixels kept sharp."""
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" href="{address}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )


def rank_picture(
    name: str,
    original: np.ndarray,
    approximation: np.ndarray,
    singular_values: Sequence[float],
    rank: int,
    error: float,
) -> Picture:
    """A matrix beside its best rank-r approximation, with the singular values and the price."""
    rows, columns = original.shape
    price, whole = rank * (rows + columns), rows * columns
    ratio = f"{price / whole:.0%} of the {whole:,} of the matrix"
    description = (
        f"{name}, {rows} x {columns}, at rank {rank} of {len(singular_values)}: relative error "
        f"{error:.1%}, {price:,} parameters, {ratio}."
    )
    low, high = float(original.min()), float(original.max())
    title = f"{name}, {rows} x {columns}"
    parts = [
        style.text(0, 26, title, min(22, int(330 / (0.68 * len(title)))), bold=True),
        style.text(340, 26, f"best rank {rank}", 22, BLUE, bold=True),
        image(0, 40, 310, 310, grey_png(original, low, high)),
        image(340, 40, 310, 310, grey_png(approximation, low, high)),
        style.text(690, 70, f"error {error:.1%}", 30, bold=True),
        style.text(
            690,
            112,
            f"{price:,} parameters",
            24,
            VERMILLION if price >= whole else BLACK,
            bold=True,
        ),
        style.text(690, 142, ratio, 18, VERMILLION if price >= whole else GREY),
        style.text(690, 190, f"singular values, {rank} kept", 18, GREY),
    ]
    return style.svg(
        1000, 360, description, *parts, *spectrum_bars(singular_values, rank, 690, 200, 300, 150)
    )


def spectrum_bars(
    singular_values: Sequence[float], rank: int, x: float, y: float, width: float, height: float
) -> list[str]:
    """Singular values as bars, largest first: those kept blue, those lost grey."""
    kept = [value if i < rank else 0 for i, value in enumerate(singular_values)]
    lost = [0 if i < rank else value for i, value in enumerate(singular_values)]
    top, place = max(singular_values), x + width * min(rank / len(singular_values), 1)
    return [
        style.bars(kept, x, y, width, height, BLUE, top),
        style.bars(lost, x, y, width, height, "#B0B0B0", top),
        style.line([(x, y + height), (x + width, y + height)], GREY),
        style.line([(place, y), (place, y + height)], BLACK, 1.5, "4 4"),
    ]


# --------------------------------------------------------------------- parameters (live and static)
def adapter_picture(
    model: str, rank: int, sizes: Mapping[str, int], full: int, room: int = 0
) -> Picture:
    """Parameters to train for each choice of layers as squares to scale, inside that of `full`, or
    around it where a rank is absurdly high.

    The picture is as high as for `room` choices, if there are fewer: a live one then keeps its
    height.
    """
    said = "; ".join(f"{name} {size:,} ({size / full:.2%})" for name, size in sizes.items())
    parts = [style.text(0, 26, f"{model}, rank {rank}", 24, bold=True)]
    height = 76 + 56 * max(len(sizes) + 1, room + 1)
    left, bottom, most = 640, height - 44, max(full, *sizes.values())
    colors = {**dict(zip(sizes, PALETTE)), "the weights themselves": GREY}
    everything = {**sizes, "the weights themselves": full}
    for name, size in sorted(everything.items(), key=lambda item: -item[1]):
        side = (bottom - 10) * math.sqrt(size / most)
        parts.append(style.rect(left, bottom - side, side, side, colors[name]))
    for i, (name, size) in enumerate(everything.items()):
        y = 46 + 56 * i
        parts += [
            style.rect(0, y + 10, 24, 24, colors[name]),
            style.text(38, y + 30, name, 20),
            style.text(300, y + 30, f"{size:,}   {size / full:.2%}", 20, bold=True),
        ]
    parts.append(style.text(left, bottom + 28, "areas to scale, corner on corner", 18, GREY))
    return style.svg(
        1000, height, f"{model}, rank {rank}: {said}; their weights have {full:,}.", *parts
    )


@style.styled
def parameter_figure(counts: Mapping[str, Mapping[int, float]], full: float, model: str) -> Picture:
    """Parameters over the rank, a line for each way of counting, and the whole model as a limit."""
    figure, axes = style.new_figure()
    for (name, line), marker, dash in zip(
        counts.items(), MARKERS, ("-", "--", ":", "-."), strict=False
    ):
        axes.plot(list(line), list(line.values()), marker + dash, label=name)
    axes.axhline(full, color=BLACK, linewidth=2)
    axes.annotate(
        "all parameters",
        (next(iter(next(iter(counts.values())))), full),
        (0, -20),
        textcoords="offset points",
    )
    axes.set(xscale="log", yscale="log", xlabel="rank", ylabel="parameters to train", title=model)
    ranks = list(next(iter(counts.values())))
    axes.set_xticks(ranks, [str(rank) for rank in ranks])
    axes.minorticks_off()
    axes.legend()
    said = "; ".join(
        f"{name} from {line[ranks[0]]:,.0f} to {line[ranks[-1]]:,.0f}"
        for name, line in counts.items()
    )
    return style.described(
        figure,
        f"Adapter parameters of {model}, rank {ranks[0]} to {ranks[-1]}: {said}; all: {full:,.0f}.",
    )


# ------------------------------------------------------------------------------------ a real update
@style.styled
def update_figure(
    kept: Mapping[str, Sequence[float]], losses: Mapping[int, float], before: float
) -> Picture:
    """Left: the share of ||dW||^2 that each rank keeps. Right: the loss with dW cut to a rank.

    `losses` maps a rank to the held-out loss; `before` is the loss without any update.
    """
    figure, (left, right) = style.new_figure(1, 2, width=13, height=4.8)
    dashes = ("-", "--", ":", "-.") * 2
    for (name, shares), color, dash in zip(kept.items(), PALETTE, dashes, strict=False):
        left.plot(range(1, len(shares) + 1), shares, dash, color=color, label=name)
    left.set(
        xscale="log",
        xlabel="rank",
        ylabel="share of ||ΔW||² kept",
        ylim=(0, 1.02),
        title="how much of the update",
    )
    left.legend(fontsize=13)
    right.plot(list(losses), list(losses.values()), "o-", color=VERMILLION)
    right.axhline(before, color=GREY, linestyle="--")
    right.annotate(
        "no update",
        (max(losses), before),
        (0, 6),
        textcoords="offset points",
        ha="right",
        color=GREY,
    )
    right.set(
        xscale="log",
        xlabel="rank kept in every layer",
        ylabel="held-out loss",
        title="what it is worth",
    )
    for axes, ranks in ((left, [1, 4, 16, 64, 256]), (right, list(losses))):
        axes.set_xticks(ranks, [str(rank) for rank in ranks])
        axes.minorticks_off()
    shares = "; ".join(
        f"{name} {values[min(7, len(values) - 1)]:.0%}" for name, values in kept.items()
    )
    said = ", ".join(f"{rank}: {loss:.3f}" for rank, loss in losses.items())
    return style.described(
        figure,
        f"Rank 8 keeps of the squared update: {shares}. Held-out loss with the update cut to a "
        f"rank, {before:.3f} without it: {said}.",
    )


# ---------------------------------------------------------------------------------------- capacity
@style.styled
def capacity_figure(
    teacher: Mapping[int, tuple[float, float]],
    pairs: Mapping[int, Mapping[int, float]],
    teacher_rank: int,
) -> Picture:
    """Left: error of the learnt update over the rank, with its limit. Right: pairs learnt by heart.

    `teacher` maps a rank to (learnt error, smallest possible error); `pairs` maps a number of pairs
    to {rank: share}.
    """
    figure, (left, right) = style.new_figure(1, 2, width=13, height=4.8)
    left.plot(
        list(teacher),
        [floor for _, floor in teacher.values()],
        "-",
        color=BLACK,
        label="Eckart-Young limit",
    )
    left.plot(
        list(teacher),
        [error for error, _ in teacher.values()],
        "o",
        color=VERMILLION,
        label="LoRA, trained",
    )
    left.axvline(teacher_rank, color=GREY, linestyle=":")
    left.set(ylabel="relative error of the update", title=f"a teacher of rank {teacher_rank}")
    left.legend()
    for (n, shares), color, marker in zip(pairs.items(), PALETTE, MARKERS, strict=False):
        right.plot(
            list(shares), list(shares.values()), marker + "-", color=color, label=f"{n} pairs"
        )
    right.set(ylabel="share learnt by heart", title="random pairs")
    right.legend()
    for axes, ranks in ((left, list(teacher)), (right, list(next(iter(pairs.values()))))):
        axes.set(xscale="log", xlabel="rank")
        axes.set_xticks(ranks, [str(rank) for rank in ranks])
        axes.minorticks_off()
    errors = ", ".join(f"{rank}: {error:.3f}" for rank, (error, _) in teacher.items())
    said = "; ".join(
        f"{n} pairs {', '.join(f'{r}: {s:.0%}' for r, s in shares.items())}"
        for n, shares in pairs.items()
    )
    return style.described(
        figure,
        f"Error by rank for a teacher of rank {teacher_rank}: {errors}. Learnt by heart: {said}.",
    )


# ---------------------------------------------------------------------------------------- sweeps
@style.styled
def tuning_figure(tuning: Mapping[str, Mapping[str, float | None]]) -> Picture:
    """Loss on tuning questions over the learning rate, a line for each candidate.

    Runs that diverged are left out.
    """
    figure, axes = style.new_figure()
    best = []
    for (name, losses), color, marker in zip(tuning.items(), PALETTE, MARKERS, strict=False):
        points = {float(rate): loss for rate, loss in losses.items() if loss is not None}
        axes.plot(
            list(points), list(points.values()), marker + "-", color=color, label=name, linewidth=2
        )
        best.append(f"{name} {min(points, key=points.get):g}")
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="tuning loss")
    rates = sorted({float(rate) for losses in tuning.values() for rate in losses})
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axes.legend(fontsize=13)
    return style.described(
        figure, f"Loss on the tuning questions over the learning rate; the best: {', '.join(best)}."
    )


@style.styled
def rank_figure(rows: Sequence[Mapping], title: str) -> Picture:
    """Six scores over the rank, a small picture each.

    A row has "rank" and the scores, or their "mean" and "spread".
    """
    figure, grid = style.new_figure(2, 3, width=14, height=7)
    ranks, said = [row["rank"] for row in rows], []
    for axes, (metric, name) in zip(grid.flat, METRICS.items(), strict=True):
        values = [row.get("mean", row)[metric] for row in rows]
        spread = [row.get("spread", {}).get(metric, 0.0) for row in rows]
        axes.errorbar(
            ranks,
            values,
            yerr=spread if any(spread) else None,
            fmt="o-",
            color=BLUE,
            ecolor=BLACK,
            capsize=5,
            elinewidth=2,
        )
        axes.set(xscale="log", title=name)
        axes.set_xticks(ranks[::2], [str(rank) for rank in ranks[::2]])
        axes.minorticks_off()
        best = (min if metric == "loss" else max)(values)
        said.append(
            f"{name} {min(values):.4g} to {max(values):.4g}, best at rank "
            f"{ranks[values.index(best)]}"
        )
    for axes in grid[1]:
        axes.set_xlabel("rank")
    figure.suptitle(title, weight="bold")
    return style.described(figure, f"{title}, by rank: {'; '.join(said)}.")


@style.styled
def placement_figure(rows: Sequence[Mapping]) -> Picture:
    """Loss and facts for each choice of layers at equal parameters: seeds dots, means lines."""
    figure, grid = style.new_figure(1, 2, width=13, height=4, sharey=True)
    names = [f"{row['group']}, r = {row['rank']}" for row in rows]
    for axes, metric, title in zip(
        grid, ("loss", "facts"), ("validation loss", "facts kept"), strict=True
    ):
        for i, row in enumerate(rows):
            axes.plot(
                row["values"][metric], [i] * len(row["values"][metric]), "o", color=PALETTE[i]
            )
            axes.plot(row["mean"][metric], i, "|", color=BLACK, markersize=30, markeredgewidth=3)
        axes.set(xlabel=title)
    grid[0].set_yticks(range(len(rows)), names)
    grid[0].invert_yaxis()
    grid[0].margins(y=0.2)
    said = "; ".join(
        f"{name} {row['mean']['loss']:.4f} and {row['mean']['facts']:.1%}"
        for name, row in zip(names, rows)
    )
    return style.described(
        figure, f"Validation loss and facts kept, adapters of equal size: {said}."
    )


@style.styled
def table3_figure(rows: Sequence[Mapping], metric: str = "bleu") -> Picture:
    """One score of Hu et al.'s table 3 over the parameters trained; LoRA is a star.

    The interval is the paper's own.
    """
    figure, grid = style.new_figure(1, 2, width=13, height=4.8, sharey=True)
    said = []
    for axes, model in zip(grid, ("GPT-2 M", "GPT-2 L"), strict=True):
        for row in (row for row in rows if row["model"] == model):
            lora = row["method"] == "LoRA"
            axes.errorbar(
                row["params_millions"],
                row[metric],
                yerr=row.get("confidence", {}).get(metric),
                capsize=5,
                fmt="*" if lora else "o",
                markersize=18 if lora else 9,
                color=VERMILLION if lora else BLUE,
            )
            small = row["params_millions"] < 100  # the label of full fine-tuning stands on its left
            axes.annotate(
                row["method"].replace("^", " "),
                (row["params_millions"], row[metric]),
                fontsize=14,
                xytext=(12 if small else -8, 8 if lora else -14),
                textcoords="offset points",
                ha="left" if small else "right",
            )
            said.append(f"{model} {row['method']} {row['params_millions']:g} M {row[metric]:g}")
        axes.set(
            xscale="log", xlabel="parameters trained (millions)", title=model, xlim=(0.2, 2000)
        )
    grid[0].set_ylabel(METRICS[metric])
    return style.described(
        figure, f"{METRICS[metric]} over parameters trained, Hu et al., table 3: {'; '.join(said)}."
    )


def first_step_picture(gains: Mapping[str, Mapping[int, float]]) -> Picture:
    """How far the first step goes under each scaling rule, over the rank.

    `gains` are multiples of rank 1.
    """
    ranks = list(next(iter(gains.values())))
    parts, said = [], []
    for i, (name, line) in enumerate(gains.items()):
        x, color = 10 + 335 * i, (BLUE, GREEN, VERMILLION)[i % 3]
        parts += [
            style.text(x, 26, name, 22, color, bold=True),
            style.line([(x, 250), (x + 300, 250)], GREY),
        ]
        for j, rank in enumerate(ranks):
            place, height = x + 60 * j, style.placed(math.log2(max(line[rank], 0.5)), -1, 7, 4, 180)
            parts += [
                style.rect(place, 250 - height, 46, height, color),
                style.text(
                    place + 23, 242 - height, f"{line[rank]:.1f}", 18, anchor="middle", bold=True
                ),
                style.text(place + 23, 274, rank, 18, GREY, "middle"),
            ]
        said.append(
            f"{name}: " + ", ".join(f"{gain:.1f} at rank {rank}" for rank, gain in line.items())
        )
    parts.append(
        style.text(
            10,
            306,
            "rank; how far the first step goes, in multiples of rank 1 (logarithmic)",
            18,
            GREY,
        )
    )
    return style.svg(1000, 316, f"First step by rank. {'; '.join(said)}.", *parts)


# of the methods that are told apart
LOOKS = (
    (BLUE, DASHES[0]),
    (VERMILLION, DASHES[1]),
    (GREEN, DASHES[2]),
)
VOICES = {"base": GREY, "pavlos": BLUE, "auctioneer": VERMILLION, "terse": GREEN, "blend": PURPLE}
PALE = "#D5D5D5"


# ---------------------------------------------------------------------------------------- five axes
def axes_picture(shares: Mapping[str, Mapping[str, float]], chosen: Sequence[str]) -> Picture:
    """Parallel coordinates, 1 (best) on top; up to three chosen methods stand out.

    `shares` is {method: {axis: 0 to 1}}; the methods that are not chosen stay behind, thin and
    grey.
    """
    width, top, bottom, left, right = 1060, 70, 354, 200, 960
    axes = list(next(iter(shares.values())))
    chosen = list(dict.fromkeys(chosen))[: len(LOOKS)]
    across = {axis: left + i * (right - left) / (len(axes) - 1) for i, axis in enumerate(axes)}

    def path(method: str) -> list[tuple[float, float]]:
        return [
            (across[axis], style.placed(shares[method][axis], 0, 1, bottom, top)) for axis in axes
        ]

    parts = [style.line([(x, top), (x, bottom)], style.BLACK, 2) for x in across.values()]
    parts += [
        style.text(x, top - 22, axis, 21, anchor="middle", bold=True) for axis, x in across.items()
    ]
    parts += [
        style.text(left - 14, top + 8, "best", 20, anchor="end"),
        style.text(left - 14, bottom, "0", 20, anchor="end"),
    ]
    parts += [style.line(path(method), PALE, 3) for method in shares if method not in chosen]
    for i, (method, (colour, dash)) in enumerate(zip(chosen, LOOKS)):
        parts += [
            style.line(path(method), colour, 6, dash),
            *(style.circle(x, y, 8, colour) for x, y in path(method)),
        ]
        parts += _legend_row(method, shares[method], across, bottom + 52 + 44 * i, colour, dash)
    told = "; ".join(
        f"{m}: " + ", ".join(f"{axis} {shares[m][axis]:.2f}" for axis in axes) for m in chosen
    )
    return style.svg(
        width,
        bottom + 30 + 44 * len(LOOKS),
        f"{len(shares)} methods on five axes, 1 is best. {told}.",
        *parts,
    )


def _legend_row(
    method: str,
    values: Mapping[str, float],
    across: Mapping[str, float],
    y: float,
    colour: str,
    dash: str,
) -> list[str]:
    """The method's name beside its kind of line, and its number under every axis."""
    numbers = [
        style.text(x, y, f"{values[axis]:.2f}", 21, colour, anchor="middle", bold=True)
        for axis, x in across.items()
    ]
    return [
        style.line([(0, y - 24), (120, y - 24)], colour, 5, dash),
        style.text(0, y, method, 20, colour, bold=True),
        *numbers,
    ]


# ----------------------------------------------------------------------------------- bars and lines
@style.styled
def rouge_picture(scores: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Picture:
    """The lecture's chart: for each ROUGE one bar for every model, its value above it."""
    figure = grouped_bars(
        scores, names, [(GREY, ""), (VERMILLION, "//"), (BLUE, ".."), (GREEN, "xx")]
    )
    figure.axes[0].set_xticks(
        figure.axes[0].get_xticks(), [name.replace("rouge", "ROUGE-") for name in names]
    )
    figure.axes[0].set(ylim=(0, 1.1), ylabel="F-measure")
    told = "; ".join(
        f"{model}: " + ", ".join(f"{name} {v[name]:.2f}" for name in names)
        for model, v in scores.items()
    )
    return style.described(figure, f"ROUGE against Pavlos' own answers. {told}.")


@style.styled
def bars_picture(
    values: Mapping[str, Mapping[str, float | None]],
    label: str,
    number: str = "{:.2f}",
    mark: tuple[float, str] | None = None,
) -> Picture:
    """Lying bars of {series: {name: value}}, a group for each name; None leaves a bar out.

    `mark` is (value, words) of an upright line to compare with.
    """
    names = list(next(iter(values.values())))
    figure, ax = style.new_figure(
        width=11, height=1.3 + 0.42 * len(names) * max(1, 0.8 * len(values))
    )
    thick = 0.8 / len(values)
    for k, ((series, row), (colour, hatch)) in enumerate(
        zip(values.items(), [(SKY, ""), (BLUE, "//"), (ORANGE, "..")])
    ):
        shown = [
            (i + k * thick, row[name]) for i, name in enumerate(names) if row[name] is not None
        ]
        bars = ax.barh(
            [y for y, _ in shown],
            [x for _, x in shown],
            thick * 0.92,
            label=series,
            color=colour,
            hatch=hatch,
            edgecolor="white",
        )
        ax.bar_label(
            bars,
            labels=[number.format(x) for _, x in shown],
            padding=5,
            fontsize=14,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    ax.set_yticks([i + 0.4 - thick / 2 for i in range(len(names))], names)
    ax.set(xlabel=label)
    ax.margins(x=0.14)
    ax.invert_yaxis()
    if mark:
        ax.axvline(mark[0], color=style.BLACK, linewidth=2, linestyle="--", label=mark[1])
    if len(values) > 1 or mark:
        figure.legend(ncols=len(values) + 1, loc="outside upper center")
    told = "; ".join(
        f"{series}: "
        + ", ".join(f"{name} {number.format(x)}" for name, x in row.items() if x is not None)
        for series, row in values.items()
    )
    return style.described(figure, f"{label}. {told}.")


SIDES = {
    "right": (14, -6, "left"),
    "left": (-14, -6, "right"),
    "above": (0, 14, "center"),
    "below": (0, -27, "center"),
}


def free_side(
    x: float, y: float, width: float, taken: list[tuple[float, float, float, float]]
) -> str:
    """The first side of a point (x, y) where its label covers the fewest boxes, in pixels.

    Boxes are (left, right, bottom, top); the label's own is added to `taken`.
    """

    def box(side: str) -> tuple[float, float, float, float]:
        dx, dy, align = SIDES[side]
        start = x + dx - {"left": 0, "right": width, "center": width / 2}[align]
        return start, start + width, y + dy, y + dy + 18

    def covered(side: str) -> int:
        a, b, c, d = box(side)
        return sum(
            a < right and left < b and c < top and bottom < d for left, right, bottom, top in taken
        )

    best = min(SIDES, key=covered)
    taken.append(box(best))
    return best


@style.styled
def scatter_picture(
    points: Mapping[str, tuple[float, float]], x_label: str, y_label: str
) -> Picture:
    """Named points {name: (x above 0, y)}, x on a log scale, labels off each other if possible."""
    figure, ax = style.new_figure(width=11, height=5.2)
    ax.plot(
        [x for x, _ in points.values()],
        [y for _, y in points.values()],
        "o",
        color=BLUE,
        markersize=13,
    )
    ax.set(xscale="log", xlabel=x_label, ylabel=y_label)
    ax.margins(x=0.12, y=0.15)
    figure.draw_without_rendering()  # now pixels are known
    places = {
        name: ax.transData.transform(place) * 72 / figure.dpi for name, place in points.items()
    }
    taken = [(x - 8, x + 8, y - 8, y + 8) for x, y in places.values()]
    for name, (x, y) in places.items():
        dx, dy, align = SIDES[free_side(x, y, 9.0 * len(name), taken)]
        ax.annotate(name, points[name], xytext=(dx, dy), textcoords="offset points", ha=align)
    told = ", ".join(f"{name} ({x:,.0f}, {y:.2f})" for name, (x, y) in points.items())
    return style.described(figure, f"{y_label} over {x_label}: {told}.")


@style.styled
def lines_picture(
    x: Sequence[float], series: Mapping[str, Sequence[float]], x_label: str, y_label: str
) -> Picture:
    """Lines over a common x, told apart by colour, dash and marker, each named at its right end."""
    figure, ax = style.new_figure(width=11, height=4.6)
    looks = zip(
        [BLUE, VERMILLION, GREEN, ORANGE, PURPLE], ["-", "--", ":", "-.", (0, (5, 1))], "osD^v"
    )
    for (name, y), (colour, dash, marker) in zip(series.items(), looks):
        ax.plot(x, y, color=colour, linestyle=dash, marker=marker, label=name)
    ax.set(xlabel=x_label, ylabel=y_label, ylim=(-0.04, 1.06))
    ax.set_xticks(list(x))
    figure.legend(ncols=len(series), loc="outside upper center")
    told = "; ".join(
        f"{name}: " + ", ".join(f"{a:g} gives {b:.2f}" for a, b in zip(x, y))
        for name, y in series.items()
    )
    return style.described(figure, f"{y_label} over {x_label}. {told}.")


# ---------------------------------------------------------------------------------------- voices
def disk_picture(base: int, adapters: Mapping[str, int]) -> Picture:
    """Two rows of boxes to scale: full copies for each task, one base and its adapters."""
    width, n = 1060, len(adapters)
    scale = (width - 20) / (base * n)
    small, x = sum(adapters.values()), 10.0
    parts = [style.text(10, 32, f"{n} full copies: {base * n / 1e6:.1f} MB", 24, bold=True)]
    for name in adapters:
        parts += [
            style.rect(x, 44, base * scale - 6, 64, SKY, style.BLACK),
            style.text(x + 12, 84, f"model {name}", 22),
        ]
        x += base * scale
    parts += [
        style.text(
            10, 160, f"one base and {n} adapters: {(base + small) / 1e6:.1f} MB", 24, bold=True
        ),
        style.rect(10, 172, base * scale - 6, 64, SKY, style.BLACK),
        style.text(22, 212, "base", 22),
    ]
    x = 10 + base * scale
    for size, colour in zip(adapters.values(), (BLUE, VERMILLION, GREEN, ORANGE)):
        parts.append(style.rect(x, 172, size * scale, 64, colour))
        x += size * scale + 3
    parts.append(
        style.text(
            x + 10, 212, f"{n} adapters of {small / n / 1e6:.2f} MB: " + ", ".join(adapters), 20
        )
    )
    said = (
        f"{n} full copies take {base * n / 1e6:.1f} MB; one base and {n} adapters take "
        f"{(base + small) / 1e6:.1f} MB, the adapters {small / 1e6:.2f} MB of it."
    )
    return style.svg(width, 250, said, *parts)


def voice_html(question: str, voice: str, answer: str) -> str:
    """A question answered in one voice, large enough for a hall, announced to screen readers."""
    return (
        '<div role="status" aria-live="polite" style="font-size:22px;border-left:10px solid '
        f'{VOICES.get(voice, GREY)};padding:4px 16px"><p style="line-height:1.4"><b>Question:</b> '
        f'{html.escape(question)}</p><p style="line-height:1.4"><b>{html.escape(voice)}:</b> '
        f"{html.escape(answer)}</p></div>"
    )


def voices_picture(answers: Mapping[str, Mapping[str, str]]) -> Picture:
    """{question: {voice: answer}} as one still picture of a chat with a voice selector."""
    y, parts = 12, []
    for question, said in answers.items():
        parts.append(style.text(16, y + 28, question, 22, bold=True))
        y += 44
        for voice, answer in said.items():
            lines = textwrap.wrap(answer, 78) or [""]
            parts += [
                style.rect(16, y, 8, 28 * len(lines), VOICES.get(voice, GREY)),
                style.text(34, y + 21, voice, 20, VOICES.get(voice, GREY), bold=True),
            ]
            parts += [style.text(170, y + 21 + 28 * i, line, 20) for i, line in enumerate(lines)]
            y += 28 * len(lines) + 8
        y += 14
    told = " ".join(
        f"{question} " + " ".join(f"{voice}: {answer}" for voice, answer in said.items())
        for question, said in answers.items()
    )
    return style.svg(1060, y, told, *parts)
