"""The statuses of items in tasks: set, changed and cleared."""

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
    _check(task, status)
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


def _check(task: Document, status: str | None) -> None:
    known = [action["action"] for action in task["availableActions"]]
    if status is not None and status not in (*known, *COMMON):
        raise bad_request(f"task {task['name']!r} has no status {status!r}; its statuses are {known}")


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
    for member in changed:
        store.emit(
            "Item",
            "statusChanged",
            member["itemId"],
            task=task["id"],
            assignment=member["assignmentId"],
            status=status,
            previous=member["status"],
            dataset=task["datasetId"],
            project=task["projectId"],
            user=user,
        )


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
