"""Records cut into parts, each small enough to be read at once, wherever the records are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from alhelpers.records.checks import check_has_id
from alhelpers.records.choices import columns_beside, filtered, limited
from alhelpers.records.conversion import from_rows
from alhelpers.records.filters import columns_of
from alhelpers.records.layout import layout_of, unified
from alhelpers.records.parquet import ROW_GROUP, FileRows, Footer, batches, files_of, footer
from alhelpers.records.part import RecordPart, TableRows
from alhelpers.records.schema import RecordError
from alhelpers.records.sources import PATHS, Query, Records

#: About how many records a part has.
PART_ROWS = ROW_GROUP

_ROWS_READ_ON = 1000


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
        The parts, in the order of the records; at least one. A query's own order decides which records its
        limit keeps, and not where they come.

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
        return parts_of_files(files_of(source), columns, rows, name)
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


def schema_of(source: Records) -> pa.Schema:
    """Return the columns of records in any form."""
    while isinstance(source, Query):
        source = source.source
    if isinstance(source, PATHS):
        files = files_of(source)
        return unified([footer(file).schema for file in files], files)
    return source.schema if isinstance(source, pa.Table) else from_rows(source, None, "records").schema


def parts_of_files(
    files: Sequence[str],
    columns: Sequence[str] | None,
    rows: int,
    name: str,
    file_names: Sequence[str] | None = None,
) -> list[RecordPart]:
    """Cut files into parts, which agree on one layout; errors call the files by other names, if they have any."""
    footers = [footer(file) for file in files]
    schema = _narrowed(unified([each.schema for each in footers], file_names or files), columns)
    layout = layout_of(schema, partial(_read_on, footers), name)
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
    layout = layout_of(schema, lambda column: iter(table[column].chunks), name)
    table = table.select(schema.names)
    return [
        RecordPart(stop - start, TableRows(table.slice(start, stop - start)), layout, tuple(schema.names))
        for _, start, stop, _ in _cut([table.num_rows], rows)
    ] or [RecordPart(0, TableRows(table), layout, tuple(schema.names))]


def _parts_of_query(query: Query, columns: Sequence[str] | None, rows: int, name: str) -> list[RecordPart]:
    schema = schema_of(query)
    beside = columns_beside(query, schema)
    wanted = None if columns is None else [*columns, *beside]
    found = filtered(parts(query.source, wanted, rows, name), query, columns)
    if query.limit is None:
        return found
    order = [] if query.order_by is None else columns_of(schema, query.order_by)
    keys = filtered(parts(query.source, [*order, *beside], rows, name), query, order)
    return limited(found, keys, query)


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


def _read_on(footers: Sequence[Footer], column: str) -> Iterator[pa.Array]:
    """Yield a column from the first file that has it on, a few rows at a time."""
    for each in footers:
        if column in each.schema.names:
            yield from (batch.column(0) for batch in batches(each.file, [column], _ROWS_READ_ON))
