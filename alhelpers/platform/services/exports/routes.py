"""Routes of exports, of whole datasets copied, and of commands."""

from ...api import Call, Raw, Route
from ...errors import bad_request
from ...query import MAX_PAGE
from ...resources import Resource
from ...store import Document
from ...validation import require
from ..datasets import models as datasets
from ..datasets.routes import DATASETS
from ..items import models as items
from . import copies, models


def export(call: Call, dataset: Document) -> Raw:
    body = require(call.body)
    exported = models.exported_items(call, dataset["id"], body)
    if body.get("exportType") not in (None, "json", "zip"):
        raise bad_request(f"'exportType' must be 'json' or 'zip', got {body['exportType']!r}")
    if body.get("exportType") == "json":
        suffix, content = "json", ("[" + ",".join(text for _, text in exported) + "]").encode()
    else:
        suffix, content = "zip", models.as_zip(call, exported, body.get("exportVersion"))
    target = datasets.binaries(call.store, dataset["projects"][0])
    models.forget_old(call, target["id"])
    filename = f"{models.FOLDER}/{call.store.new_id()}.{suffix}"
    item = items.add_bytes(call.store, target["id"], filename, content, call.user)
    spec = {"datasetId": dataset["id"], "outputItemId": item["id"], "totalItems": len(exported)}
    return models.finished(call, "ExportDatasetAsJson", spec)


def clone_dataset(call: Call, source: Document) -> Raw:
    body = require(call.body)
    options = copies.options_of(body.get("cloneDatasetParams"))
    target_id = options.dataset_id
    if target_id:
        call.store.row("datasets", target_id)
    else:
        name = require(body, "name")["name"]
        target_id = copies.new_dataset(call.store, name, source, call.user, srcDataset=source["id"])["id"]
    copies.copy_items(call.store, source["id"], target_id, body.get("filter") or {}, options, call.user)
    return models.finished(call, "CloneDataset", {"returnedModelId": target_id})


def merge_datasets(call: Call) -> Raw:
    """Make a new dataset of the items of several; clones of one item become one item."""
    # The SDK sends a text or a list as 'projectIds'; the datasets have their projects anyway.
    given = {
        key: value
        for key, value in (call.body if isinstance(call.body, dict) else {}).items()
        if key != "projectIds"
    }
    body = require(given, "name")
    dataset_ids = body.get("datasetsIds") or []
    if not dataset_ids:
        raise bad_request(f"'datasetsIds' must list the datasets to merge, got {dataset_ids!r}")
    sources = [call.store.get("datasets", dataset_id) for dataset_id in dict.fromkeys(dataset_ids)]
    copies.check_recipes(call.store, sources)
    options = copies.options_of(body.get("mergeDatasetParams"))
    target = copies.new_dataset(call.store, body["name"], sources[0], call.user)
    copies.merge_items(call.store, [source["id"] for source in sources], target["id"], options, call.user)
    configuration = {"name": body["name"], "datasetsIds": dataset_ids, "targetDatasetId": target["id"]}
    spec = {"mergeDatasetsConfiguration": configuration, "returnedModelId": target["id"]}
    return models.finished(call, "MergeDatasets", spec)


COMMANDS = Resource("commands", "/commands", listing=lambda call: {"limit": MAX_PAGE})
ROUTES = [
    DATASETS.at("POST", "export", export),
    DATASETS.at("POST", "clone", clone_dataset),
    Route("POST", "/datasets/merge", merge_datasets),
    *COMMANDS.routes,
    Route("POST", "/commands/{id}/abort", COMMANDS.get),
    Route("GET", "/commands/faas/{id}", COMMANDS.get),
]
