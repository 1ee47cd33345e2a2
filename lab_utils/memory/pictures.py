"""Pictures of the memory ledger: one plan line by line, and several methods side by side. Numbers
come in, pictures go out.
"""

from collections.abc import Mapping, Sequence

from lab_utils.drawing import style
from lab_utils.drawing.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    Picture,
)
from lab_utils.memory.checkpointing import Event, Point, Schedule, State
from lab_utils.memory.ledger import Line, fits_on, peak, size_range
from lab_utils.memory.paging import Moment, pages_moved

WHEN = {"kept": BLUE, "step": VERMILLION, "card": GREY}
LEGEND = (("kept", "kept between steps"), ("step", "made in a step"), ("card", "taken by the card"))
SAID = {"yes": "fits", "perhaps": "perhaps", "no": "no"}
FILL = {"yes": "#CFEFE4", "perhaps": YELLOW, "no": "#EEEEEE"}  # the word says the same
# hatch: for print
PARTS = {
    "weights": (SKY, ""),
    "gradients": (ORANGE, "//"),
    "optimizer": (PURPLE, ".."),
    "activations": (VERMILLION, "xx"),
    "logits and loss": (GREEN, "\\\\"),
    "card and slack": (GREY, ""),
}


def merged(lines: Sequence[Line]) -> list[Line]:
    """The lines with all parts of the activations as one, where the first of them stood."""
    rows: list[Line] = []
    for line in lines:
        if line.name.startswith("activations") and rows and rows[-1].name == "activations":
            rows[-1] = rows[-1]._replace(
                low=rows[-1].low + line.low, high=rows[-1].high + line.high
            )
        else:
            rows.append(
                line._replace(name="activations") if line.name.startswith("activations") else line
            )
    return rows


# ---------------------------------------------------------------------------------- one plan (live)
def ledger_picture(title: str, lines: Sequence[Line], room: int = 0) -> Picture:
    """A bar for each part, hollow up to its high end; the peak; each card's verdict.

    With `room`, the rows share the height of so many, however many they are: a live picture then
    keeps its height.
    """
    rows, (low, high), cards = merged(lines), peak(list(lines)), fits_on(list(lines))
    holding = [card for card, verdict in cards.items() if verdict == "yes"]
    perhaps = [card for card, verdict in cards.items() if verdict == "perhaps"]
    description = (
        f"{title}: {size_range(low, high)} GB at the peak of a step. Fits on "
        f"{', '.join(holding) or 'no card here'}"
    )
    description += f"; perhaps on {', '.join(perhaps)}." if perhaps else "."
    top, parts = max(row.high for row in rows), [style.text(0, 26, title, 22, bold=True)]
    pitch = 34 * (room or len(rows)) / len(rows)
    for i, (when, words) in enumerate(LEGEND):
        parts += [
            style.rect(270 * i, 42, 20, 20, WHEN[when]),
            style.text(270 * i + 28, 59, words, 18, GREY),
        ]
    parts.append(style.text(1000, 59, "hollow: up to", 18, GREY, "end"))
    for i, row in enumerate(rows):
        parts += ledger_row(row, 76 + pitch * i, top, pitch)
    y = 76 + pitch * len(rows)
    parts.append(
        style.text(0, y + 34, f"At the peak of a step: {size_range(low, high)} GB", 26, bold=True)
    )
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
        style.text(
            300 + max(hollow, 1), baseline, f"{size_range(row.low, row.high)} GB", 20, bold=True
        ),
    ]


