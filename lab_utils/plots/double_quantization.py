"""Pictures of lab 02: an outlier, the lecture's codes, block sizes, bytes, perplexity. Numbers come in, pictures go out."""

import math
from collections.abc import Sequence

from torch import Tensor

from lab_utils.double_quantization import TradeOff
from lab_utils.plots import style
from lab_utils.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PALETTE, VERMILLION, YELLOW, Picture


# ---------------------------------------------------------------------------------------- outlier (live)
def outlier_picture(x: Tensor, one_scale: float, in_blocks: float, block_size: int) -> Picture:
    """The weights as bars, the outlier first, and the RMSE of the others with one scale and in blocks."""
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
    parts.append(style.text(0, 415, f"RMSE of the other weights: {ratio:.1f} x smaller in blocks", 22, bold=True))
    return style.svg(1000, 430, description, *parts)


def weight_bars(x: Tensor, left: float, top: float, width: float, height: float, block_size: int) -> str:
    """Values as bars up and down from a middle line; the outlier's block in vermillion, block ends as dashes."""
    values, middle = x.tolist(), top + height / 2
    largest, step = max(map(abs, values)) or 1.0, width / len(values)
    ends = [middle - math.copysign(max(abs(value) / largest * height / 2, 1), value) for value in values]
    bars = [(left + (i + 0.4) * step, middle, end) for i, end in enumerate(ends)]
    parts = [style.line([(left, middle), (left + width, middle)], GREY), style.uprights(bars[block_size:], BLUE, step * 0.8),
             style.uprights(bars[1:block_size], ORANGE, step * 0.8),
             style.uprights([(left + 3, middle, ends[0])], VERMILLION, 6)]  # wide enough for the back row
    for i in range(block_size, len(values), block_size):
        parts.append(style.line([(left + (i - 0.1) * step, top), (left + (i - 0.1) * step, top + height)], GREY, 1, "4 4"))
    return "".join(parts)


def rmse_bar(label: str, rmse: float, color: str, y: float) -> list[str]:
    """A lying bar, 0 to 0.75: the scale stays while the outlier grows."""
    length = style.placed(rmse, 0, 0.75, 3, 600)
    return [
        style.text(0, y + 26, label, 20, bold=True),
        style.rect(230, y, length, 38, color),
        style.text(240 + length, y + 27, f"{rmse:.5f}", 22, bold=True),
    ]


# ---------------------------------------------------------------------------------------- two matrices of codes
def wrong_cells(codes: Tensor, slide: Tensor, ties: dict[tuple[int, int], tuple[int, ...]]) -> list[tuple[int, int]]:
    """(row, column) of each cell where the slide has another code; at a tie, each code in `ties` is right."""
    cells = [(row, column) for row in range(codes.shape[0]) for column in range(codes.shape[1])]
    return [cell for cell in cells if slide[cell].item() not in (codes[cell].item(), *ties.get(cell, ()))]


def codes_picture(codes: Tensor, slide: Tensor, ties: dict[tuple[int, int], tuple[int, ...]] | None = None) -> Picture:
    """Recomputed codes (rows, columns); where the slide differs, the cell is filled and says the slide's code."""
    wrong = wrong_cells(codes, slide, ties or {})
    rows, columns = codes.shape
    right = rows * columns - len(wrong)
    counted = f"Of {rows * columns} codes on the slide {right} are right and {len(wrong)} wrong."
    description = f"{counted} Recomputed: {codes.tolist()}."
    width, height, top = 1000 / columns, 70, 44
    parts = [style.text(0, 26, f"{right} right, {len(wrong)} wrong", 24, bold=True)]
    parts.append(style.text(1000, 26, "large: recomputed; yellow: the slide says otherwise", 20, GREY, "end"))
    for row in range(rows):
        for column in range(columns):
            x, y, differs = column * width, top + row * height, (row, column) in wrong
            parts.append(style.rect(x + 2, y + 2, width - 4, height - 4, YELLOW if differs else "#F4F4F4", GREY))
            middle = x + width * (0.24 if differs else 0.5)
            parts.append(style.text(middle, y + 46, codes[row, column].item(), 30, BLACK, "middle", bold=True))
            if differs:
                parts.append(style.text(x + width - 12, y + 44, f"slide {slide[row, column].item()}", 20, BLACK, "end"))
    return style.svg(1000, top + rows * height + 4, description, *parts)


