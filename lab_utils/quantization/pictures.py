"""Pictures of lab 01: bits, buckets, errors. Numbers come in, pictures go out."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lab_utils.drawing import style
from lab_utils.drawing.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    SKY,
    VERMILLION,
    YELLOW,
    Picture,
)
from lab_utils.quantization.buckets import (
    CodebookResult,
    blockwise_absmax,
    join_blocks,
    split_into_blocks,
)
from lab_utils.quantization.double import TradeOff
from lab_utils.quantization.floats import StoredNumber

ROLES = (("sign", ORANGE), ("exponent", SKY), ("fraction", GREEN))


# ------------------------------------------------------------------------------ bit explorer (live)
def bits_picture(value: float, numbers: Sequence[StoredNumber]) -> Picture:
    """A row for each format: its bits as boxes, the value they stand for, what changed."""
    description = f"{value:g} in {len(numbers)} formats: " + "; ".join(
        f"{n.format_name} stores {n.stored:g} ({n.note})" for n in numbers
    )
    parts = [legend(140, 26)]
    for i, stored in enumerate(numbers):
        parts.append(bits_row(stored, 50 + 62 * i))
    return style.svg(1060, 60 + 62 * len(numbers), description, *parts)


def legend(x: float, y: float) -> str:
    """The meaning of the colors, as words."""
    roles = [*ROLES, ("place in the list of 16", style.YELLOW)]
    parts = []
    for i, (role, color) in enumerate(roles):
        parts += [
            style.rect(x + 140 * i, y - 17, 20, 20, color, BLACK),
            style.text(x + 28 + 140 * i, y, role),
        ]
    return "".join(parts)


def bits_row(stored: StoredNumber, y: float) -> str:
    """One format: name, boxes with 0 and 1, stored value, error."""
    groups = stored.pattern.split()
    colors = [color for _, color in ROLES] if len(groups) == 3 else [style.YELLOW]
    parts, x = [style.text(0, y + 30, stored.format_name, 20, bold=True)], 130
    for bits, color in zip(groups, colors, strict=True):
        for bit in bits:
            parts += [
                style.rect(x, y + 10, 19, 28, color, BLACK),
                style.text(x + 9.5, y + 31, bit, 18, anchor="middle"),
            ]
            x += 19
        x += 6
    off_by = (
        f", off by {style.number(abs(stored.error), 2)}"
        if stored.note in ("rounded", "underflow")
        else ""
    )
    parts.append(style.text(760, y + 22, f"{stored.stored:.9g}", 20, bold=True))
    parts.append(style.text(760, y + 44, stored.note + off_by, 18, GREY))
    return "".join(parts)


# ------------------------------------------------------------------------------- bucket demo (live)
def histogram(values: Tensor, low: float, high: float, count: int = 60) -> list[float]:
    """How many values fall into each of `count` equal steps; outliers count at the ends."""
    return torch.histc(values.float().clamp(low, high), bins=count, min=low, max=high).tolist()


def scaled_to_blocks(x: Tensor, block_size: int | None = None) -> Tensor:
    """Each value over the absmax of its block, so that it meets the codebook.

    None: all of x is one block.
    """
    block_size = block_size or x.numel()
    absmax = blockwise_absmax(x, block_size).clamp(min=1e-38)  # a block of zeros stays zero
    return join_blocks(split_into_blocks(x, block_size) / absmax[:, None], like=x).reshape(-1)


def buckets_picture(
    x: Tensor, results: Sequence[CodebookResult], title: str, block_size: int | None = None
) -> Picture:
    """Left: values of x in their blocks, and each codebook. Right: how its error is spread."""
    best = min(results, key=lambda result: result.rmse)
    description = (
        f"{title}. "
        + ", ".join(f"{r.name}: RMSE {r.rmse:.4f}" for r in results)
        + f". Best: {best.name}."
    )
    widest = max(3 * result.rmse for result in results) or 1.0
    parts = [
        style.text(150, 24, title, 22, bold=True),
        style.text(700, 24, "error of each value", 22, bold=True),
        style.bars(histogram(scaled_to_blocks(x, block_size), -1, 1, 81), 150, 40, 490, 130, GREY),
        style.line([(150, 170), (640, 170)]),
    ]
    for i, result in enumerate(results):
        parts.append(buckets_row(result, PALETTE[i], 200 + 110 * i, widest, result is best))
    parts += [
        style.text(150, 548, "-absmax", 18, GREY),
        style.text(640, 548, "+absmax", 18, GREY, "end"),
    ]
    parts += [
        style.text(395, 548, "0", 18, GREY, "middle"),
        style.text(830, 548, "0", 18, GREY, "middle"),
    ]
    return style.svg(1000, 556, description, *parts)


def buckets_row(result: CodebookResult, color: str, y: float, widest: float, best: bool) -> str:
    """One codebook: its values as ticks, as high as their buckets are full; its errors."""
    usage = result.usage.tolist()
    fullest = max(usage) or 1.0
    parts = [
        style.text(0, y + 50, result.name, 20, color, bold=True),
        style.line([(150, y + 76), (640, y + 76)]),
    ]
    ticks = [
        (style.placed(value, -1, 1, 150, 640), y + 76, y + 70 - 60 * share / fullest)
        for value, share in zip(result.codebook.tolist(), usage, strict=True)
    ]
    parts.append(style.uprights(ticks, color, 5))
    parts.append(
        style.bars(histogram(result.error, -widest, widest, 50), 700, y + 6, 260, 70, color)
    )
    label = f"RMSE {result.rmse:.4f}" + ("  best" if best else "")
    parts.append(style.text(700, y + 98, label, 22, BLACK, bold=best))
    return "".join(parts)


# ----------------------------------------------------------------------------------- static figures
def bits_figure(value: float, numbers: Sequence[StoredNumber]) -> Picture:
    """The static twin of the bit explorer."""
    return style.as_image(bits_picture(value, numbers))


@style.styled
def buckets_figure(
    x: Tensor, results: Sequence[CodebookResult], title: str, block_size: int | None = None
) -> Picture:
    """The still version of the bucket demo: values in blocks, codebooks, errors."""
    figure, axes = style.new_figure(
        len(results), 2, width=12, height=2.4 * len(results), sharex="col"
    )
    scaled = scaled_to_blocks(x, block_size).numpy()
    for (left, right), result, color in zip(axes, results, PALETTE, strict=False):
        left.hist(scaled, bins=81, range=(-1, 1), color="#C8C8C8")
        left.vlines(result.codebook.tolist(), 0, left.get_ylim()[1], color=color, linewidth=2)
        left.set_ylabel(result.name)
        right.hist(result.error.numpy(), bins=60, color=color)
        right.set_title(f"RMSE {result.rmse:.4f}", loc="right")
        left.set_yticks([]), right.set_yticks([])
    axes[0][0].set_title(title)
    axes[-1][0].set_xlabel("value / absmax of its block")
    axes[-1][1].set_xlabel("error")
    rmse = ", ".join(f"{result.name} {result.rmse:.4f}" for result in results)
    return style.described(
        figure,
        f"{title}: buckets of each codebook over the values, and error histograms; RMSE {rmse}.",
    )


@style.styled
def rounding_figure(x: Tensor, restored: Tensor, bound: float) -> Picture:
    """Each value's dequantization error beside the half-bucket bound."""
    figure, axes = style.new_figure()
    error = (restored - x).tolist()
    axes.bar([f"{value:g}" for value in x.tolist()], error, color=BLUE)
    for side in (-bound, bound):
        axes.axhline(side, color=VERMILLION, linestyle="--")
    axes.text(len(error) - 0.5, bound, "half a bucket", ha="right", va="bottom", color=VERMILLION)
    axes.set(xlabel="value", ylabel="restored - value", ylim=(-1.5 * bound, 1.5 * bound))
    largest = max(map(abs, error))
    return style.described(
        figure, f"Errors of {len(error)} values: at most {largest:.4f}, the bound is {bound:.4f}."
    )


