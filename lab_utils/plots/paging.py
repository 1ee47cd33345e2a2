"""Pictures of lab 03 about paging: pages on GPU and CPU, and what moving them costs. Numbers come in, pictures go out."""

from collections.abc import Sequence

from lab_utils.paging import Moment, pages_moved
from lab_utils.plots import style
from lab_utils.plots.style import BLACK, BLUE, GREY, ORANGE, SKY, VERMILLION, Picture

COLUMNS = 12


# ---------------------------------------------------------------------------------------- page mover (live)
def request_words(moment: Moment) -> str:
    """A request as a person says it."""
    kind, amount = moment.request
    if kind == "touch":
        return f"the optimizer uses page {amount}"
    verb = "need" if kind == "reserve" else "give back"
    return f"forward and backward {verb} {amount} page{'' if amount == 1 else 's'}"


def pages_picture(moments: Sequence[Moment], step: int, n_pages: int, capacity: int, page_seconds: float) -> Picture:
    """GPU and CPU after moment `step` (counted from 1): activations, pages, and what moved until now."""
    moment, total = moments[step - 1], pages_moved(moments[:step])
    away = [page for page in range(n_pages) if page not in moment.on_gpu]
    words = "OUT OF MEMORY: " + request_words(moment) if moment.out_of_memory else request_words(moment)
    title = f"event {step} of {len(moments)}: {words}"
    seconds = f"{1000 * total * page_seconds:.1f} ms"
    description = (
        f"{title}. GPU: {moment.reserved} of {capacity} pages hold activations, {len(moment.on_gpu)} the optimizer, "
        f"{capacity - moment.reserved - len(moment.on_gpu)} are free; {len(away)} pages are on the CPU. "
        f"Now to the GPU: {list_of(moment.moved_in)}; to the CPU: {list_of(moment.moved_out)}. "
        f"Pages moved so far: {total}, {seconds}."
    )
    cells = [("act", ORANGE)] * moment.reserved + [(page, BLUE) for page in sorted(moment.on_gpu)]
    cells += [("", "white")] * (capacity - len(cells))
    rows = max(-(-capacity // COLUMNS), 2)  # the picture keeps its height while the room changes
    below = 100 + 62 * rows
    parts = [style.text(0, 26, title, 24, VERMILLION if moment.out_of_memory else BLACK, bold=True)]
    parts.append(style.text(0, 68, f"GPU, room for {capacity} pages", 22, bold=True))
    parts += cell_rows(cells, 80, moment)
    parts.append(style.text(0, below + 22, f"CPU, {len(away)} pages of the optimizer", 22, bold=True))
    parts += cell_rows([(page, SKY) for page in away], below + 34, moment)
    parts += [style.rect(760, below + 70, 20, 20, ORANGE, BLACK), style.text(790, below + 88, "activations (fixed)", 20)]
    parts += [style.rect(760, below + 102, 20, 20, BLUE, BLACK), style.text(790, below + 120, "optimizer (pages)", 20)]
    parts.append(style.text(760, below + 152, "↓ ↑ moved just now", 20))
    parts.append(style.text(0, below + 190, f"moved so far: {total} pages, {seconds}", 24, bold=True))
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
        parts.append(style.text(x + 27, y + 35, f"{label}{arrow}", 22 if label != "act" else 20, ink, "middle", bold=True))
    return parts


# ---------------------------------------------------------------------------------------- static figure
@style.styled
def room_figure(rooms: Sequence[int], moved: Sequence[float], plain: Sequence[bool], runs: Sequence[bool]) -> Picture:
    """Pages moved in a step over the room on the GPU; `plain`: it runs without paging; `runs`: it runs with paging."""
    figure, axes = style.new_figure(width=11)
    kinds = (("runs without paging", BLUE, "o", lambda i: plain[i]), ("paging saves the run", ORANGE, "s",
             lambda i: runs[i] and not plain[i]), ("out of memory all the same", VERMILLION, "x", lambda i: not runs[i]))
    for label, color, mark, belongs in kinds:
        chosen = [i for i in range(len(rooms)) if belongs(i)]
        axes.plot([rooms[i] for i in chosen], [moved[i] for i in chosen], mark, color=color, markersize=12, label=label)
    axes.set(xlabel="room on the GPU (pages)", ylabel="pages moved in a step", ylim=(-1.5, None))
    axes.legend()
    saved = [i for i in range(len(rooms)) if runs[i] and not plain[i]]
    said = f"paging saves the run with room for {rooms[saved[0]]} to {rooms[saved[-1]]} pages and moves " \
           f"{max(moved[i] for i in saved):g} to {min(moved[i] for i in saved):g} a step" if saved else "paging changes nothing"
    return style.described(figure, f"Pages moved over the room on the GPU: {said}.")
