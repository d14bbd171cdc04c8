"""The vectors farthest from growing centres, without comparing every vector with every centre.

Distances to the nearest centre only shrink, so that a distance to the first centres is an upper bound. Only vectors
whose bound is among the largest are compared with the centres that came later.
"""

from __future__ import annotations

import numpy as np

from alhelpers.mining._neighbours import squared_distances, squared_to_nearest
from alhelpers.mining._pool import nth_largest
from alhelpers.mining._regions import rounding

# Up to so many centres, differences are faster than products, most of whose time does not depend on the centres.
_FEW = 4

# Vectors and centres that are compared at once.
_ROWS, _CENTRES = 4096, 64

# Numbers of the vectors among which picks are made, which stay in the processor's cache.
_ACTIVE = 1 << 18


def distances_to(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the squared distance of each vector to the nearest of any number of centres, (N,) float32."""
    if len(centres) > _FEW:
        return squared_to_nearest(vectors, centres)
    return np.min([squared_distances(vectors, centre) for centre in centres], axis=0)


def refresh(
    vectors: np.ndarray,
    centres: np.ndarray,
    squared: np.ndarray,
    seen: np.ndarray,
    rows: np.ndarray,
    least: float = 0,
) -> None:
    """Compare some vectors with the centres that they have missed, in place, until they are nearer than `least`.

    `squared` are squared distances to the nearest of the first `seen` centres, both (N,).
    """
    while len(rows := rows[(seen[rows] < len(centres)) & (squared[rows] >= least)]):
        begin = seen[rows] // _CENTRES
        for each in np.unique(begin).tolist():
            group = rows[begin == each]
            first, stop = int(seen[group].min()), min((each + 1) * _CENTRES, len(centres))
            for start in range(0, len(group), _ROWS):
                block = group[start : start + _ROWS]
                squared[block] = _to_nearest(vectors[block], centres[first:stop], squared[block])
            seen[group] = stop


def _to_nearest(vectors: np.ndarray, centres: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Return the squared distance of each vector to the nearest centre, (n,) float32, at most `squared`."""
    if len(centres) <= _FEW:
        return np.minimum(squared, distances_to(vectors, centres))
    # centred, to keep the rounding errors of products small
    middle = centres.mean(axis=0)
    moved, others = vectors - middle, centres - middle
    lengths, away = np.einsum("ij,ij->i", moved, moved), np.einsum("ij,ij->i", others, others)
    error = rounding(vectors.shape[1]) * (lengths + away.max())
    products = moved @ (-2 * others).T
    products += away
    bound = np.minimum(products.min(axis=1) + 2 * error, squared - lengths + error)
    row, centre = np.nonzero(products <= bound[:, None])
    result = squared.copy()
    np.minimum.at(result, row, squared_distances(vectors[row], centres[centre]))
    return result


class Farthest:
    """Vectors and their squared distances to the nearest centre, of which the largest is asked for.

    Only some vectors are active, among which the farthest is looked for: no other one is farther than `bound`.
    """

    def __init__(self, vectors: np.ndarray, squared: np.ndarray) -> None:
        self.vectors, self.squared = vectors, squared.copy()
        self.seen = np.zeros(len(vectors), dtype=np.int32)
        self.centres = np.empty((64, vectors.shape[1]), dtype=np.float32)
        self.count = 0
        self.most = self.wanted = max(1, _ACTIVE // max(1, vectors.shape[1]))
        self._activate(np.empty(0, dtype=np.intp), np.inf)

    def best(self) -> tuple[int, float]:
        """Return the place of the farthest vector, the first of several, and its squared distance."""
        while True:
            if len(self.active):
                best = int(self.values.argmax())
                if self.values[best] > self.bound:
                    self.wanted = self.most
                    return int(self.active[best]), float(self.values[best])
            if self.bound == -np.inf or not len(self.squared):
                return -1, -np.inf
            self._store()
            least = nth_largest(self.squared, self.wanted)
            late = np.flatnonzero(self.squared >= least)
            refresh(self.vectors, self.centres[: self.count], self.squared, self.seen, late, least)
            self.wanted *= 2  # until one of them is certainly the farthest
            is_active = self.squared >= nth_largest(self.squared, self.most)
            is_active &= self.seen == self.count
            bound = float(self.squared[~is_active].max(initial=-np.inf))
            self._activate(np.flatnonzero(is_active), bound)

    def add(self, first: int, stop: int) -> None:
        """Make the vectors of these places centres, which are not the farthest again."""
        for centre in self.vectors[first:stop]:
            if self.count == len(self.centres):
                self.centres = np.concatenate([self.centres, np.empty_like(self.centres)])
            self.centres[self.count] = centre
            self.count += 1
            self._compare(centre)
        self.remove(first, stop)
        left = np.flatnonzero(self.values > self.bound)
        if 2 * len(left) < len(self.active):
            self._store()
            self._activate(self.active[left], self.bound)

    def remove(self, first: int, stop: int) -> None:
        """Leave out the vectors of these places."""
        self.squared[first:stop] = -1
        self.values[slice(*self.active.searchsorted([first, stop]))] = -1

    def _compare(self, centre: np.ndarray) -> None:
        """Compare the active vectors with a new centre; differences are computed of those only that can be nearer."""
        moved = centre - self.middle
        length = moved @ moved
        lower = self.moved @ (-2 * moved)
        lower += self.lengths
        lower += length - rounding(len(centre)) * (length + self.longest)
        near = np.flatnonzero(lower < self.values)
        if len(near):
            away = squared_distances(self.vectors[self.active[near]], centre)
            self.values[near] = np.minimum(self.values[near], away)

    def _activate(self, active: np.ndarray, bound: float) -> None:
        self.active, self.bound = active, bound
        self.values = self.squared[active]
        vectors = self.vectors[active]
        # centred, to keep the rounding errors of products small
        self.middle = vectors.mean(axis=0) if len(active) else np.zeros(vectors.shape[1], np.float32)
        self.moved = vectors - self.middle
        self.lengths = np.einsum("ij,ij->i", self.moved, self.moved)
        self.longest = self.lengths.max(initial=0)

    def _store(self) -> None:
        self.squared[self.active] = self.values
        self.seen[self.active] = self.count
