"""`python3 -m lab_utils site`: the labs with their stored outputs as web pages that need no kernel
and no network.

nbconvert's plain template makes the body of a page. What would come from elsewhere is done here:
equations become MathML (latex2mathml; browsers draw it themselves, where MathJax would be fetched
or weigh megabytes), badges become words, and links between labs lead to pages. Demos that need no
model keep their controls (frames.py, site.js), the others become the picture that they stored.
Solutions are left out, unless they are asked for: a page that was once published cannot be taken
back.
"""

from __future__ import annotations

import argparse
import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab_utils.course.concepts import IMAGE
from lab_utils.course.frames import demo_called, label_of, live_demo
from lab_utils.course.release import (
    PLACEHOLDER,
    below_predictions,
    branch_name,
    repository_name,
    stamp,
    title_of,
    without_solutions,
)
from lab_utils.course.run import find_labs
from lab_utils.files import ROOT, LabKitError, write_text
from lab_utils.start.lab import MINUTES

HERE = Path(__file__).parent
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
<script src="site.js" defer></script>
</head>
<body>
<aside>
<search><input type="search" aria-label="Search all labs" placeholder="Search all labs">
<div class="found"><p role="status"></p><ul></ul></div></search>
{contents}
<nav aria-label="Labs"><details><summary>Labs</summary><ol>{labs}</ol></details></nav>
</aside>
<main>
{body}
{ends}
</main>
</body>
</html>
"""
CONTENTS = (
    '<nav aria-label="On this page"><details><summary>On this page</summary><ol>{}</ol></details>'
    "</nav>"
)
NOTE = "<p><em>A demo that needs a kernel: its controls work in Jupyter and Colab.</em></p>"


# ------------------------------------------------------------------------- what would need a kernel
def without_widgets(notebook: Any) -> Any:
    """A copy (NotebookNode) in which no output needs a kernel: a demo of the stage is drawn for all
    its settings at its first call, other demos are the picture that they stored, and bars that
    showed progress are gone.
    """
    import nbformat

    from lab_utils.drawing.live import VIEW

    notebook = nbformat.from_dict(notebook)
    state = notebook.metadata.pop("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    seen = {""}
    for cell in notebook.cells:
        for output in [o for o in cell.get("outputs", []) if VIEW in o.get("data", {})]:
            model_id = output.data.pop(VIEW)["model_id"]
            name = demo_called(cell.source)
            if any(kind == "FloatProgressModel" for kind, _ in models_of(model_id, state)):
                cell.outputs.remove(output)
            elif name not in seen:
                seen.add(name)
                begin = {label: value for _, (label, value) in models_of(model_id, state)}
                output.data = nbformat.from_dict({"text/html": live_demo(name, begin)})
            elif drawn := output.data.get("text/html", "") or widget_html(model_id, state):
                shown = f'<div class="demo">{drawn}{NOTE}</div>'
                output.data = nbformat.from_dict({"text/html": shown})
    return notebook


def models_of(model_id: str, state: dict[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    """(kind, (label, value in words)) of a stored widget and of those in it."""
    kept = state.get(model_id, {})
    model = kept.get("state", {})
    chosen, labels = model.get("index"), model.get("_options_labels")
    value = labels[chosen] if labels and chosen is not None else model.get("value", "")
    found = [(kept.get("model_name", ""), (model.get("description", ""), label_of(value)))]
    for child in model.get("children", []):
        found += models_of(child.removeprefix("IPY_MODEL_"), state)
    return found


def widget_html(model_id: str, state: dict[str, Any]) -> str:
    """Stored pictures as they are, controls as `name: value`; "" for what is not stored."""
    parts = []
    for kind, (label, value) in models_of(model_id, state):
        words = ": ".join(filter(None, (label, value)))
        if kind == "HTMLModel":
            parts.append(f"<div>{value}</div>")
        elif words:
            parts.append(f"<p>{html.escape(words)}</p>")
    return "".join(parts)


# ---------------------------------------------------------------------------------------- one page
def to_mathml(tex: str, display: str) -> str:
    """TeX as MathML; the TeX itself where latex2mathml cannot read it, which a reader can still
    make out.
    """
    from latex2mathml.converter import convert

    try:
        return convert(tex.strip(), display=display)
    except Exception:  # it raises many kinds, also IndexError
        return f"<code>{html.escape(tex.strip())}</code>"


def page_link(url: str, pages: set[str]) -> str | None:
    """Where a lab's link leads on the site: elsewhere on the web, within the page, or to a lab's
    page; None if nowhere.
    """
    parts = urlsplit(url)
    if parts.scheme or (url.startswith("#") and len(url) > 1):
        return None if PLACEHOLDER in url else url
    name = Path(parts.path).stem
    return (
        f"{name}.html" + (f"#{parts.fragment}" if parts.fragment else "") if name in pages else None
    )


def make_exporter(pages: set[str], pictures: Path) -> Any:
    """An nbconvert exporter for bodies of pages; `pictures` is where the labs' relative paths to
    pictures begin.
    """
    from jinja2 import pass_context
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        """Markdown without anything that a browser would have to fetch."""

        def inline_math(self, body):
            return to_mathml(body, "inline")

        def block_math(self, body):
            return to_mathml(body, "block")

        def latex_environment(self, name, body):
            return to_mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

        def image(self, text, url, title=None):
            return (
                text
                if urlsplit(url).scheme in ("http", "https")
                else super().image(text, url, title)
            )

        def link(self, text, url, title=None):
            target = page_link(url, pages)
            return super().link(text, target, title) if target else text

    class Exporter(HTMLExporter):
        @pass_context
        def markdown2html(self, context, source):
            attachments = context.get("cell", {}).get("attachments", {})
            renderer = Renderer(
                escape=False, attachments=attachments, embed_images=True, path=str(pictures)
            )
            return MarkdownWithMath(renderer=renderer).render(source)

    return Exporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)


def page_body(notebook: Any, exporter: Any) -> Any:
    """A notebook as the body of a page (BeautifulSoup): what can scroll can be reached by
    keyboard, ids are there once.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(exporter.from_notebook_node(without_widgets(notebook))[0], "html.parser")
    fold_answers(soup, notebook)
    for table in soup.select("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scrolls"}))
    for corner in soup.select("th:empty"):  # above pandas' row names: it heads nothing
        corner.name = "td"
    for block in soup.select("pre, .scrolls, math[display=block]"):
        block["tabindex"] = "0"
    seen = set()
    for element in soup.select("[id]"):
        if element["id"] in seen:
            del element["id"]
        else:
            seen.add(element["id"])
    return soup


