"""What all parts of the same records share, their columns and types, and tables checked against it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.records.ids import checked_ids, first_null, one_piece
from alhelpers.records.schema import (
    DETECTIONS,
    DOCUMENTS,
    RecordError,
    box_fields,
    boxes_type,
    depth,
    fixed_type,
    has_sizes,
    is_known,
    is_numeric,
    kept_type,
    sizes_of,
    wanted_columns,
)
from alhelpers.records.values import checked_numbers, missing, nested_sizes


@dataclass(frozen=True)
class Layout:
    """The columns of all parts in the types of the schema, and the name of the records in errors."""

    schema: pa.Schema
    name: str

    def fit(self, table: pa.Table, distinct: bool = True) -> pa.Table:
        """Check a table, and return it with all columns of the layout, each in one piece."""
        ids = checked_ids(table["id"], self.name, distinct)
        given = {"id": ids} | {column: table[column] for column in table.column_names if column != "id"}
        return pa.table(self._columns(given, self.schema, ids), self.schema.names)

    def _columns(
        self, given: Mapping[str, pa.Array], fields: Iterable[pa.Field], ids: pa.Array, of_boxes: str = ""
    ) -> list[pa.Array]:
        """Return the values of all fields, of records or of boxes, whose ids are those of their records."""
        found = []
        for field in fields:
            column = f"{of_boxes}{field.name}"
            if field.name in given:
                found.append(self._fitted(one_piece(given[field.name]), field.type, column, ids))
            elif len(ids) and must_be_in_all(column):
                id = ids[0].as_py()
                what = missing(id, column, self.name)
                if of_boxes:
                    what = f"record {id!r} has a box without {field.name}, other records' boxes have it"
                raise RecordError(what, id, column)
            else:
                found.append(pa.nulls(len(ids), field.type))
        return found

    def _fitted(self, values: pa.Array, kind: pa.DataType, column: str, ids: pa.Array) -> pa.Array:
        """Check the values of a column or of a field of boxes, and return them in its type."""
        kept_type(column, values.type, self.name)
        if is_numeric(column):
            return checked_numbers(values, kind, column, ids)
        if column == DETECTIONS:
            return self._fitted_boxes(values, kind, ids)
        # types are equal whatever the elements of their lists are called
        try:
            return values if values.type == kind else values.cast(kind)
        except pa.ArrowException as error:
            raise RecordError(f"{column} of {self.name} cannot be {kind}: {error}", column=column) from error

    def _fitted_boxes(self, values: pa.Array, kind: pa.DataType, ids: pa.Array) -> pa.Array:
        if values.null_count:
            id = ids[first_null(values)].as_py()
            raise RecordError(missing(id, DETECTIONS), id, DETECTIONS)
        if not len(values):
            return pa.array([], kind)
        offsets, flat = box_offsets(values), values.flatten()
        owners = ids.take(pa.array(np.repeat(np.arange(len(ids)), np.diff(offsets))))
        if flat.null_count:
            id = owners[first_null(flat)].as_py()
            raise RecordError(f"record {id!r} has a box that is null; leave it out", id, DETECTIONS)
        given = {field.name: flat.field(field.name) for field in box_fields(values.type)}
        fields = self._columns(given, kind.value_type, owners, f"{DETECTIONS}.")
        boxes = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), boxes, type=kind)


def must_be_in_all(column: str) -> bool:
    """Return whether all records must have a column if one has it."""
    return is_numeric(column) or column == DETECTIONS


def box_offsets(values: pa.Array) -> np.ndarray:
    """Return the place of each record's first box, from 0, and the number of boxes at the end."""
    return np.concatenate([[0], np.cumsum(values.value_lengths().to_numpy(), dtype=np.int64)])


def layout_of(schema: pa.Schema, values_of: Callable[[str], Iterator[pa.Array]], name: str) -> Layout:
    """Return the layout of records; values are read only where the types do not fix the sizes of vectors."""

    def sized(column: str, kind: pa.DataType, pieces: Iterator[pa.Array]) -> pa.DataType:
        if not is_numeric(column) or has_sizes(column, kind):
            return kind
        sizes = nested_sizes(next((piece[0].as_py() for piece in pieces if len(piece)), None))
        return fixed_type(sizes if len(sizes) == depth(column) else (1,) * depth(column))

    def pieces_of(box_field: str) -> Iterator[pa.Array]:
        return (piece.flatten().field(box_field) for piece in values_of(DETECTIONS))

    kinds = {field.name: kept_type(field.name, field.type, name) for field in schema}
    for column, kind in kinds.items():
        if column == DETECTIONS:
            kinds[column] = boxes_type(
                {f.name: sized(f"{column}.{f.name}", f.type, pieces_of(f.name)) for f in box_fields(kind)}
            )
        else:
            kinds[column] = sized(column, kind, values_of(column))
    return Layout(pa.schema(kinds), name)


def checked(
    table: pa.Table, columns: Sequence[str] | None = None, name: str = "records", distinct: bool = True
) -> pa.Table:
    """Return ``id`` and the wanted columns of a table, in the types of the schema."""
    return table_layout(table, columns, name).fit(table, distinct)


def table_layout(table: pa.Table, columns: Sequence[str] | None, name: str) -> Layout:
    """Return the layout of ``id`` and the wanted columns of a table."""
    check_columns(table.column_names, name)
    wanted = wanted_columns(table.column_names, columns, name)
    schema = pa.schema([table.schema.field(column) for column in wanted])
    return layout_of(schema, lambda column: iter(table[column].chunks), name)


def check_columns(columns: list[str], name: str) -> None:
    """Raise if there is no column of ids, or a column of the schema comes twice."""
    if "id" not in columns:
        raise RecordError(f"{name} have no column 'id', they have {columns}", column="id")
    twice = next((column for column in columns if is_known(column) and columns.count(column) > 1), None)
    if twice is not None:
        raise RecordError(f"{name} have more than one column {twice!r}: rename or drop one", column=twice)


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
        fits = kept_type(name, first.type, file) == kept_type(name, other.type, other_file)
    elif is_numeric(name):
        sizes, other_sizes = sizes_of(first.type), sizes_of(other.type)
        fits = not sizes or not other_sizes or sizes == other_sizes
        first = first if sizes else other
    elif name == DETECTIONS:
        kinds = {field.name: field.type for kind in (first, other) for field in box_fields(kind.type)}
        return pa.field(name, boxes_type(kinds))
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
