"""A part of some records, small enough to be read at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from alhelpers.records.layout import Layout
from alhelpers.records.parquet import FileRows


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
    steps: tuple[Callable[[pa.Table], pa.Table], ...] = ()

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
