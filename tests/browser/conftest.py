"""A private JupyterLab and a headless Chromium for tests that use a demo as a person does."""

import pytest
from bench.browsing import (
    Server,
    cell_errors,
    headless_chromium,
    open_code,
    private_jupyterlab,
    shut_down_kernel,
)
from watching import Watch


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


@pytest.fixture
def open_demo(jupyterlab, browser):
    """`open_demo(code)` runs the code in a notebook's one cell and returns the page.

    An error on the page or in its console, and one that a callback raises in the kernel, fails the
    test.
    """
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
    watch = Watch(page)

    def opened(code: str):
        open_code(page, Server(**jupyterlab), code)
        watch.listen_to_kernel()
        assert not cell_errors(page), cell_errors(page)
        return page

    yield opened
    assert not cell_errors(page), cell_errors(page)
    troubles = watch.troubles()
    shut_down_kernel(page)
    page.close()
    assert not troubles, troubles
