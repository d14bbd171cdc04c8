"""Checking all records of a source, and telling what is in them, a part at a time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import scores
from alhelpers.records.detections import boxes
from alhelpers.records.filters import field_values, names_of
from alhelpers.records.ids import check_distinct, one_piece
from alhelpers.records.numbers import as_array, sizes_of
from alhelpers.records.partition import parts
from alhelpers.records.schema import DETECTIONS, SAMPLES, RecordError
from alhelpers.records.sources import Records

# Texts that differ more are not counted: they are names of records rather than kinds of them.
_MOST_TEXTS = 10_000
_TOP = 5


def validate(records: Records) -> int:
    """Check everything that the schema says of records, and what strategies ask of them.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records. They are read a part at a time.

    Returns
    -------
    int
        How many there are.

    Raises
    ------
    RecordError
        Of the first that is wrong: what :func:`alhelpers.records.read` raises, an id that comes twice in all,
        confidences that are no distribution, a number of class names that is not that of the confidences. It
        names the record and the column.
    """
    ids = []
    for part in parts(records):
        table = part.load(distinct=False)
        ids.append(table["id"])
        if table.num_rows:
            _check_distributions(table)
            _check_class_names(table)
    check_distinct(ids)
    total = sum(map(len, ids))
    if not total:
        raise RecordError("records hold no record")
    return total


def _check_distributions(table: pa.Table) -> None:
    """Raise unless confidences are from 0 to 1 and sum to 1."""
    ids = one_piece(table["id"])
    for column in ("confidences", *SAMPLES):
        if column in table.column_names:
            values = as_array(table[column], column)
            flat = values.reshape(-1, values.shape[-1])
            _check_rows(flat, column, ids, np.arange(len(flat)) // (len(flat) // len(values)))
    if DETECTIONS in table.column_names:
        found = boxes(table)
        if found.confidences is not None and len(found):
            owners = np.repeat(np.arange(table.num_rows), np.diff(found.offsets))
            _check_rows(found.confidences, f"{DETECTIONS}.confidences", ids, owners)


def _check_rows(confidences: np.ndarray, column: str, ids: pa.Array, owners: np.ndarray) -> None:
    try:
        scores.least_confidence(confidences)
    except scores.ScoreError as error:
        if error.row is None:
            raise RecordError(f"{column} are at fault: {error}", column=column) from error
        id = ids[int(owners[error.row])].as_py()
        raise RecordError(f"record {id!r}: {column} are at fault: {error}", id, column) from error


def _check_class_names(table: pa.Table) -> None:
    """Raise unless there is a class name for each confidence."""
    if "class_names" not in table.column_names:
        return
    names = table["class_names"]
    counts = pc.list_value_length(names).to_numpy()
    for column in ("confidences", "logits"):
        if column in table.column_names:
            classes = sizes_of(table.schema.field(column).type)[0]
            wrong = np.flatnonzero((counts != classes) & names.is_valid().to_numpy())
            if len(wrong):
                id = table["id"][int(wrong[0])].as_py()
                raise RecordError(
                    f"record {id!r}: {column} has {classes} classes for {counts[wrong[0]]:.0f} class names",
                    id,
                    column,
                )


def describe(records: Records) -> list[dict[str, Any]]:
    """Tell what is in each column of records.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records. They are read and checked a part at a time.

    Returns
    -------
    list of dict
        A row for each column, each part of a document and each field of the boxes, as a table such as
        ``pandas.DataFrame`` takes it: ``column``; ``type``; ``shape`` of a record's value; ``present``, the
        share of records, or of boxes, that have it; ``min``, ``max`` and ``mean`` of numbers, over all entries
        of vectors; ``top``, the most frequent texts and how often each comes, of texts that differ in up to
        ten thousand ways.

    Raises
    ------
    RecordError
        If the records break the schema.

    Examples
    --------
    >>> describe([{"id": 1, "confidence": 0.5}])[1]["mean"]
    0.5
    """
    found: dict[str, _Summary] = {}
    ids = []
    for part in parts(records):
        table = part.load(distinct=False)
        ids.append(table["id"])
        for name, values in _columns(table):
            found.setdefault(name, _Summary(name)).add(values)
    check_distinct(ids)
    return [summary.row() for summary in found.values()]


def _columns(table: pa.Table) -> list[tuple[str, pa.Array]]:
    """Return all that is summed up, by name."""
    found = []
    for kind in table.schema:
        whole = one_piece(table[kind.name])
        if kind.name == DETECTIONS:
            flat = whole.flatten()
            found.append((kind.name, pc.list_value_length(whole)))
            found += [(f"{DETECTIONS}.{field.name}", flat.field(field.name)) for field in flat.type]
        elif pa.types.is_struct(kind.type):
            found += [(name, one_piece(field_values(table, name))) for name in names_of(kind)]
        else:
            found.append((kind.name, whole))
    return found


class _Summary:
    """What is known of a column so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind, self.shape = "", ()
        self.rows = self.there = self.entries = 0
        self.least = self.most = None
        self.total = 0.0
        self.texts: Counter[Any] | None = Counter()

    def add(self, values: pa.Array) -> None:
        """Take in a part of the column."""
        self.shape = sizes_of(values.type)
        self.rows += len(values)
        self.there += len(values) - values.null_count
        while self.shape and pa.types.is_fixed_size_list(values.type):
            values = values.flatten()
        self.kind = "boxes" if self.name == DETECTIONS else str(values.type)
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            self._add_numbers(values.drop_null())
        elif pa.types.is_string(values.type) or pa.types.is_boolean(values.type):
            self._add_texts(values.drop_null())

    def _add_numbers(self, values: pa.Array) -> None:
        if not len(values) or self.name == "id":
            return
        numbers = values.to_numpy(zero_copy_only=False)
        least, most = numbers.min().item(), numbers.max().item()
        self.least = least if self.least is None else min(self.least, least)
        self.most = most if self.most is None else max(self.most, most)
        self.total += float(numbers.sum(dtype=np.float64))
        self.entries += len(numbers)

    def _add_texts(self, values: pa.Array) -> None:
        if self.texts is None or self.name == "id":
            return
        for count in pc.value_counts(values):
            self.texts[count["values"].as_py()] += count["counts"].as_py()
        if len(self.texts) > _MOST_TEXTS:
            self.texts = None

    def row(self) -> dict[str, Any]:
        """Return the row of the table."""
        top = sorted((self.texts or {}).items(), key=lambda pair: (-pair[1], str(pair[0])))[:_TOP]
        return {
            "column": self.name,
            "type": self.kind,
            "shape": self.shape,
            "present": self.there / self.rows if self.rows else 0.0,
            "min": self.least,
            "max": self.most,
            "mean": self.total / self.entries if self.entries else None,
            "top": dict(top) or None,
        }
