"""What all parts of the same records agree on: columns, types, and the sizes of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from alhelpers.records.checks import CLASS_NAMES, checked
from alhelpers.records.detections import box_kind, box_sizes, box_sizes_of_first, joined_boxes, widened_boxes
from alhelpers.records.ids import one_piece
from alhelpers.records.numbers import sizes_of
from alhelpers.records.schema import DETECTIONS, DOCUMENTS, TEXTS, RecordError, is_numeric


@dataclass(frozen=True)
class Layout:
    """What all parts of the same records agree on.

    Parameters
    ----------
    schema : pyarrow.Schema
        The columns to read. The types of documents are those that hold the documents of all parts.
    sizes : dict of str to tuple of int
        How long the vectors of each numeric column are.
    name : str
        What to call the records in errors.
    """

    schema: pa.Schema
    sizes: Mapping[str, tuple[int, ...]]
    name: str

    def fit(self, table: pa.Table, distinct: bool) -> pa.Table:
        """Check a table, and give it all the columns, in the types that the others have."""
        found = checked(table, None, self.name, self.sizes, distinct)
        ids = found["id"]
        columns = {
            kind.name: _widened(found[kind.name], kind, ids)
            if kind.name in found.column_names
            else _absent(kind, ids, self.name)
            for kind in self.schema
        }
        return pa.table(columns)


def _widened(values: pa.ChunkedArray, kind: pa.Field, ids: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Give a column the parts of a document or box that only other records have."""
    if kind.name == DETECTIONS and values.type != kind.type:
        return widened_boxes(one_piece(values), kind.type, ids)
    if kind.name in DOCUMENTS and values.type != kind.type:
        whole = [pa.schema([kind]).empty_table(), pa.table({kind.name: values})]
        return pa.concat_tables(whole, promote_options="permissive")[kind.name]
    return values


def _absent(kind: pa.Field, ids: pa.ChunkedArray, name: str) -> pa.Array:
    """Return a column that these records lack and others have: null, where that is allowed."""
    if len(ids) and (is_numeric(kind.name) or kind.name == DETECTIONS):
        id = ids[0].as_py()
        raise RecordError(f"record {id!r} of {name} has no {kind.name}, other records have", id, kind.name)
    return pa.nulls(len(ids), kind.type)


def layout_of(schema: pa.Schema, values_of: Callable[[str], Iterator[pa.Array]], name: str) -> Layout:
    """Return the layout of records, and read on only where their types do not tell the sizes of vectors."""
    sizes: dict[str, tuple[int, ...]] = {}
    for kind in schema:
        if is_numeric(kind.name):
            sizes[kind.name] = sizes_of(kind.type) or _sizes_of_first(values_of(kind.name))
        elif kind.name == DETECTIONS:
            sizes |= box_sizes(kind.type) or box_sizes_of_first(values_of(kind.name))
            place = schema.get_field_index(kind.name)
            schema = schema.set(place, pa.field(kind.name, box_kind(kind.type, sizes)))
    return Layout(schema, sizes, name)


def _sizes_of_first(values: Iterator[pa.Array]) -> tuple[int, ...]:
    """Return the sizes of the nested lists of the first record; none where it has none."""
    value = next((piece[0].as_py() for piece in values if len(piece)), None)
    sizes = []
    while isinstance(value, list) and value:
        sizes.append(len(value))
        value = value[0]
    return tuple(sizes)


def unified(schemas: Sequence[pa.Schema], files: Sequence[str]) -> pa.Schema:
    """Return all columns of several files, if they fit together."""
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
    """Return what holds a column of two files."""
    name = first.name
    fits = True
    if name == "id":
        fits = pa.types.is_integer(first.type) == pa.types.is_integer(other.type)
    elif is_numeric(name):
        sizes, other_sizes = sizes_of(first.type), sizes_of(other.type)
        fits = not sizes or not other_sizes or sizes == other_sizes
        first = first if sizes else other
    elif name == DETECTIONS:
        return pa.field(name, joined_boxes(first.type, other.type))
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
