import json

from ...api import Call, Raw, Route, paged
from ...errors import bad_request, not_emulated
from ...query import search
from ...resources import Resource
from ...store import Document, Store, now
from ...validation import require, whole_number, with_system
from . import models

COMPUTED = {"id", "url", "items", "directoryTree", "itemsCount", "annotated", "annotationsCount"}
FIXED = COMPUTED | {
    *("projects", "creator", "createdAt", "updatedAt", "updatedBy", "readableType", "metadata"),
    *("collections", "isSyncing", "indexDriver", "driver", "accessLevel", "srcDataset"),
}


def create(call: Call, body: Document) -> Document:
    require(body, "name")
    projects = body.get("projects")
    if not projects or len(projects) != 1:
        raise bad_request(f"'projects' must be a list with one project id, got {projects!r}")
    if body.get("driver"):
        raise not_emulated("datasets on external storage; create the dataset without 'driver'")
    index_driver = body.get("indexDriver")
    if index_driver not in (None, "v1", "v2"):
        raise bad_request(f"'indexDriver' must be 'v1' or 'v2', got {index_driver!r}")
    fields: Document = {"indexDriver": index_driver or "v1"}
    if expiration := models.check_expiration(body.get("expirationOptions")):
        fields["expirationOptions"] = expiration
    with_recipe = body.get("createDefaultRecipe", True)
    return models.create(
        call.store, body["name"], projects[0], call.user, with_recipe=bool(with_recipe), **fields
    )


def query(call: Call) -> Raw:
    """List datasets; system datasets only with ``systemSpace``."""
    body = require(call.body)
    where = {} if body.get("systemSpace") else {"readableType__ne": "system"}
    if projects := require(body.get("context") or {}).get("projects"):
        where["projects"] = projects
    page = search(call.store, "datasets", body, **where)
    items = [models.shown(call.store, row, call.base) for row in page.rows]
    return Raw(json.dumps({"items": items, **page.envelope()}))


def update(call: Call, dataset: Document, body: Document) -> None:
    """Change a dataset; its system metadata only with ``?system=true``."""
    if body.get("name", dataset["name"]) != dataset["name"]:
        models.check_not_system(dataset)
    call.store.check_rename("datasets", dataset, body, projects=dataset["projects"][0])
    if "expirationOptions" in body:
        body["expirationOptions"] = models.check_expiration(body["expirationOptions"])
    dataset |= {key: value for key, value in body.items() if key not in FIXED}
    if dataset.get("expirationOptions") is None:
        dataset.pop("expirationOptions", None)
    if isinstance(body.get("metadata"), dict):
        dataset["metadata"] = with_system(dataset, body["metadata"], system=call.system)
        recipes = dataset["metadata"]["system"].get("recipes") or []
        if not isinstance(recipes, list) or not all(isinstance(each, str) for each in recipes):
            raise bad_request(f"'metadata.system.recipes' must be a list of ids, got {recipes!r}")
    dataset |= {"updatedAt": now(), "updatedBy": call.user}
    call.store.put("datasets", dataset)
    call.store.emit("Dataset", "Updated", dataset["id"])


def delete(store: Store, dataset_id: str) -> None:
    models.check_not_system(store.get("datasets", dataset_id))
    models.delete(store, dataset_id)


def list_items(call: Call, dataset: Document) -> Raw:
    """List the items of a dataset, a page at a time."""
    page, size = (whole_number(call.query, *each) for each in (("pageOffset", 0), ("pageSize", 100)))
    found = search(call.store, "items", {"page": page, "pageSize": size}, datasetId=dataset["id"])
    return paged(call, "items", found)


def unlock(call: Call, dataset: Document) -> None:
    """Refuse: a dataset is locked only while an export runs, and an export ends before it is answered."""
    raise bad_request("dataset is not locked")


def directory_tree(call: Call, dataset: Document) -> Document:
    return models.directory_tree(call.store, dataset["id"])


def _shown(call: Call, dataset_id: str) -> Document:
    return models.shown(call.store, call.store.row("datasets", dataset_id), call.base)


DATASETS = Resource("datasets", "/datasets", create, update, delete, answer=_shown)
ROUTES = [
    *DATASETS.routes,
    Route("POST", "/datasets/query", query),
    DATASETS.at("GET", "items", list_items),
    DATASETS.at("PATCH", "unlock", unlock),
    DATASETS.at("GET", "directoryTree", directory_tree),
]
