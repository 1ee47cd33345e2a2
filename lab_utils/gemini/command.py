"""`python3 -m lab_utils gemini`: from the files of lab 05 to a chat with a tuned model.

Its actions are those of the tutorial's two programs (https://github.com/dlops-io/llm-finetuning):
upload; start, watch and cancel for train; chat. Its generate and prepare are
`python3 -m lab_utils pavlos`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lab_utils.files import RUNS, LabKitError
from lab_utils.gemini.errors import GeminiError, KeyProblem
from lab_utils.gemini.ledger import (
    Price,
    load_prices,
    plain_name,
    price_of,
    refuse_retired,
)
from lab_utils.gemini.options import add_place
from lab_utils.gemini.rows import (
    FileReport,
    check_file,
    pavlos_rows,
    sha256_of,
    tuning_cost,
    write_rows,
)
from lab_utils.gemini.tuning import (
    ADAPTER_SIZES,
    STORAGE,
    WITHOUT_MODEL,
    Job,
    TuningSpec,
    VertexTuning,
    confirm_spending,
    default_model,
    endpoint_location,
    look_up,
    recorded,
    start_once,
    watch,
)

PRICING_PAGE = "https://cloud.google.com/gemini-enterprise-agent-platform/generative-ai/pricing"
EXPORTS = RUNS / "05" / "pavlos" / "exports"
ACTIONS = {
    "check": "say what is wrong with the file, and what tuning on it costs",
    "upload": "put the files that lab 05 exported into the bucket",
    "start": "start a job, or find the one that was started",
    "watch": "say how the job stands until it is finished",
    "cancel": "stop the job",
    "chat": "ask the tuned model",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python3 -m lab_utils gemini`."""
    told = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    parser.add_argument("action", choices=ACTIONS, help=told)
    add = parser.add_argument
    add("--file", type=Path, help="the training file, JSON lines; without it the Pavlos pairs")
    add("--validation", type=Path, help="a validation file; without --file that of Pavlos")
    add("--model", default="", help="the base model; without it the cheapest that can be tuned")
    add("--epochs", type=int, default=3, help="how often the file is read")
    add("--adapter-size", type=int, default=4, choices=ADAPTER_SIZES, help="of the service's sizes")
    add("--learning-rate-multiplier", type=float, default=1.0, help="of the service's own rate")
    add("--tuning-price", type=float, help="dollars per million training tokens, read today")
    add_place(parser)
    add(
        "--serving-location", default="", help="region of the tuned model; --location is for tuning"
    )
    add("--bucket", default="", help="of Cloud Storage; else GEMINI_TUNING_BUCKET")
    add("--prefix", default="", help="folder in the bucket; without it one named after the data")
    add("--folder", type=Path, default=EXPORTS, help="what to upload: lab 05's exports")
    add("--endpoint", default="", help="chat with any tuned model: projects/../endpoints/NUMBER")
    add("--question", action="append", help="chat: ask this; without it questions are read in")
    add("--budget", type=float, default=0.10, help="chat: dollars at most")
    record = RUNS / "08" / "tuning_jobs.jsonl"
    add("--record", type=Path, default=record, help="remembers the jobs")
    parser.epilog = (
        "Without --project, --location and --bucket: GOOGLE_CLOUD_PROJECT, GOOGLE_CLOUD_LOCATION "
        "(else us-central1) and GEMINI_TUNING_BUCKET."
    )


def main(args: argparse.Namespace) -> int:
    """Do it, and say what happened. Returns 1 for a file that is not good and a job that failed;
    raises LabKitError with what to do where it cannot be done.
    """
    try:
        if args.action in ("check", "start"):
            return check_and_start(args)
        if args.action == "upload":
            return upload(args)
        return chat(args) if args.action == "chat" else follow(args)
    except (GeminiError, OSError) as error:
        raise LabKitError(str(error)) from None


