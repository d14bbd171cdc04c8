import os

import numpy as np
import pytest
import sdk_coverage
from helpers_contract import png
from page_browser import Browser


@pytest.fixture(scope="session")
def _recorder(dl):
    recorder = sdk_coverage.Recorder()
    recorder.install()
    return recorder


@pytest.fixture(autouse=True)
def _coverage(request):
    """Record which methods of the SDK are called, when `./run coverage` asks for it."""
    recorder = request.getfixturevalue("_recorder") if sdk_coverage.FOLDER in os.environ else None
    yield
    if recorder is not None:
        recorder.save()


@pytest.fixture
def dataset(project):
    return project.datasets.create("images")


@pytest.fixture
def truth(project):
    return project.datasets.create("truth")


@pytest.fixture
def browser(platform):
    """A browser that is logged in to the platform's page."""
    browser = Browser(platform.url)
    browser.send("GET", platform.page.removeprefix(platform.url))
    return browser


@pytest.fixture
def fill(dataset, tmp_path):
    """Upload small images and return them, sorted by name."""

    def upload(count=4, remote_path="/", names=None, **options):
        folder = tmp_path / f"upload{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for number, name in enumerate(names or [f"{index:04}.png" for index in range(count)]):
            (folder / name).write_bytes(png(np.full((8, 6, 3), (number * 20) % 255, np.uint8)))
        uploaded = dataset.items.upload(
            f"{folder}/*", remote_path=remote_path, raise_on_error=True, return_as_list=True, **options
        )
        return sorted(uploaded, key=lambda item: item.name)

    return upload


@pytest.fixture
def found(dl, dataset):
    """Find items by a filter or by one condition, and return the letters or numbers that they are named by."""

    def found_by(filters, values=None, operator=None):
        if isinstance(filters, str):
            filters = dl.Filters(field=filters, values=values, operator=operator)
        return "".join(sorted(item.name.removeprefix("000")[0] for item in dataset.items.list(filters).all()))

    return found_by


@pytest.fixture
def item(fill):
    (item,) = fill(1)
    return item


@pytest.fixture
def labelled(dl, dataset, tmp_path):
    """Eight images whose names are their brightness, labelled, in two subsets."""
    folder = tmp_path / "images"
    folder.mkdir()
    for value in (10, 20, 30, 40, 200, 210, 220, 230):
        (folder / f"{value}.png").write_bytes(png(np.full((8, 8, 3), value, np.uint8)))
    items = dataset.items.upload(f"{folder}/*", raise_on_error=True, return_as_list=True)
    dataset.add_labels(["dark", "light"])
    for item in items:
        value = int(item.name.split(".")[0])
        item.annotations.upload(
            dl.Annotation.new(
                annotation_definition=dl.Classification("light" if value > 100 else "dark"), item=item
            )
        )
        subset = "train" if value in (10, 20, 200, 210) else "validation"
        item.metadata["system"]["tags"] = {subset: True}
        item.update(system_metadata=True)
    return dataset