# ---------------------------------------------------------------------------------------- block size (live)
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
    parts += curve(points, bits, VERMILLION, 580, "bits per weight", chosen, "{:.3f}", 3.6, 6, above=True)
    parts += curve(points, twice, GREEN, 580, "", chosen, "{:.3f}", 3.6, 6, dash=style.DASHES[1])
    parts += [style.text(960, 90, "float32 constants", 20, VERMILLION, "end")]
    parts += [style.text(960, 118, "- - - quantized twice", 20, GREEN, "end")]
    return style.svg(1000, 370, description, *parts)


def curve(
    points: Sequence[TradeOff], heights: Sequence[float], color: str, left: float, title: str, chosen: int, label: str,
    low: float | None = None, high: float | None = None, above: bool = False, dash: str = "",
) -> list[str]:  # fmt: skip
    """One curve over log2(block size) in a box 380 wide and 240 high; the chosen point is ringed and labelled."""
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
            side, anchor = (10, "start") if x < 900 else (-2, "end")  # at the page's edge the label goes to the left
            parts.append(style.text(x + side, y + (-16 if above else 36), label.format(height), 22, color, anchor, bold=True))
    if title:
        parts.append(style.text(left, top - 8, title, 20, bold=True))
        parts.append(style.text(left + 190, bottom + 54, "block size", 18, GREY, "middle"))
    return parts


# ---------------------------------------------------------------------------------------- memory calculator (live)
def memory_picture(title: str, sizes: dict[str, float], cards: dict[str, float], fitting: dict[str, list[str]]) -> Picture:
    """Gigabytes of each scheme as bars, cards as lines, and the smallest card that each fits on."""
    smallest = {name: (fits[0] if fits else "no single card here") for name, fits in fitting.items()}
    description = f"{title}: " + "; ".join(f"{n} {gb:.1f} GB, {smallest[n]}" for n, gb in sizes.items()) + "."
    top = max(*sizes.values(), min(cards.values())) * 1.08
    height = 60 + 58 * len(sizes)
    parts = [style.text(0, 26, title, 22, bold=True)]
    for size in cards.values():
        if size <= top:
            place = style.placed(size, 0, top, 390, 780)
            parts.append(style.line([(place, 44), (place, height)], GREY, 1.5, "4 4"))
    for i, (name, gigabytes) in enumerate(sizes.items()):
        y, length = 50 + 58 * i, style.placed(gigabytes, 0, top, 0, 390)
        parts += [style.text(0, y + 28, name, 20), style.rect(390, y + 4, length, 36, PALETTE[i % len(PALETTE)])]
        parts.append(style.text(795, y + 22, f"{gigabytes:.1f} GB", 22, bold=True))
        parts.append(style.text(795, y + 44, smallest[name], 18, GREY))
    parts.append(style.text(390, height + 22, "dashed: memory of the cards", 18, GREY))
    return style.svg(1000, height + 34, description, *parts)


# ---------------------------------------------------------------------------------------- static figures
@style.styled
def outlier_figure(outliers: Sequence[float], one_scale: Sequence[float], in_blocks: Sequence[float], block_size: int) -> Picture:
    """RMSE of the other weights as the outlier grows."""
    figure, axes = style.new_figure()
    axes.plot(outliers, one_scale, "o-", color=VERMILLION, label="one scale")
    axes.plot(outliers, in_blocks, "s--", color=BLUE, label=f"blocks of {block_size}")
    axes.set(xlabel="outlier", ylabel="RMSE of the other weights", xscale="log", yscale="log", xticks=outliers)
    axes.set_xticklabels([f"{outlier:g}" for outlier in outliers])
    axes.minorticks_off()
    axes.legend()
    grown, kept = one_scale[-1] / one_scale[0], in_blocks[-1] / in_blocks[0]
    return style.described(
        figure, f"As an outlier grows from {outliers[0]:g} to {outliers[-1]:g}, the RMSE of the other weights grows "
        f"{grown:.0f} x with one scale and {kept:.1f} x in blocks of {block_size}.")  # fmt: skip


