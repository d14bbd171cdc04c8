"""What all parts of the same records share: columns, types, and the sizes of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from alhelpers.records.checks import CLASS_NAMES, box_fields, box_offsets, boxes_array, checked
from alhelpers.records.ids import one_piece
from alhelpers.records.numbers import fixed_type, nested_sizes, sizes_of
from alhelpers.records.schema import BOX_FIELDS, DETECTIONS, DOCUMENTS, TEXTS, RecordError, is_numeric


@dataclass(frozen=True)
class Layout:
    """The columns to read in the types of all parts, the sizes of their vectors, and the records' name in errors."""

    schema: pa.Schema
    sizes: Mapping[str, tuple[int, ...]]
    name: str

    def fit(self, table: pa.Table, distinct: bool) -> pa.Table:
        """Check a table, and return it with all columns of the layout."""
        found = checked(table, None, self.name, self.sizes, distinct)
        return pa.table({kind.name: self._column(found, kind) for kind in self.schema})

    def _column(self, table: pa.Table, kind: pa.Field) -> pa.ChunkedArray | pa.Array:
        """Return a column, with the parts of a document or box that only other records have, or nulls."""
        column, ids = kind.name, table["id"]
        if column not in table.column_names:
            if len(ids) and must_be_in_all(column):
                id = ids[0].as_py()
                raise RecordError(
                    f"record {id!r} of {self.name} has no {column}, other records have", id, column
                )
            return pa.nulls(len(ids), kind.type)
        values = table[column]
        if column == DETECTIONS and values.type != kind.type:
            return _widened_boxes(one_piece(values), kind.type, ids)
        if column in DOCUMENTS and values.type != kind.type:
            whole = [pa.schema([kind]).empty_table(), pa.table({column: values})]
            return pa.concat_tables(whole, promote_options="permissive")[column]
        return values


def _widened_boxes(values: pa.ListArray, kind: pa.DataType, ids: pa.Array) -> pa.ListArray:
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
    return boxes_array(box_offsets(values), fields)


def must_be_in_all(column: str) -> bool:
    """Return whether all records must have a column if one has it."""
    return is_numeric(column) or column == DETECTIONS


def layout_of(schema: pa.Schema, values_of: Callable[[str], Iterator[pa.Array]], name: str) -> Layout:
    """Return the layout of records; values are read only where the types do not fix the sizes of vectors."""
    sizes = fixed_sizes(schema)
    for place, kind in enumerate(schema):
        if is_numeric(kind.name) and kind.name not in sizes:
            first = next((piece[0].as_py() for piece in values_of(kind.name) if len(piece)), None)
            sizes[kind.name] = nested_sizes(first)
        elif kind.name == DETECTIONS:
            kinds = {"class_name": pa.string()}
            columns = {field.name: f"{DETECTIONS}.{field.name}" for field in box_fields(kind.type)}
            if columns and not any(column in sizes for column in columns.values()):
                flat = (piece.flatten() for piece in values_of(DETECTIONS))
                box = next((piece[0].as_py() for piece in flat if len(piece)), None) or {}
                sizes |= {columns[field]: nested_sizes(value) for field, value in box.items()}
            for field, column in columns.items():
                kinds.setdefault(field, fixed_type(sizes.get(column, ())))
            schema = schema.set(place, pa.field(DETECTIONS, _boxes_type(kinds)))
    return Layout(schema, sizes, name)


def fixed_sizes(schema: pa.Schema) -> dict[str, tuple[int, ...]]:
    """Return the sizes of the vectors of columns, and of boxes as ``detections.<field>``, that the types fix."""
    kinds = {kind.name: kind.type for kind in schema}
    for field in box_fields(kinds.get(DETECTIONS, pa.null())):
        kinds[f"{DETECTIONS}.{field.name}"] = field.type
    return {column: sizes for column, kind in kinds.items() if (sizes := sizes_of(kind))}


def _boxes_type(kinds: Mapping[str, pa.DataType]) -> pa.DataType:
    """Return the type of detections whose boxes have some fields, in the schema's order."""
    return pa.list_(
        pa.field("element", pa.struct([(name, kinds[name]) for name in BOX_FIELDS if name in kinds]))
    )


def unified(schemas: Sequence[pa.Schema], files: Sequence[str]) -> pa.Schema:
    """Return all columns of several files; raise if two files do not fit together."""
    kinds: dict[str, pa.Field] = {}
    origin: dict[str, str] = {}
    for schema, file in zip(schemas, files, strict=True):
        for kind in schema:
            first = kinds.get(kind.name)
            kinds[kind.name] = kind if first is None else _joined(first, kind, origin[kind.name], file)
            origin.setdefault(kind.name, file)
    fixed = {**dict.fromkeys(TEXTS, pa.string()), "class_names": CLASS_NAMES}
    return pa.schema([pa.field(name, fixed.get(name, kind.type)) for name, kind in kinds.items()])


def _joined(first: pa.Field, other: pa.Field, file: str, other_file: str) -> pa.Field:
    """Return the field that holds a column of two files."""
    name = first.name
    fits = True
    if name == "id":
        fits = pa.types.is_integer(first.type) == pa.types.is_integer(other.type)
    elif is_numeric(name):
        sizes, other_sizes = sizes_of(first.type), sizes_of(other.type)
        fits = not sizes or not other_sizes or sizes == other_sizes
        first = first if sizes else other
    elif name == DETECTIONS:
        kinds = {field.name: field.type for kind in (first, other) for field in box_fields(kind.type)}
        return pa.field(name, _boxes_type(kinds))
    elif name in DOCUMENTS and first.type != other.type:
        try:
            return pa.unify_schemas([pa.schema([first]), pa.schema([other])], promote_options="permissive")[0]
        except pa.ArrowException:
            fits = False
    if not fits:
        raise RecordError(
            f"the files do not fit together: {name} is {first.type} in {file} and {other.type} in {other_file}",
            column=name,
        )
    return first
