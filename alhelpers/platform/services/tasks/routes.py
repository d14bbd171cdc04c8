from typing import Any

from ... import dql
from ...api import Call, Raw, Route, one, paged, paged_by_url, with_id
from ...errors import bad_request
from ...events import Event
from ...query import everything, search
from ...resources import Resource, by_user
from ...store import Document
from ...validation import check_ids, require
from ..exports.models import finished
from . import assignments, counters, members, models, statuses, workload


def create(call: Call) -> Raw:
    """Make a task; with 'checkIfExist', answer with the task that its query finds instead."""
    body = require(call.body, "name", "projectId", "datasetId")
    wanted = body.get("checkIfExist")
    if wanted:
        query = require(wanted).get("query")
        found = everything(call.store, "tasks", query or {}, projectId=body["projectId"])
        if found:
            return one(call, "tasks", found[0].id)
    task = models.create(call.store, body, call.user)
    return finished(call, "CreateTask", {"createdTaskId": task["id"], "createTaskPayload": body})


def query(call: Call) -> Raw:
    body = require(call.body)
    body = body | {"filter": _by_either_name(body.get("filter"))}
    context = require(body.get("context") or {})
    scope = assignments.in_projects(context.get("projectIds") or [])
    return paged(call, "tasks", search(call.store, "tasks", body, **scope))


def _by_either_name(condition: Any) -> Any:
    """Let a condition on the name of a pipeline's task hold also for its name with that of the pipeline."""
    if isinstance(condition, list):
        return [_by_either_name(each) for each in condition]
    if not isinstance(condition, dict):
        return condition
    either = [
        {"$or": [{"name": value}, {"metadata.system.longName": value}]}
        if key == "name"
        else {key: _by_either_name(value) if key in dql.LOGICAL else value}
        for key, value in condition.items()
    ]
    return {"$and": either}


def delete(call: Call, task: Document) -> Raw:
    models.delete(call.store, task)
    return finished(call, "DeleteTask", {"deleteTaskId": task["id"]})


def add_items(call: Call, task: Document) -> Raw:
    body = require(call.body)
    items = models.matching(call.store, task, _needed(body, "query"), body.get("limit"))
    given = body.get("workload")
    shares = None if given is None else workload.parse(given)
    models.add_items(call.store, task, items, call.user, shares=shares)
    return finished(call, "AddToTask", {"addToTaskPayload": body, "taskId": task["id"]})


def remove_items(call: Call, task: Document) -> Raw:
    items = models.matching(call.store, task, _needed(require(call.body), "query"))
    removed, total = models.remove_items(call.store, task, items)
    spec = {"removeFromTaskId": task["id"], "removeItemsCount": removed, "totalItemsCount": total}
    return finished(call, "RemoveFromTask", spec)


def _needed(body: Document, field: str) -> Any:
    if body.get(field) is None:
        raise bad_request(f"{field!r} is missing: say which items")
    return body[field]


def set_in_task(call: Call, task: Document) -> Document:
    """Set or clear the status of items in a task; the answer holds those that are in it."""
    body = require(call.body)
    item_ids = check_ids("itemIds", body.get("itemIds"))
    return statuses.change(call.store, task, item_ids, _status(body.get("statusPayload")), call.user)


def set_in_assignment(call: Call, assignment: Document) -> Document:
    task = call.store.get("tasks", assignment["taskId"])
    item_id = call.params["item_id"]
    changed = statuses.change(
        call.store, task, [item_id], _status(call.body), call.user, assignment_id=assignment["id"]
    )
    return changed[item_id]


def _status(payload: Any) -> str | None:
    body = require(payload)
    operation = body.get("operation", "create")
    if operation not in ("create", "delete"):
        raise bad_request(
            f"'operation' must be 'create' (set a status) or 'delete' (clear it), got {operation!r}"
        )
    return None if operation == "delete" else require(body, "status")["status"]


def list_assignments(call: Call) -> Raw:
    return paged_by_url(call, "assignments", assignments.listed(call.store, call.query))


