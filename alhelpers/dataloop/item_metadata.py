"""Read and write the metadata of items and annotations: values at a path, the tag of a group, the model info."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dtlpy as dl

from alhelpers.data.splitting import Group

# Keys under which a prediction names its model; `prediction` is where this kit's adapters keep the full confidences.
_MODEL_INFO_KEYS = (("system", "model"), ("user", "model"), ("user", "prediction"))


def value_at(item: dl.Item, path: str) -> str | None:
    """Read a value of an item as text.

    Parameters
    ----------
    item : dl.Item
        The item.
    path : str
        A dotted path into the item's JSON, such as ``"metadata.user.source"`` or ``"dir"``.

    Returns
    -------
    str or None
        The value; numbers and booleans as JSON writes them. None if it is missing or empty.

    Raises
    ------
    ValueError
        If the value is an object or a list.
    """
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
    """Read the source of an item; items of one source belong in one subset.

    Parameters
    ----------
    item : dl.Item
        The item.
    path : str
        As in `value_at`.

    Returns
    -------
    str
        The source.

    Raises
    ------
    ValueError
        If the item does not name its source.
    """
    source = value_at(item, path)
    if source is None:
        raise ValueError(
            f"item {item.filename!r} ({item.id}) has no {path!r}, so the items of its source cannot be kept "
            "together: write it into the item, or group by something that every item has"
        )
    return source


def tags_of(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the system tags in an item's metadata."""
    return ((metadata or {}).get("system") or {}).get("tags") or {}


def current_group(
    metadata: Mapping[str, Any] | None, groups: Sequence[Group], item_id: str = "?"
) -> str | None:
    """Read which group of a split an item is tagged with.

    Parameters
    ----------
    metadata : mapping or None
        The item's metadata. Only tags that name a group and are `True` count.
    groups : sequence of Group
        The groups of the split.
    item_id : str
        For the error.

    Returns
    -------
    str or None
        The group's name, or None if the item has no group yet.

    Raises
    ------
    ValueError
        If the item is tagged with two of the groups: only its owner can decide between them.
    """
    tags = tags_of(metadata)
    found = [group.name for group in groups if tags.get(group.name) is True]
    if len(found) > 1:
        raise ValueError(
            f"item {item_id} is tagged with several groups of the split, {found}: it would be used both for "
            "training and for testing. Remove all but one of them from metadata.system.tags"
        )
    return found[0] if found else None


def without_model_info(metadata: Mapping[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """Copy an annotation's metadata without the traces of the model that predicted it.

    Parameters
    ----------
    metadata : mapping or None
        The annotation's metadata; it is not changed.

    Returns
    -------
    cleaned : dict
        The metadata without model info.
    changed : bool
        Whether there was any.
    """
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
    """Make an item's annotations ground truth.

    An adapter's training download leaves out every annotation that still names a model
    (`metadata.system.model.name`), so a reviewed prediction counts only once its model info is removed.

    Parameters
    ----------
    item : dl.Item
        The item.

    Returns
    -------
    int
        How many annotations were changed.

    Raises
    ------
    RuntimeError
        If the platform did not store some of the changes; calling again is safe.
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
    """Write an item's group into its system tags and keep every other tag.

    Parameters
    ----------
    item : dl.Item
        The item, freshly read.
    group : str
        The group's name.

    Returns
    -------
    dl.Item
        The item as the platform stores it now.
    """
    item.metadata = item.metadata or {}
    for key in ("system", "tags"):
        parent = item.metadata if key == "system" else item.metadata["system"]
        parent[key] = parent.get(key) or {}
    item.metadata["system"]["tags"][group] = True
    return item.update(system_metadata=True)
