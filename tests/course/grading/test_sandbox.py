"""The wall itself. What goes wrong inside it is graded in test_grader.py; here is what the wall is
made of.
"""

import argparse
import ast
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lab_utils.course import test as testing
from lab_utils.course.grading import sandbox
from lab_utils.course.grading.sandbox import Channel, Ended, Limits, Sandbox, read_report
from lab_utils.course.grading.worker.server import send
from lab_utils.course.grading.worker.values import decode, encode
from lab_utils.files import ROOT, LabKitError

needs_sandbox = pytest.mark.sandbox
LIMITS = Limits(
    cells_seconds=20,
    answer_seconds=10,
    memory_bytes=500 * 10**6,
    disk_bytes=4 * 10**6,
    answer_bytes=10**6,
)


@pytest.fixture(scope="module")
def box():
    """A sandbox whose fork server has imported next to nothing."""
    with Sandbox(LIMITS, preload=("numpy",)) as box:
        yield box


def ask(box, *cells, arguments=(), whole=False, kit=""):
    """What `f(*arguments)` answered in a room, or the reply where it did not."""
    reply = box.ask(list(cells), "f", encode([arguments]), whole, kit)
    if reply.answers is None:
        return reply
    [(kind, *rest)] = decode(reply.answers)
    return rest[0] if kind == "answer" else f"raised {rest[0]}"


def asked_of_shell(box, command):
    return ask(
        box,
        f"import subprocess\ndef f(): return subprocess.run({command!r}, shell=True, "
        "capture_output=True, text=True, stdin=0).stdout.strip()",
    )


@needs_sandbox
def test_what_an_exercise_asks_for_cannot_be_called(box):
    cells = [
        "from lab_utils.files import whole_number as number",
        "limit = number('limit', 3)",  # a cell may call it, an answer may not
        "def f(n): return number('n', n) + limit",
    ]
    assert ask(box, *cells, arguments=(2,)) == 5
    refused = ask(box, *cells, arguments=(2,), kit="lab_utils.files.whole_number")
    assert refused == "raised kit call"


# ------------------------------------------------------------------------------------ who and where
@needs_sandbox
def test_the_code_runs_as_a_user_who_is_nobody(box):
    told = asked_of_shell(
        box,
        "id -u; id -g; id -G; umask > /dev/null; cat /proc/self/status | grep -E "
        "'^Cap(Inh|Prm|Eff|Amb)|NoNewPrivs'",
    )
    user, group, groups, *status = told.splitlines()
    expected = (
        sandbox.NOBODY
        if os.geteuid()
        else range(sandbox.FIRST_UID, sandbox.FIRST_UID + sandbox.N_UIDS)
    )
    assert int(user) == expected if os.geteuid() else int(user) in expected
    assert user == group and user in groups
    assert [line.split()[1] for line in status] == ["0" * 16] * 4 + ["1"]


@needs_sandbox
def test_only_three_folders_can_be_written(box):
    lines = [line.split() for line in asked_of_shell(box, "cat /proc/self/mounts").splitlines()]
    writable = {place for _, place, _, options, *_ in lines if "rw" in options.split(",")}
    assert {place for place in writable if not place.startswith(("/proc", "/dev/"))} | {
        "/dev/shm"
    } == {
        "/dev/shm",
        "/job",
        "/tmp",
    }
    told = ask(
        box,
        "import os\ndef f():\n    places = ['/', '/dev', '/proc', '/proc/sys', '/usr', '/etc', "
        "os.path.dirname(os.__file__)]\n    return [place for place in places if os.access(place, "
        "os.W_OK)]",
    )
    assert told == []


@needs_sandbox
def test_the_disk_is_small_and_forgotten(box):
    fill = """def f():
    try:
        for n in range(100): open(f'/job/{n}', 'wb').write(b'x' * 10**6)
    except OSError:
        return n"""
    assert ask(box, fill) in (2, 3)
    left = ask(
        box,
        "import os\ndef f(): return os.listdir('/job') + os.listdir('/tmp') + "
        "os.listdir('/dev/shm')",
    )
    assert set(left) <= set(ROOT.parts), "only a kit that lies in /tmp itself is seen there"


