"""The picture in each lab's first cell is what our code draws today, with a description."""

import json

import nbformat
import pytest

from lab_utils.course import concepts
from lab_utils.course.concepts import CONCEPTS, LABS, as_markdown, with_concept
from lab_utils.drawing.style import svg, text


@pytest.mark.parametrize("name", CONCEPTS)
def test_the_first_cell_shows_the_picture_of_today(name):
    first = nbformat.read(LABS / f"{name}.ipynb", as_version=4).cells[0].source
    assert as_markdown(CONCEPTS[name]()) in first, "python3 -m lab_utils concepts draws it again"
    assert with_concept(first, CONCEPTS[name]()) == first


def test_every_lab_has_its_picture():
    assert {path.stem for path in LABS.glob("*.ipynb")} == set(CONCEPTS)


@pytest.mark.parametrize("name", CONCEPTS)
def test_words_are_large_and_inside(name):
    """At 22 px and more on a picture of 1,000 they are read from the back row; 20 for bit codes."""
    drawn = CONCEPTS[name]()
    sizes = [int(part.split('"')[1]) for part in drawn.split("font-size=")[1:]]
    assert min(sizes) >= 20 and 40 <= len(drawn.description) <= 330


def test_a_picture_takes_the_place_of_an_older_one():
    old, new = svg(10, 10, "an old picture", text(0, 5, "a")), svg(10, 10, "new", text(0, 5, "b"))
    cell = "# Lab\n\nWords.\n\n**Afterwards you can**\n- do it"
    first = with_concept(cell, old)
    assert first.startswith("# Lab\n\nWords.\n\n![an old picture](data:image/svg+xml;base64,")
    assert with_concept(first, new) == with_concept(cell, new)
    with pytest.raises(ValueError, match="Afterwards you can"):
        with_concept("# Lab", new)


def test_nothing_else_in_the_file_changes(tmp_path):
    cells = [{"cell_type": "markdown", "source": ["**Afterwards you can**\n", "- é"]}, {"x": 1}]
    path = tmp_path / "lab.ipynb"
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}, indent=1, ensure_ascii=False))
    concepts.stamp(path, CONCEPTS["01_quantization_buckets"])
    after = json.loads(path.read_text(encoding="utf-8"))
    assert after["cells"][1] == {"x": 1} and after["nbformat"] == 4
    assert after["cells"][0]["source"][-2:] == cells[0]["source"]
