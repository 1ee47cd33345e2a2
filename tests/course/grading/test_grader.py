"""One batch of attacks, oddities and honest neighbours, graded together: fair scores, nothing
leaked, nothing left behind.
"""

import argparse
import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hostile.attacks import ATTACKS
from hostile.made_up_lab import EXERCISES, LAB, LABS, SETUP
from hostile.odd import BROKEN, HONEST, ODD, written
from hostile.ways import WAYS, cells_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab_utils.checking import checks
from lab_utils.course.grading import asking, grader, marks, reports, sandbox
from lab_utils.course.grading import batch as batches
from lab_utils.course.grading.late import Policy
from lab_utils.course.grading.sandbox import Limits
from lab_utils.course.grading.submissions import read_submissions
from lab_utils.course.grading.worker.values import decode
from lab_utils.files import ROOT, LabKitError

pytestmark = pytest.mark.sandbox
LIMITS = Limits(
    cells_seconds=9,
    answer_seconds=3,
    memory_bytes=700 * 10**6,
    disk_bytes=8 * 10**6,
    answer_bytes=10**6,
)
SETTINGS = asking.Settings(LIMITS, preload=("numpy", "torch", "IPython.core.inputtransformer2"))
# a student's own, never imported
PLANTED = (
    "torch.py",
    "lab_utils.py",
    "sitecustomize.py",
    "conftest.py",
    "numpy/__init__.py",
)
N_NEIGHBOURS = 5
ALL_EXERCISES = checks.all_exercises
STRANGE_NAME = "=cmd|<script src=x> \udcff"


def marker(name: str) -> str:
    return f"marker-of-{re.sub('[^a-z0-9]', '-', name.lower())}-end"


def hand_in(
    folder: Path, student: str, cells: list[str], data: bytes = b"", name: str = f"{LAB}.ipynb"
) -> None:
    (folder / student).mkdir(parents=True)
    (folder / student / name).write_bytes(data or written([*cells, f"# {marker(student)}"]))


@pytest.fixture(scope="module", autouse=True)
def made_up_lab():
    """`all_exercises` knows the made-up lab alone. The grader asks for it in this process, where
    jobs=1 runs.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(checks, "all_exercises", lambda lab=None: EXERCISES if lab in (None, LAB) else [])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def batch(tmp_path_factory, made_up_lab):
    """The graded folder: (records by student, output folder, processes and files that were there
    before).
    """
    folder, out = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("graded") / "out"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for name, attack in ATTACKS.items():
            hand_in(folder, name, [cell.replace("__PORT__", port) for cell in attack.cells])
        for name, odd in ODD.items():
            hand_in(folder, name, odd.cells, odd.data, odd.name)
        for name, (data, _) in BROKEN.items():
            hand_in(folder, f"broken: {name}", [], data or b" ")
        for i in range(N_NEIGHBOURS):
            hand_in(folder, f"neighbour {i}", HONEST)
            for planted in PLANTED if i == 0 else ():
                (folder / f"neighbour {i}" / planted).parent.mkdir(exist_ok=True)
                (folder / f"neighbour {i}" / planted).write_text(
                    "raise SystemExit('this must never run')"
                )
        hand_in(folder, STRANGE_NAME, HONEST)
        before = state_of_machine()
        records = grade(folder, out)
        after = state_of_machine()
        after = (stays(after[0] - before[0]), after[1])
    return {record["student"]: record for record in records}, out, before, after


def grade(folder: Path, out: Path, settings: asking.Settings = SETTINGS) -> list[dict]:
    submissions, _ = read_submissions([folder], LABS)
    grader.make_folder(out)
    records, troubles = batches.grade_all(submissions, settings, out, jobs=1, backend="loky")
    marks.finish(records, Policy(), [], {})
    assert not troubles and not reports.write_reports(records, out)
    return records


def state_of_machine() -> tuple[set, set]:
    """(processes by name and user that this test may have made, files in the places where students
    like to write).
    """
    mine = {p.pid for p in psutil.Process().children(recursive=True)}
    strangers = {
        p.pid
        for p in psutil.process_iter(["uids"])
        if p.info["uids"] and 61184 <= p.info["uids"].real < 65534
    }
    places = [
        place
        for place in ("/job", "/", "/dev/shm", "/usr", "/dev", str(ROOT))
        if Path(place).exists()
    ]
    files = {f"{place}/{name}" for place in places for name in os.listdir(place)}
    # semaphores are those of other tests' processes: a room has a /dev/shm of its own
    return mine | strangers, {name for name in files if "/dev/shm/sem." not in name}


def stays(processes: set[int]) -> set[int]:
    """The processes that are still there after some seconds: another suite's rooms come and go."""
    for _ in range(100):
        processes = processes & state_of_machine()[0]
        if not processes:
            break
        time.sleep(0.1)
    return processes


def points(record: dict) -> float:
    return sum(row["points"] for row in record["questions"])