@style.styled
def usage_figure(codebook: Tensor, usage: Tensor) -> Picture:
    """How full each bucket is, beside the 1/16 that 'equally full' would mean."""
    figure, axes = style.new_figure()
    axes.bar(range(len(usage)), (100 * usage).tolist(), color=BLUE)
    axes.axhline(100 / len(usage), color=VERMILLION, linestyle="--", label="equally full")
    axes.set_xticks(range(len(usage)), [f"{value:.2f}" for value in codebook.tolist()], rotation=60)
    axes.set(xlabel="bucket", ylabel="% of the values")
    axes.legend()
    ratio = (usage.max() / usage.min()).item()
    return style.described(
        figure,
        f"Share of values in {len(usage)} buckets: the fullest holds {ratio:.1f} x the emptiest.",
    )


@style.styled
def normal_float_figure(codebook: Tensor) -> Picture:
    """The normal curve, cut at the codebook's values: thin slices where weights are many."""
    figure, axes = style.new_figure()
    outermost = torch.special.ndtri(torch.tensor(0.9677083)).item()
    z = torch.linspace(-2.6, 2.6, 400)
    axes.plot(z.tolist(), torch.exp(-z.square() / 2).div(2.5066).tolist(), color=BLACK)
    places = codebook * outermost
    axes.vlines(
        places.tolist(),
        0,
        torch.exp(-places.square() / 2).div(2.5066).tolist(),
        color=BLUE,
        linewidth=3,
    )
    axes.set(xlabel="weight, in standard deviations", ylabel="density", ylim=(0, None))
    return style.described(
        figure,
        f"Normal curve with the {len(codebook)} values of the codebook: densest around zero.",
    )