def card_boxes(cards: dict[str, str], y: float) -> list[str]:
    """A box for each card with its verdict, four in a row."""
    parts = []
    for i, (card, verdict) in enumerate(cards.items()):
        x, top = 250 * (i % 4), y + 44 * (i // 4)
        parts.append(
            style.rect(x + 1, top, 242, 38, FILL[verdict], BLACK if verdict == "yes" else GREY)
        )
        parts.append(
            style.text(
                x + 122,
                top + 26,
                f"{card}: {SAID[verdict]}",
                18,
                BLACK,
                "middle",
                bold=verdict == "yes",
            )
        )
    return parts


# ----------------------------------------------------------------------------- methods side by side
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
def methods_figure(
    ledgers: dict[str, Sequence[Line]], card_gigabytes: Sequence[float] = (24, 80)
) -> Picture:
    """Stacked bars, one for each named ledger, at the high ends; dashed lines are cards."""
    figure, axes = style.new_figure(width=11, height=1.6 + 0.75 * len(ledgers))
    sizes = {name: {part: 0.0 for part in PARTS} for name in ledgers}
    for name, lines in ledgers.items():
        for line in lines:
            sizes[name][part_of(line)] += line.high / 1e9
    left = dict.fromkeys(ledgers, 0.0)
    for part, (color, hatch) in PARTS.items():
        widths = [sizes[name][part] for name in ledgers]
        axes.barh(
            list(ledgers),
            widths,
            left=list(left.values()),
            color=color,
            hatch=hatch,
            edgecolor="white",
            label=part,
        )
        left = {name: left[name] + width for name, width in zip(left, widths, strict=True)}
    for i, total in enumerate(left.values()):
        axes.text(
            total,
            i,
            f" {total:.0f} GB" if total >= 10 else f" {total:.1f} GB",
            va="center",
            weight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0},
        )
    for size in card_gigabytes:
        axes.axvline(size, color=BLACK, linestyle="--", linewidth=1.5)
        axes.text(size, -0.55, f" {size:g} GB card", va="bottom", fontsize=13)
    axes.set(
        xlim=(0, max(left.values()) * 1.12), xlabel="gigabytes at the peak of a step, high end"
    )
    axes.invert_yaxis()
    figure.legend(ncols=len(PARTS), loc="outside upper center", fontsize=12)
    shares = {
        name: ", ".join(f"{part} {size:.1f}" for part, size in of.items() if size)
        for name, of in sizes.items()
    }
    told = "; ".join(f"{name} {total:.1f} GB, of it {shares[name]}" for name, total in left.items())
    return style.described(figure, f"Memory of fine-tuning by part: {told}.")


@style.styled
def ratio_figure(rows: dict[str, tuple[float, float]]) -> Picture:
    """Predicted and measured bytes of each part as two bars, with their ratio."""
    figure, axes = style.new_figure(width=11, height=1.4 + 0.7 * len(rows))
    for i, (predicted, measured) in enumerate(rows.values()):
        first = i == 0
        axes.barh(i - 0.2, predicted / 1e6, 0.36, color=BLUE, label="predicted" if first else None)
        axes.barh(
            i + 0.2,
            measured / 1e6,
            0.36,
            color=ORANGE,
            hatch="//",
            edgecolor="white",
            label="measured" if first else None,
        )
        axes.text(
            max(predicted, measured) / 1e6, i, f" ratio {predicted / measured:.4f}", va="center"
        )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="megabytes", xlim=(0, max(max(pair) for pair in rows.values()) / 1e6 * 1.2))
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    told = ", ".join(f"{name} {p / 1e6:.3f} and {m / 1e6:.3f} MB" for name, (p, m) in rows.items())
    return style.described(figure, f"Predicted and measured bytes: {told}.")


LEFT, RIGHT = 190, 985  # where the chain and the meters begin and end


# ----------------------------------------------------------------------------------- stepper (live)
def event_words(event: Event | None) -> str:
    """An event as a person says it."""
    if event is None:
        return "nothing has happened yet"
    if event.kind == "discard":
        return f"discard activation {event.layer}"
    keeps = ", keep its inside" if event.saves else ""
    return f"{event.kind} layer {event.layer}{keeps}"


def stepper_picture(
    schedule: Schedule, states: Sequence[State], step: int, inside: float = 0
) -> Picture:
    """The chain after `step` events of a schedule: what is kept, and how much work it took.

    `states` is the schedule's replay; an activation counts 1 and the inside of a layer `inside`.
    """
    state, event = states[step], schedule.events[step - 1] if step else None
    sizes = [s.size(1, inside) for s in states]
    here, highest, whole = sizes[step], max(sizes[: step + 1]), max(sizes)
    layers = f"{schedule.n} layer{'s' if schedule.n > 1 else ''}"
    title = (
        f"{schedule.name}, {layers}, event {step} of {len(schedule.events)}: {event_words(event)}"
    )
    description = (
        f"{title}. Kept: activations {numbers_of(state.activations)}, insides "
        f"{numbers_of(state.insides)}: {here:g} in all, peak so far {highest:g}, of the whole "
        f"plan {whole:g}. Forward steps: {state.forwards} of {states[-1].forwards}; "
        f"{schedule.n - state.waiting} of {schedule.n} layers have their gradient."
    )
    everything = schedule.n + 1 + schedule.n * inside
    parts = [style.text(0, 26, title, 23, bold=True), *chain(schedule.n, state, event)]
    parts += meter(
        "memory kept",
        here,
        highest,
        max(everything, whole),
        BLUE,
        226,
        f"{here:g} (peak {highest:g})",
    )
    work = f"{state.forwards} of {states[-1].forwards} forward steps"
    parts += meter("work done", state.forwards, schedule.n, 3 * schedule.n, ORANGE, 276, work)
    parts += memory_line(sizes, step, 335, everything)
    return style.svg(1000, 470, description, *parts)


