"""Records: one prediction a row, with its fields in columns; Parquet in and out, and selection filters.

The columns are ``id``, ``split``, ``class_names``, ``class_name``, ``confidence``, ``confidences``,
``logits``, ``embeddings`` (the default layer) and ``embeddings:<layer>``, ``mc_dropout``,
``query_by_committee``, ``groundtruth``, ``tags`` and ``metadata``; all but ``id`` are optional. Vectors are
lists of one fixed size, so that a column of a file becomes a numpy array without a copy of each row.
"""

from __future__ import annotations

import glob
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# What a path of Parquet files may be.
PATHS = (str, Path)

Records = Sequence[Mapping[str, Any]] | pa.Table | str | Path

_TEXTS = ("split", "class_name", "groundtruth")
_VECTORS = ("confidences", "logits", "embeddings")
_SAMPLES = ("mc_dropout", "query_by_committee")
_DOCUMENTS = ("tags", "metadata")
_LAYER = "embeddings:"

COLUMNS = (
    "id",
    "split",
    "class_names",
    "class_name",
    "confidence",
    *_VECTORS,
    *_SAMPLES,
    "groundtruth",
    *_DOCUMENTS,
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


# ------------------------------------------------------------------------------
# tables
# ------------------------------------------------------------------------------


def as_table(records: Records, columns: Sequence[str] | None = None, name: str = "records") -> pa.Table:
    """Turn records of any form into a checked table.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str or pathlib.Path
        The records, or the path or glob of their Parquet files.
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
    if isinstance(records, PATHS):
        table = read(records, columns)
    elif isinstance(records, pa.Table):
        table = records
    else:
        table = _columns_of(records, columns, name)
    if "id" not in table.column_names:
        raise RecordError(f"{name} have no column 'id', they have {table.column_names}", column="id")
    if not table.num_rows:
        raise RecordError(f"{name} hold no record")
    wanted = [c for c in table.column_names if columns is None or c == "id" or c in columns]
    ids = _checked_ids(table["id"], name)
    checked = {
        column: ids if column == "id" else _checked(table[column], column, ids, name) for column in wanted
    }
    return pa.table(checked)


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
        **{f"{_LAYER}{layer}" if layer else "embeddings": values for layer, values in layers.items()},
        "mc_dropout": mc_dropout,
        "query_by_committee": query_by_committee,
        "groundtruth": groundtruth,
        "tags": tags,
        "metadata": metadata,
    }
    table = {}
    for column, values in given.items():
        if values is not None:
            if len(values) != count:
                raise RecordError(f"{column} has {len(values)} rows for {count} ids", column=column)
            table[column] = _from_values(values, column, ids)
    if class_names is not None:
        table["class_names"] = _repeated(class_names, count)
        _check_class_count(len(class_names), {"confidences": confidences, "logits": logits})
    return as_table(pa.table(table))


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
    whole = _one_piece(records[name])
    shape = [len(whole)]
    while pa.types.is_fixed_size_list(whole.type):
        if whole.null_count:
            raise RecordError(f"{name} is missing in {whole.null_count} records", column=name)
        shape.append(whole.type.list_size)
        whole = whole.flatten()
    if not pa.types.is_floating(whole.type):
        return (
            np.array(whole.to_pylist(), dtype=object) if len(shape) == 1 else whole.to_numpy().reshape(shape)
        )
    if whole.null_count:
        raise RecordError(f"{name} is missing in {whole.null_count} records", column=name)
    return whole.to_numpy(zero_copy_only=True).reshape(shape)


# ------------------------------------------------------------------------------
# Parquet
# ------------------------------------------------------------------------------


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
        The records of all files. A column that some files lack is null there.

    Raises
    ------
    RecordError
        If no file matches, a file is not Parquet or has no ``id``, or the files' columns do not fit together.
    """
    tables = [_read_file(file, columns) for file in _files(path)]
    if len(tables) == 1:
        return tables[0]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise RecordError(f"the files of {path} do not fit together: {error}") from error
    for part in tables:
        for field in part.schema:
            # vectors of several sizes were made lists of any size
            if pa.types.is_fixed_size_list(field.type) and table.schema.field(field.name).type != field.type:
                raise RecordError(
                    f"the files of {path} do not fit together: {field.name} has {field.type.list_size} entries "
                    "in some of them and not in others",
                    column=field.name,
                )
    return table


def write(path: str | Path, table: Records) -> None:
    """Check records and write them to one Parquet file.

    The file is written beside its place and then moved there, so an interrupted write leaves the old file
    whole.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; its folder is made if missing.
    table : list of dict, pyarrow.Table, str or pathlib.Path
        The records.

    Raises
    ------
    RecordError
        If the records break the schema; nothing is written then.
    """
    checked = as_table(table)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # float bytes that lie together by significance compress well; a dictionary of floats would not
    floats = [leaf for field in checked.schema for leaf in _float_leaves(field)]
    texts = [name for name in ("split", "class_name", "groundtruth") if name in checked.column_names]
    texts += ["class_names.list.element"] if "class_names" in checked.column_names else []
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            pq.write_table(
                checked, file, compression="zstd", use_dictionary=texts, use_byte_stream_split=floats or False
            )
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise


def _files(path: str | Path) -> list[str]:
    """Return the files that a path or glob names."""
    text = os.fspath(path)
    found = (
        [text] if os.path.isfile(text) else sorted(filter(os.path.isfile, glob.glob(text, recursive=True)))
    )
    if not found:
        hint = (
            "it is a folder; name its files, as in folder/*.parquet"
            if os.path.isdir(text)
            else "no file matches"
        )
        raise RecordError(f"cannot read records from {text!r}: {hint}")
    return found


def _read_file(file: str, columns: Sequence[str] | None) -> pa.Table:
    """Read one file."""
    try:
        with pq.ParquetFile(file) as parquet:
            there = parquet.schema_arrow.names
            wanted = [name for name in there if columns is None or name == "id" or name in columns]
            # Parquet matches names by their beginning, up to a dot: take from what it gives what was asked for
            table = parquet.read(columns=wanted).select(wanted)
    except pa.ArrowException as error:
        raise RecordError(f"{file} is not a Parquet file of records: {error}") from error
    if "id" not in there:
        raise RecordError(f"{file} has no column 'id', it has {there}", column="id")
    return table


def _float_leaves(field: pa.Field) -> list[str]:
    """Return the Parquet paths of a column of floats; none for other columns."""
    path, kind = field.name, field.type
    while pa.types.is_fixed_size_list(kind):
        path, kind = f"{path}.list.element", kind.value_type
    return [path] if pa.types.is_floating(kind) else []


def _umask() -> int:
    """Return the mask of new files' modes, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ------------------------------------------------------------------------------
# checks
# ------------------------------------------------------------------------------


def _columns_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None, name: str) -> pa.Table:
    """Turn a list of dicts into a table."""
    if not isinstance(rows, Sequence) or isinstance(rows, bytes):
        raise RecordError(
            f"{name} must be a list of dicts, a pyarrow.Table, or a path of Parquet files, got "
            f"{type(rows).__name__}"
        )
    if not rows:
        raise RecordError(f"{name} hold no record")
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping) or row.get("id") is None:
            raise RecordError(
                f"record {place} of {name} must be a dict with an 'id', got {row!r:.80}", column="id"
            )
    ids = [row["id"] for row in rows]
    there = dict.fromkeys(key for row in rows for key in row)
    table = {}
    for key in there:
        if columns is None or key == "id" or key in columns:
            table[key] = _from_values([row.get(key) for row in rows], key, ids)
    return pa.table(table)


def _from_values(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Turn the values of one column into an arrow array."""
    if column in (*_VECTORS, *_SAMPLES, "confidence") or column.startswith(_LAYER):
        return _from_numbers(values, column, ids)
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if column in _DOCUMENTS:
        plain = [_pruned(value) for value in plain]
    elif column == "class_names":
        plain = [value.tolist() if isinstance(value, np.ndarray) else value for value in plain]
    plain = [value.item() if isinstance(value, np.generic) else value for value in plain]
    try:
        return pa.array(plain)
    except pa.ArrowException as error:
        raise RecordError(f"{column} has values of several kinds: {error}", column=column) from error


def _from_numbers(values: Any, column: str, ids: Sequence[Any]) -> pa.Array:
    """Turn numbers, vectors or samples into an arrow array of fixed size, naming the record that does not fit."""
    depth = _depth(column)
    if not isinstance(values, np.ndarray):
        pairs = list(zip(values, ids, strict=True))
        shapes = [None if value is None else _array(value, column, id).shape for value, id in pairs]
        for shape, id in zip(shapes, ids, strict=True):
            if shape is None:
                raise RecordError(f"record {id!r} has no {column}, other records have", id, column)
            if shape != shapes[0]:
                raise RecordError(
                    f"record {id!r}: {column} has shape {shape}, record {ids[0]!r} has {shapes[0]}",
                    id,
                    column,
                )
    numbers = np.ascontiguousarray(values, dtype=np.float32)
    if numbers.ndim != depth + 1 or 0 in numbers.shape[1:]:
        form = ("a number", "a vector of numbers", "predictions x classes")[depth]
        raise RecordError(
            f"{column} must be {form} in each record, got shape {numbers.shape[1:]}", column=column
        )
    array = pa.array(numbers.ravel())
    for size in reversed(numbers.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _array(value: Any, column: str, id: Any) -> np.ndarray:
    """Return one record's numbers as an array."""
    try:
        return np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise RecordError(
            f"record {id!r}: {column} must be numbers, rows of one length, got {value!r:.80}", id, column
        ) from None


def _depth(column: str) -> int:
    """Return how many dimensions a record's value has."""
    return 0 if column == "confidence" else 2 if column in _SAMPLES else 1


def _pruned(value: Any) -> Any:
    """Leave empty dicts out of a document: Parquet has no place for them."""
    if not isinstance(value, Mapping):
        return value
    kept = {key: _pruned(part) for key, part in value.items()}
    return {key: part for key, part in kept.items() if not (part is None and value[key] is not None)} or None


def _checked_ids(ids: pa.ChunkedArray, name: str) -> pa.Array:
    """Return ids in one piece, if each is there, once."""
    whole = _one_piece(ids)
    if pa.types.is_large_string(whole.type):
        whole = whole.cast(pa.string())
    if not (pa.types.is_string(whole.type) or pa.types.is_integer(whole.type)):
        raise RecordError(f"ids of {name} must be strings or whole numbers, got {whole.type}", column="id")
    if whole.null_count:
        place = int(np.flatnonzero(whole.is_null().to_numpy(zero_copy_only=False))[0])
        raise RecordError(f"record {place} of {name} has no id", column="id")
    if pc.count_distinct(whole).as_py() != len(whole):
        counts = pc.value_counts(whole)
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0].as_py()
        raise RecordError(f"id {twice!r} comes more than once in {name}; ids must differ", twice, "id")
    return whole


def _checked(values: pa.ChunkedArray, column: str, ids: pa.Array, name: str) -> pa.Array | pa.ChunkedArray:
    """Return a column in the type that the schema gives it."""
    if column in (*_VECTORS, *_SAMPLES, "confidence") or column.startswith(_LAYER):
        return _checked_numbers(_one_piece(values), column, ids)
    if column in _TEXTS:
        return _cast(values, pa.string(), column)
    if column == "class_names":
        return _cast(values, pa.list_(pa.field("element", pa.string())), column)
    if column in _DOCUMENTS:
        if pa.types.is_struct(values.type) and values.type.num_fields or pa.types.is_null(values.type):
            return values
        raise RecordError(f"{column} must be dicts with at least one key, got {values.type}", column=column)
    raise RecordError(
        f"column {column!r} is not in the schema of {name}: {', '.join(COLUMNS)}, embeddings:<layer>; "
        "put what else there is under metadata",
        column=column,
    )


def _cast(values: pa.ChunkedArray, kind: pa.DataType, column: str) -> pa.ChunkedArray:
    """Return text as text; a number is not one."""
    plain = values.type.value_type if pa.types.is_list(values.type) else values.type
    if pa.types.is_dictionary(plain):
        plain = plain.value_type
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_null(plain)):
        raise RecordError(f"{column} must be text, got {values.type}", column=column)
    return values if values.type == kind else values.cast(kind)


