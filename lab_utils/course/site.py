"""`python3 -m lab_utils site`: the labs with their stored outputs as web pages that need no kernel
and no network.

nbconvert's plain template makes the body of a page. What would come from elsewhere is done here:
equations become MathML (latex2mathml; browsers draw it themselves, where MathJax would be fetched
or weigh megabytes), live demos become the picture that their stored state holds, badges become
words, and links between labs lead to pages. Solutions are left out, unless they are asked for: a
page that was once published cannot be taken back.
"""

from __future__ import annotations

import argparse
import html
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab_utils.course.release import (
    PLACEHOLDER,
    branch_name,
    repository_name,
    stamp,
    title_of,
    without_solutions,
)
from lab_utils.course.run import find_labs
from lab_utils.files import ROOT, LabKitError, write_text

WIDGET_VIEW, WIDGET_STATE = (
    "application/vnd.jupyter.widget-view+json",
    "application/vnd.jupyter.widget-state+json",
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
</head>
<body>
<nav aria-label="Labs">{nav}</nav>
<main>
{body}
</main>
</body>
</html>
"""
STYLE = """\
:root { color-scheme: light dark; --page: #fff; --ink: #1a1a1a; --soft: #f4f4f4;
  --edge: #767676; --link: #005a9c; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1.1rem/1.6 system-ui, sans-serif; }
main, nav { max-width: 66rem; margin: 0 auto; padding: 0 1rem; }
p, ul, ol { max-width: 54rem; }
nav { padding-top: 1rem; font-size: 1rem; }
nav a { margin-right: 1.2em; display: inline-block; }
nav [aria-current] { font-weight: bold; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, pre:focus-visible { outline: 3px solid #E69F00;
  outline-offset: 2px; }
h1, h2, h3 { line-height: 1.25; }
h2 { margin-top: 2.5em; border-bottom: 2px solid var(--edge); }
.anchor-link { visibility: hidden; text-decoration: none; margin-left: .4em; }
:hover > .anchor-link, .anchor-link:focus { visibility: visible; }
pre { overflow-x: auto; font: .85rem/1.45 ui-monospace, Menlo, Consolas, monospace; margin: 0;
  padding: .7em 1em; }
:not(pre) > code { background: var(--soft); padding: 0 .25em; }
.input_area, .highlight { background: var(--soft); border-left: 4px solid #0072B2; }
.input_area .highlight { border: 0; }
.output { padding: .2em 0 .8em; overflow-x: auto; }
.output pre { border-left: 4px solid var(--edge); padding: 0 1em; }
.output img, .output svg { max-width: 100%; height: auto; }
.cell { margin: .8em 0; }
table { border-collapse: collapse; font-size: 1rem; }
th, td { border: 1px solid var(--edge); padding: .2em .7em; text-align: right; }
math { font-size: 1.15em;
  font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "Noto Sans Math", math; }
math[display=block] { margin: 1em 0; overflow-x: auto; }
.demo { border: 2px dashed var(--edge); padding: .5em 1em; }
.demo p { margin: .2em 0; }
.labs { list-style: none; padding: 0; }
.labs li { margin: 1.2em 0; padding-left: 1em; border-left: 6px solid #009E73; }
.labs a { font-size: 1.2rem; font-weight: bold; }
"""
DARK = (
    ":root { --page: #16181b; --ink: #e8e8e8; --soft: #24282d; --edge: #9a9a9a; --link: #7cc4ff; }"
)


# ------------------------------------------------------------------------- what would need a kernel
def without_widgets(notebook: Any) -> Any:
    """A copy (NotebookNode) in which each live demo is the picture and the settings that its stored
    state holds.
    """
    import nbformat

    notebook = nbformat.from_dict(notebook)
    state = notebook.metadata.pop("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for output in (output for output in outputs if WIDGET_VIEW in output.get("data", {})):
        drawn = widget_html(output.data.pop(WIDGET_VIEW)["model_id"], state)
        if drawn:
            note = (
                "<p><em>A demo: with a kernel, in Jupyter or Colab, these settings can be "
                "changed.</em></p>"
            )
            output.data = nbformat.from_dict(
                {"text/html": f'<div class="demo">{drawn}{note}</div>'}
            )
    return notebook


def widget_html(model_id: str, state: dict[str, Any]) -> str:
    """Stored pictures as they are, controls as `name: value`, boxes as what is in them; "" for what
    is not stored.
    """
    model = state.get(model_id, {}).get("state", {})
    if "children" in model:
        return "".join(
            widget_html(child.removeprefix("IPY_MODEL_"), state) for child in model["children"]
        )
    if state.get(model_id, {}).get("model_name") == "HTMLModel":
        return f"<div>{model.get('value', '')}</div>"
    chosen, labels = model.get("index"), model.get("_options_labels")
    value = labels[chosen] if labels and chosen is not None else model.get("value", "")
    words = ": ".join(str(word) for word in (model.get("description", ""), value) if word != "")
    return f"<p>{html.escape(words)}</p>" if words else ""


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


def page_body(notebook: Any, exporter: Any) -> str:
    """A notebook as the body of a page: what can scroll can be reached by keyboard, and ids are
    there once.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(exporter.from_notebook_node(without_widgets(notebook))[0], "html.parser")
    for block in soup.select("pre"):
        block["tabindex"] = "0"
    seen = set()
    for element in soup.select("[id]"):
        if element["id"] in seen:
            del element["id"]
        else:
            seen.add(element["id"])
    return str(soup)


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
                notebook if solutions else without_solutions(notebook, repository, branch)
            )
        except (ValueError, nbformat.ValidationError) as error:
            raise LabKitError(f"labs/{lab.name} could not be read: {error}") from None
    exporter = make_exporter(set(notebooks), labs[0].parent)
    pages = {
        f"{name}.html": page(title_of(notebook), page_body(notebook, exporter), notebooks, name)
        for name, notebook in notebooks.items()
    }
    return {"index.html": index(notebooks), **pages, "style.css": style()}


def page(title: str, body: str, notebooks: dict[str, Any], current: str = "") -> str:
    """A whole page with links to all labs."""
    places = {"index": "All labs", **{name: name[:2] for name in notebooks}}
    titles = {
        "index": "All labs",
        **{name: title_of(notebook) for name, notebook in notebooks.items()},
    }
    nav = "".join(
        f'<a href="{name}.html" title="{html.escape(titles[name], quote=True)}"'
        f"{' aria-current=page' if name == current else ''}>{html.escape(label)}</a>"
        for name, label in places.items()
    )
    return PAGE.format(title=html.escape(title), nav=nav, body=body)


def index(notebooks: dict[str, Any]) -> str:
    """The first page: each lab with its first paragraph."""
    row = '<li><a href="{}.html">{}</a><br>{}</li>'
    rows = "".join(
        row.format(name, html.escape(title_of(notebook)), html.escape(first_paragraph(notebook)))
        for name, notebook in notebooks.items()
    )
    intro = (
        "Labs on parameter-efficient fine-tuning, with every output as it was computed. To run "
        "them and move the sliders, open them in Jupyter or Colab."
    )
    return page(
        "PEFT labs",
        f'<h1>PEFT labs</h1><p>{intro}</p><ul class="labs">{rows}</ul>',
        notebooks,
        "index",
    )


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
    return f"{STYLE}{light}\n@media (prefers-color-scheme: dark) {{\n{DARK}\n{dark}\n}}\n"


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
