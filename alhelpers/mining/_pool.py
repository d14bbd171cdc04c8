"""The pool as strategies use it: parts that tasks of the engine read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import records as rec
from alhelpers import scores
from alhelpers.mining._engine import Engine, Task, in_process
from alhelpers.mining._selection import PoolExhausted

# The fields of several predictions of each record, in the order in which they are used if either will do.
SAMPLES = ("mc_dropout", "query_by_committee")

Progress = Callable[[int, int], None]

# The largest number of an embedding: thousands of its squares are in the range of float32.
_LARGEST = 1e17

# One value of so many is looked at to guess which are among the largest.
_SAMPLED = 16

# Bytes of a pool that this process keeps in memory between passes; the others are read again.
_CACHE_BYTES = 1 << 28


@dataclass(frozen=True)
class Part:
    """Checked records, with ``id`` and the fields of a strategy: part of the pool, or the reference, ordered by id."""

    table: pa.Table

    @classmethod
    def of(cls, part: Readable) -> Part:
        """Read a part of the pool, whose ids are checked together with those of the other parts."""
        return part if isinstance(part, Part) else cls(part.load(distinct=False))

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def rows(self) -> int:
        return len(self)

    @property
    def ids(self) -> pa.Array:
        """The ids in one piece."""
        ids = self.table["id"]
        return ids.chunk(0) if ids.num_chunks == 1 else ids.combine_chunks()

    def has(self, name: str) -> bool:
        return name in self.table.column_names

    def numbers(self, name: str) -> np.ndarray:
        """Return a field of numbers, vectors or samples."""
        return rec.column(self.table, name)

    def field(self, name: str) -> pa.ChunkedArray:
        """Return a field as filters know it, such as ``metadata.blur``."""
        return rec.field_values(self.table, name)

    def confidences(self) -> np.ndarray:
        """Return confidences, (N, C): the field, or else the softmax of the logits."""
        if self.has("confidences"):
            return self.numbers("confidences")
        return scores.confidences_from_logits(self.numbers("logits"))

    def samples(self) -> np.ndarray:
        """Return the predictions of the passes or else of the members, (N, S, C)."""
        return self.numbers(next(name for name in SAMPLES if self.has(name)))

    def embeddings(self, layer: str | None, metric: str = "euclidean") -> np.ndarray:
        """Return a layer's embeddings, (N, D); of unit length for the cosine."""
        name = embeddings_field(layer)
        return self._comparable(self.numbers(name), metric, name)

    def object_embeddings(self, metric: str = "euclidean") -> tuple[np.ndarray, np.ndarray]:
        """Return the embeddings of all boxes, (M, D), and the offsets of each record's, (N + 1,); as `embeddings`."""
        boxes = rec.boxes(self.table)
        if boxes.embeddings is None:  # no record has a box
            return np.empty((0, 0), dtype=np.float32), boxes.offsets
        owners = np.repeat(np.arange(len(self)), np.diff(boxes.offsets))
        return self._comparable(boxes.embeddings, metric, "detections.embeddings", owners), boxes.offsets

    def _comparable(
        self, vectors: np.ndarray, metric: str, name: str, owners: np.ndarray | None = None
    ) -> np.ndarray:
        """Return vectors whose distances can be computed; those of boxes have a record as their owner."""

        def id_of(row: int) -> Any:
            return self.ids[row if owners is None else int(owners[row])].as_py()

        if len(vectors) and max(vectors.max(), -vectors.min()) > _LARGEST:
            id = id_of(int(np.abs(vectors).max(axis=1).argmax()))
            message = (
                f"record {id!r}: {name} has values beyond {_LARGEST:g}, whose squares overflow float32; "
            )
            raise rec.RecordError(f"{message}scale all embeddings down", id, name)
        if metric != "cosine":
            return vectors
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        if not largest.all():
            id = id_of(int(np.flatnonzero(largest[:, 0] == 0)[0]))
            message = f'record {id!r}: {name} is a zero vector, which has no cosine; use metric="euclidean"'
            raise rec.RecordError(message, id, name)
        vectors = vectors / largest  # their squares would vanish if all numbers are small
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# A part of the pool, in memory or still to be read.
Readable = Part | rec.RecordPart


def embeddings_field(layer: str | None) -> str:
    """Return the field of a layer's embeddings; None is the default layer."""
    return "embeddings" if layer is None else f"embeddings:{layer}"


class Pool:
    """The records to choose from, with ``id`` and the columns that a strategy reads."""

    def __init__(
        self, records: rec.Records, columns: Sequence[str], engine: Engine, progress: Progress | None = None
    ) -> None:
        self.records, self.engine, self._progress = records, engine, progress
        parts = rec.parts(records, columns)
        self.columns, self.parts = parts[0].columns, list[Readable](parts)
        self._ids: list[pa.Array] | None = None

    @property
    def max_records(self) -> int:
        """The number of records before filters."""
        return sum(part.rows for part in self.parts)

    def map(self, task: Task, context: Any = None, items: Iterable[Any] | None = None) -> Iterator[Any]:
        """Yield ``task(part, context)`` of every part in order, or of the items that represent the parts."""
        return self.engine(task, self.parts if items is None else items, context)

    def ids(self) -> list[pa.Array]:
        """Return the ids of each part, which are read once, after checking that none occurs twice."""
        if self._ids is None:
            self._ids = self.check_ids(list(self.map(_ids_of, items=rec.parts(self.records, ()))))
        return self._ids

    def all_ids(self) -> pa.Array:
        """Return the ids of all parts in one piece."""
        return pa.concat_arrays(self.ids())

    def check_ids(self, ids: list[pa.Array]) -> list[pa.Array]:
        """Return the ids of all parts; raise if there are none or one occurs twice."""
        if not sum(map(len, ids)):
            raise rec.RecordError("records hold no record")
        if not _increasing(ids):
            rec.check_distinct(ids)
        return ids

    def cache(self) -> None:
        """Keep as many parts in memory as fit, if they are read in this process more than once."""
        if self.engine is not in_process:
            return
        left = _CACHE_BYTES
        for place, part in enumerate(self.parts):
            loaded = Part.of(part)
            left -= loaded.table.nbytes
            if left < 0:
                break
            self.parts[place] = loaded

    def report(self, done: int, total: int) -> None:
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
    candidates = np.flatnonzero(scores >= nth_largest(scores, size))
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    ordered = scores[candidates]
    if (ordered[1:] == ordered[:-1]).any():
        candidates = candidates[pc.sort_indices(ids.take(pa.array(candidates))).to_numpy()]
        candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    return candidates[:size]


def nth_largest(values: np.ndarray, n: int) -> float:
    """Return the n-th largest of the values, or the smallest if they are fewer."""
    sample = values[::_SAMPLED]
    rank = 2 * n // _SAMPLED + 32
    if 4 * rank < len(sample):  # only what reaches a low guess need be ordered
        few = values[values >= np.partition(sample, -rank)[-rank]]
        values = few if len(few) >= n else values
    place = max(len(values) - n, 0)
    return float(np.partition(values, place)[place])


def check_enough(size: int, count: int) -> None:
    """Raise unless the pool has enough records."""
    if size > count:
        raise PoolExhausted(f"size={size} records were asked for, but the pool holds {count}")


def _ids_of(part: Readable, context: None) -> pa.Array:
    return Part.of(part).ids


def _increasing(ids: Sequence[pa.Array]) -> bool:
    """Return whether each id is larger than the one before it; then none occurs twice."""
    whole = pa.chunked_array(ids)
    return pc.all(pc.less(whole[:-1], whole[1:]), min_count=0).as_py()
