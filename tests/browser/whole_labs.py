"""Runs a whole lab in JupyterLab in Chromium as a student does: open it, run all cells, look at
every one of them.
"""

import contextlib
import os
import shutil

import nbformat
from bench.browsing import shut_down_kernel
from comparing import differences
from playwright.sync_api import TimeoutError
from watching import BADGE, Watch

from lab_utils.course.run import LABS
from lab_utils.drawing.live import VIEW
from lab_utils.files import ROOT

LONGEST = 15 * 60 * 1000  # milliseconds; a lab takes three minutes at most on two free cores
SLICE = 4000  # pixels: the height of a kept picture, of which a lab fills some
READY = """async () => { const notebook = jupyterapp.shell.currentWidget;
    await notebook.context.ready;
    await notebook.sessionContext.ready; await notebook.sessionContext.session.kernel.info; }"""
PREPARE = """async code => {
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const reply = await kernel.requestExecute({code, silent: true, store_history: false}).done;
    if (reply.content.status !== 'ok') throw new Error(reply.content.evalue); }"""
RUN_ALL = (
    "() => { jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.ranAll "
    "= true; }); }"
)
CODE_CELLS = """() => [...jupyterapp.shell.currentWidget.content.model.cells].filter(cell =>
    cell.type === 'code')
    .map(cell => ({count: cell.executionCount, source: cell.sharedModel.source,
        outputs: cell.outputs.toJSON()}))"""
RENDERED = """() => { const outputs = [...document.querySelectorAll('.jp-OutputArea-output')];
    return {
    views: outputs.filter(output => output.querySelector('.jupyter-widgets')).length,
    failed: outputs.filter(output =>
        /^(Loading widget|Error displaying widget)/.test(output.textContent.trim())
        || output.querySelector('.jupyter-widgets-error-widget')).map(output =>
            output.textContent)}; }"""
BROKEN = """badge => [...document.querySelectorAll('.jp-Notebook img')]
    .filter(image => image.complete && !image.naturalWidth && image.src !== badge).map(image =>
        image.alt || image.src)"""


def serve_copy(name: str, root):
    """Copy a lab into the folder that JupyterLab serves; `..` leads to the kit from there."""
    (root / "labs").mkdir(exist_ok=True)
    for kept in ("lab_utils", "data"):
        if not (root / kept).exists():
            (root / kept).symlink_to(ROOT / kept, target_is_directory=True)
    return shutil.copy(LABS / f"{name}.ipynb", root / "labs")


def kernel_settings(runs) -> str:
    """Code for the kernel before the first cell: results go to `runs`, and the kit is found by the
    setup cell alone.
    """
    return f"""import os as _os, sys as _sys
_os.environ["LAB_RUNS_DIR"] = {str(runs)!r}
_os.environ["PYTHONPATH"] = ""
_sys.path[:] = [path for path in _sys.path if path != {str(ROOT)!r}]"""


def open_notebook(page, jupyterlab: dict, path: str) -> None:
    """Open a notebook of the served folder; returns when its kernel has answered."""
    page.goto(
        f"{jupyterlab['base']}/doc/tree/{path}?token={jupyterlab['token']}",
        wait_until="domcontentloaded",
    )
    page.wait_for_function(
        "() => window.jupyterapp && window.jupyterapp.shell.currentWidget?.context", timeout=60_000
    )
    page.evaluate(READY)


def run_whole_lab(name: str, jupyterlab: dict, browser, folder) -> None:
    """Open labs/<name>, run all cells, and assert that nothing went wrong in a cell, a callback, a
    widget or the page, and that the outputs are the stored ones. Pictures of it are kept where
    something did, or LAB_SCREENSHOTS asks for them.
    """
    serve_copy(name, jupyterlab["root"])
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    watch = Watch(page)
    open_notebook(page, jupyterlab, f"labs/{name}.ipynb")
    page.evaluate(PREPARE, kernel_settings(folder / "runs"))
    watch.listen_to_kernel()
    look = "LAB_SCREENSHOTS" in os.environ
    try:
        page.evaluate(RUN_ALL)
        page.wait_for_function("() => window.ranAll", timeout=LONGEST)
        check_cells(page, name)
        check_outputs(page, name)
        check_widgets(page)
        assert not watch.troubles(), watch.troubles()
    except Exception:
        look = True
        raise
    finally:
        if look:
            keep_pictures(page, name, folder)
        shut_down_kernel(page)
        page.close()


def check_cells(page, name: str) -> None:
    """Every code cell of the stored lab ran once, in order, without an error."""
    cells = page.evaluate(CODE_CELLS)
    errors = [
        (cell["source"], output["ename"], output["evalue"])
        for cell in cells
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]
    assert not errors, errors
    stored = nbformat.read(LABS / f"{name}.ipynb", as_version=4)
    assert [cell["source"] for cell in cells] == [
        cell.source for cell in stored.cells if cell.cell_type == "code"
    ]
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))


def check_outputs(page, name: str) -> None:
    """The outputs are the stored ones, as near as each cell's metadata asks."""
    stored = nbformat.read(LABS / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in stored.cells if cell.cell_type == "code"]
    differ = []
    for cell, run in zip(cells, page.evaluate(CODE_CELLS), strict=True):
        if lines := differences(cell, run["outputs"]):
            differ += [f"{cell.id}:\n{cell.source}", *lines]
    assert not differ, "\n".join(differ)


def check_widgets(page, timeout: float = 30_000) -> None:
    """Every widget that a cell shows is drawn, and no picture of the page is broken. `timeout` is
    in milliseconds.
    """
    shown = sum(
        VIEW in output.get("data", {})
        for cell in page.evaluate(CODE_CELLS)
        for output in cell["outputs"]
    )
    with contextlib.suppress(TimeoutError):  # a view comes some moments after its cell
        page.wait_for_function(
            f"shown => {{ const now = ({RENDERED})(); return now.views >= shown && "
            f"!now.failed.length; }}",
            arg=shown,
            timeout=timeout,
        )
    now = page.evaluate(RENDERED)
    assert now["views"] >= shown and not now["failed"], (shown, now)
    broken = page.evaluate(BROKEN, BADGE)
    assert not broken, broken


def keep_pictures(page, name: str, folder) -> None:
    """The lab from top to bottom as PNG files, in the folder that LAB_SCREENSHOTS names, or, where
    something went wrong, with the test's files.
    """
    kept = folder if "LAB_SCREENSHOTS" not in os.environ else ROOT / os.environ["LAB_SCREENSHOTS"]
    kept.mkdir(parents=True, exist_ok=True)
    page.set_viewport_size({"width": 1200, "height": SLICE})
    panel = page.locator(".jp-WindowedPanel-outer").first
    height = panel.evaluate("panel => panel.scrollHeight")
    for number, top in enumerate(range(0, height, SLICE - 200)):
        panel.evaluate("(panel, top) => panel.scrollTo(0, top)", top)
        page.screenshot(path=kept / f"{name}-{number}.png")