@needs_sandbox
def test_every_question_has_a_room_of_its_own(box):
    names = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    code = (
        f"import os\ndef f(): return [os.readlink(f'/proc/self/ns/{{name}}') for name in {names}]"
    )
    here = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    first = ask(box, code)
    assert not set(first) & set(here)
    assert asked_of_shell(box, "cat /proc/net/dev | grep -c :") == "1", "the loopback alone"


@needs_sandbox
def test_the_kit_is_there_without_its_answers(box):
    told = ask(
        box,
        f"import os\ndef f(): return os.listdir({str(ROOT)!r}), "
        f"[os.listdir({str(ROOT / 'lab_utils')!r} + f'/{{room}}') for room in "
        "('checking', 'course')]",
    )
    assert set(told[0]) - {".venv"} == {"lab_utils", "pyproject.toml", "requirements.txt"} and told[
        1
    ] == [[], []]
    lines = {
        line.strip()
        for path in (ROOT / "lab_utils" / "checking" / "exercises").glob("*.py")
        for line in path.read_text().splitlines()
    }
    assert len(lines) > 100
    assert asked_of_shell(box, f"grep -rl 'EXERCISES = ' {ROOT} --include=*.py") == ""


@needs_sandbox
def test_the_labs_imports_work(box, monkeypatch):
    """All that the labs import from the kit can be imported inside, without data and checks."""
    monkeypatch.setattr(box, "limits", Limits(cells_seconds=300))
    if not os.stat(os.devnull).st_mode & 0o002:
        pytest.skip(
            "nobody but root can write to this machine's /dev/null, which some packages do when "
            "they are imported"
        )
    import nbformat

    from lab_utils.course.run import find_labs

    lines = {
        ast.unparse(node)
        for lab in find_labs()
        for cell in nbformat.read(lab, as_version=4).cells
        if cell.cell_type == "code" and "lab_utils" in cell.source
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("lab_utils")
    }
    assert len(lines) > 20
    reply = box.ask([*sorted(lines), "def f(): return 1"], "f", encode([()]), whole=True)
    assert reply.answers and not reply.report["failures"], reply.report["failures"]


@needs_sandbox
def test_a_student_s_check_says_later(box):
    assert ask(
        box,
        "from lab_utils.checking import check, ready, submit\ndef f(): return str(check(f)), "
        "repr(submit()), check(f).passed, bool(ready(f))",
    ) == ("checked later by your instructor", "'checked later by your instructor'", False, False)
    assert (
        ask(box, "def f():\n    import lab_utils.checking.exercises")
        == "raised ModuleNotFoundError"
    )
    assert (
        ask(box, "def f():\n    from lab_utils.checking.exercises.lab_01 import EXERCISES")
        == "raised ModuleNotFoundError"
    )


