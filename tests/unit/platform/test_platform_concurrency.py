"""Sixteen processes read and write the same things at once: nothing is lost, nothing is locked, all of them finish."""

import itertools
import threading

import pytest
from platform_client import Client
from platform_load import at_once

import alhelpers.platform
from alhelpers.platform.services.exports import copies
from alhelpers.platform.services.items import routes as items_routes
from alhelpers.platform.services.organizations.models import ORGANIZATION


@pytest.fixture(scope="module")
def platform():
    with alhelpers.platform.start() as platform:
        yield platform


def test_sixteen_processes_at_once(platform):
    at_once(platform, plain=14, sdk=2)


def test_downloads_never_fail_while_the_item_is_overwritten(platform):
    client = Client(platform.url, platform.token)
    dataset = client.dataset("overwritten")["id"]
    contents = [bytes([number]) * size for number in range(3) for size in (2_000, 400_000)]
    item = client.upload(dataset, "/x.bin", contents[0])["id"]
    stop = threading.Event()

    def overwrite():
        for content in itertools.takewhile(lambda _: not stop.is_set(), itertools.cycle(contents)):
            client.upload(dataset, "/x.bin", content, mode="overwrite")

    thread = threading.Thread(target=overwrite)
    thread.start()
    try:
        for _ in range(300):
            assert client.stream(item) in contents
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def held(monkeypatch):
    """Hold a function at its beginning, until the test lets it go on."""
    let_go = threading.Event()
    begun = threading.Event()

    def hold(module, name):
        held = getattr(module, name)

        def wait(*arguments, **options):
            begun.set()
            assert let_go.wait(60)
            return held(*arguments, **options)

        monkeypatch.setattr(module, name, wait)
        return begun

    hold.let_go = let_go
    yield hold
    let_go.set()


def test_who_reads_does_not_wait_for_a_clone(platform, held):
    client = Client(platform.url, platform.token)
    dataset = client.dataset("cloned")["id"]
    item = client.upload(dataset, "/x.bin", b"x")["id"]
    begun = held(copies, "copy_items")
    clone = threading.Thread(
        target=client.send, args=("POST", f"/datasets/{dataset}/clone", {"name": "copy"})
    )
    clone.start()
    assert begun.wait(60)
    query = {"filter": {"metadata.user.none": {"$exists": False}}}
    assert client.send("GET", f"/items/{item}")["id"] == item
    assert client.stream(item) == b"x"
    assert client.send("POST", f"/datasets/{dataset}/query", query)["totalItemsCount"] == 1
    names = [each["name"] for each in client.send("POST", "/datasets/query", {"filter": {}})["items"]]
    assert "copy" not in names
    held.let_go.set()
    clone.join()
    names = [each["name"] for each in client.send("POST", "/datasets/query", {"filter": {}})["items"]]
    assert "copy" in names


def test_who_fetches_or_writes_does_not_wait_for_slow_queries(platform, held):
    client = Client(platform.url, platform.token)
    dataset = client.dataset("slowly queried")["id"]
    item = client.upload(dataset, "/x.bin", b"x")["id"]
    begun = held(items_routes, "search")
    queries = [
        threading.Thread(target=client.send, args=("POST", f"/datasets/{dataset}/query", {"filter": {}}))
        for _ in range(4)
    ]
    for query in queries:
        query.start()
    assert begun.wait(60)
    client.send("PATCH", f"/items/{item}", {"metadata": {"user": {"a": 1}}})
    assert client.send("GET", f"/items/{item}")["metadata"]["user"] == {"a": 1}
    held.let_go.set()
    for query in queries:
        query.join()


def test_what_is_made_when_it_is_first_asked_for_is_made(platform):
    client = Client(platform.url, platform.token)
    path = f"/orgs/{ORGANIZATION['id']}"
    first = client.send("GET", path)
    assert client.send("GET", path) == first and client.send("GET", f"{path}/members") == first["members"]
