"""The rows in the formats that trainers and services read. All are made from the same rows; nothing
is added but a frame.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab_utils.files import write_text
from lab_utils.gemini.tuning import as_gemini

Row = dict[str, str]


def as_messages(row: Row, system: str | None = None) -> dict[str, Any]:
    """Hugging Face chat format, one `messages` list: what TRL's SFTTrainer puts through the model's
    own chat template.
    """
    start = [{"role": "system", "content": system}] if system else []
    return {
        "messages": [
            *start,
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]
    }


def as_completion(row: Row, system: str | None = None) -> dict[str, Any]:
    """`prompt` and `completion` as plain text; a system text goes in front of the prompt."""
    return {
        "prompt": f"{system}\n\n{row['question']}" if system else row["question"],
        "completion": row["answer"],
    }


FORMATS: dict[str, Callable[[Row, str | None], dict[str, Any]]] = {
    "messages": as_messages,
    "prompt_completion": as_completion,
    "gemini_tuning": as_gemini,
}


def csv_text(rows: Sequence[Row]) -> str:
    """A table with a header. Cells that a spreadsheet would take for a formula are given as they
    are: no row begins so.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def export(splits: dict[str, list[Row]], folder: Path, system: str | None = None) -> list[Path]:
    """Write every split in every format below `folder`: `csv/train.csv`, `messages/train.jsonl` and
    so on.
    """
    written = []
    for split, rows in splits.items():
        texts = {Path("csv", f"{split}.csv"): csv_text(rows)} if rows else {}
        for name, frame in FORMATS.items():
            lines = [json.dumps(frame(row, system), ensure_ascii=False) + "\n" for row in rows]
            texts[Path(name, f"{split}.jsonl")] = "".join(lines)
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / path, text)
            written.append(folder / path)
    return written
