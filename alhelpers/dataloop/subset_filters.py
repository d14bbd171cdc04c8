"""Filters of subsets: the queries of items that a model stores, and that the files ``*_subset_filter.json`` hold."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from alhelpers.configurations import Configuration, Integer, described, read

_GROUPS = ("$and", "$or")


def _check_value(value: Any) -> Any:
    misplaced = next((key for key in value if key in _GROUPS), None) if isinstance(value, Mapping) else None
    if misplaced:
        raise ValueError(
            f"{misplaced!r} must be an operator or a part of a field: '$and' and '$or' stand beside fields"
        )
    return value


_Value = Annotated[
    Any,
    BeforeValidator(_check_value),
    WithJsonSchema({"if": {"type": "object"}, "then": {"propertyNames": {"not": {"enum": list(_GROUPS)}}}}),
]


class Condition(Configuration):
    """Fields with their values, which all must hold; ``$and`` and ``$or`` combine further conditions."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "description": "an object with fields and their values, '$and' or '$or'",
            "propertyNames": {"anyOf": [{"enum": list(_GROUPS)}, {"pattern": r"^[^$]"}]},
        },
    )
    __pydantic_extra__: dict[str, _Value]
    all_of: list[Condition] = Field([], alias="$and", description="a list of conditions")
    any_of: list[Condition] = Field([], alias="$or", description="a list of conditions")

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, given: Any) -> Any:
        names = given if isinstance(given, dict) else ()
        unknown = next((name for name in names if str(name).startswith("$") and name not in _GROUPS), None)
        if unknown:
            raise ValueError(f"{unknown!r} must be a field, '$and' or '$or'")
        return given


class SubsetFilter(Configuration):
    """A query of items; the SDK writes ``context`` and ``systemSpace``."""

    model_config = described("a dl.Filters, or a query such as {'filter': {'$and': [...]}}")
    filter: Condition = Field(
        Condition(), description="an object with fields and their values, '$and' or '$or'"
    )
    join: dict[str, Any] = Field({}, description="an object with 'filter' and 'on'")
    sort: dict[str, Any] = Field({}, description="an object of fields and 'ascending' or 'descending'")
    page: Integer = Field(0, ge=0, description="an integer, 0 or more")
    page_size: Integer = Field(1000, alias="pageSize", ge=1, description="an integer, 1 or more")
    resource: Literal["items"] = Field("items", description="'items': a model is trained on items")
    context: dict[str, Any] = Field({}, description="an object; the SDK writes it")
    system_space: bool = Field(False, alias="systemSpace", description="true or false; the SDK writes it")


_KEYS = {field.alias or name for name, field in SubsetFilter.model_fields.items()}


def normalize_filter(subset: Mapping[str, Any] | str | None, name: str) -> dict[str, Any] | None:
    """Bring a subset's filter into the form that models store."""
    if isinstance(subset, str):
        subset = _read_text(subset, name)
    if subset is None:
        return None
    query: Any = subset
    if isinstance(subset, Mapping):
        query = copy.deepcopy(dict(subset if _KEYS & subset.keys() else {"filter": subset}))
        query = {key: value for key, value in query.items() if value is not None}
    read(SubsetFilter, query, f"{name}_subset")
    condition = query.get("filter") or {}
    if not _selects_something(condition) and not query.get("join"):
        return None
    # The SDK's training appends conditions to "$and"; the page would cut the subset off.
    return {
        "filter": condition if "$and" in condition else {"$and": [condition] if condition else []},
        **{key: query[key] for key in ("join", "sort") if query.get(key)},
    }


def _read_text(text: str, name: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}_subset {text!r} is not valid JSON ({error})") from error


def _selects_something(condition: Mapping[str, Any]) -> bool:
    """Return False for `{}`, `{"$and": []}` and `{"$or": [{}]}`, which a platform takes for "everything"."""
    return any(
        any(map(_selects_something, value)) if key in _GROUPS else True for key, value in condition.items()
    )
