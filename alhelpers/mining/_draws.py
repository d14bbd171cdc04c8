"""Random draws that belong to an id: the same in every order of the records, in every part and on every worker."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from alhelpers.records import id_hashes

_STEP, _FIRST, _SECOND = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def uniform(ids: pa.Array, seed: int, draw: int = 0) -> np.ndarray:
    """Draw a number for each id, evenly between 0 and 1 and neither of them.

    Parameters
    ----------
    ids : pyarrow.Array of length N
        Strings or whole numbers.
    seed : int
        At least 0.
    draw : int
        Which of the draws of this seed.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        Multiples of 2^-53, less half of one.

    References
    ----------
    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (the mixing).
    """
    key = np.uint64(0)
    for word in (*_words(seed), draw):
        key = _mixed(np.atleast_1d(key ^ np.uint64(word)))[0]
    bits = _mixed(id_hashes(ids) ^ key)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def gumbel(ids: pa.Array, seed: int, draw: int = 0) -> np.ndarray:
    """Draw standard Gumbel noise for each id: the largest log weight + noise falls as often as its weight says.

    Parameters
    ----------
    ids, seed, draw
        As for :func:`uniform`.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        The noise.
    """
    return -np.log(-np.log(uniform(ids, seed, draw)))


def _words(seed: int) -> list[int]:
    """Cut a whole number of any size into words of 64 bits."""
    words = [seed & 0xFFFFFFFFFFFFFFFF]
    while seed := seed >> 64:
        words.append(seed & 0xFFFFFFFFFFFFFFFF)
    return words


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Mix 64 bits so that each of them depends on all."""
    bits = bits + _STEP
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