def first_reason(record: dict) -> str:
    return record["questions"][0]["message"]


def test_the_suites_are_as_large_as_promised():
    assert len(ATTACKS) >= 25 and len(ODD) >= 15


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_get_what_they_earned(batch, name):
    record = batch[0][name]
    assert points(record) == ATTACKS[name].points, record["questions"]
    assert re.search(ATTACKS[name].reason, first_reason(record)), first_reason(record)


@pytest.mark.parametrize("name", ODD)
def test_oddities_get_what_they_earned(batch, name):
    record = batch[0][name]
    assert points(record) == ODD[name].points, record["questions"]
    assert re.search(ODD[name].reason, first_reason(record)), first_reason(record)


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_said(batch, name):
    record = batch[0][f"broken: {name}"]
    assert points(record) == 0 and re.search(BROKEN[name][1], first_reason(record)), record


def test_honest_neighbours_have_full_marks(batch):
    for name in [
        *(f"neighbour {i}" for i in range(N_NEIGHBOURS)),
        STRANGE_NAME.replace("\udcff", "?"),
    ]:
        assert points(batch[0][name]) == 3


def test_a_named_mistake_is_told(batch):
    assert (
        batch[0]["a wrong answer"]["questions"][0]["mistake"] == "squared: twice is not the square"
    )


def test_nothing_is_left_behind(batch):
    _, _, (processes, files), (processes_after, files_after) = batch
    assert not processes_after - processes
    assert files_after <= files
    assert not Path("/tmp/pickle_was_loaded").exists()


def all_outputs(out: Path) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in out.rglob("*") if path.is_file()}


def hidden_numbers(record: dict) -> set[str]:
    """The first six digits of every hidden input and right answer of a record."""
    found = set()
    for exercise, row in zip(EXERCISES, record["questions"], strict=True):
        if row["seed"] != "":
            for case in exercise.make_inputs(np.random.default_rng(row["seed"])):
                values = np.concatenate(
                    [
                        np.ravel(checks.as_array(part))
                        for part in (case[0], exercise.reference(*case))
                    ]
                )
                found |= {
                    f"{abs(value):.12f}".replace(".", "").lstrip("0")[:6]
                    for value in values.tolist()
                }
    return found


def test_no_hidden_input_is_in_any_output(batch):
    records, out, *_ = batch
    secrets = set().union(
        *(hidden_numbers(record) for record in records.values() if len(record["questions"]) == 2)
    )
    assert len(secrets) > 1000
    for path, text in all_outputs(out).items():
        digits = set(
            re.findall(
                r"\d{6,}",
                re.sub(r"(?<=\d)\.(?=\d)", "", re.sub(r'"(digest|fingerprint)": "\w+"', "", text)),
            )
        )
        found = {
            number
            for number in digits
            if number[:6] in secrets or number.lstrip("0")[:6] in secrets
        }
        seeds = {str(row["seed"]) for record in records.values() for row in record["questions"]}
        assert not found - seeds, (path, found - seeds)


def test_no_page_holds_another_student_s_work(batch):
    records, out, *_ = batch
    for student in records:
        page = (out / "feedback" / reports.file_name(student, ".html")).read_text(encoding="utf-8")
        others = {marker(other) for other in records if other != student}
        assert reports.escape(student) in page and not [other for other in others if other in page]


def test_what_students_wrote_is_escaped(batch):
    _, out, *_ = batch
    for path, text in all_outputs(out).items():
        if path.suffix == ".html":
            assert "<script" not in text, path
    rows = list(csv.DictReader((out / "grades.csv").open(encoding="utf-8", newline="")))
    assert not [
        cell for row in rows for cell in row.values() if cell.startswith(("=", "@", "+", "-"))
    ]


def test_the_csv_has_a_row_for_every_question(batch):
    records, out, *_ = batch
    rows = list(csv.DictReader((out / "grades.csv").open(encoding="utf-8", newline="")))
    assert len(rows) == sum(len(record["questions"]) for record in records.values())
    assert {row["sandbox"] for row in rows} == {"bubblewrap"}
    row = next(
        row for row in rows if row["student"] == "neighbour 0" and row["question"] == "total"
    )
    assert (row["lab"], row["points"], row["out_of"], row["outcome"]) == (LAB, "2", "2", "right")
    assert row["seed"].isdigit() and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", row["submitted"])


def test_the_summary_counts_outcomes(batch):
    records, out, *_ = batch
    text = (out / "summary.html").read_text(encoding="utf-8")
    right = sum(
        row["kind"] == "right"
        for record in records.values()
        for row in record["questions"]
        if row["question"] == "double"
    )
    assert f"></span>{right}</td>" in text.split("<code>double</code>")[1]
    assert "squared: twice is not the square" in text


