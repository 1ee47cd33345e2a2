"""Tuning Gemini behind a service: the file and its rules, what it costs, and a job that is started
once and watched.

The service is supervised tuning on Vertex AI, through google-genai. (The Gemini API that a plain
key opens has no tuning any more.) It needs a Google Cloud project with billing, a bucket, and
credentials (`gcloud auth application-default login`; in Colab
`google.colab.auth.authenticate_user()`). `SimulatedTuning` has the same methods, calls nobody,
bills nothing, and says so in everything it returns.

Sources: Vertex AI documentation, "Prepare supervised fine-tuning data for Gemini models" (form of a
row) and "About supervised fine-tuning for Gemini models" (limits, those of Gemini 2.5 Flash), as of
2026; the code of google-genai 3.4. Limits differ by model and change: look there before you pay.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from lab_utils.files import DATA, RUNS, LabKitError, read_jsonl, write_jsonl, write_text
from lab_utils.gemini.client import (
    Gemini,
    GeminiError,
    GenAI,
    KeyProblem,
    Ledger,
    Patience,
    Price,
    bounded,
    error_of_response,
    load_prices,
    name_of,
    price_of,
    raised,
)

MAX_ROWS, MAX_VALIDATION_ROWS, MAX_BYTES, MAX_TOKENS = 1_000_000, 5_000, 10**9, 131_072
RECOMMENDED_ROWS = 100
ADAPTER_SIZES = {1: "ONE", 2: "TWO", 4: "FOUR", 8: "EIGHT", 16: "SIXTEEN"}
FINISHED = {"SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}
# Gemini's documentation; English. The service counts for itself, and its count is what is billed
CHARACTERS_PER_TOKEN = 4
SIMULATED = "SIMULATED: no service was called, no model was tuned, nothing was billed"


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
    """The Pavlos pairs of a split as rows of the service, his description as the system
    instruction.
    """
    description = json.loads((DATA / "pavlos" / "persona.json").read_text(encoding="utf-8"))[
        "description"
    ]
    return [as_gemini(pair, description) for pair in read_jsonl(DATA / "pavlos" / f"{split}.jsonl")]


def write_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> Path:
    """Write rows as JSON lines in UTF-8, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    return path


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


# ---------------------------------------------------------------------------------------- jobs
@dataclass(frozen=True)
class TuningSpec:
    """What to tune, and how. Nothing more can be chosen: no rank in numbers, no precision, no
    layers.
    """

    base_model: str
    dataset: str  # gs://bucket/train.jsonl
    epochs: int = 3
    adapter_size: int = 4
    validation: str = ""
    learning_rate_multiplier: float = 1.0

    def __post_init__(self) -> None:
        if self.adapter_size not in ADAPTER_SIZES:
            raise ValueError(
                f"adapter_size is one of {', '.join(map(str, ADAPTER_SIZES))}; got "
                f"{self.adapter_size}"
            )
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
        billed = (
            "" if self.billable_tokens is None else f", {self.billable_tokens:,} billable tokens"
        )
        return f"{'SIMULATED ' if self.simulated else ''}{self.state}{f' ({self.error})' if self.error else ''}{billed}"


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


