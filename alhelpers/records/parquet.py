"""Parquet files of records: which there are, what their footers say, and some of their rows."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alhelpers.records.checks import check_has_id
from alhelpers.records.schema import RecordError

#: Records in a row group, the least that is read at once.
ROW_GROUP = 100_000


@dataclass(frozen=True)
class Footer:
    """What the end of a file tells: its columns, and how many rows each row group has."""

    file: str
    schema: pa.Schema
    groups: tuple[int, ...]


@dataclass(frozen=True)
class FileRows:
    """Rows of one file, a pickle of which holds none of them.

    Parameters
    ----------
    file : str
        The file.
    groups : tuple of int
        The row groups that they are in.
    start, stop : int
        Which of these groups' rows.
    whole : bool
        Whether that is all of them.
    """

    file: str
    groups: tuple[int, ...]
    start: int
    stop: int
    whole: bool

    def read(self, columns: list[str]) -> pa.Table:
        """Read those of the columns that the file has."""
        try:
            with pq.ParquetFile(self.file) as parquet:
                wanted = [name for name in parquet.schema_arrow.names if name in columns]
                if self.whole:
                    table = parquet.read_row_groups(list(self.groups), columns=wanted)
                else:
                    table = self._read_slice(parquet, wanted)
                # Parquet matches names by their beginning, up to a dot: take what was asked for
                return table.select(wanted)
        except (pa.ArrowException, OSError) as error:
            raise not_parquet(self.file, error) from error

    def _read_slice(self, parquet: pq.ParquetFile, columns: list[str]) -> pa.Table:
        """Read on to the last row, and keep the rows from the first one on."""
        kept, place = [], 0
        for batch in parquet.iter_batches(row_groups=list(self.groups), columns=columns):
            kept.append(batch.slice(max(0, self.start - place), max(0, self.stop - max(place, self.start))))
            place += len(batch)
            if place >= self.stop:
                break
        return pa.Table.from_batches(kept)


def files_of(path: str | Path) -> list[str]:
    """Return the files that a path or glob names, in sorted order."""
    text = os.fspath(path)
    found = (
        [text] if os.path.isfile(text) else sorted(filter(os.path.isfile, glob.glob(text, recursive=True)))
    )
    if not found:
        hint = (
            "it is a folder; name its files, as in folder/*.parquet"
            if os.path.isdir(text)
            else "no file matches"
        )
        raise RecordError(f"cannot read records from {text!r}: {hint}")
    return found


def footer(file: str) -> Footer:
    """Read the end of a file."""
    try:
        with pq.ParquetFile(file) as parquet:
            meta = parquet.metadata
            groups = tuple(meta.row_group(place).num_rows for place in range(meta.num_row_groups))
            schema = parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise not_parquet(file, error) from error
    check_has_id(schema.names, f"the records of {file}")
    return Footer(file, schema, groups)


def batches(file: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Read a file from its beginning, some rows at a time."""
    try:
        with pq.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(batch_size=rows, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise not_parquet(file, error) from error


def not_parquet(file: str, error: Exception) -> RecordError:
    """Return the error of a file that cannot be read."""
    return RecordError(
        f"{file} is not a Parquet file of records, or a part of it is missing ({error}): write it again"
    )
