"""The fork server: imports torch once, then forks a process for each question, which enters its
sandbox before it reads a byte.

Trusted until `enter` has returned in the forked process; from then on that process belongs to the
student. It gets one socket: the cells and the name of a function come in, then a report goes out,
then inputs come in and answers go out. Inputs are sent only after the report, so a report cannot
hold them.

bubblewrap builds the room (mounts, namespaces) around a small process that waits; a forked process
goes into the same namespaces (setns), takes the room's user, gives up every privilege and sets the
limits. So the imports are paid once, and the wall is bubblewrap's.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import inspect
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import types
from contextlib import suppress
from typing import Any

from lab_utils.checking.kit_calls import KitCall, refused
from lab_utils.course.grading.worker import cells, values

JOB = "/job"
# CLONE_NEW... of linux/sched.h
NAMESPACES = {
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "mnt": 0x00020000,
}
CLONE_NEWUSER = NAMESPACES["user"]
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # linux/prctl.h
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10  # the families of sockets that a room may make
# system calls that make memory outside the limits, new namespaces or keys, or look into other
# processes
FORBIDDEN = tuple(
    """
    memfd_create memfd_secret unshare setns mount umount2 pivot_root fsopen fsmount open_tree
    move_mount mount_setattr keyctl add_key request_key ptrace process_vm_readv
    process_vm_writev userfaultfd bpf perf_event_open io_uring_setup shmget msgget semget
    mq_open kexec_load name_to_handle_at open_by_handle_at quotactl acct swapon personality
    """.split()
)


# ---------------------------------------------------------------------------------------- messages
def send(connection: socket.socket, data: bytes) -> None:
    """A message: its length in 8 bytes, then its bytes."""
    connection.sendall(struct.pack("<Q", len(data)) + data)


def receive(connection: socket.socket) -> bytes:
    """A message. EOFError where the other side is gone."""
    (length,) = struct.unpack("<Q", _receive_exactly(connection, 8))
    return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = connection.recv(min(length - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


# --------------------------------------------------------------------------------------- the server
def main(control_fd: int, preload: list[str]) -> None:
    """Import what is slow, say so, then fork for each request until the grader is gone."""
    for name in preload:
        importlib.import_module(name)
    assert "lab_utils.checking.exercises" not in sys.modules, (
        "the right answers must not be in this process"
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the grader
    libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # it goes when the grader goes
    gc.freeze()  # the collector would touch, and so copy, every page in each forked process
    control = socket.socket(fileno=control_fd)
    send(control, b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 3)
        if not message:
            return
        if os.fork() == 0:
            run_child(json.loads(message), control, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        reap()


def reap() -> None:
    """Take note of children that have ended, so that no zombies stay."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def run_child(
    request: dict, control: socket.socket, connection: int, status: int, room: int
) -> None:
    """Enter the room, fork into its process namespace, and tell through `status` how that process
    ended. Never returns.

    `room` is a pidfd of the room's first process, or without a sandbox a pipe that closes when all
    must end.
    """
    try:
        control.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if request["sealed"]:
            join_namespaces(room, request["namespaces"])
        else:
            # orphans become children of this process
            libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        child = os.fork()
        if child == 0:
            be_the_student(request, connection, status)
        os.close(connection)
        ended = os.waitpid(child, 0)[1] if request["sealed"] else wait_and_clean_up(child, room)
        os.write(status, str(ended).encode())
    except BaseException as error:
        os.write(status, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


def wait_and_clean_up(child: int, lifeline: int) -> int:
    """Without a sandbox: wait until the child ends or the pipe closes, then end all its
    descendants. Return its status.
    """
    status = None
    while status is None:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = code
        elif select.select([lifeline], [], [], 0.02)[0]:
            status = signal.SIGKILL
    try:
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                for process in map(int, file.read().split()):
                    os.kill(process, signal.SIGKILL)
            os.waitpid(-1, 0)
    except (ChildProcessError, FileNotFoundError):
        return status


def be_the_student(request: dict, connection: int, status: int) -> None:
    """Give up everything, then run the student's cells and ask the function. Never returns."""
    try:
        enter(request, {connection, status})
    except BaseException as error:
        os.write(status, f"{type(error).__name__}: {error}. ".encode())
        os._exit(1)
    os.close(status)  # the student's code must not write there
    try:
        answer_question(socket.socket(fileno=connection), json.loads(request["environment"]))
        os._exit(0)
    except BaseException:
        os._exit(70)  # EX_SOFTWARE


# ----------------------------------------------------------------------------- entering the sandbox
def join_namespaces(room: int, names: list[str]) -> None:
    """Enter the namespaces of a process, given by a pidfd. OSError if the kernel refuses."""
    flags = sum(NAMESPACES[name] for name in names)
    if libc().setns(room, flags):
        raise OSError(ctypes.get_errno(), "the sandbox could not be entered")


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def enter(request: dict, kept: set[int]) -> None:
    """A new session without terminal or files, the room's user, no privileges, the limits. OSError
    if any of it fails.
    """
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in set(map(int, os.listdir("/proc/self/fd"))) - kept - {0, 1, 2}:
        with suppress(OSError):  # the listing's own
            os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["user"] is not None:
        os.setgroups([])
        os.setresgid(*[request["user"]] * 3)
        os.setresuid(*[request["user"]] * 3)
    drop_capabilities()
    set_limits(request["limits"])
    if request["sealed"]:
        forbid_system_calls()
        if 0 in os.getresuid():
            raise PermissionError("still root")
    os.chdir(request["folder"])


def drop_capabilities() -> None:
    """No capability now, none by exec, and an ordinary /proc/self."""
    # _LINUX_CAPABILITY_VERSION_3, this process
    header, nothing = (
        (ctypes.c_uint32 * 2)(0x20080522, 0),
        (ctypes.c_uint32 * 6)(),
    )
    if libc().capset(header, nothing) or libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "privileges could not be given up")
    libc().prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def set_limits(limits: dict) -> None:
    """Hard limits: CPU seconds, memory on top of what the imports took, processes, sizes, no core
    files.
    """
    size, data = memory_in_use()
    wanted = {
        "CPU": limits["cpu_seconds"],
        "DATA": data + limits["memory_bytes"],
        "AS": size + 2 * limits["memory_bytes"],
        "NPROC": limits["processes"],
        "FSIZE": limits["disk_bytes"],
        "CORE": 0,
        "NOFILE": 256,
        "MEMLOCK": 1 << 16,
    }
    for name, value in wanted.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(kind, (value, value))
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # if memory runs out all the same, this process goes first


