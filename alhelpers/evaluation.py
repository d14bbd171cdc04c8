"""Evaluation: intersection over union, matching, precision and recall, average precision, and the decision.

Everything is computed from the predictions and the ground truth alone: the order of the rows, the hash
seed of Python and the order of equal scores do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_BOX = ("left", "top", "right", "bottom")

# Pairs of boxes compared at once: bounds the memory of one crowded image to some 100 MB.
_PAIRS_AT_ONCE = 1 << 20


class EvaluationError(ValueError):
    """Predictions or ground truth that cannot be evaluated; the message names the row and the value."""


class NoGroundTruth(EvaluationError):
    """There is no ground truth, so no model can be compared with another."""


@dataclass(frozen=True)
class Curve:
    """The precision-recall curve of one label: one point for each distinct score, highest score first.

    Parameters
    ----------
    precision, recall : numpy.ndarray of shape (P,), float64
        The share of predictions that are right, and of ground truths that are found, at or above the score.
    scores : numpy.ndarray of shape (P,), float64
        The distinct scores, descending.
    """

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """The average precision of one model on one test set.

    Parameters
    ----------
    macro : float
        The mean over the labels that have ground truth, from 0 to 1: the number that models are compared by.
    micro : float
        The average precision of all labels pooled into one ranking, from 0 to 1.
    per_label : dict
        The average precision of each label that has ground truth, in sorted order.
    curves : dict
        The :class:`Curve` of each of these labels.
    warnings : tuple of str
        What the numbers hide, such as predictions of labels that have no ground truth.
    """

    macro: float
    micro: float
    per_label: dict[Hashable, float]
    curves: dict[Hashable, Curve]
    warnings: tuple[str, ...]


# ------------------------------------------------------------------------------
# detection
# ------------------------------------------------------------------------------


def average_precision(
    ground_truth: Any, predictions: Any, iou_threshold: float = 0.5, strict_iou: bool = False
) -> Evaluation:
    """Evaluate a detector by average precision: greedy matching, all-point interpolation.

    In each image and for each label, predictions are matched from the highest score down, each with the
    unmatched ground truth that it overlaps most. A ground truth is matched once; every other prediction is
    wrong. Equal scores are one point of the curve, and among them the best overlaps are matched first.

    Parameters
    ----------
    ground_truth : list of dict or pandas.DataFrame
        Rows of ``image_id``, ``label``, ``left``, ``top``, ``right``, ``bottom`` (in pixels, or any one
        unit).
    predictions : list of dict or pandas.DataFrame
        The same, and ``score``.
    iou_threshold : float
        The intersection over union, above 0 and at most 1, from which on a prediction matches.
    strict_iou : bool
        True: the intersection over union must be more than the threshold.

    Returns
    -------
    Evaluation
        Without any prediction, 0 for every label.

    Raises
    ------
    NoGroundTruth
        If there is no ground truth at all.
    EvaluationError
        If a column is missing, a box is not one, a score is not a number, or the threshold is out of range.

    References
    ----------
    Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010; Lin et al., "Microsoft
    COCO", 2014.
    """
    if not 0 < iou_threshold <= 1:
        raise EvaluationError(f"iou_threshold must be above 0 and at most 1, got {iou_threshold!r}")
    truth, found = _Boxes.read(ground_truth, "ground_truth"), _Boxes.read(predictions, "predictions")
    score = _floats(_column(predictions, "score", "predictions"), "score", "predictions")
    if not truth.label:
        raise NoGroundTruth("cannot compare: the ground truth has no row")
    right = _match(truth, found, score, iou_threshold, strict_iou)
    return _evaluate_hits(truth.label, found.label, score, right)


def iou(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Compute the intersection over union of all pairs of two lists of boxes.

    Parameters
    ----------
    first : array_like of shape (A, 4)
        Boxes as left, top, right, bottom.
    second : array_like of shape (B, 4)
        Boxes in the same unit.

    Returns
    -------
    numpy.ndarray of shape (A, B), float64
        From 0 (apart, or one of them is empty) to 1 (the same box).

    Raises
    ------
    EvaluationError
        If the shapes are others, or a box ends before it begins or is not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    for name, boxes in (("first", a), ("second", b)):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise EvaluationError(f"{name} must have shape (boxes, 4), got {boxes.shape}")
        _check_boxes(boxes, name)
    return _pair_iou(a[:, None, :], b[None, :, :])


@dataclass(frozen=True)
class _Boxes:
    """Boxes in columns: the images and labels as given, the corners as (n, 4) float64."""

    image: list[Hashable]
    label: list[Hashable]
    corners: np.ndarray

    @classmethod
    def read(cls, rows: Any, name: str) -> _Boxes:
        """Take the columns out of a list of dicts or a DataFrame and check them."""
        image, label = (_keys(_column(rows, key, name), key, name) for key in ("image_id", "label"))
        corners = np.empty((len(label), 4))
        for place, side in enumerate(_BOX):
            corners[:, place] = _floats(_column(rows, side, name), side, name)
        _check_boxes(corners, name)
        return cls(image, label, corners)


def _match(
    truth: _Boxes, found: _Boxes, score: np.ndarray, iou_threshold: float, strict_iou: bool
) -> np.ndarray:
    """Return which predictions are right, (n,) bool."""
    prediction, target, overlap = _overlapping_pairs(truth, found, iou_threshold, strict_iou)
    # The best score first and, among equal scores, the best overlap. Boxes decide what is left, so that
    # the order of the rows never does; pairs of equal boxes are interchangeable.
    corners_of = (*truth.corners[target].T, *found.corners[prediction].T)
    order = np.lexsort((*corners_of, -overlap, -score[prediction]))
    right = np.zeros(len(found.label), dtype=bool)
    taken = np.zeros(len(truth.label), dtype=bool)
    for p, t in zip(prediction[order].tolist(), target[order].tolist(), strict=True):
        if not right[p] and not taken[t]:
            right[p] = taken[t] = True
    return right


def _overlapping_pairs(
    truth: _Boxes, found: _Boxes, iou_threshold: float, strict_iou: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of all (prediction, ground truth) pairs that may match, and their overlaps."""
    group: dict[Hashable, int] = {}
    truth_group = _codes(zip(truth.image, truth.label, strict=True), group)
    by_group = np.argsort(truth_group, kind="stable")
    members = np.bincount(truth_group, minlength=len(group))
    starts = np.concatenate([[0], np.cumsum(members)])
    known = len(group)
    found_group = _codes(zip(found.image, found.label, strict=True), group)
    candidates = np.flatnonzero(found_group < known)
    sizes = members[found_group[candidates]]

    parts = []
    for rows in _batches(sizes, _PAIRS_AT_ONCE):
        size = sizes[rows]
        prediction = np.repeat(candidates[rows], size)
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        target = by_group[np.repeat(starts[found_group[candidates[rows]]], size) + within]
        overlap = _pair_iou(found.corners[prediction], truth.corners[target])
        keep = overlap > iou_threshold if strict_iou else overlap >= iou_threshold
        parts.append((prediction[keep], target[keep], overlap[keep]))
    if not parts:
        return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _batches(sizes: np.ndarray, limit: int) -> list[slice]:
    """Cut rows into slices whose sizes add up to about the limit; a single row may be more."""
    if not len(sizes):
        return []
    batch = np.cumsum(sizes) // limit
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
    return [slice(start, stop) for start, stop in zip(cuts, cuts[1:], strict=False)]


