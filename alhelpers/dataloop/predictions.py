"""Predictions of classifiers as the platform stores them: annotations with the fields of a record."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers.dataloop.reading import find_items, labels_of, predictions_of

logger = logging.getLogger(__name__)


def class_fields(predictions: Any, model: dl.Model) -> list[dict[str, list]]:
    """Return what a learner predicts as the fields of a record, one dict an image."""
    columns, names = predictions.fields(), list(model.labels)
    if columns["confidences"].shape != (len(predictions), len(names)):
        raise ValueError(
            f"the learner of model {model.name!r} returned confidences of shape {columns['confidences'].shape} for"
            f" {len(predictions)} images and {len(names)} labels: its factory must build it with the class names that"
            " it is passed"
        )
    return [
        {"class_names": names} | {name: column[row].tolist() for name, column in columns.items()}
        for row in range(len(predictions))
    ]


def to_annotations(fields: dict[str, list], model: dl.Model) -> dl.AnnotationCollection:
    """Return the fields of a record as one classification, with the model and all fields in its metadata."""
    best = int(np.argmax(fields["confidences"]))
    collection = dl.AnnotationCollection()
    collection.add(
        annotation_definition=dl.Classification(label=fields["class_names"][best]),
        model_info={
            "name": model.name,
            "model_id": model.id,
            "confidence": min(fields["confidences"][best], 1.0),
        },
        metadata={"user": {"prediction": fields}},
    )
    return collection


def to_records(annotations: Iterable[dl.Annotation]) -> list[dict[str, Any]]:
    """Turn predictions of this adapter into records, one an item.

    Parameters
    ----------
    annotations : iterable of dl.Annotation
        What ``predict_items`` returns; annotations without a prediction's fields are left out.

    Returns
    -------
    list of dict
        ``id`` (the item's), ``class_name``, ``confidence`` and the stored fields; by id.

    Raises
    ------
    ValueError
        If an item has more than one such prediction: keep one model's.
    """
    by_item: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        user = annotation.metadata.get("user", {})
        if "prediction" in user:
            head = {
                "id": annotation.item_id,
                "class_name": annotation.label,
                "confidence": user["model"]["confidence"],
            }
            by_item[annotation.item_id].append(head | user["prediction"])
    for item_id, rows in by_item.items():
        if len(rows) > 1:
            raise ValueError(f"item {item_id} has {len(rows)} predictions: pass the annotations of one model")
    return [by_item[item_id][0] for item_id in sorted(by_item)]


def truth_and_predictions(
    model: dl.Model, dataset: dl.Dataset, filters: dl.Filters | dict | None
) -> tuple[list[str], np.ndarray]:
    """Return the labels and a model's confidences (N, C) of the items that have both."""
    names = {item.id: item.filename for item in find_items(dataset, filters)}
    truth = labels_of(dataset, list(names))
    for item_id, labels in truth.items():
        if len(labels) > 1:
            raise ValueError(
                f"item {names[item_id]!r} has the labels {labels[0]!r} and {labels[1]!r}: remove one of them to"
                " evaluate"
            )
    found = predictions_of(dataset, list(names), model.id)
    both = sorted(truth.keys() & found.keys())
    if not both:
        raise ValueError(
            f"model {model.name!r} can't be evaluated on dataset {dataset.name!r}: of {len(truth)} items with a"
            f" label and {len(found)} with a prediction none has both. Label the items that the filter selects."
        )
    if len(both) < len(truth):
        logger.warning(
            "%d of %d labelled items of dataset %r have no prediction of model %r and are not evaluated",
            len(truth) - len(both),
            len(truth),
            dataset.name,
            model.name,
        )
    return [truth[item][0] for item in both], np.stack([_confidences(found[item], model) for item in both])


def _confidences(record: dict[str, Any], model: dl.Model) -> np.ndarray:
    """Return the confidences of a record in the order of the model's labels."""
    names, values = record.get("class_names", []), record.get("confidences", [])
    if sorted(names) != sorted(model.labels) or len(values) != len(names):
        raise ValueError(
            f"the prediction of item {record['id']} has the classes {list(names)} with {len(values)} confidences, and"
            f" model {model.name!r} the labels {list(model.labels)}: predict again"
        )
    return values[[names.index(label) for label in model.labels]]
