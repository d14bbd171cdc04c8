"""The values of one column as checked arrow arrays: numbers, vectors, samples and texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.ids import first_null, one_piece
from alhelpers.records.schema import RecordError, depth

_FORMS = ("a number", "a vector of numbers", "predictions x classes")


def from_numbers(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Convert numbers, vectors or samples of one shape into an arrow array."""
    if isinstance(values, np.ndarray):
        numbers = np.ascontiguousarray(values, dtype=np.float32)
    else:
        arrays = [_array(value, column, id) for value, id in zip(values, ids, strict=True)]
        for array, id in zip(arrays, ids, strict=True):
            if array.shape != arrays[0].shape:
                raise RecordError(
                    f"record {id!r}: {column} has shape {array.shape}, record {ids[0]!r} has {arrays[0].shape}",
                    id,
                    column,
                )
        numbers = np.stack(arrays)
    if numbers.ndim != depth(column) + 1 or 0 in numbers.shape[1:]:
        raise RecordError(
            f"{column} must be {_FORMS[depth(column)]} in each record, got shape {numbers.shape[1:]}",
            column=column,
        )
    return _listed(pa.array(numbers.ravel()), numbers.shape[1:])


def _array(value: Any, column: str, id: Any) -> np.ndarray:
    if value is None:
        raise RecordError(f"record {id!r} has no {column}, other records have", id, column)
    try:
        return np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise RecordError(
            f"record {id!r}: {column} must be numbers, rows of one length, got {value!r:.80}", id, column
        ) from None


def _listed(values: pa.Array, sizes: Sequence[int]) -> pa.Array:
    """Nest a flat array in lists of fixed sizes, the outermost size first."""
    for size in reversed(sizes):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def checked_numbers(values: pa.Array, column: str, ids: pa.Array, expected: tuple[int, ...] = ()) -> pa.Array:
    """Return a column of finite float32 numbers in lists of the expected sizes, or those of the first record."""
    sizes: list[int] = []
    for level in range(depth(column)):
        _check_present(values, column, ids)
        values, size = _flattened(values, column, ids, expected[level] if expected else None)
        sizes.append(size)
    _check_present(values, column, ids)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise RecordError(f"{column} must hold numbers, got {values.type}", column=column)
    flat = values if values.type == pa.float32() else values.cast(pa.float32(), safe=False)
    finite = np.isfinite(flat.to_numpy(zero_copy_only=True))
    if not finite.all():
        id = ids[int(np.flatnonzero(~finite)[0]) // math.prod(sizes)].as_py()
        raise RecordError(
            f"record {id!r}: {column} holds NaN or infinity; leave it out or predict it again", id, column
        )
    return _listed(flat, sizes)


def _flattened(values: pa.Array, column: str, ids: pa.Array, expected: int | None) -> tuple[pa.Array, int]:
    """Remove one level of lists of one length; return what is inside, and the length."""
    kind = values.type
    if pa.types.is_fixed_size_list(kind):
        lengths = np.array([kind.list_size])  # the same for all records
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = values.value_lengths().to_numpy()
    else:
        raise RecordError(
            f"{column} must be {_FORMS[depth(column)]} in each record, got {kind}", column=column
        )
    size = expected if expected is not None else int(lengths[0]) if len(lengths) else 1
    if len(values) and (lengths != size).any():
        place = int(np.flatnonzero(lengths != size)[0])
        id = ids[place * len(ids) // len(lengths)].as_py()
        raise RecordError(
            f"record {id!r}: {column} has a list of {lengths[place]}, the first record's has {size}",
            id,
            column,
        )
    if not size:
        raise RecordError(f"{column} holds empty vectors", column=column)
    return values.flatten(), size


def _check_present(values: pa.Array, column: str, ids: pa.Array) -> None:
    if values.null_count:
        id = ids[first_null(values) * len(ids) // len(values)].as_py()
        raise RecordError(
            f"record {id!r} has no {column}, or a part of it is missing; other records have", id, column
        )


def as_array(values: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return a column as a numpy array, numbers without a copy."""
    whole = one_piece(values)
    shape = [len(whole)]
    while (listed := pa.types.is_fixed_size_list(whole.type)) or pa.types.is_floating(whole.type):
        if whole.null_count:
            raise RecordError(f"{name} is missing in {whole.null_count} records", column=name)
        if not listed:
            break
        shape.append(whole.type.list_size)
        whole = whole.flatten()
    if len(shape) == 1 and not pa.types.is_floating(whole.type):
        return np.array(whole.to_pylist(), dtype=object)
    return whole.to_numpy().reshape(shape)


def sizes_of(kind: pa.DataType) -> tuple[int, ...]:
    """Return the sizes of nested lists of fixed sizes, outermost first; empty for other types."""
    sizes = []
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return tuple(sizes)


def checked_text(values: pa.ChunkedArray, kind: pa.DataType, column: str) -> pa.ChunkedArray:
    """Return a column of texts, or of lists of texts, in the type of the schema."""
    plain = values.type.value_type if pa.types.is_list(values.type) else values.type
    if pa.types.is_dictionary(plain):
        plain = plain.value_type
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_null(plain)):
        raise RecordError(f"{column} must be text, got {values.type}", column=column)
    return values if values.type == kind else values.cast(kind)
