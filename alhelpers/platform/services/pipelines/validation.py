"""Checks of a pipeline: of its graph whenever it is stored, of its settings when it starts."""

import json
from collections.abc import Iterable
from typing import Any

from ... import dql
from ...errors import ApiError, bad_request
from ...store import Document, Store
from ...validation import check_different, require
from ..triggers import models as triggers
from . import graph

# The types of the fields that the platform reads.
PIPELINE_FIELDS = {"nodes": list, "startNodes": list, "connections": list}
NODE_FIELDS = {
    **{"inputs": list, "outputs": list, "namespace": dict, "config": dict, "name": str},
    **{"dpkName": str, "appName": str},
}
METADATA_FIELDS = {
    **{"triggerToPipeline": dict, "serviceConfig": dict, "workload": list, "repeatable": bool, "dir": str},
    **{"variableDataset": str, "variableModel": str, "taskType": str, "taskOwner": str},
}
NAMESPACE_FIELDS = {"functionName": str, "serviceName": str, "moduleName": str, "packageName": str}
PORT_FIELDS = {"portId": str, "actions": list, "variableName": str}
WORDS = {list: "a list", dict: "an object", str: "a text", bool: "true or false"}


def check_drawing(pipeline: Document, action: str = "update") -> None:
    """Check nodes, ports, connections and the start of a pipeline; the errors begin as on the hosted platform."""
    try:
        _check_fields(pipeline, "the pipeline", PIPELINE_FIELDS)
        _check_nodes(pipeline.get("nodes") or [])
        _check_starts(pipeline)
        for connection in pipeline.get("connections") or []:
            _check_connection(pipeline, connection)
        _check_loops(pipeline)
    except ApiError as error:
        reason = f"Invalid input specified, Failed to {action} pipeline: {error.message}"
        raise ApiError(error.status, reason) from error
    if sum(start.get("type") == "root" for start in pipeline.get("startNodes") or []) > 1:
        raise bad_request("Invalid input specified, Pipeline may only include 1 root node")


def _check_nodes(nodes: list[Any]) -> None:
    for node in nodes:
        require(node, "id", "type")
        _check_fields(node, f"node {node['id']!r}", NODE_FIELDS)
        _check_fields(node.get("metadata") or {}, f"the metadata of node {node['id']!r}", METADATA_FIELDS)
        _check_fields(node.get("config") or {}, f"the config of node {node['id']!r}", {"package": dict})
        _check_fields(node.get("namespace") or {}, f"the namespace of node {node['id']!r}", NAMESPACE_FIELDS)
        for side in ("inputs", "outputs"):
            for port in node.get(side) or []:
                _check_fields(require(port, "name", "type"), f"a port of node {node['id']!r}", PORT_FIELDS)
                if not all(isinstance(action, str) for action in port.get("actions") or []):
                    raise bad_request(f"the actions of a port are texts, got {port['actions']!r}")
            ids = [port.get("portId") for port in node.get(side) or []]
            check_different(f"the portIds of the {side} of node {graph.label(node)!r}", ids)
    check_different("the ids of a pipeline's nodes", [node["id"] for node in nodes])


def _check_fields(document: Document, where: str, fields: dict[str, type]) -> None:
    for name, kind in fields.items():
        value = document.get(name)
        if value is not None and (
            not isinstance(value, kind) or isinstance(value, bool) and kind is not bool
        ):
            raise bad_request(f"{name!r} of {where} must be {WORDS[kind]}, got {value!r}")


def _check_starts(pipeline: Document) -> None:
    for start in pipeline.get("startNodes") or []:
        require(start, "nodeId")
        if graph.node_by_id(pipeline, start["nodeId"]) is None:
            raise bad_request(f"start node {start['nodeId']!r} is not a node of the pipeline")
        if start.get("trigger") is not None:
            trigger = require(start["trigger"], "type")
            _check_fields(trigger, "a start node's trigger", {"spec": dict, "name": str})


def _check_connection(pipeline: Document, connection: Any) -> None:
    ends = []
    for end, side in (("src", graph.outputs), ("tgt", graph.inputs)):
        place = require(require(connection).get(end), "nodeId", "portId")
        node = graph.node_by_id(pipeline, place["nodeId"])
        port = graph.port_by_id(side(node), place["portId"]) if node else None
        if port is None:
            where = "output" if end == "src" else "input"
            raise bad_request(
                f"connection {end} names {where} port {place['portId']!r} of node {place['nodeId']!r},"
                " which is not there"
            )
        ends.append(port)
    source, target = ends
    if graph.single(source["type"]) != graph.single(target["type"]):
        raise bad_request(
            "connection source and target ports must be of the same type:"
            f" {source['name']!r} is {source['type']}, {target['name']!r} is {target['type']}"
        )
    _check_condition(connection)
    action, actions = connection.get("action"), source.get("actions") or []
    if action and action not in actions:
        raise bad_request(
            f"connection action do not includes in port actions: {action!r} must be one of {actions}"
        )


def _check_condition(connection: Document) -> None:
    _check_fields(connection, "a connection", {"action": str})
    try:
        dql.parse(graph.condition(connection))
    except json.JSONDecodeError as error:
        raise bad_request(
            f"a connection's condition is a filter as JSON, got {connection['condition']!r}"
        ) from error


