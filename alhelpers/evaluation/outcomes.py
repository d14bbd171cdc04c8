"""One model's predictions beside the ground truth, and the metrics that detectors and classifiers share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from alhelpers.evaluation.calibration import CalibrationBins, check_confidences
from alhelpers.evaluation.curves import warn_of_unfounded
from alhelpers.evaluation.measures import F1, Macro, Mean, Measure, Ranking, Term
from alhelpers.evaluation.rows import Names, check_whole, rows_by_label, rows_by_name, sort_names


class Matched(NamedTuple):
    """Which predictions are right, and which of them count at all, (m,) bool each."""

    right: np.ndarray
    counted: np.ndarray

    @classmethod
    def every(cls, right: np.ndarray) -> Matched:
        """Count every prediction."""
        return cls(right, np.ones(len(right), dtype=bool))

    def take(self, rows: np.ndarray) -> Matched:
        """Return those of some predictions."""
        return Matched(self.right[rows], self.counted[rows])


@dataclass(frozen=True)
class Outcomes:
    """The labels, and the places of the test items, of the ground truth (n,) and of the predictions (m,)."""

    items: Sequence[Hashable]
    truth: Names
    truth_item: np.ndarray
    found: Names
    found_item: np.ndarray
    score: np.ndarray
    warnings: tuple[str, ...] = ()

    def average_precision(self, ways: Sequence[Matched], method: str, points: int | None = None) -> Measure:
        """Measure the average precision; the mean of several ways to match."""
        recalls = None if points is None else np.linspace(0, 1, points)

        def ranking(rows: np.ndarray, rights: list[np.ndarray], truths: np.ndarray) -> Ranking:
            items, score = self.found_item[rows], self.score[rows]
            return Ranking.build(items, score, rights, self.truth_item[truths], recalls=recalls)

        def term(truths: np.ndarray, rows: np.ndarray) -> Term:
            own = [way.take(rows) for way in ways]
            if all(way.counted.all() for way in own):
                return ranking(rows, [way.right for way in own], truths)
            # Ways that count other predictions rank others, too.
            return Mean([ranking(rows[way.counted], [way.right[way.counted]], truths) for way in own])

        return self._macro(term, method, np.any([way.counted for way in ways], axis=0))

    def f1(self, way: Matched, method: str) -> Measure:
        """Measure the F1 of the predictions that count."""

        def term(truths: np.ndarray, rows: np.ndarray) -> Term:
            counted = rows[way.counted[rows]]
            found = self.found_item[counted]
            return F1(found[way.right[counted]], found, self.truth_item[truths])

        return self._macro(term, method, way.counted)

    def calibration_error(self, way: Matched, bins: int, method: str) -> Measure:
        """Measure the expected calibration error over bins of equal width."""
        check_whole(bins, "bins")
        counted = np.flatnonzero(way.counted)
        check_confidences(self.score[counted])
        once = np.ones((len(self.items), 1), dtype=np.int32)
        by_label = rows_by_name(self.found.take(counted))

        def term(rows: np.ndarray) -> CalibrationBins:
            return CalibrationBins.build(self.found_item[rows], self.score[rows], way.right[rows], bins)

        whole = term(counted)
        per_label = {
            label: float(term(counted[by_label[label]]).values(once)[0]) for label in sort_names(by_label)
        }
        value, method = float(whole.values(once)[0]), f"{method}, {bins} bins"
        return Measure(value, per_label, method, self.items, False, self.warnings, whole)

    def macro(self, terms: Macro, method: str, warnings: tuple[str, ...]) -> Measure:
        """Measure the mean over the labels."""
        value, per_label = terms.once(len(self.items))
        return Measure(value, per_label, method, self.items, True, (*self.warnings, *warnings), terms)

    def _macro(
        self, term: Callable[[np.ndarray, np.ndarray], Term], method: str, counted: np.ndarray
    ) -> Measure:
        terms = Macro({label: term(truths, rows) for label, truths, rows in self._labels})
        predicted = self.found.take(counted).present()
        return self.macro(terms, method, warn_of_unfounded(predicted, terms.labels))

    @cached_property
    def _labels(self) -> list[tuple[Hashable, np.ndarray, np.ndarray]]:
        return rows_by_label(self.truth, self.found)
