"""Reading and checking the rows and columns that evaluation takes, and joining them by name."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np


class EvaluationError(ValueError):
    """Predictions or ground truth that cannot be evaluated; the message names the row and the value."""


class NoGroundTruth(EvaluationError):
    """There is no ground truth, so no model can be compared with another."""


# Columns that other programs honour, with the values, as text, that ask for nothing.
NOTHING = ("", "none", "nan", "<na>")
_FLAG, _WEIGHT = (*NOTHING, "0", "0.0", "false"), (*NOTHING, "1", "1.0")
_SET = ("1", "1.0", "true")
_NOT_HONOURED = dict.fromkeys(("iscrowd", "difficult", "ignore"), _FLAG) | dict.fromkeys(
    ("weight", "weights", "sample_weight"), _WEIGHT
)


# ------------------------------------------------------------------------------
# columns
# ------------------------------------------------------------------------------


def column(rows: Any, key: str, name: str) -> Sequence[Any] | np.ndarray:
    """Return one column of a list of dicts or of a DataFrame."""
    if not hasattr(rows, "__len__"):  # an iterator would have no rows left for the next column
        raise EvaluationError(f"{name} must be a list of dicts or a DataFrame, got {type(rows).__name__}")
    if not len(rows):
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


def given(rows: Any, key: str) -> list[Any] | None:
    """Return a column that rows need not have, with None where a row lacks it; None if all do."""
    if hasattr(rows, "columns"):
        return rows[key].tolist() if key in rows.columns else None
    values = [row.get(key) for row in rows]
    return None if all(value is None for value in values) else values


def flags(rows: Any, key: str, name: str) -> np.ndarray:
    """Return a column of truth values, (n,) bool; False where a row has none."""
    found = given(rows, key)
    if found is None:
        return np.zeros(len(rows), dtype=bool)
    values = [str(value).lower() for value in found]
    for row, value in enumerate(values):
        if value not in _FLAG and value not in _SET:
            raise EvaluationError(f"row {row} of {name}: {key} must be 0 or 1, got {value!r}")
    return np.array([value in _SET for value in values], dtype=bool)


def names_of_columns(rows: Any) -> set[Hashable]:
    """Return the columns that any row has."""
    return set(rows.columns) if hasattr(rows, "columns") else set().union(*rows)


def check_counted(rows: Any, names: set[Hashable], name: str, crowds: bool = False) -> None:
    """Raise if a row asks not to be counted, or to count more or less than once; ``iscrowd`` may be read apart."""
    for key in (_NOT_HONOURED.keys() & names) - ({"iscrowd"} if crowds else set()):
        for row, value in enumerate(given(rows, key) or ()):
            if str(value).lower() not in _NOT_HONOURED[key]:
                raise EvaluationError(
                    f"row {row} of {name}: {key} is {value!r}, and every row counts once here; leave out the rows "
                    f"that must not count, or the column {key!r}"
                )


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
        numbers = np.asarray(unmasked(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(f"{name}: {key} must be a number in every row") from None
    if numbers.ndim != 1:
        raise EvaluationError(f"{name}: {key} must be one number a row, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise EvaluationError(f"row {row} of {name}: {key} is {numbers[row]}, not a finite number")
    return numbers


def unmasked(values: Any) -> np.ndarray:
    """Return an array of the values, NaN where they are masked."""
    if np.ma.is_masked(values):
        return np.ma.asarray(values, dtype=np.float64).filled(math.nan)
    return np.asarray(values)


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


# ------------------------------------------------------------------------------
# names
# ------------------------------------------------------------------------------


def check_joined(first: Sequence[Hashable], second: Sequence[Hashable], what: tuple[str, str]) -> None:
    """Raise where a name differs from one of the other side in its type alone, or no types are shared at all.

    Such names, 1 and "1", would silently never match. `what` are the words for both sides.
    """
    known, other = dict.fromkeys(first), dict.fromkeys(second)
    alike = {_as_text(name): name for name in known if name not in other}
    wrong = [(alike[text], name) for name in other if name not in known and (text := _as_text(name)) in alike]
    kinds = [{isinstance(name, str) for name in names} for names in (known, other)]
    if not wrong and known and other and kinds[0].isdisjoint(kinds[1]):
        wrong = [(next(iter(known)), next(iter(other)))]
    if wrong:
        raise EvaluationError(
            f"{what[0]} {wrong[0][0]!r} but {what[1]} {wrong[0][1]!r}, which never match: pass both as text or both "
            "as numbers"
        )


def check_among(items: Iterable[Hashable], images: Sequence[Hashable], name: str) -> None:
    """Raise unless all images of some rows are test items."""
    known = dict.fromkeys(items)
    unknown = [image for image in images if image not in known]
    if unknown:
        raise EvaluationError(
            f"{name} has a row of image {unknown[0]!r}, which is not among items; these are {[*known][:3]} ..."
        )


def _as_text(name: Hashable) -> str:
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)


@dataclass(frozen=True)
class Names(Sequence[Hashable]):
    """The names of n rows: each name once, and its place among them in each row, (n,) int."""

    distinct: list[Hashable]
    codes: np.ndarray

    @classmethod
    def of(cls, values: Sequence[Hashable]) -> Names:
        """Return the names numbered in the order in which they come first."""
        if isinstance(values, Names):
            return values
        known: dict[Hashable, int] = defaultdict(count().__next__)
        places = np.fromiter(map(known.__getitem__, values), dtype=np.intp, count=len(values))
        return cls(list(known), places)

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Hashable]:
        return map(self.distinct.__getitem__, self.codes.tolist())

    def __getitem__(self, row: int) -> Hashable:
        return self.distinct[self.codes[row]]

    def take(self, rows: np.ndarray) -> Names:
        """Return the names of some rows: their numbers, or one bool a row."""
        return Names(self.distinct, self.codes[rows])

    def present(self) -> list[Hashable]:
        """Return the names that any row has."""
        counts = np.bincount(self.codes, minlength=len(self.distinct))
        return [name for name, rows in zip(self.distinct, counts.tolist(), strict=True) if rows]

    def numbered(self, known: dict[Hashable, int]) -> np.ndarray:
        """Return the number of each row's name in ``known``, to which new names are added."""
        return codes(self.distinct, known)[self.codes]


