"""A learner of any estimator of scikit-learn, or one that works as these do."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any, NoReturn

import numpy as np

from alhelpers.data.arrays import class_indices
from alhelpers.learners.predictions import Predictions, checked_names
from alhelpers.protocols import Dataset, History, Progress
from alhelpers.uncertainty._committee_members import all_classes, set_random_states
from alhelpers.uncertainty._torch import derived_seed, first_not_finite

# Rows that a prediction reads at once.
_ROWS = 10_000


class SklearnLearner:
    """A classifier or regressor with scikit-learn's methods; a :class:`~alhelpers.protocols.Learner`.

    Parameters
    ----------
    estimator : object
        Has ``fit`` and ``predict_proba`` (a classifier) or ``predict`` (a regressor). It is copied, never changed.
        Every ``random_state`` in it is set from the seeds.
    seed : int
        With the seed of ``fit``, the estimator's ``random_state``.

    Attributes
    ----------
    estimator : object
        The copy, fitted by the last ``fit``.

    Notes
    -----
    Inputs with more than two dimensions, such as images, become rows of numbers. Embeddings are what goes into the
    last step of a pipeline, or else the inputs. A ``fit`` starts anew.
    """

    def __init__(self, estimator: Any, *, seed: int = 0) -> None:
        self._is_classifier = hasattr(estimator, "predict_proba")
        if not hasattr(estimator, "fit") or not (self._is_classifier or _is_regressor(estimator)):
            raise ValueError(
                f"{type(estimator).__name__} must have fit and predict_proba, or be a regressor: wrap a classifier"
                " without probabilities in CalibratedClassifierCV"
            )
        self.estimator = _unfitted(estimator)
        self._seed, self._classes = seed, 0
        self._class_names: tuple[str, ...] | None = None

    def fit(
        self,
        dataset: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> History:
        """Fit a new copy of the estimator; the validation data is not used, and the history is empty.

        Raises
        ------
        ValueError
            If the data set is empty, its labels are not class indices or finite numbers, or the estimator refuses its
            inputs.
        """
        if not len(dataset):
            raise ValueError("the data set is empty: label at least one row to learn from")
        labels, names = np.asarray(dataset.labels(np.arange(len(dataset)))), checked_names(None, dataset)
        classes = 0 if names is None else len(names)
        if self._is_classifier:
            labels = class_indices(labels, classes or None, ids=dataset.ids)
            classes = classes or int(labels.max()) + 1
        else:
            labels = _finite_numbers(labels, dataset.ids)
        estimator, inputs = _unfitted(self.estimator), _matrix(dataset, np.arange(len(dataset)))
        set_random_states(estimator, derived_seed(self._seed, seed))
        with _naming_records(inputs, dataset.ids):
            estimator.fit(inputs, labels)
        self.estimator, self._classes, self._class_names = estimator, classes, names
        if progress is not None:
            progress(1, 1)
        return History([], [], [], [])

    def predict(
        self, dataset: Dataset, *, passes: int = 0, embeddings: bool = False, seed: int = 0
    ) -> Predictions:
        """Predict without changing the estimator.

        Returns
        -------
        Predictions
            ``confidences`` (N, C) of a classifier, classes that it never saw with 0, or ``values`` (N,) of a
            regressor, and if asked for ``embeddings`` (N, D).

        Raises
        ------
        ValueError
            If the data set is empty or has other classes, an output is not finite or confidences do not sum to 1, the
            learner is not fitted, or passes is not 0.
        """
        if not len(dataset):
            raise ValueError("the data set is empty: there is nothing to predict")
        if passes:
            raise ValueError(
                f"passes is {passes!r}, but an estimator has no dropout: it must be 0. Use a Committee for samples"
            )
        names = checked_names(self._class_names, dataset)
        outputs, vectors = [], []
        for rows in np.split(np.arange(len(dataset)), range(_ROWS, len(dataset), _ROWS)):
            inputs = _matrix(dataset, rows)
            with _naming_records(inputs, dataset.ids[rows[0] :]):
                outputs.append(self._outputs(inputs))
            if embeddings:
                vectors.append(self._embeddings(inputs))
        output = np.concatenate(outputs)
        row = first_not_finite(output)
        if row is not None:
            raise ValueError(f"the prediction of record {dataset.ids[row]} is not finite: check its inputs")
        if self._is_classifier:
            _check_sums(output, dataset.ids, self.estimator)
        return Predictions(
            **{"confidences" if self._is_classifier else "values": output},
            embeddings=np.concatenate(vectors) if embeddings else None,
            class_names=names,
        )

    def fresh(self, seed: int) -> SklearnLearner:
        """Return a learner with an unfitted copy of the estimator."""
        return SklearnLearner(self.estimator, seed=seed)

    def save(self, folder: str | PathLike[str]) -> NoReturn:
        """Raise a ValueError: only pickles can store estimators, and a pickle runs code when it is read."""
        raise ValueError(
            f"a {type(self.estimator).__name__} can only be stored as a pickle, which runs code when it is read: keep"
            " the labelled data and the seed and fit again, or store learner.estimator yourself, with skops or ONNX"
        )

    def load(self, folder: str | PathLike[str]) -> NoReturn:
        """Raise a ValueError, as nothing was saved."""
        self.save(folder)

    def _outputs(self, inputs: Any) -> np.ndarray:
        if not self._is_classifier:
            return np.asarray(self.estimator.predict(inputs), dtype=np.float32)
        if getattr(self.estimator, "classes_", None) is None:
            raise ValueError(
                f"the {type(self.estimator).__name__} has no classes_, by which the columns of predict_proba are told"
                " apart: fit the learner first, or set classes_ in the estimator's fit"
            )
        return all_classes(self.estimator, inputs, self._classes)

    def _embeddings(self, inputs: Any) -> np.ndarray:
        steps = getattr(self.estimator, "steps", ())
        found = self.estimator[:-1].transform(inputs) if len(steps) > 1 else inputs
        try:
            return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the inputs are no numbers that could be embeddings ({error}): put the estimator into a pipeline,"
                " after steps that encode them"
            ) from error


def _is_regressor(estimator: Any) -> bool:
    from sklearn.base import is_regressor

    try:
        return is_regressor(estimator)
    except AttributeError:  # not derived from scikit-learn's base classes
        return hasattr(estimator, "predict")


def _unfitted(estimator: Any) -> Any:
    """Return an unfitted copy."""
    from sklearn.base import clone

    return clone(estimator) if hasattr(estimator, "get_params") else copy.deepcopy(estimator)


def _finite_numbers(labels: np.ndarray, ids: Sequence[Any]) -> np.ndarray:
    """Return what a regressor learns, or raise a ValueError that names the record without a finite number."""
    try:
        row = first_not_finite(numbers := labels.astype(np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"labels are {labels.dtype}, but a regressor learns numbers: {error}") from error
    if row is not None:
        raise ValueError(
            f"the label of record {ids[row]} is {labels[row]}: give it a number, or leave the record out"
        )
    return labels if labels.dtype.kind in "iuf" else numbers


@contextmanager
def _naming_records(inputs: Any, ids: Sequence[Any]) -> Iterator[None]:
    """Name the first record with inputs that are not finite, if an estimator refuses them."""
    try:
        yield
    except ValueError as error:
        if hasattr(inputs, "tocoo"):
            stored = inputs.tocoo()
            rows = stored.row[~np.isfinite(stored.data)]
            row = int(rows.min()) if len(rows) else None
        else:
            dense = np.array(inputs)
            row = first_not_finite(dense) if dense.dtype.kind == "f" else None
        if row is None:
            raise
        raise ValueError(
            f"the inputs of record {ids[row]} are not finite, which the estimator refuses: replace them, or put an"
            f" imputer before it. {error}"
        ) from error


def _check_sums(confidences: np.ndarray, ids: Sequence[Any], estimator: Any) -> None:
    """Raise a ValueError unless the confidences of each record are at least 0 and sum to 1."""
    wrong = (np.abs(confidences.sum(axis=1) - 1) > 1e-3) | (confidences < 0).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"the confidences of record {ids[row]} are from {confidences[row].min():g} on and sum to"
            f" {confidences[row].sum():g}: predict_proba of {type(estimator).__name__} must return probabilities; a"
            " CalibratedClassifierCV around it does"
        )


def _matrix(dataset: Dataset, rows: np.ndarray) -> Any:
    """Return inputs as a matrix, one row each."""
    inputs = dataset.inputs(rows)
    if not hasattr(inputs, "shape"):
        raise ValueError(
            f"inputs are a {type(inputs).__name__}: an estimator takes one array, put the columns side by side"
        )
    return inputs if len(inputs.shape) == 2 else np.asarray(inputs).reshape(len(rows), -1)
