"""The Pavlos dataset: `python3 -m lab_utils pavlos` builds it, `load_pairs` reads it.

One module for each step: `facts` (the cards), `corpus` (texts made from them), `ask` (the prompt,
the calls, raw replies), `parse` (from a reply to pairs), `build` (from pairs to rows), `judge`
(rows read by people), `publish` (the card, the exports, the command). `fault_box` measures a
reader.

The built files are plain JSON lines; `datasets.load_dataset("data/pavlos")` reads them without any
code of ours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lab_utils.files import DATA, read_jsonl, write_jsonl

FOLDER = DATA / "pavlos"
COLUMNS = ("question", "answer", "fact_id", "kind", "source")


def check_rows(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows as given. ValueError names the first row with a missing or empty field."""
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(
                f"row {i} is not an object with the fields {', '.join(COLUMNS)}; got {row!r}"
            )
        for column in COLUMNS:
            if not isinstance(row.get(column), str) or not row[column].strip():
                raise ValueError(
                    f"row {i} has no {column}: expected text in each of {', '.join(COLUMNS)}; got "
                    f"{row}"
                )
    return rows


def write_pairs(splits: dict[str, list[dict[str, str]]], folder: Path = FOLDER) -> list[Path]:
    """Write each split as JSON lines, each file in one step; returns the paths.

    Raises ValueError, before anything is written, for a row with a missing or empty field.
    """
    for rows in splits.values():
        check_rows(rows)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for split, rows in splits.items():
        path = folder / f"{split}.jsonl"
        write_jsonl(path, rows)
        paths.append(path)
    return paths


def load_pairs(split: str, folder: Path = FOLDER) -> list[dict[str, str]]:
    """The rows of one split ("train", "validation" or "test").

    Raises FileNotFoundError if the split is not there, ValueError if a line is not JSON or a field
    is empty.
    """
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: build it with 'python3 -m lab_utils pavlos'")
    return check_rows(read_jsonl(path))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python3 -m lab_utils pavlos`."""
    from lab_utils.gemini.options import add_asking

    parser.add_argument(
        "--out",
        type=Path,
        help="folder; without it data/pavlos, or runs/05/pavlos with the options below",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--offline",
        action="store_true",
        help="build from nothing, without a key: replies of templates, then every step to the card "
        "and exports",
    )
    parser.add_argument(
        "--model", help="the same with replies of this Gemini model; needs a key and costs money"
    )
    parser.add_argument(
        "--calls",
        type=int,
        help="with --model: at most so many calls now; the next time goes on from there",
    )
    parser.add_argument(
        "--retry-failed",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with --model: ask once more for what a reply owes that was cut off, blocked or empty",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=0.5,
        help="with --model: dollars that may be spent in all (%(default)s)",
    )
    add_asking(parser)


def main(args: argparse.Namespace) -> int:
    """Build the template pairs and say how many there are; with --offline or --model the whole
    pipeline, step by step.
    """
    if args.offline or args.model:
        from lab_utils.pavlos.publish import run

        return run(args)
    from lab_utils.pavlos.corpus import build_pairs

    folder, splits = args.out or FOLDER, build_pairs(args.seed)
    write_pairs(splits, folder)
    print(", ".join(f"{name} {len(rows)}" for name, rows in splits.items()), f"pairs in {folder}")
    return 0
