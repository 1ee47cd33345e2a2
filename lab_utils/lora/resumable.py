"""Runs that go on where a killed one stopped: each finished result is a line of one record."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lab_utils.files import append_jsonl, read_appended
from lab_utils.start.requirements import installed_version


class Record:
    """Finished results by key, in a file that a kill cannot spoil: it costs the run in hand only.

    A key must hold all that makes a run this very run; then a changed plan finds nothing old.
    """

    def __init__(self, path: Path):
        self.path = path
        self.results = {line["key"]: line["result"] for line in read_appended(path)}

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """The result of this key: from the record, or made now and seen onto the disk."""
        if key not in self.results:
            result = make()
            append_jsonl(self.path, {"key": key, "result": result})
            self.results[key] = result
        return self.results[key]


def provenance(command: str, packages: Iterable[str]) -> dict[str, Any]:
    """Where, when and with what a record was made."""
    import torch

    return {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {name: installed_version(name) for name in packages},
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        "thread(s), cpu",
    }