@needs_sandbox
def test_variables_of_this_process_do_not_come_along(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_INSTRUCTOR", "hush")
    with Sandbox(LIMITS, preload=("numpy",)) as box:
        told = ask(
            box, "import os\ndef f(): return open('/proc/self/environ').read(), dict(os.environ)"
        )
    assert "hush" not in str(told) and told[1]["HOME"] == "/job"


# ---------------------------------------------------------------------------------------- ends
@needs_sandbox
def test_a_room_takes_all_its_processes_with_it(box):
    with sandbox.room(LIMITS) as first:
        assert psutil.pid_exists(first)
    assert not psutil.pid_exists(first)
    name = "sleep-of-a-student"
    ask(
        box,
        f"import shutil, subprocess\ndef f():\n    shutil.copy('/usr/bin/sleep', '/tmp/{name}')\n "
        f"   for _ in range(3): subprocess.Popen(['/tmp/{name}', '1000'], "
        "start_new_session=True)\n    return 1",
    )
    assert not [p for p in psutil.process_iter(["cmdline"]) if name in str(p.info["cmdline"])]


@needs_sandbox
def test_a_killed_grader_leaves_nothing(tmp_path):
    """SIGKILL in the middle of a question: the kernel closes its pipes, and room and fork server
    end by themselves.
    """
    code = """
from lab_utils.course.grading.sandbox import Sandbox, Limits
from lab_utils.course.grading.worker.values import encode
box = Sandbox(Limits(), preload=("numpy",))
box.start()
print("up", flush=True)
box.ask(["import time", "def f(): time.sleep(1000)"], "f", encode([()]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"up\n"
    wait_for(
        lambda: any(p.name() == "cat" for p in psutil.Process(process.pid).children(recursive=True))
    )
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(
        lambda: not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    )


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@needs_sandbox
def test_the_fork_server_comes_back_after_it_was_killed(box):
    assert ask(box, "def f(): return 1") == 1
    box.server.kill()
    box.server.wait()
    assert ask(box, "def f(): return 2") == 2


@needs_sandbox
def test_no_descriptor_is_left_open(box):
    ask(box, "def f(): return 1")
    before = len(os.listdir("/proc/self/fd"))
    for body in ("return 1", "import os; os._exit(1)", "1 / 0", "return bytearray(9**8)"):
        ask(box, f"def f(): {body}")
    assert len(os.listdir("/proc/self/fd")) == before


@needs_sandbox
def test_how_it_ended_is_told_in_the_same_words(box):
    """Whatever code or signal it chose: `os._exit(int(x))` would tell x. Real-time signals too."""

    def ended(body):
        reply = ask(box, "import ctypes, os, signal", f"def f(): {body}")
        assert not reply.fault
        return reply.ended

    ways = ["os._exit(3)", "os._exit(15)", "ctypes.string_at(0)", "os.kill(os.getpid(), 40)"]
    assert {ended(way) for way in ways} == {"its process ended before it answered"}
    assert "bytes allowed" in ended("return 'x' * 2 * 10**6")


@needs_sandbox
def test_sockets_of_other_families_cannot_be_made(box):
    code = """def f():
    import socket
    made = []
    for family in range(64):
        try:
            socket.socket(family, socket.SOCK_STREAM).close()
            made.append(family)
        except OSError:
            pass
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
            made.append(family)
        except OSError:
            pass
    return sorted(set(made))"""
    made = ask(box, code)
    assert set(made) <= {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}
    assert socket.AF_UNIX in made and socket.AF_VSOCK not in made


@needs_sandbox
def test_nothing_is_learnt_across_questions(box):
    """Every place where one question's code can leave something, and what the next one finds."""
    leave = """def f():
    import fcntl, os, socket, sys, tempfile
    for folder in ("/job", "/tmp", "/dev/shm", os.path.dirname(os.__file__), "/usr", "/proc/self"):
        try:
            open(folder + "/left-behind", "w").write("x")
        except OSError:
            pass
    fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX)
    quiet = socket.socket(socket.AF_UNIX); quiet.bind(chr(0) + "left-behind"); quiet.listen()
    os.environ["LEFT_BEHIND"] = sys.modules["left_behind"] = os.left_behind = "left"
    if os.fork() == 0:
        os.setsid()
        import time; time.sleep(1000)
    os.nice(5)
    return 1"""
    look = """def f():
    import fcntl, os, socket, sys
    found = [folder for folder in ("/job", "/tmp", "/dev/shm", os.path.dirname(os.__file__))
             if "left-behind" in os.listdir(folder)]
    try:
        fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        found.append("a lock")
    try:
        socket.socket(socket.AF_UNIX).connect(chr(0) + "left-behind")
        found.append("a socket")
    except OSError:
        pass
    found += [name for name in os.environ if "BEHIND" in name]
    found += ["a module"] * ("left_behind" in sys.modules or hasattr(os, "left_behind"))
    found += ["a process"] * (len([p for p in os.listdir("/proc") if p.isdigit()]) > 2)
    return found, os.nice(0)"""
    clean = ask(box, look)
    assert ask(box, leave) == 1
    assert ask(box, look) == clean == ([], os.nice(0))


@needs_sandbox
def test_an_environment_behind_a_link_is_in_the_room(tmp_path):
    """A home or a conda folder that is a link: packages are looked for by the name of the link."""
    link = tmp_path / "linked"
    link.symlink_to(sys.prefix)
    code = """
from lab_utils.course.grading.sandbox import Limits, Sandbox
from lab_utils.course.grading.worker.values import decode, encode
with Sandbox(Limits(), preload=("numpy",)) as box:
    reply = box.ask(["import yaml, tqdm", "def f(): return tqdm.__file__"], "f", encode([()]))
print(decode(reply.answers)[0][1], reply.report["failures"])
"""
    done = subprocess.run(
        [link / "bin" / "python", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    place, failures = done.stdout.split(maxsplit=1)
    assert place.startswith(str(link)) and failures.strip() == "[]"


@needs_sandbox
def test_memory_and_files_of_a_room_are_watched(monkeypatch):
    with sandbox.room(LIMITS) as first:
        assert 10_000 < sandbox.memory_of(first) < 10**8 and 0 < sandbox.files_of(first) < 10
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(Ended, match="used more than 0.0 GB of memory"):
                Channel(ours, time.monotonic() + 20, first, memory_bytes=1000).receive(1)
            monkeypatch.setattr(sandbox, "MAX_FILES", 0)
            with pytest.raises(Ended, match="made more than 0 files"):
                Channel(ours, time.monotonic() + 20, first, memory_bytes=10**9).receive(1)


def test_a_server_that_does_not_start_says_why():
    with (
        Sandbox(LIMITS, preload=("no_such_module",)) as box,
        pytest.raises(LabKitError, match="No module named 'no_such_module'"),
    ):
        box.start()
    assert box.server is None


# --------------------------------------------------------------------- the other side of the socket
@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours, time.monotonic() + 0.4), theirs


def test_messages_arrive(pair):
    channel, theirs = pair
    send(theirs, b"hello")
    assert channel.receive(100) == b"hello"


@pytest.mark.parametrize(
    "sent, said",
    [
        (b"", "stopped after"),
        (b"\x05\0\0\0", "stopped after"),
        (b"\x05\0\0\0\0\0\0\0ab", "stopped after"),
        (b"\xff" * 8, "more than the 100 bytes"),
        (b"\x65\0\0\0\0\0\0\0", "more than the 100 bytes"),
    ],
)
def test_a_message_that_does_not_come_or_is_too_long(pair, sent, said):
    channel, theirs = pair
    theirs.sendall(sent)
    with pytest.raises(Ended, match=said):
        channel.receive(100)


def test_dripping_does_not_move_the_deadline(pair):
    channel, theirs = pair
    theirs.sendall(b"\x50\0\0\0\0\0\0\0")
    import threading

    stop = threading.Event()

    def drip():
        while not stop.wait(0.05):
            theirs.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    with pytest.raises(Ended, match="stopped after"):
        channel.receive(100)
    stop.set()
    thread.join()


def test_a_closed_socket_and_one_that_is_not_read(pair):
    channel, theirs = pair
    with pytest.raises(Ended, match="did not read"):
        channel.send(b"x" * 10**7)
    theirs.close()
    channel.deadline += 10
    with pytest.raises(Ended, match="gone"):
        channel.receive(100)


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 50_000,
        b'{"failures": 5, "found": 1, "callable": 1}',
        b'{"failures": [{"cell": "x"}]}',
        b'{"failures": [{"cell": 1e999, "line": 1, "kind": "", "text": ""}], "found": 1, '
        b'"callable": 1}',
        b"\xff",
    ],
)
def test_a_report_that_is_none(report):
    with pytest.raises(Ended, match="nothing that can be read"):
        read_report(report)


