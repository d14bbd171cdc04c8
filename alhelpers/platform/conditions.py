"""Conditions on the fields of documents that the store keeps as columns: SQL with bound values.

Callers name the documents' own fields; which column keeps a field is known here and in the store alone.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import bad_request

# Which fields of a document are kept as columns too. A condition on one of these fields becomes SQL.
COLUMNS: dict[str, dict[str, str]] = {
    "projects": {"name": "name"},
    "settings": {"scope": "scopeId", "name": "name"},
    "datasets": {"name": "name", "scope": "projects", "type": "readableType"},
    "items": {
        **{"scope": "datasetId", "parent": "srcItem", "name": "filename"},
        **{"dir": "dir", "type": "type", "hidden": "hidden"},
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
        **{"scope": "group", "parent": "itemId", "type": "status"},
        **{"name": "review", "dir": "datasetId"},
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
    "organizations": {},
    "webhooks": {"scope": "project", "name": "name"},
    "integrations": {"scope": "org", "name": "name"},
    "drivers": {"scope": "projectId", "name": "name"},
    "bots": {"scope": "projectId", "name": "name"},
    "computes": {"name": "name", "hidden": "archived"},
    "service_drivers": {"name": "name", "parent": "computeId"},
    "feature_vectors": {"scope": "featureSetId", "parent": "entityId", "dir": "datasetId"},
}
# What callers call a field that lies inside another one.
_SHORT = {"pipeline.executionId": "cycle", "model.modelId": "model", "latestStatus.status": "status"}
_FIELDS = {
    kind: {"id": "id"} | {_SHORT.get(field, field): column for column, field in columns.items()}
    for kind, columns in COLUMNS.items()
}
_COMPARISONS = {"ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
# With a condition on one of the first, SQLite must not walk all files by an index on the others.
_SELECTIVE, _COMMON = ("name", "dir", "parent"), ("type", "hidden")
# Longer lists are bound as one value.
_LONG_LIST = 500


def column_of(kind: str, name: str) -> str:
    """Return the column that keeps a field, by the name that callers have for it."""
    if name not in _FIELDS[kind]:
        raise TypeError(f"{kind} cannot be found by {name!r}; use one of {', '.join(_FIELDS[kind])}")
    return _FIELDS[kind][name]


def kinds_with(name: str) -> list[str]:
    """List the kinds of documents that can be found by a field."""
    return [kind for kind, fields in _FIELDS.items() if name in fields]


class Conditions:
    """Conditions on documents of one kind, all of which must hold.

    A field alone means equality, with a list one of its values: ``status="open"``, ``id=[...]``. Two underscores begin
    another comparison: ``readableType__ne="system"``, ``id__gt=...`` (and ``gte``, ``lt``, ``lte``),
    ``status__missing=True``, ``dir__below="/a"`` (that folder and all below it), ``filename__like="*name*"`` (``*`` is
    any text, the case does not matter). ``containing=...`` is a text in the document's JSON. Nothing equals None.
    """

    def __init__(self, kind: str, **fields: Any) -> None:
        self.kind = kind
        self.values: list[Any] = []
        # The dataset, project or set that all documents are in, where the conditions name exactly one.
        self.scope: str | None = None
        self._parts: list[tuple[str, str]] = []
        self._selective = False
        for name, value in fields.items():
            self.add(name, value)

    def add(self, name: str, value: Any) -> None:
        if name == "containing":
            self._append("doc", "instr({}, ?)", value)
            return
        field, _, comparison = name.partition("__")
        self.on(column_of(self.kind, field), comparison, value)

    def on(self, column: str, comparison: str, value: Any) -> None:
        """Add a condition on a column; without a comparison it is equality."""
        if comparison in _COMPARISONS:
            self._append(column, f"{{}} {_COMPARISONS[comparison]} ?", value)
        elif comparison == "missing":
            self._append(column, "{} IS NULL" if value else "{} IS NOT NULL")
        elif comparison == "below":
            # '0' follows '/' in ASCII, so these bounds hold exactly the folders below.
            self._append(column, "(+{0} = ? OR +{0} > ? AND +{0} < ?)", value, f"{value}/", f"{value}0")
        elif comparison == "like":
            # GLOB reads more than stars; those characters are put into brackets, where they mean themselves.
            pattern = "".join(f"[{each}]" if each in "?[" else each for each in value.lower())
            self._append(column, "lower(+{}) GLOB ?", pattern)
        elif isinstance(value, list | tuple | set):
            self._add_list(column, list(value))
        else:
            self._append(column, "{} = ?", value)
            self.scope = value if column == "scope" else self.scope

    def _add_list(self, column: str, values: list[Any]) -> None:
        if len(values) > _LONG_LIST:
            self._append(column, "{} IN (SELECT value FROM json_each(?))", json.dumps(list(_checked(values))))
        else:
            self._append(column, f"{{}} IN ({','.join('?' * len(values))})", *values)
        if column == "scope" and len(values) == 1:
            self.scope = values[0]

    def _append(self, column: str, sql: str, *values: Any) -> None:
        self._parts.append((column, sql))
        self._selective |= column in _SELECTIVE and not sql.startswith(("(", "lower"))
        self.values += _checked(values)

    @property
    def sql(self) -> str:
        return " AND ".join(
            sql.format(f"+{column}" if self._selective and column in _COMMON else column)
            for column, sql in [("kind", "{} = ?"), *self._parts]
        )

    @property
    def bound(self) -> list[Any]:
        """The values for the question marks, in their order."""
        return [self.kind, *self.values]

    def order(self, by: str) -> str:
        """Return the ORDER BY clause for a field; with a minus before it the order is descending."""
        return (
            f"ORDER BY {column_of(self.kind, by.removeprefix('-'))} {'DESC' if by.startswith('-') else 'ASC'}"
        )


def _checked(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        fits = abs(value) < 1 << 63 if isinstance(value, int) else isinstance(value, str | float | None)
        if not fits:
            raise bad_request(f"a name, an id or a number was expected, got {value!r}")
        yield value


def column_value(document: Mapping[str, Any], field: str | None) -> Any:
    """Read the value that a column keeps of a document."""
    value = document.get(field) if field else None
    if field and "." in field:
        outer, inner = field.split(".")
        value = (document.get(outer) or {}).get(inner)
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str | bool | None):
        raise bad_request(f"{field!r} must be a string, got {value!r}")
    return value
