"""Commands (finished the moment they are made) and the files that exports write."""

import io
import json
import posixpath
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

from ...api import Call, Raw, one, render
from ...query import everything
from ...store import Row, now

FOLDER = "/.dataloop/exports"
KEPT = timedelta(minutes=30)


def finished(call: Call, kind: str, spec: dict[str, Any]) -> Raw:
    """Record a command that has succeeded, and answer with it: work here is done before the answer is sent."""
    time = now()
    command = {
        "id": call.store.new_id(),
        "type": kind,
        "status": "success",
        "progress": 100,
        "spec": spec,
        "error": None,
        "createdAt": time,
        "updatedAt": time,
    }
    call.store.put("commands", command)
    return one(call, "commands", command["id"])


def forget_old(call: Call, dataset_id: str) -> None:
    """Delete the files of exports that every client has long fetched."""
    limit = (datetime.now(UTC) - KEPT).isoformat()
    for row in list(call.store.select("items", "scope = ? AND dir = ?", (dataset_id, FOLDER))):
        if json.loads(row.doc)["createdAt"] < limit:
            call.store.delete("items", "id = ?", row.id)


def exported_items(call: Call, dataset_id: str, body: dict[str, Any]) -> list[tuple[Row, str]]:
    """Give each item that an export asks for, as its row and its JSON with annotations."""
    scope = ("scope = ?", (dataset_id,))
    files = ("scope = ? AND type = 'file'", (dataset_id,))
    rows = everything(call.store, "items", body.get("itemsQuery") or {}, files)
    options = body.get("annotations") if isinstance(body.get("annotations"), dict) else {}
    if not options.get("include", True):
        return [(row, render(call, "items", row)) for row in rows]
    by_item: dict[str | None, list[str]] = {}
    for row in everything(call.store, "annotations", body.get("annotationsQuery") or {}, scope):
        by_item.setdefault(row.parent, []).append(render(call, "annotations", row))
    return [(row, _with_annotations(call, row, by_item.get(row.id, []))) for row in rows]


def _with_annotations(call: Call, row: Row, annotations: list[str]) -> str:
    return render(call, "items", row, f'"annotations":[{",".join(annotations)}],')


def as_zip(call: Call, exported: list[tuple[Row, str]], version: str | None) -> bytes:
    """Pack one JSON file an item, at the item's path: with the item's extension (V2), or instead of it (V1)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for row, text in exported:
            path = call.store.parsed(row)["filename"].lstrip("/")
            stem = path if version == "V2" else posixpath.splitext(path)[0]
            archive.writestr(f"{stem}.json", text)
    return buffer.getvalue()
