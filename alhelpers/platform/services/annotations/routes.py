import json

from ...api import Call, Raw, Route, listed, one
from ...errors import bad_request
from ...store import Document, Row
from ...validation import require, unknown_id
from ..items import models as items
from ..items.routes import ITEMS
from . import models


def create(call: Call, item: Document) -> Raw:
    if item["type"] == "dir":
        raise bad_request(f"{item['filename']!r} is a directory: annotations belong to files")
    given = call.body if isinstance(call.body, list) else [call.body]
    annotations = [models.create(call.store, item, annotation, call.user) for annotation in given]
    call.store.put_all("annotations", annotations)
    items.count_annotations(call.store, {item["id"]})
    for each in annotations:
        call.store.emit("Annotation", "Created", each["id"], item=item["id"], dataset=item["datasetId"])
    return listed(call, "annotations", [call.store.row("annotations", each["id"]) for each in annotations])


def list_of_item(call: Call, item: Document) -> Raw:
    return listed(call, "annotations", call.store.find("annotations", itemId=item["id"]))


def get(call: Call) -> Raw:
    return one(call, "annotations", _found(call).id)


def update(call: Call) -> Raw:
    annotation = json.loads(_found(call).doc)
    annotation = models.update(annotation, require(call.body), call.user, system=call.system)
    models.check_parents(call.store, annotation)
    call.store.put("annotations", annotation)
    about = {"item": annotation["itemId"], "dataset": annotation["datasetId"]}
    call.store.emit("Annotation", "Updated", annotation["id"], **about)
    return one(call, "annotations", annotation["id"])


def delete(call: Call) -> Document:
    row = _found(call)
    items.delete_annotations(call.store, [row])
    return {"id": row.id}


def _found(call: Call) -> Row:
    """Return the annotation, if it is in the item and the dataset of the path."""
    row = call.store.row("annotations", call.params["annotation_id"])
    for name, place in (("item", row.parent), ("dataset", row.scope)):
        if call.params.get(f"{name}_id", place) != place:
            raise unknown_id("annotation", row.id)
    return row


ROUTES = [
    ITEMS.at("POST", "annotations", create),
    ITEMS.at("GET", "annotations", list_of_item),
    Route("GET", "/annotations/{annotation_id}", get),
    Route("GET", "/datasets/{dataset_id}/items/{item_id}/annotations/{annotation_id}", get),
    Route("PUT", "/annotations/{annotation_id}", update),
    Route("DELETE", "/annotations/{annotation_id}", delete),
]
