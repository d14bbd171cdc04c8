"""Filtered, sorted, paged listings.

Conditions on columns become SQL, the index of values proposes documents for selective conditions, and the rest is
tested document by document.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import dql, index, vectors
from .conditions import COLUMNS, Conditions
from .errors import bad_request, not_emulated
from .store import Document, Row, Store
from .validation import check_whole_number

MAX_PAGE, MAX_SORTS = 1000, 16
# With more proposals than this, reading everything in order is as fast.
MAX_PROPOSED = 50_000
# Of annotations that items are joined with only the items' ids are read, if the proposals are exact.
MAX_JOINED = 1_000_000
# A second exact range saves parsing the proposals of the first, unless it is many times longer.
WORTH, FEW = 20, 1000
# SQLite takes so many parts of a query.
MAX_PARTS = 300
# How long a filter may keep all others waiting, in seconds.
FILTER_SECONDS = 30.0

ALIASES: dict[str, dict[str, str]] = {
    # The SDK asks for items in no collection by these short names.
    "items": {
        f"collections{number}": f"metadata.system.collections.collections{number}" for number in range(10)
    },
    "annotations": {"annotationId": "id"},
    "models": {"context.project": "projectId"},
    "dpks": {"dpkName": "name"},
}

_SORT_WORDS = {"ascending": False, "descending": True, "asc": False, "desc": True, 1: False, -1: True}


@dataclass
class Page:
    """One page of rows, and the total number of rows."""

    rows: list[Row]
    total: int
    page: int
    size: int

    @classmethod
    def of(cls, rows: list[Row], number: int, size: int) -> "Page":
        """Cut one page out of all rows."""
        return cls(rows[number * size : (number + 1) * size], len(rows), number, size)

    def envelope(self) -> dict[str, Any]:
        pages = -(-self.total // self.size) if self.size else 0
        return {"totalItemsCount": self.total, "totalPagesCount": pages, "hasNextPage": self.page + 1 < pages}


@dataclass
class Plan:
    """A filter split into conditions in SQL and a predicate on the documents."""

    where: Conditions
    rest: list[dql.Node] = field(default_factory=list)
    # The only documents that can match, if the index or a join narrows them.
    ids: set[str] | None = None
    euclid: vectors.Euclid | None = None
    # The position of each id, if a distance orders the answer.
    places: dict[str, int] = field(default_factory=dict)


def search(store: Store, kind: str, query: Any, **fields: Any) -> Page:
    """Answer a query (``filter``, ``sort``, ``page``, ``pageSize``, ``join``) among the documents with these fields.

    Without a sort the newest come first.
    """
    page, size, order = _paging(query)
    plan = plan_for(store, kind, query, **fields)
    by_id = not order or order[0][0] == "id"
    if not plan.rest and plan.euclid is None and not plan.places and by_id:
        return _page_in_sql(store, plan, page, size, descending=not order or order[0][1])
    rows = list(matching(store, plan))
    if not order and plan.euclid is None and not plan.places:
        rows.reverse()
    if plan.euclid is not None:
        rows = [row for _, row in vectors.within_distance(store, rows, plan.euclid)]
        order = [] if plan.euclid.descending is not None else order
    if plan.places:
        rows.sort(key=lambda row: plan.places[row.id])
        order = []
    for path, descending in reversed(order):
        rows.sort(key=lambda row, path=path: dql.sort_key(store.parsed(row), path), reverse=descending)
    return Page.of(rows, page, size)


def matching(store: Store, plan: Plan) -> Iterator[Row]:
    """Iterate, by id, over all rows that satisfy a plan."""
    deadline = time.monotonic() + FILTER_SECONDS
    holds = dql.compile_filter(dql.All(tuple(plan.rest))) if plan.rest else None
    if plan.ids is None:
        rows = store.find(plan.where.kind, plan.where)
    else:
        rows = store.among(sorted(plan.ids), plan.where)
    for row in rows:
        if time.monotonic() > deadline:
            raise bad_request(
                f"the filter took longer than {FILTER_SECONDS:g} seconds: use fewer conditions and shorter patterns,"
                " or narrow it by a folder, a name or a tag"
            )
        if holds is None or holds(store.parsed(row)):
            yield row


def everything(store: Store, kind: str, query: Any, **fields: Any) -> list[Row]:
    """List all rows that satisfy a query's filter and join, whatever its page."""
    return list(matching(store, plan_for(store, kind, query, **fields)))


