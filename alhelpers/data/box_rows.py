"""Rows of boxes: one dict a box, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

#: The sides of a box, in pixels.
SIDES = ("left", "top", "right", "bottom")

#: Pixels by which a box may end outside of its image, as tools round; it is cut there.
ROUNDED = 1.0

Sides = tuple[float, float, float, float]


def cut_box(sides: Sequence[float], height: float, width: float) -> Sides | None:
    """Return a box cut at the borders of its image, or None if it is not inside of it, but for rounding."""
    left, top, right, bottom = sides
    cut = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
    beyond = max(-left, -top, right - width, bottom - height)
    return cut if beyond <= ROUNDED and cut[0] < cut[2] and cut[1] < cut[3] else None


def number_of(row: Mapping[str, Any], key: str, where: str) -> float:
    """Return a number of a row, which may be NaN; a ValueError opens with ``where``."""
    value = row.get(key)
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number) and not isinstance(value, float):
        found = f"the {key} {value!r}" if key in row else f"no {key!r}"
        raise ValueError(f"{where} has {found}: it must be a number")
    return number


def sides_of(row: Any, where: str) -> list[float]:
    """Return left, top, right and bottom of a row; a ValueError opens with ``where``."""
    if not isinstance(row, Mapping):
        raise ValueError(
            f"{where} is of type {type(row).__name__}: it must be a dict of image_id, label, {', '.join(SIDES)}"
        )
    return [number_of(row, side, where) for side in SIDES]
