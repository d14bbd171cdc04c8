"""Values between nodes: outputs by port, and references to entities."""

from typing import Any

from ...store import Document
from . import graph

# A port of such a type carries an entity, which is written as its id under this name.
ID_KEYS = {
    kind: f"{kind.lower()}_id"
    for kind in (
        *("Item", "Dataset", "Annotation", "Model", "Task", "Assignment"),
        *("Project", "Service", "Package", "Execution", "Recipe"),
    )
}


def reference(kind: str, value: Any) -> Any:
    """Write a value as a port of this type carries it: an entity as ``{'item_id': ...}``, anything else as it is."""
    key = ID_KEYS.get(graph.single(kind))
    if key is None or value is None:
        return value
    if isinstance(value, list):
        return [reference(kind, each) for each in value]
    if isinstance(value, str):
        return {key: value}
    if isinstance(value, dict) and key not in value and isinstance(value.get("id"), str):
        return {key: value["id"]}
    return value


def entity_id(kind: str, value: Any) -> str | None:
    """Return the id in a reference, or None."""
    found = reference(kind, value)
    found = found.get(ID_KEYS[kind]) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def by_port(ports: list[Document], output: Any) -> Document:
    """Return an output by port id: it is one value, a list in the order of the ports, or a dict by port names."""
    names = {port["name"] for port in ports}
    if isinstance(output, dict) and output and output.keys() <= names:
        found = [output.get(port["name"]) for port in ports]
    elif len(ports) == 1:
        found = [output]
    elif isinstance(output, list) and len(output) == len(ports):
        found = output
    else:
        found = [output, *[None] * len(ports)]
    return {port["portId"]: reference(port["type"], value) for port, value in zip(ports, found, strict=False)}


def filled(pipeline: Document, node: Document, given: Document) -> Document:
    """Complete a node's inputs: given values, else the port's variable, else its default.

    Unknown inputs are kept: a function may take more than its ports show.
    """
    complete = dict(given)
    for port in graph.inputs(node):
        value = given.get(port["name"])
        value = default(pipeline, port) if value is None else value
        if value is not None:
            complete[port["name"]] = reference(port["type"], value)
    return complete


def default(pipeline: Document, port: Document) -> Any:
    """Return the default of an in-port: its variable's value, or its own."""
    value = graph.variable_value(pipeline, port.get("variableName"))
    return port.get("defaultValue") if value is None else value


def spread(source: Document, target: Document, value: Any) -> list[Any]:
    """List the values that arrive: a list at an input for one element arrives element by element."""
    if graph.is_list(target):
        return [value if isinstance(value, list) else [value]]
    # A Json port may hold a list as one value.
    if isinstance(value, list) and (graph.is_list(source) or graph.single(source["type"]) in ID_KEYS):
        return value
    return [value]
