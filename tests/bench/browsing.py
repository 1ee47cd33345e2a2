"""A private JupyterLab and a headless Chromium: what the browser tests and `bench widgets` drive a
demo with.

Nothing of the user's own Jupyter is read or written, and the browser resolves no name but this
machine's address.
"""

from __future__ import annotations

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lab_utils.files import ROOT
from lab_utils.start.doctor import find_chromium

SETTINGS = {  # no toast over the notebook, no kernel prompt, no autosave, every cell in the page
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/notebook-extension/tracker": {"autoStartDefault": True, "windowingMode": "none"},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
# nothing can work by reaching a network
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


class Server(NamedTuple):
    """A running JupyterLab: its address, its token and the folder that it serves."""

    base: str
    token: str
    root: Path


# --------------------------------------------------------------------------------------- JupyterLab
def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def server_command(root: Path, port: int, token: str) -> list[str]:
    """The command of a JupyterLab that serves `root` to this machine only."""
    options = [
        "--no-browser",
        "--ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={root}",
        "--ServerApp.terminals_enabled=False",
        "--LabApp.extension_manager=readonly",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [sys.executable, "-m", "jupyterlab", *options, *as_root]


def private_home(home: Path) -> dict[str, str]:
    """An environment in which Jupyter reads and writes below `home` only, with the SETTINGS."""
    for name, body in SETTINGS.items():
        file = home / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(body))
    folders = {
        "JUPYTER_CONFIG_DIR": "cfg",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "ipy",
        "MPLCONFIGDIR": "mpl",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "ws",
    }
    return {
        **os.environ,
        "HOME": str(home),
        **{name: str(home / folder) for name, folder in folders.items()},
    }


def wait_until_up(process: subprocess.Popen, url: str, log: Path, timeout: float = 90) -> None:
    """Returns once the server answers. RuntimeError with the end of its log if it ends or does not
    answer in time.
    """
    end = time.monotonic() + timeout
    while True:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("The server did not start:\n" + log.read_text()[-3000:])
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=2).read()
            return
        time.sleep(0.2)


@contextlib.contextmanager
def private_jupyterlab(home: Path, root: Path) -> Iterator[Server]:
    """JupyterLab on the notebooks in `root`, with its own `home`; both are there, `home` is removed
    in the end.
    """
    port, token, log = free_port(), secrets.token_hex(16), home / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            server_command(root, port, token),
            env=private_home(home),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(process, f"http://127.0.0.1:{port}/api/status?token={token}", log)
        yield Server(f"http://127.0.0.1:{port}", token, root)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


# ---------------------------------------------------------------------------------------- Chromium
@contextlib.contextmanager
def headless_chromium() -> Iterator[Any]:
    """playwright's handle of a Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        yield chromium
        chromium.close()


def open_code(page: Any, server: Server, code: str) -> None:
    """Run code in the one cell of a new notebook, in the page of a browser; returns when the cell
    has run.
    """
    import nbformat

    name = f"demo-{secrets.token_hex(4)}.ipynb"
    path_line = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(path_line + code)])
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, server.root / name)
    page.goto(f"{server.base}/doc/tree/{name}?token={server.token}", wait_until="domcontentloaded")
    page.wait_for_function(
        "() => window.jupyterapp && window.jupyterapp.shell.currentWidget?.context"
    )
    page.evaluate("""async () => { const p = jupyterapp.shell.currentWidget; await p.context.ready;
        await p.sessionContext.ready; await p.sessionContext.session.kernel.info;
        await jupyterapp.commands.execute('notebook:run-all-cells'); }""")


def run_instead(page: Any, code: str) -> None:
    """Run code in the one cell of the open notebook, which is saved with it; its output goes, its
    kernel goes on.
    """
    page.evaluate(
        """async code => { const shown = jupyterapp.shell.currentWidget;
        const cell = shown.content.widgets[0];
        cell.model.sharedModel.setSource(code); cell.model.clearExecution();
        await shown.context.save();
        await jupyterapp.commands.execute('notebook:run-all-cells'); }""",
        code,
    )


def show_demo(page: Any, name: str) -> None:
    """Show a demo of `stage.DEMOS` in the open notebook, instead of what it showed; its kernel
    goes on.

    Returns when the demo's picture is there and its controls have their names.
    """
    from lab_utils.course.stage import find_demo

    module, function = find_demo(name).builder.split(":")
    run_instead(page, f"from {module} import {function}\n{function}()")
    page.locator(".lab-kit-demo .lab-kit-picture[aria-live]").wait_for()


def cell_errors(page: Any) -> list[str]:
    """The errors in the outputs of the open notebook."""
    return page.evaluate("""() =>
        [...jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code')
        .flatMap(c => c.outputs.toJSON()).filter(o => o.output_type === 'error').map(o =>
            o.ename + ': ' + o.evalue)""")


def shut_down_kernel(page: Any) -> None:
    """End the kernel of the open notebook: each holds the memory of a torch."""
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
