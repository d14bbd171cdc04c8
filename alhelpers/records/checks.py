"""Checks of a table of records, column by column; errors name the record and the column."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from alhelpers.records.ids import checked_ids, one_piece
from alhelpers.records.schema import COLUMNS, DOCUMENTS, TEXTS, RecordError, depth, is_numeric

CLASS_NAMES = pa.list_(pa.field("element", pa.string()))


def checked(
    table: pa.Table,
    columns: Sequence[str] | None = None,
    name: str = "records",
    sizes: dict[str, tuple[int, ...]] | None = None,
) -> pa.Table:
    """Return ``id`` and some columns of a table, all without a choice, in the types of the schema.

    Parameters
    ----------
    table : pyarrow.Table
        The records; there may be none.
    columns : sequence of str, optional
        The columns to take, those of them that there are.
    name : str
        What to call the records in errors.
    sizes : dict of str to tuple of int, optional
        How long the vectors of a column are, where other records say so; else the first record does.

    Returns
    -------
    pyarrow.Table
        The columns, each of numbers in one piece.

    Raises
    ------
    RecordError
        If the records break the schema.
    """
    check_has_id(table.column_names, name)
    wanted = [c for c in table.column_names if columns is None or c == "id" or c in columns]
    ids = checked_ids(table["id"], name)
    sizes = sizes or {}
    return pa.table(
        {
            column: ids
            if column == "id"
            else _checked(table[column], column, ids, name, sizes.get(column, ()))
            for column in wanted
        }
    )


def check_has_id(columns: Sequence[str], name: str) -> None:
    """Raise unless there is a column of ids."""
    if "id" not in columns:
        raise RecordError(f"{name} have no column 'id', they have {list(columns)}", column="id")


def sizes_of(kind: pa.DataType) -> tuple[int, ...]:
    """Return the sizes of nested lists of fixed sizes, outermost first; none for other types."""
    sizes = []
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return tuple(sizes)


def _checked(
    values: pa.ChunkedArray, column: str, ids: pa.Array, name: str, sizes: tuple[int, ...]
) -> pa.Array | pa.ChunkedArray:
    """Return a column in the type that the schema gives it."""
    if is_numeric(column):
        return _checked_numbers(one_piece(values), column, ids, sizes)
    if column in TEXTS:
        return _cast(values, pa.string(), column)
    if column == "class_names":
        return _cast(values, CLASS_NAMES, column)
    if column in DOCUMENTS:
        if pa.types.is_struct(values.type) and values.type.num_fields or pa.types.is_null(values.type):
            return values
        raise RecordError(f"{column} must be dicts with at least one key, got {values.type}", column=column)
    raise RecordError(
        f"column {column!r} is not in the schema of {name}: {', '.join(COLUMNS)}, embeddings:<layer>; "
        "put what else there is under metadata",
        column=column,
    )


def _cast(values: pa.ChunkedArray, kind: pa.DataType, column: str) -> pa.ChunkedArray:
    """Return text as text; a number is not one."""
    plain = values.type.value_type if pa.types.is_list(values.type) else values.type
    if pa.types.is_dictionary(plain):
        plain = plain.value_type
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_null(plain)):
        raise RecordError(f"{column} must be text, got {values.type}", column=column)
    return values if values.type == kind else values.cast(kind)


def _checked_numbers(values: pa.Array, column: str, ids: pa.Array, expected: tuple[int, ...]) -> pa.Array:
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
        lengths = np.full(min(len(values), 1), kind.list_size)  # one stands for all
    else:
        lengths = values.value_lengths().to_numpy()
    size = expected if expected is not None else int(lengths[0]) if len(lengths) else 1
    if (lengths != size).any():
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
