"""The student edition: no solution in it, nothing missing, and it works as a student uses it."""

import ast
import base64
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lab_utils.checking import all_exercises
from lab_utils.course import release, taught
from lab_utils.course.release import GAP, fill, make_edition, make_stub, solutions_of, write_edition
from lab_utils.course.run import find_labs
from lab_utils.files import ROOT, LabKitError

REPO, BRANCH = "ada-lovelace/peft.labs_2", "autumn"
SECRET = "return [slice / 2 for slice in cheese]"
WRONG = "return [slice / 3 for slice in cheese]"
DRAWN = "inputs = [(rng.normal(size=7) + 3.25,)]"
EXERCISE = (
    f"def halves(cheese):\n    # BEGIN SOLUTION\n    {SECRET}\n    # END SOLUTION\n\ncheck(halves)"
)


# -------------------------------------------------------------------------------------- a small kit
def output(text, mime="text/plain"):
    return new_output("execute_result", {mime: text}, execution_count=1)


def small_lab():
    badge = "https://colab.research.google.com/github/OWNER/REPO/blob/main/labs/01_cheese.ipynb"
    notebook = new_notebook(
        cells=[
            new_markdown_cell(
                f"# Lab 01 · Cheese\n[Colab]({badge}) "
                "[get](https://github.com/OWNER/REPO/raw/main/labs/01_cheese.ipynb)"
            ),
            new_code_cell(
                'run(["git", "clone", "--depth=1", "https://github.com/OWNER/REPO", "kit"])',
                execution_count=1,
            ),
            new_code_cell(
                "2 * 21",
                execution_count=2,
                outputs=[output("42")],
                metadata={"tags": ["slow"], "author": "x", "cellView": "form"},
            ),
            new_code_cell(EXERCISE, execution_count=3, outputs=[output("PASSED halves")]),
            new_code_cell("check(halves)", execution_count=4, outputs=[output("PASSED again")]),
            new_markdown_cell("The end."),
        ]
    )
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "secret": "note"}
    )
    return notebook


FILES = {
    "README.md": "for instructors",
    "LICENSE": "MIT",
    ".env": "KEY=1",
    "notes.txt": "grades",
    "pyproject.toml": "[project]\n",
    "requirements.txt": "numpy>=1\n\n# testing them\npytest>=9\n",
    "requirements.lock": "numpy==2.4.6\n",
    "tests/test_cheese.py": SECRET,
    "docs/releasing.md": "how",
    "data/cheeses.csv": "name\nFeta\n",
    "data/.cache/x": "x",
    "labs/notes.md": SECRET,
    "labs/pictures/a.svg": "<svg/>",
    "labs/.ipynb_checkpoints/01_cheese.ipynb": "{}",
    "lab_utils/__init__.py": "",
    "lab_utils/cheese.py": "milk = 1\n",
    "lab_utils/__pycache__/cheese.pyc": "x",
    "lab_utils/drawing/style.py": "INK = 1\n",
    "lab_utils/__main__.py": "COMMANDS = {}\n",
    "lab_utils/checking/__init__.py": "",
    "lab_utils/checking/checks.py": "pass\n",
    "lab_utils/checking/packing.py": "pass\n",
    "lab_utils/course/grading/judge.py": "points = 10\n",
    "lab_utils/course/hidden/lab_01.py": "points = 10\n",
    "lab_utils/checking/exercises/__init__.py": "",
    "lab_utils/checking/exercises/lab_01.py": (
        f"def halves(cheese):\n    {SECRET}\ndef wrong(cheese):\n    {WRONG}\n{DRAWN}\n"
    ),
}
EXPECTED = {
    "README.md",
    "AGENTS.md",
    "CLAUDE.md",
    "GEMINI.md",
    ".github/copilot-instructions.md",
    ".cursor/rules/course.mdc",
    "LICENSE",
    "pyproject.toml",
    "requirements.txt",
    "requirements.lock",
    "data/cheeses.csv",
    "labs/pictures/a.svg",
    "labs/01_cheese.ipynb",
    "lab_utils/__init__.py",
    "lab_utils/cheese.py",
    "lab_utils/drawing/style.py",
    "lab_utils/__main__.py",
    "lab_utils/checking/__init__.py",
    "lab_utils/checking/checks.py",
    "lab_utils/checking/packing.py",
    "lab_utils/checking/exercises/__init__.py",
    "lab_utils/checking/exercises/references.zip",
}


