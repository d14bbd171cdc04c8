"""Coreset: cover the embeddings with few records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from alhelpers.mining._neighbours import METRICS, as_distance, squared_distances, squared_to_nearest
from alhelpers.mining._pool import Pool, Readable, best_places, check_enough
from alhelpers.mining._strategy import (
    Part,
    Picked,
    Strategy,
    check_choice,
    check_same_size,
    needs_embeddings,
)

# How many candidates all parts together send in a round, and how many a part sends at least.
_CANDIDATES, _LEAST_CANDIDATES = 2048, 64


def coreset(
    pool: Pool,
    reference: Part | None,
    size: int,
    seed: int,
    *,
    metric: str = "euclidean",
    layer: str | None = None,
) -> Picked:
    """Mine a cover: each pick is the record farthest from all picks and from the reference (k-center greedy).

    Needs ``embeddings`` (N, D), in the reference too where there is one; without, the record nearest to the
    mean is the first. The score is the distance at which a record was picked, which never grows; ties go to
    the smaller id. ``metric``: ``"euclidean"`` or ``"cosine"``. It is the exact greedy order, found in rounds
    over the parts of the pool; memory is one number a record, time O(N x size x D). Use it for large batches
    and behind an uncertainty score in a cascade. It fails on outliers, which it picks first, and where
    embeddings do not tell classes apart, as in the first rounds.

    References
    ----------
    Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018;
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.
    """
    check_choice("coreset", "metric", metric, METRICS)
    pool.keep()
    cover = _Cover(pool, metric, layer, size)
    if reference is None:
        cover.begin_in_the_middle()
    else:
        cover.begin_beside(reference)
    while len(cover.ids) < size:
        cover.go_on()
    if reference is None:
        # the first had nothing to be far from: it stands for the distance that was left to cover after it
        cover.squared[0] = cover.squared[1] if size > 1 else cover.farthest()
    return Picked(cover.ids, as_distance(np.array(cover.squared, dtype=np.float32), metric), cover.count)


# ------------------------------------------------------------------------------
# rounds
# ------------------------------------------------------------------------------
# In a round each part measures the distances to the new centres, and sends its farthest records, with the distance
# of the farthest that it did not send. The greedy order goes on among what was sent as long as the best of it is
# ahead of all that was not; distances only shrink, so nobody can overtake.


class _State(NamedTuple):
    """What is known of a part: squared distances to the nearest centre, -1 for the picks; None before the first."""

    squared: np.ndarray | None
    taken: list[int]


class _Middle(NamedTuple):
    """The record of a part that is nearest to the mean."""

    squared: float
    id: Any
    place: int
    vector: np.ndarray


class _Sent(NamedTuple):
    """What a part sends: its state, and its farthest records by distance, ties by id."""

    squared: np.ndarray
    places: np.ndarray
    ids: list[Any]
    vectors: np.ndarray
    left: (
        tuple[float, Any] | None
    )  # minus the squared distance, and the id, of the farthest that was not sent


class _Round(NamedTuple):
    """What tasks of a round share."""

    centres: np.ndarray
    candidates: int
    metric: str
    layer: str | None


class _Cover:
    """The picks, and how far they have come."""

    def __init__(self, pool: Pool, metric: str, layer: str | None, size: int) -> None:
        self.pool, self.metric, self.layer, self.size = pool, metric, layer, size
        self.ids: list[Any] = []
        self.squared: list[float] = []
        self.count = sum(map(len, pool.ids()))
        check_enough(size, self.count)
        self._states = [_State(None, []) for _ in pool.parts]
        self._new: list[np.ndarray] = []

    def begin_in_the_middle(self) -> None:
        """Pick the record that is nearest to the mean."""
        shared = _Round(np.empty((0, 0)), 0, self.metric, self.layer)
        sums = list(self.pool.map(_sum_of_part, shared))
        # summed in float64 and rounded to float32, which leaves nothing of the order of the sums
        mean = np.array([math.fsum(column) for column in zip(*sums, strict=True)]) / self.count
        middle = shared._replace(centres=mean.astype(np.float32)[None])
        found = list(self.pool.map(_middle_of_part, middle))
        number, best = min(
            ((number, each) for number, each in enumerate(found) if each is not None),
            key=lambda numbered: (numbered[1].squared, numbered[1].id),
        )
        self._pick(best.id, np.inf, number, best.place, best.vector)

    def begin_beside(self, reference: Part) -> None:
        """Take the records of the reference for centres."""
        self._new = list(reference.embeddings(self.layer, self.metric))

    def go_on(self) -> None:
        """Run a round, and pick as far as what the parts sent goes."""
        sent = list(self._sent())
        ids = [id for part in sent for id in part.ids]
        order = sorted(range(len(ids)), key=ids.__getitem__)  # the first of equals has the smallest id
        ids = [ids[place] for place in order]
        parts = np.repeat(np.arange(len(sent)), [len(part.ids) for part in sent])[order]
        places = np.concatenate([part.places for part in sent])[order]
        vectors = np.concatenate([part.vectors for part in sent])[order]
        squared = np.concatenate([part.squared[part.places] for part in sent])[order]
        bound = min((part.left for part in sent if part.left is not None), default=None)
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
        return max(0, *(part.squared.max(initial=0) for part in self._sent()))

    def _sent(self) -> Iterator[_Sent]:
        """Run the tasks of a round."""
        centres, self._new = np.array(self._new), []
        candidates = max(_LEAST_CANDIDATES, _CANDIDATES // len(self._states))
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


def _middle_of_part(part: Readable, shared: _Round) -> _Middle | None:
    """Return the record that is nearest to the mean."""
    records, vectors = _read(part, shared)
    if not len(records):
        return None
    squared = squared_distances(vectors, shared.centres[0])
    place = int(best_places(-squared, records.ids, 1)[0])
    return _Middle(float(squared[place]), records.ids[place].as_py(), place, vectors[place])


def _round_of_part(item: tuple[Readable, _State], shared: _Round) -> _Sent:
    """Measure the distances to new centres, and send the farthest records."""
    part, state = item
    records, vectors = _read(part, shared)
    squared = squared_to_nearest(vectors, shared.centres, state.squared)
    squared[state.taken] = -1  # below the 0 of what equals a pick, so that none comes twice
    farthest = best_places(squared, records.ids, min(shared.candidates + 1, len(records)))
    sent, rest = farthest[: shared.candidates], farthest[shared.candidates :]
    left = (-float(squared[rest[0]]), records.ids[rest[0]].as_py()) if len(rest) else None
    return _Sent(squared, sent, records.ids.take(pa.array(sent)).to_pylist(), vectors[sent], left)


def _read(part: Readable, shared: _Round) -> tuple[Part, np.ndarray]:
    """Return a part's records and their vectors."""
    records = Part.of(part)
    vectors = records.embeddings(shared.layer, shared.metric)
    check_same_size("coreset", vectors, shared.centres)
    return records, vectors


STRATEGIES = (
    Strategy(
        "coreset",
        coreset,
        needs_embeddings,
        kind="together",
        reference="optional",
        reference_needs=needs_embeddings,
    ),
)
