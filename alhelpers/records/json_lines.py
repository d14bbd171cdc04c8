"""Records as JSON lines, one object a line, to and from Parquet; files of any length."""

from __future__ import annotations

import bisect
import datetime
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from alhelpers.records.layout import checked
from alhelpers.records.parquet_files import local_files_of
from alhelpers.records.partition import count, parts, tables_of
from alhelpers.records.schema import (
    DETECTIONS,
    LAYER,
    SAMPLES,
    RecordError,
    Records,
    is_numeric,
    nearest,
    warn_of_unknown,
)
from alhelpers.records.tables import read
from alhelpers.records.values import as_array, from_rows
from alhelpers.records.writing import check_known, check_target, in_place_of, write, write_files

_PREDICTION = ("class_names", "class_name", "confidence", "confidences", "logits")
_UNCHANGED = ("id", "split", "tags", "metadata")
_FIELDS = (*_UNCHANGED, "prediction", DETECTIONS, *SAMPLES, "embeddings", "groundtruth")

# Converted at once by way of Python objects, which are many times larger than their text.
_CHUNK_LINES = 10_000
_CHUNK_BYTES = 1 << 24


def convert(json_lines: str | Path, parquet: str | Path) -> int:
    """Convert files of JSON lines into a Parquet file of records, some lines at a time.

    Parameters
    ----------
    json_lines : str or pathlib.Path
        A file, or a glob of files, with one object a line: ``id``; ``prediction``, either an object with any of
        ``class_names``, ``class_name``, ``confidence``, ``confidences`` and ``logits``, or a list of boxes, which
        become ``detections`` (also accepted under that name, beside a prediction); ``mc_dropout`` and
        ``query_by_committee``, a list of confidences or of objects with ``confidences``; ``embeddings``, a list,
        or an object with a list for each layer; ``groundtruth``, a text or an object with ``class_name``;
        ``split``, ``tags`` and ``metadata``. All but ``id`` are optional.
    parquet : str or pathlib.Path
        The file to write; its folder is made if missing. An interrupted conversion leaves the old file whole.

    Returns
    -------
    int
        The number of records.

    Raises
    ------
    RecordError
        If a line is not an object, breaks the schema or does not fit to the first line; it names the line and
        the field.

    Warns
    -----
    UserWarning
        For fields that the schema does not know, which are left out; and for the last line of a file if it is cut
        off, as by a writer that was stopped. All other lines are converted.
    """
    target = check_target(parquet)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        files, names = [], []
        for name, table in _tables(json_lines):
            files.append(Path(folder) / f"{len(files)}.parquet")
            names.append(name)
            write(files[-1], table)
        if not files:
            raise RecordError(f"{json_lines} holds no record")
        write_files(target, files, names)
    return count(target)


def from_json_lines(path: str | Path) -> pa.Table:
    """Read records from JSON lines.

    Parameters
    ----------
    path : str or pathlib.Path
        The file or files, as for :func:`convert`.

    Returns
    -------
    pyarrow.Table
        A checked table of records.

    Raises
    ------
    RecordError
        As in :func:`convert`.
    """
    with tempfile.TemporaryDirectory() as folder:
        convert(path, Path(folder) / "records.parquet")
        return read(Path(folder) / "records.parquet")


def to_json_lines(path: str | Path, records: Records) -> None:
    """Check records and write them as JSON lines, a part at a time.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; its folder is made if missing. An interrupted write leaves the old file whole.
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records.

    Raises
    ------
    RecordError
        If the records break the schema, or hold what JSON has no form for; nothing is written then. Times are
        written as text in ISO 8601.
    """
    with in_place_of(path) as file:
        check_known(records)
        for table in tables_of(parts(records)):
            for start in range(0, table.num_rows, _CHUNK_LINES):
                for row in _rows(table.slice(start, _CHUNK_LINES)):
                    text = json.dumps(_document(row), ensure_ascii=False, default=_plain)
                    file.write(text.encode() + b"\n")


class _Line(NamedTuple):
    """A line that holds a record."""

    file: str
    number: int
    row: dict[str, Any]

    def __str__(self) -> str:
        return f"line {self.number} of {self.file}"


def _tables(path: str | Path) -> Iterator[tuple[str, pa.Table]]:
    """Yield checked tables of some lines each, with their names; all fit to the record of the first line."""
    first: list[_Line] = []
    unknown: dict[str, str] = {}
    for file in local_files_of(path):
        for lines in _chunks(file, unknown):
            try:
                table = _checked([*first, *lines])
            except RecordError as error:
                raise _error_with_line([*first, *lines], error) from None
            yield f"lines {lines[0].number} to {lines[-1].number} of {file}", table.slice(len(first))
            first = first or lines[:1]
    if unknown:
        warn_of_unknown(f"{path} has fields", unknown)


def _chunks(file: str, unknown: dict[str, str]) -> Iterator[list[_Line]]:
    """Yield the records of some lines at a time; ``unknown`` takes fields outside of the schema, with their lines."""
    found: list[_Line] = []
    size = 0
    try:
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                where = f"line {number} of {file}"
                try:
                    document = json.loads(line, object_pairs_hook=_object)
                except KeyError as error:
                    raise RecordError(f"{where} has the key {error} twice in an object") from None
                except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
                    if line.endswith(b"\n"):
                        raise RecordError(f"{where} is not JSON: {error}") from None
                    warnings.warn(
                        f"{where}, the last one, is cut off and left out; was its writer stopped?",
                        stacklevel=2,
                    )
                    break
                found.append(_Line(file, number, _row(document, where, unknown)))
                size += len(line)
                if len(found) >= _CHUNK_LINES or size >= _CHUNK_BYTES:
                    yield found
                    found, size = [], 0
    except OSError as error:
        raise RecordError(f"cannot read records from {file!r}: {error.strerror}") from error
    if found:
        yield found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Convert an object of JSON, whose keys must differ: of two values, one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise KeyError(next(key for key in keys if keys.count(key) > 1))
    return found


