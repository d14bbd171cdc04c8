"""Conversion of logits into confidences by the softmax, and the temperature that calibrates them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import ScoreError, check_finite, chunks, numbers

# The axis of the classes, by the number of dimensions: (N, C), (N, S, C), (N, C, H, W), (N, T, C, H, W).
_CLASSES = {2: 1, 3: 2, 4: 1, 5: 2}

# With fewer held-out records the temperature depends mostly on their choice.
_LEAST_LABELS = 10

# Newton's method stops when the slope of the loss is this small relative to its scale, or after so many steps.
_SLOPE, _STEPS = 1e-10, 100


def confidences_from_logits(logits: ArrayLike, temperature: float = 1.0) -> np.ndarray:
    """Convert logits into confidences by the softmax over the classes.

    Parameters
    ----------
    logits : array_like of shape (N, C), (N, S, C), (N, C, H, W) or (N, T, C, H, W)
        Unnormalised class scores, C at least 2.
    temperature : float
        The divisor of the logits, as returned by :func:`calibrate`: above 1 it makes confidences less extreme.

    Returns
    -------
    numpy.ndarray of the same shape, float32
        Confidences; they sum to 1 over the classes.

    Raises
    ------
    ScoreError
        If the shape or temperature is not valid, or a row holds a number that is not finite; the message names the row.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    given = numbers(logits, "logits")
    axis = _CLASSES.get(given.ndim)
    if axis is None or given.shape[axis] < 2:
        raise ScoreError(
            "logits must have shape (N, C) or (N, S, C), or (N, C, H, W) or (N, T, C, H, W), with C at least 2, "
            f"got {given.shape}"
        )
    if not 0 < np.float32(temperature) < np.inf:
        raise ScoreError(f"temperature must be a finite number above 0, got {temperature!r}")
    confidences = np.empty(given.shape, dtype=np.float32)
    for chunk in chunks(given):
        rows, out = given[chunk], confidences[chunk]
        check_finite(rows, "logits", chunk.start)
        # the highest logit is subtracted before the division, so that nothing overflows at any temperature, and
        # before the numbers become float32; the differences of whole numbers need a sign
        rows = rows if rows.dtype.kind == "f" else rows.astype(np.float64)
        with np.errstate(over="ignore"):  # a far lower logit may go to minus infinity: its confidence is 0
            np.subtract(rows, rows.max(axis=axis, keepdims=True), out=out, casting="same_kind")
            out /= np.float32(temperature)
        np.exp(out, out=out)
        out /= out.sum(axis=axis, keepdims=True)
    return confidences


def calibrate(logits: ArrayLike, labels: ArrayLike) -> float:
    """Fit the temperature that maximizes the likelihood of held-out labels.

    Parameters
    ----------
    logits : array_like of shape (N, C)
        Unnormalised class scores of records that the model was not trained on, N at least 10.
    labels : array_like of shape (N,), integers
        The true class of each record, from 0 to C - 1.

    Returns
    -------
    float
        The temperature for :func:`confidences_from_logits`: above 1 for an overconfident model.

    Raises
    ------
    ScoreError
        If the shapes do not fit, a number is not finite, labels are out of range, too few or all of one class, or
        there is no best temperature: every label has the highest logit (the optimum is 0), or the labels' logits
        are no higher than the mean (the optimum is infinite).

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    given, truth = _checked(logits, labels)
    slope, curvature = _slope_and_curvature(given, truth, 0.0)
    if slope >= 0:
        raise ScoreError(
            "there is no best temperature: the logits of the labels are no higher than the mean of their rows, so the "
            "model is no better than chance; check that labels and logits have the same order of classes"
        )
    if (given[np.arange(len(given)), truth] >= given.max(axis=1)).all():
        raise ScoreError(
            "there is no best temperature: every label has the highest logit; calibrate on records that the model was "
            "not trained on, and on enough of them that it makes mistakes"
        )
    # the first step, from 0, fits the scale of the logits
    return 1 / _inverse_temperature(given, truth, start=-slope / curvature, scale=-slope)


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
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
    """Return the zero of the slope, negative at 0 and later positive, by Newton's method in a shrinking bracket."""
    low, high = 0.0, math.inf
    inverse = start
    for _ in range(_STEPS):
        slope, curvature = _slope_and_curvature(logits, labels, inverse)
        if abs(slope) <= _SLOPE * scale:
            break
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else math.inf
        # a step that leaves the bracket or more than doubles is replaced by doubling or halving
        if not low < step < min(high, 2 * inverse):
            step = 2 * inverse if math.isinf(high) else (low + high) / 2
        if step in (low, high):
            break  # the bracket holds no other number
        inverse = step
    return inverse


def _slope_and_curvature(logits: np.ndarray, labels: np.ndarray, inverse: float) -> tuple[float, float]:
    """Return the first two derivatives of the mean negative log likelihood by the inverse temperature."""
    # the expected logit minus the label's, and the variance of the logits
    slope = curvature = 0.0
    for chunk in chunks(logits):
        rows = logits[chunk].astype(np.float64)
        rows -= rows[np.arange(len(rows)), labels[chunk], None]
        weights = np.exp(inverse * (rows - rows.max(axis=1, keepdims=True)))
        weights /= weights.sum(axis=1, keepdims=True)
        expected = (weights * rows).sum(axis=1)
        slope += expected.sum()
        curvature += (weights * (rows - expected[:, None]) ** 2).sum()
    return slope / len(logits), curvature / len(logits)