@style.styled
def trade_off_figure(points: Sequence[TradeOff]) -> Picture:
    """Error against bits per weight, one point for each block size, with and without double quantization."""
    figure, axes = style.new_figure()
    rmse = [point.rmse for point in points]
    axes.plot([point.bits for point in points], rmse, "o-", color=VERMILLION, label="float32 constants")
    axes.plot([point.bits_twice for point in points], rmse, "s--", color=GREEN, label="double quantization")
    for point in points:
        weight = "bold" if point.block_size == 64 else "normal"
        axes.annotate(str(point.block_size), (point.bits, point.rmse), (6, 6), textcoords="offset points", weight=weight)
    axes.set(xlabel="bits per weight", ylabel="RMSE")
    axes.legend(title="numbers: block size")
    at = next((point for point in points if point.block_size == 64), points[0])
    return style.described(
        figure, f"RMSE falls and bits per weight rise as blocks shrink; at block size {at.block_size}: {at.bits:.3f} bits, "
        f"{at.bits_twice:.3f} with double quantization, RMSE {at.rmse:.4f}.")  # fmt: skip


@style.styled
def ledger_figure(ledgers: dict[str, dict[str, int]]) -> Picture:
    """Stacked bars: for each scheme (outer key) the bytes of each part (inner key); a part "total" is left out."""
    figure, axes = style.new_figure(width=11)
    parts = [part for part in next(iter(ledgers.values())) if part != "total"]
    totals = [sum(ledger[part] for part in parts) for ledger in ledgers.values()]
    below = [0] * len(ledgers)
    for part, color, hatch in zip(parts, PALETTE, ("", "//", "xx", ".."), strict=False):
        sizes = [ledger[part] for ledger in ledgers.values()]
        axes.barh(list(ledgers), sizes, left=below, color=color, hatch=hatch, edgecolor="white", label=part)
        below = [a + b for a, b in zip(below, sizes, strict=True)]
    for i, total in enumerate(totals):
        axes.text(total, i, f" {total}", va="center", weight="bold")
    axes.invert_yaxis()
    axes.set(xlabel="bytes")
    axes.legend()
    summary = ", ".join(f"{name} {total}" for name, total in zip(ledgers, totals, strict=True))
    return style.described(figure, f"Bytes of each scheme: {summary}.")


@style.styled
def perplexity_figure(measured: dict[str, float], paper: dict[str, float], without: float) -> Picture:
    """Perplexity of each storage type as a dot, measured on the left (`without`: not quantized), the paper's on the right."""
    figure, (ours, theirs) = style.new_figure(1, 2, width=12, height=4.6, sharey=True)
    for axes, values, color, title in (
        (ours, measured, BLUE, "cheese-base, measured here"),
        (theirs, paper, VERMILLION, "QLoRA paper, table 2"),
    ):
        names, lowest = list(values), min(*values.values(), without if axes is ours else math.inf)
        span = (max(values.values()) - lowest) or 1
        axes.plot(list(values.values()), names, "o", color=color, markersize=13)
        for name, value in values.items():
            axes.annotate(f"{value:.5g}", (value, name), (13, 0), textcoords="offset points", va="center", weight="bold")
        axes.set(title=title, xlabel="perplexity (less is better)", xlim=(lowest - 0.08 * span, lowest + 1.35 * span))
        axes.locator_params(axis="x", nbins=4)
    ours.margins(y=0.2)
    ours.invert_yaxis()
    ours.axvline(without, color=GREY, linestyle="--", linewidth=2, zorder=0)
    ours.annotate("not quantized", (without, 0.03), (8, 0), xycoords=("data", "axes fraction"), textcoords="offset points",
                  color=GREY)
    lists = ["; ".join(f"{name} {value:.5g}" for name, value in values.items()) for values in (measured, paper)]
    said = f"Perplexity of cheese-base, {without:.5g} before: {lists[0]}. QLoRA paper, table 2: {lists[1]}."
    return style.described(figure, said)
