"""A private JupyterLab and a headless Chromium for tests that use a demo as a person does."""

import pytest
from bench.browsing import (
    Server,
    cell_errors,
    headless_chromium,
    open_code,
    private_jupyterlab,
    run_instead,
    shut_down_kernel,
)
from watching import Watch

# for the next test: one cell, and no name of the test before
CLEAN = """async () => { const {content, sessionContext} = jupyterapp.shell.currentWidget;
    const cells = content.model.sharedModel;
    if (cells.cells.length > 1) cells.deleteCellRange(1, cells.cells.length);
    await sessionContext.session.kernel.requestExecute({code: '%reset -f', silent: true}).done; }"""


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory):
    """A running JupyterLab: {"base": address, "token": ..., "root": the folder that it serves}."""
    with private_jupyterlab(
        tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    ) as server:
        yield server._asdict()


@pytest.fixture(scope="session")
def browser():
    with headless_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def notebook(jupyterlab, browser):
    """A page with a notebook of one cell, and its watch. All demos share its kernel: to load
    JupyterLab and torch for each takes longer than the tests.
    """
    page = browser.new_page()
    page.set_default_timeout(60_000)
    watch = Watch(page)
    open_code(page, Server(**jupyterlab), "")
    watch.listen_to_kernel()
    yield page, watch
    shut_down_kernel(page)
    page.close()


@pytest.fixture
def open_demo(notebook):
    """`open_demo(code)` runs the code in a notebook's one cell and returns the page.

    An error on the page or in its console, and one that a callback raises in the kernel, fails the
    test.
    """
    page, watch = notebook
    page.set_viewport_size({"width": 1400, "height": 900})

    def opened(code: str):
        run_instead(page, code)
        assert not cell_errors(page), cell_errors(page)
        return page

    yield opened
    page.evaluate(CLEAN)
    watch.check()
