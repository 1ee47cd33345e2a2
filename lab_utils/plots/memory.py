"""Pictures of the memory ledger: one plan line by line, and several methods side by side. Numbers come in, pictures go out."""

from collections.abc import Sequence

from lab_utils.plots import style
from lab_utils.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, YELLOW, Picture
from lab_utils.training_memory import Line, fits_on, peak, size_range

WHEN = {"kept": BLUE, "step": VERMILLION, "card": GREY}
LEGEND = (("kept", "kept between steps"), ("step", "made in a step"), ("card", "taken by the card"))
SAID = {"yes": "fits", "perhaps": "perhaps", "no": "no"}
FILL = {"yes": "#CFEFE4", "perhaps": YELLOW, "no": "#EEEEEE"}  # the word says the same
PARTS = {"weights": (SKY, ""), "gradients": (ORANGE, "//"), "optimizer": (PURPLE, ".."), "activations": (VERMILLION, "xx"),
         "logits and loss": (GREEN, "\\\\"), "card and slack": (GREY, "")}  # hatch: for print


def merged(lines: Sequence[Line]) -> list[Line]:
    """The lines with all parts of the activations as one, where the first of them stood."""
    rows: list[Line] = []
    for line in lines:
        if line.name.startswith("activations") and rows and rows[-1].name == "activations":
            rows[-1] = rows[-1]._replace(low=rows[-1].low + line.low, high=rows[-1].high + line.high)
        else:
            rows.append(line._replace(name="activations") if line.name.startswith("activations") else line)
    return rows


# ---------------------------------------------------------------------------------------- one plan (live)
def ledger_picture(title: str, lines: Sequence[Line], room: int = 0) -> Picture:
    """A bar for each part, full for the low end, hollow up to the high end; the peak, and each card's verdict.

    With `room`, the rows share the height of so many, however many they are: a live picture then keeps its height.
    """
    rows, (low, high), cards = merged(lines), peak(list(lines)), fits_on(list(lines))
    holding = [card for card, verdict in cards.items() if verdict == "yes"]
    perhaps = [card for card, verdict in cards.items() if verdict == "perhaps"]
    description = f"{title}: {size_range(low, high)} GB at the peak of a step. Fits on {', '.join(holding) or 'no card here'}"
    description += f"; perhaps on {', '.join(perhaps)}." if perhaps else "."
    top, parts = max(row.high for row in rows), [style.text(0, 26, title, 22, bold=True)]
    pitch = 34 * (room or len(rows)) / len(rows)
    for i, (when, words) in enumerate(LEGEND):
        parts += [style.rect(270 * i, 42, 20, 20, WHEN[when]), style.text(270 * i + 28, 59, words, 18, GREY)]
    parts.append(style.text(1000, 59, "hollow: up to", 18, GREY, "end"))
    for i, row in enumerate(rows):
        parts += ledger_row(row, 76 + pitch * i, top, pitch)
    y = 76 + pitch * len(rows)
    parts.append(style.text(0, y + 34, f"At the peak of a step: {size_range(low, high)} GB", 26, bold=True))
    parts += card_boxes(cards, y + 52)
    return style.svg(1000, round(y) + 146, description, *parts)


def ledger_row(row: Line, y: float, top: float, pitch: float) -> list[str]:
    """One part: its name, its bar and its gigabytes, in a row `pitch` high."""
    thick = min(24, pitch - 6)
    baseline = y + 10 + thick / 2
    solid, hollow = (style.placed(size, 0, top, 0, 460) for size in (row.low, row.high))
    color = WHEN[row.when]
    return [
        style.text(278, baseline, row.name, 18, BLACK, "end"),
        style.rect(290, y + 3, hollow, thick, "white", color if hollow > solid else "none"),
        style.rect(290, y + 3, max(solid, 1), thick, color),
        style.text(300 + max(hollow, 1), baseline, f"{size_range(row.low, row.high)} GB", 20, bold=True),
    ]