@pytest.fixture
def kit(tmp_path):
    """A kit with one lab, one exercise, and things that students must not get."""
    root = tmp_path / "kit"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    nbformat.write(small_lab(), root / "labs" / "01_cheese.ipynb")
    return root


def change_lab(kit, change):
    """Read the small lab, let `change(notebook)` alter it, write it back."""
    path = kit / "labs" / "01_cheese.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def student_lab(edition, name="01_cheese"):
    return nbformat.reads(edition.files[f"labs/{name}.ipynb"].decode(), as_version=4)


# ---------------------------------------------------------------------------------------- stubs
def test_a_stub_keeps_everything_but_the_gap():
    assert make_stub(EXERCISE) == f"def halves(cheese):\n    {GAP}\n\ncheck(halves)"
    head = "class A:\n    def f(self):\n        '''Doc.'''\n        "
    nested = f"{head}# BEGIN SOLUTION\n        x = 1\n        # END SOLUTION\n        return x"
    assert make_stub(nested) == f"{head}{GAP}\n        return x"
    assert make_stub("x = 1\n\n# a comment") == "x = 1\n\n# a comment"


a_line = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
    max_size=20,
)
code_lines = st.lists(
    a_line.filter(lambda line: not re.search("BEGIN|END|raise NotImpl|secret", line, re.I)),
    max_size=4,
)
indents = st.sampled_from(["    ", "\t", "        "])


@given(st.lists(st.tuples(code_lines, code_lines, indents), min_size=1, max_size=3), code_lines)
def test_solutions_in_the_gaps_give_back_the_master(parts, after):
    lines = []
    for before, solution, indent in parts:
        secret = [f"{indent}secret{line}" for line in solution]
        lines += [*before, f"{indent}# BEGIN SOLUTION", *secret, f"{indent}# END SOLUTION"]
    master = "\n".join(lines + after)
    stub = make_stub(master)
    assert "secret" not in stub and stub.count(GAP) == len(parts)
    assert fill(stub, solutions_of(master)) == master
    assert [line for line in stub.split("\n") if GAP not in line] == [
        line for before, _, _ in parts for line in before
    ] + after


MARKS_IN_DISORDER = {
    "no end": "def f():\n    # BEGIN SOLUTION\n    return 1",
    "no begin": "def f():\n    return 1\n    # END SOLUTION",
    "misspelt begin": "def f():\n    # BEGIN SOLUTOIN\n    return 1\n    # END SOLUTION",
    "misspelt end": "def f():\n    # BEGIN SOLUTION\n    return 1\n    # end solutions",
    "two begins": (
        "def f():\n    # BEGIN SOLUTION\n    # BEGIN SOLUTION\n    return 1\n    # END SOLUTION"
    ),
    "end first": "def f():\n    # END SOLUTION\n    return 1\n    # BEGIN SOLUTION",
    "outside of a function": "# BEGIN SOLUTION\nx = 1\n# END SOLUTION",
    "code behind the mark": (
        "def f():\n    # BEGIN SOLUTION  x = 1\n    return 1\n    # END SOLUTION"
    ),
}


@pytest.mark.parametrize("case", MARKS_IN_DISORDER)
def test_marks_in_disorder_are_refused_with_lab_and_cell(case, kit):
    with pytest.raises(ValueError, match="BEGIN SOLUTION"):
        make_stub(MARKS_IN_DISORDER[case])
    change_lab(kit, lambda notebook: notebook.cells[3].update(source=MARKS_IN_DISORDER[case]))
    with pytest.raises(LabKitError, match=r"labs/01_cheese.ipynb: cell 3: "):
        make_edition(kit)


def test_a_checked_function_needs_a_gap(kit):
    change_lab(
        kit,
        lambda notebook: notebook.cells[3].update(
            source="def halves(cheese):\n    return cheese\n\ncheck(halves)"
        ),
    )
    with pytest.raises(LabKitError, match="checked, but without a region.*halves"):
        make_edition(kit)


