"""Records written to Parquet, all of them or none."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from alhelpers import storage
from alhelpers.files import replacing
from alhelpers.records.partition import ROW_GROUP, RecordPart, field_names, parts, parts_of_files, tables_of
from alhelpers.records.schema import (
    COLUMNS,
    DOCUMENTS,
    Files,
    RecordError,
    Records,
    checked_path,
    is_known,
    local_path,
)

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# Texts that are the same for many records.
_REPEATED = (
    "split",
    "class_name",
    "groundtruth",
    "class_names.list.element",
    "detections.list.element.class_name",
)


def write(path: str | Path | Files, table: Records) -> None:
    """Check records and write them to one Parquet file, a part at a time.

    Parameters
    ----------
    path : str, pathlib.Path or Files
        The file, or its URL; its folder is made if missing. It is replaced only when all records are written: an
        interrupted write leaves the old file whole. To a URL, a temporary local file is put at the end.
    table : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.

    Raises
    ------
    RecordError
        If the records break the schema, or the file cannot be written; nothing is written then.
    """
    if not isinstance(_target(path), Files):
        check_target(path)
    check_known(table)
    _write(path, parts(table))


def append(path: str | Path, records: Records) -> None:
    """Add records to the end of a Parquet file, which is created if it is missing.

    The whole file is written anew, a part at a time, and replaced only at the end: an interrupted append leaves
    the old file whole. Where that takes too long, write the records to another file and read both as a glob.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records to add. They must have the same numeric columns and detections as the file; a text or
        document that either lacks is null there.

    Raises
    ------
    RecordError
        If the records break the schema or do not fit to those in the file, an id is in the file already, or
        another process changed the file meanwhile; the file stays as it is then.
    """
    target = check_target(path)
    before = _state(target)
    check_known(records)
    if not before:
        _write(target, parts(records), before)
        return
    check_known(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        added = Path(folder) / "added.parquet"
        _write(added, parts(records))
        write_files(target, [target, added], ["the file", "the records to append"], before)


def write_files(
    path: Path, files: Sequence[Path], names: Sequence[str], before: tuple[int, ...] | None = None
) -> None:
    """Write the records of several files to one, which may be among them."""
    found = parts_of_files([str(file) for file in files], None, ROW_GROUP, str(path), names)
    _write(path, found, before)


def _write(
    path: str | Path | Files, found: Sequence[RecordPart], before: tuple[int, ...] | None = None
) -> None:
    tables = tables_of(found)
    with in_place_of(path, before) as file:
        first = next(tables)
        try:
            with _writer(file, first.schema) as writer:
                for table in _regrouped(itertools.chain([first], tables)):
                    writer.write_table(table, row_group_size=ROW_GROUP)
        except pa.ArrowNotImplementedError as error:
            raise RecordError(f"Parquet cannot store a value under tags or metadata: {error}") from error


def _regrouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in tables of one row group each, of which only the last is smaller."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= ROW_GROUP:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, ROW_GROUP)
            waiting = [whole.slice(ROW_GROUP)]
            rows -= ROW_GROUP
    if rows:
        yield pa.concat_tables(waiting)


def _writer(file: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    import pyarrow.parquet as pq

    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    # float bytes that lie together by significance compress well; a dictionary of floats would not
    floats = [
        path for path, kind in leaves if pa.types.is_floating(kind) and path.split(".")[0] not in DOCUMENTS
    ]
    texts = [path for path, _ in leaves if path in _REPEATED]
    # ids are read along with every column: for them speed matters more than size
    compression = {path: "lz4" if path == "id" else "zstd" for path, _ in leaves}
    return pq.ParquetWriter(
        file, schema, compression=compression, use_dictionary=texts, use_byte_stream_split=floats or False
    )


def _leaves(path: str, kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    """Return the Parquet paths inside a column, with their types."""
    if pa.types.is_struct(kind):
        return [leaf for part in kind for leaf in _leaves(f"{path}.{part.name}", part.type)]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [(path, kind)]


def check_target(path: str | Path) -> Path:
    """Return the path of one local file; raise for anything else."""
    target = Path(local_path(path))
    if target.is_dir() or set(target.name) & set("*?"):
        raise RecordError(f"cannot write records to {str(target)!r}: name one file, not a folder or a glob")
    return target


def check_known(records: Records) -> None:
    """Raise if records have a column that would be lost, as the schema does not know it."""
    unknown = next((name for name in field_names(records) if not is_known(name)), None)
    if unknown is not None:
        raise RecordError(
            f"column {unknown!r} is not in the schema of records: {', '.join(COLUMNS)}, embeddings:<layer>; "
            "put everything else under metadata",
            column=str(unknown),
        )


def _target(path: str | Path | Files) -> str | Files:
    """Return a path, or the one URL of a file that is to be written."""
    given = path if isinstance(path, Files) else Files(path)
    target = checked_path(given.listed[0])
    if len(given.listed) > 1 or (
        storage.is_url(target) and ("*" in target or target.endswith("/") or target.count("/") < 3)
    ):
        raise RecordError(f"cannot write records to {str(given)!r}: name one file, not a folder or a glob")
    return given if storage.is_url(target) else target


@contextmanager
def in_place_of(path: str | Path | Files, before: tuple[int, ...] | None = None) -> Iterator[BinaryIO]:
    """Open a new file that replaces another one at the end, unless another process changed that meanwhile."""
    target = _target(path)
    if isinstance(target, Files):
        url, options = target.listed[0], target.storage_options or {}
        try:
            with storage.uploading(url, options) as part, open(part, "wb") as file:
                yield file
        except storage.StorageError as error:
            raise RecordError(str(error)) from error
        return
    target = check_target(target)
    with replacing(target) as part:
        with open(part, "wb") as file:
            yield file
        if before is not None and _state(target) != before:
            raise RecordError(f"{target} was changed by another process meanwhile: append once more")


def _state(file: Path) -> tuple[int, ...]:
    """Return numbers that change when another file takes the place of this one; none if there is no file."""
    if not file.exists():
        return ()
    found = file.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
