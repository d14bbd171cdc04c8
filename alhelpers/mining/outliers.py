"""Local outlier factor: novelty against the reference, outliers inside the pool."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from alhelpers.mining._neighbours import METRICS, Nearest, as_distance, merge, nearest
from alhelpers.mining._pool import Pool, Readable
from alhelpers.mining._selection import MiningError
from alhelpers.mining._strategy import (
    Part,
    Prepared,
    Scored,
    Strategy,
    check_same_size,
    needs_embeddings,
)

_DEFAULT_NEIGHBORS = 20

# Takes the place of a distance where all vectors of a base are equal.
_NO_DISTANCE = 1e-10

# Squared distances of unit vectors that differ by no more than rounding: for the cosine, they are equal.
_RESOLUTION = {"euclidean": 0.0, "cosine": 1e-13}

# Finds the neighbours of some vectors of a base among others of it, both given by increasing places.
_Search = Callable[[np.ndarray, np.ndarray], Nearest]


class _Density(NamedTuple):
    """The densities of a base: distances to the last neighbour, and local reachability densities; (M,) float64."""

    reach: np.ndarray
    local: np.ndarray

    @classmethod
    def of(cls, found: Nearest, metric: str, search: _Search) -> _Density:
        """Compute the densities of a base from the neighbours of each of its vectors."""
        reach = as_distance(_squared_to_last(found, search), metric).astype(np.float64)
        return cls(reach, _reachability_density(found, reach, metric))

    def outlier_factor(self, found: Nearest, metric: str) -> np.ndarray:
        """Return the local outlier factor of vectors, (N,) float32, from their neighbours in the base."""
        own = _reachability_density(found, self.reach, metric)
        result = np.empty(len(own), dtype=np.float32)
        for rows in _blocks(found):
            result[rows] = self.local[found.places[rows]].mean(axis=1) / own[rows]
        return result


def _squared_to_last(found: Nearest, search: _Search) -> np.ndarray:
    """Return the squared distance of each vector of a base to its last neighbour, (M,).

    If that is 0, as all neighbours equal the vector, the distance to the last of as many distinct vectors takes its
    place: the k-distinct-distance of the paper.
    """
    squared = found.squared[:, -1].copy()
    equal = found.squared == 0
    stacked = np.flatnonzero(equal[:, -1])
    if len(stacked):
        # ties go to the smaller place, so that the first of equal vectors is a neighbour of the others
        first, group = np.unique(np.minimum(stacked, found.places[stacked].min(axis=1)), return_inverse=True)
        repeated = (equal & (found.places < np.arange(len(squared))[:, None])).any(axis=1)
        away = search(first, np.flatnonzero(~repeated)).squared
        squared[stacked] = np.where(np.isfinite(away), away, 0).max(axis=1)[group]
    return squared


def _reachability_density(found: Nearest, reach: np.ndarray, metric: str) -> np.ndarray:
    """Return local reachability densities as in the paper, (N,) float64; finite also if all vectors are equal."""
    result = np.empty(len(found.squared))
    for rows in _blocks(found):
        away = as_distance(found.squared[rows], metric).astype(np.float64)
        mean = np.maximum(away, reach[found.places[rows]]).mean(axis=1)
        result[rows] = 1 / np.where(mean == 0, _NO_DISTANCE, mean)
    return result


def _blocks(found: Nearest) -> Iterator[slice]:
    """Cut rows into blocks, so that temporary arrays are small beside the neighbours themselves."""
    for start in range(0, len(found.squared), 1 << 14):
        yield slice(start, start + (1 << 14))


def novelty(
    part: Part,
    context: _Base,
    *,
    n_neighbors: int | None = None,
    metric: str = "euclidean",
    layer: str | None = None,
) -> np.ndarray:
    """Select the records unlike the reference: their local outlier factor against it.

    Needs ``embeddings`` (N, D) in the pool and in the reference. A score of about 1 means as dense as the
    neighbours, a higher one sparser: the sign is opposite to scikit-learn's ``score_samples``.
    ``n_neighbors`` is 20 by default, or all others if the reference has fewer; ``metric`` is
    ``"euclidean"`` or ``"cosine"``. Use it to find new kinds of input as data drifts. It fails while the
    reference is too small to estimate a density. Copies of a record are one record where its distance to the last
    neighbour would be 0.

    Source: Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """
    vectors = part.embeddings(layer, metric)
    check_same_size("novelty", vectors, context.vectors)
    found = nearest(vectors, context.vectors, context.n_neighbors, resolution=_RESOLUTION[metric])
    return context.density.outlier_factor(found, metric)


def _prepare(
    pool: Pool, reference: Part, seed: int, *, n_neighbors: int | None, metric: str, layer: str | None
) -> Prepared:
    neighbors = _neighbors("novelty", n_neighbors, len(reference), "reference")
    base = reference.embeddings(layer, metric)

    def search(asked: np.ndarray, among: np.ndarray) -> Nearest:
        own = np.searchsorted(among, asked)
        return nearest(base[asked], base[among], neighbors, own, resolution=_RESOLUTION[metric])

    every = np.arange(len(base))
    density = _Density.of(search(every, every), metric, search)
    return Prepared(_Base(base, neighbors, density), {"n_neighbors": neighbors})


def outlier(
    pool: Pool,
    reference: Part | None,
    *,
    n_neighbors: int | None = None,
    metric: str = "euclidean",
    layer: str | None = None,
) -> Scored:
    """Select the records unlike their neighbours: the local outlier factor inside the pool.

    Needs ``embeddings`` (N, D). A score of about 1 means as dense as the neighbours, a higher one sparser: the
    sign is opposite to scikit-learn's ``negative_outlier_factor_``. ``n_neighbors`` is 20 by default, or all others
    if there are fewer; ``metric`` is ``"euclidean"`` or ``"cosine"``. Use it to find rare cases and
    broken inputs before anything is labelled. It fails on groups of more than ``n_neighbors`` outliers, and its
    records are seldom typical of a class. Copies of a record are one record where its distance to the last
    neighbour would be 0. Every record is compared with every other: time grows with the square of the pool.

    Source: Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """
    ids = pool.all_ids()
    neighbors = _neighbors("outlier", n_neighbors, len(ids), "records")
    if n_neighbors is None and neighbors == len(ids) - 1:
        warnings.warn(
            f"strategy 'outlier' compares each of {len(ids)} records with all others, which makes every factor about "
            "1; give a smaller n_neighbors, larger than any group of outliers",
            stacklevel=2,
        )
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    pool.cache()
    ends = np.cumsum([len(ids) for ids in pool.ids()])
    of_parts = np.split(ranks, ends[:-1])

    def search(asked: np.ndarray, among: np.ndarray) -> Nearest:
        squared = np.empty((len(asked), neighbors), dtype=np.float32)
        places = np.empty((len(asked), neighbors), dtype=np.int64)
        task = _Task(pool.parts, of_parts, asked, among, neighbors, metric, layer)
        for end, (at, found) in zip(ends, pool.map(_neighbors_of_part, task, range(len(ends))), strict=True):
            pool.report(int(end), len(ids))
            squared[at], places[at] = found
        return Nearest(squared, places)

    every = np.arange(len(ids))
    found = search(every, every)
    factor = _Density.of(found, metric, search).outlier_factor(found, metric)
    return Scored(factor[ranks], {"n_neighbors": neighbors})


class _Base(NamedTuple):
    """The reference, with which parts of the pool are compared."""

    vectors: np.ndarray
    n_neighbors: int
    density: _Density


class _Task(NamedTuple):
    """The context of the tasks that find neighbours inside the pool: all parts, and the ranks of records by id."""

    parts: Sequence[Readable]
    ranks: Sequence[np.ndarray]
    asked: np.ndarray
    among: np.ndarray
    n_neighbors: int
    metric: str
    layer: str | None

    def load(self, number: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ranks of the wanted records of a part, in order, and their vectors."""
        ranks = self.ranks[number]
        order = np.argsort(ranks)
        order = order[np.isin(ranks[order], wanted, assume_unique=True)]
        return ranks[order], Part.of(self.parts[number]).embeddings(self.layer, self.metric)[order]


