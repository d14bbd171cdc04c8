"""A JupyterLab server for the browser tests, apart from the user's own settings."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

#: Settings that ask nothing and show every cell at once.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
}


class Lab:
    """A running server that shows a folder of notebooks."""

    def __init__(self, port, token, folder):
        self.base, self.token, self.folder = f"http://127.0.0.1:{port}", token, folder

    def open(self, page, notebook):
        """Open a notebook of the folder and wait until its kernel is idle."""
        page.goto(f"{self.base}/lab/tree/{notebook}?token={self.token}&reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=120_000)

    def run_all(self, page):
        """Run all cells by the menu."""
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()


@contextmanager
def running_lab(folder, private, environment=None):
    """Start a server on a folder of notebooks; its own files are under `private`."""
    for name, values in SETTINGS.items():
        path = private / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(8)
    folders = {
        f"JUPYTER_{name}_DIR": str(private / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    } | {"JUPYTERLAB_SETTINGS_DIR": str(private / "settings")}
    folders["JUPYTERLAB_WORKSPACES_DIR"] = str(private / "workspaces")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    with open(private / "lab.log", "wb") as log:
        env = os.environ | folders | (environment or {})
        server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(server, f"http://127.0.0.1:{port}/api?token={token}", private / "lab.log")
        yield Lab(port, token, folder)
    finally:
        server.terminate()
        server.wait(30)


def _wait(server, url, log):
    deadline = time.monotonic() + 180
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(url, timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
