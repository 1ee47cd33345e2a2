"""`submit()`: it finds the notebook, packs it as it is saved, and says what may be missing."""

import ast
import json
import os
import sys
import types
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lab_utils.checking import packing, submit
from lab_utils.checking.cells import is_stub
from lab_utils.checking.packing import Submission, definitions, find_notebook
from lab_utils.start.hardware import Hardware
from lab_utils.start.lab import LabInfo

LAB = "02_double_quantization"
NAMES = [
    "blockwise_absmax",
    "quantize_constants",
    "bytes_of_scheme",
    "bits_per_param_double_quant",
    "model_gigabytes",
]


def model_gigabytes(n_params, bits):
    return n_params * bits / 8 / 1e9


WRITTEN = (
    "def model_gigabytes(n_params, bits):\n    return n_params * bits / 8 / 1e9\n\n"
    "check(model_gigabytes)"
)
STUB = "def {}(x):\n    raise NotImplementedError  # your solution goes here"


def notebook_text(*sources):
    cells = [new_markdown_cell("# Lab"), *map(new_code_cell, sources)]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return nbformat.writes(new_notebook(cells=cells))


def whole(last=WRITTEN):
    """A notebook with four stubs and one written exercise."""
    return notebook_text(
        "import math\n%matplotlib inline\n!ls", *(STUB.format(name) for name in NAMES[:4]), last
    )


@pytest.fixture
def in_lab(tmp_path, monkeypatch):
    """A notebook session of lab 02 in an empty folder; the value is its namespace, to be filled."""
    info = LabInfo(LAB, Hardware("cpu", "cpu", 1, 8 * 10**9, "float32", "", "cpu"), 1, 0, tmp_path)
    namespace = {"info": info}
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(packing, "session", lambda: namespace)
    return namespace


def packed(folder, name=f"{LAB}-submission.zip"):
    with zipfile.ZipFile(folder / name) as archive:
        return {entry: archive.read(entry).decode() for entry in archive.namelist()}


# ---------------------------------------------------------------------------------------- the zip
def test_the_saved_notebook_is_packed_byte_for_byte(in_lab, tmp_path):
    (tmp_path / f"{LAB}.ipynb").write_text(whole(), encoding="utf-8")
    done = submit()
    assert done.archive == tmp_path / f"{LAB}-submission.zip" and packed(tmp_path) == {
        f"{LAB}.ipynb": whole()
    }
    assert (done.n_written, done.n_exercises) == (1, 5)
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


def test_it_says_where_the_zip_is_and_what_is_not_written(in_lab, tmp_path):
    (tmp_path / f"{LAB}.ipynb").write_text(whole())
    text, card = str(submit()), submit()._repr_html_()
    assert (
        f"Hand in this file: {tmp_path / LAB}-submission.zip (1 kB)" in text
        and "with 1 of 5 exercises written" in text
    )
    assert (
        f"Not written yet: {', '.join(NAMES[:4])}." in text and f"{LAB}.ipynb (as saved at" in text
    )
    assert "Not in the notebook" not in text and "Not saved" not in text
    assert "! Hand in this file" in card and 'role="status"' in card


def test_a_complete_notebook_gets_no_warning(in_lab, tmp_path):
    cells = [STUB.format(name).replace("raise NotImplementedError", "return 1") for name in NAMES]
    (tmp_path / f"{LAB}.ipynb").write_text(notebook_text(*cells))
    done = submit()
    assert (done.n_written, done.warnings) == (
        5,
        (),
    ) and "✓ Hand in this file" in done._repr_html_()


def test_an_exercise_that_was_deleted_is_named(in_lab, tmp_path):
    (tmp_path / f"{LAB}.ipynb").write_text(notebook_text(WRITTEN))
    assert f"Not in the notebook: {', '.join(NAMES[:4])}." in str(submit())


def test_a_second_submission_replaces_the_first(in_lab, tmp_path):
    (tmp_path / f"{LAB}.ipynb").write_text(whole())
    submit()
    (tmp_path / f"{LAB}.ipynb").write_text(whole("x = 1"))
    submit()
    assert packed(tmp_path) == {f"{LAB}.ipynb": whole("x = 1")}


