"""The drawing of a pipeline: positions of its nodes, and the curves between them."""

import textwrap
from collections import Counter
from typing import Any

WIDTH, HEIGHT = 156, 94
GAP_X, GAP_Y = 92, 34
MARGIN = 24
MAX_NODES, MAX_EDGES = 200, 600
# The SDK spaces its nodes for larger plates than ours.
SCALE_X, SCALE_Y = 0.75, 1.1

Point = tuple[float, float]
Places = dict[str, Point]
Edge = tuple[str, str, str]  # from, to, action


def lay_out(nodes: list[dict[str, Any]], connections: list[Any]) -> dict[str, Any]:
    """Return the size of a pipeline's drawing, its nodes (id, x, y), and its edges (path, action, from, to)."""
    shown = [str(node.get("id")) for node in nodes[:MAX_NODES]]
    edges = [edge for edge in map(_ends, connections[:MAX_EDGES]) if {edge[0], edge[1]} <= set(shown)]
    places, lanes = _given(nodes[:MAX_NODES]), [[] for _ in edges]
    if places is None:
        places, lanes = _layered(shown, edges)
    points = [*places.values(), *(point for lane in lanes for point in lane)]
    left, top = (min((point[axis] for point in points), default=0) - MARGIN for axis in (0, 1))
    places = {node: (round(x - left, 1), round(y - top, 1)) for node, (x, y) in places.items()}
    lanes = [[(x - left, y - top) for x, y in lane] for lane in lanes]
    drawn = _edges(edges, places, lanes)
    low = max([y + HEIGHT for _, y in places.values()] + [edge["low"] for edge in drawn], default=0)
    return {
        "width": round(max((x + WIDTH for x, _ in places.values()), default=0) + MARGIN),
        "height": round(low + MARGIN),
        "node_width": WIDTH,
        "node_height": HEIGHT,
        "nodes": [{"id": node, "x": places[node][0], "y": places[node][1]} for node in shown],
        "edges": drawn,
        "left_out": max(0, len(nodes) - MAX_NODES),
    }


def lines(name: str) -> list[str]:
    return textwrap.wrap(name, 17, max_lines=2, placeholder="\N{HORIZONTAL ELLIPSIS}") or [""]


def _ends(connection: Any) -> Edge:
    connection = connection if isinstance(connection, dict) else {}
    source, target = (connection.get(end) for end in ("src", "tgt"))
    ids = [end.get("nodeId") if isinstance(end, dict) else None for end in (source, target)]
    return str(ids[0]), str(ids[1]), str(connection.get("action") or "")


def _given(nodes: list[dict[str, Any]]) -> Places | None:
    """Return the nodes' own positions, or None if one is missing, too far away, or covers another node."""
    places: Places = {}
    for node in nodes:
        metadata = node.get("metadata")
        position = metadata.get("position") if isinstance(metadata, dict) else None
        values = [position.get(axis) for axis in "xy"] if isinstance(position, dict) else [None]
        if not all(isinstance(value, int | float) and abs(value) < 20_000 for value in values):
            return None
        x, y = values[0] * SCALE_X, values[1] * SCALE_Y
        if any(abs(x - left) < WIDTH + 10 and abs(y - top) < HEIGHT + 4 for left, top in places.values()):
            return None
        places[str(node.get("id"))] = (x, y)
    return places


def _layered(nodes: list[str], edges: list[Edge]) -> tuple[Places, list[list[Point]]]:
    """Place each node one column right of its predecessors, cycles aside; long edges get a point in each column."""
    columns = _columns(nodes, edges)
    stations: dict[str, int] = dict(columns)
    before: dict[str, list[str]] = {node: [] for node in nodes}
    ways: list[list[str]] = []
    for number, (source, target, _) in enumerate(edges):
        way = [f"edge {number} {column}" for column in range(columns[source] + 1, columns[target])]
        stations |= {name: columns[source] + 1 + step for step, name in enumerate(way)}
        for one, other in zip([source, *way], [*way, target], strict=True):
            before.setdefault(other, []).append(one)
        ways.append(way)
    rows = _rows(stations, before)
    places = {
        name: (column * (WIDTH + GAP_X), rows[name] * (HEIGHT + GAP_Y)) for name, column in stations.items()
    }
    return {node: places[node] for node in nodes}, [[places[name] for name in way] for way in ways]


