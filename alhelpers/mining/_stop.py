"""When to stop: the criteria of the literature, from the predictions of several rounds on the same records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from alhelpers import scores
from alhelpers.mining._selection import MiningError, check_whole


class Criterion(NamedTuple):
    """One criterion of stopping, and what it decides.

    Parameters
    ----------
    name : str
        Of the criterion, as :func:`stop` lists them.
    value : float
        What was measured; NaN if there are too few rounds.
    threshold : float
        Where it stops.
    met : bool
        Whether it says to stop.
    rule : str
        The comparison that the value has to pass: ``>=``, ``<=`` or ``<``.
    """

    name: str
    value: float
    threshold: float
    met: bool
    rule: str

    def __str__(self) -> str:
        verdict = "stop" if self.met else "go on"
        return f"{self.name}: {self.value:.3g} (stops at {self.rule} {self.threshold:g}): {verdict}"


def stop(
    history: Sequence[np.ndarray],
    *,
    window: int = 3,
    stable: float = 0.99,
    changed: float = 0.0,
    delta_f: float = 0.05,
    overall: float = 0.05,
    largest: float = 0.5,
) -> list[Criterion]:
    """Evaluate the criteria of the literature that need no test set.

    All look at the same records in every round, which nothing is picked from: a sample of the pool, set aside. They
    recognise that a model no longer changes or no longer doubts, not that it is good: for a target value use a
    forecast (:func:`alhelpers.loop.forecast`).

    Parameters
    ----------
    history : sequence of numpy.ndarray of shape (N, C)
        The confidences of these records in each round so far, the last round last.
    window : int
        Rounds over which ``stabilising predictions`` and ``delta F`` look back.
    stable : float
        ``stabilising predictions``: the mean over the window of Cohen's kappa between the classes predicted in
        consecutive rounds is at least this [1]_.
    changed : float
        ``classification change``: the share of records whose class has changed since the round before is at most
        this [2]_.
    delta_f : float
        ``delta F``: the change of F1 that the changed predictions can make is below this throughout the window [3]_.
        Of two classes that of the second, as published; of more the mean over the classes that are predicted.
    overall : float
        ``overall uncertainty``: the mean entropy, 1 for equal confidences, is below this [2]_.
    largest : float
        ``max uncertainty``: the largest entropy is below this [4]_.

    Returns
    -------
    list of Criterion
        In the order of the options.

    Raises
    ------
    MiningError
        If there is no round, the rounds are of other records or classes, a confidence is not finite, or an option is
        out of range.

    References
    ----------
    .. [1] Bloodgood & Vijay-Shanker, "A method for stopping active learning based on stabilizing predictions and the
       need for user-adjustable stopping", CoNLL 2009.
    .. [2] Zhu, Wang & Hovy, "Multi-criteria-based strategy to stop active learning for data annotation", COLING 2008.
    .. [3] Altschuler & Bloodgood, "Stopping active learning based on predicted change of F measure for text
       classification", ICSC 2019.
    .. [4] Zhu & Hovy, "Active learning for word sense disambiguation with methods for addressing the class imbalance
       problem", EMNLP 2007.
    """
    rounds = _checked(history)
    check_whole("window", window, 1)
    for name, value in dict(
        changed=changed, delta_f=delta_f, overall=overall, largest=largest, stable=stable
    ).items():
        if not 0 <= value <= 1:
            raise MiningError(f"{name} is {value!r}: it must be between 0 and 1")
    classes = rounds[0].shape[1]
    predicted = [confidences.argmax(1) for confidences in rounds[-window - 1 :]]
    pairs = list(zip(predicted, predicted[1:], strict=False))
    full = len(pairs) == window
    kappa = float(np.mean([_kappa(*pair, classes) for pair in pairs])) if full else np.nan
    change = float((predicted[-1] != predicted[-2]).mean()) if pairs else np.nan
    delta = max(_delta_f(*pair, classes) for pair in pairs) if full else np.nan
    entropy = scores.entropy(rounds[-1])
    return [
        Criterion("stabilising predictions", kappa, stable, kappa >= stable, ">="),
        Criterion("classification change", change, changed, change <= changed, "<="),
        Criterion("delta F", delta, delta_f, delta < delta_f, "<"),
        Criterion("overall uncertainty", float(entropy.mean()), overall, bool(entropy.mean() < overall), "<"),
        Criterion("max uncertainty", float(entropy.max()), largest, bool(entropy.max() < largest), "<"),
    ]


def _checked(history: Sequence[np.ndarray]) -> list[np.ndarray]:
    rounds = [np.asarray(confidences, dtype=np.float64) for confidences in history]
    if not rounds:
        raise MiningError("history is empty: pass the confidences of each round on the same records")
    first = rounds[0].shape
    for number, confidences in enumerate(rounds):
        if confidences.ndim != 2 or not confidences.size or confidences.shape[1] < 2:
            raise MiningError(
                f"round {number} of the history has the shape {confidences.shape}: it must be (records, classes)"
            )
        if confidences.shape != first:
            raise MiningError(
                f"round {number} of the history has the shape {confidences.shape}, round 0 {first}: predict the same"
                " records in every round"
            )
        if not np.isfinite(confidences).all() or (confidences < 0).any():
            raise MiningError(f"round {number} of the history has confidences below 0 or not finite")
    return rounds


def _kappa(before: np.ndarray, after: np.ndarray, classes: int) -> float:
    """Return Cohen's kappa of two predictions (N,); 1 if all agree."""
    agreement = float((before == after).mean())
    if agreement == 1:
        return 1.0
    shares = [np.bincount(each, minlength=classes) / len(each) for each in (before, after)]
    chance = float(shares[0] @ shares[1])
    return (agreement - chance) / (1 - chance)


def _delta_f(before: np.ndarray, after: np.ndarray, classes: int) -> float:
    """Return 1 - F1 of two predictions (N,) to each other."""
    both = np.bincount(before[before == after], minlength=classes)
    total = np.bincount(before, minlength=classes) + np.bincount(after, minlength=classes)
    chosen = total > 0
    if classes == 2:
        chosen = chosen & [False, True]
    return float((1 - 2 * both[chosen] / total[chosen]).mean()) if chosen.any() else 0.0
