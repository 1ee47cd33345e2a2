"""Pictures of lab 07: five axes, the ROUGE chart, what is forgotten, replay, three voices on one base."""
from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence

from lab_utils.plots import style
from lab_utils.plots.finetuning import grouped_bars
from lab_utils.plots.style import BLUE, DASHES, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, Picture

LOOKS = ((BLUE, DASHES[0]), (VERMILLION, DASHES[1]), (GREEN, DASHES[2]))  # of the methods that are told apart
VOICES = {"base": GREY, "pavlos": BLUE, "auctioneer": VERMILLION, "terse": GREEN, "blend": PURPLE}
PALE = "#D5D5D5"


# ---------------------------------------------------------------------------------------- five axes
def axes_picture(shares: Mapping[str, Mapping[str, float]], chosen: Sequence[str]) -> Picture:
    """Parallel coordinates: one upright line for each axis, 1 (best) on top; up to three chosen methods stand out.

    `shares` is {method: {axis: 0 to 1}}; the methods that are not chosen stay behind, thin and grey.
    """
    width, top, bottom, left, right = 1060, 70, 354, 200, 960
    axes = list(next(iter(shares.values())))
    chosen = list(dict.fromkeys(chosen))[: len(LOOKS)]
    across = {axis: left + i * (right - left) / (len(axes) - 1) for i, axis in enumerate(axes)}

    def path(method: str) -> list[tuple[float, float]]:
        return [(across[axis], style.placed(shares[method][axis], 0, 1, bottom, top)) for axis in axes]

    parts = [style.line([(x, top), (x, bottom)], style.BLACK, 2) for x in across.values()]
    parts += [style.text(x, top - 22, axis, 21, anchor="middle", bold=True) for axis, x in across.items()]
    parts += [style.text(left - 14, top + 8, "best", 20, anchor="end"), style.text(left - 14, bottom, "0", 20, anchor="end")]
    parts += [style.line(path(method), PALE, 3) for method in shares if method not in chosen]
    for i, (method, (colour, dash)) in enumerate(zip(chosen, LOOKS)):
        parts += [style.line(path(method), colour, 6, dash), *(style.circle(x, y, 8, colour) for x, y in path(method))]
        parts += _legend_row(method, shares[method], across, bottom + 52 + 44 * i, colour, dash)
    told = "; ".join(f"{m}: " + ", ".join(f"{axis} {shares[m][axis]:.2f}" for axis in axes) for m in chosen)
    return style.svg(width, bottom + 30 + 44 * len(LOOKS), f"{len(shares)} methods on five axes, 1 is best. {told}.", *parts)


def _legend_row(method: str, values: Mapping[str, float], across: Mapping[str, float], y: float, colour: str,
                dash: str) -> list[str]:
    """The method's name beside its kind of line, and its number under every axis."""
    numbers = [style.text(x, y, f"{values[axis]:.2f}", 21, colour, anchor="middle", bold=True) for axis, x in across.items()]
    return [style.line([(0, y - 24), (120, y - 24)], colour, 5, dash), style.text(0, y, method, 20, colour, bold=True), *numbers]


