"""Records as JSON lines, one object a line, to and from Parquet; files of any length."""

from __future__ import annotations

import bisect
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from alhelpers.records.layout import checked
from alhelpers.records.partition import count, parts
from alhelpers.records.schema import DETECTIONS, LAYER, SAMPLES, RecordError, Records, is_numeric, nearest
from alhelpers.records.tables import read
from alhelpers.records.values import as_array, from_rows
from alhelpers.records.writing import in_place_of, write, write_files

_PREDICTION = ("class_names", "class_name", "confidence", "confidences", "logits")
_UNCHANGED = ("id", "split", "tags", "metadata")
_FIELDS = (*_UNCHANGED, "prediction", DETECTIONS, *SAMPLES, "embeddings", "groundtruth")

# Converted at once by way of Python objects, which are many times larger than their text.
_CHUNK_LINES = 10_000
_CHUNK_BYTES = 1 << 24


def convert(json_lines: str | Path, parquet: str | Path) -> int:
    """Convert a file of JSON lines into a Parquet file of records, some lines at a time.

    Parameters
    ----------
    json_lines : str or pathlib.Path
        One object a line: ``id``; ``prediction``, either an object with any of ``class_names``,
        ``class_name``, ``confidence``, ``confidences`` and ``logits``, or a list of boxes, which become
        ``detections`` (also accepted under that name, beside a prediction); ``mc_dropout`` and
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
    """
    target = Path(parquet)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        files, names = [], []
        for name, table in _tables(Path(json_lines)):
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
        The file, as for :func:`convert`.

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
        If the records break the schema; nothing is written then.
    """
    with in_place_of(Path(path)) as file:
        for part in parts(records):
            table = part.load()
            for start in range(0, table.num_rows, _CHUNK_LINES):
                for row in _rows(table.slice(start, _CHUNK_LINES)):
                    file.write(json.dumps(_document(row), ensure_ascii=False).encode() + b"\n")


def _tables(path: Path) -> Iterator[tuple[str, pa.Table]]:
    """Yield checked tables of some lines each, with their names; all fit to the record of the first line."""
    first: list[tuple[int, dict[str, Any]]] = []
    for lines in _chunks(path):
        try:
            table = _checked([*first, *lines])
        except RecordError as error:
            raise _error_with_line(path, [*first, *lines], error) from None
        yield f"lines {lines[0][0]} to {lines[-1][0]} of {path}", table.slice(len(first))
        first = first or lines[:1]


def _chunks(path: Path) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Yield the records of some lines at a time, each with the number of its line."""
    lines: list[tuple[int, dict[str, Any]]] = []
    size = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                lines.append((number, _row(line, f"line {number} of {path}")))
                size += len(line)
                if len(lines) >= _CHUNK_LINES or size >= _CHUNK_BYTES:
                    yield lines
                    lines, size = [], 0
    except OSError as error:
        raise RecordError(f"cannot read records from {str(path)!r}: {error.strerror}") from error
    if lines:
        yield lines


def _checked(lines: Sequence[tuple[int, Mapping[str, Any]]]) -> pa.Table:
    return checked(from_rows([row for _, row in lines], None, "records"))


def _error_with_line(
    path: Path, lines: Sequence[tuple[int, Mapping[str, Any]]], error: RecordError
) -> RecordError:
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
    number = next(
        (number for number, row in reversed(lines[:count]) if row["id"] == found.record), lines[count - 1][0]
    )
    return RecordError(f"line {number} of {path}: {found}", found.record, found.column)


def _row(line: bytes, where: str) -> dict[str, Any]:
    """Convert a line into a record."""
    try:
        document = json.loads(line)
    except ValueError as error:  # not JSON, or not UTF-8
        raise RecordError(f"{where} is not JSON: {error}") from None
    _check_object(document, where, "", _FIELDS)
    document = {name: value for name, value in document.items() if value is not None}
    if "id" not in document:
        raise RecordError(f"{where} has no id", column="id")
    row = {name: document[name] for name in (*_UNCHANGED, DETECTIONS) if name in document}
    prediction = document.get("prediction", {})
    if isinstance(prediction, list):
        row[DETECTIONS] = prediction
    else:
        _check_object(prediction, where, "prediction", _PREDICTION)
        row |= {name: value for name, value in prediction.items() if value is not None}
    for name in SAMPLES:
        samples = document.get(name, [])
        if not isinstance(samples, list):
            raise RecordError(
                f"{where}: {name} must be a list of confidences, got {samples!r:.80}", column=name
            )
        if name in document:
            row[name] = [
                _unwrapped(each, "confidences", where, f"{name}[{k}]") for k, each in enumerate(samples)
            ]
    embeddings = document.get("embeddings", {})
    layers = embeddings if isinstance(embeddings, dict) else {"": embeddings}
    row |= {f"{LAYER}{layer}" if layer else "embeddings": vector for layer, vector in layers.items()}
    if "groundtruth" in document:
        row["groundtruth"] = _unwrapped(document["groundtruth"], "class_name", where, "groundtruth")
    return row


def _check_object(value: Any, where: str, field: str, known: Sequence[str]) -> None:
    if not isinstance(value, dict):
        what = f"{where}: {field}" if field else where
        raise RecordError(f"{what} must be an object, got {value!r:.80}", column=field or None)
    unknown = next((key for key in value if key not in known), None)
    if unknown is not None:
        name = f"{field}.{unknown}" if field else unknown
        raise RecordError(
            f"{where}: field {name!r} is unknown{nearest(unknown, known)}; known fields: {', '.join(known)}",
            column=name,
        )


def _unwrapped(value: Any, key: str, where: str, field: str) -> Any:
    """Return a value, or what an object has under its one known key."""
    if not isinstance(value, dict):
        return value
    if value.get(key) is None:
        raise RecordError(f"{where}: {field} has no {key}, it has {list(value)}", column=field.split("[")[0])
    return value[key]


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
