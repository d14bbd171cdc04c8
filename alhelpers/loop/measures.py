"""What a race measures on the test set: a function of the task, and what the labels cost beside their number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from alhelpers.evaluation import Detections, Segmentations
from alhelpers.protocols import Dataset, Predictions

Compute = Callable[[Predictions, Dataset], float]


class RaceMeasure(NamedTuple):
    """The measure of a task: its name in the rows of a race, and a function of predictions and the test set."""

    name: str
    compute: Compute


def count_boxes(labelled: Dataset) -> dict[str, int]:
    """Return how many boxes the labels of a detection hold, under ``boxes``; of other tasks nothing."""
    if labelled.task != "detection":
        return {}
    return {"boxes": len(labelled.labels(np.arange(len(labelled))))}


def _accuracy(predictions: Predictions, test: Dataset) -> float:
    return float((predictions.confidences.argmax(1) == _labels(test)).mean())


def _label_accuracy(predictions: Predictions, test: Dataset) -> float:
    """Return the share of all labels, several a record, that are right at 0.5."""
    return float(((predictions.confidences > 0.5) == _labels(test)).mean())


def _r_squared(predictions: Predictions, test: Dataset) -> float:
    labels = _labels(test)
    values = np.asarray(predictions.values, dtype=np.float64).reshape(labels.shape)
    spread = ((labels - labels.mean(axis=0)) ** 2).sum()
    return float(1 - ((values - labels) ** 2).sum() / spread) if spread else float("nan")


def _average_precision(predictions: Predictions, test: Dataset) -> float:
    ids = np.asarray(test.ids).tolist()
    truth = test.labels(np.arange(len(test)))
    return float(Detections(truth, predictions.rows(ids), items=ids).average_precision(0.5).value)


def _mean_iou(predictions: Predictions, test: Dataset) -> float:
    found = Segmentations(_labels(test), predictions.confidences.argmax(1), test.class_names)
    return float(found.mean_iou().value)


def _labels(test: Dataset) -> np.ndarray:
    return np.asarray(test.labels(np.arange(len(test))))


#: The measure of each task that can be raced.
MEASURES: Mapping[str, RaceMeasure] = {
    "classification": RaceMeasure("accuracy", _accuracy),
    "multilabel": RaceMeasure("accuracy", _label_accuracy),
    "regression": RaceMeasure("r2", _r_squared),
    "detection": RaceMeasure("ap50", _average_precision),
    "segmentation": RaceMeasure("mean_iou", _mean_iou),
}
