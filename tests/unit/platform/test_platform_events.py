"""The events that the services emit, and what other services make of them."""

import pytest

from alhelpers.platform.api import Call, run_listeners
from alhelpers.platform.errors import ApiError
from alhelpers.platform.services import LISTENERS, ROUTES
from alhelpers.platform.services.datasets import models as datasets
from alhelpers.platform.services.items import models as items
from alhelpers.platform.services.projects import models as projects

USER = "a@example.com"
HANDLERS = {(route.method, route.path): route.handler for route in ROUTES}


@pytest.fixture
def send(store):
    """Handle a request with all listeners, and return its events: (resource, action, id)."""

    def send(method, path, body=None, **params):
        with store.transaction():
            call = Call(store, "http://x", USER, params, {}, body)
            HANDLERS[method, path](call)
            return [(event.resource, event.action, event.id) for event in run_listeners(call, LISTENERS)]

    return send


@pytest.fixture
def project(store):
    with store.transaction():
        return projects.create(store, "p", USER)["id"]


@pytest.fixture
def dataset(store, project):
    with store.transaction():
        return datasets.create(store, "d", project, USER)["id"]


@pytest.fixture
def upload(store, dataset):
    def upload(path, content=b"x", *, overwrite=False):
        file = store.incoming / "file"
        file.write_bytes(content)
        with store.transaction():
            given = items.Upload(path, file, len(content), {}, {}, None, overwrite)
            item_id, _ = items.add_upload(store, dataset, given, USER)
            return item_id, [event.action for event in store.events]

    return upload


@pytest.fixture
def item(upload):
    return upload("/a/x.txt")[0]


def only(store, kind):
    (row,) = store.find(kind)
    return row.id


def actions(events, resource):
    return [action for kind, action, _ in events if kind == resource]


def test_uploads(upload):
    first, told = upload("/a/x.txt")
    assert told == ["Created"]
    assert upload("/a/x.txt") == (first, [])
    assert upload("/a/x.txt", overwrite=True) == (first, ["Updated"])


def test_changes_of_items(send, upload, dataset, item):
    other, _ = upload("/y.txt")
    query, metadata = {"filter": {"name": "x.txt"}, "resource": "items"}, {"metadata": {"user": {"a": 1}}}
    send("POST", "/datasets/{id}/items/collections", {"name": "c"}, id=dataset)
    bulk = {"query": query, "updateQuery": {"update": metadata, "systemSpace": True}}
    split = {"itemsQuery": query, "MLSplitList": {"train": 100, "validation": 0, "test": 0}}
    for method, path, body in (
        ("PATCH", "/items/{id}", metadata),
        ("POST", "/datasets/{id}/query", query | {"update": metadata}),
        ("POST", "/datasets/{id}/items/bulk-update-metadata", bulk),
        ("POST", "/datasets/{id}/items/collections/bulk-add", {"query": query, "collections": ["c"]}),
        ("POST", "/datasets/{id}/split", split),
    ):
        told = send(method, path, body, id=item if path.startswith("/items") else dataset)
        assert told == [("Item", "Updated", item)], path
    send("POST", "/items/{id}/annotations", {"type": "class", "label": "x"}, id=item)
    told = send("POST", "/datasets/{id}/query", query | {"delete": True}, id=dataset)
    assert [each[:2] for each in told] == [("Annotation", "Deleted"), ("Item", "Deleted")]
    assert send("DELETE", "/items/{id}", id=other) == [("Item", "Deleted", other)]


def test_clones_are_clones_and_not_created(send, dataset, item):
    body = {"targetDatasetId": dataset, "remoteFileName": "/y.txt"}
    told = send("POST", "/items/{id}/clone", body, id=item)
    assert [each[:2] for each in told] == [("Item", "Clone")] and told[0][2] != item
    told = send("POST", "/datasets/{id}/clone", {"name": "copy"}, id=dataset)
    assert [each[:2] for each in told] == [("Dataset", "Clone"), ("Item", "Clone"), ("Item", "Clone")]


def test_datasets(send, project, dataset):
    told = send("POST", "/datasets", {"name": "new", "projects": [project]})
    assert [each[:2] for each in told] == [("Dataset", "Created")]
    for method, action in (("PATCH", "Updated"), ("DELETE", "Deleted")):
        told = send(method, "/datasets/{id}", {"name": "other"}, id=dataset)
        assert told == [("Dataset", action, dataset)]


def test_annotations(store, send, dataset, item):
    given = [{"type": "class", "label": "a"}, {"type": "class", "label": "b"}]
    told = send("POST", "/items/{id}/annotations", given, id=item)
    assert actions(told, "Annotation") == ["Created", "Created"]
    first, second = (row.id for row in store.find("annotations"))
    query = {"resource": "annotations", "filter": {"id": second}}
    change = query | {"update": {"metadata": {"user": {"x": 1}}}}
    for method, path, body, action in (
        ("PUT", "/annotations/{annotation_id}", {"label": "c"}, "Updated"),
        ("POST", "/datasets/{id}/query", change, "Updated"),
        ("DELETE", "/annotations/{annotation_id}", None, "Deleted"),
        ("POST", "/datasets/{id}/query", query | {"delete": True}, "Deleted"),
    ):
        told = send(method, path, body, annotation_id=first, id=dataset)
        assert actions(told, "Annotation") == [action]


