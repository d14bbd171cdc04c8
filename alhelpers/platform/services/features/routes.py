from ...api import Call, Raw, Route, listed
from ...events import Event
from ...resources import Resource, by_user
from ...store import Document
from ...validation import check_ids, require
from . import models


def create_set(call: Call) -> Raw:
    feature_set = models.create_set(call.store, require(call.body), call.user)
    return listed(call, "feature_sets", [call.store.row("feature_sets", feature_set["id"])])


def create_vectors(call: Call) -> Raw:
    ids = models.create_vectors(call.store, call.body, call.user)
    return listed(call, "feature_vectors", [call.store.row("feature_vectors", each) for each in ids])


def vectors_of_projects(call: Call) -> Document:
    """Limit a query to the feature sets of the projects in its context."""
    inside = in_projects(call)
    rows = call.store.find("feature_sets", **inside) if inside else ()
    return {"featureSetId": [row.id for row in rows]} if inside else {}


def count_vectors(call: Call) -> list[Document]:
    body = require(call.body, "projectId")
    return models.counts(call.store, body["projectId"], check_ids("datasetIds", body.get("datasetIds")))


def in_projects(call: Call) -> Document:
    projects = require(require(call.body).get("context") or {}).get("projects")
    return {"project": projects} if projects else {}


def forget_entity(call: Call, event: Event) -> None:
    call.store.delete("feature_vectors", entityId=event.id)
    if event.resource == "Dataset":
        call.store.delete("feature_vectors", datasetId=event.id)


UPDATE_SET = by_user(models.update_set)
SETS = Resource("feature_sets", "/features/sets", None, UPDATE_SET, models.delete_set, in_projects)
VECTORS = Resource(
    *("feature_vectors", "/features/vectors"), delete=models.delete_vector, query=vectors_of_projects
)
ROUTES = [
    Route("POST", "/features/sets", create_set),
    *SETS.routes,
    Route("POST", "/features/vectors", create_vectors),
    Route("POST", "/features/vectors/project-count-aggregation", count_vectors),
    *VECTORS.routes,
]
LISTENERS = {(resource, "Deleted"): forget_entity for resource in ("Item", "Annotation", "Dataset")}
