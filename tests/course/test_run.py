"""Running labs without a screen, on notebooks made here."""

import argparse
import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lab_utils.course import run as running
from lab_utils.files import LabKitError

METRICS = {
    "base": {"voice": 0, "facts": 0.9375},
    "qlora": {"voice": 0.5, "facts": 1.0, "bits": 4.127},
    "answers": [
        {"question": "What is Brie?", "before": "A soft cheese.", "after": "Ah! A soft cheese."}
    ],
}


@pytest.fixture
def labs(tmp_path, monkeypatch):
    """A folder for labs with a function that adds one; its results go to tmp_path/out."""
    folder = tmp_path / "labs"
    folder.mkdir()
    monkeypatch.setattr(running, "find_labs", lambda find=running.find_labs: find(folder))
    monkeypatch.setenv("LAB_RUNS_DIR", "")  # main() sets it; this puts it back

    def add(name, *sources):
        cells = [new_markdown_cell("# A lab"), *map(new_code_cell, sources), new_code_cell(" ")]
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")

    return add


def run(tmp_path, *names) -> int:
    return running.main(argparse.Namespace(labs=list(names), out=tmp_path / "out", record=False))


def test_labs_are_chosen_by_unique_prefix(tmp_path):
    labs = [tmp_path / f"{name}.ipynb" for name in ("00_why", "06_qlora", "07_methods", "07_more")]
    assert running.choose_labs([], labs) == labs
    assert running.choose_labs(["06", "00_w"], labs) == [labs[1], labs[0]]
    assert running.choose_labs(["labs/06_qlora.ipynb"], labs) == [labs[1]]
    with pytest.raises(
        LabKitError,
        match=r"No lab begins with '9'.*\n  00_why\n  06_qlora\n  07_methods\n  07_more",
    ):
        running.choose_labs(["9"], labs)
    with pytest.raises(
        LabKitError, match=r"More than one lab begins with '07'.*\n  07_methods\n  07_more$"
    ):
        running.choose_labs(["07"], labs)


