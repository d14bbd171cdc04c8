"""Certainty of objects that several passes found, or did not find, and scores of objects combined for each image.

The passes of M objects are arrays with one row an object and one column a pass; NaN stands where a pass did not find
the object. A certainty is 1 where the passes agree and lower where they do not, and 1 - certainty is the uncertainty
that :func:`over_objects` combines for each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import ScoreError, chunks, numbers

Over = Literal["max", "mean", "sum", "top_k"]


def class_certainty(
    confidences: ArrayLike, entropy: Literal["predictive", "expected"] = "predictive"
) -> np.ndarray:
    """Return 1 - the normalised entropy of the classes that the passes give to each object.

    What the confidences leave of 1 is the share of a further class, none of them; confidences whose sum is above 1, as
    may be where each is a class's own sigmoid, are divided by it. So an object of confidence 0.3 is uncertain though no
    second class competes, and one class is enough; divided by their sum alone, confidences would lose this. The
    entropy is divided by log (C + 1).

    Parameters
    ----------
    confidences : array_like of shape (M, T, C)
        From 0 to 1; all C are NaN where a pass did not find the object.
    entropy : {"predictive", "expected"}
        Of the mean of the passes that found the object, or the mean of their entropies, as in MaskAL. Passes that are
        sure of different classes are uncertain by the first and certain by the second, which counts doubts inside of
        a pass alone; the difference is their disagreement, as in ``bald``.

    Returns
    -------
    numpy.ndarray of shape (M,), float32
        From 0, the classes and none of them are alike, to 1, sure of one. Confidences that always sum to 1 rule
        none of them out: then the least is 1 - log C / log (C + 1).

    Raises
    ------
    ScoreError
        If the shape or the entropy is not valid, a confidence is outside of 0 to 1, a pass has some confidences but
        not all, or no pass found an object; the message names the row.

    References
    ----------
    Blok et al., "Active learning with MaskAL reduces annotation effort for training Mask R-CNN", Computers and
    Electronics in Agriculture 197, 2022 (arXiv:2112.06586).
    """
    if entropy not in ("predictive", "expected"):
        raise ScoreError(f'entropy must be "predictive" or "expected", got {entropy!r}')

    def certainty(values: np.ndarray, found: np.ndarray) -> np.ndarray:
        shares = _shares(values)
        if entropy == "expected":
            return 1 - _mean_of_found(_entropy(shares), found)
        return 1 - _entropy(_mean_of_found(shares, found))

    return _map_confidences(confidences, certainty)


def object_certainty(confidences: ArrayLike, least: float = 0.2) -> np.ndarray:
    """Return 1 - the normalised entropy of the classes, and of none of them, over all passes.

    Class and existence in one number: a pass that did not find an object, or found it with a confidence below
    ``least``, is sure that there is none. An object that all passes find, or none but a few, is certain; one that half
    of them find is not. Shares and entropies are those of :func:`class_certainty`.

    Summed over the objects of an image (:func:`over_objects`), 1 - certainty tells best of the scores here how many
    errors a small detector makes in it: boxes of low confidence, of which a detector with a low threshold returns many,
    add little.

    Parameters
    ----------
    confidences : array_like of shape (M, T, C)
        From 0 to 1; all C are NaN where a pass did not find the object.
    least : float
        The confidence from which on a pass says that there is an object, from 0 to 1: about the one from which on boxes
        are used.

    Returns
    -------
    numpy.ndarray of shape (M,), float32
        From 0 to 1.

    Raises
    ------
    ScoreError
        If ``least`` is not from 0 to 1, and as :func:`class_certainty`.
    """
    if not 0 <= least <= 1:
        raise ScoreError(f"least must be from 0 to 1, got {least!r}")

    def certainty(values: np.ndarray, found: np.ndarray) -> np.ndarray:
        there = found & (np.nan_to_num(values).max(axis=2) >= least)
        return 1 - _entropy(_shares(np.where(there[..., None], values, 0)).mean(axis=1))

    return _map_confidences(confidences, certainty)


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
        :func:`existence_certainty` is low then.

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
        mean = _mean_of_found(values, found)[:, None]
        result[chunk] = _mean_of_found(box_iou(values, mean), found)
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
    given = _passes(given.view(np.uint8) if given.dtype == bool else given, "masks", "(M, T, H, W)", 4)
    result = np.empty(len(given), dtype=np.float32)
    which = None if found is None else _flags(found, given.shape[:2])
    for chunk in chunks(given):
        values = given[chunk].reshape(-1, given.shape[1], math.prod(given.shape[2:]))
        there = np.ones(values.shape[:2], dtype=bool)
        if values.dtype.kind == "f":
            there = _found(values, "masks", chunk.start, some=False)
            values = np.nan_to_num(values)
        _refuse(
            ~np.isin(values, (0, 1)).all(axis=2), values, "masks", chunk.start, "masks must be of 0 and 1"
        )
        values = values.astype(bool)
        filled = values.any(axis=2)
        there = there & (filled if which is None else which[chunk])
        _refuse(there & ~filled, values, "masks", chunk.start, "a mask that was found has no pixel")
        _check_some(there, "masks", chunk.start)
        values &= there[..., None]
        mean = values.sum(axis=1) * 2 >= there.sum(axis=1)[:, None]
        both = (values & mean[:, None]).sum(axis=2)
        either = (values | mean[:, None]).sum(axis=2)
        result[chunk] = _mean_of_found(both / np.maximum(either, 1), there)
    return result


def existence_certainty(samples: ArrayLike) -> np.ndarray:
    """Return the share of the passes that found each object.

    Parameters
    ----------
    samples : array_like of shape (M, T), bool, or (M, T, K)
        Whether a pass found the object, or its boxes or confidences, NaN where it did not.

    Returns
    -------
    numpy.ndarray of shape (M,), float32
        From 1 / T to 1.

    Raises
    ------
    ScoreError
        If the shape is not valid, or no pass found an object; the message names the row.

    References
    ----------
    Blok et al., arXiv:2112.06586.
    """
    given = np.asarray(samples)
    if given.dtype == bool:
        found = _flags(given, given.shape if given.ndim == 2 and given.shape[1] else ("M", "T"))
    else:
        found = _found(_passes(samples, "samples", "(M, T, K)", 3), "samples", 0)
    _check_some(found, "samples", 0)
    return found.mean(axis=1, dtype=np.float64).astype(np.float32)


def box_variance(boxes: ArrayLike) -> np.ndarray:
    """Return the standard deviation of each box's sides over the passes that found it, the mean of its four sides.

    The naive score of location; higher means label it first. It stands here to be compared with: it fails. It is in
    pixels, so that the largest objects, which a model finds best, are the most uncertain; and an object that a single
    pass found has none at all, though it is the most doubtful. Prefer :func:`location_certainty` and
    :func:`existence_certainty`, which repair both.

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
        deviations = values - _mean_of_found(values, found)[:, None]
        result[chunk] = np.sqrt(_mean_of_found(np.square(deviations), found)).mean(axis=1)
    return result


