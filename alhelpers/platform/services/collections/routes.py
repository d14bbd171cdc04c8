import json
from functools import partial

from ...api import Call, Raw, Route
from ...errors import bad_request
from ...query import everything
from ...store import Document, now
from ...validation import require
from ..exports.models import finished
from . import models


def list_all(call: Call) -> Document:
    return models.shown(_dataset(call))


def create(call: Call) -> Document:
    dataset = _dataset(call)
    models.add(dataset, require(call.body, "name")["name"])
    call.store.put("datasets", dataset)
    return models.shown(dataset)


def rename(call: Call) -> Document:
    dataset = _dataset(call)
    key = models.key_of(dataset, call.params["name"])
    models.named(dataset)[key] = models.check_name(dataset, require(call.body, "name")["name"])
    call.store.put("datasets", dataset)
    return models.shown(dataset)


def delete(call: Call) -> Raw:
    dataset = _dataset(call)
    key = models.key_of(dataset, call.params["name"])
    query = {"filter": {f"metadata.system.collections.{key}": {"$exists": True}}}
    changed = _mark(call, dataset, query, [key], inside=False)
    del models.named(dataset)[key]
    call.store.put("datasets", dataset)
    return finished(call, "DeleteCollection", {"datasetId": dataset["id"], "updatedCount": changed})


def assign(call: Call, *, inside: bool) -> Raw:
    dataset = _dataset(call)
    body = require(call.body)
    names = body.get("collections")
    if not isinstance(names, list):
        raise bad_request(f"'collections' must be a list of names, got {names!r}")
    keys = [models.key_of(dataset, name) for name in names]
    changed = _mark(call, dataset, require(body.get("query")), keys, inside=inside)
    return finished(call, "UpdateCollections", {"datasetId": dataset["id"], "updatedCount": changed})


def _mark(call: Call, dataset: Document, query: Document, keys: list[str], *, inside: bool) -> int:
    rows = everything(call.store, "items", query, datasetId=dataset["id"], type="file")
    documents = [json.loads(row.doc) for row in rows]
    for document in documents:
        models.mark(document, keys, inside=inside)
        document |= {"updatedAt": now(), "updatedBy": call.user}
        call.store.emit("Item", "Updated", document["id"], dataset=dataset["id"])
    call.store.put_all("items", documents)
    return len(documents)


def _dataset(call: Call) -> Document:
    return call.store.get("datasets", call.params["dataset_id"])


ROUTES = [
    Route("GET", "/datasets/{dataset_id}/items/collections", list_all),
    Route("POST", "/datasets/{dataset_id}/items/collections", create),
    Route("POST", "/datasets/{dataset_id}/items/collections/bulk-add", partial(assign, inside=True)),
    Route("POST", "/datasets/{dataset_id}/items/collections/bulk-remove", partial(assign, inside=False)),
    Route("PATCH", "/datasets/{dataset_id}/items/collections/{name}", rename),
    Route("DELETE", "/datasets/{dataset_id}/items/collections/{name}", delete),
]
