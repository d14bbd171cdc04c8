"""What the services of items and datasets tell the others."""

import pytest

from alhelpers.platform.api import Call, run_listeners
from alhelpers.platform.services.annotations import routes as annotations
from alhelpers.platform.services.collections import routes as collections
from alhelpers.platform.services.datasets import models as datasets
from alhelpers.platform.services.datasets import routes as dataset_routes
from alhelpers.platform.services.exports import routes as exports
from alhelpers.platform.services.items import models as items
from alhelpers.platform.services.items import routes as item_routes
from alhelpers.platform.services.projects import models as projects
from alhelpers.platform.store import Store

USER = "a@example.com"


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def happened(store):
    """Run a handler as one request, and give what it told: (resource, action, id)."""

    def run(handler, body=None, query=None, **params):
        with store.transaction():
            handler(Call(store, "http://x", USER, params, query or {}, body))
            return [(event.resource, event.action, event.id) for event in store.events]

    return run


@pytest.fixture
def dataset(store):
    with store.transaction():
        project = projects.create(store, "p", USER)
        return datasets.create(store, "d", project["id"], USER)


@pytest.fixture
def upload(store, dataset, tmp_path):
    def one(path, content=b"x", *, overwrite=False):
        file = tmp_path / "incoming" / "file"
        file.write_bytes(content)
        with store.transaction():
            given = items.Upload(path, file, len(content), {}, {}, None, overwrite)
            item_id, _ = items.add_upload(store, dataset["id"], given, USER)
            return item_id, [(event.resource, event.action) for event in store.events]

    return one


def test_uploads(upload):
    first, told = upload("/a/x.txt")
    assert told == [("Item", "Created")]
    assert upload("/a/x.txt") == (first, [])
    assert upload("/a/x.txt", overwrite=True) == (first, [("Item", "Updated")])


def test_changes_of_items(happened, upload, dataset):
    item_id, _ = upload("/a/x.txt")
    other, _ = upload("/y.txt")
    updated = [("Item", "Updated", item_id)]
    assert happened(item_routes.update, {"metadata": {"user": {"a": 1}}}, item_id=item_id) == updated
    query = {"filter": {"name": "x.txt"}, "resource": "items"}
    change = {"update": {"metadata": {"user": {"b": 1}}}}
    assert happened(item_routes.query, query | change, dataset_id=dataset["id"]) == updated
    change = {"query": query, "updateQuery": change | {"systemSpace": True}}
    told = happened(item_routes.bulk_update_metadata, change, dataset_id=dataset["id"])
    assert told == updated
    happened(collections.create, {"name": "c"}, dataset_id=dataset["id"])
    change = {"query": query, "collections": ["c"]}
    assert happened(collections.assign, change, dataset_id=dataset["id"]) == updated
    shares = {"train": 100, "validation": 0, "test": 0}
    told = happened(item_routes.split, {"itemsQuery": query, "MLSplitList": shares}, dataset_id=dataset["id"])
    assert told == updated
    happened(annotations.create, {"type": "class", "label": "x"}, item_id=item_id)
    told = happened(item_routes.query, query | {"delete": True}, dataset_id=dataset["id"])
    assert [each[:2] for each in told] == [("Annotation", "Deleted"), ("Item", "Deleted")]
    assert happened(item_routes.delete, item_id=other) == [("Item", "Deleted", other)]


def test_clones_are_clones_and_not_created(happened, upload, dataset, store):
    item_id, _ = upload("/x.txt")
    body = {"targetDatasetId": dataset["id"], "remoteFileName": "/y.txt"}
    told = happened(item_routes.clone, body, item_id=item_id)
    assert [each[:2] for each in told] == [("Item", "Clone")] and told[0][2] != item_id
    told = happened(exports.clone_dataset, {"name": "copy"}, dataset_id=dataset["id"])
    assert [each[:2] for each in told] == [("Dataset", "Clone"), ("Item", "Clone"), ("Item", "Clone")]


def test_datasets(happened, dataset):
    project_id = dataset["projects"][0]
    told = happened(dataset_routes.create, {"name": "new", "projects": [project_id]})
    assert [each[:2] for each in told] == [("Dataset", "Created")]
    told = happened(dataset_routes.update, {"name": "other"}, dataset_id=dataset["id"])
    assert told == [("Dataset", "Updated", dataset["id"])]
    assert happened(dataset_routes.delete, dataset_id=dataset["id"]) == [
        ("Dataset", "Deleted", dataset["id"])
    ]


def test_any_number_of_events_but_no_ring_of_them(store, monkeypatch):
    monkeypatch.setattr("alhelpers.platform.api.MAX_EVENTS", 10)
    told = []
    listeners = {("Item", "Updated"): [lambda call, event: told.append(event.id)]}
    with store.transaction():
        call = Call(store, "http://x", USER, {}, {}, None)
        for number in range(50):
            store.emit("Item", "Updated", str(number))
        assert len(run_listeners(call, listeners)) == len(told) == 50
    listeners = {("Item", "Updated"): [lambda call, event: call.store.emit("Item", "Updated", event.id)]}
    with pytest.raises(RuntimeError, match="cause each other"), store.transaction():
        store.emit("Item", "Updated", "1")
        run_listeners(Call(store, "http://x", USER, {}, {}, None), listeners)
