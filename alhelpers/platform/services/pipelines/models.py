"""Pipelines: stored documents with nodes, connections, variables and a start."""

from typing import Any

from ...store import Document, Store, created, now, signed
from ...validation import check_different, merge, require
from ..organizations.models import ORGANIZATION
from . import engine, graph, validation

FIXED = {
    *("id", "url", "projectId", "orgId", "creator", "createdAt", "updatedAt", "updatedBy"),
    *("status", "compositionId", "taskIds", "serviceIds", "countedFrom"),
}
PRIVATE = ("taskIds", "serviceIds", "countedFrom")


def create(store: Store, body: Document, user: str) -> Document:
    require(body, "name", "projectId")
    store.row("projects", body["projectId"])
    store.check_new_name("pipelines", projectId=body["projectId"], name=body["name"])
    pipeline = {
        **{"nodes": [], "startNodes": [], "connections": []},
        **{key: value for key, value in body.items() if key not in FIXED and value is not None},
        "id": store.new_id(),
        "orgId": ORGANIZATION["id"],
        "projectId": body["projectId"],
        "status": "Created",
        "compositionId": store.new_id(),
        "revisions": [],
        "taskIds": {},
        "countedFrom": "",
        **signed(user),
    }
    variables = checked_variables(store, pipeline.pop("variables", []), pipeline["id"], user)
    # What is empty is absent.
    pipeline |= {"variables": variables} if variables else {}
    if not pipeline.get("settings"):
        pipeline.pop("settings", None)
    validation.check_drawing(pipeline, "create")
    for node in pipeline["nodes"]:
        # A new pipeline loads the data that the exported one had loaded.
        loading = (node.get("metadata") or {}).get("triggerToPipeline") or {}
        loading.pop("triggered", None)
        loading.pop("commandId", None)
    store.put("pipelines", pipeline)
    return pipeline


def checked_variables(store: Store, variables: list[Any], pipeline_id: str, user: str) -> list[Any]:
    """Check variables, and add ids, times and references to their pipeline."""
    checked = []
    for variable in variables:
        require(variable, "name", "type")
        own = {"id": variable.get("id") or store.new_id()}
        own["reference"] = variable.get("reference") or pipeline_id
        checked.append(created(user) | variable | own)
    check_different("the names of a pipeline's variables", [variable["name"] for variable in checked])
    return checked


def update(store: Store, pipeline: Document, body: Document, user: str) -> None:
    """Change a stored pipeline, in place, or raise and change nothing."""
    store.check_rename("pipelines", pipeline, body, projectId=pipeline["projectId"])
    changes = {key: value for key, value in body.items() if key not in FIXED and value is not None}
    if "variables" in changes:
        changes["variables"] = checked_variables(store, changes["variables"], pipeline["id"], user)
    validation.check_drawing(pipeline | changes)
    _keep_loaded(pipeline, changes.get("nodes") or [])
    store.put("pipelines", merge(pipeline, changes) | {"updatedAt": now(), "updatedBy": user})


def _keep_loaded(pipeline: Document, nodes: list[Document]) -> None:
    """Keep the record of what a dataset node has loaded, though the caller's copy of it may be older."""
    for node in nodes:
        known = graph.node_by_id(pipeline, node["id"]) or {}
        loaded, given = (
            (each.get("metadata") or {}).get("triggerToPipeline") or {} for each in (known, node)
        )
        if loaded.get("triggered") and given:
            given |= {key: loaded[key] for key in ("triggered", "commandId") if key in loaded}


def shown(pipeline: Document) -> Document:
    return {key: value for key, value in pipeline.items() if key not in PRIVATE}


def shown_cycle(cycle: Document, executed: list[Document] | None = None) -> Document:
    document = {key: value for key, value in cycle.items() if key not in engine.PRIVATE}
    by_node: dict[str, list[Document]] = {}
    for execution in executed or []:
        by_node.setdefault(execution["pipeline"]["nodeId"], []).append(execution)
    return document | {"executions": by_node}
