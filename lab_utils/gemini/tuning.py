"""Tuning Gemini behind a service: a job that is started once and watched, then the model asked.

The service is supervised tuning on Google Cloud (Vertex AI, since 2026 called Agent Platform),
through google-genai. (The Gemini API that a plain key opens has no tuning any more.) It needs a
project with billing, a bucket, and credentials. `simulated.SimulatedTuning` has the same methods
and calls nobody.

Sources: Google's tuning API reference and release notes, see data/reference/gemini_prices.json; the
code of google-genai 3.4.
"""

from __future__ import annotations

import re
import secrets
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lab_utils.files import append_jsonl, read_appended
from lab_utils.gemini.client import Gemini, GenAI, Patience, bounded, raised
from lab_utils.gemini.errors import GeminiError, WrongUse, error_of_response
from lab_utils.gemini.keys import Access, find_credentials
from lab_utils.gemini.ledger import Ledger, Price, refuse_retired

ADAPTER_SIZES = {1: "ONE", 2: "TWO", 4: "FOUR", 8: "EIGHT", 16: "SIXTEEN"}
WITHOUT_MODEL = {"FAILED", "CANCELLED", "EXPIRED"}
FINISHED = {"SUCCEEDED", "PARTIALLY_SUCCEEDED", *WITHOUT_MODEL}
ENDPOINT = re.compile(r"projects/([^/]+)/locations/([^/]+)/endpoints/[^/]+")
STORAGE = "https://storage.googleapis.com"


# ------------------------------------------------------------------------------------ which model
def tunable_models(prices: Mapping[str, Price], today: str = "") -> list[str]:
    """The models of the table that can be tuned today (YYYY-MM-DD), the cheapest first: by the
    price of tuning where it is known, else by that of output.
    """
    today = today or time.strftime("%Y-%m-%d")
    names = [
        name
        for name, row in prices.items()
        if row.tunable and not (row.retired_on and row.retired_on <= today)
    ]
    unknown = float("inf")
    return sorted(names, key=lambda name: (prices[name].tuning or unknown, prices[name].output))


def default_model(prices: Mapping[str, Price], today: str = "") -> str:
    """The cheapest model that can be tuned. GeminiError "retired" if all of the table are gone,
    with what to take instead; "no model" if it has none.
    """
    usable = tunable_models(prices, today)
    for name, row in prices.items():
        if row.tunable and not usable:
            refuse_retired(name, prices, today)
    if not usable:
        raise GeminiError("no model", "no model of the price table is marked as tunable: add one")
    return usable[0]


# ---------------------------------------------------------------------------------------- jobs
@dataclass(frozen=True)
class TuningSpec:
    """What to tune, and how. Nothing more can be chosen: no rank in numbers, no precision, no
    layers. ValueError for a number that the service refuses.
    """

    base_model: str
    dataset: str  # gs://bucket/train.jsonl
    epochs: int = 3
    adapter_size: int = 4
    validation: str = ""  # gs://bucket/validation.jsonl: the service reports a loss on it
    learning_rate_multiplier: float = 1.0  # of a rate that the service does not tell
    sha256: str = ""  # of the training file: other data are another job

    def __post_init__(self) -> None:
        if self.adapter_size not in ADAPTER_SIZES:
            sizes = ", ".join(map(str, ADAPTER_SIZES))
            raise ValueError(f"adapter_size is one of {sizes}; got {self.adapter_size}")
        if self.epochs < 1 or self.learning_rate_multiplier <= 0:
            raise ValueError(
                f"epochs and learning_rate_multiplier must be positive; got {self.epochs} and "
                f"{self.learning_rate_multiplier}"
            )


@dataclass(frozen=True)
class Job:
    """A tuning job as it was at one look."""

    name: str
    state: str  # "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLING", "CANCELLED", ...
    endpoint: str = ""  # to ask the tuned model, once it is there
    error: str = ""
    billable_tokens: int | None = None  # as the service counts them; None while it does not say
    simulated: bool = False

    def __str__(self) -> str:
        text = f"SIMULATED {self.state}" if self.simulated else self.state
        text += f" ({self.error})" if self.error else ""
        if self.billable_tokens is None:
            return text
        return f"{text}, {self.billable_tokens:,} billable tokens"


