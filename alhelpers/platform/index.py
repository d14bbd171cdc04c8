"""An index of the scalar values in documents, so that a selective filter looks at its matches and not at everything.

Each document gives entries (path code, value); a condition gives ranges of entries that hold every document it can
match. What a condition means stays in :mod:`dql`: the index only proposes, unless a range is known to be exact.
A path code is a hash of kind, scope, path and type of value: equal only for equal ones, so values of one type lie
together, in their order, and no table of names is kept.
"""

import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import dql

# Numerous kinds. Fields with long arrays of numbers would cost more than they could gain.
KINDS = frozenset({"items", "annotations", "models", "executions", "cycles", "feature_vectors"})
_USERS = frozenset({"creator", "updatedBy"})
_IMAGE = frozenset(
    f"metadata.system.{key}" for key in ("originalname", "size", "width", "height", "channels")
)
# Items are found by their tasks and statuses, not by the times of these.
_WORK = frozenset({"metadata.system.taskStatusLog"}) | frozenset(
    f"metadata.system.refs.metadata.{key}" for key in ("timestamp", "creator")
)
# Executions are not found by these: nearly all have the same value, or list their steps. Entries cost time to write.
_RUN = frozenset(
    "id input output cause status statusLog duration attempts maxAttempts toTerminate orgId driverId packageRevision"
    " packageName moduleName serviceVersion app feedbackQueue syncReplyTo latestStatus.timestamp"
    " latestStatus.percentComplete latestStatus.replicaId".split()
)
SKIPPED: dict[str, frozenset[str]] = {
    "items": frozenset({"id", "datasetId", "filename", "dir", "type", "hidden"}) | _USERS | _IMAGE | _WORK,
    "annotations": frozenset({"id", "datasetId", "itemId", "type", "coordinates", "source", "hash"}) | _USERS,
    "models": frozenset({"id", "configuration"}),
    "executions": _RUN | _USERS,
    "cycles": frozenset(
        {"id", "nodes", "executions", "counts", "forgiven", "waiting", "held", "input", "broken"}
    ),
    "feature_vectors": frozenset({"id", "value"}),
}
# Objects above this depth ("metadata", "metadata.system") are in nearly every document.
MIN_CONTAINER = 2
# Documents beyond these limits have one entry that marks them, and are tested one by one.
MAX_ENTRIES = 200
MAX_TEXT = 120
MAX_PATH = 300
MAX_DEPTH = 30
# So many paths are remembered.
MAX_PATHS = 100_000
# Above this, doubles cannot represent every whole number.
MAX_EXACT = 2**53

Entry = tuple[int, Any]
POINT = "path = ? AND value = ?"


@dataclass(frozen=True)
class Range:
    """Entries of one path code, as an SQL condition on ``path`` and ``value``."""

    sql: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Lookup:
    """Ranges that together hold every document a condition can match; exact when they hold no other."""

    ranges: tuple[Range, ...]
    exact: bool

    @property
    def is_point(self) -> bool:
        """Whether this is one value of one path, whose entries lie in the order of their ids."""
        return len(self.ranges) == 1 and self.ranges[0].sql == POINT


class _TooLarge(Exception):
    """The document exceeds the limits, or holds values that SQLite compares differently."""


class _Path:
    """A path that documents of one scope have: its codes by type of value, and the paths below it by key."""

    __slots__ = ("kind", "scope", "text", "is_deep", "is_long", "_codes", "_below")

    def __init__(self, kind: str, scope: str, text: str) -> None:
        self.kind, self.scope, self.text = kind, scope, text
        self.is_deep = text.count(".") >= MIN_CONTAINER
        self.is_long = len(text) > MAX_PATH
        self._codes: dict[str, int] = {}
        self._below: dict[str, _Path | None] = {}

    def code(self, type_: str) -> int:
        known = self._codes.get(type_)
        if known is None:
            known = self._codes[type_] = code(self.kind, self.scope, self.text, type_)
        return known

    def below(self, key: str) -> "_Path | None":
        """Return the path of a key, or None if that is not indexed."""
        try:
            return self._below[key]
        except KeyError:
            text = f"{self.text}.{key}" if self.text else key
            # No path of a condition reaches a key with a dot.
            indexed = "." not in key and text not in SKIPPED[self.kind]
            made = self._below[key] = _Path(self.kind, self.scope, text) if indexed else None
            _known.made += 1
            return made