# ------------------------------------------------------------------------------------- saved or not
@pytest.mark.parametrize(
    "saved, warned",
    [
        (WRITTEN, False),
        (WRITTEN + "\n\n# a comment", False),
        (WRITTEN.replace("n_params * bits", "n_params  *  bits"), False),
        (WRITTEN.replace("/ 8", "/ 4"), True),
        (STUB.format("model_gigabytes"), True),
        ("x = 1", True),
    ],
)
def test_a_function_that_is_not_saved_as_it_was_run_is_noticed(saved, warned, in_lab, tmp_path):
    in_lab["model_gigabytes"] = model_gigabytes
    (tmp_path / f"{LAB}.ipynb").write_text(whole(saved))
    text = str(submit())
    assert ("Not saved as you ran them: model_gigabytes. Save the notebook" in text) is warned
    assert "Not in the notebook" not in text


def test_what_has_no_source_is_no_reason_to_warn(in_lab, tmp_path):
    space = {}
    exec("def model_gigabytes(n_params, bits): return 1", space)  # from no file
    in_lab.update(model_gigabytes=space["model_gigabytes"], bytes_of_scheme=len, blockwise_absmax=3)
    (tmp_path / f"{LAB}.ipynb").write_text(whole())
    assert "Not saved" not in str(submit())


# --------------------------------------------------------------------------------------- finding it
def test_the_notebook_is_found_as_each_editor_says(tmp_path):
    mine, other = tmp_path / "My Lab (1).ipynb", tmp_path / f"{LAB}.ipynb"
    for path in (mine, other):
        path.write_text("{}")
    by_jupyter, by_code = {"JPY_SESSION_NAME": str(mine)}, {"__vsc_ipynb_file__": str(mine)}
    assert find_notebook(None, LAB, {}, by_jupyter, tmp_path) == mine
    assert find_notebook(None, LAB, by_code, {}, tmp_path) == mine
    assert find_notebook(None, LAB, {}, {"JPY_SESSION_NAME": mine.name}, tmp_path) == mine
    assert find_notebook(None, LAB, {}, {}, tmp_path) == other
    assert find_notebook(str(mine), LAB, {}, {}, tmp_path) == mine
    mine.unlink()  # renamed since the kernel started
    assert find_notebook(None, LAB, by_code, by_jupyter, tmp_path) == other


@pytest.mark.parametrize(
    "environ", [{}, {"JPY_SESSION_NAME": "/gone/lab.ipynb"}, {"JPY_SESSION_NAME": "4f1b-console"}]
)
def test_if_it_is_not_found_the_path_is_asked_for(environ, tmp_path):
    (tmp_path / "4f1b-console").write_text("no notebook")
    with pytest.raises(FileNotFoundError, match=r'submit\("path/to/the_notebook.ipynb"\)'):
        find_notebook(None, LAB, {}, environ, tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file lab.ipynb in"):
        find_notebook("lab.ipynb", LAB, {}, environ, tmp_path)


def test_without_the_setup_cell_the_files_own_name_is_taken(in_lab, tmp_path):
    in_lab.clear()
    (tmp_path / "mine.ipynb").write_text(whole())
    done = submit("mine.ipynb")
    assert packed(tmp_path, "mine-submission.zip") == {"mine.ipynb": whole()} and (
        done.n_written,
        done.n_exercises,
    ) == (1, 5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"cells": [{"cell_type": "code"}]}',
        whole().encode()[:-40],
        b"[1]",
        "grüß".encode("latin-1"),
        b'{"cells": 3}',
    ],
)
def test_what_is_no_notebook_is_refused(content, in_lab, tmp_path):
    (tmp_path / f"{LAB}.ipynb").write_bytes(content)
    with pytest.raises(
        ValueError, match=f"{LAB}.ipynb.* is no notebook.*Open it in Jupyter, save it"
    ):
        submit()
    assert not (tmp_path / f"{LAB}-submission.zip").exists()


