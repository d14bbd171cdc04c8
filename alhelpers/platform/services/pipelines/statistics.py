"""Statistics of a pipeline: its cycles and its nodes' executions, counted by status."""

from collections import Counter
from datetime import datetime

from ...store import Document, Store
from . import graph


def count(store: Store, pipeline: Document) -> Document:
    """Count the cycles of a pipeline, and the executions of its nodes, since its counters were reset."""
    cycles: Counter[str] = Counter()
    nodes: dict[str, Counter[str]] = {node["id"]: Counter() for node in graph.nodes(pipeline)}
    seconds: list[float] = []
    days = set()
    since = pipeline.get("countedFrom") or ""
    for cycle in map(store.parsed, store.find("cycles", pipelineId=pipeline["id"], id__gt=since)):
        cycles[cycle["status"]] += 1
        days.add(cycle["createdAt"][:10])
        begun, ended = (datetime.fromisoformat(cycle[key]) for key in ("createdAt", "updatedAt"))
        seconds.append((ended - begun).total_seconds())
        for node_id, counts in cycle["counts"].items():
            nodes.setdefault(node_id, Counter()).update(counts)
    return {
        "pipelineExecutionCounters": _counters(cycles),
        "nodeExecutionsCounters": [
            {"nodeId": node_id, "statusCount": _counters(counts)} for node_id, counts in nodes.items()
        ],
        "pipelineExecutionStatistics": _averages(seconds, sum(cycles.values()), len(days)),
        "nodeExecutionStatistics": [
            {"nodeId": node_id, "executionStatistics": _averages([], sum(counts.values()), len(days))}
            for node_id, counts in nodes.items()
        ],
    }


def _counters(counts: Counter[str]) -> list[Document]:
    return [{"status": status, "count": number} for status, number in sorted(counts.items()) if number]


def _averages(seconds: list[float], total: int, days: int) -> Document:
    return {
        "avgTimePerExecution": round(sum(seconds) / len(seconds), 3) if seconds else "NA",
        "avgExecutionsPerDay": round(total / days, 3) if days else "NA",
    }
