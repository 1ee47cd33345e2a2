"""Every lab has the same bones: looked at as stored, without running anything (nbval runs them)."""

import html
import re

import nbformat
import pytest

from lab_utils.checking import all_exercises
from lab_utils.course.frames import demo_called
from lab_utils.course.run import find_labs
from lab_utils.course.test import REAL_MODEL_LAB
from lab_utils.drawing.live import VIEW
from lab_utils.files import ROOT

LABS = find_labs()
SETUP_LINE = re.compile(r'info = start_lab\("(\w+)", seed=0\)')


@pytest.fixture(params=LABS, ids=lambda path: path.stem)
def lab(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def setup_cell(notebook) -> str:
    return next(cell.source for cell in code_cells(notebook) if SETUP_LINE.search(cell.source))


def test_there_are_labs():
    assert LABS


def test_is_a_valid_notebook_for_the_usual_kernel(lab):
    _, notebook = lab
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_every_cell_has_a_stored_run_without_errors(lab):
    _, notebook = lab
    for cell in code_cells(notebook):
        assert cell.execution_count is not None, cell.source
        assert all(output.output_type != "error" for output in cell.outputs), cell.source


def test_cells_are_short(lab):
    _, notebook = lab
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 25, cell.source


def test_widgets_are_stored_with_their_state_or_not_at_all(lab):
    _, notebook = lab
    stored = notebook.metadata.get("widgets", {})
    assert all("state" in entry for entry in stored.values())


def widgets_of(notebook) -> list[tuple]:
    """(the cell's source, the output's data) of every widget that is stored."""
    return [
        (cell.source, output.data)
        for cell in code_cells(notebook)
        for output in cell.outputs
        if VIEW in output.get("data", {})
    ]


def test_a_demo_is_words_where_no_kernel_runs(lab):
    """GitHub and nbviewer show a widget's text: a sentence, not the inside of a box."""
    said = [data["text/plain"] for _, data in widgets_of(lab[1])]
    assert not [text[:60] for text in said if "(children=" in text]


def test_a_demo_of_the_stage_has_its_still_picture(lab):
    shown = [data for source, data in widgets_of(lab[1]) if demo_called(source)]
    assert not [data["text/plain"] for data in shown if "text/html" not in data]


def test_no_two_cells_show_the_same_picture(lab):
    _, notebook = lab
    pictures = [
        alt
        for cell in code_cells(notebook)
        for output in cell.outputs
        for alt in re.findall(r'<img alt="([^"]+)"', output.get("data", {}).get("text/html", ""))
    ]
    assert len(set(pictures)) == len(pictures)


def test_every_picture_has_alt_text(lab):
    _, notebook = lab
    for output in (
        output for cell in code_cells(notebook) for output in cell.outputs if "data" in output
    ):
        assert "image/png" not in output.data, (
            "draw with drawing.style.described, which writes alt text"
        )
        for tag in re.findall(r"<(?:img|svg)\b[^>]*>", str(output.data.get("text/html", ""))):
            assert re.search(r'(?:alt|aria-label)="[^"]{10,}"', tag), tag[:200]


def test_setup_is_the_same_in_every_lab_but_for_the_name(lab):
    path, notebook = lab
    source = setup_cell(notebook)
    assert SETUP_LINE.search(source).group(1) == path.stem
    first = nbformat.read(LABS[0], as_version=4)
    assert source.replace(path.stem, "NAME") == setup_cell(first).replace(LABS[0].stem, "NAME")


def test_the_setup_is_folded_in_jupyterlab_and_in_colab(lab):
    """So that the first screen shows the title and the picture; Colab shows the @title."""
    _, notebook = lab
    folded = [cell for cell in code_cells(notebook) if cell.metadata.get("cellView") == "form"]
    assert [cell.source for cell in folded] == [setup_cell(notebook)]
    assert folded[0].metadata.jupyter.source_hidden is True
    assert folded[0].source.startswith("# @title Set-up")
    assert notebook.cells.index(folded[0]) == 1


def test_the_badge_opens_this_lab(lab):
    path, notebook = lab
    links = re.findall(r"\]\((https://[^)]+\.ipynb)\)", notebook.cells[0].source)
    assert links and all(link.endswith(f"/labs/{path.name}") for link in links)


def test_every_exercise_of_the_lab_is_checked_in_it(lab):
    path, notebook = lab
    text = "\n".join(cell.source for cell in code_cells(notebook))
    for exercise in all_exercises(path.stem):
        assert f"def {exercise.name}(" in text and f"check({exercise.name})" in text
    assert (
        text.count("# BEGIN SOLUTION")
        == text.count("# END SOLUTION")
        == len(all_exercises(path.stem))
        >= 4
    )


def test_a_cell_that_waits_for_an_exercise_says_so(lab):
    """`if check(f).passed:` leaves an untouched lab's cell silent; `ready` names the exercise."""
    _, notebook = lab
    assert not [cell.source for cell in code_cells(notebook) if ".passed" in cell.source]


def test_no_path_of_one_machine_is_stored(lab):
    path, _ = lab
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and not re.search(r"/(?:home|Users)/\w+/", text)


def test_links_of_the_readme_lead_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert all((ROOT / link).exists() for link in links), links
    assert {f"labs/{path.name}" for path in LABS} <= set(links), "a lab is not in it"


def test_every_lab_is_run_in_a_browser():
    """But lab 09, whose model is fetched: `run 09` runs it."""
    files = (ROOT / "tests" / "browser").glob("test_run_labs_*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    left_out = [path for path in LABS if f'"{path.stem}"' not in text]
    assert left_out == list(ROOT.glob(f"{REAL_MODEL_LAB}.ipynb"))


def test_the_picture_of_the_readme_shows_what_lab_06_stored():
    drawn = (ROOT / "labs" / "pictures" / "pavlos_before_after.svg").read_text(encoding="utf-8")
    said = html.unescape(re.search(r'aria-label="([^"]+)"', drawn).group(1))
    lab_06 = nbformat.read(next(path for path in LABS if path.stem.startswith("06")), as_version=4)
    outputs = [output for cell in code_cells(lab_06) for output in cell.outputs if "data" in output]
    assert any(output.data.get("text/plain", "").startswith(said) for output in outputs)
