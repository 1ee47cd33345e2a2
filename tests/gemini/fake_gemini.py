"""A server on loopback that speaks as much of Gemini, Vertex AI tuning and Cloud Storage as the
tests need.

    with FakeGemini() as fake:
        fake.script = [error(503, "overloaded"), answer("Feta is Greek.")]   # one for each
        generateContent

Nothing of it is Gemini: it never claims to be, and the kit does not ship it.
"""

import json
import re
import socket
import struct
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD_KEY = "AIzaFAKE-key_for-the-tests-0123456789abc"
TOKEN = "FAKE-TOKEN-of-the-tests"
VERSION = "gemini-fake-001"  # the version that the answers name
MODELS = (
    "gemini-3.5-flash-lite",
    "gemini-3.1-flash-lite",
    "gemini-2.5-pro",
    "gemini-3-flash-preview",
    "text-embedding-004",
)


# ------------------------------------------------------------------------------- what it can answer
@dataclass
class Answer:
    """One answer. `length` lies about the body's length; `then` acts on the connection instead of,
    or after, writing.
    """

    body: bytes = b""
    status: int = 200
    headers: dict = field(default_factory=dict)
    length: int | None = None
    content_type: str = "application/json; charset=UTF-8"
    then: str = ""  # "reset", "close", "drip", "hang"
    billed: bool = False


def as_json(value, **options) -> Answer:
    return Answer(json.dumps(value).encode(), **options)


def answer(
    text="Feta is made in Greece.", finish="STOP", prompt_tokens=7, output_tokens=5, thoughts=0
) -> Answer:
    """A whole reply. Thinking shows only in the total, and in a field that the older SDK does not
    know.
    """
    content = (
        {"parts": [{"text": text}], "role": "model"} if text is not None else {"role": "model"}
    )
    usage = {
        "promptTokenCount": prompt_tokens,
        "candidatesTokenCount": output_tokens,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt_tokens + output_tokens + thoughts,
    }
    candidate = {"content": content, "finishReason": finish, "index": 0}
    return as_json(
        {"candidates": [candidate], "usageMetadata": usage, "modelVersion": VERSION}, billed=True
    )


def answer_of(*parts, usage=None, **fields) -> Answer:
    """A reply with these parts, as JSON objects, and these counts; `fields` are the candidate's."""
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finishReason": "STOP"}
    body = {"candidates": [{**candidate, **fields}]}
    return as_json({**body, **({"usageMetadata": usage} if usage else {})}, billed=True)


def blocked(reason="PROHIBITED_CONTENT") -> Answer:
    return as_json(
        {
            "promptFeedback": {"blockReason": reason},
            "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
        },
        billed=True,
    )


def error(status, message="no", name="", details=(), headers=None) -> Answer:
    body = {"error": {"code": status, "message": message, "status": name, "details": list(details)}}
    return as_json(body, status=status, headers=headers or {})


def retry_info(delay: str) -> dict:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota_failure(quota_id: str) -> dict:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": quota_id}],
    }


def error_info(reason: str) -> dict:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
    }


