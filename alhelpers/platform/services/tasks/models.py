"""Tasks: made from a query of items and shared among assignees."""

import json
import re
from collections.abc import Callable
from typing import Any

from ... import dql
from ...errors import bad_request
from ...query import everything
from ...store import Document, Store, now, signed
from ...validation import check_whole_number, require
from . import counters, members, workload

ACTIONS: dict[str, list[dict[str, str]]] = {
    "annotation": [
        {"action": "completed", "displayName": "Completed", "color": "#2ecc71"},
        {"action": "discard", "displayName": "Discarded", "color": "#e74c3c"},
    ],
    "qa": [
        {"action": "approved", "displayName": "Approved", "color": "#2ecc71"},
        {"action": "discard", "displayName": "Discarded", "color": "#e74c3c"},
    ],
}
MEDIUM = 2
# Numbers in the system metadata of a task, with their least and greatest values.
NUMBERS = {
    "batchSize": (1, 1_000_000),
    "maxBatchWorkload": (1, 1_000_000),
    "consensusPercentage": (0, 100),
    "consensusAssignees": (1, 1000),
}


# -------------------------------------------------------------------------------------------------------- making


def create(store: Store, body: Any, user: str) -> Document:
    """Make a task from a request of the SDK, with the items of its query, shared among its assignees."""
    task, shares = planned(store, body, user)
    items = matching(store, task, body.get("query"), body.get("limit"))
    store.put("tasks", task)
    store.emit("Task", "Created", task["id"], project=task["projectId"], dataset=task["datasetId"])
    return add_items(store, task, items, user, shares=shares)


def planned(store: Store, body: Any, user: str) -> tuple[Document, workload.Workload]:
    """Build a task of a request, and the shares of its assignees; nothing is stored."""
    task = _described(store, require(body, "name", "projectId", "datasetId"), user)
    shares = workload.parse(body.get("workload") or [])
    system = task["metadata"]["system"]
    if is_pulling(task):
        shares = _check_pulling(system, shares)
    if shares:
        system["workloadDistribution"] = workload.to_json(shares)
    return task, shares


def _described(store: Store, body: Document, user: str) -> Document:
    store.row("projects", body["projectId"])
    dataset = store.get("datasets", body["datasetId"])
    recipe_id = body.get("recipeId") or next(iter(dataset["metadata"]["system"].get("recipes", [])), None)
    if recipe_id:
        store.row("recipes", _text(recipe_id, "recipeId"))
    spec = check_spec(store, body.get("spec"))
    due_date = check_due_date(body.get("dueDate"))
    actions = check_actions(body.get("availableActions")) or ACTIONS[spec["type"]]
    metadata = body.get("metadata") or {}
    return {
        "id": store.new_id(),
        **{key: body[key] for key in ("name", "projectId", "datasetId")},
        "status": counters.OPEN,
        "recipeId": recipe_id,
        "taskOwner": workload.email(body.get("taskOwner") or user),
        "spec": spec,
        "hasParent": "parentTaskId" in spec,
        "dueDate": due_date,
        "hasDueDate": bool(due_date),
        "priority": check_priority(body.get("priority")),
        "query": _stored_query(body.get("query")),
        "assignmentIds": [],
        "availableActions": actions,
        "metadata": metadata | {"system": _check_system(metadata.get("system") or {})},
        **signed(user),
        "description": check_description(body["description"]) if body.get("description") else None,
        **counters.Count().fields(actions),
    }


def is_pulling(task: Document) -> bool:
    """Return whether annotators fetch their items in batches, instead of being assigned all of them."""
    system = task["metadata"]["system"]
    return bool(system.get("batchSize") or system.get("maxBatchWorkload"))


def _check_pulling(system: Document, shares: workload.Workload) -> workload.Workload:
    batch, most = system.get("batchSize"), system.get("maxBatchWorkload")
    if batch and most and batch > most:
        raise bad_request(
            f"batch_size ({batch}) cannot be greater than max_batch_workload ({most}): raise the latter"
        )
    allowed = system.get("allowedAssignees") or [assignee for assignee, _ in shares]
    if not allowed:
        raise bad_request("a pulling task needs allowed_assignees: who may fetch its items")
    shares = workload.equal_shares(allowed)
    system["allowedAssignees"] = [assignee for assignee, _ in shares]
    return shares


def _check_system(system: Document) -> Document:
    for name, (least, most) in NUMBERS.items():
        if system.get(name) is not None:
            check_whole_number(f"metadata.system.{name}", system[name], least, most)
    allowed = system.get("allowedAssignees")
    if allowed is None:
        return dict(system)
    if not isinstance(allowed, list):
        raise bad_request(f"'metadata.system.allowedAssignees' must be a list of addresses, got {allowed!r}")
    return system | {"allowedAssignees": [workload.email(assignee) for assignee in allowed]}


