"""The values of one column, turned into arrow arrays and checked: numbers, vectors and samples, and texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.ids import one_piece
from alhelpers.records.schema import RecordError, depth


def from_numbers(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Turn numbers, vectors or samples into an arrow array of fixed size, naming the record that does not fit."""
    dimensions = depth(column)
    if isinstance(values, np.ndarray):
        numbers = np.ascontiguousarray(values, dtype=np.float32)
    else:
        found = [_array(value, column, id) for value, id in zip(values, ids, strict=True)]
        for array, id in zip(found, ids, strict=True):
            if array.shape != found[0].shape:
                raise RecordError(
                    f"record {id!r}: {column} has shape {array.shape}, record {ids[0]!r} has {found[0].shape}",
                    id,
                    column,
                )
        numbers = np.stack(found)
    if numbers.ndim != dimensions + 1 or 0 in numbers.shape[1:]:
        form = ("a number", "a vector of numbers", "predictions x classes")[dimensions]
        raise RecordError(
            f"{column} must be {form} in each record, got shape {numbers.shape[1:]}", column=column
        )
    array = pa.array(numbers.ravel())
    for size in reversed(numbers.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _array(value: Any, column: str, id: Any) -> np.ndarray:
    """Return one record's numbers as an array."""
    if value is None:
        raise RecordError(f"record {id!r} has no {column}, other records have", id, column)
    try:
        return np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise RecordError(
            f"record {id!r}: {column} must be numbers, rows of one length, got {value!r:.80}", id, column
        ) from None


def checked_numbers(values: pa.Array, column: str, ids: pa.Array, expected: tuple[int, ...] = ()) -> pa.Array:
    """Return a column of finite float32 numbers in lists of fixed sizes."""
    sizes: list[int] = []
    for level in range(depth(column)):
        _check_present(values, column, ids)
        values, size = _flattened(values, column, ids, expected[level] if expected else None)
        sizes.append(size)
    _check_present(values, column, ids)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise RecordError(f"{column} must hold numbers, got {values.type}", column=column)
    flat = values if values.type == pa.float32() else values.cast(pa.float32(), safe=False)
    numbers = flat.to_numpy(zero_copy_only=True)
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0]) // math.prod(sizes)
        id = ids[place].as_py()
        raise RecordError(
            f"record {id!r}: {column} holds NaN or infinity; leave it out or predict it again", id, column
        )
    for size in reversed(sizes):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _flattened(values: pa.Array, column: str, ids: pa.Array, expected: int | None) -> tuple[pa.Array, int]:
    """Take one level of lists off, all of one length; returns what is inside, and the length."""
    kind = values.type
    if not (pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        form = "predictions x classes" if depth(column) == 2 else "a vector of numbers"
        raise RecordError(f"{column} must be {form} in each record, got {kind}", column=column)
    if pa.types.is_fixed_size_list(kind):
        lengths = np.array([kind.list_size])  # one stands for all
    else:
        lengths = values.value_lengths().to_numpy()
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
    """Raise if a number or a list is missing."""
    if values.null_count:
        place = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        id = ids[place * len(ids) // len(values)].as_py()
        raise RecordError(
            f"record {id!r} has no {column}, or a part of it is missing; other records have", id, column
        )


def as_array(values: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return a column as an array, of numbers without a copy."""
    whole = one_piece(values)
    shape = [len(whole)]
    while pa.types.is_fixed_size_list(whole.type):
        if whole.null_count:
            raise RecordError(f"{name} is missing in {whole.null_count} records", column=name)
        shape.append(whole.type.list_size)
        whole = whole.flatten()
    if not pa.types.is_floating(whole.type):
        return (
            np.array(whole.to_pylist(), dtype=object) if len(shape) == 1 else whole.to_numpy().reshape(shape)
        )
    if whole.null_count:
        raise RecordError(f"{name} is missing in {whole.null_count} records", column=name)
    return whole.to_numpy(zero_copy_only=True).reshape(shape)


def sizes_of(kind: pa.DataType) -> tuple[int, ...]:
    """Return the sizes of nested lists of fixed sizes, outermost first; none for other types."""
    sizes = []
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return tuple(sizes)


def checked_text(values: pa.ChunkedArray, kind: pa.DataType, column: str) -> pa.ChunkedArray:
    """Return text as text; a number is not one."""
    plain = values.type.value_type if pa.types.is_list(values.type) else values.type
    if pa.types.is_dictionary(plain):
        plain = plain.value_type
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_null(plain)):
        raise RecordError(f"{column} must be text, got {values.type}", column=column)
    return values if values.type == kind else values.cast(kind)
