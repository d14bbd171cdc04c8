"""Detections: the boxes, or the regions, of each record, none of them or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.ids import one_piece
from alhelpers.records.numbers import checked_numbers, checked_text, from_numbers, sizes_of
from alhelpers.records.schema import BOX_FIELDS, DETECTIONS, RecordError, nearest


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of N records, one after the other: M boxes in flat arrays.

    Parameters
    ----------
    offsets : numpy.ndarray of shape (N + 1,), int64
        Record ``k`` has the boxes from ``offsets[k]`` to before ``offsets[k + 1]``.
    class_name : numpy.ndarray of shape (M,), objects, or None
        The predicted classes, None for a box without one.
    confidence : numpy.ndarray of shape (M,), float32, or None
        The confidence of the predicted class; where boxes have only ``confidences``, the largest of them.
    confidences, logits : numpy.ndarray of shape (M, C), float32, or None
        What the model predicts of each class.
    left, top, width, height : numpy.ndarray of shape (M,), float32, or None
        Where the boxes are, in pixels.
    """

    offsets: np.ndarray
    class_name: np.ndarray | None = None
    confidence: np.ndarray | None = None
    confidences: np.ndarray | None = None
    logits: np.ndarray | None = None
    left: np.ndarray | None = None
    top: np.ndarray | None = None
    width: np.ndarray | None = None
    height: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.offsets[-1])


def boxes(table: pa.Table) -> Boxes:
    """Return the boxes of all records in flat arrays.

    Parameters
    ----------
    table : pyarrow.Table
        A checked table of records, as :func:`alhelpers.records.read` and the loading of a part give it.

    Returns
    -------
    Boxes
        What no box of the records has is None.

    Raises
    ------
    RecordError
        If there is no column of detections, or the table was not checked and breaks the schema.
    """
    if DETECTIONS not in table.column_names:
        raise RecordError(
            f"records have no column {DETECTIONS!r}, they have {table.column_names}", column=DETECTIONS
        )
    whole = checked_boxes(one_piece(table[DETECTIONS]), one_piece(table["id"]), {})
    flat, found = whole.flatten(), {}
    for field in flat.type:
        values = flat.field(field.name)
        if field.name == "class_name":
            found[field.name] = np.array(values.to_pylist(), dtype=object)
        else:
            sizes = sizes_of(field.type)
            numbers = values.flatten() if sizes else values
            found[field.name] = numbers.to_numpy(zero_copy_only=True).reshape(len(flat), *sizes)
    if "confidences" in found:
        found.setdefault("confidence", found["confidences"].max(axis=1))
    return Boxes(_offsets(whole), **found)


def from_boxes(values: Iterable[Sequence[Mapping[str, Any]] | None] | Boxes, ids: Sequence[Any]) -> pa.Array:
    """Turn the boxes of records, lists of dicts or flat arrays, into an arrow array."""
    if isinstance(values, Boxes):
        fields = {name: getattr(values, name) for name in BOX_FIELDS}
        fields = {name: array for name, array in fields.items() if array is not None}
        owners = np.repeat(np.asarray(ids, dtype=object), np.diff(values.offsets))
        return _array(
            values.offsets, {name: _box_values(name, array, owners) for name, array in fields.items()}
        )
    found: list[Mapping[str, Any]] = []
    offsets, owners = [0], []
    for record, id in zip(values, ids, strict=True):
        if isinstance(record, Mapping | str) or not isinstance(record, Iterable):
            raise RecordError(
                f"record {id!r}: {DETECTIONS} must be a list of boxes, an empty one where nothing was found, "
                f"got {record!r:.80}",
                id,
                DETECTIONS,
            )
        found.extend(record)
        owners.extend([id] * (len(found) - offsets[-1]))
        offsets.append(len(found))
    there = dict.fromkeys(
        name for box, id in zip(found, owners, strict=True) for name in _checked_box(box, id)
    )
    fields = {name: _box_values(name, [box.get(name) for box in found], owners) for name in there}
    return _array(np.array(offsets), fields)


def _checked_box(box: Any, id: Any) -> list[str]:
    """Return the fields that a box has."""
    if not isinstance(box, Mapping):
        raise RecordError(f"record {id!r}: a box must be a dict, got {box!r:.80}", id, DETECTIONS)
    _check_known(box, f"record {id!r}: ", id)
    return [name for name, value in box.items() if value is not None]


def _check_known(fields: Iterable[str], where: str = "", id: Any = None) -> None:
    unknown = next((name for name in fields if name not in BOX_FIELDS), None)
    if unknown is not None:
        raise RecordError(
            f"{where}a box has no field {unknown!r}{nearest(unknown, BOX_FIELDS)}; its fields are: "
            f"{', '.join(BOX_FIELDS)}",
            id,
            f"{DETECTIONS}.{unknown}",
        )


def _box_values(name: str, values: Any, owners: Sequence[Any]) -> pa.Array:
    """Turn one field of all boxes into an arrow array."""
    if name != "class_name":
        return from_numbers(values, f"{DETECTIONS}.{name}", owners)
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    try:
        return pa.array(plain, pa.string())
    except pa.ArrowException as error:
        column = f"{DETECTIONS}.{name}"
        raise RecordError(f"{column} must be text: {error}", column=column) from error


