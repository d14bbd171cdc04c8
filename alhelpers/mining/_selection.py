"""The result of mining, and the errors that it raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


class MiningError(ValueError):
    """Mining failed; the message names the mistake and how to correct it."""


class UnknownStrategy(MiningError):
    """The strategy does not exist."""


class UnknownOption(MiningError):
    """The strategy has no option of that name, or the value of the option is not valid."""


class MissingField(MiningError):
    """The records, or the reference, lack a field that the strategy needs."""


class PoolExhausted(MiningError):
    """The pool holds fewer records than requested."""


def check_whole(name: str, value: Any, least: int, error: type[MiningError] = MiningError) -> None:
    """Raise unless a value is a whole number that is large enough."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise error(f"{name} must be a whole number of at least {least}, got {value!r}")


@dataclass(frozen=True)
class Selection:
    """The mined records, best first.

    Parameters
    ----------
    ids : list of str or int
        The records' ids, none twice.
    scores : numpy.ndarray of shape (size,), float32
        The strategy's score of each, higher is better.
    meta : dict
        How they were chosen, in plain data: strategy, options, seed, sizes, and notes of the strategy.
    """

    ids: list[Any]
    scores: np.ndarray
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.ids)
