"""Pictures of lab 01: bits, buckets, errors. Numbers come in, pictures go out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lab_utils.numerics import StoredNumber
from lab_utils.plots import style
from lab_utils.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PALETTE, SKY, VERMILLION, Picture
from lab_utils.quantization import CodebookResult, blockwise_absmax, join_blocks, split_into_blocks

ROLES = (("sign", ORANGE), ("exponent", SKY), ("fraction", GREEN))


# ---------------------------------------------------------------------------------------- bit explorer (live)
def bits_picture(value: float, numbers: Sequence[StoredNumber]) -> Picture:
    """One row for each format: its bits as boxes, the value they stand for, and what happened to the typed one."""
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
        parts += [style.rect(x + 140 * i, y - 17, 20, 20, color, BLACK), style.text(x + 28 + 140 * i, y, role)]
    return "".join(parts)


def bits_row(stored: StoredNumber, y: float) -> str:
    """One format: name, boxes with 0 and 1, stored value, error."""
    groups = stored.pattern.split()
    colors = [color for _, color in ROLES] if len(groups) == 3 else [style.YELLOW]
    parts, x = [style.text(0, y + 30, stored.format_name, 20, bold=True)], 130
    for bits, color in zip(groups, colors, strict=True):
        for bit in bits:
            parts += [style.rect(x, y + 10, 19, 28, color, BLACK), style.text(x + 9.5, y + 31, bit, 18, anchor="middle")]
            x += 19
        x += 6
    off_by = f", off by {style.number(abs(stored.error), 2)}" if stored.note in ("rounded", "underflow") else ""
    parts.append(style.text(760, y + 22, f"{stored.stored:.9g}", 20, bold=True))
    parts.append(style.text(760, y + 44, stored.note + off_by, 18, GREY))
    return "".join(parts)


# ---------------------------------------------------------------------------------------- bucket demo (live)
def histogram(values: Tensor, low: float, high: float, count: int = 60) -> list[float]:
    """How many values fall into each of `count` equal steps; those outside count at the ends, so that none is hidden."""
    return torch.histc(values.float().clamp(low, high), bins=count, min=low, max=high).tolist()


def scaled_to_blocks(x: Tensor, block_size: int | None = None) -> Tensor:
    """Each value over the absmax of its block (all of x is one block for None), so that it meets the codebook."""
    block_size = block_size or x.numel()
    absmax = blockwise_absmax(x, block_size).clamp(min=1e-38)  # a block of zeros stays zero
    return join_blocks(split_into_blocks(x, block_size) / absmax[:, None], like=x).reshape(-1)


def buckets_picture(
    x: Tensor, results: Sequence[CodebookResult], title: str, block_size: int | None = None
) -> Picture:
    """Left: the values of x in their blocks, and each codebook's buckets. Right: how the error of each is spread."""
    best = min(results, key=lambda result: result.rmse)
    description = f"{title}. " + ", ".join(f"{r.name}: RMSE {r.rmse:.4f}" for r in results) + f". Best: {best.name}."
    widest = max(3 * result.rmse for result in results) or 1.0
    parts = [
        style.text(150, 24, title, 22, bold=True),
        style.text(700, 24, "error of each value", 22, bold=True),
        style.bars(histogram(scaled_to_blocks(x, block_size), -1, 1, 81), 150, 40, 490, 130, GREY),
        style.line([(150, 170), (640, 170)]),
    ]
    for i, result in enumerate(results):
        parts.append(buckets_row(result, PALETTE[i], 200 + 110 * i, widest, result is best))
    parts += [style.text(150, 548, "-absmax", 18, GREY), style.text(640, 548, "+absmax", 18, GREY, "end")]
    parts += [style.text(395, 548, "0", 18, GREY, "middle"), style.text(830, 548, "0", 18, GREY, "middle")]
    return style.svg(1000, 556, description, *parts)


def buckets_row(result: CodebookResult, color: str, y: float, widest: float, best: bool) -> str:
    """One codebook: its values as ticks, each as high as its bucket is full, and its error histogram."""
    usage = result.usage.tolist()
    fullest = max(usage) or 1.0
    parts = [style.text(0, y + 50, result.name, 20, color, bold=True), style.line([(150, y + 76), (640, y + 76)])]
    ticks = [(style.placed(value, -1, 1, 150, 640), y + 76, y + 70 - 60 * share / fullest)
             for value, share in zip(result.codebook.tolist(), usage, strict=True)]
    parts.append(style.uprights(ticks, color, 5))
    parts.append(style.bars(histogram(result.error, -widest, widest, 50), 700, y + 6, 260, 70, color))
    label = f"RMSE {result.rmse:.4f}" + ("  best" if best else "")
    parts.append(style.text(700, y + 98, label, 22, BLACK, bold=best))
    return "".join(parts)


# ---------------------------------------------------------------------------------------- static figures
def bits_figure(value: float, numbers: Sequence[StoredNumber]) -> Picture:
    """The static twin of the bit explorer."""
    return style.as_image(bits_picture(value, numbers))


@style.styled
def buckets_figure(
    x: Tensor, results: Sequence[CodebookResult], title: str, block_size: int | None = None
) -> Picture:
    """The static twin of the bucket demo: the values in their blocks with each codebook, and the errors."""
    figure, axes = style.new_figure(len(results), 2, width=12, height=2.4 * len(results), sharex="col")
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
    return style.described(figure, f"{title}: buckets of each codebook over the values, and error histograms; RMSE {rmse}.")


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
    return style.described(figure, f"Errors of {len(error)} values: at most {largest:.4f}, the bound is {bound:.4f}.")


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
    return style.described(figure, f"Share of values in {len(usage)} buckets: the fullest holds {ratio:.1f} x the emptiest.")


@style.styled
def normal_float_figure(codebook: Tensor) -> Picture:
    """The normal curve, cut at the codebook's values: thin slices where weights are many."""
    figure, axes = style.new_figure()
    outermost = torch.special.ndtri(torch.tensor(0.9677083)).item()
    z = torch.linspace(-2.6, 2.6, 400)
    axes.plot(z.tolist(), torch.exp(-z.square() / 2).div(2.5066).tolist(), color=BLACK)
    places = codebook * outermost
    axes.vlines(places.tolist(), 0, torch.exp(-places.square() / 2).div(2.5066).tolist(), color=BLUE, linewidth=3)
    axes.set(xlabel="weight, in standard deviations", ylabel="density", ylim=(0, None))
    return style.described(figure, f"Normal curve with the {len(codebook)} values of the codebook: densest around zero.")


@style.styled
def rmse_figure(table: dict[str, dict[str, float]]) -> Picture:
    """Grouped bars: for each distribution (outer key), the RMSE of each format (inner key) relative to the best."""
    figure, axes = style.new_figure(width=12)
    formats = list(next(iter(table.values())))
    width = 0.8 / len(formats)
    for i, name in enumerate(formats):
        heights = [row[name] / min(row.values()) for row in table.values()]
        axes.bar([j + i * width for j in range(len(table))], heights, width * 0.9, label=name, color=PALETTE[i])
    axes.set_xticks([j + width * (len(formats) - 1) / 2 for j in range(len(table))], list(table))
    axes.set(ylabel="RMSE / best RMSE")
    axes.legend(ncols=len(formats), loc="upper center", bbox_to_anchor=(0.5, 1.2))
    winners = ", ".join(f"{name}: {min(row, key=row.get)}" for name, row in table.items())
    return style.described(figure, f"RMSE of each format relative to the best. Winner on {winners}.")
