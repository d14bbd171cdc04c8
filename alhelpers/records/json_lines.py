"""Records as JSON lines, one object a line, in and out of Parquet; files of any length."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from alhelpers.records.checks import checked
from alhelpers.records.conversion import from_rows
from alhelpers.records.detections import box_sizes
from alhelpers.records.numbers import as_array, sizes_of
from alhelpers.records.partition import count, parts
from alhelpers.records.schema import DETECTIONS, LAYER, SAMPLES, RecordError, is_numeric, nearest
from alhelpers.records.sources import Records
from alhelpers.records.tables import read
from alhelpers.records.writing import in_place_of, write, write_files

_PREDICTION = ("class_names", "class_name", "confidence", "confidences", "logits")
_AS_THEY_ARE = ("id", "split", "tags", "metadata")
_FIELDS = (*_AS_THEY_ARE, "prediction", DETECTIONS, *SAMPLES, "embeddings", "groundtruth")

# What is turned into a table at once, as Python's objects: many times larger than the text that they came from.
_CHUNK_LINES = 10_000
_CHUNK_BYTES = 1 << 24


def convert(json_lines: str | Path, parquet: str | Path) -> int:
    """Turn a file of JSON lines into a Parquet file of records, some lines at a time.

    Parameters
    ----------
    json_lines : str or pathlib.Path
        One object a line: ``id``; ``prediction``, either an object with those of ``class_names``,
        ``class_name``, ``confidence``, ``confidences`` and ``logits`` that there are, or a list of boxes, which
        become ``detections`` (also under that name, beside a prediction); ``mc_dropout`` and
        ``query_by_committee``, a list of confidences or of objects with ``confidences``; ``embeddings``, a list,
        or an object with a list a layer; ``groundtruth``, a text or an object with ``class_name``; ``split``,
        ``tags`` and ``metadata``. All but ``id`` are optional.
    parquet : str or pathlib.Path
        The file to write; its folder is made if missing. An interrupted conversion leaves the old file whole.

    Returns
    -------
    int
        How many records there are.

    Raises
    ------
    RecordError
        If a line is no object, or what it says breaks the schema or does not fit to the first line; it names
        the line and the field.
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
        The file, as :func:`convert` takes it.

    Returns
    -------
    pyarrow.Table
        A checked table of records.

    Raises
    ------
    RecordError
        As :func:`convert` raises it.
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


# ------------------------------------------------------------------------------
# reading
# ------------------------------------------------------------------------------


def _tables(path: Path) -> Iterator[tuple[str, pa.Table]]:
    """Yield checked tables of some lines each, and what to call them; each fits to the first."""
    first: pa.Schema | None = None
    for numbers, rows in _chunks(path):
        try:
            table = _checked(rows, first)
        except RecordError:
            raise _with_line(path, numbers, rows, first) from None
        first = table.schema if first is None else first
        yield f"lines {numbers[0]} to {numbers[-1]} of {path}", table


def _chunks(path: Path) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """Yield the numbers and the contents of some lines at a time."""
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    size = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                numbers.append(number)
                rows.append(_row(line, f"line {number} of {path}"))
                size += len(line)
                if len(rows) >= _CHUNK_LINES or size >= _CHUNK_BYTES:
                    yield numbers, rows
                    numbers, rows, size = [], [], 0
    except OSError as error:
        raise RecordError(f"cannot read records from {str(path)!r}: {error.strerror}") from error
    if rows:
        yield numbers, rows


def _checked(rows: Sequence[Mapping[str, Any]], first: pa.Schema | None) -> pa.Table:
    """Return a checked table that fits to the first one."""
    sizes: dict[str, tuple[int, ...]] = {}
    for kind in first or ():
        sizes |= box_sizes(kind.type) if kind.name == DETECTIONS else {kind.name: sizes_of(kind.type)}
    table = checked(from_rows(rows, None, "records"), None, "records", sizes)
    if first is not None:
        for column in sorted(_strict(table.schema) ^ _strict(first)):
            what = "is missing, and there" if column in first.names else "is there, and missing"
            id = rows[0]["id"]
            raise RecordError(f"record {id!r}: {column} {what} in the first line", id, column)
    return table


def _strict(schema: pa.Schema) -> set[str]:
    """Return the columns that all records must have if one has."""
    return {name for name in schema.names if is_numeric(name) or name == DETECTIONS}


