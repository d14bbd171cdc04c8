"""Whether a new model is better, and the interval of the difference."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from alhelpers.evaluation.measures import Macro, Measure, Term, mean_of_known
from alhelpers.evaluation.rows import EvaluationError, check_whole, finite

# Numbers of a batch of resamples that are held at once: bounds their memory to some 50 MB.
NUMBERS_AT_ONCE = 1 << 20


def is_better(
    new: float | Measure, old: float | Measure, min_delta: float = 0.0, higher_is_better: bool | None = None
) -> bool:
    """Decide whether a new model replaces the old one: whether it is better by more than ``min_delta``.

    Parameters
    ----------
    new, old : float or Measure
        The models' results on the same test set: two numbers, or the same metric of both models.
    min_delta : float
        The new model must be better by more than this, 0 or more.
    higher_is_better : bool, optional
        False for numbers of which the lower one is better, such as a loss or a calibration error; by default
        the higher one is. A Measure knows it by itself.

    Returns
    -------
    bool
        True if the new model wins; a tie keeps the old one.

    Raises
    ------
    EvaluationError
        If a number is not finite, ``min_delta`` is negative, or two Measures are of other metrics or items.
    """
    if isinstance(new, Measure) and isinstance(old, Measure):
        _check_pair(old, new)
        if higher_is_better not in (None, new.higher_is_better):
            better = "higher" if new.higher_is_better else "lower"
            raise EvaluationError(f"of {new.method} the {better} one is better: leave out higher_is_better")
        new, old, higher_is_better = new.value, old.value, new.higher_is_better
    numbers = []
    for name, value in (("new", new), ("old", old), ("min_delta", min_delta)):
        if not hasattr(value, "__float__"):
            raise EvaluationError(
                f"cannot compare: {name} is of type {type(value).__name__}; pass two numbers, such as the macro of "
                "two Evaluations, or two Measures"
            )
        numbers.append(finite(value, f"cannot compare: {name}"))
    if min_delta < 0:
        raise EvaluationError(f"min_delta must be 0 or more, got {min_delta!r}")
    better, worse = numbers[:2] if higher_is_better in (None, True) else numbers[1::-1]
    # 0.8 is 0.1 above 0.7 and no more, whatever the floats say.
    return better - worse > min_delta and not math.isclose(better, worse + min_delta, rel_tol=1e-12)


@dataclass(frozen=True)
class PairedBootstrap:
    """How the difference of two models varies when the test items are drawn again.

    Parameters
    ----------
    difference : float
        New minus previous on the test items as they are.
    differences : numpy.ndarray of shape (S,), float64
        The same on each resample that has a value for both models.
    low, high : float
        The percentile interval of the differences.
    level : float
        The share of the differences inside it.
    per_label : dict
        The same interval, (low, high), of each label's own difference, where the metric is a mean over labels; of
        the resamples that have ground truth of the label.
    """

    difference: float
    differences: np.ndarray
    low: float
    high: float
    level: float
    per_label: dict[Hashable, tuple[float, float]] = field(default_factory=dict)


def paired_bootstrap(
    previous: Measure, new: Measure, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> PairedBootstrap:
    """Compute the interval of the difference of two models by drawing the test items again, the same for both.

    Nothing is evaluated again: a resample only weighs the items of results that are matched and sorted
    already. A label without ground truth in a resample drops out of both macro means of that resample.

    Parameters
    ----------
    previous, new : Measure
        The same metric of both models on the same items.
    samples : int
        How many resamples, 1 or more.
    level : float
        The share of the differences inside the interval, above 0 and below 1.
    seed : int
        The seed of the resamples.

    Returns
    -------
    PairedBootstrap
        The interval and all differences.

    Raises
    ------
    EvaluationError
        If the metrics or the items differ, a number is out of range, or no resample has a value.

    Notes
    -----
    The calibration error of few items is larger than that of many, most of all for a well calibrated model. So
    the interval of its difference lies too near to zero, and covers less often than its level says, when one model
    is much better calibrated than the other: a gain is missed rather than invented.

    References
    ----------
    Efron & Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
    """
    _check_pair(previous, new)
    check_whole(samples, "samples")
    if not 0 < level < 1:
        raise EvaluationError(f"level must be above 0 and below 1, got {level!r}")
    rows = max(previous.term.rows, new.term.rows, len(new.items))
    at_once = max(1, NUMBERS_AT_ONCE // rows)
    drawn = resamples(len(new.items), samples, seed, at_once)
    found = np.concatenate([_differences(previous.term, new.term, counts) for counts in drawn], axis=1)
    differences = found[0, ~np.isnan(found[0])]
    if not len(differences):
        raise EvaluationError("no resample has ground truth and predictions: there are too few test items")
    labels = new.term.labels if isinstance(new.term, Macro) else ()
    per_label = {label: _interval(values, level) for label, values in zip(labels, found[1:], strict=True)}
    return PairedBootstrap(
        new.value - previous.value, differences, *_interval(differences, level), level, per_label
    )


def _differences(previous: Term, new: Term, counts: np.ndarray) -> np.ndarray:
    """Return the difference for each resample and, below it, that of each label of a mean over labels."""
    if not (isinstance(previous, Macro) and isinstance(new, Macro)):
        return (new.values(counts) - previous.values(counts))[None]
    old, young = previous.each(counts), new.each(counts)
    return np.concatenate([(mean_of_known(young) - mean_of_known(old))[None], young - old])


def _interval(differences: np.ndarray, level: float) -> tuple[float, float]:
    """Return the percentile interval of the differences that are known."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resamples(items: int, samples: int, seed: int = 0, at_once: int = 1000) -> Iterator[np.ndarray]:
    """Draw resamples of the test items: as many items as there are, with replacement.

    Parameters
    ----------
    items : int
        How many there are.
    samples : int
        How many resamples.
    seed : int
        The same seed yields the same resamples, whatever `at_once` is.
    at_once : int
        How many resamples an array holds.

    Yields
    ------
    numpy.ndarray of shape (items, at_once or fewer), int32
        How often each item was drawn, a column a resample.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, samples, at_once):
        batch = min(at_once, samples - start)
        drawn = rng.integers(items, size=(batch, items)) + np.arange(batch)[:, None] * items
        counts = np.bincount(drawn.ravel(), minlength=batch * items).reshape(batch, items)
        yield np.ascontiguousarray(counts.T, dtype=np.int32)


def _check_pair(previous: Measure, new: Measure) -> None:
    """Raise unless both are the same metric on the same items."""
    for name, value in (("previous", previous), ("new", new)):
        if not isinstance(value, Measure):
            raise EvaluationError(
                f"{name} must be a Measure, as the methods of Detections and Classifications return it, got "
                f"{type(value).__name__}"
            )
    if previous.method != new.method:
        raise EvaluationError(f"two metrics cannot be compared: {previous.method!r} and {new.method!r}")
    for first, second in zip_longest(previous.items, new.items):
        if first != second:
            raise EvaluationError(
                f"the models were measured on other items: {len(previous.items)} and {len(new.items)}, the first that "
                f"differ are {first!r} and {second!r}; pass both the same items in the same order"
            )