def test_a_report_is_cut_to_what_is_known():
    row = {"cell": 1, "line": 2, "kind": "a secret", "text": "a secret", "points": 300}
    rows = [{**row, "kind": "KeyError"}, *[row] * 50]
    sent = {"found": "yes", "callable": 0, "points": 300, "stub": 1, "failures": rows}
    sent["rebound"] = ["scale", "a secret", "x" * 41, 5, "last"]
    report = read_report(json.dumps(sent).encode())
    assert set(report) == {"found", "callable", "stub", "rebound", "failures"}
    assert report["found"] is True and report["stub"] is True and report["callable"] is False
    assert report["rebound"] == ["scale", "last"] and len(report["failures"]) == 20
    assert report["failures"][:2] == [
        {"cell": 1, "line": 2, "kind": "KeyError"},
        {"cell": 1, "line": 2, "kind": "Exception"},
    ]


# ------------------------------------------------------------------------------ where it is missing
@pytest.mark.parametrize(
    "platform, missing, said",
    [
        ("win32", "", "needs Linux"),
        ("darwin", "", "needs Linux"),
        ("linux", "bwrap", "bubblewrap is not installed: apt-get install bubblewrap"),
    ],
)
def test_what_is_missing_is_named(platform, missing, said, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(
        sandbox.shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}"
    )
    assert said in sandbox.problem()


