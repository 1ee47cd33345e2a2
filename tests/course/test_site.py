"""The site: pages without a kernel, a network or a solution. A browser opens it in
tests/browser/test_browse_site.py.
"""

import base64
import json
import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lab_utils.course import site
from lab_utils.course.release import GAP
from lab_utils.course.site import WIDGET_STATE
from lab_utils.drawing.live import VIEW
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

Second paragraph.

![a pixel in data](data:image/svg+xml;base64,PIXEL)

"""
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
    title = TITLE.replace("PIXEL", PIXEL)
    notebook = new_notebook(cells=[new_markdown_cell(title), *cells])
    notebook.metadata = nbformat.from_dict({"widgets": {WIDGET_STATE: STATE}} if widgets else {})
    return notebook


RECORD = {
    "cpu": {
        "command": "run",
        "date": "2026-01-02",
        "hardware": "2 cores",
        "versions": {"torch": "9.9"},
        "labs": {"01": {"seconds": 8.8, "gigabytes": 0.94}},
    }
}


@pytest.fixture
def labs(tmp_path, monkeypatch):
    (tmp_path / "minutes.json").write_text(json.dumps(RECORD))
    monkeypatch.setattr(site, "MINUTES", tmp_path / "minutes.json")
    (tmp_path / "dot.png").write_bytes(base64.b64decode(PIXEL))
    demo = new_output(
        "execute_result",
        {VIEW: {"model_id": "box"}, "text/plain": "VBox(...)"},
        execution_count=1,
    )
    lost = new_output(
        "execute_result",
        {VIEW: {"model_id": "lost"}, "text/plain": "VBox(lost)"},
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


FILES = {"index.html", "01_a.html", "02_b.html", "search_index.js", "site.js", "style.css"}


def test_there_is_a_page_for_each_lab_an_index_and_a_style(labs):
    files = site.make_site(labs)
    assert set(files) == FILES
    assert soup(files).title.text == "Lab 01 · Buckets" and soup(files).html["lang"] == "en"
    links = soup(files).select('nav[aria-label="Labs"] a')
    assert [(link["href"], link.text) for link in links] == [
        ("index.html", "All labs"),
        ("01_a.html", "Lab 01 · Buckets"),
        ("02_b.html", "Lab 01 · Buckets"),
    ]
    assert [link["href"] for link in links if link.get("aria-current")] == ["01_a.html"]


def test_a_page_lists_its_parts_and_leads_on(labs):
    files = site.make_site(labs)
    parts = soup(files).select('nav[aria-label="On this page"] a')
    assert [(part["href"], part.text) for part in parts] == [("#Sums", "Sums")]
    ends = {name: soup(files, name).select(".ends a") for name in sorted(FILES) if "html" in name}
    assert {name: [link["href"] for link in links] for name, links in ends.items()} == {
        "01_a.html": ["index.html", "02_b.html"],
        "02_b.html": ["01_a.html"],
        "index.html": ["01_a.html"],
    }


def test_the_search_finds_sections_by_their_words(labs):
    index = site.make_site(labs)["search_index.js"]
    sections = json.loads(index.removeprefix("window.sections = ").removesuffix(";\n"))
    assert [section[:3] for section in sections if section[2].startswith("01_a")] == [
        ["Lab 01 · Buckets", "Lab 01 · Buckets", "01_a.html"],
        ["Lab 01 · Buckets", "Sums", "01_a.html#Sums"],
    ]
    assert "billion" in sections[0][3].split() and "inline" in sections[1][3].split()
    assert "41" not in sections[1][3].split(), "a solution is not found either"


def test_the_index_tells_what_each_lab_is_about(labs):
    page = soup(site.make_site(labs), "index.html")
    rows = page.select("ul.labs li")
    assert [row.a["href"] for row in rows] == ["01_a.html", "02_b.html"]
    assert (
        rows[0].get_text(" ")
        == "Lab 01 · Buckets A model of 7 billion weights & more in 2^4 buckets. "
        "9 seconds of computing, 0.9 GB of memory"
    )
    assert rows[0].img["alt"] == "a pixel in data" and rows[0].img["src"].endswith(PIXEL)
    assert "torch 9.9" in page.main.text


def test_a_time_is_told_as_a_reader_counts():
    assert "89 seconds" in site.time_html({"seconds": 89, "gigabytes": 1})
    assert "1.6 minutes" in site.time_html({"seconds": 95, "gigabytes": 1})
    assert site.time_html(None) == ""


def test_nothing_on_a_page_is_fetched_from_elsewhere(labs):
    for solutions in (False, True):
        for page in site.make_site(labs, solutions=solutions).values():
            assert not re.search(r'(?:src|srcset|data|action)="?(?:https?:)?//', page)
            scripts = re.findall(r"<script[^>]*>", page)
            assert set(scripts) <= {'<script src="site.js" defer>'}
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
        if "anchor-link" not in link.get("class", []) and not link.find_parent(class_="ends")
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
        ("a pixel in data", "data:image/svg+"),
        ("a pixel", "data:image/png;"),
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


def test_what_answers_a_prediction_is_folded(labs):
    cells = [
        new_markdown_cell("**Predict:** how much?"),
        new_code_cell("6 * 7", outputs=[output(text_plain="forty-two")]),
        new_markdown_cell("## After"),
        new_code_cell("'seen'", outputs=[output(text_plain="seen at once")]),
    ]
    nbformat.write(lab(*cells), labs[0])
    page = soup(site.make_site(labs))
    (answer,) = page.select("details.answer")
    assert "forty-two" in answer.text and "guessed" in answer.summary.text
    assert "seen at once" not in answer.text and not answer.has_attr("open")


def test_a_bar_that_showed_progress_is_no_demo():
    state = {"state": {"bar": {"model_name": "FloatProgressModel", "state": {"value": 88.0}}}}
    bar = new_output("display_data", {VIEW: {"model_id": "bar"}, "text/plain": "0% | 0/88"})
    cell = new_code_cell("ask()", outputs=[bar, output(text_plain="88 replies")])
    notebook = new_notebook(cells=[cell], metadata={"widgets": {WIDGET_STATE: state}})
    (shown,) = site.without_widgets(notebook).cells[0].outputs
    assert shown.data == {"text/plain": "88 replies"}


def test_a_demo_of_the_stage_goes_live_at_its_first_call(monkeypatch):
    begun = []
    monkeypatch.setattr(site, "live_demo", lambda name, begin: begun.append((name, begin)) or "<b>")
    demo = {VIEW: {"model_id": "box"}}
    cells = [
        new_code_cell("rank_demo(matrices)", outputs=[new_output("display_data", demo)])
        for _ in range(2)
    ]
    notebook = new_notebook(cells=cells, metadata={"widgets": {WIDGET_STATE: STATE}})
    first, second = (c.outputs[0].data["text/html"] for c in site.without_widgets(notebook).cells)
    assert first == "<b>" and "size &lt;n&gt;: 64" in second and "kernel" in second
    ((name, begin),) = begun
    assert name == "rank" and begin["size <n>"] == "64" and begin["outlier"] == "0"


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


def test_the_empty_corner_of_a_table_is_no_heading(labs):
    table = "<table><tr><th></th><th>MB</th></tr><tr><th>whole</th><td>94</td></tr></table>"
    nbformat.write(lab(new_code_cell("table", outputs=[output(text_html=table)])), labs[0])
    page = soup(site.make_site(labs))
    assert [head.text for head in page.select(".output th")] == ["MB", "whole"]
    assert [cell.text for cell in page.select(".output td")] == ["", "94"]


def test_the_style_is_for_light_and_dark():
    first, colors, code = site.style().split("@media (prefers-color-scheme: dark)")
    assert "--page: #fff" in first and "--page: #16181b" in colors
    assert ".highlight .k" in colors and ".highlight .k" in code, "for light, then for dark"


def test_the_command_writes_and_says_where(labs, tmp_path, monkeypatch, capsys):
    from lab_utils.__main__ import parse

    monkeypatch.setattr(site, "find_labs", lambda: labs)
    assert site.main(parse(["site", "--out", str(tmp_path / "out")])) == 0
    said = capsys.readouterr().out
    assert "2 labs, without solutions" in said and str(tmp_path / "out" / "index.html") in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
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
