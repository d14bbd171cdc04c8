"""Conversion of logits into confidences by the softmax, and the temperature that calibrates them."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import SUM_TOLERANCE, ScoreError, check_finite, chunks, numbers, unmasked

# The axis of the classes, by the number of dimensions: (N, C), (N, S, C), (N, C, H, W), (N, T, C, H, W).
_CLASSES = {2: 1, 3: 2, 4: 1, 5: 2}

# With fewer held-out records the temperature depends mostly on their choice.
_LEAST_LABELS = 10

# Newton's method stops when a step changes the temperature by no more than this share, or after so many steps.
_PRECISION, _STEPS = 1e-10, 100

# How often the bound of the inverse temperature is halved to find a lower one; after a million times fewer the
# confidences no longer depend on the logits.
_HALVINGS = 20

# A label so many times farther from the highest logit than the second one mostly is has a class that is masked.
_MASKED = 1e6

# More than any distance of logits that matters, and its square is finite.
_FAR = 1e100


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

    Warns
    -----
    UserWarning
        If the logits are confidences already.

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
    warn_of_confidences(given, axis)
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
        If the shapes do not fit, a number is not finite, labels are out of range, too few or all of one class, the
        class of a label is masked by a very low logit, or there is no best temperature: every label has the highest
        logit (the optimum is 0), or the labels' logits are no higher than the mean (the optimum is infinite).

    Warns
    -----
    UserWarning
        If the logits are confidences already.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    given, truth = _checked(logits, labels)
    warn_of_confidences(given, axis=1)
    label_logits = given[np.arange(len(given)), truth].astype(np.float64)
    best_two = [np.partition(given[chunk], -2, axis=1)[:, -2:].astype(np.float64) for chunk in chunks(given)]
    second, best = np.concatenate(best_two).T
    with np.errstate(over="ignore"):  # a distance beyond float64 is infinite
        gaps, rivals = best - label_logits, best - second
    if not gaps.any():
        raise ScoreError(
            "there is no best temperature: every label has the highest logit; calibrate on records that the model was "
            "not trained on, and on enough of them that it makes mistakes"
        )
    if rivals.any() and gaps.max() > _MASKED * np.median(rivals[rivals > 0]):
        row = int(gaps.argmax())
        raise ScoreError(
            f"row {row} of logits: that of its label is {gaps[row]:g} below the highest, as if its class were masked; "
            "leave the record out",
            row,
        )
    # in units of the largest gap of a label, which no class that is masked by a very low logit can change
    scale = gaps.max()
    return float(scale / _inverse_temperature(given, truth, scale, (gaps / scale).mean()))


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    given, truth = numbers(logits, "logits"), unmasked(labels, "labels")
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


def warn_of_confidences(logits: np.ndarray, axis: int) -> None:
    """Warn if all logits are confidences: a second softmax would make every record uncertain."""
    for chunk in chunks(logits):
        if logits[chunk].min() < 0:
            return
        if (abs(logits[chunk].sum(axis=axis, dtype=np.float64) - 1) > SUM_TOLERANCE).any():
            return
    if len(logits) and logits.shape[axis] > 1:
        warnings.warn(
            "the logits are confidences already: none is negative and all rows sum to 1; pass what the model computes "
            "before its softmax, or use the confidences as they are",
            stacklevel=3,
        )


def _inverse_temperature(logits: np.ndarray, labels: np.ndarray, scale: float, mean_gap: float) -> float:
    """Return the zero of the slope, which rises with the inverse temperature, by Newton's method in a bracket."""
    # A class by x below the highest has at most the confidence exp(-ux), and x exp(-ux) is at most 1 / (eu): where the
    # C - 1 of them no longer reach the labels' mean gap, the slope is positive.
    high = (logits.shape[1] - 1) / (math.e * mean_gap)
    for _ in range(_HALVINGS):
        low = high / 2
        if _slope_and_curvature(logits, labels, scale, low)[0] < 0:
            break
        high = low
    else:
        raise ScoreError(
            "there is no best temperature: the logits of the labels are no higher than the mean of their rows, so the "
            "model is no better than chance; check that labels and logits have the same order of classes"
        )
    inverse = low
    for _ in range(_STEPS):
        slope, curvature = _slope_and_curvature(logits, labels, scale, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else math.inf
        if not low <= step <= high:
            step = (low + high) / 2
        moved, inverse = abs(step - inverse), step
        if moved <= _PRECISION * inverse:
            break
    return inverse


def _slope_and_curvature(
    logits: np.ndarray, labels: np.ndarray, scale: float, inverse: float
) -> tuple[float, float]:
    """Return the first two derivatives of the mean negative log likelihood by the inverse temperature."""
    # the label's distance from the highest logit minus the expected one, and the variance of the distances
    slope = curvature = 0.0
    for chunk in chunks(logits):
        rows = logits[chunk].astype(np.float64)
        with np.errstate(over="ignore"):  # the confidence of a class that is so far away is 0
            far = np.minimum((rows.max(axis=1, keepdims=True) - rows) / scale, _FAR)
        weights = np.exp(-inverse * far)
        weights /= weights.sum(axis=1, keepdims=True)
        expected = (weights * far).sum(axis=1)
        slope += (far[np.arange(len(rows)), labels[chunk]] - expected).sum()
        curvature += (weights * (far - expected[:, None]) ** 2).sum()
    return slope / len(logits), curvature / len(logits)
