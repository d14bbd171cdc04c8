"""The statuses of items in tasks: set, changed and cleared, and reset by an issue of an annotation."""

from ...errors import bad_request, not_found
from ...store import Document, Store, now
from . import counters, members, models

# Every task accepts these statuses, beside its own.
COMMON = ("completed", "complete", "approved", "approve", "discard")


def change(
    store: Store,
    task: Document,
    item_ids: list[str],
    status: str | None,
    user: str,
    *,
    assignment_id: str | None = None,
) -> dict[str, Document]:
    """Set or clear the status of items in a task, or in one assignment; return the status of those that are in it."""
    known = [action["action"] for action in task["availableActions"]]
    if status is not None and status not in (*known, *COMMON):
        raise bad_request(f"task {task['name']!r} has no status {status!r}; its statuses are {known}")
    present = {
        item_id: [
            member
            for member in members.of_item(store, item_id, task["id"])
            if assignment_id in (None, member["assignmentId"])
        ]
        for item_id in dict.fromkeys(item_ids)
    }
    present = {item_id: places for item_id, places in present.items() if places}
    if item_ids and not present:
        where = f"assignment {assignment_id}" if assignment_id else f"task {task['id']}"
        raise not_found(f"item in {where}", item_ids[0])
    changed = [member for places in present.values() for member in places if member["status"] != status]
    _apply(store, task, changed, status, user)
    return {
        item_id: {"status": status, "taskId": task["id"], "assignmentId": places[0]["assignmentId"]}
        for item_id, places in present.items()
    }


def _apply(
    store: Store, task: Document, changed: list[members.Member], status: str | None, user: str
) -> None:
    marked = [members.with_status(member, status, user) for member in changed]
    store.put_all("task_items", marked)
    log: dict[str, list[Document]] = {}
    for member in changed:
        log.setdefault(member["itemId"], []).append(_entry(member, status, user))
    members.update_items(store, list(log), log)
    if models.is_pulling(task):
        _pull_next(store, task, changed, user)
    counters.recount(store, task["id"])
    about = {"task": task["id"], "dataset": task["datasetId"], "project": task["projectId"]}
    for member in changed:
        own = {"assignment": member["assignmentId"], "previous": member["status"]}
        store.emit("Item", "statusChanged", member["itemId"], status=status, user=user, **about, **own)


def _entry(member: members.Member, status: str | None, user: str) -> Document:
    about = {
        "taskId": member["taskId"],
        "assignmentId": member["assignmentId"],
        "status": status or member["status"],
        "creator": user,
        "timestamp": now(),
    }
    return {"action": "create" if status else "delete", "status": about}


def _pull_next(store: Store, task: Document, changed: list[members.Member], user: str) -> None:
    for assignment_id in dict.fromkeys(member["assignmentId"] for member in changed):
        if assignment_id:
            annotator = store.get("assignments", assignment_id)["annotator"]
            models.pull(store, task, annotator, user)


def update_tasks(store: Store, item_id: str, user: str) -> None:
    """Update the tasks of an item after a change of its annotations; a new issue reopens it for its annotators."""
    places = members.of_item(store, item_id)
    if not places:
        return
    state = members.review_state(store, item_id)
    fresh = state["issues"] > max(member["issues"] for member in places)
    changed = [member for member in places if member | state != member]
    store.put_all("task_items", [member | state for member in changed])
    for task_id in dict.fromkeys(member["taskId"] for member in changed):
        counters.recount(store, task_id)
    if fresh:
        for task in _labelling_tasks(store, places):
            change(store, task, [item_id], None, user)


def _labelling_tasks(store: Store, places: list[members.Member]) -> list[Document]:
    """Find the tasks that the QA tasks of an item review: their parents, or else all that label it."""
    tasks = {member["taskId"]: store.get("tasks", member["taskId"]) for member in places}
    reviews = [task for task in tasks.values() if task["spec"]["type"] == "qa"]
    parents = {task["spec"].get("parentTaskId") for task in reviews}
    if not reviews:
        return []
    return [
        task
        for task in tasks.values()
        if task["id"] in parents or (None in parents and task["spec"]["type"] == "annotation")
    ]
