"""Coreset: cover the embeddings of records, or of the objects on them, with few records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.mining._farthest import Farthest, distances_to, refresh
from alhelpers.mining._neighbours import METRICS, as_distance, squared_distances
from alhelpers.mining._pool import Pool, Readable, best_places, nth_largest
from alhelpers.mining._rounds import Rounds, State
from alhelpers.mining._strategy import Needs, Part, Picked, Strategy, check_same_size, needs_embeddings

# The numbers of the vectors of all candidates together in a round, and the least number of candidates of a part.
_CANDIDATES, _MIN_CANDIDATES = 1 << 24, 64


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

    Needs ``embeddings`` (N, D), in the reference too if there is one; without it, the record nearest to the mean is the
    first. The score is the distance at which a record was picked, which never grows; ties go to the smaller id.
    ``metric``: ``"euclidean"`` or ``"cosine"``. Each pick is the best at its turn (greedy), found in rounds over the
    parts of the pool. Memory grows by the id and two numbers for each record; beside these it holds up to 256 MB of the
    pool between rounds, unless an engine reads it, and up to three copies of the embeddings of the farthest records, of
    64 MB at most. Use it for large batches and behind an uncertainty score in a cascade. It fails on outliers, which it
    picks first, and if the embeddings do not separate the classes, as in the first rounds.

    Source: Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018;
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.
    """
    return _cover(pool, reference, size, _Kind("coreset", metric, layer))


def object_coreset(
    pool: Pool, reference: Part | None, size: int, seed: int, *, metric: str = "euclidean"
) -> Picked:
    """Select a cover of the objects: each pick has the object farthest from those of all picks and the reference.

    Needs ``detections`` whose boxes have ``embeddings`` (D,), in the reference too if there is one; without it, the
    record whose objects are nearest to the mean of all is the first. The distance of an image is that of its object
    farthest from any object that is covered already (the directed Hausdorff distance of two sets), so that one new kind
    of object is enough, whatever is around it. The score is the distance at which a record was picked, and
    ``metric`` is as for coreset; records without objects come last, with the score 0. Use it behind box_uncertainty in
    a cascade: where images share backgrounds, their own embeddings show little of their objects. It fails on false
    detections, which are like no other object, and favours images with many objects, which cost more: limit the
    boxes, not the images.

    Source: Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018
    (of records); Yang et al., "Plug and play active learning for object detection", CVPR 2024 (first uncertainty, then
    the diversity of objects).
    """
    return _cover(pool, reference, size, _Kind("object_coreset", metric, None, objects=True))


class _Kind(NamedTuple):
    """What is covered: the embeddings of records, or those of their objects."""

    strategy: str
    metric: str
    layer: str | None
    objects: bool = False

    def points(self, records: Part) -> _Points:
        """Return the vectors of records, or of their objects."""
        if self.objects:
            return _Points(*records.object_embeddings(self.metric))
        vectors = records.embeddings(self.layer, self.metric)
        return _Points(vectors, np.arange(len(vectors) + 1))


class _Points(NamedTuple):
    """The vectors of records, (M, D): those of record k are ``offsets[k]`` up to ``offsets[k + 1]``."""

    vectors: np.ndarray
    offsets: np.ndarray

    def of(self, records: np.ndarray) -> tuple[_Points, np.ndarray]:
        """Return the vectors of some records, and their places."""
        if len(records) == len(self.offsets) - 1 and (records == np.arange(len(records))).all():
            return self, np.arange(len(self.vectors))
        counts = np.diff(self.offsets)[records]
        offsets = np.append(0, np.cumsum(counts))
        places = np.repeat(self.offsets[:-1][records] - offsets[:-1], counts) + np.arange(offsets[-1])
        return _Points(self.vectors[places], offsets), places

    def farthest(self, squared: np.ndarray, empty: float = 0) -> np.ndarray:
        """Return the largest of each record's squared distances, (N,); `empty` for one without vectors."""
        result = np.full(len(self.offsets) - 1, empty, dtype=np.float32)
        some = np.flatnonzero(np.diff(self.offsets))
        if len(some):
            result[some] = np.maximum.reduceat(squared, self.offsets[some])
        return result


class _Context(NamedTuple):
    """The context of the tasks."""

    # In the first round the reference or the first pick, later all picks since then.
    centres: np.ndarray
    # The vectors of the candidates of a part.
    candidates: int
    kind: _Kind