# ---------------------------------------------------------------------------------------- bars and lines
@style.styled
def rouge_picture(scores: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Picture:
    """The lecture's chart: for each ROUGE one bar for every model, its value above it."""
    figure = grouped_bars(scores, names, [(GREY, ""), (VERMILLION, "//"), (BLUE, ".."), (GREEN, "xx")])
    figure.axes[0].set_xticks(figure.axes[0].get_xticks(), [name.replace("rouge", "ROUGE-") for name in names])
    figure.axes[0].set(ylim=(0, 1.1), ylabel="F-measure")
    told = "; ".join(f"{model}: " + ", ".join(f"{name} {v[name]:.2f}" for name in names) for model, v in scores.items())
    return style.described(figure, f"ROUGE against Pavlos' own answers. {told}.")


@style.styled
def bars_picture(values: Mapping[str, Mapping[str, float | None]], label: str, number: str = "{:.2f}",
                 mark: tuple[float, str] | None = None) -> Picture:
    """Lying bars, {series: {name: value}}, a group for each name with its values beside it; None leaves a bar out.

    `mark` is (value, words) of an upright line to compare with.
    """
    names = list(next(iter(values.values())))
    figure, ax = style.new_figure(width=11, height=1.3 + 0.42 * len(names) * max(1, 0.8 * len(values)))
    thick = 0.8 / len(values)
    for k, ((series, row), (colour, hatch)) in enumerate(zip(values.items(), [(SKY, ""), (BLUE, "//"), (ORANGE, "..")])):
        shown = [(i + k * thick, row[name]) for i, name in enumerate(names) if row[name] is not None]
        bars = ax.barh([y for y, _ in shown], [x for _, x in shown], thick * 0.92, label=series, color=colour, hatch=hatch,
                       edgecolor="white")
        ax.bar_label(bars, labels=[number.format(x) for _, x in shown], padding=5, fontsize=14,
                     bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    ax.set_yticks([i + 0.4 - thick / 2 for i in range(len(names))], names)
    ax.set(xlabel=label)
    ax.margins(x=0.14)
    ax.invert_yaxis()
    if mark:
        ax.axvline(mark[0], color=style.BLACK, linewidth=2, linestyle="--", label=mark[1])
    if len(values) > 1 or mark:
        figure.legend(ncols=len(values) + 1, loc="outside upper center")
    told = "; ".join(f"{series}: " + ", ".join(f"{name} {number.format(x)}" for name, x in row.items() if x is not None)
                     for series, row in values.items())
    return style.described(figure, f"{label}. {told}.")


SIDES = {"right": (14, -6, "left"), "left": (-14, -6, "right"), "above": (0, 14, "center"), "below": (0, -27, "center")}


def free_side(x: float, y: float, width: float, taken: list[tuple[float, float, float, float]]) -> str:
    """The first of SIDES where a label of this width, beside a point at (x, y) in pixels, covers the fewest boxes.

    Boxes are (left, right, bottom, top); the label's own is added to `taken`.
    """
    def box(side: str) -> tuple[float, float, float, float]:
        dx, dy, align = SIDES[side]
        start = x + dx - {"left": 0, "right": width, "center": width / 2}[align]
        return start, start + width, y + dy, y + dy + 18

    def covered(side: str) -> int:
        a, b, c, d = box(side)
        return sum(a < right and left < b and c < top and bottom < d for left, right, bottom, top in taken)

    best = min(SIDES, key=covered)
    taken.append(box(best))
    return best


@style.styled
def scatter_picture(points: Mapping[str, tuple[float, float]], x_label: str, y_label: str) -> Picture:
    """Named points {name: (x above 0, y)}, x on a log scale; each name stands where it covers no other, if it can."""
    figure, ax = style.new_figure(width=11, height=5.2)
    ax.plot([x for x, _ in points.values()], [y for _, y in points.values()], "o", color=BLUE, markersize=13)
    ax.set(xscale="log", xlabel=x_label, ylabel=y_label)
    ax.margins(x=0.12, y=0.15)
    figure.draw_without_rendering()  # now pixels are known
    places = {name: ax.transData.transform(place) * 72 / figure.dpi for name, place in points.items()}
    taken = [(x - 8, x + 8, y - 8, y + 8) for x, y in places.values()]
    for name, (x, y) in places.items():
        dx, dy, align = SIDES[free_side(x, y, 9.0 * len(name), taken)]
        ax.annotate(name, points[name], xytext=(dx, dy), textcoords="offset points", ha=align)
    told = ", ".join(f"{name} ({x:,.0f}, {y:.2f})" for name, (x, y) in points.items())
    return style.described(figure, f"{y_label} over {x_label}: {told}.")


@style.styled
def lines_picture(x: Sequence[float], series: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> Picture:
    """Lines over a common x, told apart by colour, dash and marker, each named at its right end."""
    figure, ax = style.new_figure(width=11, height=4.6)
    looks = zip([BLUE, VERMILLION, GREEN, ORANGE, PURPLE], ["-", "--", ":", "-.", (0, (5, 1))], "osD^v")
    for (name, y), (colour, dash, marker) in zip(series.items(), looks):
        ax.plot(x, y, color=colour, linestyle=dash, marker=marker, label=name)
    ax.set(xlabel=x_label, ylabel=y_label, ylim=(-0.04, 1.06))
    ax.set_xticks(list(x))
    figure.legend(ncols=len(series), loc="outside upper center")
    told = "; ".join(f"{name}: " + ", ".join(f"{a:g} gives {b:.2f}" for a, b in zip(x, y)) for name, y in series.items())
    return style.described(figure, f"{y_label} over {x_label}. {told}.")


# ---------------------------------------------------------------------------------------- voices
def disk_picture(base: int, adapters: Mapping[str, int]) -> Picture:
    """Two rows of boxes, their widths to scale: a full copy for each task, against one base and its adapters (bytes)."""
    width, n = 1060, len(adapters)
    scale = (width - 20) / (base * n)
    small, x = sum(adapters.values()), 10.0
    parts = [style.text(10, 32, f"{n} full copies: {base * n / 1e6:.1f} MB", 24, bold=True)]
    for name in adapters:
        parts += [style.rect(x, 44, base * scale - 6, 64, SKY, style.BLACK), style.text(x + 12, 84, f"model {name}", 22)]
        x += base * scale
    parts += [style.text(10, 160, f"one base and {n} adapters: {(base + small) / 1e6:.1f} MB", 24, bold=True),
              style.rect(10, 172, base * scale - 6, 64, SKY, style.BLACK), style.text(22, 212, "base", 22)]
    x = 10 + base * scale
    for size, colour in zip(adapters.values(), (BLUE, VERMILLION, GREEN, ORANGE)):
        parts.append(style.rect(x, 172, size * scale, 64, colour))
        x += size * scale + 3
    parts.append(style.text(x + 10, 212, f"{n} adapters of {small / n / 1e6:.2f} MB: " + ", ".join(adapters), 20))
    said = (f"{n} full copies take {base * n / 1e6:.1f} MB; one base and {n} adapters take {(base + small) / 1e6:.1f} MB, "
            f"the adapters {small / 1e6:.2f} MB of it.")
    return style.svg(width, 250, said, *parts)


def voice_html(question: str, voice: str, answer: str) -> str:
    """One question answered in one voice, large enough for a lecture hall, announced to screen readers."""
    return (f'<div role="status" aria-live="polite" style="font-size:22px;border-left:10px solid {VOICES.get(voice, GREY)};'
            f'padding:4px 16px"><p style="line-height:1.4"><b>Question:</b> {html.escape(question)}</p>'
            f'<p style="line-height:1.4"><b>{html.escape(voice)}:</b> {html.escape(answer)}</p></div>')


def voices_picture(answers: Mapping[str, Mapping[str, str]]) -> Picture:
    """{question: {voice: answer}} as one picture: what a chat with a voice selector would show, standing still."""
    y, parts = 12, []
    for question, said in answers.items():
        parts.append(style.text(16, y + 28, question, 22, bold=True))
        y += 44
        for voice, answer in said.items():
            lines = textwrap.wrap(answer, 78) or [""]
            parts += [style.rect(16, y, 8, 28 * len(lines), VOICES.get(voice, GREY)),
                      style.text(34, y + 21, voice, 20, VOICES.get(voice, GREY), bold=True)]
            parts += [style.text(170, y + 21 + 28 * i, line, 20) for i, line in enumerate(lines)]
            y += 28 * len(lines) + 8
        y += 14
    told = " ".join(f"{question} " + " ".join(f"{voice}: {answer}" for voice, answer in said.items())
                    for question, said in answers.items())
    return style.svg(1060, y, told, *parts)
