"""Certainty of where objects are: the boxes or masks of several passes, and the naive variance of boxes.

The passes of M objects are arrays with one row an object and one column a pass; NaN stands where a pass did not find
the object.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import ScoreError, chunks
from alhelpers.scores._passes import check_some, flags_of, mean_of_found, passes_of, refuse, which_found


def location_certainty(boxes: ArrayLike) -> np.ndarray:
    """Return the mean IoU of the passes' boxes with their mean box, of the passes that found each object.

    IoU does not depend on the size of an object, as :func:`box_variance` does.

    Parameters
    ----------
    boxes : array_like of shape (M, T, 4)
        Left, top, right, bottom; all four are NaN where a pass did not find the object.

    Returns
    -------
    numpy.ndarray of shape (M,), float32
        From 0, boxes have nothing in common, to 1, all are the same. 1 if one pass alone found the object:
        :func:`~alhelpers.scores.existence_certainty` is low then.

    Raises
    ------
    ScoreError
        If the shape is not valid, a box has no area or is not finite, or no pass found an object; the message names the
        row.

    References
    ----------
    Blok et al., arXiv:2112.06586.
    """
    given, result = _boxes(boxes)
    for chunk in chunks(given):
        values = given[chunk].astype(np.float64)
        found = _found_boxes(values, chunk.start)
        mean = mean_of_found(values, found)[:, None]
        result[chunk] = mean_of_found(box_iou(values, mean), found)
    return np.clip(result, 0, 1)


def mask_certainty(masks: ArrayLike, found: ArrayLike | None = None) -> np.ndarray:
    """Return the mean IoU of the passes' masks with their mean mask, of the passes that found each object.

    The mean mask has the pixels that at least half of those passes have.

    Parameters
    ----------
    masks : array_like of shape (M, T, H, W)
        The object's pixels: bool, or 0 and 1 with NaN where a pass did not find the object.
    found : array_like of shape (M, T), bool, optional
        Which passes found the object. By default those whose mask has a pixel.

    Returns
    -------
    numpy.ndarray of shape (M,), float32
        From 0 to 1, as :func:`location_certainty`.

    Raises
    ------
    ScoreError
        If a shape is not valid, a value is not 0 or 1, a mask that was found has no pixel, or no pass found an object;
        the message names the row.

    References
    ----------
    Blok et al., arXiv:2112.06586.
    """
    given = np.asarray(masks)
    given = passes_of(given.view(np.uint8) if given.dtype == bool else given, "masks", "(M, T, H, W)", 4)
    result = np.empty(len(given), dtype=np.float32)
    which = None if found is None else flags_of(found, given.shape[:2])
    for chunk in chunks(given):
        values = given[chunk].reshape(-1, given.shape[1], math.prod(given.shape[2:]))
        there = np.ones(values.shape[:2], dtype=bool)
        if values.dtype.kind == "f":
            there = which_found(values, "masks", chunk.start, some=False)
            values = np.nan_to_num(values)
        refuse(~np.isin(values, (0, 1)).all(axis=2), values, "masks", chunk.start, "masks must be of 0 and 1")
        values = values.astype(bool)
        filled = values.any(axis=2)
        there = there & (filled if which is None else which[chunk])
        refuse(there & ~filled, values, "masks", chunk.start, "a mask that was found has no pixel")
        check_some(there, "masks", chunk.start)
        values &= there[..., None]
        mean = values.sum(axis=1) * 2 >= there.sum(axis=1)[:, None]
        both = (values & mean[:, None]).sum(axis=2)
        either = (values | mean[:, None]).sum(axis=2)
        result[chunk] = mean_of_found(both / np.maximum(either, 1), there)
    return result


def box_variance(boxes: ArrayLike) -> np.ndarray:
    """Return the standard deviation of each box's sides over the passes that found it, the mean of its four sides.

    The naive score of location; higher means label it first. It stands here to be compared with: it fails. It is in
    pixels, so that the largest objects, which a model finds best, are the most uncertain; and an object that a single
    pass found has none at all, though it is the most doubtful. Prefer :func:`location_certainty` and
    :func:`~alhelpers.scores.existence_certainty`, which repair both.

    Parameters
    ----------
    boxes : array_like of shape (M, T, 4)
        Left, top, right, bottom; all four are NaN where a pass did not find the object.

    Returns
    -------
    numpy.ndarray of shape (M,), float32
        In pixels, 0 or more; ddof 0.

    Raises
    ------
    ScoreError
        As :func:`location_certainty`.
    """
    given, result = _boxes(boxes)
    for chunk in chunks(given):
        values = given[chunk].astype(np.float64)
        found = _found_boxes(values, chunk.start)
        deviations = values - mean_of_found(values, found)[:, None]
        result[chunk] = np.sqrt(mean_of_found(np.square(deviations), found)).mean(axis=1)
    return result


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes, pair by pair.

    For all pairs of two lists see :func:`alhelpers.evaluation.iou`.

    Parameters
    ----------
    first, second : numpy.ndarray of shape (..., 4)
        Left, top, right, bottom; the shapes broadcast. They are not checked.

    Returns
    -------
    numpy.ndarray of shape (...)
        From 0 to 1; 0 if both are empty, NaN if either is.
    """
    both = shared_area(first, second)
    either = area_of(first) + area_of(second) - both
    return both / np.where(either == 0, 1, either)


def shared_area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the area that boxes share, pair by pair."""
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def area_of(boxes: np.ndarray) -> np.ndarray:
    """Return the area of boxes."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _boxes(boxes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes of a valid shape, and an array for their scores."""
    given = passes_of(boxes, "boxes", "(M, T, 4)", 3)
    if given.shape[2] != 4:
        raise ScoreError(f"boxes must have shape (M, T, 4): left, top, right, bottom; got {given.shape}")
    return given, np.empty(len(given), dtype=np.float32)


def _found_boxes(boxes: np.ndarray, start: int) -> np.ndarray:
    found = which_found(boxes, "boxes", start)
    empty = (boxes[..., 0] >= boxes[..., 2]) | (boxes[..., 1] >= boxes[..., 3])
    refuse(empty, boxes, "boxes", start, "a box must have left < right and top < bottom")
    return found
