"""Validation and description of all records of a source, a part at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import scores
from alhelpers.records.detections import boxes, check_boxes
from alhelpers.records.filters import field_paths
from alhelpers.records.ids import naming_record, one_piece
from alhelpers.records.layout import check_class_names
from alhelpers.records.partition import parts, tables_of
from alhelpers.records.schema import DETECTIONS, SAMPLES, Records, sizes_of
from alhelpers.records.values import as_array

# Texts with more different values are not counted: they name single records rather than kinds of them.
_MAX_TEXTS = 10_000
_TOP = 5


Task = Literal["classification", "multilabel", "detection", "regression"]


def validate(records: Records, *, task: Task = "classification") -> int:
    """Check everything that the schema and the strategies require of records.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records. They are read a part at a time.
    task : {"classification", "multilabel", "detection", "regression"}
        What the confidences and samples are: of one class, whose sum is 1; of several labels, each from 0 to 1; of
        boxes whose classes have a confidence each, from 0 to 1; or, of samples, numbers.

    Returns
    -------
    int
        The number of records.

    Raises
    ------
    RecordError
        The first error found: any of :func:`alhelpers.records.read`, an id that comes twice, confidences
        or samples that are not those of the task, certainties of boxes that are not from 0 to 1, boxes of no area, or a
        number of class names that is not that of the confidences. It names the record and the column.
    """
    if task not in get_args(Task):
        raise ValueError(f"task is {task!r}: it must be one of {', '.join(get_args(Task))}")
    total = 0
    for table in tables_of(parts(records)):
        if table.num_rows:
            _check_confidences(table, task)
            check_class_names(table)
        total += table.num_rows
    return total


def _check_confidences(table: pa.Table, task: str) -> None:
    """Raise if confidences are not between 0 and 1, or those of one class a record do not sum to 1."""
    of_records: list[tuple[str, pa.ChunkedArray, np.ndarray]] = []
    for column in ("confidence", "confidences", *SAMPLES):
        if column in table.column_names:
            values = as_array(table[column], column)
            if task == "regression" and column in SAMPLES:
                continue  # any numbers, which are finite where they can be read
            of_each_pass = values.swapaxes(0, 1) if values.ndim == 3 else [values]
            if task == "multilabel" and column != "confidence":
                of_each_pass = [label for each in of_each_pass for label in each.T]
            of_records += [(column, table["id"], confidences) for confidences in of_each_pass]
    if DETECTIONS in table.column_names:
        found = boxes(table)
        check_boxes(found, table["id"])
        owners = table["id"].take(pa.array(np.repeat(np.arange(table.num_rows), np.diff(found.offsets))))
        of_boxes = [("confidence", found.confidence), ("confidences", found.confidences)]
        if task == "detection" and found.confidences is not None:
            of_boxes = [
                ("confidence", found.confidence),
                *(("confidences", each) for each in found.confidences.T),
            ]
        of_records += [(f"{DETECTIONS}.{field}", owners, values) for field, values in of_boxes if len(found)]
    for column, ids, confidences in of_records:
        if confidences is None:
            continue
        if confidences.ndim == 1:  # that of one class against all others
            confidences = np.stack([confidences, np.maximum(1 - confidences, 0)], axis=1)
        with naming_record(ids, f"{column} are not valid", column):
            scores.least_confidence(confidences)


def describe(records: Records) -> list[dict[str, Any]]:
    """Describe what each column of records holds.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records. They are read and checked a part at a time.

    Returns
    -------
    list of dict
        A row for each column, each part of a document and each field of the boxes, which
        ``pandas.DataFrame`` accepts: ``column``; ``type``; ``shape`` of a record's value; ``present``, the
        share of records, or of boxes, that have it; ``min`` and ``max`` of numbers and times, and ``mean`` of
        numbers, over all entries of vectors but NaN; ``top``, the most frequent texts with their counts, if
        there are at most ten thousand different texts.

    Raises
    ------
    RecordError
        If the records break the schema, or there are none.

    Examples
    --------
    >>> describe([{"id": 1, "confidence": 0.5}])[1]["mean"]
    0.5
    """
    found: dict[tuple[str, ...], _Summary] = {}
    for table in tables_of(parts(records)):
        for path, values in _columns(table):
            found.setdefault(path, _Summary(".".join(path))).add(values)
    return [summary.row() for summary in found.values()]


def _columns(table: pa.Table) -> Iterator[tuple[tuple[str, ...], pa.Array]]:
    """Yield the path and the values of each column, part of a document and field of the boxes."""
    for kind in table.schema:
        whole = one_piece(table[kind.name])
        if kind.name == DETECTIONS:
            flat = whole.flatten()
            yield (kind.name,), pc.list_value_length(whole)
            yield from (((kind.name, field.name), flat.field(field.name)) for field in flat.type)
        elif pa.types.is_struct(kind.type):
            yield from ((path, pc.struct_field(whole, path[1:])) for path in field_paths(kind))
        else:
            yield (kind.name,), whole


class _Summary:
    """Running totals of one column."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.kind, self.shape = pa.null(), ()
        self.rows = self.present = self.entries = 0
        self.ends: list[Any] = []
        self.total = 0.0
        self.texts: Counter[Any] | None = Counter()

    def add(self, values: pa.Array) -> None:
        """Add the values of a part."""
        self.shape = sizes_of(values.type)
        self.rows += len(values)
        self.present += len(values) - values.null_count
        for _ in self.shape:
            values = values.flatten()
        self.kind = kind = values.type
        if self.column == "id":
            return
        values = values.drop_null()
        if pa.types.is_floating(kind):
            values = values.filter(pc.invert(pc.is_nan(values)))
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if len(values) and (number or pa.types.is_temporal(kind)):
            self.ends += pc.min_max(values).as_py().values()
        if number:
            self.total += float(values.to_numpy().sum(dtype=np.float64))
            self.entries += len(values)
        elif self.texts is not None and (pa.types.is_string(kind) or pa.types.is_boolean(kind)):
            for count in pc.value_counts(values):
                self.texts[count["values"].as_py()] += count["counts"].as_py()
            if len(self.texts) > _MAX_TEXTS:
                self.texts = None

    def row(self) -> dict[str, Any]:
        """Return the row of the description."""
        top = sorted((self.texts or {}).items(), key=lambda pair: (-pair[1], str(pair[0])))[:_TOP]
        return {
            "column": self.column,
            "type": "boxes" if self.column == DETECTIONS else str(self.kind),
            "shape": self.shape,
            "present": self.present / self.rows if self.rows else 0.0,
            "min": min(self.ends, default=None),
            "max": max(self.ends, default=None),
            "mean": self.total / self.entries if self.entries else None,
            "top": dict(top) or None,
        }