def codes(values: Sequence[Hashable], known: dict[Hashable, int]) -> np.ndarray:
    """Return the number of each value in ``known``, to which new values are added."""
    for value in dict.fromkeys(values):
        known.setdefault(value, len(known))
    return np.fromiter(map(known.__getitem__, values), dtype=np.intp, count=len(values))


def rows_by_name(names: Sequence[Hashable]) -> dict[Hashable, np.ndarray]:
    """Return the rows that hold each name."""
    names = Names.of(names)
    ends = np.cumsum(np.bincount(names.codes, minlength=len(names.distinct))).tolist()
    order = sort_codes(names.codes, len(names.distinct))
    cuts = zip(names.distinct, [0, *ends], ends, strict=False)
    return {name: order[start:end] for name, start, end in cuts if start < end}


def sort_codes(codes: np.ndarray, most: int) -> np.ndarray:
    """Return the order of numbers below ``most``, of equal ones as they come; small ones take less time."""
    return np.argsort(codes.astype(np.uint16) if most <= 1 << 16 else codes, kind="stable")


def rows_by_label(
    truth: Sequence[Hashable], found: Sequence[Hashable]
) -> list[tuple[Hashable, np.ndarray, np.ndarray]]:
    """Return each label that has ground truth, sorted, with its rows of ground truth and of predictions."""
    truths, founds, none = rows_by_name(truth), rows_by_name(found), np.empty(0, dtype=np.intp)
    return [(label, truths[label], founds.get(label, none)) for label in sort_names(truths)]


def sort_names(values: Iterable[Hashable]) -> list[Hashable]:
    """Sort names that may be of several types, also of some that have no order of their own."""
    return sorted(
        values,
        key=lambda value: (
            type(value).__name__,
            value if isinstance(value, str | int | float) else str(value),
        ),
    )
