"""Records cut into parts, each small enough to be read at once, wherever the records are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.records.checks import CLASS_NAMES, check_has_id, checked
from alhelpers.records.conversion import from_rows
from alhelpers.records.detections import box_kind, box_sizes, box_sizes_of_first, joined_boxes, widened_boxes
from alhelpers.records.filters import columns_of, field_values, met
from alhelpers.records.ids import one_piece
from alhelpers.records.numbers import sizes_of
from alhelpers.records.parquet import ROW_GROUP, FileRows, Footer, batches, files_of, footer
from alhelpers.records.schema import DETECTIONS, DOCUMENTS, TEXTS, RecordError, is_numeric
from alhelpers.records.sources import PATHS, Query, Records

#: About how many records a part has.
PART_ROWS = ROW_GROUP

_ROWS_READ_ON = 1000


@dataclass(frozen=True)
class TableRows:
    """Rows of a table; a pickle of them holds these rows and no others of the table."""

    table: pa.Table

    def read(self, columns: list[str]) -> pa.Table:
        """Return those of the columns that the table has."""
        return self.table.select([name for name in self.table.column_names if name in columns])

    def __reduce__(self) -> tuple[Callable[[bytes], TableRows], tuple[pa.Buffer]]:
        # pickled as it is, a slice would take its whole table along
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as stream:
            stream.write_table(self.table)
        return _unpickled, (sink.getvalue(),)


def _unpickled(buffer: pa.Buffer) -> TableRows:
    return TableRows(pa.ipc.open_stream(buffer).read_all())


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


@dataclass(frozen=True, eq=False)
class RecordPart:
    """A part of some records: cheap to make and to pickle, and read as often as it is asked to.

    Parameters
    ----------
    rows : int
        How many records it has before filters.
    origin : FileRows or TableRows
        Where they are.
    layout : Layout
        What it shares with the other parts.
    columns : tuple of str
        What :meth:`load` returns.
    steps : tuple of callable
        From table to table: the filters, and the choice of a query.
    """

    rows: int
    origin: FileRows | TableRows
    layout: Layout
    columns: tuple[str, ...]
    steps: tuple[Callable[[pa.Table], pa.Table], ...] = field(default=())

    def load(self, *, distinct: bool = True) -> pa.Table:
        """Read and check the records, and choose among them.

        Parameters
        ----------
        distinct : bool
            Whether to check that no id comes twice within the part. Whoever checks the ids of all parts
            together, with :func:`alhelpers.records.check_distinct`, has no use for it.

        Returns
        -------
        pyarrow.Table
            ``id`` and the columns that were asked for, in the same types in every part; possibly no rows.
            Numbers are float32, in one piece.

        Raises
        ------
        RecordError
            If the records break the schema, an id comes twice within the part, or the file was changed
            meanwhile; the message names the record and the column.
        """
        table = self.layout.fit(self.origin.read(self.layout.schema.names), distinct)
        for step in self.steps:
            table = step(table)
        return table.select(list(self.columns))


def parts(
    source: Records, columns: Sequence[str] | None = None, rows: int = PART_ROWS, name: str = "records"
) -> list[RecordPart]:
    """Cut records into parts, without reading them.

    Parameters
    ----------
    source : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records. A list is turned into a table first. Of files the footers are read, and one record where
        they do not tell the lengths of vectors. Of a query with a limit what is read is what it takes to
        know which records they are.
    columns : sequence of str, optional
        The columns to load beside ``id``, those of them that there are; all without it.
    rows : int
        About how many records a part has: whole row groups of one file where they are smaller, equal pieces
        of them where they are larger.
    name : str
        What to call the records in errors.

    Returns
    -------
    list of RecordPart
        The parts, in the order of the records; at least one.

    Raises
    ------
    RecordError
        If there is no file, or no ``id``, or the files do not fit together, or a field of the query is
        unknown.
    """
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
        raise RecordError(f"rows must be a whole number of at least 1, got {rows!r}")
    if isinstance(source, Query):
        return _parts_of_query(source, columns, rows, name)
    if isinstance(source, PATHS):
        return _parts_of_files(files_of(source), columns, rows, name)
    table = source if isinstance(source, pa.Table) else from_rows(source, columns, name)
    return _parts_of_table(table, columns, rows, name)


def field_names(source: Records) -> list[str]:
    """List the columns that records have, without reading them.

    Parameters
    ----------
    source : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.

    Returns
    -------
    list of str
        Every column that a record or a file has.

    Raises
    ------
    RecordError
        If there is no file, or what is there are no records.
    """
    if isinstance(source, list | tuple) and all(isinstance(row, Mapping) for row in source):
        return list(dict.fromkeys(key for row in source for key in row))
    return schema_of(source).names


def count(source: Records) -> int:
    """Count records; only those of a query are read for it.

    Parameters
    ----------
    source : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.

    Returns
    -------
    int
        How many there are.

    Raises
    ------
    RecordError
        If there is no file, or what is there are no records.
    """
    if not isinstance(source, Query):
        return sum(part.rows for part in parts(source, ()))
    return sum(part.load().num_rows if part.steps else part.rows for part in parts(source, ()))


# ------------------------------------------------------------------------------
# files and tables
# ------------------------------------------------------------------------------


def _parts_of_files(
    files: Sequence[str], columns: Sequence[str] | None, rows: int, name: str
) -> list[RecordPart]:
    footers = [footer(file) for file in files]
    schema = _narrowed(_unified([each.schema for each in footers], files), columns)
    layout = _layout(schema, partial(_read_on, footers), name)
    found = [
        RecordPart(stop - start, FileRows(each.file, groups, start, stop, whole), layout, tuple(schema.names))
        for each in footers
        for groups, start, stop, whole in _cut(each.groups, rows)
    ]
    none = RecordPart(0, FileRows(files[0], (), 0, 0, True), layout, tuple(schema.names))
    return found or [none]


def _parts_of_table(table: pa.Table, columns: Sequence[str] | None, rows: int, name: str) -> list[RecordPart]:
    check_has_id(table.column_names, name)
    schema = _narrowed(table.schema, columns)
    layout = _layout(schema, lambda column: iter(table[column].chunks), name)
    table = table.select(schema.names)
    return [
        RecordPart(stop - start, TableRows(table.slice(start, stop - start)), layout, tuple(schema.names))
        for _, start, stop, _ in _cut([table.num_rows], rows)
    ] or [RecordPart(0, TableRows(table), layout, tuple(schema.names))]


def schema_of(source: Records) -> pa.Schema:
    """Return the columns of records in any form."""
    while isinstance(source, Query):
        source = source.source
    if isinstance(source, PATHS):
        files = files_of(source)
        return _unified([footer(file).schema for file in files], files)
    return source.schema if isinstance(source, pa.Table) else from_rows(source, None, "records").schema


def _narrowed(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """Return ``id`` and the columns that were asked for."""
    return pa.schema([kind for kind in schema if columns is None or kind.name in ("id", *columns)])


def _cut(groups: Sequence[int], rows: int) -> list[tuple[tuple[int, ...], int, int, bool]]:
    """Put small row groups together, and large ones in pieces: groups, first and last row, and whether whole."""
    found: list[tuple[tuple[int, ...], int, int, bool]] = []
    together: list[int] = []
    for place, size in enumerate(groups):
        pieces = max(1, round(size / rows))
        if together and (pieces > 1 or size + sum(groups[each] for each in together) > rows):
            found.append((tuple(together), 0, sum(groups[each] for each in together), True))
            together = []
        if pieces > 1:
            edges = [size * piece // pieces for piece in range(pieces + 1)]
            found += [((place,), start, stop, False) for start, stop in zip(edges, edges[1:], strict=False)]
        elif size:
            together.append(place)
    if together:
        found.append((tuple(together), 0, sum(groups[each] for each in together), True))
    return found


def _layout(schema: pa.Schema, values_of: Callable[[str], Iterator[pa.Array]], name: str) -> Layout:
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


def _read_on(footers: Sequence[Footer], column: str) -> Iterator[pa.Array]:
    """Yield a column from the first file that has it on, a few rows at a time."""
    for each in footers:
        if column in each.schema.names:
            yield from (batch.column(0) for batch in batches(each.file, [column], _ROWS_READ_ON))


def _unified(schemas: Sequence[pa.Schema], files: Sequence[str]) -> pa.Schema:
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


# ------------------------------------------------------------------------------
# queries
# ------------------------------------------------------------------------------


def _parts_of_query(query: Query, columns: Sequence[str] | None, rows: int, name: str) -> list[RecordPart]:
    schema = schema_of(query)
    lefts = [condition["left"] for condition in query.filters]
    for_filters = {column for left in lefts for column in columns_of(schema, left)}
    for_order = set(columns_of(schema, query.order_by)) if query.order_by is not None else set()
    step = partial(met, filters=query.filters)

    def parts_with(wanted: Sequence[str] | None, beside: set[str]) -> list[RecordPart]:
        all_of_it = None if wanted is None else [*wanted, *beside]
        found = parts(query.source, all_of_it, rows, name)
        if query.filters:
            found = [replace(part, steps=(*part.steps, step)) for part in found]
        kept = [kind for kind in found[0].columns if wanted is None or kind in ("id", *wanted)]
        return [replace(part, columns=tuple(kept)) for part in found]

    chosen = parts_with(columns, for_filters)
    if query.limit is None:
        return chosen
    narrow = parts_with(sorted(for_order), for_filters)
    places = _first(narrow, query.limit) if query.order_by is None else _best(narrow, query)
    limited = [
        replace(part, steps=(*part.steps, partial(_taken, places=place)))
        for part, place in zip(chosen, places, strict=True)
        if len(place)
    ]
    return limited or [replace(chosen[0], steps=(*chosen[0].steps, partial(_taken, places=places[0])))]


def _taken(table: pa.Table, places: np.ndarray) -> pa.Table:
    return table.take(pa.array(places))


def _first(found: Sequence[RecordPart], limit: int) -> list[np.ndarray]:
    """Return the places of the first records in each part, and read no more parts than it takes."""
    places, left = [], limit
    for part in found:
        rows = (part.load().num_rows if part.steps else part.rows) if left else 0
        places.append(np.arange(min(rows, left)))
        left -= len(places[-1])
    return places


def _best(found: Sequence[RecordPart], query: Query) -> list[np.ndarray]:
    """Return the places of the first records by order in each part, and keep no more than those in memory."""
    best = None
    for number, part in enumerate(found):
        table = part.load()
        keys = pa.table(
            {
                "field": field_values(table, query.order_by),
                "id": table["id"],
                "part": np.full(table.num_rows, number, np.int32),
                "place": np.arange(table.num_rows, dtype=np.int32),
            }
        )
        keys = keys if best is None else pa.concat_tables([best, keys])
        best = keys.take(order(keys, query.desc)[: query.limit])
    numbers, rows = best["part"].to_numpy(), best["place"].to_numpy()
    return [np.sort(rows[numbers == number]) for number in range(len(found))]


def order(keys: pa.Table, desc: bool) -> pa.Array:
    """Return the order of records by ``field``, ties by ``id``; those without the field come last."""
    return pc.sort_indices(
        keys, sort_keys=[("field", "descending" if desc else "ascending"), ("id", "ascending")]
    )
