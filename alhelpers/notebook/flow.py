"""A running pipeline in a notebook: its graph with counts, and waiting for a condition."""

import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from alhelpers.notebook.plots.style import panels, styled

Point = tuple[float, float]

# In the editor's units: nodes nearer than this in a direction stand in one column, or row.
_NEAR = 120
# In inches: from column to column and from row to row, and half of a box.
_ACROSS, _DOWN = 1.34, 1.12
_WIDE, _HIGH = 0.5, 0.3
_COLOURS = {"storage": "#dbe9f6", "ml": "#fde3c8", "task": "#dff0d8", "custom": "#e8def8"}
_OTHER = "#eeeeee"


@styled
def pipeline_graph(pipeline: Mapping[str, Any], counts: Mapping[str, int] | None = None) -> Figure:
    """Draw the JSON of a pipeline: a box for each node with its count by node id, an arrow for each connection.

    Columns and rows are those of the pipeline editor, moved together; arrows go around the boxes.
    """
    at = {node["id"]: node["metadata"]["position"] for node in pipeline["nodes"]}
    columns, rows = (_lanes([place[axis] for place in at.values()]) for axis in "xy")
    places = {key: (columns[place["x"]] * _ACROSS, rows[place["y"]] * _DOWN) for key, place in at.items()}
    width, height = (max(place[axis] for place in places.values()) for axis in (0, 1))
    routes = []
    for source, target, action in _arrows(pipeline):
        others = [place for key, place in places.items() if key not in (source, target)]
        routes.append((_route(places[source], places[target], others), action))
    highest = min([-_HIGH - 0.2, *(y - 0.25 for route, _ in routes for _, y in route)])
    figure, (axis,) = panels(1, (width + 2 * _WIDE + 0.2, height + _HIGH - highest + 0.1))
    for route, action in routes:
        _draw_arrow(axis, route, action)
    for node in pipeline["nodes"]:
        _draw_node(axis, places[node["id"]], node, None if counts is None else counts.get(node["id"], 0))
    axis.set(xlim=(-_WIDE - 0.1, width + _WIDE + 0.1), ylim=(height + _HIGH + 0.05, highest))
    axis.set_aspect("equal")
    axis.axis("off")
    return figure


def _lanes(values: Sequence[float]) -> dict[float, int]:
    """Return the number of the column, or row, of each coordinate."""
    lanes, number, first = {}, 0, min(values)
    for value in sorted(set(values)):
        if value - first > _NEAR:
            number, first = number + 1, value
        lanes[value] = number
    return lanes


def _arrows(pipeline: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the connections; those between the same nodes are one arrow with all their actions."""
    actions: dict[tuple[str, str], list[str]] = {}
    for connection in pipeline["connections"]:
        ends = (connection["src"]["nodeId"], connection["tgt"]["nodeId"])
        actions.setdefault(ends, []).extend(filter(None, [connection.get("action")]))
    return [(source, target, ", ".join(names)) for (source, target), names in actions.items()]


def _routes(source: Point, target: Point) -> Iterator[list[Point]]:
    """Yield ways along rows and columns and between them, the shortest first."""
    (x, y), (to_x, to_y) = source, target
    below = 1 if to_y > y else -1
    over = min(y, to_y) - _HIGH - 0.32
    if to_x > x and y == to_y:
        yield [(x + _WIDE, y), (to_x - _WIDE, y)]
    if x == to_x:
        yield [(x, y + below * _HIGH), (x, to_y - below * _HIGH)]
    if to_x > x and y != to_y:
        yield [(x, y + below * _HIGH), (x, to_y), (to_x - _WIDE, to_y)]
        yield [(x + _WIDE, y), (to_x, y), (to_x, to_y - below * _HIGH)]
        for gap in (to_x - _ACROSS / 2, x + _ACROSS / 2):
            yield [(x + _WIDE, y), (gap, y), (gap, to_y), (to_x - _WIDE, to_y)]
    # Over both rows: back to an earlier node, or past nodes that stand between.
    yield [(x, y - _HIGH), (x, over), (to_x, over), (to_x, to_y - _HIGH)]
    # Out beside the source, along the gap above the target's row, and down to it.
    gap, above = x + _ACROSS / 2, to_y - _HIGH - 0.32
    yield [(x + _WIDE, y), (gap, y), (gap, above), (to_x, above), (to_x, to_y - _HIGH)]


def _crosses(route: Sequence[Point], boxes: Sequence[Point]) -> bool:
    """Whether a way along rows and columns touches a box."""
    return any(
        min(x, to_x) < across + _WIDE
        and max(x, to_x) > across - _WIDE
        and min(y, to_y) < down + _HIGH
        and max(y, to_y) > down - _HIGH
        for (x, y), (to_x, to_y) in zip(route, route[1:], strict=False)
        for across, down in boxes
    )


def _route(source: Point, target: Point, others: Sequence[Point]) -> list[Point]:
    """Return the first way that touches no other box, or the last one."""
    routes = list(_routes(source, target))
    return next((route for route in routes if not _crosses(route, others)), routes[-1])


def _draw_arrow(axis: Axes, route: Sequence[Point], action: str) -> None:
    axis.plot(*np.transpose(route[:-1]), color="#555555", linewidth=1.3, solid_joinstyle="round")
    arrow = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.3}
    axis.annotate("", xy=route[-1], xytext=route[-2], arrowprops=arrow)
    # Above its longest part; between neighbours above the boxes, as the gap is too narrow for a word.
    parts = list(zip(route, route[1:], strict=False))
    (x, y), (to_x, to_y) = max(parts, key=lambda part: abs(part[0][0] - part[1][0]))
    inside = len(route) == 2 and y == to_y and to_x - x < 2 * _ACROSS - 2 * _WIDE
    height = y - _HIGH - 0.03 if inside else min(y, to_y) - 0.04
    axis.text((x + to_x) / 2, height, action, fontsize=9, ha="center", va="bottom", color="#333333")


def _draw_node(axis: Axes, place: Point, node: Mapping[str, Any], count: int | None) -> None:
    x, y = place
    box = FancyBboxPatch(
        (x - _WIDE, y - _HIGH),
        2 * _WIDE,
        2 * _HIGH,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=_COLOURS.get(node["type"], _OTHER),
        edgecolor="#666666",
        zorder=3,
    )
    axis.add_patch(box)
    parts = node["name"].replace(": ", ":\n").splitlines()
    name = "\n".join(line for part in parts for line in textwrap.wrap(part, 13))
    shift = 0 if count is None else 0.08
    axis.text(x, y - shift, name, fontsize=9, ha="center", va="center", zorder=4, linespacing=1.0)
    if count is not None:
        axis.text(x, y + 0.2, str(count), fontsize=10, weight="bold", ha="center", va="center", zorder=4)


def wait_until(
    condition: Callable[[], bool], what: str, *, seconds: float = 600.0, every: float = 0.2
) -> None:
    """Wait until a condition holds; raise TimeoutError, with ``what`` in words, if it does not within the time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(
                f"{what} did not happen within {seconds:g} s: look at the pipeline's executions and their logs"
            )
        time.sleep(every)
