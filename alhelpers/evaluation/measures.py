"""Metrics in a form that can be weighted by test item, so that a resampled test set costs no new evaluation.

Predictions are sorted and matched once. A resample then only changes how often each item counts: matching inside an
image does not depend on the other images, and the order of the scores stays.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from alhelpers.evaluation.curves import mean

# Rows that follow each other are folded into columns of so many: few enough to combine many columns at once.
FOLD = 8


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
class Runs:
    """Right predictions that follow each other in a ranking, as places of running counts, folded as `fold` does.

    The weights of a run add up to the difference of two running counts. A run ends where a wrong prediction follows:
    before its end the precision only rises, so that the best precision from there on is the same for the whole run.
    """

    # How many predictions count before the run, through its end, and through the end of the last one's equal scores.
    before: np.ndarray
    through: np.ndarray
    # None where it is through the end of the run.
    seen: np.ndarray | None

    @classmethod
    def build(cls, before: np.ndarray, last: np.ndarray, last_of_tie: np.ndarray, size: int) -> Runs:
        """Fold rows of a ranking that is folded itself, in so many places; row -1 is before the first."""

        def place(rows: np.ndarray) -> np.ndarray:
            return np.where(rows < 0, size, rows % FOLD * (size // FOLD) + rows // FOLD)

        # What fills up the last column has no weight.
        through, seen = place(fold(last)), place(fold(last_of_tie))
        return cls(place(fold(before, last[-1])), through, None if (last == last_of_tie).all() else seen)


@dataclass(frozen=True)
class Ranking:
    """The average precision of one label, or its mean over several ways to match."""

    # Folded as `fold` does.
    item: np.ndarray
    # Of each way that has any right prediction.
    runs: tuple[Runs, ...]
    ways: int
    # How many predictions up to the last right one, and how much ground truth, each item has, (2, I).
    by_item: np.ndarray
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
        order = np.argsort(-score)
        falling = -score[order]
        last_of_tie = np.arange(len(order))
        if (falling[1:] == falling[:-1]).any():
            # Right ones first among equal scores, so that they are one run.
            order = np.lexsort((~rights[0], -score))
            last_of_tie = np.searchsorted(falling, falling, side="right") - 1
        found = [_runs(right[order], last_of_tie, interpolated) for right in rights]
        found = [ends for ends in found if len(ends[0])]
        length = max((int(seen[-1]) + 1 for *_, seen in found), default=0)
        folded = fold(item[order[:length]])
        runs = tuple(Runs.build(*ends, folded.size) for ends in found)
        parts = [item[order[:length]], truth_item]
        items = max((int(part.max()) + 1 for part in parts if len(part)), default=0)
        by_item = np.stack([np.bincount(part, minlength=items) for part in parts]).astype(np.int32)
        return cls(folded, runs, len(rights), by_item, interpolated, recalls)

    @property
    def rows(self) -> int:
        """The predictions of the label, or its items."""
        return max(self.item.size, self.by_item.shape[1], 1)

    def values(self, counts: np.ndarray) -> np.ndarray:
        """Compute the area for each resample; only the ends of runs of right predictions add to it."""
        draws, area = counts.shape[1], np.zeros(counts.shape[1])
        counts = counts[: self.by_item.shape[1]]
        # Without threads, which cost more processor time here than they save.
        most, total = np.einsum("ki,ib->kb", self.by_item, counts)
        # What fills up the last column may wrap around: it is never read. Half as many bytes take half the time.
        small = np.uint16 if most.max(initial=0) < 1 << 16 and counts.max(initial=0) < 1 << 16 else np.int32
        sums = np.empty((self.item.size + 1, draws), dtype=small)
        sums[-1] = 0  # before the first row
        weights = sums[:-1].reshape(*self.item.shape, draws)
        running(np.add, counts.astype(small).take(self.item, axis=0, out=weights, mode="clip"))
        # Memory that is used again for each way: the system takes longer to hand out new memory than this takes.
        room = max((run.through.size for run in self.runs), default=0) * draws
        whole, shares = np.empty((3, room), dtype=small), np.empty(room)
        for run in self.runs:
            shape = (*run.through.shape, draws)
            size = run.through.size * draws
            seen, gain, found = (part[:size].reshape(shape) for part in whole)
            precision = shares[:size].reshape(shape)
            sums.take(run.through, axis=0, out=seen, mode="clip")
            sums.take(run.before, axis=0, out=gain, mode="clip")
            np.subtract(seen, gain, out=gain)
            np.copyto(found, gain)
            running(np.add, found)
            if run.seen is not None:
                sums.take(run.seen, axis=0, out=seen, mode="clip")
            # Before the first item that counts nothing is seen, and nothing found either: in the first columns alone.
            first = seen[:, : np.count_nonzero((seen[0] == 0).any(axis=1))]
            np.maximum(first, 1, out=first)
            np.divide(found, seen, out=precision, dtype=np.float64)
            if self.interpolated:
                running(np.maximum, precision[::-1, ::-1])
            if self.recalls is None:
                area += np.einsum("pkb,pkb->b", gain, precision)
            else:
                area += _at_recalls(self.recalls, unfold(found), unfold(precision), total)
        points = total if self.recalls is None else np.where(total, len(self.recalls), 0)
        return ratio(area, self.ways * points)


def _runs(
    right: np.ndarray, last_of_tie: np.ndarray, interpolated: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row before each run of right predictions, its last one, and the last one of equal score."""
    joined = right[1:] & right[:-1]
    same_score = last_of_tie[1:] == last_of_tie[:-1]
    if not interpolated:
        joined &= same_score
    elif same_score.any():
        # A tie with a wrong prediction in it has a lower precision than the run before it may have.
        wrong = np.append(0, np.cumsum(~right))
        first_of_tie = np.searchsorted(last_of_tie, last_of_tie)
        pure = wrong[last_of_tie + 1] == wrong[first_of_tie]
        joined &= same_score | pure[1:]
    first = np.flatnonzero(right & ~np.append(False, joined))
    last = np.flatnonzero(right & ~np.append(joined, False))
    return first - 1, last, last_of_tie[last]


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


