from collections.abc import Mapping

from ...api import Call, Raw, Route, listed, paged, with_id
from ...errors import bad_request
from ...query import MAX_PAGE, Page
from ...resources import Resource
from ...store import Document
from ...validation import require, whole_number
from . import models


def create(call: Call) -> Raw:
    given = require(call.body).get("scores")
    if not isinstance(given, list):
        raise bad_request(f"'scores' must be a list of scores, got {given!r}")
    made = [models.create(call.store, score, call.user) for score in given]
    return listed(call, "scores", [call.store.row("scores", score["id"]) for score in made])


def delete(call: Call) -> Document:
    context = require(require(call.body).get("context"))
    if not all(isinstance(value, str | int | float | None) for value in context.values()):
        raise bad_request(f"'context' must hold plain values, got {context!r}")
    found = models.matching(call.store, context)
    for row in found:
        call.store.delete("scores", id=row.id)
    return {"deletedCount": len(found)}


def of_item(call: Call) -> Raw:
    """List the scores of an item in a task, with those of its annotations."""
    return of_task(call, itemId=call.params["item_id"])


def of_annotation(call: Call) -> Raw:
    return of_task(call, entityId=call.params["annotation_id"])


def of_task(call: Call, **where: str) -> Raw:
    task = call.store.row("tasks", call.params["task_id"])
    rows = list(call.store.find("scores", taskId=task.id, **where))
    size, page = min(_number(call.query, "pageSize", 100), MAX_PAGE), _number(call.query, "page", 0)
    return paged(call, "scores", Page.of(rows, page, size))


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    # The SDK writes missing values as the word None.
    return default if query.get(name) == "None" else whole_number(query, name, default)


ROUTES = [
    Route("POST", "/scores", create),
    Route("DELETE", "/scores", delete),
    *Resource("scores", "/scores").routes,
    Route("GET", "/scores/tasks/{task_id}", of_task),
    Route("GET", "/scores/tasks/{task_id}/items/{item_id}", of_item),
    Route("GET", "/scores/tasks/{task_id}/annotations/{annotation_id}", of_annotation),
]
LISTENERS = {
    ("Task", "Deleted"): with_id(lambda store, task_id: store.delete("scores", taskId=task_id)),
    ("Item", "Deleted"): with_id(lambda store, item_id: store.delete("scores", itemId=item_id)),
}