def documents(store: Store, kind: str, query: Any, **fields: Any) -> list[Document]:
    """List the documents of all rows like :func:`everything`, parsed and free to change."""
    return [json.loads(row.doc) for row in everything(store, kind, query, **fields)]


def plan_for(store: Store, kind: str, query: Any, **fields: Any) -> Plan:
    """Check a query's filter and join, and split them into SQL and a predicate."""
    if not isinstance(query, dict):
        raise bad_request(f"a query must be an object with 'filter', got {type(query).__name__}")
    condition, join = query.get("filter"), query.get("join")
    inner = condition.get("join") if isinstance(condition, dict) else None
    if isinstance(inner, dict) and {"on", "filter"} <= inner.keys():
        # dl.Filters.load() puts the join of a saved filter inside the filter.
        condition, join = {key: value for key, value in condition.items() if key != "join"}, inner
    plan = Plan(Conditions(kind, **fields))
    if kind == "feature_vectors":
        condition, plan.euclid = vectors.split(store, condition)
    _push_down(dql.parse(condition, ALIASES.get(kind)), plan)
    if query.get("references"):
        _push_down(dql.parse(_in_tasks(query["references"])), plan)
    if join:
        _add_join(store, join, plan)
    _combine_sets(store, query, fields, plan)
    _narrow(store, plan)
    return plan


def _combine_sets(store: Store, query: dict[str, Any], fields: dict[str, Any], plan: Plan) -> None:
    """Keep only what another query finds too (intersect), or only what it does not find (except)."""
    for word in ("intersect", "except"):
        given = query.get(word)
        if not given:
            continue
        inner = given.get("query") if isinstance(given, dict) else None
        if not isinstance(inner, dict) or inner.keys() & {"intersect", "except"}:
            raise bad_request(
                f"{word!r} must be {{'query': {{'filter': ..., 'join': ...}}}}, without another in it"
            )
        ids = {row.id for row in everything(store, plan.where.kind, inner, **fields)}
        if word == "intersect":
            plan.ids = ids if plan.ids is None else plan.ids & ids
        else:
            plan.rest.append(dql.Where("id", "$nin", tuple(ids)))


def _in_tasks(references: Any) -> dict[str, Any]:
    """Return the condition that items are in one of some tasks or assignments."""
    if not isinstance(references, dict) or not isinstance(references.get("refs"), list):
        raise bad_request(f"'references' must be {{'refs': [{{'type', 'id'}}, ...]}}, got {references!r}")
    if references.get("operation"):
        raise not_emulated("changing a task by a query of items; use task.add_items and task.remove_items")
    wanted = [ref.get("id") for ref in references["refs"] if isinstance(ref, dict)]
    return {"metadata.system.refs.id": {"$in": wanted}}


# -------------------------------------------------------------------------------------------------- push-down


def _push_down(node: dql.Node, plan: Plan) -> None:
    if isinstance(node, dql.All):
        for child in node.children:
            _push_down(child, plan)
    elif not (isinstance(node, dql.Where) and _as_sql(node, plan)):
        plan.rest.append(node)


def _as_sql(node: dql.Where, plan: Plan) -> bool:
    """Add a condition on a column to a plan, if SQL means the same by it; return whether it does."""
    columns = {field: column for column, field in COLUMNS[plan.where.kind].items()} | {"id": "id"}
    column = columns.get(node.path)
    if column is None or len(plan.where.values) > MAX_PARTS:
        return False
    if column in ("name", "dir") and node.operator == "$eq" and dql.is_pattern(node.path, node.value):
        return _prefix(column, node, plan)
    if column == "hidden":
        if node.operator == "$eq" and isinstance(node.value, bool):
            plan.where.on("hidden", "", node.value)
            return True
        return False
    if node.operator in ("$eq", "$in", dql.LISTED):
        wanted = [node.value] if node.operator == "$eq" else list(node.value)
        if len(wanted) > 500 or not all(_plain(node.path, value) for value in wanted):
            return False
        plan.where.on(column, "", wanted)
        return True
    if node.operator in dql.ORDERING and column == "id" and isinstance(node.value, str):
        plan.where.on("id", node.operator.removeprefix("$"), node.value)
        return True
    return False