# ------------------------------------------------------------------------------------ again, and on
@pytest.fixture
def light(monkeypatch):
    """One question that needs no torch, worth 2 points: the fork server starts at once."""
    monkeypatch.setattr(checks, "all_exercises", lambda lab=None: EXERCISES[1:])
    return replace(SETTINGS, preload=("numpy",), limits=replace(LIMITS, cells_seconds=30))


def test_the_same_submission_gets_the_same_score_and_seed(batch, tmp_path):
    names = ["as the lab gives it", "a wrong answer", "os._exit", "inputs in the shape"]
    for name in names:
        odd = ODD.get(name)
        hand_in(tmp_path / "again", name, odd.cells if odd else ATTACKS[name].cells)
    for record in grade(tmp_path / "again", tmp_path / "out"):
        assert record["questions"] == batch[0][record["student"]]["questions"]


def test_a_copy_is_asked_the_same_and_a_change_is_asked_otherwise(tmp_path, light):
    for student, cells in {"a": HONEST, "b": HONEST, "c": [*HONEST, "1"]}.items():
        (tmp_path / "class" / student).mkdir(parents=True)
        (tmp_path / "class" / student / "lab.ipynb").write_bytes(written(cells))
    a, b, c = [
        [row["seed"] for row in record["questions"]]
        for record in grade(tmp_path / "class", tmp_path / "out", light)
    ]
    assert a == b and not set(a) & set(c)


def test_a_batch_goes_on_where_it_stopped(tmp_path, monkeypatch, light):
    for student in "abc":
        hand_in(tmp_path / "class", student, HONEST)
    asked = []
    real = batches.grade_submission

    def interrupted(submission, settings):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(submission.student)
        return real(submission, settings)

    monkeypatch.setattr(batches, "grade_submission", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grade(tmp_path / "class", tmp_path / "out", light)
    monkeypatch.setattr(
        batches,
        "grade_submission",
        lambda *arguments: asked.append(arguments[0].student) or real(*arguments),
    )
    assert [points(record) for record in grade(tmp_path / "class", tmp_path / "out", light)] == [
        2,
        2,
        2,
    ]
    assert asked == ["a", "b", "c"], "two before the interrupt, and after it only the third"
    grade(tmp_path / "class", tmp_path / "out", replace(light, seed=1))
    assert asked[3:] == ["a", "b", "c"], "another seed asks again"
    hand_in(tmp_path / "class", "a2", [*HONEST, "# newer"])
    shutil.move(
        tmp_path / "class" / "a2" / f"{LAB}.ipynb", tmp_path / "class" / "a" / f"{LAB} (1).ipynb"
    )
    (tmp_path / "class" / "a2").rmdir()  # an empty folder is a student who handed in nothing
    grade(tmp_path / "class", tmp_path / "out", replace(light, seed=1))
    assert asked[6:] == ["a"], "a newer file is asked, the others are not"


def test_a_full_disk_is_said_and_the_rest_goes_on(tmp_path, monkeypatch, light):
    import errno

    from lab_utils import files

    for student in "ab":
        hand_in(tmp_path / "class", student, HONEST)
    real = files.write_text

    def full(path, text):
        if "a-" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, text)

    monkeypatch.setattr(files, "write_text", full)
    monkeypatch.setattr(reports, "write_text", full)
    submissions, _ = read_submissions([tmp_path / "class"], LABS)
    out = grader.make_folder(tmp_path / "out")
    records, troubles = batches.grade_all(submissions, light, out, jobs=1, backend="loky")
    marks.finish(records, Policy(), [], {})
    troubles += reports.write_reports(records, out)
    assert len(troubles) == 2 and all("No space left on device" in trouble for trouble in troubles)
    text = reports.summary_text(records, out, troubles)
    assert "COULD NOT BE WRITTEN" in text and "Make room" in text
    assert (out / "grades.csv").read_text().count("neighbour") == 0 and len(
        (out / "grades.csv").read_text().splitlines()
    ) == 3


def test_a_broken_grader_says_so_and_goes_on(tmp_path, light, monkeypatch):
    """A defect of ours, met with one submission only: its questions are not asked, but the next
    time; the others count.
    """
    real = sandbox.Sandbox.ask

    def breaks(self, cells, *arguments, **options):
        if any("marker-of-bad" in cell for cell in cells):
            raise ValueError("a defect")
        return real(self, cells, *arguments, **options)

    hand_in(tmp_path / "class", "bad", HONEST)
    hand_in(tmp_path / "class", "good", HONEST)
    monkeypatch.setattr(sandbox.Sandbox, "ask", breaks)
    bad, good = grade(tmp_path / "class", tmp_path / "out", light)
    assert (
        bad["questions"][0]["kind"] == "not asked"
        and "a defect" in bad["questions"][0]["message"]
        and points(good) == 2
    )
    monkeypatch.setattr(sandbox.Sandbox, "ask", real)
    assert [points(record) for record in grade(tmp_path / "class", tmp_path / "out", light)] == [
        2,
        2,
    ]


