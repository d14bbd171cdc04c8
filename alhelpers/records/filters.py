"""Fields of records by name, stored and computed, and the conditions of filters on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import scores
from alhelpers.records.detections import boxes
from alhelpers.records.ids import naming_record, one_piece
from alhelpers.records.schema import DETECTIONS, LAYER, RecordError, box_fields, is_known, nearest
from alhelpers.records.values import as_array

_COMPARISONS: Mapping[str, Callable[..., pa.ChunkedArray]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "=": pc.equal,
    "!=": pc.not_equal,
}
#: The operators of a filter.
OPERATORS = (*_COMPARISONS, "in", "not in", "like", "not like")


def check_filters(filters: Sequence[Mapping[str, Any]]) -> None:
    """Raise if a filter lacks one of the three keys, or its operator is unknown."""
    for condition in filters:
        if not isinstance(condition, Mapping) or set(condition) != {"left", "op", "right"}:
            raise RecordError(
                f'a filter must be {{"left": field, "op": operator, "right": value}}, got {condition!r}'
            )
        if condition["op"] not in OPERATORS:
            raise RecordError(f"operator {condition['op']!r} must be one of {', '.join(OPERATORS)}")


def filtered(table: pa.Table, filters: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the records that meet all filters."""
    holds = [_holds(field_values(table, condition["left"]), condition) for condition in filters]
    return table.filter(functools.reduce(pc.and_, holds)) if holds else table