def memory_in_use() -> tuple[int, int]:
    """(address space, private writable memory) of this process in bytes."""
    with open("/proc/self/statm") as file:
        pages = [int(word) for word in file.read().split()]
    return pages[0] * resource.getpagesize(), pages[5] * resource.getpagesize()


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp` of libseccomp."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


def forbid_system_calls() -> None:
    """FORBIDDEN fail with EPERM, and so does clone with a user namespace. OSError if the filter
    cannot be set.
    """
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    allow, errno_ = 0x7FFF0000, 0x00050000  # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO
    context = ctypes.c_void_p(library.seccomp_init(allow))
    for name in FORBIDDEN:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != -1:  # this kernel's architecture has it
            library.seccomp_rule_add(context, errno_ | 1, number, 0)  # EPERM
    # ENOSYS: use clone
    library.seccomp_rule_add(
        context, errno_ | 38, library.seccomp_syscall_resolve_name(b"clone3"), 0
    )
    masked_equal = Comparison(0, 7, CLONE_NEWUSER, CLONE_NEWUSER)  # SCMP_CMP_MASKED_EQ
    add = library.seccomp_rule_add_array
    if add(
        context,
        errno_ | 1,
        library.seccomp_syscall_resolve_name(b"clone"),
        1,
        ctypes.byref(masked_equal),
    ):
        raise OSError("the filter of system calls could not be made")
    forbid_families(library, context, errno_ | 97)  # EAFNOSUPPORT
    if library.seccomp_load(context):
        raise OSError("the filter of system calls could not be set")
    library.seccomp_release(context)


def forbid_families(library: Any, context: ctypes.c_void_p, action: int) -> None:
    """Sockets of other families than the three above cannot be made: not netlink, not vsock, which
    reaches the machine around a virtual one. OSError if the rule cannot be made.
    """
    socket_ = library.seccomp_syscall_resolve_name(b"socket")
    equal, greater = 4, 6  # SCMP_CMP_EQ, SCMP_CMP_GT
    rules = [
        Comparison(0, equal, family, 0)
        for family in range(AF_INET6)
        if family not in (AF_UNIX, AF_INET)
    ]
    for rule in [*rules, Comparison(0, greater, AF_INET6, 0)]:
        if library.seccomp_rule_add_array(context, action, socket_, 1, ctypes.byref(rule)):
            raise OSError("the filter of sockets could not be made")


# ---------------------------------------------------------------------------- the student's process
def answer_question(connection: socket.socket, environment: dict[str, str]) -> None:
    """Run the cells that the function needs, report, and answer the inputs."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [""]
    sys.stdin, sys.stdout, sys.stderr = (
        open(descriptor, mode) for descriptor, mode in enumerate("rww")
    )
    sys.path.insert(0, "")  # as in a notebook: what %%writefile wrote can be imported
    hide_checks()
    request = json.loads(receive(connection))
    name, whole = request["function"], request["whole"]
    everything, failures = cells.read_cells(request["cells"])
    statements = everything if whole else cells.needed(everything, name)
    namespace, more = cells.run(statements, request["seconds"])
    function = namespace.get(name)
    report = {
        "found": function is not None,
        "callable": callable(function),
        "stub": cells.is_left_as_stub(everything, name),
        "rebound": cells.rebound(everything, name)[:5],
        "failures": [vars(failure) for failure in (more + failures)[:20]],
    }
    send(connection, json.dumps(report).encode())
    send(
        connection, values.encode(ask(function, receive(connection), request["kit"]), foreign=True)
    )


def hide_checks() -> None:
    """`from lab_utils.checking import check` works, and says that checking comes later."""
    import lab_utils

    for name in [name for name in sys.modules if name.startswith("lab_utils.checking")]:
        del sys.modules[name]
    stub = types.ModuleType(
        "lab_utils.checking", "Checks are made by your instructor, outside of this process."
    )
    stub.__getattr__ = lambda name: _later if not name.startswith("__") else _no_such(name)
    sys.modules["lab_utils.checking"] = lab_utils.checking = stub


class Later(str):
    """What `check` and `ready` return in here. `if ready(function):` is a line that the labs have:
    it must not fail, and what builds on the exercise is left out.
    """

    passed = False

    def __bool__(self) -> bool:
        return False


def _later(*arguments: Any, **options: Any) -> Later:
    return Later("checked later by your instructor")


def _no_such(name: str) -> Any:
    raise AttributeError(name)


def ask(function: Any, question: bytes, kit: str = "") -> list[tuple]:
    """What the function does with each case: ("answer", value, the arguments after the call) or
    ("error", kind, cell, line). Whether the arguments are what they were is for the judge to say.
    """
    outcomes = []
    for i in range(len(values.decode(question))):
        arguments = values.decode(question)[i]  # fresh each time
        try:
            with refused(kit):
                answer = function(*arguments)
            # one that cannot be sent is an error of this case alone
            values.encode((answer, arguments), foreign=True)
            outcomes.append(("answer", answer, arguments))
        except BaseException as error:
            outcomes.append(
                (
                    "error",
                    error_kind(error, function, arguments),
                    *(cells.last_line(error) or (0, 0)),
                )
            )
    return outcomes


def error_kind(error: BaseException, function: Any, arguments: tuple) -> str:
    """The nearest built-in name of the error: a name of the student's own could carry the inputs
    out.
    """
    if isinstance(error, KitCall):
        return "kit call"
    if isinstance(error, TypeError):
        try:
            inspect.signature(function).bind(*arguments)
        except TypeError:
            return "arguments"
        except ValueError:
            pass
    return cells.kind_of(error)
