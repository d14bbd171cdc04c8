"""Shapes of annotations in the image's pixels, for SVG.

Clients may send any coordinates: an annotation that cannot be drawn has no shape, and the page lists it without one.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any

Shape = dict[str, Any]

_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_PNG = b"\x89PNG\r\n\x1a\n"
_PREFIX = "data:image/png;base64,"
MAX_POINTS = 2000
# Large enough for any image, small enough that a browser computes with it.
_LIMIT = 1e7


def shape(annotation: dict[str, Any]) -> Shape | None:
    """Return the shape of an annotation, or None if it cannot be drawn."""
    draw = _DRAWERS.get(str(annotation.get("type")))
    try:
        return draw(annotation["coordinates"]) if draw else None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        return None


def colour(value: Any, fallback: str) -> str:
    """Return a colour that is safe in an SVG attribute."""
    return value if isinstance(value, str) and _COLOUR.fullmatch(value) else fallback


def mask_png(annotation: dict[str, Any]) -> bytes | None:
    """Decode the image of a segmentation mask, or return None if it is not a PNG."""
    try:
        content = base64.b64decode(_mask_text(annotation["coordinates"]).removeprefix(_PREFIX), validate=True)
    except (TypeError, ValueError, KeyError, AttributeError, binascii.Error):
        return None
    return content if content.startswith(_PNG) else None


def messages(annotation: dict[str, Any]) -> list[str]:
    try:
        written = annotation["coordinates"]["note"]["messages"]
        return [str(message["body"]) for message in written[:50]]
    except (TypeError, KeyError, IndexError):
        return []


def _box(coordinates: Any) -> Shape:
    (left, top), (right, bottom) = _point(coordinates[0]), _point(coordinates[1])
    left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
    angle = _number(coordinates[2]) if len(coordinates) > 2 else 0.0
    rectangle = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    turn = f"rotate({angle:g} {(left + right) / 2:g} {(top + bottom) / 2:g})" if angle else None
    return {"kind": "box", "at": (left, top), "turn": turn, **rectangle}


def _polygon(coordinates: Any) -> Shape:
    # A polygon with holes is a list of rings; the even-odd rule leaves the holes empty.
    rings = _lines(coordinates)
    path = " ".join("M" + " L".join(f"{x:g} {y:g}" for x, y in ring) + " Z" for ring in rings)
    return {"kind": "polygon", "at": min(rings[0], key=lambda point: point[1]), "path": path}


def _polyline(coordinates: Any) -> Shape:
    lines = _lines(coordinates)
    path = " ".join("M" + " L".join(f"{x:g} {y:g}" for x, y in line) for line in lines)
    return {"kind": "polyline", "at": lines[0][0], "path": path}


def _mark(coordinates: Any) -> Shape:
    x, y = _point(coordinates)
    return {"kind": "point", "at": (x, y), "x": x, "y": y}


def _ellipse(coordinates: Any) -> Shape:
    x, y = _point(coordinates["center"])
    rx, ry = abs(_number(coordinates["rx"])), abs(_number(coordinates["ry"]))
    angle = _number(coordinates.get("angle") or 0)
    turn = f"rotate({angle:g} {x:g} {y:g})" if angle else None
    return {"kind": "ellipse", "at": (x, y - ry), "turn": turn, "x": x, "y": y, "rx": rx, "ry": ry}


def _mask(coordinates: Any) -> Shape:
    if not _mask_text(coordinates).startswith(_PREFIX):
        raise ValueError("a mask must be a PNG in a data url")
    return {"kind": "mask", "at": (0.0, 0.0)}


def _mask_text(coordinates: Any) -> str:
    return coordinates["data"] if isinstance(coordinates, dict) else coordinates


def _lines(coordinates: Any) -> list[list[tuple[float, float]]]:
    """Read one line of points, or a list of them."""
    lines = [coordinates] if "x" in coordinates[0] else coordinates
    if not 0 < sum(len(line) for line in lines) <= MAX_POINTS or not all(lines):
        raise ValueError("no points, or too many to draw")
    return [[_point(value) for value in line] for line in lines]


def _point(value: Any) -> tuple[float, float]:
    return _number(value["x"]), _number(value["y"])


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a coordinate must be a finite number")
    if abs(value) > _LIMIT:
        raise ValueError("too far away to draw")
    return float(value)


_DRAWERS: dict[str, Callable[[Any], Shape]] = {
    "box": _box,
    "segment": _polygon,
    "polyline": _polyline,
    "point": _mark,
    "ellipse": _ellipse,
    "binary": _mask,
    "note": lambda coordinates: _box(coordinates["box"]) | {"kind": "note"},
}
