"""Whatever a body holds, a route answers or refuses: it never fails."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alhelpers.platform.api import Call
from alhelpers.platform.errors import ApiError
from alhelpers.platform.services import ROUTES
from alhelpers.platform.store import Store

KEYS = sorted(
    "name projectId projects metadata system user tags labels artifacts configuration status context filter $and $or"
    " sort page pageSize join on resource update delete systemSpace itemsQuery annotations include annotationsQuery"
    " exportType exportVersion cloneDatasetParams targetDatasetId targetDirectory remoteFileName withMetadata"
    " returnedModelId MLSplitList query updateQuery roots labelsNode upsert items keys value tag children color"
    " projectIds ontologyIds title type label coordinates attributes description dpkName dpkVersion components models"
    " version outputType nodes variables connections settings id figure legend data modelId itemId datasetId filename"
    " app integrations customInstallation uiSettings references createDefaultRecipe workload assigneeId load limit spec"
    " parentTaskId dueDate priority availableActions itemIds statusPayload operation annotator taskId checkIfExist"
    " batchSize maxBatchWorkload allowedAssignees consensusAssignees recipeId taskOwner workloadDistribution".split()
)
IDS = {}
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2000),
    st.floats(),
    st.sampled_from(["", "x", "/a/b", "items", "annotations", "json", "train", "$x", "\0", "a" * 300]),
    st.sampled_from(["project", "dataset", "item", "annotation", "model", "tiny"]).map(
        lambda name: IDS.get(name, name)
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)
CHANGES = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=10)


def plausible(changes):
    """A body that gets past the first checks, but for what the changes spoil."""
    base = {
        "name": "new",
        "projectId": IDS["project"],
        "projects": [IDS["project"]],
        "dpkName": "tiny",
        "key": "k",
    }
    base |= {
        "type": "code",
        "label": "x",
        "targetDatasetId": IDS["dataset"],
        "data": {"x": 1, "y": 2},
        "legend": "l",
    }
    base |= {"modelId": IDS["model"], "figure": "f", "id": "node", "MLSplitList": {"train": 50, "test": 50}}
    base |= {"itemsQuery": {}, "query": {}, "filename": "/moved/there.png", "items": []}
    return base | changes


BODIES = st.one_of(
    VALUES, CHANGES, st.builds(plausible, CHANGES), st.lists(st.builds(plausible, CHANGES), max_size=2)
)


class Undo(Exception):
    pass


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with one thing of each kind."""
    store = Store(tmp_path_factory.mktemp("robust"))
    handlers = {(route.method, route.path): route.handler for route in ROUTES}

    def send(method, path, body, **params):
        answer = handlers[method, path](Call(store, "http://h", "u", params, {}, body))
        return json.loads(answer.text) if hasattr(answer, "text") else answer

    from alhelpers.platform.services.items import models as items

    with store.transaction():
        project = send("POST", "/projects", {"name": "p"})["id"]
        dataset = send("POST", "/datasets", {"name": "d", "projects": [project]})
        recipe = dataset["metadata"]["system"]["recipes"][0]
        ontology = send("GET", "/recipes/{id}", None, id=recipe)["ontologyIds"][0]
        item = items.add_bytes(store, dataset["id"], "/f/x.png", b"x", "u")["id"]
        annotation = send(
            "POST", "/items/{item_id}/annotations", {"type": "class", "label": "x"}, item_id=item
        )
        component = {"name": "m", "moduleName": "a"}
        dpk = send("POST", "/app-registry", {"name": "tiny", "components": {"models": [component]}})["id"]
        app = send("POST", "/apps", {"projectId": project, "dpkName": "tiny"})["id"]
        model = send("POST", "/ml/models/query", {"filter": {}})["items"][0]["id"]
        pipeline = send("POST", "/pipelines", {"name": "p", "projectId": project})["id"]
        workload = [{"assigneeId": "ann@example.com", "load": 100}]
        body = {"name": "t", "projectId": project, "datasetId": dataset["id"], "workload": workload}
        send("POST", "/annotationtasks", body | {"query": {"filter": {}}})
        task = send("POST", "/annotationtasks/query", {})["items"][0]
    directory = next(row.id for row in store.find("items", type="dir"))
    IDS.update(
        project=project,
        project_id=project,
        dataset=dataset["id"],
        dataset_id=dataset["id"],
        item=item,
        item_id=item,
        directory_id=directory,
        annotation=annotation[0]["id"],
        annotation_id=annotation[0]["id"],
        model=model,
        model_id=model,
        dpk_id=dpk,
        app_id=app,
        pipeline_id=pipeline,
        task_id=task["id"],
        assignment_id=task["assignmentIds"][0],
        score_id="none",
        command_id="none",
        name="p",
        version="1.0.0",
        operation="train",
        action="install",
        recipe=recipe,
        ontology=ontology,
    )
    yield store
    store.close()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_any_body(store, route):
    import re

    names = re.findall(r"{(\w+)", route.path)
    params = {name: IDS.get(name, IDS["recipe" if "recipes" in route.path else "ontology"]) for name in names}

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(BODIES, st.booleans())
    def attempt(body, system):
        query = {"system": "true"} if system else {}
        try:
            with store.transaction():
                route.handler(Call(store, "http://h", "u", params, query, body))
                raise Undo
        except (ApiError, Undo):
            pass

    attempt()
