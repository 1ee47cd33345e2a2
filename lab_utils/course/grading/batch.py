"""A batch of submissions through joblib, on the cores of this machine or of a cluster. What an
earlier run has found is kept, and a worker that dies costs nobody a mark.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab_utils.course.grading.asking import (
    Settings,
    close_sandboxes,
    grade_submission,
    sandbox_of,
    told_by_export,
)
from lab_utils.files import ROOT, LabKitError

if TYPE_CHECKING:
    from lab_utils.course.grading.submissions import Submission


def environment_digest() -> str:
    """A hash of all that a result depends on but the notebook: the kit's code, Python, and the
    packages. Zeros of a set-up that was broken are asked again in one that is not.
    """
    from importlib.metadata import distributions

    packages = sorted({f"{found.name}=={found.version}" for found in distributions()})
    files = sorted((ROOT / "lab_utils").rglob("*.py"))
    parts = [sys.version.encode(), *map(str.encode, packages), *(f.read_bytes() for f in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def result_file(out: Path, submission: Submission) -> Path:
    """Where a submission's result is kept."""
    from lab_utils.course.grading.reports import file_name

    return out / "results" / file_name(f"{submission.student} {submission.lab}", ".json")


def fingerprint(submission: Submission, settings: Settings, code: str) -> str:
    """What a result depends on."""
    parts = [
        code,
        submission.digest,
        submission.lab,
        submission.problem,
        settings.seed,
        settings.sealed,
        repr(settings.limits),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def kept_result(
    path: Path, mark: str, submission: Submission, regrade: frozenset[str] = frozenset()
) -> dict[str, Any] | None:
    """The result of an earlier run, if it is of the very same notebook, seed and grader, and nobody
    wants it asked again.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        names = {submission.student, *(row["question"] for row in record["questions"])}
        if names & regrade:
            return None
        if record["fingerprint"] != mark or any(
            row["kind"] == "not asked" for row in record["questions"]
        ):
            return None
        return {**record, **told_by_export(submission)}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def grade_all(
    submissions: list[Submission], settings: Settings, out: Path, jobs: int, backend: str
) -> tuple[list[dict], list[str]]:
    """(records, lines about what could not be written). Results of an earlier run are taken over,
    new ones kept as they come.
    """
    from tqdm.auto import tqdm

    from lab_utils.files import write_json

    code, troubles = environment_digest(), []
    places = {result_file(out, submission): submission for submission in submissions}
    marks = {path: fingerprint(submission, settings, code) for path, submission in places.items()}
    records = {
        path: kept_result(path, marks[path], submission, settings.regrade)
        for path, submission in places.items()
    }
    waiting = [(path, submission) for path, submission in places.items() if records[path] is None]
    if waiting:
        settings = check_room([submission for _, submission in waiting], settings)
    with tqdm(
        total=len(submissions),
        initial=len(submissions) - len(waiting),
        desc="grading",
        unit="notebook",
    ) as bar:
        for path, record in run_jobs(waiting, settings, jobs, backend):
            records[path] = {**record, "fingerprint": marks[path]}
            try:
                write_json(path, records[path])
            except OSError as error:
                troubles.append(f"{path}: {error.strerror}")
            bar.update()
    return list(records.values()), troubles


PROBE = """
import importlib.util
def probe(values, names):
    lacking = [name for name in names if importlib.util.find_spec(name) is None]
    return [2 * value for value in values], lacking
"""
BY_DESIGN = {"google", "lab_utils", "kaggle_secrets"}  # Colab's, and the checks, are in no room


def check_room(submissions: list[Submission], settings: Settings) -> Settings:
    """The settings with the modules that the room lacks, after a right answer came out of it
    rightly. LabKitError where none did: then nothing is graded.
    """
    from lab_utils.course.grading.worker.values import decode, encode

    imported = {name.split(".")[0] for entry in submissions for name in entry.imports}
    names = sorted(imported - BY_DESIGN)[:5000]
    box = sandbox_of(threading.get_ident(), replace(settings, lacking=frozenset()))
    reply = box.ask([PROBE], "probe", encode([([0.5, -1.25], names)]))
    try:
        [(kind, (doubled, lacking), _)] = decode(reply.answers or b"")
        if (kind, doubled) != ("answer", [1.0, -2.5]):
            raise ValueError("a right answer came out wrong")
    except (ValueError, TypeError) as error:
        close_sandboxes()
        raise LabKitError(
            "Nothing was graded: a function that is known to be right got no answer out of the "
            f"sandbox ({reply.ended or error}). The sandbox does not work on this machine."
        ) from None
    return replace(settings, lacking=frozenset(lacking))


def grade_one(
    path: Path, submission: Submission, settings: Settings, grader: int = 0
) -> tuple[Path, dict]:
    """(path, record); in a process that ends with the grader, if its number is given."""
    if grader and grader != os.getpid():
        end_with(grader)
    return path, grade_submission(submission, settings)


@functools.lru_cache
def end_with(grader: int) -> None:
    """Let this process end within a second after its parent has, however that ended. Its fork
    server and room end with it: the kernel closes their pipes.
    """

    def watch() -> None:
        while os.getppid() == grader:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_jobs(
    waiting: list[tuple[Path, Submission]], settings: Settings, jobs: int, backend: str
) -> Iterator[tuple[Path, dict]]:
    """Grade through joblib. Where workers die, what they had is given to others; where nothing
    comes back any more, the rest is done one after the other in this process.
    """
    left, jobs = dict(waiting), min(jobs, len(waiting)) or 1
    before = len(left) + 1
    while len(left) < before and (jobs > 1 or backend != "loky") and left:
        before = len(left)
        # Exception: grade_submission raises none, so it is the worker's or the cluster's
        with suppress(Exception):
            for path, record in on_workers(left, settings, jobs, backend):
                del left[path]
                yield path, record
    try:
        for path, submission in left.items():
            yield grade_one(path, submission, settings)
    finally:
        close_sandboxes()


def patience(settings: Settings) -> float:
    """Seconds after which a submission that was given to a worker is lost: no notebook takes half
    of them. A cluster that has lost all its workers would let the command wait for ever.
    """
    one = settings.limits.cells_seconds + settings.limits.answer_seconds
    return 2 * (settings.notebook_seconds + 20 * one)


def on_workers(
    left: dict[Path, Submission], settings: Settings, jobs: int, backend: str
) -> Iterator[tuple[Path, dict]]:
    """Grade on the workers of a backend, in any order. What a backend raises where a worker dies is
    its own: loky's TerminatedWorkerError at once, dask's KilledWorker when one submission has seen
    four workers die.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    watched = os.getpid() if backend == "loky" else 0
    try:
        with parallel_config(backend=backend, n_jobs=jobs):
            parallel = Parallel(
                return_as="generator_unordered", batch_size=1, timeout=patience(settings)
            )
        yield from parallel(
            delayed(grade_one)(path, submission, settings, watched)
            for path, submission in list(left.items())
        )
    finally:
        if backend == "loky":
            get_reusable_executor().shutdown(wait=True, kill_workers=True)


def register_backend(name: str) -> None:
    """Make joblib know a cluster's backend. LabKitError if its package is not here or there is no
    such backend.
    """
    from joblib.parallel import BACKENDS

    try:
        if name == "ray":
            from ray.util.joblib import register_ray

            register_ray()
        elif name == "dask":
            from dask.distributed import Client

            Client()  # the scheduler of DASK_SCHEDULER_ADDRESS, else one on this machine
    except ImportError:
        raise LabKitError(
            f"--backend {name} needs the package {name} here and on the cluster: "
            f"pip install {'dask[distributed]' if name == 'dask' else name}"
        ) from None
    if name not in BACKENDS and name not in ("dask", "ray"):
        raise LabKitError(
            f"--backend {name}: joblib knows {', '.join(sorted(BACKENDS))}, and with their "
            "packages dask and ray."
        )
