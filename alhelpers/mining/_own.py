"""Scores of one's own in place of a strategy's name: a number that each record has, or a function of some fields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import records as rec
from alhelpers.mining._selection import MiningError
from alhelpers.mining._strategy import Needs, Part, Strategy
from alhelpers.scores import ScoreError

#: Documents whose fields may be scores: ``metadata.blur``.
_DOCUMENTS = ("metadata.", "tags.")

# Scores are float32 in a selection.
_LARGEST = float(np.finfo(np.float32).max)


def is_column(name: str) -> bool:
    """Return whether a name is that of a field that records have, in place of a strategy."""
    return any(name.startswith(document) and name != document for document in _DOCUMENTS)


def by_column(name: str) -> Strategy:
    """Return the strategy whose score is a number that each record has, such as ``metadata.blur``."""
    return Strategy(_Column(name), lambda options: ((_column_of(name),),), documents=(name,))


def by_function(function: Callable[..., Any]) -> Strategy:
    """Return the strategy whose scores a function computes from the fields that its parameters name."""
    run = _Function(function)
    needs: Needs = tuple((_column_of(field),) for field in run.fields)
    return Strategy(run, lambda options: needs, documents=tuple(filter(is_column, run.fields)))


class _Column:
    """Select the records with the highest number in a field of their own."""

    def __init__(self, field: str) -> None:
        self.__name__ = self.field = field

    def __call__(self, part: Part, context: None) -> np.ndarray:
        return _finite(part.field(self.field), self.field)


class _Function:
    """Select the records with the highest numbers that a function of the caller's own returns."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = name_of(function)
        self.__doc__ = inspect.getdoc(function) or type(self).__doc__
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise MiningError(f"function {self.__name__!r} has no parameters to read: {error}") from error
        empty = inspect.Parameter.empty
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        options = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in named if each.default is not empty
        ]
        own = [each.name for each in named if each.default is empty]
        self.fields = tuple(getattr(function, "columns", own))
        self.__signature__ = inspect.Signature(options)
        unknown = next((field for field in self.fields if not _is_field(field)), None)
        if unknown is not None or not self.fields:
            what = f"{unknown!r}, which is no field of records" if self.fields else "none"
            raise MiningError(
                f"the parameters of function {self.__name__!r} must be fields of records, such as confidences, "
                f"embeddings or metadata, but it has {what}; give options a default, or list the fields as "
                f"{self.__name__}.columns"
            )

    def __call__(self, part: Part, context: None, **options: Any) -> np.ndarray:
        arrays = [
            part.field(field).to_numpy() if is_column(field) else part.numbers(field) for field in self.fields
        ]
        found = self.function(*arrays, **options)
        values = np.asarray(found)
        if values.shape != (len(part),) or values.dtype.kind not in "biuf":
            what = f"{values.dtype} of shape {values.shape}"
            raise MiningError(
                f"function {self.__name__!r} must return one number for each record, shape ({len(part)},), got {what}"
            )
        return _finite(pa.array(values), self.__name__)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, also of a partial one or of an object that is called."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def plain(plan: Any) -> Any:
    """Return a plan as plain data, which shares nothing with it: functions are there by their names."""
    if isinstance(plan, Mapping):
        return {key: plain(value) for key, value in plan.items()}
    if isinstance(plan, list | tuple):
        return [plain(value) for value in plan]
    return name_of(plan) if callable(plan) else plan


def _is_field(name: str) -> bool:
    layer = name.startswith("embeddings:") and name != "embeddings:"
    return name in rec.COLUMNS or layer or is_column(name)


def _column_of(field: str) -> str:
    """Return the column that holds a field; ids are always read."""
    return field.partition(".")[0] if is_column(field) else field


def _finite(values: pa.Array | pa.ChunkedArray, name: str) -> np.ndarray:
    """Return scores as float64, (n,); raise for one that is missing, NaN, infinite, or no number."""
    kind = values.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        if not pa.types.is_null(kind):
            raise MiningError(
                f"{name} must be a number in each record, to be a score, but it holds {kind}: convert it to numbers"
            )
    numbers = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False) if len(values) else np.empty(0)
    wrong = np.flatnonzero(~(np.abs(numbers) <= _LARGEST))
    if len(wrong):
        row = int(wrong[0])
        value = "missing or NaN" if np.isnan(numbers[row]) else f"{numbers[row]:g}, beyond float32"
        raise ScoreError(f"its {name} is {value}; give it a number, or leave the record out", row)
    return numbers
