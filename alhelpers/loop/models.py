"""The decision between two learners on one labelled test set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from alhelpers.evaluation import (
    CompareConfig,
    Comparison,
    Segmentations,
    TestSet,
    compare_evaluated,
    compare_predictions,
    read_compare_config,
)
from alhelpers.protocols import Dataset, Learner, Predictions

#: The metric of each task that decides by default.
METRICS = {"classification": "accuracy", "detection": "precision_recall", "segmentation": "mean_iou"}
_NAMES = ("old", "new")
# Images whose maps of classes are read at once.
_AT_ONCE = 64


def compare_models(
    old: Learner | Predictions,
    new: Learner | Predictions,
    test: Dataset,
    config: Mapping[str, Any] | None = None,
) -> Comparison:
    """Decide between two classifiers, detectors or segmenters by their predictions on the same labelled data.

    Parameters
    ----------
    old, new : Learner or Predictions
        Fitted on the same classes; or what they predict of the test set.
    test : Dataset
        Of a classification, a detection or a segmentation with class names, all rows labelled; none of them may have
        been learned from. Crowds of a detection, ``test.crowds()``, and pixels of 255 do not count.
    config : mapping, optional
        Metrics and what the new model must win by, as :func:`alhelpers.evaluation.read_compare_config` takes them, such
        as ``{"accuracy": {"min_confidence": 0.95}}`` or ``{"precision_recall": {"iou_threshold": 0.75, "by_size":
        True}}``. The default is a higher accuracy, average precision at an IoU of 0.5, or mean IoU.

    Returns
    -------
    alhelpers.evaluation.Comparison
        ``action`` is ``"update model"`` or ``"discard"``; each of ``metrics`` has the difference with the ``interval``
        where it lies when the test rows are drawn again. Printed, it explains both.

    Raises
    ------
    ValueError
        If the test set is of another task, has no class names, or a row without a label; if predictions are of another
        number of rows or other classes; if the configuration is not valid; or what the learners raise.
    """
    if test.task not in METRICS or test.class_names is None:
        raise ValueError(
            f"the test set is for {test.task} with the class names {test.class_names}: models are compared on a"
            f" {', '.join(METRICS)} whose classes have names"
        )
    checked = read_compare_config(dict(config or {METRICS[test.task]: {}}))
    predicted = [_predicted(model, test, name) for model, name in zip((old, new), _NAMES, strict=True)]
    if test.task == "segmentation":
        return compare_evaluated(*(_pixels(each, test) for each in predicted), checked, _NAMES)
    return _compare_rows(predicted, test, checked)


def _predicted(model: Learner | Predictions, test: Dataset, name: str) -> Predictions:
    """Return the predictions of the test set, of a learner or as they are."""
    found = model.predict(test) if hasattr(model, "predict") else model
    if len(found) != len(test):
        raise ValueError(f"the {name} model has {len(found)} predictions, and the test set {len(test)} rows")
    names, known = getattr(found, "class_names", None), tuple(test.class_names or ())
    if names is not None and tuple(names) != known:
        raise ValueError(
            f"the {name} model predicts {', '.join(map(str, names))}, and the class names of the test set are"
            f" {', '.join(map(str, known))}: compare models of these classes"
        )
    return found


def _compare_rows(predicted: Sequence[Predictions], test: Dataset, config: CompareConfig) -> Comparison:
    """Compare classes or boxes, a row each."""
    ids, every = np.asarray(test.ids).tolist(), np.arange(len(test))
    if test.task == "detection":
        truth = [*test.labels(every)]
        if hasattr(test, "crowds"):
            truth += test.crowds(every)
        found = [each.rows(ids) for each in predicted]
        return compare_predictions(TestSet("box", ids, truth, (found[0], found[1])), config, _NAMES)
    names = list(test.class_names or ())
    truth = [
        {"image_id": id, "label": names[label]} for id, label in zip(ids, test.labels(every), strict=True)
    ]
    found = [_class_rows(each, ids, names) for each in predicted]
    return compare_predictions(TestSet("class", ids, truth, (found[0], found[1])), config, _NAMES)


def _class_rows(predictions: Predictions, ids: list[Any], names: list[str]) -> list[dict[str, Any]]:
    """Return the predictions of classes as evaluation reads them."""
    return [
        {
            "image_id": id,
            "label": names[int(row.argmax())],
            "score": float(row.max()),
            "confidences": dict(zip(names, row.tolist(), strict=True)),
        }
        for id, row in zip(ids, np.asarray(predictions.confidences), strict=True)
    ]


def _pixels(predictions: Predictions, test: Dataset) -> Segmentations:
    """Count the pixels of the test set by class."""
    ids = np.asarray(test.ids).tolist()
    return Segmentations(_maps(test), predictions.confidences, list(test.class_names or ()), ids)


def _maps(test: Dataset) -> Iterator[np.ndarray]:
    """Yield the classes of the pixels of each image."""
    for start in range(0, len(test), _AT_ONCE):
        yield from test.labels(np.arange(start, min(start + _AT_ONCE, len(test))))
