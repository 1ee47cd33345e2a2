"""What all tests share: the variables that must be set before torch loads, and what is left out
where, said aloud.
"""

import atexit
import gc
import os
import re
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from lab_utils.files import ROOT
from lab_utils.start import environment

environment.set_variables()
# `python -c` in a test finds what the tests find: `bench`, and the helpers beside this file.
os.environ["PYTHONPATH"] = os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT / "tests")])
# No test leaves results in the kit's own folder: another test looks at what appears there.
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers take the folder of the process above them
    os.environ["LAB_RUNS_DIR"] = tempfile.mkdtemp(prefix="lab-kit-tests-")
    atexit.register(shutil.rmtree, os.environ["LAB_RUNS_DIR"], ignore_errors=True)
# A busy machine draws slowly; that is no fault of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

GPU_REASON = "needs a CUDA device, and there is none"
BROWSER_REASON = "needs Chromium, and there is none"
SANDBOX_REASON = "needs bubblewrap's sandbox, and there is none"


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def has_chromium() -> bool:
    from lab_utils.start.doctor import find_chromium

    return find_chromium() is not None


def has_sandbox() -> bool:
    from lab_utils.course.grading.sandbox import problem

    return not problem()


# Files that take minutes, the longest first: begun last, one of them would run alone in the end.
LONGEST_FIRST = (
    "browser/test_run_labs_05_06.py",
    "browser/test_run_labs_03_04.py",
    "browser/test_run_labs_07_08.py",
    "browser/test_run_labs_00_02.py",
    "grading/test_grader.py",
    "checking/test_mutation.py",
    "course/test_launching.py",
    "lora/test_methods.py",
    "finetuning/test_training.py",
    "labs/test_device.py",
    "test_types.py",
)


def place(item: pytest.Item) -> int:
    """Where an item's file stands in LONGEST_FIRST, or behind them all."""
    path = item.path.as_posix()
    return next(
        (i for i, end in enumerate(LONGEST_FIRST) if path.endswith(end)), len(LONGEST_FIRST)
    )


# Files whose tests train, or start other programs again and again: `test --quick` leaves them out.
SLOW_FILES = re.compile(
    r"/tests/(bench|browser|colab|course|gpu)(/|$)"
    r"|/(test_training|test_levers|test_cheese_base|test_pretraining|test_methods|test_sweep"
    r"|test_environment|test_tuning|test_client|test_mutation|test_device|test_kit_calls)\.py$"
)


def pytest_ignore_collect(collection_path, config):
    """What `test --quick` leaves out is not even loaded."""
    if "not slow" in config.option.markexpr and SLOW_FILES.search(collection_path.as_posix()):
        return True


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest reads the markers of `-m`
def pytest_collection_modifyitems(items):
    """Long files first, in a random order of the others, too; what this machine cannot run is
    skipped, and looked for only if needed.
    """
    for item in items:
        if SLOW_FILES.search(item.path.as_posix()):
            item.add_marker(pytest.mark.slow)
    for marker, available, reason in [
        ("gpu", has_cuda, GPU_REASON),
        ("browser", has_chromium, BROWSER_REASON),
        ("sandbox", has_sandbox, SANDBOX_REASON),
    ]:
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))
    result = yield
    items.sort(key=place)
    return result


def pytest_collection_finish():
    """What was loaded so far stays: the garbage collector need not walk through it again and again,
    which is a twentieth of the tests' time.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Shows how many mutants the checks refuse, and says in capitals what was not tested: a green
    line must not hide it.
    """
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)
    ]
    properties = [pair for report in reports for pair in getattr(report, "user_properties", ())]
    scores = sorted({text for name, text in properties if name == "mutants"})
    if scores:
        terminalreporter.section("mutants of the exercises' right answers")
        terminalreporter.write_line("\n".join(scores))
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for reason in (GPU_REASON, BROWSER_REASON, SANDBOX_REASON):
        count = sum(reason in text for text in skipped)
        if count:
            terminalreporter.section(
                f"{count} TESTS WERE LEFT OUT: {reason.upper()}", "!", yellow=True
            )
    if any(BROWSER_REASON in text for text in skipped):
        from lab_utils.start.doctor import CHROMIUM_REMEDY

        terminalreporter.write_line(
            f"NO SLIDER AND NO DEMO WAS TRIED IN A BROWSER. To have that: {CHROMIUM_REMEDY}"
        )
    if any(SANDBOX_REASON in text for text in skipped):
        from lab_utils.course.grading.sandbox import problem

        terminalreporter.write_line(f"NO HOSTILE SUBMISSION WAS GRADED. Missing: {problem()}")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """Folder of a tiny model that was made and saved as cheese-base is."""
    from tiny_models import make_tiny_base

    return make_tiny_base(tmp_path_factory.mktemp("models") / "tiny-base")
