"""All strategies by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from alhelpers.mining import (
    activation,
    badge,
    baseline,
    boxes,
    coreset,
    disagreement,
    distance,
    outliers,
    typicality,
    uncertainty,
)
from alhelpers.mining._own import by_column, by_function, is_column
from alhelpers.mining._selection import UnknownStrategy
from alhelpers.mining._strategy import Strategy

_FAMILIES = (
    uncertainty,
    boxes,
    disagreement,
    distance,
    outliers,
    activation,
    coreset,
    badge,
    typicality,
    baseline,
)

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {strategy.name: strategy for family in _FAMILIES for strategy in family.STRATEGIES}
)


def find(name: str | Callable[..., Any]) -> Strategy:
    """Return a strategy by its name, or of a score of one's own; an error suggests the nearest name."""
    if isinstance(name, str) and name in STRATEGIES:
        return STRATEGIES[name]
    if isinstance(name, str) and is_column(name):
        return by_column(name)
    if callable(name):
        return by_function(name)
    if isinstance(name, str) and ".py:" in name:
        raise UnknownStrategy(
            f"strategy {name!r} is a function in a file, which configurations never load: name it on the command line "
            "by --strategy, or pass the function itself"
        )
    near = difflib.get_close_matches(str(name), STRATEGIES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownStrategy(
        f"strategy {name!r} is unknown; {hint}there are: {', '.join(STRATEGIES)}, and numbers of the "
        "records such as 'metadata.blur'"
    )
