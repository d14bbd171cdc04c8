"""The picks of a miner, round after round, in one Parquet file."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alhelpers.mining._selection import MiningError, Selection
from alhelpers.records.writing import in_place_of

#: The columns beside ``id``.
_COLUMNS = {
    "score": pa.float32(),
    "strategy": pa.string(),
    "round": pa.int32(),
    "rank": pa.int32(),
    "picked_at": pa.timestamp("us", tz="UTC"),
    "configuration": pa.string(),
}


def read_picks(path: str | Path) -> pa.Table:
    """Read the picks of all rounds so far.

    Parameters
    ----------
    path : str or pathlib.Path
        A file that :func:`append_picks` wrote, or that does not exist yet.

    Returns
    -------
    pyarrow.Table
        A row for each record: ``id``, ``score``, ``strategy``, ``round`` and ``rank`` in it (from 1), ``picked_at``,
        and ``configuration``, the digest of the miner configuration. Empty if the file does not exist.

    Raises
    ------
    MiningError
        If the file is not a file of picks.
    """
    if not os.path.exists(path):
        return pa.schema([("id", pa.string()), *_COLUMNS.items()]).empty_table()
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise MiningError(f"{path} is not a file of picks: {error}; give another name") from error
    if table.column_names != ["id", *_COLUMNS]:
        raise MiningError(
            f"{path} is not a file of picks: it has the columns {', '.join(table.column_names)}; give another name"
        )
    return table


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


def append_picks(path: str | Path, selection: Selection, picked_at: datetime | None = None) -> pa.Table:
    """Add a round to a file of picks; if that fails, the file stays as it was.

    Processes that append to one file must take turns, or rounds are lost.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; it is created, with its folder, if it is missing.
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
    """
    known = read_picks(path)
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
    with in_place_of(Path(path)) as file:
        pq.write_table(pa.concat_tables([known, new]), file, compression="zstd")
    return new
