"""What mining gives, and the errors it raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


class MiningError(ValueError):
    """Mining that cannot be done as asked; the message names what is wrong and the way out."""


class UnknownStrategy(MiningError):
    """There is no strategy of that name."""


class UnknownOption(MiningError):
    """The strategy has no option of that name, or the option cannot have that value."""


class MissingField(MiningError):
    """The records, or the reference, lack a field that the strategy needs."""


class PoolExhausted(MiningError):
    """The pool holds fewer records than were asked for."""


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
        How they were chosen, in plain data: strategy, options, seed, sizes, and what the strategy notes.
    """

    ids: list[Any]
    scores: np.ndarray
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.ids)
