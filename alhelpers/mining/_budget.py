"""Budgets in boxes: how many objects a record is expected to have, and where a selection must end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from alhelpers import records as rec
from alhelpers.mining._selection import MiningError, MissingField, Selection
from alhelpers.records import Records

# Sums of float32 confidences may exceed a budget by their rounding.
_ROUNDING = 1e-6


def check_max_boxes(value: Any) -> None:
    """Raise unless a budget in boxes is None or a number above 0."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value and math.isfinite(value)):
        raise MiningError(f"max_boxes must be a number above 0, or None for no limit, got {value!r}")


def within_boxes(selection: Selection, records: Records, max_boxes: float | None) -> Selection:
    """End a selection before the record with which more boxes are expected than the budget; one is always kept."""
    if max_boxes is None:
        return selection
    total = np.cumsum(expected_boxes(records, selection.ids))
    kept = max(1, int(np.searchsorted(total, max_boxes * (1 + _ROUNDING), side="right")))
    meta = {**selection.meta, "max_boxes": float(max_boxes), "expected_boxes": float(total[kept - 1])}
    return Selection(selection.ids[:kept], selection.scores[:kept], meta)


def expected_boxes(records: Records, ids: Sequence[Any]) -> np.ndarray:
    """Return the sum of the confidences of each record's boxes, (n,) float64; a box without one counts as 1."""
    if "detections" not in (names := rec.field_names(records)):
        raise MissingField(
            f"max_boxes counts the predicted boxes of records, which have no detections, but: {', '.join(names)}; leave"
            " max_boxes out, or predict with a detector"
        )
    chosen = rec.query(records, [{"left": "id", "op": "in", "right": list(ids)}])
    table = rec.as_table(chosen, ("detections",), "records")
    boxes = rec.boxes(table)
    owners = np.repeat(np.arange(len(table)), np.diff(boxes.offsets))
    weights = np.ones(len(boxes)) if boxes.confidence is None else boxes.confidence.astype(np.float64)
    outside = np.flatnonzero(~((weights >= 0) & (weights <= 1)))
    if len(outside):
        id = table["id"][int(owners[outside[0]])].as_py()
        raise rec.RecordError(
            f"record {id!r}: the confidence of a box must be from 0 to 1, got {weights[outside[0]]:.6g}",
            id,
            "detections.confidence",
        )
    sums = np.bincount(owners, weights, minlength=len(table))
    of = dict(zip(table["id"].to_pylist(), sums.tolist(), strict=True))
    return np.array([of[id] for id in ids])