def test_an_exercise_that_cannot_be_asked_is_told_apart_from_a_wrong_answer(
    tmp_path, light, monkeypatch
):
    strange = replace(EXERCISES[0], cases=lambda rng: [(object(),)])
    monkeypatch.setattr(checks, "all_exercises", lambda lab=None: [strange, EXERCISES[1]])
    hand_in(tmp_path / "class", "a", HONEST)
    [record] = grade(tmp_path / "class", tmp_path / "out", light)
    first, second = record["questions"]
    assert (
        first["kind"] == "not asked"
        and "object cannot be sent" in first["message"]
        and second["points"] == 2
    )


# -------------------------------------------------------------------------------------- the command
def command(*words: object, env: dict | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lab_utils", "grade", *map(str, words)],
        capture_output=True,
        text=True,
        env=env,
        cwd=ROOT,
    )


@pytest.mark.slow
def test_the_command_grades_with_two_jobs(tmp_path):
    """In a process of its own, with loky: the real labs, since the made-up one is known to this
    process only.
    """
    solution = (
        "def bytes_of_scheme(n_values, code_bits, block_size):\n    import math\n    return 1"
    )
    for i in range(3):
        hand_in(
            tmp_path / "class",
            f"student {i}",
            [
                'from lab_utils.start.lab import start_lab\nstart_lab("02_double_quantization")',
                solution,
            ],
        )
    done = command(tmp_path / "class", "--out", tmp_path / "out", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "grades.csv").open(newline="")))
    asked = [row for row in rows if row["question"] == "bytes_of_scheme"]
    assert len(asked) == 3 and all(
        row["outcome"] == "wrong value" and row["points"] == "0" for row in asked
    )
    assert len({row["outcome"] for row in rows if row["question"] != "bytes_of_scheme"}) == 1
    assert "0 of 3 right" in done.stdout and "3/3" in done.stderr


def test_it_refuses_without_bubblewrap_and_obeys_when_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "bubblewrap is not installed: apt-get install" in sandbox.problem()
    with pytest.raises(
        LabKitError,
        match="Nothing was graded: bubblewrap is not installed.*\n.*\n.*--unsafe-no-sandbox",
    ):
        grader.check_sandbox(False, sandbox.problem)
    grader.check_sandbox(True, sandbox.problem)


def test_without_a_sandbox_the_csv_says_so(tmp_path, light):
    """And it still ends what hangs, and leaves no process and no file."""
    bad = "import os\n\ndef total(values, n):\n    "
    hand_in(tmp_path / "class", "exits", [bad + "os._exit(0)"])
    hand_in(
        tmp_path / "class",
        "hangs",
        [bad + "open('left', 'w').write('x')\n    while True: os.fork() if n % 2 == 3 else 0"],
    )
    hand_in(tmp_path / "class", "honest", HONEST)
    hand_in(
        tmp_path / "class",
        "orphans",
        [
            bad
            + (
                "import time\n    if not os.fork():\n        os.setsid()\n        if not "
                "os.fork(): time.sleep(1000)\n        os._exit(0)\n    return sum(values[:n])"
            )
        ],
    )
    before, folders = state_of_machine(), set(os.listdir(tempfile.gettempdir()))
    records = grade(
        tmp_path / "class",
        tmp_path / "out",
        replace(light, sealed=False, limits=replace(LIMITS, answer_seconds=2)),
    )
    assert [points(record) for record in records] == [0, 0, 2, 2]
    rows = list(csv.DictReader((tmp_path / "out" / "grades.csv").open(newline="")))
    assert {row["sandbox"] for row in rows} == {"NONE: --unsafe-no-sandbox"}
    assert not stays(state_of_machine()[0] - before[0])
    assert not [
        name
        for name in set(os.listdir(tempfile.gettempdir())) - folders
        if (Path(tempfile.gettempdir()) / name / "left").exists()
    ]


def run_main(*words: object) -> int:
    """The command in this process, where it knows the made-up lab."""
    parser = argparse.ArgumentParser()
    grader.add_arguments(parser)
    return grader.main(parser.parse_args(list(map(str, words))))


@pytest.mark.parametrize(
    "words, said",
    [
        (["--lab", "77"], "there is no such lab. The labs with exercises are:\n  90_made_up_lab"),
        (["--backend", "teleport"], "joblib knows .*loky"),
        (["--backend", "ray"], "needs the package ray here and on the cluster: pip install ray"),
        ([], "Nothing to grade"),
    ],
)
def test_what_is_not_there_is_said(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "in").mkdir()
    with pytest.raises(LabKitError, match=said):
        run_main(tmp_path / "in", tmp_path / "absent", "--out", tmp_path / "out", *words)
    if not words:
        printed = capsys.readouterr().out
        assert (
            "no notebook in it" in printed and "absent: there is no such file or folder" in printed
        )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabKitError, match="cannot be written"):
        grader.make_folder(tmp_path / "file" / "out")