@pytest.mark.parametrize(
    "change",
    [
        lambda student: student.cells[5].update(source="The end?"),
        lambda student: student.cells[3].update(
            source=student.cells[3].source.replace(GAP, "pass")
        ),
        lambda student: student.cells[3].update(
            source=student.cells[3].source.replace("cheese", "milk")
        ),
        lambda student: student.cells.pop(2),
        lambda student: student.cells.insert(2, new_markdown_cell("more")),
    ],
)
def test_the_proof_notices_any_other_difference(change):
    student = release.student_notebook(small_lab(), REPO, BRANCH)
    release.prove_notebook(small_lab(), student, REPO, BRANCH)
    change(student)
    with pytest.raises(ValueError):
        release.prove_notebook(small_lab(), student, REPO, BRANCH)


# --------------------------------------------------------------------------- what is in the edition
def test_the_edition_has_these_files_and_no_others(kit):
    assert set(make_edition(kit).files) == EXPECTED


def test_outputs_of_exercises_and_checks_go_and_others_stay(kit):
    cells = student_lab(make_edition(kit)).cells
    assert [cell.outputs for cell in cells[3:5]] == [[], []] and cells[3].execution_count is cells[
        4
    ].execution_count is None
    assert cells[2].outputs[0].data["text/plain"] == "42" and cells[2].execution_count == 2


def test_metadata_is_cut_to_what_is_needed(kit):
    notebook = student_lab(make_edition(kit))
    assert set(notebook.metadata) == {"kernelspec"}
    assert notebook.cells[2].metadata == {"tags": ["slow"], "cellView": "form"}


def test_cells_to_hand_in_come_last_and_always_alike(kit):
    cells = student_lab(make_edition(kit)).cells
    assert [cell.id for cell in cells[-3:]] == ["hand-in-0", "hand-in-1", "hand-in-2"]
    assert "progress()" in cells[-2].source and cells[-1].source == "submit()"
    change_lab(
        kit,
        lambda notebook: (
            notebook.update(nbformat_minor=4),
            [cell.pop("id") for cell in notebook.cells],
        ),
    )
    assert not any("id" in cell for cell in student_lab(make_edition(kit)).cells)


def test_packages_that_only_the_tests_need_are_left_out(kit):
    assert make_edition(kit).files["requirements.txt"] == b"numpy>=1\n"


def test_badges_and_clone_line_lead_to_the_repository(kit):
    edition = make_edition(kit, REPO, BRANCH)
    cells = student_lab(edition).cells
    badge = f"https://colab.research.google.com/github/{REPO}/blob/{BRANCH}/labs/01_cheese.ipynb"
    assert (
        badge in cells[0].source
        and f"https://github.com/{REPO}/raw/{BRANCH}/labs/01_cheese.ipynb" in cells[0].source
    )
    assert cells[1].source == (
        f'run(["git", "clone", "--depth=1", "--branch={BRANCH}", "https://github.com/{REPO}", '
        '"kit"])'
    )
    text = edition.files["README.md"].decode()
    assert (
        badge in text
        and f"git clone --branch {BRANCH} https://github.com/{REPO}" in text
        and "Lab 01 · Cheese" in text
    )
    assert not any(b"OWNER/REPO" in data for data in edition.files.values())


def test_without_a_repository_nothing_is_stamped(kit):
    edition = make_edition(kit)
    assert student_lab(edition).cells[0].source == small_lab().cells[0].source
    assert "colab" not in edition.files["README.md"].decode()


