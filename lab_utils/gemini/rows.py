"""The tuning file: the form of a row, the rules of the service, and what the file will cost.

Sources: Google's documentation of supervised tuning on Vertex AI (now Agent Platform), "Prepare
supervised fine-tuning data for Gemini models" (form of a row) and "About supervised fine-tuning for
Gemini models" (limits, those of Gemini 2.5 Flash; those of later models were not found). Limits
differ by model and change: look there before you pay.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lab_utils.files import DATA, read_jsonl, write_jsonl

MAX_ROWS, MAX_VALIDATION_ROWS, MAX_BYTES, MAX_TOKENS = 1_000_000, 5_000, 10**9, 131_072
RECOMMENDED_ROWS = 100
# Gemini's documentation; English. The service counts for itself, and its count is what is billed
CHARACTERS_PER_TOKEN = 4


# ---------------------------------------------------------------------------------------- the file
def as_gemini(row: Mapping[str, str], system: str | None = None) -> dict[str, Any]:
    """Vertex AI's supervised tuning format: `contents` with the roles user and model,
    `systemInstruction` beside them.
    """
    turns = [("user", row["question"]), ("model", row["answer"])]
    contents = [{"role": role, "parts": [{"text": text}]} for role, text in turns]
    start = {"systemInstruction": {"role": "system", "parts": [{"text": system}]}} if system else {}
    return {**start, "contents": contents}


def pavlos_rows(split: str = "train") -> list[dict[str, Any]]:
    """The Pavlos pairs of a split that ship with the kit, as rows of the service: written with
    `write_rows` they are the bytes of lab 05's export.
    """
    return [as_gemini(pair) for pair in read_jsonl(DATA / "pavlos" / f"{split}.jsonl")]


def write_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> Path:
    """Write rows as JSON lines in UTF-8, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits: two files with the same one are the same."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text_of(content: Any) -> str:
    """All text of a `contents` entry or a systemInstruction; "" where its form is wrong."""
    parts = content.get("parts") if isinstance(content, dict) else None
    texts = (
        [part.get("text") for part in parts if isinstance(part, dict)]
        if isinstance(parts, list)
        else []
    )
    return "".join(text for text in texts if isinstance(text, str))


def estimate_tokens(text: str) -> int:
    """About how many tokens Gemini sees in a text: a token for four characters."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def row_tokens(row: Mapping[str, Any]) -> int:
    """About how many tokens of a row are trained on or read, and so billed: system instruction,
    question and answer.
    """
    return sum(
        estimate_tokens(text_of(content))
        for content in [row.get("systemInstruction"), *row.get("contents", [])]
    )


# ---------------------------------------------------------------------------------------- its rules
class Problem(NamedTuple):
    """What is wrong with a line of the file (0: with the file). A warning does not stop the
    service.
    """

    line: int
    message: str
    warning: bool = False


def check_message(content: Any, where: str, roles: tuple[str, ...]) -> list[str]:
    """What is wrong with one message: its role and its parts."""
    if not isinstance(content, dict):
        return [f"{where} should be an object with role and parts"]
    problems, role = [], content.get("role")
    if role not in roles:
        hint = ": what others call assistant is model here" if role == "assistant" else ""
        problems.append(
            f"{where} has the role {role!r}, expected "
            f"{' or '.join(map(repr, filter(None, roles)))}{hint}"
        )
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts:
        problems.append(f'{where} has no parts: expected [{{"text": "..."}}]')
    elif not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        problems.append(f"{where} has a part without text (this check knows text only)")
    elif not text_of(content).strip():
        problems.append(f"{where} is empty")
    return problems


def check_row(row: Any) -> list[str]:
    """All that is wrong with one parsed line, in the order of the text; [] for a good one."""
    if not isinstance(row, dict):
        return [f"a line should be one object, this is a {type(row).__name__}"]
    problems = []
    for name in sorted(set(row) - {"contents", "systemInstruction"}):
        hint = {
            "messages": ": the field is called contents",
            "system_instruction": ": write systemInstruction",
        }.get(name, "")
        problems.append(f"the field {name!r} is not known{hint}")
    if "systemInstruction" in row:
        problems += check_message(row["systemInstruction"], "systemInstruction", ("system", None))
    contents = row.get("contents")
    if not isinstance(contents, list) or not contents:
        return [*problems, "contents should be a list with the messages, the user's first"]
    for i, content in enumerate(contents):
        problems += check_message(content, f"contents[{i}]", ("user", "model"))
    roles = [content.get("role") for content in contents if isinstance(content, dict)]
    if not problems and roles != ["user", "model"] * (len(roles) // 2):
        problems.append(
            f"the roles are {', '.join(roles)}: user and model take turns, and the model has the "
            "last word"
        )
    if not problems and row_tokens(row) > MAX_TOKENS:
        problems.append(
            f"about {row_tokens(row):,} tokens: the limit for an example is {MAX_TOKENS:,}"
        )
    return problems


@dataclass(frozen=True)
class FileReport:
    """What `check_file` found."""

    path: Path
    rows: int
    tokens: int  # estimated, of all good rows
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing but warnings was found."""
        return all(problem.warning for problem in self.problems)

    def __str__(self) -> str:
        head = (
            f"{self.path.name}: {self.rows:,} rows, about {self.tokens:,} tokens, "
            f"{'good' if self.ok else 'NOT GOOD'}"
        )
        lines = [
            f"  {'warning' if p.warning else 'wrong'}{f', line {p.line}' if p.line else ''}: "
            f"{p.message}"
            for p in self.problems[:10]
        ]
        more = len(self.problems) - len(lines)
        return "\n".join([head, *lines, *([f"  and {more} more"] if more else [])])


