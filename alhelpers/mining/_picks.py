"""The picks of a miner, round after round, in one Parquet file."""

from __future__ import annotations

import itertools
import os
import shutil
import uuid
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import storage
from alhelpers.files import replacing
from alhelpers.mining._selection import MiningError, Selection
from alhelpers.records import Files, RecordError
from alhelpers.records.writing import in_place_of

if TYPE_CHECKING:
    import pyarrow.parquet as pq

#: The columns beside ``id``.
_COLUMNS = {
    "score": pa.float32(),
    "strategy": pa.string(),
    "round": pa.int32(),
    "rank": pa.int32(),
    "picked_at": pa.timestamp("us", tz="UTC"),
    "configuration": pa.string(),
}


def read_picks(path: str | Path | Files) -> pa.Table:
    """Read the picks of all rounds so far.

    Parameters
    ----------
    path : str, pathlib.Path or Files
        A file that :func:`append_picks` wrote, or that does not exist yet; local, or by URL.

    Returns
    -------
    pyarrow.Table
        A row for each record: ``id``, ``score``, ``strategy``, ``round`` and ``rank`` in it (from 1), ``picked_at``,
        and ``configuration``, the digest of the miner configuration. Empty if the file does not exist.

    Raises
    ------
    MiningError
        If the file is not a file of picks.

    Warns
    -----
    UserWarning
        If the file is damaged: the picks that can be read are returned, with null for what is lost of them.
    """
    table, damage = _read(_place(path))
    if damage:
        warnings.warn(
            f"{path} is damaged ({damage}): {len(table)} of its picks can be read, and the records of the others may "
            "be picked again; put a copy of the file in its place if there is one",
            stacklevel=2,
        )
    return table


# What pyarrow raises for bytes that are not those of a file.
_DAMAGE = (pa.ArrowException, OSError)


def _place(path: str | Path | Files) -> Path | Files:
    """Return the path of a local file, or a URL."""
    try:
        given = path if isinstance(path, Files) else Files(path)
    except RecordError as error:
        raise MiningError(f"cannot keep picks there: {error}") from error
    if len(given.listed) > 1 or (storage.is_url(given.listed[0]) and storage.is_glob(given.listed[0])):
        raise MiningError(f"cannot keep picks in {str(given)!r}: name one file")
    return given if storage.is_url(given.listed[0]) else Path(given.listed[0])


def _content(path: Path | Files) -> bytes | None:
    """Return the bytes of a file, or None if it does not exist."""
    if isinstance(path, Files):
        return storage.read_bytes(path.listed[0], path.storage_options or {})
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _read(path: Path | Files) -> tuple[pa.Table, str]:
    """Return the picks of a file that can be read, and what is wrong with it."""
    import pyarrow.parquet as pq

    nothing = pa.schema([("id", pa.string()), *_COLUMNS.items()]).empty_table()
    foreign = f"{path} is not a file of picks: {{}}; give another name".format
    try:
        content = _content(path)
    except IsADirectoryError as error:
        raise MiningError(foreign("it is a folder")) from error
    if content is None:
        return nothing, ""
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    except _DAMAGE as error:
        # a part of a Parquet file, or what a full disk or a loss of power leaves of one
        if content[:4] == b"PAR1"[: len(content)] or content[-4:] == b"PAR1" or not content.strip(b"\0"):
            return nothing, str(error)
        raise MiningError(foreign(error)) from error
    schema = file.schema_arrow
    if schema.names != nothing.column_names:
        raise MiningError(foreign(f"it has the columns {', '.join(schema.names)}"))
    rounds = [_read_round(file, number) for number in range(file.num_row_groups)]
    table = pa.concat_tables([schema.empty_table(), *(table for table, _ in rounds)])
    id_type = pa.int64() if pa.types.is_integer(schema.field("id").type) else pa.string()
    try:
        table = table.cast(pa.schema({"id": id_type, **_COLUMNS}))
    except pa.ArrowException as error:
        raise MiningError(foreign(error)) from error
    return table, "; ".join(filter(None, dict.fromkeys(damage for _, damage in rounds)))