def _holds(values: pa.ChunkedArray, condition: Mapping[str, Any]) -> pa.ChunkedArray:
    """Return which records meet a condition."""
    left, operator, right = condition["left"], condition["op"], condition["right"]
    if right is None:
        if operator not in ("=", "!="):
            raise RecordError(f"{left} {operator} None: only = and != compare with None")
        return pc.is_null(values) if operator == "=" else pc.is_valid(values)
    try:
        if operator in _COMPARISONS:
            # 0.9 stored as float32 is not the float64 0.9: compare floats in the column's own precision
            kind = values.type if pa.types.is_floating(values.type) else None
            value = pa.scalar(right, type=kind)
            if isinstance(right, str) and pa.types.is_temporal(values.type):
                value = value.cast(values.type)
            return _COMPARISONS[operator](values, value)
        if operator.endswith("like"):
            found = pc.match_like(values, right)
        elif isinstance(right, str) or not isinstance(right, Sequence | set | frozenset | np.ndarray):
            raise TypeError("the value must be a list")
        else:
            found = pc.is_in(values, value_set=pa.array(list(right), type=values.type), skip_nulls=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise RecordError(
            f"{left} {operator} {right!r}: the value does not fit the field, which holds {values.type}",
            column=left,
        ) from error
    return pc.and_(pc.invert(found), pc.is_valid(values)) if operator.startswith("not") else found


def field_values(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return the values of a field: a column, a part of a document, or computed.

    Parameters
    ----------
    table : pyarrow.Table
        A checked table of records, as :func:`alhelpers.records.read` and the parts return it.
    name : str
        A field that :func:`alhelpers.records.select` compares: ``metadata.blur``, ``prediction.class_name``.

    Returns
    -------
    pyarrow.ChunkedArray of length N
        The values, null where a record lacks the field.

    Raises
    ------
    RecordError
        If the field is unknown, or cannot be computed from a record.
    """
    found = _find(table.schema, name)
    if isinstance(found, Computed):
        return _computed_values(table, name, found)
    top, *steps = found
    values = pc.struct_field(table[top], steps) if steps else table[top]
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def columns_of(schema: pa.Schema, name: str) -> list[str]:
    """Return the columns that a field is read from; raise if the field is unknown."""
    found = _find(schema, name)
    if not isinstance(found, Computed):
        return [found[0]]
    names = found.columns(_names(schema))
    return [DETECTIONS if each.startswith(f"{DETECTIONS}.") else each for each in names]


def field_paths(kind: pa.Field, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths, from a column on, to the fields in it that can be compared."""
    path = (*above, kind.name)
    if pa.types.is_struct(kind.type):
        for part in kind.type:
            yield from field_paths(part, path)
    elif not pa.types.is_nested(kind.type):
        yield path


def _find(schema: pa.Schema, name: str) -> tuple[str, ...] | Computed:
    """Return the path of a stored field, or how a field is computed."""
    stored = [path for column in schema if is_known(column.name) for path in field_paths(column)]
    if sum(".".join(path) == name for path in stored) > 1:
        raise RecordError(
            f"field {name!r} has two meanings, as keys with dots are in it: rename one", column=name
        )
    known: dict[str, tuple[str, ...] | Computed] = {".".join(path): path for path in stored}
    layers = {
        f"{column}.norm": Computed(((column,),), _norm) for column in schema.names if column.startswith(LAYER)
    }
    for each, field in (COMPUTED | layers).items():
        if field.columns(_names(schema)):
            known.setdefault(each, field)
    if name in known:
        return known[name]
    if name in COMPUTED:
        needs = " or ".join(" and ".join(need) for need in COMPUTED[name].needs)
        raise RecordError(
            f"field {name!r} is computed from {needs}; the records have: {', '.join(_names(schema))}",
            column=name,
        )
    raise RecordError(
        f"field {name!r} is unknown{nearest(name, [*known, *COMPUTED])}; the records have: {', '.join(known)}",
        column=str(name),
    )


def _names(schema: pa.Schema) -> list[str]:
    """Return the names of the columns, and of the fields of boxes as ``detections.<field>``."""
    of_boxes = box_fields(schema.field(DETECTIONS).type) if DETECTIONS in schema.names else []
    return [*schema.names, *(f"{DETECTIONS}.{field.name}" for field in of_boxes)]


@dataclass(frozen=True)
class Computed:
    """A field computed from some columns or fields of boxes: the first of several sets that the records have."""

    needs: tuple[tuple[str, ...], ...]
    values: Callable[[pa.Table, str], pa.Array | pa.ChunkedArray | np.ndarray]

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return the columns that are read; empty if the field cannot be computed."""
        return next((list(need) for need in self.needs if set(need) <= set(names)), [])


def _computed_values(table: pa.Table, name: str, field: Computed) -> pa.ChunkedArray:
    column = field.columns(_names(table.schema))[0]
    if not table.num_rows:
        return pa.chunked_array([pa.array([], pa.string() if name == _CLASS_NAME else pa.float32())])
    with naming_record(table["id"], f"field {name!r} cannot be computed", column):
        values = field.values(table, column)
    if isinstance(values, np.ndarray):
        values = pa.array(values)
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])


def _confidences(table: pa.Table, column: str) -> np.ndarray:
    values = as_array(table[column], column)
    return scores.confidences_from_logits(values) if column == "logits" else values


def _confidence(table: pa.Table, column: str) -> pa.ChunkedArray | np.ndarray:
    return table[column] if column == "confidence" else _confidences(table, column).max(axis=1)


def _least_confidence(table: pa.Table, column: str) -> np.ndarray:
    if column == "confidence":
        return 1 - as_array(table[column], column)
    return scores.least_confidence(_confidences(table, column))


def _class_name(table: pa.Table, column: str) -> pa.ChunkedArray | pa.Array:
    """Return the predicted class, or the name of the class with the highest confidence."""
    if column == "class_name":
        return table[column]
    best = as_array(table[column], column).argmax(axis=1)
    names = one_piece(table["class_names"])
    lengths = names.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    starts = np.cumsum(lengths) - lengths
    # a record with fewer names has no class name
    return names.flatten().take(pa.array(starts + best, mask=best >= lengths))


def _norm(table: pa.Table, column: str) -> np.ndarray:
    vectors = as_array(table[column], column)
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))


def _by(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[pa.Table, str], np.ndarray]:
    return lambda table, column: score(_confidences(table, column))


def _least_certain(*names: str) -> Computed:
    """Return the field of the least certain box of each record, null for a record without boxes."""

    def values(table: pa.Table, column: str) -> pa.Array:
        found = boxes(table)
        return _of_boxes(np.minimum, np.prod([getattr(found, name) for name in names], axis=0), found.offsets)

    return Computed((tuple(f"{DETECTIONS}.{name}" for name in names),), values)


def _most_variable(table: pa.Table, column: str) -> pa.Array:
    found = boxes(table)
    return _of_boxes(np.maximum, found.box_variance, found.offsets)


def _of_boxes(reduce: np.ufunc, values: np.ndarray, offsets: np.ndarray) -> pa.Array:
    some = np.diff(offsets) > 0
    result = np.zeros(len(some), dtype=np.float32)
    if some.any():
        result[some] = reduce.reduceat(values, offsets[:-1][some])
    return pa.array(result, mask=~some)


_CERTAINTIES = ("class_certainty", "location_certainty", "existence_certainty")
_CLASS_NAME = "prediction.class_name"
_PREDICTION = ("confidences",), ("logits",)
_MC_DROPOUT, _COMMITTEE = (("mc_dropout",),), (("query_by_committee",),)

COMPUTED: dict[str, Computed] = {
    "prediction.confidence": Computed((("confidence",), *_PREDICTION), _confidence),
    _CLASS_NAME: Computed(
        (("class_name",), ("confidences", "class_names"), ("logits", "class_names")), _class_name
    ),
    "prediction.entropy": Computed(_PREDICTION, _by(scores.entropy)),
    "prediction.margin": Computed(_PREDICTION, _by(scores.margin)),
    "prediction.least_confidence": Computed((*_PREDICTION, ("confidence",)), _least_confidence),
    "mc_dropout.bald": Computed(_MC_DROPOUT, _by(scores.bald)),
    "mc_dropout.variance": Computed(_MC_DROPOUT, _by(scores.variance)),
    "mc_dropout.predictive_entropy": Computed(_MC_DROPOUT, _by(scores.predictive_entropy)),
    "mc_dropout.margin": Computed(_MC_DROPOUT, _by(scores.mean_margin)),
    "mc_dropout.variation_ratio": Computed(_MC_DROPOUT, _by(scores.variation_ratio)),
    "query_by_committee.vote_entropy": Computed(_COMMITTEE, _by(scores.vote_entropy)),
    "query_by_committee.consensus_kl": Computed(_COMMITTEE, _by(scores.consensus_kl)),
    "embeddings.norm": Computed((("embeddings",),), _norm),
    "detections.count": Computed(((DETECTIONS,),), lambda table, column: pc.list_value_length(table[column])),
    **{f"{DETECTIONS}.{name}": _least_certain(name) for name in (*_CERTAINTIES, "object_certainty")},
    "detections.combined_certainty": _least_certain(*_CERTAINTIES),
    "detections.box_variance": Computed((("detections.box_variance",),), _most_variable),
}
