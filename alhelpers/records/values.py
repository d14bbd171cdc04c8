"""Values of Python and numpy as arrow arrays and tables, which are not checked yet, and back."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.ids import one_piece
from alhelpers.records.schema import (
    BOX_FIELDS,
    DETECTIONS,
    DOCUMENTS,
    FORMS,
    RecordError,
    check_box_fields,
    depth,
    is_numeric,
    sizes_of,
    wanted_columns,
)


def from_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None, name: str) -> pa.Table:
    """Convert a list of dicts into a table."""
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
    wanted = wanted_columns(dict.fromkeys(key for row in rows for key in row), columns, name)
    return pa.table({key: from_values([row.get(key) for row in rows], key, ids) for key in wanted})


def from_values(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Convert the values of one column into an arrow array."""
    if is_numeric(column):
        return from_numbers(values, column, ids)
    if column == DETECTIONS:
        return _from_boxes(values, ids)
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if column in DOCUMENTS:
        kinds: dict[str, str] = {}
        plain = [_document(value, column, kinds) for value in plain]
    plain = [value.tolist() if isinstance(value, np.ndarray | np.generic) else value for value in plain]
    try:
        # pandas has NaN where a text is missing; in documents it is a number
        return pa.array(plain, from_pandas=column not in DOCUMENTS)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise RecordError(
            f"{column} has values of several kinds, a number beyond 64 bits, or a broken text: {error}",
            column=column,
        ) from error


def _document(value: Any, path: str, kinds: dict[str, str]) -> Any:
    """Return a part of a document without empty dicts, which Parquet cannot store; raise for what arrow would convert.

    ``kinds`` keeps by path whether there are texts, bytes, dates or times.
    """
    if isinstance(value, list):
        return [_document(part, path, kinds) for part in value]
    if isinstance(value, Mapping):
        kept = {key: _document(part, f"{path}.{key}", kinds) for key, part in value.items()}
        return {key: part for key, part in kept.items() if part is not None or value[key] is None} or None
    if isinstance(value, str | bytes | datetime.date):
        kind = type(value).__name__
        if isinstance(value, datetime.datetime):
            kind = "datetime without time zone" if value.tzinfo is None else "datetime with time zone"
        if kinds.setdefault(path, kind) != kind:
            message = f"{path} has values of several kinds: {kinds[path]} and {kind}"
            raise RecordError(message, column=path.split(".")[0])
    return value


def _from_boxes(values: Iterable[Any], ids: Sequence[Any]) -> pa.Array:
    """Convert a list of boxes as dicts for each record into an arrow array."""
    flat: list[Mapping[str, Any]] = []
    offsets, owners = [0], []
    for record, id in zip(values, ids, strict=True):
        if record is None:
            raise RecordError(missing(id, DETECTIONS), id, DETECTIONS)
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
            check_box_fields(box, f"record {id!r}: ", id)
            flat.append(box)
            owners.append(id)
        offsets.append(len(flat))
    names = dict.fromkeys(name for box in flat for name, value in box.items() if value is not None)
    return boxes_array(offsets, {name: [box.get(name) for box in flat] for name in names}, owners)


def boxes_array(offsets: Any, fields: Mapping[str, Any], owners: Sequence[Any]) -> pa.ListArray:
    """Join the fields of all boxes in the schema's order; a class name is always there, though it may be null."""
    arrays = {"class_name": pa.nulls(int(offsets[-1]), pa.string())}
    arrays |= {name: from_values(values, f"{DETECTIONS}.{name}", owners) for name, values in fields.items()}
    names = [name for name in BOX_FIELDS if name in arrays]
    flat = pa.StructArray.from_arrays([arrays[name] for name in names], names=names)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


@np.errstate(over="ignore")  # infinity is found by the checks
def from_numbers(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Convert numbers, vectors or samples of one shape into an arrow array."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        numbers = np.ascontiguousarray(values, dtype=np.float32)
    else:
        arrays: list[np.ndarray] = []
        for value, id in zip(values, ids, strict=True):
            arrays.append(_array(value, column, id, arrays[0].shape if arrays else None))
        numbers = np.stack(arrays) if arrays else np.empty((0, *(1,) * depth(column)), np.float32)
    if numbers.ndim != depth(column) + 1 or 0 in numbers.shape[1:]:
        raise RecordError(
            f"{column} must be {FORMS[depth(column)]} in each record, got shape {numbers.shape[1:]}",
            column=column,
        )
    return _listed(pa.array(numbers.ravel()), numbers.shape[1:])


def missing(id: Any, column: str, name: str = "records") -> str:
    """Return what is wrong with a record that lacks a column which others have."""
    where = "" if name == "records" else f" of {name}"
    way_out = ": use an empty list where nothing was found" if column == DETECTIONS else ""
    return f"record {id!r}{where} has no {column}, other records have{way_out}"


def _array(value: Any, column: str, id: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Return one record's numbers, which must have the shape of the others."""
    if value is None:
        raise RecordError(missing(id, column), id, column)
    try:
        array = np.asarray(value)
        # numpy would read texts and dates as numbers, and leave out the imaginary part
        kind = array.dtype.kind
        if kind in "USmMc" or (kind == "O" and any(isinstance(each, str | bytes) for each in array.flat)):
            raise TypeError
        array = array.astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        raise RecordError(
            f"record {id!r}: {column} must be numbers, rows of one length, got {value!r:.80}", id, column
        ) from None
    if 0 in array.shape:
        raise RecordError(
            f"record {id!r}: {column} must be {FORMS[depth(column)]}, got {value!r}", id, column
        )
    if shape is not None and array.shape != shape:
        raise RecordError(
            f"record {id!r}: {column} has shape {array.shape}, other records have {shape}", id, column
        )
    return array


def checked_numbers(values: pa.Array, kind: pa.DataType, column: str, ids: pa.Array) -> pa.Array:
    """Return finite float32 numbers in lists of the sizes of a type."""
    sizes = sizes_of(kind)
    try:
        flat = values.cast(kind, safe=False)
        missing = flat.null_count
        for _ in sizes:
            flat = flat.flatten()
            missing += flat.null_count
    except pa.ArrowException:  # lists of other sizes
        missing = len(values)
    if missing or not _all_finite(flat.to_numpy(zero_copy_only=True)):
        _raise_first_wrong(values, column, ids, sizes)
    return _listed(flat, sizes)


def _all_finite(numbers: np.ndarray) -> bool:
    """Return whether all numbers are finite; NaN is the least and the greatest of all."""
    return not len(numbers) or bool(np.isfinite([numbers.min(), numbers.max()]).all())


@np.errstate(over="ignore")
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


def _listed(values: pa.Array, sizes: Sequence[int]) -> pa.Array:
    for size in reversed(sizes):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


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