def _read_round(file: pq.ParquetFile, number: int) -> tuple[pa.Table, str]:
    """Return what can be read of a row group, null for the rest, and what is wrong; no rows if the ids are lost."""
    columns, damage = {}, ""
    rows = file.metadata.row_group(number).num_rows
    for field in file.schema_arrow:
        try:
            columns[field.name] = file.read_row_group(number, [field.name])[field.name]
            columns[field.name].validate(full=True)
            if len(columns[field.name]) != rows:
                raise pa.ArrowInvalid(f"{field.name} has {len(columns[field.name])} values in {rows} rows")
        except _DAMAGE as error:
            if field.name == "id":
                return file.schema_arrow.empty_table(), str(error)
            columns[field.name], damage = pa.nulls(rows, field.type), str(error)
    return pa.table(columns, schema=file.schema_arrow), damage


def picks_of(selection: Selection, number: int, picked_at: datetime | None = None) -> pa.Table:
    """Convert a selection into the rows that :func:`append_picks` would append.

    Parameters
    ----------
    selection : Selection
        The result of :func:`run`.
    number : int
        The round, from 1.
    picked_at : datetime.datetime, optional
        The time; now by default.

    Returns
    -------
    pyarrow.Table
        The rows, best first, in the columns of :func:`read_picks`.
    """
    count = len(selection)
    if "configuration" not in selection.meta:
        raise MiningError(
            "picks are kept with their configuration: select them by mining.run, not by mining.mine"
        )
    by = selection.meta["strategies"]
    values = {
        "id": pa.array(selection.ids),
        "score": selection.scores,
        "strategy": [by[id] for id in selection.ids],
        "round": [number] * count,
        "rank": range(1, count + 1),
        "picked_at": [picked_at or datetime.now(UTC)] * count,
        "configuration": [selection.meta["configuration"]] * count,
    }
    kinds = {"id": values["id"].type, **_COLUMNS}
    return pa.table({name: pa.array(values[name], type=kind) for name, kind in kinds.items()})


def append_picks(
    path: str | Path | Files, selection: Selection, picked_at: datetime | None = None
) -> pa.Table:
    """Add a round to a file of picks; if that fails, the file stays as it was.

    Processes that append to one file must take turns, or rounds are lost.

    Parameters
    ----------
    path : str, pathlib.Path or Files
        The file, or its URL; it is created, with its folder, if it is missing.
    selection : Selection
        The result of :func:`run`.
    picked_at : datetime.datetime, optional
        The time; now by default.

    Returns
    -------
    pyarrow.Table
        The rows of this round.

    Raises
    ------
    MiningError
        If the file is not a file of picks, or holds one of the ids already.

    Warns
    -----
    UserWarning
        If the file is damaged: it is kept under another name, and the picks that can be read are written anew.
    """
    import pyarrow.parquet as pq

    path = _place(path)
    known, damage = _read(path)
    number = (pc.max(known["round"]).as_py() or 0) + 1
    new = picks_of(selection, number, picked_at)
    if not len(known):
        known = new.slice(0, 0)
    if known.schema.field("id").type != new.schema.field("id").type:
        raise MiningError(
            f"{path} holds picks of other records: {known['id'][0].as_py()!r} is one, and "
            f"{selection.ids[0]!r} is to come; give another name"
        )
    twice = new["id"].filter(pc.is_in(new["id"], value_set=known["id"]))
    if len(twice):
        raise MiningError(f"{path} holds {twice[0].as_py()!r} already: give its ids to the run as picked")
    with in_place_of(path) as file:
        options = {"compression": "zstd", "write_page_checksum": True, "write_statistics": False}
        with pq.ParquetWriter(file, new.schema, **options) as writer:
            for batch in (*known.to_batches(), *new.to_batches()):  # a row group for each round
                if len(batch):
                    writer.write_batch(batch)
        aside = _set_aside(path) if damage else None
    if damage:
        warnings.warn(
            f"{path} was damaged ({damage}): it is kept as {aside}, and {len(known)} of its picks are in the new file",
            stacklevel=2,
        )
    return new


def _set_aside(path: Path | Files) -> Path | str:
    """Copy a file to a name of its own."""
    if isinstance(path, Files):
        url, options = os.fspath(path.listed[0]), path.storage_options or {}
        aside = f"{url}.damaged-{uuid.uuid4().hex[:8]}"
        with storage.uploading(aside, options) as part:
            part.write_bytes(storage.read_bytes(url, options) or b"")
        return storage.shown(aside)
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    with replacing(aside) as part:
        shutil.copyfile(path, part)
    return aside