def fold_answers(soup: Any, notebook: Any) -> None:
    """What answers a prediction opens with a click: a reader guesses first."""
    for place in below_predictions(notebook.cells):
        cell = soup.find(id=f"cell-id={notebook.cells[place].get('id')}")
        output = cell.find(class_="output_wrapper") if cell else None
        if output:
            answer = output.wrap(soup.new_tag("details", attrs={"class": "answer"}))
            summary = soup.new_tag("summary")
            summary.string = "You have guessed? Show what comes out"
            answer.insert(0, summary)


def without_placeholder(notebook: Any) -> Any:
    """The notebook without the line of badges, as long as they lead to no repository."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = "\n".join(
                line for line in cell.source.split("\n") if PLACEHOLDER not in line
            )
    return notebook


# ---------------------------------------------------------------------------------------- the site
def make_site(
    labs: list[Path], repository: str | None = None, branch: str = "main", solutions: bool = False
) -> dict[str, str]:
    """{file name: text} of all pages and the style. LabKitError names a lab that cannot be read."""
    import nbformat

    notebooks = {}
    for lab in labs:
        try:
            notebook = nbformat.read(lab, as_version=4)
            for cell in notebook.cells if solutions else []:
                cell.source = stamp(cell.source, repository, branch)
            notebooks[lab.stem] = without_placeholder(
                notebook
                if solutions
                else without_solutions(notebook, repository, branch, predicted=True)
            )
        except (ValueError, nbformat.ValidationError) as error:
            raise LabKitError(f"labs/{lab.name} could not be read: {error}") from None
    exporter = make_exporter(set(notebooks), labs[0].parent)
    bodies = {name: page_body(notebook, exporter) for name, notebook in notebooks.items()}
    titles = {name: title_of(notebook) for name, notebook in notebooks.items()}
    pages = {
        f"{name}.html": page(titles[name], body, titles, name) for name, body in bodies.items()
    }
    sections = [s for name, body in bodies.items() for s in sections_of(name, titles[name], body)]
    return {
        "index.html": index(notebooks, titles, bodies),
        **pages,
        "search_index.js": f"window.sections = {json.dumps(sections, ensure_ascii=False)};\n",
        "site.js": (HERE / "site.js").read_text(encoding="utf-8"),
        "style.css": style(),
    }


def page(title: str, body: Any, titles: dict[str, str], current: str = "") -> str:
    """A whole page: its labs, its contents, its text, and what comes before and after it."""
    places = {"index": "All labs", **titles}
    links = {
        name: f'<a href="{name}.html"{" aria-current=page" if name == current else ""}>'
        f"{html.escape(label)}</a>"
        for name, label in places.items()
    }
    names = [*places]
    at = names.index(current)
    before, after = names[at - 1 : at], names[at + 1 : at + 2]
    ends = "".join(f"<span>← {links[name]}</span>" for name in before)
    ends += "".join(f"<span>{links[name]} →</span>" for name in after)
    return PAGE.format(
        title=html.escape(title),
        labs="".join(f"<li>{link}</li>" for link in links.values()),
        contents=contents(body),
        body=body,
        ends=f'<nav class="ends" aria-label="Before and after">{ends}</nav>',
    )


def contents(body: Any) -> str:
    """The list of a page's parts, its headings of the second order; "" where there are none."""
    rows = [
        f'<li><a href="#{heading["id"]}">{html.escape(words_of(heading))}</a></li>'
        for heading in body.select("h2[id]")
    ]
    return CONTENTS.format("".join(rows)) if rows else ""