def check_file(path: Path, validation: bool = False) -> FileReport:
    """Check a file against the rules of the service, line by line, before it costs an upload and an
    hour.

    FileNotFoundError if it is not there; everything else that is wrong is in the report.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        return FileReport(path, 0, 0, (Problem(0, f"{size:,} bytes: the limit is {MAX_BYTES:,}"),))
    problems, seen, rows, tokens = [], {}, 0, 0
    for number, line in enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n"), start=1):
        row, wrong = parse_line(line)
        wrong = wrong or check_row(row)
        problems += [Problem(number, message) for message in wrong]
        rows += 1
        tokens += 0 if wrong else row_tokens(row)
        first = seen.setdefault(line, number)
        if first != number and not wrong:
            problems.append(
                Problem(number, f"the same as line {first}: it is paid for twice", warning=True)
            )
    return FileReport(path, rows, tokens, (*check_size(rows, validation), *problems))


def parse_line(line: bytes) -> tuple[Any, list[str]]:
    """(the parsed line, [what kept it from being parsed])."""
    if not line.strip():
        return None, ["an empty line"]
    try:
        text = line.decode("utf-8")
        row = json.loads(text)
        # half a surrogate pair parses, and cannot be sent
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        return None, ["not UTF-8"]
    except ValueError as error:
        hint = (
            " (the file begins with a byte order mark: save it without)"
            if text.startswith("\ufeff")
            else ""
        )
        return None, [f"not JSON: {error}{hint}"]
    return row, []


def check_size(rows: int, validation: bool = False) -> list[Problem]:
    """What the service, or good sense, says about the number of rows."""
    limit = MAX_VALIDATION_ROWS if validation else MAX_ROWS
    if rows > limit:
        return [Problem(0, f"{rows:,} rows: the limit is {limit:,}")]
    if rows < RECOMMENDED_ROWS and not validation:
        return [
            Problem(
                0, f"{rows} rows: the service recommends at least {RECOMMENDED_ROWS}", warning=True
            )
        ]
    return []


# ------------------------------------------------------------------------------------ what it costs
def tuning_cost(tokens: int, epochs: int, dollars_per_million: float) -> float:
    """Dollars: every epoch reads every token of the file, and each reading is billed."""
    return tokens * epochs * dollars_per_million / 1e6


def break_even_questions(tuning: float, extra_tokens: int, dollars_per_million: float) -> float:
    """From how many questions on tuning (dollars, once) is not dearer than `extra_tokens` of
    examples in every prompt.

    A whole number, or infinity where the prompt needs no extra tokens. It compares prices only: the
    tuned endpoint is assumed to cost as much per token as the base model, and both to answer
    equally well, which must be measured.
    """
    per_question = extra_tokens * dollars_per_million / 1e6
    return math.ceil(round(tuning / per_question, 9)) if per_question else math.inf
