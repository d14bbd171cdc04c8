"""A pipeline's document as a graph: nodes, ports, connections, variables, and where it starts."""

import json
from collections.abc import Iterator
from typing import Any

from ...store import Document

STORAGE, TASK, ML, CODE, FUNCTION, CUSTOM, VARIABLE = (
    *("storage", "task", "ml", "code", "function", "custom", "updateVariable"),
)


def nodes(pipeline: Document) -> list[Document]:
    return pipeline.get("nodes") or []


def node_by_id(pipeline: Document, node_id: str) -> Document | None:
    return next((node for node in nodes(pipeline) if node["id"] == node_id), None)


def label(node: Document) -> str:
    return node.get("name") or node["id"]


def inputs(node: Document) -> list[Document]:
    return node.get("inputs") or []


def outputs(node: Document) -> list[Document]:
    return node.get("outputs") or []


def port_by_id(ports: list[Document], port_id: str) -> Document | None:
    return next((port for port in ports if port.get("portId") == port_id), None)


def root_id(pipeline: Document) -> str | None:
    for start in pipeline.get("startNodes") or []:
        if start.get("type") == "root":
            return start.get("nodeId")
    return None


def leaving(pipeline: Document, node_id: str) -> Iterator[Document]:
    return (each for each in pipeline.get("connections") or [] if each["src"]["nodeId"] == node_id)


def arriving(pipeline: Document, node_id: str) -> Iterator[Document]:
    return (each for each in pipeline.get("connections") or [] if each["tgt"]["nodeId"] == node_id)


def connected_inputs(pipeline: Document, node: Document) -> list[str]:
    """List the ids of a node's in-ports that a connection reaches."""
    reached = {connection["tgt"]["portId"] for connection in arriving(pipeline, node["id"])}
    return [port["portId"] for port in inputs(node) if port.get("portId") in reached]


def condition(connection: Document) -> Any:
    text = connection.get("condition")
    value = json.loads(text) if isinstance(text, str) and text else text
    return value or None


def free(connection: Document) -> bool:
    """Return whether everything that leaves the port takes this connection."""
    return not connection.get("action") and condition(connection) is None


def below(pipeline: Document, node_ids: set[str]) -> set[str]:
    """Return these nodes and all that can be reached from them."""
    reached, todo = set(node_ids), list(node_ids)
    while todo:
        for connection in leaving(pipeline, todo.pop()):
            target = connection["tgt"]["nodeId"]
            if target not in reached:
                reached.add(target)
                todo.append(target)
    return reached


def single(kind: Any) -> str:
    """Return the type of one element: 'Item' for 'Item' and for 'Item[]'."""
    return str(kind).removesuffix("[]")


def is_list(port: Document) -> bool:
    return str(port.get("type")).endswith("[]")


def variable_value(pipeline: Document, name: str | None) -> Any:
    for variable in pipeline.get("variables") or []:
        if variable["name"] == name:
            return variable.get("value")
    return None


def dataset_id(pipeline: Document, node: Document) -> str | None:
    """Return the dataset of a storage or task node: its own, or a variable's."""
    metadata = node.get("metadata") or {}
    named = metadata.get("variableDataset")
    return _id(variable_value(pipeline, named) if named else metadata.get("datasetId"))


def model_id(pipeline: Document, node: Document) -> str | None:
    """Return the model of an ml node: its own, or a variable's, or None."""
    metadata = node.get("metadata") or {}
    named = metadata.get("variableModel")
    return _id(variable_value(pipeline, named) if named else metadata.get("modelId"))


def _id(value: Any) -> str | None:
    if isinstance(value, dict):
        value = next((value[key] for key in ("id", "dataset_id", "model_id") if value.get(key)), None)
    # An unfilled placeholder of a template is not an id.
    return value if isinstance(value, str) and value and not value.startswith("$var(") else None


def input_of(node: Document, kind: str) -> str | None:
    """Return the name of the first in-port for entities of a type."""
    return next((port["name"] for port in inputs(node) if single(port["type"]) == kind), None)
