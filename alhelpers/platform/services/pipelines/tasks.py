"""Task nodes: each has a task; an item that arrives goes into it, and leaves with the status that it gets there."""

from ...errors import ApiError, bad_request
from ...events import Event
from ...store import Document, Store, is_id
from ..executions import models as executions
from ..tasks import members, statuses
from ..tasks import models as tasks
from . import graph, values

# Synonyms: the SDK's nodes write 'complete', its items 'completed'.
SAME = {"complete": "completed", "approve": "approved"}
# The way out of a consensus task once all annotators have set a status; it cannot be set by hand.
CONSENSUS_DONE = "consensus_done"
# Settings of a node that go into the metadata of its task.
SETTINGS = (
    *("batchSize", "maxBatchWorkload", "consensusTaskType", "consensusPercentage", "consensusAssignees"),
    "groups",
)


def same_action(one: str | None, other: str | None) -> bool:
    """Return whether two words mean the same way out of a node."""
    return SAME.get(one or "", one) == SAME.get(other or "", other)


def ensure(store: Store, pipeline: Document, node: Document, user: str) -> Document:
    """Return the task of a node, made if missing; the pipeline stores its id."""
    remembered = pipeline.setdefault("taskIds", {})
    known = store.find_one("tasks", id=remembered.get(node["id"]))
    if known is not None:
        return known
    check(store, pipeline, node, user)
    task = tasks.create(store, _body(pipeline, node, user), user)
    remembered[node["id"]] = task["id"]
    store.put("pipelines", pipeline)
    return task


def check(store: Store, pipeline: Document, node: Document, user: str) -> None:
    """Refuse a node whose task could not be made."""
    try:
        tasks.planned(store, _body(pipeline, node, user), user)
    except ApiError as error:
        reason = f"Request failed with status code {error.status}, Failed to create a task: {error.message}"
        raise bad_request(f"node {graph.label(node)!r}: {reason}") from error


def _body(pipeline: Document, node: Document, user: str) -> Document:
    metadata = node.get("metadata") or {}
    kind = metadata.get("taskType") or "annotation"
    owner = metadata.get("taskOwner") or user
    system = {key: metadata[key] for key in SETTINGS if metadata.get(key) is not None}
    system |= {"pipelineId": pipeline["id"], "nodeId": node["id"]}
    system["longName"] = f"{graph.label(node)} ({pipeline['name']})"
    shares = [
        {"assigneeId": unit.get("assigneeId"), "load": unit.get("load", 0)}
        for unit in metadata.get("workload") or []
        if isinstance(unit, dict)
    ] or [{"assigneeId": owner, "load": 100}]
    recipe_id = metadata.get("recipeId")
    return {
        "name": graph.label(node),
        "projectId": pipeline["projectId"],
        "datasetId": graph.dataset_id(pipeline, node),
        "recipeId": recipe_id if isinstance(recipe_id, str) and is_id(recipe_id) else None,
        "taskOwner": owner,
        "workload": shares,
        "spec": {"type": kind},
        "dueDate": metadata.get("dueDate"),
        "priority": metadata.get("priority"),
        "availableActions": _actions(kind, graph.outputs(node)),
        "metadata": {"system": system},
    }


def _actions(kind: str, ports: list[Document]) -> list[dict[str, str]]:
    names = [name for port in ports for name in port.get("actions") or [] if name != CONSENSUS_DONE]
    known = {action["action"]: action for action in tasks.ACTIONS.get(kind, [])}
    return [
        known.get(name, {"action": name, "displayName": name.capitalize()}) for name in dict.fromkeys(names)
    ]


def accept(store: Store, pipeline: Document, node: Document, execution: Document, item_id: str) -> None:
    """Put an item into a node's task; an item that comes again loses its status there."""
    user = execution["creator"]
    task = ensure(store, pipeline, node, user)
    before = store.find_one("task_waits", taskId=task["id"], itemId=item_id)
    # It may have been removed from the task since.
    tasks.add_items(store, task, [item_id], user, shares=_next_assignee(store, task))
    if before is not None:
        statuses.change(store, task, [item_id], None, user)
    wait = {
        "id": store.new_id(),
        "taskId": task["id"],
        "itemId": item_id,
        "nodeId": node["id"],
        "pipelineId": pipeline["id"],
        "executionId": execution["id"],
    }
    store.put("task_waits", wait)


def _next_assignee(store: Store, task: Document) -> list[tuple[str, float]] | None:
    """Choose who gets one more item: the assignee furthest behind their share."""
    shares = task["metadata"]["system"].get("workloadDistribution") or []
    if tasks.is_pulling(task) or tasks.is_consensus(task) or len(shares) < 2:
        return None
    has: dict[str, int] = {}
    for assignment in store.find_all("assignments", taskId=task["id"]):
        has[assignment["annotator"]] = store.count("task_items", group=assignment["id"])
    total = sum(share["load"] for share in shares) or len(shares)
    size = sum(has.values()) + 1
    behind = [
        (has.get(share["assigneeId"], 0) - size * (share["load"] or 1) / total, number, share["assigneeId"])
        for number, share in enumerate(shares)
    ]
    return [(min(behind)[2], 100.0)]


def end_waiting(store: Store, event: Event) -> list[tuple[Document, str]]:
    """End the executions that wait for an item's status; return those that had ended before, with the new status."""
    status = event.detail.get("status")
    if status is None:
        return []
    again = []
    waits = store.find_all("task_waits", taskId=event.detail.get("task"), itemId=event.id)
    # An execution that was run again has waited twice; it ends once.
    found = {wait["executionId"] for wait in waits}
    executed = [store.get("executions", execution_id) for execution_id in sorted(found)]
    waiting = [each for each in executed if not executions.ended(each)]
    places = members.of_item(store, event.id, event.detail.get("task"))
    if len(places) > 1 and (not waiting or not all(place["status"] for place in places)):
        return []  # other annotators have not decided yet, or the first of several statuses has ended it
    for execution in waiting:
        output = {"item": values.reference("Item", event.id)}
        way = CONSENSUS_DONE if len(places) > 1 and _ends_in_consensus(store, execution) else status
        executions.finish(store, execution, executions.SUCCESS, output=output, action=way)
    if not waiting and executed and executed[-1]["latestStatus"]["status"] == executions.SUCCESS:
        again.append((executed[-1], status))
    return again


def _ends_in_consensus(store: Store, execution: Document) -> bool:
    pipeline = store.find_one("pipelines", id=execution["pipeline"]["id"])
    node = graph.node_by_id(pipeline or {}, execution["pipeline"]["nodeId"])
    return any(CONSENSUS_DONE in (port.get("actions") or []) for port in graph.outputs(node or {}))


def terminate_waiting(store: Store, task_id: str) -> None:
    """Terminate the executions that wait for statuses in a deleted task."""
    for wait in store.find_all("task_waits", taskId=task_id):
        execution = store.get("executions", wait["executionId"])
        executions.finish(store, execution, executions.TERMINATED, message="the task was deleted")
    store.delete("task_waits", taskId=task_id)
