"""What all parts of the same records share: their columns and types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from alhelpers.records.checks import CLASS_NAMES, box_fields, checked
from alhelpers.records.ids import one_piece
from alhelpers.records.numbers import fixed_type, nested_sizes, sizes_of
from alhelpers.records.schema import BOX_FIELDS, DETECTIONS, DOCUMENTS, TEXTS, RecordError, depth, is_numeric


@dataclass(frozen=True)
class Layout:
    """The columns of all parts in the types of the schema, and the name of the records in errors."""

    schema: pa.Schema
    name: str

    def fit(self, table: pa.Table, distinct: bool) -> pa.Table:
        """Check a table, and return it with all columns of the layout."""
        table = checked(table, None, self.name, fixed_sizes(self.schema), distinct)
        for column, kind in zip(self.schema.names, self.schema.types, strict=True):
            if column not in table.column_names:
                if table.num_rows and must_be_in_all(column):
                    id = table["id"][0].as_py()
                    raise RecordError(
                        f"record {id!r} of {self.name} has no {column}, other records have", id, column
                    )
                table = table.append_column(column, pa.nulls(table.num_rows, kind))
            elif column == DETECTIONS:
                _check_boxes_complete(table, kind)
        return table.select(self.schema.names).cast(self.schema)


def must_be_in_all(column: str) -> bool:
    """Return whether all records must have a column if one has it."""
    return is_numeric(column) or column == DETECTIONS


def _check_boxes_complete(table: pa.Table, kind: pa.DataType) -> None:
    """Raise if there are boxes without numbers that other records' boxes have."""
    boxes = one_piece(table[DETECTIONS])
    names = {"class_name", *(field.name for field in box_fields(boxes.type))}
    missing = next((field.name for field in box_fields(kind) if field.name not in names), None)
    owners = np.flatnonzero(boxes.value_lengths().to_numpy())
    if missing is not None and len(owners):
        id = table["id"][int(owners[0])].as_py()
        raise RecordError(
            f"record {id!r} has a box without {missing}, other records' boxes have it",
            id,
            f"{DETECTIONS}.{missing}",
        )


def layout_of(schema: pa.Schema, values_of: Callable[[str], Iterator[pa.Array]], name: str) -> Layout:
    """Return the layout of records; values are read only where the types do not fix the sizes of vectors."""
    sizes = fixed_sizes(schema)
    for kind in schema:
        column = kind.name
        if is_numeric(column) and depth(column) and column not in sizes:
            first = next((piece[0].as_py() for piece in values_of(column) if len(piece)), None)
            sizes[column] = nested_sizes(first)
        elif column == DETECTIONS and box_fields(kind.type) and not any(DETECTIONS in each for each in sizes):
            flat = (piece.flatten() for piece in values_of(column))
            box = next((piece[0].as_py() for piece in flat if len(piece)), None) or {}
            sizes |= {f"{column}.{field}": nested_sizes(value) for field, value in box.items()}
    return Layout(pa.schema([pa.field(kind.name, _checked_type(kind, sizes)) for kind in schema]), name)


def _checked_type(kind: pa.Field, sizes: Mapping[str, tuple[int, ...]]) -> pa.DataType:
    """Return the type of a column after the checks."""
    column, found = kind.name, kind.type
    if is_numeric(column):
        return fixed_type(sizes.get(column) or (1,) * depth(column))
    if column == "id":
        plain = found.value_type if pa.types.is_dictionary(found) else found
        return pa.int64() if pa.types.is_integer(plain) else pa.string()
    if column == DETECTIONS:
        fields = {field.name: pa.field(f"{column}.{field.name}", field.type) for field in box_fields(found)}
        return _boxes_type({name: _checked_type(field, sizes) for name, field in fields.items()})
    plain = {**dict.fromkeys(TEXTS, pa.string()), "class_names": CLASS_NAMES}.get(column, found)
    return (
        found if found == plain else plain
    )  # types are equal whatever the elements of their lists are called


def fixed_sizes(schema: pa.Schema) -> dict[str, tuple[int, ...]]:
    """Return the sizes of the vectors of columns, and of boxes as ``detections.<field>``, that the types fix."""
    kinds = {kind.name: kind.type for kind in schema}
    for field in box_fields(kinds.get(DETECTIONS, pa.null())):
        kinds[f"{DETECTIONS}.{field.name}"] = field.type
    found = {column: sizes_of(kind) for column, kind in kinds.items() if is_numeric(column)}
    return {column: sizes for column, sizes in found.items() if sizes and len(sizes) == depth(column)}


def _boxes_type(kinds: Mapping[str, pa.DataType]) -> pa.DataType:
    """Return the type of detections whose boxes have some fields, and always a class name."""
    kinds = {**kinds, "class_name": pa.string()}
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
    return pa.schema(kinds.values())


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
