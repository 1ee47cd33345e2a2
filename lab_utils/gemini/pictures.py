"""Pictures of lab 08: a simulated tuning job, what its tokens are, and from when on it pays.
Numbers come in, pictures go out.
"""

import math
from collections.abc import Mapping, Sequence

from lab_utils.drawing import style
from lab_utils.drawing.style import BLACK, BLUE, GREEN, GREY, PALETTE, VERMILLION, Picture
from lab_utils.gemini.simulated import SIMULATED, SimulatedJob
from lab_utils.gemini.tuning import FINISHED

PLACES = {
    "PENDING": (20, 100),
    "RUNNING": (370, 100),
    "SUCCEEDED": (720, 100),
    "CANCELLED": (20, 230),
    "CANCELLING": (370, 230),
    "FAILED": (720, 230),
}
ARROWS = (
    ("PENDING", "RUNNING"),
    ("RUNNING", "SUCCEEDED"),
    ("RUNNING", "CANCELLING"),
    ("CANCELLING", "CANCELLED"),
    ("PENDING", "CANCELLED"),
    ("RUNNING", "FAILED"),
)
BOX_WIDTH, BOX_HEIGHT = 250, 64


# ------------------------------------------------------------------------------------- a job (live)
def job_picture(jobs: Sequence[SimulatedJob], step: int, dollars_per_million: float) -> Picture:
    """The states, the one at `step` filled; the epochs read, and what they would cost. The banner
    says that it is no real job.
    """
    job = jobs[step]
    dollars = job.billed_tokens * dollars_per_million / 1e6
    bill = f"{job.billed_tokens:,} tokens, ${dollars:.2f}"
    ended = "would be billed" if job.state in FINISHED else "would be billed so far"
    description = (
        f"SIMULATED job at step {step}: {job.state}, {job.epochs_done} of {job.epochs} epochs "
        f"read; {ended}: {bill}."
    )
    parts = [style.rect(0, 0, 1000, 44, style.INKS[VERMILLION])]
    parts.append(style.text(500, 31, SIMULATED, 21, "#FFFFFF", "middle", bold=True))
    parts.append(style.text(20, 84, f"step {step}", 22, bold=True))
    path = [earlier.state for earlier in jobs[: step + 1]]
    visited, taken = set(path), set(zip(path, path[1:], strict=False))
    parts += [arrow(start, end, (start, end) in taken) for start, end in ARROWS]
    parts += [state_box(state, state == job.state, state in visited) for state in PLACES]
    parts += epoch_boxes(job)
    parts.append(
        style.text(
            20, 440, f"{ended}: {bill} at ${dollars_per_million:.2f} per million", 24, bold=True
        )
    )
    return style.svg(1000, 460, description, *parts)


def state_box(state: str, here: bool, visited: bool) -> str:
    """A state as a box: filled where the job is, with a black edge where it was, grey elsewhere."""
    (x, y), edge = PLACES[state], BLACK if visited else GREY
    color, ink = (BLUE, "#FFFFFF") if here else ("#FFFFFF", edge)
    name = style.text(x + BOX_WIDTH / 2, y + 41, state, 24, ink, "middle", bold=here or visited)
    return style.rect(x, y, BOX_WIDTH, BOX_HEIGHT, color, edge) + name


def arrow(start: str, end: str, taken: bool) -> str:
    """From one box to the next: to the side, down, or from RUNNING down to FAILED; thick where the
    job went.
    """
    (x, y), (to_x, to_y) = PLACES[start], PLACES[end]
    if y == to_y:
        sides = (x + BOX_WIDTH, to_x) if to_x > x else (x, to_x + BOX_WIDTH)
        points = [(side, y + BOX_HEIGHT / 2) for side in sides]
    elif x == to_x:
        points = [(x + BOX_WIDTH / 2, y + BOX_HEIGHT), (x + BOX_WIDTH / 2, to_y)]
    else:
        points = [(x + BOX_WIDTH, y + BOX_HEIGHT), (to_x, to_y)]
    color, width = (BLACK, 5) if taken else (GREY, 2)
    return style.line(points, color, width) + arrow_head(*points, color)


