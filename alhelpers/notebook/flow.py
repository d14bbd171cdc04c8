"""A running pipeline in a notebook: its graph with counts, and waiting for a condition."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

#: Half the width and half the height of a node, in the units of the pipeline editor.
_WIDE, _HIGH = 135, 45
_COLOURS = {"storage": "#dbe9f6", "ml": "#fde3c8", "task": "#dff0d8", "custom": "#e8def8"}
_OTHER = "#eeeeee"


def pipeline_graph(pipeline: Mapping[str, Any], counts: Mapping[str, int] | None = None) -> Figure:
    """Draw the JSON of a pipeline: a box for each node with its count by node id, an arrow for each connection."""
    places = {
        node["id"]: (node["metadata"]["position"]["x"], node["metadata"]["position"]["y"])
        for node in pipeline["nodes"]
    }
    across = max(x for x, _ in places.values()) - min(x for x, _ in places.values())
    down = max(y for _, y in places.values()) - min(y for _, y in places.values())
    figure, axis = plt.subplots(
        figsize=((across + 3 * _WIDE) / 190, (down + 4 * _HIGH) / 190), layout="constrained"
    )
    for source, target, action in _arrows(pipeline):
        _draw_arrow(axis, places[source], places[target], action)
    for node in pipeline["nodes"]:
        _draw_node(axis, places[node["id"]], node, None if counts is None else counts.get(node["id"], 0))
    axis.set(aspect="equal")
    axis.axis("off")
    axis.invert_yaxis()
    axis.autoscale_view()
    return figure


def _arrows(pipeline: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the connections; those between the same nodes are one arrow with all their actions."""
    actions: dict[tuple[str, str], list[str]] = {}
    for connection in pipeline["connections"]:
        ends = (connection["src"]["nodeId"], connection["tgt"]["nodeId"])
        actions.setdefault(ends, []).extend(filter(None, [connection.get("action")]))
    return [(source, target, ", ".join(names)) for (source, target), names in actions.items()]


def _draw_arrow(axis: Axes, source: tuple[float, float], target: tuple[float, float], action: str) -> None:
    (x, y), (to_x, to_y) = source, target
    if to_x < x:  # back to an earlier node: over the top
        start, end, bend = (x, y - _HIGH), (to_x, to_y - _HIGH), "arc3,rad=0.35"
        words = ((x + to_x) / 2, y - _HIGH - 0.17 * (x - to_x))
    elif to_x == x:
        down = 1 if to_y > y else -1
        start, end, bend = (x, y + down * _HIGH), (to_x, to_y - down * _HIGH), "arc3"
        words = (x + 8, (y + to_y) / 2)
    else:
        start, end, bend = (x + _WIDE, y), (to_x - _WIDE, to_y), "arc3"
        # Above the boxes: the gap between them is too narrow for a word.
        words = ((x + to_x) / 2, min(y, to_y) - _HIGH - 6)
    arrow = {"arrowstyle": "-|>", "connectionstyle": bend, "color": "#555555", "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", xy=end, xytext=start, arrowprops=arrow)
    axis.text(*words, action.replace(", ", ",\n"), fontsize=6.5, ha="center", va="bottom", color="#333333")


def _draw_node(axis: Axes, place: tuple[float, float], node: Mapping[str, Any], count: int | None) -> None:
    x, y = place
    colour = _COLOURS.get(node["type"], _OTHER)
    box = FancyBboxPatch(
        (x - _WIDE, y - _HIGH),
        2 * _WIDE,
        2 * _HIGH,
        boxstyle="round,pad=0,rounding_size=18",
        facecolor=colour,
        edgecolor="#666666",
    )
    axis.add_patch(box)
    text = node["name"] if count is None else f"{node['name']}\n{count}"
    axis.text(x, y, text, fontsize=8, ha="center", va="center")


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
