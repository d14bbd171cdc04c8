"""What a query chooses, found out part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers.records.filters import columns_of, field_values, met
from alhelpers.records.part import RecordPart
from alhelpers.records.sources import Query


def columns_beside(query: Query, schema: pa.Schema) -> list[str]:
    """Return the columns that the filters of a query look at."""
    return sorted({column for condition in query.filters for column in columns_of(schema, condition["left"])})


def filtered(found: Sequence[RecordPart], query: Query, columns: Sequence[str] | None) -> list[RecordPart]:
    """Let parts load the records that meet the filters, and of these ``id`` and some columns."""
    step = (partial(met, filters=query.filters),) if query.filters else ()
    kept = tuple(name for name in found[0].columns if columns is None or name in ("id", *columns))
    return [replace(part, steps=(*part.steps, *step), columns=kept) for part in found]


def limited(found: Sequence[RecordPart], keys: Sequence[RecordPart], query: Query) -> list[RecordPart]:
    """Let parts load the first records only; ``keys`` are the same parts with what the order is made of."""
    places = _first(keys, query.limit) if query.order_by is None else _best(keys, query)
    chosen = [
        replace(part, steps=(*part.steps, partial(_taken, places=place)))
        for part, place in zip(found, places, strict=True)
    ]
    return [part for part, place in zip(chosen, places, strict=True) if len(place)] or chosen[:1]


def _taken(table: pa.Table, places: np.ndarray) -> pa.Table:
    return table.take(pa.array(places))


def _first(found: Sequence[RecordPart], limit: int) -> list[np.ndarray]:
    """Return the places of the first records in each part, and read no more parts than it takes."""
    places, left = [], limit
    for part in found:
        rows = (part.load().num_rows if part.steps else part.rows) if left else 0
        places.append(np.arange(min(rows, left)))
        left -= len(places[-1])
    return places


def _best(found: Sequence[RecordPart], query: Query) -> list[np.ndarray]:
    """Return the places of the first records by order in each part, and keep no more than those in memory."""
    best = None
    for number, part in enumerate(found):
        table = part.load()
        keys = pa.table(
            {
                "field": field_values(table, query.order_by),
                "id": table["id"],
                "part": np.full(table.num_rows, number, np.int32),
                "place": np.arange(table.num_rows, dtype=np.int32),
            }
        )
        keys = keys if best is None else pa.concat_tables([best, keys])
        best = keys.take(order(keys, query.desc)[: query.limit])
    numbers, rows = best["part"].to_numpy(), best["place"].to_numpy()
    return [np.sort(rows[numbers == number]) for number in range(len(found))]


def order(keys: pa.Table, desc: bool) -> pa.Array:
    """Return the order of records by ``field``, ties by ``id``; those without the field come last."""
    return pc.sort_indices(
        keys, sort_keys=[("field", "descending" if desc else "ascending"), ("id", "ascending")]
    )
