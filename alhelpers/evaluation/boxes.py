"""Boxes: their overlap, and which predictions match which ground truth."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.evaluation.rows import EvaluationError, check_counted, codes, column, floats, keys

SIDES = ("left", "top", "right", "bottom")

# Pairs of boxes compared at once: bounds the memory of one crowded image to some 100 MB.
PAIRS_AT_ONCE = 1 << 20


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
        If a shape differs, or a box ends before it begins or is not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    for name, boxes in (("first", a), ("second", b)):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise EvaluationError(f"{name} must have shape (boxes, 4), got {boxes.shape}")
        _check_boxes(boxes, name)
    return _pair_iou(a[:, None, :], b[None, :, :])


@dataclass(frozen=True)
class Boxes:
    """Boxes in columns: n images and labels, and the corners (n, 4) as left, top, right, bottom."""

    image: list[Hashable]
    label: list[Hashable]
    corners: np.ndarray

    @classmethod
    def read(cls, rows: Any, name: str) -> Boxes:
        """Read and check the columns of a list of dicts or a DataFrame."""
        image, label = (keys(column(rows, key, name), key, name) for key in ("image_id", "label"))
        check_counted(rows, name)
        corners = np.empty((len(label), 4))
        for place, side in enumerate(SIDES):
            corners[:, place] = floats(column(rows, side, name), side, name)
        _check_boxes(corners, name)
        return cls(image, label, corners)


@dataclass(frozen=True)
class Pairs:
    """The pairs of a prediction and a ground truth that may match: same image, same label, enough overlap."""

    # The rows of each pair, (P,); contested pairs are in the order in which they are matched.
    prediction: np.ndarray
    target: np.ndarray
    overlap: np.ndarray
    # Whether the prediction or the ground truth is in another pair too.
    contested: np.ndarray
    # How many rows there are of either.
    predictions: int
    targets: int

    @classmethod
    def find(cls, truth: Boxes, found: Boxes, score: np.ndarray, least_overlap: float) -> Pairs:
        """Compare all boxes of an image and label once; pairs that overlap less are left out."""
        prediction, target, overlap = _overlapping(truth, found, least_overlap)
        contested = (np.bincount(prediction, minlength=1)[prediction] > 1) | (
            np.bincount(target, minlength=1)[target] > 1
        )
        places = np.flatnonzero(contested)
        p, t = prediction[places], target[places]
        # The best score first and, among equal scores, the best overlap. Boxes decide what is left, so that
        # the order of the rows never does; pairs of equal boxes are interchangeable.
        corners_of = (*truth.corners[t].T, *found.corners[p].T)
        order = np.concatenate(
            [places[np.lexsort((*corners_of, -overlap[places], -score[p]))], np.flatnonzero(~contested)]
        )
        return cls(
            *(values[order] for values in (prediction, target, overlap, contested)),
            len(found.label),
            len(truth.label),
        )

    def match(self, iou_threshold: float, strict_iou: bool = False) -> np.ndarray:
        """Return which predictions are right, (n,) bool: greedily, each ground truth once."""
        enough = self.overlap > iou_threshold if strict_iou else self.overlap >= iou_threshold
        right = np.zeros(self.predictions, dtype=bool)
        right[self.prediction[enough & ~self.contested]] = True
        taken = [False] * self.targets
        matched = [False] * self.predictions
        rest = np.flatnonzero(enough & self.contested)
        for p, t in zip(self.prediction[rest].tolist(), self.target[rest].tolist(), strict=True):
            if not matched[p] and not taken[t]:
                matched[p] = taken[t] = True
        return right | np.array(matched, dtype=bool)


def _overlapping(
    truth: Boxes, found: Boxes, least_overlap: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of all (prediction, ground truth) pairs that may match, and their overlaps."""
    truth_group, found_group = _groups(truth, found)
    by_group = np.argsort(truth_group, kind="stable")
    ranked = truth_group[by_group]
    starts = np.searchsorted(ranked, found_group, side="left")
    sizes = np.searchsorted(ranked, found_group, side="right") - starts
    candidates = np.flatnonzero(sizes)
    starts, sizes = starts[candidates], sizes[candidates]
    parts = [(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))]
    for rows in _batches(sizes, PAIRS_AT_ONCE):
        size = sizes[rows]
        prediction = np.repeat(candidates[rows], size)
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        target = by_group[np.repeat(starts[rows], size) + within]
        overlap = _pair_iou(found.corners[prediction], truth.corners[target])
        keep = overlap >= least_overlap
        parts.append((prediction[keep], target[keep], overlap[keep]))
    prediction, target, overlap = (np.concatenate(values) for values in zip(*parts, strict=True))
    return prediction, target, overlap


def _groups(truth: Boxes, found: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each pair of image and label, the same for ground truth and predictions."""
    images: dict[Hashable, int] = {}
    labels: dict[Hashable, int] = {}
    places = [(codes(boxes.image, images), codes(boxes.label, labels)) for boxes in (truth, found)]
    first, second = (image * len(labels) + label for image, label in places)
    return first, second


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


def _check_boxes(corners: np.ndarray, name: str) -> None:
    """Raise unless every box is finite and ends where it begins or after."""
    good = np.isfinite(corners).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise EvaluationError(
            f"row {row} of {name}: left, top, right, bottom are {corners[row].tolist()}; a box needs finite numbers, "
            "right >= left and bottom >= top"
        )


def check_threshold(iou_threshold: float, strict_iou: bool) -> None:
    """Raise unless boxes can reach an IoU threshold."""
    if not 0 < iou_threshold <= 1 or (strict_iou and iou_threshold == 1):
        most = "below 1 with strict_iou" if strict_iou else "at most 1"
        raise EvaluationError(f"iou_threshold must be above 0 and {most}, got {iou_threshold!r}")
