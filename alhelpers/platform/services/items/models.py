"""Items: their paths, types, sizes, counters, uploads and copies; JSON files that stand for something else."""

import json
import mimetypes
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import bad_request
from ...store import Document, Row, Store, now, signed
from ...validation import merge
from .images import read_image

# Fields that a PATCH may change as they are; others are computed, never change, or are not known.
OPEN = ("description", "spec")
COMPUTED_SYSTEM = ("size", "mimetype", "originalname", "width", "height", "channels", "exif", "shebang")
# System metadata that only the tasks of an item write.
WORK_SYSTEM = ("refs", "taskStatusLog")
# System metadata that clients cannot change.
FIXED_SYSTEM = ("size", *WORK_SYSTEM)
# System metadata that a copy does not inherit.
OWN_SYSTEM = (*COMPUTED_SYSTEM, *WORK_SYSTEM)

# The kinds that a dataset's query reaches, in the words of events.
RESOURCES = {"items": "Item", "annotations": "Annotation"}
# No file system takes a longer one.
MAX_PATH = 4096
THUMBNAILS = "/.dataloop/thumbnails"
# An instance of its own: the module-level table depends on files of the machine.
_TYPES = mimetypes.MimeTypes()
_FALLBACK_TYPE = "application/octet-stream"
SHEBANG_LIMIT = 1 << 23


@dataclass(frozen=True)
class Upload:
    """A file that has arrived, with the fields of its form."""

    path: str
    file: Path
    size: int
    content: Document
    metadata: Document
    description: str | None
    overwrite: bool


# ------------------------------------------------------------------------------------------------------- paths


def clean_path(path: str) -> str:
    """Normalise a path in a dataset: absolute, with single slashes and without dots."""
    if not isinstance(path, str) or not path.strip("/ ") or "\0" in path:
        raise bad_request(f"an item needs a path such as '/folder/name.png', got {path!r}")
    if len(path) > MAX_PATH:
        raise bad_request(f"the path of an item has at most {MAX_PATH} characters, this one has {len(path)}")
    # normpath keeps two leading slashes, and a path that climbs above the root stops at the root.
    return posixpath.normpath("/" + path.strip("/"))


def path_fields(filename: str) -> Document:
    directory, name = posixpath.split(filename)
    hidden = any(part.startswith(".") for part in filename.split("/"))
    return {"filename": filename, "dir": directory, "name": name, "hidden": hidden}


def ensure_directory(store: Store, dataset_id: str, directory: str, user: str) -> Document | None:
    """Make a directory, and those above it, unless they exist; the root is not an item."""
    if directory == "/":
        return None
    found = store.find_one("items", datasetId=dataset_id, filename=directory, type="dir")
    if found is not None:
        return found
    ensure_directory(store, dataset_id, posixpath.dirname(directory), user)
    item = _new_item(store, dataset_id, directory, "dir", user)
    item["metadata"] = {"system": {}}
    store.put("items", item)
    return item


def by_path(store: Store, dataset_id: str, filename: str) -> Document | None:
    return store.find_one("items", datasetId=dataset_id, filename=filename, type="file")


def _new_item(store: Store, dataset_id: str, filename: str, kind: str, user: str) -> Document:
    # Every key that Item.to_json writes is here, or item.update() would send a difference where there is none.
    return {
        "id": store.new_id(),
        "datasetId": dataset_id,
        **path_fields(filename),
        "type": kind,
        "annotated": False,
        "annotationsCount": 0,
        "metadata": {},
        **signed(user),
    }


# ----------------------------------------------------------------------------------------------------- uploads


def guess_type(name: str) -> str:
    return _TYPES.guess_type(name, strict=False)[0] or _FALLBACK_TYPE


def read_content(file: Path, name: str) -> Document:
    return read_shebang(file) if name.endswith(".json") else read_image(file)


def read_shebang(file: Path) -> Document:
    """Read what a JSON file with ``"shebang": "dataloop"`` is: a link, a prompt, a saved filter."""
    if file.stat().st_size > SHEBANG_LIMIT:
        return {}
    content = file.read_bytes()
    if b'"shebang"' not in content:
        return {}
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    shebang = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(shebang, dict) or document.get("shebang") != "dataloop":
        return {}
    link = shebang.get("linkInfo")
    mimetype = link.get("mimetype") if isinstance(link, dict) and link.get("type") == "url" else None
    return {"shebang": shebang} | ({"mimetype": mimetype} if isinstance(mimetype, str) else {})


def thumbnail_path(item_id: str) -> str:
    return f"{THUMBNAILS}/{item_id}.jpg"