def _neighbors_of_part(number: int, task: _Task) -> tuple[np.ndarray, Nearest]:
    """Find the neighbours of the asked records of a part, as ranks by id, and the places of these among the asked."""
    own, vectors = task.load(number, task.asked)
    k = task.n_neighbors
    best = Nearest(np.full((len(own), k), np.inf, np.float32), np.full((len(own), k), -1))
    for other in range(len(task.parts)) if len(own) else ():
        ranks, base = task.load(other, task.among)
        if len(ranks):
            places = np.searchsorted(ranks, own) if other == number else None
            found = nearest(vectors, base, k, places, resolution=_RESOLUTION[task.metric])
            ranks = np.append(ranks, -1)  # the last for missing neighbours
            best = merge(best, Nearest(found.squared, ranks[found.places]), k)
    return np.searchsorted(task.asked, own), best


def _neighbors(strategy: str, given: int | None, count: int, name: str) -> int:
    """Return the number of neighbours; a record has ``count - 1``."""
    if count < 2:
        raise MiningError(f"strategy {strategy!r} needs at least 2 records as {name}, got {count}")
    if given is None:
        return min(_DEFAULT_NEIGHBORS, count - 1)
    if given >= count:
        raise MiningError(
            f"strategy {strategy!r}: n_neighbors={given} needs more than {given} records as {name}, got {count}; "
            f"take at most {count - 1}"
        )
    return int(given)


_OPTIONS: dict[str, Any] = {"choices": {"metric": METRICS}, "counts": ("n_neighbors",)}
STRATEGIES = (
    Strategy(novelty, needs_embeddings, prepare=_prepare, reference="required", **_OPTIONS),
    Strategy(outlier, needs_embeddings, kind="all", **_OPTIONS),
)
