"""Choosing records by their fields: now, or when they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.choices import order
from alhelpers.records.conversion import from_rows
from alhelpers.records.filters import check_filters, columns_of, field_values
from alhelpers.records.ids import check_distinct
from alhelpers.records.partition import parts, schema_of
from alhelpers.records.schema import RecordError
from alhelpers.records.sources import PATHS, Query, Records


def query(
    records: Records,
    filters: Sequence[Mapping[str, Any]] | None = None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool = False,
) -> Query:
    """Describe a choice of records, to be made when they are read.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.
    filters, limit, order_by, desc
        As :func:`select` takes them.

    Returns
    -------
    Query
        A source of records, which takes the place of a table or path anywhere.

    Raises
    ------
    RecordError
        If a field or operator is unknown (the message lists the known ones), or the limit is negative.

    Examples
    --------
    >>> doubtful = query("pool.parquet", [{"left": "confidence", "op": "<", "right": 0.6}])  # doctest: +SKIP
    """
    check_filters(filters or ())
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 0
    ):
        raise RecordError(f"limit must be a whole number of at least 0, got {limit!r}")
    source = (
        records if isinstance(records, (*PATHS, pa.Table, Query)) else from_rows(records, None, "records")
    )
    schema = schema_of(source)
    for name in [condition["left"] for condition in filters or ()] + [order_by] * (order_by is not None):
        columns_of(schema, name)
    return Query(source, tuple(filters or ()), None if limit is None else int(limit), order_by, bool(desc))


def select(
    records: Records,
    filters: Sequence[Mapping[str, Any]] | None = None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool = False,
) -> pa.Table:
    """Choose records by their fields.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.
    filters : sequence of dict, optional
        Conditions ``{"left": field, "op": operator, "right": value}``, all of which must hold. A field is a
        column, a part of one as ``tags.run_id``, or computed: ``prediction.confidence``, ``.class_name``,
        ``.entropy``, ``.margin``, ``.least_confidence``; ``mc_dropout.bald``, ``.variance``,
        ``.predictive_entropy``, ``.margin``, ``.variation_ratio``; ``query_by_committee.vote_entropy``,
        ``.consensus_kl``; ``embeddings.norm``, ``embeddings:<layer>.norm``; ``detections.count``.
        Operators: ``< <= > >= = !=``, ``in`` and ``not in`` a list, ``like`` and ``not like`` a text where
        ``%`` stands for any characters and ``_`` for one. A record without the field meets no condition but
        ``= None``; ``!= None`` asks that it is there.
    limit : int, optional
        At most so many records, after ordering.
    order_by : str, optional
        A field to order by; ties by id, records without the field last. Without it, the order stays.
    desc : bool
        From the largest down.

    Returns
    -------
    pyarrow.Table
        The records, with all their columns; possibly none.

    Raises
    ------
    RecordError
        If a field or operator is unknown (the message lists the known ones), a value does not fit its field,
        the limit is negative, or the records break the schema.
    """
    return loaded(query(records, filters, limit, order_by, desc), None, "records")


def loaded(source: str | Query, columns: Sequence[str] | None, name: str) -> pa.Table:
    """Read and check all records of a source, a query's in its order; possibly none."""
    by = source.order_by if isinstance(source, Query) else None
    beside = [] if by is None else columns_of(schema_of(source), by)
    found = [
        part.load() for part in parts(source, None if columns is None else [*columns, *beside], name=name)
    ]
    if len(found) > 1:
        check_distinct([table["id"] for table in found], name)
    table = pa.concat_tables(found).combine_chunks() if len(found) > 1 else found[0]
    if by is not None:
        keys = pa.table({"field": field_values(table, by), "id": table["id"]})
        table = table.take(order(keys, source.desc))
    kept = [c for c in table.column_names if columns is None or c in ("id", *columns)]
    return table.select(kept)