@style.styled
def rmse_figure(table: dict[str, dict[str, float]]) -> Picture:
    """Grouped bars: each format's RMSE relative to the best, for each distribution.

    Distributions are the outer keys.
    """
    figure, axes = style.new_figure(width=12)
    formats = list(next(iter(table.values())))
    width = 0.8 / len(formats)
    for i, name in enumerate(formats):
        heights = [row[name] / min(row.values()) for row in table.values()]
        axes.bar(
            [j + i * width for j in range(len(table))],
            heights,
            width * 0.9,
            label=name,
            color=PALETTE[i],
        )
    axes.set_xticks([j + width * (len(formats) - 1) / 2 for j in range(len(table))], list(table))
    axes.set(ylabel="RMSE / best RMSE")
    axes.legend(ncols=len(formats), loc="upper center", bbox_to_anchor=(0.5, 1.2))
    winners = ", ".join(f"{name}: {min(row, key=lambda n: row[n])}" for name, row in table.items())
    return style.described(
        figure, f"RMSE of each format relative to the best. Winner on {winners}."
    )


# ----------------------------------------------------------------------------------- outlier (live)
def outlier_picture(x: Tensor, one_scale: float, in_blocks: float, block_size: int) -> Picture:
    """Weights as bars, the outlier first, and the others' RMSE with one scale and in blocks."""
    outlier = x[0].item()
    ratio = one_scale / in_blocks if in_blocks else math.inf
    description = (
        f"Outlier {outlier:g}: the other weights have RMSE {one_scale:.4f} with one scale, "
        f"{in_blocks:.4f} in blocks of {block_size}, {ratio:.1f} times less."
    )
    parts = [style.text(0, 24, f"outlier {outlier:g} among {x.numel()} weights", 22, bold=True)]
    parts += [weight_bars(x, 0, 40, 1000, 200, block_size)]
    parts += rmse_bar("one scale for all", one_scale, VERMILLION, 290)
    parts += rmse_bar(f"blocks of {block_size}", in_blocks, BLUE, 345)
    parts.append(
        style.text(
            0, 415, f"RMSE of the other weights: {ratio:.1f} x smaller in blocks", 22, bold=True
        )
    )
    return style.svg(1000, 430, description, *parts)