def add_upload(store: Store, dataset_id: str, upload: Upload, user: str) -> tuple[str, str]:
    """Store an uploaded file as an item; return its id and what was done ('created', 'skip' or 'overwrite')."""
    store.row("datasets", dataset_id)
    filename = clean_path(upload.path)
    existing = by_path(store, dataset_id, filename)
    if existing is not None and not upload.overwrite:
        # The SDK compares sizes itself, and deletes and uploads again where they differ.
        upload.file.unlink(missing_ok=True)
        return existing["id"], "skip"
    if existing is not None:
        replace_content(store, existing, upload, user)
        return existing["id"], "overwrite"
    ensure_directory(store, dataset_id, posixpath.dirname(filename), user)
    item = _new_item(store, dataset_id, filename, "file", user)
    _describe(item, upload)
    store.put("items", item, blob=store.adopt(upload.file))
    store.emit("Item", "Created", item["id"], dataset=dataset_id)
    return item["id"], "created"


def replace_content(store: Store, item: Document, upload: Upload, user: str) -> None:
    if item["type"] != "file":
        raise bad_request(f"{item['filename']!r} is a directory: it has no bytes")
    store.drop_blob(store.row("items", item["id"]).blob or "")
    drop_thumbnail(store, item)
    _describe(item, upload)
    store.put("items", item | {"updatedAt": now(), "updatedBy": user}, blob=store.adopt(upload.file))
    store.emit("Item", "Updated", item["id"], dataset=item["datasetId"])


def drop_thumbnail(store: Store, item: Document) -> None:
    store.delete("items", datasetId=item["datasetId"], filename=thumbnail_path(item["id"]))


def _describe(item: Document, upload: Upload) -> None:
    system = item["metadata"].get("system", {})
    work = {key: system[key] for key in WORK_SYSTEM if key in system}
    for key in OWN_SYSTEM:
        system.pop(key, None)
    merge(item["metadata"], upload.metadata)
    given = item["metadata"].get("system")
    computed = {
        "originalname": item["name"],
        "size": upload.size,
        "mimetype": guess_type(item["name"]),
        "refs": [],
        **work,
        **upload.content,
    }
    item["metadata"]["system"] = {"refs": []} | (given if isinstance(given, dict) else {}) | computed
    if upload.description:
        item["description"] = upload.description


def add_bytes(store: Store, dataset_id: str, filename: str, content: bytes, user: str) -> Document:
    """Store a file that the server made itself."""
    ensure_directory(store, dataset_id, posixpath.dirname(filename), user)
    item = _new_item(store, dataset_id, filename, "file", user)
    _describe(item, Upload(filename, Path(), len(content), {}, {}, None, overwrite=False))
    store.put("items", item, blob=store.write_blob(content))
    return item


# ----------------------------------------------------------------------------------------------------- changes


def update(store: Store, item: Document, patch: Document, user: str, *, system: bool) -> None:
    """Apply a diff to an item: user metadata, a move, and system metadata if `system`."""
    filename = patch.get("filename")
    if filename is None and patch.get("name") is not None:
        filename = posixpath.join(item["dir"], _plain_name(patch["name"]))
    metadata = patch.get("metadata") or {}
    if not system:
        metadata = {key: value for key, value in metadata.items() if key != "system"}
    merge(item, {key: patch[key] for key in OPEN if key in patch})
    merge_metadata(item, metadata)
    if item.get("description") == "":
        del item["description"]
    if filename is not None and clean_path(filename) != item["filename"]:
        move(store, item, clean_path(filename), user)
    store.put("items", item | {"updatedAt": now(), "updatedBy": user})
    store.emit("Item", "Updated", item["id"], dataset=item["datasetId"])


def _plain_name(name: Any) -> str:
    if not isinstance(name, str) or "/" in name:
        raise bad_request(
            f"an item's name is a text without '/', got {name!r}; move the item by its filename"
        )
    return name


def merge_metadata(item: Document, metadata: Document) -> None:
    """Apply a diff to an item's metadata; computed fields can be corrected, but not removed."""
    before = item["metadata"].get("system", {})
    computed = {key: before[key] for key in COMPUTED_SYSTEM if key in before}
    fixed = {key: before[key] for key in FIXED_SYSTEM if key in before}
    merge(item, {"metadata": metadata})
    kept = computed | item["metadata"].get("system", {})
    free = {key: value for key, value in kept.items() if key not in FIXED_SYSTEM}
    item["metadata"]["system"] = free | fixed


def move(store: Store, item: Document, filename: str, user: str) -> None:
    """Change the path of an item in its dataset; the caller writes it."""
    directory = item["type"] == "dir"
    taken = store.find_one("items", datasetId=item["datasetId"], filename=filename, type=item["type"])
    if taken is not None and taken["id"] != item["id"]:
        raise bad_request(f"cannot move {item['filename']!r}: {filename!r} exists (item {taken['id']})")
    if directory and filename.startswith(item["filename"] + "/"):
        raise bad_request(f"cannot move the directory {item['filename']!r} into itself, to {filename!r}")
    ensure_directory(store, item["datasetId"], posixpath.dirname(filename), user)
    inner = _contents(store, item) if directory else []
    old = item["filename"]
    item |= path_fields(filename)
    stamp = {"updatedAt": now(), "updatedBy": user}
    moved = [each | path_fields(filename + each["filename"][len(old) :]) | stamp for each in inner]
    store.put_all("items", moved)