def _array(offsets: np.ndarray, fields: Mapping[str, pa.Array]) -> pa.ListArray:
    """Put boxes together: their fields in the order of the schema; a class name always, though it may be null."""
    count = int(offsets[-1])
    fields = {"class_name": pa.nulls(count, pa.string())} | dict(fields)
    names = [name for name in BOX_FIELDS if name in fields]
    flat = pa.StructArray.from_arrays([fields[name] for name in names], names=names)
    kind = pa.list_(pa.field("element", flat.type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, type=kind)


def _offsets(values: pa.Array) -> np.ndarray:
    """Return where each record's boxes begin, from 0, and where the last ones end."""
    return np.concatenate([[0], np.cumsum(values.value_lengths().to_numpy(), dtype=np.int64)])


# ------------------------------------------------------------------------------
# checks
# ------------------------------------------------------------------------------


def checked_boxes(values: pa.Array, ids: pa.Array, sizes: Mapping[str, tuple[int, ...]]) -> pa.ListArray:
    """Return a column of detections whose numbers are finite float32, in the types of the schema."""
    kind = values.type
    if pa.types.is_null(kind) and not len(values):
        return _array(np.zeros(1, int), {})
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not (
        pa.types.is_struct(kind.value_type) or pa.types.is_null(kind.value_type)
    ):
        raise RecordError(
            f"{DETECTIONS} must be a list of boxes in each record, got {kind}", column=DETECTIONS
        )
    if values.null_count:
        id = ids[int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])].as_py()
        raise RecordError(
            f"record {id!r} has no {DETECTIONS}, other records have: an empty list says that nothing was found",
            id,
            DETECTIONS,
        )
    offsets, flat = _offsets(values), values.flatten()
    fields = {} if pa.types.is_null(flat.type) else {f.name: flat.field(f.name) for f in flat.type}
    _check_known(fields)
    if flat.null_count:
        place = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
        id = ids[int(np.searchsorted(offsets, place, side="right")) - 1].as_py()
        raise RecordError(f"record {id!r} has a box that is null; leave it out", id, DETECTIONS)
    return _array(
        offsets, {name: _checked_field(values, name, ids, offsets, sizes) for name, values in fields.items()}
    )


def _checked_field(
    values: pa.Array, name: str, ids: pa.Array, offsets: np.ndarray, sizes: Mapping[str, tuple[int, ...]]
) -> pa.Array:
    """Return one field of all boxes in the type of the schema."""
    column = f"{DETECTIONS}.{name}"
    if name == "class_name":
        return checked_text(values, pa.string(), column)
    expected = sizes.get(column, ())
    try:
        return checked_numbers(values, column, pa.array(np.arange(len(values))), expected)
    except RecordError:
        # once more, with the record of each box, which only the message needs
        owners = ids.take(pa.array(np.repeat(np.arange(len(ids)), np.diff(offsets))))
        checked_numbers(values, column, owners, expected)
        raise


def joined_boxes(first: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the type of the detections of two files: with the fields that either has."""
    fields = {field.name: field.type for kind in (first, other) for field in _fields_of(kind)}
    names = [name for name in BOX_FIELDS if name in fields]
    return pa.list_(pa.field("element", pa.struct([(name, fields[name]) for name in names])))


def box_sizes(kind: pa.DataType) -> dict[str, tuple[int, ...]]:
    """Return how long the vectors of boxes are, as far as their type tells."""
    return {
        f"{DETECTIONS}.{field.name}": sizes_of(field.type)
        for field in _fields_of(kind)
        if sizes_of(field.type)
    }


def box_sizes_of_first(values: Iterable[pa.Array]) -> dict[str, tuple[int, ...]]:
    """Return how long the vectors of the first box are; nothing if there is no box."""
    for piece in values:
        if len(found := piece.flatten()):
            box = found[0].as_py() or {}
            return {f"{DETECTIONS}.{n}": (len(v),) for n, v in box.items() if isinstance(v, list)}
    return {}


def box_kind(kind: pa.DataType, sizes: Mapping[str, tuple[int, ...]]) -> pa.DataType:
    """Return the type of checked detections, of which ``kind`` is what a file or table says."""
    names = [
        name for name in BOX_FIELDS if name in ("class_name", *(field.name for field in _fields_of(kind)))
    ]
    kinds = {name: pa.float32() for name in names} | {"class_name": pa.string()}
    for name in names:
        for size in sizes.get(f"{DETECTIONS}.{name}", ()):
            kinds[name] = pa.list_(pa.float32(), size)
    return pa.list_(pa.field("element", pa.struct([(name, kinds[name]) for name in names])))


def widened_boxes(values: pa.ListArray, kind: pa.DataType, ids: pa.Array) -> pa.ListArray:
    """Give checked detections all fields of a type; those without a box lack none."""
    flat = values.flatten()
    there = {field.name: flat.field(field.name) for field in flat.type}
    for field in _fields_of(kind):
        if field.name in there:
            continue
        if len(flat) and field.name != "class_name":
            id = ids[int(np.flatnonzero(values.value_lengths().to_numpy())[0])].as_py()
            raise RecordError(
                f"record {id!r} has a box without {field.name}, other records' boxes have it",
                id,
                f"{DETECTIONS}.{field.name}",
            )
        there[field.name] = pa.nulls(len(flat), field.type)
    return _array(_offsets(values), there)


def _fields_of(kind: pa.DataType) -> list[pa.Field]:
    inner = getattr(kind, "value_type", None)
    return list(inner) if inner is not None and pa.types.is_struct(inner) else []
