"""A cluster of dask whose workers are killed grades like one process."""

import importlib.util
import os
import random
import signal

import pytest
from hostile.odd import written

from lab_utils.checking import all_exercises
from lab_utils.course.grading import asking, batch, grader, late, marks, reports
from lab_utils.course.grading.sandbox import Limits
from lab_utils.course.grading.submissions import read_submissions

LAB = "02_double_quantization"
RIGHT = "def model_gigabytes(n_params, bits):\n    return n_params * bits / 8 / 1e9"
WRONG = "def bytes_of_scheme(n_values, code_bits, block_size):\n    return {i}"
N_STUDENTS, KILL_AFTER = 10, 3

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("distributed") is None,
        reason="needs dask: pip install 'dask[distributed]'",
    ),
]


@pytest.fixture
def cluster():
    """Four processes on this machine, which `--backend dask` finds."""
    import dask
    from distributed import Client, LocalCluster

    # by default such a cluster closes a worker that dies again within 15 seconds, for good
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        LocalCluster(4, threads_per_worker=1, dashboard_address=None) as cluster,
        dask.config.set({"scheduler-address": cluster.scheduler_address}),
        Client(cluster),
    ):
        yield cluster


def grades(submissions, out, backend, killed=None) -> str:
    """grades.csv of the batch."""
    settings = asking.Settings(Limits(), seed=5, preload=("numpy",))
    grader.make_folder(out)
    records, _ = batch.grade_all(submissions, settings, out, 1 if killed is None else 4, backend)
    marks.finish(records, late.Policy(), [], {})
    reports.write_reports(records, out)
    return (out / "grades.csv").read_text(encoding="utf-8")


def test_the_csv_of_a_cluster_whose_workers_die_is_the_plain_one(tmp_path, cluster, monkeypatch):
    for i in range(N_STUDENTS):
        (tmp_path / "class" / f"student {i}").mkdir(parents=True)
        notebook = written([RIGHT, WRONG.format(i=i)])
        (tmp_path / "class" / f"student {i}" / f"{LAB}.ipynb").write_bytes(notebook)
    names = {exercise.name for exercise in all_exercises(LAB)}
    submissions, _ = read_submissions([tmp_path / "class"], {LAB: names})
    plain = grades(submissions, tmp_path / "plain", "loky")
    killed, draw, real = [], random.Random(0), batch.on_workers

    def dying(*arguments):
        for n, answer in enumerate(real(*arguments), 1):
            yield answer
            workers = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
            if n % KILL_AFTER == 0 and workers:
                killed.append(draw.choice(workers))
                os.kill(killed[-1], signal.SIGKILL)

    monkeypatch.setattr(batch, "on_workers", dying)
    assert grades(submissions, tmp_path / "dask", "dask", killed) == plain
    assert len(killed) >= 3 and plain.count(",right,") == N_STUDENTS
