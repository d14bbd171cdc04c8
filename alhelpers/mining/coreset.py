"""Coreset: cover the embeddings with few records."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from alhelpers.mining._neighbours import METRICS, as_distance, squared_distances, squared_to_nearest
from alhelpers.mining._pool import Pool, Readable, best_places
from alhelpers.mining._rounds import Rounds, State
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
    the smaller id. ``metric``: ``"euclidean"`` or ``"cosine"``. Each pick is the best at its turn
    (greedy), found in rounds over the parts of the pool; memory is one number for each record. Use it for
    large batches and behind an uncertainty score in a cascade. It fails on outliers, which it picks first, and
    if the embeddings do not separate the classes, as in the first rounds.

    Source: Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018;
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.
    """
    rounds = Rounds(pool, size)
    if reference is None:
        _pick_central(rounds, metric, layer)
    else:
        rounds.new = list(reference.embeddings(layer, metric))
    while len(rounds.ids) < size:
        _run_round(rounds, metric, layer)
    if reference is None:
        # the first pick has no distance: it gets the largest distance that was left after it
        rounds.squared[0] = rounds.squared[1] if size > 1 else _farthest(rounds, metric, layer)
    distances = as_distance(np.array(rounds.squared, dtype=np.float32), metric)
    return Picked(rounds.ids, distances, rounds.count)


class _Context(NamedTuple):
    """The context of the tasks."""

    centres: np.ndarray
    candidates: int
    metric: str
    layer: str | None


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
    # minus the squared distance, and the id, of the farthest record after these
    next: tuple[float, Any] | None


def _pick_central(rounds: Rounds, metric: str, layer: str | None) -> None:
    """Pick the record nearest to the mean."""
    context = _Context(np.empty((0, 0)), 0, metric, layer)
    sums = list(rounds.pool.map(_sum_of_part, context))
    # summed in float64 and rounded to float32, so that the order of the sums does not matter
    mean = np.array([math.fsum(column) for column in zip(*sums, strict=True)]) / rounds.count
    found = rounds.pool.map(_central_record, context._replace(centres=mean.astype(np.float32)[None]))
    number, best = min(
        ((number, each) for number, each in enumerate(found) if each is not None),
        key=lambda numbered: (numbered[1].squared, numbered[1].id),
    )
    rounds.pick(best.id, np.inf, number, best.place, best.vector)


def _run_round(rounds: Rounds, metric: str, layer: str | None) -> None:
    sent = _candidates(rounds, metric, layer)
    ids = [id for part in sent for id in part.ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)  # ties go to the smaller id
    ids = [ids[place] for place in order]
    parts = np.repeat(np.arange(len(sent)), [len(part.ids) for part in sent])[order]
    places = np.concatenate([part.places for part in sent])[order]
    vectors = np.concatenate([part.vectors for part in sent])[order]
    squared = np.concatenate([part.squared[part.places] for part in sent])[order]
    # distances only shrink, so that no record beyond the candidates can overtake this bound
    bound = min((part.next for part in sent if part.next is not None), default=None)
    while len(rounds.ids) < rounds.size:
        best = int(squared.argmax())
        if squared[best] < 0 or bound is not None and (-squared[best], ids[best]) > bound:
            break
        rounds.pick(ids[best], squared[best], parts[best], places[best], vectors[best])
        np.minimum(squared, squared_distances(vectors, vectors[best]), out=squared)
        squared[best] = -1
    rounds.pool.report(len(rounds.ids), rounds.size)


def _farthest(rounds: Rounds, metric: str, layer: str | None) -> float:
    """Return the squared distance of the record farthest from all picks, at least 0."""
    return max(0, *(part.squared.max(initial=0) for part in _candidates(rounds, metric, layer)))


def _candidates(rounds: Rounds, metric: str, layer: str | None) -> list[_Candidates]:
    candidates = max(_MIN_CANDIDATES, _CANDIDATES // len(rounds.states))
    return rounds.run(_round_of_part, _Context(np.array(rounds.new), candidates, metric, layer))


def _sum_of_part(part: Readable, context: _Context) -> np.ndarray:
    """Return the sum of a part's vectors, (D,) float64."""
    return Part.of(part).embeddings(context.layer, context.metric).sum(axis=0, dtype=np.float64)


def _central_record(part: Readable, context: _Context) -> _Central | None:
    records, vectors = _read(part, context)
    if not len(records):
        return None
    squared = squared_distances(vectors, context.centres[0])
    place = int(best_places(-squared, records.ids, 1)[0])
    return _Central(float(squared[place]), records.ids[place].as_py(), place, vectors[place])


def _round_of_part(item: tuple[Readable, State], context: _Context) -> _Candidates:
    """Compute the distances to the new centres, and return the farthest records."""
    part, state = item
    records, vectors = _read(part, context)
    squared = squared_to_nearest(vectors, context.centres, state.squared)
    squared[state.taken] = -1  # below the 0 of a record equal to a pick, so that none is picked twice
    farthest = best_places(squared, records.ids, min(context.candidates + 1, len(records)))
    places, others = farthest[: context.candidates], farthest[context.candidates :]
    following = (-float(squared[others[0]]), records.ids[others[0]].as_py()) if len(others) else None
    ids = records.ids.take(pa.array(places)).to_pylist()
    return _Candidates(squared, places, ids, vectors[places], following)


def _read(part: Readable, context: _Context) -> tuple[Part, np.ndarray]:
    records = Part.of(part)
    vectors = records.embeddings(context.layer, context.metric)
    check_same_size("coreset", vectors, context.centres)
    return records, vectors


STRATEGIES = (
    Strategy(coreset, needs_embeddings, kind="together", reference="optional", choices={"metric": METRICS}),
)
