"""Submissions that want points they did not earn, or want to do harm, each with the fair score.

In most of them `double` (1 point) is the attack and `total` (2 points) is honest: the attack must
not cost it. The spies are different: a spy answers rightly exactly if it could NOT do what it
tried, so full marks say that the wall held.
"""

from dataclasses import dataclass

from hostile.made_up_lab import GOOD_DOUBLE, GOOD_TOTAL, IMPORTS, SETUP


@dataclass(frozen=True)
class Attack:
    """`points` is the fair score of the notebook, `reason` a pattern for what is said about
    `double`.
    """

    cells: list[str]
    points: float
    reason: str = ""


def attack(body: str, reason: str = "", points: float = 2, before: str = "") -> Attack:
    """`double` with this body (and a cell before it); `total` is honest."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return Attack([SETUP, IMPORTS, before, f"def double(x):\n{lines}", GOOD_TOTAL], points, reason)


def spy(body: str, before: str = "") -> Attack:
    """`found` must stay empty for the answer to be right."""
    return attack(
        f"found = []\n{body.strip()}\nreturn x * 2 if not found else x * 0",
        "right on all",
        3,
        before,
    )


TRY = """
def attempt(action, *arguments):
    try:
        return [(action, action(*arguments) or True)]
    except Exception:
        return []
"""

ATTACKS = {
    # --- forging the result
    "forges result files": attack(
        """
import json, os
for folder in ("/job", "/tmp", "/", "/work", os.getcwd(), ".."):
    for name in ("grades.csv", "results.json", "result.npz", "answers.npz"):
        try:
            path = os.path.join(folder, name)
            open(path, "w").write(json.dumps({"points": 300, "kind": "right"}))
        except OSError:
            pass
""",
        "returns None",
    ),
    "patches every comparison": attack(
        """
import numpy as np, builtins
for name in ("allclose", "array_equal", "isclose", "all", "any"):
    setattr(np, name, lambda *a, **k: True)
torch.equal = torch.allclose = lambda *a, **k: True
builtins.all = builtins.bool = lambda *a: True
return torch.zeros_like(x)
""",
        "value is not right|process ended",
    ),
    "patches numpy.savez": attack(
        """
import numpy as np
real = np.savez
np.savez = lambda file, **arrays: real(file, **{name: array * 0 for name, array in arrays.items()})
return x
""",
        "no answer file|process ended",
    ),
    "an object that equals everything": attack(
        """
class Yes:
    shape, dtype = x.shape, x.dtype
    def __eq__(self, other): return True
    def __array__(self, *a, **k): return x.numpy()
    def __bool__(self): return True
return Yes()
""",
        "should be a Tensor",
    ),
    "a tensor subclass that agrees with everything": attack(
        """