def arrow_head(
    start: tuple[float, float], end: tuple[float, float], color: str, size: float = 15
) -> str:
    """Two short lines at the end of an arrow."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    wings = [
        (end[0] - size * math.cos(angle + turn), end[1] - size * math.sin(angle + turn))
        for turn in (0.45, -0.45)
    ]
    return style.line([wings[0], end, wings[1]], color, 3)


def epoch_boxes(job: SimulatedJob) -> list[str]:
    """A box for each epoch, green and marked once it was read."""
    parts = [style.text(20, 350, "epochs", 22, bold=True)]
    for i in range(job.epochs):
        read = i < job.epochs_done
        parts.append(
            style.rect(
                130 + i * 130,
                320,
                115,
                44,
                style.INKS[GREEN] if read else "#F4F4F4",
                BLACK if read else GREY,
            )
        )
        parts.append(
            style.text(
                187 + i * 130,
                350,
                "read" if read else "to come",
                20,
                "#FFFFFF" if read else GREY,
                "middle",
                bold=read,
            )
        )
    return parts


# -------------------------------------------------------------------------------- break-even (live)
def break_even_picture(
    tuning: float, prompted: float, tuned: float, questions: float, shots: int
) -> Picture:
    """Dollars over the number of questions. `prompted` and `tuned` are dollars a question, `tuning`
    is paid once.

    `questions` is where they meet, infinity for never; the axis goes to twice that, or to 10,000.
    """
    far = 2 * questions if math.isfinite(questions) and questions else 10_000
    top = max(far * prompted, tuning + far * tuned) * 1.05
    meeting = (
        f"equal at {questions:,.0f} questions" if math.isfinite(questions) else "tuning never pays"
    )
    description = (
        f"{shots} examples in every prompt against tuning for ${tuning:.2f}: {meeting}"
        + (f", ${questions * prompted:.2f}." if math.isfinite(questions) else ".")
    )
    left, right, low, high = 110, 960, 380, 70

    def at(n: float, dollars: float) -> tuple[float, float]:
        return style.placed(n, 0, far, left, right), style.placed(dollars, 0, top, low, high)

    parts = [
        style.text(0, 28, f"{shots} examples in every prompt, or tuning: {meeting}", 24, bold=True)
    ]
    parts.append(style.line([(left, high), (left, low), (right, low)], GREY))
    parts.append(style.line([at(0, 0), at(far, far * prompted)], VERMILLION, 5))
    parts.append(
        style.line([at(0, tuning), at(far, tuning + far * tuned)], BLUE, 5, style.DASHES[1])
    )
    parts += [
        style.text(
            right,
            at(far, far * prompted)[1] - 12,
            "examples in the prompt",
            20,
            VERMILLION,
            "end",
            bold=True,
        )
    ]
    # the line that is cheaper in the end lies below
    below = 32 if tuned < prompted and math.isfinite(questions) else -12
    parts += [
        style.text(
            right,
            at(far, tuning + far * tuned)[1] + below,
            "- - - tuned",
            20,
            BLUE,
            "end",
            bold=True,
        )
    ]
    for n in (0, far / 2, far):
        parts.append(style.text(at(n, 0)[0], low + 30, f"{n:,.0f}", 20, GREY, "middle"))
    for dollars in (tuning, top / 1.05):
        parts.append(
            style.text(left - 8, at(0, dollars)[1] + 7, f"${dollars:.2f}", 20, GREY, "end")
        )
    parts.append(style.text((left + right) / 2, low + 60, "questions asked", 20, GREY, "middle"))
    if math.isfinite(questions) and questions:
        parts.append(style.circle(*at(questions, questions * prompted), 13, "none", BLACK))
    return style.svg(1000, 450, description, *parts)


# ----------------------------------------------------------------------------------- static figures
@style.styled
def parts_figure(tokens: Mapping[str, int]) -> Picture:
    """One bar for each part of a tuning file: its tokens, and their share of the bill."""
    figure, axes = style.new_figure(height=3.2)
    total = sum(tokens.values())
    for (name, count), color, hatch in zip(
        tokens.items(), PALETTE, ("//", "", "xx", ".."), strict=False
    ):
        axes.barh([name], [count], color=color, hatch=hatch, edgecolor="white")
        axes.text(count, name, f" {count:,} ({count / total:.0%})", va="center", weight="bold")
    axes.invert_yaxis()
    axes.set(xlabel="tokens in one epoch (estimated)", xlim=(0, max(tokens.values()) * 1.3))
    shares = ", ".join(f"{name} {count:,} ({count / total:.0%})" for name, count in tokens.items())
    return style.described(figure, f"Tokens of the tuning file in one epoch, estimated: {shares}.")


@style.styled
def cost_figure(costs: Mapping[str, Sequence[float]], epochs: Sequence[int]) -> Picture:
    """Dollars over epochs, one line for each model."""
    figure, axes = style.new_figure(height=4)
    for (name, dollars), color, look in zip(
        costs.items(), PALETTE, ("--s", "-o", ":D", "-.^"), strict=False
    ):
        axes.plot(epochs, dollars, look, color=color, label=name)
    axes.set(xlabel="epochs", ylabel="dollars", xticks=list(epochs), ylim=(0, None))
    axes.legend()
    last = ", ".join(f"{name} ${dollars[-1]:.2f}" for name, dollars in costs.items())
    return style.described(
        figure, f"The cost of tuning grows in proportion to the epochs; for {epochs[-1]}: {last}."
    )
