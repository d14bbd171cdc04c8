"""A real browser: Debian's chromium, which `./run test` installs, driven by playwright."""

import os
import shutil
import urllib.parse

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# Nothing of the browser's own reaches the network, and it runs in a container as root.
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def chromium():
    """The browser, started once; each test opens pages of its own."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert path, (
        "there is no chromium: `./run test` installs it on Debian as root; elsewhere install it by hand"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS, env={**os.environ})
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page of 1280 x 900 that reaches this machine alone; a test fails on an error in its console."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.route(lambda url: not _is_local(url), lambda route: route.abort())
    page = context.new_page()
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def _is_local(url):
    parts = urllib.parse.urlsplit(url)
    return parts.scheme in ("data", "blob", "about", "file") or parts.hostname in ("127.0.0.1", "localhost")
