from functools import partial

from ...api import Call, Raw
from ...errors import bad_request
from ...query import documents
from ...store import Document
from ...validation import require
from ..datasets.routes import DATASETS
from ..exports.models import finished
from ..items import models as items
from . import models


def list_all(call: Call, dataset: Document) -> Document:
    return models.shown(dataset)


def create(call: Call, dataset: Document) -> Document:
    models.add(dataset, require(call.body, "name")["name"])
    call.store.put("datasets", dataset)
    return models.shown(dataset)


def rename(call: Call, dataset: Document) -> Document:
    key = models.key_of(dataset, call.params["name"])
    models.named(dataset)[key] = models.check_name(dataset, require(call.body, "name")["name"])
    call.store.put("datasets", dataset)
    return models.shown(dataset)


def delete(call: Call, dataset: Document) -> Raw:
    key = models.key_of(dataset, call.params["name"])
    query = {"filter": {f"metadata.system.collections.{key}": {"$exists": True}}}
    changed = _mark(call, dataset, query, [key], inside=False)
    del models.named(dataset)[key]
    call.store.put("datasets", dataset)
    return finished(call, "DeleteCollection", {"datasetId": dataset["id"], "updatedCount": changed})


def assign(call: Call, dataset: Document, *, inside: bool) -> Raw:
    body = require(call.body)
    names = body.get("collections")
    if not isinstance(names, list):
        raise bad_request(f"'collections' must be a list of names, got {names!r}")
    keys = [models.key_of(dataset, name) for name in names]
    changed = _mark(call, dataset, require(body.get("query")), keys, inside=inside)
    return finished(call, "UpdateCollections", {"datasetId": dataset["id"], "updatedCount": changed})


def _mark(call: Call, dataset: Document, query: Document, keys: list[str], *, inside: bool) -> int:
    found = documents(call.store, "items", query, datasetId=dataset["id"], type="file")
    for item in found:
        models.mark(item, keys, inside=inside)
    return items.write_changed(call.store, "items", found, call.user)


ROUTES = [
    DATASETS.at("GET", "items/collections", list_all),
    DATASETS.at("POST", "items/collections", create),
    DATASETS.at("POST", "items/collections/bulk-add", partial(assign, inside=True)),
    DATASETS.at("POST", "items/collections/bulk-remove", partial(assign, inside=False)),
    DATASETS.at("PATCH", "items/collections/{name}", rename),
    DATASETS.at("DELETE", "items/collections/{name}", delete),
]
