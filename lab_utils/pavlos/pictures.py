"""Pictures of lab 05: the yield of a reader, coverage, near-duplicates, the leak of a split, a pair
to be judged.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from lab_utils.drawing import style
from lab_utils.drawing.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    Picture,
    picture,
)

MEASURES = {"ROUGE-L": (ORANGE, "all words, in order"), "Jaccard": (BLUE, "content words only")}


# ------------------------------------------------------------------------------------ the fault box
def yield_picture(readers: Mapping[str, Mapping[str, int]]) -> Picture:
    """One meter for each reader: whole pairs kept of all (blue), and in words what was wrongly
    accepted and what raised.

    `readers` maps a name to {"kept", "whole", "wrong", "raised"}, as `fault_box.totals` counts
    them.
    """
    width, left, full, row = 1060, 210, 440, 62
    parts, told = [], []
    for i, (name, count) in enumerate(readers.items()):
        y, share = 12 + i * row, count["kept"] / max(count["whole"], 1)
        wrong = f"{count['wrong']} wrongly accepted" if count["wrong"] else "none wrongly accepted"
        crashed = f", {count['raised']} replies lost" if count["raised"] else ""
        parts += [
            style.text(left - 14, y + 30, name, 20, anchor="end", bold=True),
            style.rect(left, y, full, 42, "#E4E4E4"),
            style.rect(left, y, full * share, 42, BLUE),
            style.text(
                left + full + 12,
                y + 19,
                f"{count['kept']} of {count['whole']} kept ({share:.0%})",
                20,
            ),
            style.text(
                left + full + 12,
                y + 42,
                wrong + crashed,
                18,
                VERMILLION if count["wrong"] else GREY,
            ),
        ]
        told.append(f"{name} {count['kept']} of {count['whole']}, {wrong}{crashed}")
    return style.svg(
        width,
        12 + row * len(readers),
        f"Whole pairs kept by each reader: {'; '.join(told)}.",
        *parts,
    )


def visible(text: str) -> str:
    """The text with a mark for each character that can't be seen: line breaks, tabs, the byte order
    mark, control characters.
    """
    marks = {"\n": "⏎\n", "\t": "⇥", "\ufeff": "[U+FEFF]", "\u2028": "[U+2028]"}
    return "".join(marks.get(c, c if c.isprintable() else f"[U+{ord(c):04X}]") for c in text)


def reply_picture(
    title: str, reply: str, rung: str, kept: Sequence[Sequence[str]], left: Sequence[str]
) -> Picture:
    """A reply as it came, what was kept of it, and what was left and why."""
    box = "padding:8px 14px;margin:6px 0;border-left:8px solid"
    pairs = (
        "".join(f"<li><b>{html.escape(q)}</b> {html.escape(a)}</li>" for q, a in kept)
        or "<li>nothing</li>"
    )
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in left) or "<li>nothing</li>"
    description = f"{title}: {len(kept)} pairs kept by the rung {rung}, {len(left)} pieces left."
    return picture(
        '<div role="status" aria-live="polite" '
        f'style="font-size:17px"><p><b>{html.escape(description)}</b></p>'
        "<pre "
        'style="white-space:pre-wrap;overflow-wrap:anywhere;background:#F4F4F4;color:#000;padding:10px;font-size:15px">'
        f"{html.escape(visible(reply)) or '(no text)'}</pre>"
        f'<div style="{box} {BLUE}">✓ kept<ol style="margin:4px 0">{pairs}</ol></div>'
        f'<div style="{box} {VERMILLION}">✗ left, and why<ul style="margin:4px '
        f'0">{reasons}</ul></div></div>',
        description,
    )


# ---------------------------------------------------------------------------------------- coverage
@style.styled
def coverage_figure(counts: Counter[tuple[str, str, str]]) -> Picture:
    """Heat map of rows: topics down, question types of each level across; a cell without a fact is
    left white.
    """
    topics, columns = (
        sorted({topic for topic, _, _ in counts}),
        list(dict.fromkeys((lv, qt) for _, qt, lv in sorted(counts))),
    )
    columns = sorted(columns, key=lambda column: ("guest", "student", "expert").index(column[0]))
    shown = [
        [
            math.log2(1 + counts[t, qt, lv]) if (t, qt, lv) in counts else math.nan
            for lv, qt in columns
        ]
        for t in topics
    ]
    figure, ax = style.new_figure(width=11, height=0.36 * len(topics) + 2)
    ax.imshow(shown, aspect="auto", cmap="viridis")
    for y, topic in enumerate(topics):
        for x, (level, question_type) in enumerate(columns):
            if (count := counts.get((topic, question_type, level))) is not None:
                ax.text(
                    x,
                    y,
                    count,
                    ha="center",
                    va="center",
                    fontsize=12,
                    color="white" if shown[y][x] < 4 else "black",
                )
    ax.set_yticks(range(len(topics)), topics, fontsize=12)
    ax.set_xticks(
        range(len(columns)),
        [question_type for _, question_type in columns],
        rotation=40,
        ha="right",
        fontsize=12,
    )
    for x in range(0, len(columns), len(columns) // 3):
        ax.text(
            x + len(columns) / 6 - 0.5,
            -0.8,
            columns[x][0],
            ha="center",
            fontsize=15,
            fontweight="bold",
        )
    ax.grid(False)
    empty = sum(count == 0 for count in counts.values())
    return style.described(
        figure,
        f"Rows in each of {len(counts)} cells of topic, question type and level: {empty} are "
        f"empty, the fullest has {max(counts.values())}.",
    )


# ---------------------------------------------------------------------------------- near-duplicates
def duplicates_picture(
    threshold: float, found: Mapping[str, tuple[int, int]], examples: Mapping[str, Sequence[str]]
) -> Picture:
    """For each measure how many pairs of questions it calls alike, how many of them ask for
    different facts, and one pair.

    `found` maps a measure to (pairs alike, of them with different facts); `examples` to the two
    questions of one.
    """
    width, left, full, top = 1060, 210, 560, max([n for n, _ in found.values()] + [1])
    parts, told = (
        [style.text(0, 30, f"Questions called alike from {threshold:.2f} on", 22, bold=True)],
        [],
    )
    for i, (name, (alike, different)) in enumerate(found.items()):
        y, (colour, what) = 54 + i * 112, MEASURES[name]
        parts += [
            style.text(left - 14, y + 22, name, 20, anchor="end", bold=True),
            style.text(left - 14, y + 44, what, 16, GREY, anchor="end"),
            style.rect(left, y, full * alike / top, 46, colour),
            style.text(left + full * alike / top + 10, y + 22, f"{alike} pairs,", 20),
            style.text(
                left + full * alike / top + 10,
                y + 44,
                f"{different} of different facts",
                18,
                VERMILLION if different else GREY,
            ),
        ]
        parts += [
            style.text(left, y + 68 + 20 * k, question, 16)
            for k, question in enumerate(examples.get(name, ()))
        ]
        told.append(f"{name} {alike} pairs, {different} of them ask for different facts")
    return style.svg(
        width, 54 + 112 * len(found), f"From {threshold:.2f} on: {'; '.join(told)}.", *parts
    )


# ---------------------------------------------------------------------------------------- the leak
def leak_picture(splits: Mapping[str, Mapping[str, float]]) -> Picture:
    """For each way to split: the share of held-out facts that were trained on, and what a copycat
    gets right thereby.
    """
    width, left, full, row = 1060, 290, 600, 126
    looks = {
        "leak": (VERMILLION, "facts also in training"),
        "copycat": (SKY, "right answers of the copycat"),
    }
    parts, told = [], []
    for i, (name, shares) in enumerate(splits.items()):
        y = 10 + i * row
        parts.append(style.text(left, y + 24, name, 22, bold=True))
        for k, (key, (colour, label)) in enumerate(looks.items()):
            bar = y + 36 + 40 * k
            parts += [
                style.text(left - 12, bar + 22, label, 18, GREY, anchor="end"),
                style.rect(left, bar, full * shares[key], 32, colour),
                style.text(left + full * shares[key] + 10, bar + 24, f"{shares[key]:.1%}", 20),
            ]
        told.append(
            f"{name}: {shares['leak']:.1%} of the held-out facts are also in training, the "
            f"copycat has {shares['copycat']:.1%} right"
        )
    return style.svg(width, 10 + row * len(splits), f"{'; '.join(told)}.", *parts)


# ---------------------------------------------------------------------------------------- voting
def pair_picture(number: int, of: int, row: Mapping[str, str], card: str) -> Picture:
    """A pair to be judged, with its fact card below."""
    description = (
        f"Pair {number} of {of}. Question: {row['question']} Answer: {row['answer']} Card: {card}"
    )
    return picture(
        '<div role="status" aria-live="polite" style="font-size:20px;line-height:1.4"><p '
        f'style="margin:0">pair {number} of {of}</p><p style="margin:6px '
        f'0"><b>{html.escape(row["question"])}</b></p><p style="margin:6px 0;border-left:8px '
        f'solid {BLUE};padding-left:14px">{html.escape(row["answer"])}</p><p style="margin:6px '
        f'0;border-left:8px solid {GREEN};padding-left:14px">fact card: '
        f"{html.escape(card)}</p></div>",
        description,
    )


def agreement_picture(
    told: Mapping[str, tuple[int, float, float]], names: tuple[str, str]
) -> Picture:
    """For each criterion: rows that both judged, how often they agree, and Cohen's kappa with a
    mark on its scale, which goes from -1 to 1.
    """
    width, left, full = 1060, 420, 380
    said, parts = (
        [],
        [
            style.text(0, 28, f"{names[0]} and {names[1]}", 22, bold=True),
            style.text(left, 28, "-1: never", 16, GREY),
            style.text(left + full / 2, 28, "0: as by chance", 16, GREY, "middle"),
            style.text(left + full, 28, "1: always", 16, GREY, "end"),
        ],
    )
    for i, (name, (n, agreed, kappa)) in enumerate(told.items()):
        y = 66 + i * 48
        known = n and not math.isnan(kappa)
        words = f"kappa {kappa:.2f}" if known else "kappa: not defined"
        share = f"agree on {agreed:.0%} of {n}" if n else "no pair judged by both"
        parts += [
            style.text(0, y, f"{name}: {share}", 20),
            style.line([(left, y - 6), (left + full, y - 6)], BLACK, 3),
            style.line([(left + full / 2, y - 16), (left + full / 2, y + 4)], BLACK, 3),
            style.text(left + full + 14, y, words, 20, bold=True),
        ]
        if known:
            parts.append(
                style.circle(style.placed(kappa, -1, 1, left, left + full), y - 6, 9, BLUE)
            )
        said.append(f"{name}: {share}, {words}")
    return style.svg(
        width, 80 + 48 * len(told), f"{names[0]} and {names[1]}. {'; '.join(said)}.", *parts
    )
