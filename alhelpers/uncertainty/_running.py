"""Scores from running sums over the passes, so that the samples need not be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from alhelpers import scores

#: The scores of :mod:`alhelpers.scores` that follow from sums over the passes.
RUNNING_SCORES = (
    "predictive_entropy",
    "mean_margin",
    "bald",
    "variance",
    "variation_ratio",
    "vote_entropy",
)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names as a tuple, or raise if one is not a score's."""
    listed = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in listed if name not in RUNNING_SCORES]
    if unknown or not listed:
        wrong = f"got {unknown[0]!r}" if unknown else "got none"
        raise ValueError(f"scores must be names out of {', '.join(RUNNING_SCORES)}; {wrong}")
    return listed


@dataclass
class RunningScores:
    """Sums over the passes of a batch of records.

    The sums are float64: they are small, and the variance is a difference of two of them.
    """

    names: Sequence[str]
    passes: int = 0
    total: np.ndarray | None = None
    squares: np.ndarray | None = None
    entropies: np.ndarray | None = None
    votes: np.ndarray | None = None
    _wants: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._wants = set(self.names)

    def add(self, confidences: np.ndarray) -> None:
        """Add one pass, (n, C) float32."""
        if self.total is None:
            self.total = np.zeros(confidences.shape)
            self.squares, self.votes = np.zeros(confidences.shape), np.zeros(confidences.shape, np.float32)
            self.entropies = np.zeros(len(confidences))
        self.passes += 1
        self.total += confidences
        if "variance" in self._wants:
            self.squares += np.square(confidences, dtype=np.float64)
        if "bald" in self._wants:
            self.entropies += scores.entropy(confidences)
        if self._wants & {"variation_ratio", "vote_entropy"}:
            self.votes[np.arange(len(confidences)), confidences.argmax(axis=1)] += 1

    def mean(self) -> np.ndarray:
        """Return the mean confidences of the passes, (n, C) float32."""
        return (self.total / self.passes).astype(np.float32)

    def scores(self) -> dict[str, np.ndarray]:
        """Return the scores of the records, each (n,) float32."""
        return {name: getattr(self, f"_{name}")() for name in self.names}

    def _predictive_entropy(self) -> np.ndarray:
        return scores.entropy(self.mean())

    def _mean_margin(self) -> np.ndarray:
        return scores.margin(self.mean())

    def _bald(self) -> np.ndarray:
        expected = (self.entropies / self.passes).astype(np.float32)
        return np.maximum(scores.entropy(self.mean()) - expected, 0)

    def _variance(self) -> np.ndarray:
        spread = self.squares / self.passes - np.square(self.total / self.passes)
        return np.maximum(spread.mean(axis=1), 0).astype(np.float32)

    def _variation_ratio(self) -> np.ndarray:
        return scores.least_confidence(self.votes / np.float32(self.passes))

    def _vote_entropy(self) -> np.ndarray:
        return scores.entropy(self.votes / np.float32(self.passes))
