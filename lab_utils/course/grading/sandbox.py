"""The wall between a student's code and everything else: bubblewrap's rooms, and the fork server
that puts code into them.

A room is made for every question and thrown away after it. In it are Python and its packages, the
kit without its right answers, and folders in memory of a limited size: /job, /tmp, /dev/shm.
Nothing else of the machine is there: no network, no other process, no other submission, no variable
of the environment. The code runs as a user that owns nothing, with limits on CPU time, memory,
processes and sizes, and cannot make new namespaces. What it prints goes nowhere; what it answers
comes through one socket, read up to a limit. When the room's first process goes, the kernel kills
all others in it.

There is no Jupyter kernel and no ZMQ in the room: the cells' statements are executed in a process
forked for them. A kernel would add a message protocol that the student's code can speak too, and a
second of start-up for each question.

Weighed, and not used: bwrap's own `--cap-drop` and `--seccomp` with `prlimit`, in place of what
the forked process does for itself. Then Python would start inside, and pay for its imports
(seconds for torch) in each room, or all questions of a notebook would share one room. Also nsjail,
firejail (one is not packaged in Debian 12, the other is a setuid program with its own history of
holes), Docker (needs a daemon with root's rights); `unshare` alone makes no file system.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import select
import shutil
import signal
import site
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_utils.course.grading.worker.cells import BUILTIN_ERRORS
from lab_utils.course.grading.worker.server import JOB, NAMESPACES, send
from lab_utils.files import ROOT, LabKitError

REMEDY = "apt-get install bubblewrap libseccomp2 (Debian, Ubuntu, as root)"
PRELOADED = ("numpy", "torch", "pandas", "transformers", "IPython.core.inputtransformer2")
BOOT = (
    "import sys; sys.path += {paths}; from lab_utils.course.grading.worker import server; "
    "server.main({fd}, {preload})"
)
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": JOB,
    "USER": "student",
    "LANG": "C.UTF-8",
    "LAB_RUNS_DIR": f"{JOB}/runs",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "CUDA_VISIBLE_DEVICES": "",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
}
FIRST_UID, N_UIDS = 61184, 4332  # systemd's range for users that exist for a while only
NOBODY = 65534
START_SECONDS = 120  # to import everything in PRELOADED on a busy machine
REPORT_BYTES = 100_000
MAX_FILES = 20_000  # in a room's folders: each takes memory that no other limit counts
POLL_SECONDS = 0.25  # how often the memory of a room is looked at
KNOWN_KINDS = frozenset({*BUILTIN_ERRORS, "TimeLimit"})


@dataclass(frozen=True)
class Limits:
    """What one question may use."""

    cells_seconds: float = 30
    answer_seconds: float = 20
    # of one process, on top of the imports; of all together twice as much
    memory_bytes: int = 2 * 10**9
    processes: int = 64
    disk_bytes: int = 64 * 10**6
    answer_bytes: int = 16 * 10**6

    def for_process(self) -> dict:
        """What the process sets for itself."""
        return {
            "cpu_seconds": self.cells_seconds + self.answer_seconds + 1,
            "memory_bytes": self.memory_bytes,
            "processes": self.processes,
            "disk_bytes": self.disk_bytes,
        }


@dataclass
class Reply:
    """What came out of a room: a report on the cells, the answers as npz, and if something is
    missing, why. `fault` says that the reason is ours: the room could not be entered.
    """

    report: dict = field(default_factory=dict)
    answers: bytes | None = None
    ended: str = ""
    fault: bool = False


class Ended(Exception):
    """A room has to be given up; the text says why, to a person."""


# ------------------------------------------------------------------------------ is there a sandbox?
def problem() -> str:
    """What is missing for a sandbox on this machine, with the remedy, or ""."""
    if sys.platform != "linux":
        return "the sandbox needs Linux (on Windows and macOS: a virtual machine, WSL 2 or Docker)"
    if not shutil.which("bwrap"):
        return f"bubblewrap is not installed: {REMEDY}"
    if not ctypes.util.find_library("seccomp") and not _loads("libseccomp.so.2"):
        return f"libseccomp is not installed: {REMEDY}"
    try:
        with room(Limits()):
            return ""
    except OSError as error:
        return f"bubblewrap cannot make a sandbox here: {error}"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


# ---------------------------------------------------------------------------------------- the room
def package_folders() -> list[Path]:
    """Where Python and its packages are, without the kit itself: the paths as they are named, and
    those that links lead to. An environment below a linked folder is looked for by its name.
    """
    places = [
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        *site.getsitepackages(),
        *_linked_folders(),
    ]
    named = [Path(os.path.abspath(place)) for place in places if Path(place).exists()]
    found = {path for name in named for path in (name, name.resolve())}
    return sorted(path for path in found if found.isdisjoint(path.parents))


def _linked_folders() -> list[str]:
    """Packages that sit elsewhere on the path, as with `pip install --user`."""
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def mounts(limits: Limits) -> list[str]:
    """bwrap's words for the file system of a room. Of the kit only its code is there, without
    checking/ and course/.
    """
    words = ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        words += (
            ["--symlink", os.readlink(path), str(path)]
            if path.is_symlink()
            else ["--ro-bind-try", str(path), str(path)]
        )
    for name in ("ld.so.cache", "ld.so.conf", "alternatives", "fonts", "localtime"):
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    words += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    for folder in (JOB, "/tmp", "/dev/shm"):  # first: the kit itself may be below /tmp
        words += ["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", folder]
    shown = [
        (path, ["--ro-bind", str(path), str(path)])
        for path in package_folders()
        if not path.is_relative_to("/usr")
    ]
    if (ROOT / "labs").exists() or (ROOT / ".git").exists():  # not a folder of packages
        shown.append((ROOT, ["--tmpfs", str(ROOT)]))
    shown += [
        (ROOT / name, ["--ro-bind-try", str(ROOT / name), str(ROOT / name)])
        for name in ("lab_utils", "pyproject.toml", "requirements.txt")
    ]
    shown += [
        (ROOT / "lab_utils" / room, ["--tmpfs", str(ROOT / "lab_utils" / room)])
        for room in ("checking", "course")
    ]
    # what is inside comes after what is around
    for path, mount in sorted(shown, key=lambda entry: len(entry[0].parts)):
        # without /; bwrap itself would close them to all but root
        for parent in list(path.parents)[-2::-1]:
            words += ["--perms", "0755", "--dir", str(parent)]
        words += mount
    emptied = [str(path) for path, mount in shown if mount[0] == "--tmpfs"]
    return words + [word for folder in (*emptied, "/dev", "/") for word in ("--remount-ro", folder)]


def room_command(limits: Limits, info: int) -> list[str]:
    """bwrap's whole command. The room's first process waits until its input is closed, and cannot
    be killed from inside.
    """
    apart = [f"--unshare-{name}" for name in ("pid", "net", "ipc", "uts", "cgroup")]
    if os.geteuid() != 0:
        apart += ["--unshare-user", "--disable-userns", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    return [
        "bwrap",
        *apart,
        "--as-pid-1",
        "--new-session",
        "--clearenv",
        *mounts(limits),
        "--chdir",
        JOB,
        "--info-fd",
        str(info),
        "/usr/bin/cat",
    ]


@contextmanager
def room(limits: Limits) -> Iterator[int]:
    """A room; the number is the process id of its first process. When the block ends, every process
    in it is gone.
    """
    reading, writing = os.pipe()
    try:
        holder = subprocess.Popen(
            room_command(limits, writing),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writing],
            bufsize=0,
        )
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as info, holder:
        try:
            with suppress(BrokenPipeError):
                holder.stdin.write(b"!")
            if holder.stdout.read(1) != b"!":  # it came back: the room is complete
                raise OSError(
                    holder.stderr.read().decode(errors="replace").strip() or "no reason was given"
                )
            first = json.loads(info.read())["child-pid"]
            try:
                yield first
            finally:
                os.kill(first, signal.SIGKILL)
        finally:
            holder.stdin.close()
            holder.wait()


def memory_of(first: int) -> int:
    """Bytes of memory that the processes of a room use, what is shared counted once (proportional
    set size).
    """
    total = 0
    for name in _listed(_seen(first, "/proc")):
        if name.isdigit():
            with suppress(OSError), open(_seen(first, f"/proc/{name}/smaps_rollup")) as file:
                total += sum(
                    int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")
                )
    return total


def files_of(first: int) -> int:
    """How many files and folders there are in the folders of a room."""
    total = 0
    for folder in (JOB, "/tmp", "/dev/shm"):
        with suppress(OSError):
            found = os.statvfs(_seen(first, folder))
            total += found.f_files - found.f_ffree
    return total


def _seen(first: int, path: str) -> str:
    """A path in a room as this process reaches it: Linux shows the room's file system below its
    first process.
    """
    return f"/proc/{first}/root{path}"


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


# ---------------------------------------------------------------------------------- the fork server
class Sandbox:
    """A fork server and the rooms that its children go into. `with Sandbox(limits) as sandbox:
    sandbox.ask(...)`.

    `sealed=False` leaves the rooms away (and says so in the grades): then the code is only another
    process, in a folder of its own, of the user nobody if this process is root.
    """

    def __init__(self, limits: Limits, sealed: bool = True, preload: tuple[str, ...] = PRELOADED):
        self.limits, self.sealed, self.preload = limits, sealed, preload
        self.server: subprocess.Popen | None = None
        self.n_asked = 0

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the fork server, if it does not run already. LabKitError if it does not come up."""
        if self.server is not None and self.server.poll() is None:
            return
        self.close()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        boot = BOOT.format(
            paths=[str(ROOT), *map(str, package_folders())],
            fd=theirs.fileno(),
            preload=list(self.preload),
        )
        self.errors = tempfile.TemporaryFile()
        with theirs:
            self.server = subprocess.Popen(
                [sys.executable, "-I", "-c", boot],
                env=ENVIRONMENT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                cwd="/",
            )
        try:
            if Channel(self.control, time.monotonic() + START_SECONDS).receive(100) != b"ready":
                raise Ended("it said something else")
        except Ended as error:
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise LabKitError(
                f"The process that runs the submissions did not start ({error}): "
                f"{' '.join(said[-1:])}"
            ) from None

    def close(self) -> None:
        """End the fork server. It holds no submission: those end with their rooms."""
        if self.server is not None:
            self.control.close()
            self.errors.close()
            self.server.kill()
            self.server.wait()
            self.server = None

    def ask(
        self, cells: list[str], function: str, question: bytes, whole: bool = False, kit: str = ""
    ) -> Reply:
        """Run the cells that the function needs (or all) in a room, and ask the function, which may
        not call the function `kit` of lab_utils. Never raises for what they do.
        """
        self.start()
        self.n_asked += 1
        reply = Reply()
        with self._place() as (folder, descriptor, first):
            connection, status = self._fork(folder, descriptor, first)
            try:
                self._talk(
                    reply,
                    connection,
                    first,
                    {
                        "cells": cells,
                        "function": function,
                        "whole": whole,
                        "kit": kit,
                        "seconds": self.limits.cells_seconds,
                    },
                    question,
                )
            except Ended as problem:
                reply.ended = str(problem)
            finally:
                connection.close()
                if reply.ended == Channel.GONE:
                    reply.ended, reply.fault = self._how_it_ended(status)
                os.close(status)
        return reply

    def _talk(
        self,
        reply: Reply,
        connection: socket.socket,
        first: int | None,
        request: dict,
        question: bytes,
    ) -> None:
        """Send cells, receive the report, send inputs, receive answers. Ended if the other side
        does not play along.
        """
        limits = self.limits
        channel = Channel(
            connection, time.monotonic() + limits.cells_seconds + 2, first, 2 * limits.memory_bytes
        )
        channel.send(json.dumps(request).encode())
        reply.report = read_report(channel.receive(REPORT_BYTES))
        if not reply.report["callable"]:
            return
        channel.deadline = time.monotonic() + limits.answer_seconds
        channel.send(question)
        reply.answers = channel.receive(limits.answer_bytes)

    @contextmanager
    def _place(self) -> Iterator[tuple[str, int, int | None]]:
        """(folder, descriptor for the fork server, first process) of a room, or of an ordinary
        folder without a sandbox.
        """
        if self.sealed:
            with room(self.limits) as first:
                pidfd = os.pidfd_open(first)
                try:
                    yield JOB, pidfd, first
                finally:
                    os.close(pidfd)
            return
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            os.chmod(folder, 0o777)
            lifeline, ours = os.pipe()
            try:
                yield folder, lifeline, None
            finally:
                os.close(lifeline)
                os.close(ours)

    def _fork(self, folder: str, descriptor: int, first: int | None) -> tuple[socket.socket, int]:
        """A process of the student's in the room. Return the socket to it and the end of a pipe
        that tells how it ended.
        """
        connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        status, writing = os.pipe()
        names = [name for name in NAMESPACES if name != "user" or os.geteuid() != 0]
        environment = (
            ENVIRONMENT
            if self.sealed
            else {**ENVIRONMENT, "HOME": folder, "LAB_RUNS_DIR": f"{folder}/runs"}
        )
        request = {
            "namespaces": names,
            "user": self._user(first),
            "sealed": self.sealed,
            "folder": folder,
            "limits": self.limits.for_process(),
            "environment": json.dumps(environment),
        }
        socket.send_fds(
            self.control, [json.dumps(request).encode()], [theirs.fileno(), writing, descriptor]
        )
        theirs.close()
        os.close(writing)
        return connection, status

    def _user(self, first: int | None) -> int | None:
        """The user id to change to: only root can. Without a sandbox it must be able to read
        Python's files.
        """
        if os.geteuid() != 0:
            return None
        if first is not None:
            return FIRST_UID + first % N_UIDS
        return None if closed_folders() else NOBODY

    def _how_it_ended(self, status: int) -> tuple[str, bool]:
        """(reason, is it our fault?) where the process has ended. Neither its code nor its signal
        is told: student code chooses them, and could say an input with them.
        """
        if not select.select([status], [], [], 1)[0]:
            return Channel.GONE, False
        told = os.read(status, 1000).decode(errors="replace")
        if not told.isdigit():
            return f"the process could not be put into the sandbox ({told})", True
        return "its process ended before it answered", False


