"""Certainty of which objects there are and of their classes, and scores of objects combined for each image.

The passes of M objects are arrays with one row an object and one column a pass; NaN stands where a pass did not find
the object. A certainty is 1 where the passes agree and lower where they do not, and 1 - certainty is the uncertainty
that :func:`over_objects` combines for each image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import ScoreError, chunks, numbers
from alhelpers.scores._passes import check_some, flags_of, mean_of_found, passes_of, refuse, which_found

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
            return 1 - mean_of_found(_entropy(shares), found)
        return 1 - _entropy(mean_of_found(shares, found))

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
        found = flags_of(given, given.shape if given.ndim == 2 and given.shape[1] else ("M", "T"))
    else:
        found = which_found(passes_of(samples, "samples", "(M, T, K)", 3), "samples", 0)
    check_some(found, "samples", 0)
    return found.mean(axis=1, dtype=np.float64).astype(np.float32)


def expected_errors(confidences: ArrayLike, least: float = 0.2) -> np.ndarray:
    """Return how many errors are expected of each box and of the object in its place: wrong boxes and missed objects.

    Taken at their word, confidences are probabilities: their sum that there is an object, the highest that it is of the
    predicted class. A box of at least ``least`` is used; it is wrong with 1 minus its confidence, and then an object
    that is there is missed as well. A box below ``least`` is not used, and its object is missed if it is there. Summed
    over the boxes of an image, it finds the images with many errors best of the scores here.

    Parameters
    ----------
    confidences : array_like of shape (M, C)
        Of each class, from 0 to 1: of one prediction, or the means of several passes. Where each is a class's own
        sigmoid, sums above 1 count as 1.
    least : float
        The confidence from which on boxes are used, from 0 to 1.

    Returns
    -------
    numpy.ndarray of shape (M,), float32
        From 0 to 2.

    Raises
    ------
    ScoreError
        If the shape or ``least`` is not valid, or a confidence is not from 0 to 1; the message names the row.
    """
    if not 0 <= least <= 1:
        raise ScoreError(f"least must be from 0 to 1, got {least!r}")
    given = numbers(confidences, "confidences")
    if given.ndim != 2 or not given.shape[1]:
        raise ScoreError(f"confidences must have shape (M, C), got {given.shape}")
    wrong = np.flatnonzero(~((given >= 0) & (given <= 1)).all(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise ScoreError(f"row {row} of confidences, {given[row].tolist()}, must be from 0 to 1", row)
    right = given.max(axis=1).astype(np.float64)
    there = np.minimum(given.sum(axis=1, dtype=np.float64), 1)
    used = right >= np.float32(least)
    return np.where(used, 1 - right + np.maximum(there - right, 0), there).astype(np.float32)


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


def _map_confidences(
    confidences: ArrayLike, certainty: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Check confidences (M, T, C), and apply a function of them and of which passes found each object, in blocks."""
    given = passes_of(confidences, "confidences", "(M, T, C)", 3)
    result = np.empty(len(given), dtype=np.float32)
    for chunk in chunks(given):
        values = given[chunk].astype(np.float64)
        found = which_found(values, "confidences", chunk.start)
        outside = (values < 0) | (values > 1)
        refuse(outside.any(axis=2), values, "confidences", chunk.start, "confidences must be from 0 to 1")
        result[chunk] = certainty(values, found)
    return np.clip(result, 0, 1)


def _shares(confidences: np.ndarray) -> np.ndarray:
    """Return the shares of the classes and of none of them, (..., C + 1), which sum to 1."""
    total = confidences.sum(axis=-1, keepdims=True)
    return np.concatenate([confidences, np.maximum(1 - total, 0)], axis=-1) / np.maximum(total, 1)


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Return the entropy over the last axis, divided by its log length."""
    logs = np.log(np.maximum(shares, np.finfo(np.float64).tiny))  # 0 log 0 is 0
    return -(shares * logs).sum(axis=-1) / np.log(shares.shape[-1])
