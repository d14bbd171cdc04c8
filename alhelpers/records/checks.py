"""Lists of dicts and arrays turned into tables, and tables checked column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.detections import checked_boxes, from_boxes
from alhelpers.records.ids import checked_ids, one_piece
from alhelpers.records.numbers import checked_numbers, checked_text, from_numbers
from alhelpers.records.schema import COLUMNS, DETECTIONS, DOCUMENTS, TEXTS, RecordError, is_numeric

CLASS_NAMES = pa.list_(pa.field("element", pa.string()))


def from_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None, name: str) -> pa.Table:
    """Convert a list of dicts into a table that is not checked yet."""
    if not isinstance(rows, Sequence) or isinstance(rows, bytes):
        raise RecordError(
            f"{name} must be a list of dicts, a pyarrow.Table, a query, or a path of Parquet files, got "
            f"{type(rows).__name__}"
        )
    if not rows:
        raise RecordError(f"{name} hold no record")
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping) or row.get("id") is None:
            raise RecordError(
                f"record {place} of {name} must be a dict with an 'id', got {row!r:.80}", column="id"
            )
    ids = [row["id"] for row in rows]
    keys = dict.fromkeys(key for row in rows for key in row)
    wanted = [key for key in keys if columns is None or key == "id" or key in columns]
    return pa.table({key: from_values([row.get(key) for row in rows], key, ids) for key in wanted})


def from_values(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Convert the values of one column into an arrow array."""
    if is_numeric(column):
        return from_numbers(values, column, ids)
    if column == DETECTIONS:
        return from_boxes(values, ids)
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if column in DOCUMENTS:
        plain = [_pruned(value) for value in plain]
    plain = [value.tolist() if isinstance(value, np.ndarray | np.generic) else value for value in plain]
    try:
        return pa.array(plain)
    except (pa.ArrowException, OverflowError) as error:
        raise RecordError(
            f"{column} has values of several kinds, or a number beyond 64 bits: {error}", column=column
        ) from error


def _pruned(value: Any) -> Any:
    """Leave empty dicts out of a document, as Parquet cannot store them."""
    if not isinstance(value, Mapping):
        return value
    kept = {key: _pruned(part) for key, part in value.items()}
    return {key: part for key, part in kept.items() if not (part is None and value[key] is not None)} or None


def checked(
    table: pa.Table,
    columns: Sequence[str] | None = None,
    name: str = "records",
    sizes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    distinct: bool = True,
) -> pa.Table:
    """Return ``id`` and the wanted columns in the schema's types; ``sizes`` are those of other records' vectors."""
    check_has_id(table.column_names, name)
    ids = checked_ids(table["id"], name, distinct)
    wanted = [c for c in table.column_names if columns is None or c == "id" or c in columns]
    return pa.table({c: ids if c == "id" else _checked(table[c], c, ids, name, sizes) for c in wanted})


def check_has_id(columns: Sequence[str], name: str) -> None:
    """Raise if there is no column of ids."""
    if "id" not in columns:
        raise RecordError(f"{name} have no column 'id', they have {list(columns)}", column="id")


def _checked(
    values: pa.ChunkedArray, column: str, ids: pa.Array, name: str, sizes: Mapping[str, tuple[int, ...]]
) -> pa.Array | pa.ChunkedArray:
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
        "put everything else under metadata",
        column=column,
    )