# ------------------------------------------------------------------------------------ where it goes
def setting(given: str, variable: str, what: str) -> str:
    """An option, else its environment variable. KeyProblem with `what` if neither is there."""
    value = given or os.environ.get(variable, "").strip()
    if not value:
        raise KeyProblem(f"no {variable.rpartition('_')[2].lower()}", f"set {variable} to {what}")
    return value


def service_of(
    project: str = "",
    location: str = "",
    credentials: Any = None,
    base_url: str | None = None,
) -> VertexTuning:
    """The service of a project: as given, else GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION.
    KeyProblem if there is none, or no credentials.
    """
    project = setting(
        project,
        "GOOGLE_CLOUD_PROJECT",
        "a Google Cloud project with billing, and GEMINI_TUNING_BUCKET to a bucket of it",
    )
    location = location or os.environ.get("GOOGLE_CLOUD_LOCATION") or "us-central1"
    return VertexTuning(project, location, credentials, base_url, base_url or STORAGE)


def service_from(args: argparse.Namespace) -> VertexTuning:
    """The service that the options name."""
    return service_of(args.project, args.location, args.credentials, args.base_url)


def bucket_from(args: argparse.Namespace) -> str:
    """The bucket that the options or the environment name."""
    return setting(args.bucket, "GEMINI_TUNING_BUCKET", "a Cloud Storage bucket of your project")


# ------------------------------------------------------------------------------------------- upload
def upload(args: argparse.Namespace) -> int:
    """Put train, validation and test, as JSON lines and as CSV, under one prefix of the bucket."""
    files = sorted([*args.folder.glob("gemini_tuning/*.jsonl"), *args.folder.glob("csv/*.csv")])
    if not files:
        raise GeminiError(
            "no files",
            f"{args.folder}: `python3 -m lab_utils pavlos --offline` makes what is missing",
        )
    train = next((path for path in files if path.name == "train.jsonl"), files[0])
    prefix, bucket = args.prefix or prefix_of(train), bucket_from(args)
    service = service_from(args)
    for path in files:
        print(service.upload(path, bucket, prefix))
    return 0


def prefix_of(path: Path) -> str:
    """A folder's name for these data: other data never overwrite what a job is reading."""
    return f"pavlos-{sha256_of(path)[:12]}"


# -------------------------------------------------------------------------------------------- train
def check_and_start(args: argparse.Namespace) -> int:
    """Say what the files hold and cost; with "start" go on to the job, if the amount is typed."""
    train, validation = files_of(args)
    reports = [check_file(train)]
    if validation:
        reports.append(check_file(validation, validation=True))
    model, prices = args.model or default_model(load_prices()), load_prices()
    refuse_retired(model, prices)
    print(*reports, sep="\n")
    price = tuning_price(args.tuning_price, model, prices)
    cost = tuning_cost(reports[0].tokens, args.epochs, price)
    print(f"{args.epochs} epochs on {model} at ${price:.2f} per million tokens: about ${cost:.2f}")
    if args.action == "check" or not all(report.ok for report in reports):
        return int(not all(report.ok for report in reports))
    print(start(args, model, reports, cost))
    return 0