def weight_bars(
    x: Tensor, left: float, top: float, width: float, height: float, block_size: int
) -> str:
    """Values as bars from a middle line; the outlier's block in vermillion, block ends dashed."""
    values, middle = x.tolist(), top + height / 2
    largest, step = max(map(abs, values)) or 1.0, width / len(values)
    ends = [
        middle - math.copysign(max(abs(value) / largest * height / 2, 1), value) for value in values
    ]
    bars = [(left + (i + 0.4) * step, middle, end) for i, end in enumerate(ends)]
    # wide enough for the back row
    parts = [
        style.line([(left, middle), (left + width, middle)], GREY),
        style.uprights(bars[block_size:], BLUE, step * 0.8),
        style.uprights(bars[1:block_size], ORANGE, step * 0.8),
        style.uprights([(left + 3, middle, ends[0])], VERMILLION, 6),
    ]
    for i in range(block_size, len(values), block_size):
        parts.append(
            style.line(
                [(left + (i - 0.1) * step, top), (left + (i - 0.1) * step, top + height)],
                GREY,
                1,
                "4 4",
            )
        )
    return "".join(parts)


def rmse_bar(label: str, rmse: float, color: str, y: float) -> list[str]:
    """A horizontal bar, 0 to 0.75: the scale stays while the outlier grows."""
    length = style.placed(rmse, 0, 0.75, 3, 600)
    return [
        style.text(0, y + 26, label, 20, bold=True),
        style.rect(230, y, length, 38, color),
        style.text(240 + length, y + 27, f"{rmse:.5f}", 22, bold=True),
    ]


# ---------------------------------------------------------------------------- two matrices of codes
def wrong_cells(
    codes: Tensor, slide: Tensor, ties: dict[tuple[int, int], tuple[int, ...]]
) -> list[tuple[int, int]]:
    """(row, column) of each cell where the slide has another code.

    At a tie, each code in `ties` is right.
    """
    cells = [(row, column) for row in range(codes.shape[0]) for column in range(codes.shape[1])]
    return [
        cell
        for cell in cells
        if slide[cell].item() not in (codes[cell].item(), *ties.get(cell, ()))
    ]


def codes_picture(
    codes: Tensor, slide: Tensor, ties: dict[tuple[int, int], tuple[int, ...]] | None = None
) -> Picture:
    """Recomputed codes (rows, columns), those filled in which the slide differs."""
    wrong = wrong_cells(codes, slide, ties or {})
    rows, columns = codes.shape
    right = rows * columns - len(wrong)
    counted = f"Of {rows * columns} codes on the slide {right} are right and {len(wrong)} wrong."
    description = f"{counted} Recomputed: {codes.tolist()}."
    width, height, top = 1000 / columns, 70, 44
    parts = [style.text(0, 26, f"{right} right, {len(wrong)} wrong", 24, bold=True)]
    parts.append(
        style.text(1000, 26, "large: recomputed; yellow: the slide says otherwise", 20, GREY, "end")
    )
    for row in range(rows):
        for column in range(columns):
            x, y, differs = column * width, top + row * height, (row, column) in wrong
            parts.append(
                style.rect(
                    x + 2, y + 2, width - 4, height - 4, YELLOW if differs else "#F4F4F4", GREY
                )
            )
            middle = x + width * (0.24 if differs else 0.5)
            parts.append(
                style.text(
                    middle, y + 46, codes[row, column].item(), 30, BLACK, "middle", bold=True
                )
            )
            if differs:
                parts.append(
                    style.text(
                        x + width - 12,
                        y + 44,
                        f"slide {slide[row, column].item()}",
                        20,
                        BLACK,
                        "end",
                    )
                )
    return style.svg(1000, top + rows * height + 4, description, *parts)


