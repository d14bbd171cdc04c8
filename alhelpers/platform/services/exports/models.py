"""Commands (finished as soon as they are made), and the files that exports write."""

import io
import json
import posixpath
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

from ...api import Call, Raw, one, render
from ...query import everything
from ...store import Document, Row, Store, now

FOLDER = "/.dataloop/exports"
KEPT = timedelta(minutes=30)


def finished(call: Call, kind: str, spec: Document) -> Raw:
    """Record a command that has succeeded, and answer with it: work here is done before the answer is sent."""
    return one(call, "commands", record(call.store, kind, spec)["id"])


def record(store: Store, kind: str, spec: Document) -> Document:
    time = now()
    command = {
        "id": store.new_id(),
        "type": kind,
        "status": "success",
        "progress": 100,
        "spec": spec,
        "error": None,
        "createdAt": time,
        "updatedAt": time,
    }
    store.put("commands", command)
    return command


def forget_old(call: Call, dataset_id: str) -> None:
    """Delete old export files, which every client has fetched by now."""
    limit = (datetime.now(UTC) - KEPT).isoformat()
    for item in call.store.find_all("items", datasetId=dataset_id, dir=FOLDER):
        if item["createdAt"] < limit:
            call.store.delete("items", id=item["id"])


def exported_items(call: Call, dataset_id: str, body: Document) -> list[tuple[Row, str]]:
    """Return the items of an export: the row of each, and its JSON with annotations and vectors."""
    query = body.get("itemsQuery") or {}
    rows = everything(call.store, "items", query, datasetId=dataset_id, type="file")
    options = body.get("annotations") if isinstance(body.get("annotations"), dict) else {}
    annotations = _annotations(call, dataset_id, body) if options.get("include", True) else None
    vectors = _vectors(call, dataset_id, body) if body.get("includeItemVectors") else None
    exported = []
    for row in rows:
        extra = f'"annotations":"{call.base}/items/{row.id}/annotations",'
        if annotations is not None:
            extra = f'"annotations":[{",".join(annotations.get(row.id, []))}],'
        if vectors is not None:
            extra += f'"itemVectors":{json.dumps(vectors.get(row.id, []))},'
        exported.append((row, render(call, "items", row, extra)))
    return exported


def _annotations(call: Call, dataset_id: str, body: Document) -> dict[str | None, list[str]]:
    by_item: dict[str | None, list[str]] = {}
    query = body.get("annotationsQuery") or {}
    for row in everything(call.store, "annotations", query, datasetId=dataset_id):
        by_item.setdefault(row.parent, []).append(render(call, "annotations", row))
    return by_item


def _vectors(call: Call, dataset_id: str, body: Document) -> dict[str | None, list[Any]]:
    by_item: dict[str | None, list[Any]] = {}
    query = body.get("itemsVectorQuery") or {}
    for row in everything(call.store, "feature_vectors", query, datasetId=dataset_id):
        vector = call.store.parsed(row)
        shown = {key: vector.get(key) for key in ("featureSetId", "datasetId", "value")}
        by_item.setdefault(row.parent, []).append(shown)
    return by_item


def as_zip(call: Call, exported: list[tuple[Row, str]], version: str | None) -> bytes:
    """Pack one JSON file an item, at the item's path: with the item's extension (V2), or instead of it (V1)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for row, text in exported:
            path = call.store.parsed(row)["filename"].lstrip("/")
            stem = path if version == "V2" else posixpath.splitext(path)[0]
            archive.writestr(f"{stem}.json", text)
    return buffer.getvalue()
