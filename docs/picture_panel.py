"""Write notebooks/pictures/10_panel.png: the labelling panel of notebook 10, as JupyterLab shows it in chromium.

    python docs/picture_panel.py

The notebook runs in a folder of its own, up to the panel, with you as the labeller; three images are labelled by key.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from conftest import CHROMIUM, OPTIONS  # noqa: E402
from lab_server import LONG, running_lab  # noqa: E402

NOTEBOOK = ROOT / "notebooks" / "10_label_it_yourself.ipynb"
PICTURE = ROOT / "notebooks" / "pictures" / "10_panel.png"


def notebook(state_dir: Path) -> nbformat.NotebookNode:
    """Return the notebook up to its panel, for a person who labels."""
    document = nbformat.read(NOTEBOOK, as_version=4)
    (last,) = [
        number
        for number, cell in enumerate(document.cells)
        if "notebook.label_task(" in cell.source and cell.cell_type == "code"
    ]
    document.cells = document.cells[: last + 1]
    (parameters,) = [cell for cell in document.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source += f'\nlabeller = "you"\nstate_dir = {str(state_dir)!r}'
    return document


def main() -> None:
    """Run the notebook, label, and take the picture."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)))
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (folder / "lab").mkdir()
        nbformat.write(notebook(folder / "state"), folder / NOTEBOOK.name)
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1000, "height": 1000})
        page.set_default_timeout(LONG)
        with running_lab(folder / "lab", f"--ServerApp.root_dir={folder}") as lab:
            lab.open(page, f"lab/tree/{NOTEBOOK.name}")
            lab.run_all(page)
            panel = page.locator(".alhelpers-labelling")
            panel.locator("img.item").click()
            for number in range(3):
                panel.locator(".progress", has_text=f"{number} of").wait_for()
                page.keyboard.press(str(number + 1))
            panel.locator(".progress", has_text="3 of").wait_for()
            panel.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
