"""All strategies by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from alhelpers.mining import (
    activation,
    badge,
    baseline,
    coreset,
    disagreement,
    distance,
    outliers,
    typicality,
    uncertainty,
)
from alhelpers.mining._selection import UnknownStrategy
from alhelpers.mining._strategy import Strategy

_FAMILIES = (uncertainty, disagreement, distance, outliers, activation, coreset, badge, typicality, baseline)

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {strategy.name: strategy for family in _FAMILIES for strategy in family.STRATEGIES}
)


def find(name: str) -> Strategy:
    """Return a strategy by its name; an error suggests the nearest name."""
    if isinstance(name, str) and name in STRATEGIES:
        return STRATEGIES[name]
    near = difflib.get_close_matches(str(name), STRATEGIES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownStrategy(f"strategy {name!r} is unknown; {hint}there are: {', '.join(STRATEGIES)}")
