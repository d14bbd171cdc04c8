"""The labelling panel in JupyterLab: labels by key and boxes by mouse reach the platform."""

import nbformat
import numpy as np
import pytest
from helpers_browser import drag
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
    # In a workspace of its own: JupyterLab would open the notebooks of the tests before it too.
    lab.open(page, f"lab/workspaces/{task.id}/tree/{kind}.ipynb")
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


@pytest.fixture
def draw(page):
    """Drag the mouse between two places of the image of a panel, in pixels of the image."""
    return lambda start, end: drag(page, page.locator(".alhelpers-labelling svg.item image"), start, end)


def test_boxes_are_drawn_moved_resized_and_deleted(lab, folder, page, platform, make_task, draw):
    from alhelpers.dataloop.labelling import read_answers

    task = make_task(3, ["cat", "dog"])
    panel = show_panel(lab, folder, page, platform, task, kind="detection")
    boxes = panel.locator("svg .boxes > g")
    panel.locator("svg.item image").wait_for()
    draw((5, 1), (7, 3))
    page.keyboard.press("Delete")
    assert boxes.count() == 0
    page.keyboard.press("2")
    draw((1, 1), (4, 4))
    draw((2.5, 2.5), (3.5, 3.5))  # from its middle: moved
    draw((5, 5), (6, 7))  # by its corner: resized
    draw((0, 6), (2, 8))
    page.keyboard.press("1")  # of the selected box
    assert boxes.all_text_contents() == ["dog", "cat"]
    draw((3, 0.5), (3.004, 0.504))  # a click beside them
    draw((6.5, 0.5), (7.5, 1.5))
    panel.get_by_role("button", name="× box").click()
    assert boxes.count() == 2
    page.keyboard.press("u")
    page.keyboard.press("u")
    assert boxes.all_text_contents() == ["dog", "cat"]
    page.keyboard.press("Enter")
    shows(panel, "1 of 3")
    assert boxes.count() == 0
    check_boxes(read_answers(task, "detection"), [("dog", 2, 2, 6, 7), ("cat", 0, 6, 2, 8)])
    # With nothing to undo here, the answer is undone, and its boxes are there again.
    page.keyboard.press("u")
    shows(panel, "0 of 3")
    assert boxes.all_text_contents() == ["dog", "cat"] and read_answers(task, "detection") == {}
    draw((1, 7), (1, 6))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    shows(panel, "1 of 3")
    check_boxes(read_answers(task, "detection"), [("dog", 2, 2, 6, 7), ("cat", 1, 5, 3, 7)])
    page.keyboard.press("Enter")
    shows(panel, "2 of 3")
    page.keyboard.press("d")
    panel.get_by_text("All done").wait_for()
    assert sorted(map(len, read_answers(task, "detection").values())) == [0, 2]
    assert page.locator(".jp-Cell").count() == 2, "JupyterLab has not seen the keys"


def test_no_key_loses_what_is_drawn(lab, folder, page, platform, dl, make_task, draw):
    from alhelpers.dataloop.labelling import read_answers

    task = make_task(3, ["cat", "dog"])
    panel = show_panel(lab, folder, page, platform, task, kind="detection")
    boxes, image = panel.locator("svg .boxes > g"), panel.locator("svg.item image")
    image.wait_for()
    draw((1, 1), (4, 4))
    page.keyboard.press("Enter")
    shows(panel, "1 of 3")
    draw((1, 1), (3, 3))
    # While the mouse holds a box, keys do nothing, and Escape lets it go.
    corner = image.bounding_box()
    page.mouse.move(corner["x"] + 0.6 * corner["width"], corner["y"] + 0.6 * corner["height"])
    page.mouse.down()
    page.mouse.move(corner["x"] + 0.9 * corner["width"], corner["y"] + 0.9 * corner["height"])
    for key in ("u", "s", "d", "Enter", "2"):
        page.keyboard.press(key)
    assert boxes.all_text_contents() == ["cat", "cat"]
    page.keyboard.press("Escape")
    page.mouse.move(corner["x"] + 0.8 * corner["width"], corner["y"] + 0.9 * corner["height"])
    page.mouse.up()
    assert boxes.count() == 1
    # What is not saved is left at the second press only.
    page.keyboard.press("s")
    panel.get_by_text("The boxes are not saved").wait_for()
    assert boxes.count() == 1 and len(read_answers(task, "detection")) == 1
    page.keyboard.press("s")
    panel.get_by_text("The boxes are not saved").wait_for(state="hidden")
    assert boxes.count() == 0
    # A kernel that has ended saves nothing, and the panel says so.
    draw((1, 1), (3, 3))
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name="Shut Down Kernel", exact=True).click()
    page.locator("#jp-main-statusbar", has_text="No Kernel").wait_for()
    image.click(position={"x": 2, "y": 2})
    page.keyboard.press("Enter")
    panel.get_by_text("The kernel has stopped").wait_for()
    assert boxes.count() == 1


def check_boxes(answers, expected):
    (found,) = answers.values()
    found, expected = sorted(found), sorted(expected)
    assert [box[0] for box in found] == [box[0] for box in expected]
    assert np.allclose([box[1:] for box in found], [box[1:] for box in expected], atol=0.15)


def test_suggested_boxes_are_saved_or_deleted(lab, folder, page, platform, dl, make_task, draw):
    from alhelpers.dataloop.labelling import read_answers

    task = make_task(1, ["cat", "dog"])
    (item,) = task.get_items().all()
    builder = item.annotations.builder()
    for left, label in ((1, "cat"), (5, "dog")):
        builder.add(
            annotation_definition=dl.Box(left=left, top=2, right=left + 2, bottom=6, label=label),
            model_info={"name": "m", "confidence": 0.9},
        )
    item.annotations.upload(builder)
    panel = show_panel(lab, folder, page, platform, task, kind="detection")
    boxes = panel.locator("svg .boxes > g")
    panel.get_by_text("the model suggests 2 boxes").wait_for()
    panel.locator("svg .suggested").last.wait_for()
    assert sorted(boxes.all_text_contents()) == ["cat?", "dog?"]
    draw((6, 4), (6, 3))
    assert sorted(boxes.all_text_contents()) == ["cat?", "dog"]
    page.keyboard.press("Enter")
    panel.get_by_text("All done").wait_for()
    check_boxes(read_answers(task, "detection"), [("cat", 1, 2, 3, 6), ("dog", 5, 1, 7, 5)])