def sections_of(name: str, title: str, body: Any) -> list[list[str]]:
    """What the search looks through: [lab, heading, address, different words] of each section."""
    sections: list[tuple[str, str, set[str]]] = [(title, f"{name}.html", set())]
    for part in body.select("h2[id], h3[id], p, li, td, pre"):
        if part.name in ("h2", "h3"):
            sections.append((words_of(part), f"{name}.html#{part['id']}", set()))
        elif not part.find_parent(class_=["output", "demo"]):
            sections[-1][2].update(re.findall(r"\w[\w.'-]*", part.get_text().lower()))
    return [[title, head, place, " ".join(sorted(words))] for head, place, words in sections]


def words_of(heading: Any) -> str:
    """A heading without the mark of its link."""
    return " ".join(heading.get_text().replace("¶", "").split())


def index(notebooks: dict[str, Any], titles: dict[str, str], bodies: dict[str, Any]) -> str:
    """The first page: each lab with its first paragraph, its picture, its time and its demos."""
    from bs4 import BeautifulSoup

    record = json.loads(MINUTES.read_text(encoding="utf-8"))["cpu"]
    rows = "".join(
        f'<li><a href="{name}.html">{html.escape(titles[name])}</a>'
        f"<p>{html.escape(first_paragraph(notebook))}</p>"
        f"{concept(notebook)}{time_html(record['labs'].get(name[:2]))}"
        f"{demos_html(name, bodies[name])}</li>"
        for name, notebook in notebooks.items()
    )
    intro = (
        "Labs on parameter-efficient fine-tuning, with every output as it was computed. Demos that "
        "need no model work right here; to run code, open a lab in Jupyter or Colab."
    )
    times = (
        f"Times: {record['command']}, {record['hardware']}, torch {record['versions']['torch']}, "
        f"{record['date']}."
    )
    body = (
        f'<h1>PEFT labs</h1><p>{intro}</p><ul class="labs">{rows}</ul><p>{html.escape(times)}</p>'
    )
    return page("PEFT labs", BeautifulSoup(body, "html.parser"), titles, "index")


def concept(notebook: Any) -> str:
    """The picture of a lab's first cell as it stands there; "" without one."""
    found = IMAGE.search(notebook.cells[0].source + "\n\n") if notebook.cells else None
    alt, source = found[0].strip().removeprefix("![")[:-1].split("](") if found else ("", "")
    return f'<img alt="{html.escape(alt, quote=True)}" src="{source}">' if found else ""


def time_html(measured: dict[str, float] | None) -> str:
    """How long a lab computes; "" where that was not measured."""
    if not measured:
        return ""
    seconds = measured["seconds"]
    took = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.1f} minutes"
    return f'<p class="time">{took} of computing, {measured["gigabytes"]:.1f} GB of memory</p>'


def demos_html(name: str, body: Any) -> str:
    """Links to the demos of a page that work without a kernel."""
    demos = body.select(".demo.live")
    links = ", ".join(
        f'<a href="{name}.html#{demo["id"]}">{html.escape(demo["aria-label"])}</a>'
        for demo in demos
    )
    return f"<p>Demos: {links}</p>" if demos else ""


def first_paragraph(notebook: Any) -> str:
    """What follows the title: the first paragraph that is neither heading nor badges, without
    Markdown's marks.
    """
    paragraphs = notebook.cells[0].source.split("\n\n") if notebook.cells else []
    text = next(
        (
            part
            for part in paragraphs
            if part.strip() and not part.lstrip().startswith(("#", "[!["))
        ),
        "",
    )
    return re.sub(r"[*`]|\$|\]\([^)]*\)|\[", "", " ".join(text.split()))


def style() -> str:
    """The one style sheet, with colours of code for light and dark."""
    from pygments.formatters import HtmlFormatter

    light, dark = (
        HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "monokai")
    )
    plain = (HERE / "site.css").read_text(encoding="utf-8")
    return f"{plain}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


# -------------------------------------------------------------------------------------- the command
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the pages go, and where their badges lead."""
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "dist" / "site",
        metavar="DIR",
        help="(default: dist/site)",
    )
    parser.add_argument(
        "--repo",
        metavar="OWNER/NAME",
        help="the repository that the Colab badges open (default: no badges)",
    )
    parser.add_argument("--branch", default="main", metavar="B", help="its branch (default: main)")
    parser.add_argument(
        "--with-solutions",
        action="store_true",
        help="also show the solutions and what their checks said",
    )


def main(args: argparse.Namespace) -> int:
    """Writes the site and says where it begins. Returns 0."""
    labs = find_labs()
    if not labs:
        raise LabKitError(
            "There are no notebooks in labs/. Run the command in a complete copy of the lab kit."
        )
    repository = repository_name(args.repo) if args.repo is not None else None
    files = make_site(labs, repository, branch_name(args.branch), args.with_solutions)
    out = args.out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_text(out / name, text)
    except OSError as error:
        raise LabKitError(
            f"{out} could not be written ({error.strerror}). Give --out a folder of your own."
        ) from None
    shown = "with solutions: not for students" if args.with_solutions else "without solutions"
    print(f"{len(labs)} labs, {shown}. Open {out / 'index.html'}")
    return 0