def _rows(stations: dict[str, int], before: dict[str, list[str]]) -> dict[str, float]:
    """Assign rows in each column near the mean of the predecessors' rows, so that few edges cross."""
    rows: dict[str, float] = {}
    for column in range(max(stations.values(), default=-1) + 1):
        members = [name for name, at in stations.items() if at == column]
        wanted = {}
        for name in members:
            leading = [rows[one] for one in before[name] if one in rows]
            wanted[name] = sum(leading) / len(leading) if leading else 0.0
        lowest = 0.0
        for name in sorted(members, key=lambda name: wanted[name]):
            rows[name] = max(lowest, round(wanted[name]))
            lowest = rows[name] + 1
    return rows


def _columns(nodes: list[str], edges: list[Edge]) -> dict[str, int]:
    after: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target, _ in edges:
        after[source].append(target)
    order = _forwards(nodes, after)
    place = {node: number for number, node in enumerate(order)}
    columns = dict.fromkeys(nodes, 0)
    for node in order:
        for target in after[node]:
            if place[target] > place[node]:
                columns[target] = max(columns[target], columns[node] + 1)
    return columns


def _forwards(nodes: list[str], after: dict[str, list[str]]) -> list[str]:
    """Order the nodes depth first, so that only edges that close a cycle lead backwards."""
    seen: set[str] = set()
    finished: list[str] = []
    for root in nodes:
        path = [] if root in seen else [(root, iter(after[root]))]
        seen.add(root)
        while path:
            node, targets = path[-1]
            target = next((target for target in targets if target not in seen), None)
            if target is None:
                finished.append(node)
                path.pop()
            else:
                seen.add(target)
                path.append((target, iter(after[target])))
    return finished[::-1]


def _edges(edges: list[Edge], places: Places, lanes: list[list[Point]]) -> list[dict[str, Any]]:
    leaving, arriving = Counter(edge[0] for edge in edges), Counter(edge[1] for edge in edges)
    out: Counter[str] = Counter()
    into: Counter[str] = Counter()
    floor = max((y + HEIGHT for _, y in places.values()), default=0)
    drawn = []
    for (source, target, action), lane in zip(edges, lanes, strict=True):
        out[source] += 1
        into[target] += 1
        # Edges at one side of a node share its height.
        start = (places[source][0] + WIDTH, places[source][1] + HEIGHT * out[source] / (leaving[source] + 1))
        end = (places[target][0], places[target][1] + HEIGHT * into[target] / (arriving[target] + 1))
        if end[0] > start[0]:
            curve = _forward(start, end, lane)
        else:
            floor += 18  # each edge that leads back has its own height
            curve = _backward(start, end, floor)
        drawn.append({"from": source, "to": target, "action": action} | curve)
    return drawn


def _forward(start: Point, end: Point, lane: list[Point]) -> dict[str, Any]:
    """Draw a curve to the next column, or through the points of its lane to a later one."""
    points = [start]
    for x, y in lane:
        points += [(x, y + HEIGHT / 2), (x + WIDTH, y + HEIGHT / 2)]
    points.append((end[0] - 7, end[1]))
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x1, y1), (x2, y2) in zip(points, points[1:], strict=False):
        bend = (x2 - x1) / 2
        path += f" C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    # The action is shown at the start of the edge, between the first two columns.
    (x1, y1), (x2, y2) = points[:2]
    return {"path": path, "x": round((x1 + x2) / 2, 1), "y": round((y1 + y2) / 2 - 5, 1), "low": 0}


def _backward(start: Point, end: Point, low: float) -> dict[str, Any]:
    """Draw a curve back, below all nodes."""
    (x1, y1), (x2, y2) = start, end
    path = (
        f"M{x1:.1f} {y1:.1f} C{x1 + 50:.1f} {y1:.1f} {x1 + 50:.1f} {low:.1f} {x1 - 20:.1f} {low:.1f}"
        f" L{x2 + 20:.1f} {low:.1f} C{x2 - 50:.1f} {low:.1f} {x2 - 50:.1f} {y2:.1f} {x2 - 7:.1f} {y2:.1f}"
    )
    return {"path": path, "x": round((x1 + x2) / 2, 1), "y": round(low - 5, 1), "low": low}
