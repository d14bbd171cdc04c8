"""Coreset: cover the embeddings with few records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from alhelpers.mining._neighbours import METRICS, as_distance, squared_distances, squared_to_nearest
from alhelpers.mining._pool import Pool, Readable, best_places, check_enough
from alhelpers.mining._strategy import Part, Picked, Strategy, check_same_size, needs_embeddings

# The number of candidates of all parts together in a round, and the least number of one part.
_CANDIDATES, _MIN_CANDIDATES = 2048, 64


def coreset(
    pool: Pool,
    reference: Part | None,
    size: int,
    seed: int,
    *,
    metric: str = "euclidean",
    layer: str | None = None,
) -> Picked:
    """Select a cover: each pick is the record farthest from all picks and the reference (k-center greedy).

    Needs ``embeddings`` (N, D), in the reference too if there is one; without it, the record nearest to the
    mean is the first. The score is the distance at which a record was picked, which never grows; ties go to
    the smaller id. ``metric``: ``"euclidean"`` or ``"cosine"``. It is the exact greedy order, found in rounds
    over the parts of the pool; memory is one number for each record, time O(N x size x D). Use it for large batches
    and behind an uncertainty score in a cascade. It fails on outliers, which it picks first, and if
    the embeddings do not separate the classes, as in the first rounds.

    References
    ----------
    Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018;
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.
    """
    pool.cache()
    cover = _Cover(pool, metric, layer, size)
    if reference is None:
        cover.start_at_mean()
    else:
        cover.start_from(reference)
    while len(cover.ids) < size:
        cover.run_round()
    if reference is None:
        # the first pick has no distance: it gets the largest distance that was left after it
        cover.squared[0] = cover.squared[1] if size > 1 else cover.farthest()
    return Picked(cover.ids, as_distance(np.array(cover.squared, dtype=np.float32), metric), cover.count)


# ------------------------------------------------------------------------------
# rounds
# ------------------------------------------------------------------------------
# In a round each part computes the distances to the new centres, and returns its farthest records as candidates, with
# the distance of the next one. Candidates are picked greedily as long as the best of them is ahead of all other
# records: distances only shrink, so none of those can overtake it.


class _State(NamedTuple):
    """The state of a part: squared distances to the nearest centre, -1 for picks, or None before the first round."""

    squared: np.ndarray | None
    taken: list[int]


class _Central(NamedTuple):
    """The record of a part nearest to the mean."""

    squared: float
    id: Any
    place: int
    vector: np.ndarray


class _Candidates(NamedTuple):
    """The distances in a part, and its farthest records, ties by id."""

    squared: np.ndarray
    places: np.ndarray
    ids: list[Any]
    vectors: np.ndarray
    next: (
        tuple[float, Any] | None
    )  # minus the squared distance, and the id, of the farthest record after these


class _Round(NamedTuple):
    """The context of the tasks of a round."""

    centres: np.ndarray
    candidates: int
    metric: str
    layer: str | None


class _Cover:
    """The picks so far, and the state of each part."""

    def __init__(self, pool: Pool, metric: str, layer: str | None, size: int) -> None:
        self.pool, self.metric, self.layer, self.size = pool, metric, layer, size
        self.ids: list[Any] = []
        self.squared: list[float] = []
        self.count = sum(map(len, pool.ids()))
        check_enough(size, self.count)
        self._states = [_State(None, []) for _ in pool.parts]
        self._new: list[np.ndarray] = []

    def start_at_mean(self) -> None:
        """Pick the record nearest to the mean."""
        shared = _Round(np.empty((0, 0)), 0, self.metric, self.layer)
        sums = list(self.pool.map(_sum_of_part, shared))
        # summed in float64 and rounded to float32, so that the order of the sums does not matter
        mean = np.array([math.fsum(column) for column in zip(*sums, strict=True)]) / self.count
        middle = shared._replace(centres=mean.astype(np.float32)[None])
        found = list(self.pool.map(_central_record, middle))
        number, best = min(
            ((number, each) for number, each in enumerate(found) if each is not None),
            key=lambda numbered: (numbered[1].squared, numbered[1].id),
        )
        self._pick(best.id, np.inf, number, best.place, best.vector)

    def start_from(self, reference: Part) -> None:
        """Use the records of the reference as centres."""
        self._new = list(reference.embeddings(self.layer, self.metric))

    def run_round(self) -> None:
        """Run a round, and pick as many candidates as are certain."""
        sent = list(self._candidates())
        ids = [id for part in sent for id in part.ids]
        order = sorted(range(len(ids)), key=ids.__getitem__)  # ties go to the smaller id
        ids = [ids[place] for place in order]
        parts = np.repeat(np.arange(len(sent)), [len(part.ids) for part in sent])[order]
        places = np.concatenate([part.places for part in sent])[order]
        vectors = np.concatenate([part.vectors for part in sent])[order]
        squared = np.concatenate([part.squared[part.places] for part in sent])[order]
        bound = min((part.next for part in sent if part.next is not None), default=None)
        while len(self.ids) < self.size:
            best = int(squared.argmax())
            if squared[best] < 0 or bound is not None and (-squared[best], ids[best]) > bound:
                break
            self._pick(ids[best], squared[best], int(parts[best]), int(places[best]), vectors[best])
            np.minimum(squared, squared_distances(vectors, vectors[best]), out=squared)
            squared[best] = -1
        self.pool.report(len(self.ids), self.size)

    def farthest(self) -> float:
        """Return the squared distance of the record farthest from all picks, at least 0."""
        return max(0, *(part.squared.max(initial=0) for part in self._candidates()))

    def _candidates(self) -> Iterator[_Candidates]:
        """Run the tasks of a round."""
        centres, self._new = np.array(self._new), []
        candidates = max(_MIN_CANDIDATES, _CANDIDATES // len(self._states))
        shared = _Round(centres, candidates, self.metric, self.layer)
        items = zip(self.pool.parts, self._states, strict=True)
        for number, sent in enumerate(self.pool.map(_round_of_part, shared, items)):
            self._states[number] = _State(sent.squared, [])
            yield sent

    def _pick(self, id: Any, squared: float, part: int, place: int, vector: np.ndarray) -> None:
        self.ids.append(id)
        self.squared.append(float(squared))
        self._states[part].taken.append(place)
        self._new.append(vector)


# ------------------------------------------------------------------------------
# tasks
# ------------------------------------------------------------------------------


def _sum_of_part(part: Readable, shared: _Round) -> np.ndarray:
    """Return the sum of a part's vectors, (D,) float64."""
    return Part.of(part).embeddings(shared.layer, shared.metric).sum(axis=0, dtype=np.float64)


