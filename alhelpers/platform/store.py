"""The state of the platform: documents in SQLite, file bytes beside them, one transaction a request.

Only the server's state thread touches a :class:`Store`, so writes are serial and a request is atomic: it commits as a
whole or leaves nothing. File bytes are complete under their final name before the row that mentions them commits; what
a crash leaves behind is a file that no row mentions, and the next start sweeps those.
"""

import itertools
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from . import index
from .errors import StateUnusable, bad_request, not_found
from .events import Event

# Raise this with every change of the schema that older databases do not fit. Version 0 had no index of values: it is
# built at the first start with such a database.
VERSION = 1
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

# Which fields of a document are kept as columns too. A filter on one of these fields becomes SQL.
COLUMNS: dict[str, dict[str, str]] = {
    "projects": {"name": "name"},
    "settings": {"scope": "scopeId", "name": "name"},
    "datasets": {"name": "name", "scope": "projects", "type": "readableType"},
    "items": {
        "scope": "datasetId",
        "parent": "srcItem",
        "name": "filename",
        "dir": "dir",
        "type": "type",
        "hidden": "hidden",
    },
    "annotations": {"scope": "datasetId", "parent": "itemId", "type": "type"},
    "models": {"scope": "projectId", "name": "name"},
    "metrics": {"parent": "modelId"},
    "dpks": {"name": "name", "type": "version"},
    "apps": {"scope": "projectId", "name": "name"},
    "pipelines": {"scope": "projectId", "name": "name"},
    "recipes": {},
    "ontologies": {},
    "commands": {},
    "tasks": {"scope": "projectId", "name": "name", "type": "status"},
    "assignments": {"scope": "projectId", "parent": "taskId", "name": "name"},
    "scores": {"scope": "taskId", "parent": "itemId", "name": "entityId"},
    "task_items": {
        "scope": "group",
        "parent": "itemId",
        "type": "status",
        "name": "review",
        "dir": "datasetId",
    },
    "services": {"scope": "projectId", "name": "name"},
    "service_revisions": {"parent": "serviceId", "name": "version"},
    "packages": {"scope": "projectId", "name": "name"},
    "package_revisions": {"scope": "projectId", "parent": "packageId", "name": "version"},
    "executions": {
        **{"scope": "projectId", "parent": "serviceId"},
        **{"name": "pipeline.executionId", "dir": "model.modelId", "type": "latestStatus.status"},
    },
    "triggers": {"scope": "projectId", "name": "name", "type": "type"},
    "trigger_log": {"scope": "triggerId", "parent": "entityId"},
    "cycles": {"scope": "projectId", "parent": "pipelineId", "type": "status"},
    "task_waits": {"scope": "taskId", "parent": "itemId"},
    "feature_sets": {"scope": "project", "name": "name"},
    "feature_vectors": {"scope": "featureSetId", "parent": "entityId", "dir": "datasetId"},
}

CACHED_DOCUMENTS = 50_000
WRITTEN_AT_ONCE = 500
ENTRIES_AT_ONCE = 100

# A field has one type in all requests, so that a wrong one is refused in one place.
SHAPES: dict[str, type] = {
    **dict.fromkeys(("metadata", "configuration", "settings", "context", "components", "app"), dict),
    **dict.fromkeys(
        ("updateQuery", "itemsQuery", "cloneDatasetParams", "mergeDatasetParams", "uiSettings"), dict
    ),
    **dict.fromkeys(
        ("labels", "artifacts", "roots", "labelsNode", "nodes", "variables", "connections"), list
    ),
    **dict.fromkeys(("projects", "projectIds", "ontologyIds", "keys", "datasetsIds"), list),
}
TEXT_LISTS = ("projects", "projectIds", "ontologyIds", "keys", "datasetsIds")


class Row(NamedTuple):
    """One stored document, unparsed."""

    id: str
    scope: str | None
    parent: str | None
    blob: str | None
    doc: str


