from ...api import Call, Raw, Route, fetch, listed, one, paged, remove
from ...errors import bad_request
from ...events import Event
from ...query import search
from ...store import Document
from ...validation import require
from . import models


def create_set(call: Call) -> Raw:
    feature_set = models.create_set(call.store, require(call.body), call.user)
    return listed(call, "feature_sets", [call.store.row("feature_sets", feature_set["id"])])


def query_sets(call: Call) -> Raw:
    body, projects = _projects(call)
    inside = {"project": projects} if projects else {}
    return paged(call, "feature_sets", search(call.store, "feature_sets", body, **inside))


def update_set(call: Call) -> Raw:
    feature_set = call.store.get("feature_sets", call.params["id"], "feature set")
    models.update_set(call.store, feature_set, require(call.body), call.user)
    return one(call, "feature_sets", call.params["id"])


def create_vectors(call: Call) -> Raw:
    ids = models.create_vectors(call.store, call.body, call.user)
    return listed(call, "feature_vectors", [call.store.row("feature_vectors", each) for each in ids])


def query_vectors(call: Call) -> Raw:
    body, projects = _projects(call)
    inside = {}
    if projects:
        inside["featureSetId"] = [row.id for row in call.store.find("feature_sets", project=projects)]
    return paged(call, "feature_vectors", search(call.store, "feature_vectors", body, **inside))


def delete_vector(call: Call) -> Document:
    row = call.store.row("feature_vectors", call.params["id"], "feature vector")
    call.store.delete("feature_vectors", id=row.id)
    return {"id": row.id}


def count_vectors(call: Call) -> list[Document]:
    body = require(call.body, "projectId")
    datasets = body.get("datasetIds")
    if not isinstance(datasets, list) or not all(isinstance(each, str) for each in datasets):
        raise bad_request(f"'datasetIds' must be a list of ids, got {datasets!r}")
    return models.counts(call.store, body["projectId"], datasets)


def _projects(call: Call) -> tuple[Document, list[str] | None]:
    """Return the query, and the projects in its context."""
    body = require(call.body)
    return body, require(body.get("context") or {}).get("projects")


def forget_entity(call: Call, event: Event) -> None:
    """Delete the vectors of a deleted item, annotation or dataset."""
    call.store.delete("feature_vectors", entityId=event.id)
    if event.resource == "Dataset":
        call.store.delete("feature_vectors", datasetId=event.id)


ROUTES = [
    Route("POST", "/features/sets", create_set),
    Route("POST", "/features/sets/query", query_sets),
    Route("GET", "/features/sets/{id}", fetch("feature_sets", "id", "feature set")),
    Route("PATCH", "/features/sets/{id}", update_set),
    Route("DELETE", "/features/sets/{id}", remove(models.delete_set, "id")),
    Route("POST", "/features/vectors", create_vectors),
    Route("POST", "/features/vectors/query", query_vectors),
    Route("POST", "/features/vectors/project-count-aggregation", count_vectors),
    Route("GET", "/features/vectors/{id}", fetch("feature_vectors", "id", "feature vector")),
    Route("DELETE", "/features/vectors/{id}", delete_vector),
]
LISTENERS = {(resource, "Deleted"): forget_entity for resource in ("Item", "Annotation", "Dataset")}
