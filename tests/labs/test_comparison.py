"""Outputs of a lab that ran in a browser are compared as nbval does: a changed number is seen."""

import copy
from types import SimpleNamespace

import nbformat
import pytest
from whole_labs import check_outputs

from lab_utils.course.run import LABS

NAME = "01_quantization_buckets"


@pytest.fixture(scope="module")
def cells():
    """The stored lab's code cells, as JupyterLab would hand them out."""
    stored = nbformat.read(LABS / f"{NAME}.ipynb", as_version=4).cells
    cells = [cell for cell in stored if cell.cell_type == "code"]
    return [{"count": 1, "source": cell.source, "outputs": cell.outputs} for cell in cells]


def compare(cells, request):
    check_outputs(SimpleNamespace(evaluate=lambda _: cells), NAME, request.session)


def test_the_stored_outputs_are_the_stored_outputs(cells, request):
    compare(cells, request)


def test_a_changed_number_is_seen(cells, request):
    changed = copy.deepcopy(cells)
    output = next(
        output
        for cell in changed
        for output in cell["outputs"]
        if output["output_type"] == "stream" and "largest" in output["text"]
    )
    output["text"] = output["text"].replace("1", "2", 1)
    with pytest.raises(AssertionError, match="Cell"):
        compare(changed, request)


def test_a_lost_output_is_seen(cells, request):
    changed = copy.deepcopy(cells)
    next(cell for cell in changed if "spacing" in cell["source"])["outputs"] = []
    with pytest.raises(AssertionError, match="Missing output fields"):
        compare(changed, request)
