"""Ids: strings or whole numbers, each once, compared by a hash of 64 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.records.schema import RecordError, kept_type
from alhelpers.scores import ScoreError

# Rows hashed at a time: few enough for the processor's cache.
_BLOCK = 1 << 14
# The 64 bits of the golden ratio, whose multiples spread evenly.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def one_piece(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array, without a copy if it has one chunk."""
    if isinstance(values, pa.Array):
        return values
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def check_distinct(ids: Sequence[pa.Array | pa.ChunkedArray], name: str = "records") -> None:
    """Check that every id is unique.

    Parameters
    ----------
    ids : sequence of pyarrow.Array or pyarrow.ChunkedArray
        The ids, in any number of pieces: all strings or all whole numbers.
    name : str
        The name of the records in errors.

    Raises
    ------
    RecordError
        If an id comes twice, in one piece or in two, or some ids are strings and others are numbers. The
        message names the id.
    """
    whole = [_plain(one_piece(part), name) for part in ids if len(part)]
    if not whole:
        return
    other = next((part for part in whole if part.type != whole[0].type), None)
    if other is not None:
        raise RecordError(
            f"{name} have ids of two kinds, {whole[0].type} as {whole[0][0].as_py()!r} and {other.type} as "
            f"{other[0].as_py()!r}: make them all strings or all whole numbers",
            other[0].as_py(),
            "id",
        )
    hashes = np.concatenate([id_hashes(part) for part in whole])
    hashes.sort()
    repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(repeated):
        return
    # different ids may have the same hash: compare the ids themselves
    suspects = [part.filter(pa.array(np.isin(id_hashes(part), repeated))) for part in whole]
    counts = pc.value_counts(pa.chunked_array(suspects))
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        id = min(twice.to_pylist())
        raise RecordError(f"id {id!r} comes more than once in {name}; ids must be unique", id, "id")


def checked_ids(ids: pa.ChunkedArray | pa.Array, name: str, distinct: bool = True) -> pa.Array:
    """Return ids in one piece, as strings or 64-bit numbers; raise if one is missing or comes twice."""
    whole = _plain(one_piece(ids), name)
    if whole.null_count:
        raise RecordError(f"record {first_null(whole)} of {name} has no id", column="id")
    if distinct:
        check_distinct([whole], name)
    return whole


def first_null(values: pa.Array) -> int:
    """Return the place of the first missing value."""
    return int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])


@contextmanager
def naming_record(ids: pa.Array | pa.ChunkedArray, what: str, column: str) -> Iterator[None]:
    """Convert a ScoreError about a row into a RecordError that names the record with this id."""
    try:
        yield
    except ScoreError as error:
        id = None if error.row is None else ids[error.row].as_py()
        record = "" if id is None else f"record {id!r}: "
        raise RecordError(f"{record}{what}: {error}", id, column) from error


def id_hashes(ids: pa.Array) -> np.ndarray:
    """Return a hash of each id, the same on every machine and in every version.

    Parameters
    ----------
    ids : pyarrow.Array of length N
        Strings, or whole numbers of 64 bits, none of them missing.

    Returns
    -------
    numpy.ndarray of shape (N,), uint64
        Two different ids have the same hash with a probability of about 2^-64; whole numbers are their own
        hash. Mix it with a seed before drawing from it.
    """
    if not len(ids):
        return np.empty(0, np.uint64)
    if pa.types.is_integer(ids.type):
        return ids.to_numpy().view(np.uint64)
    _, ends, characters = ids.buffers()
    ends = np.frombuffer(ends, np.int32)[ids.offset : ids.offset + len(ids) + 1]
    if characters is None:
        return np.zeros(len(ids), np.uint64)
    # With eight more bytes, a word of eight can be read from any place on, aligned or not.
    text = np.concatenate([np.frombuffer(characters, np.uint8)[ends[0] : ends[-1]], np.zeros(8, np.uint8)])
    words = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))
    hashes = np.empty(len(ids), np.uint64)
    for start in range(0, len(ids), _BLOCK):
        block = ends[start : start + _BLOCK + 1] - ends[0]
        hashes[start : start + _BLOCK] = _word_hashes(words, block[:-1], np.diff(block))
    return hashes


def _word_hashes(words: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Hash texts by mixing in eight bytes of each at a time."""
    starts = starts.astype(np.int64)
    hashes = lengths.astype(np.uint64)
    shortest = int(lengths.min())
    for done in range(0, int(lengths.max()), 8):
        all_of_them = shortest > done
        rows = slice(None) if all_of_them else np.flatnonzero(lengths > done)
        mixed = words[starts[rows] + done]
        if shortest < done + 8:
            # bytes behind the end of an id belong to the next one
            mixed <<= (8 * np.maximum(done + 8 - lengths[rows], 0)).astype(np.uint64)
        mixed ^= hashes[rows]
        mixed *= _FACTOR
        mixed ^= mixed >> np.uint64(29)
        if all_of_them:
            hashes = mixed
        else:
            hashes[rows] = mixed
    return hashes


def _plain(ids: pa.Array, name: str) -> pa.Array:
    """Return ids as string or int64."""
    kind = kept_type("id", ids.type, name)
    try:
        return ids if ids.type == kind else ids.cast(kind)
    except pa.ArrowException as error:
        raise RecordError(f"ids of {name} must fit into 64 bits: {error}", column="id") from error