class _Known:
    """The paths that documents have had, by kind and scope."""

    def __init__(self) -> None:
        self.made = 0
        self._roots: dict[tuple[str, str], _Path] = {}

    def root(self, kind: str, scope: str) -> _Path:
        if self.made > MAX_PATHS:  # keys may be anything, such as ids
            self.made, self._roots = 0, {}
        found = self._roots.get((kind, scope))
        if found is None:
            found = self._roots[kind, scope] = _Path(kind, scope, "")
            self.made += 1
        return found


_known = _Known()


def entries(kind: str, scope: str | None, document: Mapping[str, Any]) -> set[Entry]:
    """Return the entries of a document, as JSON has it."""
    if kind not in KINDS or scope is None:
        return set()
    found: set[Entry] = set()
    root = _known.root(kind, scope)
    try:
        for key, value in document.items():
            if (path := root.below(key)) is not None:
                _collect(found, path, value, 1)
    except _TooLarge:
        return {(overflow(kind, scope), 0)}
    return found


def _collect(found: set[Entry], path: _Path, value: Any, depth: int) -> None:
    if len(found) > MAX_ENTRIES or depth > MAX_DEPTH:
        raise _TooLarge
    if isinstance(value, dict):
        if path.is_deep:
            found.add((path.code("container"), 0))
        for key, inner in value.items():
            if (below := path.below(key)) is not None:
                _collect(found, below, inner, depth + 1)
    elif isinstance(value, list):
        if path.is_deep:
            found.add((path.code("container"), 0))
        for element in value:
            if isinstance(element, list):
                # A path looks into one level of arrays; what lies deeper only a $match can see.
                found.add((path.code("nested"), 0))
            else:
                _collect(found, path, element, depth + 1)
    else:
        stored = stored_value(value)
        if stored is None or path.is_long:
            raise _TooLarge
        found.add((path.code(stored[0]), stored[1]))


def stored_value(value: Any) -> tuple[str, Any] | None:
    """Return a scalar's type and the value that the index keeps, or None if it cannot keep it."""
    if isinstance(value, str):
        moment = dql.instant(value)
        if moment is not None:
            return "date", moment
        text = value[:MAX_TEXT]
        return ("string", text) if text.isascii() or encodable(text) else None
    if isinstance(value, bool):
        return "bool", int(value)
    if value is None:
        return "null", 0
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    return None if math.isnan(number) else ("number", number)


