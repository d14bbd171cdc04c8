"""Sampling goals with weights: scores, diversity and balance in one greedy choice, without near-duplicates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import records as rec
from alhelpers.mining._mine import score_pool
from alhelpers.mining._neighbours import as_distance, squared_to_nearest
from alhelpers.mining._own import is_column
from alhelpers.mining._pool import Pool, Readable
from alhelpers.mining._ranks import as_whole, ranks
from alhelpers.mining._selection import MiningError, PoolExhausted
from alhelpers.mining._strategy import Needs, Part, Picked, Strategy, check_same_size, embeddings_field

#: The field of the predicted class: its name, or its number where records have no names.
PREDICTED = "prediction.class_name"

# Records whose distances are brought up to date at once; four times as many each time that they do not decide.
_BLOCK = 256


class Score(NamedTuple):
    """A strategy that scores each record, and the weight of its ranks."""

    strategy: Strategy
    options: Mapping[str, Any]
    weight: float


class Balanced(NamedTuple):
    """A field of few values, the share of each or None for equal ones, and a weight."""

    field: str
    target: Mapping[str, float] | None
    weight: float


class Goals:
    """Select the records that serve several goals at once; as a strategy runs it."""

    def __init__(
        self,
        scores: Sequence[Score],
        diversity: float | None,
        balance: Sequence[Balanced],
        min_distance: float | None,
        metric: str,
        layer: str | None,
    ) -> None:
        self.scores, self.diversity, self.balance = scores, diversity, balance
        self.min_distance, self.metric, self.layer = min_distance, metric, layer
        names = [each.strategy.name for each in scores] + ["diversity"] * (diversity is not None)
        self.__name__ = " + ".join([*names, *(each.field for each in balance)])

    @property
    def compares(self) -> bool:
        """Whether embeddings are compared."""
        return self.diversity is not None or self.min_distance is not None

    def strategy(self) -> Strategy:
        """Return what runs these goals."""
        own: Needs = ((embeddings_field(self.layer),),) if self.compares else ()
        fields: Needs = tuple(_columns_of(each.field) for each in self.balance)
        inner = [each.strategy for each in self.scores]
        needs = [need for each in self.scores for need in each.strategy.needs(each.options)]
        of_reference = [
            need for each in self.scores for need in each.strategy.needs_of_reference(each.options)
        ]
        uses = {each.reference for each in inner} | ({"optional"} if self.compares else set())
        return Strategy(
            self,
            lambda options: tuple(dict.fromkeys((*needs, *own, *fields))),
            kind="together",
            reference=next((each for each in ("required", "optional") if each in uses), "none"),
            reference_needs=lambda options: tuple(dict.fromkeys((*of_reference, *own))),
            extras=(
                *(name for each in inner for name in each.extras),
                *(["class_names"] if any(each.field == PREDICTED for each in self.balance) else []),
            ),
            documents=(
                *(name for each in inner for name in each.documents),
                *(each.field for each in self.balance if is_column(each.field)),
            ),
            reference_extras=tuple(name for each in inner for name in each.reference_extras),
        )

    def __call__(self, pool: Pool, reference: Part | None, size: int, seed: int) -> Picked:
        found = list(pool.map(_read, (self.compares, self.layer, self.metric, self.balance)))
        ids = pa.concat_arrays(pool.check_ids([each.ids for each in found]))
        order = pc.sort_indices(ids).to_numpy()  # so that the first of equals has the smaller id
        weights = iter(self._weights())
        total = np.zeros(len(ids))
        notes: list[dict[str, Any]] = []
        for score in self.scores:
            values, note = _ranked(score, pool, reference, seed)
            total += next(weights) * values
            notes.append(note)
        vectors = centres = None
        diversity = 0.0 if self.diversity is None else next(weights)
        if self.compares:
            vectors = np.concatenate([each.vectors for each in found])[order]
            centres = None if reference is None else reference.embeddings(self.layer, self.metric)
            if centres is not None:
                check_same_size("goals", vectors, centres)
        quotas = [
            _Quota(each, [part.values[place] for part in found], size, order, next(weights))
            for place, each in enumerate(self.balance)
        ]
        distances = None
        if vectors is not None:
            distances = _Distances(vectors, centres, self.metric, diversity, self.min_distance)
        greedy = _Greedy(total[order], distances, quotas, sum(self._weights()))
        while len(greedy.picks) < size and greedy.pick():
            pool.report(len(greedy.picks), size)
        picks, count = greedy.picks, len(ids)
        self._check_picks(len(picks), size, count)
        gains = np.array(greedy.gains) / sum(self._weights())
        about = {
            "goals": [*notes, *self._own_notes(quotas)],
            "min_distance": self.min_distance,
            "metric": self.metric,
        }
        return Picked(ids.take(pa.array(order[picks])).to_pylist(), gains.astype(np.float32), count, about)

    def _weights(self) -> list[float]:
        own = [] if self.diversity is None else [self.diversity]
        return as_whole([each.weight for each in self.scores] + own + [each.weight for each in self.balance])

    def _own_notes(self, quotas: Sequence[_Quota]) -> list[dict[str, Any]]:
        own = (
            []
            if self.diversity is None
            else [{"diversity": embeddings_field(self.layer), "weight": self.diversity}]
        )
        return own + [quota.note() for quota in quotas]

    def _check_picks(self, picked: int, size: int, count: int) -> None:
        if picked == size:
            return
        if size > count:
            raise PoolExhausted(f"size={size} records were asked for, but the pool holds {count}")
        text = f"every other record is nearer than min_distance={self.min_distance:g} to a pick or a labelled record"
        if not picked:
            raise PoolExhausted(f"there is nothing to choose from {count} records: {text}")
        warnings.warn(f"goals chose {picked} records, not {size}: {text}", stacklevel=2)


def _columns_of(field: str) -> tuple[str, ...]:
    return ("class_name", "confidences", "logits") if field == PREDICTED else (field.partition(".")[0],)


def _ranked(score: Score, pool: Pool, reference: Part | None, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the ranks of a strategy's scores, divided by their number, (N,), and a note about them."""
    strategy, options, weight = score
    own = Pool(pool.records, strategy.columns_of(pool.records, options), pool.engine)
    labelled = strategy.labelled(None if reference is None else reference.table, options)
    found = score_pool(strategy, own, labelled, seed, options)
    note = {"strategy": strategy.name, "options": dict(options), "weight": weight} | dict(found.notes)
    return ranks(found.scores) / len(found.scores), note


