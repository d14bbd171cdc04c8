"""What a model may predict, by its ``output_type``: the one place in which the adapter's tasks differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import dtlpy as dl

from alhelpers.dataloop.evaluation_data import read_evaluated
from alhelpers.dataloop.images import Picture
from alhelpers.dataloop.object_predictions import Found, to_boxes, to_masks
from alhelpers.dataloop.predictions import class_fields, to_annotations, truth_and_predictions
from alhelpers.dataloop.reading import kind_of
from alhelpers.evaluation import Detections, Segmentations, accuracy, classification_average_precision

#: How many items were evaluated, the metrics by name, and warnings.
Measured = tuple[int, Mapping[str, float], Sequence[str]]


class Output(NamedTuple):
    """How predictions of one type become annotations, and how they are measured."""

    task: str
    annotations: Callable[[Any, Sequence[Picture], dl.Model], Found]
    measure: Callable[[dl.Model, dl.Dataset, Any], Measured]


def output_of(model: dl.Model) -> Output:
    """Return how a model's predictions are handled; raise a ValueError for an output type that is not known."""
    kind = kind_of(model)
    if kind not in OUTPUTS:
        raise ValueError(
            f"model {model.name!r} has the output_type {kind!r}: it must be {', '.join(map(repr, OUTPUTS))}"
        )
    return OUTPUTS[kind]


def _to_classes(predictions: Any, pictures: Sequence[Picture], model: dl.Model) -> Found:
    # All fields of an image are in its one annotation, and nothing is left to be noted.
    return [to_annotations(fields, model) for fields in class_fields(predictions, model)], []


def _measure_classes(model: dl.Model, dataset: dl.Dataset, filters: Any) -> Measured:
    labels, confidences = truth_and_predictions(model, dataset, filters)
    names = list(model.labels)
    result = classification_average_precision(labels, confidences, names)
    predicted = [names[row] for row in confidences.argmax(1)]
    values = {"accuracy": accuracy(labels, predicted), "average precision": result.macro}
    return len(labels), values, result.warnings


def _measure_boxes(model: dl.Model, dataset: dl.Dataset, filters: Any) -> Measured:
    items, truth, found = read_evaluated(model, dataset, filters, "detection")
    detections = Detections(truth, found, items)
    first, mean = detections.average_precision(0.5), detections.mean_average_precision()
    return len(items), {"AP50": first.value, "mAP": mean.value}, first.warnings


def _measure_masks(model: dl.Model, dataset: dl.Dataset, filters: Any) -> Measured:
    items, truth, found = read_evaluated(model, dataset, filters, "segmentation")
    measure = Segmentations.from_masks(truth, found, items).mean_iou()
    return len(items), {"mean IoU": measure.value}, measure.warnings


OUTPUTS = {
    "class": Output("classification", _to_classes, _measure_classes),
    "box": Output("detection", to_boxes, _measure_boxes),
    "binary": Output("segmentation", to_masks, _measure_masks),
}
