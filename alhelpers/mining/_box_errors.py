"""Label errors in boxes: overlooked, misplaced, swapped and spurious ones, and the images to label again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alhelpers.mining._selection import MiningError, PoolExhausted, Selection, check_whole

# alhelpers.evaluation is imported where it is used: it would take a third of the time of importing this package.
if TYPE_CHECKING:
    from alhelpers.evaluation.boxes import Boxes

# Pairs that overlap less are of different objects.
_LEAST_OVERLAP = 1e-9


class BoxErrors(NamedTuple):
    """How likely boxes are wrong; all are float32 from 0 to 1.

    Parameters
    ----------
    overlooked : numpy.ndarray of shape (P,)
        Of each prediction: there is an object that has no label.
    misplaced : numpy.ndarray of shape (L,)
        Of each label: the object is not where the label is, but near.
    swapped : numpy.ndarray of shape (L,)
        Of each label: the object is of another class.
    spurious : numpy.ndarray of shape (L,)
        Of each label: there is no object.
    better : numpy.ndarray of shape (L, 2), int
        The rows of the predictions that show the right place, and the right class, of each label; -1 where none does.
    """

    overlooked: np.ndarray
    misplaced: np.ndarray
    swapped: np.ndarray
    spurious: np.ndarray
    better: np.ndarray


def box_label_errors(labels: Any, predictions: Any) -> BoxErrors:
    """Score how likely each label of a box is wrong, and each prediction an object without a label.

    With the confidence s of a prediction and its IoU with a label of the same image:

    - overlooked: s (1 - the largest IoU with a label). The IoU of two boxes that overlap each other most counts twice,
      up to 1: they are of one object, and its label may be wrong, but is not missing;
    - misplaced: s (1 - IoU) of the prediction of the label's class that has the largest s IoU;
    - swapped: the largest s IoU of predictions of other classes, less the largest of the label's class, at least 0;
    - spurious: 1 - the largest s IoU of any prediction. The IoU of a prediction that overlaps no other label more
      counts four times, up to 1: the place may be wrong, but there is an object.

    A prediction that overlaps another label more says nothing of the class of a label, and nothing of its place if the
    other label is of its class, too. A label that is a crowd (``iscrowd``, as of a data set's ``crowds()``) covers the
    predictions in it, and scores 0.

    Parameters
    ----------
    labels : list of dict or pandas.DataFrame
        One row a box: ``image_id``, ``label``, ``left``, ``top``, ``right`` and ``bottom``.
    predictions : list of dict or pandas.DataFrame
        The same with ``score``, from 0 to 1, of the same images, also the doubtful ones, and **out of sample**: from
        models that did not learn from the image (cross-validation).

    Returns
    -------
    BoxErrors

    Raises
    ------
    MiningError
        If a score is not from 0 to 1, or predictions and labels have no class in common.
    EvaluationError
        If a row lacks a value, a box is not finite or ends before it begins, or ``image_id`` is text in labels and a
        number in predictions, or the other way round.

    References
    ----------
    Tkachenko, Thyagarajan & Mueller, "ObjectLab: automated diagnosis of mislabeled images in object detection data",
    arXiv:2309.00832, which has the first three kinds, with thresholds on the confidence.
    """
    from alhelpers.evaluation.matching import Pairs
    from alhelpers.evaluation.rows import codes

    given, found, score = _read(labels, predictions)
    pairs = Pairs.find(_of_one_class(given), _of_one_class(found), score, _LEAST_OVERLAP)
    in_crowd = _largest(pairs.overlap * given.crowd[pairs.target], pairs.prediction, len(score))
    single = ~given.crowd[pairs.target]
    p, g, overlap = pairs.prediction[single], pairs.target[single], pairs.overlap[single]
    count, weight = len(given.label), score[p] * overlap
    names: dict[Any, int] = {}
    of_label, of_prediction = codes(given.label, names), codes(found.label, names)
    same = of_prediction[p] == of_label[g]
    nearest = overlap >= _largest(overlap, p, len(score))[p]
    nearest_of_class = overlap >= _largest(np.where(same, overlap, 0), p, len(score))[p]
    mutual = nearest & (weight >= _largest(weight, g, count)[g])
    covered = _largest(np.where(mutual, np.minimum(1, 2 * overlap), overlap), p, len(score))
    covered = np.maximum(covered, in_crowd)
    place = _best(np.where(same & nearest_of_class, weight, 0), g, count)
    other = _best(np.where(~same & nearest, weight, 0), g, count)
    own = _largest(np.where(same & nearest, weight, 0), g, count)
    misplaced = _at(score[p] * (1 - overlap), place, 0)
    swapped = np.maximum(0, _at(weight, other, 0) - own)
    spurious = 1 - _largest(score[p] * np.where(nearest, np.minimum(1, 4 * overlap), overlap), g, count)
    spurious[given.crowd] = 0
    better = np.stack([_at(p, place, -1), np.where(swapped > 0, _at(p, other, -1), -1)], axis=1)
    scored = (score * (1 - covered), misplaced, swapped, spurious)
    return BoxErrors(*(values.astype(np.float32) for values in scored), better)


def relabel_boxes(labels: Any, predictions: Any, size: int) -> Selection:
    """Choose the images whose boxes to label again.

    Parameters
    ----------
    labels, predictions : list of dict or pandas.DataFrame
        As :func:`box_label_errors` takes them, such as ``dataset.labels()`` and ``predictions.rows(dataset.ids)``.
    size : int
        How many images to choose.

    Returns
    -------
    Selection
        Best first; the score of an image is 1 - the product of 1 - the scores of its errors, the probability of at
        least one if the scores are probabilities. ``meta["errors"]`` lists what is suspected on each chosen image, the
        most likely first: ``kind``, ``score``, and the rows of the ``label`` and of the ``prediction`` that
        contradicts it, None where there is none. Each label is there once, with its most likely kind, and each
        prediction, unless its score is 0.

    Raises
    ------
    MiningError
        As :func:`box_label_errors`, or if the size is not valid.
    PoolExhausted
        If there are fewer images.
    """
    check_whole("size", size, 1)
    found = box_label_errors(labels, predictions)
    errors: dict[Any, list[dict[str, Any]]] = {}
    for image, error in _errors(labels, predictions, found):
        known = errors.setdefault(image, [])
        if error["score"]:
            known.append(error)
    if size > len(errors):
        raise PoolExhausted(f"size={size} images were asked for, but {len(errors)} have boxes")
    for each in errors.values():
        each.sort(key=lambda error: -error["score"])
    any_wrong = {image: 1 - math.prod(1 - error["score"] for error in each) for image, each in errors.items()}
    best = sorted(errors, key=lambda image: (-any_wrong[image], isinstance(image, str), image))[:size]
    scores = np.array([any_wrong[image] for image in best], dtype=np.float32)
    meta = {"score": "box_label_errors", "size": size, "errors": {image: errors[image] for image in best}}
    return Selection(best, scores, meta)


def _errors(labels: Any, predictions: Any, found: BoxErrors) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the image and the most likely error of each label, and of each prediction."""
    from alhelpers.evaluation.rows import column, keys

    kinds = ("misplaced", "swapped", "spurious")
    of_labels = np.stack([getattr(found, kind) for kind in kinds], axis=1).reshape(-1, len(kinds))
    better = np.concatenate([found.better, np.full((len(of_labels), 1), -1)], axis=1)
    images = keys(column(labels, "image_id", "labels"), "image_id", "labels")
    for row, place in enumerate(of_labels.argmax(axis=1).tolist()):
        contradicting = int(better[row, place])
        error = {
            "kind": kinds[place],
            "score": float(of_labels[row, place]),
            "label": row,
            "prediction": None if contradicting < 0 else contradicting,
        }
        yield images[row], error
    images = keys(column(predictions, "image_id", "predictions"), "image_id", "predictions")
    for row, score in enumerate(found.overlooked.tolist()):
        yield images[row], {"kind": "overlooked", "score": score, "label": None, "prediction": row}


# ------------------------------------------------------------------------------
# parts of the scores
# ------------------------------------------------------------------------------


def _read(labels: Any, predictions: Any) -> tuple[Boxes, Boxes, np.ndarray]:
    from alhelpers.evaluation.boxes import Boxes
    from alhelpers.evaluation.rows import check_joined, column, floats

    for name, passed, way in (
        ("labels", labels, "dataset.labels()"),
        ("predictions", predictions, "predictions.rows(dataset.ids)"),
    ):
        if any(callable(getattr(passed, method, None)) for method in ("rows", "labels")):
            raise MiningError(f"{name} are a {type(passed).__name__}: pass its rows, as {way} returns them")
    given = Boxes.read(labels, "labels")
    found = Boxes.read(predictions, "predictions", truth=False)
    score = floats(column(predictions, "score", "predictions"), "score", "predictions")
    outside = np.flatnonzero((score < 0) | (score > 1))
    if len(outside):
        row = int(outside[0])
        raise MiningError(f"row {row} of predictions: score is {score[row]:.6g}, it must be from 0 to 1")
    check_joined(given.image, found.image, ("image_id of labels is", "that of predictions"))
    if given.label and found.label and not {*given.label} & {*found.label}:
        raise MiningError(
            f"predictions, such as {found.label[0]!r}, and labels, such as {given.label[0]!r}, have no class in common:"
            " use the same names in both"
        )
    return given, found, score


def _of_one_class(boxes: Boxes) -> Boxes:
    """Return the boxes as if all were of one class, so that all of an image are compared."""
    from alhelpers.evaluation.rows import Names

    return replace(boxes, label=Names([0], np.zeros(len(boxes.label), dtype=np.intp)))


def _largest(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Return the largest value of the pairs of each row, (count,); 0 for a row without any."""
    result = np.zeros(count)
    np.maximum.at(result, rows, values)
    return result


def _best(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Return the pair with the largest value above 0 of each row, (count,); -1 for a row without any."""
    order = np.argsort(values, kind="stable")
    order = order[values[order] > 0]
    result = np.full(count, -1)
    result[rows[order]] = order
    return result


def _at(values: np.ndarray, pairs: np.ndarray, missing: float) -> np.ndarray:
    """Return the values of pairs, and another for -1."""
    result = np.full(len(pairs), missing, dtype=values.dtype)
    result[pairs >= 0] = values[pairs[pairs >= 0]]
    return result
