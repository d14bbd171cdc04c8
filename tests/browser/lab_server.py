"""A JupyterLab server with the settings of `./run lab`, apart from the user's own."""

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: In milliseconds, for slow machines.
LONG = 180_000


class Lab:
    """A running server."""

    def __init__(self, port, token):
        self.base, self.token = f"http://127.0.0.1:{port}", token

    def open(self, page, path=""):
        """Open a path of the server, or the page that it shows first, and wait until the notebook's kernel is idle."""
        page.goto(f"{self.base}/{path}?token={self.token}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=LONG)
        # The indicator of the kernel says idle too early.
        page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=LONG)

    def run_all(self, page):
        """Run all cells by the menu."""
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def run_script():
    """Return the script `./run` as a module."""
    loader = SourceFileLoader("run_script", str(ROOT / "run"))
    script = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_script", loader))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(script)
    sys.dont_write_bytecode = before
    return script


@contextmanager
def running_lab(private, *options):
    """Start a server with options; its own files are in the folder `private`."""
    own = {f"JUPYTER_{name}_DIR": str(private / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(private / name) for name in ("SETTINGS", "WORKSPACES")}
    # The kernel of this Python, and the package of this clone.
    own |= {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    log = private / "lab.log"
    with open(log, "wb") as file:
        env = run_script().lab_environment() | own
        server = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT)
    try:
        _wait(server, f"http://127.0.0.1:{port}/api?token={token}", log)
        yield Lab(port, token)
    finally:
        server.terminate()  # which ends its kernels
        server.wait(30)


def _wait(server, url, log):
    deadline = time.monotonic() + LONG / 1000
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(url, timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
