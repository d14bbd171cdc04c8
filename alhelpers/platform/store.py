"""The state of the platform: documents in SQLite, file bytes beside them, one transaction a request.

Only the server's state thread touches a :class:`Store`, so writes are serial and a request is atomic: it commits as a
whole or leaves nothing. File bytes are complete under their final name before the row that mentions them commits; a
crash only leaves files that no row mentions, and the next start deletes those. Files are opened by their path after the
transaction that found it, so those that are replaced or deleted stay for a while.
"""

import copy
import itertools
import json
import logging
import math
import os
import re
import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from . import index
from .conditions import COLUMNS, Conditions, column_of, column_value
from .database import VERSION, open_database
from .errors import bad_request
from .events import Event
from .folder import DATABASE, open_unchanged
from .validation import check_metadata, is_id, require, unknown_id

logger = logging.getLogger(__name__)

# A JSON object: a stored document, a part of one, or the body of a request.
Document = dict[str, Any]

# Characters of JSON; parsed, they take about ten times as many bytes.
CACHED_TEXT = 32 << 20
# How long the bytes of what is gone stay for those who have just asked where they are, in seconds.
DROPPED_KEPT = 60.0
WRITTEN_AT_ONCE = 500
ENTRIES_AT_ONCE = 100
# Of so many documents the entries in the index are kept in memory.
ENTRIES_KEPT = 2000

# The columns with values of the documents, by which they are found.
_COPIED = ("scope", "parent", "name", "dir", "type", "hidden")
# What a second document with the same id in one call changes.
_REPLACED = (
    ", ".join(f"{name} = excluded.{name}" for name in (*_COPIED, "doc"))
    + ", blob = coalesce(excluded.blob, blob)"
)

# The scope and the JSON of a document, which its entries in the index follow from.
Stored = tuple[str | None, str]


class Row(NamedTuple):
    """One stored document, unparsed."""

    id: str
    scope: str | None
    parent: str | None
    blob: str | None
    doc: str


