"""Conditions on the fields of records, and what a field's name means."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.records.computed import COMPUTED, Computed, computed_fields, computed_values
from alhelpers.records.schema import RecordError, nearest

_COMPARISONS: Mapping[str, Callable[..., pa.ChunkedArray]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "=": pc.equal,
    "!=": pc.not_equal,
}
OPERATORS = (*_COMPARISONS, "in", "not in", "like", "not like")


def check_filters(filters: Sequence[Mapping[str, Any]]) -> None:
    """Raise unless each filter has the three keys and a known operator."""
    for condition in filters:
        if not isinstance(condition, Mapping) or set(condition) != {"left", "op", "right"}:
            raise RecordError(
                f'a filter is {{"left": field, "op": operator, "right": value}}, got {condition!r}'
            )
        if condition["op"] not in OPERATORS:
            raise RecordError(f"operator {condition['op']!r} is unknown; there are: {', '.join(OPERATORS)}")


def met(table: pa.Table, filters: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the records that meet all conditions."""
    holds = [_holds(field_values(table, condition["left"]), condition) for condition in filters]
    return table.filter(functools.reduce(pc.and_, holds)) if holds else table


def field_values(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return the values of a field: a column, a part of a document, or what is computed."""
    found = _found(table.schema, name)
    if isinstance(found, Computed):
        return computed_values(table, name, found)
    top, *steps = found
    return pc.struct_field(table[top], steps) if steps else table[top]


def columns_of(schema: pa.Schema, name: str) -> list[str]:
    """Return the columns that a field is read from; raise if there is no such field."""
    found = _found(schema, name)
    return found.columns(schema.names) if isinstance(found, Computed) else [found[0]]


def names_of(kind: pa.Field) -> list[str]:
    """Return the names of the fields in a column that can be compared."""
    return [name for name, _ in _paths(kind.name, kind.type, ())]


def _found(schema: pa.Schema, name: str) -> tuple[str, ...] | Computed:
    """Return the column of a field and the keys that lead to it from there, or how it is computed."""
    known: dict[str, tuple[str, ...] | Computed] = {
        path: steps for field in schema for path, steps in _paths(field.name, field.type, ())
    }
    known = {
        **known,
        **{path: field for path, field in computed_fields(schema.names).items() if path not in known},
    }
    if name in known:
        return known[name]
    if name in COMPUTED:
        field = COMPUTED[name]
        needs = " or ".join(field.needs) + (f" and {field.beside}" if field.beside else "")
        raise RecordError(
            f"field {name!r} is computed from {needs}; the records have: {', '.join(schema.names)}",
            column=name,
        )
    raise RecordError(
        f"field {name!r} is unknown{nearest(name, [*known, *COMPUTED])}; the records have: {', '.join(known)}",
        column=str(name),
    )


def _paths(name: str, kind: pa.DataType, above: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the dotted names of the fields that can be compared, each with the steps to it."""
    steps = (*above, name)
    if pa.types.is_struct(kind):
        return [path for part in kind for path in _paths(part.name, part.type, steps)]
    return [] if pa.types.is_nested(kind) else [(".".join(steps), steps)]


def _holds(values: pa.ChunkedArray, condition: Mapping[str, Any]) -> pa.ChunkedArray:
    """Return which records meet a condition."""
    left, operator, right = condition["left"], condition["op"], condition["right"]
    if right is None:
        if operator not in ("=", "!="):
            raise RecordError(f"{left} {operator} None: only = and != compare with None")
        return pc.is_null(values) if operator == "=" else pc.is_valid(values)
    try:
        return _compared(values, operator, right)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise RecordError(
            f"{left} {operator} {right!r}: the field holds {values.type}, with which the value does not fit",
            column=left,
        ) from error


def _compared(values: pa.ChunkedArray, operator: str, right: Any) -> pa.ChunkedArray:
    # 0.9 stored as float32 is not the float64 0.9: compare floats in the column's own precision
    kind = values.type if pa.types.is_floating(values.type) else None
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](values, pa.scalar(right, type=kind))
    if operator.endswith("like"):
        found = pc.match_like(values, right)
    else:
        if isinstance(right, str) or not isinstance(right, Sequence | set | frozenset | np.ndarray):
            raise TypeError("in needs a list")
        found = pc.is_in(values, value_set=pa.array(list(right), type=values.type))
    return pc.and_(pc.invert(found), pc.is_valid(values)) if operator.startswith("not") else found