def over_objects(
    values: ArrayLike, offsets: ArrayLike, over: Over = "max", top_k: int | None = None
) -> np.ndarray:
    """Combine the scores of objects into one for each image.

    Of 1 - certainty, ``"max"`` makes an image as uncertain as its least certain object; ``"mean"`` does not
    depend on the number of objects, and ``"sum"`` grows with it.

    Parameters
    ----------
    values : array_like of shape (M,)
        Higher means label it first.
    offsets : array_like of shape (N + 1,)
        The objects of image ``k`` are ``offsets[k]`` up to, but not including, ``offsets[k + 1]``.
    over : {"max", "mean", "sum", "top_k"}
        ``"top_k"`` is the mean of the ``top_k`` highest, of all if they are fewer.
    top_k : int, optional
        At least 1; for ``over="top_k"`` alone.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        0 for an image without objects, the lowest score of one with objects: nothing in it is in doubt, and nothing
        says that the model did not overlook an object there. Mix in some images at random to find those.

    Raises
    ------
    ScoreError
        If an option is not valid, the offsets do not fit the values, or a value is not finite.
    """
    if over not in ("max", "mean", "sum", "top_k"):
        raise ScoreError(f'over must be "max", "mean", "sum" or "top_k", got {over!r}')
    whole = isinstance(top_k, int | np.integer) and not isinstance(top_k, bool)
    if (over == "top_k") != (top_k is not None) or (top_k is not None and (not whole or top_k < 1)):
        raise ScoreError(f'top_k must be at least 1 with over="top_k" and None otherwise, got {top_k!r}')
    given = numbers(values, "values")
    if given.ndim != 1:
        raise ScoreError(f"values must have shape (M,), got {given.shape}")
    starts = checked_offsets(offsets, len(given))
    wrong = np.flatnonzero(~np.isfinite(given))
    if len(wrong):
        raise ScoreError(f"row {wrong[0]} of values is {given[wrong[0]]}: it must be finite", int(wrong[0]))
    return _combined(given, starts, over, top_k)


def _combined(values: np.ndarray, offsets: np.ndarray, over: Over, top_k: int | None) -> np.ndarray:
    counts = np.diff(offsets)
    if over == "top_k":
        owner = np.repeat(np.arange(len(counts)), counts)
        order = np.lexsort((-values, owner))
        kept = order[np.arange(len(values)) - offsets[owner] < top_k]
        values, counts = values[kept], np.minimum(counts, top_k)
    some = np.flatnonzero(counts)
    result = np.zeros(len(counts), dtype=np.float32)
    if len(some):
        starts = np.append(0, np.cumsum(counts)[:-1])[some]
        reduce = np.maximum if over == "max" else np.add
        total = reduce.reduceat(values.astype(np.float64), starts)
        result[some] = total if over in ("max", "sum") else total / counts[some]
    return result


