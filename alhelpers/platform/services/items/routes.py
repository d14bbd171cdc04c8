"""Routes of items: queries in a dataset, single items, bulk changes."""

import hashlib
import posixpath
from typing import Any

from ...api import Call, Raw, Route, one, paged
from ...errors import bad_request, not_found
from ...query import documents, everything, search
from ...resources import Resource
from ...store import Document, Store
from ...validation import check_ids, merge, require
from ..datasets.routes import DATASETS
from ..exports.copies import parts_of
from ..exports.models import finished
from . import models


def query(call: Call, dataset: Document) -> Any:
    """Answer a query in a dataset: list, change in bulk, or delete in bulk its items or annotations."""
    dataset_id, body = dataset["id"], require(call.body)
    kind = body.get("resource", "items")
    if kind not in ("items", "annotations"):
        raise bad_request(f"a dataset holds 'items' and 'annotations', not {kind!r}")
    if body.get("delete"):
        rows = everything(call.store, kind, body, datasetId=dataset_id)
        if kind == "annotations":
            return {"deletedCount": models.delete_annotations(call.store, rows)}
        return {"deletedCount": models.delete(call.store, [row.id for row in rows])}
    if "update" in body:
        return {"updatedCount": _bulk_update(call, kind, body, datasetId=dataset_id)}
    return paged(call, kind, search(call.store, kind, body, datasetId=dataset_id))


def _bulk_update(call: Call, kind: str, body: Document, **fields: Any) -> int:
    """Merge metadata into all documents of a query, in one transaction."""
    update = body["update"]
    metadata = update.get("metadata", {}) if isinstance(update, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(part, dict) for part in metadata.values()):
        raise bad_request(
            f"'update' must be {{'metadata': {{'user': {{...}}, 'system': {{...}}}}}}, got {update!r}"
        )
    if not body.get("systemSpace"):
        metadata = {key: value for key, value in metadata.items() if key != "system"}
    found = documents(call.store, kind, body, **fields)
    for document in found:
        if kind == "items":
            models.merge_metadata(document, metadata)
        else:
            merge(document, {"metadata": metadata})
    return models.write_changed(call.store, kind, found, call.user)


def bulk_update_metadata(call: Call, dataset: Document) -> Raw:
    """Merge metadata into the items of a query; the SDK assigns subsets this way."""
    body = require(call.body)
    changes = body.get("updateQuery") if isinstance(body.get("updateQuery"), dict) else {}
    query = require(body.get("query")) | {
        "systemSpace": changes.get("systemSpace"),
        "update": changes.get("update"),
    }
    changed = _bulk_update(call, "items", query, datasetId=dataset["id"], type="file")
    return finished(call, "BulkUpdateMetadata", {"updatedCount": changed})


def split(call: Call, dataset: Document) -> Raw:
    """Tag the items of a query as train, validation and test, in the given percentages."""
    body = require(call.body)
    shares = body.get("MLSplitList")
    if not _are_percentages(shares):
        raise bad_request(f"'MLSplitList' must be percentages that add up to 100, got {shares!r}")
    wanted = require(body.get("itemsQuery"))
    items = documents(call.store, "items", wanted, datasetId=dataset["id"], type="file")
    bounds, reached = {}, 0.0
    for name, share in shares.items():
        reached += share * len(items) / 100
        bounds[name] = round(reached)
    # Shuffled, for items often arrive class by class; by their paths, so that the same items give the same split.
    items.sort(key=lambda item: hashlib.sha256(item["filename"].encode()).digest())
    for place, item in enumerate(items):
        subset = next(name for name, bound in bounds.items() if place < bound)
        tags = {name: True if name == subset else None for name in shares}
        merge(item, {"metadata": {"system": {"tags": tags}}})
    models.write_changed(call.store, "items", items, call.user)
    return finished(call, "SplitDataset", {"counts": bounds})


def _are_percentages(shares: Any) -> bool:
    if not isinstance(shares, dict):
        return False
    whole = [share for share in shares.values() if type(share) is int and share >= 0]
    return len(whole) == len(shares) and sum(whole) == 100


def get_in_dataset(call: Call) -> Raw:
    item_id = call.params["item_id"]
    if call.store.row("items", item_id).scope != call.params["dataset_id"]:
        raise not_found(f"item in dataset {call.params['dataset_id']}", item_id)
    return one(call, "items", item_id)


def update(call: Call, item: Document, body: Document) -> None:
    models.update(call.store, item, body, call.user, system=call.system)


def delete(store: Store, item_id: str) -> None:
    models.delete(store, [store.row("items", item_id).id])


def move_into(call: Call) -> Document:
    directory = call.store.get("items", call.params["directory_id"])
    if directory["type"] != "dir":
        raise bad_request(f"items move into a directory, not into {directory['filename']!r}")
    for item_id in check_ids("items", call.body):
        item = call.store.get("items", item_id)
        if item["datasetId"] != call.params["dataset_id"] or item["datasetId"] != directory["datasetId"]:
            raise bad_request(
                f"item {item_id} is in dataset {item['datasetId']}; items move within a dataset"
            )
        filename = posixpath.join(directory["filename"], item["name"])
        models.update(call.store, item, {"filename": filename}, call.user, system=False)
    return {"moved": len(call.body)}


def clone(call: Call, source: Document) -> Raw:
    body = require(call.body, "targetDatasetId")
    if source["type"] != "file":
        raise bad_request(f"{source['filename']!r} is a directory: clone the items in it, or the dataset")
    call.store.row("datasets", body["targetDatasetId"])
    options = body.get("cloneDatasetParams") or {}
    target_id = body["targetDatasetId"]
    cloned = call.store.count("items", datasetId=target_id, srcItem=source["id"])
    if cloned and not body.get("allowMany"):
        raise bad_request(
            f"dataset {target_id} has a clone of item {source['id']} already; allow_many=True makes another"
        )
    path = models.clean_path(_target(body.get("remoteFileName"), source))
    item = models.copy(call.store, source, target_id, path, call.user, **parts_of(options, status=False))
    if body.get("metadata"):
        models.merge_metadata(item, body["metadata"])
        call.store.put("items", item)
    return finished(call, "CloneItem", {"returnedModelId": [item["id"]]})


def _target(filename: Any, source: Document) -> Any:
    """Return the path of a copy: that of its source, unless the request names another path or a folder."""
    if isinstance(filename, str) and filename.endswith("/"):
        return filename + source["name"]
    return filename or source["filename"]


ITEMS = Resource("items", "/items", update=update, delete=delete)
ROUTES = [
    DATASETS.at("POST", "query", query),
    DATASETS.at("POST", "split", split),
    DATASETS.at("POST", "items/bulk-update-metadata", bulk_update_metadata),
    Route("PUT", "/datasets/{dataset_id}/items/{directory_id}", move_into),
    *ITEMS.routes,
    Route("GET", "/datasets/{dataset_id}/items/{item_id}", get_in_dataset),
    ITEMS.at("POST", "clone", clone),
]