def files_of(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """(training file, validation file or None): those given, or both of the Pavlos pairs."""
    if args.file:
        return args.file, args.validation
    folder = args.record.parent
    train = write_rows(pavlos_rows("train"), folder / "train.jsonl")
    validation = args.validation or write_rows(
        pavlos_rows("validation"), folder / "validation.jsonl"
    )
    return train, validation


def tuning_price(
    given: float | None,
    model: str,
    prices: Mapping[str, Price],
    ask: Callable[[str], str] = input,
) -> float:
    """Dollars per million training tokens: the option, else the table, else asked for. GeminiError
    "no price" where nobody can type one.
    """
    row = prices.get(plain_name(model))
    if given is None and row:
        given = row.tuning
    if given is not None:
        return given
    question = f"no price of tuning {model} is known: read it at {PRICING_PAGE}"
    try:
        return float(ask(f"{question}\nDollars per million training tokens: "))
    except Exception:  # nobody there, or no number
        pass
    raise GeminiError("no price", f"{question}, and give it: --tuning-price DOLLARS")


def start(args: argparse.Namespace, model: str, reports: list[FileReport], cost: float) -> Job:
    """Start the job once; the files are uploaded after the amount was typed."""
    service, bucket, paths = service_from(args), bucket_from(args), [r.path for r in reports]
    prefix = args.prefix or prefix_of(paths[0])
    addresses = [f"gs://{bucket}/{prefix.strip('/')}/{path.name}" for path in paths]
    spec = TuningSpec(
        model,
        addresses[0],
        args.epochs,
        args.adapter_size,
        addresses[1] if len(addresses) > 1 else "",
        args.learning_rate_multiplier,
        sha256_of(paths[0]),
    )

    def confirm() -> None:
        confirm_spending(cost, "The tuning job")
        for path in paths:
            service.upload(path, bucket, prefix)

    return start_once(service, spec, args.record, confirm)


def latest(record: Path) -> dict[str, Any]:
    """The last job of the record. GeminiError "no job" if it is empty."""
    jobs = recorded(record)
    if not jobs:
        raise GeminiError("no job", f"{record} has none: start a job first")
    return jobs[-1]


def latest_job(service: VertexTuning, record: Path) -> tuple[Job, dict[str, Any]]:
    """(the last job as it is now, its spec). GeminiError "no job" if its start never arrived."""
    entry = latest(record)
    if job := look_up(service, entry):
        return job, entry["spec"]
    raise GeminiError(
        "no job", "its start was never answered, and the service does not know it: start it again"
    )


def follow(args: argparse.Namespace) -> int:
    """Watch or cancel the last job. 1 if it ended without a model, and nobody wished so."""
    latest(args.record)  # before anybody is asked for credentials
    service = service_from(args)
    job, _ = latest_job(service, args.record)
    if args.action == "cancel":
        print(service.cancel(job.name))
        return 0
    for look in watch(service, job):
        print(time.strftime("%H:%M:%S"), look, flush=True)
        job = look
    return int(job.state in WITHOUT_MODEL)


# --------------------------------------------------------------------------------------------- chat
def chat(args: argparse.Namespace) -> int:
    """Ask the tuned model of the last job, or of --endpoint, and print its answers."""
    # whether it can be asked, before anybody is asked for credentials
    endpoint_location(args.endpoint) if args.endpoint else latest(args.record)
    service, model = service_from(args), args.model
    endpoint = args.endpoint
    if not endpoint:
        job, spec = latest_job(service, args.record)
        endpoint, model = job.endpoint, model or spec["base_model"]
        if not endpoint:
            raise GeminiError("not ready", f"the job is {job.state}: there is no model to ask")
    price = chat_price(args.price, model)
    client = service.endpoint_client(endpoint, args.budget, price, args.serving_location)
    for question in args.question or typed_questions():
        print(client.ask(question, json_mode=False, max_output_tokens=2048).text, flush=True)
    print(client.ledger, file=sys.stderr)
    return 0


def chat_price(given: Price | None, model: str) -> Price:
    """The price of what is asked, with what the table knows of its base model. GeminiError "no
    price" where neither an option nor the table names one.
    """
    row = load_prices().get(plain_name(model)) if model else None
    if given and row:
        return row._replace(input=given.input, output=given.output)
    if given:
        return given
    if not model:
        raise GeminiError(
            "no price", "name the model that was tuned (--model), or its price (--price 0.30/2.50)"
        )
    return price_of(model, load_prices())


def typed_questions() -> Iterator[str]:
    """Questions from the keyboard or a pipe, until an empty line or the end."""
    for line in sys.stdin:
        if not line.strip():
            return
        yield line.strip()