def test_the_references_travel_in_a_zip_that_does_not_show_them(kit, tmp_path, monkeypatch):
    """They work as modules do; neither the zip, nor what is in it, nor `inspect` shows them."""
    data = make_edition(kit).files["lab_utils/checking/exercises/references.zip"]
    (tmp_path / "references.zip").write_bytes(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["lab_01.py"]
        text = archive.read("lab_01.py")
    assert SECRET.encode() not in data and SECRET.encode() not in text
    namespace = {"rng": np.random.default_rng(0)}
    source = FILES["lab_utils/checking/exercises/lab_01.py"].replace(DRAWN, "")
    exec(release.packed(source).decode(), namespace)
    assert inspect.isfunction(namespace["halves"])
    with pytest.raises(OSError):
        inspect.getsource(namespace["halves"])


def test_assistants_are_told_to_hint_by_every_name_they_read(kit):
    files = make_edition(kit).files
    for name in ("AGENTS.md", ".github/copilot-instructions.md", ".cursor/rules/course.mdc"):
        assert "Do not write the body of an exercise's function" in files[name].decode()
    for name in ("CLAUDE.md", "GEMINI.md"):
        assert files[name] == b"@AGENTS.md\n"
    readme = " ".join(files["README.md"].decode().split())
    assert "An assistant may explain and hint" in readme


@pytest.mark.parametrize(
    "elsewhere, is_found",
    [
        ("y = [int(part / 2) + len(rest) for part in milk]", True),
        ("y = f([int(part /\n 2) + len(rest) for part in milk])", True),
        ("y = [int(part / 3) + len(rest) for part in milk]", False),
        ("y = [int(part / 2) + max(rest) for part in milk]", False),
        ("y = [int(part * 2) + len(rest) for part in milk]", False),
        ("y = [int(part / 2) + len(part) for part in milk]", False),
    ],
)
def test_a_solution_elsewhere_is_found_under_other_names(elsewhere, is_found):
    solved = "def f(xs, n):\n    return [int(x / 2) + len(n) for x in xs]"
    functions = {"f": ast.parse(solved).body[0]}
    notebook = {"cells": [{"cell_type": "code", "source": ["%magic"]}] * 2}
    notebook["cells"].append({"cell_type": "code", "source": elsewhere.splitlines(True)})
    files = {"lab_utils/a.py": elsewhere.encode(), "b.ipynb": json.dumps(notebook).encode()}
    found = taught.find_answers({**files, "c.txt": elsewhere.encode()}, functions)
    expected = {"[int(x / 2) + len(n) for x in xs]": {"lab_utils/a.py", "b.ipynb cell 2"}}
    assert found == ({"f": expected} if is_found else {})


# ------------------------------------------------------------------------------------- predictions
def cells_of(*texts):
    """A text that begins with a capital or a mark is Markdown, any other code."""
    return [
        new_markdown_cell(text) if text[0] in "*#ABC" else new_code_cell(text) for text in texts
    ]


@pytest.mark.parametrize(
    "texts, hidden",
    [
        (["x", "**Predict:** more?", "x", "And now:", "x", "## 2 · Next", "x"], {2, 4}),
        (["## 1\n\n**Predict** the order.", "x", "## 2"], {1}),
        (["Before you run, **predict** why.", "x"], {1}),
        (["**Predict:** a?\n\n### Exercise 1", "x", "### Exercise 2", "x", "### B", "x"], {1, 3}),
        (["# A", 'guess("n", None)', "x", "## B", 'reveal("n", 2)', "x"], {1, 2, 4}),
        (["# A", 'guess(\n    "n",\n    None,\n)', "x", 'reveal(\n "n", 2)', "x"], {1, 2, 3}),
        (["## Predict, measure", "x"], set()),
    ],
)
def test_outputs_that_answer_a_prediction_are_found(texts, hidden):
    assert release.below_predictions(cells_of(*texts)) == hidden


def test_outputs_below_a_prediction_go(kit):
    change_lab(kit, lambda notebook: notebook.cells[0].update(source="**Predict:** how many?"))
    cells = student_lab(make_edition(kit)).cells
    assert cells[2].outputs == [] and cells[2].execution_count is None


# ---------------------------------------------------------------------------------------- leaks
def in_output(text, mime="text/plain"):
    return lambda notebook: notebook.cells[2].update(outputs=[output(text, mime)])


def in_attachment(notebook):
    picture = {"image/svg+xml": encoded(f"<svg>{SECRET}</svg>")}
    notebook.cells[5].update(source="![](attachment:a.svg)", attachments={"a.svg": picture})


def encoded(text):
    return base64.encodebytes(
        f"{'.' * 50}{text}".encode()
    ).decode()  # with line breaks, as a notebook has them


LEAKS = {
    "text": in_output(f"the answer is\n {SECRET.replace(' ', '  ')}"),
    "wrapped": in_output(SECRET.replace("for", "for\n    ")),
    "HTML": in_output(f"<p>{SECRET.replace('/ 2', '<b>/</b> 2')}</p>", "text/html"),
    "entities": in_output(SECRET.replace("/", "&#47;"), "text/html"),
    "colours": lambda notebook: notebook.cells[2].update(
        outputs=[
            new_output(
                "error", ename="E", evalue="", traceback=[SECRET.replace("/", "\x1b[31m/\x1b[0m")]
            )
        ]
    ),
    "picture": in_output(
        f'<img src="data:image/svg+xml;base64,{base64.b64encode(SECRET.encode()).decode()}">',
        "text/html",
    ),
    "image": in_output(encoded(SECRET), "image/png"),
    "attachment": in_attachment,
    "widget state": lambda notebook: notebook.metadata.update(
        widgets={"x": {"state": {"value": SECRET}}}
    ),
    "a wrong answer": in_output(WRONG),
    "hidden input": in_output(DRAWN),
    "stream": lambda notebook: notebook.cells[2].update(
        outputs=[new_output("stream", text=SECRET)]
    ),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_solution_anywhere_in_the_notebook_stops_the_release(case, kit):
    change_lab(kit, LEAKS[case])
    with pytest.raises(
        LabKitError, match=r"give solutions away.*\n  labs/01_cheese.ipynb/(cells|metadata)/"
    ):
        make_edition(kit)


@pytest.mark.parametrize(
    "file",
    [
        "data/cheeses.csv",
        "data/facts.json",
        "labs/pictures/a.svg",
        "LICENSE",
        "data/model.bin",
        "lab_utils/checking/exercises/__init__.py",
    ],
)
def test_a_solution_in_another_file_stops_the_release(file, kit):
    text = (
        json.dumps({"a": [SECRET]})
        if file.endswith("json")
        else f"\0\0{SECRET}\0"
        if file.endswith("bin")
        else f"# {SECRET}"
    )
    (kit / file).write_text(text)
    with pytest.raises(LabKitError, match=rf"1 places.*\n  {file}"):
        make_edition(kit)


def test_what_the_kit_teaches_is_listed_not_refused(kit):
    (kit / "lab_utils" / "cheese.py").write_text(f"def halves(cheese):\n    {SECRET}\n")
    change_lab(
        kit, lambda notebook: notebook.cells[2].update(source=f"def f(cheese):\n    {SECRET}")
    )
    edition = make_edition(kit)
    assert edition.taught == {
        SECRET: {"lab_utils/cheese.py", "labs/01_cheese.ipynb/cells/2/source"}
    }
    assert re.search(
        r"halves +1 of 1 lines +lab_utils/cheese.py, labs/01_cheese.ipynb cell 2",
        release.report(edition),
    )


@pytest.mark.parametrize(
    "line, tells",
    [
        ("scale = 127 / x.abs().max()", True),
        ("return codes / scale", True),
        ("labels[:n_prompt] = -100", True),
        ("return labels", False),
        ("import math", False),
        ("# scale = 127 / x.abs().max()", False),
        ("else:", False),
        ("def f(a, b, c, d):", False),
        ("x = 1", False),
    ],
)
def test_lines_that_say_too_little_are_not_searched_for(line, tells):
    assert release.telling(line) is tells


# ---------------------------------------------------------------------------------------- writing
def test_folder_and_zip_are_the_same_and_the_zip_can_be_made_again(kit, tmp_path):
    folder, archive = write_edition(make_edition(kit), tmp_path / "a")
    shutil.copytree(kit, tmp_path / "copy")  # other times, another place
    _, again = write_edition(make_edition(tmp_path / "copy"), tmp_path / "b")
    assert archive.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(archive) as packed:
        unzipped = {name: packed.read(name) for name in packed.namelist()}
    files = [path for path in folder.rglob("*") if path.is_file()]
    on_disk = {
        f"student-edition/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in files
    }
    assert unzipped == on_disk and {name.split("/", 1)[1] for name in on_disk} == EXPECTED
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "student-edition",
        "student-edition.zip",
    }


def test_an_older_edition_is_replaced_only_if_asked_and_keeps_its_git(kit, tmp_path):
    folder, archive = write_edition(make_edition(kit), tmp_path)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("mine")
    (folder / "old.txt").write_text("old")
    with pytest.raises(LabKitError, match="there already.*--replace"):
        write_edition(make_edition(kit), tmp_path)
    assert (folder / "old.txt").exists()
    (kit / "lab_utils" / "cheese.py").write_text("milk = 2\n")
    write_edition(make_edition(kit), tmp_path, replace=True)
    assert (folder / ".git" / "config").read_text() == "mine" and not (folder / "old.txt").exists()
    assert (folder / "lab_utils" / "cheese.py").read_text() == "milk = 2\n"
    assert {path.name for path in tmp_path.iterdir()} == {
        "kit",
        "student-edition",
        "student-edition.zip",
    }


def test_a_place_that_cannot_be_written_is_named(kit, tmp_path, monkeypatch):
    edition = make_edition(kit)
    (tmp_path / "file").write_text("")
    with pytest.raises(LabKitError, match="file.* could not be written"):
        write_edition(edition, tmp_path / "file" / "out")

    def full(*_):
        raise OSError(28, "No space left on device", "disk")

    monkeypatch.setattr(release, "_write_files", full)
    with pytest.raises(LabKitError, match="No space left"):
        write_edition(edition, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [], "nothing half written stays"


def test_a_kit_without_labs_is_named(tmp_path):
    with pytest.raises(LabKitError, match="no notebooks"):
        make_edition(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "peft-labs",
        "https://github.com/ada/labs",
        "ada/labs.git",
        "ada/labs/tree",
        "ada//labs",
        "-ada/labs",
        "ada-/labs",
        "a--b/labs",
        "ada/..",
        "ada/.",
        "ada/la bs",
        "ada/labs\n",
        "ädä/labs",
        "OWNER/REPO",
        "ada/",
        "a" * 40 + "/labs",
        'ada/labs"',
    ],
)
def test_bad_repositories_are_refused(name):
    with pytest.raises(LabKitError, match="--repo"):
        release.repository_name(name)


@pytest.mark.parametrize("name", ["ada/labs", "a/b", REPO, "A1/x.y-z", "a" * 39 + "/labs"])
def test_good_repositories_are_taken(name):
    assert release.repository_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "-x", "a..b", "a b", "x.lock", "x.", 'a"b', "main\n"])
