"""Pictures of lab 03: a schedule step by step, its memory over time, plans compared. Numbers come in, pictures go out."""

from collections.abc import Sequence

from lab_utils.checkpointing import Event, Point, Schedule, State
from lab_utils.plots import style
from lab_utils.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILLION, Picture

LEFT, RIGHT = 190, 985  # where the chain and the meters begin and end


# ---------------------------------------------------------------------------------------- stepper (live)
def event_words(event: Event | None) -> str:
    """An event as a person says it."""
    if event is None:
        return "nothing has happened yet"
    if event.kind == "discard":
        return f"discard activation {event.layer}"
    keeps = ", keep its inside" if event.saves else ""
    return f"{event.kind} layer {event.layer}{keeps}"


def stepper_picture(schedule: Schedule, states: Sequence[State], step: int, inside: float = 0) -> Picture:
    """The chain after `step` events of a schedule: what is kept, how much, how much work, and memory over time.

    `states` is the schedule's replay; an activation counts 1 and the inside of a layer `inside`.
    """
    state, event = states[step], schedule.events[step - 1] if step else None
    sizes = [s.size(1, inside) for s in states]
    here, highest, whole = sizes[step], max(sizes[: step + 1]), max(sizes)
    layers = f"{schedule.n} layer{'s' if schedule.n > 1 else ''}"
    title = f"{schedule.name}, {layers}, event {step} of {len(schedule.events)}: {event_words(event)}"
    description = (
        f"{title}. Kept: activations {numbers_of(state.activations)}, insides {numbers_of(state.insides)}: {here:g} in all, "
        f"peak so far {highest:g}, of the whole plan {whole:g}. Forward steps: {state.forwards} of {states[-1].forwards}; "
        f"{schedule.n - state.waiting} of {schedule.n} layers have their gradient."
    )
    everything = schedule.n + 1 + schedule.n * inside
    parts = [style.text(0, 26, title, 23, bold=True), *chain(schedule.n, state, event)]
    parts += meter("memory kept", here, highest, max(everything, whole), BLUE, 226, f"{here:g} (peak {highest:g})")
    work = f"{state.forwards} of {states[-1].forwards} forward steps"
    parts += meter("work done", state.forwards, schedule.n, 3 * schedule.n, ORANGE, 276, work)
    parts += memory_line(sizes, step, 335, everything)
    return style.svg(1000, 470, description, *parts)


def numbers_of(numbers: frozenset[int]) -> str:
    """A set of numbers in words: "0, 4, 8" or "none"."""
    return ", ".join(map(str, sorted(numbers))) or "none"


def chain(n: int, state: State, event: Event | None) -> list[str]:
    """Activations as circles, insides as boxes between them, gradients as check marks; the event's layer is ringed."""
    step = (RIGHT - LEFT - 40) / n
    radius = min(21, step * 0.36)
    parts = [style.text(0, 96, "activations", 20, BLUE, bold=True), style.text(0, 152, "insides", 20, VERMILLION, bold=True)]
    parts.append(style.text(0, 196, "gradients", 20, GREEN, bold=True))
    for i in range(n + 1):
        x, held = LEFT + 20 + i * step, i in state.activations
        edge = BLACK if event and event.kind != "backward" and i == event.layer else BLUE if held else "#BBBBBB"
        parts.append(style.circle(x, 90, radius, BLUE if held else "white", edge))
        parts.append(style.text(x, 97, i, 20 if n <= 12 else 17, "white" if held else GREY, "middle", bold=held))
        if i:
            parts += layer_marks(i, x - step / 2, min(32, step * 0.6), state, event)
    return parts


def layer_marks(layer: int, x: float, width: float, state: State, event: Event | None) -> list[str]:
    """The box of a layer's inside, an arrow where it works now, a check mark once it has its gradient."""
    held = layer in state.insides
    parts = [style.rect(x - width / 2, 130, width, 30, VERMILLION if held else "white", VERMILLION if held else "#BBBBBB")]
    if layer > state.waiting:
        parts.append(style.text(x, 200, "✓", 26, GREEN, "middle", bold=True))
    if event and event.layer == layer and event.kind != "discard":
        arrow = "←" if event.kind == "backward" else "→"
        parts.append(style.text(x, 62, arrow, 34, BLACK, "middle", bold=True))
    return parts


def meter(label: str, value: float, mark: float, top: float, color: str, y: float, words: str) -> list[str]:
    """A lying bar from 0 to `top` with a mark on it, and the number in words."""
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
    """Memory kept over the events, done ones bold; the dashed line is what keeping everything would need."""
    bottom, highest = top + 105, max(everything, *sizes)
    xs = [style.placed(i, 0, max(len(sizes) - 1, 1), LEFT, RIGHT) for i in range(len(sizes))]
    points = [(x, style.placed(size, 0, highest, bottom, top)) for x, size in zip(xs, sizes, strict=True)]
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


