"""Fixtures of the platform's unit tests."""

from types import SimpleNamespace

import pytest
from page_browser import Browser
from platform_client import Client
from platform_samples import HOSTILE, png

import alhelpers.platform
from alhelpers.platform.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with alhelpers.platform.start(tmp_path_factory.mktemp("server") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return Client(server.url, server.token)


@pytest.fixture
def browser(server):
    """A browser that has opened the link."""
    browser = Browser(server.url)
    answer = browser.send("GET", server.page.removeprefix(server.url))
    assert answer.status == 303
    return browser


@pytest.fixture(scope="module")
def world(client):
    """A project with a dataset and items, with names that do harm if they are not escaped."""
    project = client.project("page project")
    dataset = client.send("POST", "/datasets", {"name": HOSTILE, "projects": [project["id"]]})
    items = [client.upload(dataset["id"], f"/raw/{number}.png", png()) for number in range(3)]
    metadata = {"user": {HOSTILE: HOSTILE}, "system": {"tags": {"train": True, HOSTILE: True}}}
    client.send("PATCH", f"/items/{items[0]['id']}?system=true", {"metadata": metadata})
    return SimpleNamespace(project=project, dataset=dataset, items=items)
