"""What a model predicts of an image as a whole, noted on the item: embeddings, scores, and that it found nothing.

Boxes and masks are annotations, each with its own fields. An image in which a model finds none has no annotation,
though it is predicted; so the number of annotations is noted, too, and a note with another number does not count: since
then people have reviewed the predictions, or another model's have taken their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dtlpy as dl

#: The key of an item's user metadata; below it are the models' ids.
NOTES = "predictions"
#: The number of annotations that the model predicted.
OBJECTS = "objects"
#: The id of the item that was predicted.
ITEM = "item"

_PARALLEL = 8


def path_of(model_id: str) -> str:
    """Return the field of an item in which a model's note is."""
    return f"metadata.user.{NOTES}.{model_id}"


def note_of(item: dl.Item, model_id: str) -> Mapping[str, Any] | None:
    """Return the note of a model on an item."""
    notes = ((item.metadata or {}).get("user") or {}).get(NOTES)
    found = notes.get(model_id) if isinstance(notes, Mapping) else None
    note = found[0] if isinstance(found, list) and found else None
    # A copy of an item has its notes, but the model has not predicted the copy.
    return note if isinstance(note, Mapping) and note.get(ITEM) == item.id else None


def fields_of(note: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that a note holds."""
    return {name: value for name, value in note.items() if name not in (ITEM, OBJECTS)}


def write_notes(
    model: dl.Model, items: Mapping[str, dl.Item], notes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the notes of a model on items, by the items' ids."""

    def write(id: str) -> None:
        item = items[id]
        item.metadata = item.metadata or {}
        user = item.metadata["user"] = item.metadata.get("user") or {}
        # in a list, which an update replaces whole: of an object it would keep what the new one has not
        user[NOTES] = (user.get(NOTES) or {}) | {model.id: [{ITEM: id, **notes[id]}]}
        item.update()

    with ThreadPoolExecutor(_PARALLEL) as workers:
        list(workers.map(write, notes))


def noted(record: Mapping[str, Any], count: int, left_out: Iterable[str]) -> dict[str, Any]:
    """Return the note of an image from its record, without the fields that its annotations have."""
    kept = {name: value for name, value in record.items() if value is not None and name not in left_out}
    return {OBJECTS: count, **kept}
