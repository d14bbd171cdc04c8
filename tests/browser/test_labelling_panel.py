"""The labelling panel in JupyterLab: labels by key and boxes by mouse reach the platform."""

import nbformat
import numpy as np
import pytest
from lab_server import running_lab
from PIL import Image

CONNECT = """
from alhelpers import notebook
dl = notebook.connect(project={project!r}, state_dir={state!r})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("lab"), f"--ServerApp.root_dir={folder}") as running:
        yield running


@pytest.fixture
def make_task(project, tmp_path):
    """Make a task of a few grey images."""

    def make(count, labels):
        dataset = project.datasets.create("images")
        dataset.add_labels(labels)
        for number in range(count):
            pixels = np.full((8, 8), 40 * number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        dataset.items.upload(f"{tmp_path}/*", raise_on_error=True)
        return dataset.tasks.create(task_name="label", assignee_ids=["ann@example.com"])

    return make


def show_panel(lab, folder, page, platform, task, *, kind):
    """Write a notebook that shows the panel of a task, open it and run it."""
    connect = CONNECT.format(project=task.project.name, state=str(platform.state_dir))
    show = f"queue = notebook.label_task(dl.tasks.get(task_id={task.id!r}), kind={kind!r})"
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (connect, show)])
    document.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(document, folder / f"{kind}.ipynb")
    lab.open(page, f"lab/tree/{kind}.ipynb")
    lab.run_all(page)
    panel = page.locator(".alhelpers-labelling")
    panel.locator(".progress").wait_for(timeout=120_000)
    return panel


def shows(panel, progress):
    panel.locator(".progress", has_text=progress).wait_for()


def test_five_images_are_labelled_by_key(lab, folder, page, platform, dl, make_task):
    from alhelpers.dataloop.labelling import read_answers

    task = make_task(6, ["zero", "one"])
    panel = show_panel(lab, folder, page, platform, task, kind="classification")
    panel.locator("img.item").click()
    shows(panel, "0 of 6")
    for number, key in enumerate("12121", start=1):
        page.keyboard.press(key)
        shows(panel, f"{number} of 6")
    page.keyboard.press("u")
    shows(panel, "4 of 6")
    panel.get_by_role("button", name="zero").click()
    shows(panel, "5 of 6")
    names = {item.id: item.name for item in task.get_items().all()}
    assert {names[item_id]: found for item_id, found in read_answers(task).items()} == {
        "0.png": ["zero"],
        "1.png": ["one"],
        "2.png": ["zero"],
        "3.png": ["one"],
        "4.png": ["zero"],
    }
    page.keyboard.press("d")
    panel.get_by_text("All done").wait_for()
    assert page.locator(".jp-Cell").count() == 2, "JupyterLab has not seen the keys"
    assert dl.tasks.get(task_id=task.id).status == "completed"


def test_boxes_are_drawn_moved_and_deleted(lab, folder, page, platform, make_task):
    from alhelpers.dataloop.labelling import read_answers

    task = make_task(2, ["cat", "dog"])
    panel = show_panel(lab, folder, page, platform, task, kind="detection")
    panel.locator("svg").wait_for()
    corner = panel.locator("svg").first.bounding_box()
    drag(page, corner, (5, 1), (7, 3))
    page.keyboard.press("Delete")
    panel.get_by_text("dog").click()
    drag(page, corner, (2, 1), (6, 5))
    drag(page, corner, (4, 3), (5, 4))
    page.keyboard.press("Enter")
    shows(panel, "1 of 2")
    ((box,),) = read_answers(task, "detection").values()
    assert box.label == "dog"
    assert np.allclose(box[1:], (3, 2, 7, 6), atol=0.3)
    page.keyboard.press("Enter")
    panel.get_by_text("All done").wait_for()
    assert sorted(map(len, read_answers(task, "detection").values())) == [0, 1]


def drag(page, corner, start, end):
    """Press at a place of the image, in image pixels, and release at another."""
    (x, y), (to_x, to_y) = ((corner["x"] + 40 * a, corner["y"] + 40 * b) for a, b in (start, end))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move((x + to_x) / 2, (y + to_y) / 2)
    page.mouse.move(to_x, to_y)
    page.mouse.up()
