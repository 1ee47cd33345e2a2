"""A private JupyterLab and a headless Chromium for tests that use a demo as a person does."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from lab_utils.environment import ROOT
from lab_utils.testing import find_chromium

SETTINGS = {  # no toast over the notebook, no kernel prompt, no autosave, every cell in the page
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "@jupyterlab/notebook-extension/tracker": {"autoStartDefault": True, "windowingMode": "none"},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]  # a test can't pass by reaching a network


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def server_command(root: Path, port: int, token: str) -> list[str]:
    options = ["--no-browser", "--ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", "--ServerApp.terminals_enabled=False",
               "--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [sys.executable, "-m", "jupyterlab", *options, *as_root]


def private_home(home: Path) -> dict[str, str]:
    """An environment in which Jupyter reads and writes below `home` only, with this project's settings."""
    for name, body in SETTINGS.items():
        file = home / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(body))
    folders = {"JUPYTER_CONFIG_DIR": "cfg", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "run", "IPYTHONDIR": "ipy",
               "MPLCONFIGDIR": "mpl", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "ws"}
    return {**os.environ, "HOME": str(home), **{name: str(home / folder) for name, folder in folders.items()}}


def wait_until_up(process: subprocess.Popen, url: str, log: Path, timeout: float = 90) -> None:
    end = time.monotonic() + timeout
    while True:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("JupyterLab did not start:\n" + log.read_text()[-3000:])
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=2).read()
            return
        time.sleep(0.2)


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory):
    """A running JupyterLab: {"base": its address, "token": ..., "root": the folder that it serves}."""
    home, root = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    port, token, log = free_port(), secrets.token_hex(16), home / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(server_command(root, port, token), env=private_home(home), stdout=file,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until_up(process, f"http://127.0.0.1:{port}/api/status?token={token}", log)
        yield {"base": f"http://127.0.0.1:{port}", "token": token, "root": root}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def open_demo(jupyterlab, browser):
    """`open_demo(code)` runs the code in a notebook's one cell and returns the page; errors on the page fail the test."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    def opened(code: str):
        name = f"demo-{secrets.token_hex(4)}.ipynb"
        path_line = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(path_line + code)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, jupyterlab["root"] / name)
        page.goto(f"{jupyterlab['base']}/doc/tree/{name}?token={jupyterlab['token']}", wait_until="domcontentloaded")
        page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell.currentWidget?.context")
        page.evaluate("""async () => { const p = jupyterapp.shell.currentWidget; await p.context.ready;
            await p.sessionContext.ready; await p.sessionContext.session.kernel.info;
            await jupyterapp.commands.execute('notebook:run-all-cells'); }""")
        assert not cell_errors(page), cell_errors(page)
        return page

    yield opened
    assert not cell_errors(page), cell_errors(page)
    page.close()
    assert not problems, problems


def cell_errors(page) -> list[str]:
    """The errors in the outputs of the open notebook."""
    return page.evaluate("""() => [...jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code')
        .flatMap(c => c.outputs.toJSON()).filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue)""")
