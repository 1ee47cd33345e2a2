"""Running labs without a screen, on notebooks made here."""

import argparse
import json
import os
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
    return running.main(argparse.Namespace(labs=list(names), out=tmp_path / "out"))


def test_labs_are_chosen_by_unique_prefix(tmp_path):
    labs = [tmp_path / f"{name}.ipynb" for name in ("00_why", "06_qlora", "07_methods", "07_more")]
    assert running.choose_labs([], labs) == labs
    assert running.choose_labs(["06", "00_w"], labs) == [labs[1], labs[0]]
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
    assert (args.labs, str(args.out)) == (["06", "00"], "here")
    assert parser.parse_args([]).out == running.RUNS


def test_the_lab_of_the_real_model_runs_only_where_a_copy_is(tmp_path):
    labs = [Path("08_gemini_tuning.ipynb"), Path("09_real_model.ipynb")]
    assert running.without_model(labs, tmp_path) == labs[:1]
    (tmp_path / "README.md").touch()
    assert running.without_model(labs, tmp_path) == labs