class Store:
    """The documents and blobs of one state folder.

    Parameters
    ----------
    folder : Path
        The state folder; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs"
        self.incoming = folder / "incoming"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.incoming.mkdir(exist_ok=True)
        self._database = sqlite3.connect(
            folder / "platform.sqlite", isolation_level=None, check_same_thread=False
        )
        version = self._check_version(folder)
        self._database.execute("PRAGMA journal_mode=WAL")
        # NORMAL syncs at checkpoints only: a killed process loses nothing, a power cut at most the last seconds.
        self._database.execute("PRAGMA synchronous=NORMAL")
        # The same few pages change again and again: they go to the database once in 32 MB of log, not in 4.
        self._database.execute("PRAGMA wal_autocheckpoint=8000")
        self._database.execute("PRAGMA cache_size=-65536")
        self._database.executescript(SCHEMA)
        if version < VERSION:
            self._build_index()
        row = self._database.execute("SELECT value FROM meta WHERE key = 'last_id'").fetchone()
        self._last_id = int(row[0], 16) if row else 0
        self._saved_id = self._last_id
        self._after_commit: list[Callable[[], None]] = []
        # What happened in the running transaction; the server tells those who listen before it commits.
        self.events: list[Event] = []
        self._folders: set[Path] = set()
        self._parsed: dict[str, tuple[str, Any]] = {}
        self._sweep()

    def _check_version(self, folder: Path) -> int:
        """Refuse a database that is broken, or that a later version of this program wrote."""
        try:
            (found,) = self._database.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            found = error
        if found not in range(VERSION + 1):
            self._database.close()
            raise StateUnusable(
                f"{folder / 'platform.sqlite'} is no database of version {VERSION}: {found}."
                " Move the state folder away, or choose another one; it cannot be converted."
            )
        return found

    def close(self) -> None:
        """Close the database; nothing else may be called afterwards."""
        self._database.close()

    # ------------------------------------------------------------------------------------------ transactions

    @contextmanager
    def transaction(self) -> Iterator["Store"]:
        """Run the block as one transaction: all of it, or (when it raises) nothing of it."""
        self._after_commit.clear()
        self.events.clear()
        self._database.execute("BEGIN")
        try:
            yield self
            if self._last_id != self._saved_id:
                value = f"{self._last_id:024x}"
                self._database.execute("INSERT OR REPLACE INTO meta VALUES ('last_id', ?)", (value,))
            self._database.execute("COMMIT")
            self._saved_id = self._last_id
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        for action in self._after_commit:
            action()

    def emit(self, resource: str, action: str, document_id: str, /, **detail: Any) -> None:
        """Say that something happened in this transaction, for other services to react to."""
        self.events.append(Event(resource, action, document_id, detail))

    def new_id(self) -> str:
        """Give a new id: 24 hex digits, greater than every id given before, in this run or an earlier one."""
        # Time in the high bits spreads ids evenly, and the SDK halves ranges of ids to split long lists.
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        self._last_id = max(self._last_id + 1, (seconds << 64) | (nanoseconds << 34))
        return f"{self._last_id:024x}"

    # --------------------------------------------------------------------------------------------- documents

    def put(self, kind: str, document: Mapping[str, Any], *, blob: str | None = None) -> None:
        """Write a document, new or changed; without `blob` a changed one keeps its bytes."""
        self.put_all(kind, [document], blob=blob)

    def put_all(self, kind: str, documents: Iterable[Mapping[str, Any]], *, blob: str | None = None) -> None:
        """Write many documents of one kind."""
        columns = COLUMNS[kind]
        fields = [columns.get(name) for name in ("scope", "parent", "name", "dir", "type", "hidden")]
        documents = iter(documents)
        while part := list(itertools.islice(documents, WRITTEN_AT_ONCE)):
            rows = [
                (
                    document["id"],
                    kind,
                    *(_column_value(document, field) for field in fields),
                    blob,
                    _text(document),
                )
                for document in part
            ]
            if kind in index.KINDS:
                self._index(
                    kind, [(row[0], row[2], document) for row, document in zip(rows, part, strict=True)]
                )
            self._database.executemany(
                "INSERT INTO documents (id, kind, scope, parent, name, dir, type, hidden, blob, doc)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET scope = excluded.scope,"
                " parent = excluded.parent, name = excluded.name, dir = excluded.dir, type = excluded.type,"
                " hidden = excluded.hidden, blob = coalesce(excluded.blob, blob), doc = excluded.doc",
                rows,
            )

    def row(self, kind: str, document_id: str, label: str | None = None) -> Row:
        """Fetch one document as stored.

        Raises
        ------
        ApiError
            404, when there is none; `label` is what the message calls it.
        """
        if not isinstance(document_id, str):
            raise bad_request(
                f"the id of a {label or kind.rstrip('s')} must be a string, got {document_id!r}"
            )
        found = self._database.execute(
            "SELECT id, scope, parent, blob, doc FROM documents WHERE id = ? AND kind = ?",
            (document_id, kind),
        ).fetchone()
        if found is None:
            raise not_found(label or kind.rstrip("s"), document_id)
        return Row._make(found)

    def get(self, kind: str, document_id: str, label: str | None = None) -> dict[str, Any]:
        """Fetch one document, parsed and free to change; 404 when there is none."""
        return json.loads(self.row(kind, document_id, label).doc)

    def select(
        self, kind: str, where: str = "1", values: Iterable[Any] = (), tail: str = ""
    ) -> Iterator[Row]:
        """Iterate over the documents of a kind that satisfy an SQL condition on columns."""
        cursor = self._database.execute(
            f"SELECT id, scope, parent, blob, doc FROM documents WHERE kind = ? AND {where} {tail}",
            (kind, *_bound(values)),
        )
        return map(Row._make, cursor)

    def among(self, kind: str, ids: list[str], where: str = "1", values: Iterable[Any] = ()) -> Iterator[Row]:
        """Iterate over those of some documents, in the order given, that satisfy an SQL condition on columns."""
        return map(Row._make, self._among("id, scope, parent, blob, doc", kind, ids, where, values))

    def ids_among(self, kind: str, ids: list[str], where: str = "1", values: Iterable[Any] = ()) -> list[str]:
        """List the ids of those of some documents that satisfy an SQL condition, in the order given."""
        return [document_id for (document_id,) in self._among("id", kind, ids, where, values)]

    def _among(
        self, columns: str, kind: str, ids: list[str], where: str, values: Iterable[Any]
    ) -> sqlite3.Cursor:
        # CROSS JOIN makes SQLite go through the ids in their order, and look each one up.
        return self._database.execute(
            f"SELECT {columns} FROM (SELECT value AS wanted FROM json_each(?)) CROSS JOIN documents"
            f" ON id = wanted WHERE +kind = ? AND {where}",
            (json.dumps(ids), kind, *values),
        )

    def find(self, kind: str, where: str, *values: Any) -> dict[str, Any] | None:
        """Fetch the first document (by id) that satisfies an SQL condition, or None."""
        for row in self.select(kind, where, values, "ORDER BY id LIMIT 1"):
            return json.loads(row.doc)
        return None

    def count(self, kind: str, where: str = "1", values: Iterable[Any] = (), what: str = "*") -> int:
        """Count the documents of a kind that satisfy an SQL condition."""
        query = f"SELECT count({what}) FROM documents WHERE kind = ? AND {where}"
        return self._database.execute(query, (kind, *_bound(values))).fetchone()[0]

    def tally(self, kind: str, column: str, where: str, *values: Any) -> dict[str | None, int]:
        """Count the documents of a kind that satisfy an SQL condition, for each value of a column."""
        query = f"SELECT {column}, count(*) FROM documents WHERE kind = ? AND {where} GROUP BY {column}"
        return dict(self._database.execute(query, (kind, *values)))

    def delete(self, kind: str, where: str, *values: Any) -> int:
        """Delete the documents of a kind that satisfy an SQL condition, and their bytes; return how many."""
        blobs = self._database.execute(
            f"SELECT blob FROM documents WHERE kind = ? AND blob IS NOT NULL AND {where}", (kind, *values)
        ).fetchall()
        for (blob,) in blobs:
            self.drop_blob(blob)
        if kind in index.KINDS:
            stored = self._database.execute(
                f"SELECT id, scope, doc FROM documents WHERE kind = ? AND {where}", (kind, *values)
            )
            for document_id, scope, doc in stored:
                self._unindex(document_id, index.entries(kind, scope, json.loads(doc)))
        return self._database.execute(
            f"DELETE FROM documents WHERE kind = ? AND {where}", (kind, *values)
        ).rowcount

    def parsed(self, row: Row) -> Any:
        """Parse a row for reading only; the same text is parsed once."""
        cached = self._parsed.get(row.id)
        if cached is not None and cached[0] == row.doc:
            return cached[1]
        document = json.loads(row.doc)
        if len(self._parsed) >= CACHED_DOCUMENTS:
            self._parsed.clear()
        self._parsed[row.id] = (row.doc, document)
        return document

    # ------------------------------------------------------------------------------------------------- index

    def _index(self, kind: str, documents: list[tuple[str, str | None, Mapping[str, Any]]]) -> None:
        """Bring the index up to date with documents (id, scope, content) that are about to be written."""
        before = self._indexed(kind, [document_id for document_id, _, _ in documents])
        after = {
            document_id: index.entries(kind, scope, document) for document_id, scope, document in documents
        }
        added = []
        for document_id, fresh in after.items():
            old = before.get(document_id, set())
            self._unindex(document_id, old - fresh)
            added += [(path, value, document_id) for path, value in fresh - old]
        added.sort(key=_place)
        for start in range(0, len(added), ENTRIES_AT_ONCE):
            # One statement for many rows: each step of a statement hands the interpreter to another thread and back.
            part = added[start : start + ENTRIES_AT_ONCE]
            marks = ",".join(["(?,?,?)"] * len(part))
            self._database.execute(
                f"INSERT INTO entries VALUES {marks}", [field for row in part for field in row]
            )

    def _indexed(self, kind: str, document_ids: list[str]) -> dict[str, set[index.Entry]]:
        """Work out which entries the stored documents have."""
        marks = ",".join("?" * len(document_ids))
        stored = self._database.execute(
            f"SELECT id, scope, doc FROM documents WHERE id IN ({marks}) AND +kind = ?", (*document_ids, kind)
        )
        return {
            document_id: index.entries(kind, scope, json.loads(doc)) for document_id, scope, doc in stored
        }

    def _unindex(self, document_id: str, entries: Iterable[index.Entry]) -> None:
        self._database.executemany(
            "DELETE FROM entries WHERE path = ? AND value = ? AND id = ?",
            [(path, value, document_id) for path, value in entries],
        )

    def _build_index(self) -> None:
        """Index everything anew."""
        self._database.execute("BEGIN")
        self._database.execute("DELETE FROM entries")
        for kind in sorted(index.KINDS):
            stored = self._database.execute("SELECT id, scope, doc FROM documents WHERE kind = ?", (kind,))
            self._database.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)",
                (
                    (path, value, document_id)
                    for document_id, scope, doc in stored
                    for path, value in index.entries(kind, scope, json.loads(doc))
                ),
            )
        self._database.execute(f"PRAGMA user_version = {VERSION}")
        self._database.execute("COMMIT")

    def proposed(self, ranges: Iterable[index.Range]) -> set[str]:
        """List the ids of the documents that have an entry in one of the ranges."""
        found: set[str] = set()
        for part in ranges:
            found.update(
                document_id
                for (document_id,) in self._database.execute(
                    f"SELECT id FROM entries WHERE {part.sql}", part.values
                )
            )
        return found

    def in_all(self, points: Iterable[index.Range]) -> set[str]:
        """List the ids of the documents that have an entry at each of some points."""
        points = list(points)
        # SQLite merges lists that are in order already, as those of points are.
        query = " INTERSECT ".join(f"SELECT id FROM entries WHERE {part.sql}" for part in points)
        values = [value for part in points for value in part.values]
        return {document_id for (document_id,) in self._database.execute(f"{query} ORDER BY 1", values)}

    def entries_in(self, ranges: Iterable[index.Range], limit: int) -> int:
        """Count the entries in some ranges, up to a limit."""
        number = 0
        for part in ranges:
            (more,) = self._database.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM entries WHERE {part.sql} LIMIT ?)",
                (*part.values, limit - number),
            ).fetchone()
            number += more
            if number >= limit:
                break
        return number

    # ------------------------------------------------------------------------------------------------- bytes

    def blob_path(self, blob: str) -> Path:
        """Say where the bytes of a blob lie; the last digits spread them over folders."""
        return self.blobs / blob[-2:] / blob

    def adopt(self, incoming: Path) -> str:
        """Move an uploaded file to its final place, and return the name of the new blob."""
        blob, path = self._new_blob()
        os.replace(incoming, path)
        return blob

    def copy_blob(self, source: str) -> str:
        """Copy a blob, and return the name of the copy."""
        blob, path = self._new_blob()
        try:
            os.link(self.blob_path(source), path)  # blobs never change, so two names may share the bytes
        except OSError:
            shutil.copyfile(self.blob_path(source), path)
        return blob

    def write_blob(self, content: bytes) -> str:
        """Store bytes that the server made itself."""
        blob, path = self._new_blob()
        incoming = self.incoming / blob
        incoming.write_bytes(content)
        os.replace(incoming, path)
        return blob

    def drop_blob(self, blob: str) -> None:
        """Delete a blob once the running transaction has committed."""
        self._after_commit.append(lambda: self.blob_path(blob).unlink(missing_ok=True))

    def _new_blob(self) -> tuple[str, Path]:
        blob = self.new_id()
        path = self.blob_path(blob)
        if path.parent not in self._folders:
            path.parent.mkdir(exist_ok=True)
            self._folders.add(path.parent)
        return blob, path

    def _sweep(self) -> None:
        """Delete what a crash left: half uploads, and blobs that no document mentions."""
        for path in self.incoming.iterdir():
            path.unlink()
        known = {
            blob for (blob,) in self._database.execute("SELECT blob FROM documents WHERE blob IS NOT NULL")
        }
        for path in self.blobs.glob("*/*"):
            if path.name not in known:
                path.unlink()


# --------------------------------------------------------------------------------------------- small helpers


def _text(document: Mapping[str, Any]) -> str:
    _check_metadata(document.get("metadata"))
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise bad_request(
            f"a number that is no number (NaN or infinite) cannot be stored: {error}"
        ) from error


def _place(entry: tuple[int, Any, str]) -> tuple[int, str]:
    """Neighbours in the index are written one after the other."""
    return entry[0], entry[2]


def _bound(values: Iterable[Any]) -> Iterator[Any]:
    """Let through what can be compared with a column."""
    for value in values:
        fits = abs(value) < 1 << 63 if isinstance(value, int) else isinstance(value, str | float | None)
        if not fits:
            raise bad_request(f"a name, an id or a number was expected, got {value!r}")
        yield value


def _column_value(document: Mapping[str, Any], field: str | None) -> Any:
    value = document.get(field) if field else None
    if field and "." in field:
        outer, inner = field.split(".")
        value = (document.get(outer) or {}).get(inner)
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str | bool | None):
        raise bad_request(f"{field!r} must be a string, got {value!r}")
    return value


def now() -> str:
    """Give the time as the platform writes it: ISO, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_id(value: str) -> bool:
    """Say whether a text has the form of an id."""
    return len(value) == 24 and set(value) <= set("0123456789abcdef")