def _pair_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes in the last axis, which broadcast."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


# ------------------------------------------------------------------------------
# classification
# ------------------------------------------------------------------------------


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
    truth = _keys(labels, "labels", "labels")
    names = _keys(class_names, "class_names", "class_names")
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
    _check_same_kind(truth, names)
    return _evaluate_confidences(truth, values, names)


def _evaluate_confidences(truth: list[Hashable], values: np.ndarray, names: list[Hashable]) -> Evaluation:
    """Evaluate checked confidences."""
    place = {name: column for column, name in enumerate(names)}
    column = np.array([place.get(label, -1) for label in truth])
    curves, per_label = {}, {}
    for label in _sorted(set(truth)):
        known = slice(None) if label in place else slice(0)  # what the model does not know, it never predicts
        curve = _curve(
            values[known, place.get(label, 0)], column[known] == place.get(label), truth.count(label)
        )
        curves[label], per_label[label] = curve, _step_area(curve)
    one_hot = column[:, None] == np.arange(len(names))
    micro = _step_area(_curve(values.ravel(), one_hot.ravel(), len(truth)))
    predicted = [names[best] for best in np.unique(values.argmax(axis=1))]
    warnings = _warn_of_unfounded(predicted, per_label) + tuple(
        f"label {label!r} has ground truth but is not among the class names: its average precision is 0"
        for label in per_label
        if label not in place
    )
    return Evaluation(_mean(per_label), micro, per_label, curves, warnings)


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
    truth, guesses = _keys(labels, "labels", "labels"), _keys(predicted, "predicted", "predicted")
    score = _floats(np.asarray(confidence), "confidence", "confidence")
    if not len(truth) == len(guesses) == len(score):
        raise EvaluationError(
            f"labels, predicted and confidence must be equally long, got {len(truth)}, {len(guesses)}, {len(score)}"
        )
    if not truth:
        raise NoGroundTruth("cannot compare: there is no labelled record")
    _check_same_kind(truth, guesses)
    right = np.array([a == b for a, b in zip(truth, guesses, strict=True)])
    return _evaluate_hits(truth, guesses, score, right)


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
    truth, guesses = _keys(labels, "labels", "labels"), _keys(predicted, "predicted", "predicted")
    if len(truth) != len(guesses):
        raise EvaluationError(f"labels and predicted must be equally long, got {len(truth)}, {len(guesses)}")
    if not truth:
        raise NoGroundTruth("cannot compare: there is no labelled record")
    _check_same_kind(truth, guesses)
    return sum(a == b for a, b in zip(truth, guesses, strict=True)) / len(truth)


