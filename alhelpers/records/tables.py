"""Records of any form as one table: all of them, or those that a query selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.detections import Boxes, from_boxes
from alhelpers.records.filters import check_filters, columns_of, field_values
from alhelpers.records.ids import check_distinct
from alhelpers.records.layout import check_class_names, checked
from alhelpers.records.partition import order, parts, schema_of
from alhelpers.records.schema import LAYER, PATHS, Files, Query, RecordError, Records, checked_path
from alhelpers.records.values import as_array, from_rows, from_values


def as_table(records: Records, columns: Sequence[str] | None = None, name: str = "records") -> pa.Table:
    """Convert records of any form into a checked table.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records, the path or glob of their Parquet files, or a query.
    columns : sequence of str, optional
        The columns to take beside ``id``; those that the records lack are ignored, and other columns are
        neither read nor checked. By default, all that the schema knows; a warning names the others.
    name : str
        The name of the records in errors.

    Returns
    -------
    pyarrow.Table
        Vectors are float32 lists of fixed sizes, and every column is in one piece. Columns that were so already
        are shared, not copied.

    Raises
    ------
    RecordError
        If there is no record, an id is missing or comes twice, a number is missing or not finite, or a
        vector's length is not that of the others; the message names the record and the column.
    """
    if isinstance(records, (*PATHS, Query)):
        table = _loaded(records, columns, name)
    else:
        table = records if isinstance(records, pa.Table) else from_rows(records, columns, name)
        table = checked(table, columns, name)
    if not table.num_rows:
        raise RecordError(f"{name} hold no record")
    return table


def read(path: str | Path | Files, columns: Sequence[str] | None = None) -> pa.Table:
    """Read records from Parquet.

    Parameters
    ----------
    path : str, pathlib.Path or Files
        A file, a glob of files or a folder, which are read in sorted order; local, or by URL.
    columns : sequence of str, optional
        The columns to read beside ``id``; those that the files lack are ignored. By default, all
        that the schema knows; a warning names the others.

    Returns
    -------
    pyarrow.Table
        The records of all files. A text or document that a file lacks is null there.

    Raises
    ------
    RecordError
        If no file matches, a file is not Parquet or has no ``id``, the files do not fit together, or the
        records break the schema.
    """
    return as_table(path if isinstance(path, Files) else checked_path(path), columns)


def query(
    records: Records,
    filters: Sequence[Mapping[str, Any]] | None = None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool = False,
) -> Query:
    """Describe a selection of records, which is made when they are read.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.
    filters, limit, order_by, desc
        As in :func:`select`.

    Returns
    -------
    Query
        A source of records, accepted wherever a table or path is.

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
    known = isinstance(records, (*PATHS, pa.Table, Query))
    source = records if known else from_rows(records, None, "records")
    schema = schema_of(source)
    for name in [condition["left"] for condition in filters or ()] + [order_by] * (order_by is not None):
        columns_of(schema, name)
    if order_by is None and isinstance(source, Query):
        order_by, desc = source.order_by, source.desc
    return Query(source, tuple(filters or ()), None if limit is None else int(limit), order_by, bool(desc))


def select(
    records: Records,
    filters: Sequence[Mapping[str, Any]] | None = None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool = False,
) -> pa.Table:
    """Select records by their fields.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.
    filters : sequence of dict, optional
        Conditions ``{"left": field, "op": operator, "right": value}``, all of which must hold. A field is a
        column, a part of one as ``tags.run_id``, or computed: ``prediction.confidence``, ``.class_name``,
        ``.entropy``, ``.margin``, ``.least_confidence``; ``mc_dropout.bald``, ``.variance``,
        ``.predictive_entropy``, ``.margin``, ``.variation_ratio``; ``query_by_committee.vote_entropy``,
        ``.consensus_kl``; ``embeddings.norm``, ``embeddings:<layer>.norm``; ``detections.count``, and of
        a record's boxes the least ``detections.class_certainty``, ``.location_certainty``,
        ``.existence_certainty``, ``.combined_certainty``, their product, and ``.object_certainty``, and the largest
        ``.box_variance``.
        Operators: ``< <= > >= = !=``, ``in`` and ``not in`` a list, ``like`` and ``not like`` a text where
        ``%`` stands for any characters and ``_`` for one. A record without the field meets no condition but
        ``= None``; ``!= None`` selects the records that have it.
    limit : int, optional
        The maximum number of records, after ordering.
    order_by : str, optional
        The field to order by; ties by id, records without the field last. By default, the order stays.
    desc : bool
        Whether the largest values come first.

    Returns
    -------
    pyarrow.Table
        The records, with all their columns; possibly no rows.

    Raises
    ------
    RecordError
        If a field or operator is unknown (the message lists the known ones), a value does not fit its field,
        the limit is negative, or the records break the schema.
    """
    return _loaded(query(records, filters, limit, order_by, desc), None, "records")


