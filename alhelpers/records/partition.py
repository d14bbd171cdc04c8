"""Records cut into parts, each small enough to be read at once, whatever form the records have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import storage
from alhelpers.records.filters import columns_of, field_values, filtered
from alhelpers.records.ids import check_distinct
from alhelpers.records.layout import Layout, layout_of, table_layout, unified
from alhelpers.records.parquet_files import FileRows, Footer, files_of, footers_of, opened, ranges_of
from alhelpers.records.schema import PATHS, Query, RecordError, Records, wanted_columns
from alhelpers.records.values import from_rows

#: Records in a row group, the smallest piece of a file that is read at once.
ROW_GROUP = 100_000
#: The approximate number of records in a part.
PART_ROWS = ROW_GROUP


@dataclass(frozen=True, eq=False)
class RecordPart:
    """A part of some records: cheap to create and to pickle, and read each time it is loaded.

    Parameters
    ----------
    rows : int
        The number of records before filters.
    origin, layout, steps
        Where the records are, the columns and types of all parts, and the filters and limit of a query.
    columns : tuple of str
        The columns that :meth:`load` returns.
    """

    rows: int
    origin: FileRows | TableRows
    layout: Layout
    columns: tuple[str, ...]
    steps: tuple[Callable[[pa.Table], pa.Table], ...] = ()

    def load(self, *, distinct: bool = True) -> pa.Table:
        """Read and check the records, and apply filters and limit.

        Parameters
        ----------
        distinct : bool
            Whether to check that every id is unique within the part. It can be left out if the ids of all
            parts are checked together, with :func:`alhelpers.records.check_distinct`.

        Returns
        -------
        pyarrow.Table
            ``id`` and the wanted columns, in the same types in every part; possibly no rows. Numbers are
            float32, in one piece.

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
        The records. A list is converted into a table first. Of files only the footers are read, and one
        record if they do not fix the sizes of vectors. A query with a limit is read as far as needed to
        find its records.
    columns : sequence of str, optional
        The columns to load beside ``id``; those that the records lack are ignored. By default, all.
    rows : int
        The approximate number of records in a part. Smaller row groups of a file are joined, larger ones are
        cut into equal pieces, unless they are in object storage, where each would be fetched whole.
    name : str
        The name of the records in errors.

    Returns
    -------
    list of RecordPart
        The parts, in the order of the records; at least one. The order of a query decides which records its
        limit keeps, and not the order in which they are returned.

    Raises
    ------
    RecordError
        If no file matches, there is no ``id``, the files do not fit together, or a field of the query is
        unknown.
    """
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
        raise RecordError(f"rows must be a whole number of at least 1, got {rows!r}")
    if isinstance(source, Query):
        return _parts_of_query(source, columns, rows, name)
    if isinstance(source, PATHS):
        return parts_of_files(files_of(source), columns, rows, name)
    table = source if isinstance(source, pa.Table) else from_rows(source, columns, name)
    return _parts_of_table(table, columns, rows, name)


def tables_of(found: Iterable[RecordPart]) -> Iterator[pa.Table]:
    """Load one part after the other; raise at the end if an id comes twice in them, or there is no record."""
    ids = []
    for part in found:
        table = part.load(distinct=False)
        ids.append(table["id"])
        yield table
    if not sum(map(len, ids)):
        raise RecordError("records hold no record")
    check_distinct(ids)


def field_names(source: Records) -> list[str]:
    """Return the columns that records have, without reading them.

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
        If no file matches, or the source is not one of records.
    """
    if isinstance(source, list | tuple) and all(isinstance(row, Mapping) for row in source):
        return list(dict.fromkeys(key for row in source for key in row))
    return schema_of(source).names


def count(source: Records) -> int:
    """Count records; only those of a query are read.

    Parameters
    ----------
    source : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.

    Returns
    -------
    int
        The number of records.

    Raises
    ------
    RecordError
        If no file matches, or the source is not one of records.
    """
    return sum(part.load().num_rows if part.steps else part.rows for part in parts(source, ()))


def schema_of(source: Records) -> pa.Schema:
    """Return the columns of records in any form."""
    while isinstance(source, Query):
        source = source.source
    if isinstance(source, PATHS):
        files = files_of(source)
        return unified([footer.schema for footer in footers_of(files)[1]], files)
    return source.schema if isinstance(source, pa.Table) else from_rows(source, None, "records").schema


def _cut(groups: Sequence[int], rows: int, whole: bool = False) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Join small row groups and cut large ones, unless they stay whole.

    Yields the groups of a part and its first and last row in them.
    """
    joined: list[int] = []
    size = 0
    for place, count in enumerate(groups):
        pieces = 1 if whole else max(1, round(count / rows))
        if joined and (pieces > 1 or size + count > rows):
            yield tuple(joined), 0, size
            joined, size = [], 0
        if pieces > 1:
            edges = [count * piece // pieces for piece in range(pieces + 1)]
            yield from (((place,), start, stop) for start, stop in zip(edges, edges[1:], strict=False))
        elif count:
            joined.append(place)
            size += count
    if joined:
        yield tuple(joined), 0, size


# ------------------------------------------------------------------------------
# tables
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableRows:
    """Rows of a table; only these rows are pickled."""

    table: pa.Table

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return the wanted columns that the table has."""
        return self.table.select([name for name in self.table.column_names if name in columns])

    def __reduce__(self) -> tuple[Callable[[bytes], TableRows], tuple[pa.Buffer]]:
        # pickled as it is, a slice would take its whole table along
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as stream:
            stream.write_table(self.table)
        return _unpickled, (sink.getvalue(),)


def _unpickled(buffer: pa.Buffer) -> TableRows:
    return TableRows(pa.ipc.open_stream(buffer).read_all())


def _parts_of_table(table: pa.Table, columns: Sequence[str] | None, rows: int, name: str) -> list[RecordPart]:
    layout = table_layout(table, columns, name)
    names = layout.schema.names
    table = table.select(names)
    cut = [(start, stop) for _, start, stop in _cut([table.num_rows], rows)] or [(0, 0)]
    return [
        RecordPart(stop - start, TableRows(table.slice(start, stop - start)), layout, tuple(names))
        for start, stop in cut
    ]


# ------------------------------------------------------------------------------
# files
# ------------------------------------------------------------------------------


def parts_of_files(
    files: Sequence[str | storage.StoredFile],
    columns: Sequence[str] | None,
    rows: int,
    name: str,
    file_names: Sequence[str] | None = None,
) -> list[RecordPart]:
    """Cut files into parts, which share one layout; ``file_names`` replace the paths in errors."""
    files, footers = footers_of(files)
    wanted = wanted_columns(
        dict.fromkeys(name for footer in footers for name in footer.schema.names), columns, name
    )
    schemas = [pa.schema([field for field in footer.schema if field.name in wanted]) for footer in footers]
    schema = unified(schemas, file_names or files)

    def values_of(column: str) -> Iterator[pa.Array]:
        for file, footer in zip(files, footers, strict=True):
            if column in footer.schema.names:
                with opened(file) as (parquet, _):
                    yield from (batch.column(0) for batch in parquet.iter_batches(1000, columns=[column]))

    layout = layout_of(schema, values_of, name)

    def ahead(
        file: str | storage.StoredFile, footer: Footer, groups: Sequence[int]
    ) -> str | storage.StoredFile:
        if isinstance(file, str):
            return file
        return replace(file, ahead=ranges_of(footer.metadata, groups, schema.names))

    cut = [
        FileRows(ahead(file, footer, part[0]), footer.checksum, *part)
        for file, footer in zip(files, footers, strict=True)
        for part in _cut(footer.groups, rows, whole=not isinstance(file, str))
    ] or [FileRows(files[0], footers[0].checksum, (), 0, 0)]
    return [RecordPart(each.stop - each.start, each, layout, tuple(schema.names)) for each in cut]


# ------------------------------------------------------------------------------
# queries
# ------------------------------------------------------------------------------


def _parts_of_query(query: Query, columns: Sequence[str] | None, rows: int, name: str) -> list[RecordPart]:
    schema = schema_of(query)
    of_filters = [column for each in query.filters for column in columns_of(schema, each["left"])]
    steps = (partial(filtered, filters=query.filters),) if query.filters else ()

    def parts_with(columns: Sequence[str] | None) -> list[RecordPart]:
        wanted = None if columns is None else [*columns, *of_filters]
        found = parts(query.source, wanted, rows, name)
        kept = tuple(each for each in found[0].columns if columns is None or each in ("id", *columns))
        return [replace(part, steps=(*part.steps, *steps), columns=kept) for part in found]

    found = parts_with(columns)
    if query.limit is None:
        return found
    keys = [] if query.order_by is None else columns_of(schema, query.order_by)
    places = _first_places(parts_with(keys), query)
    limited = [
        replace(part, steps=(*part.steps, partial(_taken, places=place)))
        for part, place in zip(found, places, strict=True)
    ]
    return [part for part, place in zip(limited, places, strict=True) if len(place)] or limited[:1]


def _taken(table: pa.Table, places: np.ndarray) -> pa.Table:
    return table.take(pa.array(places))


def _first_places(found: Sequence[RecordPart], query: Query) -> list[np.ndarray]:
    """Return the places of the first records in each part; keep only those in memory."""
    best = None
    for number, part in enumerate(found):
        table = part.load()
        keys = table.select(["id"])
        keys = keys.append_column("part", pa.array(np.full(table.num_rows, number, np.int32)))
        keys = keys.append_column("place", pa.array(np.arange(table.num_rows, dtype=np.int32)))
        if query.order_by is not None:
            keys = keys.append_column("field", field_values(table, query.order_by))
        best = keys if best is None else pa.concat_tables([best, keys])
        if query.order_by is not None:
            best = best.take(order(best, query.desc)[: query.limit])
        elif best.num_rows >= query.limit:
            break
    best = best[: query.limit]
    numbers, places = best["part"].to_numpy(), best["place"].to_numpy()
    return [np.sort(places[numbers == number]) for number in range(len(found))]


def order(keys: pa.Table, desc: bool) -> pa.Array:
    """Return the order of records by ``field``, ties by ``id``; those without the field come last."""
    return pc.sort_indices(
        keys, sort_keys=[("field", "descending" if desc else "ascending"), ("id", "ascending")]
    )