def fold(values: np.ndarray, end: int | None = None) -> np.ndarray:
    """Return rows in columns of `FOLD`, (FOLD, columns, ...); the last row, or another end, fills up the last one."""
    columns = -(-len(values) // FOLD)
    filled = np.empty((columns * FOLD, *values.shape[1:]), dtype=values.dtype)
    filled[: len(values)] = values
    if columns:
        filled[len(values) :] = values[-1] if end is None else end
    return np.ascontiguousarray(filled.reshape(columns, FOLD, *values.shape[1:]).swapaxes(0, 1))


def unfold(values: np.ndarray) -> np.ndarray:
    """Return folded rows in their order, with those that filled up the last column."""
    return values.swapaxes(0, 1).reshape(-1, *values.shape[2:])


def running(combine: np.ufunc, values: np.ndarray) -> np.ndarray:
    """Replace each folded row by the combination of all rows up to it, as ``combine.accumulate`` of unfolded ones.

    It works in place on (FOLD, columns, B), for `numpy.add` of integers and `numpy.maximum`. NumPy's own goes down one
    resample after the other. Here whole rows of many columns are combined at once, which is several times faster and as
    exact for counts and maxima.
    """
    if values.shape[2] == 1:
        values[:] = combine.accumulate(unfold(values)).reshape(-1, len(values), 1).swapaxes(0, 1)
        return values
    for place in range(1, len(values)):
        combine(values[place], values[place - 1], out=values[place])
    ends = values[-1]
    if len(ends) > FOLD:
        ends[:] = unfold(running(combine, fold(ends)))[: len(ends)]
    else:
        for column in range(1, len(ends)):
            combine(ends[column], ends[column - 1], out=ends[column])
    combine(values[:-1, 1:], ends[:-1], out=values[:-1, 1:])
    return values


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of the numbers that are not NaN; NaN if all are."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
