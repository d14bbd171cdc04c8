"""Checks of a table of records, column by column; errors name the record and the column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa

from alhelpers.records.detections import checked_boxes
from alhelpers.records.ids import checked_ids, one_piece
from alhelpers.records.numbers import checked_numbers, checked_text
from alhelpers.records.schema import COLUMNS, DETECTIONS, DOCUMENTS, TEXTS, RecordError, is_numeric

CLASS_NAMES = pa.list_(pa.field("element", pa.string()))


def checked(
    table: pa.Table,
    columns: Sequence[str] | None = None,
    name: str = "records",
    sizes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    distinct: bool = True,
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
    sizes : mapping of str to tuple of int
        How long the vectors of a column are, where other records say so; else the first record does.
    distinct : bool
        Whether to check that no id comes twice.

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
    ids = checked_ids(table["id"], name, distinct)
    return pa.table(
        {
            column: ids if column == "id" else _checked(table[column], column, ids, name, sizes)
            for column in wanted
        }
    )


def check_has_id(columns: Sequence[str], name: str) -> None:
    """Raise unless there is a column of ids."""
    if "id" not in columns:
        raise RecordError(f"{name} have no column 'id', they have {list(columns)}", column="id")


def _checked(
    values: pa.ChunkedArray, column: str, ids: pa.Array, name: str, sizes: Mapping[str, tuple[int, ...]]
) -> pa.Array | pa.ChunkedArray:
    """Return a column in the type that the schema gives it."""
    if is_numeric(column):
        return checked_numbers(one_piece(values), column, ids, sizes.get(column, ()))
    if column == DETECTIONS:
        return checked_boxes(one_piece(values), ids, sizes)
    if column in TEXTS:
        return checked_text(values, pa.string(), column)
    if column == "class_names":
        return checked_text(values, CLASS_NAMES, column)
    if column in DOCUMENTS:
        if pa.types.is_struct(values.type) and values.type.num_fields or pa.types.is_null(values.type):
            return values
        raise RecordError(f"{column} must be dicts with at least one key, got {values.type}", column=column)
    raise RecordError(
        f"column {column!r} is not in the schema of {name}: {', '.join(COLUMNS)}, embeddings:<layer>; "
        "put what else there is under metadata",
        column=column,
    )
