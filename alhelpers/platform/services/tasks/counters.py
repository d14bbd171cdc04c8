"""The counters and statuses of tasks and assignments: worked out from the places of their items."""

import json
from typing import Any

from ...store import Store

OPEN, COMPLETED = "open", "completed"
TODO, IN_PROGRESS, DONE = "todo", "in progress", "done"

Tally = dict[str | None, int]


def empty(actions: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the counters of something without items."""
    return _counted({}, actions)


def recount(store: Store, task_id: str) -> dict[str, Any] | None:
    """Bring a task and its assignments up to date; assignments without items go.

    Returns
    -------
    dict or None
        The task; None when it is gone.
    """
    row = next(store.select("tasks", "id = ?", (task_id,)), None)
    if row is None:
        return None
    task = json.loads(row.doc)
    total: Tally = store.tally("task_items", "scope = ?", task_id)
    assignment_ids = []
    for found in list(store.select("assignments", "parent = ?", (task_id,), "ORDER BY id")):
        tally = store.tally("task_items", "scope = ?", found.id)
        if not tally:
            store.delete("assignments", "id = ?", found.id)
            store.emit("Assignment", "Deleted", found.id, task=task_id)
            continue
        assignment_ids.append(found.id)
        _refresh_assignment(store, json.loads(found.doc), tally, task)
        for status, number in tally.items():
            total[status] = total.get(status, 0) + number
    counted = task | _counted(total, task["availableActions"]) | {"assignmentIds": assignment_ids}
    if task["status"] != "dismissed":
        counted["status"] = COMPLETED if total and not total.get(None) else OPEN
    _write(store, "tasks", "Task", task, counted)
    return counted


def _refresh_assignment(store: Store, assignment: dict[str, Any], tally: Tally, task: dict[str, Any]) -> None:
    remaining = tally.get(None, 0)
    status = DONE if not remaining else TODO if remaining == sum(tally.values()) else IN_PROGRESS
    counted = assignment | _counted(tally, task["availableActions"]) | {"status": status}
    _write(store, "assignments", "Assignment", assignment, counted)


def _write(store: Store, kind: str, resource: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    if after == before:
        return
    store.put(kind, after)
    if after["status"] != before["status"]:
        store.emit(resource, "statusChanged", after["id"], status=after["status"], project=after["projectId"])


def _counted(tally: Tally, actions: list[dict[str, Any]]) -> dict[str, Any]:
    total, remaining = sum(tally.values()), tally.get(None, 0)
    by_action = {action["action"]: 0 for action in actions}
    by_action |= {status: number for status, number in tally.items() if status}
    return {
        "totalItems": total,
        "itemStatus": {"completed": total - remaining, "remaining": remaining, "actions": by_action},
        "progress": round(100 * (total - remaining) / total) if total else 0,
    }
