"""Exact shares, and the nearest whole numbers of items."""

import math
from collections.abc import Sequence
from fractions import Fraction


def whole_counts(total: int, weights: Sequence[float]) -> list[int]:
    """Divide whole items by the method of the largest remainder.

    Parameters
    ----------
    total : int
        How many items there are.
    weights : sequence of float
        Each group's share, relative to the others.

    Returns
    -------
    list of int
        The groups' numbers of items; they add up to `total`, and each is its exact share rounded down or up.
        Among equal remainders the earlier group is rounded up.

    Examples
    --------
    >>> whole_counts(14, [70, 10, 20])
    [10, 1, 3]
    """
    exact = exact_shares(total, weights)
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: counts[index] - exact[index])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def exact_shares(total: int, weights: Sequence[float]) -> list[Fraction]:
    """Divide a total in proportion to weights, without rounding."""
    # The number as written: 0.1 is a tenth, not the nearest binary fraction.
    written = [Fraction(repr(float(weight))) for weight in weights]
    whole = sum(written) or Fraction(1)
    return [total * weight / whole for weight in written]
