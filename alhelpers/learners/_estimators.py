"""What estimators of scikit-learn predict, with one column a class of the data set, in its order."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np


def is_regressor(estimator: Any) -> bool:
    from sklearn.base import is_regressor

    try:
        return is_regressor(estimator)
    except AttributeError:  # not derived from scikit-learn's base classes
        return hasattr(estimator, "predict")


def is_fitted(estimator: Any) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    except (AttributeError, TypeError):  # not derived from scikit-learn's base classes
        return any(name.endswith("_") and not name.startswith("_") for name in vars(estimator))
    return True


def unfitted(estimator: Any) -> Any:
    """Return an unfitted copy."""
    from sklearn.base import clone

    return clone(estimator) if hasattr(estimator, "get_params") else copy.deepcopy(estimator)


def predicts_several(estimator: Any) -> bool:
    """Return whether a fitted classifier shows that it predicts several labels a record."""
    last = estimator.steps[-1][1] if getattr(estimator, "steps", ()) else estimator
    return isinstance(getattr(estimator, "classes_", None), list) or getattr(last, "multilabel_", False)


def places_of(classes: Any, names: Sequence[str]) -> np.ndarray:
    """Return the places of an estimator's classes among class names.

    Texts are looked up among the names, whole numbers are places if all can be, and else looked up too. A ValueError
    names the first class that is none of them.
    """
    found = [
        int(one) if isinstance(one, float) and one.is_integer() else one
        for one in np.asarray(classes).tolist()
    ]
    numbers = [one for one in found if isinstance(one, int) and not isinstance(one, bool)]
    if len(numbers) == len(found) and all(0 <= number < len(names) for number in numbers):
        return np.array(numbers, dtype=np.int64)
    places = {name: place for place, name in enumerate(names)}
    unknown = next((one for one in found if str(one) not in places), None)
    if unknown is None:
        return np.array([places[str(one)] for one in found], dtype=np.int64)
    if found == [False, True] and len(names) == 2:
        return np.arange(2)
    raise ValueError(
        f"the estimator knows the class {unknown!r}, which is none of the data set's class names: {', '.join(names)};"
        " give the data set the classes that the estimator was fitted on"
    )


def confidences_of_labels(estimator: Any, inputs: Any, count: int | None) -> np.ndarray:
    """Return the confidence of each of several labels, (N, C) float32; one that the estimator never saw has 0."""
    found = estimator.predict_proba(inputs)
    if isinstance(
        found, list
    ):  # a table a label, with a column for each of its values that the estimator saw
        columns = []
        for table, values in zip(found, estimator.classes_, strict=True):
            if not set(np.asarray(values).tolist()) <= {0, 1}:
                raise ValueError(
                    f"the estimator predicts one of {', '.join(map(str, values))} for an output: several labels a"
                    " record are outputs of 0 and 1, fit it on these"
                )
            present = np.flatnonzero(np.asarray(values) == 1)
            columns.append(table[:, present[0]] if len(present) else np.zeros(len(table)))
        found = np.stack(columns, axis=1)
    confidences = np.asarray(found, dtype=np.float32)
    if confidences.ndim != 2 or (count is not None and confidences.shape[1] != count):
        raise ValueError(
            f"predict_proba of {type(estimator).__name__} returned confidences of shape {confidences.shape} for"
            f" {count} labels: fit it on the labels of the data set, a column a class"
        )
    return confidences


def check_confidences(confidences: np.ndarray, ids: Sequence[Any], estimator: Any, *, several: bool) -> None:
    """Raise a ValueError unless confidences are from 0 to 1, and sum to 1 where a record has one class."""
    if several:
        wrong = (confidences < 0).any(axis=1) | (confidences > 1 + 1e-3).any(axis=1)
    else:
        wrong = (np.abs(confidences.sum(axis=1) - 1) > 1e-3) | (confidences < 0).any(axis=1)
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    found = confidences[row]
    if several:
        raise ValueError(
            f"the confidences of record {ids[row]} are from {found.min():g} to {found.max():g}: predict_proba of"
            f" {type(estimator).__name__} must return a probability for each label"
        )
    inside = found.min() >= 0 and found.max() <= 1
    hint = "; with several labels a record, give the data set task='multilabel'" if inside else ""
    raise ValueError(
        f"the confidences of record {ids[row]} are from {found.min():g} on and sum to {found.sum():g}: predict_proba of"
        f" {type(estimator).__name__} must return probabilities; a CalibratedClassifierCV around it does{hint}"
    )