def card_boxes(cards: dict[str, str], y: float) -> list[str]:
    """A box for each card with its verdict, four in a row."""
    parts = []
    for i, (card, verdict) in enumerate(cards.items()):
        x, top = 250 * (i % 4), y + 44 * (i // 4)
        parts.append(style.rect(x + 1, top, 242, 38, FILL[verdict], BLACK if verdict == "yes" else GREY))
        parts.append(style.text(x + 122, top + 26, f"{card}: {SAID[verdict]}", 18, BLACK, "middle", bold=verdict == "yes"))
    return parts


# ---------------------------------------------------------------------------------------- methods side by side
def part_of(line: Line) -> str:
    """The bar segment that a line belongs to."""
    if line.name.startswith("activations"):
        return "activations"
    if line.name in ("gradients", "logits and loss"):
        return line.name
    if line.name in ("optimizer states", "master copy"):
        return "optimizer"
    return "weights" if line.when == "kept" else "card and slack"


@style.styled
def methods_figure(ledgers: dict[str, Sequence[Line]], card_gigabytes: Sequence[float] = (24, 80)) -> Picture:
    """Stacked bars, one for each named ledger, at the high ends; dashed lines are cards."""
    figure, axes = style.new_figure(width=11, height=1.6 + 0.75 * len(ledgers))
    sizes = {name: {part: 0.0 for part in PARTS} for name in ledgers}
    for name, lines in ledgers.items():
        for line in lines:
            sizes[name][part_of(line)] += line.high / 1e9
    left = dict.fromkeys(ledgers, 0.0)
    for part, (color, hatch) in PARTS.items():
        widths = [sizes[name][part] for name in ledgers]
        axes.barh(list(ledgers), widths, left=list(left.values()), color=color, hatch=hatch, edgecolor="white", label=part)
        left = {name: left[name] + width for name, width in zip(left, widths, strict=True)}
    for i, total in enumerate(left.values()):
        axes.text(total, i, f" {total:.0f} GB" if total >= 10 else f" {total:.1f} GB", va="center", weight="bold",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0})
    for size in card_gigabytes:
        axes.axvline(size, color=BLACK, linestyle="--", linewidth=1.5)
        axes.text(size, -0.55, f" {size:g} GB card", va="bottom", fontsize=13)
    axes.set(xlim=(0, max(left.values()) * 1.12), xlabel="gigabytes at the peak of a step, high end")
    axes.invert_yaxis()
    figure.legend(ncols=len(PARTS), loc="outside upper center", fontsize=12)
    shares = {name: ", ".join(f"{part} {size:.1f}" for part, size in of.items() if size) for name, of in sizes.items()}
    told = "; ".join(f"{name} {total:.1f} GB, of it {shares[name]}" for name, total in left.items())
    return style.described(figure, f"Memory of fine-tuning by part: {told}.")


@style.styled
def ratio_figure(rows: dict[str, tuple[float, float]]) -> Picture:
    """Predicted and measured bytes of each part as two bars, with their ratio."""
    figure, axes = style.new_figure(width=11, height=1.4 + 0.7 * len(rows))
    for i, (predicted, measured) in enumerate(rows.values()):
        first = i == 0
        axes.barh(i - 0.2, predicted / 1e6, 0.36, color=BLUE, label="predicted" if first else None)
        axes.barh(i + 0.2, measured / 1e6, 0.36, color=ORANGE, hatch="//", edgecolor="white", label="measured" if first else None)
        axes.text(max(predicted, measured) / 1e6, i, f" ratio {predicted / measured:.4f}", va="center")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="megabytes", xlim=(0, max(max(pair) for pair in rows.values()) / 1e6 * 1.2))
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    told = ", ".join(f"{name} {p / 1e6:.3f} and {m / 1e6:.3f} MB" for name, (p, m) in rows.items())
    return style.described(figure, f"Predicted and measured bytes: {told}.")
