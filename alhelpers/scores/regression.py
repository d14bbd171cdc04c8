"""The score of several predicted numbers per record: their variance."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import ScoreError, check_finite, chunks, numbers


def regression_variance(samples: ArrayLike, reduction: Literal["mean", "sum"] = "mean") -> np.ndarray:
    """Score by the variance of predicted numbers over the passes.

    Parameters
    ----------
    samples : array_like of shape (N, T) or (N, T, D)
        The numbers that T passes or members predict, T at least 2; D outputs per record, in the units of the model.
    reduction : {"mean", "sum"}
        Over the outputs. The sum is the trace of the covariance, the mean does not grow with D. Divide outputs of
        different units by their scales first: the output with the largest numbers counts most.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        Population variance (ddof 0), in squared units; 0 where all passes agree.

    Raises
    ------
    ScoreError
        If the reduction or shape is not valid, or a row holds a number that is not finite, or has no finite variance in
        float32; the message names the row.

    References
    ----------
    Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016 (without the noise of the data).
    """
    if reduction not in ("mean", "sum"):
        raise ScoreError(f'reduction must be "mean" or "sum", got {reduction!r}')
    given = numbers(samples, "samples")
    if given.ndim not in (2, 3) or given.shape[1] < 2 or 0 in given.shape[2:]:
        raise ScoreError(
            "samples must have shape (N, T) or (N, T, D) with at least 2 passes or members, "
            f"got {given.shape}; one pass has no variance"
        )
    given = given.reshape(*given.shape[:2], math.prod(given.shape[2:]))
    result = np.empty(len(given), dtype=np.float32)
    for chunk in chunks(given):
        check_finite(given[chunk], "samples", chunk.start)
        with np.errstate(over="ignore"):
            result[chunk] = _variance(given[chunk]) * (1 if reduction == "mean" else given.shape[2])
    beyond = np.flatnonzero(np.isinf(result))
    if len(beyond):
        raise ScoreError(
            f"row {beyond[0]} of samples has a variance beyond float32; divide the outputs by their scale first",
            int(beyond[0]),
        )
    return result


def _variance(rows: np.ndarray) -> np.ndarray:
    """Return the variance over the passes of (n, T, D) rows, averaged over the outputs."""
    # The variance does not depend on an offset: the first pass is subtracted before the numbers become float32, which
    # cannot represent the differences of large and nearly equal numbers.
    exact = rows if rows.dtype.kind == "f" and rows.dtype.itemsize >= 4 else rows.astype(np.float64)
    deviations = np.moveaxis(exact - exact[:, :1], 0, -1).astype(np.float32, order="C")
    deviations -= deviations.mean(axis=0)
    return np.square(deviations, out=deviations).mean(axis=(0, 1))
