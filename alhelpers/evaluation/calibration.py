"""Calibration: the gap between a model's confidence and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.evaluation.measures import ratio
from alhelpers.evaluation.rows import EvaluationError, check_whole, floats

# Confidences that were computed in float32 may be so much beyond 0 or 1.
ROUNDING = 1e-6


@dataclass(frozen=True)
class CalibrationBins:
    """The gap between confidence and the share of right predictions: the items and gaps of each bin."""

    bins: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def build(cls, item: np.ndarray, confidence: np.ndarray, right: np.ndarray, bins: int) -> CalibrationBins:
        """Sort predictions into bins."""
        place = _bin_of(confidence, bins)
        gap = confidence - right
        return cls(tuple((item[place == one], gap[place == one]) for one in np.unique(place)))

    @property
    def rows(self) -> int:
        """The predictions of the fullest bin."""
        return max(len(item) for item, _ in self.bins)

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the expected calibration error for each resample."""
        error, seen = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
        for item, gap in self.bins:
            count = counts[item]
            error += np.abs(np.einsum("n,nb->b", gap, count))
            seen += count.sum(axis=0)
        return ratio(error, seen)


def reliability(
    confidence: ArrayLike, right: ArrayLike, bins: int = 10
) -> list[dict[str, float | int | None]]:
    """Compute the rows of a reliability diagram: a model's confidence, and how often it was right.

    Parameters
    ----------
    confidence : array_like of shape (N,)
        The confidence of each prediction, from 0 to 1.
    right : array_like of shape (N,), bool
        Whether it is right.
    bins : int
        How many ranges of equal width; each is open below and closed above, the first closed below too.

    Returns
    -------
    list of dict
        A row a bin: ``low``, ``high``, ``count``, and ``confidence`` and ``accuracy``, the means over the bin;
        None where it is empty. The expected calibration error is the mean of the distance between the two,
        weighted by the count.

    Raises
    ------
    EvaluationError
        If there is no prediction, the lengths differ, a confidence is not from 0 to 1, or ``bins`` is not an
        integer of at least 1.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> [row["accuracy"] for row in reliability([0.1, 0.6, 0.9], [False, False, True], bins=2)]
    [0.0, 0.5]
    """
    check_whole(bins, "bins")
    sure, hit = floats(confidence, "confidence", "the predictions"), np.asarray(right)
    if hit.dtype != bool or hit.shape != sure.shape:
        raise EvaluationError(
            f"right must be {len(sure)} truth values, one a prediction; got {hit.dtype} of shape {hit.shape}"
        )
    check_confidences(sure)
    place = _bin_of(sure, bins)
    counts = np.bincount(place, minlength=bins).tolist()
    sums = zip(*(np.bincount(place, values, bins).tolist() for values in (sure, hit)), strict=True)
    return [
        {
            "low": number / bins,
            "high": (number + 1) / bins,
            "count": count,
            "confidence": total / count if count else None,
            "accuracy": hits / count if count else None,
        }
        for number, (count, (total, hits)) in enumerate(zip(counts, sums, strict=True))
    ]


def check_confidences(confidence: np.ndarray) -> None:
    """Raise unless there are confidences, all from 0 to 1."""
    if not len(confidence):
        raise EvaluationError("calibration needs at least one prediction")
    outside = np.flatnonzero(abs(confidence - 0.5) > 0.5 + ROUNDING)
    if len(outside):
        raise EvaluationError(
            f"calibration needs confidences from 0 to 1, row {outside[0]} of the predictions has "
            f"{confidence[outside[0]]}; logits go through scores.confidences_from_logits first"
        )


def _bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Find the bin of each confidence: bins of equal width, each open below and closed above."""
    return np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
