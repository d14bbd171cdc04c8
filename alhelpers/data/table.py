"""A table of texts or of features, from CSV or Parquet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from alhelpers.data.arrays import ArrayDataset, PartlyLabelled, Rows, rows_of
from alhelpers.data.labels import classes_of, finite_numbers

if TYPE_CHECKING:
    import pyarrow as pa


class TableDataset(PartlyLabelled, ArrayDataset):
    """Texts or features in memory, with labels or without; :func:`table` makes it.

    Attributes
    ----------
    ids : numpy.ndarray of shape (N,)
        The values of the id column, or the numbers of the rows from 0 on.
    class_names : tuple of str or None
        The sorted values of the label column; of parts of a data set those of the whole.
    """

    def labels(self, rows: Rows = None) -> np.ndarray:
        """Return the labels of the rows: class indices, or numbers for regression.

        Raises
        ------
        ValueError
            If one of them has no label.
        """
        name = self._first_without_label(rows)
        if name is not None:
            raise ValueError(f"row {name!r} has no label: take the labelled rows alone, with .labelled")
        return super().labels(rows)

    def take(self, rows: Rows) -> Self:
        """Return the data set of the given rows, in the given order."""
        taken = super().take(rows)
        taken._is_labelled = rows_of(self._is_labelled, rows)
        return taken


def table(
    path: str | os.PathLike[str],
    text: str | None = None,
    features: Sequence[str] | None = None,
    label: str | None = None,
    id: str | None = None,
    *,
    task: Literal["classification", "regression"] = "classification",
) -> TableDataset:
    """Read a table of texts or features; rows with an empty label are the pool.

    Parameters
    ----------
    path : path
        A file that ends in ``.csv`` (in UTF-8, the first line names the columns) or ``.parquet``.
    text : str, optional
        The column of texts.
    features : sequence of str, optional
        The columns of features. The default, without a text, is all but the label and the id.
    label : str, optional
        The column of classes (texts, bools or whole numbers) or, for regression, numbers. None: all rows are the pool.
    id : str, optional
        A column with a distinct value a row; the default counts the rows.
    task : {"classification", "regression"}
        What the labels are.

    Returns
    -------
    TableDataset
        Its inputs are texts (N,); or numbers (N, D) float64, bools as 0 and 1 and NaN where the table has none; or, if
        a feature is a text, a DataFrame in which it is categorical.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the file is not a table or has no row, a column is missing or of another type, or an id is missing or there
        twice.

    Examples
    --------
    >>> reviews = table("reviews.csv", text="review", label="stars", id="number")  # doctest: +SKIP
    >>> pool, labelled = reviews.unlabelled, reviews.labelled  # doctest: +SKIP
    """
    source = Path(path)
    if text is not None and features is not None:
        raise ValueError("text and features are both passed: inputs are one of them")
    if isinstance(features, str):
        raise ValueError(f"features is {features!r}: pass a list of columns, [{features!r}]")
    if task not in ("classification", "regression"):
        raise ValueError(f"task is {task!r}: a table is for 'classification' or 'regression'")
    as_texts = [text, id] if task == "regression" else [text, id, label]
    rows = _read(source, [name for name in as_texts if name is not None])
    columns = rows.column_names
    if text is None and features is None:
        features = [name for name in columns if name not in (label, id)]
    for name in filter(None, (text, label, id, *(features or ()))):
        if columns.count(name) != 1:
            found = "no column" if name not in columns else "several columns"
            raise ValueError(f"{source} has {found} {name!r}: its columns are {', '.join(columns)}")
    inside = [name for name in (label, id) if name in (text, *(features or ())) and name is not None]
    if inside:
        raise ValueError(
            f"column {inside[0]!r} cannot be an input and the label or id too: leave it out of one"
        )
    if not rows.num_rows:
        raise ValueError(f"{source} has no row below its columns: add data")
    if text is None and not features:
        raise ValueError(f"{source} has no column of features: its columns are {', '.join(columns)}")
    inputs = _features(rows, features, source) if text is None else _texts(rows, text, source)
    ids = None if id is None else _ids(rows, id, source)
    made = TableDataset(inputs, None, None, task=task, ids=ids)
    labels = [None] * len(made) if label is None else _labels(rows, label)
    made._is_labelled = np.array([value is not None for value in labels], dtype=bool)
    known, names = [value for value in labels if value is not None], None
    known_ids = made.ids[made._is_labelled]
    if task == "regression":
        known = finite_numbers(known, known_ids).astype(np.float64) if known else np.empty(0)
    elif known:
        known, names = classes_of(_whole(known), known_ids)
    made._labels = np.zeros(len(made), dtype=np.float64 if task == "regression" else np.int64)
    made._labels[made._is_labelled] = known
    made.class_names = names
    return made


def _read(path: Path, as_texts: list[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv, parquet

    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: pass a CSV or Parquet file")
    try:
        if path.suffix.lower() == ".csv":
            # Or "007" would become 7.
            types = csv.ConvertOptions(column_types=dict.fromkeys(as_texts, pa.string()))
            return csv.read_csv(
                path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=types
            )
        if path.suffix.lower() in (".parquet", ".pq"):
            return parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a table that can be read: {error}") from error
    raise ValueError(f"{path} must end in .csv or .parquet")


def _texts(rows: pa.Table, name: str, path: Path) -> np.ndarray:
    values = rows[name].to_pylist()
    wrong = next((value for value in values if not isinstance(value, str | None)), None)
    if wrong is not None:
        raise ValueError(f"column {name!r} of {path} has {wrong!r}: it must hold texts")
    return np.array(["" if value is None else value for value in values], dtype=object)


def _features(rows: pa.Table, names: Sequence[str], path: Path) -> Any:
    """Return the columns as numbers, (N, D), or as a DataFrame if there are texts."""
    import pyarrow as pa

    kinds = pa.types
    texts = []
    for name in names:
        kind = rows.schema.field(name).type
        if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_dictionary(kind):
            texts.append(name)
        elif not (
            kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind) or kinds.is_null(kind)
        ):
            raise ValueError(
                f"column {name!r} of {path} is of type {kind}: features are numbers, bools or texts; name others in"
                " features="
            )
    numbers = {name: _numbers(rows[name]) for name in names if name not in texts}
    if not texts:
        return np.stack([*numbers.values()], axis=1)
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"column {texts[0]!r} of {path} is text, which needs pandas: pip install 'alhelpers[torch]'"
        ) from error
    return pd.DataFrame(
        {name: pd.Categorical(rows[name].to_pylist()) if name in texts else numbers[name] for name in names}
    )


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow as pa

    return np.asarray(
        column.cast(pa.float64() if not pa.types.is_boolean(column.type) else pa.int8()).to_numpy(), float
    )


def _ids(rows: pa.Table, name: str, path: Path) -> list[Any]:
    values = rows[name].to_pylist()
    wrong = next(
        (row for row, value in enumerate(values) if not isinstance(value, str | int) or value == ""), None
    )
    if wrong is not None:
        raise ValueError(
            f"column {name!r} of {path} has {values[wrong]!r} in row {wrong}: ids must be texts or whole numbers"
        )
    return values


def _labels(rows: pa.Table, name: str) -> list[Any]:
    """Return the labels, None where there is none: nothing, an empty text or NaN."""
    values = rows[name].to_pylist()
    return [None if value == "" or value != value else value for value in values]


def _whole(values: list[Any]) -> list[Any]:
    """Return floats that are whole, as tables with gaps have them, as integers; raise a ValueError if one is not."""
    wrong = [value for value in values if isinstance(value, float) and not value.is_integer()]
    if wrong:
        raise ValueError(
            f"a label is {wrong[0]!r}, which is no class: pass task='regression' to learn numbers"
        )
    return [int(value) if isinstance(value, float) else value for value in values]