def _prefix(column: str, node: dql.Where, plan: Plan) -> bool:
    """Bound a pattern by the text before its first star; return whether that is all it means."""
    head, _, tail = node.value.partition("*")
    if not index.encodable(head):
        return False
    if len(head) > 1:
        plan.where.on(column, "gte", head)
        if after := index.after(head):
            plan.where.on(column, "lt", after)
    elif head != "/" or column != "name":
        return False
    return not tail.strip("*")


def _plain(path: str, value: Any) -> bool:
    """Return whether equality with this value is equality of text: no pattern, and no date in another spelling."""
    return isinstance(value, str) and not dql.is_pattern(path, value) and dql.instant(value) is None


def _add_join(store: Store, join: Any, plan: Plan) -> None:
    on = join.get("on") if isinstance(join, dict) else None
    joins_vectors = isinstance(on, dict) and on.get("resource") == "feature_vectors"
    if joins_vectors and plan.where.kind in ("items", "annotations"):
        _join_vectors(store, join, plan)
    else:
        _join(store, join, plan)


def _join_vectors(store: Store, join: dict[str, Any], plan: Plan) -> None:
    """Keep only documents with a matching feature vector; a distance also sorts them."""
    other = plan_for(store, "feature_vectors", {"filter": join.get("filter")})
    rows = list(matching(store, other))
    if other.euclid is not None:
        rows = [row for _, row in vectors.within_distance(store, rows, other.euclid)]
        if other.euclid.descending is not None:
            for row in rows:
                plan.places.setdefault(row.parent or "", len(plan.places))
    plan.ids = {row.parent or "" for row in rows}


def _join(store: Store, join: Any, plan: Plan) -> None:
    """Keep only the rows that the other side of a join allows."""
    if not isinstance(join, dict):
        raise bad_request(f"'join' must be an object with 'filter', got {type(join).__name__}")
    kind = plan.where.kind
    other = {"items": "annotations", "annotations": "items"}.get(kind)
    joined = join.get("on", {}).get("resource", other) if isinstance(join.get("on", {}), dict) else None
    if other is None or joined != other:
        raise bad_request(
            f"cannot join {kind} with {joined!r}; items join annotations, annotations join items,"
            " both join feature_vectors"
        )
    # Items and annotations are always asked for in one dataset.
    inner = Plan(Conditions(other, datasetId=plan.where.scope))
    _push_down(dql.parse(join.get("filter"), ALIASES.get(other)), inner)
    _narrow(store, inner, MAX_JOINED if kind == "items" else MAX_PROPOSED)
    if kind == "items" and inner.ids is not None and not inner.rest:
        plan.ids = store.parents_among(inner.ids, inner.where)
    elif kind == "items":
        plan.ids = {row.parent for row in matching(store, inner) if row.parent}
    else:
        plan.where.add("itemId", [row.id for row in matching(store, inner)])


# ---------------------------------------------------------------------------------------------------- narrowing


def _narrow(store: Store, plan: Plan, most_proposed: int = MAX_PROPOSED) -> None:
    """Narrow a plan to the ids that the index proposes, if one of the conditions is selective."""
    kind, scope = plan.where.kind, plan.where.scope
    if kind not in index.KINDS or scope is None or not plan.rest:
        return
    large = index.Range("path = ?", (index.overflow(kind, scope),))
    # Documents that are too large for the index can always match; while there are any, nothing is exact.
    trusted = store.entries_in([large], 1) == 0
    lookups = {}
    for number, node in enumerate(plan.rest):
        found = _lookup(store, kind, scope, node)
        if found is not None:
            lookups[number] = found
    counts = _counted(store, lookups, most_proposed if plan.ids is None else len(plan.ids))
    first = min(counts, key=lambda number: counts[number], default=None)
    chosen = [] if first is None else [first]
    if trusted and (first is not None or plan.ids is not None):
        most = WORTH * (len(plan.ids or ()) if first is None else counts[first]) + FEW
        chosen += [
            number
            for number, found in lookups.items()
            if number != first and found.exact and _fewer(store, found, most, counts.get(number))
        ]
    points = [lookups[number].ranges[0] for number in chosen if lookups[number].is_point]
    if 1 < len(points) < MAX_PARTS:
        _keep(plan, store.ids_in_all(points))
    for number in chosen:
        if not 1 < len(points) < MAX_PARTS or not lookups[number].is_point:
            _keep(plan, store.ids_in(lookups[number].ranges if trusted else (*lookups[number].ranges, large)))
    answered = {number for number in chosen if lookups[number].exact and trusted}
    plan.rest = [node for number, node in enumerate(plan.rest) if number not in answered]