def test_bad_branches_are_refused(name):
    with pytest.raises(LabKitError, match="--branch"):
        release.branch_name(name)


def test_the_command_says_what_it_made(kit, tmp_path, monkeypatch, capsys):
    from lab_utils.__main__ import parse

    monkeypatch.setattr(release, "ROOT", kit)
    assert release.main(parse(["release", "--out", str(tmp_path / "out")])) == 0
    said = capsys.readouterr().out
    assert (
        "1 labs, 1 exercises, 22 files" in said
        and "Searched for 1 lines of solutions" in said
        and "badges still say" in said
    )
    assert (
        release.main(
            parse(["release", "--out", str(tmp_path / "out"), "--repo", "ada/labs", "--replace"])
        )
        == 0
    )
    assert "badges still say" not in capsys.readouterr().out
    assert "ada/labs" in (tmp_path / "out" / "student-edition" / "README.md").read_text()


# ------------------------------------------------------------------------------------ the real labs
@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """(edition, its folder) of this kit."""
    edition = make_edition(ROOT, REPO, BRANCH)
    return edition, write_edition(edition, tmp_path_factory.mktemp("out"))[0]


@pytest.fixture(scope="module")
def masters():
    return {path.stem: nbformat.read(path, as_version=4) for path in find_labs()}


