"""The baseline: random. Its numbers depend on a record's id, not on the order of the records or on the worker."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from alhelpers.mining._pool import Pool
from alhelpers.mining._strategy import Part, Prepared, Strategy
from alhelpers.records import id_hashes

_STEP, _FIRST, _SECOND = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_WORD = 0xFFFFFFFFFFFFFFFF


def random(part: Part, context: int) -> np.ndarray:
    """Select records at random: the baseline that every strategy must beat.

    Needs nothing but ids. The score is a random number from 0 to 1: a hash of the seed and the id, so that a record
    has the same one in every pool. Use it beside every other strategy, with the same training, seeds and test
    set, and to choose the records of a fair test set. It never fails, and never helps.
    """
    return uniform(part.ids, context)


def _prepare(pool: Pool, reference: Part | None, seed: int) -> Prepared:
    return Prepared(seed)


def uniform(ids: pa.Array, seed: int, draw: int = 0) -> np.ndarray:
    """Draw a number for each id uniformly from the open interval (0, 1); (N,) float64.

    The mixing is that of Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    key = np.uint64(0)
    words = [seed >> shift & _WORD for shift in range(0, max(1, seed.bit_length()), 64)]
    for word in (*words, draw):
        key = _mix(np.atleast_1d(key ^ np.uint64(word)))[0]
    bits = _mix(id_hashes(ids) ^ key)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def gumbel(ids: pa.Array, seed: int, draw: int = 0) -> np.ndarray:
    """Draw standard Gumbel noise for each id, (N,) float64: log weight + noise is largest in proportion to weight."""
    return -np.log(-np.log(uniform(ids, seed, draw)))


def _mix(bits: np.ndarray) -> np.ndarray:
    """Mix 64 bits so that each of them depends on all."""
    bits = bits + _STEP
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))


STRATEGIES = (Strategy(random, lambda options: (), prepare=_prepare),)
