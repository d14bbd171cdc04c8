"""The values of one column as checked arrow arrays: numbers, vectors, samples and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.ids import one_piece
from alhelpers.records.schema import RecordError, depth

_FORMS = ("a number", "a vector of numbers", "predictions x classes")


def from_numbers(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Convert numbers, vectors or samples of one shape into an arrow array."""
    if isinstance(values, np.ndarray):
        numbers = np.ascontiguousarray(values, dtype=np.float32)
    else:
        arrays: list[np.ndarray] = []
        for value, id in zip(values, ids, strict=True):
            arrays.append(_array(value, column, id, arrays[0].shape if arrays else None))
        numbers = np.stack(arrays)
    if numbers.ndim != depth(column) + 1 or 0 in numbers.shape[1:]:
        raise RecordError(
            f"{column} must be {_FORMS[depth(column)]} in each record, got shape {numbers.shape[1:]}",
            column=column,
        )
    return _listed(pa.array(numbers.ravel()), numbers.shape[1:])


def _array(value: Any, column: str, id: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Return one record's numbers, which must have the shape of the others."""
    if value is None:
        raise RecordError(f"record {id!r} has no {column}, other records have", id, column)
    try:
        array = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise RecordError(
            f"record {id!r}: {column} must be numbers, rows of one length, got {value!r:.80}", id, column
        ) from None
    if 0 in array.shape:
        raise RecordError(
            f"record {id!r}: {column} must be {_FORMS[depth(column)]}, got {value!r}", id, column
        )
    if shape is not None and array.shape != shape:
        raise RecordError(
            f"record {id!r}: {column} has shape {array.shape}, other records have {shape}", id, column
        )
    return array


def checked_numbers(values: pa.Array, column: str, ids: pa.Array, sizes: tuple[int, ...] = ()) -> pa.Array:
    """Return a column of finite float32 numbers in lists of fixed sizes, by default those of the first record."""
    kind, levels = values.type, 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, levels = kind.value_type, levels + 1
    sizes = sizes or sizes_of(values.type)
    if len(sizes) < levels:
        sizes = nested_sizes(values[0].as_py() if len(values) else None) or (1,) * levels
    if pa.types.is_null(kind):
        _raise_first_wrong(values, column, ids, sizes)
    numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if not numeric or levels != depth(column) or 0 in sizes:
        raise RecordError(
            f"{column} must be {_FORMS[depth(column)]} in each record, got {values.type}", column=column
        )
    try:
        flat = values.cast(fixed_type(sizes), safe=False)
        missing = flat.null_count
        for _ in sizes:
            flat = flat.flatten()
            missing += flat.null_count
    except pa.ArrowException:  # lists of other sizes
        missing = len(values)
    if missing or not np.isfinite(flat.to_numpy(zero_copy_only=True)).all():
        _raise_first_wrong(values, column, ids, sizes)
    return _listed(flat, sizes)


def _raise_first_wrong(values: pa.Array, column: str, ids: pa.Array, sizes: tuple[int, ...]) -> None:
    for value, id in zip(values, ids, strict=True):
        array = _array(value.as_py(), column, id.as_py(), sizes)
        if not np.isfinite(array).all():
            raise RecordError(
                f"record {id.as_py()!r}: {column} holds NaN or infinity, or a number is missing; leave it out "
                "or predict it again",
                id.as_py(),
                column,
            )


def fixed_type(sizes: Sequence[int]) -> pa.DataType:
    """Return the type of float32 numbers in nested lists of fixed sizes, the outermost size first."""
    kind = pa.float32()
    for size in reversed(sizes):
        kind = pa.list_(kind, size)
    return kind


def _listed(values: pa.Array, sizes: Sequence[int]) -> pa.Array:
    for size in reversed(sizes):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def sizes_of(kind: pa.DataType) -> tuple[int, ...]:
    """Return the sizes of nested lists of fixed sizes, the outermost first; empty for other types."""
    sizes = []
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return tuple(sizes)


def nested_sizes(value: Any) -> tuple[int, ...]:
    """Return the sizes of the nested lists of one record, the outermost first."""
    sizes = []
    while isinstance(value, list) and value:
        sizes.append(len(value))
        value = value[0]
    return tuple(sizes)


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


def checked_text(values: pa.ChunkedArray, kind: pa.DataType, column: str) -> pa.ChunkedArray:
    """Return a column of texts, or of lists of texts, in the type of the schema."""
    plain = values.type.value_type if pa.types.is_list(values.type) else values.type
    if pa.types.is_dictionary(plain):
        plain = plain.value_type
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_null(plain)):
        raise RecordError(f"{column} must be text, got {values.type}", column=column)
    return values if values.type == kind else values.cast(kind)
