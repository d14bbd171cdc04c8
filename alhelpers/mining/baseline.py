"""The baseline: random."""

from __future__ import annotations

import numpy as np

from alhelpers.mining._selection import best_places
from alhelpers.mining._strategy import Part, Picked, Strategy


def random(pool: Part, reference: Part | None, size: int, rng: np.random.Generator) -> Picked:
    """Mine at random: the baseline that every strategy must beat.

    Needs nothing but ids. The score is the random number that a record drew, from 0 to 1. Use it beside
    every other strategy, under the same recipe, seeds and test set, and for labels that a fair test set is
    made of. It never fails, and never helps.
    """
    drawn = rng.random(len(pool), dtype=np.float32)
    places = best_places(drawn, pool.table["id"].combine_chunks(), size)
    return Picked(places, drawn[places])


STRATEGIES = (Strategy("random", random, lambda options: (), picks=True),)