def test_the_command_in_one_process(tmp_path, light, monkeypatch, capsys):
    """Exit code 1 and a line for what could not be read; grades for the rest; and again without
    asking.
    """
    monkeypatch.setattr(sandbox, "PRELOADED", light.preload)
    hand_in(tmp_path / "class", "good", HONEST)
    hand_in(tmp_path / "class", "cut off", [], written(HONEST)[:500])
    assert run_main(tmp_path / "class", "--out", tmp_path / "out", "--jobs", 1) == 1
    printed = capsys.readouterr()
    assert (
        "cut off: cut off/90_made_up_lab.ipynb: UNREAD: not a notebook: broken JSON" in printed.out
        and "1 of 2 right   unreadable 1" in printed.out
    )
    assert "2/2" in printed.err and "oral.html (0 with something to look at" in printed.out
    [talk] = csv.DictReader((tmp_path / "out" / "oral.csv").open(newline="", encoding="utf-8"))
    assert talk["student"] == "good" and talk["question"].startswith("`total`: ")
    asked = reports.escape(talk["question"].split(": ")[1].split("`")[0])
    pages = [page.read_text() for page in (tmp_path / "out" / "feedback").iterdir()]
    assert asked in (tmp_path / "out" / "oral.html").read_text()
    assert len(pages) == 2 and not any(asked in page for page in pages)
    shutil.rmtree(tmp_path / "class" / "cut off")
    monkeypatch.setattr(
        sandbox.Sandbox, "ask", lambda *_, **__: pytest.fail("what is graded is not asked again")
    )
    assert run_main(tmp_path / "class", "--out", tmp_path / "out", "--jobs", 1) == 0


def test_only_inputs_and_cells_go_into_the_sandbox(tmp_path, light, monkeypatch):
    """Everything that is sent: no expected value, tolerance, point or seed, and no input before the
    report has come back.
    """
    events = []
    for name in ("send", "receive"):
        real = getattr(sandbox.Channel, name)
        monkeypatch.setattr(
            sandbox.Channel,
            name,
            lambda self, value, real=real, name=name: (
                events.append((name, value)),
                real(self, value),
            )[1],
        )
    hand_in(tmp_path / "class", "good", HONEST)
    [record] = grade(tmp_path / "class", tmp_path / "out", light)
    events = events[-4:]  # after the two processes' greetings, and what is known to be right
    assert [name for name, _ in events] == ["send", "receive", "send", "receive"]
    request = json.loads(events[0][1])
    assert set(request) == {"cells", "function", "whole", "seconds", "kit"}
    assert (request["function"], request["kit"]) == ("total", "")
    assert "\n".join(request["cells"]).count("marker-of-good") == 1 and str(
        record["questions"][0]["seed"]
    ) not in str(request)
    assert decode(events[2][1]) == EXERCISES[1].make_inputs(
        np.random.default_rng(record["questions"][0]["seed"])
    )


def block(name: str) -> str:
    """The indented block after a name in docs/grading.md."""
    text = (ROOT / "docs" / "grading.md").read_text(encoding="utf-8").split(f"\n`{name}`")[1]
    lines = text.split("\n\n    ", 1)[1].split("\n")
    n = next(i for i, line in enumerate(lines[1:], 1) if line and not line.startswith("    "))
    return "\n".join(line.removeprefix("    ") for line in lines[:n]).strip("\n") + "\n"


SPY = """
import glob, os, subprocess
def attempt(*words):
    return subprocess.run(words, capture_output=True, text=True, cwd=KIT).stdout
KIT = {kit!r}
known = ("lab_utils", "pyproject.toml", "requirements.txt")
found = [name for name in os.listdir(KIT) if name not in known]
for pattern in ("/**/exercises/*", "/**/*.ipynb"):
    found += glob.glob(KIT + pattern, recursive=True)
found += attempt("git", "log").split()
found += attempt("grep", "-rl", "EXERCISES = (", KIT).split()
try:
    from lab_utils.checking.exercises import lab_02
    found.append("imported")
except Exception:
    pass
for place in ("/tmp/grades", {results!r}, {submission!r}):
    found += os.listdir(place) if os.access(place, os.R_OK) else []
if not os.getuid():
    found.append("root")
if found:
    open("/tmp/recipe-found", "w").write(repr(found))
    raise SystemExit
"""


