"""The site: pages without a kernel, a network or a solution. A browser opens it in
tests/browser/test_browse_site.py.
"""

import base64
import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lab_utils.course import site
from lab_utils.course.release import GAP
from lab_utils.course.site import WIDGET_STATE, WIDGET_VIEW
from lab_utils.files import ROOT, LabKitError

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Block size 64" viewBox="0 0 9 '
    '9"></svg>'
)
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
TITLE = """# Lab 01 · Buckets

[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/labs/01_a.ipynb)

A model of *7 billion* weights & `more` in $2^4$ buckets.

Second paragraph."""
TEXT = r"""## Sums
Inline $\frac{a}{b}$ and \$5, then
$$\sum_i x_i^2 = \text{a < b}$$
[next lab](02_b.ipynb#sums), [part](#Sums), [paper](https://arxiv.org/abs/2305.14314),
[code](../lab_utils/course/site.py), [gone](09_z.ipynb)
![a pixel](dot.png) ![far](https://example.org/x.png)

## Sums
"""
EXERCISE = "def f(x):\n    # BEGIN SOLUTION\n    return x * 41 + 1\n    # END SOLUTION\n\ncheck(f)"
CHILDREN = [f"IPY_MODEL_{name}" for name in ("menu", "slide", "html", "go")]
MENU = {"_options_labels": ["16", "64"], "index": 1, "description": "size <n>"}
STATE = {
    "state": {
        "box": {"model_name": "VBoxModel", "state": {"children": CHILDREN}},
        "menu": {"model_name": "SelectionSliderModel", "state": MENU},
        "slide": {
            "model_name": "FloatSliderModel",
            "state": {"value": 0, "description": "outlier"},
        },
        "html": {"model_name": "HTMLModel", "state": {"value": SVG}},
        "go": {"model_name": "ButtonModel", "state": {"description": "Ask both"}},
    },
    "version_major": 2,
    "version_minor": 0,
}


def output(**data):
    return new_output(
        "execute_result",
        {name.replace("_", "/", 1): value for name, value in data.items()},
        execution_count=1,
    )


def lab(*cells, widgets=True):
    notebook = new_notebook(cells=[new_markdown_cell(TITLE), *cells])
    notebook.metadata = nbformat.from_dict({"widgets": {WIDGET_STATE: STATE}} if widgets else {})
    return notebook


@pytest.fixture
def labs(tmp_path):
    (tmp_path / "dot.png").write_bytes(base64.b64decode(PIXEL))
    demo = new_output(
        "execute_result",
        {WIDGET_VIEW: {"model_id": "box"}, "text/plain": "VBox(...)"},
        execution_count=1,
    )
    lost = new_output(
        "execute_result",
        {WIDGET_VIEW: {"model_id": "lost"}, "text/plain": "VBox(lost)"},
        execution_count=1,
    )
    cells = [
        new_markdown_cell(TEXT),
        new_code_cell("demo()", outputs=[demo]),
        new_code_cell("lost()", outputs=[lost]),
        new_code_cell(EXERCISE, outputs=[output(text_plain="PASSED f")]),
        new_code_cell("2 * 21", outputs=[output(text_plain="42")]),
    ]
    for name in ("01_a", "02_b"):
        nbformat.write(lab(*cells), tmp_path / f"{name}.ipynb")
    return sorted(tmp_path.glob("*.ipynb"))


def soup(files, name="01_a.html"):
    return BeautifulSoup(files[name], "html.parser")


def test_there_is_a_page_for_each_lab_an_index_and_a_style(labs):
    files = site.make_site(labs)
    assert set(files) == {"index.html", "01_a.html", "02_b.html", "style.css"}
    assert soup(files).title.text == "Lab 01 · Buckets" and soup(files).html["lang"] == "en"
    assert [link["href"] for link in soup(files).nav("a")] == [
        "index.html",
        "01_a.html",
        "02_b.html",
    ]
    assert [link["href"] for link in soup(files).nav("a", attrs={"aria-current": "page"})] == [
        "01_a.html"
    ]


def test_the_index_tells_what_each_lab_is_about(labs):
    page = soup(site.make_site(labs), "index.html")
    rows = page.select("ul.labs li")
    assert [row.a["href"] for row in rows] == ["01_a.html", "02_b.html"]
    assert (
        rows[0].get_text(" ")
        == "Lab 01 · Buckets A model of 7 billion weights & more in 2^4 buckets."
    )


def test_nothing_on_a_page_is_fetched_from_elsewhere(labs):
    for solutions in (False, True):
        for page in site.make_site(labs, solutions=solutions).values():
            assert (
                not re.search(r'(?:src|srcset|data|action)="?(?:https?:)?//', page)
                and "<script" not in page
            )
            assert "url(" not in page and "@import" not in page and "<iframe" not in page
            assert all(
                link in ('href="style.css"', 'href="data:,"')
                for link in re.findall(r'<link[^>]*(href="[^"]*")', page)
            )


