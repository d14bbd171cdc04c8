"""Members of a committee that are scikit-learn estimators, or work as these do."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_estimator(model: Any) -> bool:
    """Tell whether something learns and predicts as scikit-learn's classifiers do."""
    return all(callable(getattr(model, name, None)) for name in ("fit", "predict_proba"))


def start_from(estimator: Any, seed: int) -> None:
    """Set every ``random_state`` of an estimator, and of those inside it."""
    parameters = estimator.get_params() if hasattr(estimator, "get_params") else {}
    states = [name for name in parameters if name == "random_state" or name.endswith("__random_state")]
    if states:
        estimator.set_params(**dict.fromkeys(states, seed % 2**32))


def predict_all_classes(estimator: Any, inputs: np.ndarray, classes: int) -> np.ndarray:
    """Return confidences of all classes; those that the estimator never saw have none.

    Parameters
    ----------
    estimator : object
        A fitted classifier with ``classes_``.
    inputs : numpy.ndarray of shape (N, ...)
        What it takes.
    classes : int
        The number C of classes of the committee.

    Returns
    -------
    numpy.ndarray of shape (N, C), float32

    Raises
    ------
    ValueError
        If a confidence is not finite.
    """
    known = np.asarray(estimator.predict_proba(inputs))
    finite = np.isfinite(known).all(axis=1)
    if not finite.all():
        raise ValueError(f"confidences that are not finite for record {int(np.flatnonzero(~finite)[0])}")
    confidences = np.zeros((len(known), classes), dtype=np.float32)
    confidences[:, np.asarray(estimator.classes_)] = known
    return confidences