def test_a_bubblewrap_that_may_not_is_told(monkeypatch, tmp_path):
    (tmp_path / "bwrap").write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert (
        sandbox.problem()
        == "bubblewrap cannot make a sandbox here: bwrap: No permissions to create new namespace"
    )


@pytest.mark.parametrize("apt, installs", [(True, 1), (False, 0)])
def test_the_test_command_installs_or_loudly_misses_it(apt, installs, monkeypatch, capsys):
    installed = []
    monkeypatch.setattr(testing, "find_chromium", lambda: "chromium")
    monkeypatch.setattr(testing, "sandbox_problem", lambda: "bubblewrap is not installed")
    monkeypatch.setattr(testing, "can_apt_install", lambda: apt)
    monkeypatch.setattr(
        testing, "apt_install", lambda packages, what_for: installed.append(packages)
    )
    monkeypatch.setattr(subprocess, "call", lambda command, **_: 5)
    assert testing.main(argparse.Namespace(passed_on=["-q"], quick=False)) == 5
    assert installed == [["bubblewrap", "libseccomp2"]] * installs
    assert (
        "NO SANDBOX: THE TESTS OF HOSTILE SUBMISSIONS ARE LEFT OUT. bubblewrap is not installed"
        in capsys.readouterr().out
    )


def test_left_out_tests_are_named_in_capitals(tmp_path):
    conftest = (
        ROOT / "tests" / "conftest.py"
    ).read_text() + "\n\ndef has_sandbox(): return False\n"
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_marked.py").write_text(
        "import pytest\n\n@pytest.mark.sandbox\ndef test_a(): pass\n\ndef test_b(): pass\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir",
            str(tmp_path),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (
        "1 TESTS WERE LEFT OUT: NEEDS BUBBLEWRAP'S SANDBOX, AND THERE IS NONE" in done.stdout
        and "1 passed, 1 skipped" in done.stdout
    )
    assert "NO HOSTILE SUBMISSION WAS GRADED" in done.stdout


def test_mounts_show_neither_labs_nor_data_nor_tests():
    words = sandbox.mounts(LIMITS)
    shown = [
        Path(words[i + 2])
        for i, word in enumerate(words)
        if word in ("--ro-bind", "--ro-bind-try", "--bind")
    ]
    assert "--bind" not in words and not [
        path
        for path in shown
        if path in (Path("/"), Path("/home"), Path("/root"), Path("/etc"), ROOT)
    ]
    for name in ("labs", "data", "tests", ".git", "docs", "runs", "lab_utils/checking"):
        covered = [path for path in shown if (ROOT / name).is_relative_to(path)]
        emptied = [Path(words[i + 1]) for i, word in enumerate(words) if word == "--tmpfs"]
        assert not covered or any(
            (ROOT / name).is_relative_to(path)
            for path in emptied
            if len(path.parts) >= max(len(c.parts) for c in covered)
        )