class _Distances(NamedTuple):
    """The squared distances of a part's vectors to the nearest of the first `seen` centres, both (M,)."""

    squared: np.ndarray
    seen: np.ndarray


class _Central(NamedTuple):
    """The record of a part nearest to the mean."""

    squared: float
    id: Any
    place: int
    vectors: np.ndarray


class _Candidates(NamedTuple):
    """The distances in a part, and its farthest records, by place."""

    # Of all vectors of the part, some of which have missed the last centres.
    squared: _Distances
    places: np.ndarray
    ids: pa.Array
    points: _Points
    # Of the vectors of the candidates, and of each candidate the largest of them; below 0 for picks.
    squared_of_points: np.ndarray
    values: np.ndarray
    # minus the squared distance, and the id, of the farthest record after these
    next: tuple[float, Any] | None


class _Cover(NamedTuple):
    """The rounds, what is covered, and the picks since the first round."""

    rounds: Rounds
    kind: _Kind
    later: list[np.ndarray]


def _cover(pool: Pool, reference: Part | None, size: int, kind: _Kind) -> Picked:
    rounds = Rounds(pool, size)
    cover = _Cover(rounds, kind, [])
    known = None if reference is None else kind.points(reference).vectors
    central = (known is None or not len(known)) and _pick_central(rounds, kind)
    if known is not None and len(known):
        rounds.new = [known]
    while len(rounds.ids) < size:
        _run_round(cover)
    if central:
        # the first pick has no distance: it gets the largest distance that was left after it
        rounds.squared[0] = rounds.squared[1] if size > 1 else _farthest(cover)
    distances = as_distance(np.array(rounds.squared, dtype=np.float32), kind.metric)
    return Picked(rounds.ids, distances, rounds.count)


def _pick_central(rounds: Rounds, kind: _Kind) -> bool:
    """Pick the record nearest to the mean, unless no record has a vector."""
    context = _Context(np.empty((0, 0)), 0, kind)
    sums, counts = zip(*rounds.pool.map(_sum_of_part, context), strict=True)
    if not sum(counts):
        return False
    # summed in float64 and rounded to float32, so that the order of the sums does not matter
    columns = zip(*(each for each, count in zip(sums, counts, strict=True) if count), strict=True)
    mean = np.array([math.fsum(column) for column in columns]) / sum(counts)
    found = rounds.pool.map(_central_record, context._replace(centres=mean.astype(np.float32)[None]))
    number, best = min(
        ((number, each) for number, each in enumerate(found) if each is not None),
        key=lambda numbered: (numbered[1].squared, numbered[1].id),
    )
    rounds.pick(best.id, np.inf, number, best.place, best.vectors)
    return True


def _run_round(cover: _Cover) -> None:
    rounds, sent = cover.rounds, _candidates(cover)
    ids = pa.concat_arrays([part.ids for part in sent])
    order = pc.sort_indices(ids).to_numpy()  # ties go to the smaller id
    ids = ids.take(pa.array(order))
    parts = np.repeat(np.arange(len(sent)), [len(part.ids) for part in sent])[order]
    places = np.concatenate([part.places for part in sent])[order]
    counts = np.concatenate([np.diff(part.points.offsets) for part in sent])
    vectors = [part.points.vectors for part in sent if len(part.points.vectors)]
    # a single array is not copied, as it can be the whole pool
    joined = vectors[0] if len(vectors) == 1 else np.concatenate(vectors or [np.empty((0, 0), np.float32)])
    points, sources = _Points(joined, np.append(0, np.cumsum(counts))).of(order)
    owners, offsets = np.repeat(np.arange(len(ids)), np.diff(points.offsets)), points.offsets
    farthest = Farthest(points.vectors, np.concatenate([part.squared_of_points for part in sent])[sources])
    # distances only shrink, so that no record beyond the candidates can overtake this bound
    bound = min((part.next for part in sent if part.next is not None), default=None)
    left = np.concatenate([part.values for part in sent])[order] >= 0
    for taken in np.flatnonzero(~left):
        farthest.remove(*offsets[taken : taken + 2])
    while len(rounds.ids) < rounds.size:
        place, squared = farthest.best()
        # at 0 are the records equal to picks, and those without vectors
        best, squared = (int(owners[place]), squared) if squared > 0 else (int(left.argmax()), 0.0)
        if not left[best : best + 1].any() or bound is not None and (-squared, ids[best].as_py()) > bound:
            break
        left[best] = False
        first, stop = offsets[best : best + 2]
        rounds.pick(ids[best].as_py(), squared, parts[best], places[best], points.vectors[first:stop])
        farthest.add(first, stop)
    rounds.pool.report(len(rounds.ids), rounds.size)