# -------------------------------------------------------------------------------- block size (live)
def block_size_picture(points: Sequence[TradeOff], chosen: int) -> Picture:
    """Error and bits over the block size, the chosen one marked on both."""
    point = next(p for p in points if p.block_size == chosen)
    description = (
        f"Block size {chosen}: RMSE {point.rmse:.4f}; {point.bits:.3f} bits per weight, "
        f"{point.bits_twice:.3f} with double quantization."
    )
    bits, twice = [p.bits for p in points], [p.bits_twice for p in points]
    parts = [style.text(0, 24, f"blocks of {chosen}", 22, bold=True)]
    parts += curve(points, [p.rmse for p in points], BLUE, 70, "RMSE", chosen, "{:.4f}")
    parts += curve(
        points, bits, VERMILLION, 580, "bits per weight", chosen, "{:.3f}", 3.6, 6, above=True
    )
    parts += curve(points, twice, GREEN, 580, "", chosen, "{:.3f}", 3.6, 6, dash=style.DASHES[1])
    parts += [style.text(960, 90, "float32 constants", 20, VERMILLION, "end")]
    parts += [style.text(960, 118, "- - - quantized twice", 20, GREEN, "end")]
    return style.svg(1000, 370, description, *parts)


def curve(
    points: Sequence[TradeOff],
    heights: Sequence[float],
    color: str,
    left: float,
    title: str,
    chosen: int,
    label: str,
    low: float | None = None,
    high: float | None = None,
    above: bool = False,
    dash: str = "",
) -> list[str]:
    """A curve over log2(block size) in a box of 380 x 240; the chosen point is ringed."""
    top, bottom = 60, 300
    low = min(heights) * 0.9 if low is None else low
    high = max(heights) * 1.02 if high is None else high
    xs = [style.placed(i, 0, len(points) - 1, left, left + 380) for i in range(len(points))]
    ys = [style.placed(height, low, high, bottom, top) for height in heights]
    parts = [style.line([(left, top), (left, bottom), (left + 380, bottom)], GREY)]
    parts.append(style.line(list(zip(xs, ys, strict=True)), color, 4, dash))
    for x, y, point, height in zip(xs, ys, points, heights, strict=True):
        parts.append(style.circle(x, y, 6, color))
        if title:  # a second curve in the same box has the same axis
            parts.append(style.text(x, bottom + 26, point.block_size, 18, GREY, "middle"))
        if point.block_size == chosen:
            parts.append(style.circle(x, y, 12, "none", BLACK))
            # at the page's edge the label goes to the left
            side, anchor = (10, "start") if x < 900 else (-2, "end")
            parts.append(
                style.text(
                    x + side,
                    y + (-16 if above else 36),
                    label.format(height),
                    22,
                    color,
                    anchor,
                    bold=True,
                )
            )
    if title:
        parts.append(style.text(left, top - 8, title, 20, bold=True))
        parts.append(style.text(left + 190, bottom + 54, "block size", 18, GREY, "middle"))
    return parts


# ----------------------------------------------------------------------------------- static figures
@style.styled
def outlier_figure(
    outliers: Sequence[float],
    one_scale: Sequence[float],
    in_blocks: Sequence[float],
    block_size: int,
) -> Picture:
    """RMSE of the other weights as the outlier grows."""
    figure, axes = style.new_figure()
    axes.plot(outliers, one_scale, "o-", color=VERMILLION, label="one scale")
    axes.plot(outliers, in_blocks, "s--", color=BLUE, label=f"blocks of {block_size}")
    axes.set(
        xlabel="outlier",
        ylabel="RMSE of the other weights",
        xscale="log",
        yscale="log",
        xticks=outliers,
    )
    axes.set_xticklabels([f"{outlier:g}" for outlier in outliers])
    axes.minorticks_off()
    axes.legend()
    grown, kept = one_scale[-1] / one_scale[0], in_blocks[-1] / in_blocks[0]
    return style.described(
        figure,
        f"As an outlier grows from {outliers[0]:g} to {outliers[-1]:g}, the RMSE of the other "
        f"weights grows {grown:.0f} x with one scale and {kept:.1f} x in blocks of {block_size}.",
    )