class Yes(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return True
return x.as_subclass(Yes)
""",
        "should be a Tensor",
    ),
    "edits the frames above": attack(
        """
import sys
frame = sys._getframe()
while frame:
    for name, value in list(frame.f_locals.items()):
        if name == "outcomes":
            value.extend([("right", 300)] * 10)
        if isinstance(value, dict):
            value.update(points=300, kind="right")
    frame = frame.f_back
""",
        "no answer file",
    ),
    "tells the fork server's modules to pass everything": attack(
        """
import sys
for name, module in list(sys.modules.items()):
    for function in ("judge", "same_answer", "compare_form", "encode"):
        if "lab_utils" in name and hasattr(module, function):
            setattr(module, function, lambda *a, **k: b"")
import gc
for thing in gc.get_objects():
    if isinstance(thing, dict) and "encode" in thing and "decode" in thing:
        thing["encode"] = lambda *a, **k: b"forged"
""",
        "no answer file|returns None",
    ),
    "forges the protocol with a wrong answer": attack(
        """
import os, struct
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        os.write(fd, struct.pack("<Q", 4) + b"right")
    except OSError:
        pass
os._exit(0)
""",
        "no answer file",
    ),
    "announces an endless answer": attack(
        """
import os, struct
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        os.write(fd, struct.pack("<Q", 2**60))
    except OSError:
        pass
os._exit(0)
""",
        "more than the .* allowed",
    ),
    "sends a report before its cells are run": attack(
        "return x",
        "",
        before="""
class Now:
    def __init__(self):
        import os, struct
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                message = b'{"found": true, "callable": true, "failures": []}'
                os.write(fd, struct.pack("<Q", len(message)) + message)
            except OSError:
                pass
torch.now = Now()
now = Now()
"""
        + "\n",
    ),
    "a report of rubbish": Attack(
        [
            IMPORTS,
            "helper = __import__('os').write(*[(3, b'x' * 99)][0])",
            "def double(x):\n    return helper",
            GOOD_TOTAL,
        ],
        2,
    ),
    "sends a pickle": attack(
        """
import io, os, pickle, struct
import numpy as np
class Boom:
    def __reduce__(self): return (os.system, ("touch /tmp/pickle_was_loaded",))
file = io.BytesIO()
np.savez(file, structure=np.array([Boom()], dtype=object), a0=np.array([Boom()], dtype=object))
data = struct.pack("<Q", len(file.getvalue())) + file.getvalue()
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        os.write(fd, data)
    except OSError:
        pass
os._exit(0)
""",
        "no answer file",
    ),
    "sends a zip bomb": attack(
        """
import io, os, struct
import numpy as np
file = io.BytesIO()
np.savez_compressed(file, structure=np.zeros(50_000_000, np.uint8))
data = struct.pack("<Q", len(file.getvalue())) + file.getvalue()
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        os.write(fd, data)
    except OSError:
        pass
os._exit(0)
""",
        "no answer file",
    ),
    "a header that promises terabytes": attack(
        """
import io, os, struct, zipfile
import numpy as np
npy, file = io.BytesIO(), io.BytesIO()
header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
np.lib.format.write_array_header_1_0(npy, header)
with zipfile.ZipFile(file, "w") as z:
    z.writestr("structure.npy", npy.getvalue())
data = struct.pack("<Q", len(file.getvalue())) + file.getvalue()
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        os.write(fd, data)
    except OSError:
        pass
os._exit(0)
""",
        "no answer file",
    ),
    "an array of objects": attack(
        "import numpy as np\nreturn np.array([x, x], dtype=object)", "should be a Tensor"
    ),
    "all NaN": attack("return x * float('nan')", "value is not right"),
    "infinity": attack("return x / 0", "value is not right"),
    "a list in a list in a list": attack(
        "deep = []\nfor _ in range(100_000):\n    deep = [deep]\nreturn deep", "raised an error"
    ),
    "a list that holds itself": attack("a = []\na.append(a)\nreturn a", "raised an error"),
    "a very large answer": attack(
        "return torch.zeros(3_000_000)", "more than the .* allowed|stopped after"
    ),
    "a tensor of no memory and a trillion values": attack(
        "return torch.zeros(1).expand(10**12)", "raised an error"
    ),
    "a number of a million digits": attack("return 1 << 3_321_928", "should be a Tensor"),
    # --- carrying hidden inputs out
    "inputs in the error's text": attack("raise ValueError(str(x.tolist()))", "raised an error"),
    "inputs in the error's name": attack(
        "raise type(repr(x.tolist()), (KeyError,), {})()", "raised an error"
    ),
    "inputs in the type's name": attack(
        "return type(repr(x.tolist()), (), {})()", "should be a Tensor"
    ),
    "inputs in the shape": attack(
        "return torch.zeros(int(abs(x.flatten()[0]) * 10**6), dtype=torch.bool)",
        "shape|dtype|more than the",
    ),
    "inputs in a file and in prints": attack(
        """
import sys
print(x.tolist()); print(x.tolist(), file=sys.stderr)
for folder in ("/job", "/tmp", "/dev/shm"):
    open(folder + "/inputs", "w").write(str(x.tolist()))
""",
        "returns None",
    ),
    "keeps the inputs for the next question": Attack(
        [
            IMPORTS,
            """
def double(x):
    for folder in ("/job", "/tmp", "/dev/shm"):
        open(folder + "/kept", "w").write("here")
    return 2 * x
""",
            "import os\ndef total(values, n):\n    kept = [f for f in ('/job', '/tmp', "
            "'/dev/shm') if 'kept' in os.listdir(f)]\n    return sum(values[:n]) if not kept else "
            "None",
        ],
        3,
    ),
    # --- ending, hanging, filling up
    "os._exit": attack("import os\nos._exit(0)", "process ended before it answered"),
    "sys.exit": attack("import sys\nsys.exit(0)", "raised an error"),
    "segmentation fault": attack(
        "import ctypes\nctypes.string_at(0)", "process ended before it answered"
    ),
    "endless loop": attack("while True:\n    pass", "stopped after"),
    "endless loop that ignores interrupts": attack(
        """
while True:
    try:
        while True: pass
    except BaseException:
        pass
""",
        "stopped after",
    ),
    "endless loop in a cell it needs": attack(
        "return helper(x)",
        "value is not right",
        before="""
while True:
    helper = abs
""",
    ),
    "stops itself": attack(
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "stopped after"
    ),
    "closes the socket": attack(
        "import os\nos.closerange(3, 1000)\nreturn 2 * x", "process ended before it answered"
    ),
    "fork storm": attack(
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        "stopped after",
    ),
    "threads without end": attack(
        """
import threading, time
while True:
    threading.Thread(target=time.sleep, args=(100,)).start()
""",
        "raised an error|of memory|stopped",
    ),
    "2 GB of memory": attack("return bytearray(2 * 10**9)", "raised an error"),
    "memory in many processes": attack(
        """
import os, time
for _ in range(20):
    if os.fork() == 0:
        hog = bytearray(os.urandom(1000) * 250_000)
        time.sleep(100)
time.sleep(100)
""",
        "of memory|stopped after",
    ),
    "a full disk": attack(
        """
block = b"x" * 10**6
for i in range(1000):
    open(f"/tmp/{i}", "wb").write(block)
""",
        "raised an error",
    ),
    "files without end": attack(
        "i = 0\nwhile True:\n    open(f'/tmp/{i}', 'w').close(); i += 1",
        "files|raised an error|stopped",
    ),
    "input()": attack("return x * float(input('how many times? '))", "raised an error"),
    "kills its parent and everybody": attack(
        """
import os, signal
for pid in (os.getppid(), 1, 0, -1):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
""",
        "process ended|None",
    ),
    # --- right answers beside bad manners: the point is earned
    "50 MB of output": attack("print('x' * 50_000_000)\nreturn 2 * x", "right", 3),
    "orphans": attack(
        """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
    os._exit(0)
return 2 * x
""",
        "right",
        3,
    ),
    "leaves a thread running": attack(
        """
import threading, time
# it waits: one that computes shares the answer's seconds, and its end is the machine's speed
threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()
return 2 * x
""",
        "right",
        3,
    ),
    "a full disk, and goes on": attack(
        """
try:
    for i in range(1000):
        open(f"/tmp/{i}", "wb").write(b"x" * 10**6)
except OSError:
    pass
return 2 * x
""",
        "right",
        3,
    ),
    # --- spies: right answers only if nothing was found
    "spy: network": spy(
        """
import socket
for address in [("127.0.0.1", PORT), ("1.1.1.1", 53), ("169.254.169.254", 80)]:
    found += attempt(lambda: socket.create_connection(address, timeout=0.3))
""",
        TRY + "\nPORT = __PORT__\n",
    ),
    "spy: right answers": spy(
        """
import glob, importlib, os, sys
names = ["lab_utils.checking.exercises", "lab_utils.checking.checks", "hostile.made_up_lab"]
for name in [*names, "lab_utils.course.grading.judge"]:
    found += attempt(importlib.import_module, name)
found += [name for name in sys.modules if "exercise" in name or name.endswith("checks")]
import lab_utils
root = os.path.dirname(os.path.dirname(lab_utils.__file__))
known = ("lab_utils", "pyproject.toml", "requirements.txt", ".venv")
found += [name for name in os.listdir(root) if name not in known]
found += os.listdir(root + "/lab_utils/checking")
""",
        TRY,
    ),
    "spy: right answers in memory": spy(
        """
import gc
kinds = ("Exercise", "Verdict", "Submission", "Settings")
found += [thing for thing in gc.get_objects() if type(thing).__name__ in kinds]
""",
        TRY,
    ),
    "spy: files of others": spy("""
import os
for place, folders, names in os.walk("/"):
    if place.startswith(("/proc", "/sys", "/usr", "/dev")) or "site-packages" in place:
        folders.clear()
        continue
    found += [name for name in names if name.endswith((".ipynb", ".csv", ".key"))]
    found += [name for name in names if name in ("shadow", "id_rsa")]
secrets = [os.path.join("/root", name) for name in (".ssh", ".cache")]  # of the first user
for place in ("/home", *secrets, "/var", "/etc/shadow", "/etc/passwd"):
    found += [place] if os.path.exists(place) else []
"""),
    "spy: processes of others": spy(
        """
import os
pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
if len(pids) > 4:
    found.append(pids)
for pid in set(pids) - {1, os.getpid()}:  # the first is the room's own: it holds nothing
    for name in ("environ", "mem", "maps"):
        found += attempt(lambda: open(f"/proc/{pid}/{name}", "rb").read(10) or 1 / 0)
read = lambda name: open(name).read().split("=")[::2]
for action, argument in ((os.listdir, "/proc/1/root"), (read, "/proc/1/environ")):
    for _, seen in attempt(action, argument):
        found += set(seen if seen is not True else []) - set(os.listdir("/")) - {"PWD", ""}
""",
        TRY,
    ),
    "spy: environment": spy("""
import os
with open("/proc/self/environ") as file:
    known = set(os.environ) | {item.split("=")[0] for item in file.read().split(chr(0))}
known -= {"TOKENIZERS_PARALLELISM"}
words = ("TOKEN", "SECRET", "KEY", "PROXY", "VIRTUAL_ENV", "HOSTNAME", "PYTEST")
found += [name for name in known if any(word in name for word in words)]
found += [value for value in os.environ.values() if "marker" in value]
"""),
    "spy: writing": spy(
        """
import os, sys
import lab_utils
packages = [os.path.dirname(module.__file__) for module in (lab_utils, torch, os)]
for folder in ["/", "/usr", "/dev", "/etc", "/sys", "/proc/sys/kernel", *packages]:
    found += attempt(lambda: open(folder + "/written_by_a_student", "w").close())
found += attempt(os.symlink, "/etc", "/etc/link")
""",
        TRY,
    ),
    "spy: privileges": spy(
        """
import os
found += [number for number in (*os.getresuid(), *os.getresgid(), *os.getgroups()) if number == 0]
found += attempt(os.setuid, 0)
status = open("/proc/self/status").read()
sets = ("CapInh", "CapPrm", "CapEff", "CapAmb")
held = [line for line in status.splitlines() if line.startswith(sets)]
found += [line for line in held if int(line.split()[1], 16)]
found += [] if "NoNewPrivs:\\t1" in status else ["new privileges"]
found += attempt(os.chown, "/job", 0, 0)
""",
        TRY,
    ),
    "spy: system calls": spy(
        """
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
found += [name for name, result in {
    "unshare a user namespace": libc.unshare(0x10000000),
    "mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "ptrace the first process": libc.ptrace(16, 1, 0, 0), "shmget": libc.shmget(0, 4096, 0o1600),
    "clone into a user namespace": libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0),
    "keyctl": libc.syscall(250, 0, -3, 1)}.items() if result != -1]
