"""Parquet files of records, local or in object storage: which there are, their footers, and some of their rows."""

from __future__ import annotations

import glob
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from alhelpers import storage
from alhelpers.records.layout import check_columns
from alhelpers.records.schema import Files, RecordError, checked_path, local_path

if TYPE_CHECKING:
    import pyarrow.parquet as pq  # imports the file systems of clouds, too: for reading files alone


@dataclass(frozen=True)
class FileRows:
    """The rows from ``start`` to before ``stop`` of some row groups of a file; only these numbers are pickled."""

    file: str | storage.StoredFile
    checksum: int
    groups: tuple[int, ...]
    start: int
    stop: int

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read the wanted columns that the file has."""
        with opened(self.file) as (parquet, checksum):
            if checksum != self.checksum:
                raise RecordError(f"{self.file} was changed while its records were read: start again")
            schema = parquet.schema_arrow
            wanted = [name for name in schema.names if name in columns]
            kept, place = [], 0
            # the batches are as large as the part, so that whole row groups are read in one piece
            size = max(1, self.stop - self.start)
            for batch in parquet.iter_batches(size, row_groups=list(self.groups), columns=wanted):
                first = max(0, self.start - place)
                if first < len(batch):
                    kept.append(batch.slice(first, self.stop - place - first))
                place += len(batch)
                if place >= self.stop:
                    break
            # Parquet matches names by their beginning, up to a dot: keep only the wanted ones
            return (pa.Table.from_batches(kept) if kept else schema.empty_table()).select(wanted)


class Footer(NamedTuple):
    """The columns of a file, the number of rows of each row group, the checksum of the footer, and all of it."""

    schema: pa.Schema
    groups: list[int]
    checksum: int
    metadata: pq.FileMetaData


@contextmanager
def opened(file: str | storage.StoredFile, end: bytes | None = None) -> Iterator[tuple[pq.ParquetFile, int]]:
    """Open a Parquet file, with the checksum of its footer; any failure to read it is an error that names it.

    Of a stored file, its last bytes may be given; else they are fetched, together with what is to be read ahead.
    """
    import pyarrow.parquet as pq

    try:
        if isinstance(file, storage.StoredFile):
            ranges = storage.Ranges(file)
            end = ranges.fetch_end() if end is None else end
            length = _footer_length(end)
            if len(end) < length <= file.size:
                (end,) = file.read([(file.size - length, file.size)])
            metadata = pq.read_metadata(pa.BufferReader(end))
            with pq.ParquetFile(ranges, metadata=metadata) as parquet:
                yield parquet, zlib.crc32(end[-length:-8])
            return
        with pa.OSFile(file) as source, pq.ParquetFile(source) as parquet:
            # the footer has the place, size and limits of every piece: another file has another one
            end_of_it = source.size() - 8
            length = int.from_bytes(source.read_at(4, end_of_it), "little")
            yield parquet, zlib.crc32(source.read_at(length, end_of_it - length))
    except storage.StorageError as error:
        raise RecordError(str(error)) from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise RecordError(f"{file} cannot be read: {os.strerror(error.errno)}") from error
        way_out = "write it again, or restore it from a copy"
        if str(file).endswith((".jsonl", ".json", ".ndjson")):
            way_out = "if it holds JSON lines, read it with from_json_lines or convert it"
        raise RecordError(
            f"{file} is not a Parquet file of records, or a part of it is missing ({error}): {way_out}"
        ) from error


def _footer_length(end: bytes) -> int:
    """Return how many bytes at the end of a Parquet file its footer takes, with its length and the mark."""
    return int.from_bytes(end[-8:-4], "little") + 8


def ranges_of(
    metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[str]
) -> tuple[tuple[int, int], ...]:
    """Return where columns of row groups begin and end in their file."""
    found = []
    for group in map(metadata.row_group, groups):
        for chunk in map(group.column, range(group.num_columns)):
            path = chunk.path_in_schema
            if any(path == name or path.startswith(f"{name}.") for name in columns):
                first = chunk.data_page_offset
                if chunk.dictionary_page_offset:  # may be 0 in the files of some writers
                    first = min(first, chunk.dictionary_page_offset)
                found.append((first, first + chunk.total_compressed_size))
    return tuple(found)


def files_of(source: str | Path | Files) -> list[str | storage.StoredFile]:
    """Return the files of paths, URLs, globs and folders; those of each in sorted order."""
    given = source if isinstance(source, Files) else Files(source)
    found: list[str | storage.StoredFile] = []
    for path in map(checked_path, given.listed):
        if not storage.is_url(path):
            found += local_files_of(os.path.join(path, "*.parquet") if os.path.isdir(path) else path)
            continue
        try:
            stored = storage.find(path, given.storage_options or {})
        except storage.StorageError as error:
            raise RecordError(str(error)) from error
        if not stored:
            raise RecordError(f"cannot read records from {storage.shown(path)!r}: no file matches")
        found += stored
    return found


def local_files_of(path: str | Path) -> list[str]:
    """Return the local files that a path or glob matches, in sorted order."""
    text = local_path(path)
    if os.path.isfile(text):
        return [text]
    found = sorted(filter(os.path.isfile, glob.glob(text, recursive=True)))
    if not found:
        folder = os.path.isdir(text)
        hint = "it is a folder; name its files, as in folder/*.parquet" if folder else "no file matches"
        raise RecordError(f"cannot read records from {text!r}: {hint}")
    return found


def footers_of(
    files: Sequence[str | storage.StoredFile],
) -> tuple[list[str | storage.StoredFile], list[Footer]]:
    """Return files, stored ones with the length of their footers, and the footers; of stored ones read at once."""
    stored = [file for file in files if isinstance(file, storage.StoredFile)]
    try:
        ends = dict(zip(map(id, stored), storage.tails(stored), strict=True))
    except storage.StorageError as error:
        raise RecordError(str(error)) from error
    footers = [_footer(file, ends.get(id(file))) for file in files]
    known = [
        replace(file, tail=_footer_length(ends[id(file)])) if id(file) in ends else file for file in files
    ]
    return known, footers


def _footer(file: str | storage.StoredFile, end: bytes | None) -> Footer:
    with opened(file, end) as (parquet, checksum):
        groups = [parquet.metadata.row_group(k).num_rows for k in range(parquet.metadata.num_row_groups)]
        schema, metadata = parquet.schema_arrow, parquet.metadata
    check_columns(schema.names, f"the records of {file}")
    return Footer(schema, groups, checksum, metadata)