class _Read(NamedTuple):
    """What the goals use of a part of the pool."""

    ids: pa.Array
    vectors: np.ndarray | None
    values: list[pa.Array]


def _read(part: Readable, context: tuple[bool, str | None, str, Sequence[Balanced]]) -> _Read:
    compares, layer, metric, balance = context
    records = Part.of(part)
    vectors = records.embeddings(layer, metric) if compares else None
    return _Read(records.ids, vectors, [_texts(records, each.field) for each in balance])


def _texts(part: Part, field: str) -> pa.Array:
    """Return the values of a field as texts; raise if a record lacks it, or it has no values to count."""
    if field == PREDICTED and not (part.has("class_name") or part.has("class_names")):
        numbers = part.confidences().argmax(axis=1) if len(part) else np.empty(0, dtype=np.int64)
        values = pa.chunked_array([pa.array(numbers)])
    else:
        values = part.field(field)
    kind = values.type
    fits = pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if not fits and not pa.types.is_null(kind):
        raise MiningError(
            f"{field} holds {kind}, but goals balance texts, whole numbers or true and false: write it as one of these"
        )
    if values.null_count:
        id = part.ids[int(np.flatnonzero(values.is_null().to_numpy())[0])].as_py()
        raise rec.RecordError(
            f"record {id!r} has no {field}, which goals balance: write it, or select the records that have it",
            id,
        )
    return pc.cast(values, pa.string()).combine_chunks()


class _Quota:
    """How many picks each value of a field should have, and has."""

    def __init__(
        self, goal: Balanced, parts: Sequence[pa.Array], size: int, order: np.ndarray, weight: float
    ) -> None:
        self.goal, self.weight = goal, weight
        whole = pa.chunked_array(parts, pa.string())
        self.values = sorted(pc.unique(whole).to_pylist())
        self.codes = pc.index_in(whole, value_set=pa.array(self.values)).to_numpy()[order]
        target = dict.fromkeys(self.values, 1.0) if goal.target is None else goal.target
        absent = [value for value in target if value not in self.values]
        if absent:
            there = f"{goal.field} of the records has the values {', '.join(map(repr, self.values[:20]))}"
            text = f"the target of {goal.field} has {absent[0]!r}, which no record has; {there}"
            if len(absent) == len(target):
                raise MiningError(text)
            warnings.warn(text, stacklevel=2)
        total = sum(target.values())
        self.wanted = np.array([target.get(value, 0) / total * size for value in self.values])
        self.counts = np.zeros(len(self.values), dtype=np.int64)
        self.gains = weight * (self.wanted > 0)

    def add(self, row: int) -> np.ndarray:
        """Count a pick; return the rows whose gain changed."""
        value = self.codes[row]
        self.counts[value] += 1
        if self.wanted[value]:
            self.gains[value] = self.weight * max(0, 1 - self.counts[value] / self.wanted[value])
        return np.flatnonzero(self.codes == value)

    def note(self) -> dict[str, Any]:
        wanted, counts = self.wanted.tolist(), self.counts.tolist()
        return {
            "balance": self.goal.field,
            "weight": self.goal.weight,
            "wanted": dict(zip(self.values, wanted, strict=True)),
            "picked": dict(zip(self.values, counts, strict=True)),
        }


