"""Members of a committee that are scikit-learn estimators, or work as these do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def is_estimator(model: Any) -> bool:
    """Return whether something has the methods of scikit-learn's classifiers."""
    return all(callable(getattr(model, name, None)) for name in ("fit", "predict_proba"))


def set_random_states(estimator: Any, seed: int) -> None:
    """Set every ``random_state`` of an estimator, and of those inside it."""
    parameters = estimator.get_params() if hasattr(estimator, "get_params") else {}
    states = [name for name in parameters if name == "random_state" or name.endswith("__random_state")]
    if states:
        estimator.set_params(**dict.fromkeys(states, seed % 2**32))


def as_features(inputs: Any) -> Any:
    """Return inputs as estimators take them: sparse matrices and data frames stay what they are."""
    if isinstance(inputs, torch.Tensor):
        return inputs.cpu().numpy()
    return inputs if hasattr(inputs, "toarray") or hasattr(inputs, "iloc") else np.asarray(inputs)


def take_rows(features: Any, rows: np.ndarray) -> Any:
    """Return rows of an array, a sparse matrix or a data frame."""
    return features.iloc[rows] if hasattr(features, "iloc") else features[rows]


def predict_all_classes(estimator: Any, features: Any, classes: int) -> np.ndarray:
    """Return confidences of all classes, (N, C) float32; those that the estimator never saw have 0."""
    known = np.asarray(estimator.predict_proba(features))
    finite = np.isfinite(known).all(axis=1)
    if not finite.all():
        raise ValueError(f"confidences that are not finite for record {int(np.flatnonzero(~finite)[0])}")
    confidences = np.zeros((len(known), classes), dtype=np.float32)
    confidences[:, np.asarray(estimator.classes_)] = known
    return confidences
