"""Temperature scaling: the one number that makes a model's confidences as high as it is right."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import CHUNK_ELEMENTS, check_finite, numbers
from alhelpers.scores.errors import ScoreError

# With fewer held-out records the temperature is a matter of which ones they happen to be.
_LEAST_LABELS = 10

# Newton's steps end when the slope of the loss is this small beside its scale, or at this number of them.
_SLOPE, _STEPS = 1e-10, 100


def calibrate(logits: ArrayLike, labels: ArrayLike) -> float:
    """Find the temperature under which held-out labels are most likely.

    Parameters
    ----------
    logits : array_like of shape (N, C)
        Unnormalised class scores of records that the model was not trained on, N at least 10.
    labels : array_like of shape (N,), integers
        The true class of each record, from 0 to C - 1.

    Returns
    -------
    float
        The temperature for :func:`confidences_from_logits`: above 1 where the model is surer than it should be.

    Raises
    ------
    ScoreError
        If the shapes do not fit, a number is not finite, labels are out of range, too few or all of one class, or
        if no temperature is best: every label has the highest logit (the surer the better), or labels have logits
        no higher than the mean (the less sure the better).

    Notes
    -----
    The mean negative log likelihood is convex in the inverse temperature. Newton's method finds its minimum, inside
    a bracket that only shrinks.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    given, truth = _checked(logits, labels)
    slope, curvature = _slope_and_curvature(given, truth, 0.0)
    if slope >= 0:
        raise ScoreError(
            "no temperature is best: the logits of the labels are no higher than the mean of their rows, so the model "
            "does no better than chance; check that labels are numbered as the logits are"
        )
    if (given[np.arange(len(given)), truth] >= given.max(axis=1)).all():
        raise ScoreError(
            "no temperature is best: every label has the highest logit, so the surer the better; calibrate on records "
            "that the model was not trained on, and on enough of them that it makes mistakes"
        )
    # the first step from no logits at all fits the scale of these, whatever it is
    return 1 / _inverse_temperature(given, truth, start=-slope / curvature, scale=-slope)


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels as arrays after checking them."""
    given, truth = numbers(logits, "logits"), np.asarray(labels)
    if given.ndim != 2 or given.shape[1] < 2:
        raise ScoreError(f"logits must have shape (N, C) with C at least 2, got {given.shape}")
    if truth.dtype.kind not in "iu" or truth.shape != given.shape[:1]:
        raise ScoreError(
            f"labels must be {len(given)} class numbers, one for each row of the logits, got {truth.dtype} of shape "
            f"{truth.shape}"
        )
    if len(given) < _LEAST_LABELS:
        raise ScoreError(
            f"calibration needs at least {_LEAST_LABELS} labelled records, got {len(given)}: use the validation subset"
        )
    check_finite(given, "logits")
    outside = np.flatnonzero((truth < 0) | (truth >= given.shape[1]))
    if len(outside):
        row = int(outside[0])
        raise ScoreError(f"labels must be from 0 to {given.shape[1] - 1}, row {row} has {truth[row]}", row)
    if (truth == truth[0]).all():
        raise ScoreError(
            f"all {len(truth)} labels are of class {truth[0]}: calibration needs records of several classes"
        )
    return given, truth


def _inverse_temperature(logits: np.ndarray, labels: np.ndarray, start: float, scale: float) -> float:
    """Find the zero of the slope, which is below zero at 0 and above it somewhere."""
    low, high = 0.0, math.inf
    inverse = start
    for _ in range(_STEPS):
        slope, curvature = _slope_and_curvature(logits, labels, inverse)
        if abs(slope) <= _SLOPE * scale:
            break
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else math.inf
        # a step out of the bracket, or one that would more than double, is replaced by doubling or halving
        if not low < step < min(high, 2 * inverse):
            step = 2 * inverse if math.isinf(high) else (low + high) / 2
        if step in (low, high):
            break  # the bracket holds no other number
        inverse = step
    return inverse


def _slope_and_curvature(logits: np.ndarray, labels: np.ndarray, inverse: float) -> tuple[float, float]:
    """Return both derivatives of the mean negative log likelihood by the inverse temperature.

    The first is how far the expected logit lies above the label's, the second is the logits' variance.
    """
    slope = curvature = 0.0
    step = max(1, CHUNK_ELEMENTS // logits.shape[1])
    for start in range(0, len(logits), step):
        rows = logits[start : start + step].astype(np.float64)
        rows -= rows[np.arange(len(rows)), labels[start : start + step], None]
        weights = np.exp(inverse * (rows - rows.max(axis=1, keepdims=True)))
        weights /= weights.sum(axis=1, keepdims=True)
        expected = (weights * rows).sum(axis=1)
        slope += expected.sum()
        curvature += (weights * (rows - expected[:, None]) ** 2).sum()
    return slope / len(logits), curvature / len(logits)
