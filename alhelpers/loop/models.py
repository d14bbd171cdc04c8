"""The decision between two learners on one labelled test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from alhelpers.evaluation import Comparison, TestSet, compare_predictions, read_compare_config
from alhelpers.protocols import Dataset, Learner


def compare_models(
    old: Learner, new: Learner, test: Dataset, config: Mapping[str, Any] | None = None
) -> Comparison:
    """Decide between two classifiers by their predictions on the same labelled data.

    Parameters
    ----------
    old, new : Learner
        Fitted on the same classes.
    test : Dataset
        Of a classification with class names, all rows labelled; none of them may have been learned from.
    config : mapping, optional
        Metrics and what the new model must win by, as :func:`alhelpers.evaluation.read_compare_config` takes them, such
        as ``{"accuracy": {"min_confidence": 0.95}}``. The default is a higher accuracy.

    Returns
    -------
    alhelpers.evaluation.Comparison
        ``action`` is ``"update model"`` or ``"discard"``; each of ``metrics`` has the difference with the ``interval``
        where it lies when the test rows are drawn again. Printed, it explains both.

    Raises
    ------
    ValueError
        If the test set is of another task, has no class names, or a row without a label; if the configuration is not
        valid; or what the learners raise.
    """
    if test.task != "classification" or test.class_names is None:
        raise ValueError(
            f"the test set is for {test.task} with the class names {test.class_names}: models are compared on a"
            " classification whose classes have names"
        )
    names, rows = list(test.class_names), np.arange(len(test))
    checked = read_compare_config(dict(config or {"accuracy": {}}))
    ids = np.asarray(test.ids).tolist()
    truth = [
        {"image_id": id, "label": names[label]} for id, label in zip(ids, test.labels(rows), strict=True)
    ]
    predicted = tuple(_rows(learner, test, ids, names) for learner in (old, new))
    return compare_predictions(TestSet("class", ids, truth, predicted), checked, ("old", "new"))


def _rows(learner: Learner, test: Dataset, ids: list[Any], names: list[str]) -> list[dict[str, Any]]:
    """Return the predictions of the test set as evaluation reads them."""
    confidences = np.asarray(learner.predict(test).confidences)
    return [
        {
            "image_id": id,
            "label": names[int(row.argmax())],
            "score": float(row.max()),
            "confidences": dict(zip(names, row.tolist(), strict=True)),
        }
        for id, row in zip(ids, confidences, strict=True)
    ]
