"""The metrics of classifiers: average precision, accuracy, F1, and calibration error."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.evaluation.calibration import ROUNDING
from alhelpers.evaluation.curves import (
    Evaluation,
    curve_of,
    evaluate_hits,
    mean,
    step_area,
    warn_of_unfounded,
)
from alhelpers.evaluation.measures import F1, Macro, Measure, Ranking
from alhelpers.evaluation.outcomes import Matched, Outcomes
from alhelpers.evaluation.rows import (
    EvaluationError,
    Names,
    NoGroundTruth,
    check_joined,
    floats,
    keys,
    rows_by_name,
    sort_names,
    unmasked,
)


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
        If the lengths differ, a confidence is not a finite number, a class name comes twice, the labels are
        numbers and the class names are not, or no label is among them.
    """
    truth = keys(labels, "labels", "labels")
    names = keys(class_names, "class_names", "class_names")
    values = _checked_confidences(confidences, len(truth), names)
    if not truth:
        raise NoGroundTruth("cannot compare: there is no labelled record")
    check_joined(truth, names, ("labels hold", "the classes are named"))
    if set(truth).isdisjoint(names):
        raise EvaluationError(
            f"no label is among the class names: labels hold {truth[0]!r}, the names are {names}"
        )
    place = {name: column for column, name in enumerate(names)}
    column = np.array([place.get(label, -1) for label in truth])
    curves = {}
    for label in sort_names(set(truth)):
        # a class that the model does not know is never predicted
        known = slice(None) if label in place else slice(0)
        right = column[known] == place.get(label)
        curves[label] = curve_of(values[known, place.get(label, 0)], right, truth.count(label))
    per_label = {label: step_area(curve) for label, curve in curves.items()}
    one_hot = column[:, None] == np.arange(len(names))
    micro = step_area(curve_of(values.ravel(), one_hot.ravel(), len(truth)))
    predicted = [names[best] for best in np.unique(values.argmax(axis=1))]
    found = warn_of_unfounded(predicted, per_label) + tuple(
        f"label {label!r} has ground truth but is not among the class names: its average precision is 0"
        for label in per_label
        if label not in place
    )
    if values.min() < -ROUNDING or values.max() > 1 + ROUNDING:
        found += (
            f"confidences are from {values.min():g} to {values.max():g}: logits rank records otherwise than the "
            "confidences that scores.confidences_from_logits makes of them",
        )
    return Evaluation(mean(per_label), micro, per_label, curves, found)


