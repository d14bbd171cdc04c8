"""The page of the offline platform, in a browser: items are labelled by mouse and key, and the SDK reads the labels."""

import io

import numpy as np
import pytest
from PIL import Image

LABELS = ["circle", "square", "star"]


@pytest.fixture(scope="module")
def task(dl, project, tmp_path_factory):
    """A task of six images of 60 x 40 pixels; a model suggests a class on the first and two boxes on the last."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 255, (6, 40, 60, 3), np.uint8)
    dataset = project.datasets.create("shapes")
    dataset.add_labels(LABELS)
    for number, image in enumerate(pixels):
        content = io.BytesIO()
        Image.fromarray(image).save(content, "PNG")
        (folder / f"{number}.png").write_bytes(content.getvalue())
        dataset.items.upload(str(folder / f"{number}.png"))
    return dataset.tasks.create(task_name="label", assignee_ids=["ann@example.com"])


@pytest.fixture
def open_task(platform, page, task):
    """Open the labelling page of the task at its first open item."""
    page.goto(platform.page)

    def open_task():
        page.goto(f"{platform.url}/tasks/{task.id}/label")

    return open_task


@pytest.fixture
def found(task):
    """Read what an item of the task holds: its status, and its annotations as (label, left, top, right, bottom)."""

    def found(name):
        (item,) = [each for each in task.get_items().all() if each.name == name]
        annotations = item.annotations.list()
        assert all(each.creator == "ann@example.com" for each in annotations)
        boxes = [
            (each.label, each.left, each.top, each.right, each.bottom)
            for each in annotations
            if each.type == "box"
        ]
        return item.status(task_id=task.id), boxes or [each.label for each in annotations]

    return found


def shown(page, name):
    page.get_by_role("heading", name=name, exact=True).wait_for()


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def drag(page, start, end):
    """Drag the mouse between two places in the picture, in its pixels."""
    frame = page.locator("svg.picture image").bounding_box()
    scale = frame["width"] / 60
    (x, y), (to_x, to_y) = ((frame["x"] + x * scale, frame["y"] + y * scale) for x, y in (start, end))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=3)
    page.mouse.up()


def test_images_are_labelled_by_mouse(page, open_task, found):
    open_task()
    for number in range(5):
        shown(page, f"{number}.png")
        page.get_by_role("button", name=LABELS[number % 3]).click()
    shown(page, "5.png")
    assert [found(f"{number}.png") for number in range(5)] == [
        ("completed", [LABELS[number % 3]]) for number in range(5)
    ]
    # The last one is undone, and labelled by key; pressed at once, keys wait for their item.
    page.get_by_role("button", name="Undo").click()
    shown(page, "4.png")
    assert found("4.png") == (None, [])
    press(page, "3", "u", "u", "2", "1")
    shown(page, "5.png")
    assert [found("3.png"), found("4.png")] == [("completed", ["square"]), ("completed", ["circle"])]


def test_boxes_are_drawn_moved_and_deleted_by_mouse(page, open_task, found):
    open_task()
    shown(page, "5.png")
    marks = page.locator("svg.picture .boxes > g")
    drag(page, (5, 5), (25, 20))
    drag(page, (30, 25), (50, 35))
    drag(page, (0, 30), (10, 40))
    assert marks.count() == 3
    press(page, "Delete")
    assert marks.count() == 2
    press(page, "u", "Delete")
    drag(page, (15, 12), (20, 17))  # from its middle: moved
    press(page, "3")
    drag(page, (50, 35), (60, 40))  # by its corner: resized
    page.get_by_role("button", name="star").first.click()
    press(page, "u")  # the class of the second box
    press(page, "Enter")
    page.get_by_role("heading", name="label", exact=True).wait_for()
    status, boxes = found("5.png")
    assert status == "completed" and [each[0] for each in boxes] == ["star", "circle"]
    assert np.allclose([each[1:] for each in boxes], [[10, 10, 30, 25], [30, 25, 60, 40]], atol=0.3)
    # They can be deleted, also after they are saved.
    page.get_by_text("5.png").first.click()
    shown(page, "5.png")
    page.get_by_role("button", name="Clear the status").click()
    page.get_by_role("button", name="star").last.click()
    page.get_by_role("button", name="Delete the box").click()
    page.get_by_role("button", name="Completed").click()
    page.get_by_role("heading", name="label", exact=True).wait_for()
    assert [each[0] for each in found("5.png")[1]] == ["circle"]