def _farthest(cover: _Cover) -> float:
    """Return the squared distance of the record farthest from all picks, at least 0."""
    return max(0, *(part.values.max(initial=0) for part in _candidates(cover)))


def _candidates(cover: _Cover) -> list[_Candidates]:
    rounds = cover.rounds
    new = [vectors for vectors in rounds.new if len(vectors)]
    if rounds.states[0].squared is not None:
        cover.later.extend(new)
        new = cover.later
    centres = np.concatenate(new) if new else np.empty((0, 0), dtype=np.float32)
    each = max(1, centres.shape[1]) * len(rounds.states)
    return rounds.run(
        _round_of_part, _Context(centres, max(_MIN_CANDIDATES, _CANDIDATES // each), cover.kind)
    )


def _sum_of_part(part: Readable, context: _Context) -> tuple[np.ndarray, int]:
    """Return the sum of a part's vectors, (D,) float64, and their number."""
    vectors = context.kind.points(Part.of(part)).vectors
    return vectors.sum(axis=0, dtype=np.float64), len(vectors)


def _central_record(part: Readable, context: _Context) -> _Central | None:
    records, points = _read(part, context)
    if not len(points.vectors):
        return None
    squared = points.farthest(squared_distances(points.vectors, context.centres[0]), np.inf)
    place = int(best_places(-squared, records.ids, 1)[0])
    vectors = points.of(np.array([place]))[0].vectors
    return _Central(float(squared[place]), records.ids[place].as_py(), place, vectors)


def _round_of_part(item: tuple[Readable, State], context: _Context) -> _Candidates:
    """Compute the distances to the new centres, and return the farthest records."""
    part, state = item
    records, points = _read(part, context)
    distances, later = state.squared, context.centres
    if distances is None:
        squared = np.full(len(points.vectors), np.inf, dtype=np.float32)
        if len(points.vectors) and len(context.centres):
            squared = distances_to(points.vectors, context.centres)
        distances, later = _Distances(squared, np.zeros(len(squared), dtype=np.int32)), context.centres[:0]
    places, following = np.arange(len(records)), None
    candidates = context.candidates * len(records) // max(1, len(records), len(points.vectors))
    candidates = max(_MIN_CANDIDATES, candidates)
    if len(records) > candidates:
        values = _refresh_farthest(points, distances, later, candidates + 1, state.taken)
        farthest = best_places(values, records.ids, candidates + 1)
        places, other = np.sort(farthest[:-1]), int(farthest[-1])
        following = (-float(values[other]), records.ids[other].as_py())
    chosen, sources = points.of(places)
    refresh(points.vectors, later, *distances, sources)
    squared = distances.squared[sources]
    values = chosen.farthest(squared)
    values[np.isin(places, state.taken)] = -1
    return _Candidates(
        distances, places, records.ids.take(pa.array(places)), chosen, squared, values, following
    )


def _refresh_farthest(
    points: _Points, distances: _Distances, centres: np.ndarray, wanted: int, taken: list[int]
) -> np.ndarray:
    """Return the distances of all records, (N,), of which so many of the largest are up to date."""
    squared, seen = distances
    reach = wanted
    while True:
        values = points.farthest(squared)
        values[taken] = -1  # below the 0 of a record equal to a pick, so that none is picked twice
        late = seen < len(centres)
        if not late[squared >= nth_largest(values, wanted)].any():
            return values
        least = nth_largest(values, reach)
        refresh(points.vectors, centres, squared, seen, np.flatnonzero(late & (squared >= least)), least)
        reach *= 2  # more than are wanted, as many turn out to be nearer


def _read(part: Readable, context: _Context) -> tuple[Part, _Points]:
    records = Part.of(part)
    points = context.kind.points(records)
    if len(points.vectors) and len(context.centres):
        check_same_size(context.kind.strategy, points.vectors, context.centres)
    return records, points


def _needs_of_objects(options: Mapping[str, Any]) -> Needs:
    return (("detections.embeddings",),)


STRATEGIES = tuple(
    Strategy(run, needs, kind="together", reference="optional", choices={"metric": METRICS}, hint=hint)
    for run, needs, hint in (
        (coreset, needs_embeddings, ""),
        (
            object_coreset,
            _needs_of_objects,
            "predict with embeddings=True, which a Detector computes of boxes, too",
        ),
    )
)