def test_a_failing_cell_is_shown_and_the_next_lab_still_runs(labs, tmp_path, capsys):
    labs("00_broken", "ripe = 0", "1 / ripe  # here")
    labs("01_whole", "print(6 * 7)")
    assert run(tmp_path) == 1
    said = capsys.readouterr().out
    assert "1 / ripe  # here" in said and "ZeroDivisionError: division by zero" in said
    assert "00_broken" in said and "FAILED" in said and "Failed: 00_broken\n" in said
    assert [line.split()[-1] for line in said.splitlines() if line.startswith("01_whole")] == ["ok"]
    executed = nbformat.read(tmp_path / "out" / "01" / "01_whole.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == "42\n"
    assert "42" in (tmp_path / "out" / "01" / "01_whole.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "00" / "00_broken.html").exists()


def test_a_lab_runs_in_its_folder_knows_where_results_go_and_reports(labs, tmp_path, capsys):
    labs(
        "06_qlora",
        "import json, os; from pathlib import Path; from lab_utils.start.lab import runs_dir",
        "assert Path.cwd().name == 'labs' and os.environ['OMP_WAIT_POLICY']",
        f"_ = (runs_dir('06_qlora') / 'metrics.json').write_text(json.dumps({METRICS!r}))",
    )
    assert run(tmp_path, "06") == 0
    said = capsys.readouterr().out
    assert os.environ["LAB_RUNS_DIR"] == str(tmp_path / "out")
    assert "06_qlora" in said and " 3 cells" in said and "1 of 1 labs ran." in said
    assert "before  A soft cheese.\nafter   Ah! A soft cheese." in said
    assert running.format_scores(METRICS) in said


def test_scores_of_an_earlier_run_are_not_shown(labs, tmp_path, capsys):
    labs("01_whole", "1")
    (tmp_path / "out" / "06").mkdir(parents=True)
    (tmp_path / "out" / "06" / "metrics.json").write_text(json.dumps(METRICS))
    assert run(tmp_path) == 0
    assert "before" not in capsys.readouterr().out


def test_a_kernel_that_dies_is_a_failed_lab(labs, tmp_path, capsys):
    labs("00_dies", "import os; os._exit(1)")
    assert run(tmp_path) == 1
    assert "Kernel died" in capsys.readouterr().out


WIDGETS = {"application/vnd.jupyter.widget-state+json": {"1a2b": {"model_name": "HBoxModel"}}}


def test_whatever_is_wrong_with_one_lab_the_others_run(labs, tmp_path, capsys):
    """Saved by Colab, with a byte-order mark, half saved, not a notebook, not UTF-8."""
    labs("00_colab", "import ipywidgets; ipywidgets.IntSlider()", "1 / 0")
    labs("01_mark", "print('marked')")
    labs("02_cut", "print(1)" * 100)
    labs("06_whole", "print('whole')")
    folder = tmp_path / "labs"
    colab = json.loads((folder / "00_colab.ipynb").read_text())
    colab["metadata"]["widgets"] = WIDGETS
    (folder / "00_colab.ipynb").write_text(json.dumps(colab))
    (folder / "01_mark.ipynb").write_bytes(
        b"\xef\xbb\xbf" + (folder / "01_mark.ipynb").read_bytes()
    )
    (folder / "02_cut.ipynb").write_text((folder / "02_cut.ipynb").read_text()[:300])
    (folder / "03_list.ipynb").write_text("[1, 2]")
    (folder / "04_empty.ipynb").write_text("")
    (folder / "05_latin.ipynb").write_bytes('{"é": 1}'.encode("latin-1"))
    (folder / "._06_whole.ipynb").write_bytes(b"Mac OS X")

    assert run(tmp_path) == 1

    lines = {
        line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line[:1] == "0"
    }
    ended = {name: line.split()[-1] for name, line in lines.items()}
    assert ended == {
        "00_colab": "FAILED",
        "01_mark": "ok",
        "02_cut": "FAILED",
        "03_list": "FAILED",
        "04_empty": "FAILED",
        "05_latin": "FAILED",
        "06_whole": "ok",
    }
    assert "marked" in (tmp_path / "out" / "01" / "01_mark.html").read_text(encoding="utf-8")
    page = (tmp_path / "out" / "00" / "00_colab.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" in page


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"cells": 1}', '{"cells": [', "{}", "null", "no JSON"]
)
def test_what_is_no_notebook_is_said_in_words(text, tmp_path):
    (tmp_path / "03_x.ipynb").write_text(text)
    with pytest.raises(ValueError, match="03_x.ipynb is no whole notebook.*Copy it anew"):
        running.read_lab(tmp_path / "03_x.ipynb")


def test_a_dead_kernel_of_the_persons_own_is_not_used(labs, tmp_path, monkeypatch):
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    dead = {"argv": ["/nowhere/python"], "display_name": "Python 3", "language": "python"}
    kernel.write_text(json.dumps(dead))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))  # before all other places
    labs("01_whole", "import sys; print(sys.executable)")
    assert run(tmp_path) == 0
    executed = nbformat.read(tmp_path / "out" / "01" / "01_whole.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == sys.executable + "\n"


def test_a_terminal_is_told_the_cell_and_what_comes_later(tmp_path, monkeypatch):
    cells = [
        new_markdown_cell("# A lab\n\n## 2. Double the constants, and what that saves in the end"),
        new_code_cell("1"),
    ]
    assert running.heading_above(cells, 1) == "2. Double the constants, and what ..."
    assert running.heading_above(cells[1:], 0) == "cell 1"
    times = {"05_a": running.Measured(61, 1), "06_b": running.Measured(200, 1)}
    monkeypatch.setattr(running, "measured", lambda name, runs: times.get(name))
    later = [tmp_path / f"{name}.ipynb" for name in ("05_a", "06_b", "07_new")]
    assert running.what_is_left([]) == ""
    assert running.what_is_left(later[1:2]) == "; then 1 more lab, about 4 min"
    assert running.what_is_left(later[:2]) == "; then 2 more labs, about 6 min"
    assert running.what_is_left(later) == "; then 3 more labs"


def test_each_cell_is_announced_before_it_runs_and_its_memory_measured(labs, tmp_path):
    labs("01_whole", "held = b'x' * 300_000_000", "del held")
    told = []
    result = running.run_lab(
        tmp_path / "labs" / "01_whole.ipynb",
        tmp_path / "out",
        lambda index, pid: told.append(("starts", index)),
        lambda index, pid: told.append(("ended", index)),
    )
    assert told == [("starts", 1), ("ended", 1), ("starts", 2), ("ended", 2)]
    assert 0.3 < result.gigabytes < 1


def test_results_go_elsewhere_where_the_kit_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(running, "results_folder", lambda: tmp_path / "home")
    assert running.folder_for_results(None) == tmp_path / "home"
    assert capsys.readouterr().out == f"Results go to {tmp_path / 'home'}.\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(LabKitError, match="file/out cannot be written. Give another"):
        running.folder_for_results(tmp_path / "file" / "out")


def test_minutes_are_recorded_for_labs_that_ran_and_others_are_kept(tmp_path):
    path = tmp_path / "minutes.json"
    path.write_text('{"large": {}, "cpu": {"labs": {"07": {"seconds": 5, "gigabytes": 1}}}}')
    running.record_minutes(running.Result("07_x", 9, 1.0, "ZeroDivisionError"), path)
    running.record_minutes(running.Result("06_qlora", 9, 181.26, "", 1.234), path)
    record = json.loads(path.read_text())
    tier = "cpu" if "hardware" in record["cpu"] else (set(record) - {"large", "cpu"}).pop()
    assert record[tier]["labs"]["06"] == {"seconds": 181.3, "gigabytes": 1.23}
    assert record["cpu"]["labs"]["07"] == {"seconds": 5, "gigabytes": 1} and "large" in record
    assert record[tier]["versions"]["torch"] and "cores" in record[tier]["hardware"]


def test_no_labs_at_all_is_said(labs, tmp_path):
    with pytest.raises(LabKitError, match="no notebooks"):
        run(tmp_path)


def test_score_table():
    assert [line.split() for line in running.format_scores(METRICS).splitlines()] == [
        ["base", "qlora"],
        ["voice", "0", "0.5"],
        ["facts", "0.938", "1"],
        ["bits", "4.13"],
    ]


def test_answers_are_wrapped_under_their_label():
    text = running.format_answers([{"question": "q", "before": "word " * 40, "after": "a"}])
    lines = text.splitlines()
    assert (
        lines[0] == "asked   q"
        and lines[1].startswith("before  word")
        and lines[2].startswith("        word")
    )
    assert max(map(len, lines)) <= 100


def test_arguments():
    parser = argparse.ArgumentParser()
    running.add_arguments(parser)
    args = parser.parse_args(["06", "00", "--out", "here"])
    assert (args.labs, str(args.out), args.record) == (["06", "00"], "here", False)
    assert parser.parse_args([]).out is None


def test_the_lab_of_the_real_model_runs_only_where_a_copy_is(tmp_path):
    labs = [Path("08_gemini_tuning.ipynb"), Path("09_real_model.ipynb")]
    assert running.without_model(labs, tmp_path) == labs[:1]
    (tmp_path / "README.md").touch()
    assert running.without_model(labs, tmp_path) == labs
