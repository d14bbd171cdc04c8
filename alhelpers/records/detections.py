"""Detections: any number of boxes, or regions, of each record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.ids import one_piece
from alhelpers.records.layout import box_offsets, checked
from alhelpers.records.schema import BOX_FIELDS, DETECTIONS, RecordError
from alhelpers.records.values import as_array, boxes_array

# What the numbers of boxes must be, where boxes have them.
_OF_BOXES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    # rounded to 32 bits
    "confidence": ("from 0 to 1", lambda values: (values >= -1e-6) & (values <= 1 + 1e-6)),
    **{
        f"{name}_certainty": ("from 0 to 1", lambda values: (values >= 0) & (values <= 1))
        for name in ("class", "location", "existence", "object")
    },
    "box_variance": ("0 or more", lambda values: values >= 0),
    "width": ("above 0", lambda values: values > 0),
    "height": ("above 0", lambda values: values > 0),
}


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of N records, M boxes in all, in flat arrays.

    Parameters
    ----------
    offsets : numpy.ndarray of shape (N + 1,), int64
        The boxes of record ``k`` are ``offsets[k]`` up to, but not including, ``offsets[k + 1]``.
    class_name : numpy.ndarray of shape (M,), objects, or None
        The predicted classes, None for boxes without one.
    confidence : numpy.ndarray of shape (M,), float32, or None
        The confidence of the predicted class; the largest of ``confidences`` if boxes have only those.
    confidences, logits : numpy.ndarray of shape (M, C), float32, or None
        The confidences and logits of all classes.
    left, top, width, height : numpy.ndarray of shape (M,), float32, or None
        The position and size of each box, in pixels.
    embeddings : numpy.ndarray of shape (M, D), float32, or None
        A vector of each box.
    class_certainty, location_certainty, existence_certainty, object_certainty : numpy.ndarray of shape (M,), float32, \
        or None
        How far several passes agree on each box, from 0 to 1; see the functions of these names in
        :mod:`alhelpers.scores`.
    box_variance : numpy.ndarray of shape (M,), float32, or None
        The standard deviation of a box's sides over the passes, in pixels.
    """

    offsets: np.ndarray
    class_name: np.ndarray | None = None
    confidence: np.ndarray | None = None
    confidences: np.ndarray | None = None
    logits: np.ndarray | None = None
    left: np.ndarray | None = None
    top: np.ndarray | None = None
    width: np.ndarray | None = None
    height: np.ndarray | None = None
    embeddings: np.ndarray | None = None
    class_certainty: np.ndarray | None = None
    location_certainty: np.ndarray | None = None
    existence_certainty: np.ndarray | None = None
    object_certainty: np.ndarray | None = None
    box_variance: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.offsets[-1])


def boxes(table: pa.Table) -> Boxes:
    """Return the boxes of all records in flat arrays.

    Parameters
    ----------
    table : pyarrow.Table
        A checked table of records, as :func:`alhelpers.records.read` and the parts return it.

    Returns
    -------
    Boxes
        A field that no box has is None.

    Raises
    ------
    RecordError
        If there is no column of detections, or it breaks the schema, or a box has no area.
    """
    if DETECTIONS not in table.column_names:
        raise RecordError(
            f"records have no column {DETECTIONS!r}, they have {table.column_names}", column=DETECTIONS
        )
    whole = one_piece(checked(table, [DETECTIONS], distinct=False)[DETECTIONS])
    flat = whole.flatten()
    found = {field.name: as_array(flat.field(field.name), field.name) for field in flat.type}
    if "confidences" in found:
        found.setdefault("confidence", found["confidences"].max(axis=1))
    return check_boxes(Boxes(box_offsets(whole), **found), table["id"], ("width", "height"))


def from_boxes(boxes: Boxes, ids: Sequence[Any]) -> pa.Array:
    """Convert flat arrays of boxes into an arrow array."""
    fields = {name: getattr(boxes, name) for name in BOX_FIELDS if getattr(boxes, name) is not None}
    owners = np.repeat(np.asarray(ids, dtype=object), np.diff(boxes.offsets))
    found = boxes_array(boxes.offsets, fields, owners)
    check_boxes(boxes, ids)
    return found


def check_boxes(
    boxes: Boxes, ids: Sequence[Any] | pa.ChunkedArray, fields: Sequence[str] = tuple(_OF_BOXES)
) -> Boxes:
    """Return boxes; raise for the first with a confidence, certainty, variance or size that none can have."""
    for field in fields:
        (rule, holds), values = _OF_BOXES[field], getattr(boxes, field)
        wrong = () if values is None else np.flatnonzero(~holds(np.asarray(values)))
        if len(wrong):
            owner = ids[int(np.searchsorted(boxes.offsets, wrong[0], side="right")) - 1]
            id, column = owner.as_py() if isinstance(owner, pa.Scalar) else owner, f"{DETECTIONS}.{field}"
            raise RecordError(
                f"record {id!r}: {column} must be {rule}, got {values[wrong[0]]:.6g}", id, column
            )
    return boxes