def _checked_numbers(values: pa.Array, column: str, ids: pa.Array) -> pa.Array:
    """Return a column of finite float32 numbers in lists of fixed sizes."""
    sizes: list[int] = []
    for _ in range(_depth(column)):
        _check_present(values, column, ids)
        values, size = _flattened(values, column, ids)
        sizes.append(size)
    _check_present(values, column, ids)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise RecordError(f"{column} must hold numbers, got {values.type}", column=column)
    flat = values if values.type == pa.float32() else values.cast(pa.float32(), safe=False)
    numbers = flat.to_numpy(zero_copy_only=True)
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0]) // math.prod(sizes)
        id = ids[place].as_py()
        raise RecordError(
            f"record {id!r}: {column} holds NaN or infinity; leave it out or predict it again", id, column
        )
    for size in reversed(sizes):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _flattened(values: pa.Array, column: str, ids: pa.Array) -> tuple[pa.Array, int]:
    """Take one level of lists off, all of one length; returns what is inside, and the length."""
    if not pa.types.is_fixed_size_list(values.type):
        if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
            form = "predictions x classes" if _depth(column) == 2 else "a vector of numbers"
            raise RecordError(f"{column} must be {form} in each record, got {values.type}", column=column)
        lengths = values.value_lengths().to_numpy()
        if (lengths != lengths[0]).any():
            place = int(np.flatnonzero(lengths != lengths[0])[0])
            id = ids[place * len(ids) // len(lengths)].as_py()
            raise RecordError(
                f"record {id!r}: {column} has a list of {lengths[place]}, the first record's has {lengths[0]}",
                id,
                column,
            )
        size = int(lengths[0])
    else:
        size = values.type.list_size
    if not size:
        raise RecordError(f"{column} holds empty vectors", column=column)
    return values.flatten(), size


def _check_present(values: pa.Array, column: str, ids: pa.Array) -> None:
    """Raise if a number or a list is missing."""
    if values.null_count:
        place = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        id = ids[place * len(ids) // len(values)].as_py()
        raise RecordError(
            f"record {id!r} has no {column}, or a part of it is missing; other records have", id, column
        )


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


def _one_piece(values: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without a copy where it is one."""
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


# ------------------------------------------------------------------------------
# selection
# ------------------------------------------------------------------------------

_COMPARISONS: Mapping[str, Callable[..., pa.ChunkedArray]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "=": pc.equal,
    "!=": pc.not_equal,
}
OPERATORS = (*_COMPARISONS, "in", "not in", "like", "not like")


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
    records : list of dict, pyarrow.Table, str or pathlib.Path
        The records.
    filters : sequence of dict, optional
        Conditions ``{"left": field, "op": operator, "right": value}``, all of which must hold. A field is a
        column or a part of one, as ``tags.run_id``. Operators: ``< <= > >= = !=``, ``in`` and ``not in`` a
        list, ``like`` and ``not like`` a text where ``%`` stands for any characters and ``_`` for one. A
        record without the field meets no condition but ``= None``; ``!= None`` asks that it is there.
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
        or the limit is negative.
    """
    table = records if isinstance(records, pa.Table) else as_table(records)
    for condition in filters or ():
        if not isinstance(condition, Mapping) or set(condition) != {"left", "op", "right"}:
            raise RecordError(
                f'a filter is {{"left": field, "op": operator, "right": value}}, got {condition!r}'
            )
        table = table.filter(_holds(_field(table, condition["left"]), condition))
    if order_by is not None:
        keys = pa.table({"field": _field(table, order_by), "id": table["id"]})
        order = pc.sort_indices(
            keys, sort_keys=[("field", "descending" if desc else "ascending"), ("id", "ascending")]
        )
        table = table.take(order)
    if limit is None:
        return table
    if isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 0:
        raise RecordError(f"limit must be a whole number of at least 0, got {limit!r}")
    return table.slice(0, limit)


def _holds(values: pa.ChunkedArray, condition: Mapping[str, Any]) -> pa.ChunkedArray:
    """Return which records meet a condition."""
    left, operator, right = condition["left"], condition["op"], condition["right"]
    if operator not in OPERATORS:
        raise RecordError(f"operator {operator!r} is unknown; there are: {', '.join(OPERATORS)}")
    if right is None:
        if operator not in ("=", "!="):
            raise RecordError(f"{left} {operator} None: only = and != compare with None")
        return pc.is_null(values) if operator == "=" else pc.is_valid(values)
    try:
        return _compared(values, operator, right)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise RecordError(
            f"{left} {operator} {right!r}: the field holds {values.type}, with which the value does not fit",
            column=left,
        ) from error


def _compared(values: pa.ChunkedArray, operator: str, right: Any) -> pa.ChunkedArray:
    # 0.9 stored as float32 is not the float64 0.9: compare floats in the column's own precision
    kind = values.type if pa.types.is_floating(values.type) else None
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](values, pa.scalar(right, type=kind))
    if operator.endswith("like"):
        met = pc.match_like(values, right)
    else:
        if isinstance(right, str) or not isinstance(right, Sequence | set | frozenset | np.ndarray):
            raise TypeError("in needs a list")
        met = pc.is_in(values, value_set=pa.array(list(right), type=values.type))
    return pc.and_(pc.invert(met), pc.is_valid(values)) if operator.startswith("not") else met


def _field(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column, or a part of a document, that can be compared."""
    known = {path: steps for field in table.schema for path, steps in _paths(field.name, field.type, ())}
    if name not in known:
        raise RecordError(
            f"field {name!r} is unknown; the records have: {', '.join(known)}", column=str(name)
        )
    top, *steps = known[name]
    return pc.struct_field(table[top], steps) if steps else table[top]


def _paths(name: str, kind: pa.DataType, above: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the dotted names of the fields that can be compared, each with the steps to it."""
    steps = (*above, name)
    if pa.types.is_struct(kind):
        return [path for part in kind for path in _paths(part.name, part.type, steps)]
    return [] if pa.types.is_nested(kind) else [(".".join(steps), steps)]