@style.styled
def trade_off_figure(points: Sequence[TradeOff]) -> Picture:
    """Error against bits per weight at each block size, quantized once and twice."""
    figure, axes = style.new_figure()
    rmse = [point.rmse for point in points]
    axes.plot(
        [point.bits for point in points], rmse, "o-", color=VERMILLION, label="float32 constants"
    )
    axes.plot(
        [point.bits_twice for point in points],
        rmse,
        "s--",
        color=GREEN,
        label="double quantization",
    )
    for point in points:
        weight = "bold" if point.block_size == 64 else "normal"
        axes.annotate(
            str(point.block_size),
            (point.bits, point.rmse),
            (6, 6),
            textcoords="offset points",
            weight=weight,
        )
    axes.set(xlabel="bits per weight", ylabel="RMSE")
    axes.legend(title="numbers: block size")
    at = next((point for point in points if point.block_size == 64), points[0])
    return style.described(
        figure,
        f"RMSE falls and bits per weight rise as blocks shrink; at block size {at.block_size}: "
        f"{at.bits:.3f} bits, {at.bits_twice:.3f} with double quantization, RMSE {at.rmse:.4f}.",
    )


@style.styled
def ledger_figure(ledgers: dict[str, dict[str, int]]) -> Picture:
    """Stacked bars: for each scheme (outer key) the bytes of its parts, without "total"."""
    figure, axes = style.new_figure(width=11)
    parts = [part for part in next(iter(ledgers.values())) if part != "total"]
    totals = [sum(ledger[part] for part in parts) for ledger in ledgers.values()]
    below = [0] * len(ledgers)
    for part, color, hatch in zip(parts, PALETTE, ("", "//", "xx", ".."), strict=False):
        sizes = [ledger[part] for ledger in ledgers.values()]
        axes.barh(
            list(ledgers),
            sizes,
            left=below,
            color=color,
            hatch=hatch,
            edgecolor="white",
            label=part,
        )
        below = [a + b for a, b in zip(below, sizes, strict=True)]
    for i, total in enumerate(totals):
        axes.text(total, i, f" {total}", va="center", weight="bold")
    axes.invert_yaxis()
    axes.set(xlabel="bytes")
    axes.legend()
    summary = ", ".join(f"{name} {total}" for name, total in zip(ledgers, totals, strict=True))
    return style.described(figure, f"Bytes of each scheme: {summary}.")


@style.styled
def perplexity_figure(
    measured: dict[str, float], paper: dict[str, float], without: float
) -> Picture:
    """Perplexity of each storage type: measured on the left, the paper's on the right.

    `without` is that of the model which is not quantized.
    """
    figure, (ours, theirs) = style.new_figure(1, 2, width=12, height=4.6, sharey=True)
    for axes, values, color, title in (
        (ours, measured, BLUE, "cheese-base, measured here"),
        (theirs, paper, VERMILLION, "QLoRA paper, table 2"),
    ):
        names, lowest = list(values), min(*values.values(), without if axes is ours else math.inf)
        span = (max(values.values()) - lowest) or 1
        axes.plot(list(values.values()), names, "o", color=color, markersize=13)
        for name, value in values.items():
            axes.annotate(
                f"{value:.5g}",
                (value, name),
                (13, 0),
                textcoords="offset points",
                va="center",
                weight="bold",
            )
        axes.set(
            title=title,
            xlabel="perplexity (less is better)",
            xlim=(lowest - 0.08 * span, lowest + 1.35 * span),
        )
        axes.locator_params(axis="x", nbins=4)
    ours.margins(y=0.2)
    ours.invert_yaxis()
    ours.axvline(without, color=GREY, linestyle="--", linewidth=2, zorder=0)
    ours.annotate(
        "not quantized",
        (without, 0.03),
        (8, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=GREY,
    )
    lists = [
        "; ".join(f"{name} {value:.5g}" for name, value in values.items())
        for values in (measured, paper)
    ]
    said = (
        f"Perplexity of cheese-base, {without:.5g} before: {lists[0]}. QLoRA paper, table 2: "
        f"{lists[1]}."
    )
    return style.described(figure, said)