def checked_offsets(offsets: ArrayLike, count: int) -> np.ndarray:
    """Return the offsets of the objects of N images, checked.

    Parameters
    ----------
    offsets : array_like of shape (N + 1,)
        The objects of image ``k`` are ``offsets[k]`` up to, but not including, ``offsets[k + 1]``.
    count : int
        The number of objects of all images.

    Returns
    -------
    numpy.ndarray of shape (N + 1,), int64

    Raises
    ------
    ScoreError
        If they are not whole numbers that go from 0 to the count and never down.
    """
    given = np.asarray(offsets)
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu":
        raise ScoreError(f"offsets must be whole numbers of shape (N + 1,), got {given.dtype} {given.shape}")
    given = given.astype(np.int64)
    if given[0] != 0 or given[-1] != count or (np.diff(given) < 0).any():
        raise ScoreError(
            f"offsets must go from 0 to the number of objects, {count}, and never down, got {given[0]} to "
            f"{given[-1]}"
        )
    return given


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
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    both = np.maximum(width, 0) * np.maximum(height, 0)
    either = _area(first) + _area(second) - both
    return both / np.where(either == 0, 1, either)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _shares(confidences: np.ndarray) -> np.ndarray:
    """Return the shares of the classes and of none of them, (..., C + 1), which sum to 1."""
    total = confidences.sum(axis=-1, keepdims=True)
    return np.concatenate([confidences, np.maximum(1 - total, 0)], axis=-1) / np.maximum(total, 1)


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Return the entropy over the last axis, divided by its log length."""
    logs = np.log(np.maximum(shares, np.finfo(np.float64).tiny))  # 0 log 0 is 0
    return -(shares * logs).sum(axis=-1) / np.log(shares.shape[-1])


def _map_confidences(
    confidences: ArrayLike, certainty: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Check confidences (M, T, C), and apply a function of them and of which passes found each object, in blocks."""
    given = _passes(confidences, "confidences", "(M, T, C)", 3)
    result = np.empty(len(given), dtype=np.float32)
    for chunk in chunks(given):
        values = given[chunk].astype(np.float64)
        found = _found(values, "confidences", chunk.start)
        outside = (values < 0) | (values > 1)
        _refuse(outside.any(axis=2), values, "confidences", chunk.start, "confidences must be from 0 to 1")
        result[chunk] = certainty(values, found)
    return np.clip(result, 0, 1)


# ------------------------------------------------------------------------------
# checks
# ------------------------------------------------------------------------------


def _passes(values: ArrayLike, name: str, shape: str, ndim: int) -> np.ndarray:
    given = numbers(values, name)
    if given.ndim != ndim or 0 in given.shape[1:]:
        raise ScoreError(f"{name} must have shape {shape}, none of them 0 but M, got {given.shape}")
    return given


def _boxes(boxes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes of a valid shape, and an array for their scores."""
    given = _passes(boxes, "boxes", "(M, T, 4)", 3)
    if given.shape[2] != 4:
        raise ScoreError(f"boxes must have shape (M, T, 4): left, top, right, bottom; got {given.shape}")
    return given, np.empty(len(given), dtype=np.float32)


def _found(values: np.ndarray, name: str, start: int, *, some: bool = True) -> np.ndarray:
    """Return which passes found each object, (M, T); raise for a row with infinity, or NaN in a part of a pass."""
    flat = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    missing = np.isnan(flat)
    found = ~missing.all(axis=2)
    broken = np.isinf(flat).any(axis=2) | (missing.any(axis=2) & found)
    _refuse(
        broken,
        flat,
        name,
        start,
        "a pass must have finite numbers, or NaN alone if it did not find the object",
    )
    if some:
        _check_some(found, name, start)
    return found


def _found_boxes(boxes: np.ndarray, start: int) -> np.ndarray:
    found = _found(boxes, "boxes", start)
    empty = (boxes[..., 0] >= boxes[..., 2]) | (boxes[..., 1] >= boxes[..., 3])
    _refuse(empty, boxes, "boxes", start, "a box must have left < right and top < bottom")
    return found


def _refuse(wrong: np.ndarray, values: np.ndarray, name: str, start: int, rule: str) -> None:
    """Raise for the first object and pass that is wrong."""
    if wrong.any():
        row, number = map(int, np.argwhere(wrong)[0])
        shown = np.array2string(values[row, number], threshold=8, precision=6)
        raise ScoreError(f"row {start + row} of {name}, pass {number}: {rule}, got {shown}", start + row)


def _check_some(found: np.ndarray, name: str, start: int) -> None:
    none = np.flatnonzero(~found.any(axis=1))
    if len(none):
        row = start + int(none[0])
        raise ScoreError(f"row {row} of {name}: no pass found this object; leave it out", row)


def _flags(found: ArrayLike, shape: tuple) -> np.ndarray:
    given = np.asarray(found)
    if given.dtype != bool or given.shape != shape:
        raise ScoreError(
            f"what passes found must be bool of shape {shape}, got {given.dtype} values of shape {given.shape}"
        )
    return given


def _mean_of_found(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the mean over the passes that found each object."""
    there = found.reshape(*found.shape, *(1,) * (values.ndim - 2))
    return np.where(there, values, 0).sum(axis=1) / there.sum(axis=1)
