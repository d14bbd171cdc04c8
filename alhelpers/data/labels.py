"""The labels of each task as numbers; an error names the first record whose label is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

# With so many labels a class on average, one without an example is no matter of a first round.
_ENOUGH = 10


class MissingClassWarning(UserWarning):
    """A class has a name and no example."""


def warn_of_missing_classes(labels: np.ndarray, names: Sequence[str] | None) -> None:
    """Warn of named classes that no label (N,) is of, or that no record has among its labels (N, C).

    A first round has too few labels for all classes, which is no mistake: it is warned of if there are more of them, or
    if only one class is there.
    """
    if names is None or labels.shape[1:] not in ((), (len(names),)):
        return
    there = labels.any(0) if labels.ndim == 2 else np.isin(np.arange(len(names)), labels)
    missing = [str(name) for name, found in zip(names, there.tolist(), strict=True) if not found]
    if missing and (len(labels) >= _ENOUGH * len(names) or len(missing) >= len(names) - 1):
        warnings.warn(
            f"no record is labelled {', '.join(missing)}: what is learned of a class without an example is arbitrary;"
            " label at least one, or leave the class out of class_names",
            MissingClassWarning,
            stacklevel=3,
        )


def class_indices(labels: Any, classes: int | None = None, *, ids: Sequence[Any] | None = None) -> np.ndarray:
    """Return labels as an array of class indices; whole numbers of any type and bools are, None and text are not.

    A ValueError names the first label that is not a class index below the number of classes, by its id or its row.
    """
    values = np.asarray(labels)
    if values.dtype.kind not in "iu":
        whole = np.array([_is_whole(value) for value in values.ravel().tolist()], dtype=bool)
        values = values.astype(np.int64) if whole.all() else values
    if values.dtype.kind in "iu":
        whole = ((values >= 0) & (values < (np.inf if classes is None else classes))).ravel()
    if whole.all():
        return values
    wrong = int(np.argmin(whole))
    row = int(np.unravel_index(wrong, values.shape)[0]) if values.ndim else 0
    place = f"row {row}" if ids is None else f"record {ids[row]}"
    raise ValueError(
        f"labels hold {values.ravel().tolist()[wrong]!r} ({values.dtype}) for {place}: they must be whole numbers from"
        f" 0 {'on' if classes is None else f'to {classes - 1}'}, the place in class_names; leave out rows without a"
        " label"
    )


def _is_whole(value: Any) -> bool:
    whole = isinstance(value, Integral | np.bool_)
    return whole or (isinstance(value, float | np.floating) and value.is_integer())


def is_named(labels: Any) -> bool:
    """Return whether labels name their classes: they are texts or bools, at least one of them."""
    values = _as_values(labels)
    named = str | bool | np.bool_
    return values.dtype.kind in "USb" or (
        values.dtype.kind == "O" and any(isinstance(value, named) for value in values.flat)
    )


def classes_of(labels: Any, ids: Sequence[Any] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels (N,) as class indices, and the class names: their values, all of one type, sorted."""
    values = _as_values(labels)
    if values.ndim != 1:
        raise ValueError(
            f"labels have the shape {values.shape}: they must be one a row; several are for multilabel"
        )
    plain = values.tolist()
    kind = type(plain[0]) if plain else str
    wrong = next((row for row, value in enumerate(plain) if type(value) is not kind or value == ""), None)
    if wrong is not None:
        raise ValueError(
            f"the label of {place_of(wrong, ids)} is {plain[wrong]!r}: it must be a {kind.__name__} as the first one,"
            f" {plain[0]!r}; leave out records without a label"
        )
    names, places = np.unique(np.array(plain, dtype=object if kind is str else None), return_inverse=True)
    return places.astype(np.int64), tuple(map(str, names.tolist()))


def _as_values(labels: Any) -> np.ndarray:
    """Return labels as an array that keeps the type of each; numpy turns a number beside a text into a text."""
    return np.asarray(labels, dtype=None if hasattr(labels, "dtype") else object)


def indices_of(
    labels: Any, names: Sequence[str] | None, ids: Sequence[Any] | None = None, *, classes: int | None = None
) -> np.ndarray:
    """Return labels (N,) as class indices; texts are looked up among the class names.

    A ValueError names the first label that is not a class.
    """
    values = np.asarray(labels)
    if (
        names is None
        or values.dtype.kind not in "OUS"
        or not all(isinstance(one, str) for one in values.flat)
    ):
        return class_indices(values, classes, ids=ids)
    places = {name: place for place, name in enumerate(map(str, names))}
    for row, label in enumerate(values.flat):
        if label not in places:
            raise ValueError(
                f"the label of {place_of(row, ids)} is {str(label)!r}, which is none of the class names:"
                f" {', '.join(places)}; correct it, or leave the record out"
            )
    return np.array([places[label] for label in values.flat], dtype=np.int64).reshape(values.shape)


def indicators(
    labels: Any, names: Sequence[str] | None = None, ids: Sequence[Any] | None = None
) -> np.ndarray:
    """Return the labels of several classes a record, (N, C) of 0 and 1, or raise a ValueError that names a record."""
    values = np.asarray(labels)
    if values.ndim != 2 or (names is not None and values.shape[1] != len(names)):
        wanted = "C" if names is None else len(names)
        raise ValueError(
            f"labels have the shape {values.shape}: several labels a record are (N, {wanted}), one column a class with"
            " 1 where the record has it, else 0"
        )
    try:
        right = np.isin(numbers := values.astype(np.float64), (0, 1)).all(axis=1)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"labels are {values.dtype}, but several labels a record are 0 or 1: {error}"
        ) from error
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(
            f"the labels of {place_of(row, ids)} are {values[row].tolist()}: each must be 0 or 1; leave out records"
            " without labels"
        )
    return numbers.astype(np.int64)


def finite_numbers(labels: Any, ids: Sequence[Any] | None = None) -> np.ndarray:
    """Return what a regression learns, (N,) or (N, O), or raise a ValueError that names a record without a number."""
    values = np.asarray(labels)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"labels are {values.dtype}, but a regressor learns numbers: {error}") from error
    finite = np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(
            f"the label of {place_of(row, ids)} is {values[row]}: give it a number, or leave the record out"
        )
    return values if values.dtype.kind in "iuf" else numbers


def place_of(row: int, ids: Sequence[Any] | None) -> str:
    """Return what errors call a row."""
    return f"row {row}" if ids is None else f"record {ids[row]}"