@pytest.fixture
def open_folder():
    """A folder that anybody can enter: pytest's are root's alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def readable_python(folder: Path) -> str:
    """Shell lines for a mount namespace in which anybody can read Python, as in a container: here
    it may lie in root's home.
    """
    base = Path(sys.base_prefix)
    closed = [parent for parent in base.parents if parent.stat().st_mode & 0o5 != 0o5]
    if not closed:
        return ""
    (folder / "kept").mkdir()
    return (
        f"mount --bind {base} {folder}/kept; mount -t tmpfs -o mode=755 none {closed[-1]}; "
        f"mkdir -p {base}; mount --bind {folder}/kept {base}\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_recipe_for_gradescope_gives_no_answer_away(open_folder):
    """Its steps, in a folder for /autograder: a student's code that looks for the answers in every
    place the recipe makes, and answers rightly only if it finds none.
    """
    import nbformat

    tmp_path = open_folder
    home, dockerfile = tmp_path / "autograder", block("Dockerfile")
    for name in ("results", "submission", "kit"):
        (home / name).mkdir(parents=True)
    for line in dockerfile.splitlines():
        if line.startswith("COPY peft-lab-kit"):
            *sources, target = line.removeprefix("COPY ").split()
            for source in (ROOT / source.removeprefix("peft-lab-kit/") for source in sources):
                place = home / target.removeprefix("/autograder/")
                if source.is_dir():
                    shutil.copytree(source, place, ignore=shutil.ignore_patterns("*.pyc"))
                else:
                    shutil.copy(source, place)
        if line.startswith("RUN chmod 700"):
            subprocess.run(line[4:].replace("/autograder", str(home)), shell=True, check=True)
    (home / "results.py").write_text(block("results.py"))
    script = block("run_autograder").replace("/autograder", str(home))
    script = script.replace("/tmp/grades", str(tmp_path / "grades"))
    script = script.replace("python3", sys.executable)
    master = nbformat.read(ROOT / "labs" / "02_double_quantization.ipynb", as_version=4)
    solved = next(c.source for c in master.cells if "def bytes_of_scheme" in c.source)
    places = {name: str(home / name) for name in ("kit", "results", "submission")}
    head, _, body = solved.partition("# BEGIN SOLUTION")
    spy = SPY.format(**places).replace("/tmp/grades", str(tmp_path / "grades"))
    indented = "\n".join("    " + line for line in spy.strip().splitlines())
    cells = [
        'import math; start_lab("02_double_quantization")',
        f"{head}\n{indented}\n    # {body}",
    ]
    (home / "submission" / "02.ipynb").write_bytes(written(cells))
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["unshare", "-m", "bash", "-c", readable_python(tmp_path) + script]
    subprocess.run(words, capture_output=True, text=True, env=environment)
    result = json.loads((home / "results" / "results.json").read_text())
    [asked] = [test for test in result["tests"] if test["name"].endswith("bytes_of_scheme")]
    found = Path("/tmp/recipe-found")
    told = found.read_text() if found.exists() else ""
    found.unlink(missing_ok=True)
    assert asked["score"] == asked["max_score"] == 1, (asked["output"], told)


def test_the_snippet_for_gradescope(tmp_path):
    """The code in docs/grading.md, run on a real CSV."""
    code = block("results.py")
    rows = [
        {
            "question": "total",
            "points": 2,
            "out_of": 2,
            "seed": 1,
            "kind": "right",
            "message": "right",
            "mistake": "",
            "ran": "",
        },
        {
            "question": "double",
            "points": 0,
            "out_of": 1,
            "seed": 1,
            "kind": "wrong value",
            "message": "not right",
            "mistake": "halved",
            "ran": "",
        },
    ]
    record = {
        "student": "a",
        "lab": LAB,
        "file": "f",
        "submitted": "",
        "submitted_from": "",
        "sandbox": "x",
        "system_says_late": False,
        "questions": rows,
    }
    marks.finish([record], Policy(), [], {})
    for records, expected in [
        ([record], [(2, 2, "right"), (0, 1, "not right halved")]),
        ([], None),
    ]:
        (tmp_path / "grades.csv").write_text(reports.grades_csv(records), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "grades.csv")],
            capture_output=True,
            text=True,
            check=True,
        )
        result = json.loads(done.stdout)
        assert (
            result.get("score") == 0
            if expected is None
            else [(test["score"], test["max_score"], test["output"]) for test in result["tests"]]
            == expected
        )


# ------------------------------------------------------------------ a right answer always counts
def total_with(cells: list[str], factors: list[str]) -> list[str]:
    """A notebook whose `total` is right if each of the factors is 1 where it is used."""
    body = " * ".join(["sum(values[:n])", *factors])
    return [*cells, f"def total(values, n):\n    return {body}"]


def test_every_way_to_build_a_constant_counts(tmp_path, light):
    for way in WAYS:
        (tmp_path / "class" / way).mkdir(parents=True)
        cells = total_with(cells_of(way, "k"), ["k"])
        (tmp_path / "class" / way / f"{LAB}.ipynb").write_bytes(written(cells))
    records = grade(tmp_path / "class", tmp_path / "out", light)
    lost = {r["student"]: r["questions"][0]["message"] for r in records if points(r) != 2}
    assert len(records) == len(WAYS) >= 20 and not lost
    used = {r["student"]: r["questions"][0]["ran"] for r in records}
    assert used["a registering decorator"] == "whole notebook"
    assert used["an alias changed later"] == "whole notebook"


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(WAYS)), min_size=1, max_size=3, unique=True))
def test_any_of_them_together_count(light, tmp_path_factory, ways):
    folder = tmp_path_factory.mktemp("ways")
    cells = [cell for i, way in enumerate(ways) for cell in cells_of(way, f"k{i}")]
    hand_in(folder / "class", "a", total_with(cells, [f"k{i}" for i in range(len(ways))]))
    [record] = grade(folder / "class", folder / "out", light)
    assert points(record) == 2, record["questions"]


NOT_ASKED = "no fault of the student's"
FAIR = {
    "a module that the room lacks": (
        ["import no_such_module_here as m", "def total(values, n): return m.sum(values[:n])"],
        {},
        0,
        f"lacks no_such_module_here: not graded, {NOT_ASKED}",
    ),
    "a module that it lacks and does not need": (
        ["import no_such_module_here", "def total(values, n): return sum(values[:n])"],
        {},
        2,
        "right on all",
    ),
    "a syntax newer than ours": (
        ["def total[T](values: T, n) -> T:\n    return sum(values[:n]) +"],
        {"language_info": {"version": "3.99.1"}},
        0,
        f"was written with Python 3.99 and the grader has 3.*: not graded, {NOT_ASKED}",
    ),
    "a GPU": (
        ["import torch", "def total(values, n):\n    return torch.tensor(values[:n]).cuda().sum()"],
        {},
        0,
        "in line 2 of the cell that begins with `def total.*asks for a GPU, .* has none",
    ),
    "a constant that is bound again": (
        ["scale = 1", "def total(values, n): return scale * sum(values[:n])", "scale = 2"],
        {},
        0,
        "`scale` gets another value below total",
    ),
    "pass": (["def total(values, n):\n    pass"], {}, 0, "still the stub"),
    "dots": (["def total(values, n): ..."], {}, 0, "still the stub"),
    "a docstring alone": (["def total(values, n):\n    'Sum.'"], {}, 0, "still the stub"),
}


def test_what_is_nobody_s_fault_is_no_zero_and_reasons_help(tmp_path, light):
    for name, (cells, metadata, _, _) in FAIR.items():
        content = json.loads(written(cells))
        content["metadata"].update(metadata)
        hand_in(tmp_path / "class", name, [], json.dumps(content).encode())
    for record in grade(tmp_path / "class", tmp_path / "out", light):
        _, _, expected, said = FAIR[record["student"]]
        [row] = record["questions"]
        text = f"{row['message']} {row['mistake']}"
        assert row["points"] == expected and re.search(said, text), (record["student"], text)
        assert (row["kind"] == "not asked") == (NOT_ASKED in said), record["student"]


def test_where_a_right_answer_does_not_come_out_nothing_is_graded(tmp_path, light, monkeypatch):
    hand_in(tmp_path / "class", "a", HONEST)
    broken = sandbox.Reply(
        ended="the process could not be put into the sandbox (EPERM)", fault=True
    )
    monkeypatch.setattr(sandbox.Sandbox, "ask", lambda *_, **__: broken)
    with pytest.raises(LabKitError, match="Nothing was graded: a function that is known.*EPERM"):
        grade(tmp_path / "class", tmp_path / "out", light)
    assert not (tmp_path / "out" / "grades.csv").exists()


# ------------------------------------------------------------------------- the folder of the grades
def test_grades_among_the_submissions_are_refused(tmp_path):
    hand_in(tmp_path / "class", "a", HONEST)
    for out in (tmp_path / "class" / "grades", tmp_path / "class"):
        with pytest.raises(LabKitError, match="which is graded. Give --out a folder elsewhere"):
            run_main(tmp_path / "class", "--out", out)


def test_the_seed_is_drawn_once_and_kept(tmp_path):
    grader.make_folder(tmp_path)
    seed = grader.seed_of(tmp_path, None)
    assert seed == grader.seed_of(tmp_path, None) != grader.seed_of(tmp_path, seed + 1)
    (other := tmp_path / "other" / "results").mkdir(parents=True)
    assert grader.seed_of(other.parent, None) != seed


def test_the_batch_replaces_the_one_before_and_can_ask_one_again(
    tmp_path, light, monkeypatch, capsys
):
    monkeypatch.setattr(sandbox, "PRELOADED", light.preload)
    out, asked = tmp_path / "out", []
    for student in ("a", "b"):
        hand_in(tmp_path / "first", student, HONEST)
    hand_in(tmp_path / "second", "c", [SETUP])
    assert run_main(tmp_path / "first", "--out", out, "--jobs", 1) == 0
    assert run_main(tmp_path / "second", "--out", out, "--jobs", 1) == 0
    rows = list(csv.DictReader((out / "grades.csv").open(newline="", encoding="utf-8")))
    assert {row["student"] for row in rows} == {"c"}
    assert [page.name[:2] for page in (out / "feedback").iterdir()] == ["c-"]
    assert "Not as in the run before" in capsys.readouterr().out
    real = batches.grade_submission
    monkeypatch.setattr(
        batches, "grade_submission", lambda s, t: asked.append(s.student) or real(s, t)
    )
    run_main(tmp_path / "first", "--out", out, "--jobs", 1)
    run_main(tmp_path / "first", "--out", out, "--jobs", 1, "--regrade", "b")
    assert asked == ["b"]
    run_main(tmp_path / "first", "--out", out, "--jobs", 1, "--regrade", "total")
    assert asked[1:] == ["a", "b"]


def test_what_never_comes_back_from_a_worker_is_graded_here(tmp_path, light, monkeypatch):
    """As with a cluster that has lost all its workers."""
    over, real, asked = threading.Event(), batches.grade_submission, []

    def lost(submission, settings):
        asked.append(submission.student)
        if threading.current_thread() is not threading.main_thread():
            over.wait()
            raise RuntimeError("too late")
        return real(submission, settings)

    monkeypatch.setattr(batches, "grade_submission", lost)
    assert batches.patience(light) > 600
    monkeypatch.setattr(batches, "patience", lambda settings: 0.5)
    for name in "ab":
        hand_in(tmp_path / "class", name, HONEST)
    submissions, _ = read_submissions([tmp_path / "class"], LABS)
    out = grader.make_folder(tmp_path / "out")
    try:
        records, _ = batches.grade_all(submissions, light, out, jobs=2, backend="threading")
    finally:
        over.set()
    assert [points(record) for record in records] == [2, 2] and asked[-2:] == ["a", "b"]


@pytest.mark.parametrize("at_once", [0, 1, 2])
def test_workers_that_die_cost_nobody_a_mark(tmp_path, light, monkeypatch, at_once):
    """What a worker had is given to another as long as something comes back; the rest is done
    here.
    """
    tries = []

    def dying(left, settings, jobs, backend):
        tries.append(len(left))
        for path, submission in list(left.items())[:at_once]:
            yield batches.grade_one(path, submission, settings)
        raise RuntimeError("the worker is gone")

    monkeypatch.setattr(batches, "on_workers", dying)
    for name in "abcde":
        hand_in(tmp_path / "class", name, HONEST)
    submissions, _ = read_submissions([tmp_path / "class"], LABS)
    out = grader.make_folder(tmp_path / "out")
    records, _ = batches.grade_all(submissions, light, out, jobs=2, backend="loky")
    assert [points(record) for record in records] == [2] * 5
    assert tries == {0: [5], 1: [5, 4, 3, 2, 1], 2: [5, 3, 1]}[at_once]


def test_a_killed_grader_with_two_jobs_leaves_nothing(tmp_path):
    """SIGKILL while both jobs wait for a function that sleeps: workers and rooms end."""
    slow = "import time\ndef bytes_of_scheme(n_values, code_bits, block_size): time.sleep(1000)"
    for i in range(4):
        hand_in(tmp_path / "class", f"{i}", ['start_lab("02_double_quantization")', slow])
    words = [
        "-m",
        "lab_utils",
        "grade",
        tmp_path / "class",
        "--out",
        tmp_path / "out",
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    family = []
    for _ in range(600):
        family = psutil.Process(process.pid).children(recursive=True)
        if sum(p.name() == "cat" for p in family if p.is_running()) >= 2:
            break
        time.sleep(0.2)
    assert sum(p.name() == "cat" for p in family) >= 2, "both jobs have a room"
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_names_do_not_steer_the_terminal(capsys):
    grader.say(["a\x1b[2Jb\x07.ipynb: \u202eUNREAD"])
    assert capsys.readouterr().out == "a\ufffd[2Jb\ufffd.ipynb: \ufffdUNREAD\n"


# ------------------------------------------------------------------------------------ the benchmark
def test_the_benchmark_grades_what_it_generates(monkeypatch):
    """One submission of the first lab, with its solutions; `jupyter execute` is not waited for."""
    from bench import grading as bench

    monkeypatch.setattr(checks, "all_exercises", ALL_EXERCISES)
    monkeypatch.setattr(bench, "N_SUBMISSIONS", 2)
    monkeypatch.setattr(bench, "seconds_of_execute", lambda notebook: 10.0)
    outcome = bench.measure(argparse.Namespace())
    printed = outcome.text
    assert outcome.problems == []
    n_questions = int(re.search(r"2 submissions, (\d+) questions each", printed)[1])
    assert (
        n_questions >= 4
        and f"right answers with their points: {2 * n_questions} of {2 * n_questions}" in printed
    )
    assert re.search(r"jupyter execute +10.00 s\nratio +\d+\.\d\d\n", printed)
    executed, ratio = (measure.value for measure in outcome.measures[1:])
    assert executed == 10 and ratio == pytest.approx(outcome.measures[0].value / 10)