def _loaded(source: str | Path | Files | Query, columns: Sequence[str] | None, name: str) -> pa.Table:
    """Read and check all records of a source, a query's in its order; possibly no rows."""
    by = source.order_by if isinstance(source, Query) else None
    of_order = [] if by is None else columns_of(schema_of(source), by)
    wanted = None if columns is None else [*columns, *of_order]
    found = [part.load() for part in parts(source, wanted, name=name)]
    table = found[0]
    if len(found) > 1:
        check_distinct([each["id"] for each in found], name)
        table = pa.concat_tables(found).combine_chunks()
    if by is not None:
        table = table.take(
            order(pa.table({"field": field_values(table, by), "id": table["id"]}), source.desc)
        )
    return table.select([c for c in table.column_names if columns is None or c in ("id", *columns)])


def from_arrays(
    ids: Sequence[str] | Sequence[int] | np.ndarray,
    *,
    split: str | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    class_name: Sequence[str] | np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    confidences: np.ndarray | None = None,
    logits: np.ndarray | None = None,
    embeddings: np.ndarray | Mapping[str, np.ndarray] | None = None,
    mc_dropout: np.ndarray | None = None,
    query_by_committee: np.ndarray | None = None,
    detections: Sequence[Sequence[Mapping[str, Any]]] | Boxes | None = None,
    groundtruth: Sequence[str] | np.ndarray | None = None,
    tags: Sequence[Mapping[str, Any]] | None = None,
    metadata: Sequence[Mapping[str, Any]] | None = None,
) -> pa.Table:
    """Build a table of records from arrays.

    Parameters
    ----------
    ids : sequence of length N
        All strings or all whole numbers, each once.
    split : str or sequence of length N, optional
        The subset: one for all records, or one for each.
    class_names : sequence of length C, optional
        The names of the classes, the same for all records.
    class_name, confidence : array_like of shape (N,), optional
        The predicted class and its confidence. By default they are taken from ``confidences`` (and
        ``class_names``).
    confidences, logits : numpy.ndarray of shape (N, C), optional
        The predictions.
    embeddings : numpy.ndarray of shape (N, D), or dict of them, optional
        One layer, or several by name.
    mc_dropout, query_by_committee : numpy.ndarray of shape (N, T, C) or (N, K, C), optional
        Confidences of the passes or of the members.
    detections : sequence of length N of lists of dict, or Boxes, optional
        The boxes of each record, with any of the fields of :class:`Boxes`; an empty list where nothing was
        found.
    groundtruth : sequence of length N, optional
        The true class names, None or NaN for unlabelled records.
    tags, metadata : sequence of dict, optional
        Anything to filter by.

    Returns
    -------
    pyarrow.Table
        A checked table of records.

    Raises
    ------
    RecordError
        If an array's shape is not as above, or the records break the schema.
    """
    count = len(ids)
    names = None if class_names is None else from_values(class_names, "class_names", ids)
    layers = embeddings if isinstance(embeddings, Mapping) else {"": embeddings}
    columns: dict[str, Any] = {
        "id": ids,
        "split": [split] * count if isinstance(split, str) else split,
        "confidences": confidences,
        "class_name": class_name,
        "confidence": confidence,
        "logits": logits,
        **{f"{LAYER}{layer}" if layer else "embeddings": values for layer, values in layers.items()},
        "mc_dropout": mc_dropout,
        "query_by_committee": query_by_committee,
        "detections": detections,
        "groundtruth": groundtruth,
        "tags": tags,
        "metadata": metadata,
    }
    table = {}
    for column, values in columns.items():
        if values is None:
            continue
        flat = isinstance(values, Boxes)
        if not flat and not isinstance(values, Sized):
            raise RecordError(
                f"{column} must be {count} values, one for each id, got {values!r:.80}", column=column
            )
        rows = len(values.offsets) - 1 if flat else len(values)
        if rows != count:
            raise RecordError(f"{column} has {rows} rows for {count} ids", column=column)
        table[column] = from_boxes(values, ids) if flat else from_values(values, column, ids)
        if column == "confidences":
            numbers = as_array(table[column], column)
            if confidence is None:
                columns["confidence"] = numbers.max(axis=1)
            if class_name is None and names is not None and len(names) == numbers.shape[1]:
                columns["class_name"] = names.take(numbers.argmax(axis=1)).to_pylist()
    if names is not None:
        table["class_names"] = pa.repeat(pa.scalar(names.to_pylist(), pa.list_(names.type)), count)
    found = as_table(pa.table(table))
    check_class_names(found)
    return found


def column(records: pa.Table, name: str) -> np.ndarray:
    """Return one column as an array.

    Parameters
    ----------
    records : pyarrow.Table
        A table of records, as :func:`read`, :func:`as_table` and :func:`from_arrays` return it.
    name : str
        The column.

    Returns
    -------
    numpy.ndarray
        Numbers of shape (N,), vectors (N, D), samples (N, S, C): read-only float32 that shares the table's
        memory (a column in several pieces is joined first). Anything else: (N,) objects.

    Raises
    ------
    RecordError
        If the column is not found, or numbers are missing in it.
    """
    if name not in records.column_names:
        raise RecordError(f"records have no column {name!r}, they have {records.column_names}", column=name)
    return as_array(records[name], name)
