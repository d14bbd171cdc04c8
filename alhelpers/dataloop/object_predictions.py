"""Predicted boxes and masks as the platform stores them: annotations, in the pixels of the items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers.data.box_rows import SIDES
from alhelpers.data.masks import resize_mask
from alhelpers.dataloop.images import Picture
from alhelpers.dataloop.reading import kind_of
from alhelpers.dataloop.truth import BACKGROUND, object_names
from alhelpers.dataloop.whole_images import noted

#: Of each image its annotations, and what is noted of the image as a whole.
Found = tuple[list[dl.AnnotationCollection], list[dict[str, Any]]]

# What an annotation holds otherwise than in metadata.user.prediction.
_PLACE = ("left", "top", "width", "height")
_OWN = ("class_name", "confidence", *_PLACE)


def to_boxes(predictions: Any, pictures: Sequence[Picture], model: dl.Model) -> Found:
    """Return predicted boxes as annotations, with the fields of records in ``metadata.user.prediction``.

    These are ``class_names``, ``confidences`` and, of several passes, ``class_certainty``, ``location_certainty``,
    ``existence_certainty`` and ``box_variance`` (in pixels of the model's image).
    """
    _check(predictions, "detection", model, list(model.labels))
    collections, notes = [], []
    for record, picture in zip(_records(predictions), pictures, strict=True):
        height, width = picture.pixels.shape[:2]
        scale = picture.size[1] / width, picture.size[0] / height
        collection = dl.AnnotationCollection()
        for box in record["detections"] or []:
            left, top, wide, high = (box[side] for side in _PLACE)
            sides = left * scale[0], top * scale[1], (left + wide) * scale[0], (top + high) * scale[1]
            definition = dl.Box(label=box["class_name"], **dict(zip(SIDES, sides, strict=True)))
            fields = {name: value for name, value in _finite(box).items() if name not in _OWN}
            fields |= {"class_names": list(predictions.class_names)}
            _add(collection, definition, box["confidence"], model, fields)
        collections.append(collection)
        # of an image without a box the empty list is kept: its record has detections as the others have
        left_out = ("id", "class_names", *(["detections"] if record["detections"] else []))
        notes.append(noted(_finite(record), len(collection.annotations), left_out))
    return collections, notes


def to_masks(predictions: Any, pictures: Sequence[Picture], model: dl.Model) -> Found:
    """Return one mask for each class but the background that is anywhere the most confident one.

    Its confidence is the mean over its pixels.
    """
    labels = object_names(model.labels, "segmentation")
    _check(predictions, "segmentation", model, [BACKGROUND, *labels])
    collections, notes = [], []
    for record, picture, confidences in zip(
        _records(predictions), pictures, predictions.confidences, strict=True
    ):
        collection, best = dl.AnnotationCollection(), confidences.argmax(axis=0)
        for row, label in enumerate(labels, start=1):
            mask = best == row
            shown = resize_mask(mask, picture.size)
            if shown.any():
                confidence = float(confidences[row][mask].mean())
                _add(collection, dl.Segmentation(label=label, geo=shown.astype(np.uint8)), confidence, model)
        collections.append(collection)
        left_out = ("id", "class_names", "class_name", "confidence", "confidences")
        notes.append(noted(_finite(record), len(collection.annotations), left_out))
    return collections, notes


def _check(predictions: Any, task: str, model: dl.Model, names: Sequence[str]) -> None:
    """Raise unless a learner predicts what the model's output type says, for the model's labels."""
    found = getattr(predictions, "task", None)
    if found != task:
        raise ValueError(
            f"model {model.name!r} predicts annotations of type {kind_of(model)!r}, but its learner is one of"
            f" {found or 'another task'}: use a learner of {task}, or a model of another output_type"
        )
    if list(predictions.class_names) != list(names):
        raise ValueError(
            f"the learner of model {model.name!r} has the classes {', '.join(predictions.class_names)}, but the model"
            f" {', '.join(names)}: its factory must build it with the class names that it is passed"
        )


def _records(predictions: Any) -> list[dict[str, Any]]:
    return predictions.to_records([*range(len(predictions))]).to_pylist()


def _add(
    collection: dl.AnnotationCollection,
    definition: Any,
    confidence: float,
    model: dl.Model,
    fields: Mapping[str, Any] | None = None,
) -> None:
    info = {"name": model.name, "model_id": model.id, "confidence": min(confidence, 1.0)}
    metadata = {"user": {"prediction": fields}} if fields else None
    collection.add(annotation_definition=definition, model_info=info, metadata=metadata)


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are there: JSON has no NaN, which stands for what a pass did not see."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
