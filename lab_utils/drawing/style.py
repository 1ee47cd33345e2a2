"""One look for all pictures: Okabe and Ito's colors, large type, and a sentence that says what a
picture shows.

SVG helpers make short strings, fast enough for a slider (matplotlib needs five times as long). Each
picture carries its description as `role="img"` with an aria-label, so that a screen reader reads
what the hall sees.
"""

import base64
import functools
import html
import io
from collections.abc import Callable, Sequence

# Okabe and Ito (2008): told apart by colour-blind eyes. Never the only sign: pictures also differ
# in place, word or dash.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#6E6E6E"  # 5:1 on white
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, YELLOW, BLACK)
DASHES = ("", "10 5", "3 4", "14 4 3 4")
# darker, for words
INKS = {
    VERMILLION: "#B34F00",
    GREEN: "#007A59",
    ORANGE: "#8F6300",
    SKY: "#1B6E9E",
    PURPLE: "#A04B7A",
}

MATPLOTLIB_RC = {
    "font.size": 16,
    "axes.titlesize": 18,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 3,
    "lines.markersize": 9,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


# -------------------------------------------------------------------- pictures that show themselves
class Picture(str):
    """HTML that a notebook shows as a picture; otherwise an ordinary string. `description` says
    what it shows.
    """

    description: str = ""

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return self.description


def picture(markup: str, description: str) -> Picture:
    made = Picture(markup)
    made.description = description
    return made


def styled(draw: Callable) -> Callable:
    """Decorator for a function that draws with matplotlib: the kit's type sizes and colors hold
    while it runs.
    """

    @functools.wraps(draw)
    def in_style(*arguments, **options):
        import matplotlib

        with matplotlib.rc_context(
            {**MATPLOTLIB_RC, "axes.prop_cycle": matplotlib.cycler(color=PALETTE)}
        ):
            return draw(*arguments, **options)

    return in_style


def new_figure(rows: int = 1, columns: int = 1, width: float = 10, height: float = 4.5, **options):
    """A matplotlib figure and its axes, without pyplot and its global state. Call it in a `styled`
    function.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def described(figure, description: str, dpi: int = 80) -> Picture:
    """A matplotlib figure as an image with alt text, which notebooks' PNG outputs lack."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=dpi, metadata={"Software": None, "Description": description}
    )
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(description, quote=True)
    return picture(
        f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{data}">', description
    )


# ---------------------------------------------------------------------------------------- SVG
def svg(width: int, height: int, description: str, *parts: str) -> Picture:
    """A picture of width x height units that scales with the page.

    `description` is one sentence.
    """
    label = html.escape(description, quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" viewBox="0 0 '
        f'{width} {height}" style="width:100%;max-width:{width}px;height:auto;background:white" '
        'font-family="sans-serif">'
    )
    return picture(head + "".join(parts) + "</svg>", description)


def as_image(drawn: Picture, width: int = 1060) -> Picture:
    """An SVG picture as an image with alt text, at most `width` pixels wide: the static twin of a
    live drawing.

    Jupyter shows images of a notebook that was just opened; bare SVG it leaves out until the
    notebook is trusted or run.
    """
    data, alt = (
        base64.b64encode(drawn.encode()).decode(),
        html.escape(drawn.description, quote=True),
    )
    image = (
        f'<img alt="{alt}" style="width:100%;max-width:{width}px" '
        f'src="data:image/svg+xml;base64,{data}">'
    )
    return picture(image, drawn.description)


def text(
    x: float,
    y: float,
    content: object,
    size: int = 20,
    color: str = BLACK,
    anchor: str = "start",
    bold: bool = False,
) -> str:
    """Text with its baseline at y; anchor is start, middle or end. Colors are darkened until they
    can be read on white.
    """
    weight = ' font-weight="bold"' if bold else ""
    place = (
        f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{INKS.get(color, color)}" '
        f'text-anchor="{anchor}"'
    )
    return f"<text {place}{weight}>{html.escape(str(content))}</text>"


def rect(x: float, y: float, width: float, height: float, color: str, edge: str = "none") -> str:
    """A filled box from its upper left corner."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" '
        f'fill="{color}" stroke="{edge}"/>'
    )


def line(
    points: Sequence[tuple[float, float]], color: str = BLACK, width: float = 2, dash: str = ""
) -> str:
    """A line through points, each (x, y)."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dashed}/>'
    )


def uprights(lines: Sequence[tuple[float, float, float]], color: str, width: float) -> str:
    """Upright lines, each (x, from y, to y), as one element: hundreds of them stay light."""
    path = "".join(f"M{x:.1f},{start:.1f}V{end:.1f}" for x, start, end in lines)
    return f'<path d="{path}" stroke="{color}" stroke-width="{width}"/>'


def circle(x: float, y: float, radius: float, color: str, edge: str = "none") -> str:
    """A dot."""
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}" stroke="{edge}" '
        'stroke-width="3"/>'
    )


def bars(
    values: Sequence[float],
    x: float,
    y: float,
    width: float,
    height: float,
    color: str,
    top: float | None = None,
) -> str:
    """Upright bars side by side in the box with upper left corner (x, y); `top` is the value that
    fills the height.
    """
    top = top or max(values, default=0) or 1
    step = width / max(len(values), 1)
    heights = [height * min(max(value / top, 0), 1) for value in values]
    return "".join(
        rect(x + i * step, y + height - h, step * 0.9, h, color) for i, h in enumerate(heights)
    )


def placed(value: float, low: float, high: float, start: float, end: float) -> float:
    """Where a value from low..high falls on the page, from start to end; values outside stay at the
    ends.
    """
    share = (value - low) / (high - low)
    return start + min(max(share, 0), 1) * (end - start)


def number(value: float, digits: int = 3) -> str:
    """A short number for a label: 0.00412, 12.5, 3.4e+38."""
    return f"{value:.{digits}g}"
