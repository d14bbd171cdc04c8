"""Polygons to masks, and masks to polygons whose mask is the same again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The ways along the edges of pixels, in turns to the right: right, down, left, up.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def fill_polygon(polygon: Sequence[float], height: int, width: int) -> np.ndarray:
    """Return the mask (H, W) of the pixels whose centre is inside of a polygon x, y, x, y, ... by the even-odd rule."""
    points = np.asarray(polygon, dtype=float).reshape(-1, 2)
    ends = np.stack([points, np.roll(points, -1, axis=0)])
    # From left to right, so that an edge that is passed there and back crosses columns at the same places.
    order = np.lexsort((ends[..., 1], ends[..., 0]), axis=0)
    (x0, y0), (x1, y1) = (np.take_along_axis(ends, order[i : i + 1, :, None], 0)[0].T for i in (0, 1))
    first, last = (np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp) for x in (x0, x1))
    counts = last - first
    edge = np.repeat(np.arange(len(points)), counts)
    column = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (y1 - y0)[edge] / (x1 - x0)[edge]
    row = np.ceil(y0[edge] + (column + 0.5 - x0[edge]) * slope - 0.5)
    # A column has an even number of crossings: what is cut at its end does not reach the next one.
    place = column * height + np.clip(row, 0, height).astype(np.intp)
    crossings = np.bincount(place, minlength=height * width + 1)[:-1]
    return (np.cumsum(crossings) % 2 == 1).reshape(width, height).T


def trace_polygons(mask: np.ndarray) -> list[list[float]]:
    """Return polygons along the edges of a mask's pixels, one a part that hangs together by sides of pixels.

    A hole is joined to the edge around it by a line that is passed there and back; :func:`fill_polygon` fills it as
    the hole that it is.
    """
    outlines = _outlines(np.asarray(mask, dtype=bool))
    outer = sorted((one for one in outlines if _area(one) > 0), key=_area)
    around: list[list[tuple[int, int]]] = [[*one, one[0]] for one in outer]
    for hole in outlines:
        if _area(hole) > 0:
            continue
        x, y = min(hole, key=lambda point: (point[1], point[0]))
        # The pixel below and right of its first corner is in the hole.
        place = next(place for place, one in enumerate(outer) if _is_inside(one, x + 0.5, y + 0.5))
        around[place] += [*hole, hole[0], around[place][0]]
    return [[float(side) for point in one[:-1] for side in point] for one in around]


def _outlines(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return the corners of all closed lines between set pixels and others; what is set is on their right."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    # Edges start at the corner of a pixel; of each pixel in turn its upper, right, lower and left one.
    beyond = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))
    ways: dict[tuple[int, int], set[int]] = {}
    for way, (other, (right, down)) in enumerate(zip(beyond, corners, strict=True)):
        for y, x in np.argwhere(inside & ~other).tolist():
            ways.setdefault((x + right, y + down), set()).add(way)
    found = []
    while ways:
        start = next(iter(ways))
        first = way = ways[start].pop()
        point, outline = start, [start]
        while True:
            if not ways[point]:
                del ways[point]
            point = (point[0] + _STEPS[way][0], point[1] + _STEPS[way][1])
            if point == start:
                break
            # To the right where pixels touch at a corner alone, so that they are parts of their own.
            turned = next(each for each in ((way + 1) % 4, way, (way + 3) % 4) if each in ways[point])
            ways[point].remove(turned)
            if turned != way:
                outline.append(point)
            way = turned
        found.append(outline if way != first else outline[1:])
    return found


def _area(outline: Sequence[tuple[int, int]]) -> float:
    """Return the area inside of an outline, above 0 if it turns to the right."""
    x, y = np.array(outline).T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def _is_inside(outline: Sequence[tuple[int, int]], x: float, y: float) -> bool:
    (x0, y0), (x1, y1) = (np.roll(outline, -shift, axis=0).T for shift in (0, 1))
    # Edges are upright or level; those that are level and below the point are crossed by a line downwards.
    return bool(
        np.count_nonzero((y0 == y1) & (y0 > y) & (np.minimum(x0, x1) < x) & (x < np.maximum(x0, x1))) % 2
    )
