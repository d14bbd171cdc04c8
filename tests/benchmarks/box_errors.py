"""The errors of a detector on each image, and the scores of images that are to find them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alhelpers import scores
from alhelpers.evaluation import iou
from alhelpers.learners import BoxPredictions
from alhelpers.protocols import Dataset

#: Confidences from which predicted boxes count: that of ``scores.object_certainty``, and a higher one.
THRESHOLDS = (0.2, 0.3)
OVERS = ("max", "mean", "sum")
_IOU = 0.5
_SIDES = ("left", "top", "right", "bottom")


def image_errors(predictions: BoxPredictions, dataset: Dataset, threshold: float) -> np.ndarray:
    """Return how many objects of each image are missed, and how many boxes of at least a confidence are wrong, (N,).

    A box is right if it overlaps an object of its class, which no better one found, by an IoU of at least 0.5.
    """
    ids = np.asarray(dataset.ids).tolist()
    truth: dict[Any, list[Any]] = {id: [] for id in ids}
    found: dict[Any, list[Any]] = {id: [] for id in ids}
    for row in dataset.labels(np.arange(len(dataset))):
        truth[row["image_id"]].append(row)
    for row in predictions.rows(ids):
        if row["score"] >= threshold:
            found[row["image_id"]].append(row)
    return np.array([_errors(truth[id], found[id]) for id in ids])


def _errors(truth: Sequence[Any], found: Sequence[Any]) -> int:
    free = list(range(len(truth)))
    overlaps = iou(_sides(found), _sides(truth))
    right = 0
    for place in np.argsort([-row["score"] for row in found], kind="stable"):
        same = [one for one in free if truth[one]["label"] == found[place]["label"]]
        best = max(same, key=lambda one, place=place: overlaps[place, one], default=None)
        if best is not None and overlaps[place, best] >= _IOU:
            free.remove(best)
            right += 1
    return len(free) + len(found) - right


def _sides(rows: Sequence[Any]) -> np.ndarray:
    return np.array([[row[side] for side in _SIDES] for row in rows], dtype=float).reshape(-1, 4)


def image_scores(predictions: BoxPredictions) -> dict[tuple[str, str], np.ndarray]:
    """Return scores of images, each (N,), by what is scored and how its boxes are combined."""
    of_boxes = {"1 - confidence": 1 - predictions.scores}
    of_boxes["expected errors"] = scores.expected_errors(predictions.confidences)
    if predictions.samples is not None:
        certainties = predictions.certainties()
        of_boxes |= {f"1 - {name} certainty": 1 - values for name, values in certainties.items()}
        both = certainties["object"] * certainties["location"]
        of_boxes["1 - object x location certainty"] = 1 - both
        of_boxes["box variance"] = scores.box_variance(predictions.samples.boxes)
    offsets = predictions.offsets
    return {
        (name, over): scores.over_objects(values, offsets, over)
        for name, values in of_boxes.items()
        for over in OVERS
    }
