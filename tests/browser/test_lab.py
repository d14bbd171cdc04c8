"""JupyterLab as `./run lab` opens it, in a browser: no question, no unsaved mark, and a slider that moves."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = Path("notebooks/00_start_here.ipynb")
TOKEN = "of-the-test"
#: In milliseconds, for slow machines.
LONG = 180_000


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of a server with the options of `./run lab`, in folders of its own."""
    loader = SourceFileLoader("run_script", str(ROOT / "run"))
    script = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_script", loader))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(script)
    sys.dont_write_bytecode = before
    folder = tmp_path_factory.mktemp("lab")
    own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("SETTINGS", "WORKSPACES")}
    # The kernel of this Python, and the package of this clone.
    own |= {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        f"--ServerApp.port={port}",
        f"--IdentityProvider.token={TOKEN}",
        "--no-browser",
        "--allow-root",
    ]
    command = [sys.executable, "-m", "jupyterlab", *script.lab_options(NOTEBOOK), *options]
    log = folder / "log"
    with open(log, "w") as file:
        server = subprocess.Popen(command, env=script.lab_environment() | own, stdout=file, stderr=file)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, log)
        yield f"http://127.0.0.1:{port}/?token={TOKEN}"
    finally:
        server.terminate()  # which ends its kernels
        server.wait()


def _wait_for(address, server, log):
    limit = time.monotonic() + LONG / 1000
    while True:
        assert server.poll() is None and time.monotonic() < limit, log.read_text()
        try:
            urllib.request.urlopen(address).close()
            return
        except OSError:
            time.sleep(0.2)


def test_lab_opens_the_first_notebook_and_its_slider_moves(page, address):
    page.set_default_timeout(LONG)
    page.goto(address)  # which leads to the first notebook
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    # The indicator of the kernel says idle too early.
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
    assert NOTEBOOK.name in page.locator(".lm-TabBar-tab.jp-mod-current").all_inner_texts()
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    assert page.locator(".jp-mod-dirty").count() == 0
    assert page.locator(".jp-RenderedMarkdown img[src*='00_start_here']").evaluate(
        "image => image.naturalWidth"
    )

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".jp-RenderedHTMLCommon figure img").first.wait_for()

    slider = page.get_by_role("slider")
    picture = page.locator(".widget-html img, .jupyter-widget-html img")
    before = picture.get_attribute("alt")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function("before => document.querySelector('.widget-html img').alt != before", arg=before)
    assert "margin, 10 labels" in before and "margin, 11 labels" in picture.get_attribute("alt")
    page.locator("select", has_text="coreset").select_option("coreset")
    page.wait_for_function("document.querySelector('.widget-html img').alt.includes('coreset, 11 labels')")
