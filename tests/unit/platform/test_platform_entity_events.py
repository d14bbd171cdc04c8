"""What the services of annotations, models, dpks, apps and packages tell the others."""

import pytest

from alhelpers.platform.api import Call, run_listeners
from alhelpers.platform.services import LISTENERS
from alhelpers.platform.services.annotations import routes as annotations
from alhelpers.platform.services.apps import routes as apps
from alhelpers.platform.services.datasets import models as datasets
from alhelpers.platform.services.features import routes as features
from alhelpers.platform.services.items import models as items
from alhelpers.platform.services.items import routes as item_routes
from alhelpers.platform.services.models import routes as models
from alhelpers.platform.services.packages import routes as packages
from alhelpers.platform.services.projects import models as projects
from alhelpers.platform.services.projects import routes as project_routes
from alhelpers.platform.store import Store

USER = "a@example.com"
DPK = {
    "name": "tiny",
    "version": "1.0.0",
    "components": {"models": [{"name": "base", "outputType": "class"}]},
}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def run(store):
    """Run a handler as one request with all who listen, and give what was told: (resource, action)."""

    def run(handler, body=None, **params):
        with store.transaction():
            call = Call(store, "http://x", USER, params, {}, body)
            handler(call)
            return [(event.resource, event.action) for event in run_listeners(call, LISTENERS)]

    return run


@pytest.fixture
def project(store):
    with store.transaction():
        return projects.create(store, "p", USER)["id"]


@pytest.fixture
def dataset(store, project):
    with store.transaction():
        return datasets.create(store, "d", project, USER)["id"]


@pytest.fixture
def item(store, dataset):
    with store.transaction():
        return items.add_bytes(store, dataset, "/x.txt", b"x", USER)["id"]


def only(store, kind):
    (row,) = store.find(kind)
    return row.id


def about(events, resource):
    return [action for kind, action in events if kind == resource]


def test_annotations(store, run, dataset, item):
    given = [{"type": "class", "label": "a"}, {"type": "class", "label": "b"}]
    assert about(run(annotations.create, given, item_id=item), "Annotation") == ["Created", "Created"]
    first, second = (row.id for row in store.find("annotations"))
    assert about(run(annotations.update, {"label": "c"}, annotation_id=first), "Annotation") == ["Updated"]
    query = {"resource": "annotations", "filter": {"id": second}}
    change = query | {"update": {"metadata": {"user": {"x": 1}}}}
    assert about(run(item_routes.query, change, dataset_id=dataset), "Annotation") == ["Updated"]
    assert about(run(annotations.delete, annotation_id=first), "Annotation") == ["Deleted"]
    told = run(item_routes.query, query | {"delete": True}, dataset_id=dataset)
    assert about(told, "Annotation") == ["Deleted"]


def test_vectors_go_with_the_annotation_that_they_are_of(store, run, project, item):
    run(annotations.create, {"type": "class", "label": "a"}, item_id=item)
    run(features.create_set, {"name": "f", "size": 1, "entityType": "annotation", "project": project})
    annotation, features_of = only(store, "annotations"), only(store, "feature_sets")
    run(features.create_vectors, [{"featureSetId": features_of, "entityId": annotation, "value": [1]}])
    assert store.count("feature_vectors") == 1
    run(item_routes.delete, item_id=item)
    assert store.count("annotations") == store.count("feature_vectors") == 0


def test_models(store, run, project):
    body = {"name": "m", "projectId": project}
    assert about(run(models.create, body), "Model") == ["Created"]
    model = only(store, "models")
    assert about(run(models.update, {"description": "d"}, model_id=model), "Model") == ["Updated"]
    assert "Created" in about(run(models.clone, {"name": "n"}, model_id=model), "Model")
    assert about(run(models.delete, model_id=model), "Model") == ["Deleted"]


def test_dpks_and_apps(store, run, project):
    assert run(apps.publish, DPK) == [("Dpk", "Created")]
    told = run(apps.install, {"projectId": project, "dpkName": "tiny"})
    assert ("App", "Created") in told and ("Model", "Created") in told
    app = only(store, "apps")
    for handler, body, action in (
        (apps.update_app, {"name": "renamed"}, "Updated"),
        (apps.pause, None, "Paused"),
        (apps.resume, None, "Resumed"),
        (apps.uninstall, None, "Deleted"),
    ):
        assert ("App", action) in run(handler, body, app_id=app), action


def test_packages(store, run, project):
    assert run(packages.create, {"name": "mine", "projectId": project}) == [("Package", "Created")]
    package = only(store, "packages")
    assert run(packages.update, {"type": "ml"}, package_id=package) == [("Package", "Updated")]
    assert run(packages.delete, package_id=package) == [("Package", "Deleted")]
    assert store.count("package_revisions") == 0


def test_a_deleted_project_leaves_nothing(store, run, project, dataset, item):
    run(packages.create, {"name": "mine", "projectId": project})
    run(features.create_set, {"name": "f", "size": 1, "entityType": "item", "project": project})
    run(
        features.create_vectors,
        [{"featureSetId": only(store, "feature_sets"), "entityId": item, "value": [1]}],
    )
    run(models.create, {"name": "m", "projectId": project, "datasetId": dataset})
    assert store.count("recipes") == store.count("ontologies") == 1
    with store.transaction():
        other = datasets.create(store, "d", projects.create(store, "other", USER)["id"], USER)
    run(project_routes.delete, project_id=project)
    for kind in ("packages", "package_revisions", "feature_sets", "feature_vectors", "models", "items"):
        assert store.count(kind) == 0, kind
    assert only(store, "recipes") == other["metadata"]["system"]["recipes"][0]
    assert store.count("ontologies") == 1
