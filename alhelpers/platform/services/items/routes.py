"""Routes of items: queries in a dataset, single items, bulk changes."""

import json
import posixpath
from typing import Any

from ...api import Call, Raw, Route, one, paged
from ...errors import bad_request
from ...query import everything, search
from ...store import is_id, merge, now, require
from ..exports.models import finished
from . import models


def query(call: Call) -> Any:
    """Answer a query in a dataset: list, or change or delete in bulk, items or annotations."""
    dataset_id = call.params["dataset_id"]
    call.store.row("datasets", dataset_id)
    body = require(call.body)
    kind = body.get("resource", "items")
    if kind not in ("items", "annotations"):
        raise bad_request(f"a dataset holds 'items' and 'annotations', not {kind!r}")
    scope = ("scope = ?", (dataset_id,))
    if body.get("delete"):
        return {"deletedCount": _delete(call, kind, everything(call.store, kind, body, scope))}
    if "update" in body:
        return {"updatedCount": _bulk_update(call, kind, body, scope)}
    return paged(call, kind, search(call.store, kind, body, scope))


def _delete(call: Call, kind: str, rows: list[Any]) -> int:
    if kind == "items":
        return models.delete(call.store, [row.id for row in rows])
    for row in rows:
        call.store.delete("annotations", "id = ?", row.id)
    models.count_annotations(call.store, {row.parent for row in rows})
    return len(rows)


def _bulk_update(call: Call, kind: str, body: dict[str, Any], scope: tuple[str, tuple[Any, ...]]) -> int:
    """Merge metadata into everything that a query matches, in one transaction."""
    update = body["update"]
    metadata = update.get("metadata", {}) if isinstance(update, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(part, dict) for part in metadata.values()):
        raise bad_request(
            f"'update' must be {{'metadata': {{'user': {{...}}, 'system': {{...}}}}}}, got {update!r}"
        )
    if not body.get("systemSpace"):
        metadata = {key: value for key, value in metadata.items() if key != "system"}
    time = now()
    rows = everything(call.store, kind, body, scope)
    documents = [json.loads(row.doc) for row in rows]
    for document in documents:
        merge(document, {"metadata": metadata, "updatedAt": time, "updatedBy": call.user})
    call.store.put_all(kind, documents)
    return len(documents)


def bulk_update_metadata(call: Call) -> Raw:
    """Merge metadata into the items of a query; the SDK assigns subsets this way."""
    body = require(call.body)
    changes = body.get("updateQuery") if isinstance(body.get("updateQuery"), dict) else {}
    scope = ("scope = ?", (call.params["dataset_id"],))
    query = require(body.get("query")) | {
        "systemSpace": changes.get("systemSpace"),
        "update": changes.get("update"),
    }
    changed = _bulk_update(call, "items", query, scope)
    return finished(call, "BulkUpdateMetadata", {"updatedCount": changed})


def split(call: Call) -> Raw:
    """Tag the items of a query as train, validation and test, in these percentages."""
    body = require(call.body)
    shares = body.get("MLSplitList")
    if not isinstance(shares, dict) or sum(shares.values()) != 100:
        raise bad_request(f"'MLSplitList' must give percentages that add up to 100, got {shares!r}")
    scope = ("scope = ?", (call.params["dataset_id"],))
    rows = everything(call.store, "items", require(body.get("itemsQuery")), scope)
    bounds, reached = {}, 0.0
    for name, share in shares.items():
        reached += share * len(rows) / 100
        bounds[name] = round(reached)
    # In the order of the ids: the same items give the same split.
    for place, row in enumerate(rows):
        subset = next(name for name, bound in bounds.items() if place < bound)
        tags = {name: True if name == subset else None for name in shares}
        document = merge(json.loads(row.doc), {"metadata": {"system": {"tags": tags}}})
        call.store.put("items", document | {"updatedAt": now(), "updatedBy": call.user})
    return finished(call, "SplitDataset", {"counts": bounds})


def get(call: Call) -> Raw:
    """Fetch an item."""
    return one(call, "items", call.params["item_id"])


def update(call: Call) -> Raw:
    """Apply a diff to an item."""
    item = call.store.get("items", call.params["item_id"])
    models.update(call.store, item, require(call.body), call.user, system=call.system)
    return one(call, "items", item["id"])


def delete(call: Call) -> dict[str, Any]:
    """Delete an item."""
    item_id = call.params["item_id"]
    if not is_id(item_id):
        raise bad_request(f"cannot delete item {item_id!r}: an id is 24 hexadecimal digits")
    call.store.row("items", item_id)
    models.delete(call.store, [item_id])
    return {"id": item_id}


def move_into(call: Call) -> dict[str, Any]:
    """Move items into a directory."""
    directory = call.store.get("items", call.params["directory_id"])
    if directory["type"] != "dir" or not _are_ids(call.body):
        raise bad_request(f"moving needs a directory and a list of item ids, got {directory['filename']!r}")
    for item_id in call.body:
        item = call.store.get("items", item_id)
        models.move(call.store, item, posixpath.join(directory["filename"], item["name"]), call.user)
        call.store.put("items", item | {"updatedAt": now(), "updatedBy": call.user})
    return {"moved": len(call.body)}


def _are_ids(body: Any) -> bool:
    return isinstance(body, list) and all(isinstance(item_id, str) for item_id in body)


def clone(call: Call) -> Raw:
    """Copy an item into a dataset."""
    body = require(call.body, "targetDatasetId")
    source = call.store.get("items", call.params["item_id"])
    call.store.row("datasets", body["targetDatasetId"])
    options = body.get("cloneDatasetParams") or {}
    item = models.copy(
        call.store,
        source,
        body["targetDatasetId"],
        models.clean_path(body.get("remoteFileName") or source["filename"]),
        call.user,
        with_metadata=options.get("withMetadata", True),
        with_annotations=options.get("withItemsAnnotations", True),
    )
    merge(item, {"metadata": body.get("metadata") or {}})
    call.store.put("items", call.store.get("items", item["id"]) | {"metadata": item["metadata"]})
    return finished(call, "CloneItem", {"returnedModelId": [item["id"]]})


ROUTES = [
    Route("POST", "/datasets/{dataset_id}/query", query),
    Route("POST", "/datasets/{dataset_id}/split", split),
    Route("POST", "/datasets/{dataset_id}/items/bulk-update-metadata", bulk_update_metadata),
    Route("PUT", "/datasets/{dataset_id}/items/{directory_id}", move_into),
    Route("GET", "/items/{item_id}", get),
    Route("PATCH", "/items/{item_id}", update),
    Route("DELETE", "/items/{item_id}", delete),
    Route("POST", "/items/{item_id}/clone", clone),
]