def _keep(plan: Plan, ids: set[str]) -> None:
    plan.ids = ids if plan.ids is None else plan.ids & ids


def _counted(store: Store, lookups: dict[int, index.Lookup], most: int) -> dict[int, int]:
    """Count the entries of those lookups that have less than `most`; if one is rare, only of the rare ones."""
    # First a few of each: if one is rare, the others need not be counted.
    for limit in (min(FEW, most), most):
        counts = {number: store.entries_in(found.ranges, limit) for number, found in lookups.items()}
        below = {number: count for number, count in counts.items() if count < limit}
        if below:
            return below
    return {}


def _fewer(store: Store, found: index.Lookup, most: int, counted: int | None) -> bool:
    """Return whether a lookup has less than `most` entries, counting them only if that is not known."""
    return (store.entries_in(found.ranges, most) if counted is None else counted) < most


def _lookup(store: Store, kind: str, scope: str, node: dql.Node) -> index.Lookup | None:
    """Look a condition up: for alternatives all of them, for a conjunction its rarest part."""
    if isinstance(node, dql.Where):
        return index.lookup(kind, scope, node)
    parts = [_lookup(store, kind, scope, child) for child in node.children]
    if isinstance(node, dql.Some):
        return index.union(parts)
    known = [part for part in parts if part is not None]
    if not known:
        return None
    rarest = min(known, key=lambda part: store.entries_in(part.ranges, MAX_PROPOSED))
    return index.Lookup(rarest.ranges, exact=rarest.exact and len(parts) == 1)


# ----------------------------------------------------------------------------------------------------- paging


def cut(documents: list[dict[str, Any]], query: Any) -> dict[str, Any]:
    """Answer a query with one page of documents that are not stored themselves."""
    page, size, _ = _paging(query)
    return {"items": documents[page * size :][:size]} | Page([], len(documents), page, size).envelope()


def _paging(query: Any) -> tuple[int, int, list[tuple[str, bool]]]:
    query = query if isinstance(query, dict) else {}
    page = _whole(query, "page", 0)
    size = min(_whole(query, "pageSize", 100), MAX_PAGE)
    order = query.get("sort") or {}
    if not isinstance(order, Mapping) or len(order) > MAX_SORTS:
        raise bad_request(
            f"'sort' must be {{field: 'ascending'}} of at most {MAX_SORTS} fields, got {order!r}"
        )
    for path, direction in order.items():
        if not isinstance(direction, str | int) or direction not in _SORT_WORDS:
            raise bad_request(f"cannot sort {path!r} by {direction!r}; use 'ascending' or 'descending'")
    return page, size, [(path, _SORT_WORDS[direction]) for path, direction in order.items()]


def _whole(query: Mapping[str, Any], name: str, default: int) -> int:
    value = query.get(name, default)
    return default if value is None else check_whole_number(name, value)


def _page_in_sql(store: Store, plan: Plan, page: int, size: int, descending: bool) -> Page:
    if plan.ids is not None:
        found = store.ids_among(sorted(plan.ids, reverse=descending), plan.where)
        wanted = found[page * size : (page + 1) * size]
        return Page(list(store.among(wanted, plan.where)), len(found), page, size)
    total = store.count(plan.where.kind, plan.where)
    # SQLite has 64-bit offsets; a page beyond the end is empty whatever its number.
    if page * size >= total:
        return Page([], total, page, size)
    order = "-id" if descending else "id"
    rows = store.find(plan.where.kind, plan.where, order=order, limit=size, offset=page * size)
    return Page(list(rows), total, page, size)
