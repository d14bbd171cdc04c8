"""Scores from running sums over the passes, so that the samples need not be kept."""

from __future__ import annotations

from collections.abc import Sequence

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


class RunningScores:
    """Sums over the passes of n records, in float64: the variance is a small difference of two of them."""

    def __init__(self, names: Sequence[str], shape: tuple[int, int]) -> None:
        self.names, self.passes = set(names), 0
        self.total, self.squares = np.zeros(shape), np.zeros(shape)
        self.votes, self.entropies = np.zeros(shape, np.float32), np.zeros(shape[0])

    def add(self, confidences: np.ndarray) -> None:
        """Add one pass, (n, C) float32."""
        self.passes += 1
        self.total += confidences
        if "variance" in self.names:
            self.squares += np.square(confidences, dtype=np.float64)
        if "bald" in self.names:
            self.entropies += scores.entropy(confidences)
        if self.names & {"variation_ratio", "vote_entropy"}:
            self.votes[np.arange(len(confidences)), confidences.argmax(axis=1)] += 1

    def mean(self) -> np.ndarray:
        """Return the mean confidences of the passes, (n, C) float32."""
        return (self.total / self.passes).astype(np.float32)

    def score(self, name: str) -> np.ndarray:
        """Return a score of the records, (n,) float32."""
        match name:
            case "predictive_entropy":
                return scores.entropy(self.mean())
            case "mean_margin":
                return scores.margin(self.mean())
            case "bald":
                expected = (self.entropies / self.passes).astype(np.float32)
                return np.maximum(scores.entropy(self.mean()) - expected, 0)
            case "variance":
                spread = self.squares / self.passes - np.square(self.total / self.passes)
                return np.maximum(spread.mean(axis=1), 0).astype(np.float32)
            case "variation_ratio":
                return scores.least_confidence(self.votes / np.float32(self.passes))
            case _:
                return scores.entropy(self.votes / np.float32(self.passes))