def _checked_confidences(confidences: ArrayLike, count: int, names: list[Hashable]) -> np.ndarray:
    """Return finite confidences, a row a record and a column a class name."""
    values = unmasked(confidences)
    if values.dtype.kind not in "fiu" or values.shape != (count, len(names)):
        raise EvaluationError(
            f"confidences must be numbers of shape ({count}, {len(names)}): {count} labels by {len(names)} class "
            f"names, got {values.dtype} of shape {values.shape}"
        )
    if not names or len(set(names)) != len(names):
        raise EvaluationError(f"class_names must be one or more that differ from each other, got {names}")
    columns = list(getattr(confidences, "columns", names))
    if columns != names and set(columns) == set(names):
        raise EvaluationError(f"the columns of confidences are {columns}, in another order than {names}")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise EvaluationError(f"row {row} of confidences holds NaN or infinity; predict the record again")
    return values


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
    model = Classifications(labels, keys(predicted, "predicted", "predicted"), confidence)
    outcomes = model._outcomes
    found = evaluate_hits(outcomes.truth, outcomes.found, outcomes.score, model._right)
    return replace(found, warnings=(*outcomes.warnings, *found.warnings))


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

    Warns
    -----
    UserWarning
        If no predicted class is among the labels.
    """
    guesses = keys(predicted, "predicted", "predicted")
    return Classifications(labels, guesses, np.zeros(len(guesses))).accuracy().value


def _warn_of_disjoint(truth: list[Hashable], found: list[Hashable]) -> tuple[str, ...]:
    """Warn, and return the warning, if no predicted class is a label: perhaps they are spelled otherwise."""
    if not found or not set(truth).isdisjoint(found):
        return ()
    labels, classes = (", ".join(map(repr, sort_names(set(names))[:3])) for names in (truth, found))
    warning = (
        f"no predicted class is among the labels, so nothing is right: labels hold {labels}, predicted holds "
        f"{classes}; check that classes are named alike on both sides"
    )
    warnings.warn(warning, stacklevel=4)
    return (warning,)


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
        If the lengths differ, a confidence is not a finite number, names and numbers are mixed, or only one of
        ``confidences`` and ``class_names`` is given.

    Warns
    -----
    UserWarning
        If no predicted class is among the labels; the warnings of the measures say so, too.
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
        truth = keys(labels, "labels", "labels")
        given = predicted.tolist() if isinstance(predicted, np.ndarray) else list(predicted)
        scores, count = unmasked(confidence), len(truth)
        if not count == len(given) == len(scores):
            raise EvaluationError(
                f"labels, predicted and confidence must be equally long, got {count}, {len(given)}, {len(scores)}"
            )
        if not count:
            raise NoGroundTruth("cannot compare: there is no labelled record")
        places: Sequence[Hashable] = range(count) if items is None else tuple(items)
        if len(places) != count:
            raise EvaluationError(f"items must be as many as labels, {count}, got {len(places)}")
        if (confidences is None) != (class_names is None):
            raise EvaluationError("confidences and class_names need each other: pass both or neither")
        item = np.array([row for row, value in enumerate(given) if value is not None], dtype=np.intp)
        found = keys([value for value in given if value is not None], "predicted", "predicted")
        check_joined(truth, found, ("labels hold", "predicted holds"))
        score = floats(scores[item], "confidence", "confidence")
        right = (truth[row] == name for row, name in zip(item.tolist(), found, strict=True))
        self._right = np.fromiter(right, dtype=bool, count=len(found))
        warning = _warn_of_disjoint(truth, found)
        self._outcomes = Outcomes(
            places, Names.of(truth), np.arange(count), Names.of(found), item, score, warning
        )
        self._full = confidences, class_names

    def average_precision(self) -> Measure:
        """Measure the average precision, macro over the labels that have ground truth.

        It is that of `classification_average_precision` where the confidences of all classes are known, else that of
        `top1_average_precision`.
        """
        outcomes, (confidences, names) = self._outcomes, self._full
        if confidences is None or names is None:
            method = "class-aware average precision from the top-1 confidence"
            return outcomes.average_precision([Matched.every(self._right)], method)
        full = classification_average_precision(outcomes.truth, confidences, names)
        values, place = np.asarray(confidences), {name: column for column, name in enumerate(names)}
        by_label, terms = rows_by_name(outcomes.truth), {}
        for label in full.per_label:
            # A class that the model does not know is never predicted; an item without a prediction has none of them.
            rows = outcomes.found_item if label in place else outcomes.found_item[:0]
            right = np.isin(rows, by_label[label])
            scores = values[rows, place.get(label, 0)].astype(np.float64)
            terms[label] = Ranking.build(rows, scores, [right], by_label[label], interpolated=False)
        method = "average precision from full confidences"
        return outcomes.macro(Macro(terms), method, full.warnings + self._warn_of_columns(values, place))

    def _warn_of_columns(self, values: np.ndarray, place: dict[Hashable, int]) -> tuple[str, ...]:
        """Return a warning if the predicted classes are not those of the highest confidences."""
        column = np.array([place.get(name, -1) for name in self._outcomes.found], dtype=np.intp)
        item = self._outcomes.found_item[column >= 0]
        lower = item[values[item, column[column >= 0]] < values[item].max(axis=1)]
        if not len(lower):
            return ()
        return (
            f"{len(lower)} predicted classes have not the highest of their item's confidences, the first in item "
            f"{self._outcomes.items[lower[0]]!r}: check that class_names are in the order of the columns",
        )

    def accuracy(self) -> Measure:
        """Measure the share of items whose class was predicted; ``per_label`` among the items of that label."""
        outcomes, by_label = self._outcomes, rows_by_name(self._outcomes.truth)
        right = np.zeros(len(outcomes.truth), dtype=bool)
        right[outcomes.found_item] = self._right
        return Measure(
            value=float(right.mean()),
            per_label={label: float(right[by_label[label]].mean()) for label in sort_names(by_label)},
            method="accuracy",
            items=outcomes.items,
            higher_is_better=True,
            warnings=outcomes.warnings,
            term=F1(np.flatnonzero(right), outcomes.truth_item, outcomes.truth_item),
        )

    def f1(self) -> Measure:
        """Measure the F1, macro over the labels that have ground truth."""
        return self._outcomes.f1(Matched.every(self._right), "F1 of classes")

    def calibration_error(self, bins: int = 10) -> Measure:
        """Measure the expected calibration error: the gap between top confidence and accuracy, lower is better.

        There are ``bins`` confidence ranges of equal width. ``per_label`` holds the labels that were predicted; items
        without a prediction do not count. An EvaluationError is raised without any prediction, or if a confidence is
        not from 0 to 1.
        """
        method = "expected calibration error of the top confidence"
        return self._outcomes.calibration_error(Matched.every(self._right), bins, method)