class _Distances:
    """The distance of each record to the nearest pick or labelled record; an upper bound while it is stale."""

    def __init__(
        self,
        vectors: np.ndarray,
        reference: np.ndarray | None,
        metric: str,
        weight: float,
        min_distance: float | None,
    ) -> None:
        self.vectors, self.metric, self.weight = vectors, metric, weight
        self.min_distance = 0.0 if min_distance is None else min_distance
        self.squared = np.full(len(vectors), np.inf, dtype=np.float32)
        self.centres: list[np.ndarray] = []
        self.seen = np.zeros(len(vectors), dtype=np.int64)  # how many of the centres each distance is to
        self.scale: float | None = None if weight else 1.0
        if reference is not None:
            self.squared = squared_to_nearest(vectors, reference)
            self.scale = self._largest() if weight else 1.0

    def add(self, row: int) -> bool:
        """Add a pick; return whether the gains of all records changed."""
        self.centres.append(self.vectors[row])
        if self.scale is not None:
            return False
        self.update(np.arange(len(self.vectors)))
        self.scale = self._largest()
        return True

    def _largest(self) -> float:
        return float(as_distance(self.squared.max(keepdims=True), self.metric)[0])

    def is_stale(self, row: int) -> bool:
        return self.seen[row] < len(self.centres)

    def update(self, rows: np.ndarray) -> None:
        """Bring distances up to date."""
        since = int(self.seen[rows].min())
        centres = np.array(self.centres[since:])
        self.squared[rows] = squared_to_nearest(self.vectors[rows], centres, self.squared[rows])
        self.seen[rows] = len(self.centres)

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return the weighted distances in units of the largest at the start; -inf for near-duplicates."""
        distances = as_distance(self.squared[rows], self.metric).astype(np.float64)
        near = distances < self.min_distance
        if self.scale is None:  # before the first pick all are as far
            gains = np.full(len(rows), self.weight)
        elif self.weight and self.scale:
            gains = self.weight * (distances / self.scale)
        else:
            gains = np.zeros(len(rows))
        return np.where(near, -np.inf, gains)


class _Greedy:
    """Picks one after the other. No gain ever grows, so that gains that are not up to date are upper bounds."""

    def __init__(
        self, scores: np.ndarray, distances: _Distances | None, quotas: Sequence[_Quota], most: float
    ) -> None:
        self.scores, self.distances, self.quotas = scores, distances, quotas
        # Equal sums that were added up in another order differ in their last digits; rounded they are equal.
        self.decimals = 10 - math.frexp(most)[1] // 3
        self.totals = np.empty(len(scores))
        self.taken = np.zeros(len(scores), dtype=bool)
        self.picks: list[int] = []
        self.gains: list[float] = []
        self._sum(np.arange(len(scores)))

    def _sum(self, rows: np.ndarray) -> None:
        totals = self.scores[rows]
        if self.distances is not None:
            totals = totals + self.distances.gains(rows)
        for quota in self.quotas:
            totals = totals + quota.gains[quota.codes[rows]]
        self.totals[rows] = np.where(self.taken[rows], -np.inf, totals.round(self.decimals))

    def pick(self) -> bool:
        """Pick the record with the largest gain, the first of equals; return False if none is left."""
        block = _BLOCK
        while True:
            best = int(self.totals.argmax())
            if self.totals[best] == -np.inf:
                return False
            if self.distances is None or not self.distances.is_stale(best):
                break
            rows = np.arange(len(self.totals))
            if block < len(rows):
                rows = np.append(np.argpartition(self.totals, -block)[-block:], best)
            rows = rows[
                (self.distances.seen[rows] < len(self.distances.centres)) & (self.totals[rows] > -np.inf)
            ]
            rows = np.unique(rows)
            self.distances.update(rows)
            self._sum(rows)
            block *= 4
        self.picks.append(best)
        self.gains.append(float(self.totals[best]))
        self.taken[best] = True
        self.totals[best] = -np.inf
        changed = [quota.add(best) for quota in self.quotas]
        if self.distances is not None and self.distances.add(best):
            changed = [np.arange(len(self.totals))]
        for rows in changed:
            self._sum(rows)
        return True