def _with_line(
    path: Path, numbers: Sequence[int], rows: Sequence[Mapping[str, Any]], first: pa.Schema | None
) -> RecordError:
    """Return the error of some rows with the line: that of its record, or the first with which it is an error."""
    right, wrong = 0, len(rows)
    found: RecordError | None = None
    while found is None or wrong - right > 1:
        middle = wrong if found is None else (right + wrong) // 2
        try:
            _checked(rows[:middle], first)
            right = middle
        except RecordError as error:
            wrong, found = middle, error
    places = [place for place in range(wrong) if rows[place]["id"] == found.record]
    number = numbers[places[-1] if places else wrong - 1]
    return RecordError(f"line {number} of {path}: {found}", found.record, found.column)


def _row(line: bytes, where: str) -> dict[str, Any]:
    """Turn a line into a record."""
    try:
        document = json.loads(line)
    except ValueError as error:  # no JSON, or no UTF-8
        raise RecordError(f"{where} is not JSON: {error}") from None
    _check_object(document, where, "", _FIELDS)
    if document.get("id") is None:
        raise RecordError(f"{where} has no id", column="id")
    row = {name: document[name] for name in _AS_THEY_ARE if document.get(name) is not None}
    if document.get(DETECTIONS) is not None:
        row[DETECTIONS] = document[DETECTIONS]
    prediction = document.get("prediction")
    if isinstance(prediction, list):
        row[DETECTIONS] = prediction
    elif prediction is not None:
        _check_object(prediction, where, "prediction", _PREDICTION)
        row |= {name: value for name, value in prediction.items() if value is not None}
    for name in SAMPLES:
        if document.get(name) is not None:
            row[name] = _samples(document[name], where, name)
    row |= _embeddings(document.get("embeddings"))
    if document.get("groundtruth") is not None:
        row["groundtruth"] = _groundtruth(document["groundtruth"], where)
    return row


def _check_object(value: Any, where: str, field: str, known: Sequence[str]) -> None:
    """Raise unless a value is an object with known keys."""
    if not isinstance(value, dict):
        what = f"{where}: {field}" if field else where
        raise RecordError(f"{what} must be an object, got {value!r:.80}", column=field or None)
    unknown = next((key for key in value if key not in known), None)
    if unknown is not None:
        name = f"{field}.{unknown}" if field else unknown
        raise RecordError(
            f"{where}: field {name!r} is unknown{nearest(unknown, known)}; there are: {', '.join(known)}",
            column=name,
        )


def _samples(values: Any, where: str, field: str) -> list[Any]:
    """Return the confidences of the passes or members."""
    if not isinstance(values, list):
        raise RecordError(f"{where}: {field} must be a list of confidences, got {values!r:.80}", column=field)
    for place, value in enumerate(values):
        if isinstance(value, dict) and value.get("confidences") is None:
            raise RecordError(
                f"{where}: {field}[{place}] has no confidences, it has {list(value)}", column=field
            )
    return [value["confidences"] if isinstance(value, dict) else value for value in values]


def _embeddings(value: Any) -> dict[str, Any]:
    """Return the columns of one layer or several."""
    if not isinstance(value, dict):
        return {} if value is None else {"embeddings": value}
    return {f"{LAYER}{layer}" if layer else "embeddings": vector for layer, vector in value.items()}


def _groundtruth(value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        return value
    if value.get("class_name") is None:
        raise RecordError(
            f"{where}: groundtruth has no class_name, it has {list(value)}", column="groundtruth"
        )
    return value["class_name"]


# ------------------------------------------------------------------------------
# writing
# ------------------------------------------------------------------------------


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield records as dicts, of numbers by way of numpy, which takes a tenth of the time."""
    columns = [
        as_array(table[name], name).tolist() if is_numeric(name) else table[name].to_pylist()
        for name in table.column_names
    ]
    for values in zip(*columns, strict=True):
        yield dict(zip(table.column_names, values, strict=True))


def _document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a record into what stands on a line."""
    there = {name: _without_nulls(value) for name, value in row.items() if value is not None}
    layers = {
        name.removeprefix(LAYER) if name.startswith(LAYER) else "": vector
        for name, vector in there.items()
        if name == "embeddings" or name.startswith(LAYER)
    }
    document = {name: there[name] for name in _AS_THEY_ARE if name in there}
    if prediction := {name: there[name] for name in _PREDICTION if name in there}:
        document["prediction"] = prediction
    if DETECTIONS in there:
        document[DETECTIONS if prediction else "prediction"] = there[DETECTIONS]
    document |= {name: there[name] for name in (*SAMPLES, "groundtruth") if name in there}
    if layers:
        document["embeddings"] = layers[""] if list(layers) == [""] else layers
    return document


def _without_nulls(value: Any) -> Any:
    """Leave out what an object of a document or box does not have."""
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_without_nulls(part) for part in value]
    return value
