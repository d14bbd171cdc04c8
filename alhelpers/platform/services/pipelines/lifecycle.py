"""Installing, pausing, resetting and deleting pipelines, with their triggers, tasks and services."""

import json
from datetime import datetime
from typing import Any

from ...errors import bad_request
from ...store import Document, Row, Store, now
from ..datasets import models as datasets
from ..exports import models as commands
from ..triggers import models as triggers
from . import engine, graph, tasks, validation, workers

INSTALLED, PAUSED = engine.INSTALLED, "Uninstalled"
TERMINATE, RESUME = "terminateExistingCycles", "resumeExistingCycles"
# A batch is one transaction, and no other request is served meanwhile.
LARGEST_BATCH = 5000


def install(store: Store, pipeline: Document, user: str, moment: datetime, option: Any = None) -> None:
    """Start a pipeline: check it, make its tasks and services, activate its triggers, load existing data."""
    option = option or (pipeline.get("settings") or {}).get("defaultResumeOption") or RESUME
    if option not in (TERMINATE, RESUME):
        raise bad_request(f"'resumeOption' is {TERMINATE!r} or {RESUME!r}, got {option!r}")
    validation.check_drawing(pipeline)
    pipeline |= {"status": INSTALLED, "updatedAt": now(), "updatedBy": user}
    pipeline["compositionId"] = pipeline.get("compositionId") or store.new_id()
    store.put("pipelines", pipeline)
    apply_changes(store, pipeline, user, moment)
    if option == TERMINATE:
        engine.terminate_all(store, pipeline["id"])
    else:
        engine.resume(store, pipeline)
    load_existing(store, pipeline, user)


def apply_changes(store: Store, pipeline: Document, user: str, moment: datetime) -> None:
    """Update the tasks, services and triggers of an installed pipeline after a change."""
    validation.check_settings(store, pipeline)
    for node in graph.nodes(pipeline):
        if node["type"] == graph.TASK:
            tasks.ensure(store, pipeline, node, user)
    workers.prepare(store, pipeline, user)
    sync_triggers(store, pipeline, user, moment)


def pause(store: Store, pipeline: Document, user: str, moment: datetime, *, keep_triggers: bool) -> None:
    """Pause a pipeline: running executions end, the next ones wait; triggers are deactivated unless `keep_triggers`."""
    pipeline |= {"status": PAUSED, "updatedAt": now(), "updatedBy": user}
    store.put("pipelines", pipeline)
    if not keep_triggers:
        for row in list(of_pipeline(store, pipeline)):
            triggers.update(store, json.loads(row.doc), {"active": False}, user, moment)


def reset(store: Store, pipeline: Document, user: str) -> None:
    engine.terminate_all(store, pipeline["id"])
    store.put("pipelines", pipeline | {"countedFrom": store.new_id(), "updatedAt": now(), "updatedBy": user})


def delete(store: Store, pipeline_id: str) -> None:
    """Delete a pipeline with its triggers, code and cycles; its tasks and executions stay."""
    pipeline = store.get("pipelines", pipeline_id)
    engine.terminate_all(store, pipeline["id"])
    for row in list(of_pipeline(store, pipeline)):
        triggers.delete(store, row.id)
    workers.remove_code(store, pipeline)
    store.delete("cycles", pipelineId=pipeline["id"])
    store.delete("pipelines", id=pipeline["id"])


def of_pipeline(store: Store, pipeline: Document) -> list[Row]:
    rows = store.find("triggers", projectId=pipeline["projectId"])
    return [row for row in rows if store.parsed(row)["spec"]["operation"].get("id") == pipeline["id"]]


def sync_triggers(store: Store, pipeline: Document, user: str, moment: datetime) -> None:
    """Make or update the triggers that a pipeline's start nodes ask for, and delete the others."""
    existing = {
        store.parsed(row)["spec"]["operation"].get("nodeId"): row for row in of_pipeline(store, pipeline)
    }
    for start in pipeline.get("startNodes") or []:
        wanted = start.get("trigger")
        row = existing.pop(start["nodeId"], None) if wanted else None
        if not wanted:
            continue
        node = graph.node_by_id(pipeline, start["nodeId"]) or {"id": start["nodeId"]}
        spec = dict(wanted.get("spec") or {})
        if wanted.get("type") == triggers.EVENT and node.get("type") == graph.STORAGE:
            parts = triggers.conjuncts(triggers.read_filter(spec.get("filter")))
            spec["filter"] = {"$and": [*parts, {"datasetId": graph.dataset_id(pipeline, node)}]}
        spec["operation"] = {"type": "pipeline", "id": pipeline["id"], "nodeId": start["nodeId"]}
        kind = wanted.get("type")
        if row is not None and store.parsed(row)["type"] == kind:
            triggers.update(store, json.loads(row.doc), {"active": True, "spec": spec}, user, moment)
            continue
        if row is not None:
            triggers.delete(store, row.id)
        name = wanted.get("name") or f"{pipeline['name']}-{graph.label(node)}"
        body = {"projectId": pipeline["projectId"], "name": name, "type": kind, "spec": spec}
        triggers.create(store, body, user, moment)
    for row in existing.values():
        triggers.delete(store, row.id)
    validation.check_rings(store, pipeline)


def load_existing(store: Store, pipeline: Document, user: str) -> None:
    """Send the existing items of dataset nodes that ask for it through the pipeline: once in its life."""
    for node in graph.nodes(pipeline):
        metadata = node.get("metadata") or {}
        loading = metadata.get("triggerToPipeline") or {}
        if node["type"] != graph.STORAGE or not loading.get("active") or loading.get("triggered"):
            continue
        condition = triggers.read_filter(loading.get("filter")) or {
            "$and": [{"hidden": False}, {"type": "file"}]
        }
        query: Document = {"filter": condition, "context": {"datasets": [graph.dataset_id(pipeline, node)]}}
        if metadata.get("dir"):
            query["filter"] = {"$and": [condition, {"dir": metadata["dir"]}]}
        command = batch(store, pipeline, user, query, {}, node["id"])
        metadata["triggerToPipeline"] = loading | {"triggered": True, "commandId": command["id"]}
        store.put("pipelines", pipeline)


def batch(
    store: Store, pipeline: Document, user: str, query: Document, args: Document, node_id: str | None
) -> Document:
    """Start a cycle for each item that a query finds; return the command that records it."""
    node = graph.node_by_id(pipeline, node_id or graph.root_id(pipeline) or "")
    name = graph.input_of(node or {}, "Item") or "item"
    found = datasets.items_of(store, pipeline["projectId"], query)
    if len(found) > LARGEST_BATCH:
        raise bad_request(
            f"the query finds {len(found)} items; one batch takes at most {LARGEST_BATCH}: narrow the query"
        )
    for row in found:
        inputs = args | {name: {"item_id": row.id}}
        engine.begin(store, pipeline, user, inputs=inputs, node_id=node_id, collect=True)
    spec = {"pipelineId": pipeline["id"], "nodeId": node_id, "query": query, "count": len(found)}
    return commands.record(store, "PipelineExecuteBatch", spec)