class Store:
    """The documents and blobs of one state folder, which is made if missing."""

    stopping = False
    _only_reads = False

    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs"
        self.incoming = folder / "incoming"
        self._path = folder.resolve() / DATABASE
        self._database, version, lost = open_database(folder)
        self.blobs.mkdir(exist_ok=True)
        self.incoming.mkdir(exist_ok=True)
        if version < VERSION:
            self._build_index()
        row = self._database.execute("SELECT value FROM meta WHERE key = 'last_id'").fetchone()
        self._last_id = int(row[0], 16) if row else 0
        self._saved_id = self._last_id
        # Blobs that the running transaction adds or drops, and those that are dropped, with the time.
        self._adding: list[str] = []
        self._dropping: list[str] = []
        self._dropped: deque[tuple[float, str]] = deque()
        # The events of the running transaction; their listeners run before it commits.
        self.events: list[Event] = []
        # Which triggers have led to the running transaction, if any: its events and executions keep it.
        self.cause: Document | None = None
        self._folders: set[Path] = set()
        # The documents that the running transaction has written and not indexed yet: their kind, before, and now.
        self._unindexed: dict[str, tuple[str, Stored | None, Stored]] = {}
        self._entries_of: dict[str, tuple[Stored, set[index.Entry]]] = {}
        self._parsed: dict[str, tuple[str, Any]] = {}
        self._parsed_text = 0
        self._sweep(folder / "lost" if lost else None)

    def reader(self) -> "Store":
        """Return a store for another thread, which sees what is committed, waits for no one and cannot write."""
        reader = copy.copy(self)
        reader._database = open_unchanged(self._path, with_log=True)
        reader._adding, reader._dropping, reader._dropped, reader.events = [], [], deque(), []
        reader._unindexed, reader._entries_of = {}, {}
        reader._parsed, reader._only_reads = {}, True
        return reader

    def close(self) -> None:
        self._remove_dropped(before=math.inf)
        self._database.close()

    # ------------------------------------------------------------------------------------------ transactions

    @contextmanager
    def transaction(self) -> Iterator["Store"]:
        """Run the block as one transaction: all of it, or (when it raises) nothing of it."""
        self._adding.clear()
        self._dropping.clear()
        self.events.clear()
        self.cause = None
        self._database.execute("BEGIN")
        try:
            yield self
            self._write_index()
            if self._last_id != self._saved_id and not self._only_reads:
                value = f"{self._last_id:024x}"
                self._database.execute("INSERT OR REPLACE INTO meta VALUES ('last_id', ?)", (value,))
            self._database.execute("COMMIT")
            self._saved_id = self._last_id
        except BaseException:
            self._unindexed.clear()
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            self._dropped += [(-math.inf, blob) for blob in self._adding]
            raise
        self._dropped += [(time.monotonic(), blob) for blob in self._dropping]
        self._remove_dropped(before=time.monotonic() - DROPPED_KEPT)

    @contextmanager
    def part(self) -> Iterator[None]:
        """Run the block as a part of the transaction, of which nothing is kept if it raises."""
        before = [(each, len(each)) for each in (self.events, self._dropping)]
        added, unindexed = len(self._adding), dict(self._unindexed)
        self._database.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK TO part")
            self._unindexed = unindexed
            for each, length in before:
                del each[length:]
            self._dropped += [(-math.inf, blob) for blob in self._adding[added:]]
            raise
        finally:
            self._database.execute("RELEASE part")

    def interrupt(self) -> None:
        """End the running statement with an error, and all transactions after it; any thread may call this."""
        self.stopping = True
        self._database.interrupt()

    def emit(self, resource: str, action: str, document_id: str, /, **detail: Any) -> None:
        """Record an event of this transaction, for other services to react to."""
        self.events.append(Event(resource, action, document_id, detail, self.cause))

    def new_id(self) -> str:
        """Return a new id: 24 hex digits, greater than every earlier id, also of earlier runs."""
        # Time in the high bits spreads ids evenly, and the SDK halves ranges of ids to split long lists.
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        self._last_id = max(self._last_id + 1, (seconds << 64) | (nanoseconds << 34))
        return f"{self._last_id:024x}"

    # --------------------------------------------------------------------------------------------- documents

    def put(self, kind: str, document: Mapping[str, Any], *, blob: str | None = None) -> None:
        """Write a document, new or changed; without `blob` a changed one keeps its bytes."""
        self.put_all(kind, [document], blob=blob)

    def put_all(self, kind: str, documents: Iterable[Mapping[str, Any]], *, blob: str | None = None) -> None:
        columns = COLUMNS[kind]
        fields = [columns.get(name) for name in _COPIED]
        documents = iter(documents)
        while part := list(itertools.islice(documents, WRITTEN_AT_ONCE)):
            rows = [
                (
                    document["id"],
                    kind,
                    *(column_value(document, field) for field in fields),
                    blob,
                    _text(document),
                )
                for document in part
            ]
            if kind in index.KINDS:
                self._note_unindexed(kind, [(row[0], row[2], row[-1]) for row in rows])
            self._write_rows(rows)

    def _write_rows(self, rows: list[tuple[Any, ...]]) -> None:
        """Write rows; of one that is there only what has changed, as each index on a column is a page to write."""
        marks = ",".join("?" * len(rows))
        stored = self._database.execute(
            f"SELECT id, {', '.join(_COPIED)} FROM documents WHERE id IN ({marks})", [row[0] for row in rows]
        )
        before = {document_id: columns for document_id, *columns in stored}
        for document_id, _, *columns, blob, doc in rows:
            if (known := before.get(document_id)) is None:
                continue
            changed = {
                name: new for name, new, old in zip(_COPIED, columns, known, strict=True) if new != old
            }
            changed |= {"doc": doc} | ({} if blob is None else {"blob": blob})
            self._database.execute(
                f"UPDATE documents SET {', '.join(f'{name} = ?' for name in changed)} WHERE id = ?",
                (*changed.values(), document_id),
            )
            before[document_id] = columns
        self._database.executemany(
            f"INSERT INTO documents (id, kind, {', '.join(_COPIED)}, blob, doc)"
            f" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET {_REPLACED}",
            [row for row in rows if row[0] not in before],
        )

    def row(self, kind: str, document_id: str, label: str | None = None) -> Row:
        """Return a document as stored, or raise a 404 that calls it `label`."""
        label = label or label_of(kind)
        if not isinstance(document_id, str):
            raise bad_request(f"the id of a {label} must be a string, got {document_id!r}")
        found = self._database.execute(
            "SELECT id, scope, parent, blob, doc FROM documents WHERE id = ? AND kind = ?",
            (document_id, kind),
        ).fetchone()
        if found is None:
            raise unknown_id(label, document_id)
        return Row._make(found)

    def get(self, kind: str, document_id: str, label: str | None = None) -> dict[str, Any]:
        """Return a document, parsed and free to change, or raise a 404."""
        return json.loads(self.row(kind, document_id, label).doc)

    def find(
        self,
        kind: str,
        where: Conditions | None = None,
        /,
        *,
        order: str = "id",
        limit: int | None = None,
        offset: int = 0,
        **fields: Any,
    ) -> Iterator[Row]:
        """Iterate over the documents of a kind: ``find("executions", cycle=..., status=[...])``; see `Conditions`."""
        where = where or Conditions(kind, **fields)
        tail = where.order(order)
        if limit is not None:
            tail += f" LIMIT {int(limit)} OFFSET {int(offset)}"
        return map(Row._make, self._select("id, scope, parent, blob, doc", where, tail))

    def first(self, kind: str, /, *, order: str = "id", **fields: Any) -> Row | None:
        """Return the first document that satisfies conditions on its fields, or None."""
        return next(self.find(kind, order=order, limit=1, **fields), None)

    def find_one(self, kind: str, /, **fields: Any) -> dict[str, Any] | None:
        """Return the first document like :meth:`first`, parsed and free to change, or None."""
        row = self.first(kind, **fields)
        return None if row is None else json.loads(row.doc)

    def find_all(self, kind: str, /, **fields: Any) -> list[dict[str, Any]]:
        """List the documents that satisfy conditions on their fields, parsed and free to change."""
        return [json.loads(row.doc) for row in self.find(kind, **fields)]

    def count(
        self, kind: str, where: Conditions | None = None, /, *, distinct: str | None = None, **fields: Any
    ) -> int:
        """Count the documents that satisfy conditions on their fields, or the different values of one field."""
        what = f"DISTINCT {column_of(kind, distinct)}" if distinct else "*"
        return self._select(f"count({what})", where or Conditions(kind, **fields)).fetchone()[0]

    def count_by(self, kind: str, field: str, /, **fields: Any) -> dict[str | None, int]:
        """Count the documents that satisfy conditions on their fields, for each value of one field."""
        column = column_of(kind, field)
        return dict(self._select(f"{column}, count(*)", Conditions(kind, **fields), f"GROUP BY {column}"))

    def among(self, ids: list[str], where: Conditions) -> Iterator[Row]:
        """Iterate over those of some documents, in the order given, that satisfy conditions."""
        return map(Row._make, self._among("id, scope, parent, blob, doc", ids, where))

    def ids_among(self, ids: list[str], where: Conditions) -> list[str]:
        """List the ids of those of some documents, in the order given, that satisfy conditions."""
        return [document_id for (document_id,) in self._among("id", ids, where)]

    def parents_among(self, ids: Iterable[str], where: Conditions) -> set[str]:
        """Return the parents, such as an annotation's item, of those of some documents that satisfy conditions."""
        return {parent for (parent,) in self._among("parent", sorted(ids), where) if parent}

    def _select(self, columns: str, where: Conditions, tail: str = "") -> sqlite3.Cursor:
        query = f"SELECT {columns} FROM documents WHERE {where.sql} {tail}"
        return self._database.execute(query, where.bound)

    def _among(self, columns: str, ids: list[str], where: Conditions) -> sqlite3.Cursor:
        # CROSS JOIN makes SQLite go through the ids in their order, and look each one up.
        return self._database.execute(
            f"SELECT {columns} FROM (SELECT value AS wanted FROM json_each(?)) CROSS JOIN documents"
            f" ON id = wanted WHERE +{where.sql}",
            [json.dumps(ids), *where.bound],
        )

    def delete(self, kind: str, /, **fields: Any) -> int:
        """Delete the documents that satisfy conditions on their fields, and their bytes; return how many."""
        where = Conditions(kind, **fields)
        for (blob,) in self._select("blob", where).fetchall():
            if blob is not None:
                self.drop_blob(blob)
        if kind in index.KINDS:
            self._write_index()
            for document_id, scope, doc in self._select("id, scope, doc", where):
                self._unindex(document_id, self._entries(kind, document_id, (scope, doc)))
                self._entries_of.pop(document_id, None)
        return self._database.execute(f"DELETE FROM documents WHERE {where.sql}", where.bound).rowcount

    def check_new_name(self, kind: str, name: str, **scope: str) -> None:
        """Refuse a name that another document of the kind has in a project."""
        if self.first(kind, name=name, **scope):
            (project_id,) = scope.values()
            raise bad_request(
                f"a {label_of(kind)} named {name!r} exists in project {project_id}: get it, or choose another name"
            )

    def check_rename(self, kind: str, document: Document, body: Document, **scope: str) -> None:
        """Refuse a request that gives a document an empty name, or one that another document has in a project."""
        if body.get("name", document["name"]) != document["name"]:
            self.check_new_name(kind, require(body, "name")["name"], **scope)

    def parsed(self, row: Row) -> Any:
        """Parse a row for reading only; the same text is parsed once."""
        cached = self._parsed.get(row.id)
        if cached is not None and cached[0] == row.doc:
            return cached[1]
        document = json.loads(row.doc)
        self._parsed_text += len(row.doc)
        if self._parsed_text > (CACHED_TEXT // 4 if self._only_reads else CACHED_TEXT):
            self._parsed.clear()
            self._parsed_text = len(row.doc)
        self._parsed[row.id] = (row.doc, document)
        return document

    # ------------------------------------------------------------------------------------------------- index

    def _note_unindexed(self, kind: str, documents: list[tuple[str, str | None, str]]) -> None:
        """Note documents (id, scope, JSON) that are about to be written, for the index.

        A transaction may write one document several times: the index follows when it is read, or at the end.
        """
        new = [document_id for document_id, _, _ in documents if document_id not in self._unindexed]
        marks = ",".join("?" * len(new))
        stored = self._database.execute(
            f"SELECT id, scope, doc FROM documents WHERE id IN ({marks}) AND +kind = ?", (*new, kind)
        )
        before = {document_id: (scope, doc) for document_id, scope, doc in stored} if new else {}
        for document_id, scope, doc in documents:
            noted = self._unindexed.get(document_id)
            old = noted[1] if noted else before.get(document_id)
            self._unindexed[document_id] = (kind, old, (scope, doc))
        if len(self._unindexed) >= WRITTEN_AT_ONCE:
            self._write_index()

    def _write_index(self) -> None:
        """Update the index for the documents that have been written since the last time."""
        added = []
        for document_id, (kind, before, after) in self._unindexed.items():
            old = self._entries(kind, document_id, before) if before else set()
            fresh = self._entries(kind, document_id, after)
            self._unindex(document_id, old - fresh)
            added += [(path, value, document_id) for path, value in fresh - old]
        self._unindexed.clear()
        added.sort(key=lambda entry: (entry[0], entry[2]))  # neighbours in the index, one after the other
        for start in range(0, len(added), ENTRIES_AT_ONCE):
            # One statement for many rows: each step of a statement hands the interpreter to another thread and back.
            part = added[start : start + ENTRIES_AT_ONCE]
            marks = ",".join(["(?,?,?)"] * len(part))
            self._database.execute(
                f"INSERT INTO entries VALUES {marks}", [field for row in part for field in row]
            )

    def _entries(self, kind: str, document_id: str, stored: Stored) -> set[index.Entry]:
        """Compute the entries of a document; those of the last ones are kept, as they often change again."""
        known = self._entries_of.get(document_id)
        if known is not None and known[0] == stored:
            return known[1]
        found = index.entries(kind, stored[0], json.loads(stored[1]))
        if len(self._entries_of) >= ENTRIES_KEPT:
            self._entries_of.clear()
        self._entries_of[document_id] = (stored, found)
        return found

    def _unindex(self, document_id: str, entries: set[index.Entry]) -> None:
        if entries:
            self._database.executemany(
                "DELETE FROM entries WHERE path = ? AND value = ? AND id = ?",
                [(path, value, document_id) for path, value in entries],
            )

    def _build_index(self) -> None:
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

    def ids_in(self, ranges: Iterable[index.Range]) -> set[str]:
        """List the ids of the documents that have an entry in one of the ranges."""
        self._write_index()
        query = "SELECT id FROM entries WHERE "
        rows = (self._database.execute(query + part.sql, part.values) for part in ranges)
        return {document_id for found in rows for (document_id,) in found}

    def ids_in_all(self, points: list[index.Range]) -> set[str]:
        """List the ids of the documents that have an entry at each of some points."""
        self._write_index()
        # SQLite merges lists that are in order already, as those of points are.
        query = " INTERSECT ".join(f"SELECT id FROM entries WHERE {part.sql}" for part in points)
        values = [value for part in points for value in part.values]
        return {document_id for (document_id,) in self._database.execute(f"{query} ORDER BY 1", values)}

    def entries_in(self, ranges: Iterable[index.Range], limit: int) -> int:
        """Count the entries in some ranges, up to a limit."""
        self._write_index()
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
        """Return the path of a blob; the last digits spread them over folders."""
        return self.blobs / blob[-2:] / blob

    def adopt(self, incoming: Path) -> str:
        """Move an uploaded file to its final place, and return the name of the new blob."""
        blob, path = self._new_blob()
        os.replace(incoming, path)
        return blob

    def copy_blob(self, source: str) -> str:
        blob, path = self._new_blob()
        try:
            os.link(self.blob_path(source), path)  # blobs never change, so two names may share the bytes
        except OSError:
            shutil.copyfile(self.blob_path(source), path)
        return blob

    def write_blob(self, content: bytes) -> str:
        """Store bytes that the server made itself."""
        blob, path = self._new_blob()
        path.write_bytes(content)
        return blob

    def drop_blob(self, blob: str) -> None:
        """Delete a blob when the running transaction has committed, and all have read it that know its path."""
        self._dropping.append(blob)

    def _remove_dropped(self, before: float) -> None:
        while self._dropped and self._dropped[0][0] < before:
            with suppress(OSError):  # the next start deletes it
                self.blob_path(self._dropped.popleft()[1]).unlink()

    def _new_blob(self) -> tuple[str, Path]:
        blob = self.new_id()
        self._adding.append(blob)
        path = self.blob_path(blob)
        if path.parent not in self._folders:
            path.parent.mkdir(exist_ok=True)
            self._folders.add(path.parent)
        return blob, path

    def _sweep(self, lost: Path | None) -> None:
        """Delete the leftovers of a crash: half uploads, and blobs that no document mentions; other files stay.

        With a folder for what is lost, the blobs are moved there: the documents may have been.
        """
        for path in self.incoming.iterdir():
            if re.fullmatch("[0-9a-f]{24}|[0-9a-f]{32}", path.name) and path.is_file():
                path.unlink()
        known = {
            blob for (blob,) in self._database.execute("SELECT blob FROM documents WHERE blob IS NOT NULL")
        }
        for path in self.blobs.glob("??/*"):
            if path.name in known:
                known.remove(path.name)
            elif not is_id(path.name) or path != self.blob_path(path.name) or not path.is_file():
                continue
            elif lost:
                lost.mkdir(exist_ok=True)
                path.rename(lost / path.name)
            else:
                path.unlink()
        if known:
            logger.warning(
                "the bytes of %d items are missing, such as %s", len(known), self.blob_path(min(known))
            )


# --------------------------------------------------------------------------------------------- small helpers


def _text(document: Mapping[str, Any]) -> str:
    check_metadata(document.get("metadata"))
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise bad_request(f"NaN and infinite numbers cannot be stored: {error}") from error


def label_of(kind: str) -> str:
    """Return what messages call one document of a kind."""
    return "ontology" if kind == "ontologies" else kind.replace("_", " ").rstrip("s")


def now() -> str:
    """Return the time as the platform writes it: ISO, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def created(user: str) -> dict[str, str]:
    """Return the fields of a new document that record who made it, and when."""
    time = now()
    return {"creator": user, "createdAt": time, "updatedAt": time}


def signed(user: str) -> dict[str, str]:
    """Return the fields of a new document that record also who has changed it last."""
    return created(user) | {"updatedBy": user}