def test_every_exercise_is_in_the_edition_and_is_searched_for(real):
    edition, _ = real
    for lab, lines in edition.solutions.items():
        assert set(lines) == {exercise.name for exercise in all_exercises(lab)}
    assert all(lines for lab in edition.solutions.values() for lines in lab.values())


def test_no_solution_line_is_in_the_zip(real, masters):
    """Another search than the command's own: every line of every region, as it stands, in every
    unpacked file.
    """
    _, folder = real
    secret = {
        line.strip()
        for master in masters.values()
        for cell in master.cells
        for region in solutions_of(cell.source)
        for line in region.splitlines()[1:-1]
        if len(line.strip()) >= 20
    }
    assert len(secret) > 15
    with zipfile.ZipFile(folder.parent / "student-edition.zip") as archive:
        texts = {
            name.split("/", 1)[1]: archive.read(name).decode("utf-8", errors="ignore")
            for name in archive.namelist()
        }
    taught = {name for name in texts if re.match(r"lab_utils/(?!checking/exercises)", name)}
    found = {
        (name, line)
        for name in texts.keys() - taught
        for line in secret
        if line in texts[name] or json.dumps(line)[1:-1] in texts[name]
    }
    allowed = {
        (f"{place.split('.ipynb')[0]}.ipynb", line)
        for line, where in real[0].taught.items()
        for place in where
    }
    assert found <= allowed, found - allowed
    assert not any("SOLUTION" in texts[f"labs/{name}.ipynb"] for name in masters)


