"""The plan of the house: imports lead downwards only, and docs/house.md shows what is there."""

import re
import subprocess
import sys

import pytest

from lab_utils.course import house
from lab_utils.course.house import Import, arrows, imports_of, problems
from lab_utils.files import ROOT


def test_no_import_leads_upwards():
    assert problems(house.house_imports()) == []


@pytest.mark.parametrize(
    "source, found",
    [
        (
            "from lab_utils.lora.lora import LoRA",
            "memory.sizes imports lora.lora, which is above it",
        ),
        (
            "def f():\n    from lab_utils import course",
            "memory.sizes imports course, which is above it",
        ),
        ("import lab_utils.course.run", "memory.sizes imports course.run, which is above it"),
        (
            "from lab_utils.memory.pictures import x",
            "memory.sizes imports memory.pictures, which shows more than it does",
        ),
        (
            "from lab_utils.drawing.style import svg",
            "memory.sizes imports drawing.style, which shows more than it does",
        ),
        (
            "from lab_utils.attic import x",
            "memory.sizes imports attic: one of them is in no room of the plan",
        ),
        ("from lab_utils.files import ROOT\nfrom lab_utils.quantization.buckets import errors", ""),
        ("from lab_utils import PYTHON_REQUIRED\nimport torch", ""),
    ],
)
def test_what_breaks_the_plan_is_named(source, found):
    assert problems(list(imports_of("memory.sizes", source))) == ([found] if found else [])


def test_a_demo_may_use_pictures_and_a_picture_may_not_use_demos():
    assert (
        problems(
            [Import("memory.demos", "memory.pictures"), Import("memory.pictures", "drawing.style")]
        )
        == []
    )
    assert problems([Import("memory.pictures", "memory.demos")])


def test_what_students_are_sent_to_read_is_small():
    """README names the files, and they have at most 3,500 lines together."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    started = readme[readme.index("Start with") :]
    named = re.findall(r"`((?:\w+/)?\w+\.py)`", started[: started.index("[CONTRIBUTING")])
    room, files = "", []
    for name in named:  # `memory/sizes.py`, `ledger.py`: both are in memory
        room = name.split("/")[0] if "/" in name else room
        files.append(ROOT / "lab_utils" / room / name.split("/")[-1])
    assert len(files) == 12
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 3500


def test_an_arrow_that_follows_from_others_is_not_drawn():
    links = [
        Import("lora.lora", "memory.sizes"),
        Import("memory.sizes", "files"),
        Import("lora.lora", "files"),
    ]
    assert arrows(links) == [("memory", "files"), ("lora", "memory")]


def test_the_page_shows_the_house_of_today():
    page = house.PAGE.read_text(encoding="utf-8")
    assert house.with_drawing(page) == page, (
        "docs/house.md is out of date: python3 -m lab_utils house"
    )


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="needs one line"):
        house.with_drawing("# The house\n")


def test_importing_the_package_loads_nothing():
    code = (
        "import sys, lab_utils; print(sorted(m for m in sys.modules if m in ('torch', 'numpy', "
        "'transformers')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