def is_better(new: float, old: float, min_delta: float = 0.0) -> bool:
    """Decide whether a new model replaces the old one: new - old > min_delta.

    Parameters
    ----------
    new, old : float
        The models' results on the same test set, higher is better.
    min_delta : float
        By how much the new one must be better, 0 or more.

    Returns
    -------
    bool
        True if the new model wins; a tie keeps the old one.

    Raises
    ------
    EvaluationError
        If a number is not finite, or ``min_delta`` is negative.
    """
    for name, value in (("new", new), ("old", old), ("min_delta", min_delta)):
        if not math.isfinite(value):
            raise EvaluationError(f"cannot compare: {name} is {value!r}; evaluate the model again")
    if min_delta < 0:
        raise EvaluationError(f"min_delta must be 0 or more, got {min_delta!r}")
    return bool(new - old > min_delta)


# ------------------------------------------------------------------------------
# curves
# ------------------------------------------------------------------------------


def _evaluate_hits(
    truth_labels: list[Hashable], found_labels: list[Hashable], score: np.ndarray, right: np.ndarray
) -> Evaluation:
    """Evaluate predictions that are each known to be right or wrong."""
    codes: dict[Hashable, int] = {}
    totals = np.bincount(_codes(truth_labels, codes))
    with_truth = _sorted(codes)
    found = _codes(found_labels, codes)
    by_label = np.argsort(found, kind="stable")
    starts = np.searchsorted(found[by_label], np.arange(len(totals) + 1))
    curves, per_label = {}, {}
    for label in with_truth:
        code = codes[label]
        rows = by_label[starts[code] : starts[code + 1]]
        curves[label] = _curve(score[rows], right[rows], totals[code])
        per_label[label] = _interpolated_area(curves[label])
    micro = _interpolated_area(_curve(score, right, len(truth_labels)))
    warnings = _warn_of_unfounded(set(found_labels), per_label)
    return Evaluation(_mean(per_label), micro, per_label, curves, warnings)


def _curve(score: np.ndarray, right: np.ndarray, total: int) -> Curve:
    """Return one point for each distinct score."""
    score = score.astype(np.float64)
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
    hits = np.cumsum(right[order])[last_of_tie]
    return Curve(hits / (last_of_tie + 1), hits / total, ranked[last_of_tie])