def start_once(service: Any, spec: TuningSpec, record: Path, confirm: Callable[[], None]) -> Job:
    """Start the job, or find the one that was started before: run it again after a crash, and pay
    once.

    `record` remembers the job. It is written before the start with a name that nobody else uses, so
    that a job whose start was not answered, or during which we were killed, is found by that name.
    `confirm` is called before a new start, and raises to prevent it. GeminiError "other job" if the
    record is about another spec.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    saved = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    if saved and saved["spec"] != asdict(spec):
        raise GeminiError(
            "other job",
            f"{record} is about another job ({saved['spec']}). Watch that one, or move the file "
            "away",
        )
    if saved and saved["job"]:
        return service.get(saved["job"])
    job = service.find(saved["label"]) if saved else None
    if job is None:
        confirm()
        saved = {"label": f"lab-08-{secrets.token_hex(8)}", "spec": asdict(spec), "job": ""}
        write_text(record, json.dumps(saved, indent=2))
        job = service.start(spec, saved["label"])
    write_text(record, json.dumps({**saved, "job": job.name}, indent=2))
    return job


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
    """Supervised tuning on Vertex AI. Every call is bounded in time; looking is repeated, starting
    is not.
    """

    def __init__(
        self,
        project: str,
        location: str = "us-central1",
        credentials: Any = None,
        base_url: str | None = None,
        storage_url: str = "https://storage.googleapis.com",
        patience: Patience | None = None,
    ):
        self.credentials = credentials or raised(bounded(default_credentials, 60))
        self.storage_url, self.patience = storage_url, patience or Patience()
        self._sdk = raised(bounded(lambda: self._connect(project, location, base_url), 60))

    def _connect(self, project: str, location: str, base_url: str | None) -> GenAI:
        from google import genai

        options = genai.types.HttpOptions(
            api_version="v1beta1", base_url=base_url, timeout=int(self.patience.timeout * 1000)
        )
        return GenAI(
            genai.Client(
                vertexai=True,
                project=project,
                location=location,
                credentials=self.credentials,
                http_options=options,
            )
        )

    @property
    def _tunings(self) -> Any:
        return self._sdk.client.tunings

    def _look(self, work: Callable[[], Any]) -> Any:
        """A call that changes nothing: repeated whatever went wrong on the way."""
        patience = replace(self.patience, repeat_unsure=True)
        return patience.repeat(lambda seconds: raised(bounded(work, seconds)))

    def upload(self, path: Path, bucket: str) -> str:
        """Put the file into the bucket, under its name; returns its gs:// address. The same again
        does no harm.
        """
        from google.auth.transport.requests import AuthorizedSession

        query = urllib.parse.urlencode({"uploadType": "media", "name": path.name})
        address = f"{self.storage_url}/upload/storage/v1/b/{urllib.parse.quote(bucket, safe='')}/o?{query}"

        def send() -> None:
            with path.open("rb") as file:
                response = AuthorizedSession(self.credentials).post(
                    address,
                    data=file,
                    headers={"Content-Type": "application/jsonl"},
                    timeout=self.patience.timeout,
                )
            if response.status_code >= 400:
                raise error_of_response(response)

        self._look(send)
        return f"gs://{bucket}/{path.name}"

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
        return self._look(lambda: read_job(self._tunings.get(name=name)))

    def cancel(self, name: str) -> Job:
        """Ask the service to stop the job; it may finish all the same. Returns how it stands now."""
        self._look(lambda: self._tunings.cancel(name=name))
        return self.get(name)

    def client(self, job: Job, budget: float, price: Price) -> Gemini:
        """A client that asks the tuned model: `client(job, 0.10, price).ask("...",
        json_mode=False)`.
        """
        if not job.endpoint:
            raise GeminiError(
                "not ready", f"the job is {job.state}: there is no tuned model to ask"
            )
        return Gemini(self._sdk, Ledger(budget, {job.endpoint: price}), job.endpoint, self.patience)


def default_credentials() -> Any:
    """The user's Google credentials. KeyProblem "no credentials" with what to do."""
    import google.auth

    try:
        return google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0]
    except google.auth.exceptions.GoogleAuthError:
        pass
    raise KeyProblem(
        "no credentials",
        "run `gcloud auth application-default login`, or in Colab "
        "`from google.colab import auth; auth.authenticate_user()`",
    )


def vertex_from_environment() -> VertexTuning:
    """The service of the project in GOOGLE_CLOUD_PROJECT (and GOOGLE_CLOUD_LOCATION). KeyProblem if
    there is none.
    """
    project = os.environ.get("GOOGLE_CLOUD_PROJECT", "").strip()
    if not project:
        raise KeyProblem(
            "no project",
            "set GOOGLE_CLOUD_PROJECT to a Google Cloud project with billing, "
            "and GEMINI_TUNING_BUCKET to a bucket of it",
        )
    return VertexTuning(project, os.environ.get("GOOGLE_CLOUD_LOCATION") or "us-central1")


def read_job(job: Any) -> Job:
    """A Job from the SDK's object."""
    stats = getattr(job.tuning_data_stats, "supervised_tuning_data_stats", None)
    return Job(
        job.name,
        name_of(job.state).removeprefix("JOB_STATE_") or "PENDING",
        getattr(job.tuned_model, "endpoint", None) or "",
        getattr(job.error, "message", None) or "",
        getattr(stats, "total_billable_token_count", None),
    )


# ------------------------------------------------------------------------------- a simulation of it
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
    """The job at steps 0 to `steps`; `events` maps a step to what happens in it, "wait" elsewhere."""
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

    def upload(self, path: Path, bucket: str) -> str:
        return f"simulated://{bucket}/{path.name}"

    def start(self, spec: TuningSpec, label: str) -> Job:
        name = f"simulated-job-{len(self.jobs) + 1}"
        self.jobs[name], self.labels[label] = SimulatedJob(spec.epochs, self.tokens), name
        return self._shown(name)

    def find(self, label: str) -> Job | None:
        return self._shown(self.labels[label]) if label in self.labels else None

    def get(self, name: str) -> Job:
        if name not in self.jobs:
            raise GeminiError(
                "not found",
                f"{name} is gone: simulated jobs live as long as their kernel. Delete the record "
                "file",
            )
        self.jobs[name] = self.jobs[name].step()
        return self._shown(name)

    def cancel(self, name: str) -> Job:
        self.jobs[name] = self.jobs[name].step("cancel")
        return self._shown(name)

    def client(self, job: Job, budget: float, price: Price) -> Gemini:
        raise GeminiError("simulated", "there is no model behind a simulated job, so nobody to ask")

    def _shown(self, name: str) -> Job:
        job = self.jobs[name]
        billed = job.billed_tokens if job.state in FINISHED else None
        error = "row 5: not the form of the service" if job.state == "FAILED" else ""
        return Job(name, job.state, error=error, billable_tokens=billed, simulated=True)


