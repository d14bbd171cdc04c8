"""Detections: any number of boxes, or regions, of each record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.ids import first_null, one_piece
from alhelpers.records.numbers import checked_numbers, checked_text, from_numbers, sizes_of
from alhelpers.records.schema import BOX_FIELDS, DETECTIONS, RecordError, nearest


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of N records, M boxes in all, in flat arrays.

    Parameters
    ----------
    offsets : numpy.ndarray of shape (N + 1,), int64
        The boxes of record ``k`` are ``offsets[k]`` up to, but not including, ``offsets[k + 1]``.
    class_name : numpy.ndarray of shape (M,), objects, or None
        The predicted classes, None for boxes without one.
    confidence : numpy.ndarray of shape (M,), float32, or None
        The confidence of the predicted class; the largest of ``confidences`` if boxes have only those.
    confidences, logits : numpy.ndarray of shape (M, C), float32, or None
        The confidences and logits of all classes.
    left, top, width, height : numpy.ndarray of shape (M,), float32, or None
        The position and size of each box, in pixels.
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
        A checked table of records, as :func:`alhelpers.records.read` and the parts return it.

    Returns
    -------
    Boxes
        A field that no box has is None.

    Raises
    ------
    RecordError
        If there is no column of detections, or it breaks the schema.
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
    """Convert the boxes of records, lists of dicts or flat arrays, into an arrow array."""
    if isinstance(values, Boxes):
        offsets = values.offsets
        owners = np.repeat(np.asarray(ids, dtype=object), np.diff(offsets))
        fields = {name: getattr(values, name) for name in BOX_FIELDS if getattr(values, name) is not None}
    else:
        flat: list[Mapping[str, Any]] = []
        offsets, owners = [0], []
        for record, id in zip(values, ids, strict=True):
            if isinstance(record, Mapping | str) or not isinstance(record, Iterable):
                raise RecordError(
                    f"record {id!r}: {DETECTIONS} must be a list of boxes, an empty one where nothing was "
                    f"found, got {record!r:.80}",
                    id,
                    DETECTIONS,
                )
            flat.extend(record)
            owners.extend([id] * (len(flat) - offsets[-1]))
            offsets.append(len(flat))
        names = dict.fromkeys(
            name for box, id in zip(flat, owners, strict=True) for name in _checked_box(box, id)
        )
        fields = {name: [box.get(name) for box in flat] for name in names}
    return _boxes_array(offsets, {name: _from_field(name, each, owners) for name, each in fields.items()})


def _checked_box(box: Any, id: Any) -> list[str]:
    """Return the names of the fields that a box has."""
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


def _from_field(name: str, values: Any, owners: Sequence[Any]) -> pa.Array:
    column = f"{DETECTIONS}.{name}"
    if name != "class_name":
        return from_numbers(values, column, owners)
    try:
        return pa.array(
            [value.item() if isinstance(value, np.generic) else value for value in values], pa.string()
        )
    except pa.ArrowException as error:
        raise RecordError(f"{column} must be text: {error}", column=column) from error


def _boxes_array(offsets: Sequence[int] | np.ndarray, fields: Mapping[str, pa.Array]) -> pa.ListArray:
    """Join the fields of all boxes in the schema's order; a class name is always there, though it may be null."""
    fields = {"class_name": pa.nulls(int(offsets[-1]), pa.string())} | dict(fields)
    names = [name for name in BOX_FIELDS if name in fields]
    flat = pa.StructArray.from_arrays([fields[name] for name in names], names=names)
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), flat, type=pa.list_(pa.field("element", flat.type))
    )


def _offsets(values: pa.Array) -> np.ndarray:
    """Return the place of each record's first box, from 0, and the number of boxes at the end."""
    return np.concatenate([[0], np.cumsum(values.value_lengths().to_numpy(), dtype=np.int64)])


def checked_boxes(values: pa.Array, ids: pa.Array, sizes: Mapping[str, tuple[int, ...]]) -> pa.ListArray:
    """Return a column of detections in the schema's types."""
    kind = values.type
    if pa.types.is_null(kind) and not len(values):
        return _boxes_array([0], {})
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
    offsets, flat = _offsets(values), values.flatten()
    fields = {field.name: flat.field(field.name) for field in box_fields(kind)}
    _check_known(fields)
    if flat.null_count:
        id = ids[int(np.searchsorted(offsets, first_null(flat), side="right")) - 1].as_py()
        raise RecordError(f"record {id!r} has a box that is null; leave it out", id, DETECTIONS)
    return _boxes_array(
        offsets, {name: _checked_field(each, name, ids, offsets, sizes) for name, each in fields.items()}
    )


def _checked_field(
    values: pa.Array, name: str, ids: pa.Array, offsets: np.ndarray, sizes: Mapping[str, tuple[int, ...]]
) -> pa.Array:
    """Return one field of all boxes in the schema's type."""
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


def box_fields(kind: pa.DataType) -> list[pa.Field]:
    """Return the fields of the boxes in a column of some type; none if the type has no boxes."""
    inner = getattr(kind, "value_type", None)
    return list(inner) if inner is not None and pa.types.is_struct(inner) else []


def boxes_type(kinds: Mapping[str, pa.DataType]) -> pa.DataType:
    """Return the type of detections whose boxes have some fields, in the schema's order."""
    return pa.list_(
        pa.field("element", pa.struct([(name, kinds[name]) for name in BOX_FIELDS if name in kinds]))
    )


def widened_boxes(values: pa.ListArray, kind: pa.DataType, ids: pa.Array) -> pa.ListArray:
    """Add the fields of a type that checked detections lack; raise if there are boxes without them."""
    flat = values.flatten()
    fields = {field.name: flat.field(field.name) for field in flat.type}
    for missing in [field for field in box_fields(kind) if field.name not in fields]:
        if len(flat) and missing.name != "class_name":
            id = ids[int(np.flatnonzero(values.value_lengths().to_numpy())[0])].as_py()
            raise RecordError(
                f"record {id!r} has a box without {missing.name}, other records' boxes have it",
                id,
                f"{DETECTIONS}.{missing.name}",
            )
        fields[missing.name] = pa.nulls(len(flat), missing.type)
    return _boxes_array(_offsets(values), fields)
