"""Write notebooks/pictures/12_page.png: a mined scene of notebook 12 on the platform's page, in chromium.

    python docs/picture_page.py

The notebook runs in a folder of its own up to its task, with loops as short as can be; then the first item is opened.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import sync_playwright

from alhelpers import notebook, platform
from alhelpers.runs import run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from conftest import CHROMIUM, OPTIONS  # noqa: E402

NOTEBOOK = ROOT / "notebooks" / "12_detect_objects.ipynb"
PICTURE = ROOT / "notebooks" / "pictures" / "12_page.png"
SHORT = {"training_steps": 300, "looked": 60, "steps": 10, "rounds": 1, "budget": 160, "test_images": 50}


def up_to_the_task(folder: Path) -> Path:
    """Write the notebook without what comes after its task."""
    document = nbformat.read(NOTEBOOK, as_version=4)
    (last,) = [number for number, cell in enumerate(document.cells) if "tasks.create(" in cell.source]
    document.cells = document.cells[: last + 1]
    path = folder / NOTEBOOK.name
    nbformat.write(document, path)
    return path


def main() -> None:
    """Run the notebook, open an item of its task, and take the picture."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)))
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        run(up_to_the_task(folder), SHORT | {"state_dir": str(folder / "state")}, folder / "executed.ipynb")
        dl = notebook.connect(state_dir=folder / "state")
        (task,) = dl.projects.get(project_name="Active Learning").tasks.list()
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        page = browser.new_page(viewport={"width": 900, "height": 620})
        server = platform.ensure(folder / "state")
        page.goto(server.page)
        page.goto(f"{server.url}/tasks/{task.id}/label")
        page.locator("svg.picture image").wait_for()
        shown = Image.open(io.BytesIO(page.screenshot()))
        shown.convert("RGB").quantize(256).save(PICTURE, "PNG", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
