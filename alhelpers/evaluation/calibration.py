"""Calibration error: how far a model's confidence is from how often it is right."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from alhelpers.evaluation.errors import EvaluationError
from alhelpers.evaluation.measures import CalibrationBins, Measure
from alhelpers.evaluation.rows import check_whole, codes, sort_names


def measure_calibration(
    item: np.ndarray,
    labels: Sequence[Hashable],
    confidence: np.ndarray,
    right: np.ndarray,
    bins: int,
    items: Sequence[Hashable],
    method: str,
) -> Measure:
    """Measure the expected calibration error over bins of equal width.

    Parameters
    ----------
    item : numpy.ndarray of shape (n,), intp
        The place of each prediction's item in ``items``.
    labels : sequence of length n
        The predicted labels.
    confidence : numpy.ndarray of shape (n,), float64
        From 0 to 1.
    right : numpy.ndarray of shape (n,), bool
        Whether the prediction is right.
    bins : int
        How many ranges of confidence; each is open below and closed above.
    items : sequence
        The test items.
    method : str
        What is measured, for the reader.

    Returns
    -------
    Measure
        Lower is better.

    Raises
    ------
    EvaluationError
        If there is no prediction, a confidence is not from 0 to 1, or ``bins`` is not a whole number from 1.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    check_whole(bins, "bins")
    if not len(labels):
        raise EvaluationError("the calibration error needs predictions, and there is none")
    outside = np.flatnonzero((confidence < 0) | (confidence > 1))
    if len(outside):
        raise EvaluationError(
            f"the calibration error needs confidences from 0 to 1, row {outside[0]} of the predictions has "
            f"{confidence[outside[0]]}"
        )
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
