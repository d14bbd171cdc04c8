"""The SQLite database of a state folder: made whole, and checked at each start before a byte of it changes."""

import json
import logging
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

from alhelpers.files import replacing

from .folder import DATABASE, open_unchanged, unusable

logger = logging.getLogger(__name__)

# Raise this with every change of the schema that older databases do not fit. Version 0 had no index of values, that of
# version 1 had more of them: it is built at the first start with such a database.
VERSION = 2
SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    scope TEXT,
    parent TEXT,
    name TEXT,
    dir TEXT,
    type TEXT,
    hidden INTEGER,
    blob TEXT,
    doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_scope ON documents (kind, scope, type, hidden, id);
CREATE INDEX IF NOT EXISTS by_name ON documents (kind, scope, name);
CREATE INDEX IF NOT EXISTS by_dir ON documents (kind, scope, dir);
CREATE INDEX IF NOT EXISTS by_parent ON documents (kind, parent);
CREATE INDEX IF NOT EXISTS by_scope_parent ON documents (kind, scope, parent);
CREATE INDEX IF NOT EXISTS by_blob ON documents (blob) WHERE blob IS NOT NULL;
CREATE TABLE IF NOT EXISTS entries (
    path INTEGER NOT NULL,
    value NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (path, value, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def open_database(folder: Path) -> tuple[sqlite3.Connection, int, bool]:
    """Open the database of a folder, made if that is new; return it, its version, and whether its log lacks changes."""
    path = folder.resolve() / DATABASE
    if not path.exists():
        if any(folder.glob("blobs/*/*")):
            raise unusable(folder, f"it has the bytes of items, but no {DATABASE} that tells of them")
        with replacing(path, mode=0o600) as part, closing(sqlite3.connect(part)) as database:
            database.executescript(SCHEMA + f"PRAGMA user_version = {VERSION}")
    version, lost = _check(path)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    # NORMAL syncs at checkpoints only: a killed process loses nothing, a power cut at most the last seconds.
    database.execute("PRAGMA synchronous=NORMAL")
    # The same few pages change again and again: they go to the database once in 32 MB of log, not in 4.
    database.execute("PRAGMA wal_autocheckpoint=8000")
    database.execute("PRAGMA cache_size=-65536")
    database.executescript(SCHEMA)
    # Written at each start, as a database that can only be read must not be served.
    database.execute(f"PRAGMA user_version = {version}")
    return database, version, lost


def _check(path: Path) -> tuple[int, bool]:
    """Check a database as a whole; one that is damaged, or of a later version, is refused and stays as it is."""
    log, log_index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    with_log = log.exists() and log.stat().st_size > 0
    index_before = log_index.read_bytes() if log_index.exists() else b""
    logged, saved = _pages(index_before)
    try:
        with closing(open_unchanged(path, with_log=with_log)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version not in range(VERSION + 1):
                raise sqlite3.DatabaseError(f"its version is {version}, this program's is {VERSION}")
            (problem,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            for *_, doc, is_valid in database.execute("SELECT *, json_valid(doc) FROM documents"):
                if not is_valid:
                    with suppress(RecursionError):  # it is deep, which SQLite minds
                        json.loads(doc)
            found, _ = _pages(log_index.read_bytes()) if with_log else (0, 0)
    except (sqlite3.Error, ValueError, OSError) as error:
        if index_before:  # reading the log has written its index anew
            log_index.write_bytes(index_before)
        else:
            log_index.unlink(missing_ok=True)
        raise unusable(path.parent, f"{path.name} cannot be used: {error}") from error
    lost = found < logged and saved < logged
    if lost:
        logger.warning("the last changes are lost: %d of %d pages in %s can be read", found, logged, log)
    return version, lost


def _pages(log_index: bytes) -> tuple[int, int]:
    """Return how many pages a log holds, and how many of them the database holds too; see SQLite's walformat.html."""
    if len(log_index) < 100 or log_index[:48] != log_index[48:96]:
        return 0, 0
    logged, saved = (int.from_bytes(log_index[at : at + 4], sys.byteorder) for at in (16, 96))
    return logged, saved
