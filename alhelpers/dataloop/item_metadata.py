"""Read and write the metadata of items and annotations: values at a path, the tag of a group, the model info."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dtlpy as dl

from alhelpers.data.images import LYING
from alhelpers.data.object_annotations import NO_OBJECTS
from alhelpers.data.splitting import Group

# Keys under which a prediction names its model; `prediction` is where this kit's adapters keep the full confidences.
_MODEL_INFO_KEYS = (("system", "model"), ("user", "model"), ("user", "prediction"))


def value_at(item: dl.Item, path: str) -> str | None:
    """Return the value at a dotted path into an item's JSON as text, or None if it is missing or empty."""
    first, *rest = path.split(".")
    # Most paths lead into the metadata, and the whole item takes long to write as JSON.
    value = item.metadata if first == "metadata" else item.to_json().get(first)
    for key in rest:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or value == "":
        return None
    if isinstance(value, Mapping | list):
        raise ValueError(f"item {item.filename!r} ({item.id}): {path!r} {value!r} must be a text or a number")
    return value if isinstance(value, str) else json.dumps(value)


def source_of(item: dl.Item, path: str) -> str:
    """Return the source of an item, the value at a path; items of one source belong in one subset."""
    source = value_at(item, path)
    if source is None:
        raise ValueError(
            f"item {item.filename!r} ({item.id}) has no {path!r}, so the items of its source cannot be kept "
            "together: write it into the item, or group by something that every item has"
        )
    return source


def size_of(item: dl.Item) -> tuple[int, int] | None:
    """Return height and width of an image, upright as it is annotated, or None where the platform has not read them."""
    system = (item.metadata or {}).get("system") or {}
    height, width = system.get("height"), system.get("width")
    if not height or not width:
        return None
    turned = (system.get("exif") or {}).get("Orientation") in LYING
    return (width, height) if turned else (height, width)


def is_marked_empty(item: dl.Item) -> bool:
    """Return whether an item is marked as one without objects (:func:`mark_empty`)."""
    return ((item.metadata or {}).get("user") or {}).get(NO_OBJECTS) is True


def mark_empty(item: dl.Item, empty: bool = True) -> None:
    """Mark an item as labelled without an object, or take the mark back; the caller updates the item."""
    item.metadata = item.metadata or {}
    item.metadata["user"] = (item.metadata.get("user") or {}) | {NO_OBJECTS: empty}


def is_answered(item: dl.Item) -> bool:
    """Return whether an item has a status in a task, and in none that of an item that is of no use."""
    refs = ((item.metadata or {}).get("system") or {}).get("refs") or []
    statuses = {(ref.get("metadata") or {}).get("status") for ref in refs if ref.get("type") == "task"}
    return bool(statuses - {None}) and "discard" not in statuses


def tags_of(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the system tags in an item's metadata."""
    return ((metadata or {}).get("system") or {}).get("tags") or {}


def current_group(
    metadata: Mapping[str, Any] | None, groups: Sequence[Group], item_id: str = "?"
) -> str | None:
    """Return the group of a split that an item is tagged with, or None; only tags that are `True` count."""
    tags = tags_of(metadata)
    found = [group.name for group in groups if tags.get(group.name) is True]
    if len(found) > 1:
        raise ValueError(
            f"item {item_id} is tagged with several groups of the split, {found}: it would be used both for "
            "training and for testing. Remove all but one of them from metadata.system.tags"
        )
    return found[0] if found else None


def without_model_info(metadata: Mapping[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """Copy an annotation's metadata without model info; return also whether there was any."""
    cleaned = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in (metadata or {}).items()
    }
    changed = False
    for section, key in _MODEL_INFO_KEYS:
        part = cleaned.get(section)
        if isinstance(part, dict) and part.get(key) is not None:
            del part[key]
            changed = True
    return cleaned, changed


def clear_model_info(item: dl.Item) -> int:
    """Make an item's annotations ground truth, and return how many were changed; calling again is safe.

    An adapter's training download leaves out every annotation that still names a model
    (`metadata.system.model.name`), so a reviewed prediction counts only once its model info is removed.
    """
    stale = []
    for annotation in item.annotations.list():
        cleaned, changed = without_model_info(annotation.metadata)
        if changed:
            annotation.metadata = cleaned
            stale.append(annotation)
    if not stale:
        return 0
    # The SDK logs failed updates and returns the others, so the count is the only sign of a failure.
    updated = item.annotations.update(stale, system_metadata=True)
    if len(updated) != len(stale) or any(without_model_info(one.metadata)[1] for one in updated):
        raise RuntimeError(
            f"item {item.id}: the model info of some of its {len(stale)} predicted annotations could not be "
            "cleared; they would be left out of training. Run the split again"
        )
    return len(stale)


def tag_item(item: dl.Item, group: str) -> dl.Item:
    """Write a group into the system tags of a freshly read item, and keep every other tag."""
    item.metadata = item.metadata or {}
    for key in ("system", "tags"):
        parent = item.metadata if key == "system" else item.metadata["system"]
        parent[key] = parent.get(key) or {}
    item.metadata["system"]["tags"][group] = True
    return item.update(system_metadata=True)
