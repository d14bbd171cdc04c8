"""Distances between feature vectors: what ``$euclid`` in a filter means, as the platform's documentation describes it.

A filter on vectors may hold ``{"value": {"$euclid": {"input": ..., "$euclidFilter": ..., "$euclidSort": ...}}}``: the
input is a vector or the id of a stored one, the filter compares the distance, the sort orders by it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import dql
from .errors import bad_request
from .store import Row, Store

DISTANCE = "eu_dist"
_DIRECTIONS = {"ascending": False, "descending": True}


@dataclass(frozen=True)
class Euclid:
    """A condition on the distance from `target`, and the order by distance (None: no order)."""

    target: list[float]
    holds: dql.Predicate
    descending: bool | None


def check(value: Any, size: int | None = None) -> list[float]:
    """Check that a value is a vector, of this length if given."""
    numbers = isinstance(value, list) and all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        for number in value
    )
    if not numbers or not value:
        raise bad_request(f"a feature vector is a list of finite numbers, got {str(value)[:80]}")
    if size is not None and len(value) != size:
        raise bad_request(f"the vector has {len(value)} numbers, but the feature set's size is {size}")
    return value


def split(store: Store, condition: Any) -> tuple[Any, Euclid | None]:
    """Split a filter into the rest of it and its ``$euclid``, or None."""
    if not isinstance(condition, dict):
        return condition, None
    value = condition.get("value")
    if isinstance(value, dict) and "$euclid" in value:
        rest = {key: each for key, each in condition.items() if key != "value"}
        return rest, _parse(store, value)
    parts = condition.get("$and")
    for place, part in enumerate(parts if isinstance(parts, list) else ()):
        rest, euclid = split(store, part) if isinstance(part, dict) else (part, None)
        if euclid is not None:
            return condition | {"$and": [*parts[:place], rest, *parts[place + 1 :]]}, euclid
    return condition, None


def _parse(store: Store, value: dict[str, Any]) -> Euclid:
    given = value["$euclid"]
    if len(value) != 1 or not isinstance(given, dict) or "input" not in given:
        raise bad_request(
            "'$euclid' stands alone and needs an object with 'input', a vector or a vector's id"
        )
    target = given["input"]
    if isinstance(target, str):
        target = store.get("feature_vectors", target)["value"]
    close = dql.compile_filter(dql.parse({DISTANCE: given.get("$euclidFilter") or {}}))
    order = given.get("$euclidSort") or {}
    if not isinstance(order, dict) or order.keys() - {DISTANCE}:
        raise bad_request(
            f"'$euclidSort' must be {{'{DISTANCE}': 'ascending' or 'descending'}}, got {order!r}"
        )
    direction = order.get(DISTANCE)
    if direction not in (None, *_DIRECTIONS):
        raise bad_request(f"cannot sort by distance {direction!r}; use 'ascending' or 'descending'")
    return Euclid(check(target), close, None if direction is None else _DIRECTIONS[direction])


def within_distance(store: Store, rows: Iterable[Row], euclid: Euclid) -> list[tuple[float, Row]]:
    """Return the rows that are near enough, each with its distance; vectors of another length are a 400."""
    found = []
    for row in rows:
        value = store.parsed(row)["value"]
        if len(value) != len(euclid.target):
            raise bad_request(
                f"cannot compare a vector of {len(euclid.target)} numbers with those of the feature set {row.scope},"
                f" which have {len(value)}: filter by 'featureSetId' too"
            )
        distance = math.dist(value, euclid.target)
        if euclid.holds({DISTANCE: distance}):
            found.append((distance, row))
    if euclid.descending is not None:
        found.sort(key=lambda pair: pair[0], reverse=euclid.descending)
    return found
