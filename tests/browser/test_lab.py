"""JupyterLab as `./run lab` opens it, in a browser: no question, no unsaved mark, and a slider that moves."""

from pathlib import Path

import pytest
from lab_server import LONG, run_script, running_lab

NOTEBOOK = Path("notebooks/00_start_here.ipynb")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server with the options of `./run lab`, in folders of its own."""
    with running_lab(tmp_path_factory.mktemp("lab"), *run_script().lab_options(NOTEBOOK)) as running:
        yield running


def test_lab_opens_the_first_notebook_and_its_slider_moves(page, lab):
    page.set_default_timeout(LONG)
    lab.open(page)  # which leads to the first notebook
    assert NOTEBOOK.name in page.locator(".lm-TabBar-tab.jp-mod-current").all_inner_texts()
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    assert page.locator(".jp-mod-dirty").count() == 0
    assert page.locator(".jp-RenderedMarkdown img[src*='00_start_here']").evaluate(
        "image => image.naturalWidth"
    )

    lab.run_all(page)
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
