"""Lists of dicts and arrays turned into tables, and tables checked column by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.records.ids import checked_ids, first_null, one_piece
from alhelpers.records.numbers import checked_numbers, checked_text, from_numbers, sizes_of
from alhelpers.records.schema import (
    BOX_FIELDS,
    COLUMNS,
    DETECTIONS,
    DOCUMENTS,
    TEXTS,
    RecordError,
    is_numeric,
    nearest,
)

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
        return _from_boxes(values, ids)
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


def _from_boxes(values: Iterable[Any], ids: Sequence[Any]) -> pa.Array:
    """Convert a list of boxes as dicts for each record into an arrow array."""
    flat: list[Mapping[str, Any]] = []
    offsets, owners = [0], []
    for record, id in zip(values, ids, strict=True):
        if isinstance(record, Mapping | str) or not isinstance(record, Iterable):
            raise RecordError(
                f"record {id!r}: {DETECTIONS} must be a list of boxes, an empty one where nothing was found, "
                f"got {record!r:.80}",
                id,
                DETECTIONS,
            )
        for box in record:
            if not isinstance(box, Mapping):
                raise RecordError(f"record {id!r}: a box must be a dict, got {box!r:.80}", id, DETECTIONS)
            _check_box_fields(box, f"record {id!r}: ", id)
            flat.append(box)
            owners.append(id)
        offsets.append(len(flat))
    names = dict.fromkeys(name for box in flat for name, value in box.items() if value is not None)
    return boxes_array(offsets, {name: [box.get(name) for box in flat] for name in names}, owners)


def boxes_array(offsets: Any, fields: Mapping[str, Any], owners: Sequence[Any] = ()) -> pa.ListArray:
    """Join the fields of all boxes in the schema's order; a class name is always there, though it may be null."""
    arrays = {"class_name": pa.nulls(int(offsets[-1]), pa.string())}
    for name, values in fields.items():
        known = isinstance(values, pa.Array)
        arrays[name] = values if known else from_values(values, f"{DETECTIONS}.{name}", owners)
    names = [name for name in BOX_FIELDS if name in arrays]
    flat = pa.StructArray.from_arrays([arrays[name] for name in names], names=names)
    kind = pa.list_(pa.field("element", flat.type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, type=kind)


def _check_box_fields(names: Iterable[str], where: str = "", id: Any = None) -> None:
    unknown = next((name for name in names if name not in BOX_FIELDS), None)
    if unknown is not None:
        raise RecordError(
            f"{where}a box has no field {unknown!r}{nearest(unknown, BOX_FIELDS)}; its fields are: "
            f"{', '.join(BOX_FIELDS)}",
            id,
            f"{DETECTIONS}.{unknown}",
        )


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
    columns = {c: ids if c == "id" else _checked(table[c], c, ids, name, sizes) for c in wanted}
    # in one piece: arrow's filter and take read wrong numbers from slices of samples
    return pa.table(columns).combine_chunks()


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
        return checked_boxes(one_piece(values), ids, name, sizes)
    if column in (*TEXTS, f"{DETECTIONS}.class_name"):
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


def check_class_names(table: pa.Table) -> None:
    """Raise if the number of class names is not that of the confidences and logits."""
    if "class_names" not in table.column_names:
        return
    names = table["class_names"]
    counts = pc.list_value_length(names).to_numpy()
    for column in ("confidences", "logits"):
        if column in table.column_names:
            classes = sizes_of(table.schema.field(column).type)[0]
            wrong = np.flatnonzero((counts != classes) & names.is_valid().to_numpy())
            if len(wrong):
                id = table["id"][int(wrong[0])].as_py()
                raise RecordError(
                    f"record {id!r}: {column} has {classes} classes for {counts[wrong[0]]:.0f} class names",
                    id,
                    column,
                )


def checked_boxes(
    values: pa.Array, ids: pa.Array, name: str, sizes: Mapping[str, tuple[int, ...]]
) -> pa.ListArray:
    """Return a column of detections in the schema's types."""
    kind = values.type
    if pa.types.is_null(kind) and not len(values):
        return boxes_array([0], {})
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not (
        pa.types.is_struct(kind.value_type) or pa.types.is_null(kind.value_type)
    ):
        raise RecordError(
            f"{DETECTIONS} must be a list of boxes in each record, got {kind}", column=DETECTIONS
        )
    if values.null_count:
        id = ids[first_null(values)].as_py()
        raise RecordError(
            f"record {id!r} has no {DETECTIONS}, other records have: use an empty list where nothing was found",
            id,
            DETECTIONS,
        )
    offsets, flat = box_offsets(values), values.flatten()
    owners = ids.take(pa.array(np.repeat(np.arange(len(ids)), np.diff(offsets))))
    if flat.null_count:
        id = owners[first_null(flat)].as_py()
        raise RecordError(f"record {id!r} has a box that is null; leave it out", id, DETECTIONS)
    fields = {field.name: flat.field(field.name) for field in box_fields(kind)}
    _check_box_fields(fields)
    fields = {
        field: _checked(each, f"{DETECTIONS}.{field}", owners, name, sizes) for field, each in fields.items()
    }
    return boxes_array(offsets, fields)


def box_offsets(values: pa.Array) -> np.ndarray:
    """Return the place of each record's first box, from 0, and the number of boxes at the end."""
    return np.concatenate([[0], np.cumsum(values.value_lengths().to_numpy(), dtype=np.int64)])


def box_fields(kind: pa.DataType) -> list[pa.Field]:
    """Return the fields of the boxes in a column of some type; empty if the type has no boxes."""
    inner = getattr(kind, "value_type", None)
    return list(inner) if inner is not None and pa.types.is_struct(inner) else []