def _check_loops(pipeline: Document) -> None:
    """Refuse an endless loop: of connections without an action or a condition."""
    targets: dict[str, list[str]] = {}
    for connection in pipeline.get("connections") or []:
        if graph.free(connection):
            targets.setdefault(connection["src"]["nodeId"], []).append(connection["tgt"]["nodeId"])
    if loop := _loop(targets, targets):
        node = graph.node_by_id(pipeline, loop[0]) or {"id": loop[0]}
        raise bad_request(f'Infinite Loop detected for node "{graph.label(node)}"')


def _loop(targets: dict[str, list[str]], starts: Iterable[str]) -> list[str]:
    """Return a loop of a graph that is reached from some nodes, or an empty list if it has no loop."""
    done: set[str] = set()
    for start in starts:
        path = [start]
        pending = [iter(targets[start])]
        while pending:
            following = next(pending[-1], None)
            if following is None:
                done.add(path.pop())
                pending.pop()
            elif following in path:
                return path[path.index(following) :]
            elif following not in done:
                path.append(following)
                pending.append(iter(targets.get(following, ())))
    return []


def check_rings(store: Store, started: Document) -> None:
    """Refuse datasets that clone to each other for ever: a clone in one starts a pipeline that clones it on."""
    project_id = started["projectId"]
    pipelines = {each["id"]: each for each in store.find_all("pipelines", projectId=project_id)}
    starts: dict[str | None, list[str]] = {}
    for trigger in triggers.listening(store, project_id, "Item", "Clone"):
        pipeline = pipelines.get(trigger["spec"]["operation"].get("id"), {})
        node = graph.node_by_id(pipeline, trigger["spec"]["operation"].get("nodeId"))
        if node is None or (node.get("metadata") or {}).get("dir") not in (None, "/"):
            continue
        dataset_id, condition = graph.dataset_id(pipeline, node), trigger["spec"]["filter"]
        # What the SDK asks of all items, and what is so: a filter with more than that may stop a clone.
        passed = {"hidden": False, "type": "file", "datasetId": dataset_id}.items()
        if all(part.items() <= passed for part in triggers.conjuncts(condition)):
            starts.setdefault(dataset_id, []).append(f"{pipeline['id']} {node['id']}")
    targets: dict[str, list[str]] = {}
    for pipeline in pipelines.values():
        stored = {
            node["id"]: graph.dataset_id(pipeline, node)
            for node in graph.nodes(pipeline)
            if node["type"] == graph.STORAGE
        }
        for connection in pipeline.get("connections") or []:
            source, target = connection["src"]["nodeId"], connection["tgt"]["nodeId"]
            if graph.free(connection) and {source, target} <= stored.keys():
                clones = stored[source] != stored[target]
                following = [
                    f"{pipeline['id']} {target}",
                    *(starts.get(stored[target], ()) if clones else ()),
                ]
                targets.setdefault(f"{pipeline['id']} {source}", []).extend(following)
    own = [place for place in targets if place.startswith(started["id"])]
    if ring := {place.split()[0] for place in _loop(targets, own)}:
        raise bad_request(
            f"Infinite Loop detected: the pipelines {sorted(pipelines[each]['name'] for each in ring)} would clone each"
            " item for ever, as a clone starts the next one. Give a trigger a filter, or another action than 'Clone'"
        )


def check_settings(store: Store, pipeline: Document) -> None:
    """Check what a pipeline needs before it can start."""
    if not graph.nodes(pipeline):
        raise bad_request(f"pipeline {pipeline.get('name')!r} has no nodes: add some before it starts")
    if graph.root_id(pipeline) is None:
        raise bad_request("Pipeline must include 1 root node: set it with pipeline.set_start_node(node)")
    for node in graph.nodes(pipeline):
        _check_node(store, pipeline, node)


def _check_node(store: Store, pipeline: Document, node: Document) -> None:
    names = {variable["name"] for variable in pipeline.get("variables") or []}
    metadata = node.get("metadata") or {}
    used = [metadata.get(key) for key in ("variableDataset", "variableModel")]
    used += [port.get("variableName") for port in graph.inputs(node)]
    if node["type"] == graph.VARIABLE:
        used += [port["name"] for port in graph.inputs(node)]
    for name in used:
        if name and name not in names:
            raise bad_request(
                f"node {graph.label(node)!r} uses the variable {name!r}, which the pipeline does not have"
            )
    if node["type"] in (graph.STORAGE, graph.TASK):
        _check_dataset(store, pipeline, node)
    elif node["type"] not in (graph.ML, graph.CODE, graph.FUNCTION, graph.CUSTOM, graph.VARIABLE):
        raise bad_request(f"node {graph.label(node)!r} is of an unknown type: {node['type']!r}")


def _check_dataset(store: Store, pipeline: Document, node: Document) -> None:
    dataset_id = graph.dataset_id(pipeline, node)
    if dataset_id is None:
        raise bad_request(f"Node {graph.label(node)!r} of type {node['type']} must have a datasetId")
    if store.first("datasets", id=dataset_id) is None:
        raise bad_request(f"node {graph.label(node)!r}: there is no dataset {dataset_id!r}")
    loads = (node["metadata"].get("triggerToPipeline") or {}).get("active")
    if node["type"] == graph.STORAGE and loads and graph.connected_inputs(pipeline, node):
        raise bad_request(
            f"node {graph.label(node)!r} loads existing data, so its input port may not be connected"
        )
