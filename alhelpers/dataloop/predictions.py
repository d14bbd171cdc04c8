"""Predictions of classifiers as the platform stores them: annotations with the fields of a record."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers.dataloop.reading import annotations_of, is_ground_truth, made_by


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
    custom = filters.prepare() if isinstance(filters, dl.Filters) else filters
    items = dataset.items.list(filters=dl.Filters(custom_filter=copy.deepcopy(custom)) if custom else None)
    names = {item.id: item.filename for item in items.all()}
    truth: dict[str, str] = {}
    found: dict[str, list[float]] = {}
    for annotation in annotations_of(dataset, list(names)):
        if annotation.type != "class":
            continue
        if is_ground_truth(annotation):
            if truth.get(annotation.item_id, annotation.label) != annotation.label:
                raise ValueError(
                    f"item {names[annotation.item_id]!r} has the labels {truth[annotation.item_id]!r} and"
                    f" {annotation.label!r}: remove one of them to evaluate"
                )
            truth[annotation.item_id] = annotation.label
        elif made_by(annotation.metadata)[0] == model.id:
            found[annotation.item_id] = annotation.metadata["user"]["prediction"]["confidences"]
    both = sorted(truth.keys() & found.keys())
    if not both:
        raise ValueError(
            f"model {model.name!r} can't be evaluated on dataset {dataset.name!r}: of {len(truth)} items with a"
            f" label and {len(found)} with a prediction none has both. Label the items that the filter selects."
        )
    return [truth[item] for item in both], np.array([found[item] for item in both], dtype=np.float32)