# ---------------------------------------------------------------------- python3 -m lab_utils gemini
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python3 -m lab_utils gemini`."""
    parser.add_argument(
        "action",
        choices=["check", "start", "watch", "cancel", "ask"],
        help="check the file and say its cost; start a job (or find the one started); watch; "
        "cancel; ask it",
    )
    parser.add_argument(
        "--file", type=Path, help="the tuning file, JSON lines; without it the Pavlos pairs"
    )
    parser.add_argument(
        "--model",
        default="",
        help="a base model; without it the cheapest with a tuning price in the table",
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--adapter-size", type=int, default=4, choices=ADAPTER_SIZES)
    parser.add_argument("--question", default="Where is Feta made?")
    parser.add_argument(
        "--record", type=Path, default=RUNS / "08" / "tuning_job.json", help="remembers the job"
    )


def cheapest_model(prices: Mapping[str, Price]) -> str:
    """The model with the lowest tuning price in the table. GeminiError "no price" if none has one."""
    tunable = {name: price.tuning for name, price in prices.items() if price.tuning}
    if not tunable:
        raise GeminiError(
            "no price",
            "no model of the price table has a tuning price: read it from the pricing page, and "
            "add it",
        )
    return min(tunable, key=tunable.get)


def main(args: argparse.Namespace) -> int:
    """Check, start, watch, cancel or ask, and say what happened."""
    try:
        if args.action in ("check", "start"):
            return check_and_start(args)
        if not args.record.exists():
            raise GeminiError("no job", f"{args.record} is not there: start a job first")
        return follow(
            args, vertex_from_environment(), json.loads(args.record.read_text(encoding="utf-8"))
        )
    except (GeminiError, FileNotFoundError) as error:
        raise LabKitError(str(error)) from None


def follow(args: argparse.Namespace, service: VertexTuning, saved: dict[str, Any]) -> int:
    """Watch, cancel or ask the job of a record. 1 if it failed."""
    job = service.get(saved["job"]) if saved["job"] else service.find(saved["label"])
    if job is None:
        raise GeminiError(
            "no job",
            "its start was never answered, and the service does not know it: start it again",
        )
    if args.action == "cancel":
        job = service.cancel(job.name)
        print(job)
    elif args.action == "ask":
        price = price_of(saved["spec"]["base_model"], load_prices())
        print(service.client(job, 0.10, price).ask(args.question, json_mode=False).text)
    else:
        for look in watch(service, job):
            print(time.strftime("%H:%M:%S"), look, flush=True)
            job = look
    return int(job.state in ("FAILED", "EXPIRED"))


def check_and_start(args: argparse.Namespace) -> int:
    """Say what the file holds and costs; with "start" go on to the job, if the amount is typed."""
    path = args.file or write_rows(pavlos_rows(), args.record.parent / "train.jsonl")
    report, model = check_file(path), args.model or cheapest_model(load_prices())
    price = price_of(model, load_prices())
    if price.tuning is None:
        raise GeminiError(
            "no price",
            f"{model} has no tuning price in the table: read it from the pricing page, and add it",
        )
    cost = tuning_cost(report.tokens, args.epochs, price.tuning)
    print(
        f"{report}\n{args.epochs} epochs on {model} at ${price.tuning:.2f} per million tokens "
        f"({price.date}; {price.source}): about ${cost:.2f}"
    )
    if args.action == "check" or not report.ok:
        return 0 if report.ok else 1
    service, bucket = vertex_from_environment(), os.environ.get("GEMINI_TUNING_BUCKET", "").strip()
    if not bucket:
        raise KeyProblem(
            "no bucket", "set GEMINI_TUNING_BUCKET to a Cloud Storage bucket of your project"
        )
    spec = TuningSpec(model, f"gs://{bucket}/{path.name}", args.epochs, args.adapter_size)

    def confirm() -> None:
        confirm_spending(cost, "The tuning job")
        service.upload(path, bucket)

    print(start_once(service, spec, args.record, confirm))
    return 0