def closed_folders() -> list[Path]:
    """The folders on the way to Python and its packages that the user nobody may not read."""
    folders = {folder for path in package_folders() for folder in (path, *path.parents)}
    return sorted(folder for folder in folders if folder.stat().st_mode & 0o5 != 0o5)


class Channel:
    """One side of the socket to a process that may do anything: a deadline, a limit on sizes, and
    an eye on its memory.
    """

    GONE = "the process is gone"

    def __init__(
        self,
        connection: socket.socket,
        deadline: float,
        first: int | None = None,
        memory_bytes: int = 0,
    ):
        self.connection, self.deadline, self.first, self.memory_bytes = (
            connection,
            deadline,
            first,
            memory_bytes,
        )
        self.started = time.monotonic()

    def send(self, data: bytes) -> None:
        """Send a message. Ended if it is not taken in time."""
        self.connection.settimeout(max(0.01, self.deadline - time.monotonic()))
        try:
            send(self.connection, data)
        except TimeoutError:
            raise Ended("it did not read its inputs in time") from None
        except OSError:
            raise Ended(self.GONE) from None

    def receive(self, limit: int) -> bytes:
        """The next message, of at most `limit` bytes. Ended if it does not come, or is longer."""
        (length,) = struct.unpack("<Q", self._exactly(8))
        if length > limit:
            # how many more could tell an input
            raise Ended(f"it answered with more than the {limit:,} bytes allowed")
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            self._wait()
            try:
                part = self.connection.recv(min(length - len(data), 1 << 20))
            except OSError:
                part = b""
            if not part:
                raise Ended(self.GONE)
            data += part
        return bytes(data)

    def _wait(self) -> None:
        """Return when there is something to read. Ended at the deadline, or when the memory is used
        up.
        """
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Ended(f"it was stopped after {time.monotonic() - self.started:.0f} s")
            if select.select([self.connection], [], [], min(left, POLL_SECONDS))[0]:
                return
            if self.first is not None and memory_of(self.first) > self.memory_bytes:
                raise Ended(
                    f"its processes used more than {self.memory_bytes / 1e9:.1f} GB of memory"
                )
            if self.first is not None and files_of(self.first) > MAX_FILES:
                raise Ended(f"it made more than {MAX_FILES:,} files")


def is_name(name: Any) -> bool:
    """Whether this is a name of Python's that a page can show."""
    return isinstance(name, str) and len(name) <= 40 and name.isascii() and name.isidentifier()


def read_report(data: bytes) -> dict[str, Any]:
    """The report on the cells, made of known parts only. Ended if it is none."""
    try:
        report = json.loads(data)
        failures = [
            {
                "cell": int(row["cell"]),
                "line": int(row["line"]),
                "kind": row["kind"] if row["kind"] in KNOWN_KINDS else "Exception",
            }
            for row in report["failures"][:20]
        ]
        names = [name for name in report.get("rebound", [])[:5] if is_name(name)]
        return {
            "found": bool(report["found"]),
            "callable": bool(report["callable"]),
            "stub": bool(report.get("stub")),
            "rebound": names,
            "failures": failures,
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise Ended("it reported nothing that can be read") from None