def _central_record(part: Readable, shared: _Round) -> _Central | None:
    """Return the record nearest to the mean."""
    records, vectors = _read(part, shared)
    if not len(records):
        return None
    squared = squared_distances(vectors, shared.centres[0])
    place = int(best_places(-squared, records.ids, 1)[0])
    return _Central(float(squared[place]), records.ids[place].as_py(), place, vectors[place])


def _round_of_part(item: tuple[Readable, _State], shared: _Round) -> _Candidates:
    """Compute the distances to the new centres, and return the farthest records."""
    part, state = item
    records, vectors = _read(part, shared)
    squared = squared_to_nearest(vectors, shared.centres, state.squared)
    squared[state.taken] = -1  # below the 0 of a record equal to a pick, so that none is picked twice
    farthest = best_places(squared, records.ids, min(shared.candidates + 1, len(records)))
    places, others = farthest[: shared.candidates], farthest[shared.candidates :]
    following = (-float(squared[others[0]]), records.ids[others[0]].as_py()) if len(others) else None
    ids = records.ids.take(pa.array(places)).to_pylist()
    return _Candidates(squared, places, ids, vectors[places], following)


def _read(part: Readable, shared: _Round) -> tuple[Part, np.ndarray]:
    """Return a part's records and their vectors."""
    records = Part.of(part)
    vectors = records.embeddings(shared.layer, shared.metric)
    check_same_size("coreset", vectors, shared.centres)
    return records, vectors


STRATEGIES = (
    Strategy(coreset, needs_embeddings, kind="together", reference="optional", choices={"metric": METRICS}),
)
