from typing import Any

from ...errors import bad_request
from ...store import Document, Store, created, now
from ...validation import merge, require

FIXED = frozenset("id itemId datasetId url item dataset creator createdAt updatedAt updatedBy hash".split())
# System metadata that annotators change in their work; the rest needs ?system=true.
OPEN_SYSTEM = frozenset(
    ("attributes automated status objectId frame startTime endTime endFrame snapshots_ system").split()
)

# The type of an annotation's coordinates.
PLACES: dict[str, type] = {
    **dict.fromkeys(("box", "segment", "polyline"), list),
    **dict.fromkeys(("point", "ellipse", "cube", "cube_3d", "note"), dict),
}
SHAPE_WORDS = {list: "a list of points", dict: "an object"}


def create(store: Store, item: Document, given: Any, user: str) -> Document:
    """Build an annotation from what a client sent; the caller stores it."""
    if not isinstance(given, dict):
        raise bad_request(f"an annotation must be an object, got {given!r}")
    for field in ("type", "label"):
        if not isinstance(given.get(field), str) or not given[field]:
            raise bad_request(
                f"an annotation needs a {field!r} (a non-empty string), got {given.get(field)!r}"
            )
    _check_place(given)
    metadata = require(given).get("metadata") or {}
    annotation = {
        "id": store.new_id(),
        "itemId": item["id"],
        "datasetId": item["datasetId"],
        "type": given["type"],
        "label": given["label"],
        "metadata": metadata | {"system": metadata.get("system") or {}},
        "source": given.get("source") or "sdk",
        "hash": given.get("hash"),
        **created(given.get("creator") or user),
        "updatedBy": user,
    }
    # A classification has no coordinates; the SDK would report them as a difference.
    if annotation["type"] != "class":
        annotation["coordinates"] = given.get("coordinates")
    optional = ("attributes", "description", "labelSuggestions")
    return annotation | {key: given[key] for key in optional if given.get(key)}


def update(annotation: Document, patch: Document, user: str, *, system: bool) -> Document:
    patch = {key: value for key, value in patch.items() if key not in FIXED}
    metadata = patch.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("system"), dict) and not system:
        allowed = {key: value for key, value in metadata["system"].items() if key in OPEN_SYSTEM}
        patch["metadata"] = metadata | {"system": allowed}
    merge(annotation, patch)
    annotation.setdefault("metadata", {}).setdefault("system", {})
    if "description" in patch and not patch["description"]:
        annotation["description"] = None
    for field in ("type", "label"):
        if not isinstance(annotation.get(field), str) or not annotation[field]:
            raise bad_request(f"an annotation needs a {field!r}; it cannot be removed")
    _check_place(annotation)
    return annotation | {"updatedAt": now(), "updatedBy": user}


def check_parents(store: Store, annotation: Document) -> None:
    """Refuse an annotation that would be its own ancestor."""
    seen = {annotation["id"]}
    parent_id = _parent(annotation)
    while parent_id is not None:
        if parent_id in seen:
            raise bad_request(
                f"annotation {annotation['id']} cannot have the parent {_parent(annotation)}: it would be circular"
            )
        seen.add(parent_id)
        parent = store.find_one("annotations", id=parent_id)
        parent_id = _parent(parent) if parent else None


def _parent(annotation: Document) -> str | None:
    parent_id = annotation["metadata"]["system"].get("parentId")
    return parent_id if isinstance(parent_id, str) else None


def _check_place(annotation: Document) -> None:
    """Refuse an annotation without the coordinates of its type, which every reader of the item expects."""
    kind, coordinates = annotation["type"], annotation.get("coordinates")
    shape = PLACES.get(kind)
    if shape is not None and not isinstance(coordinates, shape):
        raise bad_request(
            f"an annotation of type {kind!r} needs 'coordinates', {SHAPE_WORDS[shape]}, got {str(coordinates)[:80]!r}"
        )
