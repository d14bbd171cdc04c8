"""Reading and checking the rows and columns that evaluation takes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from alhelpers.evaluation.errors import EvaluationError


def column(rows: Any, key: str, name: str) -> Sequence[Any] | np.ndarray:
    """Return one column of a list of dicts or of a DataFrame."""
    if hasattr(rows, "__len__") and not len(rows):
        return []  # a DataFrame that was made of no rows has no columns either
    if hasattr(rows, "columns"):
        if key in rows.columns:
            return rows[key].to_numpy()
        raise EvaluationError(f"{name} has no column {key!r}, it has {list(rows.columns)}")
    try:
        return [row[key] for row in rows]
    except KeyError:
        place, row = next((place, row) for place, row in enumerate(rows) if key not in row)
        raise EvaluationError(
            f"row {place} of {name} has no {key!r}, it has {sorted(map(str, row))}"
        ) from None
    except TypeError:
        raise EvaluationError(
            f"{name} must be a list of dicts or a DataFrame, got {type(rows).__name__}"
        ) from None


def keys(values: Sequence[Any] | np.ndarray, key: str, name: str) -> list[Hashable]:
    """Return names (of images, labels, classes) as plain Python values, none of them missing."""
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    try:
        if {type(value) for value in set(plain)} <= {str, int}:
            return plain  # nearly all rows, decided by their few distinct values
    except TypeError:
        pass  # an unhashable value, which is named below
    for row, value in enumerate(plain):
        if isinstance(value, np.generic):
            plain[row] = value = value.item()
        # NaN does not equal itself, and pandas' NA compares to NA
        if value is None or not isinstance(value, Hashable) or (value == value) is not True:
            raise EvaluationError(f"row {row} of {name}: {key} is {value!r}, not a name")
    return plain


def floats(values: Sequence[Any] | np.ndarray, key: str, name: str) -> np.ndarray:
    """Return numbers as (n,) float64, all of them finite."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(f"{name}: {key} must be a number in every row") from None
    if numbers.ndim != 1:
        raise EvaluationError(f"{name}: {key} must be one number a row, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise EvaluationError(f"row {row} of {name}: {key} is {numbers[row]}, not a finite number")
    return numbers


def finite(value: Any, where: str) -> float:
    """Return a number that a row or a sample holds; `where` opens the error of one that is not finite."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise EvaluationError(f"{where} {value!r} must be a finite number")
    return number


def check_whole(value: Any, name: str) -> None:
    """Raise unless a value is an integer, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise EvaluationError(f"{name} must be an integer, 1 or more, got {value!r}")


def check_same_kind(labels: list[Hashable], names: list[Hashable]) -> None:
    """Raise where labels are numbers and names are not, or the other way: nothing would ever match."""
    kinds = [any(isinstance(value, str) for value in values) for values in (labels, names)]
    if names and kinds[0] != kinds[1]:
        raise EvaluationError(
            f"labels hold {labels[0]!r} but the classes are named {names[0]!r}: pass both as names or both as numbers"
        )


def codes(values: Sequence[Hashable], known: dict[Hashable, int]) -> np.ndarray:
    """Return the number of each value in ``known``, to which new values are added."""
    for value in dict.fromkeys(values):
        known.setdefault(value, len(known))
    return np.fromiter(map(known.__getitem__, values), dtype=np.intp, count=len(values))


def sort_names(values: Iterable[Hashable]) -> list[Hashable]:
    """Sort names that may be of several types."""
    return sorted(values, key=lambda value: (type(value).__name__, value))