def test_vectors_go_with_the_annotation_that_they_are_of(store, send, project, item):
    send("POST", "/items/{id}/annotations", {"type": "class", "label": "a"}, id=item)
    send("POST", "/features/sets", {"name": "f", "size": 1, "entityType": "annotation", "project": project})
    vector = {"featureSetId": only(store, "feature_sets"), "entityId": only(store, "annotations")}
    send("POST", "/features/vectors", [vector | {"value": [1]}])
    assert store.count("feature_vectors") == 1
    send("DELETE", "/items/{id}", id=item)
    assert store.count("annotations") == store.count("feature_vectors") == 0


def test_models(store, send, project):
    assert actions(send("POST", "/ml/models", {"name": "m", "projectId": project}), "Model") == ["Created"]
    model = only(store, "models")
    for method, path, body, action in (
        ("PATCH", "/ml/models/{id}", {"description": "d"}, "Updated"),
        ("POST", "/ml/models/{id}/clone", {"name": "n"}, "Created"),
        ("DELETE", "/ml/models/{id}", None, "Deleted"),
    ):
        assert actions(send(method, path, body, id=model), "Model") == [action]


def test_dpks_and_apps(store, send, project):
    components = {"models": [{"name": "base", "outputType": "class"}]}
    told = send("POST", "/app-registry", {"name": "tiny", "version": "1.0.0", "components": components})
    assert [each[:2] for each in told] == [("Dpk", "Created")]
    told = send("POST", "/apps", {"projectId": project, "dpkName": "tiny"})
    assert actions(told, "App") == actions(told, "Model") == ["Created"]
    app = only(store, "apps")
    for method, path, body, action in (
        ("PUT", "/apps/{id}", {"name": "renamed"}, "Updated"),
        ("POST", "/apps/{id}/deactivate", None, "Paused"),
        ("POST", "/apps/{id}/activate", None, "Resumed"),
        ("DELETE", "/apps/{id}", None, "Deleted"),
    ):
        assert ("App", action, app) in send(method, path, body, id=app)


def test_packages(store, send, project):
    told = send("POST", "/packages", {"name": "mine", "projectId": project})
    package = only(store, "packages")
    assert told == [("Package", "Created", package)]
    for method, action in (("PATCH", "Updated"), ("DELETE", "Deleted")):
        told = send(method, "/packages/{id}", {"type": "ml"}, id=package)
        assert told == [("Package", action, package)]
    assert store.count("package_revisions") == 0


def test_a_deleted_project_leaves_nothing(store, send, project, dataset, item):
    send("POST", "/packages", {"name": "mine", "projectId": project})
    send("POST", "/features/sets", {"name": "f", "size": 1, "entityType": "item", "project": project})
    vector = {"featureSetId": only(store, "feature_sets"), "entityId": item, "value": [1]}
    send("POST", "/features/vectors", [vector])
    send("POST", "/ml/models", {"name": "m", "projectId": project, "datasetId": dataset})
    assert store.count("recipes") == store.count("ontologies") == 1
    with store.transaction():
        other = datasets.create(store, "d", projects.create(store, "other", USER)["id"], USER)
    send("DELETE", "/projects/{id}", id=project)
    for kind in ("packages", "package_revisions", "feature_sets", "feature_vectors", "models", "items"):
        assert store.count(kind) == 0, kind
    assert only(store, "recipes") == other["metadata"]["system"]["recipes"][0]
    assert store.count("ontologies") == 1


def test_any_number_of_events_but_no_loop_of_them(store, monkeypatch):
    monkeypatch.setattr("alhelpers.platform.api.MAX_EVENTS", 10)
    told = []
    call = Call(store, "http://x", USER, {}, {}, None)
    with store.transaction():
        for number in range(50):
            store.emit("Item", "Updated", str(number))
        listeners = {("Item", "Updated"): [lambda call, event: told.append(event.id)]}
        assert len(run_listeners(call, listeners)) == len(told) == 50
    listeners = {("Item", "Updated"): [lambda call, event: call.store.emit("Item", "Updated", event.id)]}
    with pytest.raises(ApiError, match="cause each other"), store.transaction():
        store.emit("Item", "Updated", "1")
        run_listeners(call, listeners)


def test_one_bad_trigger_harms_neither_the_event_nor_the_other_triggers(
    store, send, project, dataset, caplog
):
    """One has a filter that no version would have let in, one starts what an earlier one made wrong."""
    with store.transaction():
        store.put("services", {"id": "s", "name": "s", "projectId": project, "metadata": {}})
    operation = {"type": "function", "serviceId": "s", "functionName": "run"}
    for name in ("bad filter", "good", "bad input"):
        spec = {"operation": operation, "actions": ["Created"]}
        send("POST", "/triggers", {"projectId": project, "name": name, "spec": spec})
    with store.transaction():
        for name, change in (("bad filter", {"filter": {"a": {"$no": 1}}}), ("bad input", {"input": [1]})):
            trigger = store.find_one("triggers", name=name)
            store.put("triggers", trigger | {"spec": trigger["spec"] | change})
    with store.transaction():
        item = items.add_bytes(store, dataset, "/x", b"x", USER)
        store.emit("Item", "Created", item["id"], dataset=dataset)
        run_listeners(Call(store, "http://x", USER, {}, {}, None), LISTENERS)
    (execution,) = store.find_all("executions")
    assert execution["triggerId"] == store.find_one("triggers", name="good")["id"]
    assert "'bad filter'" in caplog.text and "'bad input'" in caplog.text
    assert store.count("trigger_log") == 1
