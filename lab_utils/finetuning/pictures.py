"""Pictures of lab 06: which tokens are learnt, the loss, two answers side by side, the methods
compared.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from statistics import mean

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
    Picture,
    picture,
)

# hatch: for print
METHODS = {
    "base": (GREY, ""),
    "full": (VERMILLION, "//"),
    "lora": (BLUE, ".."),
    "qlora": (GREEN, "xx"),
}
PARTS = {"weights": (SKY, ""), "gradients": (ORANGE, "//"), "optimizer": (PURPLE, "..")}
SHOWN_SPACE = "·"


def tokens_picture(tokens: Sequence[str], learnt: Sequence[bool]) -> Picture:
    """Tokens in a row: those whose prediction is learnt are white on blue and underlined, the
    masked ones grey.
    """
    learns, masked = (
        f"color:#fff;background:{BLUE};font-weight:bold;text-decoration:underline",
        "color:#333;background:#ddd",
    )
    spans = "".join(
        f'<span style="{learns if learn else masked};padding:2px '
        '4px;margin:2px;border-radius:4px;display:inline-block">'
        f"{html.escape(token.replace(' ', SHOWN_SPACE))}</span>"
        for token, learn in zip(tokens, learnt, strict=True)
    )
    description = (
        f"{sum(learnt)} of {len(learnt)} tokens are learnt (blue, underlined): the answer and its "
        "end. The others are masked with -100 (grey)."
    )
    return picture(
        f'<div role="img" aria-label="{description}" '
        f'style="font-family:monospace;font-size:18px;line-height:2">{spans}</div><p '
        f'style="font-size:16px">{description}</p>',
        description,
    )


def loss_picture(losses: Sequence[float], n_steps: int, title: str, first_step: int = 1) -> Picture:
    """The loss of the steps done so far, on an axis as long as the whole run; light enough to
    redraw at each step.

    `first_step` is the step of the first loss: a run that goes on after a kill is drawn where it
    goes on.
    """
    width, height, left, bottom, top = 760, 280, 70, 230, max(losses)
    points = [
        (
            style.placed(step, 1, max(n_steps, 2), left, width - 20),
            style.placed(loss, 0, top, bottom, 50),
        )
        for step, loss in enumerate(losses, start=first_step)
    ]
    said = (
        f"{title}, step {first_step + len(losses) - 1} of {n_steps}: {losses[-1]:.2f} nats per "
        "token"
    )
    # bold letters are about 0.6 of their size wide
    size = min(22, int((width - left) / (0.6 * len(said))))
    return style.svg(
        width,
        height,
        f"{said}; at step {first_step} it was {losses[0]:.2f}.",
        style.text(left, 30, said, size, bold=True),
        style.line([(left, 50), (left, bottom), (width - 20, bottom)], BLACK),
        style.line(points, BLUE, 4),
        style.circle(*points[-1], 6, BLUE),
        style.text(left - 10, 60, f"{top:.1f}", anchor="end"),
        style.text(left - 10, bottom, "0", anchor="end"),
        style.text(left, bottom + 30, "step 1"),
        style.text(width - 20, bottom + 30, f"step {n_steps}", anchor="end"),
    )


@style.styled
def curves_figure(losses: Mapping[str, Sequence[float]]) -> Picture:
    """Training losses, a line for each run."""
    figure, axes = style.new_figure()
    for (name, line), color, dash in zip(
        losses.items(), PALETTE, ("-", "--", ":", "-."), strict=False
    ):
        axes.plot(range(1, len(line) + 1), line, dash, color=color, label=name)
    axes.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    axes.legend()
    said = "; ".join(
        f"{name} from {line[0]:.2f} to {line[-1]:.2f}" for name, line in losses.items()
    )
    return style.described(figure, f"Training loss over the steps: {said}.")


def answers_html(question: str, before: str, after: str) -> str:
    """One question with two answers side by side, large enough for a lecture hall, announced to
    screen readers.
    """

    def panel(title: str, said: str, colour: str) -> str:
        return (
            f'<div style="flex:1;min-width:min(100%,14em);border-left:8px solid {colour};'
            'padding:4px 14px">'
            f'<b>{title}</b><p style="margin:6px 0;line-height:1.4">{html.escape(said)}</p></div>'
        )

    return (
        f'<div role="status" aria-live="polite" style="font-size:20px">'
        f'<p style="line-height:1.4"><b>Question:</b> {html.escape(question)}</p>'
        f'<div style="display:flex;flex-wrap:wrap;gap:16px">{panel("Before", before, ORANGE)}'
        f"{panel('After', after, BLUE)}</div></div>"
    )


def grouped_bars(
    scores: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
    looks: Sequence[tuple[str, str]],
):
    """A figure with one bar for each series, {series: {name: value}}, in every group; `looks` are
    (color, hatch).
    """
    figure, ax = style.new_figure(width=11)
    width = 0.84 / len(scores)
    for k, ((series, values), (colour, hatch)) in enumerate(zip(scores.items(), looks)):
        bars = ax.bar(
            [i + k * width for i in range(len(names))],
            [values[name] for name in names],
            width * 0.92,
            label=series,
            color=colour,
            hatch=hatch,
            edgecolor="white",
        )
        ax.bar_label(bars, fmt="%.2f", fontsize=12, padding=2)
    ax.set_xticks(
        [i + 0.42 - width / 2 for i in range(len(names))],
        [name.replace("_", " ") for name in names],
    )
    figure.legend(ncols=len(scores), loc="outside upper center")
    return figure


@style.styled
def compare_methods(
    scores: dict[str, dict[str, float]],
    names: Sequence[str] = ("voice", "facts", "ends", "side_tasks"),
) -> Picture:
    """Grouped bars: for each score (a share from 0 to 1) one bar per method, with its value above
    it.
    """
    figure = grouped_bars(scores, names, [METHODS[method] for method in scores])
    figure.axes[0].set(ylim=(0, 1.12), ylabel="share of held-out questions")
    told = "; ".join(
        f"{m}: " + ", ".join(f"{name} {v[name]:.2f}" for name in names) for m, v in scores.items()
    )
    return style.described(figure, f"Scores of each method on held-out questions. {told}.")


@style.styled
def scores_picture(scores: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Picture:
    """Bars of some scores (shares from 0 to 1), a row for each model or way to ask it: read from
    above, they tell a story.
    """
    figure, ax = style.new_figure(width=11, height=1.2 + 0.75 * len(scores))
    height = 0.8 / len(names)
    for k, (name, (colour, hatch)) in enumerate(zip(names, ((BLUE, ""), (ORANGE, "//")))):
        values = [row[name] for row in scores.values()]
        at = [i + (k - (len(names) - 1) / 2) * height for i in range(len(scores))]
        bars = ax.barh(
            at, values, 0.9 * height, label=name, color=colour, hatch=hatch, edgecolor="white"
        )
        ax.bar_label(bars, fmt="%.2f", padding=4)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set(xlim=(0, 1.12), xlabel="share of questions")
    ax.invert_yaxis()
    figure.legend(ncols=len(names), loc="outside upper center")
    told = "; ".join(
        f"{who}: " + ", ".join(f"{name} {row[name]:.2f}" for name in names)
        for who, row in scores.items()
    )
    return style.described(figure, f"Share of questions. {told}.")


@style.styled
def forgetting_picture(runs: Sequence[Mapping], before: float) -> Picture:
    """Learnt against forgotten: the held-out loss on Pavlos and the general questions still right,
    a small mark for each run, and a line through the means of each variant's rates.

    `runs` are those of `bench forgetting`; `before` is the share that the base answers right.
    """
    figure, ax = style.new_figure(width=11, height=5.6)
    looks = zip(
        [BLUE, SKY, GREEN, ORANGE, VERMILLION], "os^Dv", ["-", "--", ":", "-.", (0, (5, 1))]
    )
    told = []
    for variant, (colour, marker, dash) in zip(dict.fromkeys(r["variant"] for r in runs), looks):
        own = [run for run in runs if run["variant"] == variant]
        places = [(run["held_out_loss"], run["knowledge"]) for run in own]
        ax.plot(*zip(*places), marker, color=colour, markersize=6, alpha=0.5)
        means = []
        for rate in sorted({run["learning_rate"] for run in own}):
            there = [at for at, run in zip(places, own) if run["learning_rate"] == rate]
            means.append(tuple(map(mean, zip(*there))))
            told.append(f"{variant} at rate {rate:.0e}: loss {means[-1][0]:.2f}, ")
            told[-1] += f"right {means[-1][1]:.2f} (runs: {len(there)})"
        ax.plot(*zip(*means), marker, color=colour, markersize=14, linestyle=dash, label=variant)
    ax.axhline(before, color=BLACK, linestyle="--", linewidth=2, label="the base")
    ax.set(xlabel="held-out loss on Pavlos, nats per token (left: learnt more)")
    ax.set(ylabel="general questions right")
    figure.legend(ncols=3, loc="outside upper center")
    return style.described(figure, f"The base answers {before:.2f} right. {'; '.join(told)}.")


@style.styled
def formats_picture(perplexities: Mapping[str, float]) -> Picture:
    """Perplexity of each format as a dot on a logarithmic axis; a line marks the first, which is
    the measure of the others.
    """
    figure, ax = style.new_figure(width=11, height=1.2 + 0.5 * len(perplexities))
    first = next(iter(perplexities.values()))
    ax.axvline(first, color=GREY, linestyle="--", linewidth=2, zorder=0)
    for name, value in perplexities.items():
        near = value < 1.1 * first
        ax.plot([value], [name], "o" if near else "s", color=BLUE if near else VERMILLION, ms=13)
        said = f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"
        ax.annotate(said, (value, name), (14, 0), textcoords="offset points", va="center")
    ax.set(
        xscale="log",
        xlabel="perplexity (less is better)",
        xlim=(0.85 * first, 4 * max(perplexities.values())),
    )
    ax.margins(y=0.1)
    ax.invert_yaxis()
    told = ", ".join(f"{name} {value:.4g}" for name, value in perplexities.items())
    return style.described(figure, f"Perplexity of the weights in each format: {told}.")


@style.styled
def compare_bytes(parts: dict[str, dict[str, int]]) -> Picture:
    """Stacked horizontal bars in megabytes (10**6 bytes): weights, gradients and optimizer states
    of each method.
    """
    figure, ax = style.new_figure(width=11, height=3.4)
    left = dict.fromkeys(parts, 0.0)
    for part, (colour, hatch) in PARTS.items():
        sizes = [parts[method][part] / 1e6 for method in parts]
        ax.barh(
            list(parts),
            sizes,
            left=list(left.values()),
            label=part,
            color=colour,
            hatch=hatch,
            edgecolor="white",
        )
        left = {method: left[method] + size for method, size in zip(parts, sizes, strict=True)}
    for i, total in enumerate(left.values()):
        ax.text(total, i, f" {total:.1f} MB", va="center")
    ax.set(xlim=(0, max(left.values()) * 1.15), xlabel="megabytes kept between steps")
    ax.invert_yaxis()
    figure.legend(ncols=3, loc="outside upper center")
    told = ", ".join(f"{method} {total:.1f} MB" for method, total in left.items())
    return style.described(figure, f"Bytes that training keeps between steps: {told}.")


@style.styled
def levers_picture(speeds: Mapping[str, float]) -> Picture:
    """Horizontal bars of tokens per second, the first (the recipe) as the measure of the others:
    slower, hatched, or faster.
    """
    first, recipe = next(iter(speeds.items()))
    figure, ax = style.new_figure(width=11, height=0.8 + 0.55 * len(speeds))
    for name, speed in speeds.items():
        colour, hatch = (
            (GREEN, "") if name == first else (ORANGE, "//") if speed < recipe else (SKY, "..")
        )
        ax.barh(name, speed, color=colour, hatch=hatch, edgecolor="white")
        ax.text(
            speed,
            name,
            f" {speed:,.0f} (× {speed / recipe:.2f})",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    ax.axvline(recipe, color=GREY, linestyle="--")
    ax.set(xlim=(0, max(speeds.values()) * 1.3), xlabel="tokens per second, padding not counted")
    ax.invert_yaxis()
    told = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
    return style.described(figure, f"Tokens per second with one thing changed at a time: {told}.")


def before_after_picture(rows: Sequence[dict[str, str]]) -> Picture:
    """Questions with the answers before and after, as one picture: for a README or a slide."""
    column, line_height, y, parts = 44, 28, 46, []
    parts += [
        style.text(20, 30, "Before", 22, ORANGE, bold=True),
        style.text(520, 30, "After QLoRA", 22, BLUE, bold=True),
    ]
    for row in rows:
        parts.append(style.text(20, y + 34, row["question"], 20, bold=True))
        columns = [textwrap.wrap(row[when], column) for when in ("before", "after")]
        for x, lines in zip((20, 520), columns, strict=True):
            parts += [
                style.text(x, y + 66 + i * line_height, line, 20) for i, line in enumerate(lines)
            ]
        y += 66 + line_height * max(map(len, columns))
    said = " ".join(
        f"{row['question']} Before: {row['before']} After: {row['after']}" for row in rows
    )
    return style.svg(1020, y + 10, said, *parts)


def story_picture(
    rows: Sequence[tuple[int, float | None, str]], question: str, n_characters: int = 58
) -> Picture:
    """(step, loss, answer) from top to bottom; the bar behind the loss shrinks as it is learnt."""

    def short(answer: str) -> str:
        return textwrap.shorten(answer, n_characters, placeholder=" ...") or "(nothing)"

    parts = [
        style.text(0, 28, question, 24, bold=True),
        style.text(62, 66, "step", 18, GREY, "end"),
    ]
    parts += [style.text(90, 66, "loss", 18, GREY), style.text(230, 66, "answer", 18, GREY)]
    top = max(loss for _, loss, _ in rows if loss is not None)
    for i, (step, loss, answer) in enumerate(rows):
        y = 78 + 42 * i
        parts += [
            style.text(62, y + 26, step, 20, anchor="end", bold=True),
            style.text(230, y + 26, short(answer), 20),
        ]
        if loss is not None:
            parts.append(style.rect(90, y + 4, style.placed(loss, 0, top, 0, 120), 30, "#BBD8EA"))
            parts.append(style.text(96, y + 26, f"{loss:.2f}", 20))
    said = " ".join(f"Step {step}: {short(answer)}" for step, _, answer in rows)
    return style.svg(1000, 90 + 42 * len(rows), f"{question} {said}", *parts)


@style.styled
def shots_figure(shots: Sequence[int], shares: dict[str, Sequence[float]], tuned: float) -> Picture:
    """Share of answers in the voice that the prompt shows, by the number of examples; a line for
    fine-tuning without any.
    """
    figure, axes = style.new_figure(width=10, height=4.4)
    looks = ((BLUE, "o", "-"), (VERMILLION, "s", "--"))
    for (name, values), (color, marker, dashes) in zip(shares.items(), looks, strict=False):
        axes.plot(shots, values, dashes, color=color, marker=marker, label=name)
    axes.axhline(tuned, color=GREY, linestyle=":", label="Pavlos after fine-tuning, no examples")
    axes.set(
        xlabel="examples in the prompt",
        ylabel="share in the voice shown",
        xticks=list(shots),
        ylim=(-0.05, 1.08),
    )
    axes.legend(loc="center left", bbox_to_anchor=(0.28, 0.5))
    told = "; ".join(
        f"{name}: {', '.join(f'{value:.2f}' for value in values)}"
        for name, values in shares.items()
    )
    return style.described(
        figure,
        f"Share of answers in the voice shown, with {', '.join(map(str, shots))} examples. {told}. "
        f"Pavlos fine-tuned, no examples: {tuned:.2f}.",
    )


# ---------------------------------------------------------------------------------------- quiz
