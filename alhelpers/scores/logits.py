"""Conversion of logits into confidences: the softmax, with a temperature."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import ScoreError, check_finite, chunks, numbers

# The axis of the classes, by the number of dimensions: (N, C), (N, S, C), (N, C, H, W), (N, T, C, H, W).
_CLASSES = {2: 1, 3: 2, 4: 1, 5: 2}


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
