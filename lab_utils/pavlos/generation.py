"""Ask for pairs, and lose nothing: every raw reply is kept in an append-only file before anything
is done with it.

A reply costs money and can't be had again; everything after it (parsing, cleaning, splitting) is
free and will be improved. So the file keeps the text as it came, one JSON line for each call, under
a key made from the prompt. A call whose key is there is never made again: after a kill at any
moment, the same command goes on, and at most the call in flight is lost.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

Record = dict[str, Any]


class Asker(Protocol):
    """Anything that answers a prompt: its reply has text, finish_reason, model, prompt_tokens and
    output_tokens.
    """

    def ask(self, prompt: str, *, system: str | None = None) -> Any: ...


@dataclass(frozen=True)
class Job:
    """One call: its prompt, the fact cards in it, and `sample`, a number that tells repeated calls
    apart.
    """

    prompt: str
    cards: tuple[str, ...]
    sample: int = 0


class Tally(NamedTuple):
    """How a generation ended: calls made, replies that were there already, calls that failed, and
    why it stopped.
    """

    asked: int
    reused: int
    failed: tuple[str, ...] = ()
    stopped: str = ""


def prompt_key(job: Job, source: str, system: str | None) -> str:
    """32 hex digits that depend on all that decides a reply: who is asked, what, under which system
    prompt, which time.
    """
    said = json.dumps([source, job.sample, system or "", job.prompt], ensure_ascii=True)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


# -------------------------------------------------------------------------- the file of raw replies
class RawReplies:
    """An append-only file of replies, one JSON object a line. `records` maps key -> record, in the
    order of the file.
    """

    def __init__(self, path: Path):
        """Read what is there. A last line without its line break was torn by a kill: it is cut off.

        Raises ValueError for any other line that is not JSON: then something else has written into
        the file.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        self.records: dict[str, Record] = {}
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            self._remember(line, number)

    def _remember(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
            self.records[record["key"]] = record
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path.name}, line {number} is no raw reply ({error}): expected one JSON "
                "object with a key a line; move the file away or take the line out"
            ) from None

    def append(self, record: Record) -> None:
        """Write one record, and return when it is on the disk; one whose key is there already
        changes nothing.

        ASCII only: a reply may hold what UTF-8 can't.
        """
        if record["key"] in self.records:
            return
        with open(self.path, "ab") as file:
            file.write(json.dumps(record, ensure_ascii=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[record["key"]] = record


def make_record(job: Job, reply: Any, source: str, system: str | None, when: str = "") -> Record:
    """What is kept of one call. `when` is a date; template replies have none, so that they are the
    same every day.
    """
    record = {
        "key": prompt_key(job, source, system),
        "source": source,
        "model": reply.model,
        "when": when,
        "sample": job.sample,
        "cards": list(job.cards),
        "prompt": job.prompt,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "output_tokens": reply.output_tokens,
        "text": reply.text,
    }
    return record if when else {name: value for name, value in record.items() if name != "when"}


# ---------------------------------------------------------------------------------------- asking
def generate(
    jobs: Sequence[Job],
    asker: Asker,
    raw: RawReplies,
    source: str,
    system: str | None = None,
    *,
    limit: int | None = None,
    stop_on: tuple[type[Exception], ...] = (),
    skip_on: tuple[type[Exception], ...] = (),
    when: str = "",
    progress: bool = True,
) -> Tally:
    """Make each call that is not in `raw` yet, and keep its reply at once.

    At most `limit` calls are made. An error of `stop_on` (quota or budget used up) ends it in
    order, one of `skip_on` costs its own call only and is tried again next time, but three in a row
    end it; any other is raised. What was kept stays in every case.
    """
    from tqdm.auto import tqdm

    missing = [job for job in jobs if prompt_key(job, source, system) not in raw.records]
    reused, todo = len(jobs) - len(missing), missing if limit is None else missing[:limit]
    failed, asked, in_a_row = [], 0, 0
    for job in tqdm(todo, desc=f"replies ({source})", unit="call", disable=not progress):
        try:
            reply = asker.ask(job.prompt, system=system)
        except stop_on as error:
            return Tally(asked, reused, tuple(failed), f"{type(error).__name__}: {error}")
        except skip_on as error:
            failed.append(f"{type(error).__name__}: {error}")
            in_a_row += 1
            if in_a_row == 3:
                return Tally(
                    asked,
                    reused,
                    tuple(failed),
                    f"three calls failed in a row, the last by {failed[-1]}",
                )
            continue
        raw.append(make_record(job, reply, source, system, when))
        asked, in_a_row = asked + 1, 0
    left = (
        ""
        if len(todo) == len(missing)
        else f"limit of {limit} calls reached, {len(missing) - len(todo)} left"
    )
    return Tally(asked, reused, tuple(failed), left)
