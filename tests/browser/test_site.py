"""The site in a browser, from its files as from a server."""

import functools
import http.server
import threading

import pytest
from small_site import build_site, write_clone


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of a small clone."""
    root = tmp_path_factory.mktemp("clone")
    assert build_site.build(root, write_clone(root), root / "site") == []
    return root / "site"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture(scope="module")
def address(site):
    """Where a server shows the site."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=site)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(params=["file", "server"])
def start(request, site, address):
    """The address of the first page, and nothing but this machine behind it."""
    return (site / "index.html").as_uri() if request.param == "file" else f"{address}/index.html"


def test_search_finds_a_word_and_leads_to_it(page, start):
    page.goto(start)
    page.fill("input[name=q]", "entropy")
    page.keyboard.press("Enter")
    page.get_by_role("main").get_by_role("link", name="entropy").click()
    assert page.url.endswith("docs/glossary.html#entropy")
    page.get_by_role("main").get_by_role("link", name="a notebook").click()
    assert page.locator("h1").inner_text().startswith("2. Go on")


def test_solutions_are_folded_and_formulas_drawn(page, start):
    page.goto(start.replace("index.html", "notebooks/02_go_on.html"))
    code = page.locator("text=show(count)")
    assert not code.is_visible()
    page.locator("summary", has_text="Show the cell").click()
    assert code.is_visible()
    assert page.locator("math mfrac").bounding_box()["height"] > 20


def test_a_phone_shows_a_page_in_its_width(page, start):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(start.replace("index.html", "notebooks/01_begin.html"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