def confirm_spending(dollars: float, what: str, ask: Callable[[str], str] = input) -> None:
    """Returns only if somebody types the amount. GeminiError "not confirmed" otherwise, and where
    nobody can type.
    """
    phrase = f"spend {dollars:.2f}"
    try:
        typed = ask(
            f"{what} costs up to about ${dollars:.2f} of real money. To go on, type: {phrase}\n"
        )
    except Exception:  # no keyboard: a notebook run by a program, a pipe
        typed = ""
    if typed.strip() != phrase:
        raise GeminiError("not confirmed", f"{what} was not started: {phrase!r} was not typed")


def recorded(record: Path) -> list[dict[str, Any]]:
    """The jobs that were started, oldest first: each with its `label`, `spec` and `job` (its name,
    "" where the start was never answered).
    """
    jobs: dict[str, dict[str, Any]] = {}
    for entry in read_appended(record):
        jobs.setdefault(entry["label"], {}).update(entry)
    return list(jobs.values())


def start_once(service: Any, spec: TuningSpec, record: Path, confirm: Callable[[], None]) -> Job:
    """Start the job, or find the one that was started before: run it again after a crash, and pay
    once. A job that failed or was cancelled is started anew; so is one with another spec or file.

    `record` (JSON lines) remembers the jobs. It is written before a start with a name that nobody
    else uses, so that a job whose start was not answered, or during which we were killed, is found
    by that name. `confirm` is called before a new start, and raises to prevent it.
    """
    same = [entry for entry in recorded(record) if entry["spec"] == asdict(spec)]
    if same and (job := look_up(service, same[-1])) and job.state not in WITHOUT_MODEL:
        if not same[-1]["job"]:
            append_jsonl(record, {**same[-1], "job": job.name})
        return job
    confirm()
    entry = {"label": f"lab-08-{secrets.token_hex(8)}", "spec": asdict(spec), "job": ""}
    append_jsonl(record, entry)
    job = service.start(spec, entry["label"])
    append_jsonl(record, {**entry, "job": job.name})
    return job


def look_up(service: Any, entry: Mapping[str, Any]) -> Job | None:
    """The job of an entry of the record as it is now; None if its start never arrived."""
    return service.get(entry["job"]) if entry["job"] else service.find(entry["label"])


def watch(
    service: Any, job: Job, every: float = 60.0, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Job]:
    """Look at the job every so many seconds until it is finished; yields each look. To watch again
    costs nothing.
    """
    while job.state not in FINISHED:
        yield job
        sleep(every)
        job = service.get(job.name)
    yield job


