"""Late hand-ins, as data: when a lab is due, how many days a student may be late, what a day costs.

A policy is a TOML file, every line optional:

    zone = "Europe/Berlin"   # of due times, and of times of hand-in that name no zone
    grace_minutes = 10
    late_days = 3            # free days of each student, all labs together; the roster adds to them
    per_day = 0.1            # of the points, for each day that is begun
    at_most = 0.5
    [due]
    "02" = 2026-11-20T23:59:00   # a lab is named as `--lab` names it
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

from lab_utils.files import LabKitError

FORMATS = ("%Y-%m-%d %H:%M:%S %z", "%Y-%m-%d %H:%M:%S.%f %z")


@dataclass(frozen=True)
class Policy:
    """What being late costs. Without a due time nobody is late."""

    due: dict[str, datetime] = field(default_factory=dict)  # by lab, with zones
    zone: tzinfo = timezone.utc
    grace_minutes: float = 0
    late_days: float = 0
    per_day: float = 0
    at_most: float = 1

    def days_late(self, lab: str, submitted: str) -> int:
        """Days begun after the due time and the grace; 0 where either time is not known."""
        came, due = parse_time(submitted, self.zone), self.due.get(lab)
        if came is None or due is None:
            return 0
        over = came - due - timedelta(minutes=self.grace_minutes)
        return max(0, math.ceil(over / timedelta(days=1)))

    def factor(self, days: float) -> float:
        """The share of the points that is left after so many days that were not free, 0 to 1."""
        return max(0.0, 1 - min(self.per_day * days, self.at_most))

    def penalties(self, submitted: dict[str, str], extra_days: float = 0) -> dict[str, dict]:
        """{lab: {"days_late", "free_days", "factor"}} of one student, whose free days are spent in
        the order of the due times.
        """
        left, found = self.late_days + extra_days, {}
        order = sorted(submitted, key=lambda lab: (str(self.due.get(lab, "9")), lab))
        for lab in order:
            days = self.days_late(lab, submitted[lab])
            free = min(days, left)
            left -= free
            found[lab] = {"days_late": days, "free_days": free, "factor": self.factor(days - free)}
        return found


def parse_time(text: str, zone: tzinfo = timezone.utc) -> datetime | None:
    """A time as exports write it; without a zone it is one of `zone`. None for what is no time."""
    text = text.strip()
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        time = next(filter(None, (_by_format(text, form) for form in FORMATS)), None)
    if time is None:
        return None
    return time if time.tzinfo else time.replace(tzinfo=zone)


def _by_format(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def read_policy(path: Path | None, due: list[str], labs: list[str]) -> Policy:
    """The policy of a TOML file and of `--due LAB=TIME` words. LabKitError says what is wrong."""
    content = _read_toml(path) if path else {}
    known = {"zone", "due", "grace_minutes", "late_days", "per_day", "at_most"}
    if strange := set(content) - known:
        raise LabKitError(
            f"{path}: {', '.join(sorted(strange))} is no part of a late policy; there are "
            f"{', '.join(sorted(known))}."
        )
    numbers = {name: content[name] for name in known - {"zone", "due"} if name in content}
    for name, value in numbers.items():
        if type(value) not in (int, float) or value < 0:
            raise LabKitError(f"{path}: {name} wants a number of 0 or more, got {value!r}.")
    zone = _zone(content.get("zone", "UTC"))
    times = dict(content.get("due", {}))
    for word in due:
        lab, mark, time = word.partition("=")
        if not mark:
            raise LabKitError(f"--due wants LAB=TIME, as in 02=2026-11-20T23:59+02:00, got {word}.")
        times[lab] = time
    policy = Policy(zone=zone, **numbers)
    return replace(policy, due={_lab(lab, labs): _due(t, zone) for lab, t in times.items()})


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabKitError(f"{path} is no late policy: {error}") from None


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    try:
        return timezone.utc if name == "UTC" else ZoneInfo(name)
    except (ValueError, OSError, LookupError, TypeError):
        raise LabKitError(f"there is no zone {name!r}; write one as in Europe/Berlin.") from None


def _due(value: Any, zone: tzinfo) -> datetime:
    time = parse_time(value.isoformat() if isinstance(value, datetime) else str(value), zone)
    if time is None:
        raise LabKitError(f"{value} is no time; write one as in 2026-11-20T23:59+02:00.")
    return time


def _lab(name: str, labs: list[str]) -> str:
    found = [lab for lab in labs if name and lab.startswith(name)]
    if len(found) != 1:
        raise LabKitError(f"a due time for {name!r}: the labs are {', '.join(labs)}.")
    return found[0]
