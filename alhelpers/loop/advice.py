"""What to do after a round of active learning: label, ask again, or stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from alhelpers import mining, records
from alhelpers.loop.forecasts import LEAST_ROUNDS, Forecast, forecast
from alhelpers.mining._consensus import is_missing

# A target is out of reach below this probability: to give up too soon costs more than one round too many.
_UNLIKELY = 0.05


@dataclass(frozen=True)
class Advice:
    """What to do next; printed, it is a sentence or two.

    Attributes
    ----------
    stop : bool
        Whether to stop; then there is nothing to label.
    reason : str
        Why.
    label : list
        Ids of new records to label, best first.
    relabel : list
        Ids of labelled records to ask again, best first.
    cost : float
        Of both.
    forecast : Forecast or None
        Of the learning curve; None before the fourth round.
    criteria : list of Criterion
        The criteria of the literature, if there is a history.
    """

    stop: bool
    reason: str
    label: list[Any] = field(default_factory=list)
    relabel: list[Any] = field(default_factory=list)
    cost: float = 0.0
    forecast: Forecast | None = None
    criteria: list[mining.Criterion] = field(default_factory=list)

    def __str__(self) -> str:
        if self.stop:
            return f"Stop: {self.reason}."
        parts = [f"label {len(self.label)} new records"] if self.label else []
        parts += [f"ask again about {len(self.relabel)}"] if self.relabel else []
        what = " and ".join(parts)
        return f"{what[0].upper()}{what[1:]}, cost {self.cost:g}: {self.reason}."


def advise(
    reference: records.Records,
    pool: records.Records | None,
    budget: float = 20,
    *,
    curve: Sequence[tuple[int, float]] = (),
    target: float | None = None,
    annotations: ArrayLike | None = None,
    history: Sequence[np.ndarray] = (),
    strategy: str | None = None,
    noise: float = 0.2,
    label_cost: float = 1.0,
    relabel_cost: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> Advice:
    """Decide after a round what to do next: label new records, ask again about labelled ones, or stop.

    It stops when the forecast says that the target is more likely reached than not (the curve, not one lucky round), or
    that not even the whole pool, and with annotators all answers that are left, would reach it; without a target, when
    predictions have stabilised; and when nothing is left to ask. Otherwise new and labelled records compete for the
    budget (:func:`alhelpers.mining.relabel`).

    Parameters
    ----------
    reference : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The labelled records: ``confidences``, **out of sample** (of a cross-validation), and without annotations
        ``class_names`` and ``groundtruth``.
    pool : list of dict, pyarrow.Table, str, pathlib.Path or Query, or None
        The unlabelled records with ``confidences`` and the fields of the strategy; None if none is left.
    budget : float
        Of the next round, in the unit of the costs.
    curve : sequence of (int, float)
        The number of labels and the value of each round so far, measured on data that nothing was picked from.
    target : float, optional
        The value to reach.
    annotations : array_like of shape (N, A), int, optional
        What each annotator chose, in the order of the reference, -1 where missing.
    history : sequence of numpy.ndarray of shape (N, C), optional
        The confidences of each round on the same records, for the criteria of :func:`alhelpers.mining.stop`.
    strategy : str, optional
        Picks the new records, as many as the competition yields; the default are those that won it.
    noise : float
        The expected share of wrong labels, before annotations show it. With 0 nothing is asked again.
    label_cost, relabel_cost : float
        Of a new label, and of asking again.
    seed : int
        Of the forecast and the strategy.
    **options
        The strategy's own.

    Returns
    -------
    Advice

    Raises
    ------
    ValueError
        If a number is out of range, or the curve, the annotations or the history do not fit: MiningError, RecordError
        and the errors of :func:`forecast` are ValueErrors.
    """
    _check(budget, noise, label_cost, relabel_cost)
    expected = _forecast(curve, target, seed)
    criteria = mining.stop(history) if len(history) else []
    left = 0 if pool is None else records.count(pool)
    reason = _why_stop(expected, criteria, target, left + _left_again(annotations, left, noise))
    if reason:
        return Advice(True, reason, forecast=expected, criteria=criteria)
    new, again = _ranked(reference, pool, annotations, noise, relabel_cost / label_cost, budget / label_cost)
    if not new and not again:
        what = "nothing is left to ask" if not left else f"a budget of {budget:g} buys nothing"
        return Advice(True, what, forecast=expected, criteria=criteria)
    if strategy is not None and new:
        found = mining.mine(pool, strategy, len(new), reference=reference, seed=seed, **options)
        new = list(found.ids)
    cost = len(new) * label_cost + len(again) * relabel_cost
    return Advice(False, _why_go_on(expected, target, new, again), new, again, cost, expected, criteria)


def _forecast(curve: Sequence[tuple[int, float]], target: float | None, seed: int) -> Forecast | None:
    if len(curve) < LEAST_ROUNDS:
        return None
    labels, values = zip(*curve, strict=True)
    return forecast(labels, values, target, seed=seed)


def _why_stop(
    expected: Forecast | None, criteria: Sequence[mining.Criterion], target: float | None, left: int
) -> str:
    """Return the reason to stop, or nothing."""
    if expected is not None and target is not None:
        if expected.reached >= 0.5:
            return str(expected)
        end = min(expected.labels_now + left, expected.horizon)
        chance = expected.probability(end)
        if chance < _UNLIKELY and end == expected.labels_now + left:
            return f"{target:g} is out of reach: all {left} that are left to ask would get there with {chance:.0%}"
    if target is None and criteria and criteria[0].met:
        return f"predictions have stabilised (mean kappa {criteria[0].value:.3f})"
    return ""


def _left_again(annotations: ArrayLike | None, new: int, noise: float) -> int:
    """Return how many answers the annotators can give beside one for each new record."""
    votes = np.asarray(() if annotations is None else annotations)
    if votes.ndim != 2 or noise == 0:
        return 0
    return int(is_missing(votes).sum()) + new * (votes.shape[1] - 1)


def _why_go_on(expected: Forecast | None, target: float | None, new: Sequence, again: Sequence) -> str:
    if expected is None:
        future = "too few rounds for a forecast" if target is not None else "the model is least sure of these"
    else:
        future = str(expected)
    if again and new:
        return f"{future}; some labels are doubted more than new records"
    return f"{future}; labels are doubted more than any new record" if again else future


def _ranked(
    reference: records.Records,
    pool: records.Records | None,
    annotations: ArrayLike | None,
    noise: float,
    cost: float,
    budget: float,
) -> tuple[list[Any], list[Any]]:
    """Return the ids of new records and of those to ask again that the budget buys, in labels."""
    labelled = records.count(reference)
    if annotations is not None:
        votes = np.asarray(annotations)
        labelled = int(is_missing(votes).any(1).sum()) if votes.ndim == 2 else labelled
    left = 0 if pool is None else records.count(pool)
    size = min(labelled + left, int(budget / min(cost, 1.0) + 1e-9))
    if noise == 0:
        size = min(left, int(budget + 1e-9))
        found = mining.mine(pool, "margin", size).ids if size else []
        return list(found), []
    if not size:
        return [], []
    found = mining.relabel(
        reference,
        size,
        pool=pool if left else None,
        annotations=annotations,
        score="consensus",
        accuracy=1 - noise,
        cost=cost,
    )
    known = set(records.as_table(reference, (), "the labelled records")["id"].to_pylist())
    new, again, spent = [], [], 0.0
    for id in found.ids:
        price = cost if id in known else 1.0
        if spent + price <= budget + 1e-9:
            (again if id in known else new).append(id)
            spent += price
    return new, again


def _check(budget: float, noise: float, label_cost: float, relabel_cost: float) -> None:
    for name, value in (("budget", budget), ("label_cost", label_cost), ("relabel_cost", relabel_cost)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value!r}: it must be above 0")
    if not 0 <= noise < 1:
        raise ValueError(f"noise is {noise!r}: it must be 0 or more, and below 1")
