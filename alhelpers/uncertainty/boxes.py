"""Boxes of several passes or members: which of them are of one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from alhelpers import scores


class BoxSamples(NamedTuple):
    """What T passes say of M objects in N images; NaN where a pass did not find the object.

    Attributes
    ----------
    offsets : numpy.ndarray of shape (N + 1,), int64
        The objects of image ``k`` are ``offsets[k]`` up to, but not including, ``offsets[k + 1]``.
    boxes : numpy.ndarray of shape (M, T, 4), float32
        Left, top, right, bottom.
    confidences : numpy.ndarray of shape (M, T, C), float32
        Each class's own, from 0 to 1; they need not sum to 1.
    """

    offsets: np.ndarray
    boxes: np.ndarray
    confidences: np.ndarray

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean boxes (M, 4) and confidences (M, C) of the passes that found each object, float32."""
        found = ~np.isnan(self.boxes[..., 0])
        share = (found / np.maximum(found.sum(axis=1, keepdims=True), 1))[..., None]
        arrays = (self.boxes, self.confidences)
        boxes, confidences = ((np.nan_to_num(each) * share).sum(axis=1) for each in arrays)
        return boxes.astype(np.float32), confidences.astype(np.float32)


def merge_boxes(passes: Sequence[Any], *, iou: float = 0.5) -> BoxSamples:
    """Find which boxes of several passes are of one object.

    In each image the box with the highest confidence that is left begins an object, and the box of each other pass
    that overlaps it most joins, if their IoU is at least ``iou``; then the next object begins. So an object has at
    most one box of a pass. Classes do not count: an object to which passes give different classes is one object of
    which they are uncertain, not two of which they are certain.

    The order of the rows of a pass does not change the result, and that of the passes only the order of its axis T:
    boxes of equal confidence, or equal overlap, are taken in the order of their confidences and sides.

    Parameters
    ----------
    passes : sequence of length T
        Predictions of the same N images, each with ``offsets`` (N + 1,), ``boxes`` (m, 4) as left, top, right, bottom,
        and ``confidences`` (m, C), as attributes.
    iou : float
        The least overlap with the first box of the object, above 0 and at most 1.

    Returns
    -------
    BoxSamples
        The objects of each image in the order in which they began.

    Raises
    ------
    ValueError
        If there is no pass, passes are not of the same images and classes, a box has no area, or a number is not valid;
        the message names the pass and the box.

    References
    ----------
    Miller et al., "Evaluating merging strategies for sampling-based uncertainty techniques in object detection",
    ICRA 2019 (arXiv:1809.06006); Blok et al., "Active learning with MaskAL", arXiv:2112.06586.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou!r}: it must be above 0 and at most 1")
    images, number, boxes, confidences = _stacked(passes)
    leaders, owner = _objects(images, number, boxes.astype(np.float64), confidences, iou)
    shape = (len(leaders), len(passes))
    merged = np.full((*shape, 4), np.nan, dtype=np.float32)
    classes = np.full((*shape, confidences.shape[1]), np.nan, dtype=np.float32)
    merged[owner, number] = boxes
    classes[owner, number] = confidences
    counts = np.bincount(images[leaders], minlength=len(passes[0].offsets) - 1)
    return BoxSamples(np.append(0, np.cumsum(counts)).astype(np.int64), merged, classes)


def _objects(
    images: np.ndarray, number: np.ndarray, boxes: np.ndarray, confidences: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first box of each object, by image, and the object of each box.

    One step begins an object in every image at once.
    """
    # The last key counts most: images, then the most confident; the rest decides between equals.
    order = np.lexsort((*boxes.T[::-1], *-confidences.T[::-1], -confidences.max(axis=1, initial=0), images))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    first = np.full(len(order), -1)  # of its object, in the order
    left = order
    while len(left):
        start = np.append(True, images[left[1:]] != images[left[:-1]])
        leader = left[np.flatnonzero(start)[np.cumsum(start) - 1]]
        overlap = scores.box_iou(boxes[left], boxes[leader])
        overlap[left == leader] = 2  # comes before a box of the same pass at the same place
        near = np.flatnonzero((overlap >= iou) & ((number[left] != number[leader]) | (left == leader)))
        # The best of each image and pass; among equals the first in the order.
        best = near[np.lexsort((near, -overlap[near], number[left[near]], images[left[near]]))]
        key = images[left[best]] * (number.max() + 1) + number[left[best]]
        best = best[np.append(True, key[1:] != key[:-1])]
        first[left[best]] = rank[leader[best]]
        left = np.delete(left, best)
    ranks, owner = np.unique(first, return_inverse=True)
    return order[ranks], owner


def _stacked(passes: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return of the boxes of all passes: image, pass, sides and confidences."""
    if not len(passes):
        raise ValueError("passes must be at least one, got none")
    parts = []
    for number, each in enumerate(passes):
        boxes, confidences = (np.asarray(part, dtype=np.float32) for part in (each.boxes, each.confidences))
        _check_pass(boxes, confidences, f"pass {number}")
        offsets = scores.checked_offsets(each.offsets, len(boxes))
        parts.append((np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), boxes, confidences, offsets))
    for what, place in (("images", 3), ("classes", 2)):
        sizes = [len(part[3]) - 1 if place == 3 else part[2].shape[1] for part in parts]
        if len(set(sizes)) > 1:
            raise ValueError(f"passes must be of the same {what}, got {sizes} {what}")
    images, boxes, confidences = (np.concatenate([part[place] for part in parts]) for place in range(3))
    number = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    return images, number, boxes, confidences


def _check_pass(boxes: np.ndarray, confidences: np.ndarray, name: str) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes of {name} must have shape (m, 4), got {boxes.shape}")
    if confidences.ndim != 2 or len(confidences) != len(boxes) or not confidences.shape[1]:
        raise ValueError(
            f"confidences of {name} must have shape ({len(boxes)}, C), one row a box, got {confidences.shape}"
        )
    checks = (
        (np.isfinite(boxes).all(axis=1), boxes, "must be finite"),
        ((boxes[:, :2] < boxes[:, 2:]).all(axis=1), boxes, "must have left < right and top < bottom"),
        (
            ((confidences >= 0) & (confidences <= 1)).all(axis=1),
            confidences,
            "must have confidences from 0 to 1",
        ),
    )
    for right, values, rule in checks:
        if not right.all():
            row = int(np.argmin(right))
            raise ValueError(f"box {row} of {name} {rule}, got {values[row].tolist()}")
