"""Simulated annotators: noisy, costly, and each asked once a record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.mining import MISSING


class Annotators:
    """Annotators whose labels are wrong now and then; a stand-in for people, to try a loop before it costs anything.

    Parameters
    ----------
    labels : array_like of shape (N,), int
        The true class index of each record.
    count : int
        How many annotators there are (A).
    classes : int, optional
        The number of classes (C); the default is the largest label plus 1.
    noise : float, or array_like of shape (A,), (C, C) or (A, C, C)
        The probability of a wrong label, the wrong classes being equally likely: of all annotators, or of each. Or a
        row a true class with the probability of each answer, for noise that depends on the class.
    cost : float or sequence of length A
        Of an answer of each.
    seed : int
        Of the wrong labels and of who is asked. An annotator asked later answers what they would have answered sooner.

    Attributes
    ----------
    annotations : numpy.ndarray of shape (N, A), int
        The answers so far, -1 where none was asked for: what :func:`alhelpers.mining.relabel` takes.
    spent : float
        What they cost.
    """

    def __init__(
        self,
        labels: ArrayLike,
        count: int = 3,
        *,
        classes: int | None = None,
        noise: ArrayLike = 0.2,
        cost: float | Sequence[float] = 1.0,
        seed: int = 0,
    ) -> None:
        truth = np.asarray(labels)
        if truth.ndim != 1 or not len(truth) or truth.dtype.kind not in "iu" or truth.min() < 0:
            raise ValueError("labels must be class indices, one a record")
        if count < 1:
            raise ValueError(f"count is {count!r}: there must be at least one annotator")
        classes = int(truth.max()) + 1 if classes is None else classes
        if classes < 2 or truth.max() >= classes:
            raise ValueError(
                f"classes is {classes!r}: it must be at least 2 and above the largest label, {truth.max()}"
            )
        self._draw = np.random.default_rng(seed)
        answers = _probabilities(noise, count, classes)[:, truth].cumsum(2)
        drawn = self._draw.random((count, len(truth), 1)) * answers[:, :, -1:]
        self._answers = (drawn > answers).sum(2).clip(max=classes - 1).T
        self._costs = np.broadcast_to(np.asarray(cost, dtype=float), count)
        if not (np.isfinite(self._costs).all() and (self._costs >= 0).all()):
            raise ValueError(f"cost is {cost!r}: an answer must cost 0 or more")
        self.annotations = np.full((len(truth), count), MISSING)
        self.spent = 0.0

    def ask(self, rows: ArrayLike, annotator: int | None = None) -> np.ndarray:
        """Ask for the labels of some records, and keep them in ``annotations``.

        Parameters
        ----------
        rows : array_like of shape (B,), int
            The records' places, none twice.
        annotator : int, optional
            Whom; the default is, for each record, a random one who has not labelled it yet.

        Returns
        -------
        numpy.ndarray of shape (B,), int
            Class indices.

        Raises
        ------
        ValueError
            If a row comes twice or is out of range, or its annotators have all labelled it; nobody is asked then.
        """
        rows = np.asarray(rows, dtype=np.intp)
        if len(np.unique(rows)) != len(rows):
            raise ValueError("rows hold a record twice: ask once a round")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self._answers):
            raise ValueError(f"rows are {rows.min()} to {rows.max()}: there are {len(self._answers)} records")
        free = self.annotations[rows] == MISSING
        if annotator is not None:
            free = free & (np.arange(free.shape[1]) == annotator)
        if not free.any(1).all():
            row = rows[int(free.any(1).argmin())]
            raise ValueError(f"record {row} has been labelled by all who could be asked: leave it out")
        who = np.where(free, self._draw.random(free.shape), -1.0).argmax(1)
        found = self._answers[rows, who]
        self.annotations[rows, who] = found
        self.spent += float(self._costs[who].sum())
        return found


def _probabilities(noise: ArrayLike, count: int, classes: int) -> np.ndarray:
    """Return the probability of each answer to each true class, (A, C, C)."""
    given = np.asarray(noise, dtype=float)
    if not (np.isfinite(given).all() and (given >= 0).all() and (given <= 1).all()):
        raise ValueError(f"noise is {noise!r}: probabilities must be between 0 and 1")
    if given.ndim <= 1:
        if given.ndim and len(given) != count:
            raise ValueError(f"noise has {len(given)} numbers for {count} annotators: pass one each")
        each = np.broadcast_to(given, count)[:, None, None]
        same = np.eye(classes)
        return same * (1 - each) + (1 - same) * each / (classes - 1)
    if given.shape not in ((classes, classes), (count, classes, classes)):
        raise ValueError(
            f"noise has the shape {given.shape}: it must be ({classes}, {classes}), or that for each"
        )
    if (np.abs(given.sum(-1) - 1) > 1e-6).any():
        raise ValueError(
            "noise has a row that does not sum to 1: it must hold the probability of each answer"
        )
    return np.broadcast_to(given, (count, classes, classes))