def update_assignment(call: Call, assignment: Document, body: Document) -> None:
    assignments.update(call.store, assignment, body, call.user, system=call.system)


def reassign(call: Call, assignment: Document) -> Raw:
    body = _checked_task(call, assignment)
    to_whom = workload.equal_shares([require(body, "annotator")["annotator"]])
    to = assignments.share_items(call.store, assignment, to_whom, call.user)
    spec = {"fromAssignment": assignment["id"], "toAssignment": to[0], "taskId": assignment["taskId"]}
    return finished(call, "ReassignAssignment", spec)


def redistribute(call: Call, assignment: Document) -> Raw:
    shares = workload.parse(_needed(_checked_task(call, assignment), "workload"))
    assignments.share_items(call.store, assignment, shares, call.user)
    spec = {"fromAssignment": assignment["id"], "taskId": assignment["taskId"]}
    return finished(call, "RedistributeAssignment", spec | {"workload": workload.to_json(shares)})


def _checked_task(call: Call, assignment: Document) -> Document:
    """Return the body of a request; the task that it may name must be that of the assignment."""
    body = require(call.body)
    if body.get("taskId") not in (None, assignment["taskId"]):
        raise bad_request(
            f"assignment {assignment['id']} is in task {assignment['taskId']}, not in {body['taskId']!r}"
        )
    return body


def forget_item(call: Call, event: Event) -> None:
    gone = members.of_item(call.store, event.id)
    call.store.delete("task_items", itemId=event.id)
    for task_id in dict.fromkeys(member["taskId"] for member in gone):
        _emit_once(call, "Task", "itemsDeleted", task_id)


def _emit_once(call: Call, resource: str, action: str, document_id: str) -> None:
    """Emit an event after all events so far, once: a thousand deleted items are counted in one go."""
    recent = [(event.resource, event.action, event.id) for event in call.store.events[-8:]]
    if (resource, action, document_id) not in recent:
        call.store.emit(resource, action, document_id)


def forget_dataset(call: Call, event: Event) -> None:
    call.store.delete("task_items", datasetId=event.id)
    for task in call.store.find_all("tasks"):
        if task["datasetId"] == event.id:
            models.delete(call.store, task)


def annotation_changed(call: Call, event: Event) -> None:
    """Update the tasks of an item after its annotations have changed, once for all changes."""
    item_id = event.detail.get("item")
    if item_id is None:
        row = call.store.first("annotations", id=event.id)
        item_id = row.parent if row else None
    if item_id and call.store.count("task_items", itemId=item_id):
        _emit_once(call, "Item", "annotationsChanged", item_id)


def update_reviews(call: Call, event: Event) -> None:
    statuses.update_tasks(call.store, event.id, call.user)


TASKS = Resource("tasks", "/annotationtasks", update=by_user(models.update))
ASSIGNMENTS = Resource("assignments", "/assignments", update=update_assignment)
ROUTES = [
    Route("POST", "/annotationtasks", create),
    Route("POST", "/annotationtasks/query", query),
    *TASKS.routes,
    Route("DELETE", "/annotationtasks/{id}", TASKS.doing(delete)),
    TASKS.at("POST", "addToTask", add_items),
    TASKS.at("POST", "removeFromTask", remove_items),
    Route("POST", "/assignments/items/tasks/{id}/status", TASKS.doing(set_in_task)),
    ASSIGNMENTS.at("POST", "items/{item_id}/status", set_in_assignment),
    Route("GET", "/assignments", list_assignments),
    *ASSIGNMENTS.routes,
    ASSIGNMENTS.at("POST", "reassign", reassign),
    ASSIGNMENTS.at("POST", "redistribute", redistribute),
]
LISTENERS = {
    ("Item", "Deleted"): forget_item,
    ("Task", "itemsDeleted"): with_id(counters.recount),
    ("Dataset", "Deleted"): forget_dataset,
    ("Item", "annotationsChanged"): update_reviews,
    ("Annotation", "Created"): annotation_changed,
    ("Annotation", "Updated"): annotation_changed,
    ("Annotation", "Deleted"): annotation_changed,
}
