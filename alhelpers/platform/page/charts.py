"""Curves as scales, ticks and paths for SVG."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 12, 28
MAX_FIGURES, MAX_SERIES, MAX_POINTS, MAX_NUMBERS = 24, 8, 300, 100

Point = tuple[float, float]


def figures(samples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, list[Point]]] = {}
    for sample in samples:
        point = _point(sample.get("data"))
        if point is not None:
            series = found.setdefault(str(sample.get("figure")), {})
            series.setdefault(str(sample.get("legend")), []).append(point)
    return [draw(name, found[name]) for name in sorted(found)[:MAX_FIGURES]]


def precision_recall(name: str, content: Any) -> dict[str, Any] | None:
    """Draw the precision-recall curves of an evaluation file, or return None if it has none."""
    series: dict[str, list[Point]] = {}
    for overlap in ("0.5", "0.7", "0.9"):
        found = content.get(overlap) if isinstance(content, dict) else None
        lists = [found.get(key) for key in ("recall", "precision")] if isinstance(found, dict) else []
        if len(lists) == 2 and all(isinstance(one, list) for one in lists):
            points = [_point({"x": x, "y": y}) for x, y in zip(*lists, strict=False)]
            points = [point for point in points if point is not None]
            # Without boxes, the overlap makes no difference.
            if points and points not in series.values():
                series[f"overlap {overlap}"] = points
    return draw(name, series, at_least=[0.0, 1.0]) if series else None


def draw(name: str, series: dict[str, list[Point]], at_least: Sequence[float] = ()) -> dict[str, Any]:
    """Lay out one figure: axes that include the values `at_least`, and each series as a path and as text."""
    shown = {legend: sorted(points, key=lambda point: point[0]) for legend, points in series.items()}
    shown = dict(sorted(shown.items())[:MAX_SERIES])
    xs = _ticks([*at_least, *(x for points in shown.values() for x, _ in points)], whole=True)
    ys = _ticks([*at_least, *(y for points in shown.values() for _, y in points)])
    return {
        "name": name,
        "width": WIDTH,
        "height": HEIGHT,
        "frame": {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM},
        "xs": [{"at": round(_across(x, xs), 1), "text": _number(x)} for x in xs],
        "ys": [{"at": round(_down(y, ys), 1), "text": _number(y)} for y in ys],
        "series": [_series(legend, points, xs, ys) for legend, points in shown.items()],
        "left_out": max(0, len(series) - MAX_SERIES),
    }


def _series(legend: str, points: list[Point], xs: Sequence[float], ys: Sequence[float]) -> dict[str, Any]:
    thin = _thinned(points)
    places = [(round(_across(x, xs), 1), round(_down(y, ys), 1)) for x, y in thin]
    lowest, highest = min(points, key=lambda point: point[1]), max(points, key=lambda point: point[1])
    return {
        "legend": legend,
        "path": "M" + " L".join(f"{x:g} {y:g}" for x, y in places),
        # Dots as well while there are few: a single point has no line.
        "dots": places if len(places) <= 40 else [],
        "count": len(points),
        "numbers": [(_number(x), _number(y)) for x, y in points[:MAX_NUMBERS]],
        "words": (
            f"{legend}: from {_number(points[0][1])} at {_number(points[0][0])}"
            f" to {_number(points[-1][1])} at {_number(points[-1][0])},"
            f" lowest {_number(lowest[1])} at {_number(lowest[0])},"
            f" highest {_number(highest[1])} at {_number(highest[0])}"
        ),
    }


def _thinned(points: list[Point]) -> list[Point]:
    """Return at most MAX_POINTS points, with the first and the last."""
    if len(points) <= MAX_POINTS:
        return points
    step = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(number * step)] for number in range(MAX_POINTS)]


def _ticks(values: list[float], *, whole: bool = False) -> list[float]:
    """Choose four to eight round numbers around the values."""
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / 4
    factors: tuple[float, ...] = (1, 2, 2.5, 5, 10)
    if whole and all(value == int(value) for value in values):
        raw, factors = max(raw, 1.0), (1, 2, 5, 10)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(magnitude * factor for factor in factors if magnitude * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [number * step for number in range(first, last + 1)]


def _across(x: float, ticks: Sequence[float]) -> float:
    return LEFT + (x - ticks[0]) / (ticks[-1] - ticks[0]) * (WIDTH - LEFT - RIGHT)


def _down(y: float, ticks: Sequence[float]) -> float:
    return HEIGHT - BOTTOM - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)


def _point(data: Any) -> Point | None:
    if not isinstance(data, dict):
        return None
    x, y = data.get("x"), data.get("y")
    return (float(x), float(y)) if _finite(x) and _finite(y) else None


def _finite(value: Any) -> bool:
    # Beyond this, differences lose their meaning or overflow.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and value == value and abs(value) < 1e15


def _number(value: float) -> str:
    return f"{value:.4g}" if value else "0"
