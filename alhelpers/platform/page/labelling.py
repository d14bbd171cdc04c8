"""Views of tasks and of the tasks of an item, and the status of an item in a task."""

from typing import Any

from ..api import Call
from ..errors import bad_request
from ..services.tasks import members, statuses
from . import views

MAX_ASSIGNMENTS = 200
OPEN = "open"


def task(call: Call) -> dict[str, Any]:
    row = call.store.row("tasks", call.params["task_id"])
    shown = call.store.parsed(row)
    found = call.store.find_all("assignments", taskId=row.id, limit=MAX_ASSIGNMENTS)
    assignments = {one["id"]: one for one in found}
    only = {name: call.query.get(name, "") for name in ("status", "assignment")}
    paging, places = views.listing(call, "task_items", "id", **_places(row.id, assignments, only))
    colours = views.label_colours(call, shown["datasetId"])
    dataset = (views.name_of(call, "datasets", shown["datasetId"]), f"/datasets/{shown['datasetId']}")
    return {
        "task": shown,
        "crumbs": [*views.project_crumbs(call, row.scope), dataset],
        "actions": actions_of(shown),
        "counts": _counts(shown),
        "assignments": list(assignments.values()),
        "only": only,
        "items": [
            one for place in places if (one := _card(call, call.store.parsed(place), assignments, colours))
        ],
        "paging": paging,
    }


def _places(task_id: str, assignments: dict[str, Any], only: dict[str, str]) -> dict[str, Any]:
    groups = [task_id, *assignments]
    if only["assignment"] in assignments:
        groups = [only["assignment"]]
    if only["status"] == OPEN:
        return {"group": groups, "status__missing": True}
    return {"group": groups} | ({"status": only["status"]} if only["status"] else {})


def _card(
    call: Call, place: dict[str, Any], assignments: dict[str, Any], colours: dict[str, str]
) -> dict[str, Any] | None:
    row = call.store.first("items", id=place["itemId"])
    if row is None:
        return None
    assignment = assignments.get(place["assignmentId"]) or {}
    return views.card(call, row, colours) | {
        "status": place["status"],
        "assignment": place["assignmentId"],
        "href": f"/tasks/{place['taskId']}/items/{row.id}"
        + (f"?assignment={place['assignmentId']}" if place["assignmentId"] else ""),
        "annotator": assignment.get("annotator"),
    }


def actions_of(task: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"action": action["action"], "text": str(action.get("displayName") or action["action"])}
        for action in task["availableActions"]
    ]


def _counts(task: dict[str, Any]) -> list[dict[str, Any]]:
    status = task["itemStatus"]
    tabs = [
        {"status": "", "text": "All", "count": task["totalItems"]},
        {"status": OPEN, "text": "Open", "count": status["remaining"]},
    ]
    names = {one["action"]: one["text"] for one in actions_of(task)}
    return tabs + [
        {"status": action, "text": names.get(action, action), "count": count}
        for action, count in status["actions"].items()
    ]


def item(call: Call) -> dict[str, Any]:
    return views.item(call) | {"places": _of_item(call, call.params["item_id"])}


def _of_item(call: Call, item_id: str) -> list[dict[str, Any]]:
    """List the tasks of an item, with its status in each."""
    places = [
        (place, call.store.find_one("tasks", id=place["taskId"]))
        for place in members.of_item(call.store, item_id)[:50]
    ]
    return [
        {
            "task": task["id"],
            "name": task["name"],
            "status": place["status"],
            "assignment": place["assignmentId"],
        }
        for place, task in places
        if task is not None
    ]


def set_status(call: Call) -> dict[str, Any]:
    """Set the status of an item in a task; an empty status clears it."""
    task = call.store.get("tasks", call.params["task_id"])
    status = call.body.get("status")
    if status is None:
        raise bad_request("the form must have a 'status'")
    assignment_id = call.body.get("assignment") or None
    statuses.change(
        call.store, task, [call.params["item_id"]], status or None, call.user, assignment_id=assignment_id
    )
    return {}