def _contents(store: Store, directory: Document) -> list[Document]:
    # '0' follows '/' in ASCII, so these bounds hold exactly the paths below the directory.
    bounds = {"filename__gt": f"{directory['filename']}/", "filename__lt": f"{directory['filename']}0"}
    return store.find_all("items", datasetId=directory["datasetId"], **bounds)


def delete(store: Store, item_ids: list[str]) -> int:
    """Delete items with their annotations and bytes, a directory with its contents."""
    deleted = 0
    for item_id in item_ids:
        item = store.find_one("items", id=item_id)
        if item is None:
            continue  # deleted with its directory
        if item["type"] == "dir":
            deleted += delete(store, [inner["id"] for inner in _contents(store, item)])
        else:
            drop_thumbnail(store, item)
        for annotation in list(store.find("annotations", itemId=item_id)):
            store.emit("Annotation", "Deleted", annotation.id, dataset=item["datasetId"], item=item_id)
        store.delete("annotations", itemId=item_id)
        store.emit("Item", "Deleted", item_id, dataset=item["datasetId"])
        deleted += store.delete("items", id=item_id)
    return deleted


def write_changed(store: Store, kind: str, documents: list[Document], user: str) -> int:
    """Write items or annotations that have been changed, and emit that they are updated; return how many."""
    stamp = {"updatedAt": now(), "updatedBy": user}
    store.put_all(kind, [document | stamp for document in documents])
    for document in documents:
        store.emit(RESOURCES[kind], "Updated", document["id"], dataset=document["datasetId"])
    return len(documents)


def delete_annotations(store: Store, rows: list[Row]) -> int:
    for row in rows:
        store.delete("annotations", id=row.id)
        store.emit("Annotation", "Deleted", row.id, dataset=row.scope, item=row.parent)
    count_annotations(store, {row.parent or "" for row in rows})
    return len(rows)


def count_annotations(store: Store, item_ids: set[str]) -> None:
    for item_id in item_ids:
        item = store.find_one("items", id=item_id)
        if item is not None:
            number = store.count("annotations", itemId=item_id)
            store.put("items", item | {"annotationsCount": number, "annotated": number > 0})


def copy(
    store: Store,
    source: Document,
    dataset_id: str,
    filename: str,
    user: str,
    *,
    with_metadata: bool = True,
    with_annotations: bool = True,
    with_status: bool = True,
    beside: bool = False,
) -> Document:
    """Copy an item, with its bytes, under a new id; with `beside` even if another item has that path."""
    if not beside and by_path(store, dataset_id, filename) is not None:
        raise bad_request(f"cannot copy to {filename!r}: dataset {dataset_id} has an item there already")
    ensure_directory(store, dataset_id, posixpath.dirname(filename), user)
    item = _new_item(store, dataset_id, filename, "file", user)
    metadata = source["metadata"]
    kept = {
        key: value
        for key, value in metadata["system"].items()
        if key in COMPUTED_SYSTEM or (with_metadata and (with_status or key != "annotationStatus"))
        if key not in WORK_SYSTEM
    }
    if "collections" in kept:
        kept["collections"] = _shared_collections(store, source, dataset_id, kept["collections"])
    # The copy is in none of the tasks that its source is in.
    item["metadata"] = (metadata if with_metadata else {}) | {"system": kept | {"refs": []}}
    item["srcItem"] = source["id"]
    if source.get("description"):
        item["description"] = source["description"]
    blob = store.row("items", source["id"]).blob
    store.put("items", item, blob=store.copy_blob(blob) if blob else None)
    if with_annotations:
        copy_annotations(store, source["id"], item, with_status=with_status)
    store.emit("Item", "Clone", item["id"], dataset=dataset_id, source=source["id"])
    return store.get("items", item["id"])


def _shared_collections(store: Store, source: Document, dataset_id: str, marks: Any) -> Document:
    here, there = (
        store.parsed(store.row("datasets", each)).get("collections", {})
        for each in (source["datasetId"], dataset_id)
    )
    return {key: value for key, value in marks.items() if key in there and there[key] == here.get(key)}


def copy_annotations(store: Store, source_id: str, target: Document, *, with_status: bool) -> None:
    """Copy the annotations of an item to another one, except those that it already has."""
    present = {_fingerprint(store.parsed(row)) for row in store.find("annotations", itemId=target["id"])}
    copies = []
    for annotation in store.find_all("annotations", itemId=source_id):
        if _fingerprint(annotation) in present:
            continue
        if not with_status:
            annotation.get("metadata", {}).get("system", {}).pop("status", None)
        place = {"id": store.new_id(), "itemId": target["id"], "datasetId": target["datasetId"]}
        copies.append(annotation | place)
    store.put_all("annotations", copies)
    count_annotations(store, {target["id"]})


def _fingerprint(annotation: Document) -> str:
    """Return the same text for two annotations that mark the same thing in the same way."""
    fields = ("type", "label", "coordinates", "attributes")
    return json.dumps([annotation.get(key) for key in fields], sort_keys=True)
