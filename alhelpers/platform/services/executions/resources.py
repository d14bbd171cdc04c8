"""The executions with an item (or another entity) among their inputs."""

from collections.abc import Iterator
from typing import Any

from ... import dql
from ...errors import bad_request
from ...query import Page
from ...store import Document, Store, is_id
from ...validation import check_whole_number
from ..projects.models import ORGANIZATION

LARGEST_PAGE = 1000


def query(store: Store, body: Document) -> Document:
    """Answer a query by ``resourceId``, with the counters that the SDK reads beside the items."""
    resource_id = _find(body.get("filter"), "resourceId")
    if not isinstance(resource_id, str) or not is_id(resource_id):
        raise bad_request(
            f"executions of a resource need a filter with its 'resourceId', got {resource_id!r}"
        )
    page = check_whole_number("page", body.get("page") or 0)
    size = min(check_whole_number("pageSize", body.get("pageSize", 100)), LARGEST_PAGE)
    holds = dql.compile_filter(dql.parse(body["filter"]))
    found = [each for each in _of(store, resource_id) if holds(each)]
    counters = Page([], len(found), page, size).envelope()
    return {"items": found[page * size : (page + 1) * size], **counters}


def _of(store: Store, resource_id: str) -> Iterator[Document]:
    for row in store.find("executions", containing=resource_id):
        execution = store.parsed(row)
        for kind in _kinds(execution["input"], resource_id):
            latest = execution["latestStatus"]
            yield {
                "resourceId": resource_id,
                "resourceType": kind,
                "executionId": execution["id"],
                "status": latest["status"],
                "timestamp": latest["timestamp"],
                "progress": latest.get("percentComplete"),
                "message": latest.get("message"),
                "error": latest.get("error"),
                "serviceName": execution["serviceName"],
                "functionName": execution["functionName"],
                "moduleName": execution["moduleName"],
                "packageName": execution["packageName"],
                "orgName": ORGANIZATION["name"],
                "creator": execution["creator"],
                "projectId": execution["projectId"],
            }


def _kinds(inputs: Any, resource_id: str) -> set[str]:
    """Return as what kinds a resource is in the inputs: by the key that holds its id, or by the input's name."""
    found: set[str] = set()
    for name, value in inputs.items() if isinstance(inputs, dict) else ():
        for each in value if isinstance(value, list) else [value]:
            if each == resource_id:
                found.add(name.rstrip("s").capitalize())
            elif isinstance(each, dict):
                found |= {
                    key[:-3].capitalize() for key in each if key.endswith("_id") and each[key] == resource_id
                }
    return found


def _find(condition: Any, key: str) -> Any:
    if isinstance(condition, dict):
        if key in condition:
            return condition[key]
        condition = list(condition.values())
    if isinstance(condition, list):
        return next((found for each in condition if (found := _find(each, key)) is not None), None)
    return None
