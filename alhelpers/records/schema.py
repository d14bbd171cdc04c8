"""The schema of records: columns and their types, the forms of records, and the error for what does not fit."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import pyarrow as pa

from alhelpers import storage

TEXTS = ("split", "class_name", "groundtruth")
VECTORS = ("confidences", "logits", "embeddings")
SAMPLES = ("mc_dropout", "query_by_committee")
DETECTIONS = "detections"
BOX_FIELDS = (
    "class_name",
    "confidence",
    "confidences",
    "logits",
    "embeddings",
    "left",
    "top",
    "width",
    "height",
    "class_certainty",
    "location_certainty",
    "existence_certainty",
    "object_certainty",
    "box_variance",
)
DOCUMENTS = ("tags", "metadata")
#: The prefix of the column of a named layer's embeddings.
LAYER = "embeddings:"

#: The columns of records, but those of named layers.
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

#: What a value of a numeric column is, by its depth.
FORMS = ("a number", "a vector of numbers", "predictions x classes")
_CLASS_NAMES = pa.list_(pa.field("element", pa.string()))
_NUMERIC = {*VECTORS, *SAMPLES, "confidence"} | {f"{DETECTIONS}.{name}" for name in BOX_FIELDS[1:]}

# Unknown columns that a warning names.
_MAX_LISTED = 10

#: The forms in which functions take records.
Records = Union[Sequence[Mapping[str, Any]], pa.Table, str, Path, "Files", "Query"]


@dataclass(frozen=True, eq=False)
class Files:
    """Parquet files of records by path or URL, accepted wherever a path is.

    Where there is one path, and its storage needs no options, the path alone is enough.

    Parameters
    ----------
    paths : str, pathlib.Path, or a sequence of them
        Files, globs, and folders, whose ``.parquet`` files are meant; local ones, or URLs such as
        ``s3://bucket/pool/*.parquet``, which are read through fsspec.
    storage_options : mapping, optional
        What fsspec's file system of the URLs is made with, such as a key, a token or an endpoint. It goes to the
        workers of an engine as part of their tasks, and is never shown. Without it, each worker takes the secrets
        of its own environment.

    Examples
    --------
    >>> Files("s3://bucket/pool/*.parquet", {"key": "me", "secret": "!"})
    Files('s3://bucket/pool/*.parquet')
    """

    paths: str | Path | Sequence[str | Path]
    storage_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for path in self.listed:
            checked_path(path)
        if not isinstance(self.storage_options, Mapping | None):
            raise RecordError(
                f"storage_options must be a dict, got {type(self.storage_options).__name__}, which is not shown"
            )

    @property
    def listed(self) -> list[str | Path]:
        """The paths, also if there is only one."""
        several = isinstance(self.paths, Sequence) and not isinstance(self.paths, str)
        found = list(self.paths) if several else [self.paths]
        if not found:
            raise RecordError("Files needs at least one path")
        return found

    def __str__(self) -> str:
        return ", ".join(storage.shown(os.fspath(path)) for path in self.listed)

    def __repr__(self) -> str:
        return f"Files({str(self)!r})"


#: The types of the paths of Parquet files.
PATHS = (str, Path, Files)


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


def is_known(column: Any) -> bool:
    """Return whether a column is in the schema."""
    return column in COLUMNS or (isinstance(column, str) and column.startswith(LAYER) and column != LAYER)


def wanted_columns(names: Iterable[str], columns: Sequence[str] | None, name: str) -> list[str]:
    """Return ``id`` and the wanted columns of the schema; warn once of unknown ones if all are wanted."""
    unknown = {each: nearest(each, COLUMNS) for each in names if not is_known(each)}
    if unknown and columns is None:
        warn_of_unknown(f"{name} have columns", unknown)
    return [each for each in names if is_known(each) and (columns is None or each in ("id", *columns))]


def warn_of_unknown(what: str, names: Mapping[Any, str]) -> None:
    """Warn of columns or fields outside of the schema, which are not read; each with where it is, or should be."""
    listed = [f"{name!r}{where}" for name, where in names.items()]
    if len(listed) > _MAX_LISTED:
        listed[_MAX_LISTED:] = [f"and {len(listed) - _MAX_LISTED} more"]
    warnings.warn(
        f"{what} that the schema does not know, and they are left out: {', '.join(listed)}; put under metadata what "
        "is to be kept",
        stacklevel=2,
    )


def checked_path(path: Any) -> str:
    """Return the path or URL of files as text; raise for anything else."""
    if not isinstance(path, str | Path):
        raise RecordError(
            f"a path must be text or a pathlib.Path, got {type(path).__name__}; it comes first, the records second"
        )
    text = os.fspath(path)
    if storage.names_storage(text) and not storage.is_url(text):
        raise RecordError(
            f"{text!r} is a URL without its second slash: write it as text, not as a pathlib.Path"
        )
    return text


def local_path(path: Any) -> str:
    """Return the path of a local file or glob as text; raise for anything else."""
    if isinstance(path, Files):
        raise RecordError(f"{path}: local files only, by their path")
    text = os.fspath(path) if isinstance(path, Path) else path
    if isinstance(text, str) and storage.names_storage(text):
        raise RecordError(
            f"{storage.shown(text)!r}: local files only; copy it to a local folder, or mount its storage as one"
        )
    return checked_path(path)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the known name most like an unknown one, or an empty text."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def kept_type(column: str, found: pa.DataType, name: str) -> pa.DataType:
    """Return the type that a column of some type is kept in; raise if it does not hold what the column must hold."""
    levels, inner = _inner(found)
    null = pa.types.is_null(inner)
    if column == "id":
        what = "strings or whole numbers"
        fits = not levels and (is_text(inner) or pa.types.is_integer(inner))
        kind = pa.int64() if pa.types.is_integer(inner) else pa.string()
    elif is_numeric(column):
        what = f"{FORMS[depth(column)]} in each record"
        fits = (null or (levels == depth(column) and _is_number(inner))) and 0 not in sizes_of(found)
        kind = fixed_type(sizes_of(found)) if has_sizes(column, found) else found
    elif column == DETECTIONS:
        what = "a list of boxes in each record"
        fits = null or (levels == 1 and pa.types.is_struct(inner))
        fields = box_fields(found)
        check_box_fields(field.name for field in fields)
        kind = boxes_type({each.name: kept_type(f"{column}.{each.name}", each.type, name) for each in fields})
    elif column in DOCUMENTS:
        what, kind = "dicts with at least one key", found
        fits = not levels and (null or (pa.types.is_struct(inner) and inner.num_fields > 0))
    elif column == "class_names":
        what, kind = "lists of texts (convert other labels with str)", _CLASS_NAMES
        fits = null or (levels == 1 and is_text(inner))
    else:
        what, kind = "text (convert other labels with str)", pa.string()
        fits = not levels and (null or is_text(inner))
    if not fits:
        what = f"ids of {name} must be {what}" if column == "id" else f"{column} must be {what}"
        raise RecordError(f"{what}, got {found}", column=column)
    return kind


def _inner(kind: pa.DataType) -> tuple[int, pa.DataType]:
    """Return how many lists a type nests, and the type inside them."""
    levels = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, levels = kind.value_type, levels + 1
    return levels, kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def check_box_fields(names: Iterable[str], where: str = "", id: Any = None) -> None:
    """Raise if boxes have an unknown field."""
    unknown = next((name for name in names if name not in BOX_FIELDS), None)
    if unknown is not None:
        raise RecordError(
            f"{where}a box has no field {unknown!r}{nearest(unknown, BOX_FIELDS)}; its fields are: "
            f"{', '.join(BOX_FIELDS)}",
            id,
            f"{DETECTIONS}.{unknown}",
        )


def boxes_type(kinds: Mapping[str, pa.DataType]) -> pa.DataType:
    """Return the type of detections whose boxes have some fields, and always a class name."""
    kinds = {**kinds, "class_name": pa.string()}
    return pa.list_(
        pa.field("element", pa.struct([(name, kinds[name]) for name in BOX_FIELDS if name in kinds]))
    )


def box_fields(kind: pa.DataType) -> list[pa.Field]:
    """Return the fields of the boxes in a column of some type; empty if the type has no boxes."""
    inner = getattr(kind, "value_type", None)
    return list(inner) if inner is not None and pa.types.is_struct(inner) else []


def fixed_type(sizes: Sequence[int]) -> pa.DataType:
    """Return the type of float32 numbers in nested lists of fixed sizes, the outermost size first."""
    kind = pa.float32()
    for size in reversed(sizes):
        kind = pa.list_(kind, size)
    return kind


def sizes_of(kind: pa.DataType) -> tuple[int, ...]:
    """Return the sizes of nested lists of fixed sizes, the outermost first; empty for other types."""
    sizes = []
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return tuple(sizes)


def has_sizes(column: str, kind: pa.DataType) -> bool:
    """Return whether a type fixes the sizes of a numeric column's vectors."""
    return len(sizes_of(kind)) == depth(column)
