"""The schema of records, the forms that records come in, and the error that names what does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import pyarrow as pa

TEXTS = ("split", "class_name", "groundtruth")
VECTORS = ("confidences", "logits", "embeddings")
SAMPLES = ("mc_dropout", "query_by_committee")
DETECTIONS = "detections"
BOX_FIELDS = ("class_name", "confidence", "confidences", "logits", "left", "top", "width", "height")
DOCUMENTS = ("tags", "metadata")
#: The prefix of the column of a named layer's embeddings.
LAYER = "embeddings:"

COLUMNS = (
    "id",
    "split",
    "class_names",
    "class_name",
    "confidence",
    *VECTORS,
    *SAMPLES,
    DETECTIONS,
    "groundtruth",
    *DOCUMENTS,
)

_NUMERIC = {*VECTORS, *SAMPLES, "confidence"} | {f"{DETECTIONS}.{name}" for name in BOX_FIELDS[1:]}

#: The types of a path of Parquet files.
PATHS = (str, Path)

Records = Union[Sequence[Mapping[str, Any]], pa.Table, str, Path, "Query"]


@dataclass(frozen=True, eq=False)
class Query:
    """A selection of records that is made when they are read; a source of records like any other.

    Create one with :func:`alhelpers.records.query`, which checks it.

    Parameters
    ----------
    source : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records to select from.
    filters : tuple of dict
        Conditions, all of which must hold.
    limit : int, optional
        The maximum number of records.
    order_by : str, optional
        The field that decides which records come first.
    desc : bool
        Whether the largest values come first.
    """

    source: Records
    filters: tuple[Mapping[str, Any], ...] = ()
    limit: int | None = None
    order_by: str | None = None
    desc: bool = False


class RecordError(ValueError):
    """Raised for records that break the schema, and for filters that do not fit them.

    Parameters
    ----------
    message : str
        What is wrong, with the record, the column, and the way out.
    record : str or int, optional
        The id of the first record that is wrong, if it is one record.
    column : str, optional
        The column that is wrong, if it is one column.
    """

    def __init__(self, message: str, record: str | int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.record = record
        self.column = column


def is_numeric(column: str) -> bool:
    """Return whether a column, or a field of boxes as ``detections.<field>``, holds numbers, vectors or samples."""
    return column in _NUMERIC or column.startswith(LAYER)


def depth(column: str) -> int:
    """Return the number of dimensions of a value in a numeric column or field of boxes."""
    if column in SAMPLES:
        return 2
    return int(column.removeprefix(f"{DETECTIONS}.") in VECTORS or column.startswith(LAYER))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the known name most like an unknown one, or an empty text."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