def _checked(lines: Sequence[_Line]) -> pa.Table:
    return checked(from_rows([line.row for line in lines], None, "records"))


def _error_with_line(lines: Sequence[_Line], error: RecordError) -> RecordError:
    """Return the error of the fewest lines that have one, with the line of its record, or else the last of them."""
    errors = {len(lines): error}

    def is_wrong(count: int) -> bool:
        try:
            _checked(lines[:count])
        except RecordError as error:
            errors[count] = error
        return count in errors

    count = 1 + bisect.bisect_left(range(1, len(lines)), True, key=is_wrong)
    found = errors[count]
    of_record = (line for line in reversed(lines[:count]) if line.row["id"] == found.record)
    return RecordError(f"{next(of_record, lines[count - 1])}: {found}", found.record, found.column)


def _row(document: Any, where: str, unknown: dict[str, str]) -> dict[str, Any]:
    """Convert the content of a line into a record."""
    document = _known(document, _FIELDS, where, "", unknown)
    if "id" not in document:
        raise RecordError(f"{where} has no id", column="id")
    row = {name: document[name] for name in (*_UNCHANGED, DETECTIONS) if name in document}
    prediction = document.get("prediction", {})
    if not isinstance(prediction, list):
        row |= _known(prediction, _PREDICTION, where, "prediction", unknown)
    elif DETECTIONS in row:
        raise RecordError(f"{where} has boxes twice, in prediction and in {DETECTIONS}", column=DETECTIONS)
    else:
        row[DETECTIONS] = prediction
    for name in [name for name in SAMPLES if name in document]:
        samples = document[name]
        if not isinstance(samples, list):
            raise RecordError(
                f"{where}: {name} must be a list of confidences, got {samples!r:.80}", column=name
            )
        row[name] = [
            _unwrapped(each, "confidences", where, f"{name}[{k}]", unknown) for k, each in enumerate(samples)
        ]
    embeddings = document.get("embeddings", {})
    layers = embeddings if isinstance(embeddings, dict) else {"": embeddings}
    row |= {f"{LAYER}{layer}" if layer else "embeddings": vector for layer, vector in layers.items()}
    if "groundtruth" in document:
        row["groundtruth"] = _unwrapped(document["groundtruth"], "class_name", where, "groundtruth", unknown)
    return row


def _known(
    value: Any, known: Sequence[str], where: str, field: str, unknown: dict[str, str]
) -> dict[str, Any]:
    """Return the known fields of an object that have a value."""
    if not isinstance(value, dict):
        what = f"{where}: {field}" if field else where
        raise RecordError(f"{what} must be an object, got {value!r:.80}", column=field or None)
    for name in [name for name in value if name not in known]:
        hint = nearest(name, known)
        if not field and name in _PREDICTION:
            hint = f", which belongs in 'prediction': {{{json.dumps(name)}: ...}}"
        unknown.setdefault(f"{field.partition('[')[0]}.{name}" if field else name, f" ({where}){hint}")
    return {name: value[name] for name in known if value.get(name) is not None}


def _unwrapped(value: Any, key: str, where: str, field: str, unknown: dict[str, str]) -> Any:
    """Return a value, or what an object has under its one known key."""
    if not isinstance(value, dict):
        return value
    known = _known(value, [key], where, field, unknown)
    if not known:
        raise RecordError(f"{where}: {field} has no {key}, it has {list(value)}", column=field.split("[")[0])
    return known[key]


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield records as dicts."""
    # numbers by way of numpy, in a tenth of the time
    columns = [
        as_array(table[name], name).tolist() if is_numeric(name) else table[name].to_pylist()
        for name in table.column_names
    ]
    for values in zip(*columns, strict=True):
        yield dict(zip(table.column_names, values, strict=True))


def _document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a record into the object of a line."""
    row = {name: _without_nulls(value) for name, value in row.items() if value is not None}
    layers = {
        name.removeprefix(LAYER) if name.startswith(LAYER) else "": vector
        for name, vector in row.items()
        if name == "embeddings" or name.startswith(LAYER)
    }
    document = {name: row[name] for name in _UNCHANGED if name in row}
    if prediction := {name: row[name] for name in _PREDICTION if name in row}:
        document["prediction"] = prediction
    if DETECTIONS in row:
        document[DETECTIONS if prediction else "prediction"] = row[DETECTIONS]
    document |= {name: row[name] for name in (*SAMPLES, "groundtruth") if name in row}
    if layers:
        document["embeddings"] = layers[""] if list(layers) == [""] else layers
    return document


def _without_nulls(value: Any) -> Any:
    """Leave out the keys of a document or box without a value."""
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_without_nulls(part) for part in value]
    return value


def _plain(value: Any) -> str:
    """Convert a value of a document that JSON has no form for."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise RecordError(
        f"{value!r:.80} of type {type(value).__name__} cannot be written as JSON: convert it to text"
    )
