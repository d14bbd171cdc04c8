"""Routes of exports, of whole datasets copied, and of commands."""

import json
import posixpath
from typing import Any

from ...api import Call, Raw, Route, one
from ...query import everything
from ...store import require
from ..datasets import models as datasets
from ..items import models as items
from . import models


def export(call: Call) -> Raw:
    """Write the items of a query, with their annotations, into one file."""
    dataset = call.store.get("datasets", call.params["dataset_id"])
    body = require(call.body)
    exported = models.exported_items(call, dataset["id"], body)
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


def clone_dataset(call: Call) -> Raw:
    """Copy the items of a query into a new dataset, or an existing one."""
    source = call.store.get("datasets", call.params["dataset_id"])
    body = require(call.body)
    options = body.get("cloneDatasetParams") or {}
    target_id = options.get("targetDatasetId")
    if target_id:
        call.store.row("datasets", target_id)
    else:
        target = datasets.create(
            call.store, require(body, "name")["name"], source["projects"][0], call.user, with_recipe=False
        )
        target["metadata"]["system"] |= {
            key: source["metadata"]["system"][key]
            for key in ("recipes",)
            if key in source["metadata"]["system"]
        }
        call.store.put("datasets", target | {"srcDataset": source["id"]})
        target_id = target["id"]
    _copy_items(call, source["id"], target_id, body.get("filter") or {}, options)
    return models.finished(call, "CloneDataset", {"returnedModelId": target_id})


def _copy_items(
    call: Call, source_id: str, target_id: str, query: dict[str, Any], options: dict[str, Any]
) -> None:
    for row in everything(call.store, "items", query, ("scope = ?", (source_id,))):
        item = json.loads(row.doc)
        if item["type"] != "file":
            continue
        filename = posixpath.join(options.get("targetDirectory") or "/", item["filename"].lstrip("/"))
        items.copy(
            call.store,
            item,
            target_id,
            items.clean_path(filename),
            call.user,
            with_metadata=options.get("withMetadata", True),
            with_annotations=options.get("withItemsAnnotations", True),
        )


def get_command(call: Call) -> Raw:
    """Fetch a command."""
    return one(call, "commands", call.params["command_id"])


ROUTES = [
    Route("POST", "/datasets/{dataset_id}/export", export),
    Route("POST", "/datasets/{dataset_id}/clone", clone_dataset),
    Route("GET", "/commands/{command_id}", get_command),
    Route("GET", "/commands/faas/{command_id}", get_command),
]
