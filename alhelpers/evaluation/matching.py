"""Which predictions match which ground truth."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from alhelpers.evaluation.boxes import Boxes, pair_iou
from alhelpers.evaluation.masks import mask_overlaps
from alhelpers.evaluation.rows import EvaluationError, sort_codes

# Pairs of boxes compared at once: bounds the memory of one crowded image to some 100 MB.
PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Pairs:
    """The pairs of a prediction and a ground truth that may match: same image, same label, enough overlap."""

    # The rows of each pair, (P,); contested pairs are in the order in which they are matched.
    prediction: np.ndarray
    target: np.ndarray
    overlap: np.ndarray
    # Whether the prediction or the ground truth is in another pair too.
    contested: np.ndarray
    # The score of each prediction (n,), and which ground truths are crowds (m,).
    score: np.ndarray
    crowd: np.ndarray

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
            *(values[order] for values in (prediction, target, overlap, contested)), score, truth.crowd
        )

    def match(
        self, iou_threshold: float, strict_iou: bool = False, ignored: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the ground truth of each prediction, (n,) int, -1 for none: greedily, each ground truth once.

        A prediction matches an ignored ground truth only where it can match no other; a crowd, which is always ignored,
        can be matched by many.
        """
        ignored = self.crowd if ignored is None else ignored
        enough = self.overlap > iou_threshold if strict_iou else self.overlap >= iou_threshold
        partner = np.full(len(self.score), -1, dtype=np.intp)
        alone = enough & ~self.contested
        partner[self.prediction[alone]] = self.target[alone]
        rest = np.flatnonzero(enough & self.contested)
        if ignored.any():
            rest = rest[np.lexsort((ignored[self.target[rest]], -self.score[self.prediction[rest]]))]
        p, t = self.prediction[rest], self.target[rest]
        matched: dict[int, int] = {}
        taken: set[int] = set()
        for one, other, many in zip(p.tolist(), t.tolist(), self.crowd[t].tolist(), strict=True):
            if one not in matched and other not in taken:
                matched[one] = other
                if not many:
                    taken.add(other)
        partner[list(matched)] = list(matched.values())
        return partner


def _overlapping(
    truth: Boxes, found: Boxes, least_overlap: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of all (prediction, ground truth) pairs that may match, and their overlaps."""
    truth_group, found_group, groups = _groups(truth, found)
    by_group, counts = sort_codes(truth_group, groups), np.bincount(truth_group, minlength=groups)
    starts, sizes = (np.cumsum(counts) - counts)[found_group], counts[found_group]
    candidates = np.flatnonzero(sizes)
    starts, sizes = starts[candidates], sizes[candidates]
    parts = [(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))]
    for rows in _batches(sizes, PAIRS_AT_ONCE):
        size = sizes[rows]
        prediction = np.repeat(candidates[rows], size)
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        target = by_group[np.repeat(starts[rows], size) + within]
        touch = _touch(found.corners, prediction, truth.corners, target)
        prediction, target = prediction[touch], target[touch]
        crowd = truth.crowd[target] if truth.crowd.any() else None
        if found.masks is not None and truth.masks is not None:
            overlap = mask_overlaps(found.masks, prediction, truth.masks, target, crowd)
        else:
            overlap = pair_iou(found.corners[prediction], truth.corners[target], crowd)
        keep = overlap >= least_overlap
        parts.append((prediction[keep], target[keep], overlap[keep]))
    prediction, target, overlap = (np.concatenate(values) for values in zip(*parts, strict=True))
    return prediction, target, overlap


def best_rows(boxes: Boxes, score: np.ndarray, most: int) -> np.ndarray:
    """Return the rows of the highest scores of each image and label, at most so many; boxes decide between equals."""
    group, *_ = _groups(boxes, boxes)
    order = np.lexsort((*boxes.corners.T, -score, group))
    ranked = group[order]
    return np.sort(order[np.arange(len(order)) - np.searchsorted(ranked, ranked) < most])


def _touch(first: np.ndarray, rows: np.ndarray, second: np.ndarray, other_rows: np.ndarray) -> np.ndarray:
    """Return which pairs of boxes share any area, by one side after the other: most pairs are apart."""
    left = np.flatnonzero(first[rows, 0] < second[other_rows, 2])
    for side, other, less in ((2, 0, False), (1, 3, True), (3, 1, False)):
        a, b = first[rows[left], side], second[other_rows[left], other]
        left = left[a < b] if less else left[a > b]
    return left


def _groups(truth: Boxes, found: Boxes) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the number of each pair of image and label, the same for both sides, and how many numbers there are."""
    images: dict[Hashable, int] = {}
    labels: dict[Hashable, int] = {}
    places = [(boxes.images.numbered(images), boxes.labels.numbered(labels)) for boxes in (truth, found)]
    first, second = (image * len(labels) + label for image, label in places)
    groups = len(images) * len(labels)
    if groups > 4 * (len(first) + len(second)) + 1000:
        # Most pairs are of no row: number those that are.
        known, inverse = np.unique(np.concatenate([first, second]), return_inverse=True)
        first, second, groups = inverse[: len(first)], inverse[len(first) :], len(known)
    return first, second, groups


def _batches(sizes: np.ndarray, limit: int) -> list[slice]:
    """Cut rows into slices whose sizes add up to about the limit; a single row may be more."""
    if not len(sizes):
        return []
    batch = np.cumsum(sizes) // limit
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
    return [slice(start, stop) for start, stop in zip(cuts, cuts[1:], strict=False)]


def check_threshold(iou_threshold: float, strict_iou: bool) -> None:
    """Raise unless boxes can reach an IoU threshold."""
    if not 0 < iou_threshold <= 1 or (strict_iou and iou_threshold == 1):
        most = "below 1 with strict_iou" if strict_iou else "at most 1"
        raise EvaluationError(f"iou_threshold must be above 0 and {most}, got {iou_threshold!r}")
