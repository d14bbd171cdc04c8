"""The page of the offline platform, in a browser: items are labelled by mouse and key, and the SDK reads the labels."""

import io

import helpers_browser
import numpy as np
import pytest
from PIL import Image

LABELS = ["circle", "square", "star"]


@pytest.fixture
def dataset(project, tmp_path):
    """Six images of 60 x 40 pixels."""
    dataset = project.datasets.create("shapes")
    dataset.add_labels(LABELS)
    for number, image in enumerate(np.random.default_rng(0).integers(0, 255, (6, 40, 60, 3), np.uint8)):
        content = io.BytesIO()
        Image.fromarray(image).save(content, "PNG")
        (tmp_path / f"{number}.png").write_bytes(content.getvalue())
        dataset.items.upload(str(tmp_path / f"{number}.png"))
    return dataset


@pytest.fixture
def open_task(dl, platform, page, dataset):
    """Open the labelling page of a task with some of the images."""
    page.goto(platform.page)

    def open_task(*names):
        filters = dl.Filters(field="name", values=list(names), operator=dl.FiltersOperations.IN)
        task = dataset.tasks.create(task_name="label", assignee_ids=["ann@example.com"], filters=filters)
        page.goto(f"{platform.url}/tasks/{task.id}/label")
        return task

    return open_task


def found(task, name):
    """Read an item of a task: its status, and its annotations as labels, or as (label, left, top, right, bottom)."""
    (item,) = [each for each in task.get_items().all() if each.name == name]
    annotations = item.annotations.list()
    assert all(each.creator == "ann@example.com" for each in annotations)
    boxes = [each for each in annotations if each.type == "box"]
    places = [(each.label, each.left, each.top, each.right, each.bottom) for each in boxes]
    return item.status(task_id=task.id), places or [each.label for each in annotations]


def shown(page, name):
    page.get_by_role("heading", name=name, exact=True).wait_for()


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def drag(page, start, end):
    helpers_browser.drag(page, page.locator("svg.picture image"), start, end)


def test_images_are_labelled_by_mouse(page, open_task):
    task = open_task(*(f"{number}.png" for number in range(6)))
    for number in range(5):
        shown(page, f"{number}.png")
        page.get_by_role("button", name=LABELS[number % 3]).click()
    shown(page, "5.png")
    assert [found(task, f"{number}.png") for number in range(5)] == [
        ("completed", [LABELS[number % 3]]) for number in range(5)
    ]
    # Two are undone, and labelled by key; keys that are pressed at once wait for their item.
    page.get_by_role("button", name="Undo").click()
    shown(page, "4.png")
    assert found(task, "4.png") == (None, [])
    press(page, "u")
    shown(page, "3.png")
    press(page, "2", "1")
    shown(page, "5.png")
    assert [found(task, "3.png"), found(task, "4.png")] == [
        ("completed", ["square"]),
        ("completed", ["circle"]),
    ]


def test_nothing_is_drawn_while_an_item_is_saved(page, open_task):
    task, held = open_task("4.png", "5.png"), []
    shown(page, "4.png")
    marks = page.locator("svg.picture .boxes > g")
    page.route(
        "**/*", lambda route: held.append(route) if route.request.method == "POST" else route.continue_()
    )
    drag(page, (5, 5), (25, 20))
    press(page, "Enter")
    page.wait_for_function("document.querySelector('svg.picture').style.opacity == 0.5")
    drag(page, (30, 25), (50, 35))
    assert marks.count() == 1
    held[0].continue_()
    shown(page, "5.png")
    page.locator("svg.picture image").wait_for()
    status, boxes = found(task, "4.png")
    assert status == "completed" and np.allclose([each[1:] for each in boxes], [[5, 5, 25, 20]], atol=0.3)
    drag(page, (10, 10), (11, 11))
    drag(page, (40, 10), (41.5, 11.5))  # smaller than the reach of the mouse
    drag(page, (40.75, 10.75), (30.75, 20.75))  # and moved by its middle
    places = [
        marks.nth(1).locator("rect").first.get_attribute(side) for side in ("x", "y", "width", "height")
    ]
    assert np.allclose([float(place) for place in places], [30, 20, 1.5, 1.5], atol=0.3)


def test_boxes_are_drawn_moved_and_deleted_by_mouse(page, open_task):
    task = open_task("5.png")
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
    status, boxes = found(task, "5.png")
    assert status == "completed" and [each[0] for each in boxes] == ["star", "circle"]
    assert np.allclose([each[1:] for each in boxes], [[10, 10, 30, 25], [30, 25, 60, 40]], atol=0.3)
    # They can be deleted, also after they are saved.
    page.locator(".thumb").click()
    shown(page, "5.png")
    page.get_by_role("button", name="Clear the status").click()
    page.get_by_role("button", name="star").last.click()
    page.get_by_role("button", name="Delete the box").click()
    page.get_by_role("button", name="Completed").click()
    page.get_by_role("heading", name="label", exact=True).wait_for()
    assert [each[0] for each in found(task, "5.png")[1]] == ["circle"]


def test_suggestions_are_accepted_by_one_key(dl, dataset, page, open_task):
    info = {"name": "net", "model_id": "0" * 24, "confidence": 0.87}
    suggested = {
        "0.png": [dl.Classification("star")],
        "1.png": [dl.Box(5, 5, 25, 25, "star"), dl.Box(30, 30, 50, 39, "star")],
    }
    for name, definitions in suggested.items():
        item = dataset.items.get(filepath=f"/{name}")
        builder = item.annotations.builder()
        builder.add(annotation_definition=definitions, model_info=info)
        item.annotations.upload(builder)
    task = open_task("0.png", "1.png")
    shown(page, "0.png")
    assert "net suggests star 87.0%" in page.locator(".suggestion").inner_text()
    press(page, "a")
    shown(page, "1.png")
    assert page.locator(".boxes .suggested").count() == 2
    drag(page, (15, 15), (16, 16))  # moved, and so taken
    assert page.locator(".boxes .suggested").count() == 1
    press(page, "Escape", "a", "Enter")
    page.get_by_role("heading", name="label", exact=True).wait_for()
    assert found(task, "0.png") == ("completed", ["star"])
    status, boxes = found(task, "1.png")
    assert status == "completed" and len(boxes) == 2 and ("star", 30, 30, 50, 39) in boxes
