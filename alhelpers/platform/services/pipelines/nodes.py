"""The work of each type of node: some types are the platform's own, the others run on a service."""

import json
import posixpath
from collections.abc import Callable
from typing import Any

from ...errors import ApiError, bad_request
from ...store import Document, Store
from ..executions import models as executions
from ..items import models as items
from . import graph, tasks, values, workers

same_action = tasks.same_action
# How many clones may lead to an item that a dataset node clones again.
MAX_JOURNEY = 50


def launch(store: Store, pipeline: Document, cycle: Document, node: Document, inputs: Document) -> Document:
    """Make the execution of a node; work without a worker is done at once, in the same transaction."""
    link = {"id": pipeline["id"], "nodeId": node["id"], "executionId": cycle["id"]}
    user = cycle["creator"]
    if node["type"] not in _PLATFORM_NODES:
        try:
            return workers.launch(store, pipeline, node, inputs, link, user)
        except ApiError as error:
            execution = _internal(store, pipeline, node, inputs, link, user)
            executions.finish(store, execution, executions.FAILED, message=error.message)
            return execution
    if node["type"] == graph.STORAGE:
        folder = (node.get("metadata") or {}).get("dir")
        inputs = inputs | {"dataset_id": graph.dataset_id(pipeline, node), "folder": folder}
    execution = _internal(store, pipeline, node, inputs, link, user)
    _execute(store, pipeline, node, execution)
    return execution


def _internal(
    store: Store, pipeline: Document, node: Document, inputs: Document, link: Document, user: str
) -> Document:
    namespace = node.get("namespace") or {}
    name = namespace.get("functionName") or node["type"]
    named = {key: namespace.get(key) for key in ("serviceName", "packageName")}
    project_id = pipeline["projectId"]
    return executions.create(store, name, inputs, user, project_id=project_id, pipeline=link, **named)


def relaunched(store: Store, pipeline: Document, execution: Document) -> None:
    """Do the platform's own part of an execution that has started again."""
    node = graph.node_by_id(pipeline, execution["pipeline"]["nodeId"])
    if node is not None and node["type"] in _PLATFORM_NODES:
        _execute(store, pipeline, node, execution)


def _execute(store: Store, pipeline: Document, node: Document, execution: Document) -> None:
    # Only an item in a task stays in progress; other work ends in the same transaction.
    if node["type"] == graph.TASK:
        executions.start(store, execution)
    try:
        output = _PLATFORM_NODES[node["type"]](store, pipeline, node, execution)
    except ApiError as error:
        executions.finish(store, execution, executions.FAILED, message=error.message)
        return
    if output is not None:
        executions.finish(store, execution, executions.SUCCESS, output=output)


def _item(store: Store, node: Document, execution: Document) -> Document:
    name = graph.input_of(node, "Item") or "item"
    item_id = values.entity_id("Item", execution["input"].get(name))
    if item_id is None:
        raise bad_request(f"node {graph.label(node)!r} needs an item as {name!r}")
    return store.get("items", item_id)


def _into_dataset(store: Store, pipeline: Document, node: Document, execution: Document) -> Document:
    """Clone an item into the node's dataset, unless it is there already."""
    item = _item(store, node, execution)
    target = store.row("datasets", graph.dataset_id(pipeline, node) or "").id
    folder = (node.get("metadata") or {}).get("dir")
    if item["datasetId"] != target:
        _check_journey(store, node, item)
        wanted = posixpath.join("/", folder, item["name"]) if folder else item["filename"]
        path = _free_path(store, target, items.clean_path(wanted), item["id"])
        item = items.copy(store, item, target, path, execution["creator"])
    return {"item": {"item_id": item["id"]}}


def _check_journey(store: Store, node: Document, item: Document) -> None:
    """Refuse to clone an item that is a clone of a clone of ... too often: dataset nodes in a ring never end."""
    source, steps = item, 0
    while source := store.find_one("items", id=source.get("srcItem")):
        steps += 1
        if steps >= MAX_JOURNEY:
            raise bad_request(
                f"node {graph.label(node)!r} got {item['filename']!r} as the clone of more than {MAX_JOURNEY} clones:"
                " do dataset nodes lead back to each other? Change the pipelines, or their triggers"
            )


def _free_path(store: Store, dataset_id: str, path: str, source_id: str) -> str:
    """Find a path for a clone: it replaces an older clone of the same item, but no other file."""
    stem, extension = posixpath.splitext(path)
    number = 0
    while (taken := items.by_path(store, dataset_id, path)) is not None:
        if taken.get("srcItem") == source_id:
            items.delete(store, [taken["id"]])
            break
        number += 1
        path = f"{stem} ({number}){extension}"
    return path


def _into_task(store: Store, pipeline: Document, node: Document, execution: Document) -> None:
    """Put an item into the node's task; the execution ends when the item gets a status there."""
    tasks.accept(store, pipeline, node, execution, _item(store, node, execution)["id"])


def _update_variables(store: Store, pipeline: Document, node: Document, execution: Document) -> Document:
    """Set the variables that are named as the node's in-ports."""
    updated = {}
    for port in graph.inputs(node):
        value = execution["input"].get(port["name"])
        if value is None:
            raise bad_request(f"node {graph.label(node)!r} got no value for the variable {port['name']!r}")
        kind = graph.single(port["type"])
        plain = values.entity_id(kind, value) if kind in values.ID_KEYS else None
        set_variable(store, pipeline, port["name"], plain or value)
        updated[port["name"]] = value
    workers.prepare(store, pipeline, execution["creator"], models_only=True)
    return updated


def set_variable(store: Store, pipeline: Document, name: str, value: Any) -> None:
    for variable in pipeline.get("variables") or []:
        if variable["name"] == name:
            variable["value"] = json.loads(json.dumps(value))
            store.put("pipelines", pipeline)
            return
    raise bad_request(f"pipeline {pipeline['name']!r} has no variable {name!r}")


_PLATFORM_NODES: dict[str, Callable[[Store, Document, Document, Document], Document | None]] = {
    graph.STORAGE: _into_dataset,
    graph.TASK: _into_task,
    graph.VARIABLE: _update_variables,
}
