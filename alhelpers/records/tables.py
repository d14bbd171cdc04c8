"""Records of any form as one table, and their columns as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers.records.checks import checked
from alhelpers.records.conversion import from_rows, from_values
from alhelpers.records.detections import Boxes
from alhelpers.records.numbers import as_array
from alhelpers.records.queries import loaded
from alhelpers.records.schema import LAYER, RecordError
from alhelpers.records.sources import PATHS, Query, Records


def as_table(records: Records, columns: Sequence[str] | None = None, name: str = "records") -> pa.Table:
    """Turn records of any form into a checked table.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records, the path or glob of their Parquet files, or a query.
    columns : sequence of str, optional
        The columns to take beside ``id``, those of them that there are; the others are neither read nor
        checked. Without it, all, and a column outside the schema is an error.
    name : str
        What to call the records in errors.

    Returns
    -------
    pyarrow.Table
        With float32 vectors of fixed sizes. Where the columns were so already, they are shared and not
        copied.

    Raises
    ------
    RecordError
        If there is no record, an id is missing or comes twice, a number is missing or not finite, or a
        vector's length is not that of the others; the message names the record and the column.
    """
    if isinstance(records, (*PATHS, Query)):
        table = loaded(records, columns, name)
    else:
        table = records if isinstance(records, pa.Table) else from_rows(records, columns, name)
        table = checked(table, columns, name)
    if not table.num_rows:
        raise RecordError(f"{name} hold no record")
    return table


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
        The subset, one for all or one a record.
    class_names : sequence of length C, optional
        The names of the classes, the same for all records.
    class_name, confidence : array_like of shape (N,), optional
        The predicted class and its confidence. Left out, they are taken from ``confidences`` (and
        ``class_names``).
    confidences, logits : numpy.ndarray of shape (N, C), optional
        What the model predicts.
    embeddings : numpy.ndarray of shape (N, D), or dict of them, optional
        One layer, or several by name.
    mc_dropout, query_by_committee : numpy.ndarray of shape (N, T, C) or (N, K, C), optional
        Confidences of the passes or of the members.
    detections : sequence of length N of lists of dict, or Boxes, optional
        The boxes of each record, with those of ``class_name``, ``confidence``, ``confidences``, ``logits``,
        ``left``, ``top``, ``width`` and ``height`` that there are; an empty list where nothing was found.
    groundtruth : sequence of length N, optional
        The true class names, None where there is none.
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
    if confidences is not None:
        best = np.asarray(confidences).argmax(axis=-1) if np.ndim(confidences) == 2 else None
        if confidence is None and best is not None:
            confidence = np.asarray(confidences).max(axis=1)
        if class_name is None and class_names is not None and best is not None:
            class_name = (
                np.asarray(class_names)[best] if np.shape(confidences)[1] == len(class_names) else None
            )
    layers = embeddings if isinstance(embeddings, Mapping) else {"": embeddings}
    given: dict[str, Any] = {
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
    for column, values in given.items():
        if values is not None:
            rows = len(values.offsets) - 1 if isinstance(values, Boxes) else len(values)
            if rows != count:
                raise RecordError(f"{column} has {rows} rows for {count} ids", column=column)
            table[column] = from_values(values, column, ids)
    if class_names is not None:
        table["class_names"] = _repeated(class_names, count)
        _check_class_count(len(class_names), {"confidences": confidences, "logits": logits})
    return as_table(pa.table(table))


def read(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read records from Parquet.

    Parameters
    ----------
    path : str or pathlib.Path
        A file, or a glob of files, which are read in sorted order.
    columns : sequence of str, optional
        The columns to read beside ``id``, those of them that there are; all without it.

    Returns
    -------
    pyarrow.Table
        The records of all files. A text or document that some files lack is null there.

    Raises
    ------
    RecordError
        If no file matches, a file is not Parquet or has no ``id``, the files do not fit together, or the
        records break the schema.
    """
    return as_table(Path(path), columns)


def column(records: pa.Table, name: str) -> np.ndarray:
    """Return one column as an array.

    Parameters
    ----------
    records : pyarrow.Table
        A table of records, as :func:`read`, :func:`as_table` and :func:`from_arrays` give it.
    name : str
        The column.

    Returns
    -------
    numpy.ndarray
        Numbers of shape (N,), vectors (N, D), samples (N, S, C): read-only float32 that shares the table's
        memory (a column in several pieces is put together first). Anything else: (N,) objects.

    Raises
    ------
    RecordError
        If there is no such column, or numbers are missing in it.
    """
    if name not in records.column_names:
        raise RecordError(f"records have no column {name!r}, they have {records.column_names}", column=name)
    return as_array(records[name], name)


def _check_class_count(names: int, arrays: Mapping[str, np.ndarray | None]) -> None:
    for column, values in arrays.items():
        if values is not None and np.shape(values)[-1] != names:
            raise RecordError(
                f"{column} has {np.shape(values)[-1]} classes for {names} class names", column=column
            )


def _repeated(names: Sequence[str], count: int) -> pa.Array:
    """Return the same list of names for each of ``count`` records."""
    values = pa.array([str(name) for name in names]).take(pa.array(np.tile(np.arange(len(names)), count)))
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(len(names)))
    return pa.ListArray.from_arrays(offsets, values)
