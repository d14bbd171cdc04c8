"""One model's predictions beside the ground truth, and the metrics that detectors and classifiers share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alhelpers.evaluation.calibration import CalibrationBins, check_confidences
from alhelpers.evaluation.curves import warn_of_unfounded
from alhelpers.evaluation.measures import F1, Macro, Measure, Ranking, Term
from alhelpers.evaluation.rows import check_whole, rows_by_label, rows_by_name, sort_names


@dataclass(frozen=True)
class Outcomes:
    """The labels, and the places of the test items, of the ground truth (n,) and of the predictions (m,)."""

    items: Sequence[Hashable]
    truth: list[Hashable]
    truth_item: np.ndarray
    found: list[Hashable]
    found_item: np.ndarray
    score: np.ndarray
    warnings: tuple[str, ...] = ()

    def average_precision(self, rights: Sequence[np.ndarray], method: str) -> Measure:
        """Measure the average precision; the mean of several ways to match."""

        def term(truths: np.ndarray, rows: np.ndarray) -> Term:
            matched = [right[rows] for right in rights]
            return Ranking.build(self.found_item[rows], self.score[rows], matched, self.truth_item[truths])

        return self._macro(term, method, self.found)

    def f1(self, right: np.ndarray, counts: np.ndarray, method: str) -> Measure:
        """Measure the F1 of the predictions that count."""

        def term(truths: np.ndarray, rows: np.ndarray) -> Term:
            counted = rows[counts[rows]]
            found = self.found_item[counted]
            return F1(found[right[counted]], found, self.truth_item[truths])

        return self._macro(term, method, [self.found[row] for row in np.flatnonzero(counts).tolist()])

    def calibration_error(self, right: np.ndarray, bins: int, method: str) -> Measure:
        """Measure the expected calibration error over bins of equal width."""
        check_whole(bins, "bins")
        check_confidences(self.score)
        once = np.ones((len(self.items), 1), dtype=np.int32)
        by_label = rows_by_name(self.found)

        def term(rows: np.ndarray | slice) -> CalibrationBins:
            return CalibrationBins.build(self.found_item[rows], self.score[rows], right[rows], bins)

        whole = term(slice(None))
        per_label = {label: float(term(by_label[label]).values(once)[0]) for label in sort_names(by_label)}
        value, method = float(whole.values(once)[0]), f"{method}, {bins} bins"
        return Measure(value, per_label, method, self.items, False, self.warnings, whole)

    def macro(self, terms: Macro, method: str, warnings: tuple[str, ...]) -> Measure:
        """Measure the mean over the labels."""
        value, per_label = terms.once(len(self.items))
        return Measure(value, per_label, method, self.items, True, (*self.warnings, *warnings), terms)

    def _macro(
        self, term: Callable[[np.ndarray, np.ndarray], Term], method: str, predicted: Iterable[Hashable]
    ) -> Measure:
        terms = Macro({label: term(truths, rows) for label, truths, rows in self._labels})
        return self.macro(terms, method, warn_of_unfounded(predicted, terms.labels))

    @cached_property
    def _labels(self) -> list[tuple[Hashable, np.ndarray, np.ndarray]]:
        return rows_by_label(self.truth, self.found)
