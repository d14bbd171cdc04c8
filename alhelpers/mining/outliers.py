"""Local outlier factor: novelty against the reference, outliers inside the pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.mining._neighbours import METRICS, Nearest, as_distance, merged, nearest
from alhelpers.mining._pool import Pool, Readable
from alhelpers.mining._selection import MiningError
from alhelpers.mining._strategy import (
    Part,
    Prepared,
    Scored,
    Strategy,
    check_choice,
    check_count,
    check_same_size,
    needs_embeddings,
)

_USUAL_NEIGHBORS = 20


def novelty(
    part: Part,
    context: _Base,
    *,
    n_neighbors: int | None = None,
    metric: str = "euclidean",
    layer: str | None = None,
) -> np.ndarray:
    """Mine what is new: the local outlier factor of the pool against the reference.

    Needs ``embeddings`` (N, D) in the pool and in the reference. About 1 is as dense as the neighbours are
    among themselves, more is sparser: the sign is opposite to scikit-learn's ``score_samples``.
    ``n_neighbors`` is 20 by default, or all others where the reference has fewer; ``metric`` is
    ``"euclidean"`` or ``"cosine"``. Use it to find new kinds of input as data drifts. It fails while the
    reference is too small to show a density, and with duplicates in it, next to which all else is new.

    References
    ----------
    Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """
    vectors = part.embeddings(layer, metric)
    check_same_size("novelty", vectors, context.vectors)
    found = nearest(vectors, context.vectors, context.n_neighbors)
    return context.density.factor(found, metric)


def _prepare(
    pool: Pool, reference: Part, seed: int, *, n_neighbors: int | None, metric: str, layer: str | None
) -> Prepared:
    neighbors = _neighbors("novelty", n_neighbors, metric, len(reference), "reference")
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
    """Mine what stands apart: the local outlier factor inside the pool.

    Needs ``embeddings`` (N, D). About 1 is as dense as the neighbours, more is sparser: the sign is
    opposite to scikit-learn's ``negative_outlier_factor_``. ``n_neighbors`` is 20 by default, or all others
    where there are fewer; ``metric`` is ``"euclidean"`` or ``"cosine"``. Use it to find rare cases and
    broken inputs before anything is labelled. It fails on outliers that come in groups of more than
    ``n_neighbors``, and what it finds is seldom typical of a class. Every record is held against every other:
    time grows with the square of the pool.

    References
    ----------
    Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """
    ids = pa.concat_arrays(pool.ids())
    neighbors = _neighbors("outlier", n_neighbors, metric, len(ids), "records")
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    squared = np.empty((len(ids), neighbors), dtype=np.float32)
    places = np.empty((len(ids), neighbors), dtype=np.int64)
    for own, found in _within(pool, ranks, neighbors, metric, layer):
        squared[own], places[own] = found
    found = Nearest(squared, places)
    factor = _Density.of(found, metric).factor(found, metric)
    return Scored(factor[ranks], {"n_neighbors": neighbors})


class _Base(NamedTuple):
    """The reference, against which parts of the pool are held."""

    vectors: np.ndarray
    n_neighbors: int
    density: _Density


@dataclass(frozen=True)
class _Density:
    """How dense each vector of a base lies among its neighbours.

    Parameters
    ----------
    reach : numpy.ndarray of shape (M,), float64
        The distance to the last of its neighbours.
    local : numpy.ndarray of shape (M,), float64
        Its local reachability density.
    """

    reach: np.ndarray
    local: np.ndarray

    @classmethod
    def of(cls, found: Nearest, metric: str) -> _Density:
        """Return the densities of a base from the neighbours of each of its vectors."""
        reach = as_distance(found.squared[:, -1], metric).astype(np.float64)
        return cls(reach, _local(found, reach, metric))

    def factor(self, found: Nearest, metric: str) -> np.ndarray:
        """Return the local outlier factor of vectors, (N,) float32, from their neighbours in the base."""
        own = _local(found, self.reach, metric)
        result = np.empty(len(own), dtype=np.float32)
        for rows in _blocks(found):
            result[rows] = self.local[found.places[rows]].mean(axis=1) / own[rows]
        return result


def _local(found: Nearest, reach: np.ndarray, metric: str) -> np.ndarray:
    """Return local reachability densities, (N,) float64; the paper's, finite also where all are equal."""
    result = np.empty(len(found.squared))
    for rows in _blocks(found):
        away = as_distance(found.squared[rows], metric).astype(np.float64)
        result[rows] = 1 / (np.maximum(away, reach[found.places[rows]]).mean(axis=1) + 1e-10)
    return result


def _blocks(found: Nearest) -> Iterator[slice]:
    """Cut rows into blocks, for temporaries that are small beside the neighbours themselves."""
    for start in range(0, len(found.squared), 1 << 14):
        yield slice(start, start + (1 << 14))


class _Search(NamedTuple):
    """What tasks share that look for neighbours inside the pool."""

    parts: Sequence[Readable]
    ranks: Sequence[np.ndarray]
    n_neighbors: int
    metric: str
    layer: str | None


def _within(
    pool: Pool, ranks: np.ndarray, n_neighbors: int, metric: str, layer: str | None
) -> Iterator[tuple[np.ndarray, Nearest]]:
    """Return, part after part, the ranks of its records by id, and the ranks of their neighbours in all parts."""
    pool.keep()
    ends = np.cumsum([len(ids) for ids in pool.ids()])
    shared = _Search(pool.parts, np.split(ranks, ends[:-1]), n_neighbors, metric, layer)
    for number, found in enumerate(pool.map(_neighbors_of_part, shared, range(len(pool.parts)))):
        pool.report(int(ends[number]), len(ranks))
        yield shared.ranks[number], found


def _neighbors_of_part(number: int, shared: _Search) -> Nearest:
    """Find the neighbours of a part's records in every part; a task."""
    records, k = Part.of(shared.parts[number]), shared.n_neighbors
    vectors = records.embeddings(shared.layer, shared.metric)
    best = Nearest(np.full((len(vectors), k), np.inf, np.float32), np.full((len(vectors), k), -1))
    for other, part in enumerate(shared.parts):
        order = np.argsort(shared.ranks[other])  # ties go by id
        if len(order) and len(vectors):
            base = vectors if other == number else Part.of(part).embeddings(shared.layer, shared.metric)
            own = np.argsort(order) if other == number else None
            found = nearest(vectors, base[order], k, own)
            ranks = np.append(shared.ranks[other][order], -1)  # where there are too few, the last of these
            best = merged(best, Nearest(found.squared, ranks[found.places]), k)
    return best


def _neighbors(strategy: str, asked: int | None, metric: str, count: int, name: str) -> int:
    """Return how many neighbours to look at; a record has ``count - 1``."""
    check_choice(strategy, "metric", metric, METRICS)
    if count < 2:
        raise MiningError(f"strategy {strategy!r} needs at least 2 records as {name}, got {count}")
    if asked is None:
        return min(_USUAL_NEIGHBORS, count - 1)
    check_count(strategy, "n_neighbors", asked)
    if asked >= count:
        raise MiningError(
            f"strategy {strategy!r}: n_neighbors={asked} needs more than {asked} records as {name}, got {count}; "
            f"take at most {count - 1}"
        )
    return int(asked)


STRATEGIES = (
    Strategy(
        "novelty",
        novelty,
        needs_embeddings,
        prepare=_prepare,
        reference="required",
        reference_needs=needs_embeddings,
    ),
    Strategy("outlier", outlier, needs_embeddings, kind="all"),
)