def test_a_folder_that_cannot_be_written_is_named(in_lab, tmp_path, monkeypatch):
    (tmp_path / f"{LAB}.ipynb").write_text(whole())

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(packing.os, "replace", refuse)
    with pytest.raises(
        PermissionError,
        match=r"cannot be written \(Permission denied\). Move to a folder of your own",
    ):
        submit()
    assert {path.name for path in tmp_path.iterdir()} == {f"{LAB}.ipynb"}


# ---------------------------------------------------------------------------------------- Colab
@pytest.fixture
def colab(in_lab, monkeypatch):
    """A stand-in for google.colab: `answer` is what the page replies, `fetched` what the browser
    downloads.
    """
    page = types.SimpleNamespace(answer=None, fetched=[])
    requests = {"get_ipynb": lambda: page.answer}
    message = types.SimpleNamespace(
        blocking_request=lambda kind, request, timeout_sec: requests[kind]()
    )
    module = types.ModuleType("google.colab")
    module._message, module.files = message, types.SimpleNamespace(download=page.fetched.append)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    return page


def test_in_colab_the_page_gives_the_notebook_and_the_browser_fetches_the_zip(colab, tmp_path):
    notebook = json.loads(whole())
    notebook["metadata"] = {"colab": {"name": "Copy of lab.ipynb"}}
    for cell in notebook["cells"]:
        cell["source"] = (
            cell["source"].splitlines(keepends=True)
            if isinstance(cell["source"], str)
            else cell["source"]
        )
    colab.answer = {"ipynb": notebook}
    done = submit()
    assert json.loads(packed(tmp_path)[f"{LAB}.ipynb"]) == notebook and done.n_written == 1
    assert "Copy of lab.ipynb (as it stands in Colab)" in str(done) and colab.fetched == [
        str(done.archive)
    ]


@pytest.mark.parametrize("answer", [None, {}, "no"])
def test_if_colabs_page_is_silent_the_menu_is_named(answer, colab):
    colab.answer = answer
    with pytest.raises(ValueError, match="File > Download > Download .ipynb"):
        submit()


# ------------------------------------------------------------------------------------ reading cells
def test_the_last_definition_counts_and_broken_cells_do_no_harm():
    found = definitions(
        notebook_text("def f(): return 1", "def f(:", "%%bash\nls", "?f", "def f(): return 2"), "x"
    )
    assert list(found) == ["f"] and found["f"].body[0].value.value == 2


@pytest.mark.parametrize(
    "before",
    ["x = !ls", "g?", "!pip install \\\n  torch", "%timeit 1", "%%time", "%matplotlib inline", ""],
)
@pytest.mark.parametrize("solved", ["def f(x):\n    return 2 * x", "f = lambda x: 2 * x"])
def test_what_ipython_alone_understands_hides_no_solution(before, solved):
    stub = "def f(x):\n    raise NotImplementedError"
    found = definitions(notebook_text(f"{before}\n{solved}", stub), "x")
    assert "f" in found and not is_stub(found["f"])


@pytest.mark.parametrize(
    "body, stub",
    [
        ("raise NotImplementedError", True),
        ("'''Doc.'''\n    raise NotImplementedError()", True),
        ("pass", True),
        ("...", True),
        ("'''Doc.'''", True),
        ("return 1", False),
        ("raise ValueError", False),
        ("if x:\n        return 1\n    raise NotImplementedError", False),
    ],
)
def test_a_stub_is_what_does_nothing_but_raise(body, stub):
    assert is_stub(ast.parse(f"def f(x):\n    {body}").body[0]) is stub


def test_the_size_of_a_zip_that_is_gone_is_not_asked(tmp_path):
    assert "(gone)" in str(Submission(tmp_path / "x.zip", "x.ipynb", 0, 1))


def test_outside_of_a_notebook_there_is_no_session():
    assert (
        packing.session() == {}
        and packing.lab_name({"x": 1}) is None
        and os.sep in str(packing.Path.cwd())
    )
