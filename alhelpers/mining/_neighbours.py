"""Exact nearest neighbours in numpy, shared by the strategies on embeddings.

Blocks of products of all pairs, sized for the processor's cache, approximate the squared distances with a known
error at low cost; the few pairs that could be among the nearest are computed again from differences. So equal
vectors are at distance exactly 0, and a distance depends on its two vectors alone: not on the block, the part of
the pool or the worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

import numpy as np

from alhelpers.mining._regions import distance_bounds, regions_of, rounding, to_nearest

METRICS = ("euclidean", "cosine")

# Products in a block, and its columns: 8 MiB of float32, which fits into the processor's cache.
_BLOCK, _COLUMNS = 1 << 21, 8192

# Columns that share one minimum, at most; how many groups there should be for each neighbour, and at least.
_GROUP, _GROUPS, _LEAST_GROUPS = 32, 8, 128

# Elements of the differences that are computed at once.
_CHUNK_ELEMENTS = 1 << 16


class Nearest(NamedTuple):
    """The nearest vectors of a base, nearest first, ties by the smaller place: distances and places, (N, k).

    If there are fewer than k, the distance is infinite and the place -1.
    """

    squared: np.ndarray
    places: np.ndarray


def nearest(
    vectors: np.ndarray,
    base: np.ndarray,
    k: int,
    own: np.ndarray | None = None,
    limits: np.ndarray | None = None,
    resolution: float = 0.0,
) -> Nearest:
    """Find the k nearest vectors of a base, (M, D), for each vector, (N, D).

    `own` is the place of each vector in the base, (N,), which is not its own neighbour; -1 if it is not in the base.
    `limits` are squared distances, (N,): only vectors that are nearer than them are neighbours. A squared distance up
    to `resolution` is 0.
    """
    screen = _Screen(base, k, resolution)
    squared = np.full((len(vectors), k), np.inf, dtype=np.float32)
    if limits is not None:
        squared[:] = limits[:, None]
    places = np.full((len(vectors), k), -1, dtype=np.int64)
    exclude = None if own is None else np.where(own >= 0, screen.columns[own], -1)
    for rows in screen.blocks(vectors):
        query = _Query(screen, vectors[rows])
        found = Nearest(squared[rows], places[rows])
        for region in query.away.mean(axis=0).argsort():
            near = query.reaching(region, found.squared[:, -1])
            for columns in screen.columns_of(region) if len(near) else ():
                left_out = None if exclude is None else exclude[rows][near]
                _search(query.take(near), columns, found, near, left_out)
        squared[rows], places[rows] = found
    return Nearest(squared, places)


def _search(
    query: _Query, columns: slice, found: Nearest, near: np.ndarray, left_out: np.ndarray | None
) -> None:
    """Search a block of the base for neighbours of the queries, which are some of the rows that were found so far."""
    squared, places = found.squared[near], found.places[near]
    products, there = query.products(columns), query.screen.places[columns]
    if left_out is not None:
        _exclude(products, left_out - columns.start)
    bound = query.bound(squared[:, -1])
    # with k vectors at distance 0, later ones of the base are not nearer
    bound[(squared[:, -1] <= 0) & (places[:, -1] < there.min())] = -np.inf
    row, place, distance = query.candidates(products, there, bound)
    _keep_nearest(squared, places, row, place, distance)
    found.squared[near], found.places[near] = squared, places


def squared_to_nearest(vectors: np.ndarray, base: np.ndarray, limits: np.ndarray | None = None) -> np.ndarray:
    """Return the squared distance of each vector to the nearest one of a base, (N,) float32, at most `limits`."""
    return nearest(vectors, base, 1, limits=limits).squared[:, 0]


def squared_distances(vectors: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance of each vector to one, or to its own, from differences, (N,) float32."""
    result = np.empty(len(vectors), dtype=np.float32)
    step = max(1, _CHUNK_ELEMENTS // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        difference = vectors[start : start + step] - (
            center if center.ndim == 1 else center[start : start + step]
        )
        np.einsum("ij,ij->i", difference, difference, out=result[start : start + step])
    return result