# --------------------------------------------------------------------------------- the real service
class VertexTuning:
    """Supervised tuning on Google Cloud. Every call is bounded in time; looking is repeated,
    starting is not.

    `location` is the region that tunes. `credentials` are those of `keys.find_credentials`: None
    for the user's own, or a service account's key file. KeyProblem where there are none.
    """

    def __init__(
        self,
        project: str,
        location: str = "us-central1",
        credentials: Any = None,
        base_url: str | None = None,
        storage_url: str = STORAGE,
        patience: Patience | None = None,
    ):
        credentials = raised(bounded(lambda: find_credentials(credentials), 60))
        self.access = Access(None, project, location, credentials, base_url)
        self.storage_url, self.patience = storage_url, patience or Patience()
        self._sdk = self._connect(location)

    def _connect(self, location: str) -> GenAI:
        access = replace(self.access, location=location)
        return raised(bounded(lambda: GenAI(access, self.patience.timeout), 60))

    @property
    def _tunings(self) -> Any:
        return self._sdk.client.tunings

    def _look(self, work: Callable[[], Any]) -> Any:
        """A call that changes nothing: repeated whatever went wrong on the way."""
        patience = replace(self.patience, repeat_unsure=True)
        return patience.repeat(lambda seconds: raised(bounded(work, seconds)))

    def upload(self, path: Path, bucket: str, prefix: str = "") -> str:
        """Put the file into the bucket, under `prefix` and its name; returns its gs:// address. The
        same again does no harm.
        """
        from google.auth.transport.requests import AuthorizedSession

        name = f"{prefix.strip('/')}/{path.name}".lstrip("/")
        folder = f"{self.storage_url}/upload/storage/v1/b/{urllib.parse.quote(bucket, safe='')}/o"
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        kind = "text/csv" if path.suffix == ".csv" else "application/jsonl"

        def send() -> None:
            with path.open("rb") as file:
                response = AuthorizedSession(self.access.credentials).post(
                    f"{folder}?{query}",
                    data=file,
                    headers={"Content-Type": kind},
                    timeout=self.patience.timeout,
                )
            if response.status_code >= 400:
                raise error_of_response(response)

        self._look(send)
        return f"gs://{bucket}/{name}"

    def start(self, spec: TuningSpec, label: str) -> Job:
        """Start a job that is billed. Asked once; if the answer is lost, the job is looked for by
        its label.
        """
        outcome = bounded(lambda: read_job(self._tune(spec, label)), self.patience.timeout)
        if isinstance(outcome, GeminiError):
            outcome = self.find(label) or outcome
        return raised(outcome)

    def _tune(self, spec: TuningSpec, label: str) -> Any:
        from google.genai import types

        config = types.CreateTuningJobConfig(
            tuned_model_display_name=label,
            epoch_count=spec.epochs,
            learning_rate_multiplier=spec.learning_rate_multiplier,
            adapter_size=types.AdapterSize(f"ADAPTER_SIZE_{ADAPTER_SIZES[spec.adapter_size]}"),
            validation_dataset=types.TuningValidationDataset(gcs_uri=spec.validation)
            if spec.validation
            else None,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK calls its tuning experimental
            return self._tunings.tune(
                base_model=spec.base_model,
                config=config,
                training_dataset=types.TuningDataset(gcs_uri=spec.dataset),
            )

    def find(self, label: str) -> Job | None:
        """The job with this label, or None."""
        jobs = self._look(
            lambda: [
                read_job(job)
                for job in self._tunings.list()
                if job.tuned_model_display_name == label
            ]
        )
        return jobs[0] if jobs else None

    def get(self, name: str) -> Job:
        """The job as it is now. GeminiError "not found" if the service does not know it."""
        return self._look(lambda: read_job(self._tunings.get(name=name)))

    def cancel(self, name: str) -> Job:
        """Ask the service to stop the job, which may finish all the same; returns it as it is."""
        self._look(lambda: self._tunings.cancel(name=name))
        return self.get(name)

    def client(self, job: Job, budget: float, price: Price, serving: str = "") -> Gemini:
        """A client that asks the tuned model: `client(job, 0.10, price).ask("...",
        json_mode=False)`. GeminiError "not ready" while there is none.
        """
        if not job.endpoint:
            raise GeminiError(
                "not ready", f"the job is {job.state}: there is no tuned model to ask"
            )
        return self.endpoint_client(job.endpoint, budget, price, serving)

    def endpoint_client(
        self, endpoint: str, budget: float, price: Price, serving: str = ""
    ) -> Gemini:
        """A client for any endpoint of a tuned model, `projects/P/locations/L/endpoints/E`, with
        the base model's price and its lowest thinking setting (tuned models do best with it).

        It is asked in the region `serving`, else in the one that serves what L tunes, by the table,
        else in L: a wrong region answers 404. (That an endpoint bears the same number there is our
        reading of the release notes, not tried.) WrongUse if the name is not of that form.
        """
        where = endpoint_location(endpoint)
        place = serving or price.serving.get(where, where)
        endpoint = endpoint.replace(f"/locations/{where}/", f"/locations/{place}/")
        sdk = self._sdk if place == self.access.location else self._connect(place)
        ledger = Ledger(budget, {endpoint: price})
        return Gemini(sdk, ledger, endpoint, self.patience, None, price.lowest_thinking)


def endpoint_location(endpoint: str) -> str:
    """The region in an endpoint's name. WrongUse if it is not of the form of one."""
    if found := ENDPOINT.fullmatch(endpoint):
        return found[2]
    raise WrongUse(
        f"an endpoint is projects/PROJECT/locations/REGION/endpoints/NUMBER; got {endpoint!r}"
    )


def read_job(job: Any) -> Job:
    """A Job from the SDK's object."""
    stats = getattr(job.tuning_data_stats, "supervised_tuning_data_stats", None)
    state = getattr(job.state, "name", None) or ""
    return Job(
        job.name,
        "PENDING" if state.endswith("UNSPECIFIED") or not state else state.split("STATE_")[-1],
        getattr(job.tuned_model, "endpoint", None) or "",
        getattr(job.error, "message", None) or "",
        getattr(stats, "total_billable_token_count", None),
    )
