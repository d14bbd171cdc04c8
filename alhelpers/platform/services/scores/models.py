"""Scores: numbers about entities (items, annotations, users), in the context of a task."""

from collections.abc import Mapping
from typing import Any

from ...errors import bad_request
from ...store import Document, Row, Store, created
from ...validation import require

# The parts of a score's context that are kept as fields of their own, too.
CONTEXT = ("taskId", "itemId")


def create(store: Store, given: Any, user: str) -> Document:
    body = require(given, "type", "entityId")
    value, context = body.get("value"), require(body.get("context") or {})
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_request(f"the 'value' of a score must be a number, got {value!r}")
    for key in CONTEXT:
        if not isinstance(context.get(key), str | None):
            raise bad_request(f"'context.{key}' of a score must be an id, got {context[key]!r}")
    if context.get("taskId"):
        store.row("tasks", context["taskId"])
    score = {
        "id": store.new_id(),
        "type": body["type"],
        "entityId": body["entityId"],
        "value": value,
        "context": context,
        **{key: context.get(key) for key in CONTEXT},
        **created(user),
    }
    store.put("scores", score)
    return score


def matching(store: Store, context: Mapping[str, Any]) -> list[Row]:
    if not context:
        raise bad_request("'context' is empty: name a task or an item, as in {'taskId': ..., 'itemId': ...}")
    where = {key: context[key] for key in CONTEXT if isinstance(context.get(key), str)}
    rows = store.find("scores", **where)
    return [row for row in rows if context.items() <= store.parsed(row)["context"].items()]