def test_nothing_for_instructors_is_in_the_edition(real):
    edition, _ = real
    grading = {name for name in edition.files if name.startswith("lab_utils/checking/")}
    assert grading == {
        f"lab_utils/checking/{name}"
        for name in (
            "__init__.py",
            "cells.py",
            "checks.py",
            "packing.py",
            "board.py",
            "guess_form.py",
            "guesses.py",
            "kit_calls.py",
            "exercises/__init__.py",
            "exercises/references.zip",
        )
    }
    assert not any(
        name.startswith(("tests/", "lab_utils/course/", "docs/", ".git/", "runs/", ".github/"))
        for name in edition.files.keys() - release.FOR_ASSISTANTS.keys()
    )


def test_no_prediction_of_the_edition_has_a_stored_answer_below_it(real, masters):
    """From each prompt up to the next heading that is no exercise's; what a master stores there
    shows that something was there to hide.
    """
    prompts, hidden = 0, 0
    for name, master in masters.items():
        asked = False
        for ours, theirs in zip(master.cells, student_lab(real[0], name).cells):
            if theirs.cell_type == "markdown":
                here = len(re.findall(r"\*\*predict\b", theirs.source, re.IGNORECASE))
                prompts += here
                asked = here > 0 or asked and not re.search(r"(?m)^#+ (?!Exercise)", theirs.source)
            elif asked:
                assert theirs.outputs == [], (name, theirs.source)
                hidden += bool(ours.outputs)
    assert prompts >= 80 and hidden >= 150


def test_every_guess_is_revealed_once_and_until_then_nothing_is_shown(real, masters):
    for name in masters:
        open_guesses, cells = set(), student_lab(real[0], name).cells
        for cell in (cell for cell in cells if cell.cell_type == "code"):
            calls = [
                (node.func.id, node.args[0].value, node.args[1])
                for node in ast.walk(ast.parse(cell.source))
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in TELLING
            ]
            for _, what, value in (call for call in calls if call[0] == "guess"):
                assert ast.unparse(value) == "None" and what not in open_guesses, what
                open_guesses.add(what)
            assert not (open_guesses and cell.outputs), (name, cell.source)
            for _, what, _ in (call for call in calls if call[0] == "reveal"):
                open_guesses.remove(what)
        assert not open_guesses, (name, open_guesses)


TELLING = {"guess", "reveal"}
AS_A_STUDENT = """
    import ast, json, re, sys
    sys.path[:0] = [".."]
    from lab_utils.checking import all_exercises, check, checks
    assert not any(module.startswith("lab_utils.course.release") for module in sys.modules)

    def imports(cells):  # {name: the import of it alone} of all cells
        nodes = [node for source in cells for node in ast.parse(source).body]
        nodes = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
        lines = {}
        for node, alias in [(node, alias) for node in nodes for alias in node.names]:
            node.names = [alias]
            lines[(alias.asname or alias.name).split(".")[0]] = ast.unparse(node)
        return lines

    found = {}
    for file, solutions in json.load(sys.stdin).items():
        cells = [cell for cell in json.load(open(file))["cells"] if cell["cell_type"] == "code"]
        cells = ["".join(cell["source"]) for cell in cells]
        for source in (source for source in cells if GAP in source):
            solved, space = source.replace("    " + GAP, solutions.pop(0)), {}
            for name, line in imports(cells).items():
                exec(line if re.search(rf"\\b{name}\\b", solved) else "", space)
            space["check"] = lambda function: None
            names = [exercise.name for exercise in all_exercises(file[:-6])]
            name = next(name for name in names if f"def {name}(" in source)
            exec(source, space)
            before = str(check(space[name]))
            exec(solved, space)
            found[name] = [before, str(check(space[name]))]
    print(json.dumps(found))
"""


def test_untouched_every_check_is_kind_and_with_the_solutions_it_passes(real, masters):
    """In the edition's own lab_utils, whose references are in the zip."""
    _, folder = real
    solutions = {
        f"{name}.ipynb": [region for cell in master.cells for region in solutions_of(cell.source)]
        for name, master in masters.items()
    }
    script = textwrap.dedent(AS_A_STUDENT).replace("GAP", repr(GAP))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder / "labs",
        input=json.dumps(solutions),
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {exercise.name for name in masters for exercise in all_exercises(name)}
    for name, (before, after) in found.items():
        assert (
            before.startswith(f"NOT YET  {name}: not started")
            and "replace `raise NotImplementedError`" in before
        )
        assert after.startswith(f"PASSED  {name}"), after