# ---------------------------------------------------------------------------------------- static figures
@style.styled
def segments_figure(n: int, peaks: Sequence[float], best: int) -> Picture:
    """Peak memory over the segment length k = 1..n, `best` marked."""
    figure, axes = style.new_figure()
    lengths = range(1, n + 1)
    axes.plot(lengths, peaks, "o-", color=BLUE, label="peak")
    axes.plot(lengths, [-(-n // k) for k in lengths], "--", color=GREEN, label="checkpoints: n / k")
    axes.plot(lengths, lengths, ":", color=VERMILLION, label="one segment: k")
    axes.plot(best, peaks[best - 1], "o", color=BLACK, markersize=18, fillstyle="none", markeredgewidth=3)
    axes.annotate(f"k = {best}: {peaks[best - 1]:g}", (best, peaks[best - 1]), (0, 22), textcoords="offset points", weight="bold")
    axes.set(xlabel="segment length k", ylabel="kept activations", ylim=(0, None))
    axes.locator_params(axis="y", integer=True)
    axes.legend()
    return style.described(
        figure, f"With {n} layers the peak falls from {peaks[0]:g} kept activations at k = 1 to {peaks[best - 1]:g} at "
        f"k = {best} and rises to {peaks[-1]:g} at k = {n}.")  # fmt: skip


@style.styled
def traces_figure(predicted: dict[str, Sequence[float]], measured: dict[str, Sequence[float]], unit: str) -> Picture:
    """Memory after each event, for each plan: predicted as a line, measured as dots."""
    figure, axes = style.new_figure(1, len(predicted), width=13, height=4.2, sharey=True)
    for panel, (name, expected) in zip(axes, predicted.items(), strict=True):
        panel.plot(range(1, len(expected) + 1), expected, color=ORANGE, label="predicted")
        panel.plot(range(1, len(expected) + 1), measured[name], ".", color=BLUE, markersize=7, label="measured")
        panel.set(title=f"{name}: peak {max(measured[name]):.2f}", xlabel="event", ylim=(0, None))
    axes[0].set(ylabel=unit)
    axes[0].legend()
    said = ", ".join(f"{name} {max(measured[name]):.2f} (predicted {max(predicted[name]):.2f})" for name in predicted)
    return style.described(figure, f"Memory over the events of each plan; peaks in {unit}: {said}.")


@style.styled
def frontier_figure(points: Sequence[Point], n: int, unit: str, marked: Sequence[str] = ()) -> Picture:
    """Every plan as a point: memory to the right, work upwards (cut off at 3.3). Plans named in `marked` are labelled."""
    figure, axes = style.new_figure(width=11, height=5.5)
    families = {"optimal": "optimal", "every": "segments of k", "one": "one layer in k", "none": "none"}
    looks = {"optimal": ("o-", BLUE), "every": ("s", VERMILLION), "one": ("^", GREEN), "none": ("D", BLACK)}
    for family, label in families.items():
        chosen = sorted((p.peak, 1 + p.extra / n) for p in points if family_of(p) == family)
        look, color = looks[family]
        axes.plot(*zip(*chosen), look, color=color, label=label, markersize=8)
    named = [point for name in marked for point in points if point.plan == name]
    for i, point in enumerate(named):
        place = {"xytext": (0, 34), "ha": "center"} if i % 2 == 0 else {"xytext": (4, -48), "ha": "right"}
        axes.annotate(f"{point.plan}: {point.peak:g}", (point.peak, 1 + point.extra / n), textcoords="offset points",
                      weight="bold", arrowprops={"arrowstyle": "-", "color": GREY}, **place)
    axes.set(xlabel=f"peak memory ({unit})", ylabel="forward work (1 = once)", xscale="log", ylim=(0.9, 3.3))
    ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000) if points_range(points)[0] <= tick <= points_range(points)[1]]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    said = "; ".join(f"{p.plan}: {p.peak:g} at {1 + p.extra / n:.2f} times the forward work" for p in named)
    return style.described(figure, f"Memory against work for {n} layers. {said}.")


def family_of(point: Point) -> str:
    """"every layer" is one layer in 1; otherwise the first word of a plan's name."""
    return "one" if point.plan == "every layer" else point.plan.split()[0]


def points_range(points: Sequence[Point]) -> tuple[float, float]:
    """The smallest and the largest peak."""
    peaks = [point.peak for point in points]
    return min(peaks), max(peaks)


@style.styled
def lengths_figure(lengths: Sequence[int], curves: dict[str, Sequence[float]], unit: str, limit: float | None = None) -> Picture:
    """Memory over the sequence length, one line for each way; `limit` is a horizontal line."""
    figure, axes = style.new_figure()
    for i, (name, values) in enumerate(curves.items()):
        axes.plot(lengths, values, "os^Dv"[i % 5] + "-", label=name, color=style.PALETTE[i])
    if limit is not None:
        axes.axhline(limit, color=GREY, linestyle="--", linewidth=2)
        axes.annotate(f"{limit:g} {unit}", (lengths[0], limit), (0, 6), textcoords="offset points", color=GREY)
    axes.set(xlabel="sequence length", ylabel=unit, xscale="log", yscale="log", xticks=lengths)
    axes.set_xticklabels(lengths)
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    said = "; ".join(f"{name} {values[0]:.3g} to {values[-1]:.3g}" for name, values in curves.items())
    return style.described(figure, f"{unit} for sequences of {lengths[0]} to {lengths[-1]} tokens: {said}.")
