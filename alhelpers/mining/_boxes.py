"""What the strategies that score boxes share: the fields of boxes, and one score for each record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from alhelpers import records as rec
from alhelpers import scores
from alhelpers.mining._pool import Part
from alhelpers.mining._selection import UnknownOption
from alhelpers.mining._strategy import check_count
from alhelpers.records import Boxes

#: How the scores of a record's boxes become one.
OVER = ("max", "mean", "sum", "top_k")


class BoxFields:
    """The fields of all boxes of a part, as `Part` returns those of records."""

    def __init__(self, boxes: Boxes) -> None:
        self.boxes = boxes

    def has(self, name: str) -> bool:
        return getattr(self.boxes, name) is not None

    def numbers(self, name: str) -> np.ndarray:
        return getattr(self.boxes, name)

    confidences = Part.confidences


def score_by_boxes(
    part: Part,
    score: Callable[[BoxFields], np.ndarray],
    over: str,
    top_k: int | None,
    min_confidence: float = 0,
) -> np.ndarray:
    """Score the boxes of a part, and combine the scores of each record's; 0 for a record without boxes."""
    boxes = rec.boxes(part.table)
    offsets = boxes.offsets
    values = np.empty(0, dtype=np.float32)
    if len(boxes):
        try:
            values = score(BoxFields(boxes))
        except scores.ScoreError as error:
            if error.row is None:
                raise
            row = int(np.searchsorted(boxes.offsets, error.row, side="right")) - 1
            number = error.row - int(boxes.offsets[row])
            raise scores.ScoreError(f"of box {number} of this record: {error}", row) from error
    if min_confidence and len(boxes):
        kept = boxes.confidence >= min_confidence
        values, offsets = values[kept], np.append(0, np.cumsum(kept))[offsets]
    return scores.over_objects(values, offsets, over, top_k)


def check_top_k(strategy: str, options: Mapping[str, Any]) -> None:
    """Raise unless ``top_k`` is given exactly where it is used."""
    if options["over"] == "top_k":
        check_count(strategy, "top_k", options["top_k"])
    elif options["top_k"] is not None:
        raise UnknownOption(
            f'option top_k of strategy {strategy!r} must be used with over="top_k", got {options["top_k"]!r}'
        )