def _interpolated_area(curve: Curve) -> float:
    """Return the area under the curve whose precision is the best one at that recall or beyond."""
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(np.diff(curve.recall, prepend=0) @ envelope)


def _step_area(curve: Curve) -> float:
    """Return the sum of precision times the step in recall: scikit-learn's average precision."""
    return float(np.diff(curve.recall, prepend=0) @ curve.precision)


def _mean(per_label: Mapping[Hashable, float]) -> float:
    return math.fsum(per_label.values()) / len(per_label)


def _warn_of_unfounded(predicted: Sequence[Hashable] | set[Hashable], per_label: Mapping) -> tuple[str, ...]:
    """Warn of predicted labels that no ground truth has: the macro mean does not see them."""
    return tuple(
        f"label {label!r} was predicted but has no ground truth: the macro mean does not count these errors"
        for label in _sorted(set(predicted) - set(per_label))
    )


# ------------------------------------------------------------------------------
# rows and columns
# ------------------------------------------------------------------------------


def _column(rows: Any, key: str, name: str) -> Sequence[Any] | np.ndarray:
    """Return one column of a list of dicts or of a DataFrame."""
    if hasattr(rows, "__len__") and not len(rows):
        return []  # a DataFrame that was made of no rows has no columns either
    if hasattr(rows, "columns"):
        if key in rows.columns:
            return rows[key].to_numpy()
        raise EvaluationError(f"{name} has no column {key!r}, it has {list(rows.columns)}")
    try:
        return [row[key] for row in rows]
    except KeyError:
        place, row = next((place, row) for place, row in enumerate(rows) if key not in row)
        raise EvaluationError(
            f"row {place} of {name} has no {key!r}, it has {sorted(map(str, row))}"
        ) from None
    except TypeError:
        raise EvaluationError(
            f"{name} must be a list of dicts or a DataFrame, got {type(rows).__name__}"
        ) from None


def _keys(values: Sequence[Any] | np.ndarray, key: str, name: str) -> list[Hashable]:
    """Return names (of images, labels, classes) as plain Python values, none of them missing."""
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    for row, value in enumerate(plain):
        if isinstance(value, np.generic):
            plain[row] = value = value.item()
        # NaN does not equal itself, and pandas' NA gives no answer
        if value is None or not isinstance(value, Hashable) or (value == value) is not True:
            raise EvaluationError(f"row {row} of {name}: {key} is {value!r}, not a name")
    return plain


def _floats(values: Sequence[Any] | np.ndarray, key: str, name: str) -> np.ndarray:
    """Return numbers as (n,) float64, all of them finite."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(f"{name}: {key} must be a number in every row") from None
    if numbers.ndim != 1:
        raise EvaluationError(f"{name}: {key} must be one number a row, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise EvaluationError(f"row {row} of {name}: {key} is {numbers[row]}, not a finite number")
    return numbers


def _check_boxes(corners: np.ndarray, name: str) -> None:
    """Raise unless every box is finite and ends where it begins or after."""
    good = np.isfinite(corners).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise EvaluationError(
            f"row {row} of {name}: left, top, right, bottom are {corners[row].tolist()}; a box needs finite numbers, "
            "right >= left and bottom >= top"
        )


def _check_same_kind(labels: list[Hashable], names: list[Hashable]) -> None:
    """Raise where labels are numbers and names are not, or the other way: nothing would ever match."""
    kinds = [any(isinstance(value, str) for value in values) for values in (labels, names)]
    if names and kinds[0] != kinds[1]:
        raise EvaluationError(
            f"labels hold {labels[0]!r} but the classes are named {names[0]!r}: give both as names or both as numbers"
        )


def _codes(values: Any, codes: dict[Hashable, int]) -> np.ndarray:
    """Give each value its number in ``codes``, to which new values are added."""
    return np.fromiter((codes.setdefault(value, len(codes)) for value in values), dtype=np.intp)


def _sorted(values: Any) -> list[Hashable]:
    """Sort names that may be of several types."""
    return sorted(values, key=lambda value: (type(value).__name__, value))
