"""Routes of triggers, and what makes them fire: events of the platform, and its clock."""

import logging
from typing import Any

from ...api import Call
from ...errors import not_emulated
from ...events import Event
from ...resources import Resource
from ...store import Document, Store
from ..executions import models as executions
from ..pipelines import engine, graph
from . import models

logger = logging.getLogger(__name__)


def create(call: Call, body: Document) -> Document:
    return models.create(call.store, body, call.user, call.clock.now())


def update(call: Call, trigger: Document, body: Document) -> None:
    models.update(call.store, trigger, body, call.user, call.clock.now())


def clone(call: Call, trigger: Document) -> None:
    """Refuse to clone: only templates can be cloned, and this server has none."""
    raise not_emulated("templates of triggers; create the trigger in the other project instead")


def on_event(call: Call, event: Event) -> None:
    names = _names(event)
    if not any(models.awaited(call.store, *name) for name in names):
        return  # most events: what they are about need not be read
    found = call.store.find_one(f"{event.resource.lower()}s", id=event.id)
    document = found or {"id": event.id}
    dataset_id = document.get("datasetId") or event.detail.get("dataset")
    project_id = _project(call.store, event, document, dataset_id)
    if project_id is None or document.get("type") == "dir":
        return
    for resource, action in names:
        for trigger in list(models.listening(call.store, project_id, resource, action)):
            call.store.cause = event.cause
            try:
                with call.store.part():
                    if found is None or models.matches(trigger, document):
                        _fire_for(call, trigger, event, document, dataset_id)
            except Exception:  # it harms neither the others nor what has happened
                if call.store.stopping:
                    raise
                logger.exception("the trigger %r (%s) failed", trigger["name"], trigger["id"])


def _names(event: Event) -> list[tuple[str, str]]:
    """Return the names of an event: the status of an item in a task is a resource of its own."""
    names = [(event.resource, event.action)]
    if (event.resource, event.action) == ("Item", "statusChanged"):
        changed = "Updated" if event.detail.get("previous") else "Created"
        names.append(("ItemStatus", changed if event.detail.get("status") else "Deleted"))
        names.append(("ItemStatus", event.action))
    return names


def _project(store: Store, event: Event, document: Document, dataset_id: Any) -> str | None:
    if event.resource == "Dataset":
        return next(iter(document.get("projects") or [event.detail.get("project")]), None)
    known = document.get("projectId") or event.detail.get("project")
    if known or not dataset_id:
        return known
    row = store.first("datasets", id=dataset_id, readableType__ne="system")
    return row.scope if row else None


def _fire_for(call: Call, trigger: Document, event: Event, document: Document, dataset_id: Any) -> None:
    operation = trigger["spec"]["operation"]
    pipeline = call.store.find_one("pipelines", id=operation.get("id"))
    if operation["type"] == "pipeline" and not _concerns(pipeline, operation, event, document):
        return
    if not models.may_fire(call.store, trigger, event.id):
        return
    name = event.resource.lower()
    reference = {f"{name}_id": event.id}
    if dataset_id and event.resource in ("Item", "Annotation"):
        reference["dataset_id"] = dataset_id
    about = {
        "source": "trigger",
        "resource": event.resource,
        "action": event.action,
        "resourceId": event.id,
        "userId": call.user,
        "datasetId": dataset_id,
        "projectId": trigger["projectId"],
    }
    if event.action == "statusChanged" and event.resource == "Item":
        status = {"taskId": event.detail.get("task"), "assignmentId": event.detail.get("assignment")}
        status |= {"status": event.detail.get("status"), "creator": event.detail.get("user")}
        about["itemStatusEvent"] = {"action": "create" if status["status"] else "delete", "status": status}
    _fire(call, trigger, pipeline, {name: reference}, about)


def _concerns(pipeline: Document | None, operation: Document, event: Event, document: Document) -> bool:
    """Return whether an event concerns a pipeline's start node: a dataset node only takes its own items."""
    node = graph.node_by_id(pipeline or {}, operation.get("nodeId") or graph.root_id(pipeline or {}) or "")
    if node is None or pipeline is None:
        return False
    own = graph.dataset_id(pipeline, node) if node["type"] == graph.STORAGE else None
    if event.resource != "Item" or own is None:
        return True
    folder = (node.get("metadata") or {}).get("dir")
    return document.get("datasetId") == own and folder in (None, "/", document.get("dir"))


def _fire(
    call: Call, trigger: Document, pipeline: Document | None, inputs: Document, about: Document | None
) -> None:
    operation = trigger["spec"]["operation"]
    inputs = (trigger["spec"].get("input") or {}) | inputs
    if operation["type"] == "pipeline":
        if pipeline is None:
            return
        node_id = operation.get("nodeId") or graph.root_id(pipeline)
        node = graph.node_by_id(pipeline, node_id or "")
        if node is None:
            return  # removed from the pipeline while it is paused
        if about is not None:
            # The event's entity goes to the port of its type, whatever the port is called.
            own = graph.input_of(node, about["resource"]) or about["resource"].lower()
            inputs = {own if name == about["resource"].lower() else name: inputs[name] for name in inputs}
        options = {"inputs": inputs, "node_id": node_id, "refusal": models.follow(call.store, trigger)}
        # A trigger that stays active while its pipeline is paused collects work for later.
        engine.begin(call.store, pipeline, call.user, trigger_id=trigger["id"], collect=True, **options)
        return
    service = call.store.find_one("services", id=operation["serviceId"])
    if service is None:
        return  # deleted since
    name, why = operation["functionName"], {"triggerId": trigger["id"], "event": about}
    why |= {"project_id": trigger["projectId"]}
    refusal = models.follow(call.store, trigger)
    execution = executions.create(call.store, name, inputs, call.user, service=service, **why)
    if refusal:
        executions.finish(call.store, execution, executions.FAILED, message=refusal)


def fire(call: Call, trigger_id: str) -> None:
    trigger = models.take_due(call.store, trigger_id, call.clock.now())
    if trigger is not None:
        pipeline = call.store.find_one("pipelines", id=trigger["spec"]["operation"].get("id"))
        _fire(call, trigger, pipeline, {}, None)


def skip(call: Call, trigger_id: str) -> None:
    """Schedule a cron trigger for its next time without firing it."""
    models.take_due(call.store, trigger_id, call.clock.now())


def forget(call: Call, event: Event) -> None:
    for trigger in call.store.find_all("triggers"):
        if trigger["spec"]["operation"].get("serviceId") == event.id:
            models.delete(call.store, trigger["id"])


TRIGGERS = Resource("triggers", "/triggers", create, update, models.delete)
ROUTES = [*TRIGGERS.routes, TRIGGERS.at("POST", "clone", clone)]
LISTENERS = {(resource, action): on_event for resource in models.RESOURCES for action in models.ACTIONS} | {
    ("Service", "Deleted"): forget
}
