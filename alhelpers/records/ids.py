"""Ids: strings or whole numbers, each once, told apart by a hash of 64 bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.records.schema import RecordError

# Rows hashed at a time: few enough that what they need stays in the processor's cache.
_BLOCK = 1 << 14
# The 64 bits of the golden ratio, whose multiples spread evenly.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def one_piece(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array, without a copy where it is one."""
    if isinstance(values, pa.Array):
        return values
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def check_distinct(ids: Sequence[pa.Array | pa.ChunkedArray], name: str = "records") -> None:
    """Check that no id comes twice.

    Parameters
    ----------
    ids : sequence of pyarrow.Array or pyarrow.ChunkedArray
        The ids, in as many pieces as the records were read in; strings in all of them or whole numbers in all.
    name : str
        What to call the records in errors.

    Raises
    ------
    RecordError
        If an id comes twice, in one piece or in two, or some ids are strings and others numbers; it names the
        id.
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
    alike = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if len(alike):
        _raise_if_twice(whole, alike, name)


def checked_ids(ids: pa.ChunkedArray | pa.Array, name: str, distinct: bool = True) -> pa.Array:
    """Return ids in one piece, as strings or 64-bit numbers, if each is there, and once."""
    whole = _plain(one_piece(ids), name)
    if whole.null_count:
        place = int(np.flatnonzero(whole.is_null().to_numpy(zero_copy_only=False))[0])
        raise RecordError(f"record {place} of {name} has no id", column="id")
    if distinct:
        check_distinct([whole], name)
    return whole


def id_hashes(ids: pa.Array) -> np.ndarray:
    """Return a hash of each id: the same on every machine, in every version and wherever the id stands.

    Parameters
    ----------
    ids : pyarrow.Array of length N
        Strings, or whole numbers of 64 bits, none of them missing.

    Returns
    -------
    numpy.ndarray of shape (N,), uint64
        Unlike ids are alike in about one of 2^64 pairs; whole numbers are their own hash. Mix it with a seed
        before drawing from it.
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


def _plain(ids: pa.Array, name: str) -> pa.Array:
    """Return ids in the type of their kind: string, or int64."""
    kind = ids.type
    if kind in (pa.string(), pa.int64()):
        return ids
    if pa.types.is_dictionary(kind):
        return _plain(ids.dictionary_decode(), name)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return ids.cast(pa.string())
    if pa.types.is_integer(kind):
        try:
            return ids.cast(pa.int64())
        except pa.ArrowException as error:
            raise RecordError(f"ids of {name} must fit into 64 bits: {error}", column="id") from error
    raise RecordError(f"ids of {name} must be strings or whole numbers, got {kind}", column="id")


def _raise_if_twice(ids: Sequence[pa.Array], alike: np.ndarray, name: str) -> None:
    """Raise if records whose hashes are alike have the same id; unlike ids may have one hash."""
    found = [part.filter(pa.array(np.isin(id_hashes(part), alike))) for part in ids]
    counts = pc.value_counts(pa.chunked_array(found))
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        id = min(twice.to_pylist())
        raise RecordError(f"id {id!r} comes more than once in {name}; ids must differ", id, "id")


def _word_hashes(words: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mix in eight bytes of each id at a time."""
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