def clean_environment():
    """Without the PYTHONPATH that leads to this kit."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_editions_commands_start(real):
    _, folder = real
    done = subprocess.run(
        [sys.executable, "-m", "lab_utils", "--help"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    assert (
        done.returncode == 0
        and "lab " in done.stdout
        and "release" not in done.stdout
        and " test " not in done.stdout
    )
    code = (
        "import importlib\nfrom lab_utils.__main__ import commands_here\n"
        "for module, _ in commands_here().values(): importlib.import_module(module)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr


def test_a_student_runs_a_lab_types_the_solutions_in_and_hands_it_in(
    real, masters, monkeypatch, tmp_path
):
    """One lab in a fresh kernel: all cells untouched, then the exercises with solutions, then save
    and submit().
    """
    from nbclient import NotebookClient

    folder = shutil.copytree(real[1], tmp_path / "edition")  # other tests look at what was made
    name = "01_quantization_buckets"
    path = folder / "labs" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    monkeypatch.setenv("PYTHONPATH", "")
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)  # raises if a cell does
        exercises = [index for index, cell in enumerate(notebook.cells) if GAP in cell.source]
        assert (
            all("not started" in html_of(notebook.cells[index]) for index in exercises)
            and len(exercises) == 6
        )
        assert "0 of 6 exercises passed" in html_of(notebook.cells[-2])
        assert "with 0 of 6 exercises written" in html_of(notebook.cells[-1])
        for index in exercises:
            notebook.cells[index].source = fill(
                notebook.cells[index].source, solutions_of(masters[name].cells[index].source)
            )
            client.execute_cell(notebook.cells[index], index)
        assert all("Passed" in html_of(notebook.cells[index]) for index in exercises)
        assert "6 of 6 exercises passed. All done." in html_of(notebook.cells[-2]), (
            "the board has followed the checks"
        )
        client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
        assert "Not saved as you ran them" in html_of(notebook.cells[-1])
        nbformat.write(notebook, path)
        client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
    assert "with 6 of 6 exercises written" in html_of(
        notebook.cells[-1]
    ) and "Not saved" not in html_of(notebook.cells[-1])
    with zipfile.ZipFile(path.with_name(f"{name}-submission.zip")) as archive:
        assert archive.namelist() == [path.name]
        handed_in = nbformat.read(io.BytesIO(archive.read(path.name)), as_version=4)
    assert [cell.source for cell in handed_in.cells] == [cell.source for cell in notebook.cells]


def html_of(cell):
    return "\n".join(str(output.get("data", {}).get("text/html", "")) for output in cell.outputs)


# ----------------------------------------------------------------------------- what the README says
def test_optional_parts_are_counted_apart():
    words = " ".join(["word"] * 1998)
    code = new_code_cell("x = 1\n" * 100)
    solved = new_code_cell("def f():\n    # BEGIN SOLUTION\n    1\n    # END SOLUTION")
    core = [new_markdown_cell(f"## 1\n{words}"), code, solved]
    optional = [
        new_markdown_cell(f"### Aside (optional)\n{words}"),
        new_markdown_cell(f"#### Inside it\n{words}"),
        code,
    ]

    def minutes(*cells):
        return release.reading_minutes(new_notebook(cells=list(cells)))

    assert minutes(*core) == (20, 0)  # 10 + 5 + 4
    assert minutes(*optional) == (0, 25)
    assert minutes(*optional, new_markdown_cell("### Next"), *core) == (20, 25)


@pytest.mark.parametrize("path", find_labs(), ids=lambda path: path.stem)
def test_the_core_of_each_lab_is_an_hour_at_most(path):
    core, optional = release.reading_minutes(nbformat.read(path, as_version=4))
    assert 30 <= core <= 60 and optional <= 20


def test_the_readme_says_what_each_lab_is_for():
    path = next(path for path in find_labs() if path.stem.startswith("03"))
    said = release.about_lab(path.stem, nbformat.read(path, as_version=4), REPO, BRANCH)
    assert said.startswith("### [Lab 03 ") and f"blob/{BRANCH}/labs/{path.stem}" in said
    assert "\nAbout 55 minutes, and 10 for what is optional; 1 of computing" in said
    assert said.count("\n- ") == 5 and "\n- place the checkpoints" in said
