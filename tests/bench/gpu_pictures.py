"""Pictures of what `bench gpu` measured: peak memory beside the ledger's prediction. A record comes
in, a picture goes out.
"""

from collections.abc import Mapping
from typing import Any

from lab_utils.drawing import style
from lab_utils.drawing.style import BLACK, BLUE, ORANGE, Picture

UNITS = ((1e9, "gigabytes", "GB"), (1e6, "megabytes", "MB"), (1e3, "kilobytes", "kB"))


def step_rows(record: Mapping[str, Any], types: str) -> dict[str, tuple[float, float]]:
    """ "7B, 512 tokens" -> (measured, predicted) bytes at the peak of a step, of the rows of one
    type.

    ValueError for a record of another benchmark, and for one without such a row.
    """
    if record.get("bench") != "gpu":
        raise ValueError(
            f"expected a record of bench gpu, got one of {record.get('bench')!r}: make it with "
            "--json."
        )
    rows = {
        f"{shape}, {step['sequence']:,} tokens": (step["measured"], step["predicted"])
        for shape, kind, steps in measured_rows(record)
        if kind == types
        for step in steps
    }
    if not rows:
        raise ValueError(
            f"the record has no measured step in {types}: run bench gpu with the part memory."
        )
    return rows


def measured_rows(record: Mapping[str, Any]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(shape, type, steps) of each model that could be measured."""
    rows = record.get("details", {}).get("memory", [])
    return [(*row["name"].split(), row["steps"]) for row in rows if "steps" in row]


@style.styled
def memory_figure(record: Mapping[str, Any], types: str = "bf16") -> Picture:
    """A pair of bars for each model and length, with measured / predicted, and the room that 65B
    should keep to.
    """
    rows = step_rows(record, types)
    most = max(max(pair) for pair in rows.values())
    size, words, unit = next((row for row in UNITS if most >= row[0]), UNITS[-1])
    figure, axes = style.new_figure(width=11, height=1.6 + 0.7 * len(rows))
    for i, (measured, predicted) in enumerate(rows.values()):
        names = ("predicted", "measured") if i == 0 else (None, None)
        axes.barh(i - 0.2, predicted / size, 0.36, color=BLUE, label=names[0])
        axes.barh(
            i + 0.2,
            measured / size,
            0.36,
            color=ORANGE,
            hatch="//",
            edgecolor="white",
            label=names[1],
        )
        axes.text(
            max(measured, predicted) / size,
            i,
            f" {measured / size:.3g} {unit}, {measured / predicted:.3f} of predicted",
            va="center",
            fontsize=13,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0},
        )
    room = record["details"]["room for 65B"]
    if any(name.startswith("65B") for name in rows) and room < 2 * most:
        axes.axvline(
            room / size, color=BLACK, linestyle="--", linewidth=1.5, label=f"{room / size:g} {unit}"
        )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel=f"{words} at the peak of a QLoRA step, {types}", xlim=(0, 1.45 * most / size))
    axes.invert_yaxis()
    figure.legend(ncols=3, loc="outside upper center")
    return style.described(figure, told(record, rows, size, unit))


def told(
    record: Mapping[str, Any], rows: Mapping[str, tuple[float, float]], size: float, unit: str
) -> str:
    """The picture in words: where it was measured, and each pair."""
    where = (
        "a CPU, with tiny shapes, a dry run"
        if record["details"]["dry run"]
        else record["machine"]["name"]
    )
    pairs = "; ".join(
        f"{name} {measured / size:.3g} and {predicted / size:.3g} {unit}, ratio "
        f"{measured / predicted:.3f}"
        for name, (measured, predicted) in rows.items()
    )
    return f"Peak memory of a QLoRA step on {where}, measured and predicted: {pairs}."
