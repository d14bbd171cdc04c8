"""The metrics of classifiers: average precision, accuracy, F1, and calibration error."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.evaluation.calibration import measure_calibration
from alhelpers.evaluation.curves import (
    Evaluation,
    curve_of,
    evaluate_hits,
    mean,
    step_area,
    warn_of_unfounded,
)
from alhelpers.evaluation.errors import EvaluationError, NoGroundTruth
from alhelpers.evaluation.measures import LabelF1, Macro, Measure, Ranking, Share
from alhelpers.evaluation.rows import check_same_kind, codes, floats, keys, sort_names


def classification_average_precision(
    labels: Sequence[Hashable] | np.ndarray, confidences: ArrayLike, class_names: Sequence[Hashable]
) -> Evaluation:
    """Evaluate a classifier by average precision from its full confidences.

    Each label's average precision is scikit-learn's: the sum over the distinct confidences of
    precision times the step in recall, without interpolation.

    Parameters
    ----------
    labels : sequence of length N
        The true class name of each record.
    confidences : array_like of shape (N, C)
        The confidence of each class; any numbers that rank the records, higher is more likely.
    class_names : sequence of length C
        The name of each column of ``confidences``.

    Returns
    -------
    Evaluation
        ``macro`` is the mean over the labels that have ground truth. A label that the model does not know
        counts as 0, with a warning. ``micro`` ranks all N x C decisions together.

    Raises
    ------
    NoGroundTruth
        If there is no label.
    EvaluationError
        If the lengths differ, a confidence is not a finite number, a class name comes twice, or the labels
        are numbers and the class names are not.
    """
    truth = keys(labels, "labels", "labels")
    names = keys(class_names, "class_names", "class_names")
    values = np.asarray(confidences)
    if values.dtype.kind not in "fiu" or values.shape != (len(truth), len(names)):
        raise EvaluationError(
            f"confidences must be numbers of shape ({len(truth)}, {len(names)}): {len(truth)} labels by "
            f"{len(names)} class names, got {values.dtype} of shape {values.shape}"
        )
    if len(set(names)) != len(names):
        raise EvaluationError(f"class_names must differ from each other, got {names}")
    if not truth:
        raise NoGroundTruth("cannot compare: there is no labelled record")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise EvaluationError(f"row {row} of confidences holds NaN or infinity; predict the record again")
    check_same_kind(truth, names)
    return _evaluate_confidences(truth, values, names)


def _evaluate_confidences(truth: list[Hashable], values: np.ndarray, names: list[Hashable]) -> Evaluation:
    """Evaluate checked confidences."""
    place = {name: column for column, name in enumerate(names)}
    column = np.array([place.get(label, -1) for label in truth])
    curves, per_label = {}, {}
    for label in sort_names(set(truth)):
        known = (
            slice(None) if label in place else slice(0)
        )  # a class that the model does not know is never predicted
        curve = curve_of(
            values[known, place.get(label, 0)], column[known] == place.get(label), truth.count(label)
        )
        curves[label], per_label[label] = curve, step_area(curve)
    one_hot = column[:, None] == np.arange(len(names))
    micro = step_area(curve_of(values.ravel(), one_hot.ravel(), len(truth)))
    predicted = [names[best] for best in np.unique(values.argmax(axis=1))]
    warnings = warn_of_unfounded(predicted, per_label) + tuple(
        f"label {label!r} has ground truth but is not among the class names: its average precision is 0"
        for label in per_label
        if label not in place
    )
    return Evaluation(mean(per_label), micro, per_label, curves, warnings)


def top1_average_precision(
    labels: Sequence[Hashable] | np.ndarray,
    predicted: Sequence[Hashable] | np.ndarray,
    confidence: ArrayLike,
) -> Evaluation:
    """Evaluate a classifier of which only the predicted class and its confidence are known.

    This is the detection measure with the whole record as the box: a prediction is right if its class is,
    recall stops at the share of records whose class was predicted, the area is all-point interpolated. It
    is not comparable with :func:`classification_average_precision`, which sees the confidences of all
    classes.

    Parameters
    ----------
    labels : sequence of length N
        The true class name of each record.
    predicted : sequence of length N
        The predicted class name of each record.
    confidence : array_like of shape (N,)
        The confidence of the predicted class.

    Returns
    -------
    Evaluation
        ``macro`` is the mean over the labels that have ground truth.

    Raises
    ------
    NoGroundTruth
        If there is no label.
    EvaluationError
        If the lengths differ or a confidence is not a finite number.
    """
    truth, guesses = keys(labels, "labels", "labels"), keys(predicted, "predicted", "predicted")
    score = floats(np.asarray(confidence), "confidence", "confidence")
    if not len(truth) == len(guesses) == len(score):
        raise EvaluationError(
            f"labels, predicted and confidence must be equally long, got {len(truth)}, {len(guesses)}, {len(score)}"
        )
    if not truth:
        raise NoGroundTruth("cannot compare: there is no labelled record")
    check_same_kind(truth, guesses)
    right = np.array([a == b for a, b in zip(truth, guesses, strict=True)])
    return evaluate_hits(truth, guesses, score, right)


def accuracy(labels: Sequence[Hashable] | np.ndarray, predicted: Sequence[Hashable] | np.ndarray) -> float:
    """Compute the share of records whose class was predicted.

    Parameters
    ----------
    labels, predicted : sequence of length N
        The true and the predicted class of each record.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    NoGroundTruth
        If there is no label.
    EvaluationError
        If the lengths differ, or one holds numbers and the other does not.
    """
    truth, guesses = keys(labels, "labels", "labels"), keys(predicted, "predicted", "predicted")
    if len(truth) != len(guesses):
        raise EvaluationError(f"labels and predicted must be equally long, got {len(truth)}, {len(guesses)}")
    if not truth:
        raise NoGroundTruth("cannot compare: there is no labelled record")
    check_same_kind(truth, guesses)
    return sum(a == b for a, b in zip(truth, guesses, strict=True)) / len(truth)


class Classifications:
    """One model's classes beside the true ones: read once, measured in several ways.

    Parameters
    ----------
    labels : sequence of length N
        The true class of each test item.
    predicted : sequence of length N
        The predicted class of each; None where the model predicted nothing, which is never right.
    confidence : array_like of shape (N,)
        The confidence of the predicted class; ignored where nothing is predicted.
    confidences : array_like of shape (N, C), optional
        The confidence of each class, for the average precision; without them it is the top-1 one.
    class_names : sequence of length C, optional
        The name of each column of ``confidences``.
    items : sequence of length N, optional
        The test items, for pairing models; without it their places.

    Raises
    ------
    NoGroundTruth
        If there is no label.
    EvaluationError
        If the lengths differ, a confidence is not a finite number, or names and numbers are mixed.
    """

    def __init__(
        self,
        labels: Sequence[Hashable] | np.ndarray,
        predicted: Sequence[Hashable | None] | np.ndarray,
        confidence: ArrayLike,
        confidences: ArrayLike | None = None,
        class_names: Sequence[Hashable] | None = None,
        items: Sequence[Hashable] | None = None,
    ) -> None:
        self._truth = keys(labels, "labels", "labels")
        given = predicted.tolist() if isinstance(predicted, np.ndarray) else list(predicted)
        scores = np.asarray(confidence)
        count = len(self._truth)
        if not count == len(given) == len(scores):
            raise EvaluationError(
                f"labels, predicted and confidence must be equally long, got {count}, {len(given)}, {len(scores)}"
            )
        if not count:
            raise NoGroundTruth("cannot compare: there is no labelled record")
        self._items: Sequence[Hashable] = range(count) if items is None else tuple(items)
        if len(self._items) != count:
            raise EvaluationError(f"items must be as many as labels, {count}, got {len(self._items)}")
        self._item = np.array([row for row, value in enumerate(given) if value is not None], dtype=np.intp)
        self._predicted = keys([value for value in given if value is not None], "predicted", "predicted")
        self._confidence = floats(scores[self._item], "confidence", "confidence")
        check_same_kind(self._truth, self._predicted)
        truth = [self._truth[row] for row in self._item.tolist()]
        self._right = np.array([a == b for a, b in zip(truth, self._predicted, strict=True)], dtype=bool)
        self._full = confidences, class_names

    def average_precision(self) -> Measure:
        """Measure the average precision, macro over the labels that have ground truth.

        Returns
        -------
        Measure
            From the confidences of all classes, as `classification_average_precision`; without them from the
            top one, as `top1_average_precision`.
        """
        confidences, names = self._full
        if confidences is None or names is None:
            terms = {
                label: Ranking.build(
                    self._item[rows], self._confidence[rows], [self._right[rows]], self._by_label[label]
                )
                for label, rows in self._predicted_rows()
            }
            method, predicted = "class-aware average precision from the top-1 confidence", self._predicted
            return self._measure(Macro(terms), method, warn_of_unfounded(predicted, terms))
        full = classification_average_precision(self._truth, confidences, names)
        values, place = np.asarray(confidences), {name: column for column, name in enumerate(names)}
        terms = {}
        for label in full.per_label:
            # A class that the model does not know is never predicted; an item without a prediction has none of them.
            rows = self._item if label in place else self._item[:0]
            right = np.isin(rows, self._by_label[label])
            scores = values[rows, place.get(label, 0)].astype(np.float64)
            terms[label] = Ranking.build(rows, scores, [right], self._by_label[label], interpolated=False)
        return self._measure(Macro(terms), "average precision from full confidences", full.warnings)

    def accuracy(self) -> Measure:
        """Measure the share of items whose class was predicted.

        Returns
        -------
        Measure
            From 0 to 1; ``per_label`` is the share among the items of that label.
        """
        right = np.zeros(len(self._truth), dtype=bool)
        right[self._item] = self._right
        return Measure(
            value=float(right.mean()),
            per_label={label: float(right[self._by_label[label]].mean()) for label in self._labels()},
            method="accuracy",
            items=self._items,
            higher_is_better=True,
            warnings=(),
            term=Share(right),
        )

    def f1(self) -> Measure:
        """Measure the F1, macro over the labels that have ground truth.

        Returns
        -------
        Measure
            From 0 to 1.
        """
        terms = {
            label: LabelF1(self._item[rows[self._right[rows]]], self._item[rows], self._by_label[label])
            for label, rows in self._predicted_rows()
        }
        return self._measure(Macro(terms), "F1 of classes", warn_of_unfounded(self._predicted, terms))

    def calibration_error(self, bins: int = 10) -> Measure:
        """Measure the expected calibration error: the gap between top confidence and accuracy.

        Parameters
        ----------
        bins : int
            How many confidence ranges of equal width.

        Returns
        -------
        Measure
            From 0 to 1, lower is better; ``per_label`` holds the labels that were predicted. Items without a
            prediction have no confidence and do not count.

        Raises
        ------
        EvaluationError
            If there is no prediction, or a confidence is not from 0 to 1.
        """
        return measure_calibration(
            self._item, self._predicted, self._confidence, self._right, bins, self._items,
            "expected calibration error of the top confidence",
        )  # fmt: skip

    def _labels(self) -> list[Hashable]:
        return sort_names(self._by_label)

    @cached_property
    def _by_label(self) -> dict[Hashable, np.ndarray]:
        """The items of each true label."""
        return _rows_by_name(self._truth)

    def _predicted_rows(self) -> list[tuple[Hashable, np.ndarray]]:
        """Each label that has ground truth, with the predictions of it."""
        rows, none = _rows_by_name(self._predicted), np.empty(0, dtype=np.intp)
        return [(label, rows.get(label, none)) for label in self._labels()]

    def _measure(self, terms: Macro, method: str, warnings: tuple[str, ...]) -> Measure:
        value, per_label = terms.once(len(self._truth))
        return Measure(value, per_label, method, self._items, True, warnings, terms)


def _rows_by_name(names: list[Hashable]) -> dict[Hashable, np.ndarray]:
    """Return the rows that hold each name."""
    known: dict[Hashable, int] = {}
    places = codes(names, known)
    order = np.argsort(places, kind="stable")
    cuts = np.cumsum(np.bincount(places, minlength=len(known)))[:-1]
    return dict(zip(known, np.split(order, cuts), strict=True)) if known else {}
