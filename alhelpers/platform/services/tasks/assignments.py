"""Assignments: who works on which items of a task."""

from collections.abc import Mapping
from typing import Any

from ...errors import bad_request
from ...store import Document, Row, Store, now
from ...validation import check_ids, require
from . import counters, members, models, workload

MAX_PROJECTS = 500


def in_projects(ids: Any) -> Document:
    """Return the condition that documents lie in some projects; no ids mean all projects."""
    if len(check_ids("projects", ids)) > MAX_PROJECTS:
        raise bad_request(f"ask for at most {MAX_PROJECTS} projects at once, not for {len(ids)}")
    return {"projectId": ids} if ids else {}


def listed(store: Store, query: Mapping[str, str]) -> list[Row]:
    """List the assignments that a query string asks for, oldest first."""
    where = in_projects([project for project in query.get("projects", "").split(",") if project])
    if query.get("taskId"):
        where["taskId"] = query["taskId"]
    rows = list(store.find("assignments", **where))
    wanted = {key: query[key] for key in ("name", "status", "annotator") if query.get(key)}
    if "annotator" in wanted:
        # The SDK does not escape what it writes into the url, where a plus is a space.
        wanted["annotator"] = wanted["annotator"].lower().replace(" ", "+")
    if wanted:
        rows = [row for row in rows if wanted.items() <= store.parsed(row).items()]
    return rows


def update(store: Store, assignment: Document, body: Document, user: str, *, system: bool) -> None:
    changed = assignment | {"updatedAt": now(), "updatedBy": user}
    if body.get("name") is not None:
        changed["name"] = require(body, "name")["name"]
    if body.get("metadata") is not None:
        own = assignment["metadata"]["system"]
        given = body["metadata"].get("system") or {} if system else {}
        belongs = {key: own[key] for key in ("taskId", "datasetId")}
        changed["metadata"] = body["metadata"] | {"system": own | given | belongs}
    store.put("assignments", changed)
    store.emit("Assignment", "Updated", assignment["id"], project=assignment["projectId"])


def share_items(store: Store, assignment: Document, shares: workload.Workload, user: str) -> list[str]:
    """Share all items of an assignment among annotators; return the ids of their assignments."""
    if not shares:
        raise bad_request("'workload' is empty: say who gets the items")
    task = store.get("tasks", assignment["taskId"])
    inside = {member["itemId"]: member for member in members.of_group(store, assignment["id"])}
    moved, receivers = [], []
    for assignee, item_ids in workload.share(list(inside), shares):
        receiver = models.assignment_of(store, task, assignee, user)["id"]
        receivers.append(receiver)
        moved += [members.move(inside[item_id], receiver) for item_id in item_ids]
    members.place(store, moved)
    counters.recount(store, task["id"])
    return receivers