# -------------------------------------------------------------------------------------------------------- checks


def check_spec(store: Store, spec: Any) -> Document:
    """Check the kind of a task; a QA task may name the task that it reviews."""
    spec = {"type": "annotation"} if spec is None else spec
    kind = spec.get("type", "annotation") if isinstance(spec, dict) else None
    if not isinstance(kind, str) or kind not in ACTIONS:
        raise bad_request(f"'spec' must have a 'type' of {sorted(ACTIONS)}, got {spec!r}")
    if spec.get("parentTaskId") is not None:
        store.row("tasks", _text(spec["parentTaskId"], "spec.parentTaskId"))
    return spec | {"type": kind}


def check_due_date(value: Any) -> int | float:
    """Check a date in milliseconds, or an ISO date or number as text; None becomes 0."""
    if value is None:
        return 0
    if isinstance(value, str):
        moment = dql.instant(value)
        number = re.fullmatch(r"\d{1,17}(\.\d{1,9})?", value)
        value = moment * 1000 if moment is not None else float(value) if number else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e17:
        raise bad_request(f"'dueDate' must be a time in milliseconds, or an ISO date, got {value!r}")
    return value


def check_priority(value: Any) -> int:
    if value is None:
        return MEDIUM
    if isinstance(value, bool) or value not in (1, 2, 3):
        raise bad_request(f"'priority' must be 1 (low), 2 (medium) or 3 (high), got {value!r}")
    return int(value)


def check_description(value: Any) -> Document:
    if isinstance(value, str):
        return {"content": value}
    if not isinstance(value, dict):
        raise bad_request(f"'description' must be {{'content': text}}, got {value!r}")
    return value


def check_actions(value: Any) -> list[Document]:
    actions = [] if value is None else value
    if not isinstance(actions, list) or not all(
        isinstance(action, dict) and isinstance(action.get("action"), str) and action["action"]
        for action in actions
    ):
        raise bad_request(f"'availableActions' must be a list of {{'action': name, ...}}, got {value!r}")
    return actions


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise bad_request(f"{field!r} must be a string, got {value!r}")
    return value


# --------------------------------------------------------------------------------------------------------- items


def parse_query(given: Any) -> Document:
    """Parse a query: an object, or its JSON, as the SDK sends it."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise bad_request(f"'query' is not valid JSON: {error}") from error
    if not isinstance(given, dict):
        raise bad_request(f"'query' must be a filter of items, got {given!r}")
    return given if "filter" in given else {"filter": given}


def _stored_query(given: Any) -> str:
    return json.dumps({"sort": {}} | parse_query(given if given is not None else {"filter": {}}))


def matching(store: Store, task: Document, query: Any, limit: Any = None) -> list[str]:
    """List the files of a task's dataset that a query finds, at most `limit` of them."""
    if limit is not None:
        check_whole_number("limit", limit)
    if query is None:
        return []
    rows = everything(store, "items", parse_query(query), datasetId=task["datasetId"], type="file")
    found = [row.id for row in rows]
    return found[:limit] if limit is not None else found


def add_items(
    store: Store, task: Document, item_ids: list[str], user: str, *, shares: workload.Workload | None = None
) -> Document:
    """Add items to a task and share them among assignees, by default those of the task; items in it stay there."""
    system = task["metadata"]["system"]
    if shares is None:
        shares = workload.parse(system.get("workloadDistribution") or [])
    fresh = [item_id for item_id in item_ids if not members.of_item(store, item_id, task["id"])]
    pieces = [] if is_pulling(task) else _shared(task, fresh, shares, _held(store, task))
    placed = []
    for assignee, piece in pieces:
        assignment_id = assignment_of(store, task, assignee, user)["id"]
        placed += [members.new(store, task, item_id, assignment_id) for item_id in piece]
    if not pieces:
        placed = [members.new(store, task, item_id, None) for item_id in fresh]
    members.place(store, placed)
    if is_pulling(task):
        for assignee, _ in shares:
            pull(store, task, assignee, user)
    return counters.recount(store, task["id"]) or task


def _held(store: Store, task: Document) -> int:
    """Count the items in a task, if that decides who gets the next one."""
    if not is_consensus(task):
        return 0
    return len({member["itemId"] for member in members.of_task(store, task)})


def is_consensus(task: Document) -> bool:
    """Return whether a task assigns some of its items to several assignees."""
    system = task["metadata"]["system"]
    kind = system.get("consensusTaskType")
    several = system.get("consensusAssignees") or system.get("consensusPercentage")
    return kind == "qualification" or bool(kind != "honeypot" and several)


