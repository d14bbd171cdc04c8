"""Routes of feature sets and vectors."""

from typing import Any

from ...api import Call, Raw, Route, listed, one, paged
from ...errors import bad_request
from ...events import Event
from ...query import search
from ...validation import require
from . import models


def create_set(call: Call) -> Raw:
    """Make a feature set; the answer is a list, as the SDK reads it."""
    feature_set = models.create_set(call.store, require(call.body), call.user)
    return listed(call, "feature_sets", [call.store.row("feature_sets", feature_set["id"])])


def query_sets(call: Call) -> Raw:
    """List feature sets, of some projects where the query names them."""
    body, projects = _projects(call)
    inside = {"project": projects} if projects else {}
    return paged(call, "feature_sets", search(call.store, "feature_sets", body, **inside))


def get_set(call: Call) -> Raw:
    """Fetch a feature set."""
    return one(call, "feature_sets", call.params["id"], "feature set")


def update_set(call: Call) -> Raw:
    """Change a feature set."""
    feature_set = call.store.get("feature_sets", call.params["id"], "feature set")
    models.update_set(call.store, feature_set, require(call.body), call.user)
    return one(call, "feature_sets", call.params["id"])


def delete_set(call: Call) -> dict[str, Any]:
    """Delete a feature set with its vectors."""
    models.delete_set(call.store, call.params["id"])
    return {"id": call.params["id"]}


def create_vectors(call: Call) -> Raw:
    """Store vectors."""
    ids = models.create_vectors(call.store, call.body, call.user)
    return listed(call, "feature_vectors", [call.store.row("feature_vectors", each) for each in ids])


def query_vectors(call: Call) -> Raw:
    """List vectors, of some projects where the query names them."""
    body, projects = _projects(call)
    inside = {}
    if projects:
        inside["featureSetId"] = [row.id for row in call.store.find("feature_sets", project=projects)]
    return paged(call, "feature_vectors", search(call.store, "feature_vectors", body, **inside))


def get_vector(call: Call) -> Raw:
    """Fetch a vector."""
    return one(call, "feature_vectors", call.params["id"], "feature vector")


def delete_vector(call: Call) -> dict[str, Any]:
    """Delete a vector."""
    row = call.store.row("feature_vectors", call.params["id"], "feature vector")
    call.store.delete("feature_vectors", id=row.id)
    return {"id": row.id}


def count_vectors(call: Call) -> list[dict[str, Any]]:
    """Say how many vectors of each feature set belong to some datasets."""
    body = require(call.body, "projectId")
    datasets = body.get("datasetIds")
    if not isinstance(datasets, list) or not all(isinstance(each, str) for each in datasets):
        raise bad_request(f"'datasetIds' must be a list of ids, got {datasets!r}")
    return models.counts(call.store, body["projectId"], datasets)


def _projects(call: Call) -> tuple[dict[str, Any], list[str] | None]:
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
    Route("GET", "/features/sets/{id}", get_set),
    Route("PATCH", "/features/sets/{id}", update_set),
    Route("DELETE", "/features/sets/{id}", delete_set),
    Route("POST", "/features/vectors", create_vectors),
    Route("POST", "/features/vectors/query", query_vectors),
    Route("POST", "/features/vectors/project-count-aggregation", count_vectors),
    Route("GET", "/features/vectors/{id}", get_vector),
    Route("DELETE", "/features/vectors/{id}", delete_vector),
]
LISTENERS = {(resource, "Deleted"): forget_entity for resource in ("Item", "Annotation", "Dataset")}