found += attempt(os.memfd_create, "hidden memory")
for limit in ("NPROC", "DATA", "AS", "FSIZE", "CPU"):
    kind = getattr(resource, "RLIMIT_" + limit)
    if resource.getrlimit(kind)[1] == resource.RLIM_INFINITY:
        found.append(limit)
    found += attempt(resource.setrlimit, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
""",
        TRY,
    ),
    "spy: descriptors": spy("""
import os, stat
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        mode, target = os.fstat(fd).st_mode, os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        continue
    if not stat.S_ISSOCK(mode) and target not in ("/dev/null",) and not target.startswith("/proc"):
        found.append(target)
"""),
    "spy: mappings shared with the server": spy("""
lines = [line.split()[1] for line in open("/proc/self/maps")]
found += [rights for rights in lines if rights[3] == "s" and "w" in rights]
"""),
    "spy: the checker": Attack(
        [
            SETUP,
            IMPORTS,
            """
import lab_utils.checking, inspect
from lab_utils.checking import check, submit, progress, find_exercise
given = (find_exercise("double"), check(len), lab_utils.checking.all_exercises())
found = [thing for thing in given if not isinstance(thing, str)]
def double(x):
    return 2 * x if not found else None
""",
            GOOD_TOTAL,
        ],
        3,
        "right",
    ),
    # --- in the cells themselves
    "attacks at the top of the notebook": Attack(
        [
            "import os\nos._exit(0)",
            "while True: os.fork()",
            "import sys; sys.exit()",
            SETUP,
            IMPORTS,
            GOOD_DOUBLE,
            GOOD_TOTAL,
            "os.kill(os.getppid(), 9)",
            "raise SystemExit",
        ],
        3,
    ),
    "the dynamic notebook that ends itself": Attack(
        [IMPORTS, "import os", "globals()['double'] = lambda x: 2 * x", "os._exit(1)", GOOD_TOTAL],
        2,
        "process ended before it answered|not defined",
    ),
    "markup in a cell that fails": Attack(
        [IMPORTS, "double = int('<script>alert(1)</script>')", GOOD_TOTAL],
        2,
        "ValueError, in line 1 of the cell that begins with `double = int.*<script>",
    ),
    "nested too deeply for the parser": Attack(
        [IMPORTS, "double = " + "(" * 5000 + "1" + ")" * 5000, GOOD_TOTAL], 2, "not defined"
    ),
    "a long chain of operators": Attack(
        [IMPORTS, "double = " + "-" * 200_000 + "1", GOOD_TOTAL], 2
    ),
}
