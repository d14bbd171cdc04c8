"""Calibration error: the gap between a model's confidence and how often it is right."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.evaluation.errors import EvaluationError
from alhelpers.evaluation.measures import CalibrationBins, Measure, bin_of
from alhelpers.evaluation.rows import check_whole, codes, floats, sort_names


def measure_calibration(
    item: np.ndarray,
    labels: Sequence[Hashable],
    confidence: np.ndarray,
    right: np.ndarray,
    bins: int,
    items: Sequence[Hashable],
    method: str,
) -> Measure:
    """Compute the expected calibration error over bins of equal width, of predictions (n,) of the test items."""
    check_whole(bins, "bins")
    if not len(labels):
        raise EvaluationError("the calibration error needs at least one prediction")
    _check_range(confidence)
    once = np.ones((len(items), 1), dtype=np.int32)
    known: dict[Hashable, int] = {}
    place = codes(labels, known)
    by_label = {
        label: CalibrationBins.build(
            *(values[place == known[label]] for values in (item, confidence, right)), bins
        )
        for label in sort_names(known)
    }
    term = CalibrationBins.build(item, confidence, right, bins)
    return Measure(
        value=float(term.values(once)[0]),
        per_label={label: float(one.values(once)[0]) for label, one in by_label.items()},
        method=f"{method}, {bins} bins",
        items=items,
        higher_is_better=False,
        warnings=(),
        term=term,
    )


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
    if not len(sure):
        raise EvaluationError("a reliability diagram needs at least one prediction")
    _check_range(sure)
    place = bin_of(sure, bins)
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


def _check_range(confidence: np.ndarray) -> None:
    outside = np.flatnonzero((confidence < 0) | (confidence > 1))
    if len(outside):
        raise EvaluationError(
            f"the calibration error needs confidences from 0 to 1, row {outside[0]} of the predictions has "
            f"{confidence[outside[0]]}"
        )
