"""Mining: choose the records of a pool that are worth a label.

:func:`mine` runs one strategy, :func:`combine` several, :func:`strategies` lists them. Each strategy stands
in the file of its family as one function, whose docstring says what it computes, when to use it and when it
fails.
"""

from alhelpers.mining._combine import combine
from alhelpers.mining._mine import mine, strategies
from alhelpers.mining._selection import (
    MiningError,
    MissingField,
    PoolExhausted,
    Selection,
    UnknownOption,
    UnknownStrategy,
)

__all__ = [
    "MiningError",
    "MissingField",
    "PoolExhausted",
    "Selection",
    "UnknownOption",
    "UnknownStrategy",
    "combine",
    "mine",
    "strategies",
]
