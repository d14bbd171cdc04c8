"""The schema of records: their columns, what each holds, and the error that names what does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

TEXTS = ("split", "class_name", "groundtruth")
VECTORS = ("confidences", "logits", "embeddings")
SAMPLES = ("mc_dropout", "query_by_committee")
DOCUMENTS = ("tags", "metadata")
#: What the column of a named layer's embeddings begins with.
LAYER = "embeddings:"

COLUMNS = (
    "id",
    "split",
    "class_names",
    "class_name",
    "confidence",
    *VECTORS,
    *SAMPLES,
    "groundtruth",
    *DOCUMENTS,
)


class RecordError(ValueError):
    """Records that break the schema, or a filter that does not fit them.

    Parameters
    ----------
    message : str
        What is wrong, with the record, the column, and the way out.
    record : str or int, optional
        The id of the first record at fault, where one record is.
    column : str, optional
        The column at fault, where one is.
    """

    def __init__(self, message: str, record: str | int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.record = record
        self.column = column


def is_numeric(column: str) -> bool:
    """Tell whether a column holds numbers, vectors or samples."""
    return column in (*VECTORS, *SAMPLES, "confidence") or column.startswith(LAYER)


def depth(column: str) -> int:
    """Return how many dimensions a record's value has in a numeric column."""
    return 0 if column == "confidence" else 2 if column in SAMPLES else 1


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the ending of a message about an unknown name: the one most like it, if there is any."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
