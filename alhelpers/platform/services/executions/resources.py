"""The executions with an item (or another entity) among their inputs."""

from collections.abc import Iterator
from typing import Any

from ... import dql
from ...errors import bad_request
from ...query import cut
from ...store import Document, Store, is_id
from ..organizations.models import ORGANIZATION

SHOWN = ("serviceName", "functionName", "moduleName", "packageName", "creator", "projectId")


def query(store: Store, body: Document) -> Document:
    """Answer a query by ``resourceId``, with the counters that the SDK reads beside the items."""
    resource_id = _find(body.get("filter"), "resourceId")
    if not isinstance(resource_id, str) or not is_id(resource_id):
        raise bad_request(
            f"executions of a resource need a filter with its 'resourceId', got {resource_id!r}"
        )
    holds = dql.compile_filter(dql.parse(body["filter"]))
    return cut([each for each in _of(store, resource_id) if holds(each)], body)


def _of(store: Store, resource_id: str) -> Iterator[Document]:
    for execution in store.find_all("executions", containing=resource_id):
        kinds = [each["type"] for each in of_inputs(execution["input"]) if each["id"] == resource_id]
        for kind in kinds:
            latest = execution["latestStatus"]
            yield {
                "resourceId": resource_id,
                "resourceType": kind,
                "executionId": execution["id"],
                **{key: latest.get(key) for key in ("status", "timestamp", "message", "error")},
                "progress": latest.get("percentComplete"),
                "orgName": ORGANIZATION["name"],
                **{key: execution[key] for key in SHOWN},
            }


def of_inputs(inputs: Any) -> list[Document]:
    """List the entities in the inputs of an execution: by the keys that hold their ids, or by the inputs' names."""
    found = []
    for name, value in inputs.items() if isinstance(inputs, dict) else ():
        for each in value if isinstance(value, list) else [value]:
            pairs = each.items() if isinstance(each, dict) else [(f"{name.rstrip('s')}_id", each)]
            found += [
                {"id": value, "type": key[:-3].capitalize()}
                for key, value in pairs
                if key.endswith("_id") and isinstance(value, str) and is_id(value)
            ]
    return list({(each["id"], each["type"]): each for each in found}.values())


def _find(condition: Any, key: str) -> Any:
    if isinstance(condition, dict):
        if key in condition:
            return condition[key]
        condition = list(condition.values())
    if isinstance(condition, list):
        return next((found for each in condition if (found := _find(each, key)) is not None), None)
    return None