def test_equations_are_mathml(labs):
    page = soup(site.make_site(labs))
    _, inline, block = page.main("math")  # the first is the title's
    assert (
        inline.mfrac
        and inline.get("display") == "inline"
        and block["display"] == "block"
        and "a\xa0<\xa0b" in block.text
    )
    assert "$5" in page.main.text and "$$" not in page.main.text


def test_tex_that_cannot_be_read_stays_as_it_is():
    assert site.to_mathml(r"a < b^", "inline") == "<code>a &lt; b^</code>"


def test_links_lead_to_pages_or_are_no_links(labs):
    page = soup(site.make_site(labs))
    links = {
        link.text: link["href"]
        for link in page.main("a")
        if "anchor-link" not in link.get("class", [])
    }
    assert links == {
        "next lab": "02_b.html#sums",
        "part": "#Sums",
        "paper": "https://arxiv.org/abs/2305.14314",
    }
    assert "code" in page.main.text and "gone" in page.main.text


def test_pictures_are_in_the_page_or_become_words(labs):
    page = soup(site.make_site(labs))
    assert [(image["alt"], image["src"][:15]) for image in page.main("img")] == [
        ("a pixel", "data:image/png;")
    ]
    assert "far" in page.main.text


def test_badges_are_there_once_they_lead_somewhere(labs):
    assert not soup(site.make_site(labs)).main("a", string=re.compile("Colab"))
    link = soup(site.make_site(labs, "ada/labs", "fall")).main.find("a", string="Open in Colab")
    assert (
        link["href"]
        == "https://colab.research.google.com/github/ada/labs/blob/fall/labs/01_a.ipynb"
    )


def test_a_demo_becomes_its_picture_and_settings(labs):
    page = soup(site.make_site(labs))
    demo = page.select_one(".demo")
    assert demo.svg["aria-label"] == "Block size 64"
    assert [line.text for line in demo("p")][:3] == [
        "size <n>: 64",
        "outlier: 0",
        "Ask both",
    ] and "kernel" in demo("p")[-1].text
    assert (
        "VBox(...)" not in page.text
        and "VBox(lost)" in page.text
        and len(page.select(".demo")) == 1
    )


def test_solutions_are_shown_only_if_asked_for(labs):
    without, with_them = (
        site.make_site(labs, solutions=shown)["01_a.html"] for shown in (False, True)
    )
    number = re.compile(r"\b41\b")  # as a word: a cell's random id may hold the digits
    assert (
        not number.search(without)
        and "PASSED" not in without
        and GAP.split()[1] in without
        and "hand-in" not in without
    )
    assert number.search(with_them) and "PASSED" in with_them
    assert "42" in without and "42" in with_them


def test_ids_are_unique_and_what_scrolls_has_focus(labs):
    page = soup(site.make_site(labs))
    ids = [element["id"] for element in page.select("[id]")]
    assert ids.count("Sums") == 1 and len(ids) == len(set(ids))
    assert page("pre") and all(block["tabindex"] == "0" for block in page("pre"))


def test_the_style_is_for_light_and_dark():
    light, dark = site.style().split("@media (prefers-color-scheme: dark)")
    assert (
        ".highlight .k" in light
        and ".highlight .k" in dark
        and "--page: #fff" in light
        and "--page: #16181b" in dark
    )


def test_the_command_writes_and_says_where(labs, tmp_path, monkeypatch, capsys):
    from lab_utils.__main__ import parse

    monkeypatch.setattr(site, "find_labs", lambda: labs)
    assert site.main(parse(["site", "--out", str(tmp_path / "out")])) == 0
    said = capsys.readouterr().out
    assert "2 labs, without solutions" in said and str(tmp_path / "out" / "index.html") in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "index.html",
        "01_a.html",
        "02_b.html",
        "style.css",
    }
    assert (
        site.main(
            parse(
                ["site", "--out", str(tmp_path / "out"), "--with-solutions", "--repo", "ada/labs"]
            )
        )
        == 0
    )
    assert "not for students" in capsys.readouterr().out


def test_what_goes_wrong_is_said(labs, tmp_path, monkeypatch):
    from lab_utils.__main__ import parse

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(site, "find_labs", lambda: labs)
    with pytest.raises(LabKitError, match="could not be written"):
        site.main(parse(["site", "--out", str(tmp_path / "file" / "out")]))
    with pytest.raises(LabKitError, match="--repo wants OWNER/NAME"):
        site.main(parse(["site", "--repo", "ada"]))
    labs[0].write_text('{"cells": ')
    with pytest.raises(LabKitError, match="labs/01_a.ipynb could not be read"):
        site.make_site(labs)
    monkeypatch.setattr(site, "find_labs", lambda: [])
    with pytest.raises(LabKitError, match="no notebooks"):
        site.main(parse(["site"]))


def test_its_place_is_not_under_version_control():
    assert "dist/" in (ROOT / ".gitignore").read_text().split()
