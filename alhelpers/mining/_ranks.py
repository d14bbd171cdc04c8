"""Scores of several strategies as ranks, and weights of small whole numbers, so that weighted sums are exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def as_whole(weights: Sequence[float]) -> list[float]:
    """Return weights of the same proportions, small whole numbers if they can be: sums of weighted ranks are exact."""
    exact = [Fraction(str(weight)) for weight in weights]
    unit = Fraction(
        math.gcd(*(each.numerator for each in exact)), math.lcm(*(each.denominator for each in exact))
    )
    # with a large number among them they are not exact, but must not overflow
    unit *= max(1, int(max(exact) / unit) >> 30)
    return [float(each / unit) for each in exact]


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, (N,) float64 from 1 for the lowest; ties share the mean."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(values))
    result = np.empty(len(values))
    result[order] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return result
