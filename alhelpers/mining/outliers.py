"""Local outlier factor: novelty against the reference, outliers inside the pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class _Density(NamedTuple):
    """The densities of a base: distances to the last neighbour, and local reachability densities; (M,) float64."""

    reach: np.ndarray
    local: np.ndarray

    @classmethod
    def of(cls, found: Nearest, metric: str) -> _Density:
        """Compute the densities of a base from the neighbours of each of its vectors."""
        reach = as_distance(found.squared[:, -1], metric).astype(np.float64)
        return cls(reach, _reachability_density(found, reach, metric))

    def outlier_factor(self, found: Nearest, metric: str) -> np.ndarray:
        """Return the local outlier factor of vectors, (N,) float32, from their neighbours in the base."""
        own = _reachability_density(found, self.reach, metric)
        result = np.empty(len(own), dtype=np.float32)
        for rows in _blocks(found):
            result[rows] = self.local[found.places[rows]].mean(axis=1) / own[rows]
        return result


def _reachability_density(found: Nearest, reach: np.ndarray, metric: str) -> np.ndarray:
    """Return local reachability densities as in the paper, (N,) float64; finite also if all vectors are equal."""
    result = np.empty(len(found.squared))
    for rows in _blocks(found):
        away = as_distance(found.squared[rows], metric).astype(np.float64)
        result[rows] = 1 / (np.maximum(away, reach[found.places[rows]]).mean(axis=1) + 1e-10)
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
    reference is too small to estimate a density, and with duplicates in it, beside which everything is new.

    Source: Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """
    vectors = part.embeddings(layer, metric)
    check_same_size("novelty", vectors, context.vectors)
    found = nearest(vectors, context.vectors, context.n_neighbors)
    return context.density.outlier_factor(found, metric)


def _prepare(
    pool: Pool, reference: Part, seed: int, *, n_neighbors: int | None, metric: str, layer: str | None
) -> Prepared:
    neighbors = _neighbors("novelty", n_neighbors, len(reference), "reference")
    base = reference.embeddings(layer, metric)
    found = nearest(base, base, neighbors, own=np.arange(len(base)))
    return Prepared(_Base(base, neighbors, _Density.of(found, metric)), {"n_neighbors": neighbors})


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
    records are seldom typical of a class. Every record is compared with every other: time grows with the
    square of the pool.

    Source: Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """
    ids = pool.all_ids()
    neighbors = _neighbors("outlier", n_neighbors, len(ids), "records")
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    squared = np.empty((len(ids), neighbors), dtype=np.float32)
    places = np.empty((len(ids), neighbors), dtype=np.int64)
    pool.cache()
    ends = np.cumsum([len(ids) for ids in pool.ids()])
    search = _Search(pool.parts, np.split(ranks, ends[:-1]), neighbors, metric, layer)
    for number, found in enumerate(pool.map(_neighbors_of_part, search, range(len(pool.parts)))):
        pool.report(int(ends[number]), len(ranks))
        squared[search.ranks[number]], places[search.ranks[number]] = found
    found = Nearest(squared, places)
    factor = _Density.of(found, metric).outlier_factor(found, metric)
    return Scored(factor[ranks], {"n_neighbors": neighbors})


class _Base(NamedTuple):
    """The reference, with which parts of the pool are compared."""

    vectors: np.ndarray
    n_neighbors: int
    density: _Density


class _Search(NamedTuple):
    """The context of the tasks that find neighbours inside the pool."""

    parts: Sequence[Readable]
    ranks: Sequence[np.ndarray]
    n_neighbors: int
    metric: str
    layer: str | None


def _neighbors_of_part(number: int, search: _Search) -> Nearest:
    """Find the neighbours of a part's records in every part, as ranks by id."""
    records, k = Part.of(search.parts[number]), search.n_neighbors
    vectors = records.embeddings(search.layer, search.metric)
    best = Nearest(np.full((len(vectors), k), np.inf, np.float32), np.full((len(vectors), k), -1))
    for other, part in enumerate(search.parts):
        order = np.argsort(search.ranks[other])  # ties go by id
        if len(order) and len(vectors):
            base = vectors if other == number else Part.of(part).embeddings(search.layer, search.metric)
            own = np.argsort(order) if other == number else None
            found = nearest(vectors, base[order], k, own)
            ranks = np.append(search.ranks[other][order], -1)  # the last for missing neighbours
            best = merge(best, Nearest(found.squared, ranks[found.places]), k)
    return best


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