def encodable(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8: a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def code(kind: str, scope: str, path: str, type_: str) -> int:
    """Return the number under which the values of one type at one path are kept."""
    return (_code if len(path) <= MAX_PATH else _code.__wrapped__)(kind, scope, path, type_)


@functools.lru_cache(maxsize=200_000)
def _code(kind: str, scope: str, path: str, type_: str) -> int:
    text = "\0".join((kind, scope, type_, path)).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def overflow(kind: str, scope: str) -> int:
    """Return the path code of the documents that are too large to be indexed."""
    return code(kind, scope, "", "overflow")


_TYPES = ("string", "date", "number", "bool", "null", "container")
_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def lookup(kind: str, scope: str, node: dql.Where) -> Lookup | None:
    """Return the ranges of all documents that a condition can match, or None if the index cannot narrow it."""
    return _Lookups(kind, scope).where(node, "")


@dataclass(frozen=True)
class _Lookups:
    kind: str
    scope: str

    def where(self, node: dql.Where, prefix: str) -> Lookup | None:
        path = ".".join(part for part in (prefix, node.path) if part)
        if not self.indexed(path):
            return None
        if node.operator in ("$eq", "$in"):
            wanted = node.value if node.operator == "$in" else (node.value,)
            return union([self.equal(path, value) for value in wanted])
        if node.operator == dql.LISTED:
            whole = self.equal(path, list(node.value))
            found = union([whole, *(self.equal(path, value) for value in node.value)])
            # A list in the document has its elements indexed, but only counts as a whole.
            return found and Lookup(found.ranges, exact=False)
        if node.operator in _ORDER:
            return self.ordered(path, node.operator, node.value)
        if node.operator == "$exists" and node.value is True and path.count(".") >= MIN_CONTAINER:
            return Lookup(tuple(self.all(path, type_) for type_ in _TYPES), exact=True)
        if node.operator == "$glob":
            return self.globbed(path, node.value)
        if node.operator == "$match":
            return self.element(path, node.value)
        return None

    def indexed(self, path: str) -> bool:
        parts = path.split(".")
        return (
            bool(path)
            and not any(".".join(parts[:end]) in SKIPPED[self.kind] for end in range(1, len(parts) + 1))
            and len(path) <= MAX_PATH
            and not any(part.isdecimal() for part in parts)  # may be a place in an array
        )

    def all(self, path: str, type_: str) -> Range:
        return Range("path = ?", (code(self.kind, self.scope, path, type_),))

    def compared(self, path: str, type_: str, operator: str, value: Any) -> Range:
        return Range(f"path = ? AND value {operator} ?", (code(self.kind, self.scope, path, type_), value))

    def equal(self, path: str, value: Any) -> Lookup | None:
        if value is None:
            return None  # also matches what is not there
        if isinstance(value, dict | list):
            deep = path.count(".") >= MIN_CONTAINER
            return Lookup((self.all(path, "container"),), exact=False) if deep else None
        if dql.is_pattern(path, value):
            return self.globbed(path, value)
        stored = stored_value(value)
        if stored is None:
            return None
        return Lookup((self.compared(path, stored[0], "=", stored[1]),), exact=_exact(*stored))

    def ordered(self, path: str, operator: str, value: Any) -> Lookup | None:
        stored = stored_value(value)
        if stored is None:
            return None
        type_, bound = stored
        exact = _exact(*stored)
        sign = _ORDER[operator] if exact else _ORDER[operator][0] + "="
        ranges = [self.compared(path, type_, sign, bound)]
        # A date is compared with other text as text.
        if type_ == "date":
            ranges.append(self.compared(path, "string", sign[0] + "=", value))
        elif type_ == "string":
            ranges.append(self.all(path, "date"))
        return Lookup(tuple(ranges), exact=exact and type_ in ("number", "bool", "null"))

    def globbed(self, path: str, pattern: str) -> Lookup | None:
        head = pattern.partition("*")[0][:MAX_TEXT]
        if not head or not encodable(head):
            return None
        texts = self.compared(path, "string", ">=", head)
        if end := after(head):
            texts = Range(f"{texts.sql} AND value < ?", (*texts.values, end))
        return Lookup((texts, self.all(path, "date")), exact=False)

    def element(self, path: str, node: dql.Node) -> Lookup | None:
        """Narrow a $match by any of its conditions that the index can narrow."""
        if isinstance(node, dql.Where):
            found = self.where(node, path)
        elif isinstance(node, dql.All):
            parts = [self.element(path, child) for child in node.children]
            found = next((part for part in parts if part is not None), None)
        else:
            found = union([self.element(path, child) for child in node.children])
        return None if found is None else Lookup((*found.ranges, self.all(path, "nested")), exact=False)


def after(head: str) -> str:
    """Return the first text after all that start with `head`, or an empty one."""
    last = ord(head[-1]) + 1
    if last > 0x10FFFF:
        return ""
    return head[:-1] + chr(0xE000 if 0xD800 <= last < 0xE000 else last)


def _exact(type_: str, stored: Any) -> bool:
    if type_ == "string":
        return len(stored) < MAX_TEXT
    return type_ != "number" or abs(stored) < MAX_EXACT


def union(lookups: Sequence[Lookup | None]) -> Lookup | None:
    """Join the lookups of alternatives; None if one of them could match anything."""
    known = [found for found in lookups if found is not None]
    if len(known) < len(lookups):
        return None
    ranges = tuple(part for found in known for part in found.ranges)
    return Lookup(ranges, all(found.exact for found in known))
