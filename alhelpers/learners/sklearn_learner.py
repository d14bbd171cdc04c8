"""A learner of any estimator of scikit-learn, or one that works as these do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any, NoReturn

import numpy as np

from alhelpers.data.labels import finite_numbers, indicators, indices_of, warn_of_missing_classes
from alhelpers.learners._estimators import (
    check_confidences,
    confidences_of_labels,
    is_fitted,
    is_regressor,
    places_of,
    predicts_several,
    unfitted,
)
from alhelpers.learners.predictions import Predictions, checked_names
from alhelpers.protocols import Dataset, History, Progress
from alhelpers.uncertainty._committee_members import set_random_states
from alhelpers.uncertainty._torch import derived_seed, first_not_finite

# Rows that a prediction reads at once.
_ROWS = 10_000

# Bytes of embeddings that are made of sparse ones.
_MOST_EMBEDDINGS = 2**30


class SklearnLearner:
    """A classifier or regressor with scikit-learn's methods; a :class:`~alhelpers.protocols.Learner`.

    Parameters
    ----------
    estimator : object
        Has ``fit`` and ``predict_proba`` (a classifier) or ``predict`` (a regressor); it is never changed. One that is
        fitted already predicts as it is. ``fit`` fits a copy, in which every ``random_state`` is set from the seeds.
    seed : int
        With the seed of ``fit``, the estimator's ``random_state``.

    Attributes
    ----------
    estimator : object
        The copy, fitted by the last ``fit``, or the fitted one that was passed.

    Notes
    -----
    Inputs with more than two dimensions, such as images, become rows of numbers. Texts (N,), sparse matrices and data
    frames stay what they are. Embeddings are what goes into the last step of a pipeline, or else the inputs. A ``fit``
    starts anew.

    A classifier learns several labels a record, (N, C) of 0 and 1, from a data set whose ``task`` is ``"multilabel"``:
    each of them has a confidence of its own. The classes of an estimator that was fitted elsewhere are looked up among
    the data set's class names; without any, they are the class names.
    """

    def __init__(self, estimator: Any, *, seed: int = 0) -> None:
        self._is_classifier = hasattr(estimator, "predict_proba")
        if not hasattr(estimator, "fit") or not (self._is_classifier or is_regressor(estimator)):
            raise ValueError(
                f"{type(estimator).__name__} must have fit and predict_proba, or be a regressor: wrap a classifier"
                " without probabilities in CalibratedClassifierCV"
            )
        self.estimator = estimator if is_fitted(estimator) else unfitted(estimator)
        # What the last fit found; 0 classes before it, and for an estimator that was fitted elsewhere.
        self._seed, self._classes, self._has_several = seed, 0, False
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
            If the data set is empty, its labels are not class indices, names of classes or finite numbers, or the
            estimator refuses its inputs.
        """
        if not len(dataset):
            raise ValueError("the data set is empty: label at least one row to learn from")
        labels, names = np.asarray(dataset.labels(np.arange(len(dataset)))), checked_names(None, dataset)
        several, classes = self._is_classifier and dataset.task == "multilabel", 0
        if several:
            labels = indicators(labels, names, dataset.ids)
            classes = labels.shape[1]
        elif self._is_classifier:
            labels, classes = _checked_classes(labels, names, dataset.ids)
        else:
            labels = finite_numbers(labels, dataset.ids)
            labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if self._is_classifier:
            warn_of_missing_classes(labels, names)
        estimator, inputs = unfitted(self.estimator), _matrix(dataset, np.arange(len(dataset)))
        set_random_states(estimator, derived_seed(self._seed, seed))
        with _naming_records(inputs, dataset.ids), _naming_classes(labels, names, classes):
            estimator.fit(inputs, labels)
        self.estimator, self._classes, self._has_several, self._class_names = (
            estimator,
            classes,
            several,
            names,
        )
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
            ``confidences`` (N, C) of a classifier, classes that it never saw with 0, or ``values`` (N,) or (N, O) of a
            regressor, and if asked for ``embeddings`` (N, D).

        Raises
        ------
        ValueError
            If the data set is empty or has other classes, an output is not finite or confidences do not sum to 1, the
            learner is not fitted, the estimator knows a class that the data set does not name, or passes is not 0.
        """
        if not len(dataset):
            raise ValueError("the data set is empty: there is nothing to predict")
        if passes:
            raise ValueError(
                f"passes is {passes!r}, but an estimator has no dropout: it must be 0. Use a Committee for samples"
            )
        names = checked_names(self._class_names, dataset)
        several = self._has_several if self._classes else self._sees_several(dataset)
        if names is None and self._is_classifier and not self._classes and not several:
            names = tuple(map(str, self._known_classes()))
        outputs, vectors = [], []
        for rows in np.split(np.arange(len(dataset)), range(_ROWS, len(dataset), _ROWS)):
            inputs = _matrix(dataset, rows)
            with _naming_records(inputs, dataset.ids[rows[0] :]):
                outputs.append(self._outputs(inputs, names, several))
            if embeddings:
                vectors.append(self._embeddings(inputs, len(dataset)))
        output = np.concatenate(outputs)
        row = first_not_finite(output)
        if row is not None:
            raise ValueError(f"the prediction of record {dataset.ids[row]} is not finite: check its inputs")
        found = np.concatenate(vectors) if embeddings else None
        if not self._is_classifier:
            return Predictions(values=output, embeddings=found, task="regression")
        check_confidences(output, dataset.ids, self.estimator, several=several)
        task = "multilabel" if several else "classification"
        return Predictions(output, embeddings=found, class_names=names, task=task)

    def fresh(self, seed: int) -> SklearnLearner:
        """Return a learner with an unfitted copy of the estimator."""
        return SklearnLearner(unfitted(self.estimator), seed=seed)

    def save(self, folder: str | PathLike[str]) -> NoReturn:
        """Raise a ValueError: only pickles can store estimators, and a pickle runs code when it is read."""
        raise ValueError(
            f"a {type(self.estimator).__name__} can only be stored as a pickle, which runs code when it is read: keep"
            " the labelled data and the seed and fit again, or store learner.estimator yourself, with skops or ONNX"
        )

    def load(self, folder: str | PathLike[str]) -> NoReturn:
        """Raise a ValueError, as nothing was saved."""
        self.save(folder)

    def _sees_several(self, dataset: Dataset) -> bool:
        return self._is_classifier and (dataset.task == "multilabel" or predicts_several(self.estimator))

    def _known_classes(self) -> Any:
        classes = getattr(self.estimator, "classes_", None)
        if classes is None:
            raise ValueError(
                f"the {type(self.estimator).__name__} has no classes_, by which the columns of predict_proba are told"
                " apart: fit the learner first, or set classes_ in the estimator's fit"
            )
        return classes

    def _outputs(self, inputs: Any, names: Sequence[str] | None, several: bool) -> np.ndarray:
        if not self._is_classifier:
            values = np.asarray(self.estimator.predict(inputs), dtype=np.float32)
            return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        if several:
            count = self._classes or (None if names is None else len(names))
            return confidences_of_labels(self.estimator, inputs, count)
        classes = self._known_classes()
        if self._classes:  # it learned class indices
            count, places = self._classes, np.asarray(classes)
        elif tuple(map(str, classes)) == names:
            count, places = len(names), np.arange(len(names))
        else:
            count, places = len(names), places_of(classes, names)
        known = np.asarray(self.estimator.predict_proba(inputs))
        confidences = np.zeros((len(known), count), dtype=np.float32)
        confidences[:, places] = known
        return confidences

    def _embeddings(self, inputs: Any, total: int) -> np.ndarray:
        steps = getattr(self.estimator, "steps", ())
        found = self.estimator[:-1].transform(inputs) if len(steps) > 1 else inputs
        if hasattr(found, "toarray") and (size := 4 * total * found.shape[1]) > _MOST_EMBEDDINGS:
            raise ValueError(
                f"the embeddings of {total} records with {found.shape[1]} numbers each would take"
                f" {size / 2**30:.1f} GB: put a step that makes them fewer before the last one, such as"
                " TruncatedSVD(100)"
            )
        try:
            return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the inputs are no numbers that could be embeddings ({error}): put the estimator into a pipeline,"
                " after steps that encode them"
            ) from error


def _checked_classes(
    labels: np.ndarray, names: Sequence[str] | None, ids: Sequence[Any]
) -> tuple[np.ndarray, int]:
    """Return class indices, and how many classes there are."""
    if labels.ndim != 1:
        raise ValueError(
            f"labels have the shape {labels.shape}, but one class a record is (N,): for several labels a record, give"
            " the data set task='multilabel'"
        )
    classes = 0 if names is None else len(names)
    indices = indices_of(labels, names, ids, classes=classes or None)
    return indices, classes or int(indices.max()) + 1


@contextmanager
def _naming_classes(labels: np.ndarray, names: Sequence[str] | None, classes: int) -> Iterator[None]:
    """Name the class or label without which there is nothing to tell apart, if an estimator refuses that."""
    try:
        yield
    except ValueError as error:
        columns = labels.reshape(len(labels), -1)
        same = np.flatnonzero((columns == columns[0]).all(axis=0))
        if not classes or not len(same):
            raise
        place = int(same[0] if labels.ndim == 2 else labels[0])
        name = place if names is None else names[place]
        if labels.ndim == 1:
            raise ValueError(
                f"all {len(labels)} records are of the class {name!r}: label at least one of another. {error}"
            ) from error
        share, other = ("every", "without") if columns[0, place] else ("no", "with")
        raise ValueError(
            f"{share} record has the label {name!r}: add at least one {other} it, or leave it out. {error}"
        ) from error


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
            dense = np.array(inputs.select_dtypes("number") if hasattr(inputs, "columns") else inputs)
            row = first_not_finite(dense) if dense.dtype.kind == "f" else None
        if row is None:
            raise
        raise ValueError(
            f"the inputs of record {ids[row]} are not finite, which the estimator refuses: replace them, or put an"
            f" imputer before it. {error}"
        ) from error


def _matrix(dataset: Dataset, rows: np.ndarray) -> Any:
    """Return inputs as a matrix, one row each; texts (N,) stay what they are, as steps that encode them take them."""
    inputs = dataset.inputs(rows)
    if not hasattr(inputs, "shape"):
        raise ValueError(
            f"inputs are a {type(inputs).__name__}: an estimator takes one array, put the columns side by side"
        )
    if len(inputs.shape) == 2:
        return inputs
    plain = np.asarray(inputs)
    return plain if plain.ndim == 1 and plain.dtype.kind in "OUST" else plain.reshape(len(rows), -1)