def per_minute(delay="37s") -> Answer:
    return error(
        429,
        "You exceeded your current quota.",
        "RESOURCE_EXHAUSTED",
        [
            quota_failure("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
            *([retry_info(delay)] if delay else []),
        ],
    )


def per_day() -> Answer:
    return error(
        429,
        "You exceeded your current quota.",
        "RESOURCE_EXHAUSTED",
        [quota_failure("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), retry_info("18s")],
    )


# -------------------------------------------------------------------------------------- tuning jobs
@dataclass
class Job:
    """A tuning job that goes one state further each time it is looked at."""

    body: dict
    path: list  # states still to come, without JOB_STATE_

    def look(self) -> dict:
        state = self.path.pop(0) if len(self.path) > 1 else self.path[0]
        self.body["state"] = f"JOB_STATE_{state}"
        if state == "SUCCEEDED":
            folder = self.body["name"].rpartition("/tuningJobs/")[0]
            self.body["tunedModel"] = {
                "model": f"{folder}/models/11@1",
                "endpoint": f"{folder}/endpoints/22",
            }
            self.body["tuningDataStats"] = {
                "supervisedTuningDataStats": {"totalBillableTokenCount": "1234"}
            }
        if state == "FAILED":
            self.body["error"] = {"code": 3, "message": "Row: 5. Invalid role in contents."}
        return self.body


# --------------------------------------------------------------------------------------- the server
class FakeGemini:
    """`requests` is all that came in, `billed` how many answers a service would have charged
    for.
    """

    def __init__(self):
        self.stopped = threading.Event()
        self.forget()

    def forget(self):
        """As if just started; whoever hangs or drips is let go."""
        self.stopped.set()
        self.script: list[Answer] = []
        self.job_path = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
        self.requests: list[dict] = []
        self.jobs: dict[str, Job] = {}
        self.uploads: dict[str, bytes] = {}
        self.on_start: Answer | None = (
            None  # what the start of a job is answered with, after the job was made
        )
        self.models, self.billed = MODELS, 0
        self.stopped = threading.Event()

    def __enter__(self):
        fake = self

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request, client_address):
                pass  # a client that gave up is what some tests are about

        class Handler(Speaker):
            owner = fake

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def asked(self) -> list[dict]:
        """The requests that wanted an answer from a model."""
        return [
            request for request in self.requests if request["path"].endswith(":generateContent")
        ]

    @property
    def started(self) -> list[dict]:
        """The requests that wanted a tuning job."""
        return [
            r for r in self.requests if r["method"] == "POST" and r["path"].endswith("/tuningJobs")
        ]

    def reply_to(self, method: str, path: str, query: str, body) -> Answer:
        if path == "/token":  # Google's OAuth, for a service account
            return as_json({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
        if path.endswith(":generateContent"):
            return self.script.pop(0) if self.script else answer()
        if method == "POST" and path.startswith("/upload/storage/"):
            bucket = re.search(r"/b/([^/]+)/o", path)[1]
            name = urllib.parse.parse_qs(query)["name"][0]
            self.uploads[f"gs://{bucket}/{name}"] = body
            return as_json({"name": name, "bucket": bucket, "size": str(len(body))})
        if method == "GET" and path.endswith("/models"):
            return as_json(
                {
                    "models": [
                        {"name": f"models/{name}", "supportedGenerationMethods": methods(name)}
                        for name in self.models
                    ]
                }
            )
        return self.tuning(method, path, body)

    def tuning(self, method: str, path: str, body) -> Answer:
        name = path.partition("/v1beta1/")[2]
        if method == "POST" and path.endswith("/tuningJobs"):
            job = Job(
                {"name": f"{name}/{100 + len(self.jobs)}", **json.loads(body)}, list(self.job_path)
            )
            self.jobs[job.body["name"]] = job
            return self.on_start or as_json(job.look())
        if method == "GET" and path.endswith("/tuningJobs"):
            return as_json({"tuningJobs": [job.body for job in self.jobs.values()]})
        job = self.jobs.get(name.removesuffix(":cancel"))
        if job is None:
            return error(404, f"{path} was not found", "NOT_FOUND")
        if name.endswith(":cancel"):
            job.path[:] = ["CANCELLING", "CANCELLED"]
            return as_json({})
        return as_json(job.look())


def methods(model: str) -> list[str]:
    return ["embedContent"] if "embedding" in model else ["generateContent", "countTokens"]


class Speaker(BaseHTTPRequestHandler):
    """Says over HTTP what its owner decided, and breaks the connection where it should."""

    protocol_version = "HTTP/1.1"
    owner: FakeGemini

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.speak()

    def do_POST(self):
        self.speak()

    def speak(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        self.owner.requests.append(
            {
                "method": self.command,
                "path": path,
                "query": query,
                "headers": dict(self.headers),
                "body": body,
            }
        )
        said = self.owner.reply_to(self.command, path, query, body)
        self.owner.billed += said.billed
        if said.then:
            self.break_off(said)
        else:
            self.write(said)

    def write(self, said: Answer):
        self.send_response(said.status)
        for name, value in {"Content-Type": said.content_type, **said.headers}.items():
            self.send_header(name, value)
        self.send_header(
            "Content-Length", str(len(said.body) if said.length is None else said.length)
        )
        self.end_headers()
        self.wfile.write(said.body)
        self.wfile.flush()
        if said.length is not None and said.length != len(said.body):
            self.hang_up()

    def break_off(self, said: Answer):
        stopped = self.owner.stopped
        if said.then == "hang":
            stopped.wait()
        elif said.then == "drip":  # a byte now and then: no socket timeout ever runs out
            self.send_response(200)
            self.send_header("Content-Type", said.content_type)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not stopped.wait(0.02):
                self.wfile.write(b" ")
                self.wfile.flush()
        if said.then == "reset":  # RST in place of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.hang_up()

    def hang_up(self):
        self.close_connection = True
        if not self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8).startswith(
            struct.pack("i", 1)
        ):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
