"""Records as lists of dicts and as arrays, turned into tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.detections import from_boxes
from alhelpers.records.numbers import from_numbers
from alhelpers.records.schema import DETECTIONS, DOCUMENTS, RecordError, is_numeric


def from_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None, name: str) -> pa.Table:
    """Turn a list of dicts into a table."""
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
    there = dict.fromkeys(key for row in rows for key in row)
    table = {}
    for key in there:
        if columns is None or key == "id" or key in columns:
            table[key] = from_values([row.get(key) for row in rows], key, ids)
    return pa.table(table)


def from_values(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Turn the values of one column into an arrow array."""
    if is_numeric(column):
        return from_numbers(values, column, ids)
    if column == DETECTIONS:
        return from_boxes(values, ids)
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if column in DOCUMENTS:
        plain = [_pruned(value) for value in plain]
    elif column == "class_names":
        plain = [value.tolist() if isinstance(value, np.ndarray) else value for value in plain]
    plain = [value.item() if isinstance(value, np.generic) else value for value in plain]
    try:
        return pa.array(plain)
    except (pa.ArrowException, OverflowError) as error:
        raise RecordError(
            f"{column} has values of several kinds, or a number beyond 64 bits: {error}", column=column
        ) from error


def _pruned(value: Any) -> Any:
    """Leave empty dicts out of a document: Parquet has no place for them."""
    if not isinstance(value, Mapping):
        return value
    kept = {key: _pruned(part) for key, part in value.items()}
    return {key: part for key, part in kept.items() if not (part is None and value[key] is not None)} or None
