"""Records written to Parquet: all of them, or the file stays as it was."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alhelpers.files import replacing
from alhelpers.records.ids import check_distinct
from alhelpers.records.parquet import ROW_GROUP
from alhelpers.records.partition import parts, parts_of_files
from alhelpers.records.schema import DOCUMENTS, RecordError
from alhelpers.records.sources import Records

# Texts that are the same for many records.
_REPEATED = (
    "split",
    "class_name",
    "groundtruth",
    "class_names.list.element",
    "detections.list.element.class_name",
)


def write(path: str | Path, table: Records) -> None:
    """Check records and write them to one Parquet file, a part at a time.

    The file is written beside its place and then moved there, so an interrupted write leaves the old file
    whole.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; its folder is made if missing.
    table : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.

    Raises
    ------
    RecordError
        If the records break the schema; nothing is written then.
    """
    _write_tables(path, (part.load(distinct=False) for part in parts(table)))


def append(path: str | Path, records: Records) -> None:
    """Add records to the end of a Parquet file, which is made if it is missing.

    The whole file is written anew, a part at a time, beside its place, so an interrupted append leaves the old
    file whole. Where that takes too long, write the records to another file and read both as a glob.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records to add. They have all the numeric columns and detections of the file and no others; a text
        or document that either lacks is null there.

    Raises
    ------
    RecordError
        If the records break the schema or do not fit to those in the file, an id is in the file already, or
        another process changed the file meanwhile; the file stays as it is then.
    """
    target = Path(path)
    if not target.is_file():
        write(target, records)
        return
    before = _state(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        added = Path(folder) / "added.parquet"
        write(added, records)
        write_files(target, [target, added], ["the file", "the records to append"], before)


def write_files(
    path: Path, files: Sequence[Path], names: Sequence[str], before: tuple[int, ...] | None = None
) -> None:
    """Write the records of several files to one, which may be among them."""
    found = parts_of_files([str(file) for file in files], None, ROW_GROUP, str(path), names)
    _write_tables(path, (part.load(distinct=False) for part in found), before)


def _write_tables(
    path: str | Path, tables: Iterator[pa.Table], before: tuple[int, ...] | None = None
) -> None:
    """Write tables of one schema to one file, if no id comes twice in them."""
    ids: list[pa.ChunkedArray] = []
    with in_place_of(Path(path), before) as file:
        first = next(tables)
        with _writer(file, first.schema) as writer:
            for table in _regrouped(itertools.chain([first], tables)):
                ids.append(table["id"])
                writer.write_table(table, row_group_size=ROW_GROUP)
        if not ids:
            raise RecordError("records hold no record")
        check_distinct(ids)


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


def _writer(file: object, schema: pa.Schema) -> pq.ParquetWriter:
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    # float bytes that lie together by significance compress well; a dictionary of floats would not
    floats = [
        path for path, kind in leaves if pa.types.is_floating(kind) and path.split(".")[0] not in DOCUMENTS
    ]
    texts = [path for path, _ in leaves if path in _REPEATED]
    # ids are read along with every column: they should cost little time rather than little space
    compression = {path: "lz4" if path == "id" else "zstd" for path, _ in leaves}
    return pq.ParquetWriter(
        file, schema, compression=compression, use_dictionary=texts, use_byte_stream_split=floats or False
    )


@contextmanager
def in_place_of(target: Path, before: tuple[int, ...] | None = None) -> Iterator[object]:
    """Open a new file, and move it to its place when all of it is on the disk and nothing else came there."""
    if target.is_dir() or set(target.name) & set("*?"):
        raise RecordError(f"cannot write records to {str(target)!r}: name one file, not a folder or a glob")
    with replacing(target) as part:
        with open(part, "wb") as file:
            yield file
        if before is not None and _state(target) != before:
            raise RecordError(f"{target} was changed by another process meanwhile: append once more")


def _state(file: Path) -> tuple[int, ...] | None:
    """Return what changes when another file takes the place of this one."""
    found = file.stat() if file.exists() else None
    return None if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)


def _leaves(path: str, kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    """Return the Parquet paths of what a column holds inside, with their types."""
    if pa.types.is_struct(kind):
        return [leaf for part in kind for leaf in _leaves(f"{path}.{part.name}", part.type)]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [(path, kind)]
