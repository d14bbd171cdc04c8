"""The items of tasks: their assignments and statuses.

Each record (a place) puts an item into an assignment, or into a task without an assignment yet. What the SDK reads, the
item's ``metadata.system.refs`` and the counters of assignments and tasks, is computed from these records after every
change.
"""

from collections.abc import Iterable

from ...store import Document, Store, now

# The longest history of an item's statuses: in a loop of a pipeline it could grow without limit.
KEPT_LOG = 50
OWN_REFS = ("task", "assignment")
ISSUE, REVIEW = "issue", "review"

Member = Document


def of_item(store: Store, item_id: str, task_id: str | None = None) -> list[Member]:
    """List the places of an item: in all tasks, or in one."""
    found = store.find_all("task_items", itemId=item_id)
    return [member for member in found if task_id in (None, member["taskId"])]


def of_group(store: Store, group: str, limit: int | None = None) -> list[Member]:
    """List the places of an assignment, or (with a task's id) the unassigned places of a task."""
    return store.find_all("task_items", group=group, limit=limit)


def of_task(store: Store, task: Document) -> list[Member]:
    groups = [task["id"], *(row.id for row in store.find("assignments", taskId=task["id"]))]
    return [member for group in groups for member in of_group(store, group)]


def new(store: Store, task: Document, item_id: str, assignment_id: str | None) -> Member:
    """Build an item's place in a task; the caller stores it."""
    return {
        "id": store.new_id(),
        "group": assignment_id or task["id"],
        "taskId": task["id"],
        "assignmentId": assignment_id,
        "datasetId": task["datasetId"],
        "itemId": item_id,
        "status": None,
        **review_state(store, item_id),
    }


def review_state(store: Store, item_id: str) -> Document:
    """Count the issues of an item's annotations, and return its state of review: 'issue', 'review' or None."""
    annotations = store.find_all("annotations", itemId=item_id)
    found = [each["metadata"].get("system", {}).get("status") for each in annotations]
    issues = found.count(ISSUE)
    return {"issues": issues, "review": ISSUE if issues else REVIEW if REVIEW in found else None}


def place(store: Store, members: Iterable[Member]) -> None:
    members = list(members)
    store.put_all("task_items", members)
    update_items(store, [member["itemId"] for member in members])


def remove(store: Store, members: Iterable[Member]) -> None:
    members = list(members)
    for member in members:
        store.delete("task_items", id=member["id"])
    update_items(store, [member["itemId"] for member in members])


def move(member: Member, assignment_id: str) -> Member:
    """Move an item's place to an assignment; the caller stores it."""
    return member | {"group": assignment_id, "assignmentId": assignment_id}


def with_status(member: Member, status: str | None, user: str) -> Member:
    """Set or clear the status of a place; the caller stores it."""
    stamp = {"creator": user, "timestamp": now()} if status else {"creator": None, "timestamp": None}
    return member | {"status": status} | stamp


def update_items(store: Store, item_ids: Iterable[str], log: dict[str, list[Document]] | None = None) -> None:
    """Write the places of items into their system metadata; `log` is added to their ``taskStatusLog``."""
    documents = []
    for item_id in dict.fromkeys(item_ids):
        item = store.find_one("items", id=item_id)
        if item is None:
            continue
        system = item["metadata"].setdefault("system", {})
        _describe(system, of_item(store, item_id))
        if log and log.get(item_id):
            system["taskStatusLog"] = (log[item_id] + system.get("taskStatusLog", []))[:KEPT_LOG]
        documents.append(item)
    store.put_all("items", documents)


def _describe(system: Document, members: list[Member]) -> None:
    others = [
        ref
        for ref in system.get("refs") or []
        if not isinstance(ref, dict) or ref.get("type") not in OWN_REFS
    ]
    refs = []
    for task_id in dict.fromkeys(member["taskId"] for member in members):
        places = [member for member in members if member["taskId"] == task_id]
        # Several annotators may have the same item; it is done in the task when all of them have done it.
        last = max(places, key=lambda member: member.get("timestamp") or "")
        refs.append(_ref("task", task_id, last if all(member["status"] for member in places) else {}))
        refs += [
            _ref("assignment", member["assignmentId"], member) for member in places if member["assignmentId"]
        ]
    system["refs"] = others + refs
    statuses = list(dict.fromkeys(member["status"] for member in members if member["status"]))
    system["annotationStatus"] = statuses
    if not statuses:
        del system["annotationStatus"]


def _ref(kind: str, target: str, member: Member) -> Document:
    # No status, no metadata: filters ask whether 'metadata.status' exists.
    metadata = {key: member[key] for key in ("status", "timestamp", "creator") if member.get(key)}
    return {"id": target, "type": kind} | ({"metadata": metadata} if metadata else {})
