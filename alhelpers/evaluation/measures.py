"""Metrics in a form that can be weighted by test item, so that a resampled test set costs no new evaluation.

Predictions are sorted and matched once. A resample then only changes how often each item counts: matching inside an
image does not depend on the other images, and the order of the scores stays.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from alhelpers.evaluation.curves import mean


class Term(Protocol):
    """A number that follows from how often each test item counts."""

    @property
    def rows(self) -> int:
        """How many numbers a resample needs in memory."""

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the number, (B,) float64, for counts (I, B) int32; NaN where it has no meaning."""


@dataclass(frozen=True)
class Measure:
    """One metric of one model on a test set.

    Parameters
    ----------
    value : float
        The metric.
    per_label : dict
        The metric of each label, in sorted order: of the labels that have ground truth, and for the
        calibration error of those that were predicted.
    method : str
        What was computed, with its thresholds.
    items : sequence of length I
        The test items.
    higher_is_better : bool
        False for an error.
    warnings : tuple of str
        What the numbers do not show.
    term : Term
        The same metric by item, for `alhelpers.evaluation.paired_bootstrap`.
    """

    value: float
    per_label: dict[Hashable, float]
    method: str
    items: Sequence[Hashable]
    higher_is_better: bool
    warnings: tuple[str, ...]
    term: Term


@dataclass(frozen=True)
class Macro:
    """The mean over the labels that have ground truth in the resample."""

    labels: Mapping[Hashable, Term]

    @property
    def rows(self) -> int:
        """The most rows of one label: labels are computed one after the other."""
        return max(term.rows for term in self.labels.values())

    def each(self, counts: np.ndarray) -> np.ndarray:
        """Compute the number of each label for each resample, (labels, B)."""
        return np.stack([term.values(counts) for term in self.labels.values()])

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the mean for each resample."""
        return mean_of_known(self.each(counts))

    def once(self, items: int) -> tuple[float, dict[Hashable, float]]:
        """Compute the mean, and each label's value, where every item counts once."""
        ones = np.ones((items, 1), dtype=np.int32)
        per_label = {label: float(term.values(ones)[0]) for label, term in self.labels.items()}
        return mean(per_label), per_label


@dataclass(frozen=True)
class Mean:
    """The mean of several numbers of one label, such as its average precision at several overlaps."""

    terms: Sequence[Term]

    @property
    def rows(self) -> int:
        """The most rows of one term."""
        return max(term.rows for term in self.terms)

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the mean for each resample."""
        return sum(term.values(counts) for term in self.terms) / len(self.terms)


@dataclass(frozen=True)
class Share:
    """A part of a whole, both summed over the items, such as an intersection over a union of pixels."""

    # (I,) each; there is no value where the sum of ``needed`` is 0.
    part: np.ndarray
    whole: np.ndarray
    needed: np.ndarray

    @property
    def rows(self) -> int:
        """The items."""
        return len(self.part)

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the share for each resample."""
        part, whole, needed = np.stack([self.part, self.whole, self.needed]).astype(np.float64) @ counts
        return ratio(part, np.where(needed > 0, whole, 0))


