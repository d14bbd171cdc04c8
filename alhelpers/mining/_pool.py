"""The pool, as strategies see it: parts that tasks of the engine read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import records as rec
from alhelpers.mining._engine import Engine, Here, Task
from alhelpers.mining._selection import PoolExhausted

Progress = Callable[[int, int], None]

# Bytes of a pool that this process keeps between passes; the rest it reads again.
_KEPT_BYTES = 1 << 28


class Readable(Protocol):
    """A part of the pool."""

    rows: int

    def load(self, *, distinct: bool = True) -> pa.Table:
        """Return its records."""


class Kept(NamedTuple):
    """A part that was read and is kept."""

    rows: int
    table: pa.Table

    def load(self, *, distinct: bool = True) -> pa.Table:
        """Return its records."""
        return self.table


class Pool:
    """The records to choose from.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.
    columns : sequence of str
        What strategies read of them, beside ``id``.
    engine : Engine
        Where tasks run.
    progress : callable, optional
        Called with how much is done and how much there is.
    """

    def __init__(
        self,
        records: rec.Records,
        columns: Sequence[str],
        engine: Engine,
        progress: Progress | None = None,
    ) -> None:
        self.records, self.engine, self._progress = records, engine, progress
        parts = rec.parts(records, columns)
        self.columns, self.parts = parts[0].columns, list[Readable](parts)
        self._ids: list[pa.Array] | None = None

    @property
    def most(self) -> int:
        """How many records there are, before filters."""
        return sum(part.rows for part in self.parts)

    def map(self, task: Task, context: Any = None, items: Iterable[Any] | None = None) -> Iterator[Any]:
        """Return ``task(part, context)`` of every part in order, or of the items that stand for the parts."""
        return self.engine.map(task, self.parts if items is None else items, context)

    def ids(self) -> list[pa.Array]:
        """Return the ids of each part, after checking that no id comes twice; they are read once."""
        if self._ids is None:
            only_ids = rec.parts(self.records, ())
            self._ids = self.checked(list(self.engine.map(_ids_of, only_ids, None)))
        return self._ids

    def checked(self, ids: list[pa.Array]) -> list[pa.Array]:
        """Return the ids of all parts, if there are any, and none comes twice."""
        if not sum(map(len, ids)):
            raise rec.RecordError("records hold no record")
        if not _in_order(ids):
            rec.check_distinct(ids)
        return ids

    def keep(self) -> None:
        """Keep parts in memory for passes to come, as many as fit, where they are read in this process."""
        if not isinstance(self.engine, Here):
            return
        room = _KEPT_BYTES
        for place, part in enumerate(self.parts):
            table = part.load(distinct=False)
            room -= table.nbytes
            if room < 0:
                break
            self.parts[place] = Kept(table.num_rows, table)

    def report(self, done: int, total: int) -> None:
        """Tell how much is done."""
        if self._progress is not None:
            self._progress(done, total)


class Best(NamedTuple):
    """The best records of a part, or of several: highest score first, ties by id."""

    ids: pa.Array
    scores: np.ndarray


def best_of(parts: Sequence[Best], size: int) -> Best:
    """Merge the best records of parts."""
    ids, scores = parts[0]
    if len(parts) > 1:
        ids = pa.concat_arrays([part.ids for part in parts])
        scores = np.concatenate([part.scores for part in parts])
    places = best_places(scores, ids, min(size, len(scores)))
    return Best(ids.take(pa.array(places)), scores[places])


def best_places(scores: np.ndarray, ids: pa.Array, size: int) -> np.ndarray:
    """Return the places of the highest scores, best first, ties by id; (size,) int."""
    if not size:
        return np.empty(0, dtype=np.intp)
    threshold = np.partition(scores, len(scores) - size)[len(scores) - size]
    candidates = np.flatnonzero(scores >= threshold)
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    ordered = scores[candidates]
    if (ordered[1:] == ordered[:-1]).any():
        candidates = candidates[pc.sort_indices(ids.take(pa.array(candidates))).to_numpy()]
        candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    return candidates[:size]


def check_enough(size: int, count: int) -> None:
    """Raise unless the pool has as many records as are to be chosen."""
    if size > count:
        raise PoolExhausted(f"size={size} records were asked for, but the pool holds {count}")


def ids_of(table: pa.Table) -> pa.Array:
    """Return the ids of a table in one piece."""
    ids = table["id"]
    return ids.chunk(0) if ids.num_chunks == 1 else ids.combine_chunks()


def _ids_of(part: Readable, context: None) -> pa.Array:
    return ids_of(part.load(distinct=False))  # checked all together


def _in_order(ids: Sequence[pa.Array]) -> bool:
    """Tell whether each id is larger than the one before it: so they differ, and need not be compared with all."""
    before = None
    for part in ids:
        if not len(part):
            continue
        first = part[0].as_py()
        if before is not None and (type(before) is not type(first) or not before < first):
            return False
        if not pc.all(pc.less(part[:-1], part[1:]), min_count=0).as_py():
            return False
        before = part[-1].as_py()
    return True