def merge(document: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a diff in place: a null removes its key, an object goes deeper, anything else replaces."""
    for key, value in patch.items():
        if value is None:
            document.pop(key, None)
        elif isinstance(value, dict):
            current = document.get(key)
            document[key] = merge(current if isinstance(current, dict) else {}, value)
        else:
            document[key] = value
    return document


def whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    """Read a whole number, 0 or more, from a query string."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise bad_request(f"{name!r} must be a whole number, got {text!r}")
    return int(text)


def require(body: Any, *fields: str) -> dict[str, Any]:
    """Check a request's body.

    Parameters
    ----------
    body : object
        What was sent: it must be an object, and known fields must have their types (a null is no field).
    *fields : str
        The fields that must hold non-empty strings.

    Returns
    -------
    dict
        The body.

    Raises
    ------
    ApiError
        400, with the field and the value that is wrong.
    """
    if not isinstance(body, dict):
        raise bad_request(f"the request needs a JSON object, got {type(body).__name__}")
    for field in fields:
        value = body.get(field)
        if not isinstance(value, str) or not value.strip():
            raise bad_request(f"{field!r} must be a non-empty string, got {value!r}")
    for field in body.keys() & SHAPES.keys():
        _check_shape(field, body[field])
    return body


def _check_shape(field: str, value: Any) -> None:
    shape = SHAPES[field]
    if value is not None and not isinstance(value, shape):
        raise bad_request(f"{field!r} must be {'a list' if shape is list else 'an object'}, got {value!r}")
    if field in TEXT_LISTS and not all(isinstance(element, str) for element in value or []):
        raise bad_request(f"{field!r} must be a list of strings, got {value!r}")
    if field == "metadata":
        _check_metadata(value)


def _check_metadata(metadata: Any) -> None:
    """Every reader of a document counts on this much."""
    if metadata is not None and not isinstance(metadata, dict):
        raise bad_request(f"'metadata' must be an object, got {metadata!r}")
    system = (metadata or {}).get("system")
    if system is not None and not isinstance(system, dict):
        raise bad_request(f"'metadata.system' must be an object, got {system!r}")
