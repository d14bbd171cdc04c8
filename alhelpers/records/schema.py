"""The schema of records: their columns, what each holds, and the error that names what does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

TEXTS = ("split", "class_name", "groundtruth")
VECTORS = ("confidences", "logits", "embeddings")
SAMPLES = ("mc_dropout", "query_by_committee")
DETECTIONS = "detections"
BOX_FIELDS = ("class_name", "confidence", "confidences", "logits", "left", "top", "width", "height")
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
    DETECTIONS,
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
    """Return how many dimensions a value has in a numeric column, or in a box as ``detections.<field>``."""
    if column in SAMPLES:
        return 2
    return int(column.removeprefix(f"{DETECTIONS}.") in VECTORS or column.startswith(LAYER))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to put behind an unknown name: a question for the known one that is most like it, if any is."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
