"""Records: one prediction a row, with its fields in columns; reading, writing and selecting them.

The columns are ``id``, ``split``, ``class_names``, ``class_name``, ``confidence``, ``confidences``,
``logits``, ``embeddings`` (the default layer) and ``embeddings:<layer>``, ``mc_dropout``,
``query_by_committee``, ``detections``, ``groundtruth``, ``tags`` and ``metadata``; all but ``id`` are
optional. Vectors are lists of one fixed size, so that a column of a file becomes a numpy array without a copy
of each row. ``detections`` are a list of boxes for each record, with the fields of :class:`Boxes`, into which
:func:`boxes` converts them.

Records are a list of dicts, a table, Parquet files by path, glob, folder or URL (with secrets, or several:
:class:`Files`), or a :func:`query` on any of these.
Records that do not fit into memory are cut by :func:`parts` into parts that are read one by one.

A column that the schema does not know is left out when records of any form are read, JSON lines among them, with
one warning that names it. Writing records with such a column is an error, as it would be lost.
"""

from alhelpers.records.detections import Boxes, boxes
from alhelpers.records.filters import OPERATORS, field_values
from alhelpers.records.ids import check_distinct, id_hashes
from alhelpers.records.json_lines import convert, from_json_lines, to_json_lines
from alhelpers.records.partition import PART_ROWS, RecordPart, count, field_names, parts
from alhelpers.records.schema import COLUMNS, PATHS, Files, Query, RecordError, Records
from alhelpers.records.summary import describe, validate
from alhelpers.records.tables import as_table, column, from_arrays, query, read, select
from alhelpers.records.writing import append, write

__all__ = [
    "COLUMNS",
    "Boxes",
    "Files",
    "OPERATORS",
    "PART_ROWS",
    "PATHS",
    "Query",
    "RecordError",
    "RecordPart",
    "Records",
    "append",
    "as_table",
    "boxes",
    "check_distinct",
    "column",
    "convert",
    "count",
    "describe",
    "field_names",
    "field_values",
    "from_arrays",
    "from_json_lines",
    "id_hashes",
    "parts",
    "query",
    "read",
    "select",
    "to_json_lines",
    "validate",
    "write",
]