def numbers_of(numbers: frozenset[int]) -> str:
    """A set of numbers in words: "0, 4, 8" or "none"."""
    return ", ".join(map(str, sorted(numbers))) or "none"


def chain(n: int, state: State, event: Event | None) -> list[str]:
    """Activations as circles, insides as boxes, gradients as check marks; the layer ringed."""
    step = (RIGHT - LEFT - 40) / n
    radius = min(21, step * 0.36)
    parts = [
        style.text(0, 96, "activations", 20, BLUE, bold=True),
        style.text(0, 152, "insides", 20, VERMILLION, bold=True),
    ]
    parts.append(style.text(0, 196, "gradients", 20, GREEN, bold=True))
    for i in range(n + 1):
        x, held = LEFT + 20 + i * step, i in state.activations
        edge = (
            BLACK
            if event and event.kind != "backward" and i == event.layer
            else BLUE
            if held
            else "#BBBBBB"
        )
        parts.append(style.circle(x, 90, radius, BLUE if held else "white", edge))
        parts.append(
            style.text(
                x, 97, i, 20 if n <= 12 else 17, "white" if held else GREY, "middle", bold=held
            )
        )
        if i:
            parts += layer_marks(i, x - step / 2, min(32, step * 0.6), state, event)
    return parts


def layer_marks(layer: int, x: float, width: float, state: State, event: Event | None) -> list[str]:
    """A layer's inside as a box, an arrow while it works, a check mark once it has its gradient."""
    held = layer in state.insides
    parts = [
        style.rect(
            x - width / 2,
            130,
            width,
            30,
            VERMILLION if held else "white",
            VERMILLION if held else "#BBBBBB",
        )
    ]
    if layer > state.waiting:
        parts.append(style.text(x, 200, "✓", 26, GREEN, "middle", bold=True))
    if event and event.layer == layer and event.kind != "discard":
        arrow = "←" if event.kind == "backward" else "→"
        parts.append(style.text(x, 62, arrow, 34, BLACK, "middle", bold=True))
    return parts


def meter(
    label: str, value: float, mark: float, top: float, color: str, y: float, words: str
) -> list[str]:
    """A horizontal bar from 0 to `top` with a mark on it, and the number in words."""
    end = 640
    place = style.placed(mark, 0, top, LEFT, end)
    return [
        style.text(0, y + 24, label, 20, bold=True),
        style.rect(LEFT, y, end - LEFT, 34, "#F0F0F0"),
        style.rect(LEFT, y, style.placed(value, 0, top, 0, end - LEFT), 34, color),
        style.line([(place, y - 5), (place, y + 39)], BLACK, 4),
        style.text(end + 14, y + 25, words, 22, bold=True),
    ]


def memory_line(sizes: Sequence[float], step: int, top: float, everything: float) -> list[str]:
    """Memory kept over the events, past ones bold; dashed: what keeping everything would need."""
    bottom, highest = top + 105, max(everything, *sizes)
    xs = [style.placed(i, 0, max(len(sizes) - 1, 1), LEFT, RIGHT) for i in range(len(sizes))]
    points = [
        (x, style.placed(size, 0, highest, bottom, top)) for x, size in zip(xs, sizes, strict=True)
    ]
    level = style.placed(everything, 0, highest, bottom, top)
    return [
        style.text(0, top + 40, "memory kept", 20, bold=True),
        style.text(0, top + 66, "over time", 20, bold=True),
        style.line([(LEFT, level), (RIGHT, level)], GREY, 2, "8 6"),
        style.text(RIGHT, level - 7, f"everything kept: {everything:g}", 18, GREY, "end"),
        style.line([(LEFT, top), (LEFT, bottom), (RIGHT, bottom)], GREY),
        style.line(points, SKY, 3),
        style.line(points[: step + 1], BLUE, 5),
        style.circle(*points[step], 8, BLACK),
        style.text(LEFT, bottom + 22, "forward", 18, GREY),
        style.text(RIGHT, bottom + 22, "backward done", 18, GREY, "end"),
    ]


