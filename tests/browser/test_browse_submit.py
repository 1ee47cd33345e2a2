"""`submit()` in JupyterLab: the notebook is found under whatever name it has, and only what is
saved counts.
"""

import zipfile

import pytest

pytestmark = pytest.mark.browser

CELL = """from lab_utils.checking import submit

def model_gigabytes(n_params, bits):
    return n_params * bits / 8 / 1e9

submit()"""


def test_the_open_notebook_is_found_and_packed(open_demo, jupyterlab):
    page = open_demo(CELL)
    card = page.locator(".jp-OutputArea-output [role=status]")
    card.wait_for()
    name = page.evaluate("() => jupyterapp.shell.currentWidget.context.path")
    words = card.inner_text()
    assert (
        f"{name} (as saved" in words
        and "with 1 of 1 exercises written" in words
        and "Not saved" not in words
    )
    with zipfile.ZipFile(jupyterlab["root"] / name.replace(".ipynb", "-submission.zip")) as archive:
        assert archive.namelist() == [name] and b"model_gigabytes" in archive.read(name)