@dataclass(frozen=True)
class Hits:
    """The right predictions of a ranking: their rows, and the last row and hit of equal score."""

    row: np.ndarray
    last_row: np.ndarray
    last_hit: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """The average precision of one label, or its mean over several ways to match."""

    item: np.ndarray
    hits: tuple[Hits, ...]
    truth_item: np.ndarray
    interpolated: bool
    # The recalls that the precision is the mean over; None for all points.
    recalls: np.ndarray | None = None

    @classmethod
    def build(
        cls,
        item: np.ndarray,
        score: np.ndarray,
        rights: Sequence[np.ndarray],
        truth_item: np.ndarray,
        interpolated: bool = True,
        recalls: np.ndarray | None = None,
    ) -> Ranking:
        """Sort predictions once; those after the last right one do not change the result and are cut off."""
        order = np.argsort(-score, kind="stable")
        falling = -score[order]
        last_of_tie = np.searchsorted(falling, falling, side="right") - 1
        hits = []
        for right in rights:
            row = np.flatnonzero(right[order])
            last_row = last_of_tie[row]
            hits.append(Hits(row, last_row, np.searchsorted(row, last_row, side="right") - 1))
        length = max((int(hit.last_row[-1]) + 1 for hit in hits if len(hit.row)), default=0)
        return cls(item[order[:length]], tuple(hits), truth_item, interpolated, recalls)

    @property
    def rows(self) -> int:
        """The predictions and ground truths of the label."""
        return len(self.item) + len(self.truth_item)

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the area for each resample; only the points of right predictions add to it."""
        count = counts[self.item]
        seen = running(np.add, count.copy())
        area, total = np.zeros(counts.shape[1]), counts[self.truth_item].sum(axis=0)
        for hit in self.hits:
            gain = count[hit.row]
            found = running(np.add, gain.copy())[hit.last_hit]
            # Before the first item that counts nothing is seen, and nothing found either.
            precision = found / np.maximum(seen[hit.last_row], 1)
            if self.interpolated:
                precision = running(np.maximum, precision[::-1])[::-1]
            if self.recalls is None:
                area += (gain * precision).sum(axis=0)
            else:
                area += _at_recalls(self.recalls, found, precision, total)
        points = total if self.recalls is None else np.where(total, len(self.recalls), 0)
        return ratio(area, len(self.hits) * points)


@dataclass(frozen=True)
class BinnedRanking:
    """The average precision of one label from histograms of confidence, the highest bin first, (I, K) each."""

    right: np.ndarray
    found: np.ndarray

    @property
    def rows(self) -> int:
        """The items or the bins."""
        return max(self.right.shape)

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the area for each resample; a bin is one point of the curve, without interpolation."""
        gain, found = (part.T.astype(np.float64) @ counts for part in (self.right, self.found))
        hits = np.cumsum(gain, axis=0)
        precision = hits / np.maximum(np.cumsum(found, axis=0), 1)
        return ratio((gain * precision).sum(axis=0), hits[-1])


@dataclass(frozen=True)
class F1:
    """The F1 of one label: the items of its right predictions, its predictions, and its ground truths.

    With one prediction and one ground truth for each item it is the accuracy.
    """

    right_item: np.ndarray
    found_item: np.ndarray
    truth_item: np.ndarray

    @property
    def rows(self) -> int:
        """The rows of the longest list."""
        return max(len(self.found_item), len(self.truth_item))

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the harmonic mean of precision and recall for each resample."""
        right, found, truth = (
            counts[item].sum(axis=0) for item in (self.right_item, self.found_item, self.truth_item)
        )
        return np.where(truth > 0, 2 * right / np.maximum(found + truth, 1), np.nan)


def _at_recalls(
    recalls: np.ndarray, found: np.ndarray, precision: np.ndarray, total: np.ndarray
) -> np.ndarray:
    """Return the sum, for each resample, of the precision of the hit at which each recall is reached; 0 beyond."""
    whole, least = np.maximum(total, 1), recalls[:, None]
    needed = np.ceil(least * whole)
    # The hits whose share is at least the recall, whatever the floats say of their product.
    needed -= (needed - 1) / whole >= least
    needed += needed / whole < least
    sums = np.zeros(len(total))
    for column in range(len(total)):
        place = np.searchsorted(found[:, column], needed[:, column])
        sums[column] = precision[place[place < len(found)], column].sum()
    return sums


def running(combine: np.ufunc, values: np.ndarray) -> np.ndarray:
    """Replace each row by the combination of all rows up to it, as ``combine.accumulate(values, axis=0)``.

    It works in place, for `numpy.add` of integers and `numpy.maximum`. NumPy's own goes down one column after the
    other. Here whole rows are combined, first inside blocks and then from block to block, which is several times
    faster and as exact for counts and maxima.
    """
    size = max(1, math.isqrt(len(values)))
    whole = len(values) // size * size
    blocks = values[:whole].reshape(-1, size, values.shape[1])
    for place in range(1, size):
        combine(blocks[:, place], blocks[:, place - 1], out=blocks[:, place])
    for block in range(1, len(blocks)):
        combine(blocks[block, -1], blocks[block - 1, -1], out=blocks[block, -1])
    combine(blocks[1:, :-1], blocks[:-1, -1:], out=blocks[1:, :-1])
    for row in range(max(1, whole), len(values)):
        combine(values[row], values[row - 1], out=values[row])
    return values


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of the numbers that are not NaN; NaN if all are."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
