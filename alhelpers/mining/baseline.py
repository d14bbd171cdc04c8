"""The baseline: random."""

from __future__ import annotations

import numpy as np

from alhelpers.mining._draws import uniform
from alhelpers.mining._pool import Pool
from alhelpers.mining._strategy import Part, Prepared, Strategy


def random(part: Part, context: int) -> np.ndarray:
    """Mine at random: the baseline that every strategy must beat.

    Needs nothing but ids. The score is the random number that a record drew, from 0 to 1: a hash of the seed and
    its id, so that it draws the same in every pool. Use it beside every other strategy, under the same recipe,
    seeds and test set, and for labels that a fair test set is made of. It never fails, and never helps.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        The numbers drawn.
    """
    return uniform(part.ids, context)


def _prepare(pool: Pool, reference: Part | None, seed: int) -> Prepared:
    return Prepared(seed)


STRATEGIES = (Strategy("random", random, lambda options: (), prepare=_prepare),)
