"""Arrays of what several passes say of each object, checked: (M, T, ...), NaN where a pass did not find the object."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import ScoreError, numbers


def passes_of(values: ArrayLike, name: str, shape: str, ndim: int) -> np.ndarray:
    """Return numbers of a shape; raise for another, or one without passes."""
    given = numbers(values, name)
    if given.ndim != ndim or 0 in given.shape[1:]:
        raise ScoreError(f"{name} must have shape {shape}, none of them 0 but M, got {given.shape}")
    return given


def which_found(values: np.ndarray, name: str, start: int, *, some: bool = True) -> np.ndarray:
    """Return which passes found each object, (M, T); raise for a row with infinity, or NaN in a part of a pass."""
    flat = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    missing = np.isnan(flat)
    found = ~missing.all(axis=2)
    broken = np.isinf(flat).any(axis=2) | (missing.any(axis=2) & found)
    refuse(
        broken,
        flat,
        name,
        start,
        "a pass must have finite numbers, or NaN alone if it did not find the object",
    )
    if some:
        check_some(found, name, start)
    return found


def refuse(wrong: np.ndarray, values: np.ndarray, name: str, start: int, rule: str) -> None:
    """Raise for the first object and pass that is wrong."""
    if wrong.any():
        row, number = map(int, np.argwhere(wrong)[0])
        shown = np.array2string(values[row, number], threshold=8, precision=6)
        raise ScoreError(f"row {start + row} of {name}, pass {number}: {rule}, got {shown}", start + row)


def check_some(found: np.ndarray, name: str, start: int) -> None:
    """Raise for the first object that no pass found."""
    none = np.flatnonzero(~found.any(axis=1))
    if len(none):
        row = start + int(none[0])
        raise ScoreError(f"row {row} of {name}: no pass found this object; leave it out", row)


def flags_of(found: ArrayLike, shape: tuple) -> np.ndarray:
    """Return which passes found each object as it is given, bool; raise for another shape or type."""
    given = np.asarray(found)
    if given.dtype != bool or given.shape != shape:
        raise ScoreError(
            f"what passes found must be bool of shape {shape}, got {given.dtype} values of shape {given.shape}"
        )
    return given


def mean_of_found(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the mean over the passes that found each object."""
    there = found.reshape(*found.shape, *(1,) * (values.ndim - 2))
    return np.where(there, values, 0).sum(axis=1) / there.sum(axis=1)
