"""Tuning without a service: a job as a state machine, and a service with the methods of the real
one. It calls nobody, bills nothing, and says so in everything it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab_utils.gemini.client import Gemini
from lab_utils.gemini.errors import GeminiError
from lab_utils.gemini.ledger import Price
from lab_utils.gemini.tuning import FINISHED, Job, TuningSpec

SIMULATED = "SIMULATED: no service was called, no model was tuned, nothing was billed"


@dataclass(frozen=True)
class SimulatedJob:
    """A tuning job as a state machine without a model: one step is a while of waiting.

    Assumed, since nobody says what a job that was stopped costs: every token that was read is
    billed, and no other.
    """

    epochs: int
    tokens: int  # of the file
    state: str = "PENDING"
    epochs_done: int = 0

    @property
    def billed_tokens(self) -> int:
        """The tokens of the epochs that were read to their end."""
        return self.epochs_done * self.tokens

    def step(self, event: str = "wait") -> SimulatedJob:
        """The job after "wait", "cancel" (a running job hears it a step later) or "bad row" (met
        while reading).
        """
        if event not in ("wait", "cancel", "bad row"):
            raise ValueError(f"an event is 'wait', 'cancel' or 'bad row'; got {event!r}")
        if self.state in FINISHED:
            return self
        if self.state == "CANCELLING":
            return replace(self, state="CANCELLED")
        if event == "cancel":
            return replace(self, state="CANCELLED" if self.state == "PENDING" else "CANCELLING")
        if self.state == "PENDING":
            return replace(self, state="RUNNING")
        if event == "bad row":
            return replace(self, state="FAILED")
        done = self.epochs_done + 1
        return replace(
            self, epochs_done=done, state="SUCCEEDED" if done == self.epochs else "RUNNING"
        )


def simulate(
    epochs: int, tokens: int, events: Mapping[int, str] | None = None, steps: int = 8
) -> list[SimulatedJob]:
    """The job at steps 0 to `steps`, so steps + 1 of them; `events` maps a step to what happens in
    it, "wait" elsewhere.
    """
    jobs = [SimulatedJob(epochs, tokens)]
    for number in range(1, steps + 1):
        jobs.append(jobs[-1].step((events or {}).get(number, "wait")))
    return jobs


@dataclass
class SimulatedTuning:
    """The methods of `VertexTuning` on simulated jobs, which go one step further each time they are
    looked at.
    """

    tokens: int
    jobs: dict[str, SimulatedJob] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def upload(self, path: Path, bucket: str, prefix: str = "") -> str:
        """An address that leads nowhere."""
        return f"simulated://{bucket}/{prefix}{path.name}"

    def start(self, spec: TuningSpec, label: str) -> Job:
        """A new simulated job."""
        name = f"simulated-job-{len(self.jobs) + 1}"
        self.jobs[name], self.labels[label] = SimulatedJob(spec.epochs, self.tokens), name
        return self._shown(name)

    def find(self, label: str) -> Job | None:
        """The job with this label, or None."""
        return self._shown(self.labels[label]) if label in self.labels else None

    def get(self, name: str) -> Job:
        """The job one step later. GeminiError "not found" if its kernel is gone."""
        if name not in self.jobs:
            raise GeminiError(
                "not found",
                f"{name} is gone: simulated jobs live as long as their kernel. Delete the record "
                "file",
            )
        self.jobs[name] = self.jobs[name].step()
        return self._shown(name)

    def cancel(self, name: str) -> Job:
        """The job after a wish to stop it."""
        self.jobs[name] = self.jobs[name].step("cancel")
        return self._shown(name)

    def client(self, job: Job, budget: float, price: Price) -> Gemini:
        """Nobody: GeminiError "simulated"."""
        raise GeminiError("simulated", "there is no model behind a simulated job, so nobody to ask")

    def _shown(self, name: str) -> Job:
        job = self.jobs[name]
        billed = job.billed_tokens if job.state in FINISHED else None
        error = "row 5: not the form of the service" if job.state == "FAILED" else ""
        return Job(name, job.state, error=error, billable_tokens=billed, simulated=True)