def distinct(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the first of all equal vectors, (M,), and for each vector which of them equals it, (N,)."""
    whole = np.ascontiguousarray(vectors + np.float32(0))  # -0 equals 0, but not in its bytes
    rows = whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1]))).ravel()
    _, first, group = np.unique(rows, return_index=True, return_inverse=True)
    return first, group


def as_distance(squared: np.ndarray, metric: str) -> np.ndarray:
    """Convert squared Euclidean distances (for the cosine, of unit vectors) into distances of the metric, float32."""
    return (squared / 2 if metric == "cosine" else np.sqrt(squared)).astype(np.float32)


class _Screen:
    """A base as a factor of products, by region, and centred to keep rounding errors small.

    Each region is padded with columns at infinite distance, so that all groups have the same size.
    """

    def __init__(self, base: np.ndarray, k: int, resolution: float) -> None:
        self.base, self.k, self.resolution = base, k, resolution
        self.center = base.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = base - self.center
        lengths = np.einsum("ij,ij->i", centred, centred)
        self.longest = float(lengths.max(initial=0))
        self.regions = regions_of(centred, k)
        count, size = base.shape
        sizes = np.diff(self.regions.offsets)
        wanted = min(_GROUP, max(1, min(int(sizes.mean()), _COLUMNS) // max(_GROUPS * k, _LEAST_GROUPS)))
        self.group = 1 << wanted.bit_length() - 1  # a power of two, so that blocks are made of whole groups
        padded = -(-sizes // self.group) * self.group
        self.starts = np.append(0, np.cumsum(padded))
        # the column of each vector of the base, and the place of the vector of each column
        self.columns = np.empty(count, dtype=np.intp)
        self.columns[self.regions.order] = np.arange(count) + np.repeat(
            self.starts[:-1] - self.regions.offsets[:-1], sizes
        )
        self.places = np.full(self.starts[-1], count)
        self.places[self.columns] = np.arange(count)
        # x (-2 y) + 1 |y|^2 in one product; such products are fastest if the base is in columns
        self.factors = np.zeros((size + 1, self.starts[-1]), dtype=np.float32)
        self.factors[:size, self.columns] = -2 * centred.T
        self.factors[size] = np.inf
        self.factors[size, self.columns] = lengths
        self.error = rounding(size)
        widest = min(padded.max(initial=1), _COLUMNS)
        self.rows = max(1, _BLOCK // max(widest, size))
        self.buffer = np.empty(self.rows * widest, dtype=np.float32)

    def blocks(self, vectors: np.ndarray) -> Iterator[slice | np.ndarray]:
        """Divide vectors into blocks, which are near the same regions."""
        order = None
        if len(self.regions.radii) > 1:
            order = np.argsort(to_nearest(vectors - self.center, self.regions.centres)[0], kind="stable")
        for start in range(0, len(vectors), self.rows):
            rows = slice(start, start + self.rows)
            yield rows if order is None else order[rows]

    def columns_of(self, region: int) -> Iterator[slice]:
        """Return the blocks of columns of a region."""
        start, stop = self.starts[region : region + 2]
        for first in range(start, stop, _COLUMNS):
            yield slice(first, min(first + _COLUMNS, stop))


class _Query:
    """A block of vectors whose neighbours in a base are searched."""

    def __init__(self, screen: _Screen, vectors: np.ndarray) -> None:
        self.screen, self.vectors = screen, vectors
        self.factors = np.ones((len(vectors), vectors.shape[1] + 1), dtype=np.float32)
        centred = np.subtract(vectors, screen.center, out=self.factors[:, :-1])
        self.lengths = np.einsum("ij,ij->i", centred, centred)
        self.error = screen.error * (self.lengths + screen.longest) + screen.resolution
        self.away = distance_bounds(centred, screen.regions.centres)[0]

    def take(self, rows: np.ndarray) -> _Query:
        """Return the query of some of the vectors."""
        if len(rows) == len(self.vectors):
            return self
        taken = copy(self)
        for name in ("vectors", "factors", "lengths", "error"):
            setattr(taken, name, getattr(self, name)[rows])
        return taken

    def reaching(self, region: int, squared: np.ndarray) -> np.ndarray:
        """Return the rows of which a vector of the region can be at such a distance or nearer."""
        nearest = np.maximum(self.away[:, region] - self.screen.regions.radii[region], 0)
        return np.flatnonzero(nearest**2 * (1 - self.screen.error) - self.screen.resolution <= squared)

    def products(self, columns: slice) -> np.ndarray:
        """Return squared distances to a block of the base, less the vector's squared length; (n, columns).

        The next block overwrites them.
        """
        factors = self.screen.factors[:, columns]
        products = self.screen.buffer[: len(self.vectors) * factors.shape[1]].reshape(-1, factors.shape[1])
        return np.matmul(self.factors, factors, out=products)

    def bound(self, squared: np.ndarray) -> np.ndarray:
        """Return the upper bound of the product of a pair that is at least this near, (n,)."""
        return (squared - self.lengths) + self.error

    def candidates(
        self, products: np.ndarray, places: np.ndarray, bound: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, place and squared distance of all pairs that can be among the k nearest, by row."""
        k, groups = self.screen.k, products.shape[1] // self.screen.group
        members = products.reshape(len(products), self.screen.group, groups)
        minima = np.minimum.reduce(members, axis=1) if self.screen.group > 1 else products
        bound = np.minimum(bound, np.finfo(np.float32).max)  # nothing at infinity is a candidate
        row = np.flatnonzero(minima.min(axis=1) <= bound)
        minima, bound = minima[row], bound[row]
        if k <= groups:
            # the k smallest of a row lie in the k groups with the smallest minima, none above the largest of these
            largest = minima.min(axis=1) if k == 1 else np.partition(minima, k - 1, axis=1)[:, k - 1]
            bound = np.minimum(bound, largest + 2 * self.error[row])
        hit, group = np.nonzero(minima <= bound[:, None])
        row, bound = row[hit], bound[hit]
        hit, member = np.nonzero(members[row, :, group] <= bound[:, None])
        row, place = row[hit], places[member * groups + group[hit]]
        return row, place, self._squared_distances(row, place)

    def _squared_distances(self, row: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Return the squared distances of pairs, from differences."""
        result = np.empty(len(row), dtype=np.float32)
        step = max(1, _CHUNK_ELEMENTS // max(1, self.vectors.shape[1]))
        for start in range(0, len(row), step):
            pairs = slice(start, start + step)
            difference = self.vectors[row[pairs]]
            difference -= self.screen.base[place[pairs]]
            np.einsum("ij,ij->i", difference, difference, out=result[pairs])
        if self.screen.resolution:
            result[result <= self.screen.resolution] = 0
        return result


def _exclude(products: np.ndarray, columns: np.ndarray) -> None:
    """Set the distances to these columns, one for each row, to infinity if they are in this block."""
    rows = np.flatnonzero((columns >= 0) & (columns < products.shape[1]))
    products[rows, columns[rows]] = np.inf


def _keep_nearest(
    squared: np.ndarray, places: np.ndarray, row: np.ndarray, place: np.ndarray, distance: np.ndarray
) -> None:
    """Merge found pairs into the k nearest of each row, in place; ties by the smaller place."""
    rows, k = squared.shape
    known = np.isfinite(squared)
    known[np.bincount(row, minlength=rows) == 0] = False  # nothing to merge
    row = np.concatenate([np.nonzero(known)[0], row])
    place = np.concatenate([places[known], place])
    distance = np.concatenate([squared[known], distance])
    # non-negative floats are ordered like their bits
    key = row.astype(np.uint64) << np.uint64(32) | distance.view(np.uint32)
    order = np.argsort(key)
    ordered = key[order]
    if (ordered[1:] == ordered[:-1]).any():
        order = np.lexsort((place, key))
    row = row[order]
    number = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    kept = order[number < k]
    row, number = row[number < k], number[number < k]
    squared[row, number], places[row, number] = distance[kept], place[kept]


def merge(first: Nearest, second: Nearest, k: int) -> Nearest:
    """Merge the neighbours found in two parts of a base, whose places differ; ties by the smaller place."""
    squared = np.full((len(first.squared), k), np.inf, dtype=np.float32)
    places = np.full((len(first.squared), k), -1, dtype=np.int64)
    for found in (first, second):
        there = found.places >= 0
        _keep_nearest(squared, places, np.nonzero(there)[0], found.places[there], found.squared[there])
    return Nearest(squared, places)
