"""The baseline: random."""

from __future__ import annotations

import numpy as np

from alhelpers.mining._draws import uniform
from alhelpers.mining._pool import Pool
from alhelpers.mining._strategy import Part, Prepared, Strategy


def random(part: Part, context: int) -> np.ndarray:
    """Select records at random: the baseline that every strategy must beat.

    Needs nothing but ids. The score is a random number from 0 to 1: a hash of the seed and the id, so that a record
    has the same one in every pool. Use it beside every other strategy, with the same training, seeds and test
    set, and to choose the records of a fair test set. It never fails, and never helps.
    """
    return uniform(part.ids, context)


def _prepare(pool: Pool, reference: Part | None, seed: int) -> Prepared:
    return Prepared(seed)


STRATEGIES = (Strategy(random, lambda options: (), prepare=_prepare),)