def _shared(
    task: Document, item_ids: list[str], shares: workload.Workload, held: int
) -> list[tuple[str, list[str]]]:
    """Split new items among assignees; some tasks assign some of the items, or all, to several of them."""
    system = task["metadata"]["system"]
    kind = system.get("consensusTaskType")
    if not shares:
        return []
    if kind == "qualification":  # an examination: each assignee gets all items
        return workload.share_repeatedly(item_ids, shares, len(shares))
    # In a honeypot task the percentage is the share of items with known labels.
    if not is_consensus(task):
        return workload.share(item_ids, shares)
    times = system.get("consensusAssignees") or len(shares)
    if times > len(shares):
        raise bad_request(
            f"consensus_assignees ({times}) is greater than the number of assignees ({len(shares)})"
        )
    part = (system.get("consensusPercentage") or 100) / 100
    # Items that come one by one are counted together with those that are there.
    repeated = round((held + len(item_ids)) * part) - round(held * part)
    return [
        *workload.share_repeatedly(item_ids[:repeated], shares, times),
        *workload.share(item_ids[repeated:], shares),
    ]


def pull(store: Store, task: Document, assignee: str, user: str) -> int:
    """Assign the next batch to an annotator of a pulling task, unless they have open items; return its size."""
    system = task["metadata"]["system"]
    size = system.get("batchSize") or system["maxBatchWorkload"]
    waiting = members.of_group(store, task["id"], size)
    if not waiting:
        return 0
    assignment = assignment_of(store, task, assignee, user)
    if store.count("task_items", group=assignment["id"], status__missing=True):
        return 0
    members.place(store, [members.move(member, assignment["id"]) for member in waiting])
    return len(waiting)


def assignment_of(store: Store, task: Document, assignee: str, user: str) -> Document:
    """Return an annotator's assignment in a task, made if missing."""
    for assignment in store.find_all("assignments", taskId=task["id"]):
        if assignment["annotator"] == assignee:
            return assignment
    time = now()
    assignment = {
        "id": store.new_id(),
        "name": f"{task['name']} - {assignee}",
        "annotator": assignee,
        "status": counters.TODO,
        "projectId": task["projectId"],
        "taskId": task["id"],
        "taskType": task["spec"]["type"],
        "metadata": {"system": {"taskId": task["id"], "datasetId": task["datasetId"]}},
        "priority": task["priority"],
        "createdAt": time,
        "updatedAt": time,
        "updatedBy": user,
        **counters.Count().fields(task["availableActions"]),
    }
    store.put("assignments", assignment)
    store.emit("Assignment", "Created", assignment["id"], task=task["id"], project=task["projectId"])
    return assignment


def remove_items(store: Store, task: Document, item_ids: list[str]) -> tuple[int, int]:
    """Remove items without a status from a task; return the number of those, and of the given ones in the task."""
    present = [member for item_id in item_ids for member in members.of_item(store, item_id, task["id"])]
    leaving = [member for member in present if not member["status"]]
    members.remove(store, leaving)
    counters.recount(store, task["id"])
    return len(leaving), len(present)


# ------------------------------------------------------------------------------------------------------- changes


CHECKS: dict[str, Callable[[Any], Any]] = {
    **{"taskOwner": workload.email, "dueDate": check_due_date},
    **{"priority": check_priority, "description": check_description},
}


def update(store: Store, task: Document, body: Document, user: str) -> Document:
    """Change a task; its counters and system metadata stay."""
    changed = task | {"updatedAt": now(), "updatedBy": user}
    if body.get("name") is not None:
        changed["name"] = require(body, "name")["name"]
    if body.get("recipeId") not in (None, task["recipeId"]):
        changed["recipeId"] = store.row("recipes", _text(body["recipeId"], "recipeId")).id
    if body.get("availableActions"):
        changed["availableActions"] = check_actions(body["availableActions"])
    for field, check in CHECKS.items():
        if body.get(field) is not None:
            changed[field] = check(body[field])
    changed["hasDueDate"] = bool(changed["dueDate"])
    if body.get("metadata") is not None:
        changed["metadata"] = body["metadata"] | {"system": task["metadata"]["system"]}
    store.put("tasks", changed)
    store.emit("Task", "Updated", task["id"], project=task["projectId"])
    return counters.recount(store, task["id"]) or changed


def delete(store: Store, task: Document) -> None:
    inside = members.of_task(store, task)
    for row in list(store.find("assignments", taskId=task["id"])):
        store.delete("task_items", group=row.id)
        store.delete("assignments", id=row.id)
        store.emit("Assignment", "Deleted", row.id, task=task["id"], project=task["projectId"])
    store.delete("task_items", group=task["id"])
    store.delete("tasks", id=task["id"])
    members.update_items(store, [member["itemId"] for member in inside])
    store.emit("Task", "Deleted", task["id"], project=task["projectId"])