# ----------------------------------------------------------------------------------- static figures
@style.styled
def segments_figure(n: int, peaks: Sequence[float], best: int) -> Picture:
    """Peak memory over the segment length k = 1..n, `best` marked."""
    figure, axes = style.new_figure()
    lengths = range(1, n + 1)
    axes.plot(lengths, peaks, "o-", color=BLUE, label="peak")
    axes.plot(lengths, [-(-n // k) for k in lengths], "--", color=GREEN, label="checkpoints: n / k")
    axes.plot(lengths, lengths, ":", color=VERMILLION, label="one segment: k")
    axes.plot(
        best, peaks[best - 1], "o", color=BLACK, markersize=18, fillstyle="none", markeredgewidth=3
    )
    axes.annotate(
        f"k = {best}: {peaks[best - 1]:g}",
        (best, peaks[best - 1]),
        (0, 22),
        textcoords="offset points",
        weight="bold",
    )
    axes.set(xlabel="segment length k", ylabel="kept activations", ylim=(0, None))
    axes.locator_params(axis="y", integer=True)
    axes.legend()
    return style.described(
        figure,
        f"With {n} layers the peak falls from {peaks[0]:g} kept activations at k = 1 to "
        f"{peaks[best - 1]:g} at k = {best} and rises to {peaks[-1]:g} at k = {n}.",
    )


@style.styled
def traces_figure(
    predicted: dict[str, Sequence[float]], measured: dict[str, Sequence[float]], unit: str
) -> Picture:
    """Memory after each event, for each plan: predicted as a line, measured as dots."""
    figure, axes = style.new_figure(1, len(predicted), width=13, height=4.2, sharey=True)
    for panel, (name, expected) in zip(axes, predicted.items(), strict=True):
        panel.plot(range(1, len(expected) + 1), expected, color=ORANGE, label="predicted")
        panel.plot(
            range(1, len(expected) + 1),
            measured[name],
            ".",
            color=BLUE,
            markersize=7,
            label="measured",
        )
        panel.set(title=f"{name}: peak {max(measured[name]):.2f}", xlabel="event", ylim=(0, None))
    axes[0].set(ylabel=unit)
    axes[0].legend()
    said = ", ".join(
        f"{name} {max(measured[name]):.2f} (predicted {max(predicted[name]):.2f})"
        for name in predicted
    )
    return style.described(figure, f"Memory over the events of each plan; peaks in {unit}: {said}.")


@style.styled
def frontier_figure(
    points: Sequence[Point], n: int, unit: str, marked: Sequence[str] = ()
) -> Picture:
    """Every plan as a point: memory to the right, work upwards, cut off at 3.3.

    Plans named in `marked` are labelled.
    """
    figure, axes = style.new_figure(width=11, height=5.5)
    families = {
        "optimal": "optimal",
        "every": "segments of k",
        "one": "one layer in k",
        "none": "none",
    }
    looks = {
        "optimal": ("o-", BLUE),
        "every": ("s", VERMILLION),
        "one": ("^", GREEN),
        "none": ("D", BLACK),
    }
    for family, label in families.items():
        chosen = sorted((p.peak, 1 + p.extra / n) for p in points if family_of(p) == family)
        look, color = looks[family]
        axes.plot(*zip(*chosen), look, color=color, label=label, markersize=8)
    named = [point for name in marked for point in points if point.plan == name]
    for i, point in enumerate(named):
        if not point.extra:  # at the lower right: the corner below the points is free
            place = {"xytext": (-24, -8), "ha": "right"}
        elif i % 2 == 0:
            place = {"xytext": (0, 34), "ha": "center"}
        else:
            place = {"xytext": (4, -48), "ha": "right"}
        axes.annotate(
            f"{point.plan}: {point.peak:g}",
            (point.peak, 1 + point.extra / n),
            textcoords="offset points",
            weight="bold",
            arrowprops={"arrowstyle": "-", "color": GREY},
            **place,
        )
    axes.set(
        xlabel=f"peak memory ({unit})",
        ylabel="forward work (1 = once)",
        xscale="log",
        ylim=(0.9, 3.3),
    )
    ticks = [
        tick
        for tick in (5, 10, 20, 50, 100, 200, 500, 1000)
        if points_range(points)[0] <= tick <= points_range(points)[1]
    ]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    said = "; ".join(
        f"{p.plan}: {p.peak:g} at {1 + p.extra / n:.2f} times the forward work" for p in named
    )
    return style.described(figure, f"Memory against work for {n} layers. {said}.")


def family_of(point: Point) -> str:
    """ "every layer" is one layer in 1; otherwise the first word of a plan's name."""
    return "one" if point.plan == "every layer" else point.plan.split()[0]


def points_range(points: Sequence[Point]) -> tuple[float, float]:
    """The smallest and the largest peak."""
    peaks = [point.peak for point in points]
    return min(peaks), max(peaks)


@style.styled
def lengths_figure(
    lengths: Sequence[int],
    curves: dict[str, Sequence[float]],
    unit: str,
    limit: float | None = None,
) -> Picture:
    """Memory over the sequence length, one line for each way; `limit` is a horizontal line."""
    figure, axes = style.new_figure()
    for i, (name, values) in enumerate(curves.items()):
        axes.plot(lengths, values, "os^Dv"[i % 5] + "-", label=name, color=style.PALETTE[i])
    if limit is not None:
        axes.axhline(limit, color=GREY, linestyle="--", linewidth=2)
        axes.annotate(
            f"{limit:g} {unit}", (lengths[0], limit), (0, 6), textcoords="offset points", color=GREY
        )
    axes.set(xlabel="sequence length", ylabel=unit, xscale="log", yscale="log", xticks=lengths)
    axes.set_xticklabels(lengths)
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    said = "; ".join(
        f"{name} {values[0]:.3g} to {values[-1]:.3g}" for name, values in curves.items()
    )
    return style.described(
        figure, f"{unit} for sequences of {lengths[0]} to {lengths[-1]} tokens: {said}."
    )


COLUMNS = 12


# -------------------------------------------------------------------------------- page mover (live)
def request_words(moment: Moment) -> str:
    """A request as a person says it."""
    kind, amount = moment.request
    if kind == "touch":
        return f"the optimizer uses page {amount}"
    verb = "need" if kind == "reserve" else "give back"
    return f"forward and backward {verb} {amount} page{'' if amount == 1 else 's'}"


def pages_picture(
    moments: Sequence[Moment], step: int, n_pages: int, capacity: int, page_seconds: float
) -> Picture:
    """GPU and CPU after moment `step`, counted from 1: activations, pages, and what has moved."""
    moment, total = moments[step - 1], pages_moved(moments[:step])
    away = [page for page in range(n_pages) if page not in moment.on_gpu]
    words = (
        "OUT OF MEMORY: " + request_words(moment) if moment.out_of_memory else request_words(moment)
    )
    title = f"event {step} of {len(moments)}: {words}"
    seconds = f"{1000 * total * page_seconds:.1f} ms"
    description = (
        f"{title}. GPU: {moment.reserved} of {capacity} pages hold activations, "
        f"{len(moment.on_gpu)} the optimizer, {capacity - moment.reserved - len(moment.on_gpu)} "
        f"are free; {len(away)} pages are on the CPU. Now to the GPU: {list_of(moment.moved_in)}; "
        f"to the CPU: {list_of(moment.moved_out)}. Pages moved so far: {total}, {seconds}."
    )
    cells = [("act", ORANGE)] * moment.reserved + [(page, BLUE) for page in sorted(moment.on_gpu)]
    cells += [("", "white")] * (capacity - len(cells))
    rows = max(-(-capacity // COLUMNS), 2)  # the picture keeps its height while the room changes
    below = 100 + 62 * rows
    parts = [style.text(0, 26, title, 24, VERMILLION if moment.out_of_memory else BLACK, bold=True)]
    parts.append(style.text(0, 68, f"GPU, room for {capacity} pages", 22, bold=True))
    parts += cell_rows(cells, 80, moment)
    parts.append(
        style.text(0, below + 22, f"CPU, {len(away)} pages of the optimizer", 22, bold=True)
    )
    parts += cell_rows([(page, SKY) for page in away], below + 34, moment)
    parts += [
        style.rect(760, below + 70, 20, 20, ORANGE, BLACK),
        style.text(790, below + 88, "activations (fixed)", 20),
    ]
    parts += [
        style.rect(760, below + 102, 20, 20, BLUE, BLACK),
        style.text(790, below + 120, "optimizer (pages)", 20),
    ]
    parts.append(style.text(760, below + 152, "↓ ↑ moved just now", 20))
    parts.append(
        style.text(0, below + 190, f"moved so far: {total} pages, {seconds}", 24, bold=True)
    )
    return style.svg(1000, below + 204, description, *parts)


def list_of(pages: Sequence[int]) -> str:
    """Page numbers in words."""
    return ", ".join(map(str, sorted(pages))) or "none"


def cell_rows(cells: Sequence[tuple[object, str]], top: float, moment: Moment) -> list[str]:
    """Pages as boxes with their numbers, twelve in a row; an arrow marks those that just came."""
    parts = []
    for i, (label, color) in enumerate(cells):
        x, y = 2 + i % COLUMNS * 60, top + i // COLUMNS * 62
        arrow = "↑" if label in moment.moved_in else "↓" if label in moment.moved_out else ""
        ink = "white" if color == BLUE else BLACK
        parts.append(style.rect(x, y, 54, 54, color, BLACK if label != "" else GREY))
        parts.append(
            style.text(
                x + 27,
                y + 35,
                f"{label}{arrow}",
                22 if label != "act" else 20,
                ink,
                "middle",
                bold=True,
            )
        )
    return parts


# ------------------------------------------------------------------------------------ static figure
@style.styled
def room_figure(
    rooms: Sequence[int], moved: Sequence[float], plain: Sequence[bool], runs: Sequence[bool]
) -> Picture:
    """Pages moved in a step over the GPU's room; `plain` runs without paging, `runs` with it."""
    figure, axes = style.new_figure(width=11)
    kinds = (
        ("runs without paging", BLUE, "o", lambda i: plain[i]),
        ("paging saves the run", ORANGE, "s", lambda i: runs[i] and not plain[i]),
        ("out of memory all the same", VERMILLION, "x", lambda i: not runs[i]),
    )
    for label, color, mark, belongs in kinds:
        chosen = [i for i in range(len(rooms)) if belongs(i)]
        axes.plot(
            [rooms[i] for i in chosen],
            [moved[i] for i in chosen],
            mark,
            color=color,
            markersize=12,
            label=label,
        )
    axes.set(xlabel="room on the GPU (pages)", ylabel="pages moved in a step", ylim=(-1.5, None))
    axes.legend()
    saved = [i for i in range(len(rooms)) if runs[i] and not plain[i]]
    said = (
        f"paging saves the run with room for {rooms[saved[0]]} to {rooms[saved[-1]]} pages and "
        f"moves {max(moved[i] for i in saved):g} to {min(moved[i] for i in saved):g} a step"
        if saved
        else "paging changes nothing"
    )
    return style.described(figure, f"Pages moved over the room on the GPU: {said}.")


# ------------------------------------------------------------------------------ what a model weighs
def memory_picture(
    title: str,
    sizes: Mapping[str, float],
    cards: Mapping[str, float],
    fitting: Mapping[str, list[str]],
) -> Picture:
    """Gigabytes of each scheme as bars, cards as lines with their gigabytes (where there is room)
    and their names below, and the smallest card that each scheme fits on.
    """
    smallest = {
        name: (fits[0] if fits else "no single card here") for name, fits in fitting.items()
    }
    description = (
        f"{title}: " + "; ".join(f"{n} {gb:.1f} GB, {smallest[n]}" for n, gb in sizes.items()) + "."
    )
    top = max(*sizes.values(), min(cards.values())) * 1.08
    height = 60 + 58 * len(sizes)
    parts, free = [style.text(0, 26, title, 22, bold=True)], 0.0
    for size in sorted(cards.values()):
        if size <= top:
            place = style.placed(size, 0, top, 390, 780)
            parts.append(style.line([(place, 44), (place, height)], GREY, 1.5, "4 4"))
            if place >= free:
                parts.append(style.text(place, height + 20, f"{size:g}", 18, GREY, "middle"))
                free = place + 34
    for i, (name, gigabytes) in enumerate(sizes.items()):
        y, length = 50 + 58 * i, style.placed(gigabytes, 0, top, 0, 390)
        parts += [
            style.text(0, y + 28, name, 20),
            style.rect(390, y + 4, length, 36, PALETTE[i % len(PALETTE)]),
        ]
        parts.append(style.text(795, y + 22, f"{gigabytes:.1f} GB", 22, bold=True))
        parts.append(style.text(795, y + 44, smallest[name], 18, GREY))
    names = " · ".join(name.removesuffix(" GB") for name in cards)
    parts.append(style.text(0, height + 48, f"dashed, GB: {names}", 18, GREY))
    return style.svg(1000, height + 60, description, *parts)
